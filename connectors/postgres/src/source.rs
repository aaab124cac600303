//! The source: questions of place and order, and the doors to snapshot and stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex as Lock, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    Bridge, ChangeStream, Chunk, ChunkReader, ChunkSize, Confirm, DataSourceConfig, Gate, Inspect,
    Source, StreamLimits, Unsaid,
};
use thalweg_core::position::{Layout, Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Result, Side};
use tokio::sync::Mutex;
use tokio_postgres::Client;

use crate::config::{Connection as Asking, connect_source};
use crate::error::asking;
use crate::position::{Origin, Place, Seen};
use crate::schema::{Keys, quote};
use crate::slot;
use crate::wire::connection::{Connection, Purpose};
use crate::wire::replication::Lsn;
use crate::{bridge, check, layout, schema, snapshot, split, stream, unsaid};

/// How long a slot's creation may wait for running transactions, before it is said who they are.
const SLOT_WAIT: Duration = Duration::from_secs(10);
/// The longest it may wait after some tries, each of which may wait twice as long as the one before:
/// where some transaction always runs, the slot needs as long as the longest of them.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(3_600);

pub(crate) struct PostgresSource {
    pub(crate) config: DataSourceConfig,
    /// Of slot and publication.
    pub(crate) name: String,
    /// An idle connection for the questions asked every second.
    idle: Mutex<Option<Asking>>,
    /// Idle connections of questions and of chunks that were opened: a start asks a dozen times, and a load
    /// has many chunks. A login costs the server more than most questions.
    openers: Lock<Vec<Asking>>,
    /// Whether the stream was begun: then questions are rare, and nothing is kept for them.
    begun: AtomicBool,
    /// The session that made the slot, and with it the snapshot it exported: alive until the stream
    /// begins.
    held: Lock<Option<Held>>,
    /// Held while a table joins the publication, or some leave it.
    joining: Mutex<()>,
    /// How often the slot could not be made for transactions that ran.
    slot_tries: AtomicU32,
}

/// The state at the slot's begin, which other sessions can read as long as this one does nothing.
pub(crate) struct Held {
    _session: Connection,
    pub(crate) snapshot: Shared,
}

/// A snapshot that can be taken up.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    /// What it sees: every commit before the slot's begin, and none after.
    pub(crate) seen: Visibility,
    /// The files of the task's tables before the slot was made (see [`files`]).
    pub(crate) files: Vec<(TableName, String)>,
}

impl PostgresSource {
    pub(crate) fn new(config: &DataSourceConfig) -> Self {
        PostgresSource {
            config: config.clone(),
            name: slot::name(&config.application_name),
            idle: Mutex::new(None),
            openers: Lock::default(),
            begun: AtomicBool::new(false),
            held: Lock::default(),
            joining: Mutex::default(),
            slot_tries: AtomicU32::new(0),
        }
    }

    /// Makes sure that what is written to a table from now on is published, and that whoever wrote to it
    /// unpublished is over.
    pub(crate) async fn publish(&self, client: &Client, table: &TableName) -> Result<()> {
        let _one = self.joining.lock().await;
        if slot::extend(client, &self.name, table).await? {
            snapshot::writers_end(client).await?;
            slot::joined(client, &self.name, table).await?;
        }
        Ok(())
    }

    /// Leaves only these tables in the publication.
    pub(crate) async fn retain(&self, client: &Client, oids: &[u32]) -> Result<()> {
        let _one = self.joining.lock().await;
        slot::retain(client, &self.name, oids).await
    }

