//! Comparing what is expected in a target table with what is there.

use async_trait::async_trait;

use crate::error::Result;
use crate::range::KeyRange;
use crate::value::RowBatch;

/// Compares the rows that are expected in a target table, or in a range of it, with those that are
/// there at one moment: `prepare`, `open`, `expect`…, `compare`, `close`, and again.
///
/// The target itself compares: what is expected is written to a temporary table with the column types
/// of the target's, so that each value is what it would be had it been written to the table. Values are
/// equal if they are the same in every bit; mapped columns only. After an error the comparer is of
/// no more use.
#[async_trait]
pub trait Comparer: Send {
    /// Makes ready for the rows that the only feed of `plan.targets[target]` brings. May be slow.
    async fn prepare(&mut self, target: usize) -> Result<()>;

    /// Takes a snapshot of what is committed now: it is taken when this returns. The range is one over
    /// the column of this index in [`crate::plan::TargetTable::columns`], its bounds are values of
    /// that column; `None`: the whole table.
    async fn open(&mut self, range: Option<&KeyRange>) -> Result<()>;

    /// Rows that are expected, in the form of [`crate::batch`], all columns present.
    async fn expect(&mut self, rows: &RowBatch) -> Result<()>;

    /// Compares. Of at most `limit` differences it says which they are, all are counted.
    async fn compare(&mut self, limit: usize) -> Result<Compared>;

    /// Lets the snapshot go, and what was expected.
    async fn close(&mut self) -> Result<()>;
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Differs {
    /// It is there with other values.
    Changed,
    /// It is not there.
    Missing,
    /// It is there and not expected.
    Extra,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Index into [`Compared::rows`].
    pub row: usize,
    /// How.
    pub differs: Differs,
    /// Of a changed row the columns that differ, as indexes into [`crate::plan::TargetTable::columns`].
    pub columns: Vec<usize>,
}

/// What [`Comparer::compare`] found.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Rows that are there.
    pub there: u64,
    /// Rows that are there with other values.
    pub changed: u64,
    /// Rows that are expected and not there. In a table without a key a changed row is one that is
    /// missing, and one that is extra.
    pub missing: u64,
    /// Rows that are there and not expected.
    pub extra: u64,
    /// Which they are, as far as asked for; of tables without a key none are told.
    pub differences: Vec<Difference>,
    /// Their rows, in the form of [`crate::batch`]: as expected; of an extra row its key only, the other
    /// cells `Absent`.
    pub rows: RowBatch,
}

impl Compared {
    /// Whether all is as expected.
    pub fn is_equal(&self) -> bool {
        self.changed + self.missing + self.extra == 0
    }
}
