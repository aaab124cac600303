//! Results as JSON, and the page made of them. What is measured anew replaces what was there of the same
//! workload and pair; the rest stays, each with the commit it was measured at.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::measure::{Cost, median};
use crate::workload::ALL;

const JSON: &str = "docs/reference/performance.json";
const PAGE: &str = "docs/reference/performance.md";
const MARK: &str =
    "<!-- Made by `cargo x bench`; what stands above this line is written by hand. -->\n";

/// What one contender did in a workload, in one run of the command.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let amount = self.amount as f64;
        self.seconds = costs.iter().map(|cost| cost.seconds).collect();
        for (at, figure) in self.cpu_us.iter_mut().enumerate() {
            let of = |cost: &Cost| cost.cpu.get(at).map_or(0.0, |cpu| cpu * 1e6 / amount);
            *figure = median(&costs.iter().map(of).collect::<Vec<_>>());
        }
        self.peak_mib = costs.iter().map(|cost| cost.peak_mib).fold(0.0, f64::max);
        self.others = costs.iter().map(|cost| cost.others).fold(0.0, f64::max);
    }

    fn rate(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let amount = self.amount as f64;
        amount / median(&self.seconds)
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        if self.workload.starts_with("latency") {
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
        match self.ratios.is_empty() {
            true => line,
            false => line + "; ratio " + &self.spread(),
        }
    }

    /// The middle ratio, the lowest and the highest.
    fn spread(&self) -> String {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.ratios.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2} to {most:.2})", median(&self.ratios))
    }
}

/// What is wanted of a workload and pair: how many times the reference's rate.
const BARS: &[(u32, &str, &str, f64, f64)] = &[
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
    let mut page =
        "\n## Bars\n\nMedians of the ratios: the reference's time by ours, in the same round.\n\n\
         | # | workload | pair | bar | stretch | measured (lowest to highest) | met |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for (number, workload, pair, bar, stretch) in BARS {
        let found = all
            .iter()
            .find(|entry| entry.workload == *workload && entry.pair == *pair && !entry.durable);
        let (measured, met) = match found {
            None => ("not measured".to_owned(), ""),
            Some(entry) => {
                let ratio = median(&entry.ratios);
                let met = match (ratio >= *stretch, ratio >= *bar) {
                    (true, _) => "stretch",
                    (false, true) => "yes",
                    (false, false) => "**no**",
                };
                (entry.spread(), met)
            }
        };
        writeln!(
            page,
            "| {number} | {workload} | {pair} | {bar} | {stretch} | {measured} | {met} |"
        )?;
    }
    page.push_str(
        "\n## Figures\n\n| workload | pair | k/s | ratio | CPU µs: thalweg | source | target | peak MiB | rounds | size | disk | others | commit |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for entry in all.iter().filter(|e| !e.workload.starts_with("latency")) {
        let [server, source, target] = entry.cpu_us;
        let ratio = match entry.ratios.is_empty() {
            true => String::new(),
            false => entry.spread(),
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
    for entry in all.iter().filter(|e| e.workload.starts_with("latency")) {
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
    page.push_str("\n## Workloads\n\n");
    for (_, name, what) in ALL {
        writeln!(page, "- `{name}`: {what}.")?;
    }
    Ok(page)
}

fn disk(durable: bool) -> &'static str {
    match durable {
        true => "waits",
        false => "does not wait",
    }
}
