//! The fault matrix: one fault after the other between two real databases and the built server, each while
//! tables are loaded and while changes stream, and all rows compared after each.
//!
//! A fault either goes over by itself, or stops the task with a state that says what is wrong; then somebody
//! does what the message asks for, and the task goes on. Meanwhile transactions go on at the source, which
//! move money, and a reader at the target counts it: once the tables are Live no other sum is ever seen.
//!
//! `FAULTS=word` runs only what has the word in its name, `THALWEG_PROVE=1` everything; else those of the
//! gate. `UPDATE_FAULTS=1` makes `docs/internals/faults.md` anew from the table.

mod site;
mod soak;
mod source;
mod table;
mod target;
mod world;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use thalweg_testkit::servers::System;

use table::{Ends, Fault, Phase, faults};
use world::World;

pairs!(
    every_fault_goes_over_or_says_what_to_do,
    #[ignore = "the gate has no time for all pairs: make prove faults"]
);

fn every_fault_goes_over_or_says_what_to_do(from: System, to: System) {
    let full = std::env::var_os("THALWEG_PROVE").is_some();
    let word = std::env::var("FAULTS").ok();
    let only = std::env::var("FAULTS_PHASE").ok();
    let pair = [from, to];
    let chosen: Vec<(&Fault, Phase)> = faults()
        .flat_map(|fault| Phase::ALL.map(|phase| (fault, phase)))
        .filter(|(_, phase)| only.as_ref().is_none_or(|only| phase.to_string() == *only))
        .filter(|(fault, phase)| fault.has(*phase, pair))
        .filter(|(fault, phase)| match &word {
            Some(word) => fault.name.contains(word.as_str()),
            None => full || fault.gate.contains(&(pair, *phase)),
        })
        .collect();
    let begin = Instant::now();
    let mut world = World::start(pair).unwrap();
    let mut failed = Vec::new();
    for (fault, phase) in &chosen {
        let since = Instant::now();
        let outcome = cell(&mut world, fault, *phase);
        let time = since.elapsed().as_secs_f64();
        let said = match &outcome {
            Ok(said) => said.clone(),
            Err(error) => format!("FAILS: {error:#}"),
        };
        println!(
            "{from} to {to}: {phase}: {}: {said}; {time:.1} s",
            fault.name
        );
        if outcome.is_err() {
            println!("{}", world.lab.logs());
            failed.push(format!("{phase}: {}: {said}", fault.name));
            // The next fault finds a task that is well.
            world.anew().unwrap();
        }
    }
    let count = chosen.len();
    assert!(
        failed.is_empty(),
        "{} of {count} cells fail from {from} to {to}:\n{}",
        failed.len(),
        failed.join("\n")
    );
    println!(
        "proof: faults {from} to {to}: {count} cells, after each all rows compared: 0 lost, 0 extra, 0 \
         different; {} sums of the bank seen, each right; {:.0} s",
        world.sums(),
        begin.elapsed().as_secs_f64()
    );
}

/// One fault in one phase; what came of it.
fn cell(world: &mut World, fault: &Fault, phase: Phase) -> Result<String> {
    let mut under_way = None;
    match phase {
        Phase::Load => world.load_slowly()?,
        Phase::Stream => world.stream()?,
        Phase::Ddl => world.alter()?,
        Phase::Quarantine => world.quarantine()?,
        Phase::Verify => {
            world.stream()?;
            under_way = Some(world.verify_slowly()?);
        }
    }
    (fault.strike)(&world.site()).context("strike")?;
    let said = match fault.ends {
        Ends::GoesOn => "goes on".to_owned(),
        Ends::Stops(..) if phase == Phase::Quarantine && fault.bad_rows => {
            world.waits_in_quarantine()?;
            (fault.mend)(&world.site()).context("mend")?;
            "goes on, its rows wait".to_owned()
        }
        Ends::Waits(says) => {
            let said = world.waits(says)?;
            (fault.mend)(&world.site()).context("mend")?;
            format!("waits ({said})")
        }
        Ends::Pauses(says) => {
            let reason = world.pauses(says)?;
            (fault.mend)(&world.site()).context("mend")?;
            world.resume()?;
            format!("pauses its table ({reason})")
        }
        Ends::Stops(says, again) => {
            let message = world.fails()?;
            (fault.mend)(&world.site()).context("mend")?;
            if !message.contains(says) || !message.contains("Fix:") {
                bail!("it stops, but does not say {says:?} and how to fix it: {message}");
            }
            world.again(again)?;
            format!("stops: {message}")
        }
    };
    let said = match phase {
        Phase::Quarantine => format!("{said}; {} rows released", world.release()?),
        _ => said,
    };
    if let Some(verification) = &under_way {
        world.verified(verification, &fault.ends)?;
    }
    let rows = world.equal()?;
    Ok(format!("{said}; {rows} rows equal"))
}

