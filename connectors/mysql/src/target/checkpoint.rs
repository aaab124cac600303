//! The checkpoint tables: made, claimed, forgotten, and removed with the last task.
//!
//! Where they lie and what they look like is said in [`super::place`].
//!
//! MySQL commits before and after every DDL statement, so that no step here makes a table and writes
//! of it in one transaction. The order of the steps sees to it that whatever ends in between is
//! repeated to the same end: a table is noted before it is made, a foreign key before it is added,
//! and what is to be made again is noted before anything is dropped.
//!
//! Preparing and removing take turns by a named lock. A claim does not at first, because it may wait
//! long for a transaction of an older owner and must not make all other tasks wait. A removal locks
//! the tables before it looks for rows: a claim that inserted its row before is seen, and the tables
//! stay; one that comes after waits, finds no table, and makes it and claims again in its turn.
//!
//! The rows speak of tables, not of names: who drops a table and makes it again has an empty one of
//! the same name, and a stream into that would silently lack all rows of before. Neither server tells
//! an identity of a table to everybody. `relation` keeps the time when it was created, which every
//! `CREATE` and `ALTER TABLE` moves, so the same time is the same table; where it differs the table
//! is another one if it is empty, and otherwise was altered (or restored together with the
//! checkpoint) and is believed. It is null while we alter the table ourselves. The time has whole seconds only, so nothing is noted within the
//! second in which it was created.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Error as My, Value};
use thalweg_core::checkpoint::{
    Checkpoint, Epoch, LoadedChunk, Outline, Outlined, TableCheckpoint, TablePhase, TaskKey,
};
use thalweg_core::plan::{Plan, same_mapping};
use thalweg_core::position::Position;
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Kind, Result, Side};

use super::error::convert;
use super::place::{DATABASE, Place, default_database, find};
use super::session::{Session, quote};
use super::table::{gone_is_none, is_empty, is_gone};
use super::{keys, layouts, ledger, quarantine};
use crate::schema::NAMES;

/// Taken by every preparation and removal, so that two of them take turns.
pub(super) const LOCK: &str = "thalweg";
/// Seconds a preparation waits for another one.
const LOCK_WAIT_S: u32 = 20;

/// Makes sure that the checkpoint tables exist, and notes tables about to be created by the task,
/// which wait for their keys. Gives back those that were not noted before. Ends a transaction that
/// is open.
pub(super) async fn prepare<'a>(
    session: &mut Session,
    task: &TaskKey,
    create: &[&'a TableName],
) -> Result<(Place, Vec<&'a TableName>)> {
    take_turns(session).await?;
    let made = async {
        let place = make(session, task).await?;
        let new = note_pending(session, &place, task, create).await?;
        Ok::<_, Error>((place, new))
    };
    let made = made.await;
    let released = session.run(&format!("DO RELEASE_LOCK('{LOCK}')")).await;
    let made = made?;
    released?;
    Ok(made)
}

pub(super) async fn take_turns(session: &mut Session) -> Result<()> {
    let lock = format!("SELECT GET_LOCK('{LOCK}', {LOCK_WAIT_S})");
    match session.first::<Option<u8>>(&lock).await? {
        Some(Some(1)) => Ok(()),
        _ => Err(
            Error::transient("another task prepares or removes the checkpoint tables")
                .at(Side::Target),
        ),
    }
}

pub(super) async fn make(session: &mut Session, task: &TaskKey) -> Result<Place> {
    if let Some(place) = find(session, task).await? {
        // Asked first, because IF NOT EXISTS needs the right to create even where nothing is to do.
        for (table, create) in place.statements() {
            let probe = format!("SELECT 1 FROM {table} LIMIT 0");
            match session.conn().query_drop(probe).await {
                Ok(()) => {}
                Err(error) if is_gone(&error) => session.run(&create).await?,
                Err(error) => return Err(convert(error)),
            }
        }
        return Ok(place);
    }
    let create = async |session: &mut Session, place: &Place, database: bool| {
        if database {
            let create = format!("CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4");
            session.run(&create).await?;
        }
        for (_, statement) in place.statements() {
            session.run(&statement).await?;
        }
        Ok::<(), Error>(())
    };
    let own = Place::own();
    let refused = match create(session, &own, true).await {
        Ok(()) => return Ok(own),
        Err(error) if error.kind() == Kind::Config => error,
        Err(error) => return Err(error),
    };
    let Some(database) = default_database(session).await? else {
        return Err(refused);
    };
    let place = Place::in_database(database);
    match create(session, &place, false).await {
        Ok(()) => Ok(place),
        Err(error) if error.kind() == Kind::Config => Err(refused.with_hint(format!(
            "GRANT ALL ON {DATABASE}.* TO the user (or CREATE ON {}.*)",
            quote(&place.database)
        ))),
        Err(error) => Err(error),
    }
}

