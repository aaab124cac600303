//! What a target durably has. It lies in the target and is written in the same target transaction
//! as the rows it speaks of; the catalogue's copy is for showing only.

use std::fmt;

use crate::error::{Error, Kind, Side};
use crate::position::{Layout, Position, Visibility};
use crate::range::KeyRange;
use crate::schema::TableName;

/// A number that grows each time a task gets a new owner; the target compares it in the
/// transaction that writes rows, so that an older owner cannot write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a task at its target. Two servers never meet, because each has its own id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey {
    /// The server's id: a UUID made at its first start.
    pub server: String,
    /// The task's id: 3 to 50 characters, letters, digits, `-` and `_`.
    pub task: String,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.task)
    }
}

/// How far one target table of a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TablePhase {
    /// Not loaded: empty, or its rows are to be replaced because this task wrote them before
    /// (after a reset).
    Waiting,
    /// Emptied for the load, and these chunks of it are in: its *ledger*, in no particular order.
    /// The table is loaded when the chunks of each source table that feeds it leave no gap.
    /// Transactions that a chunk has seen are to be dropped for the rows of that chunk.
    Loading(Vec<LoadedChunk>),
    /// Every transaction is applied whole.
    Live,
}

/// A chunk whose rows lie in a target table; committed with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedChunk {
    /// The source table it is of.
    pub source: TableName,
    /// Which part of that table; `None`: all of it. Its column is the first of the table's primary
    /// key, as an index into the columns the plan of that time read.
    pub range: Option<KeyRange>,
    /// What the snapshot it was read in had seen.
    pub seen: Visibility,
    /// Rows it had.
    pub rows: u64,
}

/// The stored state of one target table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCheckpoint {
    /// The target table.
    pub target: TableName,
    /// How far it is.
    pub phase: TablePhase,
    /// The plan's fingerprint of it as it was loaded ([`crate::plan::Plan::fingerprint`]). What it
    /// says of the source tables holds at the position: a change of that stops the task.
    pub fingerprint: String,
    /// Rows the last load committed; kept over a reset. `None`: this task never loaded the table,
    /// so rows in it are not its own.
    pub loaded_rows: Option<u64>,
    /// Whether it is to be loaded as one chunk, because a load in several came to a change it could
    /// not place ([`crate::ports::Applier::load_again`]).
    pub whole: bool,
}

impl TableCheckpoint {
    /// What an outline says of it; `None`: it is to be loaded anyway.
    pub fn outlined(&self) -> Option<Outlined> {
        (self.phase != TablePhase::Waiting).then(|| Outlined {
            target: self.target.clone(),
            fingerprint: self.fingerprint.clone(),
            live: self.phase == TablePhase::Live,
        })
    }
}

/// The stored state of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The current owner's number.
    pub epoch: Epoch,
    /// Where the stream resumes; `None` until the first run has secured the log.
    pub applied: Option<Position>,
    /// Its tables, in no particular order.
    pub tables: Vec<TableCheckpoint>,
    /// How rows of the source tables that need it lie in the log at `applied`, in no particular
    /// order.
    pub layouts: Vec<(TableName, Layout)>,
}
/// What can be said of a stored state without becoming its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Where the stream resumes.
    pub applied: Option<Position>,
    /// Its tables but those that are to be loaded anyway, in no particular order.
    pub tables: Vec<Outlined>,
    /// As [`Checkpoint::layouts`].
    pub layouts: Vec<(TableName, Layout)>,
}

impl Outline {
    /// Whether a target table is loaded, or is being loaded.
    pub fn has(&self, target: &TableName) -> bool {
        self.tables.iter().any(|table| table.target == *target)
    }
}

/// One target table of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlined {
    /// The target table.
    pub target: TableName,
    /// As [`TableCheckpoint::fingerprint`].
    pub fingerprint: String,
    /// Whether it is Live; otherwise it is being loaded.
    pub live: bool,
}

/// The checkpoint at the target is not that of this owner: what to say and do.
pub fn fenced(task: &TaskKey) -> Error {
    Error::new(
        Kind::Fenced,
        format!("a newer owner has task {task}, or its checkpoint at the target is gone"),
    )
    .with_hint(
        "if another server with a copy of this one's data directory runs the task, end one of the two \
         and run the task where it is to stay; if none does, the target was restored or emptied: reset \
         the task, so that it loads again",
    )
    .at(Side::Target)
}

/// The target has nothing of a task that has run: what to say and do.
pub fn gone() -> Error {
    Error::new(
        Kind::PositionLost,
        "the target has no checkpoint of this task",
    )
    .with_hint("the target was restored or emptied: reset the task, so that it loads again")
    .at(Side::Target)
}
