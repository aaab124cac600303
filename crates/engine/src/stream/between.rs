//! What is written between two batches of the stream, when nothing is under way: repairs of a
//! verification, and rows that leave quarantine.

use thalweg_core::batch::ApplyBatch;
use thalweg_core::change::ChangeBatch;
use thalweg_core::plan::Fate;
use thalweg_core::position::Position;
use thalweg_core::quarantine::{Held, decode};
use thalweg_core::{Error, Kind, Result, Side};
use tracing::info;

use super::{Gathered, Streaming};
use crate::answers;
use crate::barrier::Repaired;
use crate::quarantine::{Quarantine, Request, SIFTED_OPS, Settled, Way, groups};
use crate::runs::fold_runs;
use crate::turns::Idle;

impl Streaming<'_> {
    /// Whether somebody waits for rows to leave quarantine.
    pub(super) fn halts(&self) -> bool {
        self.live && self.spec.quarantine.waits()
    }

    /// Operations after which a batch closes.
    pub(super) fn batch_ops(&self) -> usize {
        match self.sifted {
            None => self.limits.batch_ops,
            Some(_) => SIFTED_OPS.min(self.limits.batch_ops),
        }
    }

    /// A batch is applied: what was put into quarantine of it is there.
    pub(super) fn settled(&mut self, gathered: &mut Gathered) {
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

    fn tell(&self) {
        let changes = self.quarantine.changes();
        self.spec.quarantine.tell(&changes);
        self.report.quarantined(&changes);
    }

    /// At the end of a transaction: whether the next batches are sifted still.
    pub(super) fn goes_on_sifting(&mut self) -> bool {
        self.sifted = self.sifted.filter(|ops| *ops < self.limits.batch_ops);
        self.sifted.is_some()
    }

    /// Does what somebody waits for.
    pub(super) async fn settle(&mut self, at: &Position, idle: &mut Idle) -> Result<()> {
        let Some(request) = self.spec.quarantine.take() else {
            return Ok(());
        };
        let Request { way, rows, answer } = request;
        let held = self.spec.target.held(&self.spec.key, way == Way::Release);
        let held = held.await.map_err(|error| error.at(Side::Target))?;
        let groups = groups(&held);
        let first =
            |group: &Vec<usize>| group.first().and_then(|at| held.get(*at)).map(|h| h.number);
        let mut settled = Settled::default();
        let asked = |number: i64| rows.as_ref().is_none_or(|rows| rows.contains(&number));
        let mut left: Vec<(i64, Vec<&Held>)> = Vec::new();
        for group in &groups {
            if let Some(number) = first(group).filter(|number| asked(*number)) {
                left.push((
                    number,
                    group.iter().filter_map(|at| held.get(*at)).collect(),
                ));
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
        if left.len() > 1 && self.leave(&all, way, at, idle).await?.is_ok() {
            settled.rows = left.len() as u64;
            settled.changes = all.len() as u64;
            left.clear();
        }
        // A row may need another one that is released after it.
        loop {
            let mut refused = Vec::new();
            let before = settled.rows;
            for (number, group) in left {
                match self.leave(&group, way, at, idle).await? {
                    Ok(()) => {
                        settled.rows += 1;
                        settled.changes += group.len() as u64;
                    }
                    Err(error) => refused.push((number, group, error)),
                }
            }
            if refused.is_empty() || settled.rows == before {
                let told = refused
                    .into_iter()
                    .map(|(number, _, error)| (number, fix(&error)));
                settled.refused.extend(told);
                break;
            }
            left = refused
                .into_iter()
                .map(|(number, group, _)| (number, group))
                .collect();
        }
        let (spec, target) = (self.spec, &*self.spec.target);
        self.quarantine = Quarantine::read(&spec.plan, target, &spec.key).await?;
        self.tell();
        info!(task = %spec.key, ?way, rows = settled.rows, left = settled.refused.len(), "quarantine");
        // Who asked may have gone.
        answer.send(settled).ok();
        Ok(())
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
        let mut batch = ApplyBatch {
            position: Some(at.clone()),
            brief: true,
            // What was refused in between is not tried again.
            net: true,
            freed: group.iter().map(|held| held.number).collect(),
            ..ApplyBatch::default()
        };
        let release = |batch: &mut ApplyBatch| {
            for held in group {
                let strange = || {
                    let text = format!("change {} of the quarantine cannot be read", held.number);
                    Error::data(text)
                        .with_hint("discard the row, then verify the table with repair")
                };
                let target = plan.target_index(&held.target).ok_or_else(strange)?;
                let source = plan
                    .sources
                    .iter()
                    .position(|s| s.schema.name == held.source);
                let source = source.ok_or_else(strange)?;
                let schema = &plan.sources.get(source).ok_or_else(strange)?.schema;
                let mut changes = ChangeBatch::default();
                let fate = decode(&held.change, source, schema, &mut changes);
                let fate = fate.ok_or_else(strange)?;
                let mut judge = |of: usize, _: &_| {
                    Ok(match of == target {
                        true => fate,
                        false => Fate::Drop,
                    })
                };
                let (rows, ops) = (&mut batch.rows, &mut batch.ordered);
                plan.project(&changes.changes, &changes.rows, &mut judge, rows, ops)?;
            }
            Ok(())
        };
        if way == Way::Release
            && let Err(error) = release(&mut batch)
        {
            return Ok(Err(error));
        }
        let (batches, _) = fold_runs(plan, batch, &[], None)?;
        self.write_between(batches, idle).await
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
                *idle = Idle::open(self.spec, self.epoch).await?;
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

/// An error with its fix.
fn fix(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{}. Fix: {hint}", error.chain()),
        None => error.chain(),
    }
}
