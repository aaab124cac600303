//! A target in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use thalweg_core::batch::{ApplyBatch, FoldedTable, RowOp, TableCounts};
use thalweg_core::checkpoint::{Checkpoint, Epoch, TableCheckpoint, TablePhase, TaskKey};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::ColumnPair;
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applied, Applier, Capabilities, Inspect, Loader, Target};
use thalweg_core::position::{Position, Visibility};
use thalweg_core::schema::{ReferenceAction, TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result};
use tokio::sync::watch;

use super::{Faults, NULL, Row, Rows};

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
    open: Option<(usize, bool, Rows)>,
}

#[async_trait]
impl Loader for MemoryLoader {
    async fn begin(&mut self, target: usize, replace: bool) -> Result<()> {
        self.target.faults.step()?;
        self.open = Some((target, replace, Rows::new()));
        Ok(())
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        self.target.faults.step()?;
        let (.., open) = self
            .open
            .as_mut()
            .ok_or_else(|| Error::bug("load before begin"))?;
        for row in rows.iter() {
            let row = whole(row)?;
            open.insert(key(&row), row);
        }
        Ok(())
    }

    async fn commit(&mut self, seen: &Visibility, fingerprint: &str) -> Result<u64> {
        let open = self
            .open
            .take()
            .ok_or_else(|| Error::bug("commit before begin"))?;
        let (target, replace, rows) = open;
        let name = name(&self.plan, target)?;
        let count = rows.len() as u64;
        self.target.commit_as(self.epoch, |state| {
            let there = state.tables.entry(name.clone()).or_default();
            if !replace && !there.is_empty() {
                return Err(Error::config("the table has rows"));
            }
            *there = rows;
            let checkpoint = TableCheckpoint {
                target: name.clone(),
                phase: TablePhase::Loaded(seen.clone()),
                fingerprint: fingerprint.to_owned(),
                loaded_rows: Some(count),
            };
            state.checkpoints.insert(name, checkpoint);
            Ok(())
        })?;
        Ok(count)
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
                    .or_insert(TableCheckpoint {
                        target,
                        phase: TablePhase::Waiting,
                        fingerprint: String::new(),
                        loaded_rows: None,
                    });
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
            apply_folded(&self.plan, &batch.rows, folded, &mut tables)?;
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
        let gone = match op.op {
            RowOp::Insert(row) => {
                let row = whole(batch.rows.row(row))?;
                counts.inserts += 1;
                counts.repaired += u64::from(table.insert(key(&row), row).is_some());
                None
            }
            RowOp::Update { before, after } => {
                counts.updates += 1;
                let old = table.remove(&key_cell(batch.rows.row(before))?);
                counts.repaired += u64::from(old.is_none());
                let row = whole(batch.rows.row(after))?;
                table.insert(key(&row), row.clone());
                old.map(|old| (old, Some(row)))
            }
            RowOp::Delete(row) => {
                counts.deletes += 1;
                let old = table.remove(&key_cell(batch.rows.row(row))?);
                counts.missing += u64::from(old.is_none());
                old.map(|old| (old, None))
            }
            RowOp::Truncate => {
                table.clear();
                None
            }
        };
        if !op.unchecked {
            follow(plan, tables, op.target, gone.into_iter().collect())?;
        }
    }
    Ok(())
}

fn apply_folded(
    plan: &Plan,
    rows: &RowBatch,
    folded: &[FoldedTable],
    tables: &mut BTreeMap<TableName, Rows>,
) -> Result<()> {
    let read = |row: usize| whole(rows.row(row));
    for part in folded.iter().rev() {
        let table = tables.entry(name(plan, part.target)?).or_default();
        let mut gone = Vec::new();
        for row in &part.deletes {
            gone.extend(
                table
                    .remove(&key_cell(rows.row(*row))?)
                    .map(|old| (old, None)),
            );
        }
        follow(plan, tables, part.target, gone)?;
    }
    for part in folded {
        let table = tables.entry(name(plan, part.target)?).or_default();
        let mut changed = Vec::new();
        for (before, after) in &part.updates {
            let old = table.remove(&key_cell(rows.row(*before))?);
            changed.push((old, read(*after)?));
        }
        for (_, row) in &changed {
            table.insert(key(row), row.clone());
        }
        let changed = changed.into_iter();
        let changed = changed.filter_map(|(old, new)| Some((old?, Some(new))));
        follow(plan, tables, part.target, changed.collect())?;
        let table = tables.entry(name(plan, part.target)?).or_default();
        for row in &part.inserts {
            let row = read(*row)?;
            table.insert(key(&row), row);
        }
    }
    Ok(())
}

/// Does to the children what the foreign keys of the plan do when these rows of `parent` changed at
/// once, from the first to the second; `None`: gone.
fn follow(
    plan: &Plan,
    tables: &mut BTreeMap<TableName, Rows>,
    parent: usize,
    changed: Vec<(Row, Option<Row>)>,
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    for cascade in plan.cascades_from(parent) {
        let value = |row: &Row, columns: &[usize]| -> Vec<i64> {
            columns
                .iter()
                .filter_map(|c| row.get(*c).copied())
                .collect()
        };
        let moves: BTreeMap<Vec<i64>, Option<Vec<i64>>> = changed
            .iter()
            .map(|(old, new)| {
                let new = new.as_ref().map(|new| value(new, &cascade.parent_columns));
                (value(old, &cascade.parent_columns), new)
            })
            .filter(|(old, new)| new.as_ref() != Some(old) && !old.contains(&NULL))
            .collect();
        let children = tables.entry(name(plan, cascade.child)?).or_default();
        let mut below = Vec::new();
        for row in children.values() {
            let Some(new) = moves.get(&value(row, &cascade.columns)) else {
                continue;
            };
            let action = match new {
                None => cascade.on_delete,
                Some(_) => cascade.on_update,
            };
            let with = |values: &[i64]| {
                let mut row = row.clone();
                for (column, value) in cascade.columns.iter().zip(values) {
                    row[*column] = *value;
                }
                row
            };
            let after = match (action, new) {
                (ReferenceAction::Refuse, _) => continue,
                (ReferenceAction::Cascade, None) => None,
                (ReferenceAction::Cascade, Some(new)) => Some(with(new)),
                (ReferenceAction::SetNull | ReferenceAction::SetDefault, _) => {
                    Some(with(&vec![NULL; cascade.columns.len()]))
                }
            };
            below.push((row.clone(), after));
        }
        for (old, _) in &below {
            children.remove(&key(old));
        }
        for row in below.iter().filter_map(|(_, new)| new.as_ref()) {
            children.insert(key(row), row.clone());
        }
        follow(plan, tables, cascade.child, below)?;
    }
    Ok(())
}

fn key(row: &Row) -> i64 {
    *row.first().expect("a row has a key")
}

/// The key of a row image that may lack other cells.
fn key_cell(row: RowRef<'_>) -> Result<i64> {
    match row.cell(0) {
        Some(CellRef::I64(key)) => Ok(key),
        _ => Err(Error::bug("a row image without its key")),
    }
}

fn whole(row: RowRef<'_>) -> Result<Row> {
    row.cells()
        .map(|cell| match cell {
            CellRef::I64(value) => Ok(value),
            CellRef::Null => Ok(NULL),
            other => Err(Error::bug(format!("a cell of kind {}", other.kind_name()))),
        })
        .collect()
}
