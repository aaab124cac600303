//! Latency at a steady rate of small transactions: from the source's answer to a commit until a reader
//! of the target sees the row.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::shell::Shell;
use crate::world::World;

/// Commits `rate` transactions a second for `time`, and prints the latency's percentiles. The replica
/// follows afterwards, so that the compare at the end covers these rows as well.
pub(crate) fn run(world: &World, rate: u32, time: Duration) -> Result<()> {
    world.client.run_task(&world.task)?;
    world.wait_target(world.size.rounds)?;
    let mut target = Shell::postgres(&world.postgres.server)?;
    let mut source = Shell::mariadb(&world.source.server)?;
    let (sender, committed) = mpsc::channel();
    let writer = std::thread::spawn(move || -> Result<()> {
        let start = Instant::now();
        let gap = Duration::from_secs(1) / rate;
        let mut id = 0;
        while start.elapsed() < time {
            id += 1;
            source.ask(&format!(
                "INSERT INTO bench.beat VALUES ({id}, 'beat {id}');"
            ))?;
            sender.send((id, Instant::now()))?;
            let next = start + gap * id;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    });
    let mut waiting: VecDeque<(u32, Instant)> = VecDeque::new();
    let mut seen = Vec::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        let highest = target.ask("SELECT coalesce(max(id), 0) FROM beat;")?;
        let now = Instant::now();
        let highest: u32 = highest.first().and_then(|n| n.parse().ok()).unwrap_or(0);
        loop {
            match committed.try_recv() {
                Ok(one) => waiting.push_back(one),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        while let Some((_, at)) = waiting.pop_front_if(|(id, _)| *id <= highest) {
            seen.push(now.saturating_duration_since(at));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let written = writer.join();
    written.map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    seen.sort();
    let at = |share: usize| {
        let index = (seen.len() * share / 1000).min(seen.len().saturating_sub(1));
        seen.get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    println!(
        "proof: latency of {} transactions at {rate}/s, commit to visible: p50 {:.1} ms, p95 {:.1} ms, \
         p99 {:.1} ms, max {:.1} ms",
        seen.len(),
        at(500),
        at(950),
        at(990),
        at(1000)
    );
    world.replica.sql("START SLAVE")?;
    let last = seen.len();
    let mut replica = Shell::mariadb(&world.replica)?;
    while replica.ask("SELECT count(*) FROM bench.beat;")?.first() != Some(&last.to_string()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
