//! Missing target tables, the keys that wait for the end of the load, and preflight.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ExistingRows, ForeignKeys};
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{ReferenceAction, TableName};
use thalweg_core::{Error, Kind, Result};
use tokio_postgres::{Client, Row};
use tracing::warn;

use super::{NAME_BYTES_MAX, checkpoint, ledger, side};
use crate::error::convert;
use crate::schema::{WANTED, quote, quote_table, wanted};

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
    }
    if outcome.is_ok() {
        checkpoint::note_pending(&transaction, task, plan).await?;
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
    let keys = keys.flat_map(|key| {
        let index = key.index();
        std::iter::once(key.sql).chain(index)
    });
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
/// keys among them. Those that come back are tried: where rows have come that they do not allow, they stay
/// away, and the tables go on. In a transaction.
pub(super) async fn make_keys(client: &Client, task: &TaskKey, plan: &Plan) -> Result<()> {
    let mut keys = keys(plan);
    if keys.iter().any(|key| key.again) {
        let listed = checkpoint::foreign_keys(client, task).await?;
        let ours = |key: &Key| match &key.kind {
            KeyKind::Foreign(name) => listed.contains(&(key.table.clone(), name.clone())),
            KeyKind::Unique(_) => false,
        };
        keys.retain(|key| !key.again || ours(key));
    }
    let mut there = there(client, &keys).await?;
    for key in keys {
        if !there.insert((key.table.clone(), key.kind.clone())) {
            continue;
        }
        if !key.again {
            make_key(client, task, &key).await?;
            continue;
        }
        let run = async |sql: &'static str| client.batch_execute(sql).await.map_err(convert);
        run("SAVEPOINT thalweg_key").await?;
        match make_key(client, task, &key).await {
            Err(error) if matches!(error.kind(), Kind::Data | Kind::Config | Kind::Schema) => {
                warn!(table = %key.table, sql = key.sql, error = %error.chain(), "a foreign key cannot come back");
                run("ROLLBACK TO thalweg_key").await?;
            }
            made => made?,
        }
        run("RELEASE thalweg_key").await?;
    }
    Ok(())
}

async fn make_key(client: &Client, task: &TaskKey, key: &Key) -> Result<()> {
    client.batch_execute(&key.sql).await.map_err(convert)?;
    if let Some(index) = key.index()
        && !indexed(client, &key.table, &key.lookup).await?
    {
        client.batch_execute(&index).await.map_err(convert)?;
    }
    match &key.kind {
        KeyKind::Foreign(name) => {
            checkpoint::note_foreign_key(client, task, &key.table, name).await
        }
        KeyKind::Unique(_) => Ok(()),
    }
}

/// Whether an index of a table begins with these columns, as one does whose foreign key went and came.
async fn indexed(client: &Client, table: &TableName, columns: &[String]) -> Result<bool> {
    let begins = "SELECT EXISTS (SELECT FROM pg_index i \
         WHERE i.indrelid = $1::text::regclass AND i.indisvalid AND i.indpred IS NULL \
         AND ARRAY(SELECT a.attname::text \
           FROM unnest(i.indkey::int2[]) WITH ORDINALITY u (number, place) \
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number \
           WHERE u.place <= cardinality($2::text[]) ORDER BY u.place) = $2)";
    let of = quote_table(table);
    let found = client.query_one(begins, &[&of, &columns]).await;
    Ok(found.map_err(convert)?.get(0))
}

/// The constraints that the tables of these keys have: unique ones, whatever they are called, and foreign
/// keys.
async fn there(client: &Client, keys: &[Key]) -> Result<BTreeSet<(TableName, KeyKind)>> {
    let tables: BTreeSet<&TableName> = keys.iter().map(|key| &key.table).collect();
    let (schemas, names) = wanted(tables);
    let there = format!(
        "SELECT w.schema, w.name, k.contype = 'u', k.conname::text, \
         ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(number, place) \
           JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) \
         FROM {WANTED} JOIN pg_constraint k ON k.conrelid = c.oid WHERE k.contype IN ('u', 'f')"
    );
    let rows = client.query(&there, &[&schemas, &names]).await;
    let key = |row: &Row| {
        let table = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        let kind = match row.get(2) {
            true => KeyKind::Unique(row.get(4)),
            false => KeyKind::Foreign(row.get(3)),
        };
        (table, kind)
    };
    Ok(rows.map_err(convert)?.iter().map(key).collect())
}

/// A key to be made.
struct Key {
    table: TableName,
    kind: KeyKind,
    sql: String,
    /// The columns by which its children are looked for.
    lookup: Vec<String>,
    /// It was there before.
    again: bool,
}

impl Key {
    /// Makes the index by which its children are looked for.
    fn index(&self) -> Option<String> {
        let columns: Vec<String> = self.lookup.iter().map(|name| quote(name)).collect();
        let (table, columns) = (quote_table(&self.table), columns.join(", "));
        (!self.lookup.is_empty()).then(|| format!("CREATE INDEX ON {table} ({columns})"))
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyKind {
    /// Of these columns. It is an index as well, whose name has to be unique in its schema and
    /// can be too long: the server chooses it.
    Unique(Vec<String>),
    /// Of this name, cut as the server cuts it; the names of a table's constraints only have to differ
    /// from each other.
    Foreign(String),
}

/// The keys that created tables wait for: unique keys first, then foreign keys.
fn keys(plan: &Plan) -> Vec<Key> {
    let mut statements = Vec::new();
    for table in plan.targets.iter().filter(|table| table.create) {
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
                lookup: Vec::new(),
                again: false,
            });
        }
    }
    let keyed = |table: &&TargetTable| table.create || table.rekey;
    for table in plan.targets.iter().filter(keyed) {
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
            let lookup = match acts {
                true => key.columns.clone(),
                false => Vec::new(),
            };
            statements.push(Key {
                table: table.name.clone(),
                kind: KeyKind::Foreign(
                    key.name
                        .split_at(key.name.floor_char_boundary(NAME_BYTES_MAX))
                        .0
                        .to_owned(),
                ),
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
                lookup,
                again: table.rekey,
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

/// A list of tables ($1), each with its partitions: its place in the list, counted from 1 on.
const TREE: &str = "\
    WITH RECURSIVE t AS (SELECT w.place, w.name::regclass::oid AS oid \
        FROM unnest($1::text[]) WITH ORDINALITY w (name, place) \
      UNION SELECT t.place, i.inhrelid FROM pg_inherits i JOIN t ON i.inhparent = t.oid) \
    SELECT place, oid FROM t";

/// The unique indexes and exclusion constraints of tables ($1): which table's, whether it excludes,
/// and its columns.
const STRICT: &str = "\
    SELECT i.indrelid, i.indisexclusion, ARRAY(SELECT a.attname::text \
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place) \
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
      WHERE k.place <= i.indnkeyatts) \
    FROM pg_index i WHERE i.indrelid = ANY($1) AND (i.indisexclusion OR i.indisunique)";

/// The foreign keys from or to tables ($1).
const FOREIGN: &str = "\
    SELECT conrelid, confrelid FROM pg_constraint \
    WHERE contype = 'f' AND (conrelid = ANY($1) OR confrelid = ANY($1))";

/// Per table of the plan, whether its rows may be of several moments. Asked of the table and its
/// partitions: no unique index or exclusion constraint but unique indexes that hold all columns of the
/// key, and, unless nothing checks them, no foreign key from it or to it.
pub(super) async fn loose(client: &Client, plan: &Plan) -> Result<Vec<bool>> {
    let targets = plan.targets.iter();
    let names: Vec<String> = targets.map(|table| quote_table(&table.name)).collect();
    let tree = client.query(TREE, &[&names]).await.map_err(convert)?;
    let mut strict: BTreeSet<u32> = BTreeSet::new();
    let oids: Vec<u32> = tree.iter().map(|row| row.get(1)).collect();
    if plan.options.foreign_keys != ForeignKeys::Replica {
        let keys = client.query(FOREIGN, &[&oids]).await.map_err(convert)?;
        strict.extend(
            keys.iter()
                .flat_map(|row| [row.get::<_, u32>(0), row.get(1)]),
        );
    }
    let indexes = client.query(STRICT, &[&oids]).await.map_err(convert)?;
    let mut unique: BTreeMap<u32, Vec<Vec<String>>> = BTreeMap::new();
    for row in indexes {
        if row.get(1) {
            strict.insert(row.get(0));
        }
        unique.entry(row.get(0)).or_default().push(row.get(2));
    }
    let key = |table: &TargetTable| -> Vec<String> {
        let key = table.key.iter().filter_map(|c| table.columns.get(*c));
        key.map(|column| column.name.clone()).collect()
    };
    let keys: Vec<Vec<String>> = plan.targets.iter().map(key).collect();
    let mut loose: Vec<bool> = keys.iter().map(|key| !key.is_empty()).collect();
    for row in &tree {
        let (place, oid): (i64, u32) = (row.get(0), row.get(1));
        let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
        let (Some(loose), Some(key)) = (loose.get_mut(index), keys.get(index)) else {
            return Err(Error::bug("a table nobody asked for"));
        };
        let holds = |columns: &Vec<String>| key.iter().all(|column| columns.contains(column));
        let mut indexes = unique.get(&oid).into_iter().flatten();
        *loose &= !strict.contains(&oid) && indexes.all(holds);
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
    let rights = rights(client, plan).await?;
    let stored = match known {
        true => stored(client, task).await?,
        false => BTreeMap::new(),
    };
    let stored_of = |table: &TargetTable| stored.get(&table.name).copied().unwrap_or(UNKNOWN);
    let emptied = plan.targets.iter().filter(|table| {
        let stored = stored_of(table);
        let replaces = plan.options.existing_rows == ExistingRows::Replace;
        stored.waits && (stored.ours || replaces)
    });
    if plan.operations.insert && plan.options.foreign_keys == ForeignKeys::Enforce {
        let emptied: Vec<&TableName> = emptied.map(|table| &table.name).collect();
        referenced(client, plan, &emptied, &mut findings).await?;
    }
    for (table, rights) in plan.targets.iter().zip(&rights) {
        let subject = table.name.to_string();
        privileges(table, rights, &mut findings);
        if table.create {
            continue;
        }
        let Stored { ours, live, .. } = stored_of(table);
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
                        "TRUNCATE {}, or set the task's option existing_rows to replace (or to compare, if they are \
                         the source's)",
                        quote_table(&table.name)
                    ),
                ));
            }
        }
    }
    Ok(findings)
}