    /// Puts a question on an idle connection or a new one, within the timeout.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T>,
    ) -> Result<T> {
        self.ask_about(0, question).await
    }

    /// The same, about so many tables.
    async fn ask_about<T>(
        &self,
        tables: usize,
        question: impl AsyncFnOnce(&Client) -> Result<T>,
    ) -> Result<T> {
        let run = async {
            let connection = self.opener().await?;
            let answer = question(&connection.client).await?;
            if !self.begun.load(Ordering::Relaxed) {
                self.put_back(connection);
            }
            Ok(answer)
        };
        tokio::time::timeout(self.config.time_for(tables), Box::pin(run))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|error| error.at(Side::Source))
    }

    /// The end of the log, asked on the idle connection.
    async fn end(&self) -> Result<Lsn> {
        let mut idle = self.idle.lock().await;
        if let Some(connection) = idle.take()
            && let Ok(end) = self.end_by(&connection.client).await
        {
            *idle = Some(connection);
            return Ok(end);
        }
        // The server may have ended the old connection, or may have been restarted.
        let connection = connect_source(&self.config).await?;
        let end = self.end_by(&connection.client).await?;
        *idle = Some(connection);
        Ok(end)
    }

    async fn end_by(&self, client: &Client) -> Result<Lsn> {
        tokio::time::timeout(self.config.timeout, end_of_log(client))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }

    /// A connection to ask or to open a chunk with, used before or new.
    pub(crate) async fn opener(&self) -> Result<Asking> {
        let idle = self
            .openers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(connection) if !connection.client.is_closed() => Ok(connection),
            _ => connect_source(&self.config).await,
        }
    }

    /// Keeps it for the next chunk, until the stream begins.
    pub(crate) fn put_back(&self, connection: Asking) {
        self.openers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot the slot exported, while it can be taken up.
    pub(crate) fn shared(&self) -> Option<Shared> {
        self.held().as_ref().map(|held| held.snapshot.clone())
    }

    /// It is not to be taken up any more, because its session is gone or a table cannot be read in it:
    /// all chunks share it, or none does.
    pub(crate) fn unshare(&self) {
        *self.held() = None;
    }

    /// Makes the slot, waiting for the transactions that run; gives its begin and its session.
    async fn make_slot(
        &self,
        client: &Client,
        version: u32,
        recovering: bool,
    ) -> Result<(Lsn, String, Connection)> {
        let name = slot::session_name(&self.config.application_name, "slot");
        let mut session = Connection::open(&self.config, &name, Purpose::Replication).await?;
        session.query(crate::session::PINNED).await?;
        let pid = i32::try_from(session.pid).unwrap_or(0);
        let options = match version {
            170_000.. if !recovering => "(SNAPSHOT 'export', FAILOVER true)",
            150_000.. => "(SNAPSHOT 'export')",
            _ => "EXPORT_SNAPSHOT",
        };
        let command = format!(
            "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput {options}",
            quote(&self.name)
        );
        let wait = slot_wait(self.slot_tries.fetch_add(1, Ordering::Relaxed));
        let made = tokio::time::timeout(wait, session.query(&command)).await;
        let Ok(made) = made else {
            let blockers = blockers(client).await?;
            client
                .execute("SELECT pg_cancel_backend($1)", &[&pid])
                .await
                .map_err(asking)?;
            drop(session);
            slot::remove(client, &self.name, &self.config.application_name).await?;
            return Err(blockers);
        };
        let rows = made?;
        self.slot_tries.store(0, Ordering::Relaxed);
        let row = rows.first().map(Vec::as_slice);
        let Some([_, Some(begins), Some(snapshot), ..]) = row else {
            return Err(Error::bug("a slot was made without a snapshot").at(Side::Source));
        };
        let begins = Lsn::parse(begins)
            .ok_or_else(|| Error::bug("a slot without a begin").at(Side::Source))?;
        Ok((begins, snapshot.clone(), session))
    }

    /// Which log this is: asked in a replication session.
    pub(crate) async fn origin(&self, session: &mut Connection, client: &Client) -> Result<Origin> {
        let rows = session.query("IDENTIFY_SYSTEM").await?;
        let row = rows.first().map(Vec::as_slice);
        let Some([Some(system), Some(timeline), ..]) = row else {
            return Err(Error::bug("a server without an identity").at(Side::Source));
        };
        let database = client
            .query_one(
                "SELECT oid FROM pg_database WHERE datname = current_database()",
                &[],
            )
            .await
            .map_err(asking)?;
        Ok(Origin {
            system: system.clone(),
            timeline: timeline.parse().unwrap_or(0),
            database: database.get(0),
            slot: self.name.clone(),
        })
    }
}

/// How long the slot may take after so many tries.
fn slot_wait(tries: u32) -> Duration {
    let doubled = 2u32.saturating_pow(tries.min(16));
    SLOT_WAIT.saturating_mul(doubled).min(SLOT_WAIT_MAX)
}

