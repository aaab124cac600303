//! What the simulation plays in: three tables, a task that carries them over, its book, and the person who
//! looks after it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{CreateTables, Operations, TaskOptions};
use thalweg_core::ports::{Source, Target};
use thalweg_core::schema::{ColumnSchema, TableName, TableSchema};
use thalweg_core::{Error as CoreError, Kind};
use thalweg_engine::limits::MemoryBudget;
use thalweg_engine::quarantine::Ward;
use thalweg_engine::status::TaskStatus;
use thalweg_engine::verify::{Finding, Orders, Progress, Report, Request};
use thalweg_testkit::memory::{Faults, Lie, MemorySource, MemoryTarget, Slip, table};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::book::Book;
use super::super::record::End;
use super::super::run::{Ends, Run};
use crate::catalog::{MappingChange, StoredTask};
use crate::error::{Error, Result};
use crate::model::{ColumnInfo, ColumnLink, MappingStatus, Paused, TableMapping, Task, TaskKind};
use crate::preflight::preflight;
use crate::tables::{Schemas, Tables};

/// Names of the tables, at both ends.
pub(super) const TABLES: [&str; 3] = ["a", "b", "c"];
/// The one that is mapped by naming columns: these.
pub(super) const NAMED: usize = 2;
const COLUMNS: [&str; 2] = ["id", "amount"];

/// What is done wrong, so that it is to be seen whether that is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrong {
    pub(super) lie: Lie,
    pub(super) slip: Slip,
    pub(super) forgets: Forgets,
}

/// What the book forgets when the process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Forgets {
    #[default]
    Nothing,
    /// That tables are in doubt.
    Doubt,
}

/// What is stored of the task.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) mappings: Vec<TableMapping>,
    begun: bool,
    pub(super) forget: bool,
    /// The tables that the process that runs may be writing to.
    used: Vec<usize>,
    /// How often tables were paused, and were in doubt.
    pub(super) pauses: u64,
    pub(super) doubts: u64,
    /// How often tables returned by themselves, and the task began anew by itself.
    pub(super) returns: u64,
    pub(super) anew: u64,
    /// How often the task was planned again because of a change.
    pub(super) replans: u64,
}

pub(super) struct World {
    pub(super) faults: Arc<Faults>,
    pub(super) source: MemorySource,
    pub(super) target: MemoryTarget,
    pub(super) stored: Arc<Mutex<Stored>>,
    pub(super) options: TaskOptions,
    pub(super) wrong: Wrong,
    pub(super) told: bool,
    /// The process that runs.
    replan: Mutex<Option<Arc<Notify>>>,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Asked,
    Killed,
}

fn schemas() -> Schemas {
    ("bank".to_owned(), "copy".to_owned())
}

fn key() -> TaskKey {
    TaskKey {
        server: "simulation".to_owned(),
        task: "bank".to_owned(),
    }
}

/// The target table of a table.
pub(super) fn copy(at: usize) -> TableName {
    TableName::new("copy", TABLES[at])
}

fn info(name: &str) -> ColumnInfo {
    ColumnInfo {
        field_name: Some(name.to_owned()),
        ..ColumnInfo::default()
    }
}

/// The mapping of a table, under an id of its own.
fn mapping(at: usize, id: String) -> TableMapping {
    let link = |name: &&str| ColumnLink {
        source: info(name),
        target: info(name),
    };
    TableMapping {
        id,
        source_table: TABLES[at].to_owned(),
        target_table: TABLES[at].to_owned(),
        source_columns: Vec::new(),
        target_columns: Vec::new(),
        columns: match at {
            NAMED => COLUMNS.iter().map(link).collect(),
            _ => Vec::new(),
        },
        status: MappingStatus::Manual,
        percent: 100,
        updated_ms: 0,
        paused: None,
        reload: false,
        doubt: false,
    }
}

/// The index of the table of a mapping.
pub(super) fn of(mapping: &TableMapping) -> usize {
    let found = TABLES.iter().position(|name| *name == mapping.source_table);
    found.expect("a table of the simulation")
}

