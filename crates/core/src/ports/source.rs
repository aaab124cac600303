//! A system changes are read from.

use async_trait::async_trait;

use super::Inspect;
use crate::change::Transaction;
use crate::error::Result;
use crate::finding::Finding;
use crate::position::{Layout, Position, TxId, Visibility};
use crate::range::KeyRange;
use crate::schema::{TableName, TableSchema};
use crate::value::RowBatch;

/// A unit of the load: a table, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Index into the tables of the task.
    pub table: usize,
    /// The table's schema.
    pub schema: TableSchema,
    /// Which part of it; `None`: all of it.
    pub range: Option<KeyRange>,
    /// No rows are wanted, only the moment at which they would be read.
    pub empty: bool,
}

/// How a system writes rows, column by column. Where a source's form is the target's, rows need not be
/// taken apart and put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireForm(pub String);

/// Bounds a stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// A transaction larger than this is delivered in parts of about this size, in bytes.
    pub part_bytes: usize,
    /// A row declared larger than this is a `Data` error before it is read.
    pub row_bytes_max: u64,
}

/// How large the chunks of a load may become: about so many rows, and about so many bytes, whichever
/// is less. Estimates are good enough: only what a crash repeats depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
}

/// Whether the log can be read with a table as it is now, from a place on where it was another
/// ([`Source::bridge`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// It can.
    Open {
        /// The layout to be stored for that place: it knows which columns the log does not have yet.
        layout: Layout,
        /// For each column that came, the encoded cell that it has in all rows that were there by then;
        /// NULL if it is not known.
        fills: Vec<Vec<u8>>,
        /// Rows that were there may have become what the log does not say: a value of their own in a column
        /// that came, or another one in a column that got another type. The target's rows are to be
        /// compared, and repaired.
        doubt: bool,
        /// For each column that came, whether the layout given was of a bridge over it: what was begun
        /// then may be done.
        begun: Vec<bool>,
    },
    /// A column that came was there by then and not read: it is the mapping that became another.
    Unread,
    /// It cannot, and why.
    Closed(String),
}

/// A table whose rows may have become what the log does not say ([`Source::unsaid`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaid {
    /// Which of the tables asked about.
    pub table: usize,
    /// The layout to be stored for the place of the one given, by which it is not said again.
    pub layout: Layout,
    /// What has become of its rows.
    pub rows: Rows,
    /// By what.
    pub how: String,
}

/// What has become of rows without the log saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Some have come.
    Came,
    /// Some have gone.
    Went,
    /// Some may be others, or all as they were.
    Perhaps,
}

/// A system changes are read from. It takes no table lock and writes nothing to the source.
#[async_trait]
pub trait Source: Inspect {
    /// Preflight: log settings, grants, retention, keys, types. All findings at once; an `Err`
    /// means the source could not be asked.
    async fn check(&self, tables: &[TableName]) -> Result<Vec<Finding>>;

    /// Makes sure the log is kept from here on and has the changes of `tables`, and gives that place.
    /// Transactions prepared but not decided at that place must not exist (it waits for them, then
    /// refuses naming them).
    async fn secure(&self, tables: &[TableName]) -> Result<Position>;

    /// Cuts a chunk into chunks of about `size`: ranges over the first column of the table's primary
    /// key, in key order, that together hold exactly the keys of `chunk`, whatever rows there are or
    /// will be: the first begins where `chunk` begins, each other where the one before it ends, and
    /// the last ends where `chunk` ends. The chunk itself if it is small, or if the system orders
    /// the column's values in another way than [`crate::range::compare`] does. Costs no more than
    /// a few statements per chunk that read no rows: estimates, statistics, places in an index.
    async fn split(&self, chunk: &Chunk, size: ChunkSize) -> Result<Vec<Chunk>> {
        let _ = size;
        Ok(vec![chunk.clone()])
    }

    /// What every chunk read from now on has seen, as long as they all share one snapshot (such as
    /// the one exported with a new replication slot). `None`: each has a snapshot of its own.
    fn shared_snapshot(&self) -> Option<Visibility> {
        None
    }

    /// Opens one chunk in a consistent snapshot that has seen every transaction before `from`, the
    /// place where the stream will begin: those are never streamed again. Rows have one cell per
    /// column of the chunk's schema, in the same encodings as the stream gives. Chunks are read
    /// concurrently.
    async fn read(
        &self,
        chunk: &Chunk,
        from: &Position,
        limits: StreamLimits,
    ) -> Result<Box<dyn ChunkReader>>;

    /// The same in a snapshot of the present, never in one that chunks share. `gate` is closed right
    /// before that snapshot is taken; whoever waits there waits for a moment only.
    async fn read_now(
        &self,
        chunk: &Chunk,
        from: &Position,
        limits: StreamLimits,
        gate: &dyn Gate,
    ) -> Result<Box<dyn ChunkReader>> {
        gate.close().await;
        self.read(chunk, from, limits).await
    }

