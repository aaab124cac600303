//! Applying batches: exactly once, with the checkpoint in the same transaction.
//!
//! A folded batch goes by the bulk path behind a savepoint. If the server refuses a row on the way,
//! which may be for the order of the rows only (two that swap a unique value), it is rolled back to
//! the savepoint and the same changes are applied row by row in commit order, unless a row was refused
//! for its own values and all comes again in pieces.

mod sift;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use mysql_async::Value;
use thalweg_core::batch::{
    Apart, ApplyBatch, BRIEF_WAIT, FoldedTable, Net, RowOp, TableCounts, TableOp, unfolded,
};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applied, Applier, Sift};
use thalweg_core::position::{Layout, Position};
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result};

use super::check::explain;
use super::checkpoint::{self, Again};
use super::ddl::make_keys;
use super::follow::{Follower, Moved};
use super::merged::Merged;
use super::park::Parking;
use super::place::Place;
use super::rows::Rows;
use super::rules::Rules;
use super::session::{LOCK_WAIT_S, Session};
use super::table::Table;
use super::{Owner, bulk, keys, layouts, ledger};

/// Below this many operations the savepoint costs more than it saves.
const BULK_OPS_MIN: usize = 10;

pub(super) struct MySqlApplier {
    session: Session,
    owner: Owner,
    plan: Arc<Plan>,
    place: Place,
    /// Per target, as soon as it is needed; anew when keys were made.
    tables: Vec<Option<(Table, Rules)>>,
    /// The sources of merged tables, by target and feed.
    merged: BTreeMap<(usize, usize), Merged>,
    /// A transaction is open: a part of a huge one was applied, or a batch was begun ahead.
    open: bool,
    /// What was counted of the batch that was begun ahead; its savepoint is set.
    ahead: Option<Vec<TableCounts>>,
    /// Rows that wait for their place in it.
    parking: Parking,
    /// `None`: no cascade of the plan is derived.
    follower: Option<Follower>,
}

fn missing() -> Error {
    Error::bug("an operation on a table the plan does not know")
}

impl MySqlApplier {
    pub(super) async fn new(mut session: Session, owner: Owner, plan: Arc<Plan>) -> Result<Self> {
        let place = owner.place(&mut session).await?;
        let mut merged = BTreeMap::new();
        for (target, table) in plan.targets.iter().enumerate() {
            let feeds = (0..table.feeds.len()).filter(|_| table.merged());
            for feed in feeds.map(|feed| (target, feed)) {
                let made = Merged::new(&mut session, (&owner, &place), &plan, feed).await?;
                merged.insert(feed, made);
            }
        }
        session.run("ROLLBACK").await?;
        Ok(MySqlApplier {
            session,
            owner,
            place,
            merged,
            tables: plan.targets.iter().map(|_| None).collect(),
            follower: Follower::new(&plan),
            plan,
            open: false,
            ahead: None,
            parking: Parking::default(),
        })
    }

    /// Makes sure that the ways of writing tables are known.
    async fn know(&mut self, targets: impl Iterator<Item = usize>) -> Result<()> {
        let known = |target: &usize| matches!(self.tables.get(*target), Some(Some(_)));
        let new: BTreeSet<usize> = targets.filter(|target| !known(target)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let tables = new.iter().map(|target| self.plan.targets.get(*target));
        let tables: Option<Vec<_>> = tables.collect();
        let tables = tables.ok_or_else(missing)?;
        let all = Rules::read(&mut self.session, &tables).await?;
        for ((target, table), mut rules) in new.into_iter().zip(tables).zip(all) {
            rules.echoed = self.plan.is_echoed(target);
            let slot = self.tables.get_mut(target).ok_or_else(missing)?;
            *slot = Some((Table::new(table, self.session.facts.flavor)?, rules));
        }
        Ok(())
    }

    /// Whether rows of a table that are apart may be written beside the batch before.
    fn is_lone(&self, apart: &Apart) -> bool {
        let table = self.tables.get(apart.target).and_then(Option::as_ref);
        self.session.facts.locks_rows && table.is_some_and(|(_, rules)| rules.lone && !rules.echoed)
    }

    /// The net effect of a batch, in lists of which only what was not done ahead is left.
    fn left<'b>(&self, batch: &'b ApplyBatch, nets: &'b [Net]) -> Vec<Cow<'b, FoldedTable>> {
        let apart = |table: &FoldedTable| {
            let mut apart = batch.apart.iter().filter(|_| self.ahead.is_some());
            apart.find(|apart| apart.target == table.target && self.is_lone(apart))
        };
        let left = |table: &'b FoldedTable| match apart(table) {
            Some(apart) => Cow::Owned(table.split(apart).1),
            None => Cow::Borrowed(table),
        };
        folded(nets).map(left).collect()
    }

