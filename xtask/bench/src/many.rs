//! A hundred tasks on one server, each with a table of its own, beside one task with one table: what
//! they take while nothing happens, and what a change costs.
//!
//! Tasks are stopped while a backlog is made, and each looks at both databases when it starts. That is
//! no cost of a change, so it is measured by itself, by a start with nothing to do but a mark, and taken
//! off; what is shown as seconds has it in.

use std::time::Duration;

use anyhow::{Result, ensure};
use thalweg_testkit::servers::System;

use crate::measure::{Cost, Span};
use crate::report::{Entry, Idle};
use crate::rounds;
use crate::shell::Shell;
use crate::workload::{ROWS_EACH, Sized, TASKS};
use crate::world::{Contender, World};

/// What is no longer needed is given back to the system meanwhile.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the idle are looked at.
const IDLE: Duration = Duration::from_secs(10);

/// Tasks that are loaded at once.
const AT_ONCE: usize = 10;
/// Within this time the idle tell their source how far they are.
const CONFIRM: Duration = Duration::from_secs(2);

/// Tasks that work together.
struct Crowd {
    name: &'static str,
    contender: Contender,
    /// Each with its only table.
    tasks: Vec<(String, String)>,
    /// Number of the first table.
    first: u64,
}

impl Crowd {
    /// Makes the tasks, and starts some at a time until their tables are Live.
    fn start(
        world: &mut World,
        name: &'static str,
        system: System,
        (first, many): (u64, u64),
    ) -> Result<Crowd> {
        let mut tasks = Vec::new();
        for number in first..first + many {
            let table = format!("t{number}");
            let task = world.make_task(system, std::slice::from_ref(&table))?;
            tasks.push((task, table));
        }
        for some in tasks.chunks(AT_ONCE) {
            for (task, _) in some {
                world.client.run_task(task)?;
            }
            for (task, _) in some {
                world.wait_live(task, 1)?;
            }
        }
        Ok(Crowd {
            name,
            contender: Contender::Ours(system),
            tasks,
            first,
        })
    }

    fn resume(&self, world: &World) -> Result<()> {
        for (task, _) in &self.tasks {
            world.client.run_task(task)?;
        }
        Ok(())
    }

    fn pause(&self, world: &World) -> Result<()> {
        for (task, _) in &self.tasks {
            world.client.stop_task(task)?;
        }
        for (task, _) in &self.tasks {
            world.wait_stopped(task)?;
        }
        Ok(())
    }

    /// Puts a mark behind the changes of all tables.
    fn mark(&self, world: &World, mark: u32) -> Result<()> {
        let of = |(_, table): &(String, String)| {
            format!("UPDATE {table} SET b = 'mark {mark}' WHERE id = 1; ")
        };
        let marks: String = self.tasks.iter().map(of).collect();
        let all = format!("BEGIN; {marks} COMMIT");
        world.source.sql(&all).map(drop)
    }

    /// Lets the tasks come to a mark that is put behind all changes so far; what that cost.
    fn drain(&self, world: &World, mark: u32) -> Result<Cost> {
        self.mark(world, mark)?;
        let mut shell = Shell::open(world.place(self.contender)?)?;
        let span = Span::begin(world.processes(self.contender)?)?;
        self.resume(world)?;
        for (task, table) in &self.tasks {
            let found = format!("SELECT count(*) FROM {table} WHERE id = 1 AND b = 'mark {mark}';");
            let mut looks: u32 = 0;
            world.wait("the mark at the target", || {
                looks += 1;
                if looks.is_multiple_of(200) {
                    world.status_of(task)?;
                }
                Ok(shell.ask(&found)?.first().is_some_and(|n| n == "1"))
            })?;
        }
        let cost = span.end()?;
        if world.source.system() == System::Postgres {
            // Else the next start decodes again what lies between the last such record and here.
            world.source.sql("CHECKPOINT")?;
            std::thread::sleep(CONFIRM);
        }
        self.pause(world)?;
        Ok(cost)
    }
}

/// What a crowd needed in a round.
struct Round {
    /// From the call that starts the first task to the last mark.
    whole: Cost,
    /// Processor seconds without the starts, and without what the tasks take by the second.
    cpu: [f64; 3],
}

/// Processor seconds without those of a start, and without what is taken each second of the rest, work or none.
fn without(whole: &Cost, start: &Cost, idle: [f64; 3]) -> [f64; 3] {
    let seconds = (whole.seconds - start.seconds).max(0.0);
    let mut rest = whole.cpu;
    for ((rest, start), idle) in rest.iter_mut().zip(start.cpu).zip(idle) {
        *rest = (*rest - start - idle * seconds).max(0.0);
    }
    rest
}

