//! Applying batches: exactly once, with the checkpoint in the same transaction.
//!
//! A folded batch goes by the bulk path behind a savepoint. If it meets a constraint on the way,
//! which may be the order of its rows only (two rows that swap a unique value), it is rolled back
//! to the savepoint and the same changes are applied row by row in commit order, unless a row
//! was refused for its own values and all comes again in pieces.

mod sift;
mod staged;

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::batch::{
    ApplyBatch, BRIEF_WAIT, FoldedTable, Net, RowOp, TableCounts, TableOp, unfolded,
};
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::ports::{Applied, Applier, Sift};
use thalweg_core::position::{Layout, Position};
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result};
use tokio_postgres::types::ToSql;

use super::bulk::{Bulk, BulkError};
use super::ddl::{explain, make_keys};
use super::follow::Follower;
use super::merged::{Merged, Ops};
use super::rows::Rows;
use super::{Owner, checkpoint, layouts, ledger, quarantine};
use crate::config::Connection;
use crate::error::{convert, of_table};
use crate::schema::wanted;
use staged::{Staged, Way, in_turn};

/// Below this many operations one statement each is faster.
const BULK_OPS_MIN: usize = 8;
/// Rows of so many bytes are staged however few they are: as a parameter of a statement a value is
/// copied three times more, and the connection keeps the last of the copies.
pub(super) const BULK_BYTES_MIN: usize = 8 << 20;

/// Tables whose staging tables are made in one transaction ahead of a batch.
const PREPARED_AT_ONCE: usize = 64;
/// Tables whose statements are on their way to the server at once, with their rows if those come as arrays.
const SENT_AT_ONCE: usize = 64;

pub(super) struct PostgresApplier {
    connection: Connection,
    owner: Owner,
    plan: Arc<Plan>,
    /// Per target table and source.
    staged: Vec<Vec<Option<Staged>>>,
    rows: Vec<Option<Rows>>,
    /// `None`: no cascade of the plan is derived.
    follower: Option<Follower>,
    /// A transaction is open: a part of a huge one was applied, or a batch was begun ahead.
    open: bool,
    /// The rows of the open batch are staged.
    ahead: bool,
}

impl PostgresApplier {
    pub(super) async fn new(connection: Connection, owner: Owner, plan: Arc<Plan>) -> Result<Self> {
        let follower = match plan.cascades.iter().any(|cascade| cascade.derived) {
            true => Some(Follower::new(&connection.client, &plan).await?),
            false => None,
        };
        let feeds = |table: &TargetTable| table.feeds.iter().map(|_| None).collect();
        Ok(PostgresApplier {
            follower,
            connection,
            owner,
            staged: plan.targets.iter().map(feeds).collect(),
            rows: plan.targets.iter().map(|_| None).collect(),
            open: false,
            ahead: false,
            plan,
        })
    }

    async fn sql(&self, sql: &str) -> Result<()> {
        self.connection
            .client
            .batch_execute(sql)
            .await
            .map_err(convert)
    }

    /// Locks the owner's checkpoint row in the open transaction.
    async fn lock(&self) -> Result<()> {
        let Owner { task, epoch } = &self.owner;
        let lock = "SELECT 1 FROM thalweg.checkpoint \
                    WHERE server = $1 AND task = $2 AND epoch = $3 FOR UPDATE";
        let client = &self.connection.client;
        let owned = client
            .query(lock, &[&task.server, &task.task, &epoch.0])
            .await
            .map_err(convert)?;
        self.owner.expect_one(owned.len() as u64)
    }

