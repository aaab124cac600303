//! A system changes are written to.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Comparer, Inspect, WireForm};
use crate::batch::{ApplyBatch, TableCounts, TableOp};
use crate::checkpoint::{Checkpoint, Epoch, LoadedChunk, Outline, TaskKey};
use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::mapping::{ColumnPair, ExistingRows};
use crate::plan::Plan;
use crate::position::{Layout, Position};
use crate::quarantine::Held;
use crate::schema::{ColumnSchema, TableName, TableSchema};
use crate::value::RowBatch;

/// What a target can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Rows and checkpoint commit together, so that each transaction arrives exactly once.
    pub atomic: bool,
    /// [`Applier::ahead`] uses [`ApplyBatch::apart`].
    pub apart: bool,
    /// A row that is inserted with a key that equals another row's, but in other bytes, is refused; otherwise
    /// it overwrites that one.
    pub refuses_equal_keys: bool,
}

/// A step by which a target table follows its source table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// A column comes. Rows that are there get the value `fill`, an encoded cell of the column's type.
    Add {
        /// The column, as [`Target::propose`] gives it.
        column: ColumnSchema,
        /// Its value in the rows that are there.
        fill: Vec<u8>,
    },
    /// A column gets another type, that holds every value of its own.
    Retype(ColumnSchema),
    /// A column goes.
    Drop(String),
    /// The table goes, with all that is in it, to be created anew by [`Target::prepare`].
    Remake,
}

/// What is to be done at a target so that tables of a task follow their source tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// Statements that alter target tables.
    pub statements: Vec<String>,
    /// Source tables and how their rows lie in the log at the stored position from now on.
    pub layouts: Vec<(TableName, Layout)>,
    /// Target tables and their new fingerprints.
    pub fingerprints: Vec<(TableName, String)>,
    /// Target tables that are to be loaded again.
    pub again: Vec<TableName>,
}

/// A table whose keys are still to come, or to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The table.
    pub table: TableName,
    /// Whether the task has loaded it, now or before: then only foreign keys are to come back.
    pub loaded: bool,
}

/// A system changes are written to.
#[async_trait]
pub trait Target: Inspect {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The table that would be created as `name` for these columns of `source`: every type as
    /// this system has it, the primary key, and those unique keys whose columns are all mapped.
    /// Foreign keys stay out; the plan maps them.
    /// Findings instead if a type has no counterpart.
    fn propose(
        &self,
        source: &TableSchema,
        name: &TableName,
        columns: &[ColumnPair],
    ) -> std::result::Result<TableSchema, Vec<Finding>>;

    /// Settles what [`Target::propose`] could not know without asking: where the proposal has a
    /// type that this system lacks (an enumeration, a type of an extension), the column gets one
    /// that holds the type's text, and a finding says so. A proposal is settled before it is planned.
    /// All are settled together and given in their order, each with its findings.
    async fn settle(&self, proposed: Vec<TableSchema>) -> Result<Vec<(TableSchema, Vec<Finding>)>> {
        let settled = proposed.into_iter().map(|table| (table, Vec::new()));
        Ok(settled.collect())
    }

    /// The statements that [`Target::prepare`] and [`Applier::go_live`] would run for the tables the
    /// plan marks `create`, in that order, to be shown before the task runs. Those of the task's own
    /// bookkeeping are not among them. It may ask the server what it is.
    async fn ddl(&self, plan: &Plan) -> Result<Vec<String>>;

    /// Preflight: rights, existing rows, foreign keys, triggers. All findings at once. `written`
    /// says which of the plan's targets this task filled before: their rows are its own.
    async fn check(&self, task: &TaskKey, plan: &Plan) -> Result<Vec<Finding>>;

    /// Creates the checkpoint tables and the target tables the plan marks `create` (with primary
    /// key; other keys follow at [`Applier::go_live`]). Repeatable.
    async fn prepare(&self, task: &TaskKey, plan: &Plan) -> Result<()>;

    /// Tables that [`Target::prepare`] created for this task and whose keys are still to come, or to come
    /// back ([`Applier::go_live`] makes them). The next plan has to mark them `create` again, or `rekey` if
    /// they are Live or their rows are to stay.
    async fn pending(&self, task: &TaskKey) -> Result<Vec<Pending>>;

    /// Becomes the owner: raises the epoch in the target (waiting for a transaction that an older
    /// owner has open), and only then reads what the target has. Needs [`Target::prepare`].
    async fn claim(&self, task: &TaskKey) -> Result<Checkpoint>;

