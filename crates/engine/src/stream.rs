//! Following the source: reader and applier overlap.
//!
//! A reader takes transactions from the source into a bounded queue, and while the target works on one
//! batch the next is made of them. A batch closes when the applier is free or at a limit, so at low load
//! the latency is one round trip and at high load batches grow by themselves. Only a task that is behind
//! waits for a batch to grow, for a small part of its lag ([`linger`]). A batch that is full is begun by a
//! second applier while the first still works ([`turns`]).
//!
//! Only what [`Applied::durable`] names is confirmed to the source, after it is named.

mod again;
mod between;
mod kept;
mod loading;
mod open;
mod queue;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::batch::ApplyBatch;
use thalweg_core::change::{Change, Transaction};
use thalweg_core::checkpoint::Epoch;
use thalweg_core::plan::Fate;
use thalweg_core::ports::{Applied, Inspect};
use thalweg_core::position::{Position, Visibility};
use thalweg_core::schema::TableSchema;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result, Side};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::answers::{self, while_answering};
use crate::barrier::{Barrier, Meeting, Taken};
use crate::batch::TouchedKeys;
use crate::beside::Beside;
use crate::limits::{Limits, MemoryBudget};
use crate::load::Phase;
use crate::other_log;
use crate::probe;
use crate::quarantine::{Careful, Quarantine, Sieve};
use crate::runs::fold_runs;
use crate::status::{self, Reporter, TaskPhase, Written};
use crate::task::TaskSpec;
use crate::turns::{self, Idle, Turn};
use again::Lot;
use kept::kept;
use loading::{loaded, news};
pub(crate) use open::Gathered;
use open::{More, Open, bytes_written};
use queue::{Queue, is_large, read, reader_error};

/// Why following the source ended without an error.
pub(crate) enum End {
    /// It was asked to.
    Stopped,
    /// Tables are to be loaded again first.
    Again,
    /// The same, because they were loaded from a server that is no longer the source.
    Elsewhere,
    /// A row was refused that is to go into quarantine: it is looked for from the checkpoint on.
    Refused(Error),
}

/// Streams from `from` until `stop` (`Ok`) or an error.
pub(crate) struct Streaming<'a> {
    pub(crate) spec: &'a TaskSpec,
    pub(crate) epoch: Epoch,
    pub(crate) phases: Vec<Phase>,
    /// Tables that are loaded meanwhile, until all are live.
    pub(crate) beside: Option<Arc<Beside>>,
    /// Who loads them.
    pub(crate) load: JoinSet<Result<()>>,
    /// The version of `beside` that `phases` are of.
    pub(crate) known: u64,
    /// The next transaction waits for a chunk that is on its way.
    pub(crate) waits: bool,
    /// The source tables, with their layouts at the place to begin.
    pub(crate) tables: Vec<TableSchema>,
    pub(crate) limits: &'a Limits,
    pub(crate) report: &'a Reporter,
    /// The emptied arenas of batches that were applied: the next ones begin with their memory.
    pub(crate) spare: Vec<RowBatch>,
    /// What the last batch touches that was closed; `None`: the target has no use for it.
    pub(crate) touched: Option<Arc<TouchedKeys>>,
    /// That one was a part of a huge transaction.
    pub(crate) in_parts: bool,
    /// Where a verification looks at the tables, once they are live.
    pub(crate) barrier: &'a Barrier,
    pub(crate) live: bool,
    pub(crate) quarantine: Quarantine,
    /// All is loaded, and the tables are not live because rows in quarantine stand in the way of their keys.
    pub(crate) keys_wait: Option<Error>,
    /// Operations of batches that were sifted; `None`: batches are not.
    pub(crate) sifted: Option<usize>,
    /// What the batches that were closed and are not yet written are made of.
    pub(crate) closed: VecDeque<Lot>,
    /// The last known place in the log, for who is told where a change lies.
    pub(crate) place: String,
}