impl World {
    pub(super) fn new(options: TaskOptions, wrong: Wrong) -> Self {
        let faults = Arc::new(Faults::default());
        let tables: Vec<_> = TABLES
            .iter()
            .map(|name| table("bank", name, &["id", "amount", "tag"]))
            .collect();
        let mut source = MemorySource::altered(tables, Arc::clone(&faults));
        source.part_changes = 3;
        source.lie = wrong.lie;
        let there = match options.create_tables {
            CreateTables::Missing => Vec::new(),
            CreateTables::None => (0..TABLES.len()).map(|at| fitting(&source, at)).collect(),
        };
        let mut target = MemoryTarget::defined(there, Arc::clone(&faults));
        target.slip = wrong.slip;
        let mappings = (0..TABLES.len()).map(|at| mapping(at, TABLES[at].to_owned()));
        let stored = Stored {
            mappings: mappings.collect(),
            ..Stored::default()
        };
        World {
            faults,
            source,
            target,
            stored: Arc::new(Mutex::new(stored)),
            options,
            wrong,
            told: false,
            replan: Mutex::default(),
        }
    }

    fn book(&self) -> MemoryBook {
        MemoryBook {
            faults: Arc::clone(&self.faults),
            source: Arc::new(self.source.clone()),
            target: Arc::new(self.target.clone()),
            stored: Arc::clone(&self.stored),
            forgets: self.wrong.forgets,
            told: self.told,
        }
    }

    fn task(&self) -> StoredTask {
        let stored = self.stored.lock().unwrap();
        StoredTask {
            instance: String::new(),
            created: true,
            source_app: None,
            target_app: None,
            begun: stored.begun,
            forget: stored.forget,
            shown: Task {
                id: "bank".to_owned(),
                name: "bank".to_owned(),
                description: None,
                tag: None,
                operations: Operations::ALL,
                source: None,
                target: None,
                server_id: None,
                options: self.options.clone(),
                kind: TaskKind::Composite,
                detail: None,
                running: true,
                scheduled: false,
                dispatch: None,
                execution: None,
                created_ms: 0,
                updated_ms: 0,
            },
        }
    }

