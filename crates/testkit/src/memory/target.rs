//! A target in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use thalweg_core::checkpoint::{Checkpoint, Epoch, Outline, TableCheckpoint, TablePhase, TaskKey};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::ColumnPair;
use thalweg_core::plan::{Plan, same_mapping};
use thalweg_core::ports::{
    Alteration, Applier, Capabilities, Comparer, Following, Inspect, Loader, Pending, Target,
};
use thalweg_core::position::{Layout, Position};
use thalweg_core::quarantine::Held;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Kind, Result};
use tokio::sync::watch;

use super::altering::{self, Slip, Tables};
use super::applier::MemoryApplier;
use super::compare::MemoryComparer;
use super::loader::MemoryLoader;
use super::quarantine::Limit;
use super::rows::Store;
use super::{Faults, Rows};

/// A state the target committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committed {
    pub(super) store: Store,
    /// Whether every table was Live.
    pub live: bool,
    /// How often loads were given up because of a change that could not be placed.
    pub loads_again: u64,
    pub(super) epoch: i64,
    pub(super) applied: Option<Position>,
    pub(super) checkpoints: BTreeMap<TableName, TableCheckpoint>,
    pub(super) layouts: BTreeMap<TableName, Layout>,
    /// What lies in quarantine, by number.
    pub(super) held: BTreeMap<i64, Held>,
    /// The definitions of tables, if they are kept.
    pub(super) tables: Arc<Tables>,
}

impl Committed {
    /// Whether every transaction is applied whole to a table.
    pub fn is_live(&self, table: &TableName) -> bool {
        let known = self.checkpoints.get(table);
        known.is_some_and(|known| known.phase == TablePhase::Live)
    }

    /// The columns that the rows of a table have, in their order; `None`: that is not kept.
    pub fn columns(&self, table: &TableName) -> Option<&[String]> {
        self.tables.columns.get(table).map(Vec::as_slice)
    }

    /// The definition of a table; `None`: there is none, or it is not kept.
    pub fn definition(&self, table: &TableName) -> Option<&TableSchema> {
        self.tables.schemas.get(table)
    }

    /// What lies in quarantine, by number.
    pub fn held(&self) -> &BTreeMap<i64, Held> {
        &self.held
    }

    /// The position that is durable.
    pub fn applied(&self) -> Option<&Position> {
        self.applied.as_ref()
    }

    /// The phases of the tables in the checkpoint.
    pub fn phases(&self) -> impl Iterator<Item = &TablePhase> {
        self.checkpoints.values().map(|table| &table.phase)
    }

    /// Rows per table.
    pub fn tables(&self) -> &BTreeMap<TableName, Rows> {
        &self.store.tables
    }
}

/// A target in memory. Clones share one state.
#[derive(Clone, Debug)]
pub struct MemoryTarget {
    pub(super) history: Arc<Mutex<Vec<Committed>>>,
    pub(super) held: Arc<watch::Sender<bool>>,
    pub(super) faults: Arc<Faults>,
    pub(super) unique: Arc<Mutex<Vec<Unique>>>,
    pub(super) limits: Arc<Mutex<Vec<Limit>>>,
    pub(super) begun: Arc<AtomicU64>,
    pub(super) apart: Arc<AtomicU64>,
    pub(super) appliers: Arc<()>,
    pub(super) damaged: Arc<AtomicBool>,
    /// Says of every table that rows of several moments can lie in it, whether or not that is so.
    pub says_loose: bool,
    /// Each statement that alters a table commits by itself.
    pub statements_commit: bool,
    /// What it does wrong when it follows a source.
    pub slip: Slip,
    /// Whether definitions of tables are kept.
    keeps: bool,
}

/// A column of which no two rows of a table have one value.
#[derive(Clone, Debug)]
pub(super) struct Unique {
    pub(super) table: TableName,
    pub(super) column: usize,
    /// Whether it is made only when the task goes Live.
    pub(super) late: bool,
}

