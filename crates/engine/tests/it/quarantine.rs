//! Quarantine in random lives: one table of the target takes no large values, and rows come, change,
//! move, go and are truncated at the source all the while, from before the load on. What cannot be
//! written waits, with all that comes after it; everything else arrives; what is released is as at the source;
//! and a connection that breaks at any step changes nothing about that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::mapping::{OnBadRow, TaskOptions};
use thalweg_core::quarantine::Held;
use thalweg_core::value::{CellRef, decode_raw};
use thalweg_engine::quarantine::{Settled, Way, groups};
use thalweg_engine::status::TaskStatus;
use thalweg_engine::verify::{Progress, Request};
use thalweg_testkit::memory::{MemoryChange, Row};
use tokio::sync::watch;

use crate::world::{World, schemas};

/// The first table takes values below this.
const BELOW: i64 = 80;
/// Keys are below this.
const KEYS: i64 = 12;

/// A random change of a table that has these rows by their keys, which it does to them.
fn change(rng: &mut SmallRng, table: usize, rows: &mut Vec<Row>) -> Option<MemoryChange> {
    let at = rng.random_range(0..KEYS);
    let there = rows.iter().position(|row| row[0] == at);
    let value = rng.random_range(0..100);
    let (before, after) = match (there, rng.random_range(0..8)) {
        (None, _) => (None, Some(vec![at, value])),
        (Some(index), 0 | 1) => (Some(rows.remove(index)), None),
        (Some(index), 2) => {
            // Under another key.
            let to = rng.random_range(0..KEYS);
            if rows.iter().any(|row| row[0] == to) {
                return None;
            }
            let old = rows.remove(index);
            let kept = if rng.random() { old[1] } else { value };
            (Some(old), Some(vec![to, kept]))
        }
        (Some(index), _) => (Some(rows.remove(index)), Some(vec![at, value])),
    };
    rows.extend(after.clone());
    Some(MemoryChange {
        table,
        before,
        after,
    })
}

/// A random transaction.
fn transact(world: &World, rng: &mut SmallRng) {
    let tables = [0, 1].map(|table| world.source.rows(table).into_values().collect());
    let mut tables: [Vec<Row>; 2] = tables;
    let mut changes = Vec::new();
    if rng.random_range(0..40) == 0 {
        changes.push(MemoryChange {
            table: 0,
            before: None,
            after: None,
        });
        tables[0].clear();
    }
    for _ in 0..rng.random_range(1..8) {
        let table = usize::from(rng.random_range(0..3) == 0);
        changes.extend(change(rng, table, &mut tables[table]));
    }
    if !changes.is_empty() {
        world.source.commit_changes(changes);
    }
}

/// The keys of the first table that wait.
fn waiting(held: &[Held]) -> BTreeSet<i64> {
    let keys = held
        .iter()
        .flat_map(|held| [Some(&held.key), held.moved.as_ref()]);
    // Eight bytes say of which key it is.
    let number = |key: &Vec<u8>| match decode_raw(&key[8..]) {
        Some(CellRef::I64(number)) => number,
        other => panic!("{other:?}"),
    };
    keys.flatten().map(number).collect()
}

/// What is wrong with what is there, once all of the log is applied; rows of `stale` keys may be.
fn wrong(world: &World, stale: &BTreeSet<i64>) -> Result<(), String> {
    let now = world.target.now();
    let held: Vec<Held> = now.held().values().cloned().collect();
    for group in groups(&held) {
        if group.iter().all(|at| held[*at].error.is_none()) {
            return Err(format!("changes wait behind none: {group:?} of {held:?}"));
        }
    }
    let waits = waiting(&held);
    for (table, target) in world.plan.targets.iter().enumerate() {
        let (source, target) = (world.source.rows(table), now.tables()[&target.name].clone());
        for key in 0..KEYS {
            let at = vec![key];
            let (there, here) = (source.get(&at), target.get(&at));
            let settled = table == 1 || !waits.contains(&key) && !stale.contains(&key);
            if settled && there != here {
                return Err(format!("{table}/{key}: {there:?} is {here:?}; {held:?}"));
            }
        }
    }
    Ok(())
}

