//! Missing target tables, the keys that wait for the end of the load, and preflight.

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ExistingRows, ForeignKeys};
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{ReferenceAction, TableName};
use thalweg_core::{Error, Kind, Result};
use tokio_postgres::Client;

use super::{checkpoint, ledger, side};
use crate::error::convert;
use crate::schema::{quote, quote_table};

/// Creates what is missing, in one transaction.
pub(super) async fn prepare(client: &mut Client, task: &TaskKey, plan: &Plan) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    checkpoint::prepare(&transaction).await?;
    ledger::adopt(&transaction, task, plan).await?;
    let mut outcome = Ok(());
    for table in plan.targets.iter().filter(|table| table.create) {
        outcome = transaction
            .batch_execute(&create_sql(table))
            .await
            .map_err(convert);
        if outcome.is_err() {
            break;
        }
        checkpoint::note_pending(&transaction, task, &table.name).await?;
    }
    if outcome.is_ok() {
        outcome = side::prepare(&transaction, task, plan).await;
    }
    match outcome {
        Ok(()) => transaction.commit().await.map_err(convert),
        Err(error) => {
            drop(transaction);
            Err(explain(client, plan, error).await)
        }
    }
}

/// All statements that make what the plan creates.
pub(super) fn statements(plan: &Plan) -> Vec<String> {
    let created = plan.targets.iter().filter(|table| table.create);
    let tables = created.flat_map(|table| [vec![create_sql(table)], comments(table)].concat());
    let keys = keys(plan).into_iter();
    let keys = keys.flat_map(|key| std::iter::once(key.sql).chain(key.index));
    tables.chain(keys).collect()
}

/// What the owners of the source's columns say of them.
fn comments(table: &TargetTable) -> Vec<String> {
    let said = table
        .columns
        .iter()
        .filter(|column| !column.comment.is_empty());
    let comment = said.map(|column| {
        format!(
            "COMMENT ON COLUMN {}.{} IS E'{}'",
            quote_table(&table.name),
            quote(&column.name),
            // NUL is in no text of this system.
            column
                .comment
                .replace('\0', "")
                .replace('\\', "\\\\")
                .replace('\'', "''")
        )
    });
    comment.collect()
}

fn create_sql(table: &TargetTable) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let nullable = column.nullable && !(table.key_is_primary && table.key.contains(&index));
        let suffix = if nullable { "" } else { " NOT NULL" };
        parts.push(format!("{} {}{suffix}", quote(&column.name), column.native));
    }
    if table.key_is_primary && !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", names(table, &table.key)));
    } else if !table.key.is_empty() {
        // What tells rows apart has to be there from the start, and when the task is planned again.
        parts.push(format!("UNIQUE ({})", names(table, &table.key)));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({})",
        quote_table(&table.name),
        parts.join(", ")
    )
}

/// Makes the keys that created tables wait for, where they are not there yet, and notes the foreign
/// keys among them.
pub(super) async fn make_keys(client: &Client, task: &TaskKey, plan: &Plan) -> Result<()> {
    for key in keys(plan) {
        let table = quote_table(&key.table);
        let there = match &key.kind {
            KeyKind::Unique(columns) => client.query_opt(UNIQUE_THERE, &[&table, columns]).await,
            KeyKind::Foreign(name) => client.query_opt(FOREIGN_THERE, &[&table, name]).await,
        };
        if there.map_err(convert)?.is_some() {
            continue;
        }
        for sql in std::iter::once(&key.sql).chain(&key.index) {
            client.batch_execute(sql).await.map_err(convert)?;
        }
        if let KeyKind::Foreign(name) = &key.kind {
            checkpoint::note_foreign_key(client, task, &key.table, name).await?;
        }
    }
    Ok(())
}

/// Whether a table has a unique constraint of exactly these columns, whatever it is called.
const UNIQUE_THERE: &str = "\
    SELECT 1 FROM pg_constraint c WHERE c.conrelid = $1::text::regclass AND c.contype = 'u' \
    AND ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(number, place) \
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place) \
    = $2::text[] LIMIT 1";

