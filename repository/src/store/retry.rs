//! How often and how long a store is asked again. The only place of the engine that does.

use std::time::Duration;

use model::{Context, Error, ErrorKind, Result};

const TRIES_MAX: u32 = 10;
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(15);

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    context: &'a Context,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, failed: 0 }
    }

    /// Waits before the next try; gives the error back where another try makes no sense.
    ///
    /// # Errors
    /// The given one, or `Cancelled`.
    pub(super) async fn pause(&mut self, error: Error) -> Result<()> {
        self.failed += 1;
        if error.kind() != ErrorKind::Unavailable || self.failed >= TRIES_MAX {
            return Err(error);
        }
        let mut random = [0; 2];
        self.context.entropy.fill(&mut random);
        let delay = delay(self.failed, u16::from_le_bytes(random));
        tokio::select! {
            () = self.context.clock.sleep(delay) => Ok(()),
            () = self.context.cancel.cancelled() => {
                Err(Error::cancelled("retry request").because(error))
            }
        }
    }
}

/// Doubles with every failure up to a limit; the random half keeps clients that failed together from
/// coming back together.
fn delay(failed: u32, random: u16) -> Duration {
    let doubled = DELAY_FIRST.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(DELAY_MAX);
    doubled / 2 + (doubled / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit() {
        let most = |failed| delay(failed, u16::MAX);
        assert_eq!((most(1), most(2)), (DELAY_FIRST, DELAY_FIRST * 2));
        assert_eq!((most(9), most(u32::MAX)), (DELAY_MAX, DELAY_MAX));
        assert_eq!(delay(1, 0), DELAY_FIRST / 2);
        let longest: Duration = (1..TRIES_MAX).map(most).sum();
        assert!(longest < Duration::from_secs(60), "{longest:?}");
    }
}
