//! The ledgers: which chunks of which table are in.
//!
//! A row per chunk, written in the transaction that loads it. Nobody writes such a row twice: its
//! writer has the epoch, and the engine loads a chunk once. A table's phase is `loading` from the
//! moment it is emptied until it is Live.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Error as My, Row, Value};
use thalweg_core::checkpoint::{LoadedChunk, TaskKey};
use thalweg_core::position::Visibility;
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Result, Side};

use super::checkpoint;
use super::place::Place;
use super::quarantine;
use super::session::Session;

/// Empties the ledger and the quarantine of a table and marks it `loading`: what was loaded before is gone.
pub(super) async fn begin(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
    fingerprint: &str,
) -> Result<()> {
    clear(session, place, task, table).await?;
    quarantine::clear(session, place, task, table).await?;
    let mut relations = checkpoint::relations(session, std::slice::from_ref(table)).await?;
    let relation = relations.remove(table);
    let phase = format!(
        "INSERT INTO {} (server, task, target_schema, target_table, phase, fingerprint, \
         loaded_rows, foreign_keys, relation) VALUES (?, ?, ?, ?, 'loading', ?, 0, '', ?) \
         ON DUPLICATE KEY UPDATE phase = 'loading', fingerprint = ?, loaded_rows = 0, relation = ?",
        place.tables()
    );
    let params = (
        &task.server,
        &task.task,
        &table.schema,
        &table.name,
        fingerprint,
        &relation,
        fingerprint,
        &relation,
    );
    session.exec(&phase, params).await?;
    Ok(())
}

/// Drops the ledger of a table.
pub(super) async fn clear(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
) -> Result<()> {
    let clear = format!(
        "DELETE FROM {} WHERE server = ? AND task = ? AND target_schema = ? AND target_table = ?",
        place.chunks()
    );
    let key = (&task.server, &task.task, &table.schema, &table.name);
    session.exec(&clear, key).await?;
    Ok(())
}

/// Adds a chunk.
pub(super) async fn add(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
    chunk: &LoadedChunk,
) -> Result<()> {
    let range = chunk.range.as_ref();
    let column = range.map(|range| range.column as u64);
    let bound = |of: fn(&KeyRange) -> &Option<Bound>| {
        let bound = range.and_then(|range| of(range).as_ref());
        bound.map(Bound::raw)
    };
    let add = format!(
        "INSERT INTO {} (server, task, target_schema, target_table, source_schema, source_table, \
         range_column, range_from, range_to, visibility, loaded_rows) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        place.chunks()
    );
    let params: Vec<Value> = vec![
        (&task.server).into(),
        (&task.task).into(),
        (&table.schema).into(),
        (&table.name).into(),
        (&chunk.source.schema).into(),
        (&chunk.source.name).into(),
        column.into(),
        bound(|range| &range.from).into(),
        bound(|range| &range.to).into(),
        chunk.seen.as_str().into(),
        chunk.rows.into(),
    ];
    session.exec(&add, params).await?;
    Ok(())
}

/// The ledgers of a task's tables, by target table.
pub(super) async fn read(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> std::result::Result<Vec<Row>, My> {
    let read = format!(
        "SELECT target_schema, target_table, source_schema, source_table, range_column, \
         range_from, range_to, visibility, loaded_rows FROM {} WHERE server = ? AND task = ?",
        place.chunks()
    );
    let key = (&task.server, &task.task);
    session.conn().exec(read, key).await
}

/// What [`read`] gave, by target table.
pub(super) fn parse(rows: Vec<Row>) -> Result<BTreeMap<TableName, Vec<LoadedChunk>>> {
    let broken = || {
        Error::config("the checkpoint has a chunk this version does not understand")
            .with_hint("reset the task, so that it loads again")
            .at(Side::Target)
    };
    let mut ledgers: BTreeMap<TableName, Vec<LoadedChunk>> = BTreeMap::new();
    for row in rows {
        type Names = [String; 4];
        let texts = |at: [usize; 4]| -> Option<Names> {
            let [a, b, c, d] = at.map(|at| row.get::<String, _>(at));
            Some([a?, b?, c?, d?])
        };
        let [schema, table, source_schema, source_table] =
            texts([0, 1, 2, 3]).ok_or_else(broken)?;
        let column: Option<u64> = row.get::<Option<u64>, _>(4).flatten();
        let bound = |at: usize| {
            let raw = row.get::<Option<Vec<u8>>, _>(at).flatten();
            raw.map(|raw| Bound::from_raw(&raw).ok_or_else(broken))
                .transpose()
        };
        let range = match column {
            Some(column) => Some(KeyRange {
                column: usize::try_from(column).map_err(|_| broken())?,
                from: bound(5)?,
                to: bound(6)?,
            }),
            None => None,
        };
        let chunk = LoadedChunk {
            source: TableName::new(source_schema, source_table),
            range,
            seen: Visibility::new(row.get::<String, _>(7).ok_or_else(broken)?),
            rows: row.get::<u64, _>(8).ok_or_else(broken)?,
        };
        let target = TableName::new(schema, table);
        ledgers.entry(target).or_default().push(chunk);
    }
    Ok(ledgers)
}

/// Drops the ledgers of all tables of a task that are Live, keeping how many rows they had.
pub(super) async fn drop_live(session: &mut Session, place: &Place, task: &TaskKey) -> Result<()> {
    let (tables, chunks) = (place.tables(), place.chunks());
    let same = "c.target_schema = l.target_schema AND c.target_table = l.target_table";
    let keep = format!(
        "UPDATE {tables} c JOIN (SELECT target_schema, target_table, SUM(loaded_rows) AS n \
           FROM {chunks} WHERE server = ? AND task = ? GROUP BY target_schema, target_table) l \
         ON {same} SET c.loaded_rows = l.n WHERE c.server = ? AND c.task = ? AND c.phase = 'live'"
    );
    let drop = format!(
        "DELETE l FROM {chunks} l JOIN {tables} c ON {same} \
         WHERE l.server = ? AND l.task = ? AND c.server = ? AND c.task = ? AND c.phase = 'live'"
    );
    for statement in [keep, drop] {
        let key = (&task.server, &task.task, &task.server, &task.task);
        session.exec(&statement, key).await?;
    }
    Ok(())
}