/// Raises the epoch, then reads what the target has.
pub(super) async fn claim(session: &mut Session, task: &TaskKey) -> Result<Checkpoint> {
    if let Some(place) = find(session, task).await? {
        match claim_once(session, &place, task).await {
            Ok(claimed) => return claimed,
            Err(error) if is_gone(&error) => session.run("ROLLBACK").await?,
            Err(error) => return Err(convert(error)),
        }
    }
    // No removal comes between now, and in tables that were made just now nobody has our row locked.
    take_turns(session).await?;
    let claimed = async {
        let place = make(session, task).await?;
        let claimed = claim_once(session, &place, task).await;
        claimed.map_err(convert)?
    };
    let claimed = claimed.await;
    let released = session.run(&format!("DO RELEASE_LOCK('{LOCK}')")).await;
    let claimed = claimed?;
    released?;
    Ok(claimed)
}

/// What the target has of a task, without becoming its owner; `None`: it does not know the task.
pub(super) async fn outline(session: &mut Session, task: &TaskKey) -> Result<Option<Outline>> {
    let Some(place) = find(session, task).await? else {
        return Ok(None);
    };
    let applied = format!(
        "SELECT applied FROM {} WHERE server = ? AND task = ?",
        place.checkpoint()
    );
    let key = (&task.server, &task.task);
    let row: Option<Vec<Option<String>>> = gone_is_none(session.conn().exec(applied, key).await)?;
    let Some(Some(applied)) = row.map(|rows| rows.into_iter().next()) else {
        return Ok(None);
    };
    let known = known(session, &place, task).await?.into_iter();
    let outlined = |(target, phase, fingerprint, _): Known| Outlined {
        target,
        fingerprint,
        live: phase == "live",
    };
    let tables = known.filter(|(_, phase, ..)| phase != "waiting");
    let tables = tables.map(outlined).collect();
    let layouts = layouts::read(session, &place, task).await;
    let outline = Outline {
        applied: applied.map(Position::new),
        tables,
        layouts: gone_is_none(layouts)?.unwrap_or_default(),
    };
    session.run("COMMIT").await?;
    Ok(Some(outline))
}

type TableRow = (
    String,
    String,
    String,
    bool,
    String,
    Option<u64>,
    Option<String>,
);

