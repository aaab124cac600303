//! The ledgers: which chunks of which table are in.
//!
//! A row per chunk, written in the transaction that loads it. Nobody writes such a row twice: its
//! writer has the epoch, and the engine loads a chunk once. So there is no key, and bounds of any
//! length fit. A table's phase is `loading` from the moment it is emptied until it is Live.

use std::collections::BTreeMap;

use thalweg_core::checkpoint::{LoadedChunk, TaskKey};
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::position::Visibility;
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Result, Side};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};

use super::checkpoint::{self, OF};
use super::quarantine;
use crate::error::convert;
use crate::schema::wanted;

/// `range_column` is null for a chunk that is all of its table, a bound where there is none.
pub(super) const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS thalweg.checkpoint_chunk (
  server text NOT NULL, task text NOT NULL, target_schema text NOT NULL, target_table text NOT NULL,
  source_schema text NOT NULL, source_table text NOT NULL, range_column int4, range_from bytea,
  range_to bytea, visibility text NOT NULL, loaded_rows bigint NOT NULL)";

/// Empties the ledger of a table and marks it `loading`: what was loaded before is gone.
pub(super) async fn begin(
    client: &Client,
    task: &TaskKey,
    table: &TableName,
    fingerprint: &str,
) -> Result<()> {
    client
        .execute(
            "DELETE FROM thalweg.checkpoint_chunk \
             WHERE server = $1 AND task = $2 AND target_schema = $3 AND target_table = $4",
            &[&task.server, &task.task, &table.schema, &table.name],
        )
        .await
        .map_err(convert)?;
    quarantine::clear(client, task, table).await?;
    let phase = format!(
        "INSERT INTO thalweg.checkpoint_table (server, task, target_schema, target_table, \
         phase, fingerprint, loaded_rows, relation) VALUES ($1, $2, $3, $4, 'loading', $5, 0, {}) \
         ON CONFLICT (server, task, target_schema, target_table) DO UPDATE SET \
         phase = 'loading', visibility = NULL, fingerprint = $5, loaded_rows = 0, \
         relation = excluded.relation",
        checkpoint::relation("$3", "$4")
    );
    client
        .execute(
            &phase,
            &[
                &task.server,
                &task.task,
                &table.schema,
                &table.name,
                &fingerprint,
            ],
        )
        .await
        .map_err(convert)?;
    Ok(())
}

/// Adds a chunk.
pub(super) async fn add(
    client: &Client,
    task: &TaskKey,
    table: &TableName,
    chunk: &LoadedChunk,
) -> Result<()> {
    let column = chunk
        .range
        .as_ref()
        .map(|range| i32::try_from(range.column));
    let column = column
        .transpose()
        .map_err(|_| Error::bug("a table with too many columns"))?;
    let bound = |of: fn(&KeyRange) -> &Option<Bound>| {
        let bound = chunk.range.as_ref().and_then(|range| of(range).as_ref());
        bound.map(Bound::raw)
    };
    let rows = i64::try_from(chunk.rows).unwrap_or(i64::MAX);
    client
        .execute(
            "INSERT INTO thalweg.checkpoint_chunk VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
             $11)",
            &[
                &task.server,
                &task.task,
                &table.schema,
                &table.name,
                &chunk.source.schema,
                &chunk.source.name,
                &column,
                &bound(|range| &range.from),
                &bound(|range| &range.to),
                &chunk.seen.as_str(),
                &rows,
            ],
        )
        .await
        .map_err(convert)?;
    Ok(())
}

/// The ledgers of a task's tables.
pub(super) async fn read(
    client: &Client,
    task: &TaskKey,
) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    client
        .query(
            "SELECT target_schema, target_table, source_schema, source_table, range_column, \
             range_from, range_to, visibility, loaded_rows FROM thalweg.checkpoint_chunk \
             WHERE server = $1 AND task = $2",
            &[&task.server, &task.task],
        )
        .await
}

/// What [`read`] gave, by target table.
pub(super) fn parse(rows: &[Row]) -> Result<BTreeMap<TableName, Vec<LoadedChunk>>> {
    let mut ledgers: BTreeMap<TableName, Vec<LoadedChunk>> = BTreeMap::new();
    for row in rows {
        let name = |at: usize| TableName::new(row.get::<_, &str>(at), row.get::<_, &str>(at + 1));
        let broken = || {
            Error::config("the checkpoint has a chunk this version does not understand")
                .with_hint("reset the task, so that it loads again")
                .at(Side::Target)
        };
        let bound = |at: usize| {
            let raw = row.get::<_, Option<&[u8]>>(at);
            raw.map(|raw| Bound::from_raw(raw).ok_or_else(broken))
                .transpose()
        };
        let range = match row.get::<_, Option<i32>>(4) {
            Some(column) => Some(KeyRange {
                column: usize::try_from(column).map_err(|_| broken())?,
                from: bound(5)?,
                to: bound(6)?,
            }),
            None => None,
        };
        ledgers.entry(name(0)).or_default().push(LoadedChunk {
            source: name(2),
            range,
            seen: Visibility::new(row.get::<_, &str>(7)),
            rows: u64::try_from(row.get::<_, i64>(8)).unwrap_or(0),
        });
    }
    Ok(ledgers)
}