impl Streaming<'_> {
    pub(crate) async fn run(
        mut self,
        from: Position,
        budget: &MemoryBudget,
        stop: &CancellationToken,
        sifts: &mut bool,
    ) -> Result<End> {
        let plan = Arc::clone(&self.spec.plan);
        let to = Arc::clone(&self.spec.target);
        let target: [(Side, &dyn Inspect); 1] = [(Side::Target, &*to)];
        let mut idle = while_answering(Idle::open(self.spec, self.epoch), &target, || 0).await?;
        let limits = self.limits.stream(plan.options.row_bytes_max);
        let (source, mut confirm) = self
            .spec
            .source
            .stream(&from, &self.tables, limits)
            .await
            .map_err(|e| e.at(Side::Source))?;
        other_log::check(&*self.spec.source, &self.phases).await?;
        self.live = while_answering(self.go_live(&from, &mut idle), &target, || 0).await?;
        self.report.phase(TaskPhase::Streaming);
        self.keys_wait.iter().for_each(|e| self.report.trouble(e));

        let (sender, receiver) = mpsc::channel(self.limits.queue);
        let mut reader = JoinSet::new();
        let budgets = [MemoryBudget::new(self.limits.queue_bytes), budget.clone()];
        reader.spawn(read(source, sender, budgets, *self.limits));
        let (durable, followed) = watch::channel(from);
        let probes = probe::start(Arc::clone(&self.spec.source), followed, self.report.clone());
        let mut queue = Queue {
            receiver,
            back: VecDeque::new(),
            parts: false,
        };
        let mut open = Open::default();
        // What the open target transaction has written.
        let mut uncommitted = Written::default();
        // The batch after the one that is being written, begun already.
        let mut following: Option<Turn> = None;
        loop {
            self.load_goes_on()?;
            let (mut turn, whole) = match following.take() {
                Some(turn) => (turn, true),
                None => {
                    let at = durable.borrow().clone();
                    let more = self
                        .first(&mut queue, &mut open, &mut idle, at, stop)
                        .await?;
                    match more {
                        More::Stopped => return Ok(End::Stopped),
                        More::Ended => return Err(reader_error(&mut reader).await),
                        More::Some => {}
                    }
                    if !open.full {
                        let linger = linger(probes.behind(), open.batch.ordered.len());
                        if !linger.is_zero() {
                            let fill = self.fill(&mut queue, &mut open);
                            if let Ok(filled) = tokio::time::timeout(linger, fill).await {
                                filled?;
                            }
                        }
                    }
                    let gathered = self.close(&mut open).await?;
                    if !gathered.again.is_empty() {
                        // Whatever part of a huge transaction is open is rolled back.
                        drop(idle);
                        let epoch = self.end_load().await?;
                        let mut idle = Idle::open(self.spec, epoch).await?;
                        let again = idle.any()?.load_again(&gathered.again, true).await;
                        again.map_err(|e| e.at(Side::Target))?;
                        return Ok(End::Again);
                    }
                    let last = gathered.batches.last();
                    let whole = last.is_some_and(|batch| batch.position.is_some());
                    (idle.write(gathered)?, whole)
                }
            };
            // The next batch is made, and begun, while the target works on this one. After a part of a
            // huge transaction comes the next, in the same target transaction.
            let may_begin = self.live && whole && self.sifted.is_none();
            let mut next = Ok(());
            let mut blocked = false;
            let mut gone = pin!(answers::lost(&*to, Side::Target, || 0));
            let done = loop {
                tokio::select! {
                    biased;
                    done = turn.done() => break done.map_err(|e| e.at(Side::Target)),
                    gone = &mut gone => return Err(gone),
                    () = idle.opened() => blocked = false,
                    // What is refused now is not known before this batch is written.
                    filled = self.fill(&mut queue, &mut open), if !blocked && self.sifted.is_none() => {
                        blocked = true;
                        next = filled;
                        if next.is_ok() && following.is_none() && may_begin && open.may_begin() && idle.is_ready() {
                            let gathered = self.close(&mut open).await?;
                            following = Some(idle.begin(gathered)?);
                            blocked = false;
                        }
                    }
                }
            };
            let done = match done {
                Ok(done) => done,
                Err(error) => {
                    // What was met when the next batch was made was not kept.
                    next?;
                    following = None;
                    let again = self.again(error, &mut queue, &mut open, &mut idle);
                    Box::pin(again).await?;
                    *sifts = true;
                    continue;
                }
            };
            idle.put(done.applier, done.gave_way);
            let mut gathered = done.gathered;
            self.settled(&mut gathered);
            if let Some(position) = self.publish(gathered, done.applied, &mut uncommitted) {
                if let Some(following) = &mut following {
                    following.come();
                }
                *sifts &= self.goes_on_sifting();
                durable.send_replace(position.clone());
                confirm
                    .confirm(&position)
                    .await
                    .map_err(|e| e.at(Side::Source))?;
                if !self.live {
                    let going = self.go_live(&position, &mut idle);
                    self.live = while_answering(going, &target, || 0).await?;
                }
                if stop.is_cancelled() {
                    return Ok(End::Stopped);
                }
            }
            next?;
        }
    }

    /// Publishes what a batch did; gives the position that is durable now. What is not durable yet
    /// is kept in `uncommitted`, so that a huge transaction that is never committed is never counted.
    fn publish(
        &mut self,
        gathered: Gathered,
        applied: Applied,
        uncommitted: &mut Written,
    ) -> Option<Position> {
        let Gathered {
            batches,
            read,
            mut written,
            ..
        } = gathered;
        if let Some(batch) = batches.into_iter().next()
            // What a batch of huge rows took is not kept.
            && batch.rows.held_bytes() <= 2 * self.limits.batch_bytes
            && self.spare.len() < SPARE_MAX
        {
            let mut rows = batch.rows;
            rows.clear();
            self.spare.push(rows);
        }
        written.counts = applied.counts;
        uncommitted.add(&written);
        let durable = applied.durable.map(|at| (at, std::mem::take(uncommitted)));
        self.report
            .batch(&read, durable.as_ref().map(|(at, written)| (at, written)));
        durable.map(|(at, _)| at)
    }

    /// Marks all tables Live once the stream has passed every load; says whether they are.
    async fn go_live(&mut self, at: &Position, idle: &mut Idle) -> Result<bool> {
        self.learn()?;
        let source = &self.spec.source;
        let grows = |phase: &Phase| matches!(phase, Phase::Loaded(ledger) if ledger.grows());
        let mut all = !self.phases.iter().any(grows);
        if !all {
            return Ok(false);
        }
        for phase in &mut self.phases {
            if let Phase::Loaded(ledger) = phase {
                all &= ledger.passed(|seen| source.passed(at, seen))?;
            }
        }
        if !all {
            return Ok(false);
        }
        // Not tried again before something has left quarantine.
        if self.keys_wait.is_some() {
            return Ok(false);
        }
        other_log::check(&**source, &self.phases).await?;
        if let Err(error) = idle.any()?.go_live().await {
            self.no_keys(error, idle).await?;
            return Ok(false);
        }
        self.beside = None;
        self.waits = false;
        for (target, phase) in self.phases.iter_mut().enumerate() {
            *phase = Phase::Live;
            self.report
                .table(target, |status| status.phase = status::TablePhase::Live);
        }
        Ok(true)
    }

    /// Takes the next of what is queued into the open batch, without waiting; `false` when there is none.
    /// A part of a huge transaction never shares a batch with whole transactions before it, so that
    /// those are not kept waiting for its end.
    fn take_one(&mut self, queue: &mut Queue, open: &mut Open) -> Result<bool> {
        if open.batch.rows.held_bytes() == 0 {
            open.batch.rows = self.spare.pop().unwrap_or_default();
        }
        let Some((transaction, held)) = queue.ready() else {
            return Ok(false);
        };
        if open.taken > 0 && transaction.commit.is_none() {
            queue.put_back((transaction, held));
            open.full = true;
            return Ok(true);
        }
        let verified = self.live && self.barrier.is_active();
        if verified && !queue.parts {
            let has_changes = !transaction.changes.changes.is_empty();
            let admits = || self.barrier.admits(&transaction.id, has_changes, self.spec);
            if self.barrier.halts() || !admits() {
                queue.put_back((transaction, held));
                open.full = open.taken > 0;
                return Ok(false);
            }
        }
        if (self.halts() || self.has_held()) && !queue.parts {
            queue.put_back((transaction, held));
            open.full = open.taken > 0;
            return Ok(false);
        }
        if !queue.parts && !self.may_judge(&transaction)? {
            queue.put_back((transaction, held));
            open.full = open.taken > 0;
            return Ok(false);
        }
        let before = open.batch.ordered.len();
        self.add(&transaction, &mut open.batch, &mut open.gathered)?;
        open.taken += 1;
        let mut barrier = false;
        if verified {
            let taken = Taken {
                plan: &self.spec.plan,
                id: &transaction.id,
                ops: open.batch.ordered.get(before..).unwrap_or_default(),
                rows: &open.batch.rows,
                end: transaction.commit.as_ref().map(|commit| &commit.position),
            };
            barrier = self.barrier.taken(&taken, self.spec);
        }
        if is_large(&transaction, self.limits) {
            open.gathered.held.push(held);
        }
        for change in &transaction.schema {
            let table = self.tables.get(change.table);
            let table = table.ok_or_else(|| Error::bug("a schema change of no table"))?;
            open.layouts.retain(|(name, _)| *name != table.name);
            open.layouts
                .push((table.name.clone(), change.layout.clone()));
        }
        let has_changes = !transaction.changes.changes.is_empty();
        let commit = transaction.commit.clone();
        let parts = std::mem::replace(&mut queue.parts, commit.is_none());
        if let (Some(beside), Some(commit), true) = (&self.beside, &commit, parts) {
            beside.ended(&commit.position);
        }
        let alone = parts || verified || is_large(&transaction, self.limits);
        self.keep(transaction, alone, open);
        let Some(commit) = commit else {
            open.full = true;
            return Ok(true);
        };
        let written = &mut open.gathered.written;
        written.commit_us = commit.time_us.or(written.commit_us);
        // One without changes moves the position only.
        let counts = u64::from(has_changes || parts);
        written.transactions += counts;
        open.batch.transactions += counts;
        open.batch.position = Some(commit.position);
        open.full = barrier
            || open.batch.ordered.len() >= self.limits.batch_ops
            || open.batch.rows.bytes() >= self.limits.batch_bytes
            || open.lot.bytes >= 2 * self.limits.batch_bytes;
        Ok(true)
    }

    /// Waits until there is something in the open batch. Nothing is under way, and all before `at` is
    /// durable.
    async fn first(
        &mut self,
        queue: &mut Queue,
        open: &mut Open,
        idle: &mut Idle,
        at: Position,
        stop: &CancellationToken,
    ) -> Result<More> {
        idle.close_spare();
        while open.taken == 0 {
            self.load_goes_on()?;
            if !queue.parts {
                self.learn_held().await?;
            }
            if self.halts() && !queue.parts {
                self.settle(&at, idle).await?;
                continue;
            }
            let between = self.live && self.barrier.is_active() && !queue.parts;
            let stands = match between {
                false => None,
                true => match self.barrier.meet(&at, &self.spec.plan, self.spec) {
                    Meeting::Go => None,
                    Meeting::Stand(until) => Some(until),
                    Meeting::Repair(batch, moved) => {
                        self.repair(*batch, moved, &at, idle).await?;
                        continue;
                    }
                },
            };
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(More::Stopped),
                () = self.barrier.news() => continue,
                () = self.spec.quarantine.came() => continue,
                () = between::until(stands) => continue,
                () = news(self.beside.as_deref()) => {
                    self.waits = false;
                    continue;
                }
                Some(ended) = self.load.join_next() => {
                    loaded(ended)?;
                    continue;
                }
                next = queue.next(), if stands.is_none() && !self.waits => next,
                () = tokio::time::sleep(turns::SPARE_KEPT), if idle.has_spare() => {
                    idle.close_spare();
                    continue;
                }
            };
            let Some(next) = next else {
                return Ok(More::Ended);
            };
            queue.put_back(next);
            while !open.full && self.take_one(queue, open)? {}
        }
        Ok(More::Some)
    }

    /// Takes what comes into the open batch until that is full, and makes its net effect then; returns
    /// early when nothing more can come. Cancel-safe: what was taken stays in the batch.
    async fn fill(&mut self, queue: &mut Queue, open: &mut Open) -> Result<()> {
        while !open.full {
            if (self.halts() || self.has_held()) && !queue.parts && open.taken == 0 {
                // Its turn comes when nothing is under way.
                std::future::pending::<()>().await;
            }
            if self.live && !queue.parts && self.barrier.halts() {
                if open.taken > 0 {
                    open.full = true;
                    break;
                }
                let until = self.barrier.halts_until();
                tokio::select! {
                    () = self.barrier.news() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
                continue;
            }
            if self.waits {
                if open.taken > 0 {
                    open.full = true;
                    break;
                }
                news(self.beside.as_deref()).await;
                self.waits = false;
                continue;
            }
            // Not too many at a time: the batch before is written meanwhile.
            for _ in 0..TAKEN_AT_ONCE {
                if open.full || !self.take_one(queue, open)? {
                    break;
                }
            }
            if open.full {
                break;
            }
            if queue.is_empty() {
                match queue.next().await {
                    Some(next) => queue.put_back(next),
                    None => return Ok(()),
                }
            } else {
                tokio::task::yield_now().await;
            }
        }
        if open.folded.is_none() && open.folding.is_none() {
            let (plan, kept) = (Arc::clone(&self.spec.plan), open.gathered.kept.clone());
            let batch = std::mem::take(&mut open.batch);
            open.gathered.written.bytes = bytes_written(&batch);
            let before = self.touched.clone();
            let fold = move || fold_runs(&plan, batch, &kept, before.as_deref());
            open.folding = Some(tokio::task::spawn_blocking(fold));
        }
        if let Some(folding) = &mut open.folding {
            let folded = folding.await;
            open.folding = None;
            open.folded =
                Some(folded.map_err(|panic| Error::bug("folding panicked").caused_by(panic))??);
        }
        Ok(())
    }

    /// Ends a batch, with its net effect, and leaves a new one.
    async fn close(&mut self, open: &mut Open) -> Result<Gathered> {
        if let Some(folding) = &mut open.folding {
            let folded = folding.await;
            open.folded =
                Some(folded.map_err(|panic| Error::bug("folding panicked").caused_by(panic))??);
        }
        let Open {
            mut gathered,
            batch,
            layouts,
            folded,
            lot,
            ..
        } = std::mem::take(open);
        self.closed.push_back(lot);
        let (batches, touched) = match folded {
            Some(folded) => folded,
            None => {
                gathered.written.bytes = bytes_written(&batch);
                fold_runs(
                    &self.spec.plan,
                    batch,
                    &gathered.kept,
                    self.touched.as_deref(),
                )?
            }
        };
        gathered.batches = batches;
        let kept = self.closed.back().is_some_and(Lot::comes_again);
        for batch in &mut gathered.batches {
            batch.comes_again = kept || gathered.sieve.is_some();
        }
        if let Some(sieve) = &mut gathered.sieve {
            sieve.bound(&self.quarantine);
        }
        let last = gathered.batches.last_mut();
        let whole = last.as_ref().is_some_and(|last| last.position.is_some());
        if let Some(keys) = &mut self.touched {
            // A part of a huge transaction is committed with its end, which is the batch before the next.
            *keys = Arc::new(match whole && !self.in_parts {
                true => touched,
                false => TouchedKeys::any(),
            });
        }
        self.in_parts = !whole;
        if let Some(last) = last {
            last.layouts = layouts;
        }
        Ok(gathered)
    }

    fn add(
        &mut self,
        transaction: &Transaction,
        batch: &mut ApplyBatch,
        into: &mut Gathered,
    ) -> Result<()> {
        let (spec, changes) = (self.spec, &transaction.changes);
        for phase in &mut self.phases {
            if let Phase::Loaded(ledger) = phase {
                ledger.next_transaction();
            }
        }
        let phases = &mut self.phases;
        let mut contains = |seen: &Visibility| spec.source.contains(seen, &transaction.id);
        let again = &mut into.again;
        if let Some(kept) = kept(&spec.plan, changes, phases, &mut contains, again)?
            && into.kept.last().is_none_or(|(_, last)| *last != kept)
        {
            into.kept.push((batch.ordered.len(), kept));
        }
        let mut judge = |target: usize, change: &Change| match phases.get_mut(target) {
            Some(Phase::Live) => Ok(Fate::Apply),
            Some(Phase::Loaded(ledger)) => ledger.fate(change, &changes.rows, &mut contains),
            None => Err(Error::bug("a target without a phase")),
        };
        let place = transaction.commit.as_ref().map(|commit| &commit.position);
        if let Some(place) = place {
            self.place = place.to_string();
        }
        let (rows, ops) = (&mut batch.rows, &mut batch.ordered);
        let before = ops.len();
        let mut projected = None;
        if self.sifted.is_none() {
            let all = (changes.changes.as_slice(), &changes.rows);
            let made = spec.plan.project(all.0, all.1, &mut judge, rows, ops)?;
            let made_ops = ops.get(before..).unwrap_or_default();
            match self.quarantine.touches(&spec.plan, rows, made_ops) {
                true => ops.truncate(before),
                false => projected = Some(made),
            }
        }
        let projected = match projected {
            Some(projected) => projected,
            None => {
                let sifts = self.sifted.is_some();
                let mut careful = Careful {
                    plan: &spec.plan,
                    quarantine: &mut self.quarantine,
                    sieve: sifts.then(|| {
                        let new = || Box::new(Sieve::new(Arc::clone(&spec.plan)));
                        &mut **into.sieve.get_or_insert_with(new)
                    }),
                    place: &self.place,
                    made: Vec::new(),
                };
                careful.project(changes, &mut judge, batch)?
            }
        };
        for target in projected.again {
            if !into.again.contains(&target) {
                into.again.push(target);
            }
        }
        into.read.changes.add(&projected.read);
        into.written.changed.merge(&projected.changed);
        into.read.bytes += transaction.log_bytes;
        Ok(())
    }
}

