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
/// The step in which it is waited for.
const GRACE_STEP: Duration = Duration::from_millis(2);

/// The dump, and what it has given that is in no piece of the ring yet.
pub(super) struct Reader {
    pub(super) dump: Dump,
    pub(super) cutter: Cutter,
    pub(super) done: Vec<Arc<Piece>>,
    /// How long nothing has come while it was waited for.
    silent: Duration,
    /// How long this reader has waited for others.
    waited: Duration,
}

impl Reader {
    /// Goes on with a dump that is here.
    pub(super) fn new(dump: Dump, at: &Cursor) -> Reader {
        Reader {
            dump,
            cutter: Cutter::new(at.clone()),
            done: Vec::new(),
            silent: Duration::ZERO,
            waited: Duration::ZERO,
        }
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
            let more = reader.take_ready()?;
            let now = Instant::now();
            let (mine, late) = self.ticket.share(&mut reader.done);
            if mine || now >= until {
                return Ok(());
            }
            if late && reader.waited < GRACE {
                tokio::time::sleep(GRACE_STEP).await;
                reader.waited += GRACE_STEP;
                continue;
            }
            if !late {
                reader.waited = Duration::ZERO;
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
