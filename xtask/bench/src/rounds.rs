//! The contenders take turns.

use anyhow::Result;
use thalweg_testkit::servers::System;

use crate::latency;
use crate::measure::{Cost, Span};
use crate::report::Entry;
use crate::workload::{Sized, Workload};
use crate::world::{Contender, World};

/// Runs a workload, and compares what every contender has made of it.
pub(crate) fn run(world: &mut World, sized: Sized) -> Result<Vec<Entry>> {
    sized.fill(&world.source)?;
    let tables = sized.tables();
    if sized.workload == Workload::Latency {
        return latencies(world, sized, &tables);
    }
    let contenders = world.contenders.clone();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
    if sized.workload.is_load() {
        for round in 1..=sized.rounds {
            for (contender, costs) in contenders.iter().zip(&mut costs) {
                if round > 1 {
                    world.forget(*contender, &tables)?;
                }
                costs.push(world.load(*contender, &tables)?);
                said(*contender, round, costs);
            }
        }
    } else {
        for contender in &contenders {
            world.load(*contender, &tables)?;
        }
        for round in 1..=sized.rounds {
            sized.change(&world.source, round)?;
            world.mark(round)?;
            for (contender, costs) in contenders.iter().zip(&mut costs) {
                costs.push(drain(world, *contender, round)?);
                said(*contender, round, costs);
            }
        }
    }
    for contender in &contenders {
        world.compare(*contender, &tables)?;
        println!(
            "{contender:?}: {} tables compared, all rows equal",
            tables.len()
        );
    }
    let reference = costs.first().cloned().unwrap_or_default();
    let mut entries = Vec::new();
    for (contender, costs) in contenders.iter().zip(&costs) {
        let mut entry = entry(world, sized, *contender);
        entry.fill(costs);
        if *contender != Contender::Native {
            let pairs = reference.iter().zip(costs);
            entry.ratios = pairs
                .map(|(theirs, ours)| theirs.seconds / ours.seconds)
                .collect();
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn said(contender: Contender, round: u32, costs: &[Cost]) {
    if let Some(cost) = costs.last() {
        println!("round {round}: {contender:?} {:.2} s", cost.seconds);
    }
}

pub(crate) fn drain(world: &World, contender: Contender, mark: u32) -> Result<Cost> {
    let span = Span::begin(world.processes(contender)?)?;
    world.resume(contender)?;
    world.wait_mark(contender, mark)?;
    let cost = span.end()?;
    world.pause(contender)?;
    Ok(cost)
}

fn latencies(world: &mut World, sized: Sized, tables: &[String]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut first = 1;
    let contenders = world.contenders.clone();
    for contender in &contenders {
        world.load(*contender, tables)?;
    }
    for rate in sized.rates() {
        for contender in &contenders {
            let span = Span::begin(world.processes(*contender)?)?;
            let found = latency::measure(world, *contender, *rate, first, sized.scale)?;
            let cost = span.end()?;
            let mut entry = entry(world, sized, *contender);
            entry.amount = found.count;
            entry.fill(&[cost]);
            entry.seconds = found.percentiles.to_vec();
            entry.workload = format!("latency-{rate:04}");
            println!("{}", entry.line());
            first += found.count;
            entries.push(entry);
        }
    }
    world.mark(1)?;
    for contender in &contenders {
        world.resume(*contender)?;
        world.wait_mark(*contender, 1)?;
        world.compare(*contender, tables)?;
        world.pause(*contender)?;
    }
    Ok(entries)
}

pub(crate) fn entry(world: &World, sized: Sized, contender: Contender) -> Entry {
    let word = |system: System| match system {
        System::MariaDb => "mariadb",
        System::Postgres => "postgres",
    };
    let target = match contender {
        Contender::Native => "native",
        Contender::Ours(system) => word(system),
    };
    Entry {
        workload: sized.workload.name().to_owned(),
        pair: format!("{}:{target}", word(world.source.system())),
        scale: sized.scale,
        amount: sized.amount(),
        ..Entry::default()
    }
}