/// Emptied arenas that are kept: of the batches that are being written and begun.
const SPARE_MAX: usize = 2;

/// Transactions that are taken before the applier has its turn again.
const TAKEN_AT_ONCE: usize = 32;

/// How long a batch that could be applied waits for more, when the task is behind its source for so
/// long. Where reading and applying share a machine, the applier is free again before there is much,
/// and small batches cost the target several times as much a row: it would stay behind. Waiting a small
/// part of the lag is made up for many times over by larger batches, and adds no more than that part
/// to it; a task that keeps up does not wait.
fn linger(behind: Duration, ops: usize) -> Duration {
    match ops >= LINGER_OPS_MIN {
        true => (behind / 8).min(LINGER_MAX),
        false => Duration::ZERO,
    }
}

/// A batch as small as this is no sign of a backlog.
const LINGER_OPS_MIN: usize = 32;
const LINGER_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_batch_of_a_task_that_is_behind_waits() {
        let ms = Duration::from_millis;
        assert_eq!(linger(ms(0), 1000), ms(0), "it keeps up");
        assert_eq!(linger(ms(80), 1000), ms(10));
        assert_eq!(linger(ms(3_600_000), 1000), LINGER_MAX);
        assert_eq!(
            linger(ms(3_600_000), LINGER_OPS_MIN - 1),
            ms(0),
            "one at a time"
        );
    }
}