    /// Makes sure that the tables of a batch are known, and those that its operations may lead to.
    async fn know_all(&mut self, batch: &ApplyBatch) -> Result<()> {
        self.know(batch.ordered.iter().map(|op| op.target)).await?;
        if self.follower.is_some() {
            self.know(0..self.plan.targets.len()).await?;
        }
        Ok(())
    }

    /// Applies the rows of a batch in the open transaction.
    async fn apply_rows(&mut self, batch: &ApplyBatch, counts: &mut [TableCounts]) -> Result<()> {
        self.know_all(batch).await?;
        let merged = |net: &Net| match net {
            Net::Folded(part) => self.merged.contains_key(&(part.target, part.feed)),
            Net::InOrder(_) => false,
        };
        let many = |nets: &&[Net]| {
            batch.net || batch.ordered.len() >= BULK_OPS_MIN || nets.iter().any(merged)
        };
        let folded = batch.folded.as_deref().filter(many);
        let folded = folded.filter(|_| self.parking.is_empty());
        if let Some(folded) = folded {
            let left = self.left(batch, folded);
            let mut bulk_counts = match self.ahead.take() {
                Some(counts) => counts,
                None => {
                    self.session.run("SAVEPOINT thalweg").await?;
                    vec![TableCounts::default(); counts.len()]
                }
            };
            match self
                .apply_folded(batch, folded, &left, &mut bulk_counts)
                .await
            {
                Ok(()) => {
                    self.session.run("RELEASE SAVEPOINT thalweg").await?;
                    for (sum, more) in counts.iter_mut().zip(&bulk_counts) {
                        sum.add(more);
                    }
                    return Ok(());
                }
                Err(error) if in_order(batch, &error) => {
                    self.session.run("ROLLBACK TO SAVEPOINT thalweg").await?;
                    self.parking.reset();
                }
                Err(error) => return Err(error),
            }
        }
        let at_last = batch.position.is_some();
        self.apply_ordered(batch, batch.ordered.iter(), at_last, counts)
            .await
    }

