//! One table, or a part of it, in a consistent snapshot.
//!
//! Right after the slot was made, all sessions take up the snapshot it exported, so that the load is
//! exactly the state at the slot's begin and no change has to be left out later. The table is locked
//! first (`ACCESS SHARE`, which only TRUNCATE and rewriting DDL have to wait for): these leave nothing
//! for an older snapshot to see. If the table was given new files between the slot's begin and the
//! lock, it is read in a snapshot of its own.
//!
//! A snapshot taken later must see everything the slot's position has passed, because that is not sent
//! again. The log knows a commit before it becomes visible: a transaction that has written its commit
//! record and waits (for a synchronous standby, say) is *in progress* for a snapshot. So the
//! transactions in progress are waited for. One that still runs after [`GRACE`] has not written its
//! record before our question, since only a wait for a synchronous standby takes so long between
//! record and visibility; where the server has such standbys, it is waited for [`RUNNING_WAIT`] and then
//! said who it is.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use thalweg_core::ports::{Chunk, ChunkReader, Gate, StreamLimits, WireForm};
use thalweg_core::position::Visibility;
use thalweg_core::range::KeyRange;
use thalweg_core::schema::TableSchema;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result, Side};
use tokio_postgres::Client;

use crate::error::{asking, refused};
use crate::position::Seen;
use crate::schema::{self, quote, quote_table};
use crate::source::{self, PostgresSource, Shared, TIMELINE};
use crate::stream::{KnownColumn, match_columns, too_large, unreadable};
use crate::wire::cells::{self, Codec, Form};
use crate::wire::connection::{Connection, Failure, Incoming, Outgoing, Purpose};
use crate::wire::copy::{self, Next};
use crate::wire::frame::{Refusal, tag};
use crate::wire::replication::Lsn;
use crate::wire::{Buf, Malformed};
use crate::{literal, session, slot};

/// Rows handed over at once.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of a message that are not values of a row.
const AROUND: usize = 65_536;
/// How long a transaction may be between its commit record and its visibility.
const GRACE: Duration = Duration::from_secs(5);
/// Where the server may take longer to flush a commit, the end of what was written is waited for.
const FLUSH_MAX: Duration = Duration::from_millis(1500);
/// How long transactions are waited for that may have committed or may write to a table unseen.
const RUNNING_WAIT: Duration = Duration::from_secs(30);

pub(crate) struct Reader {
    incoming: Incoming,
    /// Keeps the session open.
    _outgoing: Outgoing,
    seen: Visibility,
    batch_bytes: usize,
    rows: Rows,
}

/// What makes rows of messages.
pub(crate) struct Rows {
    columns: Vec<(Codec, Form)>,
    /// Whether rows are handed on as they are.
    relayed: bool,
    reader: cells::Reader,
    row_bytes_max: u64,
    table: String,
    /// What is left of a message that did not end with a row.
    rest: Vec<u8>,
    begun: bool,
    done: bool,
}

/// Opens a chunk. With a gate, in a snapshot of the present, before which the gate is closed.
pub(crate) async fn open(
    source: &PostgresSource,
    chunk: &Chunk,
    limits: StreamLimits,
    gate: Option<&dyn Gate>,
) -> Result<Reader> {
    let connection = source.opener().await?;
    let reader = open_by(&connection.client, source, chunk, limits, gate).await?;
    source.put_back(connection);
    Ok(reader)
}

