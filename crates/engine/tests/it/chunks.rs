//! Loads in chunks while everything changes, with a death at every step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng as _;
use thalweg_core::checkpoint::TablePhase;
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    ChangeStream, Chunk, ChunkReader, ChunkSize, Confirm, Gate, Inspect, Source, StreamLimits,
};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::value::RowBatch;
use thalweg_core::{Kind, Result};
use thalweg_engine::status::TaskStatus;
use thalweg_testkit::memory::{Committed, MemoryChange, MemorySource};
use tokio::sync::watch;

use crate::vault::{Kind as Vaults, Vault};

/// What is wrong with the source, if anything.
type Wrap = fn(MemorySource) -> Arc<dyn Source>;

fn honest(source: MemorySource) -> Arc<dyn Source> {
    Arc::new(source)
}

/// How a life went.
#[derive(Debug, Default)]
struct Life {
    /// Why it did not end well.
    lost: Option<String>,
    happened: bool,
    /// Rows read by the loads of each run.
    read: Vec<u64>,
    /// Chunks of each run.
    chunks: Vec<u64>,
    /// Loads that were given up for a change that could not be placed.
    again: u64,
    /// Batches that were begun ahead of their turn.
    begun: u64,
    /// How often rows of a table stood apart in them.
    apart: u64,
    /// Transactions that were applied while a table was loaded beside them.
    beside: u64,
    /// Servers that were replaced.
    replaced: u64,
}

/// One life: transactions while it loads and streams; a fault at `step`, and restarts without help.
async fn live(kind: Vaults, seed: u64, step: u64, transient: bool, wrap: Wrap) -> Life {
    let mut vault = Vault::new(kind, seed);
    let mut life = Life::default();
    if seed % 2 == 1 {
        // Batches are full at once, so that they are begun ahead.
        vault.world.limits.batch_ops = 3;
    }
    if transient {
        vault.world.faults.stumble_at(step);
    } else {
        vault.world.faults.die_at(step);
    }
    // The last of the runs has nothing new to follow: it must end equal.
    let runs: &[u32] = match kind.joins {
        true => &[20, 30, 30, 0, 0],
        false => &[30, 20, 0],
    };
    for (run, commits) in runs.iter().copied().enumerate() {
        let source = wrap(vault.world.source.clone());
        let (status, seen) = watch::channel(TaskStatus::default());
        let Vault { world, customers } = &mut vault;
        let joins = kind.joins && (1..3).contains(&run) && world.target.now().live;
        if joins {
            let which = customers.rng.random_range(0..2);
            world.target.forget_table(&world.plan.targets[which].name);
        }
        let before = world.target.history().len();
        let body = async {
            for _ in 0..commits {
                for _ in 0..customers.rng.random_range(0..4) {
                    tokio::task::yield_now().await;
                }
                customers.transact(world);
            }
            customers.settle(world);
            world.caught_up().await;
        };
        let outcome = world.run_while(source, status, body).await;
        let seen = seen.borrow().clone();
        life.read
            .push(seen.sources.iter().map(|s| s.loaded_rows).sum());
        life.chunks.push(seen.tables.iter().map(|t| t.chunks).sum());
        life.happened |= world.faults.happened();
        if let Err(error) = outcome
            && !(error.kind() == Kind::Bug && life.happened)
        {
            life.lost = Some(error.chain());
            return life;
        }
        if joins {
            let history = world.target.history();
            let since = history.get(before.saturating_sub(1)..).unwrap_or_default();
            let steps = since.windows(2).filter(|two| goes_on_beside(two));
            life.beside += steps.count() as u64;
        }
        if life.happened {
            world.faults.revive();
        }
        customers.settle(world);
        // A process that starts anew has no snapshot to share.
        world.source.one_snapshot = false;
    }
    life.replaced = vault.customers.replaced;
    life.begun = vault.world.target.begun();
    life.apart = vault.world.target.apart();
    life.again = vault.world.target.now().loads_again;
    if vault.world.half_transactions() > 0 {
        life.lost = Some("half a transaction was visible".into());
    } else if !vault.world.equal() {
        life.lost = Some("not equal".into());
    }
    life
}