    /// Per index of [`Plan::targets`], whether its rows may be of different moments for a while: no
    /// row can stand in the way of a row with another key. So there is no unique key (index,
    /// exclusion constraint) in place but such as hold all columns of the plan's key, and no foreign
    /// key from or to the table that is checked when this task writes. Keys that are made only at
    /// [`Applier::go_live`] do not count. A target that cannot tell says `false`. Needs
    /// [`Target::prepare`].
    async fn loose(&self, plan: &Plan) -> Result<Vec<bool>> {
        Ok(vec![false; plan.targets.len()])
    }

    /// One writer of the stream. Every transaction it commits checks the epoch; `Fenced` if a
    /// newer one exists.
    async fn open_applier(
        &self,
        task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Applier>>;

    /// One writer of the load; several may be open at the same time.
    async fn open_loader(
        &self,
        task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Loader>>;

    /// One that compares the tables of the plan. It writes to no table but temporary ones of its own.
    async fn open_comparer(&self, plan: Arc<Plan>) -> Result<Box<dyn Comparer>>;

    /// Forgets the position and marks every table of the task `Waiting`, so that the next run
    /// loads again and replaces the rows this task wrote. Repeatable; a task the target does not
    /// know is fine.
    async fn forget(&self, task: &TaskKey) -> Result<()>;

    /// Marks tables `Waiting` that left the plan, are mapped in another way than when they were
    /// loaded ([`crate::plan::same_mapping`]), or were dropped since (made again or not): they miss
    /// changes, values or rows, and are loaded again when they are (back) in the plan.
    /// The position stays. Says whether there were any; the plan has to be made again then.
    async fn set_aside(&self, task: &TaskKey, plan: &Plan) -> Result<bool>;

    /// What the target has of a task, without becoming its owner; `None`: it does not know the task.
    async fn outline(&self, task: &TaskKey) -> Result<Option<Outline>>;

    /// The statements that take these steps at a table; `Err`: why one cannot be taken.
    fn alter(
        &self,
        table: &TableName,
        steps: &[Alteration],
    ) -> std::result::Result<Vec<String>, String>;

    /// Does it. Whatever crashes in between, doing it again ends in the same.
    async fn follow(&self, task: &TaskKey, following: &Following) -> Result<()>;

    /// What lies in quarantine for the task, in the order of the numbers; the changes themselves only if
    /// asked for. None if the target does not know the task.
    async fn held(&self, task: &TaskKey, changes: bool) -> Result<Vec<Held>>;

    /// Removes every trace of the task but the rows of its tables. Repeatable.
    async fn release(&self, task: &TaskKey) -> Result<()>;
}

/// Loads chunks, one target transaction after the other. The rows of a chunk and its entry in the
/// table's ledger commit together, so that a crash leaves nothing to clean up and costs no more than
/// the chunks in flight. A table that is one chunk is emptied in the transaction that loads it; one
/// of several chunks in a transaction of its own before the first of them:
///
/// - one chunk: `begin`, `empty`, `load`…, `commit(Some)`
/// - several: once `begin`, `empty`, `commit(None)`; then for each, by any loader, in any order and
///   beside each other, `begin`, `load`…, `commit(Some)`
///
/// After an error, or when it is dropped between `begin` and `commit`, whatever is not committed is
/// rolled back and the loader is of no more use.
#[async_trait]
pub trait Loader: Send {
    /// Begins a target transaction for rows that feed `feed` brings to `plan.targets[target]`.
    async fn begin(&mut self, target: usize, feed: usize) -> Result<()>;
    /// Makes the table ready for a new load: rows that are there, of all feeds, go (`Replace`), stay (`Compare`), or are
    /// a `Config` error (`Refuse`); the ledger and the table's quarantine are emptied, and the table's checkpoint becomes `Loading` with
    /// this fingerprint and zero rows.
    async fn empty(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()>;
    /// Writes rows in the form of [`crate::batch`].
    async fn load(&mut self, rows: &RowBatch) -> Result<()>;

    /// The form in which rows of the open transaction's table may come as they were read; `None`:
    /// there is none.
    fn wire(&self) -> Option<WireForm> {
        None
    }

    /// Writes rows in that form ([`crate::ports::ChunkReader::relay`]); in one transaction either these
    /// or others.
    async fn load_wire(&mut self, rows: &RowBatch) -> Result<()> {
        let _ = rows;
        Err(Error::bug("rows in a form that the target did not name"))
    }

    /// Writes those of the rows that the target takes, and gives the others, as indexes into `rows`,
    /// with their errors. In one transaction either this or [`Loader::load`]. Not for merged tables.
    async fn load_sifted(&mut self, rows: &RowBatch) -> Result<Vec<(usize, Error)>>;

    /// Enters the chunk into the ledger, if one was loaded, puts what was refused of it into quarantine,
    /// and commits; the epoch is checked in the same transaction (`Fenced`). A `Bug` error if the target
    /// counted other rows than the chunk says.
    async fn commit(&mut self, chunk: Option<&LoadedChunk>, held: &[Held]) -> Result<()>;
}

/// Decides about the operations of a batch in which the target refuses some.
///
/// The batch is tried in [`crate::batch::Pieces`], each behind a savepoint: one that is refused is rolled back
/// and comes again in smaller ones, and what is refused by itself goes into quarantine. A piece of which
/// something waits is not tried whole.
pub trait Sift: Send {
    /// These operations of a batch as a batch of their own, folded: for [`Applier::apply_sifted`] to try.
    fn piece(&self, batch: &ApplyBatch, ops: Range<usize>) -> Result<ApplyBatch>;
    /// Whether an operation waits behind one that was refused.
    fn waits(&self, op: &TableOp) -> bool;
    /// Puts an operation that waits behind it.
    fn defer(&mut self, op: &TableOp) -> Result<()>;
    /// Puts an operation that the target refused into quarantine. An error: that is not possible, and
    /// the batch is not applied.
    fn refused(&mut self, op: &TableOp, error: Error) -> Result<()>;
    /// A table was truncated: what was put into quarantine of it is none of it any more.
    fn emptied(&mut self, op: &TableOp);
    /// What is to be put into quarantine of the operations so far.
    fn take(&mut self) -> Vec<Held>;
}

/// What [`Applier::apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What is durable now; `None`: nothing moved (a part).
    pub durable: Option<Position>,
    /// Per index of [`Plan::targets`]; shorter means zero.
    pub counts: Vec<TableCounts>,
}

/// One writer of one task into one target.
#[async_trait]
pub trait Applier: Send {
    /// Stores the first position and the fingerprint of each target's source table (phase
    /// `Waiting` for a table not known yet, or `Live` where nothing is loaded). `tables` are
    /// `(index into Plan::targets, fingerprint, live)`.
    async fn start(&mut self, at: &Position, tables: &[(usize, String, bool)]) -> Result<()>;

    /// Between transactions: stores exactly these layouts as those at the position, and forgets others.
    /// The epoch is checked. Repeatable.
    async fn keep_layouts(&mut self, layouts: &[(TableName, Layout)]) -> Result<()>;

    /// Begins a batch while another applier of the same task still writes the batch before it: does what
    /// cannot depend on that one, in this applier's own transaction. [`Applier::apply`] of the same
    /// batch follows when the other has committed, and does the rest. It may be slow, but it must not
    /// wait for the other, nor the other for it. No transaction of this applier is open, the
    /// batch has a position, and all tables of the plan are live. After an error the applier is of no more use.
    async fn ahead(&mut self, _batch: &ApplyBatch) -> Result<()> {
        Ok(())
    }

    /// Takes back whatever of [`Applier::ahead`] somebody could wait for; [`Applier::apply`] does it again
    /// then. Whether there was anything.
    async fn give_way(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Applies all of the batch together with the checkpoint, or nothing. A batch without a
    /// position keeps the target transaction open; after an error the applier is of no more use
    /// and whatever was not committed is rolled back.
    async fn apply(&mut self, batch: &ApplyBatch) -> Result<Applied>;

    /// The same, but operations that the target refuses with a `Data` error go into quarantine, together
    /// with what waits behind them, in the same transaction. What is refused by the end of the
    /// transaction only is an error as before.
    async fn apply_sifted(&mut self, batch: &ApplyBatch, sift: &mut dyn Sift) -> Result<Applied>;

    /// Between transactions: creates the keys that waited for the end of the load, for all
    /// tables of the plan, marks them `Live` and drops their ledgers, keeping the sum of their rows.
    /// Repeatable.
    async fn go_live(&mut self) -> Result<()>;

    /// Between transactions: gives up the load of these targets, which become `Waiting`, and if so said
    /// [`crate::checkpoint::TableCheckpoint::whole`] until they are Live, their rows this task's own to
    /// replace. Their rows in quarantine go. The epoch is checked. Repeatable.
    async fn load_again(&mut self, targets: &[usize], whole: bool) -> Result<()>;
}
