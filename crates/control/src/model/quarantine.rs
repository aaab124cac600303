//! Quarantine: changes that the target has refused, and those that wait behind them.

use thalweg_core::quarantine::Held;

use super::Page;

/// A row in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Its first change, whose number is the row's id.
    pub first: Held,
    /// Those that wait behind it, in their order.
    pub later: Vec<Held>,
}

impl QuarantinedRow {
    /// How many changes it has.
    pub fn changes(&self) -> u64 {
        self.later.len() as u64 + 1
    }
}

/// A part of the rows in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinePage {
    /// Those asked for.
    pub rows: Page<QuarantinedRow>,
    /// Changes of all rows, those included that were not asked for.
    pub changes: u64,
}
