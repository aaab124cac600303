//! Verification in random lives: while the bank goes on, rows are damaged at the target behind the
//! task's back. What is found is exactly what was damaged, and after a repair the sides are equal; what
//! the bank does meanwhile, transactions that are in the log before a snapshot sees them, and a
//! connection that breaks at any step change nothing about that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::mapping::TaskOptions;
use thalweg_core::ports::Differs;
use thalweg_engine::status::TaskStatus;
use thalweg_engine::verify::{Finding, Progress, Report, Request};
use thalweg_testkit::memory::MemoryChange;
use tokio::sync::watch;

use crate::world::{World, schemas};

/// Accounts that the bank leaves alone.
const QUIET: std::ops::Range<i64> = 1_000..1_012;

/// Rows that were damaged, by table and key.
type Damage = BTreeMap<(usize, i64), Differs>;

/// Damages rows; if `wild` also such as the bank goes on with.
fn damage(world: &World, rng: &mut SmallRng, wild: bool) -> Damage {
    let mut damage = Damage::new();
    for _ in 0..rng.random_range(0..6) {
        let table = rng.random_range(0..2);
        let name = world.plan.targets[table].name.clone();
        let key = match wild && rng.random() {
            true => rng.random_range(1..4),
            false => rng.random_range(QUIET),
        };
        let differs = match rng.random_range(0..3) {
            0 => Differs::Changed,
            1 => Differs::Missing,
            _ => Differs::Extra,
        };
        let at = match differs {
            Differs::Extra => key + 100,
            _ => key,
        };
        if damage.contains_key(&(table, at)) {
            continue;
        }
        damage.insert((table, at), differs);
        world.target.damage(&name, |rows| match differs {
            Differs::Changed => {
                // The last bit of one column.
                rows.get_mut([at].as_slice()).unwrap()[1] ^= 1;
            }
            Differs::Missing => drop(rows.remove([at].as_slice())),
            Differs::Extra => drop(rows.insert(vec![at], vec![at, 7])),
        });
    }
    damage
}

/// What a report says of rows.
fn told(world: &World, report: &Report) -> Damage {
    let mut told = Damage::new();
    for (table, of) in report.tables.iter().enumerate() {
        assert_eq!(of.target, world.plan.targets[table].name.to_string());
        for row in &of.differences {
            let key = row.key[0].1.parse().unwrap();
            told.insert((table, key), row.differs);
        }
    }
    told
}

/// Changes an account that is otherwise left alone, or one that may have been damaged into being.
fn stir(world: &World, rng: &mut SmallRng) {
    let (table, key) = (rng.random_range(0..2), rng.random_range(QUIET));
    let key = key + 100 * rng.random_range(0..2);
    let there = world.source.rows(table).contains_key([key].as_slice());
    let write = match there && rng.random() {
        true => Err(key),
        false => Ok(vec![key, rng.random_range(0..9)]),
    };
    world.source.commit(&[(table, write)]);
}

