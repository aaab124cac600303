//! Committed transactions from the slot.
//!
//! The position moves at a commit, to the place where its record ends: the server then begins with the
//! first transaction whose commit record lies behind it. A keepalive between two transactions moves it
//! too: everything before the place it names has been sent, and transactions that are still open are
//! sent again from their beginning when they commit. So an idle slot keeps no log.
//!
//! The server sends transactions whole and in commit order (it keeps open ones to itself), and prepared
//! ones when they are decided; see `docs/decisions`. What a table looks like is told before its first
//! row and after each change of it, in the form it had at that place of the log, and is compared with
//! the schema the stream was opened with.

pub(crate) mod assembly;
mod feedback;
pub(crate) mod relation;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use thalweg_core::change::Transaction;
use thalweg_core::ports::{ChangeStream, DataSourceConfig, StreamLimits};
use thalweg_core::position::Position;
use thalweg_core::schema::TableSchema;
use thalweg_core::{Error, Result, Side};
use tokio_postgres::Client;

use self::assembly::Assembly;
use self::feedback::{Confirmed, Feedback};
use self::relation::Known;
pub(crate) use self::relation::{KnownColumn, match_columns};
use crate::config::{Connection as Asking, connect_source};
use crate::error::{asking, lost, refused};
use crate::position::{Origin, Place};
use crate::source::PostgresSource;
use crate::wire::Malformed;
use crate::wire::cells;
use crate::wire::connection::{Connection, Failure, Incoming, Purpose};
use crate::wire::frame::{Refusal, tag};
use crate::wire::replication::{self, DATA_HEAD, Lsn};
use crate::{schema, session, slot, source, unsaid};

/// Empty transactions are handed out at most this often.
const IDLE: Duration = Duration::from_millis(200);
/// After so long a silence the server is asked whether our sender still works. It answers our status
/// twice a second, but not while it decodes a huge transaction of others.
const SILENCE: Duration = Duration::from_secs(15);
/// A stream that brings more messages than this in a millisecond is read a millisecond's worth at a time.
const FLOOD: u32 = 40;
/// How long a flooded socket is left alone.
const PAUSE: Duration = Duration::from_millis(1);
/// How often it is looked whether the tables still are those that are read: what is written to another one
/// of the same name is not in the stream.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes of a message that are not values of a row.
const AROUND: usize = 65_536;

pub(crate) struct Stream {
    config: DataSourceConfig,
    limits: StreamLimits,
    incoming: Incoming,
    /// The server's process.
    pid: i32,
    feedback: Feedback,
    assembly: Assembly,
    looked: Instant,
    /// An idle connection for the questions asked meanwhile.
    asking: Option<Asking>,
    last_empty: Instant,
    pace: Pace,
}

/// How fast messages come. The server sends each change by itself; who waits for it is woken for each,
/// which costs both sides more than the change does. So a reader that would wait while they pour in
/// lets them gather in the socket instead.
struct Pace {
    messages: u32,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Pace {
            messages: 0,
            since: Instant::now(),
        }
    }

    /// Whether messages pour in. Asked when none is left; counting begins anew.
    fn floods(&mut self) -> bool {
        let Pace { messages, since } = std::mem::replace(self, Pace::new());
        messages >= FLOOD && PAUSE * messages > since.elapsed() * FLOOD
    }
}