/// Whether a table has a constraint of this name, cut as the server cuts it.
const FOREIGN_THERE: &str = "\
    SELECT 1 FROM pg_constraint \
    WHERE conrelid = $1::text::regclass AND conname = $2::text::name";

/// A key to be made.
struct Key {
    table: TableName,
    kind: KeyKind,
    sql: String,
    /// Of the referencing columns.
    index: Option<String>,
}

enum KeyKind {
    /// Of these columns. It is an index as well, whose name has to be unique in its schema and
    /// can be too long: the server chooses it.
    Unique(Vec<String>),
    /// Of this name; the names of a table's constraints only have to differ from each other.
    Foreign(String),
}

/// The keys that created tables wait for: unique keys first, then foreign keys.
fn keys(plan: &Plan) -> Vec<Key> {
    let mut statements = Vec::new();
    let created = || plan.targets.iter().filter(|table| table.create);
    for table in created() {
        for key in &table.unique_keys {
            statements.push(Key {
                table: table.name.clone(),
                kind: KeyKind::Unique(
                    key.columns
                        .iter()
                        .filter_map(|c| table.columns.get(*c))
                        .map(|c| c.name.clone())
                        .collect(),
                ),
                sql: format!(
                    "ALTER TABLE {} ADD UNIQUE ({})",
                    quote_table(&table.name),
                    names(table, &key.columns)
                ),
                index: None,
            });
        }
    }
    for table in created() {
        for key in &table.foreign_keys {
            let list = |names: &[String]| {
                names
                    .iter()
                    .map(|n| quote(n))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            // Whatever follows such a key looks for its children.
            let acts = [key.on_delete, key.on_update] != [ReferenceAction::Refuse; 2];
            let index = acts.then(|| {
                let (table, columns) = (quote_table(&table.name), list(&key.columns));
                format!("CREATE INDEX ON {table} ({columns})")
            });
            statements.push(Key {
                table: table.name.clone(),
                kind: KeyKind::Foreign(key.name.clone()),
                sql: format!(
                    "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){}{}",
                    quote_table(&table.name),
                    quote(&key.name),
                    list(&key.columns),
                    quote_table(&key.parent),
                    list(&key.parent_columns),
                    action(" ON DELETE ", key.on_delete),
                    action(" ON UPDATE ", key.on_update),
                ),
                index,
            });
        }
    }
    statements
}

/// What a foreign key does, as its definition says it.
fn action(on: &str, action: ReferenceAction) -> String {
    match action {
        ReferenceAction::Refuse => String::new(),
        ReferenceAction::Cascade => format!("{on}CASCADE"),
        ReferenceAction::SetNull => format!("{on}SET NULL"),
        ReferenceAction::SetDefault => format!("{on}SET DEFAULT"),
    }
}

pub(super) fn names(table: &TargetTable, columns: &[usize]) -> String {
    let names = columns
        .iter()
        .filter_map(|c| table.columns.get(*c))
        .map(|c| quote(&c.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Whether rows of a table ($1) may be of several moments. Asked of the table and its partitions:
/// no unique index or exclusion constraint but unique indexes that hold all columns of the key ($2),
/// and, unless nothing checks them ($3), no foreign key from it or to it.
const LOOSE: &str = "\
    WITH RECURSIVE t AS (SELECT $1::text::regclass::oid AS oid \
      UNION SELECT i.inhrelid FROM pg_inherits i JOIN t ON i.inhparent = t.oid) \
    SELECT NOT EXISTS (SELECT FROM pg_index i JOIN t ON i.indrelid = t.oid \
      WHERE i.indisexclusion OR (i.indisunique AND NOT ($2::text[] <@ ARRAY( \
        SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place) \
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
        WHERE k.place <= i.indnkeyatts)))) \
    AND ($3 OR NOT EXISTS (SELECT FROM pg_constraint c JOIN t ON t.oid IN (c.conrelid, c.confrelid) \
      WHERE c.contype = 'f'))";

