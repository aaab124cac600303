//! Two appliers that take turns, so that a batch is begun while the one before is being written.
//!
//! Batches commit in the order of the source, always. But much of the work on a batch does not depend on
//! the batch before: bringing its rows to the server, and whatever else the target can do ahead
//! ([`Applier::ahead`]). So while one applier writes batch *n*, the other, in a transaction of its own, does
//! that much of batch *n + 1*; when *n* is committed, it is the other's turn. Nothing is visible before its turn, and
//! the checkpoint moves in each batch's own transaction, as if there were one applier only.
//!
//! At most one batch is ahead, and none while a huge transaction is open, or a table of the task is not
//! live: keys are made then, and that waits for whoever has the table open.
//!
//! What is ahead may hold locks, and somebody else (a user's `ALTER TABLE`) may wait for those and
//! hold up the batch before. No server sees this circle. So what is ahead for [`GIVE_WAY`] is taken back
//! ([`Applier::give_way`]) and done again in its turn.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::batch::ApplyBatch;
use thalweg_core::checkpoint::{Epoch, TaskKey};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applied, Applier, Target};
use thalweg_core::{Error, Result};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::status::add_all;
use crate::stream::Gathered;
use crate::task::TaskSpec;

/// How long a batch may be ahead of its turn.
const GIVE_WAY: Duration = Duration::from_secs(2);
/// A second applier that had nothing to do for so long is closed.
pub(crate) const SPARE_KEPT: Duration = Duration::from_secs(10);
/// After a second applier could not be opened, none is tried for so long.
const REFUSED: Duration = Duration::from_secs(60);

/// The appliers of a stream that have nothing to do.
pub(crate) struct Idle {
    target: Arc<dyn Target>,
    key: TaskKey,
    epoch: Epoch,
    plan: Arc<Plan>,
    appliers: Vec<Box<dyn Applier>>,
    /// A second one on its way.
    opening: JoinSet<Result<Box<dyn Applier>>>,
    /// When it did not come, or was of no use.
    refused: Option<Instant>,
    /// When a batch was begun ahead last, or the second applier came for one.
    wanted: Option<Instant>,
}

impl Idle {
    /// With the first applier.
    pub(crate) async fn open(spec: &TaskSpec, epoch: Epoch) -> Result<Self> {
        let mut idle = Idle {
            target: Arc::clone(&spec.target),
            key: spec.key.clone(),
            epoch,
            plan: Arc::clone(&spec.plan),
            appliers: Vec::new(),
            opening: JoinSet::new(),
            refused: None,
            wanted: None,
        };
        let first = idle.opens().await?;
        idle.appliers.push(first);
        Ok(idle)
    }

    fn opens(&self) -> impl Future<Output = Result<Box<dyn Applier>>> + Send + use<> {
        let (target, key) = (Arc::clone(&self.target), self.key.clone());
        let (epoch, plan) = (self.epoch, Arc::clone(&self.plan));
        async move { target.open_applier(&key, epoch, plan).await }
    }

    /// One for what is done between batches.
    pub(crate) fn any(&mut self) -> Result<&mut dyn Applier> {
        match self.appliers.last_mut() {
            Some(applier) => Ok(applier.as_mut()),
            None => Err(Error::bug("no applier is idle")),
        }
    }

    /// Whether a batch can be begun while another is written. Otherwise opens what is lacking for it, if
    /// it is not on its way; [`Idle::opened`] waits for it.
    pub(crate) fn is_ready(&mut self) -> bool {
        let refused = self.refused.is_some_and(|at| at.elapsed() < REFUSED);
        if self.appliers.is_empty() && self.opening.is_empty() && !refused {
            self.opening.spawn(self.opens());
        }
        !self.appliers.is_empty() && !refused
    }

    /// Waits until an applier that is on its way is there; forever if there is none. Cancel-safe.
    pub(crate) async fn opened(&mut self) {
        match self.opening.join_next().await {
            Some(Ok(Ok(applier))) => {
                self.appliers.push(applier);
                self.wanted = Some(Instant::now());
            }
            Some(Ok(Err(error))) => {
                debug!(task = self.key.task, %error, "no second connection to the target");
                self.refused = Some(Instant::now());
            }
            // It panicked: whatever it was, one applier is enough.
            Some(Err(_)) => self.refused = Some(Instant::now()),
            None => pending().await,
        }
    }

    /// Whether there is more than a task needs that keeps up.
    pub(crate) fn has_spare(&self) -> bool {
        self.appliers.len() > 1
    }

