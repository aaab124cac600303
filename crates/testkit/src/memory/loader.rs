//! The load into a target in memory.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::batch::ApplyBatch;
use thalweg_core::checkpoint::{Epoch, LoadedChunk, TablePhase};
use thalweg_core::mapping::ExistingRows;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Loader;
use thalweg_core::quarantine::Held;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result};

use super::quarantine;
use super::rows::Store;
use super::target::{MemoryTarget, name_of, waiting};

pub(super) struct MemoryLoader {
    target: MemoryTarget,
    epoch: Epoch,
    plan: Arc<Plan>,
    open: Option<Open>,
}

/// What a loader's open transaction has done.
struct Open {
    target: usize,
    feed: usize,
    emptied: Option<(ExistingRows, String)>,
    rows: RowBatch,
}

impl MemoryLoader {
    pub(super) fn new(target: MemoryTarget, epoch: Epoch, plan: Arc<Plan>) -> Self {
        MemoryLoader {
            target,
            epoch,
            plan,
            open: None,
        }
    }

    fn open(&mut self) -> Result<&mut Open> {
        let open = self.open.as_mut();
        open.ok_or_else(|| Error::bug("no transaction was begun"))
    }
}

#[async_trait]
impl Loader for MemoryLoader {
    async fn begin(&mut self, target: usize, feed: usize) -> Result<()> {
        self.target.faults.step()?;
        if self.open.is_some() {
            return Err(Error::bug("a transaction is open"));
        }
        self.open = Some(Open {
            target,
            feed,
            emptied: None,
            rows: RowBatch::new(),
        });
        Ok(())
    }

    async fn empty(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        self.target.faults.step()?;
        self.open()?.emptied = Some((existing, fingerprint.to_owned()));
        Ok(())
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        self.target.faults.step()?;
        for row in rows.iter() {
            self.open()?.rows.append(row);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn load_sifted(&mut self, rows: &RowBatch) -> Result<Vec<(usize, Error)>> {
        self.target.faults.step()?;
        let (plan, limits) = (Arc::clone(&self.plan), self.target.limits().clone());
        let mut refused = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let open = self.open()?;
            let mut one = RowBatch::new();
            one.append(row);
            let mut store = Store::default();
            store.load(&plan, (open.target, open.feed), &one)?;
            match quarantine::check(&limits, &store) {
                Ok(()) => drop(open.rows.append(row)),
                Err(error) => refused.push((index, error)),
            }
        }
        Ok(refused)
    }

    async fn commit(&mut self, chunk: Option<&LoadedChunk>, held: &[Held]) -> Result<()> {
        let open = self.open.take();
        let open = open.ok_or_else(|| Error::bug("commit before begin"))?;
        let (plan, target) = (Arc::clone(&self.plan), open.target);
        let name = name_of(&plan, target)?;
        let limits = self.target.limits().clone();
        if chunk.map_or(0, |chunk| chunk.rows) != open.rows.len() as u64 {
            return Err(Error::bug("the target counted other rows"));
        }
        self.target.commit_as(self.epoch, |state| {
            let known = state
                .checkpoints
                .entry(name.clone())
                .or_insert_with(|| waiting(name.clone()));
            if let Some((existing, fingerprint)) = open.emptied {
                let there = state.store.tables.entry(name).or_default();
                match existing {
                    ExistingRows::Refuse if !there.is_empty() => {
                        return Err(Error::config("the table has rows"));
                    }
                    ExistingRows::Compare => {}
                    _ => state.store.clear(&plan, target)?,
                }
                let table = name_of(&plan, target)?;
                state.held.retain(|_, held| held.target != table);
                known.phase = TablePhase::Loading(Vec::new());
                known.fingerprint = fingerprint;
            }
            state.store.load(&plan, (target, open.feed), &open.rows)?;
            quarantine::check(&limits, &state.store)?;
            let batch = ApplyBatch::default();
            quarantine::settle(&mut state.held, &plan, &batch, held.to_vec())?;
            let TablePhase::Loading(ledger) = &mut known.phase else {
                return Err(Error::bug("a chunk of a table that was not emptied"));
            };
            ledger.extend(chunk.cloned());
            known.loaded_rows = Some(ledger.iter().map(|chunk| chunk.rows).sum());
            Ok(())
        })
    }
}