impl MemoryTarget {
    /// A target with these empty tables.
    pub fn new(tables: &[TableName], faults: Arc<Faults>) -> Self {
        let tables = tables
            .iter()
            .map(|name| (name.clone(), Rows::new()))
            .collect();
        let mut first = Committed::default();
        first.store.tables = tables;
        MemoryTarget {
            history: Arc::new(Mutex::new(vec![first])),
            held: Arc::new(watch::Sender::new(false)),
            faults,
            unique: Arc::default(),
            limits: Arc::default(),
            begun: Arc::default(),
            apart: Arc::default(),
            appliers: Arc::default(),
            damaged: Arc::default(),
            says_loose: false,
            statements_commit: false,
            slip: Slip::None,
            keeps: false,
        }
    }

    /// A target that keeps the definitions of its tables, so that they can be altered and made.
    pub fn defined(tables: Vec<TableSchema>, faults: Arc<Faults>) -> Self {
        let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
        let mut target = MemoryTarget::new(&names, faults);
        target.keeps = true;
        for state in target.states().iter_mut() {
            state.store = Store::default();
            for table in &tables {
                altering::make(state, table.clone());
            }
        }
        target
    }

    /// Somebody makes a table as this one, behind the task's back: rows keep the cells of the columns that
    /// stay.
    pub fn define(&self, table: &TableSchema) {
        let mut states = self.states();
        let mut next = states.last().expect("there is a first state").clone();
        altering::define(&mut next, table);
        states.push(next);
    }

    /// From now on no two rows of a table may have one value in the column of this index; with
    /// `late`, as of a table that the task creates, only when it is Live.
    pub fn unique(&self, table: &TableName, column: usize, late: bool) {
        self.uniques().push(Unique {
            table: table.clone(),
            column,
            late,
        });
    }

    /// From now on a table takes no row with a value of at least `below` in the column of this index;
    /// `None`: it takes all again.
    pub fn limit(&self, table: &TableName, column: usize, below: Option<i64>) {
        let mut limits = self.limits();
        limits.retain(|limit| limit.table != *table || limit.column != column);
        limits.extend(below.map(|below| Limit {
            table: table.clone(),
            column,
            below,
        }));
    }

