//! Everything a run has measured so far, and the questions the reports ask of it.
//!
//! Odd: it is filled in place while the run goes on, so that a run cut short by its deadline
//! still has a book to print.

use crate::ballast::BallastResult;
use crate::idle::IdleResult;
use crate::plan::{Mode, Row};
use crate::sample::Sample;
use crate::startup::StartupResult;
use crate::wear::WearResult;

pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) samples: Vec<Sample>,
    /// Why there is no sample, if the target would not even start.
    pub(crate) failure: Option<String>,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) rows: Vec<Measured>,
    pub(crate) idle: Vec<IdleResult>,
    pub(crate) ballast: Vec<BallastResult>,
    pub(crate) startup: Vec<StartupResult>,
    pub(crate) wear: Vec<WearResult>,
    pub(crate) stripped_mib: Option<f64>,
    pub(crate) notes: Vec<String>,
}

impl Book {
    pub(crate) fn middle(&self, key: &str) -> Option<Sample> {
        let measured = self.rows.iter().find(|measured| measured.row.key() == key)?;
        Sample::middle(&measured.samples)
    }

    /// The floor of a row, if it has one and that was measured.
    pub(crate) fn floor_of(&self, row: &Row) -> Option<Sample> {
        self.middle(row.floor.as_deref()?)
    }

    pub(crate) fn startup_of(&self, target: &str, mode: Mode) -> Option<&StartupResult> {
        self.startup.iter().find(|result| result.target == target && result.mode == mode)
    }
}
