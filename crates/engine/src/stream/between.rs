//! What is written between two batches of the stream, when nothing is under way: repairs of a
//! verification, and rows that leave quarantine.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use thalweg_core::batch::{ApplyBatch, Net};
use thalweg_core::change::{ChangeBatch, ChangeKind};
use thalweg_core::mapping::Operations;
use thalweg_core::plan::{Fate, Plan};
use thalweg_core::ports::Inspect;
use thalweg_core::position::Position;
use thalweg_core::quarantine::{Held, decode};
use thalweg_core::{Error, Kind, Result, Side};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Gathered, Streaming};
use crate::answers::{self, while_answering};
use crate::barrier::Repaired;
use crate::batch::key_of;
use crate::quarantine::{Quarantine, Request, Settled, Way, groups};
use crate::runs::fold_runs;
use crate::turns::Idle;

impl Streaming<'_> {
    /// Whether somebody waits for rows to leave quarantine, and they can: nothing is being loaded.
    pub(super) fn halts(&self) -> bool {
        (self.live || self.keys_wait.is_some()) && self.spec.quarantine.waits()
    }

    /// What to make of keys that the target refuses at the end of a load: rows that wait may be what they lack.
    pub(super) async fn no_keys(&mut self, error: Error, idle: &mut Idle) -> Result<()> {
        let waiting = self.quarantine.changes().iter().any(|changes| *changes > 0);
        if error.kind() != Kind::Data || !waiting {
            return Err(error);
        }
        *idle = self.guarded(Idle::open(self.spec, self.epoch)).await?;
        let error =
            error.context("the tables go on without their keys until rows leave quarantine");
        warn!(task = %self.spec.key, error = %error.chain(), "keys wait");
        self.report.trouble(&error);
        self.keys_wait = Some(error);
        Ok(())
    }

    /// A batch is applied: what was put into quarantine of it is there.
    pub(super) fn settled(&mut self, gathered: &mut Gathered) {
        self.closed.pop_front();
        let ops = gathered.batches.iter().map(|batch| batch.ordered.len());
        if let Some(sifted) = &mut self.sifted {
            *sifted += ops.sum::<usize>();
        }
        let mut refused = match gathered.sieve.take() {
            Some(sieve) => sieve.finish(&mut self.quarantine),
            None => Vec::new(),
        };
        let held = gathered.batches.iter().flat_map(|batch| &batch.held);
        for held in held.filter(|held| held.error.is_some()) {
            let target = self.spec.plan.target_index(&held.target).unwrap_or(0);
            refused.resize(refused.len().max(target + 1), 0);
            refused
                .iter_mut()
                .skip(target)
                .take(1)
                .for_each(|count| *count += 1);
        }
        gathered.written.refused = refused;
        self.tell();
    }

    pub(super) fn tell(&self) {
        let changes = self.quarantine.changes();
        self.spec.quarantine.tell(&changes);
        self.report.quarantined(&changes);
    }

    /// At the end of a transaction: whether the next batches are sifted still.
    pub(super) fn goes_on_sifting(&mut self) -> bool {
        // A row that is refused later would end the load too.
        let goes_on = self.beside.is_some();
        let few = |ops: &usize| goes_on || *ops < self.limits.batch_ops;
        self.sifted = self.sifted.filter(few);
        self.sifted.is_some()
    }

    /// Does what somebody waits for.
    pub(super) async fn settle(&mut self, at: &Position, idle: &mut Idle) -> Result<()> {
        let Some(request) = self.spec.quarantine.take() else {
            return Ok(());
        };
        let Request { way, rows, answer } = request;
        let held = self.held(way == Way::Release).await?;
        let groups = groups(&held);
        let mut settled = Settled::default();
        let asked = |number: i64| rows.as_ref().is_none_or(|rows| rows.contains(&number));
        let mut left: Vec<(i64, Vec<&Held>)> = Vec::new();
        for group in &groups {
            let group: Vec<&Held> = group.iter().filter_map(|at| held.get(*at)).collect();
            if let Some(number) = group.first().map(|held| held.number)
                && asked(number)
            {
                left.push((number, group));
            }
        }
        for number in rows.iter().flatten() {
            if !left.iter().any(|(known, _)| known == number) {
                let why = "no row with this id is in quarantine".to_owned();
                settled.refused.push((*number, why));
            }
        }
        // All at once, if the target takes them: they may have exchanged what no two rows may share.
        let mut all: Vec<&Held> = left.iter().flat_map(|(_, group)| group.clone()).collect();
        all.sort_by_key(|held| held.number);
        let bytes: usize = all.iter().map(|held| held.change.len()).sum();
        if left.len() > 1
            && bytes <= self.limits.batch_bytes
            && self.leave(&all, way, at, idle).await?.is_ok()
        {
            settled.rows = left.len() as u64;
            settled.changes = all.len() as u64;
            left.clear();
        }
        // A row may need another one that is released after it.
        let mut goes_on = true;
        while goes_on && !left.is_empty() {
            let before = settled.rows;
            let mut refused = Vec::new();
            let mut waiting = std::mem::take(&mut left).into_iter();
            while goes_on && let Some((number, group)) = waiting.next() {
                match self.leave(&group, way, at, idle).await? {
                    Ok(()) => {
                        settled.rows += 1;
                        settled.changes += group.len() as u64;
                    }
                    Err(error) => {
                        // A lock, say: the next row would wait for it as well.
                        goes_on = error.kind() == Kind::Data;
                        refused.push((number, group, fix(&error)));
                    }
                }
                goes_on &= !answer.is_closed();
            }
            goes_on &= settled.rows > before;
            let told = if goes_on {
                Vec::new()
            } else {
                waiting.map(|(n, _)| n).collect()
            };
            if !goes_on {
                let why = "it was not tried".to_owned();
                settled
                    .refused
                    .extend(told.into_iter().map(|n| (n, why.clone())));
                let refused = refused.drain(..).map(|(number, _, why)| (number, why));
                settled.refused.extend(refused);
            }
            left.extend(
                refused
                    .into_iter()
                    .map(|(number, group, _)| (number, group)),
            );
        }
        self.quarantine = self.guarded(Quarantine::read(self.spec)).await?;
        self.tell();
        info!(task = %self.spec.key, ?way, rows = settled.rows, left = settled.refused.len(), "quarantine");
        // Who asked may have gone.
        answer.send(settled).ok();
        // What they stood in the way of may be done by now.
        if self.keys_wait.take().is_some() {
            let to = Arc::clone(&self.spec.target);
            let target: [(Side, &dyn Inspect); 1] = [(Side::Target, &*to)];
            self.live = while_answering(self.go_live(at, idle), &target, || 0).await?;
            if self.live {
                self.report.over();
            }
        }
        Ok(())
    }

    /// What lies in quarantine.
    async fn held(&self, changes: bool) -> Result<Vec<Held>> {
        let held = self.guarded(self.spec.target.held(&self.spec.key, changes));
        held.await.map_err(|error| error.at(Side::Target))
    }

    /// Waits for the target as long as it answers.
    pub(super) async fn guarded<T>(
        &self,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let target: [(Side, &dyn Inspect); 1] = [(Side::Target, &*self.spec.target)];
        while_answering(work, &target, || 0).await
    }

    /// Lets the changes of one row leave. `Ok(Err)`: the target refuses them still.
    async fn leave(
        &mut self,
        group: &[&Held],
        way: Way,
        at: &Position,
        idle: &mut Idle,
    ) -> Result<Result<()>> {
        let plan = &self.spec.plan;
        let freed = || ApplyBatch {
            position: Some(at.clone()),
            brief: true,
            // What was refused in between is not tried again.
            net: true,
            freed: group.iter().map(|held| held.number).collect(),
            ..ApplyBatch::default()
        };
        if way == Way::Discard {
            return self.write_between(vec![freed()], idle).await;
        }
        // Without some operations, a row that came twice has no net effect: what counts is how it came last.
        let last = group
            .iter()
            .rposition(|held| held.kind == ChangeKind::Insert);
        let whole = plan.operations == Operations::ALL;
        let last = last.filter(|last| !whole && *last > 0);
        let mut first_refusal = None;
        for from in [Some(0), last].into_iter().flatten() {
            let mut batch = freed();
            let some = group.get(from..).unwrap_or_default();
            let folded =
                convert(plan, some, &mut batch).and_then(|()| fold_runs(plan, batch, &[], None));
            let mut batches = match folded {
                Ok((batches, _)) => batches,
                Err(error) => return Ok(Err(error)),
            };
            batches.iter_mut().for_each(|batch| no_gaps(plan, batch));
            match self.write_between(batches, idle).await? {
                Err(error) if error.kind() == Kind::Data => {
                    first_refusal.get_or_insert(error);
                }
                done => return Ok(done),
            }
        }
        Ok(Err(
            first_refusal.unwrap_or_else(|| Error::bug("nothing was tried"))
        ))
    }

    /// Writes a batch between two of the stream. `Ok(Err)`: the target refuses it, and that is no matter
    /// of the stream.
    async fn write_between(&self, batches: Vec<ApplyBatch>, idle: &mut Idle) -> Result<Result<()>> {
        let gathered = Gathered {
            batches,
            ..Gathered::default()
        };
        let mut turn = idle.write(gathered)?;
        let to = &*self.spec.target;
        let written = tokio::select! {
            written = turn.done() => written,
            gone = answers::lost(to, Side::Target, || 0) => return Err(gone),
        };
        match written {
            Ok(written) => {
                idle.put(written.applier, written.gave_way);
                Ok(Ok(()))
            }
            Err(error) if error.kind() == Kind::Fenced => Err(error),
            Err(error) => {
                *idle = self.guarded(Idle::open(self.spec, self.epoch)).await?;
                Ok(Err(error))
            }
        }
    }

    /// Writes what a verification repairs. What the target refuses is told there, and does not stop the
    /// task.
    pub(super) async fn repair(
        &mut self,
        mut batch: ApplyBatch,
        moved: u64,
        at: &Position,
        idle: &mut Idle,
    ) -> Result<()> {
        let rows = batch.ordered.len() as u64;
        let done = Repaired { rows, moved };
        if rows == 0 {
            self.barrier.repaired(Ok(done));
            return Ok(());
        }
        batch.position = Some(at.clone());
        batch.brief = true;
        // What follows at the source from a row that comes or goes has been repaired or will be.
        batch.kept = (0..self.spec.plan.targets.len()).collect();
        let written = self.write_between(vec![batch], idle).await?;
        self.barrier.repaired(written.map(|()| done));
        Ok(())
    }
}

