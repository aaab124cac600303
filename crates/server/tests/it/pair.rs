//! Two private databases of any kind, and a task between them in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{ColumnPair, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::{Connector, DataSourceConfig, Source, Target};
use thalweg_core::schema::TableName;
use thalweg_core::secret::Secret;
use thalweg_core::{Error, Result};
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::status::{TaskPhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_testkit::compare::Ends;
use thalweg_testkit::servers::{Account, Place, System};
use thalweg_testkit::workload::DATABASE;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) struct Pair {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) spec: TaskSpec,
    tables: Vec<String>,
}

pub(crate) fn config(place: &Place, account: &Account) -> DataSourceConfig {
    DataSourceConfig {
        host: place.server.host().into(),
        port: place.server.port(),
        database: place.database.clone(),
        user: account.user.clone(),
        password: Secret::new(account.password.as_str()),
        tls: Default::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/test".into(),
        networks: std::sync::Arc::default(),
    }
}

pub(crate) fn connector(system: System) -> Box<dyn Connector> {
    match system {
        System::MariaDb => Box::new(thalweg_mysql::connector()),
        System::Postgres => Box::new(thalweg_postgres::connector()),
    }
}

impl Pair {
    /// From MariaDB to PostgreSQL; see [`between`](Self::between).
    pub(crate) async fn start(setup: &str, tables: &[&str]) -> Self {
        Self::between(System::MariaDb, System::Postgres, setup, tables).await
    }

    /// Runs `setup` in a new database of the source and plans to carry over `tables` of it: all
    /// columns of `table`, or those of `table(a,b)`.
    pub(crate) async fn between(
        source: System,
        target: System,
        setup: &str,
        tables: &[&str],
    ) -> Self {
        let make = |from: &Place, _: &Place| {
            from.sql(setup).unwrap();
        };
        Self::made(source, target, make, tables).await
    }

    /// The same with databases as `make` makes them.
    pub(crate) async fn made(
        source: System,
        target: System,
        make: impl FnOnce(&Place, &Place),
        tables: &[&str],
    ) -> Self {
        let from = Place::start(source, DATABASE).unwrap();
        let to = Place::start(target, "warehouse").unwrap();
        make(&from, &to);
        let (reader, writer) = (from.source_account().unwrap(), to.target_account().unwrap());
        let source = connector(source).source(&config(&from, &reader)).unwrap();
        let target = connector(target).target(&config(&to, &writer)).unwrap();
        let spec = TaskSpec {
            key: TaskKey {
                server: "test".into(),
                task: "shop".into(),
            },
            plan: plan((&from, source.as_ref()), (&to, target.as_ref()), tables).await,
            source: Arc::clone(&source),
            target: Arc::clone(&target),
            expects_checkpoint: false,
            compares: std::collections::BTreeMap::new(),
            orders: thalweg_engine::verify::Orders::default(),
            quarantine: thalweg_engine::quarantine::Ward::default(),
            elsewhere: std::sync::Arc::default(),
        };
        Pair {
            from,
            to,
            source,
            target,
            spec,
            tables: tables.iter().map(|&table| table.to_owned()).collect(),
        }
    }

    /// Plans again, as a new run does: nothing of it is to be loaded again.
    pub(crate) async fn plan_again(&mut self) {
        let tables: Vec<&str> = self.tables.iter().map(String::as_str).collect();
        let (from, to) = (&self.from, &self.to);
        let ends = ((from, self.source.as_ref()), (to, self.target.as_ref()));
        let plan = plan(ends.0, ends.1, &tables).await;
        let aside = self.target.set_aside(&self.spec.key, &plan).await.unwrap();
        assert!(!aside, "a table is loaded again");
        self.spec.plan = plan;
        self.spec.expects_checkpoint = true;
    }

    /// Starts the task.
    pub(crate) fn run(&self) -> Running {
        let (sender, status) = watch::channel(TaskStatus::default());
        let stop = CancellationToken::new();
        let mut run = JoinSet::new();
        run.spawn(task::run(
            self.spec.clone(),
            Limits::default(),
            MemoryBudget::default(),
            sender,
            stop.clone(),
        ));
        Running { status, stop, run }
    }