async fn claim_once(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> std::result::Result<Result<Checkpoint>, My> {
    let key = || (&task.server, &task.task);
    let (checkpoint, tables) = (place.checkpoint(), place.tables());
    let conn = session.conn();
    conn.query_drop("START TRANSACTION").await?;
    // The row lock waits for a transaction that an older owner has open.
    let raise = format!(
        "INSERT INTO {checkpoint} (server, task, epoch) VALUES (?, ?, 1) \
         ON DUPLICATE KEY UPDATE epoch = epoch + 1"
    );
    conn.exec_drop(raise, key()).await?;
    let read = format!("SELECT epoch, applied FROM {checkpoint} WHERE server = ? AND task = ?");
    let row: Option<(i64, Option<String>)> = conn.exec_first(read, key()).await?;
    let read = format!(
        "SELECT target_schema, target_table, phase, whole, fingerprint, loaded_rows, relation \
         FROM {tables} WHERE server = ? AND task = ?"
    );
    let rows: Vec<TableRow> = conn.exec(read, key()).await?;
    let chunks = ledger::read(session, place, task).await?;
    let layouts = layouts::read(session, place, task).await?;
    session.conn().query_drop("COMMIT").await?;
    let stored = async {
        let (epoch, applied) = row.ok_or_else(|| Error::transient("the checkpoint is gone"))?;
        let mut ledgers = ledger::parse(chunks)?;
        let mut stored = Vec::new();
        let name = |row: &TableRow| TableName::new(row.0.as_str(), row.1.as_str());
        let names: Vec<TableName> = rows.iter().map(name).collect();
        let created = created(session, &names).await?;
        for row in rows {
            let on = (&mut *session, place, task);
            stored.push(stored_table(on, row, &created, &mut ledgers).await?);
        }
        Ok(Checkpoint {
            epoch: Epoch(epoch),
            applied: applied.map(Position::new),
            tables: stored,
            layouts,
        })
    };
    Ok(stored.await)
}

async fn stored_table(
    (session, place, task): (&mut Session, &Place, &TaskKey),
    row: TableRow,
    created: &Created,
    ledgers: &mut BTreeMap<TableName, Vec<LoadedChunk>>,
) -> Result<TableCheckpoint> {
    let (schema, name, phase, whole, fingerprint, mut loaded_rows, relation) = row;
    let target = TableName::new(schema, name);
    let ledger = ledgers.remove(&target);
    let phase = match phase.as_str() {
        "waiting" => TablePhase::Waiting,
        "loading" => {
            let ledger = ledger.unwrap_or_default();
            loaded_rows = Some(ledger.iter().map(|chunk| chunk.rows).sum());
            TablePhase::Loading(ledger)
        }
        "live" => TablePhase::Live,
        _ => {
            return Err(
                Error::config("the checkpoint has a phase this version does not know")
                    .with_hint("run the version that wrote it, or reset the task"),
            );
        }
    };
    if phase != TablePhase::Waiting {
        match identity(session, &target, created, relation.as_deref()).await? {
            Identity::Same => {}
            Identity::Altered => {
                note_relations(session, place, task, std::slice::from_ref(&target)).await?;
            }
            Identity::Replaced => {
                return Err(
                    Error::schema(format!("{target} is not the table that was loaded"))
                        .with_hint("run the task again: it loads the new table")
                        .at(Side::Target),
                );
            }
        }
    }
    Ok(TableCheckpoint {
        target,
        phase,
        fingerprint,
        loaded_rows,
        whole,
    })
}

/// What a table is to one that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    Same,
    Altered,
    Replaced,
}

async fn identity(
    session: &mut Session,
    table: &TableName,
    created: &Created,
    noted: Option<&str>,
) -> Result<Identity> {
    let Some((created, _)) = created.get(table) else {
        return Ok(Identity::Replaced);
    };
    match noted {
        Some(noted) if noted == created.to_string() => return Ok(Identity::Same),
        // We were about to alter it.
        None => return Ok(Identity::Altered),
        Some(_) => {}
    }
    Ok(match is_empty(session, table).await? {
        true => Identity::Replaced,
        false => Identity::Altered,
    })
}

/// When tables were created (or altered) and the server's present time then, seconds since the epoch and
/// microseconds; those that are not there are left out.
type Created = BTreeMap<TableName, (i64, i64)>;

async fn created(session: &mut Session, tables: &[TableName]) -> Result<Created> {
    let created = "SELECT CAST(UNIX_TIMESTAMP(create_time) AS SIGNED), \
                   CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED), {names} \
                   FROM information_schema.tables WHERE {of}";
    let found: BTreeMap<_, Vec<(Option<i64>, i64)>> =
        session.ask_of(tables, NAMES, created).await?;
    let first = |(name, rows): (TableName, Vec<(Option<i64>, i64)>)| {
        let (created, now) = rows.first()?;
        Some((name, (created.unwrap_or(0), *now)))
    };
    Ok(found.into_iter().filter_map(first).collect())
}

/// What is to stand in `relation` for tables, as far as they are there; waits for the end of the second
/// in which the last of them was created.
pub(super) async fn relations(
    session: &mut Session,
    tables: &[TableName],
) -> Result<BTreeMap<TableName, String>> {
    let created = created(session, tables).await?;
    // The file system's clock may lag behind by a few milliseconds.
    let rest = |(at, now): &(i64, i64)| (at + 1) * 1_000_000 + 20_000 - now;
    let rests = created.values().map(rest);
    let rest = rests.filter(|rest| (1..=1_100_000).contains(rest)).max();
    if let Some(rest) = rest {
        tokio::time::sleep(Duration::from_micros(rest.unsigned_abs())).await;
    }
    let noted = created.into_iter();
    Ok(noted
        .map(|(name, (at, _))| (name, at.to_string()))
        .collect())
}

