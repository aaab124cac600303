//! Two databases of any kind, and the built server between them, driven through its API only.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use thalweg_testkit::client::{Client, End};
use thalweg_testkit::compare::Ends;
use thalweg_testkit::servers::{Account, Place, System};
use thalweg_testkit::thalweg::Thalweg;
use thalweg_testkit::workload::DATABASE;

/// The target's database.
const TARGET: &str = "warehouse";

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
    pub(crate) source: Place,
    pub(crate) target: Place,
    /// Who the server is at the source and at the target: no more than the README asks for.
    pub(crate) accounts: [Account; 2],
    pub(crate) client: Client,
    pub(crate) app: String,
    /// The data sources, source and target.
    pub(crate) ends: (String, String),
}

impl Lab {
    /// From MariaDB to PostgreSQL; see [`between`](Self::between).
    pub(crate) fn start(fill: impl FnOnce(&Place) -> Result<()>) -> Result<Self> {
        Self::between(System::MariaDb, System::Postgres, fill)
    }

    /// Starts all three; `fill` makes the source's tables.
    pub(crate) fn between(
        source: System,
        target: System,
        fill: impl FnOnce(&Place) -> Result<()>,
    ) -> Result<Self> {
        Self::between_with(source, target, &[], fill)
    }

    /// The same with more environment of the server.
    pub(crate) fn between_with(
        source: System,
        target: System,
        env: &[(&str, &str)],
        fill: impl FnOnce(&Place) -> Result<()>,
    ) -> Result<Self> {
        let source = Place::start(source, DATABASE)?;
        let target = Place::start(target, TARGET)?;
        fill(&source)?;
        let accounts = [source.source_account()?, target.target_account()?];
        let thalweg = Thalweg::start_with(binary(), &[], env)?;
        let client = thalweg.client();
        let app = client.create_app("lab")?;
        let [reader, writer] = &accounts;
        let from = client.create_data_source("shop", &app, &End::of(&source, reader))?;
        let to = client.create_data_source("copy", &app, &End::of(&target, writer))?;
        Ok(Self {
            thalweg,
            source,
            target,
            accounts,
            client,
            app,
            ends: (from, to),
        })
    }

    /// A task that copies tables of the source to new tables of the same names; its id.
    pub(crate) fn task<T: AsRef<str>>(&self, name: &str, tables: &[T]) -> Result<String> {
        let (from, to) = (self.ends.0.as_str(), self.ends.1.as_str());
        let task = self.client.init_task(from, to)?;
        for table in tables {
            let table = table.as_ref();
            let names = (self.source.table(table), self.target.table(table));
            self.client
                .map_table(&task, (from, to), (&names.0, &names.1))
                .with_context(|| format!("mapping {table}"))?;
        }
        let options = json!({"create_tables": "missing"});
        self.client.set_options(&task, &options)?;
        self.client.create_task(&task, name, &self.app)?;
        Ok(task)
    }

    /// The judge of what the target holds.
    pub(crate) fn judge(&self) -> Ends<'_> {
        Ends {
            source: &self.source,
            target: &self.target,
        }
    }

    /// The ends of the logs of all three, for the message of a failed test.
    pub(crate) fn logs(&self) -> String {
        format!(
            "the end of the server's log:\n{}\nof the source's:\n{}\nof the target's:\n{}",
            self.thalweg.log_tail(),
            self.source.server.log_tail(),
            self.target.server.log_tail()
        )
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