    async fn apply_folded(
        &mut self,
        batch: &ApplyBatch,
        nets: &[Net],
        parts: &[Cow<'_, FoldedTable>],
        counts: &mut [TableCounts],
    ) -> Result<()> {
        let (session, tables, plan) = (&mut self.session, &self.tables, &self.plan);
        let rows = &batch.rows;
        for part in parts {
            if let Some(merged) = self.merged.get_mut(&(part.target, part.feed)) {
                merged.stage(session, rows, part).await?;
            }
        }
        // Children before parents when rows go, parents before children when they come.
        for part in parts.iter().rev() {
            let target = part.target;
            let counts = counts.get_mut(target).ok_or_else(missing)?;
            if let Some(merged) = self.merged.get_mut(&(target, part.feed)) {
                merged.delete(session, counts).await?;
                continue;
            }
            let known = tables.get(target).and_then(Option::as_ref);
            let (table, rules) = known.ok_or_else(missing)?;
            if let Some(follower) = &mut self.follower {
                let fires = |&row: &usize| {
                    Follower::follows(plan, rows, target, &RowOp::Delete(row))
                        .then_some((row, None))
                };
                let gone: Vec<Moved> = part.deletes.iter().filter_map(fires).collect();
                let followed = follower.follow(session, plan, tables, batch, target, &gone);
                followed.await?;
            }
            bulk::delete(session, table, rules, rows, part, counts).await?;
        }
        for part in parts {
            let target = part.target;
            let counts = counts.get_mut(target).ok_or_else(missing)?;
            if let Some(merged) = self.merged.get_mut(&(target, part.feed)) {
                merged.write(session, counts).await?;
                continue;
            }
            let known = tables.get(target).and_then(Option::as_ref);
            let (table, rules) = known.ok_or_else(missing)?;
            let may_insert = plan.operations.insert;
            bulk::write(session, table, rules, rows, part, may_insert, counts).await?;
            if let Some(follower) = &mut self.follower {
                let update = |&(before, after): &(usize, usize)| {
                    let op = RowOp::Update { before, after };
                    let fires = Follower::follows(plan, rows, target, &op);
                    fires.then_some((before, Some(after)))
                };
                let changed: Vec<Moved> = part.updates.iter().filter_map(update).collect();
                let followed = follower.follow(session, plan, tables, batch, target, &changed);
                followed.await?;
            }
        }
        let alone = unfolded(nets);
        let ops = batch.ordered.iter().filter(|op| alone.contains(&op.target));
        let at_last = batch.position.is_some();
        self.apply_ordered(batch, ops, at_last, counts).await
    }

    /// `at_last`: no row may be left parked.
    async fn apply_ordered<'b>(
        &mut self,
        batch: &ApplyBatch,
        ops: impl Iterator<Item = &'b TableOp>,
        at_last: bool,
        counts: &mut [TableCounts],
    ) -> Result<()> {
        for op in ops {
            if self.merged.contains_key(&(op.target, op.feed)) {
                let counts = counts.get_mut(op.target).ok_or_else(missing)?;
                self.apply_merged(&batch.rows, op, counts).await?;
                continue;
            }
            let known = self.tables.get(op.target).and_then(Option::as_ref);
            let (table, rules) = known.ok_or_else(missing)?;
            let rows = Rows {
                target: op.target,
                table,
                rules,
                operations: self.plan.operations,
            };
            let counts = counts.get_mut(op.target).ok_or_else(missing)?;
            let (session, parking) = (&mut self.session, &mut self.parking);
            let (plan, tables) = (&self.plan, &self.tables);
            let follower = self
                .follower
                .as_mut()
                .filter(|_| Follower::follows(plan, &batch.rows, op.target, &op.op));
            let moved = match op.op {
                RowOp::Delete(row) => Some((row, None)),
                RowOp::Update { before, after } => Some((before, Some(after))),
                RowOp::Insert(_) | RowOp::Truncate => None,
            };
            let mut moved = follower.zip(moved);
            if moved.is_some() {
                // Children are changed where they are.
                parking.settle(session, tables, true).await?;
            }
            if let Some((follower, gone)) = moved.take_if(|(_, (_, new))| new.is_none()) {
                let moved = &[gone];
                let followed = follower.follow(session, plan, tables, batch, op.target, moved);
                followed.await?;
            }
            match rows.apply(session, parking, &batch.rows, op, counts).await {
                // What is parked may be what is missing.
                Err(error) if error.kind() == Kind::Data && !parking.is_empty() => {
                    parking.settle(session, tables, false).await?;
                    rows.apply(session, parking, &batch.rows, op, counts)
                        .await?;
                }
                done => done?,
            }
            if let Some((follower, changed)) = moved {
                let moved = &[changed];
                let followed = follower.follow(session, plan, tables, batch, op.target, moved);
                followed.await?;
            }
        }
        let tables = &self.tables;
        self.parking
            .settle(&mut self.session, tables, at_last)
            .await
    }

    /// One operation on a merged table: the same statements as for many.
    async fn apply_merged(
        &mut self,
        rows: &RowBatch,
        op: &TableOp,
        counts: &mut TableCounts,
    ) -> Result<()> {
        let session = &mut self.session;
        let merged = self.merged.get_mut(&(op.target, op.feed));
        let merged = merged.ok_or_else(missing)?;
        let mut one = FoldedTable::default();
        match op.op {
            RowOp::Insert(row) => one.inserts.push(row),
            RowOp::Update { before, after } => one.updates.push((before, after)),
            RowOp::Delete(row) => one.deletes.push(row),
            RowOp::Truncate => {}
        }
        match op.op {
            RowOp::Truncate => merged.stage_all(session).await?,
            _ => merged.stage(session, rows, &one).await?,
        }
        merged.delete(session, counts).await?;
        merged.write(session, counts).await
    }

    async fn write_apart(
        &mut self,
        batch: &ApplyBatch,
        apart: &[FoldedTable],
        counts: &mut [TableCounts],
    ) -> Result<()> {
        let (session, rows) = (&mut self.session, &batch.rows);
        let may_insert = self.plan.operations.insert;
        for part in apart {
            let known = self.tables.get(part.target).and_then(Option::as_ref);
            let (table, rules) = known.ok_or_else(missing)?;
            let counts = counts.get_mut(part.target).ok_or_else(missing)?;
            bulk::delete(session, table, rules, rows, part, counts).await?;
            bulk::write(session, table, rules, rows, part, may_insert, counts).await?;
        }
        Ok(())
    }

    /// Takes back what was written ahead.
    async fn take_back(&mut self) -> Result<()> {
        self.ahead = None;
        self.open = false;
        self.session.run("ROLLBACK").await
    }

    /// Begins to apply a batch, in a transaction.
    async fn begin(&mut self, batch: &ApplyBatch) -> Result<()> {
        if !self.open {
            self.session.run("START TRANSACTION").await?;
            self.open = true;
        }
        if batch.brief {
            self.session.wait_for_locks(BRIEF_WAIT.as_secs()).await?;
        }
        Ok(())
    }