async fn open_by(
    client: &Client,
    source: &PostgresSource,
    chunk: &Chunk,
    limits: StreamLimits,
    gate: Option<&dyn Gate>,
) -> Result<Reader> {
    let config = &source.config;
    let table = &chunk.schema.name;
    source.publish(client, table).await?;
    let name = slot::session_name(&config.application_name, "load");
    let mut session = Connection::open(config, &name, Purpose::Sql).await?;
    session.query(session::PINNED).await?;
    let shared = source.shared().filter(|_| gate.is_none());
    let mut locked = lock(&mut session, client, &chunk.schema, shared.as_ref()).await?;
    if let Some(shared) = &locked.shared {
        let take = format!("SET TRANSACTION SNAPSHOT '{}'", shared.name);
        if session.query(&take).await.is_err() {
            // The session that exported it is gone.
            session.query("ROLLBACK").await?;
            locked = lock(&mut session, client, &chunk.schema, None).await?;
        }
    }
    let seen = match &locked.shared {
        Some(shared) => shared.seen.clone(),
        None => {
            if gate.is_none() {
                source.unshare();
            }
            let since = Instant::now();
            loop {
                if let Some(seen) = own_snapshot(&mut session, client, gate).await? {
                    break seen.visibility();
                }
                if since.elapsed() >= RUNNING_WAIT {
                    return Err(untold());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                session.query("ROLLBACK").await?;
                locked = lock(&mut session, client, &chunk.schema, None).await?;
            }
        }
    };
    let columns: Vec<(Codec, Form)> = locked
        .columns
        .iter()
        .map(|column| match column.codec.binary() {
            true => (column.codec, Form::Binary),
            false => (column.codec, Form::Text),
        })
        .collect();
    let sql = copy_sql(&chunk.schema, &columns, chunk.range.as_ref(), locked.root)?;
    let (incoming, outgoing) = session.copy_out(&sql).await?;
    Ok(Reader {
        incoming,
        _outgoing: outgoing,
        seen,
        batch_bytes: limits.part_bytes.min(BATCH_BYTES),
        rows: Rows::new(columns, limits.row_bytes_max, table.to_string()),
    })
}

/// A table that nobody can truncate or rewrite any more.
struct Locked {
    columns: Vec<KnownColumn>,
    /// Whether it is the root of partitions.
    root: bool,
    /// The snapshot to take up, if the table's files are still those it saw.
    shared: Option<Shared>,
}

/// Begins a transaction with a lock on the table, and looks at the table under it.
async fn lock(
    session: &mut Connection,
    client: &Client,
    schema: &TableSchema,
    shared: Option<&Shared>,
) -> Result<Locked> {
    session
        .query("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await?;
    let lock = format!(
        "LOCK TABLE {} IN ACCESS SHARE MODE",
        quote_table(&schema.name)
    );
    session.query(&lock).await?;
    let oid = slot::oid(client, &schema.name).await?;
    let attributes = schema::attributes(client, &[oid]).await?.remove(&oid);
    let attributes = attributes.unwrap_or_default();
    let kind = client
        .query_one("SELECT relkind = 'p' FROM pg_class WHERE oid = $1", &[&oid])
        .await
        .map_err(asking)?;
    let files = source::files(client, &[oid]).await?.concat();
    let unchanged = |shared: &&Shared| {
        shared
            .files
            .iter()
            .any(|(table, before)| *table == schema.name && *before == files)
    };
    Ok(Locked {
        columns: match_columns(schema, &attributes)?,
        root: kind.get(0),
        shared: shared.filter(unchanged).cloned(),
    })
}

fn seen(snapshot: &str, before: Lsn, timeline: u32) -> Result<Seen> {
    Seen::parse(snapshot, before, timeline)
        .ok_or_else(|| Error::bug("a snapshot that cannot be read").at(Side::Source))
}

/// The name of the function that tells what a snapshot sees: it was renamed in version 13.
async fn snapshot_function(client: &Client) -> Result<&'static str> {
    Ok(match source::version(client).await?.0 {
        130_000.. => "pg_current_snapshot()::text",
        _ => "txid_current_snapshot()::text",
    })
}

/// What the snapshot of a new slot sees, which begins at `begins` on a timeline.
pub(crate) async fn exported(
    session: &mut Connection,
    client: &Client,
    name: &str,
    (begins, timeline): (Lsn, u32),
) -> Result<Seen> {
    session
        .query("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await?;
    let take = format!("SET TRANSACTION SNAPSHOT '{name}'");
    session.query(&take).await?;
    let snapshot = snapshot_text(session, client).await?;
    session.query("COMMIT").await?;
    seen(&snapshot, begins, timeline)
}

async fn snapshot_text(session: &mut Connection, client: &Client) -> Result<String> {
    let sql = format!("SELECT {}", snapshot_function(client).await?);
    one(session.query(&sql).await?)
}

fn one(rows: Vec<Vec<Option<String>>>) -> Result<String> {
    rows.into_iter()
        .flatten()
        .flatten()
        .next()
        .ok_or_else(|| Error::bug("no answer to a question").at(Side::Source))
}

/// Takes a snapshot that sees all that has been sent so far; `None` if what it sees is not known.
async fn own_snapshot(
    session: &mut Connection,
    client: &Client,
    gate: Option<&dyn Gate>,
) -> Result<Option<Seen>> {
    settle(client, Wait::Commits).await?;
    if let Some(gate) = gate {
        gate.close().await;
    }
    let snapshot = snapshot_text(session, client).await?;
    // Asked outside the snapshot and after it. Just behind the head of a page nothing is written yet,
    // and a stream that has come to the page's begin will not go on to its head.
    let row = client
        .query_one(
            &format!(
                "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                 ELSE pg_current_wal_insert_lsn() END)::text, \
                 current_setting('wal_block_size')::int4, pg_is_in_recovery(), {TIMELINE}"
            ),
            &[],
        )
        .await
        .map_err(asking)?;
    let standby: bool = row.get(2);
    let mut end = source::lsn(row.get(0))?;
    if gate.is_some() && !standby {
        end = flushed(client, end).await?;
    }
    let block = u64::try_from(row.get::<_, i32>(1)).unwrap_or(8_192).max(1);
    let in_page = end.0 % block;
    let before = if in_page <= 40 {
        end.0 - in_page
    } else {
        end.0
    };
    let seen = seen(&snapshot, Lsn(before), source::timeline(row.get(3)))?;
    // A standby keeps the transactions in progress in another place than its answer is made of
    // (`GetSnapshotData`, `pg_current_snapshot`): only where none can be between the two is it true.
    Ok((!standby || seen.xmin == seen.xmax).then_some(seen))
}

/// Behind what snapshots see now, given the end of what was written. What was written may lie there
/// unflushed for many seconds while nobody commits, and is not sent before. But a transaction is seen
/// only when its commit is flushed, or was flushed at most three times `wal_writer_delay` later
/// (`synchronous_commit = off`); so the end of what is flushed by then will do.
/// <https://www.postgresql.org/docs/15/wal-async-commit.html>
async fn flushed(client: &Client, written: Lsn) -> Result<Lsn> {
    const ASK: &str = "SELECT pg_current_wal_flush_lsn()::text, \
        (extract(epoch FROM current_setting('wal_writer_delay')::interval) * 1000)::int8";
    let since = Instant::now();
    loop {
        let row = client.query_one(ASK, &[]).await.map_err(asking)?;
        let flushed = source::lsn(row.get(0))?;
        let delay = u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
        let delay = Duration::from_millis(3 * delay + 100);
        if flushed >= written || delay > FLUSH_MAX {
            return Ok(written);
        }
        if since.elapsed() >= delay {
            return Ok(flushed);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A standby that is never idle.
fn untold() -> Error {
    Error::transient(
        "the source is a standby, which does not tell what a snapshot sees while transactions run, \
         and some always do",
    )
    .with_hint(
        "it is tried again; reset the task, so that it loads in the snapshot of a new slot, or give \
         the primary's host and port to the data source",
    )
    .at(Side::Source)
}

/// Waits until every transaction that runs now is over.
pub(crate) async fn writers_end(client: &Client) -> Result<()> {
    settle(client, Wait::Writers).await
}

/// What has to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Commits that are in the log and not visible yet.
    Commits,
    /// Every transaction that runs now.
    Writers,
}

/// Waits until the transactions in progress now are over, as far as they matter.
async fn settle(client: &Client, wait: Wait) -> Result<()> {
    let function = snapshot_function(client).await?;
    let sql = format!("SELECT {function}, current_setting('synchronous_standby_names') <> ''");
    let since = Instant::now();
    let mut pending: Option<Vec<u64>> = None;
    loop {
        let row = client.query_one(&sql, &[]).await.map_err(asking)?;
        let now = seen(row.get(0), Lsn(0), 0)?;
        let pending = pending.get_or_insert_with(|| now.xip.clone());
        pending.retain(|xid| !now.sees(*xid));
        if pending.is_empty() {
            return Ok(());
        }
        let standbys: bool = row.get(1);
        if wait == Wait::Commits && !standbys && since.elapsed() >= GRACE {
            return Ok(());
        }
        if since.elapsed() >= RUNNING_WAIT {
            let list: Vec<String> = pending.iter().map(u64::to_string).collect();
            return Err(Error::transient(format!(
                "transactions have to end before the table can be read: {}",
                list.join(", ")
            ))
            .with_hint(
                "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL \
                 shows them, and pg_prepared_xacts those that are prepared; it is tried again",
            )
            .at(Side::Source));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn copy_sql(
    schema: &TableSchema,
    columns: &[(Codec, Form)],
    range: Option<&KeyRange>,
    root: bool,
) -> Result<String> {
    let list: Vec<String> = schema
        .columns
        .iter()
        .zip(columns)
        .map(|(column, (_, form))| match form {
            Form::Binary => quote(&column.name),
            // The text form is what the type's output function makes. A cast to text may be another
            // one (of `inet`, for example), and `IS NULL` is true for a row of NULLs.
            Form::Text => format!(
                "CASE WHEN {name} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', {name}) END",
                name = quote(&column.name)
            ),
        })
        .collect();
    let mut sql = format!(
        "COPY (SELECT {} FROM {}{}",
        list.join(", "),
        // What inherits from a table is published as a table of its own; partitions are not.
        if root { "" } else { "ONLY " },
        quote_table(&schema.name)
    );
    sql.push_str(&within(schema, range)?);
    sql.push_str(") TO STDOUT (FORMAT binary)");
    Ok(sql)
}

/// The condition that a row lies in a range, as a clause; empty for all rows.
pub(crate) fn within(schema: &TableSchema, range: Option<&KeyRange>) -> Result<String> {
    let mut sql = String::new();
    let Some(range) = range else { return Ok(sql) };
    let column = schema
        .columns
        .get(range.column)
        .map(|c| quote(&c.name))
        .ok_or_else(|| Error::bug("a range over no column"))?;
    let mut word = "WHERE";
    for (sign, bound) in [(">=", &range.from), ("<", &range.to)] {
        if let Some(bound) = bound {
            let literal = literal::of(bound.cell());
            let literal = literal.ok_or_else(|| Error::bug("a bound without an order"))?;
            sql.push_str(&format!(" {word} {column} {sign} {literal}"));
            word = "AND";
        }
    }
    Ok(sql)
}

impl Rows {
    pub(crate) fn new(columns: Vec<(Codec, Form)>, row_bytes_max: u64, table: String) -> Self {
        Rows {
            columns,
            relayed: false,
            reader: cells::Reader::new(row_bytes_max),
            row_bytes_max,
            table,
            rest: Vec::new(),
            begun: false,
            done: false,
        }
    }

    /// The form of the rows as they come.
    fn wire(&self) -> Option<WireForm> {
        let name = |(codec, form): &(Codec, Form)| match form {
            Form::Binary => codec.wire(),
            Form::Text => None,
        };
        copy::wire_form(self.columns.iter().map(name))
    }

    /// Appends a row as it came.
    fn relay(&self, row: &[u8], into: &mut RowBatch) -> Result<()> {
        if u64::try_from(row.len()).unwrap_or(u64::MAX) > self.row_bytes_max {
            return Err(too_large(&self.table, self.row_bytes_max));
        }
        into.push(CellRef::Bytes(row));
        into.end_row();
        Ok(())
    }

    /// From now on rows are handed on as they are.
    pub(crate) fn relayed(&mut self) {
        self.relayed = true;
    }

    /// Appends the rows of a message; what is not a whole row is kept.
    pub(crate) fn take(&mut self, body: &[u8], into: &mut RowBatch) -> Result<()> {
        let joined;
        let mut buf = if self.rest.is_empty() {
            Buf(body)
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(body);
            joined = all;
            Buf(&joined)
        };
        if !self.begun {
            self.begun = copy::header(&mut buf)?;
        }
        while self.begun {
            match copy::next(&mut buf)? {
                Next::Row(fields) => {
                    if fields.width != self.columns.len() {
                        return Err(Malformed("a row has another width than was asked for").into());
                    }
                    if self.relayed {
                        self.relay(fields.row, into)?;
                        continue;
                    }
                    for (value, (codec, form)) in fields.values().zip(&self.columns) {
                        match value {
                            None => into.push(CellRef::Null),
                            Some(bytes) => self
                                .reader
                                .push(*codec, *form, bytes, into)
                                .map_err(|e| unreadable(e, &self.table, self.row_bytes_max))?,
                        }
                    }
                    into.end_row();
                }
                Next::More => break,
                Next::End => {
                    self.done = true;
                    return Ok(());
                }
            }
        }
        self.rest.extend_from_slice(buf.0);
        if u64::try_from(self.rest.len()).unwrap_or(u64::MAX) > self.row_bytes_max {
            return Err(too_large(&self.table, self.row_bytes_max));
        }
        Ok(())
    }
}

#[async_trait]
impl ChunkReader for Reader {
    fn visibility(&self) -> &Visibility {
        &self.seen
    }

    fn wire(&self) -> Option<WireForm> {
        self.rows.wire()
    }

    fn relay(&mut self) {
        self.rows.relayed();
    }

    async fn next(&mut self, into: &mut RowBatch) -> Result<bool> {
        into.clear();
        let rows = &mut self.rows;
        let max = usize::try_from(rows.row_bytes_max)
            .unwrap_or(usize::MAX)
            .saturating_add(AROUND);
        while !rows.done && into.bytes() < self.batch_bytes {
            let (tag, body) = match self.incoming.message(max).await {
                Ok(message) => message,
                Err(Failure::TooLong) => return Err(too_large(&rows.table, rows.row_bytes_max)),
                Err(failure) => return Err(failure.into()),
            };
            match tag {
                tag::COPY_DATA => rows.take(body, into)?,
                tag::ERROR => return Err(refused(&Refusal::parse(body)?)),
                tag::COPY_DONE | tag::READY => {
                    return Err(Malformed("a table ends without a trailer").into());
                }
                _ => {}
            }
            self.incoming.forget();
        }
        Ok(!into.is_empty())
    }
}
