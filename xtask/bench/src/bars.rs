//! What is wanted of the figures, and whether it is met.

use std::fmt::Write as _;

use anyhow::Result;

use crate::measure::median;
use crate::report::{Entry, spread};

/// What is looked at in the results of a workload and pair.
#[derive(Clone, Copy, Debug)]
enum Figure {
    /// How many times the reference's rate; the only one of which more is better.
    Times,
    /// Processor microseconds of our server a change.
    Cpu,
    /// The most that our server held in memory, in MiB.
    Peak,
    /// A percentile above the reference's, in milliseconds: its place, and its name.
    Above(usize, &'static str),
    /// Processor time of our server a change by that of another workload.
    CpuOf(&'static str),
    /// The same by that of the simpler run in the same round.
    Cost,
    /// Memory of a task that has nothing to do, in MiB.
    Idle,
}

/// One thing that is wanted.
struct Bar {
    number: u32,
    workload: &'static str,
    pair: &'static str,
    figure: Figure,
    bar: f64,
    stretch: Option<f64>,
}

const TIMES: &[(u32, &str, &str, f64, f64)] = &[
    (1, "uniform", "postgres:postgres", 1.3, 1.5),
    (2, "zipf", "postgres:postgres", 2.5, 4.0),
    (3, "uniform", "mariadb:mariadb", 2.5, 4.0),
    (4, "uniform", "mariadb:postgres", 2.5, 3.0),
    (5, "uniform", "postgres:mariadb", 1.0, 1.3),
    (6, "narrow", "postgres:postgres", 1.1, 1.3),
    (6, "wide", "postgres:postgres", 1.2, 1.4),
    (7, "narrow", "mariadb:mariadb", 2.0, 2.7),
    (7, "narrow", "mariadb:postgres", 2.5, 3.8),
    (8, "huge", "postgres:postgres", 1.2, 1.5),
    (8, "huge", "mariadb:mariadb", 0.6, 1.0),
];

/// Number, workload, figure, bar and stretch.
type Wanted = (u32, &'static str, Figure, f64, Option<f64>);

/// Of every pair.
const EACH: &[Wanted] = &[
    (9, "latency-0500", Figure::Above(0, "p50"), 0.5, Some(0.0)),
    (9, "latency-0500", Figure::Above(2, "p99"), 2.0, Some(0.0)),
    (10, "uniform", Figure::Cpu, 1.5, Some(0.8)),
    (10, "uniform", Figure::Peak, 64.0, None),
    (11, "tables", Figure::CpuOf("single"), 1.3, Some(1.1)),
    (11, "tasks", Figure::Cost, 1.3, Some(1.1)),
    (11, "tasks", Figure::Idle, 1.0, None),
    (12, "observe", Figure::Times, 0.97, None),
    (12, "observe", Figure::Cost, 1.03, None),
    // Of the issue of verification.
    (13, "verify", Figure::Times, 0.95, None),
];
const PAIRS: [&str; 4] = [
    "postgres:postgres",
    "postgres:mariadb",
    "mariadb:mariadb",
    "mariadb:postgres",
];

fn all() -> Vec<Bar> {
    let mut all: Vec<Bar> = TIMES
        .iter()
        .map(|(number, workload, pair, bar, stretch)| Bar {
            number: *number,
            workload,
            pair,
            figure: Figure::Times,
            bar: *bar,
            stretch: Some(*stretch),
        })
        .collect();
    for (number, workload, figure, bar, stretch) in EACH {
        all.extend(PAIRS.map(|pair| Bar {
            number: *number,
            workload,
            pair,
            figure: *figure,
            bar: *bar,
            stretch: *stretch,
        }));
    }
    all
}

impl Figure {
    fn name(self) -> String {
        match self {
            Figure::Times => "times the reference".to_owned(),
            Figure::Cpu => "CPU µs a change".to_owned(),
            Figure::Peak => "most MiB".to_owned(),
            Figure::Above(_, name) => format!("{name} above the reference, ms"),
            Figure::CpuOf(other) => format!("CPU by that of `{other}`"),
            Figure::Cost => "CPU by that of the simpler run".to_owned(),
            Figure::Idle => "MiB of an idle task".to_owned(),
        }
    }

    /// The figure that counts, and all there is to show.
    fn of(self, entry: &Entry, all: &[Entry]) -> Option<(f64, String)> {
        let beside = |workload: &str, pair: &str| {
            let mut all = all.iter();
            all.find(|e| e.workload == workload && e.pair == pair && e.durable == entry.durable)
        };
        let plain = |figure: f64| (figure, format!("{figure:.2}"));
        Some(match self {
            Figure::Times => (median(&entry.ratios), spread(&entry.ratios)),
            Figure::Cpu => plain(entry.cpu_us[0]),
            Figure::Peak => (entry.peak_mib, format!("{:.0}", entry.peak_mib)),
            Figure::Above(place, _) => {
                let (source, _) = entry.pair.split_once(':')?;
                let reference = beside(&entry.workload, &format!("{source}:native"))?;
                let (ours, theirs) = (entry.seconds.get(place)?, reference.seconds.get(place)?);
                plain((ours - theirs) * 1e3)
            }
            Figure::CpuOf(other) => plain(entry.cpu_us[0] / beside(other, &entry.pair)?.cpu_us[0]),
            Figure::Cost => {
                let ours: Vec<f64> = entry.costs.iter().map(|[ours, _]| *ours).collect();
                (median(&ours), spread(&ours))
            }
            Figure::Idle => plain(entry.idle.as_ref()?.mib),
        })
    }

    fn meets(self, figure: f64, bar: f64) -> bool {
        match self {
            Figure::Times => figure >= bar,
            _ => figure <= bar,
        }
    }
}

/// The table of all bars.
pub(crate) fn table(entries: &[Entry]) -> Result<String> {
    let mut out = "\n## Bars\n\nOf several rounds the median (and the lowest to the highest).\n\n\
         | # | workload | pair | figure | bar | stretch | measured | met |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for bar in all() {
        let mut found = entries.iter();
        let found = found.find(|e| e.workload == bar.workload && e.pair == bar.pair && !e.durable);
        let found = found.and_then(|entry| bar.figure.of(entry, entries));
        let (measured, met) = match found {
            None => ("not measured".to_owned(), ""),
            Some((figure, text)) => (text, bar.verdict(figure)),
        };
        let number = |stretch: Option<f64>| stretch.map_or(String::new(), |to| to.to_string());
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {measured} | {met} |",
            bar.number,
            bar.workload,
            bar.pair,
            bar.figure.name(),
            bar.bar,
            number(bar.stretch),
        )?;
    }
    Ok(out)
}

impl Bar {
    fn verdict(&self, figure: f64) -> &'static str {
        let meets = |bar| self.figure.meets(figure, bar);
        match self.stretch {
            Some(stretch) if meets(stretch) => "stretch",
            _ if meets(self.bar) => "yes",
            _ => "**no**",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Idle;

    fn entry(workload: &str, pair: &str) -> Entry {
        Entry {
            workload: workload.to_owned(),
            pair: pair.to_owned(),
            ..Entry::default()
        }
    }

    fn row(entries: &[Entry], begins: &str) -> String {
        let table = table(entries).unwrap();
        let mut lines = table.lines().filter(|line| line.starts_with(begins));
        let found = lines.next().unwrap().to_owned();
        assert_eq!(lines.next(), None, "one row");
        found
    }

    #[test]
    fn more_times_the_reference_and_less_of_everything_else() {
        let mut entries = vec![entry("uniform", "postgres:postgres")];
        for (times, met) in [(1.2, "**no**"), (1.3, "yes"), (1.6, "stretch")] {
            entries[0].ratios = vec![0.1, times, 9.0];
            let row = row(&entries, "| 1 |");
            assert!(row.ends_with(&format!("| {met} |")), "{row}");
            assert!(
                row.contains(&format!("| {times:.2} (0.10 to 9.00) |")),
                "{row}"
            );
        }
        for (mib, met) in [(64.0, "yes"), (65.0, "**no**")] {
            entries[0].peak_mib = mib;
            let row = row(&entries, "| 10 | uniform | postgres:postgres | most");
            assert!(row.ends_with(&format!("| {mib:.0} | {met} |")), "{row}");
        }
    }

    #[test]
    fn a_figure_is_compared_with_what_is_beside_it() {
        let mut tables = entry("tables", "mariadb:mariadb");
        tables.cpu_us = [3.0, 0.0, 0.0];
        let begins = "| 11 | tables | mariadb:mariadb |";
        let alone = row(std::slice::from_ref(&tables), begins);
        assert!(alone.contains("not measured"), "{alone}");
        let mut single = entry("single", "mariadb:mariadb");
        single.cpu_us = [2.5, 0.0, 0.0];
        let mut other = entry("single", "mariadb:postgres");
        other.cpu_us = [9.0, 0.0, 0.0];
        let both = row(&[other, single, tables], begins);
        assert!(both.ends_with("| 1.3 | 1.1 | 1.20 | yes |"), "{both}");

        let mut ours = entry("latency-0500", "postgres:mariadb");
        ours.seconds = vec![0.0005, 0.001, 0.0031];
        let mut native = entry("latency-0500", "postgres:native");
        native.seconds = vec![0.0003, 0.001, 0.001];
        let latencies = [ours, native];
        let p99 = row(&latencies, "| 9 | latency-0500 | postgres:mariadb | p99");
        assert!(p99.ends_with("| 2 | 0 | 2.10 | **no** |"), "{p99}");
    }

    #[test]
    fn an_idle_task_and_a_cost_have_to_be_low() {
        let mut tasks = entry("tasks", "postgres:postgres");
        tasks.costs = vec![[1.2, 8.0]];
        tasks.idle = Some(Idle {
            mib: 1.01,
            ..Idle::default()
        });
        let entries = [tasks];
        let cost = row(&entries, "| 11 | tasks | postgres:postgres | CPU");
        assert!(cost.ends_with("| 1.20 (1.20 to 1.20) | yes |"), "{cost}");
        let idle = row(&entries, "| 11 | tasks | postgres:postgres | MiB");
        assert!(idle.ends_with("| 1.01 | **no** |"), "{idle}");
    }
}
