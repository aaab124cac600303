//! What a source has to remember of a table is given back to it as it was at the place it goes on from.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::change::{SchemaChange, Transaction};
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    ChangeStream, Chunk, ChunkReader, Confirm, Inspect, Source, StreamLimits,
};
use thalweg_core::position::{Layout, Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Kind, Result};
use thalweg_testkit::memory::MemorySource;

use crate::world::World;

/// Every so many transactions alter both tables.
const EVERY: u64 = 3;

/// How the tables lie at a place.
fn layout(at: &Position) -> Layout {
    let number: u64 = at.as_str().parse().unwrap();
    Layout::new((number / EVERY).to_string())
}

/// A source whose log can only be read by who knows how its tables lie.
struct Altering(MemorySource);

struct AlteringStream(Box<dyn ChangeStream>);

#[async_trait]
impl ChangeStream for AlteringStream {
    async fn next(&mut self) -> Result<Transaction> {
        let mut transaction = self.0.next().await?;
        if let Some(commit) = &transaction.commit {
            let number: u64 = commit.position.as_str().parse().unwrap();
            let layout = layout(&commit.position);
            if number.is_multiple_of(EVERY) {
                transaction.schema = vec![
                    SchemaChange {
                        table: 0,
                        layout: layout.clone(),
                    },
                    SchemaChange { table: 1, layout },
                ];
            }
        }
        Ok(transaction)
    }
}

#[async_trait]
impl Inspect for Altering {
    async fn probe(&self) -> Result<()> {
        self.0.probe().await
    }
    async fn tables(&self) -> Result<Vec<TableName>> {
        self.0.tables().await
    }
    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        let mut found = self.0.describe(tables).await?;
        for table in &mut found {
            table.layout = Some(layout(&self.0.position()));
        }
        Ok(found)
    }
}

#[async_trait]
impl Source for Altering {
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
        for table in tables {
            if table.layout != Some(layout(from)) {
                return Err(Error::data(format!(
                    "{} lies as {:?} at {from}",
                    table.name, table.layout
                )));
            }
        }
        let (stream, confirm) = self.0.stream(from, tables, limits).await?;
        Ok((Box::new(AlteringStream(stream)), confirm))
    }
    async fn release(&self) -> Result<()> {
        self.0.release().await
    }
}

/// Runs with plans made anew until it has nothing to follow, with a fault at `step`; whether that
/// happened, and how often the tables changed while a run started.
async fn live(step: u64) -> (bool, u32) {
    let mut world = World::new();
    world.faults.die_at(step);
    let (mut n, mut happened, mut anew) = (0, false, 0);
    for commits in [7, 7, 0, 0] {
        let now = layout(&world.source.position());
        for source in &mut Arc::make_mut(&mut world.plan).sources {
            source.schema.layout = Some(now.clone());
        }
        if n == 0 && step.is_multiple_of(2) {
            // Between the plan and the start.
            for _ in 0..EVERY {
                world.transact(n);
                n += 1;
            }
        }
        let source = Arc::new(Altering(world.source.clone()));
        let commits = async {
            for _ in 0..commits {
                world.transact(n);
                n += 1;
                tokio::task::yield_now().await;
            }
        };
        let (outcome, ()) = tokio::join!(world.run(source), commits);
        happened |= world.faults.happened();
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Bug && happened => {}
            Err(error) if error.message().contains("changed while the task started") => anew += 1,
            Err(error) => panic!("a fault at {step}: {}", error.chain()),
        }
        if happened {
            world.faults.revive();
        }
    }
    assert!(world.equal(), "a fault at {step}");
    (happened, anew)
}

#[tokio::test(start_paused = true)]
async fn layouts_are_those_of_the_position_whatever_dies() {
    let mut anew = 0;
    for step in 0..10_000 {
        let (happened, times) = live(step).await;
        anew += times;
        if !happened {
            assert!(step > 40, "a life has more than {step} steps");
            assert!(anew > 0, "no start met a change");
            return;
        }
    }
    panic!("a life never ends");
}