    /// The net effect of a batch, if it goes by the bulk path.
    fn bulk<'b>(&self, batch: &'b ApplyBatch) -> Option<&'b [Net]> {
        let merged = |net: &Net| match net {
            Net::Folded(table) => self
                .plan
                .targets
                .get(table.target)
                .is_some_and(|t| t.merged()),
            Net::InOrder(_) => false,
        };
        let many = batch.ordered.len() >= BULK_OPS_MIN || batch.rows.bytes() >= BULK_BYTES_MIN;
        let folded = batch.folded.as_deref();
        folded.filter(|nets| many || batch.net || nets.iter().any(merged))
    }

    /// Applies the rows of a batch in the open transaction.
    async fn apply_rows(&mut self, batch: &ApplyBatch, counts: &mut [TableCounts]) -> Result<()> {
        let staged = std::mem::take(&mut self.ahead);
        if let Some(nets) = self.bulk(batch) {
            self.prepare_stages(&batch.rows, nets).await?;
            self.sql("SAVEPOINT thalweg").await?;
            let mut bulk_counts = vec![TableCounts::default(); counts.len()];
            match self
                .apply_folded(batch, nets, staged, &mut bulk_counts)
                .await
            {
                Ok(()) => {
                    self.sql("RELEASE SAVEPOINT thalweg").await?;
                    for (sum, more) in counts.iter_mut().zip(&bulk_counts) {
                        sum.add(more);
                    }
                    return Ok(());
                }
                Err(BulkError {
                    retry_in_order: true,
                    error,
                    ..
                }) if !(batch.comes_again && error.is_of_row()) => {
                    // Released as well: the next part of a huge transaction sets its own.
                    self.sql("ROLLBACK TO SAVEPOINT thalweg; RELEASE SAVEPOINT thalweg")
                        .await?;
                }
                Err(BulkError { error, .. }) => return Err(error),
            }
        }
        self.apply_ordered(batch, batch.ordered.iter(), counts)
            .await
    }

    /// Staging tables are made outside the savepoint, so that a rollback to it keeps them.
    async fn prepare_stages(&mut self, rows: &RowBatch, nets: &[Net]) -> Result<()> {
        for net in nets {
            match net {
                Net::Folded(table) => self.prepare_table(rows, table).await?,
                Net::InOrder(target) => {
                    let table = self.plan.targets.get(*target).filter(|t| t.merged());
                    for feed in 0..table.map_or(0, |table| table.feeds.len()) {
                        self.prepare_stage((*target, feed)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn prepare_stage(&mut self, (target, feed): (usize, usize)) -> Result<()> {
        let missing = || Error::bug("an operation on a table the plan does not know");
        let table = self.plan.targets.get(target).ok_or_else(missing)?;
        let slot = self
            .staged
            .get_mut(target)
            .and_then(|feeds| feeds.get_mut(feed));
        let slot = slot.ok_or_else(missing)?;
        if slot.is_none() {
            let client = &self.connection.client;
            let way = if table.merged() {
                let merged = Merged::new(client, &self.owner.task, &self.plan, (target, feed));
                Way::Merged(Arc::new(merged.await?), Ops::default())
            } else {
                Way::Plain(Box::new(Bulk::new(client, &self.plan, target).await?))
            };
            *slot = Some(Staged { way, filled: false });
        }
        Ok(())
    }

    /// Makes all that the rows of a table need.
    async fn prepare_table(&mut self, rows: &RowBatch, table: &FoldedTable) -> Result<()> {
        self.prepare_stage((table.target, table.feed)).await?;
        let staged = stage_of(&mut self.staged, table);
        let staged = staged.ok_or_else(|| Error::bug("a folded table without staging"))?;
        let prepared = staged.prepare(&self.connection.client, rows, table).await;
        prepared.map_err(|error| match self.plan.targets.get(table.target) {
            Some(table) => of_table(error, &table.name),
            None => error,
        })
    }

    /// Ends a batch whose rows are written: quarantine, position, commit.
    async fn finish(
        &mut self,
        batch: &ApplyBatch,
        counts: Vec<TableCounts>,
        more: &[Held],
    ) -> Result<Applied> {
        let Owner { task, epoch } = &self.owner;
        let client = &self.connection.client;
        quarantine::settle(client, task, &self.plan, batch, more).await?;
        let Some(position) = batch.position.clone() else {
            return Ok(Applied {
                durable: None,
                counts,
            });
        };
        let owned = self
            .connection
            .client
            .execute(
                "UPDATE thalweg.checkpoint SET applied = $4 \
                 WHERE server = $1 AND task = $2 AND epoch = $3",
                &[&task.server, &task.task, &epoch.0, &position.as_str()],
            )
            .await
            .map_err(convert)?;
        self.owner.expect_one(owned)?;
        layouts::put(&self.connection.client, task, &batch.layouts).await?;
        self.sql("COMMIT").await?;
        self.open = false;
        for staged in self.staged.iter_mut().flatten().flatten() {
            staged.filled = false;
        }
        Ok(Applied {
            durable: Some(position),
            counts,
        })
    }

    async fn apply_folded(
        &mut self,
        batch: &ApplyBatch,
        nets: &[Net],
        staged: bool,
        counts: &mut [TableCounts],
    ) -> Result<(), BulkError> {
        let client = &self.connection.client;
        let plan = Arc::clone(&self.plan);
        let missing = || Error::bug("a folded table without staging");
        for table in folded(nets).filter(|_| !staged) {
            let slot = stage_of(&mut self.staged, table).ok_or_else(missing)?;
            let staged = slot.stage(client, &batch.rows, table).await;
            staged.map_err(|error| error.of(&plan, table.target))?;
        }
        let plain = |table: &FoldedTable| {
            let feeds = self.staged.get(table.target)?.get(table.feed)?.as_ref()?;
            Some(matches!(feeds.way, Way::Plain(_)))
        };
        match self.follower.is_none() && folded(nets).all(|table| plain(table) == Some(true)) {
            true => self.write_at_once(batch, nets, counts).await?,
            false => self.write_by_table(batch, nets, counts).await?,
        }
        let alone = unfolded(nets);
        let ops = batch.ordered.iter().filter(|op| alone.contains(&op.target));
        self.apply_ordered(batch, ops, counts).await?;
        Ok(())
    }

    /// Writes folded tables, those that go first. The statements of many tables are on their way at once, in the
    /// order in which they are done.
    async fn write_at_once(
        &self,
        batch: &ApplyBatch,
        nets: &[Net],
        counts: &mut [TableCounts],
    ) -> Result<(), BulkError> {
        let (client, rows) = (&self.connection.client, &batch.rows);
        let may_insert = self.plan.operations.insert;
        let missing = || Error::bug("a folded table without staging");
        let staged = |table: &FoldedTable| self.staged.get(table.target)?.get(table.feed)?.as_ref();
        let tables: Vec<&FoldedTable> = folded(nets).collect();
        // Children before parents when rows go, parents before children when they come.
        for some in tables.rchunks(SENT_AT_ONCE) {
            let deletes = some.iter().rev().map(async |table| {
                let staged = staged(table).ok_or_else(missing)?;
                staged.delete(client, rows, table).await
            });
            let done = in_turn(deletes).await;
            self.add(some.iter().rev().copied().zip(done), counts)?;
        }
        for some in tables.chunks(SENT_AT_ONCE) {
            let writes = some.iter().map(async |table| {
                let staged = staged(table).ok_or_else(missing)?;
                staged.write(client, rows, table, may_insert).await
            });
            let done = in_turn(writes).await;
            self.add(some.iter().copied().zip(done), counts)?;
        }
        Ok(())
    }

    /// Adds what was counted of tables; if some were refused, the first error that does not follow from another.
    fn add<'b>(
        &self,
        done: impl Iterator<Item = (&'b FoldedTable, Result<TableCounts, BulkError>)>,
        counts: &mut [TableCounts],
    ) -> Result<(), BulkError> {
        let mut refused: Option<BulkError> = None;
        for (table, done) in done {
            match done {
                Ok(done) => {
                    let sum = counts.get_mut(table.target);
                    sum.ok_or_else(|| Error::bug("a table the plan does not know"))?
                        .add(&done);
                }
                Err(error) if refused.as_ref().is_none_or(|first| first.follows) => {
                    refused = Some(error.of(&self.plan, table.target));
                }
                Err(_) => {}
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The same, one statement after the other, with the derived cascades.
    async fn write_by_table(
        &mut self,
        batch: &ApplyBatch,
        nets: &[Net],
        counts: &mut [TableCounts],
    ) -> Result<(), BulkError> {
        let client = &self.connection.client;
        let plan = Arc::clone(&self.plan);
        let missing = || Error::bug("a folded table without staging");
        for table in folded(nets).rev() {
            let staged = stage_of(&mut self.staged, table).ok_or_else(missing)?;
            let counts = counts.get_mut(table.target).ok_or_else(missing)?;
            if let Some(follower) = &mut self.follower {
                let (rows, target) = (&batch.rows, table.target);
                let gone = table.deletes.iter().filter_map(|&row| {
                    Follower::follows(&self.plan, rows, target, &RowOp::Delete(row))
                        .then_some((row, None))
                });
                follower.follow(client, batch, target, gone).await?;
            }
            let deleted = staged.delete(client, &batch.rows, table).await;
            counts.add(&deleted.map_err(|error| error.of(&plan, table.target))?);
        }
        let may_insert = self.plan.operations.insert;
        for table in folded(nets) {
            let staged = stage_of(&mut self.staged, table).ok_or_else(missing)?;
            let counts = counts.get_mut(table.target).ok_or_else(missing)?;
            let written = staged.write(client, &batch.rows, table, may_insert).await;
            counts.add(&written.map_err(|error| error.of(&plan, table.target))?);
            if let Some(follower) = &mut self.follower {
                let (rows, target) = (&batch.rows, table.target);
                let update = |&(before, after): &(usize, usize)| {
                    let op = RowOp::Update { before, after };
                    let fires = Follower::follows(&self.plan, rows, target, &op);
                    fires.then_some((before, Some(after)))
                };
                let changed = table.updates.iter().filter_map(update);
                follower.follow(client, batch, target, changed).await?;
            }
        }
        Ok(())
    }

    async fn apply_ordered<'b>(
        &mut self,
        batch: &ApplyBatch,
        ops: impl Iterator<Item = &'b TableOp>,
        counts: &mut [TableCounts],
    ) -> Result<()> {
        let operations = self.plan.operations;
        let missing = || Error::bug("an operation on a table the plan does not know");
        for op in ops {
            let counts = counts.get_mut(op.target).ok_or_else(missing)?;
            let table = self.plan.targets.get(op.target).ok_or_else(missing)?;
            if table.merged() {
                if let Err(error) = self.apply_merged(&batch.rows, op, counts).await {
                    return Err(error.of(&self.plan, op.target).error);
                }
                continue;
            }
            let slot = self.rows.get_mut(op.target).ok_or_else(missing)?;
            let rows = match slot {
                Some(rows) => rows,
                None => {
                    slot.insert(Rows::new(&self.connection.client, &self.plan, op.target).await?)
                }
            };
            let client = &self.connection.client;
            let follower = self
                .follower
                .as_mut()
                .filter(|_| Follower::follows(&self.plan, &batch.rows, op.target, &op.op));
            let moved = match (follower, op.op) {
                (Some(follower), RowOp::Delete(row)) => {
                    let gone = std::iter::once((row, None));
                    let followed = follower.follow(client, batch, op.target, gone);
                    followed.await.map_err(|error| error.error)?;
                    None
                }
                (Some(follower), RowOp::Update { before, after }) => {
                    Some((follower, (before, Some(after))))
                }
                _ => None,
            };
            let applied = rows.apply(client, table, &batch.rows, op.op, operations, counts);
            let applied = applied.await;
            applied.map_err(|error| of_table(error, &table.name))?;
            if let Some((follower, moved)) = moved {
                let moved = std::iter::once(moved);
                let followed = follower.follow(client, batch, op.target, moved);
                followed.await.map_err(|error| error.error)?;
            }
        }
        Ok(())
    }

    /// One operation on a merged table: the same statements as for many.
    async fn apply_merged(
        &mut self,
        rows: &RowBatch,
        op: &TableOp,
        counts: &mut TableCounts,
    ) -> Result<(), BulkError> {
        self.prepare_stage((op.target, op.feed)).await?;
        let mut one = FoldedTable {
            target: op.target,
            feed: op.feed,
            ..FoldedTable::default()
        };
        match op.op {
            RowOp::Insert(row) => one.inserts.push(row),
            RowOp::Update { before, after } => one.updates.push((before, after)),
            RowOp::Delete(row) => one.deletes.push(row),
            RowOp::Truncate => {}
        }
        let client = &self.connection.client;
        let missing = || Error::bug("a folded table without staging");
        let staged = stage_of(&mut self.staged, &one).ok_or_else(missing)?;
        match op.op {
            RowOp::Truncate => staged.stage_all(client).await?,
            _ => staged.stage(client, rows, &one).await?,
        }
        counts.add(&staged.delete(client, rows, &one).await?);
        let may_insert = self.plan.operations.insert;
        counts.add(&staged.write(client, rows, &one, may_insert).await?);
        Ok(())
    }
}

fn stage_of<'a>(
    staged: &'a mut [Vec<Option<Staged>>],
    table: &FoldedTable,
) -> Option<&'a mut Staged> {
    staged.get_mut(table.target)?.get_mut(table.feed)?.as_mut()
}

/// The tables that were folded, parents first.
fn folded(nets: &[Net]) -> impl DoubleEndedIterator<Item = &FoldedTable> {
    nets.iter().filter_map(|net| match net {
        Net::Folded(table) => Some(table),
        Net::InOrder(_) => None,
    })
}

/// Counts an operation as the source did it.
fn count(op: &TableOp, counts: &mut [TableCounts]) {
    let Some(counts) = counts.get_mut(op.target) else {
        return;
    };
    match op.op {
        RowOp::Insert(_) => counts.inserts += 1,
        RowOp::Update { .. } => counts.updates += 1,
        RowOp::Delete(_) | RowOp::Truncate => counts.deletes += 1,
    }
}

#[async_trait]
impl Applier for PostgresApplier {
    async fn start(&mut self, at: &Position, tables: &[(usize, String, bool)]) -> Result<()> {
        let Owner { task, epoch } = &self.owner;
        self.sql("BEGIN").await?;
        let client = &self.connection.client;
        let owned = client
            .execute(
                "UPDATE thalweg.checkpoint SET applied = $4 \
                 WHERE server = $1 AND task = $2 AND epoch = $3",
                &[&task.server, &task.task, &epoch.0, &at.as_str()],
            )
            .await
            .map_err(convert)?;
        self.owner.expect_one(owned)?;
        let targets = tables.iter().map(|(target, ..)| {
            let table = self.plan.targets.get(*target);
            let table = table.ok_or_else(|| Error::bug("no such target"))?;
            Ok(&table.name)
        });
        let (schemas, names) = wanted(targets.collect::<Result<Vec<_>>>()?);
        let fingerprints: Vec<&str> = tables.iter().map(|(_, f, _)| f.as_str()).collect();
        let live: Vec<bool> = tables.iter().map(|(.., live)| *live).collect();
        let first = format!(
            "INSERT INTO thalweg.checkpoint_table (server, task, target_schema, target_table, \
             phase, fingerprint, relation) SELECT $1, $2, w.schema, w.name, \
             CASE WHEN w.live THEN 'live' ELSE 'waiting' END, w.fingerprint, {} \
             FROM unnest($3::text[], $4::text[], $5::text[], $6::bool[]) \
               w (schema, name, fingerprint, live) \
             ON CONFLICT (server, task, target_schema, target_table) DO UPDATE SET \
             phase = excluded.phase, visibility = NULL, fingerprint = excluded.fingerprint, \
             relation = excluded.relation",
            checkpoint::relation("w.schema", "w.name")
        );
        let key: [&(dyn ToSql + Sync); 6] = [
            &task.server,
            &task.task,
            &schemas,
            &names,
            &fingerprints,
            &live,
        ];
        client.execute(&first, &key).await.map_err(convert)?;
        self.sql("COMMIT").await
    }

    async fn keep_layouts(&mut self, all: &[(TableName, Layout)]) -> Result<()> {
        let task = &self.owner.task;
        self.sql("BEGIN").await?;
        let client = &self.connection.client;
        self.lock().await?;
        let key: [&(dyn ToSql + Sync); 2] = [&task.server, &task.task];
        client.execute(layouts::DROP, &key).await.map_err(convert)?;
        layouts::put(client, task, all).await?;
        self.sql("COMMIT").await
    }

    /// Copies the rows into staging tables, which nobody else sees. What is prepared for it is prepared
    /// outside of the transaction: that takes locks of the target tables, and somebody who waits for
    /// those would be waited for by the other applier.
    async fn ahead(&mut self, batch: &ApplyBatch) -> Result<()> {
        let Some(nets) = self.bulk(batch) else {
            return Ok(());
        };
        let is_new = |table: &&FoldedTable| {
            let feeds = self.staged.get(table.target);
            let staged = feeds.and_then(|feeds| feeds.get(table.feed)?.as_ref());
            staged.is_none_or(|staged| !staged.is_prepared(&batch.rows, table))
        };
        let new: Vec<&FoldedTable> = folded(nets).filter(is_new).collect();
        for some in new.chunks(PREPARED_AT_ONCE) {
            // Each commit empties all staging tables there are.
            self.sql("BEGIN").await?;
            for table in some {
                self.prepare_table(&batch.rows, table).await?;
            }
            self.sql("COMMIT").await?;
        }
        self.sql("BEGIN").await?;
        self.open = true;
        self.ahead = true;
        let client = &self.connection.client;
        for table in folded(nets) {
            let slot = stage_of(&mut self.staged, table);
            let slot = slot.ok_or_else(|| Error::bug("a folded table without staging"))?;
            let staged = slot.stage(client, &batch.rows, table).await;
            staged.map_err(|error| error.error)?;
        }
        Ok(())
    }

    async fn apply(&mut self, batch: &ApplyBatch) -> Result<Applied> {
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        if !self.open {
            self.sql("BEGIN").await?;
            self.open = true;
        }
        if batch.brief {
            let wait = format!("SET LOCAL lock_timeout = '{}ms'", BRIEF_WAIT.as_millis());
            self.sql(&wait).await?;
        }
        if let Err(error) = self.apply_rows(batch, &mut counts).await {
            return Err(explain(&self.connection.client, &self.plan, error).await);
        }
        batch.ordered.iter().for_each(|op| count(op, &mut counts));
        self.finish(batch, counts, &[]).await
    }

    async fn apply_sifted(&mut self, batch: &ApplyBatch, sift: &mut dyn Sift) -> Result<Applied> {
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        if !self.open {
            self.sql("BEGIN").await?;
            self.open = true;
        }
        if let Err(error) = self.sift_rows(batch, sift, &mut counts).await {
            return Err(explain(&self.connection.client, &self.plan, error).await);
        }
        self.finish(batch, counts, &sift.take()).await
    }

    async fn go_live(&mut self) -> Result<()> {
        let task = &self.owner.task;
        self.sql("BEGIN").await?;
        let client = &self.connection.client;
        self.lock().await?;
        make_keys(client, task, &self.plan).await?;
        client
            .execute(
                // A key to a table that is away comes back with it.
                "UPDATE thalweg.checkpoint_table c SET phase = 'live', visibility = NULL, \
                 whole = false, keys_pending = keys_pending AND EXISTS ( \
                   SELECT FROM unnest(c.foreign_keys) f (name) WHERE NOT EXISTS ( \
                     SELECT FROM pg_constraint k JOIN pg_class o ON o.oid = k.conrelid \
                     JOIN pg_namespace s ON s.oid = o.relnamespace \
                     WHERE k.contype = 'f' AND k.conname = f.name \
                       AND s.nspname = c.target_schema AND o.relname = c.target_table)) \
                 WHERE server = $1 AND task = $2 AND phase <> 'waiting'",
                &[&task.server, &task.task],
            )
            .await
            .map_err(convert)?;
        ledger::drop_live(client, task).await?;
        self.sql("COMMIT").await
    }

    async fn load_again(&mut self, targets: &[usize], whole: bool) -> Result<()> {
        let Owner { task, epoch } = &self.owner;
        let names: Vec<TableName> = targets
            .iter()
            .filter_map(|target| self.plan.targets.get(*target))
            .map(|table| table.name.clone())
            .collect();
        let transaction = self.connection.client.transaction();
        let transaction = transaction.await.map_err(convert)?;
        let owned = transaction
            .query(
                "SELECT 1 FROM thalweg.checkpoint WHERE server = $1 AND task = $2 AND epoch = $3 \
                 FOR UPDATE",
                &[&task.server, &task.task, &epoch.0],
            )
            .await
            .map_err(convert)?;
        self.owner.expect_one(owned.len() as u64)?;
        checkpoint::again(&transaction, task, &names).await?;
        if whole {
            checkpoint::as_one_chunk(&transaction, task, &names).await?;
        }
        transaction.commit().await.map_err(convert)
    }
}
