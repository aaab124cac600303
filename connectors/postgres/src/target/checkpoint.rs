//! The checkpoint tables: made, claimed, forgotten, and removed with the last task.
//!
//! Preparing and removing take turns by an advisory lock, so a preparation either finds the tables
//! of before a removal, or makes new ones after it. A claim takes no such lock, because it may wait
//! long for a transaction of an older owner and must not make all other tasks wait. What if the
//! tables go between a task's preparation and its claim?
//!
//! - The removal locks the tables before it looks for rows. A claim that inserted its row before
//!   is seen, and the tables stay.
//! - A claim that comes after waits for the lock and then finds no table. It has changed nothing
//!   yet, so it makes the tables, under the advisory lock, and claims again.
//!
//! So a task that was prepared can claim, and the row of a task that has claimed is never lost.
//!
//! The rows speak of relations, not of names: who drops a table and makes it again has an empty one
//! of the same name, and a stream into that would silently lack all rows of before. So `relation`
//! names what was loaded by its oid, and a table that is another one now is to be loaded again, as
//! rows in it are not the task's own. Oids change when the whole database is restored from a dump;
//! the checkpoint table then has another oid as well, and what lies there is consistent: it is
//! believed, once.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::checkpoint::{
    Checkpoint, Epoch, LoadedChunk, Outline, Outlined, TableCheckpoint, TablePhase, TaskKey,
};
use thalweg_core::plan::{Plan, same_mapping};
use thalweg_core::ports::Pending;
use thalweg_core::position::Position;
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Result, Side};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

use super::{layouts, ledger, quarantine, side};
use crate::error::convert;
use crate::schema::{quote, quote_table, wanted};

/// Any number; taken by every preparation and removal, so that two of them take turns.
const LOCK: i64 = 0x7468_616c_7765_6700;
/// How often a claim makes the tables that another task's removal has dropped.
const CLAIM_TRIES: usize = 5;
/// How long a removal waits for a lock, while all new work on the checkpoint waits behind it.
const REMOVE_WAIT: &str = "SET LOCAL lock_timeout = '3s'";

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS thalweg.checkpoint (
  server text NOT NULL, task text NOT NULL, epoch bigint NOT NULL, applied text,
  PRIMARY KEY (server, task)) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS thalweg.checkpoint_table (
  server text NOT NULL, task text NOT NULL, target_schema text NOT NULL, target_table text NOT NULL,
  phase text NOT NULL, visibility text, fingerprint text NOT NULL, loaded_rows bigint,
  keys_pending boolean NOT NULL DEFAULT false, foreign_keys text[] NOT NULL DEFAULT '{}',
  relation text, whole boolean NOT NULL DEFAULT false,
  PRIMARY KEY (server, task, target_schema, target_table))";

/// What tables of earlier versions lack.
const COLUMNS: &str = "\
ALTER TABLE thalweg.checkpoint_table ADD COLUMN IF NOT EXISTS relation text,
  ADD COLUMN IF NOT EXISTS whole boolean NOT NULL DEFAULT false";

/// Rows of a task about tables, whose schemas are $3 and whose names are $4.
pub(super) const OF: &str = "\
    WHERE server = $1 AND task = $2 \
    AND (target_schema, target_table) IN (SELECT * FROM unnest($3::text[], $4::text[]))";

/// Of the checkpoint `c` of a task ($1, $2), the foreign keys `f` that it made from tables ($3, $4), or to
/// them from others.
const KEYS_OF: &str = "\
    FROM thalweg.checkpoint_table c, unnest(c.foreign_keys) f (name) \
    WHERE c.server = $1 AND c.task = $2 AND ( \
      (c.target_schema, c.target_table) IN (SELECT * FROM unnest($3::text[], $4::text[])) \
      OR EXISTS (SELECT FROM pg_constraint k \
        JOIN pg_class o ON o.oid = k.conrelid JOIN pg_namespace s ON s.oid = o.relnamespace \
        JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
        WHERE k.contype = 'f' AND k.conname = f.name \
          AND s.nspname = c.target_schema AND o.relname = c.target_table \
          AND (n.nspname, t.relname) IN (SELECT * FROM unnest($3::text[], $4::text[]))))";