    /// Closes what a task does not need that has kept up for [`SPARE_KEPT`].
    pub(crate) fn close_spare(&mut self) {
        if self.wanted.is_none_or(|at| at.elapsed() >= SPARE_KEPT) {
            self.appliers.truncate(1);
        }
    }

    /// Begins to write a batch.
    pub(crate) fn write(&mut self, gathered: Gathered) -> Result<Turn> {
        self.spawn(gathered, true)
    }

    /// Begins a batch ahead of its turn.
    pub(crate) fn begin(&mut self, gathered: Gathered) -> Result<Turn> {
        self.wanted = Some(Instant::now());
        self.spawn(gathered, false)
    }

    /// `now`: it is its turn. That is said before it begins, or it would take itself for one ahead.
    fn spawn(&mut self, gathered: Gathered, now: bool) -> Result<Turn> {
        let applier = self.appliers.pop();
        let applier = applier.ok_or_else(|| Error::bug("no applier is idle"))?;
        let (go, come) = oneshot::channel();
        let mut turn = Turn {
            go: Some(go),
            writing: JoinSet::new(),
        };
        if now {
            turn.come();
        }
        turn.writing.spawn(write(applier, gathered, come));
        Ok(turn)
    }

    /// Takes back the applier of a batch that is written.
    pub(crate) fn put(&mut self, applier: Box<dyn Applier>, gave_way: bool) {
        if gave_way {
            // Whoever waits for whom: it is of no use now.
            self.refused = Some(Instant::now());
            debug!(
                task = self.key.task,
                "a batch begun ahead has waited too long"
            );
        }
        self.appliers.push(applier);
    }
}

/// Whether a batch, in the parts it is applied in, may be begun ahead.
pub(crate) fn may_go_ahead(batches: &[ApplyBatch]) -> bool {
    matches!(batches, [batch] if batch.position.is_some() && batch.folded.is_some())
}

/// A batch on its way into the target; dropped, it is rolled back.
pub(crate) struct Turn {
    go: Option<oneshot::Sender<()>>,
    writing: JoinSet<Result<Done>>,
}

/// A batch that was written, and what wrote it.
pub(crate) struct Done {
    pub(crate) applier: Box<dyn Applier>,
    pub(crate) gathered: Gathered,
    pub(crate) applied: Applied,
    /// It was begun ahead, and taken back because its turn did not come for [`GIVE_WAY`].
    pub(crate) gave_way: bool,
}

impl Turn {
    /// Says that the batch before is committed.
    pub(crate) fn come(&mut self) {
        // Whoever does not listen any more has met an error, which `done` tells.
        self.go.take().map(|go| go.send(()).ok());
    }

    /// Waits until it is written. Cancel-safe.
    pub(crate) async fn done(&mut self) -> Result<Done> {
        match self.writing.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(panic)) => Err(Error::bug("the applier panicked").caused_by(panic)),
            None => Err(Error::bug("a batch is written once")),
        }
    }
}

async fn write(
    mut applier: Box<dyn Applier>,
    mut gathered: Gathered,
    mut come: oneshot::Receiver<()>,
) -> Result<Done> {
    let mut gave_way = false;
    if come.try_recv().is_err() {
        gave_way = ahead(applier.as_mut(), &gathered.batches, &mut come).await?;
    }
    let mut applied = Applied::default();
    let Gathered { batches, sieve, .. } = &mut gathered;
    let parts = batches.len();
    for (at, batch) in batches.iter().enumerate() {
        let part = match sieve {
            None => applier.apply(batch).await?,
            Some(sieve) => {
                sieve.last(at + 1 == parts);
                applier.apply_sifted(batch, sieve.as_mut()).await?
            }
        };
        applied.durable = part.durable;
        add_all(&mut applied.counts, &part.counts);
    }
    Ok(Done {
        applier,
        gathered,
        applied,
        gave_way,
    })
}

/// Begins a batch, and waits for its turn; whether that took too long and it was taken back.
async fn ahead(
    applier: &mut dyn Applier,
    batches: &[ApplyBatch],
    come: &mut oneshot::Receiver<()>,
) -> Result<bool> {
    let [batch] = batches else {
        return Err(Error::bug("a batch in parts is begun ahead"));
    };
    let begun = applier.ahead(batch).await;
    // An error as well waits for its turn: what is before it is written first.
    let Ok(turn) = timeout(GIVE_WAY, &mut *come).await else {
        let gave_way = begun.is_ok() && applier.give_way().await?;
        come.await.map_err(|_| stopped())?;
        return begun.map(|()| gave_way);
    };
    turn.map_err(|_| stopped())?;
    begun.map(|()| false)
}

fn stopped() -> Error {
    Error::transient("the stream has ended")
}
