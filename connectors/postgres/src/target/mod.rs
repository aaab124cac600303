//! PostgreSQL as a target.

mod altering;
mod applier;
pub(crate) mod bulk;
mod checkpoint;
mod compare;
mod ddl;
pub(crate) mod encode;
mod follow;
mod layouts;
mod ledger;
mod loader;
mod merged;
mod quarantine;
mod rows;
mod side;
mod stage;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt as _;
use thalweg_core::Result;
use thalweg_core::checkpoint::{Checkpoint, Epoch, Outline, TaskKey};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ColumnPair, ForeignKeys};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{
    Alteration, Applier, Capabilities, Comparer, DataSourceConfig, Following, Inspect, Loader,
    Pending, Target,
};
use thalweg_core::quarantine::Held;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema, UniqueKey};
use tokio_postgres::{Client, CopyInSink};

use crate::config::{Connection, connect};
use crate::error::convert;
use crate::query;
use crate::schema::{self, GEOMETRY, Keys, native, neutral, quote_table, refuses};

/// What fields may take beyond the cells they are made of. Without room for it a vector that has a long
/// value is copied.
const FIELDS_BYTES: usize = 64 << 10;

/// Of a `COPY` this much is given to the driver at once.
const PIECE_BYTES: usize = 2 << 20;

/// Sends rows of a `COPY`. The driver copies what it is given, and its connection keeps the memory of
/// that for as long as it lives; so a row of unusual size goes in pieces.
async fn send(
    sink: &mut Pin<Box<CopyInSink<Bytes>>>,
    rows: Vec<u8>,
) -> std::result::Result<(), tokio_postgres::Error> {
    let mut rest = Bytes::from(rows);
    while rest.len() > PIECE_BYTES {
        sink.send(rest.split_to(PIECE_BYTES)).await?;
    }
    sink.send(rest).await
}

/// A PostgreSQL database as a target. It connects anew for every call, but for those of a start: they
/// are a dozen, and a login costs the server more than most of them do.
#[derive(Debug)]
pub(crate) struct PostgresTarget {
    config: DataSourceConfig,
    spare: Mutex<Spare>,
}

/// The idle connection between two calls of a start.
#[derive(Debug)]
enum Spare {
    Kept(Option<Connection>),
    /// The task runs: calls are rare, and nothing is kept for them.
    Over,
}

fn locked(spare: &Mutex<Spare>) -> MutexGuard<'_, Spare> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PostgresTarget {
    pub(crate) fn new(config: DataSourceConfig) -> Self {
        PostgresTarget {
            config,
            spare: Mutex::new(Spare::Kept(None)),
        }
    }

    /// The idle connection, if there is one that lives.
    fn spare(&self) -> Option<Connection> {
        match &mut *locked(&self.spare) {
            Spare::Kept(kept) => kept
                .take()
                .filter(|connection| !connection.client.is_closed()),
            Spare::Over => None,
        }
    }

    /// Calls with the idle connection or a new one. One whose call failed is not used again.
    async fn with<T>(&self, call: impl AsyncFnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let mut connection = match self.spare() {
            Some(connection) => connection,
            None => connect(&self.config, &self.config.application_name).await?,
        };
        let answer = call(&mut connection.client).await?;
        if let Spare::Kept(kept) = &mut *locked(&self.spare) {
            *kept = Some(connection);
        }
        Ok(answer)
    }

    /// A connection of a task's owner, so that it can be recognised at the server.
    async fn connect_owner(&self, task: &TaskKey, epoch: Epoch, plan: &Plan) -> Result<Connection> {
        *locked(&self.spare) = Spare::Over;
        let connection = connect(&self.config, &format!("thalweg/{}/{epoch}", task.task)).await?;
        if plan.options.foreign_keys == ForeignKeys::Replica {
            let replica = "SET session_replication_role = replica";
            connection
                .client
                .batch_execute(replica)
                .await
                .map_err(convert)?;
        }
        Ok(connection)
    }
}

#[async_trait]
impl Inspect for PostgresTarget {
    async fn probe(&self) -> Result<()> {
        self.with(async |client| client.batch_execute("SELECT 1").await.map_err(convert))
            .await
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        self.with(async |client| schema::tables(client).await).await
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        self.with(async |client| schema::describe(client, tables, Keys::Immediate).await)
            .await
    }

    async fn describe_query(&self, sql: &str) -> Result<TableSchema> {
        self.with(async |client| query::describe(client, sql, self.config.timeout).await)
            .await
    }
}

