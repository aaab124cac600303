//! The foreign keys that the task made: which go when tables are loaded again, and which are away.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::schema::TableName;

use super::checkpoint::{OF, listed, note_relations, unnote_relation};
use super::place::Place;
use super::session::{Session, quote};
use super::table::quote_table;

/// Drops the foreign keys that this task made from tables, or to them from others. They stay listed.
pub(super) async fn drop_keys(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    tables: &[TableName],
) -> Result<()> {
    let tables: BTreeSet<&TableName> = tables.iter().collect();
    let mut altered = Vec::new();
    for (owner, _, there) in keys_made(session, place, task, "").await? {
        let goes = |(_, parent): &(&String, &TableName)| {
            tables.contains(&owner) || tables.contains(parent)
        };
        let gone: Vec<&String> = there.iter().filter(goes).map(|(name, _)| name).collect();
        if gone.is_empty() {
            continue;
        }
        // First, so that they are made again whatever happens in between.
        note_keys_away(session, place, task, &owner).await?;
        unnote_relation(session, place, task, &owner).await?;
        session.run("COMMIT").await?;
        for name in gone {
            let (owner, name) = (quote_table(&owner), quote(name));
            session
                .run(&format!("ALTER TABLE {owner} DROP FOREIGN KEY {name}"))
                .await?;
        }
        altered.push(owner);
    }
    if !altered.is_empty() {
        // Those that stay Live must be known again.
        note_relations(session, place, task, &altered).await?;
    }
    Ok(())
}

/// A table, the names of the foreign keys that were made for it, and those that are there, each with the
/// table that it leads to.
type KeysMade = (TableName, Vec<String>, BTreeMap<String, TableName>);

/// Of the tables for which this task made foreign keys, and to which a condition applies.
async fn keys_made(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    condition: &str,
) -> Result<Vec<KeysMade>> {
    let read = format!(
        "SELECT target_schema, target_table, foreign_keys FROM {} \
         WHERE server = ? AND task = ? AND foreign_keys <> '' {condition}",
        place.tables()
    );
    let made: Vec<(String, String, String)> =
        session.ask(&read, (&task.server, &task.task)).await?;
    let made: Vec<(TableName, Vec<String>)> = made
        .into_iter()
        .map(|(schema, name, keys)| (TableName::new(schema, name), listed(&keys)))
        .collect();
    let owners: Vec<TableName> = made.iter().map(|(owner, _)| owner.clone()).collect();
    let keys = "SELECT constraint_name, unique_constraint_schema, referenced_table_name, {names} \
                FROM information_schema.referential_constraints WHERE {of}";
    let of = ("constraint_schema", "table_name");
    let mut there: BTreeMap<TableName, Vec<(String, String, String)>> =
        session.ask_of(&owners, of, keys).await?;
    let keys = made.into_iter().map(|(owner, made)| {
        let there = there.remove(&owner).into_iter().flatten();
        let there = there.filter(|(name, ..)| made.contains(name));
        let there = there.map(|(name, schema, parent)| (name, TableName::new(schema, parent)));
        let there = there.collect();
        (owner, made, there)
    });
    Ok(keys.collect())
}

/// The foreign keys that this task made, those included that are away.
pub(super) async fn foreign_keys(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> Result<BTreeSet<(TableName, String)>> {
    let keys = keys_made(session, place, task, "").await?.into_iter();
    let keys =
        keys.flat_map(|(table, made, _)| made.into_iter().map(move |key| (table.clone(), key)));
    Ok(keys.collect())
}

/// The tables that wait for foreign keys which this task made and dropped, and which are not there yet.
pub(super) async fn keys_away(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> Result<Vec<TableName>> {
    let pending = keys_made(session, place, task, "AND keys_pending").await?;
    let away = pending
        .into_iter()
        .filter(|(_, made, there)| made.len() > there.len());
    Ok(away.map(|(table, ..)| table).collect())
}

/// Notes that a table waits for keys, in the open transaction.
pub(super) async fn note_keys_away(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
) -> Result<()> {
    let pending = format!("UPDATE {} SET keys_pending = 1 {OF}", place.tables());
    let key = (&task.server, &task.task, &table.schema, &table.name);
    session.exec(&pending, key).await.map(drop)
}
