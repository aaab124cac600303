//! What callers can ask for.
#![allow(unused_variables, reason = "skeleton")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::finding::Finding;
use thalweg_core::mapping::TaskOptions;
use thalweg_core::ports::Connector;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::secret::Secret;

use crate::error::{Error, Result};
use crate::model::*;

/// The connectors there are.
pub type Connectors = Arc<[Box<dyn Connector>]>;

/// Where the state lies.
#[derive(Clone)]
pub struct OpenOptions {
    /// The data directory; made if missing, mode 0700.
    pub data: PathBuf,
    /// The key file; made if missing, mode 0600. It has to lie outside the data directory.
    pub key_file: PathBuf,
    /// The connectors there are.
    pub connectors: Connectors,
}

/// The control plane of one process. Cheap to clone.
#[derive(Clone)]
pub struct App {}

fn unbuilt<T>() -> Result<T> {
    Err(Error::Internal("not built".into()))
}

impl App {
    /// Opens the catalogue (making it, with a project, an instance and an administrator, at the
    /// first start) and starts the supervisor.
    pub async fn open(options: OpenOptions) -> Result<(App, Option<FirstStart>)> {
        unbuilt()
    }
    /// Stops every task after its batch in flight, within `limit`, and closes the catalogue.
    pub async fn shutdown(&self, limit: Duration) {}
    /// Whether the catalogue answers.
    pub async fn ready(&self) -> bool {
        false
    }

    // ---- access
    /// A new token for a user of the domain, scoped to the project (by id or name; `None`: the only
    /// one). `Unauthenticated` if anything of it is wrong.
    pub async fn login(
        &self,
        domain: Option<&str>,
        name: &str,
        password: &Secret,
        project_id: Option<&str>,
        project_name: Option<&str>,
    ) -> Result<Login> {
        unbuilt()
    }
    /// The caller a token stands for. `Unauthenticated` if it is unknown or has expired.
    pub async fn user_by_token(&self, token: &str) -> Result<User> {
        unbuilt()
    }
    /// The caller an access key stands for, and its secret, for checking a signature.
    /// `Unauthenticated` if it is unknown.
    pub async fn user_by_access_key(&self, ak: &str) -> Result<(User, Secret)> {
        unbuilt()
    }
    /// The project and instance of a path: `OtherProject`, or `NotFound(Instance)`.
    pub async fn scope(&self, user: &User, project: &str, instance: &str) -> Result<Scope> {
        unbuilt()
    }

    // ---- integration applications
    pub async fn application_create(&self, s: &Scope, new: NewApplication) -> Result<Application> {
        unbuilt()
    }
    pub async fn application_list(
        &self,
        s: &Scope,
        filter: ApplicationFilter,
        window: Window,
    ) -> Result<Page<Application>> {
        unbuilt()
    }
    pub async fn application_show(&self, s: &Scope, id: &str) -> Result<Application> {
        unbuilt()
    }
    pub async fn application_update(
        &self,
        s: &Scope,
        id: &str,
        change: ApplicationChange,
    ) -> Result<Application> {
        unbuilt()
    }
    pub async fn application_delete(&self, s: &Scope, id: &str) -> Result<()> {
        unbuilt()
    }

    // ---- data sources
    pub async fn datasource_create(&self, s: &Scope, new: DataSourceInput) -> Result<DataSource> {
        unbuilt()
    }
    pub async fn datasource_list(
        &self,
        s: &Scope,
        filter: DataSourceFilter,
        window: Window,
    ) -> Result<Page<DataSource>> {
        unbuilt()
    }
    pub async fn datasource_show(&self, s: &Scope, id: &str) -> Result<DataSource> {
        unbuilt()
    }
    pub async fn datasource_update(
        &self,
        s: &Scope,
        id: &str,
        new: DataSourceInput,
    ) -> Result<DataSource> {
        unbuilt()
    }
    pub async fn datasource_delete(&self, s: &Scope, id: &str) -> Result<()> {
        unbuilt()
    }
    /// Names of its tables (`schema.table`) that contain `filter`.
    pub async fn datasource_tables(
        &self,
        s: &Scope,
        id: &str,
        direction: Direction,
        schema: Option<&str>,
        filter: Option<&str>,
    ) -> Result<Vec<TableName>> {
        unbuilt()
    }
    /// One of its tables; `Invalid(table_name)` if there is none of that name.
    pub async fn datasource_table(
        &self,
        s: &Scope,
        id: &str,
        direction: Direction,
        table: &str,
    ) -> Result<TableSchema> {
        unbuilt()
    }
    /// Connects with `input`, or with what is stored. `Unreachable` with everything found.
    pub async fn datasource_test(
        &self,
        s: &Scope,
        id: &str,
        input: Option<DataSourceInput>,
    ) -> Result<()> {
        unbuilt()
    }
    pub async fn datasource_options(&self, s: &Scope, id: &str) -> Result<DataSourceOptions> {
        unbuilt()
    }
    pub async fn datasource_options_set(
        &self,
        s: &Scope,
        id: &str,
        options: DataSourceOptions,
    ) -> Result<DataSourceOptions> {
        unbuilt()
    }