    pub(super) fn limits(&self) -> MutexGuard<'_, Vec<Limit>> {
        self.limits
            .lock()
            .expect("no test panics while it holds the limits")
    }

    fn uniques(&self) -> MutexGuard<'_, Vec<Unique>> {
        self.unique
            .lock()
            .expect("no test panics while it holds the keys")
    }

    /// An error if two rows of a state stand in each other's way.
    fn check_unique(&self, state: &Committed) -> Result<()> {
        for unique in self.uniques().iter() {
            let rows = state.tables().get(&unique.table);
            let values = rows.into_iter().flat_map(|rows| rows.values());
            let mut values: Vec<_> = values.map(|row| row.get(unique.column)).collect();
            let count = values.len();
            values.sort_unstable();
            values.dedup();
            if values.len() < count && (state.live || !unique.late) {
                return Err(Error::data("two rows with one value"));
            }
        }
        Ok(())
    }

    /// While `held`, appliers wait with the next batch, as for a lock at the target.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Marks a table as not loaded, as one is that left the plan.
    pub fn forget_table(&self, table: &TableName) {
        let mut states = self.states();
        let mut next = states.last().expect("there is a first state").clone();
        next.live = false;
        if let Some(known) = next.checkpoints.get_mut(table) {
            known.phase = TablePhase::Waiting;
        }
        states.push(next);
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

    /// The present rows.
    pub(super) fn store(&self) -> Store {
        self.look(|now| now.store.clone())
    }

    /// Looks at the present state.
    pub fn look<R>(&self, at: impl FnOnce(&Committed) -> R) -> R {
        at(self.states().last().expect("there is a first state"))
    }

    /// Looks at every state ever committed, oldest first.
    pub fn look_back<R>(&self, at: impl FnOnce(&[Committed]) -> R) -> R {
        at(&self.states())
    }

    /// Every state ever committed, oldest first.
    pub fn history(&self) -> Vec<Committed> {
        self.states().clone()
    }

    /// Batches that were begun ahead of their turn.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Appliers that are open.
    pub fn appliers(&self) -> usize {
        Arc::weak_count(&self.appliers)
    }

    /// How often rows of a table stood apart in those.
    pub fn apart(&self) -> u64 {
        self.apart.load(Ordering::Relaxed)
    }

    /// A step at which a fault may be.
    pub(super) fn step(&self) -> Result<()> {
        self.faults.step()
    }

    /// From now on rows may stand there that the log gives no cause for, as after rows have gone at the source
    /// without a change of their own: the net effect of a batch need not be what its operations do in order.
    pub fn distrust(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Does something to the rows of a table behind the task's back.
    pub fn damage(&self, table: &TableName, change: impl FnOnce(&mut Rows)) {
        self.distrust();
        let mut states = self.states();
        let mut next = states.last().expect("there is a first state").clone();
        change(next.store.tables.entry(table.clone()).or_default());
        states.push(next);
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
            self.check_unique(&next)?;
            altering::check(&next)?;
            states.push(next);
        }
        self.faults.step()
    }

    /// The same, but only for the present owner.
    pub(super) fn commit_as(
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
        Ok(self.look(|now| now.tables().keys().cloned().collect()))
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        if !self.keeps {
            return Err(no_definitions());
        }
        self.faults.step()?;
        Ok(self.look(|now| {
            let found = tables.iter().filter_map(|name| now.definition(name));
            found.cloned().collect()
        }))
    }
}

