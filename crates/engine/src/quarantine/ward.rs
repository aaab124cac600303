//! Where a running task is asked to let rows leave quarantine.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// Requests that may wait.
pub(super) const WAITING_MAX: usize = 8;

/// What is to be done with rows in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Their changes are applied.
    Release,
    /// Their changes are forgotten: the target rows stay as they are.
    Discard,
}

/// What was done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Rows that have left quarantine.
    pub rows: u64,
    /// Their changes.
    pub changes: u64,
    /// Rows that have not, by the number of their first change, and why.
    pub refused: Vec<(i64, String)>,
}

/// A request to a running task.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) way: Way,
    /// The numbers of the first changes of rows; `None`: all rows.
    pub(crate) rows: Option<Vec<i64>>,
    pub(crate) answer: oneshot::Sender<Settled>,
}

/// Where a task is asked to release or discard rows; and what it says of how many there are. Clones are
/// one.
#[derive(Clone, Debug, Default)]
pub struct Ward(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requests: Mutex<VecDeque<Request>>,
    /// Whether there may be any.
    any: AtomicBool,
    came: Notify,
    told: Mutex<Told>,
    /// The number of the next change that goes into quarantine.
    next: AtomicI64,
}

/// Of each target of the plan.
#[derive(Debug, Default)]
struct Told {
    /// Changes in quarantine.
    changes: Vec<u64>,
    /// How often that has become another number.
    moves: Vec<u64>,
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ward {
    /// Asks for rows to be released or discarded, by the numbers of their first changes; `None`: all. It
    /// is done between two batches, once all tables are loaded. `None` comes back if too many requests
    /// wait. An answer that does not come: the task has met an error or ended, and part may be done.
    pub fn ask(&self, way: Way, rows: Option<Vec<i64>>) -> Option<oneshot::Receiver<Settled>> {
        let (answer, answered) = oneshot::channel();
        let mut requests = locked(&self.0.requests);
        requests.retain(|request| !request.answer.is_closed());
        if requests.len() >= WAITING_MAX {
            return None;
        }
        requests.push_back(Request { way, rows, answer });
        self.0.any.store(true, Ordering::Release);
        drop(requests);
        self.0.came.notify_one();
        Some(answered)
    }

    /// Whether somebody waits, and has not gone.
    pub(crate) fn waits(&self) -> bool {
        if !self.0.any.load(Ordering::Acquire) {
            return false;
        }
        let mut requests = locked(&self.0.requests);
        requests.retain(|request| !request.answer.is_closed());
        self.0.any.store(!requests.is_empty(), Ordering::Release);
        !requests.is_empty()
    }

    pub(crate) fn take(&self) -> Option<Request> {
        let mut requests = locked(&self.0.requests);
        requests.retain(|request| !request.answer.is_closed());
        requests.pop_front()
    }

    /// The number of the next change, at least `lowest`: no two are the same.
    pub(crate) fn number(&self, lowest: i64) -> i64 {
        let more = |next: i64| Some(next.max(lowest) + 1);
        let next = self
            .0
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        next.unwrap_or_else(|next| next).max(lowest)
    }

    /// Waits for a request. Cancel-safe.
    pub(crate) async fn came(&self) {
        self.0.came.notified().await;
    }

    /// Says how many changes lie in quarantine.
    pub(crate) fn tell(&self, changes: &[u64]) {
        let mut told = locked(&self.0.told);
        let Told {
            changes: known,
            moves,
        } = &mut *told;
        moves.resize(changes.len(), 0);
        known.resize(changes.len(), 0);
        for ((moves, known), now) in moves.iter_mut().zip(known).zip(changes) {
            *moves += u64::from(std::mem::replace(known, *now) != *now);
        }
    }

    /// How many of a target there are, and how often that has become another number.
    pub(crate) fn changes(&self, target: usize) -> (u64, u64) {
        let told = locked(&self.0.told);
        let of = |counts: &[u64]| counts.get(target).copied().unwrap_or(0);
        (of(&told.changes), of(&told.moves))
    }
}