/// The oid of the checkpoint table, of which `relation` begins.
const OWN: &str = "'thalweg.checkpoint_table'::regclass::oid";

/// The oid of the target table of that schema and name (both SQL); null if there is none.
fn oid(schema: &str, table: &str) -> String {
    format!(
        "(SELECT r.oid FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace \
         WHERE n.nspname = {schema}::text AND r.relname = {table}::text)"
    )
}

/// What stands in `relation` for a table (SQL).
pub(super) fn relation(schema: &str, table: &str) -> String {
    format!("{OWN} || '/' || {}", oid(schema, table))
}

/// Whether a loaded table `c` is gone, or another one than was loaded (SQL). Written so that it
/// can be asked of checkpoint tables made before there was a `relation`.
fn replaced() -> String {
    let (now, stored) = (
        oid("c.target_schema", "c.target_table"),
        "to_jsonb(c)->>'relation'",
    );
    format!(
        "c.phase <> 'waiting' AND ({now} IS NULL OR (split_part({stored}, '/', 1) = {OWN}::text \
         AND split_part({stored}, '/', 2) <> {now}::text))"
    )
}

/// Makes sure that the checkpoint tables exist and stay until `transaction` ends.
pub(super) async fn prepare(transaction: &Transaction<'_>) -> Result<()> {
    take_turns(transaction).await?;
    // Asked first, because IF NOT EXISTS needs the right to create even where nothing is to do.
    let there = transaction
        .query_one(
            "SELECT to_regnamespace('thalweg') IS NOT NULL, \
             to_regclass('thalweg.checkpoint_table') IS NOT NULL, \
             EXISTS (SELECT FROM pg_attribute WHERE attname = 'whole' \
               AND attrelid = to_regclass('thalweg.checkpoint_table')), \
             to_regclass('thalweg.checkpoint_chunk') IS NOT NULL, \
             to_regclass('thalweg.checkpoint_layout') IS NOT NULL, \
             to_regclass('thalweg.quarantine') IS NOT NULL",
            &[],
        )
        .await
        .map_err(convert)?;
    if !there.get::<_, bool>(0) {
        let schema = "CREATE SCHEMA thalweg";
        transaction.batch_execute(schema).await.map_err(convert)?;
    }
    if !there.get::<_, bool>(1) {
        transaction.batch_execute(TABLES).await.map_err(convert)?;
    } else if !there.get::<_, bool>(2) {
        transaction.batch_execute(COLUMNS).await.map_err(convert)?;
    }
    let more = [
        (3, ledger::TABLE),
        (4, layouts::TABLE),
        (5, quarantine::TABLE),
    ];
    for (at, create) in more {
        if !there.get::<_, bool>(at) {
            transaction.batch_execute(create).await.map_err(convert)?;
        }
    }
    Ok(())
}

async fn take_turns(transaction: &Transaction<'_>) -> Result<()> {
    let lock = "SELECT pg_advisory_xact_lock($1)";
    transaction.execute(lock, &[&LOCK]).await.map_err(convert)?;
    Ok(())
}

/// Raises the epoch, then reads what the target has.
pub(super) async fn claim(client: &mut Client, task: &TaskKey) -> Result<Checkpoint> {
    for _ in 0..CLAIM_TRIES {
        match claim_once(client, task).await {
            Ok(claimed) => return claimed,
            Err(error) if is_gone(&error) => {
                let transaction = client.transaction().await.map_err(convert)?;
                prepare(&transaction).await?;
                transaction.commit().await.map_err(convert)?;
            }
            Err(error) => return Err(convert(error)),
        }
    }
    Err(Error::transient("the checkpoint tables are removed again and again").at(Side::Target))
}

