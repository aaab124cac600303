//! A MariaDB, a PostgreSQL, and the built server between them, driven through its API only.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use thalweg_testkit::client::{Client, End};
use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};
use thalweg_testkit::thalweg::Thalweg;
use thalweg_testkit::workload::DATABASE;

/// The target's database.
pub(crate) const TARGET: &str = "postgres";

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The built server.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_thalweg"))
}

/// Everything one test needs; dropped from top to bottom.
pub(crate) struct Lab {
    pub(crate) thalweg: Thalweg,
    pub(crate) source: Arc<MariaDb>,
    pub(crate) target: Postgres,
    pub(crate) client: Client,
    pub(crate) app: String,
    /// The data sources, source and target.
    pub(crate) ends: (String, String),
}

impl Lab {
    /// Starts all three; `fill` makes the source's tables.
    pub(crate) fn start(fill: impl FnOnce(&MariaDb) -> Result<()>) -> Result<Self> {
        let source = Arc::new(MariaDb::start(MariaDbOptions::default())?);
        let target = Postgres::start(PostgresOptions::default())?;
        fill(&source)?;
        let thalweg = Thalweg::start(binary())?;
        let client = thalweg.client();
        let app = client.create_app("lab")?;
        let from = client.create_data_source("shop", &app, &End::mariadb(&source, DATABASE))?;
        let to = client.create_data_source("copy", &app, &End::postgres(&target, TARGET))?;
        Ok(Self {
            thalweg,
            source,
            target,
            client,
            app,
            ends: (from, to),
        })
    }

    /// A task that copies tables of the source to new tables of the same names; its id.
    pub(crate) fn task(&self, name: &str, tables: &[String]) -> Result<String> {
        let (from, to) = (self.ends.0.as_str(), self.ends.1.as_str());
        let task = self.client.init_task(from, to)?;
        for table in tables {
            let names = (format!("{DATABASE}.{table}"), format!("public.{table}"));
            self.client
                .map_table(&task, (from, to), (&names.0, &names.1))?;
        }
        let options = json!({"create_tables": "missing"});
        self.client.set_options(&task, &options)?;
        self.client.create_task(&task, name, &self.app)?;
        Ok(task)
    }

    /// What a task says of itself.
    ///
    /// # Errors
    /// Also when it has failed: no test of this crate wants that.
    pub(crate) fn status(&self, task: &str) -> Result<Status> {
        let status = Status(self.client.status(task)?);
        if status.phase() == "Failed" {
            bail!("the task failed: {}", status.0);
        }
        Ok(status)
    }

    /// Waits until `done` holds of a task's status.
    pub(crate) fn wait(
        &self,
        task: &str,
        what: &str,
        mut done: impl FnMut(&Status) -> bool,
    ) -> Result<Status> {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status(task)?;
            if done(&status) {
                return Ok(status);
            }
            ensure!(
                Instant::now() < until,
                "{what}: not after {PATIENCE:?}: {}",
                status.0
            );
            std::thread::sleep(LOOK);
        }
    }
}

/// A task's status, as the API has it.
pub(crate) struct Status(pub(crate) Value);

impl Status {
    /// The task's phase.
    pub(crate) fn phase(&self) -> &str {
        self.0.get("phase").and_then(Value::as_str).unwrap_or("")
    }

    /// The phase of each table; none while there is no plan yet.
    pub(crate) fn tables(&self) -> Vec<&str> {
        let tables = self.0.get("tables").and_then(Value::as_array);
        tables
            .into_iter()
            .flatten()
            .filter_map(|table| table.get("phase").and_then(Value::as_str))
            .collect()
    }

    /// Whether all `count` tables are Live.
    pub(crate) fn live(&self, count: usize) -> bool {
        let tables = self.tables();
        tables.len() == count && tables.iter().all(|phase| *phase == "Live")
    }

    /// A figure of the task.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// A figure of all tables together.
    pub(crate) fn sum(&self, name: &str) -> Result<u64> {
        let tables = self.0.get("tables").and_then(Value::as_array);
        tables
            .context("a status without tables")?
            .iter()
            .map(|table| table.get(name).and_then(Value::as_u64).context("no figure"))
            .sum()
    }
}
