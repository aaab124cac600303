//! The life of a composite task, call by call, as the contract documents it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Client;
use crate::servers::{Account, MariaDb, Place, Postgres, System};

/// How long to wait between two looks at a task.
const POLL: Duration = Duration::from_millis(50);

/// The kinds of data source this project builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgresql,
}

/// One end of a task, as a data source describes it.
#[derive(Debug, Clone)]
pub struct End {
    /// Which system.
    pub kind: Kind,
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// Who logs in.
    pub user: String,
    /// And with what.
    pub password: String,
}

impl End {
    /// A database of a private server, for this account.
    pub fn of(place: &Place, account: &Account) -> Self {
        Self {
            kind: match place.system() {
                System::MariaDb => Kind::Mysql,
                System::Postgres => Kind::Postgresql,
            },
            host: place.server.host().into(),
            port: place.server.port(),
            database: place.database.clone(),
            user: account.user.clone(),
            password: account.password.clone(),
        }
    }

    /// A private MariaDB.
    pub fn mariadb(server: &MariaDb, database: &str) -> Self {
        Self {
            kind: Kind::Mysql,
            host: server.host().into(),
            port: server.port(),
            database: database.into(),
            user: server.user().into(),
            password: server.password().into(),
        }
    }

    /// A private PostgreSQL.
    pub fn postgres(server: &Postgres, database: &str) -> Self {
        Self {
            kind: Kind::Postgresql,
            host: server.host().into(),
            port: server.port(),
            database: database.into(),
            user: server.user().into(),
            password: server.password().into(),
        }
    }
}

impl Client {
    /// Creates an integration application; its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_app(&self, name: &str) -> Result<String> {
        let body = json!({"name": name});
        let answer = self.post(&self.instance("/apps"), &[], Some(&body))?.ok()?;
        text(&answer, "id")
    }

    /// Creates a data source of an application; its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_data_source(&self, name: &str, app: &str, end: &End) -> Result<String> {
        let kind = match end.kind {
            Kind::Mysql => "MYSQL",
            Kind::Postgresql => "POSTGRESQL",
        };
        let body = json!({
            "datasource_name": name,
            "datasource_type": kind,
            "app_id": app,
            "content": {
                "mode": "default",
                "host": end.host,
                "port": end.port.to_string(),
                "database_name": end.database,
                "user_name": end.user,
                "password": end.password,
            },
        });
        let answer = self.post(&self.fdi("/datasources"), &[], Some(&body))?;
        text(&answer.ok()?, "datasource_id")
    }

    /// Initialises a composite task between two data sources, without automatic mapping; its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn init_task(&self, source: &str, target: &str) -> Result<String> {
        let body = json!({
            "source_datasource_id": source,
            "target_datasource_id": target,
            "auto_mapping": false,
        });
        let path = self.fdi("/multi-tasks/init");
        let answer = self.post(&path, &[], Some(&body))?.ok()?;
        text(
            answer.get(0).context("the answer is an empty list")?,
            "task_id",
        )
    }

    /// Creates the initialised task, for all operations.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_task(&self, task: &str, name: &str, app: &str) -> Result<()> {
        let body = json!({
            "task_id": task,
            "task_name": name,
            "task_type": "REALTIME",
            "operation_types": ["INSERT", "UPDATE", "DELETE"],
            "source_app_id": app,
            "target_app_id": app,
        });
        let path = self.fdi("/multi-tasks");
        let answer = self.post(&path, &[], Some(&body))?.ok()?;
        let found = text(&answer, "task_id")?;
        if found != task {
            bail!("task {task} was initialised, but {found} was created");
        }
        Ok(())
    }

    /// Maps all columns of a source table, under their own names; the mapping's id. The columns
    /// are asked from the server.
    ///
    /// # Errors
    /// When the server refuses, or does not know the table.
    pub fn map_table(
        &self,
        task: &str,
        (source, target): (&str, &str),
        (source_table, target_table): (&str, &str),
    ) -> Result<String> {
        let path = self.fdi(&format!("/datasources/{source}/columns"));
        let query = [("position", "SOURCE"), ("table_name", source_table)];
        let answer = self.get(&path, &query)?.ok()?;
        let found = answer.get("columns").and_then(Value::as_array);
        let found = found.cloned().unwrap_or_default();
        if found.is_empty() {
            bail!("the server knows no columns of {source_table}");
        }
        let names = found
            .iter()
            .map(|column| text(column, "field_name"))
            .collect::<Result<Vec<_>>>()?;
        let columns: Vec<Value> = found
            .iter()
            .zip(&names)
            .map(|(column, name)| json!({"field_name": name, "field_type": column.get("field_type")}))
            .collect();
        let target_columns: Vec<Value> = names
            .iter()
            .map(|name| json!({"field_name": name}))
            .collect();
        let pairs: Vec<Value> = names
            .iter()
            .map(|name| json!({"source_column": name, "target_column": name}))
            .collect();
        let body = json!({
            "source_datasource_id": source,
            "target_datasource_id": target,
            "source_table": source_table,
            "target_table": target_table,
            "source_columns": columns,
            "target_columns": target_columns,
            "mapping_columns": pairs,
        });
        let path = self.fdi(&format!("/multi-tasks/{task}/mappings"));
        text(&self.post(&path, &[], Some(&body))?.ok()?, "mapping_id")
    }

    /// Sets options that the contract has no place for.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn set_options(&self, task: &str, options: &Value) -> Result<Value> {
        let path = self.native(&format!("/tasks/{task}/options"));
        self.patch(&path, &[], Some(options))?.ok()
    }

    /// Starts a task.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn run_task(&self, task: &str) -> Result<()> {
        let path = self.fdi(&format!("/tasks/{task}/run"));
        self.post(&path, &[], None)?.ok().map(drop)
    }

    /// Stops a task.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn stop_task(&self, task: &str) -> Result<()> {
        let path = self.fdi(&format!("/tasks/{task}/terminate"));
        self.post(&path, &[], None)?.ok().map(drop)
    }

    /// Deletes a task.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn delete_task(&self, task: &str) -> Result<()> {
        let path = self.fdi(&format!("/tasks/{task}"));
        self.delete(&path, &[], None)?.ok().map(drop)
    }

    /// The task as `ShowTask` has it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn show_task(&self, task: &str) -> Result<Value> {
        self.get(&self.fdi(&format!("/tasks/{task}")), &[])?.ok()
    }

    /// The executions of a task, newest first.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn monitor_logs(&self, task: &str) -> Result<Value> {
        let path = self.fdi(&format!("/tasks/{task}/monitor-logs"));
        self.get(&path, &[("limit", "10")])?.ok()
    }

    /// What a task does now, table by table.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn status(&self, task: &str) -> Result<Value> {
        let path = self.native(&format!("/tasks/{task}/status"));
        self.get(&path, &[])?.ok()
    }

    /// Looks at a task until `done` holds; the status then.
    ///
    /// # Errors
    /// When the server refuses, or the time is over; with the last status.
    pub fn wait_for(
        &self,
        task: &str,
        time: Duration,
        mut done: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let until = Instant::now() + time;
        loop {
            let status = self.status(task)?;
            if done(&status) {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("not there after {time:?}: {status}");
            }
            std::thread::sleep(POLL);
        }
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    value
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("the answer holds no {name}: {value}"))
}