    /// Removes what the task has left at both ends; its tables and rows stay.
    pub(crate) async fn release(&self) {
        self.source.release().await.unwrap();
        self.target.release(&self.spec.key).await.unwrap();
    }

    /// Waits until what the source has now is durable at the target.
    pub(crate) async fn caught_up(&self, running: &mut Running, within: Duration) {
        let head = self.source.head().await.unwrap();
        let there = |status: &TaskStatus| {
            let at = status.applied.as_ref();
            // Before, the position is the load's start: the load may not have ended.
            status.phase == TaskPhase::Streaming
                && at.is_some_and(|at| self.source.reached(at, &head).unwrap())
        };
        running.wait(within, there).await;
    }

    /// The answers of both sides to a query they understand alike.
    pub(crate) fn both(&self, query: &str) -> (String, String) {
        (self.from.sql(query).unwrap(), self.to.sql(query).unwrap())
    }

    /// The judge of what the target holds.
    pub(crate) fn judge(&self) -> Ends<'_> {
        Ends {
            source: &self.from,
            target: &self.to,
        }
    }
}

async fn plan(
    (from, source): (&Place, &dyn Source),
    (to, target): (&Place, &dyn Target),
    tables: &[&str],
) -> Arc<Plan> {
    let split = |table: &&str| match table.strip_suffix(')').and_then(|t| t.split_once('(')) {
        Some((name, columns)) => (
            name.to_owned(),
            columns.split(',').map(str::to_owned).collect(),
        ),
        None => ((*table).to_owned(), Vec::new()),
    };
    let wanted: Vec<(String, Vec<String>)> = tables.iter().map(split).collect();
    let names: Vec<_> = wanted
        .iter()
        .map(|(name, _)| TableName::new(from.schema(), name))
        .collect();
    let findings = source.check(&names).await.unwrap();
    assert!(
        !findings.iter().any(|finding| finding.refuses()),
        "{findings:?}"
    );
    let described = source.describe(&names).await.unwrap();
    let mut pairs = Vec::new();
    for source in described {
        let name = TableName::new(to.schema(), &source.name.name);
        let mapping = Mapping {
            id: source.name.name.clone(),
            source: source.name.clone(),
            target: name.clone(),
            columns: wanted
                .iter()
                .filter(|(name, _)| *name == source.name.name)
                .flat_map(|(_, columns)| columns.iter().cloned())
                .map(|column| ColumnPair {
                    source: column.clone(),
                    target: column,
                })
                .collect(),
        };
        let columns = mapping.pairs(&source);
        let proposal = target.propose(&source, &name, &columns).unwrap();
        let (proposal, _) = target.settle(vec![proposal]).await.unwrap().remove(0);
        pairs.push(TablePair {
            mapping,
            source: Some(source),
            target: Some(proposal),
            create: true,
            rekey: false,
        });
    }
    let resolution = resolve(pairs, Operations::ALL, TaskOptions::default());
    let findings = resolution.findings;
    Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:?}")))
}

/// A running task.
pub(crate) struct Running {
    pub(crate) status: watch::Receiver<TaskStatus>,
    stop: CancellationToken,
    run: JoinSet<Result<()>>,
}

impl Running {
    /// Waits until the status is as `wanted`.
    pub(crate) async fn wait(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(&TaskStatus) -> bool,
    ) {
        let deadline = Instant::now() + within;
        while !wanted(&self.status.borrow()) {
            let status = format!("{:?}", self.status.borrow());
            assert!(Instant::now() < deadline, "not within {within:?}: {status}");
            assert!(self.run.try_join_next().is_none(), "it ended: {status}");
            // Woken by a change; a task that says nothing any more is looked at again.
            let change = self.status.changed();
            drop(tokio::time::timeout(Duration::from_secs(1), change).await);
        }
    }

    /// Asks it to stop and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        self.run.join_next().await.unwrap().unwrap()
    }

    /// Waits for the error it ends with.
    pub(crate) async fn failed(&mut self) -> Error {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.run.join_next()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it goes on: {:?}", self.status.borrow()));
        ended.unwrap().unwrap().unwrap_err()
    }
}
