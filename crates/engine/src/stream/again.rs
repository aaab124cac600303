//! A batch that the target refuses is made again, to be sifted, without beginning anew at the source.
//!
//! A task whose rows may go into quarantine keeps the transactions of its batches until these are written. If
//! the target refuses one, its transactions and those taken after it come before all else that
//! waits in the queue, and are taken again. Nothing of them is durable: the refused batch is rolled back, and
//! the one after it was begun ahead only. What was not kept ([`Lot`]) is read again from the
//! checkpoint on.

use std::sync::Arc;

use thalweg_core::change::Transaction;
use thalweg_core::{Error, Kind, Result};
use tracing::info;

use super::Streaming;
use super::open::Open;
use super::queue::{Queue, WAITING_BYTES};
use crate::batch::TouchedKeys;
use crate::quarantine::Quarantine;
use crate::task::quarantines;
use crate::turns::Idle;

/// What a batch is made of.
#[derive(Debug, Default)]
pub(crate) struct Lot {
    /// In commit order.
    transactions: Vec<Transaction>,
    /// What they take, in bytes, here or in the batch's sieve.
    pub(super) bytes: usize,
    /// Not all was kept.
    lacks: bool,
}

impl Lot {
    /// Whether the batch can be made again.
    pub(super) fn comes_again(&self) -> bool {
        !self.lacks && !self.transactions.is_empty()
    }
}

impl Streaming<'_> {
    /// Keeps a transaction that was taken into the open batch as long as it may be needed. Not one that is taken
    /// `alone`: a part of a huge one or a large one, which take too much memory, or one that a verification
    /// has seen; nor while a table is not live, whose ledger has taken note of it.
    pub(super) fn keep(&self, transaction: Transaction, alone: bool, open: &mut Open) {
        if !quarantines(&self.spec.plan) {
            return;
        }
        let lot = &mut open.lot;
        let bytes = transaction.changes.held_bytes() + WAITING_BYTES;
        if let Some(sieve) = &mut open.gathered.sieve {
            lot.bytes += bytes;
            sieve.keep(transaction.changes, self.place.clone());
            return;
        }
        lot.lacks |= alone || !self.live || transaction.commit.is_none() || self.sifted.is_some();
        if lot.lacks {
            (lot.transactions, lot.bytes) = (Vec::new(), 0);
            return;
        }
        lot.bytes += bytes;
        lot.transactions.push(transaction);
    }

    /// After the oldest batch was refused: all that was taken from it on comes again, to be sifted. `Err`: that
    /// is not possible, or it was no row that was refused.
    pub(super) async fn again(
        &mut self,
        error: Error,
        queue: &mut Queue,
        open: &mut Open,
        idle: &mut Idle,
    ) -> Result<()> {
        let lots = self.closed.iter();
        let kept = lots.clone().all(Lot::comes_again) && !open.lot.lacks;
        let may = self.live && self.sifted.is_none() && kept && !self.closed.is_empty();
        if error.kind() != Kind::Data || !may || self.barrier.is_active() {
            return Err(error);
        }
        info!(task = %self.spec.key, error = %error.chain(), "a row is refused: it is looked for");
        let last = std::mem::take(open).lot;
        let lots = self.closed.drain(..).chain([last]).rev();
        for transaction in lots.flat_map(|lot| lot.transactions.into_iter().rev()) {
            queue.put_back((transaction, None));
        }
        *idle = self.guarded(Idle::open(self.spec, self.epoch)).await?;
        // Whatever the batches have put there is not.
        self.quarantine = self.guarded(Quarantine::read(self.spec)).await?;
        self.touched = self.touched.as_ref().map(|_| Arc::new(TouchedKeys::any()));
        self.in_parts = false;
        self.sifted = Some(0);
        Ok(())
    }
}