/// What the checkpoint says of a table.
#[derive(Clone, Copy)]
struct Stored {
    /// The task has loaded it before.
    ours: bool,
    live: bool,
    /// Nothing of it is there yet, or it is to be loaded again.
    waits: bool,
}

/// Of a table that the checkpoint does not know.
const UNKNOWN: Stored = Stored {
    ours: false,
    live: false,
    waits: true,
};

async fn stored(client: &Client, task: &TaskKey) -> Result<BTreeMap<TableName, Stored>> {
    let rows = client
        .query(
            "SELECT target_schema, target_table, loaded_rows IS NOT NULL, phase = 'live', \
             phase = 'waiting' FROM thalweg.checkpoint_table WHERE server = $1 AND task = $2",
            &[&task.server, &task.task],
        )
        .await
        .map_err(convert)?;
    let stored = |row: &Row| {
        let name = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        let stored = Stored {
            ours: row.get(2),
            live: row.get(3),
            waits: row.get(4),
        };
        (name, stored)
    };
    Ok(rows.iter().map(stored).collect())
}

/// Tables whose rows are about to be deleted, and whose children would refuse it or go with them.
async fn referenced(
    client: &Client,
    plan: &Plan,
    emptied: &[&TableName],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let (schemas, names) = wanted(emptied.iter().copied());
    let children = format!(
        "SELECT w.schema, w.name, s.nspname, o.relname, quote_ident(k.conname) \
         FROM {WANTED} JOIN pg_constraint k ON k.confrelid = c.oid AND k.conrelid <> c.oid \
         JOIN pg_class o ON o.oid = k.conrelid JOIN pg_namespace s ON s.oid = o.relnamespace \
         WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 3, 4"
    );
    let rows = client.query(&children, &[&schemas, &names]).await;
    for row in rows.map_err(convert)? {
        let table = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        let child = TableName::new(row.get::<_, &str>(2), row.get::<_, &str>(3));
        let key: &str = row.get(4);
        let of = quote_table(&child);
        let any = format!("SELECT 1 FROM {of} LIMIT 1");
        let any = client.query_opt(any.as_str(), &[]);
        // One that cannot be looked at may have rows.
        let empty = any.await.is_ok_and(|row| row.is_none());
        if empty && plan.targets.iter().all(|table| table.name != child) {
            continue;
        }
        findings.push(Finding::error(
            "foreign_key_during_load",
            table.to_string(),
            format!("{child} references it by the foreign key {key}, and its rows are deleted before it is loaded"),
            format!(
                "ALTER TABLE {of} DROP CONSTRAINT {key}, and make it again when the task is \
                 Live; or set the task's option foreign_keys to replica"
            ),
        ));
    }
    Ok(())
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

/// What [`privileges`] is told of each table of the plan.
async fn rights(client: &Client, plan: &Plan) -> Result<Vec<Row>> {
    let names = plan.targets.iter().map(|table| &table.name);
    let (schemas, tables) = wanted(names);
    let schemas: Vec<String> = schemas.into_iter().map(quote).collect();
    // A table or schema that is not there has no rights: NULL.
    let rows = client
        .query(
            "SELECT s.oid IS NOT NULL, has_schema_privilege(s.oid, 'USAGE'), \
             has_schema_privilege(s.oid, 'CREATE'), \
             (SELECT has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
              AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') \
              FROM pg_class c WHERE c.relnamespace = s.oid AND c.relname = w.name), \
             quote_ident(current_user) \
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w (schema, name, place), \
             LATERAL (SELECT to_regnamespace(w.schema)::oid AS oid) s ORDER BY w.place",
            &[&schemas, &tables],
        )
        .await;
    rows.map_err(convert)
}

/// What keeps the user from writing a table, and the statement that gives the right.
fn privileges(table: &TargetTable, rights: &Row, findings: &mut Vec<Finding>) {
    let name = quote_table(&table.name);
    let schema = quote(&table.name.schema);
    let may = |index: usize| rights.get::<_, Option<bool>>(index);
    let user: &str = rights.get(4);
    let mut missing = |code: &'static str, subject: String, message: &str, fix: String| {
        findings.push(Finding::error(code, subject, message, fix));
    };
    if !rights.get::<_, bool>(0) {
        let fix = format!("CREATE SCHEMA {schema} AUTHORIZATION {user}");
        missing("schema_missing", schema, "there is no such schema", fix);
        return;
    }
    let lacking = match (may(1), may(2), may(3)) {
        (Some(false), Some(false), None) if table.create => "USAGE, CREATE",
        (Some(true), Some(false), None) if table.create => "CREATE",
        (Some(false), ..) => "USAGE",
        _ => "",
    };
    if !lacking.is_empty() {
        missing(
            "schema_privileges",
            schema.clone(),
            "the user may not use the schema as the task must",
            format!("GRANT {lacking} ON SCHEMA {schema} TO {user}"),
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
        for (table, rights) in plan.targets.iter().zip(&rights(client, plan).await?) {
            privileges(table, rights, &mut findings);
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
