//! Latency at a steady rate of small transactions: from the source's answer to a commit until a reader
//! of the target sees the row.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::shell::Shell;
use crate::world::{Contender, World};

/// Between two looks at the target: a tenth of what is measured.
const LOOK: Duration = Duration::from_micros(100);
/// Seconds of transactions before the measured ones: a task that starts looks at both databases first.
const WARM: u64 = 2;
/// How long the last row may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Latency {
    pub(crate) count: u64,
    /// p50, p95 and p99, in seconds.
    pub(crate) percentiles: [f64; 3],
}

/// Commits `rate` transactions a second for 20 s (at full scale), with ids from `first` on.
pub(crate) fn measure(
    world: &World,
    contender: Contender,
    rate: u32,
    first: u64,
    scale: u64,
) -> Result<Latency> {
    let mut target = Shell::open(world.place(contender)?)?;
    let mut source = Shell::open(&world.source)?;
    world.resume(contender)?;
    let warm = WARM * u64::from(rate);
    let count = warm + u64::from(rate) * 20 * scale.min(100) / 100;
    let (sender, committed) = mpsc::channel();
    let writer = std::thread::spawn(move || -> Result<()> {
        let gap = Duration::from_secs(1) / rate;
        let start = Instant::now();
        let mut next = start;
        for id in first..first + count {
            source.ask(&format!("INSERT INTO beat VALUES ({id}, 'beat {id}');"))?;
            sender.send((id, Instant::now()))?;
            next += gap;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    });
    let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut seen = Vec::new();
    let mut open = true;
    let mut last = Instant::now();
    // Only the newest row is looked at: rows arrive in order.
    while open || !waiting.is_empty() {
        let highest = target.ask("SELECT coalesce(max(id), 0) FROM beat;")?;
        let now = Instant::now();
        let highest: u64 = highest.first().and_then(|n| n.parse().ok()).unwrap_or(0);
        loop {
            match committed.try_recv() {
                Ok(one) => {
                    last = now;
                    waiting.push_back(one);
                }
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        while let Some((id, at)) = waiting.pop_front_if(|(id, _)| *id <= highest) {
            if id >= first + warm {
                seen.push(now.saturating_duration_since(at));
            }
        }
        if last.elapsed() > PATIENCE {
            bail!("{contender:?}: no row within {PATIENCE:?}");
        }
        std::thread::sleep(LOOK);
    }
    let written = writer.join();
    written.map_err(|_| anyhow!("the writer panicked"))??;
    world.pause(contender)?;
    seen.sort();
    let at = |share: usize| {
        let index = (seen.len() * share / 100).min(seen.len().saturating_sub(1));
        seen.get(index).map_or(0.0, Duration::as_secs_f64)
    };
    Ok(Latency {
        count,
        percentiles: [at(50), at(95), at(99)],
    })
}