/// Whether a target has come on in the log while one of its tables was being loaded.
fn goes_on_beside(states: &[Committed]) -> bool {
    let [before, after] = states else {
        return false;
    };
    let loads = |phase: &TablePhase| matches!(phase, TablePhase::Loading(_));
    let is_live = |phase: &TablePhase| *phase == TablePhase::Live;
    before.applied() != after.applied() && after.phases().any(loads) && after.phases().any(is_live)
}

/// Lives through faults at the steps there are, in `seeds` different worlds: at one step in four in
/// one of them, or where all is proved at each step in ten times as many. Gives the lives that did
/// not end well.
async fn every_step(
    kind: Vaults,
    seeds: u64,
    transient: bool,
    wrap: Wrap,
) -> Vec<(u64, u64, String)> {
    let mut lost = Vec::new();
    let (mut lives, mut again, mut begun, mut apart, mut beside) = (0, 0, 0, 0, 0);
    let mut replaced = 0;
    let (seeds, stride) = match std::env::var_os("THALWEG_PROVE") {
        Some(_) if kind.joins => (seeds * 2, 1),
        Some(_) => (seeds * 10, 1),
        // A life with joins is several times as long.
        None => (seeds, seeds * if kind.joins { 16 } else { 4 }),
    };
    for seed in 0..seeds {
        let first = seed * 4 % stride;
        for step in (first..10_000).step_by(usize::try_from(stride).unwrap()) {
            let life = live(kind, seed, step, transient, wrap).await;
            lives += 1;
            again += life.again;
            begun += life.begun;
            apart += life.apart;
            beside += life.beside;
            replaced += life.replaced;
            lost.extend(life.lost.map(|why| (seed, step, why)));
            if !life.happened {
                assert!(step > 40, "a life has more than {step} steps");
                break;
            }
        }
    }
    println!(
        "proof: {lives} lives of loads in chunks, each with a fault at another step, {seeds} seeds, {again} \
         loads given up, {begun} batches begun ahead, rows apart in {apart}, {beside} batches beside a load, {replaced} servers replaced: {kind:?}"
    );
    assert_eq!(beside > 0, kind.joins, "batches beside a load");
    // A stream that breaks off as often rarely has a batch to begin ahead.
    let ahead = begun > 0 && apart > 0;
    assert!(kind.replaced || ahead, "no batch was begun ahead");
    assert_eq!(replaced > 0, kind.replaced, "servers that were replaced");
    let asked_for = kind.partial || kind.truncates;
    assert!(asked_for || again == 0, "loads given up for nothing");
    assert!(!kind.partial || again > 0, "no load was given up");
    lost
}