/// Forgets which tables were loaded of those that wait for their keys, as they are about to be altered.
pub(super) async fn unnote_relations(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> Result<()> {
    let forget = format!(
        "UPDATE {} SET relation = NULL WHERE server = ? AND task = ? AND keys_pending",
        place.tables()
    );
    session.exec(&forget, (&task.server, &task.task)).await?;
    session.run("COMMIT").await
}

/// Forgets which table was loaded, as it is about to be altered, in the open transaction.
pub(super) async fn unnote_relation(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
) -> Result<()> {
    let forget = format!(
        "UPDATE {} SET relation = NULL WHERE server = ? AND task = ? AND target_schema = ? \
         AND target_table = ?",
        place.tables()
    );
    let key = (&task.server, &task.task, &table.schema, &table.name);
    session.exec(&forget, key).await?;
    Ok(())
}

/// Notes the present tables as those that were loaded.
pub(super) async fn note_relations(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    tables: &[TableName],
) -> Result<()> {
    let relations = relations(session, tables).await?;
    // Those that are noted by the same word, which are as many as there were seconds.
    let mut by_relation: BTreeMap<Option<&String>, Vec<Vec<Value>>> = BTreeMap::new();
    for table in tables {
        let rows = by_relation.entry(relations.get(table)).or_default();
        rows.push([&table.schema, &table.name].map(Value::from).into());
    }
    for (relation, rows) in by_relation {
        let note = format!(
            "UPDATE {} SET relation = ? WHERE server = ? AND task = ? AND phase <> 'waiting' \
             AND (target_schema, target_table) IN ({{rows}})",
            place.tables()
        );
        let first = [
            Value::from(relation),
            Value::from(&task.server),
            Value::from(&task.task),
        ];
        session.exec_rows(&note, &first, ("(?, ?)", &rows)).await?;
    }
    session.run("COMMIT").await
}

/// Forgets the position: every table is to be loaded again.
pub(super) async fn forget(session: &mut Session, task: &TaskKey) -> Result<()> {
    let Some(place) = find(session, task).await? else {
        return Ok(());
    };
    let forget = format!(
        "UPDATE {} SET applied = NULL WHERE server = ? AND task = ?",
        place.checkpoint()
    );
    let Some(_) = gone_is_none(
        session
            .conn()
            .exec_drop(forget, (&task.server, &task.task))
            .await,
    )?
    else {
        return Ok(());
    };
    session.run("COMMIT").await?;
    let known = known(session, &place, task).await?;
    let all: Vec<TableName> = known.into_iter().map(|(table, ..)| table).collect();
    wait_for_load(session, &place, task, &all, Again::AsBefore).await
}

/// Marks those tables as not loaded that left the plan, are mapped in another way, or are not the
/// tables that were loaded; says whether there were any.
pub(super) async fn set_aside(session: &mut Session, task: &TaskKey, plan: &Plan) -> Result<bool> {
    let Some(place) = find(session, task).await? else {
        return Ok(false);
    };
    let (mut any, mut stale) = (false, Vec::new());
    let known = known(session, &place, task).await?;
    let names: Vec<TableName> = known.iter().map(|(name, ..)| name.clone()).collect();
    let created = created(session, &names).await?;
    for (table, phase, fingerprint, relation) in known {
        if phase == "waiting" {
            continue;
        }
        let target = plan.targets.iter().position(|t| t.name == table);
        let identity = identity(session, &table, &created, relation.as_deref()).await?;
        if identity == Identity::Replaced {
            let lost = format!(
                "UPDATE {} SET phase = 'waiting', loaded_rows = NULL, foreign_keys = '', \
                 keys_pending = 0 {OF}",
                place.tables()
            );
            let key = (&task.server, &task.task, &table.schema, &table.name);
            session.exec(&lost, key).await?;
            ledger::clear(session, &place, task, &table).await?;
            quarantine::clear(session, &place, task, &table).await?;
            session.run("COMMIT").await?;
        } else if target.is_none_or(|t| !same_mapping(&fingerprint, &plan.fingerprint(t))) {
            stale.push(table);
        } else {
            continue;
        }
        any = true;
    }
    wait_for_load(session, &place, task, &stale, Again::AsBefore).await?;
    Ok(any)
}

type Known = (TableName, String, String, Option<String>);

/// The stored tables: name, phase, fingerprint, relation; none if there are no checkpoint tables.
async fn known(session: &mut Session, place: &Place, task: &TaskKey) -> Result<Vec<Known>> {
    let read = format!(
        "SELECT target_schema, target_table, phase, fingerprint, relation FROM {} \
         WHERE server = ? AND task = ?",
        place.tables()
    );
    type Row = (String, String, String, String, Option<String>);
    let key = (&task.server, &task.task);
    let rows: Option<Vec<Row>> = gone_is_none(session.conn().exec(read, key).await)?;
    let known = |(schema, name, phase, fingerprint, relation): Row| {
        (TableName::new(schema, name), phase, fingerprint, relation)
    };
    Ok(rows.unwrap_or_default().into_iter().map(known).collect())
}

/// How a table is to be loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// As it was to be before.
    AsBefore,
    /// As one chunk.
    Whole,
}

