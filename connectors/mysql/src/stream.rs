//! Committed transactions from the binlog: a dump, and the decoder it feeds.

pub(crate) mod cursor;
pub(crate) mod decode;
mod dump;
mod images;
mod statement;

use std::time::Duration;

use async_trait::async_trait;
use thalweg_core::change::Transaction;
use thalweg_core::ports::{ChangeStream, DataSourceConfig, StreamLimits};
use thalweg_core::position::Position;
use thalweg_core::schema::TableSchema;
use thalweg_core::{Error, Result, Side};

use self::cursor::Cursor;
use self::decode::{Decoder, IDLE, Inner, Step};
use self::dump::{Dump, Packet};
use crate::catalog;
use crate::config::connect;
use crate::position::{Coordinate, Place};

/// The server sends heartbeats every half second; silence of this length is a dead connection.
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) struct Stream {
    config: DataSourceConfig,
    main: Dump,
    decoder: Decoder,
    /// Where the group starts that is wanted again.
    wanted: Option<(String, u64)>,
    again: Option<Dump>,
}

/// When the file of a place was made.
pub(crate) async fn birth(config: &DataSourceConfig, place: &Place) -> Result<u32> {
    Box::pin(Dump::beside(config, place)).await?.birth().await
}

impl Stream {
    pub(crate) async fn open(
        config: &DataSourceConfig,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<Stream> {
        let mut place = Place::of_position(from)?;
        let known = catalog::known(&mut connect(config).await?).await?;
        let main = Dump::open(config, &place).await?;
        let anchored = main.server == place.at.server && place.set.is_none();
        if !anchored {
            place.at.server = main.server;
            place.born = 0;
        }
        let cursor = Cursor::new(main.server);
        Ok(Stream {
            config: config.clone(),
            decoder: Decoder::new(place, cursor, anchored, tables, known, limits)?,
            main,
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
                server: self.main.server,
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

    fn feed(&mut self, packet: &Packet, second: bool) -> Result<Option<Transaction>> {
        let step = self
            .decoder
            .event(&packet.header, packet.event.data(), second)?;
        Ok(self.take(step))
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
            Inner::First(events) => self.main.skip_inner(events),
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
                if let Some(out) = self.feed(&packet, true)? {
                    return Ok(out);
                }
                continue;
            }
            let decoder = &mut self.decoder;
            let wait = if decoder.moved {
                IDLE.saturating_sub(decoder.last_empty.elapsed())
            } else {
                SILENCE
            };
            match self.main.next(wait, &decoder.cursor.file).await? {
                Some(packet) => {
                    if let Some(out) = self.feed(&packet, false)? {
                        return Ok(out);
                    }
                }
                None if decoder.moved && !decoder.in_group() => return Ok(decoder.empty()),
                None if decoder.moved => decoder.moved = false,
                None => return Err(silent()),
            }
        }
    }
}

fn silent() -> Error {
    Error::transient(format!("the source sent nothing for {SILENCE:?}")).at(Side::Source)
}