#[async_trait]
impl Target for PostgresTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic: true,
            apart: false,
            refuses_equal_keys: false,
        }
    }

    fn propose(
        &self,
        source: &TableSchema,
        name: &TableName,
        columns: &[ColumnPair],
    ) -> std::result::Result<TableSchema, Vec<Finding>> {
        let mut proposed = TableSchema::new(name.clone(), Vec::new());
        let mut findings = Vec::new();
        findings.extend(too_long(&name.to_string(), &name.name, "table"));
        let mut origins = Vec::new();
        for pair in columns {
            // A column that does not exist is the plan's to tell.
            let Some(index) = source.column_index(&pair.source) else {
                continue;
            };
            let Some(column) = source.columns.get(index) else {
                continue;
            };
            let subject = format!("{name}.{}", pair.target);
            findings.extend(too_long(&subject, &pair.target, "column"));
            origins.push(index);
            let (ty, text) = counterpart(column);
            proposed.columns.push(ColumnSchema {
                nullable: column.nullable,
                comment: column.comment.clone(),
                refuses: refuses(&ty, &text),
                ..ColumnSchema::new(&pair.target, ty, text)
            });
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let places = |key: &[usize]| -> Option<Vec<usize>> {
            key.iter()
                .map(|c| origins.iter().position(|o| o == c))
                .collect()
        };
        proposed.primary_key = places(&source.primary_key).unwrap_or_default();
        proposed.unique_keys = source
            .unique_keys
            .iter()
            .filter_map(|key| {
                Some(UniqueKey {
                    name: format!("{}_{}", name.name, key.name),
                    columns: places(&key.columns)?,
                })
            })
            .collect();
        Ok(proposed)
    }

    async fn settle(&self, proposed: Vec<TableSchema>) -> Result<Vec<(TableSchema, Vec<Finding>)>> {
        let columns = proposed.iter().flat_map(|table| &table.columns);
        let types: BTreeSet<&str> = columns.map(|column| column.native.as_str()).collect();
        let mut unknown = BTreeSet::new();
        if !types.is_empty() {
            let types: Vec<&str> = types.into_iter().collect();
            let ask =
                "SELECT t.name FROM unnest($1::text[]) t (name) WHERE to_regtype(t.name) IS NULL";
            let ask =
                async |client: &mut Client| client.query(ask, &[&types]).await.map_err(convert);
            let rows = self.with(ask).await?;
            unknown.extend(rows.iter().map(|row| row.get(0)));
        }
        let settled = proposed.into_iter();
        Ok(settled.map(|table| stand_in(table, &unknown)).collect())
    }

    async fn ddl(&self, plan: &Plan) -> Result<Vec<String>> {
        Ok(ddl::statements(plan))
    }

    async fn check(&self, task: &TaskKey, plan: &Plan) -> Result<Vec<Finding>> {
        self.with(async |client| ddl::check(client, task, plan).await)
            .await
    }

    async fn prepare(&self, task: &TaskKey, plan: &Plan) -> Result<()> {
        self.with(async |client| ddl::prepare(client, task, plan).await)
            .await
    }

    async fn pending(&self, task: &TaskKey) -> Result<Vec<Pending>> {
        self.with(async |client| checkpoint::pending(client, task).await)
            .await
    }

    async fn claim(&self, task: &TaskKey) -> Result<Checkpoint> {
        self.with(async |client| checkpoint::claim(client, task).await)
            .await
    }

    async fn loose(&self, plan: &Plan) -> Result<Vec<bool>> {
        self.with(async |client| ddl::loose(client, plan).await)
            .await
    }

    async fn open_applier(
        &self,
        task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Applier>> {
        let connection = self.connect_owner(task, epoch, &plan).await?;
        let owner = Owner {
            task: task.clone(),
            epoch,
        };
        Ok(Box::new(
            applier::PostgresApplier::new(connection, owner, plan).await?,
        ))
    }

    async fn open_loader(
        &self,
        task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Loader>> {
        let connection = self.connect_owner(task, epoch, &plan).await?;
        let owner = Owner {
            task: task.clone(),
            epoch,
        };
        Ok(Box::new(loader::PostgresLoader::new(
            connection, owner, plan,
        )))
    }

    async fn open_comparer(&self, plan: Arc<Plan>) -> Result<Box<dyn Comparer>> {
        let name = format!("{}/verify", self.config.application_name);
        let connection = connect(&self.config, &name).await?;
        Ok(Box::new(compare::PostgresComparer::new(connection, plan)))
    }

    async fn forget(&self, task: &TaskKey) -> Result<()> {
        self.with(async |client| checkpoint::forget(client, task).await)
            .await
    }

    async fn set_aside(&self, task: &TaskKey, plan: &Plan) -> Result<bool> {
        self.with(async |client| checkpoint::set_aside(client, task, plan).await)
            .await
    }

    async fn outline(&self, task: &TaskKey) -> Result<Option<Outline>> {
        self.with(async |client| checkpoint::outline(client, task).await)
            .await
    }

    fn alter(
        &self,
        table: &TableName,
        steps: &[Alteration],
    ) -> std::result::Result<Vec<String>, String> {
        altering::statements(table, steps)
    }

    async fn follow(&self, task: &TaskKey, following: &Following) -> Result<()> {
        self.with(async |client| altering::follow(client, task, following).await)
            .await
    }

    async fn held(&self, task: &TaskKey, changes: bool) -> Result<Vec<Held>> {
        self.with(async |client| quarantine::read(client, task, changes).await)
            .await
    }

    async fn release(&self, task: &TaskKey) -> Result<()> {
        self.with(async |client| checkpoint::release(client, task).await)
            .await
    }
}

/// Gives columns of unknown types one that holds the type's text, and says so.
fn stand_in(mut table: TableSchema, unknown: &BTreeSet<String>) -> (TableSchema, Vec<Finding>) {
    let mut findings = Vec::new();
    let lacking = table.columns.iter_mut();
    for column in lacking.filter(|column| unknown.contains(&column.native)) {
        let stand_in = if column.native == GEOMETRY {
            "bytea"
        } else {
            "text"
        };
        findings.push(Finding::warning(
            "type_missing",
            format!("{}.{}", table.name, column.name),
            format!(
                "the target has no type {}; the column is made as {stand_in}",
                column.native
            ),
            "create the type or its extension at the target first, if the column is to have it",
        ));
        column.ty = neutral(stand_in);
        column.refuses = refuses(&column.ty, stand_in);
        stand_in.clone_into(&mut column.native);
    }
    (table, findings)
}

/// The type that a column made for a column of a source gets. Types that another PostgreSQL's user
/// or extension made keep their names, and all of its types their lengths.
fn counterpart(column: &ColumnSchema) -> (ColumnType, String) {
    let named = match &column.ty {
        // MySQL's have no name.
        ColumnType::Enum { .. } => !column.native.starts_with("enum("),
        ColumnType::Other { system, .. } => *system == "postgres",
        _ => false,
    };
    if named {
        return (column.ty.clone(), column.native.clone());
    }
    let text = native(&column.ty);
    (neutral(&text), text)
}

/// Bytes of a name; the server cuts longer ones.
const NAME_BYTES_MAX: usize = 63;

/// A finding if a name of what is to be created would be cut.
fn too_long(subject: &str, name: &str, what: &str) -> Option<Finding> {
    (name.len() > NAME_BYTES_MAX).then(|| {
        Finding::error(
            "name_too_long",
            subject,
            format!(
                "the name has {} bytes, PostgreSQL takes {NAME_BYTES_MAX}",
                name.len()
            ),
            format!("map to a {what} with a shorter name"),
        )
    })
}

/// Who writes: compared with the checkpoint in every transaction.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    task: TaskKey,
    epoch: Epoch,
}

impl Owner {
    /// `Fenced` unless exactly the one checkpoint row of this owner was touched.
    fn expect_one(&self, rows: u64) -> Result<()> {
        if rows == 1 {
            return Ok(());
        }
        Err(thalweg_core::checkpoint::fenced(&self.task))
    }
}

/// The columns of a table as a list for SQL.
fn column_list<'a>(columns: impl Iterator<Item = &'a ColumnSchema>, prefix: &str) -> String {
    let names = columns.map(|column| format!("{prefix}{}", schema::quote(&column.name)));
    names.collect::<Vec<_>>().join(", ")
}

/// `COPY` of all mapped columns of a table.
fn copy_sql(table: &thalweg_core::plan::TargetTable) -> String {
    let columns = column_list(table.columns.iter(), "");
    format!(
        "COPY {} ({columns}) FROM STDIN (FORMAT binary)",
        quote_table(&table.name)
    )
}