    /// Runs the task in a process of its own until `body` has ended, or the task; `None`: it was killed.
    pub(super) async fn process(&self, body: impl Future<Output = Way>) -> Option<End> {
        let (stop, replan) = (CancellationToken::new(), Arc::new(Notify::new()));
        *self.replan.lock().unwrap() = Some(Arc::clone(&replan));
        let (status, _) = watch::channel(TaskStatus::default());
        let run = Run {
            budget: MemoryBudget::default(),
            ending: CancellationToken::new(),
            task: self.task(),
            stop: stop.clone(),
            replan,
            status: status.clone(),
            tables: watch::channel(Vec::new()).0,
            orders: Orders::default(),
            quarantine: Ward::default(),
        };
        let mut book = self.book();
        let end = {
            let mut work = Box::pin(run.work(&mut book));
            tokio::select! {
                biased;
                end = &mut work => Some(end),
                way = body => match way {
                    Way::Killed => None,
                    Way::Asked => {
                        stop.cancel();
                        Some(work.await)
                    }
                }
            }
        };
        drop(run);
        *self.replan.lock().unwrap() = None;
        // What it has spawned ends.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if end.is_some() && status.borrow().applied.is_some() {
            self.stored.lock().unwrap().begun = true;
        }
        end
    }

    /// Decides about the task's tables as the calls of the API do. Before a table comes to a task it is
    /// looked whether that could go on with it.
    pub(super) async fn decide(&self, decide: impl Fn(&Tables) -> Result<Vec<MappingChange>>) {
        let mut after = self.stored.lock().unwrap().mappings.clone();
        let tables = Tables::of(after.clone(), &schemas()).unwrap();
        let Ok(changes) = decide(&tables) else { return };
        let comes = |change: &MappingChange| {
            matches!(change, MappingChange::Add(_) | MappingChange::Resume(_))
        };
        changes.iter().for_each(|change| change.apply(&mut after));
        let running = self.replan.lock().unwrap().is_some();
        if running && changes.iter().any(comes) && !self.could_go_on(after).await {
            return;
        }
        let mut stored = self.stored.lock().unwrap();
        let tables = Tables::of(stored.mappings.clone(), &schemas()).unwrap();
        let Ok(changes) = decide(&tables) else { return };
        self.tell(|| format!("decided: {changes:?}"));
        for change in &changes {
            change.apply(&mut stored.mappings);
        }
        drop(stored);
        if let Some(replan) = &*self.replan.lock().unwrap() {
            replan.notify_one();
        }
    }

    async fn could_go_on(&self, mappings: Vec<TableMapping>) -> bool {
        let tables = Tables::of(mappings, &schemas()).unwrap();
        let ends: (Arc<dyn Source>, Arc<dyn Target>) =
            (Arc::new(self.source.clone()), Arc::new(self.target.clone()));
        let ends = Ends::of(key(), ends, &tables);
        let (source, target) = (ends.source.as_ref(), ends.target.as_ref());
        let (all, options) = (Operations::ALL, &self.options);
        let asked = preflight(source, target, &ends.key, &ends.mappings, all, options).await;
        asked.is_ok_and(|found| found.refused_at.is_none())
    }

    pub(super) fn mappings(&self) -> Vec<TableMapping> {
        self.stored.lock().unwrap().mappings.clone()
    }

    /// Adds a table that was removed.
    pub(super) async fn add(&self, at: usize, id: String) {
        let new = mapping(at, id);
        let new = crate::tables::Named::of(new, &schemas()).unwrap();
        self.decide(|tables| tables.add(&new)).await;
    }

    /// A person makes the target table fit the source table as it is now. The columns that this has changed.
    pub(super) fn fit(&self, at: usize) -> Vec<String> {
        let wanted = fitting(&self.source, at);
        let now = self.target.now();
        let there = now.definition(&copy(at));
        let there = there.map_or(&[][..], |there| there.columns.as_slice());
        let other = |column: &&ColumnSchema| !there.contains(column);
        let other = wanted.columns.iter().filter(other);
        let other: Vec<String> = other.map(|column| column.name.clone()).collect();
        if !other.is_empty() || there.len() != wanted.columns.len() {
            self.tell(|| format!("{} is made to fit: {other:?}", TABLES[at]));
            self.target.define(&wanted);
        }
        other
    }

    /// Whether the process that runs may be writing to a table: nobody alters it under its hands.
    pub(super) fn uses(&self, at: usize) -> bool {
        self.stored.lock().unwrap().used.contains(&at)
    }

    /// Says what happens, if one life alone is looked at.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{}", what());
        }
    }

    /// Whether all is carried over, as far as the task and its target say.
    pub(super) fn settled(&self) -> bool {
        let stored = self.stored.lock().unwrap();
        let quiet = |one: &TableMapping| one.paused.is_none() && !one.reload && !one.doubt;
        let end = self.source.position();
        stored.mappings.len() == TABLES.len()
            && stored.mappings.iter().all(quiet)
            && self.target.look(|now| {
                let live = |at: usize| now.is_live(&copy(at));
                (0..TABLES.len()).all(live) && now.applied() == Some(&end)
            })
    }

    /// Whether a task that runs has nothing to do.
    pub(super) fn idle(&self) -> bool {
        let end = self.source.position();
        self.target
            .look(|now| now.live && now.applied() == Some(&end))
    }
}

/// The target table that takes all that is mapped of a table as it is now.
fn fitting(source: &MemorySource, at: usize) -> TableSchema {
    let mut table = source.table(at);
    if at == NAMED {
        table = table.with_columns(|name| COLUMNS.contains(&name));
    }
    table.name = copy(at);
    table.layout = None;
    table
}

/// A book in memory, with a step at which a fault may be before and after each entry.
struct MemoryBook {
    faults: Arc<Faults>,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    stored: Arc<Mutex<Stored>>,
    forgets: Forgets,
    told: bool,
}

impl MemoryBook {
    /// No connection of it breaks.
    fn step(&self) -> Result<()> {
        let dead = |error: &CoreError| error.kind() != Kind::Transient;
        match self.faults.step() {
            Err(error) if dead(&error) => Err(Error::Internal(error.to_string())),
            _ => Ok(()),
        }
    }

    fn write(&self, write: impl FnOnce(&mut Stored)) -> Result<()> {
        self.step()?;
        write(&mut self.stored.lock().unwrap());
        self.step()
    }

    fn mark(&self, ids: &[String], mark: impl Fn(&mut TableMapping)) -> Result<()> {
        self.write(|stored| {
            let all = stored.mappings.iter_mut();
            all.filter(|one| ids.contains(&one.id)).for_each(mark);
        })
    }
}

