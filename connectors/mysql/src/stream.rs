//! Committed transactions from the binlog: a dump, and the decoder it feeds. At the head of the log the
//! dump is one that the tasks of a source share ([`hub`]).

pub(crate) mod cursor;
pub(crate) mod decode;
mod dump;
pub(crate) mod hub;
mod images;
pub(crate) mod piece;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use thalweg_core::change::Transaction;
use thalweg_core::ports::{ChangeStream, DataSourceConfig, StreamLimits};
use thalweg_core::position::Position;
use thalweg_core::schema::TableSchema;
use thalweg_core::{Error, Result, Side};

use self::cursor::Cursor;
use self::decode::{Decoder, IDLE, Inner, Step};
use self::dump::{Dump, Packet};
use self::hub::{Given, Guest, Hub, Ticket};
use self::piece::{Piece, Point};
use crate::config::connect;
use crate::error::from_driver;
use crate::position::{Coordinate, Place};
use crate::snapshot::quote;
use crate::source::timed_out;
use crate::{catalog, schema, server};

/// The server sends heartbeats every half second; silence of this length is a dead connection.
const SILENCE: Duration = Duration::from_secs(10);

/// A stream that has always something to read looks for company each time it has been between two groups so often.
const LOOK: u32 = 256;

/// Where events come from.
enum Feed {
    Own(Dump),
    Shared {
        ticket: Ticket,
        /// Bytes of log up to the decoder's place, as the hub counts them.
        bytes: u64,
        /// What is being read, and how many of its events have been.
        piece: Option<(Arc<Piece>, usize)>,
    },
}

pub(crate) struct Stream {
    config: DataSourceConfig,
    feed: Feed,
    /// The source's other streams; `None`: it has nothing to do with them.
    guest: Option<Guest>,
    /// It has just begun, and has much to read.
    gathers: bool,
    /// How often it is between two groups until it looks for company even if there are more.
    look: u32,
    decoder: Decoder,
    /// Where the group starts that is wanted again.
    wanted: Option<(String, u64)>,
    again: Option<Dump>,
}

/// The end of the log, taken before tables were as they are given: whatever is done to them before it, is done
/// to what they are given as.
async fn end_before(
    conn: &mut Conn,
    config: &DataSourceConfig,
    tables: &[TableSchema],
) -> Result<Place> {
    let end = server::end_of_log(conn, config).await?;
    let whole: Vec<&TableSchema> = tables.iter().filter(|table| table.whole).collect();
    if end.set.is_none() && !server::is_mariadb(conn) {
        // There a statement is in the log before its effect is seen, and is done when the table is free.
        for TableSchema { name, .. } in &whole {
            let (schema, name) = (quote(&name.schema), quote(&name.name));
            let wait = format!("SELECT 1 FROM {schema}.{name} LIMIT 0");
            conn.query_drop(wait).await.map_err(from_driver)?;
        }
    }
    let unchanged = schema::unchanged(conn, &whole).await;
    unchanged.map_err(|error| error.at(Side::Source))?;
    Ok(end)
}

/// When the file of a place was made.
pub(crate) async fn birth(config: &DataSourceConfig, place: &Place) -> Result<u32> {
    Box::pin(Dump::beside(config, place)).await?.birth().await
}

