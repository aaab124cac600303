//! Reading the shared dump, by whoever has its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_core::Result;

use super::Ticket;
use crate::stream::cursor::Cursor;
use crate::stream::dump::{Dump, Packet};
use crate::stream::piece::{Cutter, Piece};
use crate::stream::{SILENCE, silent};

/// So many bytes of log are read before others hear of it, if they are there.
const TURN: usize = 128 << 10;
/// How long reading pauses for a seat that is about to be lost.
pub(super) const GRACE: Duration = Duration::from_millis(50);
/// The most that it pauses beyond that in a gathered start, in all.
const GATHERED: Duration = Duration::from_secs(5);
/// The step in which it is waited for.
const GRACE_STEP: Duration = Duration::from_millis(2);

/// The dump, and what it has given that is in no piece of the ring yet.
pub(super) struct Reader {
    pub(super) dump: Dump,
    pub(super) cutter: Cutter,
    pub(super) done: Vec<Arc<Piece>>,
    /// How long nothing has come while it was waited for.
    silent: Duration,
    /// How long it may still wait for others before it has read on.
    patience: Duration,
}

impl Reader {
    /// Goes on with a dump that is here.
    pub(super) fn new(dump: Dump, at: &Cursor) -> Reader {
        Reader {
            dump,
            cutter: Cutter::new(at.clone()),
            done: Vec::new(),
            silent: Duration::ZERO,
            patience: GRACE,
        }
    }

    /// So many seats begin together, behind the head. They take turns at the processor as well, so all their
    /// moments may have to be waited for before each has got going.
    pub(super) fn gathered(&mut self, seats: usize) {
        let moments = GRACE.saturating_mul(u32::try_from(seats).unwrap_or(u32::MAX));
        self.patience = moments.min(GATHERED);
    }

    /// Takes what is there, up to a limit; whether there may be more.
    fn take_ready(&mut self) -> Result<bool> {
        let mut read = 0;
        while read < TURN {
            let Some(packet) = self.dump.ready(&self.cutter.cut_at().cursor.file) else {
                break;
            };
            read += self.take(&packet?)?;
        }
        self.cutter.pause(&mut self.done);
        Ok(read >= TURN)
    }

    /// Takes the next event, if one comes in this time.
    async fn wait(&mut self, wait: Duration) -> Result<()> {
        let since = Instant::now();
        let file = &self.cutter.cut_at().cursor.file;
        let wait = wait.min(SILENCE.saturating_sub(self.silent));
        match self.dump.next(wait, file).await? {
            Some(packet) => self.take(&packet).map(drop),
            None => {
                self.silent += since.elapsed();
                if self.silent < SILENCE {
                    return Ok(());
                }
                Err(silent())
            }
        }
    }

    fn take(&mut self, packet: &Packet) -> Result<usize> {
        self.silent = Duration::ZERO;
        let body = packet.event.data();
        self.cutter.event(&packet.header, body, &mut self.done)?;
        Ok(body.len())
    }
}

/// The dump in somebody's hands.
pub(super) struct Turn<'a> {
    ticket: &'a Ticket,
    reader: Option<Box<Reader>>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(ticket: &'a Ticket, reader: Box<Reader>) -> Turn<'a> {
        Turn {
            ticket,
            reader: Some(reader),
        }
    }

    /// The dump is of no more use.
    pub(super) fn end(&mut self) {
        self.reader = None;
        self.ticket.hub.state().clear();
    }

    /// Reads until there is something for this seat, or it is time.
    pub(super) async fn run(&mut self, until: Instant) -> Result<()> {
        let Some(reader) = self.reader.as_mut() else {
            return Ok(());
        };
        loop {
            // Before anything is read: those that read one after the other may each find something for
            // themselves at once, and none of them would ever look behind.
            if !self.ticket.hub.state().is_late() {
                reader.patience = reader.patience.max(GRACE);
            } else if !reader.patience.is_zero() {
                if Instant::now() >= until {
                    return Ok(());
                }
                tokio::time::sleep(GRACE_STEP).await;
                reader.patience = reader.patience.saturating_sub(GRACE_STEP);
                continue;
            }
            let more = reader.take_ready()?;
            let now = Instant::now();
            if self.ticket.share(&mut reader.done) || now >= until {
                return Ok(());
            }
            if more {
                // Those that were woken take what is theirs.
                tokio::task::yield_now().await;
                continue;
            }
            reader.wait(until.saturating_duration_since(now)).await?;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.ticket.hub.put_back(reader);
        }
    }
}