async fn claim_once(
    client: &Client,
    task: &TaskKey,
) -> std::result::Result<Result<Checkpoint>, tokio_postgres::Error> {
    // The row lock waits for a transaction that an older owner has open.
    let row = client
        .query_one(
            "INSERT INTO thalweg.checkpoint AS c (server, task, epoch) VALUES ($1, $2, 1) \
             ON CONFLICT (server, task) DO UPDATE SET epoch = c.epoch + 1 RETURNING epoch, applied",
            &[&task.server, &task.task],
        )
        .await?;
    let believe = format!(
        "UPDATE thalweg.checkpoint_table c SET relation = {} \
         WHERE server = $1 AND task = $2 AND phase <> 'waiting' \
         AND split_part(relation, '/', 1) IS DISTINCT FROM {OWN}::text",
        relation("c.target_schema", "c.target_table")
    );
    client
        .execute(&believe, &[&task.server, &task.task])
        .await?;
    let tables = format!(
        "SELECT target_schema, target_table, phase, whole, fingerprint, loaded_rows, {} \
         FROM thalweg.checkpoint_table c WHERE server = $1 AND task = $2",
        replaced()
    );
    let tables = client.query(&tables, &[&task.server, &task.task]).await?;
    let chunks = ledger::read(client, task).await?;
    let layouts = layouts::read(client, task).await?;
    let tables = ledger::parse(&chunks).and_then(|mut ledgers| {
        let stored = tables.iter().map(|row| stored_table(row, &mut ledgers));
        stored.collect::<Result<_>>()
    });
    let applied = row.get::<_, Option<String>>(1).map(Position::new);
    Ok(tables.map(|tables| Checkpoint {
        epoch: Epoch(row.get(0)),
        applied,
        tables,
        layouts,
    }))
}

/// What the target has of a task, without becoming its owner; `None`: it does not know the task.
pub(super) async fn outline(client: &mut Client, task: &TaskKey) -> Result<Option<Outline>> {
    let transaction = client.transaction().await.map_err(convert)?;
    match read_outline(&transaction, task).await {
        Ok(outline) => Ok(outline),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(convert(error)),
    }
}

async fn read_outline(
    transaction: &Transaction<'_>,
    task: &TaskKey,
) -> std::result::Result<Option<Outline>, tokio_postgres::Error> {
    let applied = "SELECT applied FROM thalweg.checkpoint WHERE server = $1 AND task = $2";
    let key: [&(dyn ToSql + Sync); 2] = [&task.server, &task.task];
    let Some(row) = transaction.query_opt(applied, &key).await? else {
        return Ok(None);
    };
    let known = known(transaction, task).await?.into_iter();
    let known = known.filter(|(_, phase, _)| phase != "waiting");
    let outlined = |(target, phase, fingerprint): (TableName, String, String)| Outlined {
        target,
        fingerprint,
        live: phase == "live",
    };
    Ok(Some(Outline {
        applied: row.get::<_, Option<String>>(0).map(Position::new),
        tables: known.map(outlined).collect(),
        layouts: layouts::read(transaction.client(), task).await?,
    }))
}

fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME
    })
}

/// Forgets the position: every table is to be loaded again.
pub(super) async fn forget(client: &mut Client, task: &TaskKey) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    let known = match known(&transaction, task).await {
        Ok(known) => known,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(convert(error)),
    };
    transaction
        .execute(
            "UPDATE thalweg.checkpoint SET applied = NULL WHERE server = $1 AND task = $2",
            &[&task.server, &task.task],
        )
        .await
        .map_err(convert)?;
    let all: Vec<TableName> = known.into_iter().map(|(name, ..)| name).collect();
    again(&transaction, task, &all).await?;
    transaction.commit().await.map_err(convert)
}

/// Tables are to be loaded as one chunk.
pub(super) async fn as_one_chunk(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    tables: &[TableName],
) -> Result<()> {
    let (schemas, names) = wanted(tables);
    let whole = format!("UPDATE thalweg.checkpoint_table c SET whole = true {OF}");
    let of: [&(dyn ToSql + Sync); 4] = [&task.server, &task.task, &schemas, &names];
    transaction.execute(&whole, &of).await.map_err(convert)?;
    Ok(())
}