/// Per table of the plan, whether its rows may be of several moments.
pub(super) async fn loose(client: &Client, plan: &Plan) -> Result<Vec<bool>> {
    let mut loose = Vec::new();
    let replica = plan.options.foreign_keys == ForeignKeys::Replica;
    for table in &plan.targets {
        let key = table.key.iter().filter_map(|c| table.columns.get(*c));
        let key: Vec<&str> = key.map(|column| column.name.as_str()).collect();
        let name = quote_table(&table.name);
        let row = client.query_one(LOOSE, &[&name, &key, &replica]).await;
        loose.push(!key.is_empty() && row.map_err(convert)?.get(0));
    }
    Ok(loose)
}

/// Preflight at the target.
pub(super) async fn check(client: &Client, task: &TaskKey, plan: &Plan) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    server(client, &mut findings).await?;
    let known = client
        .query_one(
            "SELECT to_regclass('thalweg.checkpoint_table') IS NOT NULL",
            &[],
        )
        .await
        .map_err(convert)?
        .get::<_, bool>(0);
    for table in &plan.targets {
        let subject = table.name.to_string();
        privileges(client, table, &mut findings).await?;
        if table.create {
            continue;
        }
        let (ours, live) = match known {
            true => stored(client, task, table).await?,
            false => (false, false),
        };
        // Once Live, every transaction is applied whole and the key is kept as at the source; the
        // task makes such keys itself on tables it has created.
        if !live
            && !table.foreign_keys.is_empty()
            && plan.options.foreign_keys == ForeignKeys::Enforce
        {
            findings.push(Finding::error(
                "foreign_key_during_load",
                subject.clone(),
                "it references another table of the task, and tables are loaded independently",
                "set the task's option foreign_keys to replica, or drop the foreign key until the \
                 task is Live",
            ));
        }
        if !ours && plan.operations.insert && plan.options.existing_rows == ExistingRows::Refuse {
            let any = format!("SELECT 1 FROM {} LIMIT 1", quote_table(&table.name));
            if client
                .query_opt(any.as_str(), &[])
                .await
                .is_ok_and(|row| row.is_some())
            {
                findings.push(Finding::error(
                    "rows_exist",
                    subject,
                    "it has rows already",
                    format!(
                        "TRUNCATE {}, or set the task's option existing_rows to replace",
                        quote_table(&table.name)
                    ),
                ));
            }
        }
    }
    Ok(findings)
}

/// Whether the task has loaded a table before, and whether the table is Live.
async fn stored(client: &Client, task: &TaskKey, table: &TargetTable) -> Result<(bool, bool)> {
    let row = client
        .query_opt(
            "SELECT loaded_rows IS NOT NULL, phase = 'live' FROM thalweg.checkpoint_table \
             WHERE server = $1 AND task = $2 AND target_schema = $3 AND target_table = $4",
            &[
                &task.server,
                &task.task,
                &table.name.schema,
                &table.name.name,
            ],
        )
        .await
        .map_err(convert)?;
    Ok(row.map_or((false, false), |row| (row.get(0), row.get(1))))
}