    /// Whether the rows of `tx` are already in what a snapshot with `seen` read. `Transient` where that cannot be
    /// told because one is of a server that was replaced ([`Source::of_other_log`]).
    fn contains(&self, seen: &Visibility, tx: &TxId) -> Result<bool>;

    /// Whether every transaction that `seen` contains lies before `at`; not of a place in the log of a server
    /// that was replaced by the one whose snapshot it is.
    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool>;

    /// Which of these snapshots were taken of another log than the server has now: of a server that it has
    /// replaced, whose last transactions it may never have had, or of a log that was begun anew. What they
    /// contain cannot be told by this log.
    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>>;

    /// The present end of the log.
    async fn head(&self) -> Result<Position>;

    /// Whether reading has come to `mark` or beyond when it stands at `at`.
    fn reached(&self, at: &Position, mark: &Position) -> Result<bool>;

    /// Bytes of log between `at` and its present end; `None` if it cannot be told.
    async fn backlog_bytes(&self, at: &Position) -> Result<Option<u64>>;

    /// Committed transactions after `from` that touch `tables`, in commit order. A table given needs
    /// not have all its columns, but its primary key; rows have one cell for each column given. Its
    /// layout, if it has one, is that at `from`. A change of a definition that leaves all that alone is
    /// passed over, with a [`crate::change::SchemaChange`] if the layout is another; so is one that a
    /// [`Source::bridge`] leads over. At any other the stream ends with a `Schema` error, before it or
    /// before its first row, and at a column that comes if the table is [`TableSchema::whole`], unless
    /// it was gone again when the stream was opened. Other transactions, and
    /// times without changes, come as empty transactions often enough that the position follows
    /// the log's end within about a second. `PositionLost` if the log no longer reaches back.
    async fn stream(
        &self,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<(Box<dyn ChangeStream>, Box<dyn Confirm>)>;

    /// Whether a table lies in the log in the same way by two layouts.
    fn lies_same(&self, a: &Layout, b: &Layout) -> bool {
        a == b
    }

    /// Whether changes of `table`, described now, can be read from the place of the layout `then` on
    /// (`None`: none is stored). By then its columns `added` (indexes) had not been there, and its
    /// columns `retyped` had been of the types given (as the system writes them). Columns that went
    /// are of no account.
    async fn bridge(
        &self,
        table: &TableSchema,
        then: Option<&Layout>,
        added: &[usize],
        retyped: &[(usize, String)],
    ) -> Result<Bridge> {
        let _ = (table, then, added, retyped);
        Ok(Bridge::Closed("this source cannot tell".to_owned()))
    }

    /// Those of `tables` whose rows may have come, gone or changed since the layout given with each without being in
    /// the log: as far as the system can tell by what they are now, and those at which a stream has ended for that
    /// (`true`). It ends with a `Schema` error of the table that is [`Error::of_unsaid`], and goes on if it is
    /// opened with the layout that this gives. Costs no look at rows but a few.
    async fn unsaid(&self, tables: &[(&TableName, &Layout, bool)]) -> Result<Vec<Unsaid>> {
        let _ = tables;
        Ok(Vec::new())
    }

    /// Removes every trace of the task from the source. Repeatable.
    async fn release(&self) -> Result<()>;

    /// The statements that do the same by hand; none if a task leaves no trace at this system.
    fn traces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What is told that a snapshot is about to be taken.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when it may be taken, soon and in any case.
    async fn close(&self);
}

/// Reads one chunk.
#[async_trait]
pub trait ChunkReader: Send {
    /// What its snapshot had seen.
    fn visibility(&self) -> &Visibility;
    /// The next rows, appended to an emptied `into`; `false` at the end.
    async fn next(&mut self, into: &mut RowBatch) -> Result<bool>;

    /// The form rows have on their way from the system, if they can be handed on as they are.
    fn wire(&self) -> Option<WireForm> {
        None
    }

    /// From now on [`ChunkReader::next`] gives rows of one `Bytes` cell each: the row in that form. To
    /// be asked before the first rows, of a reader that has such a form.
    fn relay(&mut self) {}
}

/// Committed transactions in commit order.
#[async_trait]
pub trait ChangeStream: Send {
    /// The next transaction or part. Waits as long as there is none; a dead connection is found
    /// by the server's keepalives and reported as `Transient`. Cancel-safe: dropping the future
    /// loses nothing.
    async fn next(&mut self) -> Result<Transaction>;
}

/// The way back to the source.
#[async_trait]
pub trait Confirm: Send {
    /// The source may forget everything up to here: the target has it durably.
    async fn confirm(&mut self, durable: &Position) -> Result<()>;
}
