//! Results as JSON, and the page made of them. What is measured anew replaces what was there of the same
//! workload and pair; the rest stays, each with the commit it was measured at.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::bars;
use crate::measure::{Cost, median};
use crate::workload::ALL;

const JSON: &str = "docs/reference/performance.json";
const PAGE: &str = "docs/reference/performance.md";
const MARK: &str =
    "<!-- Made by `cargo x bench`; what stands above this line is written by hand. -->\n";

/// What one contender did in a workload, in one run of the command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) workload: String,
    /// `postgres:mariadb`; of the reference, `postgres:native`.
    pub(crate) pair: String,
    pub(crate) commit: String,
    pub(crate) date: String,
    /// Percent of the full size.
    pub(crate) scale: u64,
    pub(crate) durable: bool,
    /// Rows or changes of a round; for latencies, transactions.
    pub(crate) amount: u64,
    /// Of each round. For latencies, of each transaction rate: p50, p95 and p99.
    pub(crate) seconds: Vec<f64>,
    /// The reference's time by ours, of each round; empty for the reference itself.
    pub(crate) ratios: Vec<f64>,
    /// Processor time by that of the simpler run in the same round, of each round: of our server, and of
    /// all three; empty where thalweg is not compared with itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) costs: Vec<[f64; 2]>,
    /// What tasks took that had nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle: Option<Idle>,
    /// Processor microseconds a row or change of our server, the source and the target; medians.
    pub(crate) cpu_us: [f64; 3],
    /// Most resident memory of our server in any round.
    pub(crate) peak_mib: f64,
    /// Share of the machine that others used; the largest of all rounds.
    pub(crate) others: f64,
}

impl Entry {
    /// The figures of all rounds.
    pub(crate) fn fill(&mut self, costs: &[Cost]) {
        let amount = float(self.amount);
        self.seconds = costs.iter().map(|cost| cost.seconds).collect();
        for (at, figure) in self.cpu_us.iter_mut().enumerate() {
            let of = |cost: &Cost| cost.cpu.get(at).map_or(0.0, |cpu| cpu * 1e6 / amount);
            *figure = median(&costs.iter().map(of).collect::<Vec<_>>());
        }
        self.peak_mib = costs.iter().map(|cost| cost.peak_mib).fold(0.0, f64::max);
        self.others = costs.iter().map(|cost| cost.others).fold(0.0, f64::max);
    }

    fn is_latency(&self) -> bool {
        self.workload.starts_with("latency")
    }

    fn rate(&self) -> f64 {
        float(self.amount) / median(&self.seconds)
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        if self.is_latency() {
            let at = |n: usize| self.seconds.get(n).map_or(0.0, |s| s * 1e3);
            return format!(
                "{} {}: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms of {} transactions",
                self.workload,
                self.pair,
                at(0),
                at(1),
                at(2),
                self.amount
            );
        }
        let [server, source, target] = self.cpu_us;
        let line = format!(
            "{} {}: {:.1} k/s; CPU µs each: thalweg {server:.2}, source {source:.2}, target {target:.2}; peak {:.0} MiB; others {:.0} %",
            self.workload,
            self.pair,
            self.rate() / 1e3,
            self.peak_mib,
            self.others * 100.0
        );
        let mut line = line;
        if !self.ratios.is_empty() {
            line += &format!("; ratio {}", spread(&self.ratios));
        }
        if !self.costs.is_empty() {
            let [ours, all] = self.cost_spreads();
            line += &format!("; cost {ours}, of all processes {all}");
        }
        if let Some(idle) = &self.idle {
            line += &format!("; idle: {}", idle.line());
        }
        line
    }

    fn cost_spreads(&self) -> [String; 2] {
        let of = |at: usize| -> Vec<f64> {
            let costs = self.costs.iter();
            costs.filter_map(|cost| cost.get(at).copied()).collect()
        };
        [spread(&of(0)), spread(&of(1))]
    }
}

/// The middle of some figures, the lowest and the highest.
pub(crate) fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(figures))
}

/// What each of many tasks took that had nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) tasks: u64,
    /// Memory of our server, after they were started.
    pub(crate) mib: f64,
    /// The same after they had worked off backlogs.
    pub(crate) mib_after: f64,
    /// Processor milliseconds a second of our server, the source and the target.
    pub(crate) cpu_ms: [f64; 3],
}

impl Idle {
    /// Of so many more `tasks`, from what the server held and what the processes used a second without
    /// them and with them.
    pub(crate) fn between(
        (held, cpu): &(f64, [f64; 3]),
        (held_with, cpu_with): &(f64, [f64; 3]),
        tasks: u64,
    ) -> Self {
        let each = |with: f64, without: f64| (with - without) / float(tasks);
        let mut cpu_ms = *cpu_with;
        for (with, without) in cpu_ms.iter_mut().zip(cpu) {
            *with = each(*with, *without) * 1e3;
        }
        Idle {
            tasks,
            mib: each(*held_with, *held),
            mib_after: 0.0,
            cpu_ms,
        }
    }

