//! What the control plane speaks of. None of these types is a wire format: the server converts by
//! hand, so that changing one cannot change the API by accident.

mod access;
mod audit;
mod execution;
mod quarantine;
mod table;
mod verification;

pub use access::{
    AccessKey, Caller, Credential, FirstStart, Grant, Instance, Login, NamedPolicy, NewKey,
    NewPolicy, Project, Role, RoleHolder, Scope, TemporaryKey, User, UserChange, UserInfo,
};
pub use audit::{AuditCheck, AuditFilter, AuditRecord, Audited};
pub use execution::{ExecuteStatus, Execution, Figures, Node, NodeStatus, Step};
pub use quarantine::{QuarantinePage, QuarantinedRow};
pub use table::{NewTable, TaskTable};
pub use verification::{AskedBy, NewVerification, Outcome, Verification, Verified};

use serde_json::{Map, Value};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{Operations, TaskOptions};
use thalweg_core::plan::Verdict;
use thalweg_core::schema::TableName;
use thalweg_core::secret::Secret;
use thalweg_engine::status::TaskStatus;

use crate::schedule::{Dispatch, When};

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// How many there are in all.
    pub total: u64,
    /// Those asked for.
    pub entities: Vec<T>,
}

/// Which part of a list: rows to skip, rows to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows to skip.
    pub offset: u32,
    /// Rows to give.
    pub limit: u32,
}

/// An integration application: the owner of data sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// A UUID.
    pub id: String,
    /// Unique in the instance.
    pub name: String,
    /// Free text.
    pub remark: Option<String>,
    /// Unique in the instance.
    pub key: String,
    /// Marked by the user.
    pub favorite: bool,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: i64,
    /// Who made it.
    pub created_by: User,
    /// Who changed it last.
    pub updated_by: User,
    /// What the caller may do with it.
    pub roles: Vec<Role>,
}

/// An application to be made.
#[derive(Clone, Debug)]
pub struct NewApplication {
    /// Unique in the instance.
    pub name: String,
    /// Free text.
    pub remark: Option<String>,
    /// Unique in the instance; made when absent.
    pub key: Option<String>,
    /// Made when absent.
    pub secret: Option<Secret>,
    /// Marked by the user.
    pub favorite: bool,
}

/// Changes of an application; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct ApplicationChange {
    /// New name.
    pub name: Option<String>,
    /// New remark.
    pub remark: Option<String>,
    /// New mark.
    pub favorite: Option<bool>,
}

/// Which applications to list.
#[derive(Clone, Debug, Default)]
pub struct ApplicationFilter {
    /// Part of the name.
    pub name: Option<String>,
    /// Exactly.
    pub favorite: Option<bool>,
    /// Part of the creator's login name.
    pub user_name: Option<String>,
    /// One the caller has there.
    pub role: Option<Role>,
    /// Whether the caller made it.
    pub own: Option<bool>,
}

/// A data source as stored; secrets are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSource {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Unique in the instance.
    pub name: String,
    /// `datasource_type` of the API, such as `MYSQL`.
    pub kind: String,
    /// Id of the application it belongs to.
    pub app_id: String,
    /// Name of that application.
    pub app_name: String,
    /// What the caller may do with what belongs to that application.
    pub roles: Vec<Role>,
    /// Connection parameters as given, without secrets.
    pub content: Map<String, Value>,
    /// Free text.
    pub description: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: i64,
}

/// A data source as given by a caller, its fields checked one by one.
#[derive(Clone, Debug)]
pub struct DataSourceInput {
    /// Unique in the instance.
    pub name: String,
    /// `datasource_type` of the API.
    pub kind: String,
    /// Application it belongs to.
    pub app_id: String,
    /// How to reach it.
    pub content: Content,
    /// Free text.
    pub description: Option<String>,
}

/// Connection parameters.
#[derive(Clone, Debug)]
pub struct Content {
    /// All fields as given but the secret ones: what is shown again.
    pub shown: Map<String, Value>,
    /// The `password`; of a type that cannot be connected to, its secret fields as a JSON object. `None` on an
    /// update keeps what is stored.
    pub secret: Option<Secret>,
}

