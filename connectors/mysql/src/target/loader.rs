//! Loading: one chunk in one transaction, straight into the table, as files or by statements of many rows
//! ([`bulk::insert`]). Rows of one source of several go by a staging table and meet the others' there
//! ([`super::merged`]).
//!
//! Rows that are sifted go the same way behind a savepoint, in halves where the server refuses one, so
//! that those it refuses for themselves are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::batch::TableCounts;
use thalweg_core::checkpoint::{LoadedChunk, TaskKey};
use thalweg_core::mapping::ExistingRows;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Loader;
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result, Side};

use super::check::explain;
use super::merged::Merged;
use super::place::Place;
use super::session::{LOCK_WAIT_S, Session};
use super::table::{Table, is_empty};
use super::{Owner, bulk, ledger, quarantine, side};

/// Seconds a loader of a merged table waits for its turn: others before it may write large chunks.
const TURN_WAIT_S: u32 = 3_600;

pub(super) struct MySqlLoader {
    session: Session,
    owner: Owner,
    plan: Arc<Plan>,
    place: Place,
    open: Option<Open>,
    /// Feeds of merged tables, made once each.
    merged: BTreeMap<(usize, usize), Merged>,
}

/// The open transaction.
struct Open {
    table: Table,
    /// The target and the feed that are written.
    feed: (usize, usize),
    rows: u64,
}

impl MySqlLoader {
    pub(super) async fn new(mut session: Session, owner: Owner, plan: Arc<Plan>) -> Result<Self> {
        let place = owner.place(&mut session).await?;
        session.run("ROLLBACK").await?;
        Ok(MySqlLoader {
            session,
            owner,
            plan,
            place,
            open: None,
            merged: BTreeMap::new(),
        })
    }

    async fn empty_table(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        let open = self.open.as_ref().ok_or_else(unopened)?;
        let session = &mut self.session;
        let (name, table) = (&open.table.target.name, &open.table.name);
        match existing {
            ExistingRows::Replace => {
                // TRUNCATE would commit. Whatever foreign key may have come since it was looked, children stay.
                let checks: Option<u8> = session.first("SELECT @@foreign_key_checks").await?;
                session.run("SET SESSION foreign_key_checks = 0").await?;
                session.run(&format!("DELETE FROM {table}")).await?;
                if checks != Some(0) {
                    session.run("SET SESSION foreign_key_checks = 1").await?;
                }
            }
            ExistingRows::Compare => {}
            ExistingRows::Refuse if is_empty(session, name).await? => {}
            ExistingRows::Refuse => {
                return Err(Error::config(format!("{name} has rows already"))
                    .with_hint(format!(
                        "TRUNCATE {table}, or set existing_rows to replace or compare"
                    ))
                    .at(Side::Target));
            }
        }
        if open.table.target.merged() {
            side::empty(session, &self.place, &self.owner.task, name).await?;
        }
        ledger::begin(session, &self.place, &self.owner.task, name, fingerprint).await
    }
}

/// Waits until no other loader writes this merged table. By the rows' own locks alone they cannot:
/// of three that insert one key, two wait for the first with a shared lock each, and then both for
/// the other's.
async fn take_turn(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
) -> Result<()> {
    let wait = |seconds: u32| format!("SET SESSION innodb_lock_wait_timeout = {seconds}");
    let lock = format!(
        "SELECT 1 FROM {} WHERE server = ? AND task = ? AND target_schema = ? \
         AND target_table = ? FOR UPDATE",
        place.tables()
    );
    let key = (&task.server, &task.task, &table.schema, &table.name);
    session.run(&wait(TURN_WAIT_S)).await?;
    let locked: Vec<u8> = session.ask(&lock, key).await?;
    session.run(&wait(LOCK_WAIT_S)).await?;
    match locked.as_slice() {
        [_] => Ok(()),
        _ => Err(Error::bug("a table is loaded that was not emptied").at(Side::Target)),
    }
}

