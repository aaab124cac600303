//! What goes back to the server: how far the target is durable.
//!
//! A task of its own, so that the server hears from us however long the reader of the stream is kept
//! waiting; each status also asks the server for a sign of life, which tells how far it has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use thalweg_core::Result;
use thalweg_core::ports::Confirm;
use thalweg_core::position::Position;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::position::Place;
use crate::wire::connection::Outgoing;
use crate::wire::replication::{EPOCH_MICROS, Lsn, status};

/// Between two statuses without a reason.
const EVERY: Duration = Duration::from_millis(500);
/// Between two statuses with one.
const GAP: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Shared {
    durable: AtomicU64,
    wake: Notify,
}

/// Sends statuses until it is dropped.
pub(super) struct Feedback {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

/// Takes what is durable.
pub(crate) struct Confirmed(Arc<Shared>);

impl Feedback {
    /// Everything before `durable` is confirmed already.
    pub(super) fn start(outgoing: Outgoing, durable: Lsn) -> (Feedback, Confirmed) {
        let shared = Arc::new(Shared {
            durable: AtomicU64::new(durable.0),
            wake: Notify::new(),
        });
        let mut task = JoinSet::new();
        task.spawn(send(outgoing, Arc::clone(&shared)));
        let feedback = Feedback {
            shared: Arc::clone(&shared),
            _task: task,
        };
        (feedback, Confirmed(shared))
    }

    /// The server wants an answer at once.
    pub(super) fn now(&self) {
        self.shared.wake.notify_one();
    }
}

async fn send(mut outgoing: Outgoing, shared: Arc<Shared>) {
    let mut out = Vec::new();
    loop {
        out.clear();
        let durable = Lsn(shared.durable.load(Ordering::Acquire));
        status(durable, clock(), true, &mut out);
        // A connection that is gone is the reader's to tell.
        if outgoing.send(&out).await.is_err() {
            return;
        }
        tokio::time::sleep(GAP).await;
        // Time out: a status without a reason.
        drop(tokio::time::timeout(EVERY - GAP, shared.wake.notified()).await);
    }
}

/// Microseconds since 2000.
fn clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = now.map_or(0, |now| now.as_micros());
    i64::try_from(micros).unwrap_or(i64::MAX) - EPOCH_MICROS
}

#[async_trait]
impl Confirm for Confirmed {
    async fn confirm(&mut self, durable: &Position) -> Result<()> {
        let lsn = Place::of_position(durable)?.lsn;
        let before = self.0.durable.fetch_max(lsn.0, Ordering::AcqRel);
        if before < lsn.0 {
            self.0.wake.notify_one();
        }
        Ok(())
    }
}
