//! Dying at every single step, and going on.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::change::Transaction;
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    ChangeStream, Chunk, ChunkReader, Confirm, Inspect, Source, StreamLimits,
};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Kind, Result};
use thalweg_testkit::memory::MemorySource;

use crate::world::World;

/// How a simulated life went.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Equal,
    /// Not equal, or the task could not go on.
    Lost(String),
}

/// One life: some transactions before the start, some while it runs; the fault at `step`; restarts
/// without help until it ends. Gives the end and whether the fault happened at all.
async fn live(
    step: u64,
    transient: bool,
    batch_ops: usize,
    wrap: fn(MemorySource) -> Arc<dyn Source>,
) -> (End, bool, u64) {
    let mut world = World::new();
    world.limits.batch_ops = batch_ops;
    for n in 0..4 {
        world.transact(n);
    }
    if transient {
        world.faults.stumble_at(step);
    } else {
        world.faults.die_at(step);
    }
    let mut n = 4;
    let mut happened = false;
    // The last of the runs has nothing new to follow: it must end equal.
    for commits in [8, 8, 0] {
        let commits = async {
            for _ in 0..commits {
                world.transact(n);
                n += 1;
                tokio::task::yield_now().await;
            }
        };
        let (outcome, ()) = tokio::join!(world.run(wrap(world.source.clone())), commits);
        happened |= world.faults.happened();
        if let Err(error) = outcome
            && !(error.kind() == Kind::Bug && world.faults.happened())
        {
            return (End::Lost(error.chain()), happened, world.target.begun());
        }
        if happened {
            world.faults.revive();
        }
    }
    if happened && !world.equal() {
        // The fault may have come in the last run: one more, undisturbed.
        if let Err(error) = world.run(wrap(world.source.clone())).await {
            return (End::Lost(error.chain()), happened, world.target.begun());
        }
    }
    if world.half_transactions() > 0 {
        let half = "half a transaction was visible".into();
        return (End::Lost(half), happened, world.target.begun());
    }
    let end = if world.equal() {
        End::Equal
    } else {
        End::Lost("not equal".into())
    };
    (end, happened, world.target.begun())
}

/// Lives through a fault at every step there is; gives the lives that did not end well.
async fn every_step(
    transient: bool,
    wrap: fn(MemorySource) -> Arc<dyn Source>,
) -> Vec<(u64, String)> {
    let mut lost = Vec::new();
    // With small batches they are full at once, and begun ahead of their turn.
    for batch_ops in [20_000, 3] {
        let (mut step, mut begun) = (0, 0);
        loop {
            let (end, happened, ahead) = live(step, transient, batch_ops, wrap).await;
            begun += ahead;
            if let End::Lost(why) = end {
                lost.push((step, why));
            }
            if !happened {
                break;
            }
            step += 1;
        }
        println!(
            "proof: a fault at each of {step} steps, batches of {batch_ops}, {begun} begun ahead"
        );
        assert!(step > 30, "a life has more than {step} steps");
        assert!(begun > 0 || batch_ops > 3, "no batch was begun ahead");
    }
    lost
}

#[tokio::test(start_paused = true)]
async fn dying_at_any_step_loses_nothing() {
    assert_eq!(every_step(false, |source| Arc::new(source)).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_at_any_step_is_waited_out() {
    assert_eq!(every_step(true, |source| Arc::new(source)).await, []);
}

#[tokio::test(start_paused = true)]
async fn confirming_before_applying_is_caught() {
    let lost = every_step(false, |source| Arc::new(Hasty(source))).await;
    println!(
        "proof: confirming before applying is caught at {} steps",
        lost.len()
    );
    assert!(
        !lost.is_empty(),
        "the simulation must catch a confirmation that comes too early"
    );
}

/// A source whose reader confirms what it reads, before anything is applied.
struct Hasty(MemorySource);

struct HastyStream(Box<dyn ChangeStream>, Box<dyn Confirm>);

struct Nothing;

#[async_trait]
impl ChangeStream for HastyStream {
    async fn next(&mut self) -> Result<Transaction> {
        let transaction = self.0.next().await?;
        if let Some(commit) = &transaction.commit {
            self.1.confirm(&commit.position).await?;
        }
        Ok(transaction)
    }
}

#[async_trait]
impl Confirm for Nothing {
    async fn confirm(&mut self, _durable: &Position) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Inspect for Hasty {
    async fn probe(&self) -> Result<()> {
        self.0.probe().await
    }
    async fn tables(&self) -> Result<Vec<TableName>> {
        self.0.tables().await
    }
    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        self.0.describe(tables).await
    }
}

#[async_trait]
impl Source for Hasty {
    async fn check(&self, tables: &[TableName]) -> Result<Vec<Finding>> {
        self.0.check(tables).await
    }
    async fn secure(&self, tables: &[TableName]) -> Result<Position> {
        self.0.secure(tables).await
    }
    async fn read(
        &self,
        chunk: &Chunk,
        from: &Position,
        limits: StreamLimits,
    ) -> Result<Box<dyn ChunkReader>> {
        self.0.read(chunk, from, limits).await
    }
    fn contains(&self, seen: &Visibility, tx: &TxId) -> Result<bool> {
        self.0.contains(seen, tx)
    }
    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool> {
        self.0.passed(at, seen)
    }
    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>> {
        self.0.of_other_log(seen).await
    }
    async fn head(&self) -> Result<Position> {
        self.0.head().await
    }
    fn reached(&self, at: &Position, mark: &Position) -> Result<bool> {
        self.0.reached(at, mark)
    }
    async fn backlog_bytes(&self, at: &Position) -> Result<Option<u64>> {
        self.0.backlog_bytes(at).await
    }
    async fn stream(
        &self,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<(Box<dyn ChangeStream>, Box<dyn Confirm>)> {
        let (stream, confirm) = self.0.stream(from, tables, limits).await?;
        Ok((Box::new(HastyStream(stream, confirm)), Box::new(Nothing)))
    }
    async fn release(&self) -> Result<()> {
        self.0.release().await
    }
}
