//! The applier of a target in memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use thalweg_core::batch::{ApplyBatch, Net, Pieces, RowOp, TableCounts, TableOp, unfolded};
use thalweg_core::checkpoint::{Epoch, TablePhase};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applied, Applier, Sift};
use thalweg_core::position::{Layout, Position};
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Kind, Result};

use super::quarantine::{self};
use super::rows::Store;
use super::target::{Committed, MemoryTarget, name_of, waiting};

/// Operations of a piece that is not cut: few, so that pieces are cut in small lives too.
const ALONE: usize = 2;

/// One writer of the stream.
pub(super) struct MemoryApplier {
    pub(super) target: MemoryTarget,
    pub(super) epoch: Epoch,
    pub(super) plan: Arc<Plan>,
    /// Rows as the open transaction has them.
    pub(super) open: Option<Store>,
    /// Rows, and what lies in quarantine, as they were when it began.
    pub(super) base: Option<(Store, BTreeMap<i64, Held>)>,
    /// The position of a batch that was begun ahead of its turn, the rows as they were then, and as what
    /// stands apart has left them.
    pub(super) begun: Option<(Position, Store, Store)>,
    /// What lies in quarantine, as the open transaction has it.
    pub(super) held: Option<BTreeMap<i64, Held>>,
    pub(super) _counted: Weak<()>,
}

impl MemoryApplier {
    /// The rows as the open transaction has them, which begins if none is open.
    fn begin(&mut self) -> Store {
        let now = || {
            let look = |now: &Committed| (now.store.clone(), now.held.clone());
            self.target.look(look)
        };
        let (store, _) = self.base.get_or_insert_with(now);
        self.open.take().unwrap_or_else(|| store.clone())
    }

    /// The rows as a batch leaves them, and what it did; an error if the target does not take them.
    async fn attempt(&mut self, batch: &ApplyBatch) -> Result<(Store, Vec<TableCounts>)> {
        let mut held = self.target.held.subscribe();
        let free = held.wait_for(|held| !held).await;
        free.map_err(|_| Error::bug("the target is gone"))?;
        let mut store = self.begin();
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        let mut folded = store.clone();
        let all = batch.ordered.iter();
        apply_ordered(&self.plan, batch, all, &mut store, &mut counts)?;
        if let Some(nets) = &batch.folded {
            let alone = unfolded(nets);
            let rest = batch.ordered.iter().filter(|op| alone.contains(&op.target));
            apply_ordered(&self.plan, batch, rest, &mut folded, &mut counts.clone())?;
            let tables = nets.iter().filter_map(|net| match net {
                Net::Folded(table) => Some(table),
                Net::InOrder(_) => None,
            });
            for table in tables.clone().rev() {
                folded.apply_deletes(&self.plan, &batch.rows, table, &batch.kept)?;
            }
            for table in tables {
                folded.apply_writes(&self.plan, &batch.rows, table, &batch.kept)?;
            }
            // The engine's fold is checked against the truth at every single batch. Of rows that were
            // damaged it need not be the same: one that comes and goes in a batch takes along what was
            // there without cause, and its net effect does not. Databases write the net effect.
            if self.target.damaged.load(Ordering::Relaxed) {
                store = folded;
            } else if folded != store {
                return Err(Error::bug("the folded batch differs from the ordered one"));
            }
        }
        quarantine::check(&self.target.limits(), &store)?;
        Ok((store, counts))
    }