async fn server(client: &Client, findings: &mut Vec<Finding>) -> Result<()> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, \
             current_setting('transaction_read_only'), current_setting('server_encoding'), \
             coalesce((to_regclass('thalweg.checkpoint_table') IS NOT NULL \
                 AND to_regclass('thalweg.checkpoint_chunk') IS NOT NULL \
                 AND to_regclass('thalweg.checkpoint_layout') IS NOT NULL \
                 AND to_regclass('thalweg.quarantine') IS NOT NULL) \
               OR has_schema_privilege(to_regnamespace('thalweg')::oid, 'CREATE'), \
               has_database_privilege(current_database(), 'CREATE')), \
             to_regnamespace('thalweg') IS NOT NULL, quote_ident(current_database()), quote_ident(current_user)",
            &[],
        )
        .await
        .map_err(convert)?;
    let (database, user): (&str, &str) = (row.get(5), row.get(6));
    if row.get::<_, i32>(0) < 110_000 {
        findings.push(Finding::error(
            "version",
            "server",
            "it is older than PostgreSQL 11",
            "upgrade the server",
        ));
    }
    if row.get::<_, &str>(1) != "off" {
        findings.push(Finding::error(
            "read_only",
            "server",
            "it takes no writes: a standby, or default_transaction_read_only is on",
            "connect to the primary, or ALTER SYSTEM SET default_transaction_read_only = off",
        ));
    }
    if row.get::<_, &str>(2) != "UTF8" {
        findings.push(Finding::error(
            "encoding",
            database,
            "its encoding is not UTF8, so not every text fits",
            "create the target database with ENCODING 'UTF8'",
        ));
    }
    if !row.get::<_, bool>(3) {
        let (message, place) = if row.get(4) {
            let message = "the user may not create the checkpoint tables in schema thalweg";
            (message, "USAGE, CREATE ON SCHEMA thalweg".to_owned())
        } else {
            let message = "the user may not create schema thalweg, where the checkpoint lies";
            (message, format!("CREATE ON DATABASE {database}"))
        };
        let fix = format!("GRANT {place} TO {user}");
        findings.push(Finding::error("create_schema", database, message, fix));
    }
    Ok(())
}

/// What keeps the user from writing a table, and the statement that gives the right.
async fn privileges(
    client: &Client,
    table: &TargetTable,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let name = quote_table(&table.name);
    let schema = quote(&table.name.schema);
    // A table or schema that is not there has no rights: NULL.
    let row = client
        .query_one(
            "SELECT to_regnamespace($1) IS NOT NULL, \
             has_schema_privilege(to_regnamespace($1)::oid, 'USAGE'), \
             has_schema_privilege(to_regnamespace($1)::oid, 'CREATE'), \
             (SELECT has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
              AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') \
              FROM pg_class c WHERE c.relnamespace = to_regnamespace($1)::oid AND c.relname = $2::text), \
             quote_ident(current_user)",
            &[&schema, &table.name.name],
        )
        .await
        .map_err(convert)?;
    let may = |index: usize| row.get::<_, Option<bool>>(index);
    let user: &str = row.get(4);
    let mut missing = |code: &'static str, subject: String, message: &str, fix: String| {
        findings.push(Finding::error(code, subject, message, fix));
    };
    if !row.get::<_, bool>(0) {
        let fix = format!("CREATE SCHEMA {schema} AUTHORIZATION {user}");
        missing("schema_missing", schema, "there is no such schema", fix);
        return Ok(());
    }
    let rights = match (may(1), may(2), may(3)) {
        (Some(false), Some(false), None) if table.create => "USAGE, CREATE",
        (Some(true), Some(false), None) if table.create => "CREATE",
        (Some(false), ..) => "USAGE",
        _ => "",
    };
    if !rights.is_empty() {
        missing(
            "schema_privileges",
            schema.clone(),
            "the user may not use the schema as the task must",
            format!("GRANT {rights} ON SCHEMA {schema} TO {user}"),
        );
    }
    if may(3) == Some(false) {
        missing(
            "privileges",
            table.name.to_string(),
            "the user may not read and write it",
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {user}"),
        );
    }
    Ok(())
}

/// An error that stops the task, with the exact statements in its hint if rights are missing. The
/// client's transaction is given up.
pub(super) async fn explain(client: &Client, plan: &Plan, error: Error) -> Error {
    if error.kind() != Kind::Config {
        return error;
    }
    let mut findings = Vec::new();
    let ask = async {
        client.batch_execute("ROLLBACK").await.map_err(convert)?;
        for table in &plan.targets {
            privileges(client, table, &mut findings).await?;
        }
        Ok::<(), Error>(())
    };
    // Who cannot be asked leaves the error as it was.
    if ask.await.is_err() || findings.is_empty() {
        return error;
    }
    let mut fixes: Vec<String> = findings.into_iter().map(|finding| finding.fix).collect();
    fixes.dedup();
    error.with_hint(fixes.join("; "))
}