    // ---- composite tasks
    /// The answer holds at most the first ten mappings.
    pub async fn task_init(&self, s: &Scope, init: TaskInit) -> Result<TaskMappings> {
        unbuilt()
    }
    /// Gives the task's id.
    pub async fn task_create(&self, s: &Scope, new: NewTask) -> Result<String> {
        unbuilt()
    }
    pub async fn task_update(&self, s: &Scope, id: &str, change: TaskChange) -> Result<()> {
        unbuilt()
    }
    pub async fn task_reset(&self, s: &Scope, id: &str) -> Result<()> {
        unbuilt()
    }
    pub async fn task_list(
        &self,
        s: &Scope,
        filter: TaskFilter,
        window: Window,
    ) -> Result<Page<Task>> {
        unbuilt()
    }
    pub async fn task_show(&self, s: &Scope, id: &str) -> Result<Task> {
        unbuilt()
    }
    pub async fn task_delete(&self, s: &Scope, id: &str) -> Result<()> {
        unbuilt()
    }
    pub async fn task_run(&self, s: &Scope, id: &str) -> Result<()> {
        unbuilt()
    }
    pub async fn task_terminate(&self, s: &Scope, id: &str) -> Result<()> {
        unbuilt()
    }
    /// One item per id, in order. Errors of a single task are in its item.
    pub async fn task_batch(&self, s: &Scope, start: bool, ids: &[String]) -> Result<Vec<BatchItem>> {
        unbuilt()
    }
    pub async fn task_statistics(&self, s: &Scope) -> Result<Statistics> {
        unbuilt()
    }
    pub async fn task_options(&self, s: &Scope, id: &str) -> Result<TaskOptions> {
        unbuilt()
    }
    pub async fn task_options_set(
        &self,
        s: &Scope,
        id: &str,
        options: TaskOptions,
    ) -> Result<TaskOptions> {
        unbuilt()
    }
    /// What the task says of itself; `None` if it does not run in this process.
    pub async fn task_live(&self, s: &Scope, id: &str) -> Result<Option<Live>> {
        unbuilt()
    }
    pub async fn task_leftovers(&self, s: &Scope) -> Result<Vec<Leftover>> {
        unbuilt()
    }

    // ---- mappings
    /// Gives the mapping's id.
    pub async fn mapping_create(&self, s: &Scope, task: &str, new: NewMapping) -> Result<String> {
        unbuilt()
    }
    pub async fn mapping_list(
        &self,
        s: &Scope,
        task: &str,
        filter: MappingFilter,
        window: Window,
    ) -> Result<TaskMappings> {
        unbuilt()
    }
    pub async fn mapping_delete(&self, s: &Scope, task: &str, id: &str) -> Result<()> {
        unbuilt()
    }

    // ---- monitors
    /// Executions of a task that began in the window of time, newest first.
    pub async fn execution_list(
        &self,
        s: &Scope,
        task: &str,
        begin_ms: Option<i64>,
        end_ms: Option<i64>,
        window: Window,
    ) -> Result<Page<Execution>> {
        unbuilt()
    }
    /// All tasks that run in this process: (task id, name, what it says).
    pub fn lives(&self) -> Vec<(String, String, Live)> {
        Vec::new()
    }
}
