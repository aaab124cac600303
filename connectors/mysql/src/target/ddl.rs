//! Missing target tables, and the keys that wait for the end of the load.
//!
//! Every statement here commits by itself and may be repeated (see [`super::checkpoint`]).

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::ForeignKeys;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{ColumnType, ForeignKey, ReferenceAction, TableName};
use thalweg_core::{Error, Kind, Result};
use tracing::warn;

use super::check::explain;
use super::checkpoint;
use super::keys;
use super::pending;
use super::place::Place;
use super::rules::joined;
use super::session::{Flavor, Session, quote, text};
use super::side;
use super::table::quote_table;
use crate::schema::NAMES;

/// Creates what is missing.
pub(super) async fn prepare(session: &mut Session, task: &TaskKey, plan: &Plan) -> Result<()> {
    let create: Vec<&TargetTable> = plan.targets.iter().filter(|t| t.create).collect();
    let names: Vec<&TableName> = create.iter().map(|table| &table.name).collect();
    let (place, new) = checkpoint::prepare(session, task, &names).await?;
    for table in create {
        let sql = create_sql(table, session.facts.flavor);
        if let Err(error) = session.run(&sql).await {
            let error = explain(session, plan, error).await;
            if new.contains(&&table.name) {
                pending::take_back(session, &place, task, &table.name).await?;
            }
            return Err(error);
        }
    }
    side::prepare(session, task, plan).await
}

/// The statement that creates a table with the key that tells its rows apart.
pub(super) fn create_sql(table: &TargetTable, flavor: Flavor) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let nullable = column.nullable && !(table.key_is_primary && table.key.contains(&index));
        // Said outright, because the server gives a TIMESTAMP without a word on it a life of its
        // own: not null, and set to the present at every change.
        let null = match (&column.ty, nullable) {
            (_, true) => " NULL",
            (ColumnType::Instant { .. }, false) => " NOT NULL DEFAULT '0000-00-00 00:00:00'",
            (_, false) => " NOT NULL",
        };
        let comment = match column.comment.as_str() {
            "" => String::new(),
            comment => format!(" COMMENT {}", text(&cut(comment, 1024))),
        };
        let name = quote(&column.name);
        parts.push(format!("{name} {}{null}{comment}", column.native));
    }
    if table.key_is_primary && !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", names(table, &table.key)));
    } else if !table.key.is_empty() {
        // What tells rows apart has to be there from the start, and when the task is planned again.
        parts.push(format!("UNIQUE ({})", names(table, &table.key)));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET \
         utf8mb4 COLLATE {}",
        quote_table(&table.name),
        parts.join(", "),
        flavor.collation()
    )
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn names(table: &TargetTable, columns: &[usize]) -> String {
    let names = columns.iter().filter_map(|c| table.columns.get(*c));
    let names: Vec<String> = names.map(|column| quote(&column.name)).collect();
    names.join(", ")
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    names.join(", ")
}

/// All statements that make what the plan creates; a foreign key may get another name if its own is
/// taken.
pub(super) fn statements(plan: &Plan, flavor: Flavor) -> Vec<String> {
    let created = || plan.targets.iter().filter(|table| table.create);
    let unique = |table: &TargetTable| -> Vec<String> {
        let name = |c: &usize| table.columns.get(*c).map(|column| column.name.clone());
        let keys = table.unique_keys.iter();
        keys.map(|key| {
            unique_sql(
                table,
                &key.columns.iter().filter_map(name).collect::<Vec<_>>(),
            )
        })
        .collect()
    };
    let foreign = |table: &TargetTable| -> Vec<String> {
        let keys = table.foreign_keys.iter();
        keys.map(|key| foreign_sql(table, key, &key.name)).collect()
    };
    let tables = created().map(|table| create_sql(table, flavor));
    tables
        .chain(created().flat_map(unique))
        .chain(created().flat_map(foreign))
        .collect()
}

