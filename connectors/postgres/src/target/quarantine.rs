//! Changes in quarantine, beside the checkpoint. Written in the transaction that moves the position past
//! them.

use thalweg_core::batch::ApplyBatch;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::plan::Plan;
use thalweg_core::quarantine::{Held, kind_named, kind_word};
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Result, Side};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};

use super::checkpoint::OF;
use crate::error::convert;
use crate::schema::wanted;

pub(super) const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS thalweg.quarantine (
  server text NOT NULL, task text NOT NULL, number bigint NOT NULL, target_schema text NOT NULL,
  target_table text NOT NULL, source_schema text NOT NULL, source_table text NOT NULL,
  row_key bytea NOT NULL, moved_key bytea, shown text NOT NULL, operation text NOT NULL, error text,
  place text NOT NULL, at_ms bigint NOT NULL, row_change bytea NOT NULL,
  PRIMARY KEY (server, task, number))";

/// Does in the open transaction what a batch says of the quarantine, and puts `more` there.
pub(super) async fn settle(
    client: &Client,
    task: &TaskKey,
    plan: &Plan,
    batch: &ApplyBatch,
    more: &[Held],
) -> Result<()> {
    for (target, feed) in &batch.emptied {
        let table = plan.targets.get(*target).map(|table| &table.name);
        let source = plan.source_of(*target, *feed);
        let both = table.zip(source.map(|source| &source.schema.name));
        let (table, source) = both.ok_or_else(|| Error::bug("a truncated table of no plan"))?;
        let empty = "DELETE FROM thalweg.quarantine WHERE server = $1 AND task = $2 \
                     AND target_schema = $3 AND target_table = $4 AND source_schema = $5 \
                     AND source_table = $6";
        let of: [&(dyn ToSql + Sync); 6] = [
            &task.server,
            &task.task,
            &table.schema,
            &table.name,
            &source.schema,
            &source.name,
        ];
        client.execute(empty, &of).await.map_err(convert)?;
    }
    if !batch.freed.is_empty() {
        let free = "DELETE FROM thalweg.quarantine \
                    WHERE server = $1 AND task = $2 AND number = ANY ($3)";
        let of: [&(dyn ToSql + Sync); 3] = [&task.server, &task.task, &batch.freed];
        client.execute(free, &of).await.map_err(convert)?;
    }
    put(client, task, &batch.held).await?;
    put(client, task, more).await
}

/// Puts changes into quarantine in the open transaction.
pub(super) async fn put(client: &Client, task: &TaskKey, held: &[Held]) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let put = "INSERT INTO thalweg.quarantine VALUES \
               ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    let put = client.prepare(put).await.map_err(convert)?;
    for held in held {
        let at_ms = i64::try_from(held.at_ms).unwrap_or(i64::MAX);
        let row: [&(dyn ToSql + Sync); 15] = [
            &task.server,
            &task.task,
            &held.number,
            &held.target.schema,
            &held.target.name,
            &held.source.schema,
            &held.source.name,
            &held.key,
            &held.moved,
            // A text of PostgreSQL has no zero byte.
            &held.shown.replace('\0', "\u{fffd}"),
            &kind_word(held.kind),
            &held
                .error
                .as_ref()
                .map(|error| error.replace('\0', "\u{fffd}")),
            &held.place,
            &at_ms,
            &held.change,
        ];
        client.execute(&put, &row).await.map_err(convert)?;
    }
    Ok(())
}

/// Empties the quarantine of a target table in the open transaction.
pub(super) async fn clear(client: &Client, task: &TaskKey, table: &TableName) -> Result<()> {
    let of: [&(dyn ToSql + Sync); 4] = [&task.server, &task.task, &table.schema, &table.name];
    let clear = "DELETE FROM thalweg.quarantine WHERE server = $1 AND task = $2 \
                 AND target_schema = $3 AND target_table = $4";
    client.execute(clear, &of).await.map(drop).map_err(convert)
}

/// The same, of tables that are to be loaded again. A task may be reset before it has run with a version
/// that has a quarantine.
pub(super) async fn clear_all(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    tables: &[TableName],
) -> Result<()> {
    if tables.is_empty() || !there(transaction).await? {
        return Ok(());
    }
    let (schemas, names) = wanted(tables);
    let of: [&(dyn ToSql + Sync); 4] = [&task.server, &task.task, &schemas, &names];
    let clear = format!("DELETE FROM thalweg.quarantine {OF}");
    let cleared = transaction.execute(&clear, &of).await;
    cleared.map(drop).map_err(convert)
}

/// Removes all that lies in quarantine for a task.
pub(super) async fn release(client: &mut Client, task: &TaskKey) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    if there(&transaction).await? {
        let all = "DELETE FROM thalweg.quarantine WHERE server = $1 AND task = $2";
        let removed = transaction.execute(all, &[&task.server, &task.task]).await;
        removed.map_err(convert)?;
    }
    transaction.commit().await.map_err(convert)
}

async fn there(transaction: &Transaction<'_>) -> Result<bool> {
    let table = "SELECT to_regclass('thalweg.quarantine') IS NOT NULL";
    let row = transaction.query_one(table, &[]).await;
    Ok(row.map_err(convert)?.get(0))
}

/// What lies in quarantine for a task, in its order.
pub(super) async fn read(client: &mut Client, task: &TaskKey, changes: bool) -> Result<Vec<Held>> {
    let transaction = client.transaction().await.map_err(convert)?;
    if !there(&transaction).await? {
        return Ok(Vec::new());
    }
    let change = if changes { "row_change" } else { "''::bytea" };
    let read = format!(
        "SELECT number, target_schema, target_table, source_schema, source_table, row_key, \
         moved_key, shown, operation, error, place, at_ms, {change} FROM thalweg.quarantine \
         WHERE server = $1 AND task = $2 ORDER BY number"
    );
    let rows = transaction.query(&read, &[&task.server, &task.task]).await;
    rows.map_err(convert)?.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<Held> {
    let name = |at: usize| TableName::new(row.get::<_, &str>(at), row.get::<_, &str>(at + 1));
    let kind = kind_named(row.get(8)).ok_or_else(|| {
        Error::config("the quarantine has an operation this version does not know").at(Side::Target)
    })?;
    Ok(Held {
        number: row.get(0),
        target: name(1),
        source: name(3),
        key: row.get(5),
        moved: row.get(6),
        shown: row.get(7),
        kind,
        error: row.get(9),
        place: row.get(10),
        at_ms: u64::try_from(row.get::<_, i64>(11)).unwrap_or(0),
        change: row.get(12),
    })
}
