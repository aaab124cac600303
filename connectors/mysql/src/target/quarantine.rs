//! What lies in quarantine ([`thalweg_core::quarantine`]), beside the checkpoint.
//!
//! A row per change, written in the transaction that moves the position past it, or that loads the chunk
//! it is of. Rows are removed by their numbers only: a statement that looked for those of a table would
//! wait for every row of the task that another transaction has not committed, and loaders put theirs
//! here beside each other and beside the stream.
//!
//! A checkpoint of an earlier version has no such table before the task is prepared again.

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Row, Value};
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::quarantine::{Held, kind_named, kind_word};
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Result, Side};

use super::place::Place;
use super::session::Session;
use super::table::{fits, gone_is_none};

/// Puts changes there in the open transaction.
pub(super) async fn put(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    held: &[Held],
) -> Result<()> {
    let put = format!(
        "INSERT INTO {} (server, task, number, target_schema, target_table, source_schema, \
         source_table, row_key, moved_key, shown, operation, error, place, at_ms, row_change) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        place.quarantine()
    );
    for held in held {
        let what = || format!("a change of {} in quarantine", held.target);
        fits(what, bytes(held), &session.facts)?;
        let params: Vec<Value> = vec![
            (&task.server).into(),
            (&task.task).into(),
            held.number.into(),
            (&held.target.schema).into(),
            (&held.target.name).into(),
            (&held.source.schema).into(),
            (&held.source.name).into(),
            (&held.key).into(),
            (&held.moved).into(),
            (&held.shown).into(),
            kind_word(held.kind).into(),
            (&held.error).into(),
            (&held.place).into(),
            held.at_ms.into(),
            (&held.change).into(),
        ];
        session.exec(&put, params).await?;
    }
    Ok(())
}

/// Bytes of what may be long.
fn bytes(held: &Held) -> usize {
    let moved = held.moved.as_ref().map_or(0, Vec::len);
    let error = held.error.as_ref().map_or(0, String::len);
    held.change.len() + held.key.len() + moved + held.shown.len() + error + held.place.len()
}

/// Removes changes in the open transaction.
pub(super) async fn free(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    numbers: &[i64],
) -> Result<()> {
    let free = format!(
        "DELETE FROM {} WHERE server = ? AND task = ? AND number = ?",
        place.quarantine()
    );
    for number in numbers {
        let key = (&task.server, &task.task, number);
        session.exec(&free, key).await?;
    }
    Ok(())
}

/// Removes the changes of one source of a target table in the open transaction.
pub(super) async fn empty(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    target: &TableName,
    source: &TableName,
) -> Result<()> {
    remove(session, place, task, target, Some(source)).await
}

/// Removes the changes of all sources of a target table in the open transaction.
pub(super) async fn clear(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    target: &TableName,
) -> Result<()> {
    remove(session, place, task, target, None).await
}

async fn remove(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    target: &TableName,
    source: Option<&TableName>,
) -> Result<()> {
    let mut find = format!(
        "SELECT number FROM {} WHERE server = ? AND task = ? AND target_schema = ? \
         AND target_table = ?",
        place.quarantine()
    );
    let mut key = vec![&task.server, &task.task, &target.schema, &target.name];
    if let Some(source) = source {
        find.push_str(" AND source_schema = ? AND source_table = ?");
        key.extend([&source.schema, &source.name]);
    }
    let key: Vec<Value> = key.into_iter().map(Value::from).collect();
    let numbers: Option<Vec<i64>> = gone_is_none(session.conn().exec(find, key).await)?;
    free(session, place, task, &numbers.unwrap_or_default()).await
}

/// The changes of a task in the order of their numbers; `changes`: with the changes themselves.
pub(super) async fn read(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    changes: bool,
) -> Result<Vec<Held>> {
    let change = if changes { "row_change" } else { "''" };
    let read = format!(
        "SELECT number, target_schema, target_table, source_schema, source_table, row_key, \
         moved_key, shown, operation, error, place, at_ms, {change} FROM {} \
         WHERE server = ? AND task = ? ORDER BY number",
        place.quarantine()
    );
    let key = (&task.server, &task.task);
    let rows: Option<Vec<Row>> = gone_is_none(session.conn().exec(read, key).await)?;
    let rows = rows.unwrap_or_default().into_iter();
    rows.map(|row| held(row).ok_or_else(strange)).collect()
}

fn strange() -> Error {
    Error::config("the quarantine has a change this version does not understand")
        .with_hint("run the version that wrote it, or reset the task, so that it loads again")
        .at(Side::Target)
}

fn held(mut row: Row) -> Option<Held> {
    Some(Held {
        number: cell(&mut row, 0)?,
        target: TableName::new(cell::<String>(&mut row, 1)?, cell::<String>(&mut row, 2)?),
        source: TableName::new(cell::<String>(&mut row, 3)?, cell::<String>(&mut row, 4)?),
        key: cell(&mut row, 5)?,
        moved: cell(&mut row, 6)?,
        shown: cell(&mut row, 7)?,
        kind: kind_named(&cell::<String>(&mut row, 8)?)?,
        error: cell(&mut row, 9)?,
        place: cell(&mut row, 10)?,
        at_ms: cell(&mut row, 11)?,
        change: cell(&mut row, 12)?,
    })
}

fn cell<T: FromValue>(row: &mut Row, at: usize) -> Option<T> {
    row.take_opt(at)?.ok()
}
