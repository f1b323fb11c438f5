//! The log: to standard error, as text or JSON.

use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `level` is a level, or a filter such as `info,landbridge::child=warn`.
pub fn start(level: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|e| format!("log level {level:?}: {e}; use error, warn, info, debug or trace"))?;
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => base.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(false).try_init(),
        Format::Json => base.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| e.to_string())
}

/// So many log lines a second of somebody who may have much to say, and how many more there were.
#[derive(Debug)]
pub struct Ration {
    per_second: u32,
    began: Instant,
    passed: u32,
    dropped: u64,
}

impl Ration {
    const SECOND: Duration = Duration::from_secs(1);

    /// At most `per_second` lines.
    pub fn new(per_second: u32) -> Ration {
        Ration { per_second, began: Instant::now(), passed: 0, dropped: 0 }
    }

    /// Whether one more line may pass.
    pub fn admit(&mut self) -> bool {
        let passes = self.passed < self.per_second;
        if passes {
            self.passed += 1;
        } else {
            self.dropped += 1;
        }
        passes
    }

    /// How many lines were dropped in the second that is over; 0 while it is not. `last`: whatever
    /// second it is, nothing will follow.
    pub fn settle(&mut self, last: bool) -> u64 {
        if !last && self.began.elapsed() < Ration::SECOND {
            return 0;
        }
        let dropped = std::mem::take(&mut self.dropped);
        (self.began, self.passed) = (Instant::now(), 0);
        dropped
    }

    /// When there is something to settle, if there is.
    pub fn due(&self) -> Option<Instant> {
        (self.dropped > 0).then(|| self.began + Ration::SECOND)
    }
}