    /// What the server held before the tasks, and holds now that they have worked.
    pub(crate) fn after(&mut self, before: f64, now: f64) {
        self.mib_after = (now - before) / float(self.tasks);
    }

    pub(crate) fn line(&self) -> String {
        let [server, source, target] = self.cpu_ms;
        let after = match self.mib_after == 0.0 {
            true => String::new(),
            false => format!(" ({:.2} after backlogs)", self.mib_after),
        };
        format!(
            "{:.2} MiB{after} each of {} tasks; CPU ms a second each: thalweg {server:.2}, source {source:.2}, target {target:.2}",
            self.mib, self.tasks
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn float(number: u64) -> f64 {
    number as f64
}

/// What was compared, line by line: the reference's time by ours; of latencies, ours beside the
/// reference's.
pub(crate) fn comparisons(entries: &[Entry]) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in entries {
        let source = entry.pair.split(':').next().unwrap_or_default();
        let native = format!("{source}:native");
        let mut reference = entries.iter();
        let reference = reference.find(|e| e.workload == entry.workload && e.pair == native);
        let what = format!("{:<12} {:<17}", entry.workload, entry.pair);
        if !entry.ratios.is_empty() {
            let cost = match entry.costs.is_empty() {
                true => String::new(),
                false => format!("; our processor time {}", entry.cost_spreads()[0]),
            };
            lines.push(format!("{what} ratio {}{cost}", spread(&entry.ratios)));
        } else if let Some(reference) = reference.filter(|_| entry.pair != native)
            && entry.is_latency()
        {
            let ms = |of: &Entry, at: usize| of.seconds.get(at).map_or(0.0, |s| s * 1e3);
            let both = |at| {
                format!(
                    "{:.2} ms, reference {:.2} ms",
                    ms(entry, at),
                    ms(reference, at)
                )
            };
            lines.push(format!("{what} p50 {}; p99 {}", both(0), both(2)));
        }
    }
    lines
}

/// Merges what was measured into the file, and makes the page anew.
pub(crate) fn write(entries: &[Entry]) -> Result<()> {
    let path = Path::new(JSON);
    let mut all: Vec<Entry> = match path.exists() {
        true => serde_json::from_str(&fs::read_to_string(path)?).context(JSON)?,
        false => Vec::new(),
    };
    for new in entries {
        all.retain(|old| {
            (&old.workload, &old.pair, old.durable) != (&new.workload, &new.pair, new.durable)
        });
        all.push(new.clone());
    }
    let place = |entry: &Entry| {
        let name = entry.workload.split('-').next().unwrap_or_default();
        let at = ALL.iter().position(|(_, known, _)| *known == name);
        (
            at,
            entry.workload.clone(),
            entry.durable,
            entry.pair.split(':').next().map(str::to_owned),
            entry.pair.split(':').nth(1) != Some("native"),
            entry.pair.clone(),
        )
    };
    all.sort_by_key(place);
    fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    let by_hand = fs::read_to_string(PAGE).unwrap_or_default();
    let by_hand = by_hand.split(MARK).next().unwrap_or_default().to_owned();
    fs::write(PAGE, by_hand + MARK + &page(&all)?)?;
    Ok(())
}

fn page(all: &[Entry]) -> Result<String> {
    let mut page = bars::table(all)?;
    page.push_str(
        "\n## Figures\n\n| workload | pair | k/s | ratio | CPU µs: thalweg | source | target | peak MiB | rounds | size | disk | others | commit |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for entry in all.iter().filter(|e| !e.is_latency()) {
        let [server, source, target] = entry.cpu_us;
        let ratio = match entry.ratios.is_empty() {
            true => String::new(),
            false => spread(&entry.ratios),
        };
        writeln!(
            page,
            "| {} | {} | {:.1} | {ratio} | {server:.2} | {source:.2} | {target:.2} | {:.0} | {} | {} % | {} | {:.0} % | {} {} |",
            entry.workload,
            entry.pair,
            entry.rate() / 1e3,
            entry.peak_mib,
            entry.seconds.len(),
            entry.scale,
            disk(entry.durable),
            entry.others * 100.0,
            entry.commit,
            entry.date
        )?;
    }
    page.push_str(
        "\n## Latency\n\n| transactions a second | pair | p50 ms | p95 ms | p99 ms | transactions | disk | commit |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for entry in all.iter().filter(|e| e.is_latency()) {
        let at = |n: usize| entry.seconds.get(n).map_or(0.0, |s| s * 1e3);
        writeln!(
            page,
            "| {} | {} | {:.2} | {:.2} | {:.2} | {} | {} | {} {} |",
            entry.workload.trim_start_matches("latency-"),
            entry.pair,
            at(0),
            at(1),
            at(2),
            entry.amount,
            disk(entry.durable),
            entry.commit,
            entry.date
        )?;
    }
    page.push_str(&beside_itself(all)?);
    page.push_str("\n## Workloads\n\n");
    for (_, name, what) in ALL {
        writeln!(page, "- `{name}`: {what}.")?;
    }
    Ok(page)
}

/// Thalweg beside thalweg: many tasks beside one, watched beside unwatched.
fn beside_itself(all: &[Entry]) -> Result<String> {
    let mut page = "\n## Beside itself\n\nProcessor time a change by that of the simpler run in the same round.\n\n\
         | workload | pair | thalweg | all processes | commit |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for entry in all.iter().filter(|entry| !entry.costs.is_empty()) {
        let [ours, all] = entry.cost_spreads();
        let (workload, pair) = (&entry.workload, &entry.pair);
        let (commit, date) = (&entry.commit, &entry.date);
        writeln!(
            page,
            "| {workload} | {pair} | {ours} | {all} | {commit} {date} |"
        )?;
    }
    page.push_str(
        "\nWhat each task takes that streams and has nothing to do:\n\n\
         | pair | tasks | MiB | MiB after backlogs | CPU ms a second: thalweg | source | target | commit |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (entry, idle) in all.iter().filter_map(|e| Some((e, e.idle.as_ref()?))) {
        let [server, source, target] = idle.cpu_ms;
        writeln!(
            page,
            "| {} | {} | {:.2} | {:.2} | {server:.2} | {source:.2} | {target:.2} | {} {} |",
            entry.pair, idle.tasks, idle.mib, idle.mib_after, entry.commit, entry.date
        )?;
    }
    Ok(page)
}

fn disk(durable: bool) -> &'static str {
    match durable {
        true => "waits",
        false => "does not wait",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_takes_is_what_many_add_to_one() {
        let (one, all) = ((30.0, [0.002, 0.0, 0.001]), (50.0, [0.102, 0.05, 0.001]));
        let mut idle = Idle::between(&one, &all, 100);
        assert!((idle.mib - 0.2).abs() < 1e-9, "{idle:?}");
        let [server, source, target] = idle.cpu_ms;
        assert!(
            (server - 1.0).abs() < 1e-9 && (source - 0.5).abs() < 1e-9,
            "{idle:?}"
        );
        assert!(target.abs() < 1e-9, "{idle:?}");
        idle.after(30.0, 80.0);
        let line = idle.line();
        assert!(
            line.starts_with("0.20 MiB (0.50 after backlogs) each of 100"),
            "{line}"
        );
    }

    #[test]
    fn all_that_is_compared_is_listed_once() {
        let entry = |workload: &str, pair: &str| Entry {
            workload: workload.to_owned(),
            pair: pair.to_owned(),
            seconds: vec![0.001, 0.002, 0.003],
            ..Entry::default()
        };
        let mut entries = [
            entry("uniform", "mariadb:native"),
            entry("uniform", "mariadb:postgres"),
            entry("latency-0500", "mariadb:native"),
            entry("latency-0500", "mariadb:postgres"),
        ];
        entries[1].ratios = vec![1.0, 1.5, 2.0];
        entries[1].costs = vec![[1.1, 3.0]];
        entries[3].seconds = vec![0.002, 0.003, 0.0045];
        let lines = comparisons(&entries);
        let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: Vec<String> = lines.iter().map(words).collect();
        assert_eq!(
            words,
            [
                "uniform mariadb:postgres ratio 1.50 (1.00 to 2.00); our processor time 1.10 (1.10 to 1.10)",
                "latency-0500 mariadb:postgres p50 2.00 ms, reference 1.00 ms; \
                 p99 4.50 ms, reference 3.00 ms",
            ]
        );
    }

    #[test]
    fn what_was_written_before_these_figures_is_read() {
        let text = r#"{"workload": "narrow", "pair": "mariadb:native", "commit": "a", "date": "b",
            "scale": 60, "durable": false, "amount": 2, "seconds": [1.0, 3.0, 2.0], "ratios": [],
            "cpu_us": [0.0, 0.0, 0.0], "peak_mib": 0.0, "others": 0.0}"#;
        let old: Entry = serde_json::from_str(text).unwrap();
        assert_eq!((old.costs.len(), old.idle), (0, None));
        let again = serde_json::to_string(&old).unwrap();
        assert!(
            !again.contains("costs") && !again.contains("idle"),
            "{again}"
        );
    }

    #[test]
    fn the_page_shows_thalweg_beside_itself() {
        let tasks = Entry {
            workload: "tasks".to_owned(),
            pair: "postgres:mariadb".to_owned(),
            costs: vec![[1.0, 9.0], [1.2, 11.0], [1.1, 10.0]],
            idle: Some(Idle {
                tasks: 100,
                mib: 0.21,
                mib_after: 0.25,
                cpu_ms: [0.5, 0.4, 0.3],
            }),
            ..Entry::default()
        };
        let page = page(&[tasks]).unwrap();
        for row in [
            "| tasks | postgres:mariadb | 1.10 (1.00 to 1.20) | 10.00 (9.00 to 11.00) |",
            "| postgres:mariadb | 100 | 0.21 | 0.25 | 0.50 | 0.40 | 0.30 |",
        ] {
            assert!(page.contains(row), "{row} is not in\n{page}");
        }
    }
}