/// How a data source is protected on the wire: native options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSourceOptions {
    /// `off`, `prefer`, `require` or `verify-full`.
    pub tls: thalweg_core::ports::TlsOptions,
    /// Whether a password may travel in clear text to another machine.
    pub allow_cleartext_password: bool,
}

/// Which data sources to list.
#[derive(Clone, Debug, Default)]
pub struct DataSourceFilter {
    /// Exactly.
    pub kind: Option<String>,
    /// Part of the name.
    pub name: Option<String>,
    /// Exactly.
    pub app_id: Option<String>,
    /// Exactly; no data source of ours has one.
    pub custom_plugin_id: Option<String>,
    /// Newest first.
    pub newest_first: bool,
}

/// The end of a task a data source is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To be read from.
    Source,
    /// To be written to.
    Target,
}

/// A data source as a task shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSourceRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its `datasource_type`.
    pub kind: String,
    /// Application it belongs to.
    pub app_id: String,
    /// Name of that application.
    pub app_name: String,
}

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Many tables to many, in real time.
    Composite,
    /// An ordinary task, one table to one, in real time.
    Realtime,
    /// An ordinary task that is run by a schedule, or by hand.
    Timing {
        /// Whether a run goes on where the last one has ended; if not, it copies everything again.
        incremental: bool,
    },
}

impl TaskKind {
    /// Whether its runs end by themselves.
    pub fn ends(self) -> bool {
        matches!(self, TaskKind::Timing { .. })
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// 32 hexadecimal digits, or the 3 to 50 characters the caller chose at init.
    pub id: String,
    /// Unique in the instance; empty for a draft that is not created yet.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Free text.
    pub tag: Option<String>,
    /// Operations carried over.
    pub operations: Operations,
    /// Where changes come from; known from init or from the first mapping.
    pub source: Option<DataSourceRef>,
    /// Where they go.
    pub target: Option<DataSourceRef>,
    /// The replica id to present to the source.
    pub server_id: Option<u32>,
    /// Native options.
    pub options: TaskOptions,
    /// What it is.
    pub kind: TaskKind,
    /// Of an ordinary task: the form it was made with, as it was given.
    pub detail: Option<String>,
    /// Whether it is to run.
    pub running: bool,
    /// Whether its schedule is on.
    pub scheduled: bool,
    /// When it is run, if it has a schedule.
    pub dispatch: Option<Dispatch>,
    /// The last execution, if there was one.
    pub execution: Option<Execution>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: i64,
}

impl Task {
    /// Whether it runs, or will by its schedule.
    pub fn is_on(&self) -> bool {
        self.running || self.scheduled
    }

    /// The state of the last execution.
    pub fn execute_status(&self) -> ExecuteStatus {
        self.execution
            .as_ref()
            .map_or(ExecuteStatus::Unstarted, |e| e.status)
    }
}

/// What init was given.
#[derive(Clone, Debug, Default)]
pub struct TaskInit {
    /// Chosen id, 3 to 50 characters.
    pub task_id: Option<String>,
    /// Source.
    pub source_datasource_id: Option<String>,
    /// Target.
    pub target_datasource_id: Option<String>,
    /// `ext_info.server_id`.
    pub server_id: Option<u32>,
    /// Whether to pair tables and columns by name.
    pub auto_mapping: bool,
}

/// What automatic mapping was given.
#[derive(Clone, Debug)]
pub struct AutoMapping {
    /// A draft or a stopped task; `None` makes a draft.
    pub task_id: Option<String>,
    /// Source.
    pub source_datasource_id: String,
    /// Target.
    pub target_datasource_id: String,
    /// `ext_info.server_id`.
    pub server_id: Option<u32>,
    /// Which tables, and the names wanted at the target.
    pub choice: TableChoice,
}

/// Which tables are paired by name, and how a target's name is made of a source's.
#[derive(Clone, Debug, Default)]
pub struct TableChoice {
    /// Stands before the name of the source table.
    pub prefix: String,
    /// Stands after it.
    pub suffix: String,
    /// Source tables; empty: those of the data source's own schema.
    pub sources: Vec<Selected>,
    /// Where they may go; empty: the data source's own schema.
    pub targets: Vec<Selected>,
}

/// One entry of a selection of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// `schema.table`.
    Table(TableName),
    /// `schema.*`.
    Schema(String),
}