/// Inserts those rows that the server takes: all of them behind a savepoint, and if it refuses one, each
/// half by itself, down to single rows. Gives those that it refuses.
async fn insert_sifted(
    session: &mut Session,
    open: &mut Open,
    rows: &RowBatch,
) -> Result<Vec<(usize, Error)>> {
    let mut refused = Vec::new();
    let mut left: Vec<_> = std::iter::once(0..rows.len()).collect();
    while let Some(part) = left.pop().filter(|part| !part.is_empty()) {
        session.run("SAVEPOINT thalweg_sifted").await?;
        let these = part.clone().map(|row| rows.row(row));
        match bulk::insert(session, &open.table, these).await {
            Ok(inserted) if inserted == part.len() as u64 => open.rows += inserted,
            Ok(_) => return Err(miscounted()),
            Err(error) if error.kind() == Kind::Data => {
                session.run("ROLLBACK TO SAVEPOINT thalweg_sifted").await?;
                let middle = part.start + part.len() / 2;
                if middle == part.start {
                    refused.push((middle, error));
                } else {
                    left.extend([middle..part.end, part.start..middle]);
                }
            }
            Err(error) => return Err(error),
        }
        session.run("RELEASE SAVEPOINT thalweg_sifted").await?;
    }
    Ok(refused)
}

fn miscounted() -> Error {
    Error::bug("the target counted other rows than were sent").at(Side::Target)
}

fn unopened() -> Error {
    Error::bug("no transaction was begun")
}

#[async_trait]
impl Loader for MySqlLoader {
    async fn begin(&mut self, target: usize, feed: usize) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::bug("a transaction is open"));
        }
        let feed = (target, feed);
        let target = self.plan.targets.get(target);
        let target = target.ok_or_else(|| Error::bug("no such target"))?;
        let session = &mut self.session;
        if target.merged() {
            let merged = match self.merged.remove(&feed) {
                Some(merged) => merged,
                None => Merged::new(session, (&self.owner, &self.place), &self.plan, feed).await?,
            };
            self.merged
                .entry(feed)
                .or_insert(merged)
                .empty(session)
                .await?;
        }
        let table = Table::new(target, session.facts.flavor)?;
        session.run("START TRANSACTION").await?;
        self.open = Some(Open {
            table,
            feed,
            rows: 0,
        });
        Ok(())
    }

    async fn empty(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        match self.empty_table(existing, fingerprint).await {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&mut self.session, &self.plan, error).await),
        }
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(unopened)?;
        if let Some(merged) = self.merged.get_mut(&open.feed) {
            // They are written at the end, so that the keys of all are locked in their order.
            for row in rows.iter() {
                merged.insert(&mut self.session, row).await?;
            }
            return Ok(());
        }
        match bulk::insert(&mut self.session, &open.table, rows.iter()).await {
            Ok(inserted) if inserted == rows.len() as u64 => {
                open.rows += inserted;
                Ok(())
            }
            Ok(_) => Err(miscounted()),
            Err(error) => Err(explain(&mut self.session, &self.plan, error).await),
        }
    }

    async fn load_sifted(&mut self, rows: &RowBatch) -> Result<Vec<(usize, Error)>> {
        let open = self.open.as_mut().ok_or_else(unopened)?;
        if self.merged.contains_key(&open.feed) {
            return Err(Error::bug("rows of a merged table are not sifted"));
        }
        match insert_sifted(&mut self.session, open, rows).await {
            Ok(refused) => Ok(refused),
            Err(error) => Err(explain(&mut self.session, &self.plan, error).await),
        }
    }

    async fn commit(&mut self, chunk: Option<&LoadedChunk>, held: &[Held]) -> Result<()> {
        let mut open = self.open.take().ok_or_else(unopened)?;
        if let Some(merged) = self.merged.get_mut(&open.feed) {
            let session = &mut self.session;
            open.rows = merged.finish(session).await?;
            take_turn(
                session,
                &self.place,
                &self.owner.task,
                &open.table.target.name,
            )
            .await?;
            let written = merged.write(session, &mut TableCounts::default()).await;
            if let Err(error) = written {
                return Err(explain(session, &self.plan, error).await);
            }
        }
        if open.rows != chunk.map_or(0, |chunk| chunk.rows) {
            return Err(Error::bug("a chunk says other rows than were loaded").at(Side::Target));
        }
        let session = &mut self.session;
        // Shared: other loaders may commit beside us, a new owner has to wait.
        let shared = "LOCK IN SHARE MODE";
        self.owner.lock(session, &self.place, shared).await?;
        if let Some(chunk) = chunk {
            let name = &open.table.target.name;
            ledger::add(session, &self.place, &self.owner.task, name, chunk).await?;
        }
        quarantine::put(session, &self.place, &self.owner.task, held).await?;
        session.run("COMMIT").await
    }
}
