//! What it costs to be watched, and to be verified: the same backlogs with and without.
//!
//! *Watched* means `/metrics`, the monitors of all tasks and the status of the task each second, as a
//! Prometheus and an open console ask for them. What has no switch stays on in both: the probes, the
//! counters, the record of the execution in the catalogue and the log at level info. *Verified* means the
//! task's own verification by its option, from its start on; *verified at full speed* one verification
//! after the other without a budget.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use thalweg_testkit::client::{Client, Credentials};
use thalweg_testkit::servers::System;

use crate::many::costs;
use crate::measure::Cost;
use crate::report::Entry;
use crate::rounds;
use crate::workload::{Sized, Workload};
use crate::world::{Contender, World};

/// Between two scrapes.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether a verification has ended.
const LOOK: Duration = Duration::from_millis(100);
/// Rows a second of the budget.
const BUDGET: u64 = 10_000;

/// What is done beside the drain.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Burden {
    Nothing,
    Watched,
    /// At so many rows a second; `None`: as many as can be.
    Verified(Option<u64>),
}

impl Burden {
    /// Those that are measured in a workload, the simple one first, with what is added to its name.
    fn of(workload: Workload) -> &'static [(Burden, &'static str)] {
        match workload {
            Workload::Verify => &[
                (Burden::Nothing, "-off"),
                (Burden::Verified(Some(BUDGET)), ""),
                (Burden::Verified(None), "-full"),
            ],
            _ => &[(Burden::Nothing, "-off"), (Burden::Watched, "")],
        }
    }

    /// Does it until `ended` says that it is enough; what was done.
    fn bear(self, client: &Client, task: &str, ended: &mpsc::Receiver<()>) -> Result<String> {
        match self {
            Burden::Watched => scrape(client, task, ended),
            Burden::Verified(None) => verify(client, task, ended),
            Burden::Verified(Some(_)) => own(client, task, ended),
            Burden::Nothing => Ok(String::new()),
        }
    }
}

/// Whether it is enough; waits so long for that.
fn enough(ended: &mpsc::Receiver<()>, wait: Duration) -> bool {
    !matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
}

/// Asks each second.
fn scrape(client: &Client, task: &str, ended: &mpsc::Receiver<()>) -> Result<String> {
    let open = client.with(Credentials::None);
    let mut scrapes = 0;
    loop {
        let metrics = open.get("/metrics", &[])?;
        ensure!(metrics.status == 200, "/metrics answers {}", metrics.status);
        client.get(&client.fdi("/task-monitors"), &[])?.ok()?;
        client.monitor_logs(task)?;
        client.status(task)?;
        scrapes += 1;
        if enough(ended, EVERY) {
            return Ok(format!("{scrapes} scrapes"));
        }
    }
}

/// Has the task verified again and again.
fn verify(client: &Client, task: &str, ended: &mpsc::Receiver<()>) -> Result<String> {
    let path = client.native(&format!("/tasks/{task}/verifications"));
    let mut asked = 0;
    while !enough(ended, LOOK) {
        // Before it runs, and while another waits, it is refused.
        if client.post(&path, &[], Some(&json!({})))?.status != 202 {
            continue;
        }
        asked += 1;
        loop {
            let list = client.get(&path, &[("limit", "1")])?.ok()?;
            let newest = list.pointer("/verifications/0").context("none is listed")?;
            ensure!(newest["result"] != "different", "a false alarm: {newest}");
            if newest["state"] == "done" || newest["state"] == "ended" {
                break;
            }
            if enough(ended, LOOK) {
                return Ok(format!("{asked} verifications, the last not at its end"));
            }
        }
    }
    Ok(format!("{asked} verifications"))
}

/// Drains a backlog under a burden.
fn drain(world: &World, system: System, mark: u32, burden: Burden) -> Result<Cost> {
    let contender = Contender::Ours(system);
    let (end, ended) = mpsc::channel();
    let client = world.client.clone();
    let task = world.task(system)?.to_owned();
    let budget = match burden {
        Burden::Verified(budget) => budget,
        _ => None,
    };
    client.set_options(&task, &json!({ "verify_rows_per_second": budget }))?;
    let bearer = std::thread::spawn(move || burden.bear(&client, &task, &ended));
    let cost = rounds::drain(world, contender, mark);
    drop(end);
    let done = bearer.join();
    let done = done.map_err(|_| anyhow!("what is done beside it panicked"))??;
    let cost = cost?;
    println!("{burden:?}: {:.2} s; {done}", cost.seconds);
    Ok(cost)
}

/// Looks now and then whether the task's own verification goes on; an error if it was not seen to.
fn own(client: &Client, task: &str, ended: &mpsc::Receiver<()>) -> Result<String> {
    let path = client.native(&format!("/tasks/{task}/verifications"));
    let (mut looks, mut running) = (0, 0);
    while !enough(ended, EVERY / 2) {
        let list = client.get(&path, &[("limit", "1")])?.ok()?;
        let newest = list.pointer("/verifications/0").context("none is listed")?;
        ensure!(newest["result"] != "different", "a false alarm: {newest}");
        looks += 1;
        // What is shown of its progress is some seconds old.
        let goes_on = newest["asked_by"] == "background" && newest["ended_ms"].is_null();
        running += u32::from(goes_on);
    }
    ensure!(running > 0, "no verification was seen in {looks} looks");
    Ok(format!("verifying at {running} of {looks} looks"))
}

/// In which order a round's backlogs are drained: a database that grows slower with each is not to be held
/// against the same one always.
fn turns(round: u32, burdens: usize) -> impl Iterator<Item = usize> {
    let first = round as usize % burdens;
    (0..burdens).map(move |at| (first + at) % burdens)
}

/// Runs the workload between the source and one target.
pub(crate) fn run(world: &mut World, sized: Sized, system: System) -> Result<Vec<Entry>> {
    sized.fill(&world.source)?;
    let contender = Contender::Ours(system);
    let tables = sized.tables();
    world.load(contender, &tables)?;
    let burdens = Burden::of(sized.workload);
    let mut found: Vec<Vec<Cost>> = vec![Vec::new(); burdens.len()];
    let mut mark = 0;
    for round in 1..=sized.rounds {
        println!("round {round}");
        for turn in turns(round, burdens.len()) {
            let (Some((burden, _)), Some(found)) = (burdens.get(turn), found.get_mut(turn)) else {
                continue;
            };
            mark += 1;
            sized.change(&world.source, mark)?;
            world.mark(mark)?;
            found.push(drain(world, system, mark, *burden)?);
        }
    }
    world.compare(contender, &tables)?;
    println!(
        "{contender:?}: {} tables compared, all rows equal",
        tables.len()
    );
    let simple = found.first().cloned().unwrap_or_default();
    let mut entries = Vec::new();
    for ((burden, suffix), with) in burdens.iter().zip(&found) {
        let mut entry = rounds::entry(world, sized, contender);
        entry.workload += suffix;
        entry.fill(with);
        if *burden != Burden::Nothing {
            let pairs = || simple.iter().zip(with);
            entry.ratios = pairs().map(|(off, on)| off.seconds / on.seconds).collect();
            entry.costs = pairs().map(|(off, on)| costs(on.cpu, off.cpu)).collect();
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_first_in_turn() {
        let of = |burdens| -> Vec<Vec<usize>> {
            (1..=u32::try_from(burdens).unwrap())
                .map(|round| turns(round, burdens).collect())
                .collect()
        };
        assert_eq!(of(2), [[1, 0], [0, 1]]);
        assert_eq!(of(3), [[1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }
}
