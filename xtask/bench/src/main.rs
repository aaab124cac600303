//! `cargo x bench`: whole runs beside a reference in the same run, with a full compare at the end.
//!
//! The source's own replication and thalweg take turns (A B A B) on the same backlog, each alone on the
//! machine: the others are stopped. Every span is measured from the outside: from the command that
//! starts a contender until its target shows the mark behind the changes.
#![allow(clippy::print_stdout, reason = "a command line talks on its output")]

mod bars;
mod beside;
mod latency;
mod many;
mod measure;
mod report;
mod rounds;
mod shell;
mod workload;
mod world;

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use thalweg_testkit::servers::System;

use crate::report::Entry;
use crate::workload::{ALL, Sized, Workload};
use crate::world::World;

const USAGE: &str =
    "usage: cargo x bench [WORKLOAD …] [--pair SOURCE:TARGET] [--rounds N] [--scale PERCENT]
                     [--durable] [--quick] [--dry]

  --pair S:T       only this pair (each mariadb or postgres) beside the source's own replication;
                   may be repeated (default: all four)
  --rounds N       rounds of every contender (default 5)
  --scale PERCENT  of the full size (default 100)
  --durable        the targets' commits wait for the disk (default: no server waits for it)
  --quick          a look within five minutes (building not counted): uniform, narrow and latency at
                   500 transactions a second, three rounds at 7 percent, not written down unless
                   workloads are named. tasks, observe and verify take longer to say anything
  --dry            does not write docs/reference/performance.{json,md}
";

/// What a look is at.
const QUICK: [Workload; 3] = [Workload::Uniform, Workload::Narrow, Workload::Latency];

struct Asked {
    workloads: Vec<Workload>,
    pairs: Vec<(System, System)>,
    rounds: u32,
    scale: u64,
    durable: bool,
    quick: bool,
    written: bool,
}

fn asked(args: &[String]) -> Result<Asked> {
    let mut asked = Asked {
        workloads: Vec::new(),
        pairs: Vec::new(),
        rounds: 5,
        scale: 100,
        durable: false,
        quick: false,
        written: true,
    };
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let mut value = || args.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--pair" => asked.pairs.push(pair(value()?)?),
            "--rounds" => asked.rounds = value()?.parse::<u32>().context("--rounds")?.clamp(1, 100),
            "--scale" => asked.scale = value()?.parse::<u64>().context("--scale")?.clamp(1, 1000),
            "--durable" => asked.durable = true,
            "--dry" => asked.written = false,
            "--quick" => {
                asked.quick = true;
                asked.rounds = 3;
                asked.scale = 7;
            }
            flag if flag.starts_with('-') => bail!("{flag} is not known\n{USAGE}"),
            name => asked.workloads.push(Workload::named(name)?),
        }
    }
    if asked.workloads.is_empty() {
        asked.written &= !asked.quick;
        asked.workloads = match asked.quick {
            true => QUICK.to_vec(),
            false => ALL.iter().map(|(workload, ..)| *workload).collect(),
        };
    }
    if asked.pairs.is_empty() {
        let both = [System::Postgres, System::MariaDb];
        asked.pairs = both
            .iter()
            .flat_map(|from| both.map(|to| (*from, to)))
            .collect();
    }
    Ok(asked)
}

fn pair(text: &str) -> Result<(System, System)> {
    let system = |name: &str| match name {
        "mariadb" => Ok(System::MariaDb),
        "postgres" => Ok(System::Postgres),
        _ => bail!("{name} is neither mariadb nor postgres"),
    };
    let (from, to) = text.split_once(':').context("--pair needs SOURCE:TARGET")?;
    Ok((system(from)?, system(to)?))
}

/// What a command prints, on one line; empty if it cannot run.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let asked = asked(args)?;
    let start = Instant::now();
    let (commit, date) = (
        said("git", &["rev-parse", "--short", "HEAD"]),
        said("date", &["-u", "+%Y-%m-%d"]),
    );
    let mut entries = Vec::new();
    for source in [System::Postgres, System::MariaDb] {
        let of_source = asked.pairs.iter().filter(|(from, _)| *from == source);
        let targets: Vec<System> = of_source.map(|(_, to)| *to).collect();
        if targets.is_empty() {
            continue;
        }
        for workload in asked.workloads.iter().copied().filter(|w| w.has(source)) {
            let sized = Sized {
                workload,
                scale: asked.scale,
                rounds: asked.rounds,
                quick: asked.quick,
            };
            println!("== {} from {source}", workload.name());
            let mut found = match workload.is_own() {
                true => beside_itself(sized, source, &targets, asked.durable)?,
                false => {
                    let mut world = World::start(source, &targets, asked.durable, true)?;
                    rounds::run(&mut world, sized)?
                }
            };
            for entry in &mut found {
                entry.durable = asked.durable;
                entry.commit.clone_from(&commit);
                entry.date.clone_from(&date);
                println!("{}", entry.line());
            }
            if asked.written {
                report::write(&found)?;
            }
            entries.append(&mut found);
        }
    }
    println!("== all");
    for entry in &entries {
        println!("proof: {}", entry.line());
    }
    println!("== the reference's time by ours: median (lowest to highest)");
    for line in report::comparisons(&entries) {
        println!("{line}");
    }
    let seconds = start.elapsed().as_secs();
    println!(
        "== {} min {} s, without building",
        seconds / 60,
        seconds % 60
    );
    Ok(())
}

/// What thalweg does beside itself, with one target after the other.
fn beside_itself(
    sized: Sized,
    source: System,
    targets: &[System],
    durable: bool,
) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for target in targets {
        let mut world = World::start(source, &[*target], durable, false)?;
        found.extend(match sized.workload {
            Workload::Tasks => many::run(&mut world, sized, *target)?,
            _ => beside::run(&mut world, sized, *target)?,
        });
    }
    Ok(found)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