/// Opens the stream behind `from`.
pub(crate) async fn open(
    source: &PostgresSource,
    from: &Position,
    tables: &[TableSchema],
    limits: StreamLimits,
) -> Result<(Stream, Confirmed)> {
    let mut place = Place::of_position(from)?;
    let config = &source.config;
    let connection = source.opener().await?;
    let client = &connection.client;
    let (version, standby) = source::version(client).await?;
    let slot = slot::find(client, &source.name).await?.ok_or_else(|| {
        lost(format!(
            "the replication slot {} does not exist any more",
            source.name
        ))
    })?;
    slot.fits(&source.name, &config.database, &place)?;
    covered(client, source, tables).await?;
    // Before: what is not seen in a table may come behind this place only.
    let asked = source::end_of_log(client).await?;
    let known = known(client, tables).await?;
    let name = slot::session_name(&config.application_name, "stream");
    let mut session = Connection::open(config, &name, Purpose::Replication).await?;
    place.origin = Some(same_log(source, &mut session, client, &place).await?);
    // A standby may have to replay what it had before it was restarted.
    if !standby {
        reaches(client, &place).await?;
    }
    session.query(session::PINNED).await?;
    if version >= 120_000 {
        session.query("SET wal_sender_timeout = '60s'").await?;
    }
    slot::take_over(client, &source.name, &config.application_name).await?;
    let binary = version >= 140_000
        && known
            .iter()
            .all(|table| table.columns.iter().all(|column| column.codec.binary()));
    let command = format!(
        "START_REPLICATION SLOT {name} LOGICAL {} (proto_version '1', publication_names '{name}'{})",
        place.lsn,
        if binary { ", binary 'true'" } else { "" },
        name = schema::quote(&source.name),
    );
    let pid = i32::try_from(session.pid).unwrap_or(0);
    let (incoming, outgoing) = session.copy_both(&command).await?;
    let (feedback, confirmed) = Feedback::start(outgoing, place.lsn);
    let stream = Stream {
        config: config.clone(),
        limits,
        incoming,
        pid,
        feedback,
        assembly: Assembly::new(known, asked, place, limits),
        looked: Instant::now(),
        asking: Some(connection),
        last_empty: Instant::now(),
        pace: Pace::new(),
    };
    Ok((stream, confirmed))
}

/// Tables a publication of ours does not cover: a new one that is not loaded is added, and its changes
/// come from now on (what is loaded was added before). One that somebody took out has missed changes; so has
/// one that was dropped or renamed and made anew. What nobody reads any more leaves the publication.
async fn covered(client: &Client, source: &PostgresSource, tables: &[TableSchema]) -> Result<()> {
    let name = &source.name;
    let Some(publication) = slot::publication(client, name).await? else {
        return Err(lost(format!(
            "the publication {name} does not exist any more"
        )));
    };
    let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
    let now = slot::oids(client, &names).await?;
    for (table, oid) in tables.iter().zip(&now) {
        relation::same_table(table, *oid)?;
    }
    for table in &slot::uncovered(client, name, &names).await? {
        source.publish(client, table).await?;
    }
    let members = publication.ours.iter().flatten();
    if members.clone().any(|member| !now.contains(&member.oid)) {
        source.retain(client, &now).await?;
    }
    Ok(())
}

/// The server's log has to reach to the place it was read to, which one that was restored from a copy
/// of its disk does not: what it writes until it is there again would be taken for read.
async fn reaches(client: &Client, place: &Place) -> Result<()> {
    let end = source::end_of_log(client).await?;
    if end >= place.lsn {
        return Ok(());
    }
    Err(lost(format!(
        "the source's log ends at {end}, before the position {} that was read: the server was set back \
         to an earlier state",
        place.lsn
    )))
}

/// The tables as the catalogue has them, which has to be as the stream's user knows them.
async fn known(client: &Client, tables: &[TableSchema]) -> Result<Vec<Known>> {
    let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
    let oids = slot::oids(client, &names).await?;
    let attributes = schema::attributes(client, &oids).await?;
    let known = tables.iter().zip(oids);
    known
        .map(|(table, oid)| {
            let attributes = attributes.get(&oid).map_or(&[][..], Vec::as_slice);
            Known::new(table, oid, attributes)
        })
        .collect()
}

/// The server's log has to be the one that was read; gives what it is called now.
async fn same_log(
    source: &PostgresSource,
    session: &mut Connection,
    client: &Client,
    place: &Place,
) -> Result<Origin> {
    let Some(was) = &place.origin else {
        return Err(lost("the position does not say of which log it is"));
    };
    let is = source.origin(session, client).await?;
    if was.system != is.system || was.database != is.database {
        return Err(lost(format!(
            "the source is another system than the one that was read (system identifier {} and \
             database number {}, not {} and {})",
            is.system, is.database, was.system, was.database
        )));
    }
    if was.slot != is.slot {
        return Err(lost(format!(
            "the position is of replication slot {}, not of {}",
            was.slot, is.slot
        )));
    }
    if was.timeline == is.timeline {
        return Ok(is);
    }
    // A standby was promoted. What we have read must lie before the fork.
    let fork = fork(session, is.timeline, was.timeline).await?;
    match fork {
        Some(fork) if place.lsn <= fork => Ok(is),
        _ => Err(lost(format!(
            "the source went from timeline {} to {}, and may lack what was read before",
            was.timeline, is.timeline
        ))),
    }
}

