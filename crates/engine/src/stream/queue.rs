//! What was read and waits for the applier.

use std::collections::VecDeque;

use thalweg_core::change::Transaction;
use thalweg_core::ports::ChangeStream;
use thalweg_core::{Error, Side};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use crate::limits::{Limits, MemoryBudget};

/// A transaction and the memory it holds.
pub(super) type Queued = (Transaction, Held);

/// Of the task's own budget and of the process's; `None`: it was taken into a batch before.
pub(super) type Held = Option<[OwnedSemaphorePermit; 2]>;

/// What a transaction takes beside its changes: itself, its identity and its position.
pub(super) const WAITING_BYTES: usize = 512;

/// Whether a transaction has a row of unusual size: its parts are smaller otherwise.
pub(super) fn is_large(transaction: &Transaction, limits: &Limits) -> bool {
    transaction.changes.bytes() > limits.batch_bytes.max(2 * limits.part_bytes)
}

/// What waits for the applier.
pub(super) struct Queue {
    pub(super) receiver: mpsc::Receiver<Queued>,
    /// Taken out of the queue, not yet into a batch, or to be taken into one again; before what waits there.
    pub(super) back: VecDeque<Queued>,
    /// Parts of a transaction were taken, its end was not.
    pub(super) parts: bool,
}

impl Queue {
    /// Waits for the next; `None` when the reader has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Queued> {
        match self.back.pop_front() {
            Some(back) => Some(back),
            None => self.receiver.recv().await,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.back.is_empty() && self.receiver.is_empty()
    }

    pub(super) fn ready(&mut self) -> Option<Queued> {
        let back = self.back.pop_front();
        back.or_else(|| self.receiver.try_recv().ok())
    }

    /// Gives back what was taken last: it comes next.
    pub(super) fn put_back(&mut self, last: Queued) {
        self.back.push_front(last);
    }
}

/// Reads until the stream fails or nobody listens any more. Behind a row of unusual size it waits until
/// that is applied: two of them at a time take more memory than is gained.
pub(super) async fn read(
    mut source: Box<dyn ChangeStream>,
    sender: mpsc::Sender<Queued>,
    [own, shared]: [MemoryBudget; 2],
    limits: Limits,
) -> Error {
    loop {
        let transaction = match source.next().await {
            Ok(transaction) => transaction,
            Err(error) => return error.at(Side::Source),
        };
        let bytes = transaction.changes.held_bytes() + WAITING_BYTES;
        let large = is_large(&transaction, &limits);
        // The own one first: a task that is far ahead must not hold what others wait for.
        let held = Some([own.take(bytes).await, shared.take(bytes).await]);
        if sender.send((transaction, held)).await.is_err() {
            return Error::transient("the applier has ended");
        }
        if large {
            drop(own.take(usize::MAX).await);
        }
    }
}

pub(super) async fn reader_error(reader: &mut JoinSet<Error>) -> Error {
    match reader.join_next().await {
        Some(Ok(error)) => error,
        Some(Err(panic)) => Error::bug("the reader panicked").caused_by(panic),
        None => Error::bug("the reader is gone"),
    }
}
