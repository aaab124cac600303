//! `cargo x bench`: whole runs beside a reference in the same run, with a full compare at the end.
//!
//! `backlog` measures how fast a backlog of single-row changes drains into the target, beside MariaDB's
//! own replication of the same log to a second MariaDB, alternating (A B A B), each alone on the
//! machine. On the way it prints the rate of the first load and, at the end, the latency at a steady
//! rate of small transactions.
#![allow(clippy::print_stdout, reason = "a command line talks on its output")]

mod backlog;
mod latency;
mod shell;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo x bench backlog [--changes N] [--rows N] [--rounds N] [--relaxed]

  --changes N   single-row changes a round, in transactions of ten (default 2000000)
  --rows N      rows there are before (default 1000000)
  --rounds N    rounds of both (default 2)
  --relaxed     both targets without waiting for the disk at commit (default: both wait)";

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) changes: u64,
    pub(crate) rows: u64,
    pub(crate) rounds: u32,
    pub(crate) durable: bool,
}

fn size(args: &[String]) -> Result<Size> {
    let mut size = Size {
        changes: 2_000_000,
        rows: 1_000_000,
        rounds: 2,
        durable: true,
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        if flag == "--relaxed" {
            size.durable = false;
            continue;
        }
        let value = args
            .next()
            .with_context(|| format!("{flag} needs a number"))?;
        let value: u64 = value.parse().with_context(|| format!("{flag} {value}"))?;
        match flag.as_str() {
            "--changes" => size.changes = value.max(10),
            "--rows" => size.rows = value,
            "--rounds" => size.rounds = u32::try_from(value.clamp(1, 100))?,
            _ => bail!("{flag} is not known"),
        }
    }
    if size.rows < size.changes / 5 {
        bail!("--rows has to be at least a fifth of --changes: a tenth of them is deleted a round");
    }
    Ok(size)
}

fn run(args: &[String]) -> Result<bool> {
    match args.split_first() {
        Some((name, rest)) if name == "backlog" => {
            let size = size(rest)?;
            let world = world::World::start(size)?;
            let won = backlog::run(&world)?;
            latency::run(&world, 500, Duration::from_secs(20))?;
            let equal = world.compare()?;
            Ok(won && equal)
        }
        _ => bail!("{USAGE}"),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
