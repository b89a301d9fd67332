//! One stack for all tests of a test program.

use model::{Context, Result};
use tokio::sync::OnceCell;

use crate::description::Description;
use crate::place::Place;
use crate::supervisor::{Options, Stack};

/// A stack that the first test that asks for it starts. It ends with the program: its guard sees to it, and the next
/// start takes away its folder.
///
/// ```no_run
/// static STORES: stack::Shared = stack::Shared::new("stores", r#"server = [{ name = "s3", recipe = "versitygw" }]"#);
/// ```
#[derive(Debug)]
pub struct Shared {
    name: &'static str,
    description: &'static str,
    stack: OnceCell<Stack>,
}

impl Shared {
    /// Says what it will be; starts nothing. An isolated one cannot be shared: its ports are carried over by the
    /// runtime of the test that started it.
    pub const fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, description, stack: OnceCell::const_new() }
    }

    /// Returns it, started once.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn get(&self, place: &Place, context: &Context) -> Result<&Stack> {
        let start = || async {
            let description = Description::parse(self.description, self.name)?;
            Stack::start(&description, &Options::default(), place, context).await
        };
        self.stack.get_or_try_init(start).await
    }
}
