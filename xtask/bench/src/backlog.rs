//! A backlog drains: thalweg and the reference take turns.

use std::time::Instant;

use anyhow::Result;

use crate::world::{World, thousands};

/// Prints each time and the median ratio; whether it is at least one.
pub(crate) fn run(world: &World) -> Result<bool> {
    let changes = world.size.changes;
    let mut ratios = Vec::new();
    for round in 1..=world.size.rounds {
        let start = Instant::now();
        world.change(round)?;
        println!(
            "round {round}: {changes} changes made at the source in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        let start = Instant::now();
        world.client.run_task(&world.task)?;
        world.wait_target(round)?;
        let ours = start.elapsed().as_secs_f64();
        let memory = world.thalweg.rss_bytes()?;
        world.stop_task()?;
        println!(
            "round {round}: A {ours:.1} s, {} changes/s, memory at most {} MiB",
            thousands(changes, ours),
            memory.peak >> 20
        );
        let start = Instant::now();
        world.replica.sql("START SLAVE")?;
        world.wait_replica(round)?;
        let theirs = start.elapsed().as_secs_f64();
        world.replica.sql("STOP SLAVE")?;
        let ratio = theirs / ours;
        println!(
            "round {round}: B {theirs:.1} s, {} changes/s; ratio {ratio:.2}",
            thousands(changes, theirs)
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    let median = match (ratios.get(middle), ratios.get(middle.saturating_sub(1))) {
        (Some(high), Some(low)) if ratios.len().is_multiple_of(2) => f64::midpoint(*high, *low),
        (Some(only), _) => *only,
        _ => 0.0,
    };
    println!(
        "proof: median ratio {median:.2} (reference time / our time; at least 1.00 is wanted)"
    );
    Ok(median >= 1.0)
}