/// Waits until then; for ever if there is no such moment.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Converts changes anew, into a batch.
fn convert(plan: &Plan, changes: &[&Held], batch: &mut ApplyBatch) -> Result<()> {
    for held in changes {
        let strange = || {
            let text = format!(
                "change {} of the quarantine cannot be applied any more",
                held.number
            );
            Error::data(text).with_hint("discard the row, then verify the table with repair")
        };
        let target = plan.target_index(&held.target).ok_or_else(strange)?;
        let source = plan
            .sources
            .iter()
            .position(|s| s.schema.name == held.source);
        let source = source.ok_or_else(strange)?;
        let schema = &plan.sources.get(source).ok_or_else(strange)?.schema;
        let mut changes = ChangeBatch::default();
        let fate = decode(&held.change, source, schema, &mut changes).ok_or_else(strange)?;
        let mut judge = |of: usize, _: &_| {
            Ok(match of == target {
                true => fate,
                false => Fate::Drop,
            })
        };
        let (rows, ops) = (&mut batch.rows, &mut batch.ordered);
        let done = plan.project(&changes.changes, &changes.rows, &mut judge, rows, ops)?;
        if !done.again.is_empty() {
            return Err(strange());
        }
    }
    Ok(())
}

/// A row that goes and comes again under its key is changed instead: in between, rows of other tables that
/// have come since would be without it.
fn no_gaps(plan: &Plan, batch: &mut ApplyBatch) {
    let rows = &batch.rows;
    for net in batch.folded.iter_mut().flatten() {
        let Net::Folded(folded) = net else { continue };
        let Some(table) = plan.targets.get(folded.target) else {
            continue;
        };
        let key = |row: usize| {
            let mut key = Vec::new();
            key_of(table, rows.row(row), None, &mut key).map(|()| key)
        };
        let mut came: FxHashMap<Vec<u8>, usize> = FxHashMap::default();
        came.extend(
            folded
                .inserts
                .iter()
                .filter_map(|row| Some((key(*row)?, *row))),
        );
        let mut stays = Vec::new();
        for old in std::mem::take(&mut folded.deletes) {
            match key(old).and_then(|key| came.remove(&key)) {
                Some(new) => {
                    folded.inserts.retain(|row| *row != new);
                    folded.updates.push((old, new));
                }
                None => stays.push(old),
            }
        }
        folded.deletes = stays;
    }
}

/// An error with its fix.
fn fix(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{}. Fix: {hint}", error.chain()),
        None => error.chain(),
    }
}
