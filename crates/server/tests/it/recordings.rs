//! Logs of MySQL, which cannot be had live: every recorded and every built one is applied to both
//! targets by the engine, as if a server had sent it.
//!
//! A log is a source whose tables are empty when the task starts. Its tables are those the log itself
//! describes, with the names and keys the log lacks where [`left`] knows them. What is to be there at
//! the end was written down apart from our decoder: for built logs with the log, for recordings from
//! the statements that were recorded and from what another decoder (`mariadb-binlog -v`) says. It is
//! made in a database of MariaDB, and the judge compares the target with it row by row. A log that ends
//! in an error must end in that error, with nothing of the transaction it is in.

mod left;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::Target;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::status::{TablePhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_testkit::binlog::logs::{self, Log};
use thalweg_testkit::compare::Ends;
use thalweg_testkit::servers::{Place, Server, System};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pair::{config, connector};
use source::Played;

/// How long one log may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Small, so that long transactions come in parts.
const PART_BYTES: usize = 4 << 10;

/// What was done with all logs.
#[derive(Debug, Default)]
struct Told {
    logs: usize,
    /// Those that end in an error.
    broken: usize,
    transactions: u64,
    changes: u64,
    /// Rows that were compared.
    rows: u64,
    tables: usize,
    /// How many events of each type.
    events: BTreeMap<u8, u64>,
}

/// A target, and a server for what is to be in it.
struct Lab {
    place: Place,
    target: Arc<dyn Target>,
    told: Told,
}

impl Lab {
    fn start(to: System) -> Self {
        let place = Place::start(to, "warehouse").unwrap();
        let account = place.target_account().unwrap();
        let target = connector(to).target(&config(&place, &account)).unwrap();
        Lab {
            place,
            target,
            told: Told::default(),
        }
    }

    /// Runs a log through the engine, and compares what the target has with what is to be there.
    async fn apply(&mut self, number: usize, (log, model): &(Log, Place)) {
        let source = Played::new(log, PART_BYTES);
        let mut tables = source.tables.clone();
        if tables.is_empty() {
            // A task has a table; of this one there is nothing in the log.
            tables.push(left::nothing());
        }
        let key = TaskKey {
            server: "test".into(),
            task: format!("log-{number}"),
        };
        let spec = TaskSpec {
            plan: self.plan(number, &tables).await,
            source: Arc::new(source.clone()),
            target: Arc::clone(&self.target),
            key,
            expects_checkpoint: false,
            compares: std::collections::BTreeMap::new(),
            orders: thalweg_engine::verify::Orders::default(),
            quarantine: thalweg_engine::quarantine::Ward::default(),
            elsewhere: std::sync::Arc::default(),
        };
        let status = run(spec, log, source.commits).await;
        self.told.logs += 1;
        self.told.broken += usize::from(!log.end.is_empty());
        self.told.transactions += status.transactions;
        for counts in status.sources.iter().map(|source| &source.read) {
            self.told.changes += counts.inserts + counts.updates + counts.deletes;
        }
        for (ty, count) in &source.events {
            *self.told.events.entry(*ty).or_default() += count;
        }
        self.compare(number, log, model, &source.tables);
    }

    /// A plan that has the target make all tables, under names that no other log has.
    async fn plan(&self, number: usize, tables: &[TableSchema]) -> Arc<Plan> {
        let mut pairs = Vec::new();
        for source in tables {
            let name = TableName::new(self.place.schema(), at(number, source));
            let mapping = Mapping {
                id: source.name.name.clone(),
                source: source.name.clone(),
                target: name.clone(),
                columns: Vec::new(),
            };
            let columns = mapping.pairs(source);
            let proposed = self.target.propose(source, &name, &columns).unwrap();
            let settled = self.target.settle(vec![proposed]).await.unwrap();
            pairs.push(TablePair {
                mapping,
                source: Some(source.clone()),
                target: settled.into_iter().next().map(|(table, _)| table),
                create: true,
                rekey: false,
            });
        }
        let resolution = resolve(pairs, Operations::ALL, TaskOptions::default());
        let findings = resolution.findings;
        Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:?}")))
    }

    fn compare(&mut self, number: usize, log: &Log, model: &Place, tables: &[TableSchema]) {
        let ends = Ends {
            source: model,
            target: &self.place,
        };
        for table in tables {
            let names = (
                model.table(&table.name.name),
                self.place.table(&at(number, table)),
            );
            let report = ends.compare(&names.0, &names.1);
            let report = report.unwrap_or_else(|e| panic!("{}: {}: {e:#}", log.name, table.name));
            assert!(report.equal(), "{}: {report}", log.name);
            self.told.rows += report.source_rows;
            self.told.tables += 1;
        }
    }
}