/// Marks those tables as not loaded that left the plan, are mapped in another way, or are not the
/// relations that were loaded; says whether there were any.
pub(super) async fn set_aside(client: &mut Client, task: &TaskKey, plan: &Plan) -> Result<bool> {
    let transaction = client.transaction().await.map_err(convert)?;
    let mut known = match known(&transaction, task).await {
        Ok(known) => known,
        Err(error) if is_gone(&error) => return Ok(false),
        Err(error) => return Err(convert(error)),
    };
    let lost = set_replaced_aside(&transaction, task).await?;
    known.retain(|(name, phase, fingerprint)| {
        let target = plan.targets.iter().position(|table| table.name == *name);
        let other = |target| !same_mapping(fingerprint, &plan.fingerprint(target));
        phase != "waiting" && target.is_none_or(other)
    });
    let stale: Vec<TableName> = known.into_iter().map(|(name, ..)| name).collect();
    again(&transaction, task, &stale).await?;
    quarantine::clear_all(&transaction, task, &lost).await?;
    transaction.commit().await.map_err(convert)?;
    Ok(!lost.is_empty() || !stale.is_empty())
}

/// Tables are to be loaded again, as they were to be before.
pub(super) async fn again(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    tables: &[TableName],
) -> Result<()> {
    wait_for_load(transaction, task, tables).await?;
    ledger::drop_waiting(transaction, task).await?;
    quarantine::clear_all(transaction, task, tables).await
}

/// Marks tables as never loaded that were dropped since, and gives their names. Foreign keys of ours went with them.
async fn set_replaced_aside(
    transaction: &Transaction<'_>,
    task: &TaskKey,
) -> Result<Vec<TableName>> {
    let lost = format!(
        "UPDATE thalweg.checkpoint_table c SET phase = 'waiting', visibility = NULL, \
         loaded_rows = NULL, foreign_keys = '{{}}', keys_pending = false WHERE server = $1 AND task = $2 AND {} \
         RETURNING target_schema, target_table",
        replaced()
    );
    let lost = transaction
        .query(&lost, &[&task.server, &task.task])
        .await
        .map_err(convert)?;
    let name =
        |row: &tokio_postgres::Row| TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
    Ok(lost.iter().map(name).collect())
}

/// The stored tables: name, phase, fingerprint.
async fn known(
    transaction: &Transaction<'_>,
    task: &TaskKey,
) -> std::result::Result<Vec<(TableName, String, String)>, tokio_postgres::Error> {
    let rows = transaction
        .query(
            "SELECT target_schema, target_table, phase, fingerprint FROM thalweg.checkpoint_table \
             WHERE server = $1 AND task = $2",
            &[&task.server, &task.task],
        )
        .await?;
    let row = |row: &tokio_postgres::Row| {
        let name = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        (name, row.get(2), row.get(3))
    };
    Ok(rows.iter().map(row).collect())
}

/// Marks tables as not loaded. The foreign keys that this task made from them and to them go, because
/// tables are loaded independently; they come back when the tables go Live.
async fn wait_for_load(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    tables: &[TableName],
) -> Result<()> {
    let wait = "SET LOCAL lock_timeout = '10s'";
    transaction.batch_execute(wait).await.map_err(convert)?;
    let (schemas, names) = wanted(tables);
    let of: [&(dyn ToSql + Sync); 4] = [&task.server, &task.task, &schemas, &names];
    let made = format!("SELECT c.target_schema, c.target_table, f.name {KEYS_OF} FOR UPDATE OF c");
    let made = transaction.query(&made, &of).await.map_err(convert)?;
    let wait =
        format!("UPDATE thalweg.checkpoint_table c SET phase = 'waiting', visibility = NULL {OF}");
    transaction.execute(&wait, &of).await.map_err(convert)?;
    for row in made {
        let table = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        let key: &str = row.get(2);
        transaction
            .execute(
                "UPDATE thalweg.checkpoint_table SET keys_pending = true \
                 WHERE server = $1 AND task = $2 AND target_schema = $3 AND target_table = $4",
                &[&task.server, &task.task, &table.schema, &table.name],
            )
            .await
            .map_err(convert)?;
        let drop = format!(
            "ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}",
            quote_table(&table),
            quote(key)
        );
        transaction.batch_execute(&drop).await.map_err(convert)?;
    }
    Ok(())
}