impl Book for MemoryBook {
    async fn ends(&mut self) -> Result<Ends> {
        self.step()?;
        let mappings = self.stored.lock().unwrap().mappings.clone();
        let tables = Tables::of(mappings, &schemas())?;
        let used = tables.active().map(|one| of(&one.mapping)).collect();
        self.stored.lock().unwrap().used = used;
        let ends = (Arc::clone(&self.source), Arc::clone(&self.target));
        Ok(Ends::of(key(), ends, &tables))
    }

    async fn forgets(&mut self) -> Result<()> {
        self.write(|stored| (stored.forget, stored.anew) = (true, stored.anew + 1))
    }

    async fn forgotten(&mut self) -> Result<()> {
        self.write(|stored| (stored.forget, stored.begun) = (false, false))
    }

    async fn reloaded(&mut self, ids: &[String]) -> Result<()> {
        self.mark(ids, |one| one.reload = false)
    }

    async fn pause(&mut self, paused: &[(String, Paused)]) -> Result<()> {
        self.write(|stored| {
            stored.pauses += paused.len() as u64;
            for (id, why) in paused {
                let decided = |one: &&TableMapping| one.paused.as_ref().is_some_and(|p| !p.returns);
                if stored
                    .mappings
                    .iter()
                    .filter(|one| one.id == *id)
                    .any(|one| decided(&one))
                {
                    continue;
                }
                MappingChange::Pause(id.clone(), why.clone()).apply(&mut stored.mappings);
                let left = stored.mappings.iter().find(|one| one.id == *id).map(of);
                stored.used.retain(|at| Some(*at) != left);
            }
        })
    }

    async fn resume(&mut self, ids: &[String]) -> Result<()> {
        self.mark(ids, |one| {
            if one.paused.as_ref().is_some_and(|paused| paused.returns) {
                (one.paused, one.reload) = (None, true);
            }
        })?;
        self.stored.lock().unwrap().returns += ids.len() as u64;
        Ok(())
    }

    async fn doubt(&mut self, ids: &[String], doubt: bool) -> Result<()> {
        if doubt {
            self.stored.lock().unwrap().doubts += ids.len() as u64;
        }
        match doubt && self.forgets == Forgets::Doubt {
            true => Ok(()),
            false => self.mark(ids, |one| one.doubt = doubt),
        }
    }

    async fn used(&mut self) -> Result<()> {
        self.step()
    }

    async fn remark(&mut self, text: &str) {
        if self.told && !text.is_empty() {
            println!("{text}");
        }
        let again = u64::from(text.starts_with("planned again"));
        self.stored.lock().unwrap().replans += again;
    }

    fn carry(&mut self, _last: &TaskStatus) {}

    async fn meanwhile(
        &mut self,
        mut status: watch::Receiver<TaskStatus>,
        orders: &Orders,
        doubt: &[(String, TableName)],
        _settled: &tokio_util::sync::CancellationToken,
    ) {
        let begun = async {
            if status.wait_for(|now| now.applied.is_some()).await.is_ok() {
                self.stored.lock().unwrap().begun = true;
            }
            std::future::pending::<()>().await;
        };
        let repaired = async {
            if !doubt.is_empty() {
                repair(orders, doubt).await;
                let ids: Vec<_> = doubt.iter().map(|(id, _)| id.clone()).collect();
                self.mark(&ids, |one| one.doubt = false).ok();
            }
            std::future::pending::<()>().await;
        };
        tokio::join!(begun, repaired);
    }
}

/// Has tables compared and repaired until they are equal.
async fn repair(orders: &Orders, doubt: &[(String, TableName)]) {
    let equal = |report: &Report| {
        let equal = |finding: &Finding| matches!(finding, Finding::Equal | Finding::Repaired);
        report.tables.iter().all(|table| equal(&table.finding))
    };
    loop {
        let request = Request {
            tables: doubt.iter().map(|(_, table)| table.clone()).collect(),
            repair: true,
            ..Request::default()
        };
        if let Some(mut report) = orders.verify(request) {
            let done = report.wait_for(|report| report.progress == Progress::Done);
            if done.await.is_ok_and(|report| equal(&report)) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