#[tokio::test(start_paused = true)]
async fn dying_at_any_step_of_a_load_in_chunks_loses_nothing() {
    let lost = every_step(Vaults::default(), 5, false, honest).await;
    assert_eq!(lost, []);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_at_any_step_of_a_load_in_chunks_is_waited_out() {
    let lost = every_step(Vaults::default(), 5, true, honest).await;
    assert_eq!(lost, []);
}

#[tokio::test(start_paused = true)]
async fn rows_that_move_between_chunks_without_all_their_cells_are_loaded_again() {
    let kind = Vaults {
        partial: true,
        truncates: true,
        ..Vaults::default()
    };
    let lost = every_step(kind, 5, false, honest).await;
    assert_eq!(lost, []);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_loaded_beside_the_stream_loses_nothing() {
    for (partial, unique, truncates) in [
        (false, None, false),
        (false, Some(false), false),
        (false, Some(true), true),
        (true, None, true),
    ] {
        let kind = Vaults {
            joins: true,
            partial,
            unique,
            truncates,
            ..Vaults::default()
        };
        let lost = every_step(kind, 3, false, honest).await;
        assert_eq!(lost, [], "{kind:?}");
        let lost = every_step(kind, 2, true, honest).await;
        assert_eq!(lost, [], "{kind:?}, connections");
    }
}

#[tokio::test(start_paused = true)]
async fn tables_read_at_a_server_that_was_replaced_are_loaded_again() {
    for (joins, one_snapshot, unique) in [
        (false, false, None),
        (false, true, Some(false)),
        (true, false, Some(true)),
    ] {
        let kind = Vaults {
            replaced: true,
            joins,
            one_snapshot,
            unique,
            ..Vaults::default()
        };
        let lost = every_step(kind, 3, false, honest).await;
        assert_eq!(lost, [], "{kind:?}");
        let lost = every_step(kind, 1, true, honest).await;
        assert_eq!(lost, [], "{kind:?}, connections");
    }
}

/// Not only until the run ends: the old server may be back then, and the stream has come on meanwhile.
#[tokio::test(start_paused = true)]
async fn what_a_replaced_server_had_is_forgotten_at_the_target_before_the_stream_goes_on() {
    let mut forgotten = 0;
    for step in (40..400).step_by(3) {
        let mut vault = Vault::new(Vaults::default(), 1);
        let Vault { world, customers } = &mut vault;
        world.run(honest(world.source.clone())).await.unwrap();
        world.target.forget_table(&world.plan.targets[0].name);
        world.faults.die_at(step);
        // It dies in the middle of the load, or not at all.
        drop(world.run(honest(world.source.clone())).await);
        world.faults.revive();
        let loading =
            |phase: &TablePhase| matches!(phase, TablePhase::Loading(chunks) if !chunks.is_empty());
        if !world.target.now().phases().any(loading) {
            continue;
        }
        world.source.replace();
        let (status, _) = watch::channel(TaskStatus::default());
        let body = async {
            customers.transact(world);
            customers.settle(world);
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        // Nothing comes from the new one; all that is there would be the old one's.
        let stuck = Arc::new(Liar(world.source.clone(), Lie::Stuck));
        world.run_while(stuck, status, body).await.unwrap();
        assert!(!world.target.now().phases().any(loading), "step {step}");
        world.run(honest(world.source.clone())).await.unwrap();
        assert!(world.equal(), "step {step}");
        forgotten += 1;
    }
    assert!(
        forgotten > 3,
        "{forgotten} lives had chunks of a server that was replaced"
    );
}

#[tokio::test(start_paused = true)]
async fn taking_what_a_replaced_server_had_for_the_present_one_s_is_caught() {
    let kind = Vaults {
        replaced: true,
        ..Vaults::default()
    };
    is_caught(
        kind,
        |source| Arc::new(Liar(source, Lie::SameLog)),
        "a chunk of a server that was replaced",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn unique_values_never_collide() {
    for (late, one_snapshot) in [(false, false), (false, true), (true, false)] {
        let kind = Vaults {
            unique: Some(late),
            one_snapshot,
            truncates: true,
            ..Vaults::default()
        };
        let lost = every_step(kind, 5, false, honest).await;
        assert_eq!(lost, [], "{kind:?}");
    }
}

/// Whether a kind of vault is loaded in chunks is seen by their number.
#[tokio::test(start_paused = true)]
async fn tables_are_cut_where_that_is_exact_and_only_there() {
    let check = async |unique, one_snapshot, cut: bool| {
        let kind = Vaults {
            unique,
            one_snapshot,
            ..Vaults::default()
        };
        let life = live(kind, 1, u64::MAX, false, honest).await;
        assert_eq!(life.lost, None, "{kind:?}");
        let chunks = life.chunks[0];
        assert_eq!(chunks > 2, cut, "{kind:?}: {chunks} chunks of two tables");
    };
    check(None, false, true).await;
    check(Some(true), false, true).await;
    check(Some(false), false, false).await;
    check(Some(false), true, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_only_the_chunks_in_flight() {
    let kind = Vaults::default();
    let (mut resumed, mut step) = (0, 0);
    loop {
        let life = live(kind, 3, step, false, honest).await;
        assert_eq!(life.lost, None, "step {step}");
        if !life.happened {
            break;
        }
        // Two workers, each with a chunk of about two rows; rows come and go between the runs.
        let rows: u64 = life.read.iter().sum();
        let slack = 2 * 2 + 6;
        assert!(rows <= 18 + slack, "step {step}: {:?} rows read", life.read);
        resumed += u64::from(life.read[0] > 4 && life.read[1] > 4);
        step += 5;
    }
    assert!(
        resumed > 5,
        "{resumed} of {step} lives went on in the middle of a load"
    );
    println!(
        "proof: {resumed} lives that went on in the middle of a load repeated only the chunks in flight"
    );
}

/// Some of these lives must not end well.
async fn is_caught(kind: Vaults, wrap: Wrap, what: &str) {
    let lost = every_step(kind, 4, false, wrap).await;
    println!("proof: {what} is caught in {} lives", lost.len());
    assert!(!lost.is_empty(), "{what} must be caught");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_claims_to_have_seen_more_is_caught() {
    is_caught(
        Vaults::default(),
        |source| Arc::new(Liar(source, Lie::SeenMore)),
        "a chunk that claims to have seen more than it has",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_ledger_too_early_is_caught() {
    is_caught(
        Vaults::default(),
        |source| Arc::new(Liar(source, Lie::PassedEarly)),
        "dropping the ledger too early",
    )
    .await;
}

/// A table is loaded anew while the stream stands behind a transaction that snapshots do not show
/// yet. Gives whether the target is equal in the end.
async fn loaded_behind_an_unseen_transaction(wrap: Wrap) -> bool {
    let mut vault = Vault::new(Vaults::default(), 1);
    let Vault { world, customers } = &mut vault;
    world.run(wrap(world.source.clone())).await.unwrap();
    let (table, row) = (0, world.source.rows(0).into_values().next().unwrap());
    let mut after = row.clone();
    after[2] = 77;
    world.source.commit_unseen(vec![MemoryChange {
        table,
        before: Some(row),
        after: Some(after),
    }]);
    world.run(wrap(world.source.clone())).await.unwrap();
    assert!(world.equal(), "it was streamed");
    world.target.forget_table(&world.plan.targets[0].name);
    let source = wrap(world.source.clone());
    let (status, _) = watch::channel(TaskStatus::default());
    let body = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        customers.settle(world);
        world.caught_up().await;
    };
    world.run_while(source, status, body).await.unwrap();
    world.equal()
}

#[tokio::test(start_paused = true)]
async fn a_chunk_shows_all_that_was_streamed_before() {
    assert!(loaded_behind_an_unseen_transaction(honest).await);
    let eager: Wrap = |source| Arc::new(Liar(source, Lie::Eager));
    assert!(
        !loaded_behind_an_unseen_transaction(eager).await,
        "a snapshot that has not seen what was streamed must be caught"
    );
}

#[tokio::test(start_paused = true)]
async fn the_others_go_on_while_a_table_is_loaded() {
    let vault = Vault::new(Vaults::default(), 1);
    let world = &vault.world;
    world.run(honest(world.source.clone())).await.unwrap();
    world.target.forget_table(&world.plan.targets[0].name);
    let (status, _) = watch::channel(TaskStatus::default());
    let row = |table: usize, nth: usize| {
        let rows = world.source.rows(table);
        rows.into_values().nth(nth).unwrap()
    };
    let arrives = async |table: usize| {
        for _ in 0..50 {
            let there = world.target.now().tables()[&world.plan.targets[1].name].clone();
            if there == world.source.rows(table) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    };
    let with = |mut row: Vec<i64>, amount: i64| {
        row[1] = amount;
        Ok(row)
    };
    let body = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.source.commit(&[(1, with(row(1, 0), 17))]);
        assert!(arrives(1).await, "another table");
        world
            .source
            .commit(&[(0, with(row(0, 8), 18)), (1, with(row(1, 0), 19))]);
        assert!(arrives(1).await, "with a row that no chunk has come to");
        world
            .source
            .commit(&[(0, with(row(0, 0), 20)), (1, with(row(1, 0), 21))]);
        assert!(
            !arrives(1).await,
            "with a row of a chunk that is on its way"
        );
        assert!(!world.target.now().live);
    };
    let stuck = Arc::new(Liar(world.source.clone(), Lie::Stuck));
    world.run_while(stuck, status, body).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn chunks_that_do_not_make_up_the_table_are_refused() {
    let life = live(Vaults::default(), 1, u64::MAX, false, |source| {
        Arc::new(Liar(source, Lie::Hole))
    });
    let lost = life.await.lost.unwrap();
    assert!(lost.contains("do not make it up"), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn rows_of_several_moments_under_a_unique_key_are_caught() {
    let kind = Vaults {
        unique: Some(false),
        says_loose: true,
        ..Vaults::default()
    };
    is_caught(kind, honest, "rows of several moments under a unique key").await;
}

/// What a source does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// A chunk says that it has seen the next transaction as well.
    SeenMore,
    /// Everything was passed long ago.
    PassedEarly,
    /// Chunks do not wait for what was streamed to become visible.
    Eager,
    /// A server that was replaced is the present one.
    SameLog,
    /// The chunks leave out a range.
    Hole,
    /// Snapshots of the present give no rows.
    Stuck,
}

/// Never comes to its rows.
struct StuckReader(Box<dyn ChunkReader>);

#[async_trait]
impl ChunkReader for StuckReader {
    fn visibility(&self) -> &Visibility {
        self.0.visibility()
    }
    async fn next(&mut self, _into: &mut RowBatch) -> Result<bool> {
        std::future::pending().await
    }
}

struct Liar(MemorySource, Lie);

struct LyingReader(Box<dyn ChunkReader>, Visibility);

#[async_trait]
impl ChunkReader for LyingReader {
    fn visibility(&self) -> &Visibility {
        &self.1
    }
    async fn next(&mut self, into: &mut RowBatch) -> Result<bool> {
        self.0.next(into).await
    }
}

impl Liar {
    fn lie(&self, reader: Box<dyn ChunkReader>) -> Box<dyn ChunkReader> {
        match self.1 {
            Lie::SeenMore => {}
            Lie::Stuck => return Box::new(StuckReader(reader)),
            _ => return reader,
        }
        let seen = reader.visibility().as_str();
        let (last, but) = seen.split_once(' ').unwrap_or((seen, ""));
        let more = last.parse::<u64>().unwrap() + 1;
        let seen = Visibility::new(format!("{more} {but}").trim());
        Box::new(LyingReader(reader, seen))
    }
}

#[async_trait]
impl Inspect for Liar {
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
impl Source for Liar {
    async fn check(&self, tables: &[TableName]) -> Result<Vec<Finding>> {
        self.0.check(tables).await
    }
    async fn secure(&self, tables: &[TableName]) -> Result<Position> {
        self.0.secure(tables).await
    }
    async fn split(&self, chunk: &Chunk, size: ChunkSize) -> Result<Vec<Chunk>> {
        let mut chunks = self.0.split(chunk, size).await?;
        if self.1 == Lie::Hole && chunks.len() > 2 {
            chunks.remove(1);
        }
        Ok(chunks)
    }
    async fn read(
        &self,
        chunk: &Chunk,
        from: &Position,
        limits: StreamLimits,
    ) -> Result<Box<dyn ChunkReader>> {
        let nothing = Position::new("0");
        let from = if self.1 == Lie::Eager { &nothing } else { from };
        let reader = self.0.read(chunk, from, limits).await?;
        Ok(self.lie(reader))
    }
    async fn read_now(
        &self,
        chunk: &Chunk,
        from: &Position,
        limits: StreamLimits,
        gate: &dyn Gate,
    ) -> Result<Box<dyn ChunkReader>> {
        let nothing = Position::new("0");
        let from = if self.1 == Lie::Eager { &nothing } else { from };
        let reader = self.0.read_now(chunk, from, limits, gate).await?;
        Ok(self.lie(reader))
    }
    fn contains(&self, seen: &Visibility, tx: &TxId) -> Result<bool> {
        self.0.contains(seen, tx)
    }
    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool> {
        Ok(self.1 == Lie::PassedEarly || self.0.passed(at, seen)?)
    }
    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>> {
        match self.1 {
            Lie::SameLog => Ok(vec![false; seen.len()]),
            _ => self.0.of_other_log(seen).await,
        }
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
        self.0.stream(from, tables, limits).await
    }
    async fn release(&self) -> Result<()> {
        self.0.release().await
    }
}