    /// Writes what a batch does beside its rows, with what was sifted out of it, and commits if it has a
    /// position.
    async fn finish(
        &mut self,
        batch: &ApplyBatch,
        sifted: &[Held],
        counts: Vec<TableCounts>,
    ) -> Result<Applied> {
        self.quarantine(batch, sifted).await?;
        if batch.brief {
            self.session.wait_for_locks(LOCK_WAIT_S.into()).await?;
        }
        let Some(position) = batch.position.clone() else {
            return Ok(Applied {
                durable: None,
                counts,
            });
        };
        self.advance(&position).await?;
        let (task, layouts) = (&self.owner.task, &batch.layouts);
        layouts::put(&mut self.session, &self.place, task, layouts).await?;
        self.session.run("COMMIT").await?;
        self.open = false;
        Ok(Applied {
            durable: Some(position),
            counts,
        })
    }

    /// Moves the position in the open transaction, if it is still ours to move.
    async fn advance(&mut self, position: &Position) -> Result<()> {
        let Owner { task, epoch } = &self.owner;
        let advance = format!(
            "UPDATE {} SET applied = ? WHERE server = ? AND task = ? AND epoch = ?",
            self.place.checkpoint()
        );
        let key = (position.as_str(), &task.server, &task.task, epoch.0);
        let owned = self.session.exec(&advance, key).await?;
        self.owner.expect_one(owned)
    }
}

/// The tables that were folded, parents first.
fn folded(nets: &[Net]) -> impl DoubleEndedIterator<Item = &FoldedTable> {
    nets.iter().filter_map(|net| match net {
        Net::Folded(table) => Some(table),
        Net::InOrder(_) => None,
    })
}

/// Whether a batch that was refused is tried in commit order: not if a row was refused for its own values, and
/// all comes again in pieces.
fn in_order(batch: &ApplyBatch, error: &Error) -> bool {
    error.kind() == Kind::Data && !(batch.comes_again && error.is_of_row())
}

/// Operations as the source did them.
fn count(ops: &[TableOp], counts: &mut [TableCounts]) {
    for op in ops {
        let Some(counts) = counts.get_mut(op.target) else {
            continue;
        };
        match op.op {
            RowOp::Insert(_) => counts.inserts += 1,
            RowOp::Update { .. } => counts.updates += 1,
            RowOp::Delete(_) | RowOp::Truncate => counts.deletes += 1,
        }
    }
}

#[async_trait]
impl Applier for MySqlApplier {
    async fn start(&mut self, at: &Position, tables: &[(usize, String, bool)]) -> Result<()> {
        self.session.run("START TRANSACTION").await?;
        self.advance(at).await?;
        let names = tables
            .iter()
            .map(|(target, ..)| self.plan.targets.get(*target));
        let names: Option<Vec<&TableName>> = names.map(|table| Some(&table?.name)).collect();
        let names = names.ok_or_else(missing)?;
        let live = names.iter().zip(tables).filter(|(_, (.., live))| *live);
        let live: Vec<TableName> = live.map(|(name, _)| (*name).clone()).collect();
        let relations = checkpoint::relations(&mut self.session, &live).await?;
        let task = &self.owner.task;
        let row = |(name, (_, fingerprint, live)): (&&TableName, &(usize, String, bool))| {
            let phase = if *live { "live" } else { "waiting" };
            vec![
                Value::from(&task.server),
                Value::from(&task.task),
                Value::from(&name.schema),
                Value::from(&name.name),
                Value::from(phase),
                Value::from(fingerprint),
                Value::from(relations.get(name)),
            ]
        };
        let rows: Vec<Vec<Value>> = names.iter().zip(tables).map(row).collect();
        let first = format!(
            "INSERT INTO {} (server, task, target_schema, target_table, phase, fingerprint, \
             relation, foreign_keys) VALUES {{rows}} ON DUPLICATE KEY UPDATE phase = VALUES(phase), \
             fingerprint = VALUES(fingerprint), relation = VALUES(relation)",
            self.place.tables()
        );
        let one = "(?, ?, ?, ?, ?, ?, ?, '')";
        self.session.exec_rows(&first, &[], (one, &rows)).await?;
        self.session.run("COMMIT").await
    }

    async fn keep_layouts(&mut self, all: &[(TableName, Layout)]) -> Result<()> {
        let (session, place, task) = (&mut self.session, &self.place, &self.owner.task);
        session.run("START TRANSACTION").await?;
        self.owner.lock(session, place, "FOR UPDATE").await?;
        layouts::clear(session, place, task).await?;
        layouts::put(session, place, task, all).await?;
        session.run("COMMIT").await
    }