/// Runs the workload between the source and one target.
pub(crate) fn run(world: &mut World, sized: Sized, system: System) -> Result<Vec<Entry>> {
    sized.fill(&world.source)?;
    let contender = Contender::Ours(system);
    let one = Crowd::start(world, "one", system, (TASKS, 1))?;
    let alone = idle(world, contender)?;
    let all = Crowd::start(world, "all", system, (0, TASKS))?;
    let together = idle(world, contender)?;
    let mut found = Idle::between(&alone, &together, TASKS);
    println!("idle: {}", found.line());
    one.pause(world)?;
    all.pause(world)?;
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    let mut mark = 0;
    let mut next = || {
        mark += 1;
        mark
    };
    let mut rest = together.1;
    for (rest, alone) in rest.iter_mut().zip(alone.1) {
        *rest = (*rest - alone).max(0.0);
    }
    for round in 1..=sized.rounds {
        let turns = [(&one, &all, alone.1), (&all, &one, rest)];
        for ((crowd, other, idle), rounds) in turns.into_iter().zip(&mut rounds) {
            let start = crowd.drain(world, next())?;
            let (amount, many) = (sized.amount(), crowd.tasks.len());
            let rows = ROWS_EACH * TASKS / many as u64;
            let backlog = format!("CALL turns({amount}, {}, {many}, {rows})", crowd.first);
            world.source.sql(&backlog)?;
            let whole = crowd.drain(world, next())?;
            println!(
                "round {round}: {} {:.2} s, processor {:.2?} s; of it starts about {:.2} s, {:.2?} s",
                crowd.name, whole.seconds, whole.cpu, start.seconds, start.cpu
            );
            let cpu = without(&whole, &start, idle);
            rounds.push(Round { whole, cpu });
            // Whose log has this too, but nothing to do for it.
            other.drain(world, next())?;
        }
    }
    one.resume(world)?;
    all.resume(world)?;
    let after = idle(world, contender)?;
    found.after(alone.0, after.0);
    println!("idle after all rounds: {}", found.line());
    one.pause(world)?;
    all.pause(world)?;
    let tables = sized.tables();
    let own = tables.split_last().map_or(&[][..], |(_marker, own)| own);
    ensure!(own.len() == all.tasks.len() + 1, "a table without a task");
    world.compare(contender, own)?;
    println!(
        "{contender:?}: {} tables compared, all rows equal",
        own.len()
    );
    Ok(entries(world, sized, contender, rounds, found))
}

/// What the server holds, in MiB, and what it and the databases used a second, of the processors.
fn idle(world: &World, contender: Contender) -> Result<(f64, [f64; 3])> {
    std::thread::sleep(SETTLE);
    let span = Span::begin(world.processes(contender)?)?;
    std::thread::sleep(IDLE);
    let cost = span.end()?;
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let mib = world.thalweg.rss_bytes()?.rss as f64 / f64::from(1 << 20);
    Ok((mib, cost.cpu.map(|cpu| cpu / cost.seconds)))
}

fn entries(
    world: &World,
    sized: Sized,
    contender: Contender,
    [one, all]: [Vec<Round>; 2],
    idle: Idle,
) -> Vec<Entry> {
    let entry = |rounds: &[Round]| {
        let mut entry = rounds::entry(world, sized, contender);
        let costs: Vec<Cost> = rounds
            .iter()
            .map(|round| Cost {
                cpu: round.cpu,
                ..round.whole
            })
            .collect();
        entry.fill(&costs);
        entry
    };
    let mut single = entry(&one);
    single.workload += "-one";
    let mut many = entry(&all);
    let pairs = || one.iter().zip(&all);
    many.ratios = pairs()
        .map(|(one, all)| one.whole.seconds / all.whole.seconds)
        .collect();
    many.costs = pairs().map(|(one, all)| costs(all.cpu, one.cpu)).collect();
    many.idle = Some(idle);
    vec![single, many]
}

/// Processor time by that of another run: ours, and that of all three processes.
pub(crate) fn costs(this: [f64; 3], other: [f64; 3]) -> [f64; 2] {
    let all = |cpu: [f64; 3]| cpu.iter().sum::<f64>();
    // No less than a tick of the clock.
    let by = |this: f64, other: f64| this / other.max(0.01);
    [by(this[0], other[0]), by(all(this), all(other))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_costs_is_no_cost_of_a_change() {
        let cost = |seconds, cpu| Cost {
            seconds,
            cpu,
            ..Cost::default()
        };
        let (whole, start) = (cost(6.0, [3.0, 2.0, 0.5]), cost(2.0, [1.0, 0.5, 0.6]));
        let rest = without(&whole, &start, [0.25, 0.0, 0.0]);
        assert_eq!(rest, [1.0, 1.5, 0.0], "and nothing costs less than nothing");
        assert_eq!(costs([2.0, 1.0, 1.0], [1.0, 0.5, 0.5]), [2.0, 2.0]);
        assert_eq!(costs([3.0, 1.0, 0.0], [1.0, 1.0, 2.0]), [3.0, 1.0]);
        assert_eq!(costs([1.0, 0.0, 0.0], [0.0; 3]), [100.0; 2], "a number");
    }
}
