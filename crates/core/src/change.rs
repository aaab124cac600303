//! Committed changes as a source delivers them.

use crate::position::{Layout, Position, TxId};
use crate::value::RowBatch;

/// What happened to a row, or to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A row came: `after` is set.
    Insert,
    /// A row changed: `before` and `after` are set.
    Update,
    /// A row went: `before` is set.
    Delete,
    /// All rows of the table went: neither is set.
    Truncate,
}

/// One change of one table; its row images lie in the batch it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Index into the tables the stream was opened with.
    pub table: usize,
    /// What happened.
    pub kind: ChangeKind,
    /// The row before, as an index into [`ChangeBatch::rows`]. Cells the source does not log are
    /// `Absent`; at least the columns that identify the row are present.
    pub before: Option<usize>,
    /// The row after, likewise. Cells the source did not send because they did not change are
    /// `Unchanged`; so may long ones be that are the same in the row before.
    pub after: Option<usize>,
    /// Whether it was done with foreign keys off (MySQL's `foreign_key_checks = 0`), so that it
    /// changed no children at the source.
    pub unchecked: bool,
}

/// Changes in commit order over one arena. Row images have one cell per column of the table's
/// schema as the stream was opened with.
#[derive(Clone, Debug, Default)]
pub struct ChangeBatch {
    /// All row images.
    pub rows: RowBatch,
    /// The changes, oldest first.
    pub changes: Vec<Change>,
}

impl ChangeBatch {
    /// Bytes in use, for limits.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.changes.len() * size_of::<Change>()
    }

    /// Bytes held, in use or not, for the memory budget.
    pub fn held_bytes(&self) -> usize {
        self.rows.held_bytes() + self.changes.capacity() * size_of::<Change>()
    }

    /// Takes what is in it; what is left has room for about as much again.
    #[must_use]
    pub fn take(&mut self) -> ChangeBatch {
        let next = ChangeBatch {
            rows: self.rows.like(),
            changes: Vec::with_capacity(self.changes.len().min(64)),
        };
        std::mem::replace(self, next)
    }

    /// Empties it, keeping its memory for reuse.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.changes.clear();
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where reading resumes once this transaction is durable at the target.
    pub position: Position,
    /// The source's commit time, microseconds since the Unix epoch, if the log has it.
    pub time_us: Option<i64>,
}

/// A change of a table's definition that leaves alone all that the stream was opened with: its columns,
/// and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// Index into the tables the stream was opened with.
    pub table: usize,
    /// How its rows lie in the log behind this transaction.
    pub layout: Layout,
}

/// All changes of one source commit, or a part of them.
///
/// A transaction too large for one part comes as several with the same `id`, consecutively; only
/// the last has `commit`. A transaction without changes moves the position only.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Which transaction, the same on all parts.
    pub id: TxId,
    /// The changes of this part.
    pub changes: ChangeBatch,
    /// Definitions that it changed; only with `commit`.
    pub schema: Vec<SchemaChange>,
    /// Set on the last (or only) part.
    pub commit: Option<Commit>,
    /// Bytes this part took in the source's log, for figures; approximate is fine.
    pub log_bytes: u64,
}
