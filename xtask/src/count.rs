//! `cargo x count`: instructions a change or a row takes in each stage of the hot path, under callgrind.
//!
//! Instructions are the same on a busy machine as on a quiet one, and from run to run. What is counted
//! is the difference between a run of so many rounds and one of twice as many, so that start and
//! preparation are not in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{setup, steps};

/// Rounds of the shorter run; the longer one has twice as many.
const ROUNDS: u64 = 2;
/// The page that has the table, and what stands around it there.
const PAGE: &str = "docs/internals/performance.md";
const BEGIN: &str = "<!-- Made by `cargo x count --write`. -->";
const END: &str = "<!-- End of what `cargo x count` made. -->";

/// A line of the table: what it is, and its instructions for a narrow and a wide row.
type Line = (String, Vec<u64>);

/// Counts, and with `--write` puts the table into its page.
pub(crate) fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let write = args.iter().any(|arg| arg == "--write");
    let wanted: Vec<&String> = args.iter().filter(|arg| *arg != "--write").collect();
    setup::run()?;
    let built = steps::release(&["thalweg-count"])?;
    let program = built.join("thalweg-count");
    let mut lines: Vec<Line> = Vec::new();
    for line in said(Command::new(&program).arg("list"))?.lines() {
        let mut words = line.split('\t');
        let mut word = || words.next().context("a stage of three words");
        let (stage, case, what) = (word()?, word()?, word()?);
        if !wanted.is_empty() && !wanted.iter().any(|wanted| stage.contains(*wanted)) {
            continue;
        }
        let count = count(&program, stage, case)?;
        println!("{count:>8}  {what}, {case}");
        match lines.iter_mut().find(|(known, _)| known == what) {
            Some((_, counts)) => counts.push(count),
            None => lines.push((what.to_owned(), vec![count])),
        }
    }
    lines.extend(sums(&lines));
    let commit = said(Command::new("git").args(["describe", "--always", "--dirty"]))?;
    let table = table(&lines, commit.trim());
    println!("{table}");
    if write {
        ensure!(wanted.is_empty(), "only a whole table is written");
        let page = fs::read_to_string(PAGE).context(PAGE)?;
        fs::write(PAGE, replaced(&page, &table)?).context(PAGE)?;
    }
    Ok(())
}

fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_owned();
    let output = command.output();
    let output = output.with_context(|| format!("cannot start {}", name.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {error}", name.display(), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Instructions of a change or a row.
fn count(program: &Path, stage: &str, case: &str) -> Result<u64> {
    let (short, items) = instructions(program, stage, case, ROUNDS)?;
    let (long, _) = instructions(program, stage, case, 2 * ROUNDS)?;
    let items = items * ROUNDS;
    ensure!(items > 0, "{stage} {case} had nothing to do");
    Ok((long.saturating_sub(short) + items / 2) / items)
}

/// Instructions of a whole run, and what a round of it had.
fn instructions(program: &Path, stage: &str, case: &str, rounds: u64) -> Result<(u64, u64)> {
    // The last run's profile stays, for callgrind_annotate.
    let name = format!("callgrind.{}.{case}.out", stage.replace(':', "-"));
    let profile = program.with_file_name(name);
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args([stage, case, &rounds.to_string()]);
    let items = said(&mut command)?;
    let text = fs::read_to_string(&profile).context("a profile of callgrind")?;
    let mut totals = text
        .lines()
        .filter_map(|line| line.strip_prefix("totals: "));
    let total = totals.next().context("a profile without a total")?;
    Ok((total.trim().parse()?, items.trim().parse()?))
}

/// All of our own work on a change, and on a row of a load, for each pair.
fn sums(lines: &[Line]) -> Vec<Line> {
    let of = |what: String| lines.iter().find(|(known, _)| *known == what);
    let systems = ["postgres", "mariadb"];
    let mut out = Vec::new();
    for (kind, decode, parts) in [
        (
            "changes",
            "decode",
            ["project FROM:TO", "fold, from FROM", "encode, to TO"].as_slice(),
        ),
        ("load", "decode", &["project FROM:TO", "encode, to TO"]),
    ] {
        for (from, to) in systems
            .iter()
            .flat_map(|from| systems.map(|to| (*from, to)))
        {
            let first = [format!("{kind}: {decode} {from}")];
            let named = |part: &&str| {
                let part = part.replace("FROM", from).replace("TO", to);
                format!("{kind}: {part}")
            };
            let stages = first.into_iter().chain(parts.iter().map(named));
            let Some(found) = stages.map(of).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let sum = |case| {
                found
                    .iter()
                    .filter_map(|(_, counts)| counts.get(case))
                    .sum()
            };
            out.push((
                format!("**{kind}: all, {from}:{to}**"),
                vec![sum(0), sum(1)],
            ));
        }
    }
    out
}

fn table(lines: &[Line], commit: &str) -> String {
    let mut out = format!("Commit {commit}.\n\n| stage | narrow | wide |\n| --- | ---: | ---: |\n");
    for (what, counts) in lines {
        let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
        out.push_str(&format!("| {what} | {} |\n", counts.join(" | ")));
    }
    out
}

/// The page with another table.
fn replaced(page: &str, table: &str) -> Result<String> {
    let marks = || {
        let (head, rest) = page.split_once(BEGIN)?;
        let (_, tail) = rest.split_once(END)?;
        Some((head, tail))
    };
    let (head, tail) = marks().context("the page has no place for the table")?;
    Ok(format!("{head}{BEGIN}\n\n{table}\n{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_where_it_stands() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replaced(&page, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&once, "new\n").unwrap(), once);
        assert!(replaced("nothing", "new").is_err());
    }

    #[test]
    fn a_pair_is_the_sum_of_its_stages() {
        let line = |what: &str, n| (what.to_owned(), vec![n, 10 * n]);
        let lines = [
            line("load: decode mariadb", 1),
            line("load: project mariadb:postgres", 2),
            line("load: encode, to postgres", 4),
        ];
        let sums = sums(&lines);
        assert_eq!(
            sums,
            [("**load: all, mariadb:postgres**".to_owned(), vec![7, 70])]
        );
    }
}