/// The foreign keys that this task made, those included that are away.
pub(super) async fn foreign_keys(
    client: &Client,
    task: &TaskKey,
) -> Result<BTreeSet<(TableName, String)>> {
    let listed = "SELECT target_schema, target_table, unnest(foreign_keys) \
                  FROM thalweg.checkpoint_table WHERE server = $1 AND task = $2";
    let rows = client.query(listed, &[&task.server, &task.task]).await;
    let key = |row: &tokio_postgres::Row| {
        let table = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        (table, row.get(2))
    };
    Ok(rows.map_err(convert)?.iter().map(key).collect())
}

/// Notes a foreign key that this task made.
pub(super) async fn note_foreign_key(
    client: &Client,
    task: &TaskKey,
    table: &TableName,
    key: &str,
) -> Result<()> {
    client
        .execute(
            "UPDATE thalweg.checkpoint_table SET foreign_keys = array_append(foreign_keys, $5) \
             WHERE server = $1 AND task = $2 AND target_schema = $3 AND target_table = $4 \
             AND $5 <> ALL (foreign_keys)",
            &[&task.server, &task.task, &table.schema, &table.name, &key],
        )
        .await
        .map_err(convert)?;
    Ok(())
}

/// Notes that the tables that the plan creates were created by the task and wait for their keys.
pub(super) async fn note_pending(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    plan: &Plan,
) -> Result<()> {
    let created = plan.targets.iter().filter(|table| table.create);
    let (schemas, names) = wanted(created.map(|table| &table.name));
    transaction
        .execute(
            "INSERT INTO thalweg.checkpoint_table \
             SELECT $1, $2, w.schema, w.name, 'waiting', NULL, '', NULL, true, '{}' \
             FROM unnest($3::text[], $4::text[]) w (schema, name) \
             ON CONFLICT (server, task, target_schema, target_table) \
             DO UPDATE SET keys_pending = true",
            &[&task.server, &task.task, &schemas, &names],
        )
        .await
        .map_err(convert)?;
    Ok(())
}

/// Tables created by the task that wait for keys; none if there are no checkpoint tables.
pub(super) async fn pending(client: &Client, task: &TaskKey) -> Result<Vec<Pending>> {
    let rows = client
        .query(
            "SELECT target_schema, target_table, loaded_rows IS NOT NULL \
             FROM thalweg.checkpoint_table WHERE server = $1 AND task = $2 AND keys_pending",
            &[&task.server, &task.task],
        )
        .await;
    match rows {
        Ok(rows) => Ok(rows
            .iter()
            .map(|row| Pending {
                table: TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1)),
                loaded: row.get(2),
            })
            .collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(convert(error)),
    }
}

/// Removes the rows of a task, and with the last task's the tables and the schema.
pub(super) async fn release(client: &mut Client, task: &TaskKey) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    let wait = transaction.batch_execute(REMOVE_WAIT);
    wait.await.map_err(convert)?;
    side::release(&transaction, task).await?;
    transaction.commit().await.map_err(convert)?;
    // A transaction of its own: it may wait for an owner's transaction, and others may not wait
    // behind that.
    ledger::release(client, task).await?;
    quarantine::release(client, task).await?;
    on_rows(client, task, &[layouts::DROP]).await?;
    on_rows(
        client,
        task,
        &[
            "DELETE FROM thalweg.checkpoint_table WHERE server = $1 AND task = $2",
            "DELETE FROM thalweg.checkpoint WHERE server = $1 AND task = $2",
        ],
    )
    .await?;
    remove_unused(client).await
}

/// Runs statements with the task's key as parameters, in one transaction; nothing if there are
/// no checkpoint tables.
async fn on_rows(client: &mut Client, task: &TaskKey, statements: &[&str]) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    for statement in statements {
        let done = transaction
            .execute(*statement, &[&task.server, &task.task])
            .await;
        match done {
            Ok(_) => {}
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(convert(error)),
        }
    }
    transaction.commit().await.map_err(convert)
}