/// The target's name of a table of a log.
fn at(number: usize, table: &TableSchema) -> String {
    format!("l{number}_{}", table.name.name)
}

/// Runs a task to the end of its log, or to the error it is to end in.
async fn run(spec: TaskSpec, log: &Log, commits: usize) -> TaskStatus {
    let (sender, mut status) = watch::channel(TaskStatus::default());
    let stop = CancellationToken::new();
    let limits = Limits {
        part_bytes: PART_BYTES,
        ..Limits::default()
    };
    let budget = MemoryBudget::default();
    let mut run = JoinSet::new();
    run.spawn(task::run(spec, limits, budget, sender, stop.clone()));
    let wanted = commits.to_string();
    let there = |status: &TaskStatus| {
        let applied = status.applied.as_ref().map(|at| at.as_str());
        applied == Some(&wanted) && status.tables.iter().all(|t| t.phase == TablePhase::Live)
    };
    let name = &log.name;
    if log.end.is_empty() {
        let reached = tokio::time::timeout(PATIENCE, status.wait_for(there)).await;
        let reached = reached.map(|reached| reached.is_ok());
        assert_eq!(reached, Ok(true), "{name}: {:?}", status.borrow());
        stop.cancel();
    }
    let ended = tokio::time::timeout(PATIENCE, run.join_next()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{name} goes on: {:?}", status.borrow()));
    match ended.unwrap().unwrap() {
        Ok(()) => assert_eq!(log.end, "", "{name}"),
        Err(error) => {
            let said = error.message();
            let as_told = !log.end.is_empty() && said.contains(log.end);
            assert!(as_told, "{name}: {}", error.chain());
            assert!(there(&status.borrow()), "{name}: {:?}", status.borrow());
        }
    }
    status.borrow().clone()
}

/// Applies all `logs` to both targets; what was done with them at each.
async fn both(logs: Vec<Log>) -> Vec<(System, Told)> {
    let server = Arc::new(Server::start(System::MariaDb).unwrap());
    let logs = logs.into_iter().enumerate().map(|(number, log)| {
        let model = Place::create(Arc::clone(&server), &format!("left_{number}")).unwrap();
        model.sql(&log.left).unwrap();
        (log, model)
    });
    let logs: Arc<[(Log, Place)]> = logs.collect();
    let mut work = JoinSet::new();
    for to in System::ALL {
        let logs = Arc::clone(&logs);
        work.spawn(async move {
            let mut lab = Lab::start(to);
            for (number, log) in logs.iter().enumerate() {
                lab.apply(number, log).await;
            }
            (to, lab.told)
        });
    }
    work.join_all().await
}

fn say(what: &str, told: &[(System, Told)], begin: Instant) {
    for (to, told) in told {
        println!(
            "proof: {what} to {to}: {} logs, {} of them broken, {} events of {} types; {} transactions, \
             {} changes applied; {} tables, {} rows compared, all equal; {:.0} s",
            told.logs,
            told.broken,
            told.events.values().sum::<u64>(),
            told.events.len(),
            told.transactions,
            told.changes,
            told.tables,
            told.rows,
            begin.elapsed().as_secs_f64()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_built_log_is_applied_to_both_targets() {
    let begin = Instant::now();
    let told = both(logs::all()).await;
    say("built logs", &told, begin);
    // What the writer can write, but for what stops a log.
    let written = [
        2, 3, 4, 5, 13, 14, 15, 16, 19, 23, 24, 25, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38,
        39, 40, 41, 42, 160, 161, 162, 163, 165, 166, 167, 168,
    ];
    let seen: BTreeSet<u8> = told[0].1.events.keys().copied().collect();
    let lacking: Vec<_> = written.iter().filter(|ty| !seen.contains(ty)).collect();
    assert!(lacking.is_empty(), "no event of types {lacking:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recording_is_applied_to_both_targets() {
    let begin = Instant::now();
    let Some(recorded) = logs::recorded() else {
        return;
    };
    let logs = recorded
        .into_iter()
        .map(|(name, file)| left::log(name, file));
    let told = both(logs.collect()).await;
    say("recordings of MySQL", &told, begin);
    assert_eq!(told[0].1.logs, left::COUNT);
}