    /// Applies operations one by one, and puts aside what the target refuses.
    fn sift_each(
        &self,
        (batch, ops): (&ApplyBatch, &[TableOp]),
        sift: &mut dyn Sift,
        store: &mut Store,
        counts: &mut Vec<TableCounts>,
    ) -> Result<()> {
        for op in ops {
            if sift.waits(op) {
                sift.defer(op)?;
                continue;
            }
            let (mut next, mut more) = (store.clone(), counts.clone());
            let one = std::iter::once(op);
            let applied = apply_ordered(&self.plan, batch, one, &mut next, &mut more);
            match applied.and_then(|()| quarantine::check(&self.target.limits(), &next)) {
                Ok(()) => (*store, *counts) = (next, more),
                Err(error) if error.kind() == Kind::Data => {
                    sift.refused(op, error)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if op.op == RowOp::Truncate {
                sift.emptied(op);
            }
        }
        Ok(())
    }

    /// Ends a batch whose rows are in `store`.
    async fn finish(
        &mut self,
        batch: &ApplyBatch,
        store: Store,
        counts: Vec<TableCounts>,
        more: Vec<Held>,
    ) -> Result<Applied> {
        tokio::task::yield_now().await;
        let base = self.base.take().unwrap_or_default();
        let mut held = self.held.take().unwrap_or_else(|| base.1.clone());
        quarantine::settle(&mut held, &self.plan, batch, more)?;
        let Some(position) = batch.position.clone() else {
            self.open = Some(store);
            self.held = Some(held);
            self.base = Some(base);
            return Ok(Applied {
                durable: None,
                counts,
            });
        };
        self.target.commit_as(self.epoch, |state| {
            // A load may have committed meanwhile.
            state.store.merge(&base.0, store)?;
            quarantine::merge(&mut state.held, &base.1, held)?;
            state.applied = Some(position.clone());
            state.layouts.extend(batch.layouts.iter().cloned());
            Ok(())
        })?;
        Ok(Applied {
            durable: Some(position),
            counts,
        })
    }
}

#[async_trait]
impl Applier for MemoryApplier {
    async fn start(&mut self, at: &Position, tables: &[(usize, String, bool)]) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        self.target.commit_as(self.epoch, |state| {
            state.applied = Some(at.clone());
            for (target, fingerprint, live) in tables {
                let target = name_of(&plan, *target)?;
                let entry = state
                    .checkpoints
                    .entry(target.clone())
                    .or_insert_with(|| waiting(target));
                entry.fingerprint.clone_from(fingerprint);
                if *live {
                    entry.phase = TablePhase::Live;
                }
            }
            Ok(())
        })
    }

    async fn keep_layouts(&mut self, layouts: &[(TableName, Layout)]) -> Result<()> {
        self.target.commit_as(self.epoch, |state| {
            state.layouts = layouts.iter().cloned().collect();
            Ok(())
        })
    }

    /// What is ahead is thrown away, but what the engine promises is checked.
    async fn ahead(&mut self, batch: &ApplyBatch) -> Result<()> {
        self.target.faults.step()?;
        let now = self.target.now();
        if self.open.is_some() || self.begun.is_some() || !now.live {
            return Err(Error::bug("a batch is begun at the wrong time"));
        }
        let Some(position) = batch.position.clone() else {
            return Err(Error::bug("a part of a transaction is begun"));
        };
        let mut after = now.store.clone();
        for apart in &batch.apart {
            self.target.apart.fetch_add(1, Ordering::Relaxed);
            let mut nets = batch.folded.iter().flatten();
            let table = nets.find_map(|net| match net {
                Net::Folded(table) if table.target == apart.target => Some(table),
                _ => None,
            });
            let table = table.ok_or_else(|| Error::bug("apart, and not folded"))?;
            let (table, _) = table.split(apart);
            after.apply_deletes(&self.plan, &batch.rows, &table, &batch.kept)?;
            after.apply_writes(&self.plan, &batch.rows, &table, &batch.kept)?;
        }
        self.begun = Some((position, now.store, after));
        self.target.begun.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn give_way(&mut self) -> Result<bool> {
        self.target.faults.step()?;
        Ok(self.begun.take().is_some())
    }

    async fn apply(&mut self, batch: &ApplyBatch) -> Result<Applied> {
        self.target.faults.step()?;
        if let Some((begun, before, after)) = self.begun.take() {
            if batch.position != Some(begun) {
                return Err(Error::bug("another batch than the one that was begun"));
            }
            // What is apart from the batch before changes no row that it has changed.
            if before.meets(&after, &self.target.store()) {
                return Err(Error::bug("what is apart met the batch before"));
            }
        }
        let (store, counts) = self.attempt(batch).await?;
        self.finish(batch, store, counts, Vec::new()).await
    }

    async fn apply_sifted(&mut self, batch: &ApplyBatch, sift: &mut dyn Sift) -> Result<Applied> {
        self.target.faults.step()?;
        let mut store = self.begin();
        let mut counts = vec![TableCounts::default(); self.plan.targets.len()];
        let mut pieces = Pieces::new(batch.ordered.len(), ALONE);
        while let Some(piece) = pieces.take() {
            let ops = batch.ordered.get(piece.clone()).unwrap_or_default();
            if !ops.iter().any(|op| sift.waits(op)) {
                self.open = Some(store.clone());
                let tried = match ops.len() == batch.ordered.len() {
                    true => self.attempt(batch).await,
                    false => self.attempt(&sift.piece(batch, piece.clone())?).await,
                };
                match tried {
                    Ok((next, more)) => {
                        store = next;
                        counts.iter_mut().zip(&more).for_each(|(a, b)| a.add(b));
                        let truncates = ops.iter().filter(|op| op.op == RowOp::Truncate);
                        truncates.for_each(|op| sift.emptied(op));
                        continue;
                    }
                    Err(error) if error.kind() == Kind::Data => {}
                    Err(error) => return Err(error),
                }
            }
            if !pieces.cut(piece) {
                self.sift_each((batch, ops), sift, &mut store, &mut counts)?;
            }
        }
        let held = sift.take();
        self.finish(batch, store, counts, held).await
    }

    async fn go_live(&mut self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        self.target.commit_as(self.epoch, |state| {
            state.live = true;
            for table in &plan.targets {
                if state.tables.pending.contains(&table.name) {
                    Arc::make_mut(&mut state.tables).pending.remove(&table.name);
                }
                if let Some(known) = state.checkpoints.get_mut(&table.name) {
                    known.phase = TablePhase::Live;
                    known.whole = false;
                }
            }
            Ok(())
        })
    }

    async fn load_again(&mut self, targets: &[usize], whole: bool) -> Result<()> {
        let names: Vec<_> = targets
            .iter()
            .map(|target| name_of(&self.plan, *target))
            .collect::<Result<_>>()?;
        self.target.commit_as(self.epoch, |state| {
            state.loads_again += u64::from(whole);
            for name in names {
                state.held.retain(|_, held| held.target != name);
                if let Some(table) = state.checkpoints.get_mut(&name) {
                    table.phase = TablePhase::Waiting;
                    table.whole |= whole;
                }
            }
            Ok(())
        })
    }
}

fn apply_ordered<'a>(
    plan: &Plan,
    batch: &ApplyBatch,
    ops: impl Iterator<Item = &'a TableOp>,
    store: &mut Store,
    counts: &mut [TableCounts],
) -> Result<()> {
    for op in ops {
        let counts = counts
            .get_mut(op.target)
            .ok_or_else(|| Error::bug("no such target"))?;
        store.apply(plan, &batch.rows, op, &batch.kept, counts)?;
    }
    Ok(())
}
