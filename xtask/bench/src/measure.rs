//! What a span of time cost: seconds, processor time of each process, memory, and what others used.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Clock ticks a second of Linux's process statistics (`USER_HZ`, the same on every architecture).
const TICKS: f64 = 100.0;

/// The processes of a contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processes {
    /// Ours; none for a database's own replication.
    pub(crate) server: Option<u32>,
    pub(crate) source: u32,
    pub(crate) target: u32,
}

/// A span that has begun.
pub(crate) struct Span {
    start: Instant,
    processes: Processes,
    before: [f64; 3],
    own: f64,
    machine: Machine,
}

/// What a span cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// Processor seconds of our server, the source and the target, each with all its children.
    pub(crate) cpu: [f64; 3],
    /// What our server held in memory at its most, in MiB; 0 without it.
    pub(crate) peak_mib: f64,
    /// Which share of the machine's processors others used meanwhile.
    pub(crate) others: f64,
}

impl Span {
    /// Begins, and forgets how much memory our server has held.
    pub(crate) fn begin(processes: Processes) -> Result<Self> {
        if let Some(pid) = processes.server {
            // 5: the peak of the resident set begins anew (proc_pid_clear_refs(5)).
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(Span {
            start: Instant::now(),
            processes,
            before: cpu(&processes)?,
            own: tree(std::process::id())?,
            machine: Machine::now()?,
        })
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn end(&self) -> Result<Cost> {
        let seconds = self.seconds();
        let after = cpu(&self.processes)?;
        let machine = Machine::now()?;
        let mut cost = Cost {
            seconds,
            ..Cost::default()
        };
        for ((cost, after), before) in cost.cpu.iter_mut().zip(after).zip(self.before) {
            *cost = after - before;
        }
        if let Some(pid) = self.processes.server {
            cost.peak_mib = peak_mib(pid)?;
        }
        // Every server is a child of this process.
        let own = tree(std::process::id())? - self.own;
        let total = machine.total - self.machine.total;
        let busy = machine.busy - self.machine.busy;
        cost.others = ((busy - own) / total.max(0.01)).clamp(0.0, 1.0);
        Ok(cost)
    }
}

fn cpu(processes: &Processes) -> Result<[f64; 3]> {
    Ok([
        processes.server.map_or(Ok(0.0), tree)?,
        tree(processes.source)?,
        tree(processes.target)?,
    ])
}

/// The most that a process has held since the peak was begun anew.
fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}

/// Processor seconds of a process, of its children that have ended and of those that run.
fn tree(root: u32) -> Result<f64> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // A process may end between the listing and the look.
        if let Some((pid, stat)) = pid.and_then(|pid: u32| Some((pid, stat(pid)?))) {
            found.push((pid, stat));
        }
    }
    let mut ticks = 0;
    let mut below = vec![root];
    while let Some(pid) = below.pop() {
        for (child, stat) in &found {
            if *child == pid {
                ticks += stat.ticks;
            }
            if stat.parent == pid {
                below.push(*child);
            }
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "years would fit")]
    Ok(ticks as f64 / TICKS)
}

struct Stat {
    parent: u32,
    ticks: u64,
}

/// Of `proc_pid_stat(5)`: field 4, and the sum of 14 to 17.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let times = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Stat {
        parent,
        ticks: times.sum::<Result<u64, _>>().ok()?,
    })
}

/// Processor seconds of the whole machine.
struct Machine {
    busy: f64,
    total: f64,
}

impl Machine {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let fields: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        // user nice system idle iowait irq softirq steal; guests are within user.
        let total: f64 = fields.iter().take(8).sum();
        let idle: f64 = fields.iter().skip(3).take(2).sum();
        Ok(Machine {
            busy: (total - idle) / TICKS,
            total: total / TICKS,
        })
    }
}

/// The middle of some figures; 0 of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (
        sorted.get(middle),
        middle.checked_sub(1).and_then(|at| sorted.get(at)),
    ) {
        (Some(high), Some(low)) if sorted.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (Some(only), _) => *only,
        (None, _) => 0.0,
    }
}