/// Where the server's timeline `now` left timeline `then`; `None`: it never was on it.
async fn fork(session: &mut Connection, now: u32, then: u32) -> Result<Option<Lsn>> {
    let rows = session.query(&format!("TIMELINE_HISTORY {now}")).await?;
    let Some([_, Some(history), ..]) = rows.first().map(Vec::as_slice) else {
        return Ok(None);
    };
    Ok(history.lines().find_map(|line| {
        let mut parts = line.split('\t');
        let timeline: u32 = parts.next()?.trim().parse().ok()?;
        let fork = Lsn::parse(parts.next()?.trim())?;
        (timeline == then).then_some(fork)
    }))
}

impl Stream {
    /// How many bytes a message may have: an update has two rows, and octets as text take two bytes
    /// each.
    fn message_bytes_max(&self) -> usize {
        let row = usize::try_from(self.limits.row_bytes_max).unwrap_or(usize::MAX);
        row.saturating_mul(4).saturating_add(AROUND)
    }

    /// Waits for a message and handles it. Cancel-safe.
    async fn step(&mut self) -> Result<()> {
        let max = self.message_bytes_max();
        let (tag, body) = match self.incoming.message(max).await {
            Ok(message) => message,
            Err(Failure::TooLong) => {
                let beginning = self.incoming.beginning();
                let table = self
                    .assembly
                    .table_of(beginning.get(DATA_HEAD..).unwrap_or_default());
                return Err(too_large(&table, self.limits.row_bytes_max));
            }
            Err(failure) => return Err(failure.into()),
        };
        match tag {
            tag::COPY_DATA => {}
            tag::ERROR => return Err(refused(&Refusal::parse(body)?)),
            tag::COPY_DONE | tag::COMMAND_COMPLETE | tag::READY => {
                return Err(Error::transient("the source ended the stream").at(Side::Source));
            }
            _ => return Ok(()),
        }
        match replication::incoming(body)? {
            replication::Incoming::Keepalive { wal_end, reply } => {
                if reply {
                    self.feedback.now();
                }
                self.assembly.alive(wal_end);
                Ok(())
            }
            replication::Incoming::Data { body, .. } => {
                self.assembly.take(body)?;
                self.incoming.forget();
                Ok(())
            }
        }
    }

    /// What can be handed out now.
    fn ready(&mut self) -> Option<Transaction> {
        if let Some(transaction) = self.assembly.ready() {
            return Some(transaction);
        }
        let due = self.assembly.moved() && self.last_empty.elapsed() >= IDLE;
        due.then(|| self.empty())
    }

    /// An empty transaction that moves the position.
    fn empty(&mut self) -> Transaction {
        self.last_empty = Instant::now();
        self.assembly.empty()
    }

