//! Removing a task from the checkpoint tables, and the tables with the last task.

use mysql_async::prelude::Queryable;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::{Kind, Result};

use super::checkpoint::{LOCK, take_turns};
use super::place::{Place, present};
use super::session::{Session, quote, text};
use super::side;
use super::table::gone_is_none;

/// Times a removal is tried again after it met other tasks' locks.
const RELEASE_TRIES: u32 = 5;

/// Removes the rows of a task, and with the last task's the tables and the database. It is
/// repeatable, so one that is chosen as the victim of a deadlock with other tasks begins anew.
pub(super) async fn release(session: &mut Session, task: &TaskKey) -> Result<()> {
    for _ in 1..RELEASE_TRIES {
        match release_once(session, task).await {
            Err(error) if error.kind() == Kind::Transient => session.run("ROLLBACK").await?,
            done => return done,
        }
    }
    release_once(session, task).await
}

async fn release_once(session: &mut Session, task: &TaskKey) -> Result<()> {
    for place in present(session).await? {
        // First, as nobody looks for them in a place without checkpoint tables.
        side::release(session, &place, task).await?;
        for table in [
            place.quarantine(),
            place.layouts(),
            place.chunks(),
            place.tables(),
            place.checkpoint(),
        ] {
            let delete = format!("DELETE FROM {table} WHERE server = ? AND task = ?");
            let key = (&task.server, &task.task);
            gone_is_none(session.conn().exec_drop(delete, key).await)?;
        }
        session.run("COMMIT").await?;
        remove_unused(session, &place).await?;
    }
    Ok(())
}

/// Drops the tables if no task has a row in them, and the database if it then is empty. Who may not
/// lock or drop them leaves them where they are.
async fn remove_unused(session: &mut Session, place: &Place) -> Result<()> {
    if in_use(session, place).await? {
        return Ok(());
    }
    take_turns(session).await?;
    // New work on the checkpoint waits behind this.
    session.run("SET SESSION lock_wait_timeout = 3").await?;
    let removed = remove_locked(session, place).await;
    session.run("UNLOCK TABLES").await?;
    let removed = match removed {
        Ok(true) => drop_database(session, place).await,
        other => other.map(drop),
    };
    session.run(&format!("DO RELEASE_LOCK('{LOCK}')")).await?;
    match removed {
        Err(error) if error.kind() == Kind::Config => Ok(()),
        other => other,
    }
}

async fn remove_locked(session: &mut Session, place: &Place) -> Result<bool> {
    let (checkpoint, tables, chunks) = (place.checkpoint(), place.tables(), place.chunks());
    let mut ours = vec![place.layouts(), chunks, tables, checkpoint];
    // A checkpoint of an earlier version has none.
    let quarantine = place.quarantine();
    let probe = format!("SELECT 1 FROM {quarantine} LIMIT 0");
    if gone_is_none(session.conn().query_drop(probe).await)?.is_some() {
        ours.push(quarantine);
    }
    let lock = format!("LOCK TABLES {} WRITE", ours.join(" WRITE, "));
    if gone_is_none(session.conn().query_drop(lock).await)?.is_none() {
        return Ok(false);
    }
    // A claim may have come between the first look and the lock.
    if in_use(session, place).await? {
        return Ok(false);
    }
    let drop = format!("DROP TABLE {}", ours.join(", "));
    session.run(&drop).await?;
    Ok(true)
}

async fn in_use(session: &mut Session, place: &Place) -> Result<bool> {
    for table in [place.checkpoint(), place.tables()] {
        let any = format!("SELECT 1 FROM {table} LIMIT 1");
        let found: Option<Option<u8>> = gone_is_none(session.conn().query_first(any).await)?;
        if found.flatten().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Drops our database if nothing is in it: it has no way to be dropped only then, so the server is
/// asked first.
async fn drop_database(session: &mut Session, place: &Place) -> Result<()> {
    if !place.prefix.is_empty() {
        return Ok(());
    }
    let database = text(&place.database);
    let within = [
        format!("information_schema.tables WHERE table_schema = {database}"),
        format!("information_schema.routines WHERE routine_schema = {database}"),
        format!("information_schema.events WHERE event_schema = {database}"),
    ];
    for objects in within {
        let any = format!("SELECT 1 FROM {objects} LIMIT 1");
        if session.first::<u8>(&any).await?.is_some() {
            return Ok(());
        }
    }
    let drop = format!("DROP DATABASE IF EXISTS {}", quote(&place.database));
    session.run(&drop).await
}
