//! The soak: all pairs at once, each with its own servers and its own `thalweg`, under load and with a
//! fault of the table every few seconds; in the end every row is compared.
//!
//! `SEED=n` repeats the faults of a run. Two minutes, or twenty with `THALWEG_PROVE=1`.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_testkit::servers::System;

use super::table::{Ends, Fault, Phase, faults};
use super::world::World;

/// Between the end of one fault and the next, at most.
const PAUSE: Duration = Duration::from_secs(4);

#[test]
fn all_pairs_survive_random_faults() {
    let full = std::env::var_os("THALWEG_PROVE").is_some();
    let time = Duration::from_secs(if full { 1_200 } else { 120 });
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    println!("soak: SEED={seed}, {} s", time.as_secs());
    let pairs = System::ALL.map(|from| System::ALL.map(|to| [from, to]));
    let outcomes: Vec<([System; 2], Result<String>)> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..)
            .zip(pairs.as_flattened())
            .map(|(number, pair)| (*pair, scope.spawn(move || soak(*pair, seed ^ number, time))))
            .collect();
        runs.into_iter()
            .map(|(pair, run)| (pair, run.join().unwrap()))
            .collect()
    });
    for ([from, to], outcome) in &outcomes {
        match outcome {
            Ok(said) => println!("proof: soak {from} to {to}: SEED={seed} {said}"),
            Err(error) => println!("soak {from} to {to} FAILS: {error:#}"),
        }
    }
    assert!(
        outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        "SEED={seed}"
    );
}

/// What happened to one pair.
fn soak(pair: [System; 2], seed: u64, time: Duration) -> Result<String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let fits =
        |fault: &&Fault| matches!(fault.ends, Ends::GoesOn) && fault.has(Phase::Stream, pair);
    let some: Vec<&Fault> = faults().filter(fits).collect();
    let mut world = World::start(pair)?;
    let until = Instant::now() + time;
    let mut struck = Vec::new();
    let run = |world: &mut World, struck: &mut Vec<&str>, random: &mut SmallRng| -> Result<u64> {
        while Instant::now() < until {
            world.stream()?;
            let Some(fault) = some.get(random.random_range(0..some.len())) else {
                break;
            };
            struck.push(fault.name);
            (fault.strike)(&world.site())?;
            std::thread::sleep(PAUSE.mul_f64(random.random()));
        }
        world.stream()?;
        world.equal()
    };
    let outcome = run(&mut world, &mut struck, &mut random);
    // The reason first: of a long message the end is what gets lost.
    let rows =
        outcome.map_err(|error| anyhow!("{error:#}\nafter {struck:?}\n{}", world.lab.logs()))?;
    Ok(format!(
        "{} faults in {} s; {rows} rows compared: 0 lost, 0 extra, 0 different; {} sums of the bank seen, each right",
        struck.len(),
        time.as_secs(),
        world.sums()
    ))
}