/// The server chooses the name.
fn unique_sql(table: &TargetTable, columns: &[String]) -> String {
    let (name, columns) = (quote_table(&table.name), list(columns));
    format!("ALTER TABLE {name} ADD UNIQUE ({columns})")
}

fn foreign_sql(table: &TargetTable, key: &ForeignKey, name: &str) -> String {
    let action = |on: &str, action: ReferenceAction| match action {
        // InnoDB has no SET DEFAULT.
        ReferenceAction::Refuse | ReferenceAction::SetDefault => String::new(),
        ReferenceAction::Cascade => format!("{on}CASCADE"),
        ReferenceAction::SetNull => format!("{on}SET NULL"),
    };
    format!(
        "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){}{}",
        quote_table(&table.name),
        quote(name),
        list(&key.columns),
        quote_table(&key.parent),
        list(&key.parent_columns),
        action(" ON DELETE ", key.on_delete),
        action(" ON UPDATE ", key.on_update),
    )
}

/// Makes the keys that created tables wait for, where they are not there yet: unique keys first, as
/// foreign keys may need them.
pub(super) async fn make_keys(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    plan: &Plan,
) -> Result<()> {
    let created = || plan.targets.iter().filter(|table| table.create);
    let names: Vec<TableName> = created().map(|table| table.name.clone()).collect();
    let mut there = unique_keys(session, &names).await?;
    for table in created() {
        let there = there.entry(table.name.clone()).or_default();
        for key in &table.unique_keys {
            let columns = key.columns.iter().filter_map(|c| table.columns.get(*c));
            let columns: Vec<String> = columns.map(|column| column.name.clone()).collect();
            if there.contains(&columns) {
                continue;
            }
            session.run(&unique_sql(table, &columns)).await?;
            there.push(columns);
        }
    }
    let keyed = |table: &&TargetTable| table.create || table.rekey;
    let listed = match plan.targets.iter().any(|table| table.rekey) {
        true => keys::foreign_keys(session, place, task).await?,
        false => BTreeSet::new(),
    };
    for table in plan.targets.iter().filter(keyed) {
        for key in &table.foreign_keys {
            let names = foreign_names(&table.name, &key.name);
            let ours = |name: &String| listed.contains(&(table.name.clone(), name.clone()));
            if table.rekey && !names.iter().any(ours)
                || foreign_there(session, &table.name, key).await?
            {
                continue;
            }
            let name = foreign_name(session, &table.name, &key.name).await?;
            checkpoint::note_foreign_key(session, place, task, &table.name, &name).await?;
            let sql = foreign_sql(table, key, &name);
            match session.run(&sql).await {
                // Where rows have come that it does not allow it stays away, and the tables go on.
                Err(error)
                    if table.rekey
                        && matches!(error.kind(), Kind::Data | Kind::Config | Kind::Schema) =>
                {
                    warn!(table = %table.name, sql, error = %error.chain(), "a foreign key cannot come back");
                }
                made => made?,
            }
        }
    }
    Ok(())
}

/// The unique keys of tables, the primary keys included: their columns. A column of which only a part is
/// in the key, or an expression, has no name.
async fn unique_keys(
    session: &mut Session,
    tables: &[TableName],
) -> Result<BTreeMap<TableName, Vec<Vec<String>>>> {
    type Row = (String, Option<String>, Option<u64>);
    let keys = "SELECT index_name, column_name, sub_part, {names} \
                FROM information_schema.statistics WHERE {of} AND non_unique = 0 \
                ORDER BY index_name, seq_in_index";
    let found: BTreeMap<TableName, Vec<Row>> = session.ask_of(tables, NAMES, keys).await?;
    let columns = |rows: Vec<Row>| {
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        for (key, column, part) in rows {
            let column = column.filter(|_| part.is_none()).unwrap_or_default();
            match keys.last_mut().filter(|(name, _)| *name == key) {
                Some((_, list)) => list.push(column),
                None => keys.push((key, vec![column])),
            }
        }
        keys.into_iter().map(|(_, columns)| columns).collect()
    };
    let keys = found.into_iter();
    Ok(keys.map(|(table, rows)| (table, columns(rows))).collect())
}