/// What create was given.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The draft's id, if init was called.
    pub task_id: Option<String>,
    /// Unique in the instance.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Free text.
    pub tag: Option<String>,
    /// Operations carried over.
    pub operations: Operations,
    /// Has to be the application of the source, once that is known.
    pub source_app_id: Option<String>,
    /// Has to be the application of the target, once that is known.
    pub target_app_id: Option<String>,
}

/// An ordinary task as it was given.
#[derive(Clone, Debug)]
pub struct OrdinaryTask {
    /// Unique in the instance.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Free text.
    pub tag: Option<String>,
    /// What it is; not composite.
    pub kind: TaskKind,
    /// The form, as it was given.
    pub detail: String,
    /// Its ends, its table and its columns.
    pub mapping: NewMapping,
}

/// A schedule as it was given.
#[derive(Clone, Debug)]
pub struct NewDispatch {
    /// Not before this; milliseconds since the Unix epoch.
    pub start_ms: Option<i64>,
    /// When.
    pub when: When,
    /// Free text.
    pub remark: Option<String>,
}

/// What update was given.
#[derive(Clone, Debug)]
pub struct TaskChange {
    /// Free text; `None` leaves as it is.
    pub description: Option<String>,
    /// Free text; `None` leaves as it is.
    pub tag: Option<String>,
    /// Operations carried over.
    pub operations: Operations,
    /// Whether the next run copies existing rows again.
    pub repulling_snapshot: bool,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Exactly.
    pub task_id: Option<String>,
    /// Part of the name, whatever the case.
    pub name: Option<String>,
    /// Part of the name, case-sensitive.
    pub name_exact_case: Option<String>,
    /// Whether it is to run.
    pub running: Option<bool>,
    /// `false`: scheduled tasks.
    pub realtime: Option<bool>,
    /// Exactly.
    pub source_datasource_id: Option<String>,
    /// Exactly.
    pub target_datasource_id: Option<String>,
    /// Exactly.
    pub source_app_id: Option<String>,
    /// Exactly.
    pub target_app_id: Option<String>,
    /// Exactly.
    pub tag: Option<String>,
    /// Of the last execution.
    pub execute_status: Option<ExecuteStatus>,
    /// What to sort by.
    pub sort: TaskSort,
    /// Newest, last or greatest first.
    pub descending: bool,
}

/// What a list of tasks is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskSort {
    /// When it was created.
    #[default]
    Created,
    /// When it was changed.
    Updated,
    /// Its name.
    Name,
}

/// Column of a table as the API describes it in a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Name.
    pub field_name: Option<String>,
    /// The system's type text.
    pub field_type: Option<String>,
    /// A number as text.
    pub field_length: Option<String>,
}

/// A source column and the target column it fills, as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnLink {
    /// Source column.
    pub source: ColumnInfo,
    /// Target column.
    pub target: ColumnInfo,
}

/// How a mapping came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingStatus {
    /// Paired by name in a draft.
    Auto,
    /// Made by hand.
    Manual,
    /// Paired by name in a task that was created before.
    Add,
    /// Changed.
    Update,
    /// Used by a run of its task.
    Using,
}

impl MappingStatus {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            MappingStatus::Auto => "AUTO",
            MappingStatus::Manual => "MANUAL",
            MappingStatus::Add => "ADD",
            MappingStatus::Update => "UPDATE",
            MappingStatus::Using => "USING",
        }
    }
}

/// One mapping of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMapping {
    /// 32 hexadecimal digits.
    pub id: String,
    /// `schema.table`, or `table` in the data source's own schema.
    pub source_table: String,
    /// Likewise.
    pub target_table: String,
    /// As given.
    pub source_columns: Vec<ColumnInfo>,
    /// As given.
    pub target_columns: Vec<ColumnInfo>,
    /// Empty: every source column to the target column of the same name.
    pub columns: Vec<ColumnLink>,
    /// How it came to be.
    pub status: MappingStatus,
    /// Of the source's columns, how many are mapped, and by automatic mapping: how many without loss.
    /// 0..=100.
    pub percent: u8,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: i64,
    /// Why its table is left out of the task's runs; `None`: it is not.
    pub paused: Option<Paused>,
    /// Whether its table is to be loaded again at the next plan.
    pub reload: bool,
    /// Whether its rows are to be compared and repaired, as they may differ since the table has changed.
    pub doubt: bool,
}