/// Marks tables as not loaded. The foreign keys that this task made from them and to them go, because
/// tables are loaded independently; they come back when the tables go Live.
pub(super) async fn wait_for_load(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    tables: &[TableName],
    again: Again,
) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    keys::drop_keys(session, place, task, tables).await?;
    let whole = match again {
        Again::AsBefore => "whole",
        Again::Whole => "1",
    };
    let waiting = format!(
        "UPDATE {} SET phase = 'waiting', whole = {whole} {OF}",
        place.tables()
    );
    for table in tables {
        let key = (&task.server, &task.task, &table.schema, &table.name);
        session.exec(&waiting, key).await?;
        ledger::clear(session, place, task, table).await?;
        quarantine::clear(session, place, task, table).await?;
        session.run("COMMIT").await?;
    }
    Ok(())
}

/// The row of a table.
pub(super) const OF: &str =
    "WHERE server = ? AND task = ? AND target_schema = ? AND target_table = ?";

/// Names of foreign keys as `foreign_keys` lists them: a NUL, which no name has, between them.
pub(super) fn listed(list: &str) -> Vec<String> {
    let names = list.split('\0').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// Notes a foreign key that this task is about to make.
pub(super) async fn note_foreign_key(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
    name: &str,
) -> Result<()> {
    let of = "WHERE server = ? AND task = ? AND target_schema = ? AND target_table = ?";
    let key = (&task.server, &task.task, &table.schema, &table.name);
    let read = format!(
        "SELECT foreign_keys FROM {} {of} FOR UPDATE",
        place.tables()
    );
    let found: Vec<String> = session.ask(&read, key).await?;
    let mut made = listed(found.first().map_or("", String::as_str));
    if !made.iter().any(|other| other == name) {
        made.push(name.to_owned());
        let note = format!("UPDATE {} SET foreign_keys = ? {of}", place.tables());
        let list = made.join("\0");
        let key = (list, &task.server, &task.task, &table.schema, &table.name);
        session.exec(&note, key).await?;
    }
    session.run("COMMIT").await
}

/// Notes that tables are about to be created; gives those of which that was not noted before.
async fn note_pending<'a>(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    tables: &[&'a TableName],
) -> Result<Vec<&'a TableName>> {
    let known = known(session, place, task).await?;
    let known: BTreeSet<&TableName> = known.iter().map(|(name, ..)| name).collect();
    let new = tables
        .iter()
        .copied()
        .filter(|table| !known.contains(table));
    let row = |table: &&TableName| {
        let row = [&task.server, &task.task, &table.schema, &table.name];
        row.map(Value::from).into()
    };
    let rows: Vec<Vec<Value>> = tables.iter().map(row).collect();
    let note = format!(
        "INSERT INTO {} (server, task, target_schema, target_table, phase, fingerprint, \
         keys_pending, foreign_keys) VALUES {{rows}} ON DUPLICATE KEY UPDATE keys_pending = 1",
        place.tables()
    );
    let one = "(?, ?, ?, ?, 'waiting', '', 1, '')";
    session.exec_rows(&note, &[], (one, &rows)).await?;
    session.run("COMMIT").await?;
    Ok(new.collect())
}