/// Whether a table has a foreign key of these columns to those, whatever it is called.
async fn foreign_there(session: &mut Session, table: &TableName, key: &ForeignKey) -> Result<bool> {
    type Row = (String, String, String, String, String);
    let rows: Vec<Row> = session
        .ask(
            "SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name, \
             referenced_column_name FROM information_schema.key_column_usage \
             WHERE table_schema = ? AND table_name = ? AND referenced_table_name IS NOT NULL \
             ORDER BY constraint_name, ordinal_position",
            (&table.schema, &table.name),
        )
        .await?;
    let mut keys: Vec<(String, ForeignKey)> = Vec::new();
    for (name, column, schema, parent, parent_column) in rows {
        if keys.last().is_none_or(|(last, _)| *last != name) {
            let empty = ForeignKey {
                name: key.name.clone(),
                columns: Vec::new(),
                parent: TableName::new(schema, parent),
                parent_columns: Vec::new(),
                ..key.clone()
            };
            keys.push((name, empty));
        }
        if let Some((_, key)) = keys.last_mut() {
            key.columns.push(column);
            key.parent_columns.push(parent_column);
        }
    }
    Ok(keys.iter().any(|(_, there)| there == key))
}

/// Per table of the plan, whether its rows may be of several moments: it has a key, no other unique
/// key that does not hold all of it, and no foreign key from it or to it that is checked.
pub(super) async fn loose(session: &mut Session, plan: &Plan) -> Result<Vec<bool>> {
    let targets = plan.targets.iter();
    let names: Vec<TableName> = targets.map(|table| table.name.clone()).collect();
    let unique = unique_keys(session, &names).await?;
    let joined = match plan.options.foreign_keys {
        ForeignKeys::Enforce => joined(session).await?,
        ForeignKeys::Replica => BTreeSet::new(),
    };
    let loose = |table: &TargetTable| {
        let key = table.key.iter().filter_map(|c| table.columns.get(*c));
        let key: Vec<&str> = key.map(|column| column.name.as_str()).collect();
        let holds =
            |there: &Vec<String>| key.iter().all(|column| there.iter().any(|c| c == column));
        let mut unique = unique.get(&table.name).into_iter().flatten();
        !key.is_empty() && unique.all(holds) && !joined.contains(&table.name)
    };
    Ok(plan.targets.iter().map(loose).collect())
}

/// Characters of a name.
pub(super) const NAME_CHARS_MAX: usize = 64;

/// The names that a foreign key may get.
fn foreign_names(table: &TableName, name: &str) -> Vec<String> {
    let long = format!("{}_{name}", table.name);
    let short = format!(
        "{}_{:08x}",
        cut(&long, 50),
        crc32fast::hash(long.as_bytes())
    );
    let mut names = vec![name.to_owned(), long, short];
    names.retain(|name| name.chars().count() <= NAME_CHARS_MAX);
    names
}

/// A name for a foreign key that no other one in the database has: its own, or with the table's in
/// front.
async fn foreign_name(session: &mut Session, table: &TableName, name: &str) -> Result<String> {
    for candidate in foreign_names(table, name) {
        let taken: Vec<u8> = session
            .ask(
                "SELECT 1 FROM information_schema.table_constraints \
                 WHERE constraint_schema = ? AND constraint_name = ? LIMIT 1",
                (&table.schema, &candidate),
            )
            .await?;
        if taken.is_empty() {
            return Ok(candidate);
        }
    }
    Err(
        Error::config(format!("foreign key {name} of {table} finds no free name"))
            .with_hint("drop foreign keys of other tables with such names"),
    )
}