/// Why a table is left out of its task's runs, until it is resumed. It is loaded again then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// What happened.
    pub reason: String,
    /// What to do before it is resumed.
    pub fix: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Whether the task resumes it by itself, as soon as it has read the log up to what happened.
    pub returns: bool,
}

/// A mapping to be made, or what one is to become.
#[derive(Clone, Debug)]
pub struct NewMapping {
    /// Source of the task.
    pub source_datasource_id: String,
    /// Target of the task.
    pub target_datasource_id: String,
    /// `ext_info.server_id`.
    pub server_id: Option<u32>,
    /// `schema.table` or `table`.
    pub source_table: String,
    /// Likewise.
    pub target_table: String,
    /// As given.
    pub source_columns: Vec<ColumnInfo>,
    /// As given.
    pub target_columns: Vec<ColumnInfo>,
    /// Empty: by name.
    pub columns: Vec<ColumnLink>,
}

/// Which mappings to list.
#[derive(Clone, Debug, Default)]
pub struct MappingFilter {
    /// Exactly.
    pub source_datasource_id: Option<String>,
    /// Exactly.
    pub target_datasource_id: Option<String>,
    /// Exactly.
    pub source_table: Option<String>,
    /// Exactly.
    pub target_table: Option<String>,
    /// Part of either table's name.
    pub table_name: Option<String>,
}

/// A task with some of its mappings: the answer of init and of the list of mappings.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskMappings {
    /// The task.
    pub task: Task,
    /// Those asked for.
    pub mappings: Page<TableMapping>,
}

/// Tasks by the outcome of their last execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Running or to be started.
    pub running: u64,
    /// Stopped by an error.
    pub abnormal: u64,
    /// Stopped by a person.
    pub terminated: u64,
    /// Ended by themselves.
    pub completed: u64,
}

/// Start or stop of one task in a batch.
#[derive(Debug)]
pub struct BatchItem {
    /// The id as given.
    pub task_id: String,
    /// Its name; empty if there is no such task.
    pub task_name: String,
    /// Why it was not done.
    pub error: Option<crate::Error>,
}

/// What a task that runs in this process says of itself.
#[derive(Clone, Debug)]
pub struct Live {
    /// The engine's own words.
    pub status: TaskStatus,
    /// Per index of `status.tables`: (source table, target table).
    pub tables: Vec<(String, String)>,
}

/// Traces of a deleted task that could not be removed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The deleted task's id.
    pub task_id: String,
    /// Its name.
    pub task_name: String,
    /// Which end it lies at, and in which data source.
    pub place: String,
    /// Why it could not be removed.
    pub error: String,
    /// Statements that remove it by hand.
    pub statements: Vec<String>,
    /// When it was tried last.
    pub tried_ms: i64,
}

/// What a task would do if it were run now.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    /// Everything both systems and the plan have to say, all at once.
    pub findings: Vec<Finding>,
    /// What is mapped to what.
    pub tables: Vec<PlannedTable>,
    /// The statements that make the tables that are to be created, in order.
    pub statements: Vec<String>,
}

/// One mapping of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTable {
    /// The mapping's id.
    pub mapping: String,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// Whether it is to be created.
    pub create: bool,
    /// The mapped columns.
    pub columns: Vec<PlannedColumn>,
}

/// One column of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedColumn {
    /// The source column.
    pub source: String,
    /// Its type as its system writes it.
    pub source_type: String,
    /// The target column.
    pub target: String,
    /// Its type as its system writes it.
    pub target_type: String,
    /// What becomes of values.
    pub verdict: Verdict,
    /// What values become, or which fit; empty where it is plain.
    pub note: &'static str,
}
