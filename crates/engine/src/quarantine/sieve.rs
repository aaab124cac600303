//! Sifting one batch: what is refused in it, and what waits behind that.

use std::ops::Range;
use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::change::ChangeBatch;
use thalweg_core::plan::{Fate, Plan};
use thalweg_core::ports::Sift;
use thalweg_core::quarantine::Held;
use thalweg_core::{Error, Result};

use super::careful::Made;
use super::{Keys, OpKeys, Place, Quarantine, stays, text};
use crate::runs::part;

/// No candidate.
pub(super) const NOBODY: u32 = u32::MAX;

/// An operation of a batch that is sifted: what is needed to put it into quarantine if it comes to that.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    place: Place,
    number: i64,
    /// Which transaction of the batch, and which of its changes.
    change: (usize, usize),
    fate: Fate,
    /// Where its keys begin, where the first ends, and both.
    keys: (usize, usize, usize),
}

impl Candidate {
    fn keys_in<'a>(&self, made: &'a [u8]) -> Option<OpKeys<'a>> {
        let (begin, middle, end) = self.keys;
        Some(OpKeys {
            key: made.get(begin..middle)?,
            moved: made.get(middle..end).filter(|key| !key.is_empty()),
        })
    }
}

/// Decides about the operations of one batch that is sifted.
#[derive(Debug)]
pub(crate) struct Sieve {
    plan: Arc<Plan>,
    /// The transactions that the batch is made of, and where in the log.
    changes: Vec<(ChangeBatch, String)>,
    candidates: Vec<Candidate>,
    /// The keys of all candidates.
    made: Vec<u8>,
    /// Rows that were refused, or wait, in this batch.
    keys: Keys,
    /// What is to be put into quarantine.
    out: Vec<Held>,
    /// Of each of these, whose it is.
    put: Vec<Candidate>,
    /// How many more may be.
    room: Quarantine,
    /// The batch is applied in several parts, and this is not the last.
    parts: bool,
    /// Changes that were refused, per target.
    refused: Vec<u64>,
}

impl Sieve {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Sieve {
            plan,
            changes: Vec::new(),
            candidates: Vec::new(),
            made: Vec::new(),
            keys: Keys::default(),
            out: Vec::new(),
            put: Vec::new(),
            room: Quarantine::default(),
            parts: false,
            refused: Vec::new(),
        }
    }

    /// Notes an operation, of this change of the transaction that [`Sieve::keep`] gets next; gives its origin.
    pub(super) fn pass(
        &mut self,
        place: Place,
        keys: OpKeys<'_>,
        (index, fate): (usize, Fate),
        number: i64,
    ) -> u32 {
        let begin = self.made.len();
        self.made.extend_from_slice(keys.key);
        let middle = self.made.len();
        self.made.extend_from_slice(keys.moved.unwrap_or_default());
        self.candidates.push(Candidate {
            place,
            number,
            change: (self.changes.len(), index),
            fate,
            keys: (begin, middle, self.made.len()),
        });
        u32::try_from(self.candidates.len() - 1).unwrap_or(NOBODY)
    }

    /// Keeps a transaction whose operations have been noted, of this place in the log.
    pub(crate) fn keep(&mut self, changes: ChangeBatch, place: String) {
        self.changes.push((changes, place));
    }

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
        for candidate in &self.put {
            if let Some(keys) = candidate.keys_in(&self.made) {
                quarantine.keys.add(candidate.place, keys);
            }
            quarantine.count(candidate.place);
        }
        self.refused
    }

    fn candidate(&self, op: &TableOp) -> Option<Candidate> {
        let at = usize::try_from(op.origin).ok()?;
        let candidate = self.candidates.get(at).copied()?;
        (candidate.place == (op.target, op.feed)).then_some(candidate)
    }

    /// A change as it is put into quarantine.
    fn held(&self, of: &Candidate, keys: OpKeys<'_>, error: Option<Error>) -> Result<Held> {
        let (transaction, index) = of.change;
        let lost = || Error::bug("a change that is sifted was not kept");
        let (changes, log) = self.changes.get(transaction).ok_or_else(lost)?;
        let change = changes.changes.get(index).ok_or_else(lost)?;
        let made = Made {
            plan: &self.plan,
            place: of.place,
            log,
        };
        let error = error.map(|error| text(&error));
        made.held(of.number, keys, (change, &changes.rows), of.fate, error)
    }

    fn hold(&mut self, op: &TableOp, error: Option<Error>) -> Result<()> {
        let candidate = self.candidate(op).filter(|_| op.op != RowOp::Truncate);
        let Some(candidate) = candidate else {
            let text = self.room.known(op.target).stays;
            return Err(match error {
                Some(error) if op.op == RowOp::Truncate => error,
                Some(error) => stays(error, text.unwrap_or("it cannot be put into quarantine")),
                None => Error::bug("an operation waits that has no key"),
            });
        };
        self.room.room(self.put.len())?;
        let target = candidate.place.0;
        if error.is_some() {
            self.refused.resize(self.refused.len().max(target + 1), 0);
            let count = self.refused.get_mut(target);
            count.into_iter().for_each(|count| *count += 1);
        }
        let lost = || Error::bug("a change that is sifted has no key");
        let keys = candidate.keys_in(&self.made).ok_or_else(lost)?;
        let held = self.held(&candidate, keys, error)?;
        self.keys.add(candidate.place, keys);
        self.out.push(held);
        self.put.push(candidate);
        Ok(())
    }
}

impl Sift for Sieve {
    fn piece(&self, batch: &ApplyBatch, ops: Range<usize>) -> Result<ApplyBatch> {
        let beyond = || Error::bug("a piece beyond its batch");
        let ops = batch.ordered.get(ops).ok_or_else(beyond)?;
        let mut piece = part(&self.plan, &batch.rows, ops, batch.kept.clone());
        piece.comes_again = true;
        Ok(piece)
    }

    fn waits(&self, op: &TableOp) -> bool {
        if self.keys.0.is_empty() {
            return false;
        }
        let candidate = self.candidate(op);
        candidate.is_some_and(|of| {
            let keys = of.keys_in(&self.made);
            keys.is_some_and(|keys| self.keys.has(of.place, keys))
        })
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
        let (put, out) = both.filter(|(of, _)| of.place != place).unzip();
        (self.put, self.out) = (put, out);
    }

    fn take(&mut self) -> Vec<Held> {
        match self.parts {
            true => Vec::new(),
            false => std::mem::take(&mut self.out),
        }
    }
}