    /// Whether the tables still are those that are read, and their columns: asked now and then of all, and
    /// of one that was described, before its rows are handed out.
    async fn look(&mut self) -> Result<()> {
        let (told, known) = self.assembly.told();
        let all = self.looked.elapsed() >= LOOK;
        let asked: Vec<&Known> = match all {
            true => known.iter().collect(),
            false if told.is_empty() => return Ok(()),
            false => told.iter().filter_map(|at| known.get(*at)).collect(),
        };
        let waits = !told.is_empty();
        let names: Vec<_> = asked
            .iter()
            .map(|known| known.schema.name.clone())
            .collect();
        let oids: Vec<u32> = asked.iter().map(|known| known.oid).collect();
        let connection = self.asking.take();
        let ask = async {
            let connection = match connection {
                Some(connection) if !connection.client.is_closed() => connection,
                _ => connect_source(&self.config).await?,
            };
            let client = &connection.client;
            let found = slot::columns(client, &names).await?;
            let files = match all {
                true => Some((
                    source::files(client, &oids).await?,
                    source::end_of_log(client).await?,
                )),
                false => None,
            };
            Ok::<_, Error>((connection, found, files))
        };
        let answer = tokio::time::timeout(self.config.timeout, Box::pin(ask)).await;
        if all {
            self.looked = Instant::now();
        }
        let (found, files) = match answer {
            Ok(Ok((connection, found, files))) => {
                self.asking = Some(connection);
                (found, files)
            }
            // Whether it answers is found out elsewhere; but these rows wait.
            _ if !waits => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(Error::transient("the source did not answer in time").at(Side::Source));
            }
        };
        for (known, now) in asked.into_iter().zip(found) {
            match now {
                Some((oid, numbers)) if oid == known.oid => {
                    known.same_columns(&known.layout, &numbers)?;
                }
                _ => return Err(relation::other_table(&known.schema.name)),
            }
        }
        self.assembly.looked();
        match files {
            Some((files, end)) => self.look_at_files(files, end).await,
            None => Ok(()),
        }
    }

    /// Whether rows of the tables came, went or changed without the log saying so, by their files when the log
    /// ended at `end`.
    async fn look_at_files(&mut self, files: Vec<String>, end: Lsn) -> Result<()> {
        for (at, now) in files.into_iter().enumerate() {
            let Some(other) = self.assembly.refiled(at, &now, end) else {
                continue;
            };
            let Some(connection) = &self.asking else {
                return Ok(());
            };
            let files = (other.was.as_str(), now.as_str());
            let asked = unsaid::between(&connection.client, other.oid, files, &other.truncates);
            match tokio::time::timeout(self.config.timeout, asked).await {
                Ok(Ok(None)) => self.assembly.settle_files(at, now),
                Ok(Ok(Some(rows))) => return Err(self.assembly.not_said(at, unsaid::how(rows))),
                // It is asked again at the next look.
                Ok(Err(_)) => {}
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Asks on another connection whether our sender works. A server that answers and has it is busy.
    async fn alive(&self) -> Result<()> {
        let ask = async {
            let connection = connect_source(&self.config).await?;
            let found = connection
                .client
                .query_opt(
                    "SELECT 1 FROM pg_stat_activity WHERE pid = $1",
                    &[&self.pid],
                )
                .await
                .map_err(asking)?;
            Ok::<_, Error>(found.is_some())
        };
        match tokio::time::timeout(self.config.timeout, Box::pin(ask)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(false)) | Err(_) => Err(Error::transient(format!(
                "the source sent nothing for {SILENCE:?} and does not answer"
            ))
            .at(Side::Source)),
        }
    }
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<Transaction> {
        loop {
            self.look().await?;
            if let Some(transaction) = self.ready() {
                return Ok(transaction);
            }
            // What has arrived needs no timer.
            if let Some(handled) = self.step().now_or_never() {
                handled?;
                self.pace.messages += 1;
                continue;
            }
            if self.pace.floods() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let moved = self.assembly.moved();
            let wait = match moved {
                true => IDLE.saturating_sub(self.last_empty.elapsed()),
                false => SILENCE,
            };
            match tokio::time::timeout(wait, self.step()).await {
                Ok(handled) => handled?,
                Err(_) if moved => return Ok(self.empty()),
                Err(_) => self.alive().await?,
            }
        }
    }
}

/// What is to be said of a row that cannot be read.
pub(crate) fn unreadable(error: Malformed, table: &str, row_bytes_max: u64) -> Error {
    if error == cells::TOO_LARGE {
        return too_large(table, row_bytes_max);
    }
    Error::data(format!("a row of {table} cannot be read: {error}"))
        .with_hint("correct the row at the source, or leave the column out of the mapping")
        .at(Side::Source)
}

/// A row of a table is larger than the task allows.
pub(crate) fn too_large(table: &str, row_bytes_max: u64) -> Error {
    Error::data(format!(
        "a row of {table} is larger than the limit of {row_bytes_max} bytes"
    ))
    .with_hint("raise the task's option row_bytes_max")
    .at(Side::Source)
}