fn timed_out() -> Error {
    Error::transient("the source did not answer in time").at(Side::Source)
}

/// The timeline of the log that is written, eight hexadecimal digits at the head of its files' names; `NULL` on
/// a standby, which writes none. <https://www.postgresql.org/docs/15/functions-admin.html>
pub(crate) const TIMELINE: &str = "CASE WHEN NOT pg_is_in_recovery() \
    THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END";

/// What [`TIMELINE`] gave; 0: not known.
pub(crate) fn timeline(digits: Option<&str>) -> u32 {
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

/// The end of the log; on a standby, of what it has replayed.
pub(crate) async fn end_of_log(client: &Client) -> Result<Lsn> {
    let row = client
        .query_one(
            "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
             ELSE pg_current_wal_lsn() END)::text",
            &[],
        )
        .await
        .map_err(asking)?;
    lsn(row.get(0))
}

pub(crate) fn lsn(text: Option<&str>) -> Result<Lsn> {
    text.and_then(Lsn::parse).ok_or_else(|| {
        Error::transient("the source does not know the end of its log").at(Side::Source)
    })
}

/// `server_version_num`, and whether it is a standby.
pub(crate) async fn version(client: &Client) -> Result<(u32, bool)> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery()",
            &[],
        )
        .await
        .map_err(asking)?;
    Ok((u32::try_from(row.get::<_, i32>(0)).unwrap_or(0), row.get(1)))
}

