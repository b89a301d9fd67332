//! What every command works with: settings, output, progress, the context, the repository once opened.

use std::sync::Arc;

use app::environment::Environment;
use app::keys;
use app::ports;
use app::repositories;
use app::settings::{PolicyUse, Settings};
use jiff::tz::TimeZone;
use model::{Clock, Context, Result, Timestamp};
use operations::select::{self, Resolved};
use policies::{Selector, describe_time};
use repository::Repository;
use repository::crypto::Unlock;

use crate::args::Globals;
use crate::output::Output;
use crate::progress::{Progress, Style};
use crate::signals::{self, Asked};

/// A command that runs.
pub struct Run {
    /// What applies to every command.
    pub globals: Globals,
    /// The surroundings.
    pub environment: Environment,
    /// Standard output.
    pub output: Output,
    /// Standard error.
    pub progress: Arc<Progress>,
    /// What operations are given.
    pub context: Context,
    /// Which signal asked to stop.
    pub asked: Asked,
    /// The terminal's zone of time.
    pub zone: TimeZone,
}

impl Run {
    /// Prepares a command.
    pub fn new(globals: Globals, command: &'static str) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ports::SystemClock::new());
        let style = Style::choose(!globals.no_progress && !globals.quiet);
        let progress = Arc::new(Progress::new(style, globals.quiet, clock));
        Self {
            output: Output { command, is_json: globals.json },
            globals,
            environment: Environment::of_process(),
            context: ports::context(progress.clone()),
            progress,
            asked: Asked::default(),
            zone: TimeZone::system(),
        }
    }

    /// Reads settings, the policy among them.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn settings(&self) -> Result<Settings> {
        Settings::load(&self.globals.flags(), self.environment.clone(), PolicyUse::Wanted)
    }

    /// Fetches the key: from where the settings say, else by asking.
    ///
    /// # Errors
    /// As [`keys::fetch`] and [`keys::ask`].
    pub fn key(&self, settings: &Settings) -> Result<Unlock> {
        match &settings.key {
            Some(source) => {
                let key = keys::fetch(source, &self.environment)?;
                key.warning.iter().for_each(|warning| self.progress.warn(warning));
                Ok(key.unlock)
            }
            None => keys::ask(&format!("Passphrase of {}", settings.repository()?), false),
        }
    }

    /// Opens the repository, and from then on listens to signals.
    ///
    /// # Errors
    /// As [`Run::key`] and [`repositories::open`].
    pub async fn open(&self, settings: &Settings) -> Result<Repository> {
        settings.repository()?;
        if settings.key.is_none() {
            // Nobody is asked for a passphrase of what is not there.
            repositories::find(settings, &self.context).await?;
        }
        let unlock = self.key(settings)?;
        self.listen();
        repositories::open(settings, &unlock, &self.context).await
    }

    /// Listens to signals.
    pub fn listen(&self) {
        signals::listen(self.context.cancel.clone(), self.progress.clone(), self.asked.clone());
    }

    /// Returns wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// Reads a selector; without a site it means that of the policy.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn selector(&self, text: &str, settings: &Settings) -> Result<Selector> {
        let mut selector = Selector::parse(text, self.now(), &self.zone)?;
        if selector.site.is_none() {
            selector.site = settings.site().cloned();
        }
        Ok(selector)
    }

    /// Finds what a selector means and says which absolute time and id that is.
    ///
    /// # Errors
    /// As [`select::resolve`].
    pub async fn resolve(
        &self,
        text: &str,
        repository: &Repository,
        settings: &Settings,
    ) -> Result<Resolved> {
        let selector = self.selector(text, settings)?;
        let host_of = &app::systems::host_of;
        let resolved = select::resolve(repository, &selector, host_of, &self.context).await?;
        let what = match resolved.systems.as_slice() {
            [only] if resolved.point.is_none() => {
                format!("{}/{}", resolved.site, only.stream.system)
            }
            _ => resolved.site.to_string(),
        };
        let time = describe_time(resolved.chosen_at, &self.zone);
        let short: String = resolved.id.chars().take(SHORT_ID).collect();
        self.progress.note(&format!("{text} is {what} of {time}, id {short}"));
        if resolved.skipped_partial > 0 {
            self.progress.note(&format!(
                "{} newer, but not complete: see `lifeboat points`",
                crate::table::counted(resolved.skipped_partial as u64, "point"),
            ));
        }
        Ok(resolved)
    }

    /// Shows a time as programs read it.
    pub fn utc(time: Timestamp) -> String {
        policies::to_jiff(time).to_string()
    }
}

/// How many digits of an id people are shown: enough to type, and to tell apart.
pub const SHORT_ID: usize = 12;