/// Drops the tables if no task has a row in them, and the schema if it then is empty: each only if
/// it is ours and we could make it again, so that what an administrator prepared for us stays.
async fn remove_unused(client: &mut Client) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    let wait = transaction.batch_execute(REMOVE_WAIT);
    wait.await.map_err(convert)?;
    take_turns(&transaction).await?;
    let ours = "SELECT count(*) FILTER (WHERE c.relname IN ('checkpoint', 'checkpoint_table')) = 2 \
                AND bool_and(pg_has_role(c.relowner, 'USAGE') \
                  AND has_schema_privilege(n.oid, 'CREATE')) \
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = 'thalweg' \
                AND c.relname IN ('checkpoint', 'checkpoint_table', 'checkpoint_chunk', \
                  'checkpoint_layout', 'quarantine')";
    if !yes(&transaction, ours).await? || in_use(&transaction).await? {
        return transaction.commit().await.map_err(convert);
    }
    let lock = "LOCK TABLE thalweg.checkpoint, thalweg.checkpoint_table IN ACCESS EXCLUSIVE MODE";
    transaction.batch_execute(lock).await.map_err(convert)?;
    // A claim may have come between the first look and the lock.
    if !in_use(&transaction).await? {
        transaction
            .batch_execute(
                "DROP TABLE IF EXISTS thalweg.checkpoint_chunk, thalweg.checkpoint_layout, \
                 thalweg.quarantine; \
                 DROP TABLE thalweg.checkpoint_table, thalweg.checkpoint",
            )
            .await
            .map_err(convert)?;
        drop_schema(&transaction).await?;
    }
    transaction.commit().await.map_err(convert)
}

async fn in_use(transaction: &Transaction<'_>) -> Result<bool> {
    let any = "SELECT EXISTS (SELECT FROM thalweg.checkpoint) \
               OR EXISTS (SELECT FROM thalweg.checkpoint_table)";
    yes(transaction, any).await
}

/// The server is asked whether the schema is empty by trying, because objects of any kind can lie
/// in it.
async fn drop_schema(transaction: &Transaction<'_>) -> Result<()> {
    let ours = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'thalweg' \
                AND pg_has_role(nspowner, 'USAGE') \
                AND has_database_privilege(current_database(), 'CREATE'))";
    if !yes(transaction, ours).await? {
        return Ok(());
    }
    let sql = |sql| transaction.batch_execute(sql);
    sql("SAVEPOINT thalweg").await.map_err(convert)?;
    match sql("DROP SCHEMA thalweg").await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            let back = sql("ROLLBACK TO SAVEPOINT thalweg").await;
            back.map_err(convert)
        }
        Err(error) => Err(convert(error)),
    }
}

async fn yes(transaction: &Transaction<'_>, question: &str) -> Result<bool> {
    let row = transaction.query_one(question, &[]).await;
    Ok(row.map_err(convert)?.get(0))
}

fn stored_table(
    row: &tokio_postgres::Row,
    ledgers: &mut BTreeMap<TableName, Vec<LoadedChunk>>,
) -> Result<TableCheckpoint> {
    let target = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
    let ledger = ledgers.remove(&target);
    let mut rows = row.get::<_, Option<i64>>(5);
    let phase = match row.get(2) {
        "waiting" => TablePhase::Waiting,
        "loading" => {
            let ledger = ledger.unwrap_or_default();
            let loaded: u64 = ledger.iter().map(|chunk| chunk.rows).sum();
            rows = Some(i64::try_from(loaded).unwrap_or(i64::MAX));
            TablePhase::Loading(ledger)
        }
        "live" => TablePhase::Live,
        _ => {
            return Err(Error::config(
                "the checkpoint has a phase this version does not know",
            ));
        }
    };
    if row.get::<_, bool>(6) {
        return Err(
            Error::schema(format!("{target} is not the table that was loaded"))
                .with_hint("run the task again: it loads the new table")
                .at(Side::Target),
        );
    }
    Ok(TableCheckpoint {
        target,
        phase,
        fingerprint: row.get(4),
        loaded_rows: rows.map(|rows| u64::try_from(rows).unwrap_or(0)),
        whole: row.get(3),
    })
}