/// One random life; what is wrong with it. In a `wild` one, rows that were damaged change meanwhile.
async fn live(seed: u64) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut rows: Vec<Vec<i64>> = [1, 2, 3].map(|id| vec![id, 100]).to_vec();
    rows.extend(QUIET.map(|id| vec![id, 50]));
    let options = TaskOptions {
        chunk_rows: rng.random_range(2..40),
        ..TaskOptions::default()
    };
    let mut world = World::with(schemas("bank", &["id", "amount"]), &rows, options);
    world.limits.batch_ops = if rng.random() { 20_000 } else { 3 };
    world.source.part_changes = rng.random_range(2..40);
    let wild = seed.is_multiple_of(3);
    let mut n = 0;
    let mut wrong = None;
    let body = async {
        world.caught_up().await;
        // The target in memory commits whole states: none may be under way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let expected = damage(&world, &mut rng, wild);
        let repair = rng.random();
        if rng.random_range(0..3) == 0 {
            world.faults.stumble_at(rng.random_range(0..120));
        }
        let report = world.orders.verify(Request {
            repair,
            ..Request::default()
        });
        let report = report.unwrap();
        let mut hidden = false;
        for _ in 0..20_000 {
            if report.borrow().progress == Progress::Done {
                break;
            }
            match rng.random_range(0..6) {
                0 if !hidden => {
                    // It is in the log, and no snapshot sees it yet. Nobody else touches the row.
                    let table = rng.random_range(0..2);
                    let old = world.source.rows(table)[[2].as_slice()].clone();
                    let new = vec![2, old[1] + 1];
                    world.source.commit_unseen(vec![MemoryChange {
                        table,
                        before: Some(old),
                        after: Some(new),
                    }]);
                    hidden = true;
                }
                1 | 2 if hidden => {
                    world.source.reveal();
                    hidden = false;
                }
                // Every fourth transaction is one of all rows, the damaged ones among them.
                3 if n % 4 != 3 => {
                    world.transact(n);
                    n += 1;
                }
                3 if !wild || hidden => n += 1,
                3 => {
                    world.transact(n);
                    n += 1;
                }
                4 | 5 if wild => stir(&world, &mut rng),
                _ => {}
            }
            match rng.random_range(0..4) {
                0 => tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await,
                _ => tokio::task::yield_now().await,
            }
        }
        world.source.reveal();
        let report = report.borrow().clone();
        if report.progress != Progress::Done {
            wrong = Some(format!("it does not end: {report:?}"));
            return;
        }
        let found = told(&world, &report);
        let real = found.keys().all(|row| expected.contains_key(row));
        let right = if wild { real } else { found == expected };
        if !right {
            wrong = Some(format!("found {found:?}, damaged {expected:?}: {report:?}"));
        }
        for (table, of) in report.tables.iter().enumerate().filter(|_| !wild) {
            let damaged = expected.keys().any(|(at, _)| *at == table);
            let finding = match (damaged, repair) {
                (false, _) => Finding::Equal,
                (true, true) => Finding::Repaired,
                (true, false) => Finding::Different,
            };
            if wrong.is_none() && (of.finding != finding || of.position.is_none()) {
                wrong = Some(format!("{:?} instead of {finding:?}: {of:?}", of.finding));
            }
        }
        if repair {
            world.caught_up().await;
            if wrong.is_none() && !world.equal() {
                wrong = Some(format!(
                    "it is not equal after a repair of {expected:?}: {report:?}"
                ));
            }
        }
    };
    let (status, _) = watch::channel(TaskStatus::default());
    let source = Arc::new(world.source.clone());
    let ended = world.run_while(source, status, body).await;
    match (ended, wrong) {
        (_, Some(wrong)) => Err(wrong),
        (Err(error), None) => Err(error.chain()),
        (Ok(()), None) => Ok(()),
    }
}

#[test]
fn a_verification_finds_exactly_what_was_damaged_whatever_goes_on() {
    let (first, lives) = match std::env::var("THALWEG_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) if std::env::var_os("THALWEG_PROVE").is_some() => (0, 50_000),
        Err(_) => (0, 1_000),
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
    println!("proof: {lives} random lives were verified, and what was damaged was found");
}

/// Who asks does not wait for the slow pace of a verification that nobody asked for.
#[tokio::test(start_paused = true)]
async fn one_of_the_background_hurries_when_somebody_waits() {
    for hurries in [false, true] {
        let rows: Vec<Vec<i64>> = (1..=60).map(|id| vec![id, 100]).collect();
        let world = World::with(
            schemas("bank", &["id", "amount"]),
            &rows,
            TaskOptions::default(),
        );
        let mut took = Duration::ZERO;
        let body = async {
            world.caught_up().await;
            let slow = world.orders.verify(Request {
                rows_per_second: Some(1),
                hurries,
                ..Request::default()
            });
            let mut slow = slow.unwrap();
            let runs = slow.wait_for(|report| report.progress == Progress::Running);
            drop(runs.await.unwrap());
            let begun = tokio::time::Instant::now();
            let mut asked = world.orders.verify(Request::default()).unwrap();
            let done = asked.wait_for(|report| report.progress == Progress::Done);
            drop(done.await.unwrap());
            took = begun.elapsed();
        };
        let (status, _) = watch::channel(TaskStatus::default());
        let source = Arc::new(world.source.clone());
        world.run_while(source, status, body).await.unwrap();
        assert_eq!(took < Duration::from_secs(60), hurries, "{took:?}");
    }
}