/// The files the rows of each of the tables are in; all its partitions'. They change when it is rewritten
/// or truncated, which no snapshot taken before can read around. Each as `oid:file`, of a partition with `@` and the
/// transaction that attached it.
pub(crate) async fn files(client: &Client, tables: &[u32]) -> Result<Vec<String>> {
    let rows = client
        .query(
            "WITH RECURSIVE tree AS (\
               SELECT place, oid, '' AS since FROM unnest($1::oid[]) WITH ORDINALITY w (oid, place) UNION ALL \
               SELECT t.place, i.inhrelid, '@' || i.xmin::text FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid \
               JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition \
               WHERE NOT coalesce(to_jsonb(i) ->> 'inhdetachpending', 'false')::bool) \
             SELECT string_agg(t.oid::text || ':' || \
               coalesce(pg_relation_filenode(t.oid)::text, '') || t.since, ' ' ORDER BY t.oid) \
             FROM tree t GROUP BY t.place ORDER BY t.place",
            &[&tables],
        )
        .await
        .map_err(asking)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Who keeps a slot from being ready: whoever runs since before.
async fn blockers(client: &Client) -> Result<Error> {
    let prepared = client
        .query(
            "SELECT gid FROM pg_prepared_xacts ORDER BY prepared LIMIT 20",
            &[],
        )
        .await
        .map_err(asking)?;
    if !prepared.is_empty() {
        let gids: Vec<&str> = prepared.iter().map(|row| row.get(0)).collect();
        return Ok(Error::config(format!(
            "transactions are prepared and not decided: {}",
            gids.join("; ")
        ))
        .with_hint("end each with COMMIT PREPARED or ROLLBACK PREPARED, then start again")
        .at(Side::Source));
    }
    let running = client
        .query(
            "SELECT pid, coalesce(application_name, ''), \
             coalesce(extract(epoch FROM now() - xact_start)::int8, 0) FROM pg_stat_activity \
             WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 10",
            &[],
        )
        .await
        .map_err(asking)?;
    let list: Vec<String> = running
        .iter()
        .map(|row| {
            let (pid, name, age): (i32, &str, i64) = (row.get(0), row.get(1), row.get(2));
            format!("pid {pid} ({name}) since {age} s")
        })
        .collect();
    Ok(Error::transient(format!(
        "the replication slot waits for transactions that run: {}",
        list.join("; ")
    ))
    .with_hint("end them, for example with SELECT pg_terminate_backend(pid); it is tried again")
    .at(Side::Source))
}

#[async_trait]
impl Inspect for PostgresSource {
    async fn probe(&self) -> Result<()> {
        self.ask(async |client| client.batch_execute("SELECT 1").await.map_err(asking))
            .await
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        self.ask(async |client| schema::tables(client).await).await
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        self.ask_about(tables.len(), async |client| {
            let stored = version(client).await?.0 >= 180_000;
            let found = schema::describe(client, tables, Keys::All).await?;
            let mut columns = found.iter().flat_map(|table| &table.columns);
            let logged = match stored && columns.any(|column| column.generated) {
                true => schema::stored(client, tables).await?,
                false => BTreeMap::new(),
            };
            let in_the_log = |table: TableSchema| {
                let logged = logged.get(&table.name).map_or(&[][..], Vec::as_slice);
                schema::in_the_log(table, logged)
            };
            let found = found.into_iter().map(in_the_log).collect();
            layout::describe(client, found).await
        })
        .await
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn check(&self, tables: &[TableName]) -> Result<Vec<Finding>> {
        self.ask_about(tables.len(), async |client| {
            check::check(client, &self.config, tables).await
        })
        .await
    }

    async fn secure(&self, tables: &[TableName]) -> Result<Position> {
        self.unshare();
        let connection = self.opener().await?;
        let client = &connection.client;
        let (version, recovering) = version(client).await?;
        // An earlier start may have made it and died before the target knew.
        slot::remove(client, &self.name, &self.config.application_name).await?;
        slot::publish(client, &self.name, version, tables).await?;
        let files = files(client, &slot::oids(client, tables).await?).await?;
        let (begins, snapshot, session) = self.make_slot(client, version, recovering).await?;
        // On a session of its own: the one that made the slot must not do anything any more.
        let name = slot::session_name(&self.config.application_name, "slot");
        let mut second = Connection::open(&self.config, &name, Purpose::Replication).await?;
        let origin = self.origin(&mut second, client).await?;
        let (standby, timeline) = (recovering, origin.timeline);
        let timeline = if standby { 0 } else { timeline };
        let seen = snapshot::exported(&mut second, client, &snapshot, (begins, timeline)).await?;
        *self.held() = Some(Held {
            _session: session,
            snapshot: Shared {
                name: snapshot,
                seen: seen.visibility(),
                files: tables.iter().cloned().zip(files).collect(),
            },
        });
        let place = Place {
            lsn: begins,
            origin: Some(origin),
        };
        Ok(place.position())
    }

    async fn split(&self, chunk: &Chunk, size: ChunkSize) -> Result<Vec<Chunk>> {
        // A sample of a large table takes as long as its pages take to read.
        let connection = self.opener().await?;
        let chunks = split::split(&connection.client, chunk, size).await?;
        self.put_back(connection);
        Ok(chunks)
    }

    fn shared_snapshot(&self) -> Option<Visibility> {
        self.shared().map(|shared| shared.seen)
    }

    /// Every snapshot sees what lies before the place where a stream can begin, see [`snapshot`].
    async fn read(
        &self,
        chunk: &Chunk,
        _from: &Position,
        limits: StreamLimits,
    ) -> Result<Box<dyn ChunkReader>> {
        let reader = Box::pin(snapshot::open(self, chunk, limits, None)).await?;
        Ok(Box::new(reader))
    }

    async fn read_now(
        &self,
        chunk: &Chunk,
        _from: &Position,
        limits: StreamLimits,
        gate: &dyn Gate,
    ) -> Result<Box<dyn ChunkReader>> {
        let reader = Box::pin(snapshot::open(self, chunk, limits, Some(gate))).await?;
        Ok(Box::new(reader))
    }

    fn contains(&self, seen: &Visibility, tx: &TxId) -> Result<bool> {
        Seen::of_visibility(seen)?.contains(tx)
    }

    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool> {
        Ok(Place::of_position(at)?.lsn >= Seen::of_visibility(seen)?.before)
    }

    /// By the timeline: who knows only numbers of transactions cannot tell what a promoted standby lacks.
    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>> {
        // Not by a connection of before, which may still lead to the old server.
        let ask = async {
            let connection = connect_source(&self.config).await?;
            let sql = format!("SELECT {TIMELINE}");
            connection.client.query_one(&sql, &[]).await.map_err(asking)
        };
        let asked = tokio::time::timeout(self.config.timeout, Box::pin(ask)).await;
        let asked = asked.unwrap_or_else(|_| Err(timed_out()))?;
        let now = timeline(asked.get(0));
        let other = |seen: &&Visibility| {
            let then = Seen::of_visibility(seen)?.timeline;
            Ok(now != 0 && then != 0 && now != then)
        };
        seen.iter().map(other).collect()
    }

    async fn head(&self) -> Result<Position> {
        let place = Place {
            lsn: self.end().await?,
            origin: None,
        };
        Ok(place.position())
    }

    fn reached(&self, at: &Position, mark: &Position) -> Result<bool> {
        Ok(Place::of_position(at)?.lsn >= Place::of_position(mark)?.lsn)
    }

    fn lies_same(&self, a: &Layout, b: &Layout) -> bool {
        // Its files may be others: it was truncated, say.
        let columns = |layout| layout::Layout::parse(layout).map(|layout| layout.columns);
        columns(a) == columns(b)
    }

    async fn bridge(
        &self,
        table: &TableSchema,
        then: Option<&Layout>,
        added: &[usize],
        retyped: &[(usize, String)],
    ) -> Result<Bridge> {
        let connection = connect_source(&self.config).await?;
        let bridged = bridge::bridge(&connection.client, table, then, added, retyped).await;
        bridged.map_err(|error| error.at(Side::Source))
    }

    async fn unsaid(&self, tables: &[(&TableName, &Layout, bool)]) -> Result<Vec<Unsaid>> {
        let connection = self.opener().await?;
        let client = &connection.client;
        let names: Vec<TableName> = tables.iter().map(|(name, ..)| (*name).clone()).collect();
        let found = slot::found(client, &names).await?;
        let oids: Vec<u32> = found.iter().flatten().copied().collect();
        let mut now = files(client, &oids).await?.into_iter();
        let mut out = Vec::new();
        let mut answered = true;
        for (table, ((_, then, _), oid)) in tables.iter().zip(found).enumerate() {
            let Some(oid) = oid else { continue };
            let now = now.next().unwrap_or_default();
            // One that was made anew is told elsewhere.
            let Some(mut layout) = layout::Layout::parse(then).filter(|l| l.is_of(oid)) else {
                continue;
            };
            let found = unsaid::between(client, oid, (&layout.files, &now), &[]);
            let found = tokio::time::timeout(self.config.timeout, found).await;
            answered &= matches!(found, Ok(Ok(_)));
            // What cannot be told now (somebody has locked it) is asked again by the stream.
            if let Ok(Ok(Some(found))) = found {
                layout.files = now;
                out.push(Unsaid {
                    table,
                    layout: layout.stored(),
                    rows: found,
                    how: unsaid::how(found).to_owned(),
                });
            }
        }
        if answered {
            self.put_back(connection);
        }
        Ok(out)
    }

    async fn backlog_bytes(&self, at: &Position) -> Result<Option<u64>> {
        let at = Place::of_position(at)?.lsn;
        Ok(Some(self.end().await?.0.saturating_sub(at.0)))
    }

    async fn stream(
        &self,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<(Box<dyn ChangeStream>, Box<dyn Confirm>)> {
        self.unshare();
        self.begun.store(true, Ordering::Relaxed);
        let opened = Box::pin(stream::open(self, from, tables, limits)).await;
        self.openers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let (stream, confirm) = opened?;
        Ok((Box::new(stream), Box::new(confirm)))
    }

    fn traces(&self) -> Vec<String> {
        let name = &self.name;
        vec![
            format!("SELECT pg_drop_replication_slot('{name}');"),
            format!("DROP PUBLICATION IF EXISTS {name};"),
        ]
    }

    async fn release(&self) -> Result<()> {
        self.unshare();
        let since = Instant::now();
        self.ask(async |client| {
            slot::remove(client, &self.name, &self.config.application_name).await?;
            slot::unpublish(client, &self.name).await
        })
        .await
        .map_err(|error| {
            error.with_hint(format!(
                "after {} s; by hand: SELECT pg_drop_replication_slot('{name}'); \
                 DROP PUBLICATION IF EXISTS {name};",
                since.elapsed().as_secs(),
                name = self.name
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_not_ready_is_given_more_time() {
        for (tries, seconds) in [(0, 10), (1, 20), (3, 80), (9, 3_600), (u32::MAX, 3_600)] {
            assert_eq!(slot_wait(tries).as_secs(), seconds, "{tries}");
        }
    }
}