async fn all_applied(world: &World) -> Result<(), String> {
    for _ in 0..6_000 {
        let now = world.target.now();
        if now.live && now.applied() == Some(&world.source.position()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!(
        "it does not catch up: {:?}",
        world.target.now().applied()
    ))
}

/// Whether the status comes to say how many changes wait.
async fn is_told(world: &World, status: &watch::Receiver<TaskStatus>) -> Result<(), String> {
    let told = || {
        let tables = &status.borrow().tables;
        tables.iter().map(|table| table.quarantined).sum::<u64>()
    };
    for _ in 0..100 {
        if told() == world.target.now().held().len() as u64 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let held = world.target.now().held().len();
    Err(format!("{held} changes wait, {} are told of", told()))
}

/// Asks until it is answered: a connection may break meanwhile.
async fn ask(world: &World, way: Way, rows: Option<Vec<i64>>) -> Result<Settled, String> {
    for _ in 0..100 {
        let answer = world
            .quarantine
            .ask(way, rows.clone())
            .ok_or("too many wait")?;
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        if let Ok(Ok(settled)) = answer {
            return Ok(settled);
        }
    }
    Err("it is never answered".to_owned())
}

/// Something a user does while all goes on.
async fn intervene(
    world: &World,
    rng: &mut SmallRng,
    stale: &mut BTreeSet<i64>,
) -> Result<(), String> {
    let held: Vec<Held> = world.target.now().held().values().cloned().collect();
    if rng.random() {
        ask(world, Way::Release, None).await?;
        return Ok(());
    }
    let groups = groups(&held);
    if groups.is_empty() {
        return Ok(());
    }
    let group = &groups[rng.random_range(0..groups.len())];
    let first = held[group[0]].number;
    let way = if rng.random() {
        Way::Release
    } else {
        Way::Discard
    };
    if way == Way::Discard {
        // Keys may have joined the group meanwhile, or been given up.
        stale.extend(0..KEYS);
        world.target.damage(&world.plan.targets[0].name, |_| {});
    }
    ask(world, way, Some(vec![first])).await?;
    Ok(())
}

async fn play(
    world: &World,
    rng: &mut SmallRng,
    status: &watch::Receiver<TaskStatus>,
) -> Result<(), String> {
    let mut stale = BTreeSet::new();
    for _ in 0..rng.random_range(1..60) {
        match rng.random_range(0..12) {
            0 => intervene(world, rng, &mut stale).await?,
            1 => world.faults.stumble_at(rng.random_range(0..60)),
            2 | 3 => tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await,
            4 => tokio::task::yield_now().await,
            _ => transact(world, rng),
        }
    }
    world.faults.revive();
    all_applied(world).await?;
    is_told(world, status).await?;
    wrong(world, &stale)?;
    // Nothing has changed at the target: who is still bad stays, the others are as at the source.
    let settled = ask(world, Way::Release, None).await?;
    wrong(world, &stale)?;
    let held: Vec<Held> = world.target.now().held().values().cloned().collect();
    if settled.refused.len() != groups(&held).len() {
        return Err(format!("{settled:?} is told of {held:?}"));
    }
    let waits = waiting(&held);
    for row in world.source.rows(0).into_values() {
        if row[1] >= BELOW && !waits.contains(&row[0]) && !stale.contains(&row[0]) {
            return Err(format!("{row:?} is nowhere"));
        }
    }
    // The cause is gone.
    world.target.limit(&world.plan.targets[0].name, 1, None);
    let settled = ask(world, Way::Release, None).await?;
    let left = world.target.now().held().len();
    if !settled.refused.is_empty() || left > 0 {
        return Err(format!("{settled:?}, {left} are left"));
    }
    if !stale.is_empty() {
        let repair = Request {
            repair: true,
            ..Request::default()
        };
        let mut report = world.orders.verify(repair).ok_or("too many wait")?;
        let done = report.wait_for(|report| report.progress == Progress::Done);
        drop(done.await.map_err(|error| error.to_string())?);
    }
    all_applied(world).await?;
    match world.equal() {
        true => Ok(()),
        false => Err("it is not equal after all was released".to_owned()),
    }
}

/// One random life; what is wrong with it.
async fn live(seed: u64) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let rows: Vec<Vec<i64>> = (0..rng.random_range(0..KEYS))
        .map(|id| vec![id, rng.random_range(0..100)])
        .collect();
    let options = TaskOptions {
        chunk_rows: rng.random_range(2..40),
        on_bad_row: OnBadRow::Quarantine,
        ..TaskOptions::default()
    };
    let mut world = World::with(schemas("bank", &["id", "amount"]), &rows, options);
    world.limits.batch_ops = [20_000, 3, 40][rng.random_range(0..3)];
    world.source.part_changes = rng.random_range(2..20);
    world.source.one_snapshot = rng.random();
    let table = world.plan.targets[0].name.clone();
    world.target.limit(&table, 1, Some(BELOW));
    let mut ended = Ok(());
    let (status, told) = watch::channel(TaskStatus::default());
    let body = async { ended = play(&world, &mut rng, &told).await };
    let source = Arc::new(world.source.clone());
    let run = world.run_while(source, status, body).await;
    ended.and(run.map_err(|error| error.chain()))
}

#[test]
fn what_is_refused_waits_and_nothing_else_does() {
    let (first, lives) = match std::env::var("THALWEG_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) if std::env::var_os("THALWEG_PROVE").is_some() => (0, 50_000),
        Err(_) => (0, 1_500),
    };
    for seed in first..first + lives {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let ended = runtime.block_on(live(seed));
        assert_eq!(ended, Ok(()), "THALWEG_SEED={seed}");
    }
    println!("proof: {lives} random lives with rows that were refused, released and discarded");
}