/// Drops the ledgers of all tables of a task that are Live, keeping how many rows they had.
pub(super) async fn drop_live(client: &Client, task: &TaskKey) -> Result<()> {
    for statement in [
        "UPDATE thalweg.checkpoint_table c SET loaded_rows = l.rows FROM (SELECT target_schema, \
           target_table, sum(loaded_rows)::bigint AS rows FROM thalweg.checkpoint_chunk \
           WHERE server = $1 AND task = $2 GROUP BY 1, 2) l \
         WHERE c.server = $1 AND c.task = $2 AND c.phase = 'live' \
         AND (c.target_schema, c.target_table) = (l.target_schema, l.target_table)",
        "DELETE FROM thalweg.checkpoint_chunk l USING thalweg.checkpoint_table c \
         WHERE c.server = $1 AND c.task = $2 AND c.phase = 'live' AND l.server = $1 \
         AND l.task = $2 \
         AND (c.target_schema, c.target_table) = (l.target_schema, l.target_table)",
    ] {
        client
            .execute(statement, &[&task.server, &task.task])
            .await
            .map_err(convert)?;
    }
    Ok(())
}

/// Drops the ledgers of all tables of a task that are to be loaded again.
pub(super) async fn drop_waiting(transaction: &Transaction<'_>, task: &TaskKey) -> Result<()> {
    // A task may be reset before it has run with a version that has ledgers.
    if !there(transaction).await? {
        return Ok(());
    }
    transaction
        .execute(
            "DELETE FROM thalweg.checkpoint_chunk l USING thalweg.checkpoint_table c \
             WHERE c.server = $1 AND c.task = $2 AND c.phase = 'waiting' AND l.server = $1 \
             AND l.task = $2 \
             AND (c.target_schema, c.target_table) = (l.target_schema, l.target_table)",
            &[&task.server, &task.task],
        )
        .await
        .map_err(convert)?;
    Ok(())
}

/// Drops all ledgers of a task.
pub(super) async fn release(client: &mut Client, task: &TaskKey) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    if there(&transaction).await? {
        transaction
            .execute(
                "DELETE FROM thalweg.checkpoint_chunk WHERE server = $1 AND task = $2",
                &[&task.server, &task.task],
            )
            .await
            .map_err(convert)?;
    }
    transaction.commit().await.map_err(convert)
}

async fn there(transaction: &Transaction<'_>) -> Result<bool> {
    let table = "SELECT to_regclass('thalweg.checkpoint_chunk') IS NOT NULL";
    let row = transaction.query_one(table, &[]).await;
    Ok(row.map_err(convert)?.get(0))
}

/// Makes ledgers of what versions before there were any have stored: tables `loaded` whole, with
/// one visibility. Repeatable.
pub(super) async fn adopt(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    plan: &Plan,
) -> Result<()> {
    // Those versions knew tables of one source only.
    let of = |table: &'_ TargetTable| {
        let source = plan.sources.get(table.feeds.first()?.source)?;
        Some((table.name.clone(), source.schema.name.clone()))
    };
    let (targets, sources): (Vec<TableName>, Vec<TableName>) =
        plan.targets.iter().filter_map(of).unzip();
    let (schemas, names) = wanted(&targets);
    let (source_schemas, source_names) = wanted(&sources);
    // Two statements: what one changes, another part of it may not see.
    transaction
        .execute(
            "INSERT INTO thalweg.checkpoint_chunk \
             SELECT server, task, target_schema, target_table, source_schema, source_table, NULL, \
             NULL, NULL, visibility, coalesce(loaded_rows, 0) \
             FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) \
               w (target_schema, target_table, source_schema, source_table) \
             JOIN thalweg.checkpoint_table c USING (target_schema, target_table) \
             WHERE server = $1 AND task = $2 AND phase = 'loaded'",
            &[
                &task.server,
                &task.task,
                &schemas,
                &names,
                &source_schemas,
                &source_names,
            ],
        )
        .await
        .map_err(convert)?;
    let loading = format!(
        "UPDATE thalweg.checkpoint_table SET phase = 'loading', visibility = NULL {OF} \
         AND phase = 'loaded'"
    );
    let of: [&(dyn ToSql + Sync); 4] = [&task.server, &task.task, &schemas, &names];
    let loading = transaction.execute(&loading, &of).await;
    loading.map(drop).map_err(convert)
}
