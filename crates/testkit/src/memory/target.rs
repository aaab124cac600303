//! A target in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use thalweg_core::batch::{ApplyBatch, FoldedTable, RowOp, TableCounts};
use thalweg_core::checkpoint::{
    Checkpoint, Epoch, LoadedChunk, TableCheckpoint, TablePhase, TaskKey,
};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ColumnPair, ExistingRows};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applied, Applier, Capabilities, Inspect, Loader, Target};
use thalweg_core::position::Position;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result};
use tokio::sync::watch;

use super::{Faults, Row, Rows};

/// A state the target committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committed {
    /// Rows per table.
    pub tables: BTreeMap<TableName, Rows>,
    /// Whether every table was Live.
    pub live: bool,
    epoch: i64,
    applied: Option<Position>,
    checkpoints: BTreeMap<TableName, TableCheckpoint>,
}

/// A target in memory. Clones share one state.
#[derive(Clone, Debug)]
pub struct MemoryTarget {
    history: Arc<Mutex<Vec<Committed>>>,
    held: Arc<watch::Sender<bool>>,
    faults: Arc<Faults>,
}

impl MemoryTarget {
    /// A target with these empty tables.
    pub fn new(tables: &[TableName], faults: Arc<Faults>) -> Self {
        let tables = tables
            .iter()
            .map(|name| (name.clone(), Rows::new()))
            .collect();
        let first = Committed {
            tables,
            ..Committed::default()
        };
        MemoryTarget {
            history: Arc::new(Mutex::new(vec![first])),
            held: Arc::new(watch::Sender::new(false)),
            faults,
        }
    }

    /// While `held`, appliers wait with the next batch, as for a lock at the target.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Loses the position, and nothing else.
    pub fn lose_position(&self) {
        let mut states = self.states();
        let mut next = states.last().expect("there is a first state").clone();
        next.applied = None;
        states.push(next);
    }

    /// The present state.
    pub fn now(&self) -> Committed {
        self.states()
            .last()
            .expect("there is a first state")
            .clone()
    }

    /// Every state ever committed, oldest first.
    pub fn history(&self) -> Vec<Committed> {
        self.states().clone()
    }

    fn states(&self) -> MutexGuard<'_, Vec<Committed>> {
        self.history
            .lock()
            .expect("no test panics while it holds the state")
    }

    /// Commits what `change` makes of the present state, with a step before and after.
    fn commit(&self, change: impl FnOnce(&mut Committed) -> Result<()>) -> Result<()> {
        self.faults.step()?;
        {
            let mut states = self.states();
            let mut next = states.last().expect("there is a first state").clone();
            change(&mut next)?;
            states.push(next);
        }
        self.faults.step()
    }

    /// The same, but only for the present owner.
    fn commit_as(
        &self,
        epoch: Epoch,
        change: impl FnOnce(&mut Committed) -> Result<()>,
    ) -> Result<()> {
        self.commit(|state| {
            if state.epoch != epoch.0 {
                return Err(Error::new(Kind::Fenced, "a newer owner has the task"));
            }
            change(state)
        })
    }
}

#[async_trait]
impl Inspect for MemoryTarget {
    async fn probe(&self) -> Result<()> {
        self.faults.step()
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        self.faults.step()?;
        Ok(self.now().tables.into_keys().collect())
    }

    async fn describe(&self, _tables: &[TableName]) -> Result<Vec<TableSchema>> {
        Err(Error::config("the memory target keeps no schemas"))
    }
}

