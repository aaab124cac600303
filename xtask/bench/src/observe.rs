//! What it costs to be watched: the same backlogs with and without a scraper.
//!
//! Watched means `/metrics`, the monitors of all tasks and the status of the task each second, as a
//! Prometheus and an open console ask for them. What has no switch stays on in both: the probes, the
//! counters, the record of the execution in the catalogue and the log at level info.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use thalweg_testkit::client::{Client, Credentials};
use thalweg_testkit::servers::System;

use crate::many::costs;
use crate::measure::Cost;
use crate::report::Entry;
use crate::rounds;
use crate::workload::Sized;
use crate::world::{Contender, World};

/// Between two scrapes.
const EVERY: Duration = Duration::from_secs(1);

/// Asks each second until `ended` says that it is enough; how often it did.
fn scrape(client: &Client, task: &str, ended: &mpsc::Receiver<()>) -> Result<u32> {
    let open = client.with(Credentials::None);
    let mut scrapes = 0;
    loop {
        let metrics = open.get("/metrics", &[])?;
        ensure!(metrics.status == 200, "/metrics answers {}", metrics.status);
        client.get(&client.fdi("/task-monitors"), &[])?.ok()?;
        client.monitor_logs(task)?;
        client.status(task)?;
        scrapes += 1;
        match ended.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(scrapes),
        }
    }
}

/// Drains a backlog while somebody watches.
fn watched(world: &World, system: System, mark: u32) -> Result<Cost> {
    let (end, ended) = mpsc::channel();
    let client = world.client.clone();
    let task = world.task(system)?.to_owned();
    let scraper = std::thread::spawn(move || scrape(&client, &task, &ended));
    let cost = rounds::drain(world, Contender::Ours(system), mark);
    drop(end);
    let scrapes = scraper.join();
    let scrapes = scrapes.map_err(|_| anyhow!("the scraper panicked"))??;
    let cost = cost?;
    println!("{scrapes} scrapes");
    Ok(cost)
}

/// Whether somebody watches in a round's first backlog, and in its second: a database that grows slower
/// with each is not to be held against either.
fn turns(round: u32) -> [bool; 2] {
    let first = round.is_multiple_of(2);
    [first, !first]
}

/// Runs the workload between the source and one target.
pub(crate) fn run(world: &mut World, sized: Sized, system: System) -> Result<Vec<Entry>> {
    sized.fill(&world.source)?;
    let contender = Contender::Ours(system);
    let tables = sized.tables();
    world.load(contender, &tables)?;
    let mut with = Vec::new();
    let mut without = Vec::new();
    let mut mark = 0;
    for round in 1..=sized.rounds {
        for on in turns(round) {
            mark += 1;
            sized.change(&world.source, mark)?;
            world.mark(mark)?;
            let cost = match on {
                true => watched(world, system, mark)?,
                false => rounds::drain(world, contender, mark)?,
            };
            println!("round {round}: watched {on}: {:.2} s", cost.seconds);
            match on {
                true => with.push(cost),
                false => without.push(cost),
            }
        }
    }
    world.compare(contender, &tables)?;
    println!(
        "{contender:?}: {} tables compared, all rows equal",
        tables.len()
    );
    let mut off = rounds::entry(world, sized, contender);
    off.workload += "-off";
    off.fill(&without);
    let mut on = rounds::entry(world, sized, contender);
    on.fill(&with);
    let pairs = || without.iter().zip(&with);
    on.ratios = pairs().map(|(off, on)| off.seconds / on.seconds).collect();
    on.costs = pairs().map(|(off, on)| costs(on.cpu, off.cpu)).collect();
    Ok(vec![off, on])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_first_in_turn() {
        let all: Vec<bool> = (1..=4).flat_map(turns).collect();
        assert_eq!(
            all,
            [false, true, true, false, false, true, true, false],
            "as often first as second"
        );
    }
}