impl Stream {
    pub(crate) async fn open(
        config: &DataSourceConfig,
        hub: Option<Arc<Hub>>,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<Stream> {
        let mut place = Place::of_position(from)?;
        let mut conn = connect(config).await?;
        let known = catalog::known(&mut conn).await?;
        let asked = end_before(&mut conn, config, tables);
        let end = tokio::time::timeout(config.time_for(tables.len()), Box::pin(asked))
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        drop(conn.disconnect().await);
        let used = hub.as_ref().and_then(|hub| hub.id());
        let main = Dump::open(config, &place, used).await?;
        let anchored = main.server == place.at.server && place.set.is_none();
        if !anchored {
            place.at.server = main.server;
            place.born = 0;
        }
        let cursor = Cursor::new(main.server);
        let mut decoder = Decoder::new(place, cursor, anchored, tables, known, limits)?;
        decoder.end = Some(end);
        Ok(Stream {
            config: config.clone(),
            decoder,
            guest: hub.filter(|_| main.whole).map(Guest::new),
            gathers: main.behind > hub::RING as u64,
            feed: Feed::Own(main),
            look: LOOK,
            wanted: None,
            again: None,
        })
    }

    /// What a step hands out, if it does.
    fn take(&mut self, step: Step) -> Option<Transaction> {
        if !self.decoder.in_group() {
            // What was wanted again has come to its end.
            self.again = None;
        }
        match step {
            Step::Nothing => None,
            Step::Out(transaction) => Some(transaction),
            Step::Again(file, pos) => {
                self.wanted = Some((file, pos));
                None
            }
        }
    }

    /// Opens the dump of the group that is wanted again.
    async fn reopen(&mut self, file: String, pos: u64) -> Result<()> {
        let start = Place {
            at: Coordinate {
                server: self.decoder.cursor.server,
                file,
                pos,
            },
            ..Place::default()
        };
        let dump = Box::pin(Dump::beside(&self.config, &start)).await?;
        self.again = Some(dump);
        self.wanted = None;
        self.decoder.again();
        Ok(())
    }

    fn packet(&mut self, packet: &Packet, second: bool) -> Result<Option<Transaction>> {
        let step = self
            .decoder
            .event(&packet.header, packet.event.data(), second)?;
        Ok(self.take(step))
    }

    /// The next event of the stream's own dump.
    async fn own(&mut self) -> Result<Option<Transaction>> {
        let company = self.guest.as_ref().is_some_and(Guest::has_company);
        if self.gathers && self.decoder.cursor.born != 0 {
            self.gathers = false;
            let expects = |guest: &Guest| guest.has_company() || guest.expects_company();
            if self.guest.as_ref().is_some_and(expects) && (self.join() || self.host(true)) {
                return Ok(None);
            }
        }
        if company && !self.decoder.in_group() {
            self.look = self.look.saturating_sub(1);
            if self.look == 0 {
                self.look = LOOK;
                if self.join() {
                    return Ok(None);
                }
            }
            match self.own_ready()? {
                Some(packet) => return self.packet(&packet, false),
                None if self.join() || self.host(false) => return Ok(None),
                None => {}
            }
        }
        let Feed::Own(dump) = &mut self.feed else {
            return Ok(None);
        };
        let decoder = &mut self.decoder;
        let wait = if decoder.moved {
            IDLE.saturating_sub(decoder.last_empty.elapsed())
        } else {
            SILENCE
        };
        match dump.next(wait, &decoder.cursor.file).await? {
            Some(packet) => self.packet(&packet, false),
            None if decoder.moved && !decoder.in_group() => Ok(Some(decoder.empty())),
            None if decoder.moved => {
                decoder.moved = false;
                Ok(None)
            }
            None => Err(silent()),
        }
    }

    fn own_ready(&mut self) -> Result<Option<Packet>> {
        match &mut self.feed {
            Feed::Own(dump) => dump.ready(&self.decoder.cursor.file).transpose(),
            Feed::Shared { .. } => Ok(None),
        }
    }

    /// Takes a seat at the shared dump, if that comes by here.
    fn join(&mut self) -> bool {
        let joined = self
            .guest
            .as_ref()
            .and_then(|guest| guest.join(&self.decoder.cursor, &mut || self.decoder.wanted()));
        let Some((ticket, bytes)) = joined else {
            return false;
        };
        let piece = None;
        self.feed = Feed::Shared {
            ticket,
            bytes,
            piece,
        };
        true
    }

    /// Makes the own dump the shared one, if there is none; `hold`: and waits for others.
    fn host(&mut self, hold: bool) -> bool {
        let cursor = &self.decoder.cursor;
        let ticket = match &self.guest {
            Some(guest) if cursor.born != 0 => guest.open(cursor, self.decoder.wanted(), hold),
            _ => None,
        };
        let Some(ticket) = ticket else {
            return false;
        };
        let shared = Feed::Shared {
            ticket,
            bytes: 0,
            piece: None,
        };
        let own = std::mem::replace(&mut self.feed, shared);
        if let (Feed::Own(dump), Feed::Shared { ticket, .. }) = (own, &self.feed) {
            ticket.bring(dump, &self.decoder.cursor);
        }
        true
    }

    /// The next event, or piece, of the shared dump.
    async fn shared(&mut self) -> Result<Option<Transaction>> {
        let Feed::Shared {
            ticket,
            bytes,
            piece,
        } = &mut self.feed
        else {
            return Ok(None);
        };
        if let Some((current, index)) = piece {
            let Some((header, body)) = current.event(*index) else {
                *bytes = current.after.bytes;
                *piece = None;
                return Ok(None);
            };
            *index += 1;
            let step = self.decoder.event(header, body, false)?;
            return Ok(self.take(step));
        }
        // Where the hub is, it tells only who asks.
        let wait = if self.decoder.moved && !self.decoder.in_group() {
            IDLE.saturating_sub(self.decoder.last_empty.elapsed())
        } else {
            IDLE
        };
        match ticket.next(wait).await {
            Given::Piece(next) => {
                pass(&mut self.decoder, bytes, &next.before)?;
                *piece = Some((next, 0));
            }
            Given::Nothing(front) => {
                if let Some(front) = front {
                    pass(&mut self.decoder, bytes, &front)?;
                }
                let decoder = &mut self.decoder;
                if decoder.moved && !decoder.in_group() && decoder.last_empty.elapsed() >= IDLE {
                    return Ok(Some(decoder.empty()));
                }
            }
            Given::Alone(dump, at) => {
                pass(&mut self.decoder, bytes, &at)?;
                self.feed = Feed::Own(*dump);
            }
            Given::Lost => self.leave().await?,
        }
        Ok(None)
    }

    /// Goes on with a dump of its own where the decoder stands, in the middle of a group if need be.
    async fn leave(&mut self) -> Result<()> {
        let at = &self.decoder.cursor;
        let start = Place {
            at: self.decoder.start(),
            ..Place::default()
        };
        let mut dump = Box::pin(Dump::beside(&self.config, &start)).await?;
        let other = || {
            let (file, pos) = (&at.file, at.pos);
            // What became of the log is found when the stream is opened again.
            Error::transient(format!("the log does not go on at {file}:{pos}")).at(Side::Source)
        };
        if dump.server != at.server {
            return Err(other());
        }
        // Up to here the decoder has had all events. Where it stands at a file's very beginning, it
        // has not had the first.
        let mut cursor = Cursor::new(dump.server);
        while at.born != 0 && !cursor.meets(at) {
            let packet = dump.next(SILENCE, &at.file).await?.ok_or_else(silent)?;
            cursor.advance(&packet.header, packet.event.data())?;
            if cursor.born != 0 && (!cursor.same_file(at) || cursor.pos > at.pos) {
                return Err(other());
            }
        }
        self.feed = Feed::Own(dump);
        self.look = LOOK;
        Ok(())
    }

    /// What is left of an event that has been taken.
    fn inner(&mut self) -> Result<Option<Transaction>> {
        while let Some(step) = self.decoder.more()? {
            if let Some(out) = self.take(step) {
                return Ok(Some(out));
            }
        }
        match std::mem::take(&mut self.decoder.inner) {
            Inner::None => {}
            Inner::First(events) => match &mut self.feed {
                Feed::Own(dump) => dump.skip_inner(events),
                Feed::Shared { .. } => {
                    return Err(Error::bug("a shared dump has a compressed transaction"));
                }
            },
            Inner::Second(events) => {
                if let Some(dump) = &mut self.again {
                    dump.skip_inner(events);
                }
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<Transaction> {
        loop {
            if let Some(out) = self.inner()? {
                return Ok(out);
            }
            if let Some((file, pos)) = self.wanted.clone() {
                self.reopen(file, pos).await?;
            }
            if let Some(dump) = &mut self.again {
                let packet = dump.next(SILENCE, "").await?.ok_or_else(silent)?;
                if let Some(out) = self.packet(&packet, true)? {
                    return Ok(out);
                }
                continue;
            }
            let out = match &self.feed {
                Feed::Own(_) => self.own().await?,
                Feed::Shared { .. } => self.shared().await?,
            };
            if let Some(out) = out {
                return Ok(out);
            }
        }
    }
}

/// Takes a decoder over what was not for it; `bytes`: of log up to where it stands.
fn pass(decoder: &mut Decoder, bytes: &mut u64, to: &Point) -> Result<()> {
    let there = (to.cursor.pos, &to.cursor.file) == (decoder.cursor.pos, &decoder.cursor.file);
    if !there {
        decoder.pass(to, to.bytes.saturating_sub(*bytes))?;
        *bytes = to.bytes;
    }
    Ok(())
}

fn silent() -> Error {
    Error::transient(format!("the source sent nothing for {SILENCE:?}")).at(Side::Source)
}