/// The page that people read, from the table.
fn page() -> String {
    let mut page = String::from(
        "# Faults\n\n\
         Each fault is brought about on real servers, between each pair of them: while tables are loaded,\n\
         while changes stream, while columns of a table of the source come and go (ddl), while rows go into\n\
         quarantine, and while the tables are verified, with transactions going on at the source.\n\
         Afterwards all rows of all tables are compared: none lost, none extra, none different; nobody has seen\n\
         half a transaction; and a verification that the fault met has raised no false alarm and did not hang.\n\
         `make prove faults` runs them all and `make test` some (marked •, from MariaDB); results are in [proofs](proofs.md).\n\
         `FAULTS=word cargo test -p thalweg-server --test it faults -- --nocapture` runs those of a name, and\n\
         `FAULTS_PHASE=verify` those of a phase.\n\n\
         Made from `crates/server/tests/it/faults/table.rs` by `UPDATE_FAULTS=1`.\n\n\
         | fault | load | stream | ddl | quarantine | verify | pairs | then |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let pairs: Vec<[System; 2]> = System::ALL
        .iter()
        .flat_map(|from| System::ALL.map(|to| [*from, to]))
        .collect();
    let mut cells = 0;
    for fault in faults() {
        let runs = |phase: Phase| pairs.iter().filter(|pair| fault.has(phase, **pair)).count();
        let column = |phase: Phase| {
            let gate = match fault.gate.iter().any(|(_, other)| *other == phase) {
                true => " •",
                false => "",
            };
            match (runs(phase), fault.not) {
                (0, Some((other, why))) if other == phase => format!("no: {why}"),
                (0, _) => "no".to_owned(),
                (count, _) => format!("{count}{gate}"),
            }
        };
        cells += Phase::ALL.map(runs).iter().sum::<usize>();
        let which = match (fault.source, fault.target) {
            (None, None) => "all".to_owned(),
            (from, to) => {
                let name = |side: Option<System>| side.map_or("any".to_owned(), |s| s.to_string());
                format!("{} to {}", name(from), name(to))
            }
        };
        let then = match fault.ends {
            Ends::GoesOn => "goes on by itself".to_owned(),
            Ends::Waits(_) => "waits and says why; goes on by itself when it is over".to_owned(),
            Ends::Pauses(says) => format!(
                "pauses the table, says “{says}” and the fix; the others go on; resumed, it is loaded anew"
            ),
            Ends::Stops(says, again) => format!("stops, says “{says}” and the fix; {again}"),
        };
        let then = match fault.bad_rows {
            true => format!("{then}; with quarantine the rows wait"),
            false => then,
        };
        let columns = Phase::ALL.map(column).join(" | ");
        writeln!(page, "| {} | {columns} | {which} | {then} |", fault.name).unwrap();
    }
    let count = faults().count();
    write!(page, "\n{count} faults, {cells} cells.\n").unwrap();
    page
}

#[test]
fn the_page_is_of_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/internals/faults.md");
    let page = page();
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, page, "make it anew: UPDATE_FAULTS=1");
}