#[async_trait]
impl Target for MemoryTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic: true,
            apart: true,
            refuses_equal_keys: true,
        }
    }

    fn propose(
        &self,
        source: &TableSchema,
        name: &TableName,
        columns: &[ColumnPair],
    ) -> std::result::Result<TableSchema, Vec<Finding>> {
        let mut proposed = source.clone();
        if self.keeps {
            proposed = proposed.with_columns(|name| columns.iter().any(|c| c.source == name));
            proposed.layout = None;
        }
        proposed.name = name.clone();
        Ok(proposed)
    }

    async fn ddl(&self, _plan: &Plan) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn check(&self, _task: &TaskKey, _plan: &Plan) -> Result<Vec<Finding>> {
        self.faults.step()?;
        Ok(Vec::new())
    }

    async fn prepare(&self, _task: &TaskKey, plan: &Plan) -> Result<()> {
        if !self.keeps {
            return self.faults.step();
        }
        if self.look(|now| altering::is_prepared(now, plan)) {
            return self.faults.step();
        }
        self.commit(|state| altering::prepare(state, plan))
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
            layouts: now.layouts.into_iter().collect(),
        })
    }

    async fn loose(&self, plan: &Plan) -> Result<Vec<bool>> {
        self.faults.step()?;
        let uniques = self.uniques();
        let early = |table: &TableName| uniques.iter().any(|u| u.table == *table && !u.late);
        let loose = |name| self.says_loose || !early(name);
        Ok(plan.targets.iter().map(|t| loose(&t.name)).collect())
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
            base: None,
            begun: None,
            held: None,
            _counted: Arc::downgrade(&self.appliers),
        }))
    }

    async fn open_loader(
        &self,
        _task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Loader>> {
        self.faults.step()?;
        Ok(Box::new(MemoryLoader::new(self.clone(), epoch, plan)))
    }

    async fn open_comparer(&self, plan: Arc<Plan>) -> Result<Box<dyn Comparer>> {
        self.faults.step()?;
        Ok(Box::new(MemoryComparer::new(self.clone(), plan)))
    }

    async fn held(&self, _task: &TaskKey, changes: bool) -> Result<Vec<Held>> {
        self.faults.step()?;
        let mut held: Vec<_> = self.look(|now| now.held.values().cloned().collect());
        if !changes {
            held.iter_mut().for_each(|held| held.change.clear());
        }
        Ok(held)
    }

    async fn outline(&self, _task: &TaskKey) -> Result<Option<Outline>> {
        self.faults.step()?;
        let now = self.now();
        Ok((now.epoch > 0).then(|| Outline {
            applied: now.applied,
            tables: now
                .checkpoints
                .values()
                .filter_map(TableCheckpoint::outlined)
                .collect(),
            layouts: now.layouts.into_iter().collect(),
        }))
    }

    fn alter(
        &self,
        table: &TableName,
        steps: &[Alteration],
    ) -> std::result::Result<Vec<String>, String> {
        match self.keeps {
            true => altering::statements(table, steps),
            false => Err(no_definitions().to_string()),
        }
    }

    async fn follow(&self, _task: &TaskKey, following: &Following) -> Result<()> {
        if !self.keeps {
            return Err(no_definitions());
        }
        let steps = altering::steps(following, self.slip);
        if !self.statements_commit {
            return self.commit(|state| steps.iter().try_for_each(|step| step.take(state)));
        }
        steps
            .iter()
            .try_for_each(|step| self.commit(|state| step.take(state)))
    }

    async fn forget(&self, _task: &TaskKey) -> Result<()> {
        self.commit(|state| {
            state.held.clear();
            state.applied = None;
            state.layouts.clear();
            state.live = false;
            for table in state.checkpoints.values_mut() {
                table.phase = TablePhase::Waiting;
            }
            Ok(())
        })
    }

    async fn pending(&self, _task: &TaskKey) -> Result<Vec<Pending>> {
        self.faults.step()?;
        Ok(self.look(|now| {
            let loaded = |table: &TableName| {
                now.checkpoints
                    .get(table)
                    .is_some_and(|known| known.loaded_rows.is_some())
            };
            let pending = |table: &TableName| Pending {
                table: table.clone(),
                loaded: loaded(table),
            };
            now.tables.pending.iter().map(pending).collect()
        }))
    }

    async fn set_aside(&self, _task: &TaskKey, plan: &Plan) -> Result<bool> {
        let stale: BTreeSet<TableName> = {
            let now = self.now();
            let stays = |known: &TableCheckpoint| {
                let target = plan.target_index(&known.target);
                target.is_some_and(|at| same_mapping(&known.fingerprint, &plan.fingerprint(at)))
            };
            let loaded = now.checkpoints.into_values();
            let loaded = loaded.filter(|known| known.phase != TablePhase::Waiting);
            loaded
                .filter(|known| !stays(known))
                .map(|known| known.target)
                .collect()
        };
        if stale.is_empty() {
            self.faults.step()?;
            return Ok(false);
        }
        self.commit(|state| {
            altering::wait_for_load(state, stale.iter());
            Ok(())
        })?;
        Ok(true)
    }

    async fn release(&self, _task: &TaskKey) -> Result<()> {
        self.commit(|state| {
            state.applied = None;
            state.layouts.clear();
            state.live = false;
            state.held.clear();
            state.checkpoints.clear();
            Ok(())
        })
    }
}

fn no_definitions() -> Error {
    Error::config("this memory target keeps no definitions of tables")
}

pub(super) fn name_of(plan: &Plan, target: usize) -> Result<TableName> {
    let table = plan
        .targets
        .get(target)
        .ok_or_else(|| Error::bug("no such target"))?;
    Ok(table.name.clone())
}

pub(super) fn waiting(target: TableName) -> TableCheckpoint {
    TableCheckpoint {
        target,
        phase: TablePhase::Waiting,
        fingerprint: String::new(),
        loaded_rows: None,
        whole: false,
    }
}