    /// Writes the rows that stand apart from the batch before, where nothing but the key joins the rows of
    /// a table: no lock of one applier is wanted by the other then.
    async fn ahead(&mut self, batch: &ApplyBatch) -> Result<()> {
        let many = batch.ordered.len() >= BULK_OPS_MIN;
        let nets = batch
            .folded
            .as_deref()
            .filter(|_| many && self.follower.is_none());
        let Some(nets) = nets else {
            return Ok(());
        };
        self.know(batch.ordered.iter().map(|op| op.target)).await?;
        let apart: Vec<FoldedTable> = folded(nets)
            .filter_map(|table| {
                let mut apart = batch.apart.iter();
                let apart = apart.find(|a| a.target == table.target && self.is_lone(a))?;
                Some(table.split(apart).0)
            })
            .collect();
        if apart.is_empty() {
            return Ok(());
        }
        self.session
            .run("START TRANSACTION; SAVEPOINT thalweg")
            .await?;
        self.open = true;
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        match self.write_apart(batch, &apart, &mut counts).await {
            Ok(()) => self.ahead = Some(counts),
            // In its turn all of the batch is tried, and row by row if need be.
            Err(error) if in_order(batch, &error) => self.take_back().await?,
            Err(error) => return Err(explain(&mut self.session, &self.plan, error).await),
        }
        Ok(())
    }

    async fn give_way(&mut self) -> Result<bool> {
        let written = self.ahead.is_some();
        if written {
            self.take_back().await?;
        }
        Ok(written)
    }

    async fn apply(&mut self, batch: &ApplyBatch) -> Result<Applied> {
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        self.begin(batch).await?;
        if let Err(error) = self.apply_rows(batch, &mut counts).await {
            return Err(explain(&mut self.session, &self.plan, error).await);
        }
        count(&batch.ordered, &mut counts);
        self.finish(batch, &[], counts).await
    }

    async fn apply_sifted(&mut self, batch: &ApplyBatch, sift: &mut dyn Sift) -> Result<Applied> {
        // The savepoint of what was begun ahead lies before ours.
        self.give_way().await?;
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        self.begin(batch).await?;
        if let Err(error) = self.sift_rows(batch, sift, &mut counts).await {
            return Err(explain(&mut self.session, &self.plan, error).await);
        }
        let sifted = sift.take();
        self.finish(batch, &sifted, counts).await
    }

    async fn go_live(&mut self) -> Result<()> {
        let task = self.owner.task.clone();
        let session = &mut self.session;
        session.run("START TRANSACTION").await?;
        self.owner.lock(session, &self.place, "FOR UPDATE").await?;
        checkpoint::unnote_relations(session, &self.place, &task).await?;
        // What follows commits. An older owner that comes here late makes keys that the newer one
        // makes as well.
        make_keys(session, &self.place, &task, &self.plan).await?;
        let targets = self.plan.targets.iter();
        let keyed = targets.filter(|table| table.create || table.rekey);
        let keyed: Vec<TableName> = keyed.map(|table| table.name.clone()).collect();
        checkpoint::note_relations(session, &self.place, &task, &keyed).await?;
        let away = keys::keys_away(session, &self.place, &task).await?;
        session.run("START TRANSACTION").await?;
        self.owner.lock(session, &self.place, "FOR UPDATE").await?;
        let live = format!(
            "UPDATE {} SET phase = 'live', whole = 0, keys_pending = 0 \
             WHERE server = ? AND task = ? AND phase <> 'waiting'",
            self.place.tables()
        );
        session.exec(&live, (&task.server, &task.task)).await?;
        for table in away {
            keys::note_keys_away(session, &self.place, &task, &table).await?;
        }
        ledger::drop_live(session, &self.place, &task).await?;
        session.run("COMMIT").await?;
        self.tables.fill_with(|| None);
        Ok(())
    }

    async fn load_again(&mut self, targets: &[usize], whole: bool) -> Result<()> {
        let how = if whole { Again::Whole } else { Again::AsBefore };
        let session = &mut self.session;
        for target in targets {
            let table = self.plan.targets.get(*target).ok_or_else(missing)?;
            let name = [table.name.clone()];
            // Dropping a foreign key commits, so that each table is a step of its own.
            session.run("START TRANSACTION").await?;
            self.owner.lock(session, &self.place, "FOR UPDATE").await?;
            let task = &self.owner.task;
            checkpoint::wait_for_load(session, &self.place, task, &name, how).await?;
        }
        Ok(())
    }
}