#[async_trait]
impl Target for MemoryTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic: true }
    }

    fn propose(
        &self,
        source: &TableSchema,
        name: &TableName,
        _columns: &[ColumnPair],
    ) -> std::result::Result<TableSchema, Vec<Finding>> {
        Ok(TableSchema {
            name: name.clone(),
            ..source.clone()
        })
    }

    async fn check(&self, _task: &TaskKey, _plan: &Plan) -> Result<Vec<Finding>> {
        self.faults.step()?;
        Ok(Vec::new())
    }

    async fn prepare(&self, _task: &TaskKey, _plan: &Plan) -> Result<()> {
        self.faults.step()
    }

    async fn claim(&self, _task: &TaskKey) -> Result<Checkpoint> {
        self.commit(|state| {
            state.epoch += 1;
            Ok(())
        })?;
        let now = self.now();
        Ok(Checkpoint {
            epoch: Epoch(now.epoch),
            applied: now.applied,
            tables: now.checkpoints.into_values().collect(),
        })
    }

    async fn open_applier(
        &self,
        _task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Applier>> {
        self.faults.step()?;
        Ok(Box::new(MemoryApplier {
            target: self.clone(),
            epoch,
            plan,
            open: None,
        }))
    }

    async fn open_loader(
        &self,
        _task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Loader>> {
        self.faults.step()?;
        Ok(Box::new(MemoryLoader {
            target: self.clone(),
            epoch,
            plan,
            open: None,
        }))
    }

    async fn forget(&self, _task: &TaskKey) -> Result<()> {
        self.commit(|state| {
            state.applied = None;
            state.live = false;
            for table in state.checkpoints.values_mut() {
                table.phase = TablePhase::Waiting;
            }
            Ok(())
        })
    }

    async fn pending(&self, _task: &TaskKey) -> Result<Vec<TableName>> {
        self.faults.step()?;
        Ok(Vec::new())
    }

    async fn set_aside(&self, _task: &TaskKey, _plan: &Plan) -> Result<bool> {
        Ok(false)
    }

    async fn release(&self, _task: &TaskKey) -> Result<()> {
        self.commit(|state| {
            state.applied = None;
            state.live = false;
            state.checkpoints.clear();
            Ok(())
        })
    }
}

fn name(plan: &Plan, target: usize) -> Result<TableName> {
    let table = plan
        .targets
        .get(target)
        .ok_or_else(|| Error::bug("no such target"))?;
    Ok(table.name.clone())
}

struct MemoryLoader {
    target: MemoryTarget,
    epoch: Epoch,
    plan: Arc<Plan>,
    open: Option<Open>,
}

/// What a loader's open transaction has done.
struct Open {
    target: usize,
    emptied: Option<(ExistingRows, String)>,
    rows: Vec<Row>,
}

impl MemoryLoader {
    fn open(&mut self) -> Result<&mut Open> {
        let open = self.open.as_mut();
        open.ok_or_else(|| Error::bug("no transaction was begun"))
    }
}

#[async_trait]
impl Loader for MemoryLoader {
    async fn begin(&mut self, target: usize, _source: usize) -> Result<()> {
        self.target.faults.step()?;
        if self.open.is_some() {
            return Err(Error::bug("a transaction is open"));
        }
        self.open = Some(Open {
            target,
            emptied: None,
            rows: Vec::new(),
        });
        Ok(())
    }

    async fn empty(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        self.target.faults.step()?;
        self.open()?.emptied = Some((existing, fingerprint.to_owned()));
        Ok(())
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        self.target.faults.step()?;
        for row in rows.iter() {
            let row = whole(row)?;
            self.open()?.rows.push(row);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn commit(&mut self, chunk: Option<&LoadedChunk>) -> Result<()> {
        let open = self.open.take();
        let open = open.ok_or_else(|| Error::bug("commit before begin"))?;
        let name = name(&self.plan, open.target)?;
        if chunk.map_or(0, |chunk| chunk.rows) != open.rows.len() as u64 {
            return Err(Error::bug("the target counted other rows"));
        }
        self.target.commit_as(self.epoch, |state| {
            let there = state.tables.entry(name.clone()).or_default();
            let known = state
                .checkpoints
                .entry(name.clone())
                .or_insert_with(|| waiting(name));
            if let Some((existing, fingerprint)) = open.emptied {
                match existing {
                    ExistingRows::Replace => there.clear(),
                    _ if there.is_empty() => {}
                    _ => return Err(Error::config("the table has rows")),
                }
                known.phase = TablePhase::Loading(Vec::new());
                known.fingerprint = fingerprint;
                known.loaded_rows = Some(0);
            }
            for row in open.rows {
                if there.insert(key(&row), row).is_some() {
                    return Err(Error::data("two rows with one key"));
                }
            }
            let TablePhase::Loading(ledger) = &mut known.phase else {
                return Err(Error::bug("a chunk of a table that was not emptied"));
            };
            ledger.extend(chunk.cloned());
            known.loaded_rows = Some(ledger.iter().map(|chunk| chunk.rows).sum());
            Ok(())
        })
    }
}

fn waiting(target: TableName) -> TableCheckpoint {
    TableCheckpoint {
        target,
        phase: TablePhase::Waiting,
        fingerprint: String::new(),
        loaded_rows: None,
        whole: false,
    }
}

struct MemoryApplier {
    target: MemoryTarget,
    epoch: Epoch,
    plan: Arc<Plan>,
    /// Rows as the open transaction has them.
    open: Option<BTreeMap<TableName, Rows>>,
}

#[async_trait]
impl Applier for MemoryApplier {
    async fn start(&mut self, at: &Position, tables: &[(usize, String, bool)]) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        self.target.commit_as(self.epoch, |state| {
            state.applied = Some(at.clone());
            for (target, fingerprint, live) in tables {
                let target = name(&plan, *target)?;
                let entry = state
                    .checkpoints
                    .entry(target.clone())
                    .or_insert_with(|| waiting(target));
                entry.fingerprint.clone_from(fingerprint);
                if *live {
                    entry.phase = TablePhase::Live;
                }
            }
            Ok(())
        })
    }

    async fn apply(&mut self, batch: &ApplyBatch) -> Result<Applied> {
        self.target.faults.step()?;
        let mut held = self.target.held.subscribe();
        let free = held.wait_for(|held| !held).await;
        free.map_err(|_| Error::bug("the target is gone"))?;
        let mut tables = self.open.take().unwrap_or_else(|| self.target.now().tables);
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        let mut in_order = tables.clone();
        apply_ordered(&self.plan, batch, &mut in_order, &mut counts)?;
        if let Some(folded) = &batch.folded {
            for table in folded {
                apply_folded(&self.plan, &batch.rows, table, &mut tables)?;
            }
            // The engine's fold is checked against the truth at every single batch.
            if tables != in_order {
                return Err(Error::bug("the folded batch differs from the ordered one"));
            }
        }
        tokio::task::yield_now().await;
        let Some(position) = batch.position.clone() else {
            self.open = Some(in_order);
            return Ok(Applied {
                durable: None,
                counts,
            });
        };
        self.target.commit_as(self.epoch, |state| {
            state.tables = in_order;
            state.applied = Some(position.clone());
            Ok(())
        })?;
        Ok(Applied {
            durable: Some(position),
            counts,
        })
    }

    async fn go_live(&mut self) -> Result<()> {
        self.target.commit_as(self.epoch, |state| {
            state.live = true;
            for table in state.checkpoints.values_mut() {
                table.phase = TablePhase::Live;
                table.whole = false;
            }
            Ok(())
        })
    }

    async fn load_again(&mut self, targets: &[usize]) -> Result<()> {
        let names: Vec<_> = targets
            .iter()
            .map(|target| name(&self.plan, *target))
            .collect::<Result<_>>()?;
        self.target.commit_as(self.epoch, |state| {
            for name in names {
                if let Some(table) = state.checkpoints.get_mut(&name) {
                    table.phase = TablePhase::Waiting;
                    table.whole = true;
                }
            }
            Ok(())
        })
    }
}

fn apply_ordered(
    plan: &Plan,
    batch: &ApplyBatch,
    tables: &mut BTreeMap<TableName, Rows>,
    counts: &mut [TableCounts],
) -> Result<()> {
    for op in &batch.ordered {
        let table = tables.entry(name(plan, op.target)?).or_default();
        let counts = counts
            .get_mut(op.target)
            .ok_or_else(|| Error::bug("no such target"))?;
        match op.op {
            RowOp::Insert(row) => {
                let row = whole(batch.rows.row(row))?;
                counts.inserts += 1;
                counts.repaired += u64::from(table.insert(key(&row), row).is_some());
            }
            RowOp::Update { before, after } => {
                counts.updates += 1;
                let old = table.remove(&key(&whole(batch.rows.row(before))?));
                counts.repaired += u64::from(old.is_none());
                let row = whole(batch.rows.row(after))?;
                table.insert(key(&row), row);
            }
            RowOp::Delete(row) => {
                counts.deletes += 1;
                let old = table.remove(&key(&whole(batch.rows.row(row))?));
                counts.missing += u64::from(old.is_none());
            }
            RowOp::Truncate => table.clear(),
        }
    }
    Ok(())
}

fn apply_folded(
    plan: &Plan,
    rows: &RowBatch,
    folded: &FoldedTable,
    tables: &mut BTreeMap<TableName, Rows>,
) -> Result<()> {
    let table = tables.entry(name(plan, folded.target)?).or_default();
    let read = |row: usize| whole(rows.row(row));
    for row in &folded.deletes {
        table.remove(&key(&read(*row)?));
    }
    for (before, _) in &folded.updates {
        table.remove(&key(&read(*before)?));
    }
    let written = folded
        .updates
        .iter()
        .map(|(_, after)| after)
        .chain(&folded.inserts);
    for row in written {
        let row = read(*row)?;
        table.insert(key(&row), row);
    }
    Ok(())
}

fn key(row: &Row) -> i64 {
    *row.first().expect("a row has a key")
}

fn whole(row: RowRef<'_>) -> Result<Row> {
    row.cells()
        .map(|cell| match cell {
            CellRef::I64(value) => Ok(value),
            other => Err(Error::bug(format!("a cell of kind {}", other.kind_name()))),
        })
        .collect()
}
