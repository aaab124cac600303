//! Sifting one batch: what is refused in it, and what waits behind that.

use std::sync::Arc;

use thalweg_core::batch::{RowOp, TableOp};
use thalweg_core::ports::Sift;
use thalweg_core::quarantine::Held;
use thalweg_core::{Error, Result};

use super::{Keys, OpKeys, Place, Quarantine, stays, text};

/// No candidate.
pub(super) const NOBODY: u32 = u32::MAX;

/// An operation of a batch that is sifted, as it is put into quarantine if it comes to that.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) keys: OpKeys,
    pub(super) held: Held,
}

/// Decides about the operations of one batch that is sifted.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    pub(super) candidates: Vec<Candidate>,
    /// Rows that were refused, or wait, in this batch.
    keys: Keys,
    /// What is to be put into quarantine.
    out: Vec<Held>,
    /// Of each of these, where it is of and its keys.
    put: Vec<(Place, OpKeys)>,
    /// How many more may be.
    room: Quarantine,
    /// The batch is applied in several parts, and this is not the last.
    parts: bool,
    /// Changes that were refused, per target.
    refused: Vec<u64>,
}

impl Sieve {
    /// Sees to it that no more is put into quarantine than may.
    pub(crate) fn bound(&mut self, quarantine: &Quarantine) {
        self.room = Quarantine {
            counts: quarantine.counts.clone(),
            max: quarantine.max,
            known: Arc::clone(&quarantine.known),
            ..Quarantine::default()
        };
    }

    /// Says whether the next part of the batch is its last, which takes what all have put aside.
    pub(crate) fn last(&mut self, last: bool) {
        self.parts = !last;
    }

    /// Adds what was put into quarantine, when that is written; gives how many changes were refused, per
    /// target.
    pub(crate) fn finish(self, quarantine: &mut Quarantine) -> Vec<u64> {
        for (place, keys) in &self.put {
            quarantine.keys.add(*place, keys);
            quarantine.count(*place);
        }
        self.refused
    }

    fn candidate(&self, op: &TableOp) -> Option<&Candidate> {
        let at = usize::try_from(op.origin).ok()?;
        let candidate = self.candidates.get(at)?;
        (candidate.place == (op.target, op.feed)).then_some(candidate)
    }

    fn hold(&mut self, op: &TableOp, error: Option<Error>) -> Result<()> {
        let candidate = self.candidate(op).filter(|_| op.op != RowOp::Truncate);
        let Some(Candidate { place, keys, held }) = candidate.cloned() else {
            let text = self.room.known(op.target).stays;
            return Err(match error {
                Some(error) if op.op == RowOp::Truncate => error,
                Some(error) => stays(error, text.unwrap_or("it cannot be put into quarantine")),
                None => Error::bug("an operation waits that has no key"),
            });
        };
        self.room.room(self.put.len())?;
        self.keys.add(place, &keys);
        if error.is_some() {
            self.refused.resize(self.refused.len().max(place.0 + 1), 0);
            self.refused
                .iter_mut()
                .skip(place.0)
                .take(1)
                .for_each(|count| *count += 1);
        }
        self.out.push(Held {
            error: error.map(|error| text(&error)),
            ..held
        });
        self.put.push((place, keys));
        Ok(())
    }
}

impl Sift for Sieve {
    fn waits(&self, op: &TableOp) -> bool {
        let candidate = self.candidate(op);
        candidate.is_some_and(|c| self.keys.has(c.place, &c.keys))
    }

    fn defer(&mut self, op: &TableOp) -> Result<()> {
        self.hold(op, None)
    }

    fn refused(&mut self, op: &TableOp, error: Error) -> Result<()> {
        self.hold(op, Some(error))
    }

    fn emptied(&mut self, op: &TableOp) {
        let place = (op.target, op.feed);
        self.keys.0.remove(&place);
        let both = std::mem::take(&mut self.put)
            .into_iter()
            .zip(std::mem::take(&mut self.out));
        let (put, out) = both.filter(|((at, _), _)| *at != place).unzip();
        (self.put, self.out) = (put, out);
    }

    fn take(&mut self) -> Vec<Held> {
        match self.parts {
            true => Vec::new(),
            false => std::mem::take(&mut self.out),
        }
    }
}
