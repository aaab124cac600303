//! From source changes to target operations.

use super::Plan;
use crate::batch::{TableCounts, TableOp};
use crate::change::ChangeBatch;
use crate::error::Result;
use crate::value::RowBatch;

/// Figures of one projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projected {
    /// Changes read per index of [`Plan::sources`], by kind (`repaired`, `missing` unused).
    pub read: Vec<TableCounts>,
}

impl Plan {
    /// Turns source changes into target operations in commit order, appended to `rows` and `ops`.
    ///
    /// `wanted(target)` says whether the transaction is to be applied to that target table (false
    /// while its load already contains the transaction). Operations that are not selected are
    /// dropped before any cost is paid. A `Data` error names target table and column, never the
    /// value.
    pub fn project(
        &self,
        _changes: &ChangeBatch,
        _wanted: &mut dyn FnMut(usize) -> bool,
        _rows: &mut RowBatch,
        _ops: &mut Vec<TableOp>,
    ) -> Result<Projected> {
        Ok(Projected::default())
    }

    /// Converts loaded rows of the source table that feeds `target`, appended to `out`.
    pub fn project_rows(
        &self,
        _target: usize,
        _rows: &RowBatch,
        _out: &mut RowBatch,
    ) -> Result<()> {
        Ok(())
    }
}
