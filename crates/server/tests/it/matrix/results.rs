//! What the matrix has seen, as it stands in `docs/reference/types.md`.
//!
//! `UPDATE_TYPES=1 cargo nextest run -j1 -p thalweg-server matrix` writes it anew. It is that of the gate's
//! size: at other sizes, or with one case alone, the page is left as it is and not looked at.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use thalweg_testkit::servers::{Place, System};

use crate::lab::Lab;

const BEGIN: &str = "<!-- live results: begin -->\n";
const END: &str = "<!-- live results: end -->";

/// Tables of one column for each type.
const TABLES: [&str; 2] = ["every_type", "own_types"];

/// Compares what was seen, all of it equal, with the page, or writes it there.
pub(super) fn record(lab: &Lab, cases: &[&str]) -> Result<()> {
    if std::env::var_os("THALWEG_PROVE").is_some() || std::env::var_os("CASE").is_some() {
        return Ok(());
    }
    let (from, to) = (lab.source.system(), lab.target.system());
    let made = section(lab, cases)?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/types.md");
    let page = std::fs::read_to_string(&path)?;
    let parts = page
        .split_once(BEGIN)
        .and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let (head, (results, tail)) = parts.context("the page has no marks for the results")?;
    let title = made.lines().next().unwrap_or_default();
    let mut sections: Vec<String> = results
        .split("### ")
        .skip(1)
        .map(|section| format!("### {section}"))
        .collect();
    let known = sections.iter().position(|one| one.starts_with(title));
    if std::env::var_os("UPDATE_TYPES").is_none() {
        ensure!(
            known.and_then(|at| sections.get(at)) == Some(&made),
            "docs/reference/types.md does not say what was seen from {from} to {to}; run the matrix with \
             UPDATE_TYPES=1 and -j1. Seen:\n{made}"
        );
        return Ok(());
    }
    match known.and_then(|at| sections.get_mut(at)) {
        Some(section) => *section = made,
        None => sections.push(made),
    }
    sections.sort_unstable();
    std::fs::write(
        &path,
        [head, BEGIN, "\n", &sections.concat(), END, tail].concat(),
    )?;
    Ok(())
}

/// One pair: its cases, and each type with how many values of it are the same on both sides.
fn section(lab: &Lab, cases: &[&str]) -> Result<String> {
    let (from, to) = (&lab.source, &lab.target);
    let mut out = format!("### {} to {}\n\n", name(from), name(to));
    writeln!(
        out,
        "Cases: {}. All rows of all their tables are equal.\n",
        cases.join(", ")
    )?;
    out.push_str("| type at the source | made at the target | different values | result |\n");
    out.push_str("| --- | --- | --- | --- |\n");
    for table in TABLES {
        let made = columns(to, table)?;
        for (column, native) in columns(from, table)? {
            let there = made.iter().find(|(name, _)| *name == column);
            let (_, there) = there.with_context(|| format!("{table}.{column} at the target"))?;
            let values = from.sql(&distinct(from, table, &column))?;
            let values = values.trim();
            writeln!(out, "| `{native}` | `{there}` | {values} | equal |")?;
        }
    }
    out.push('\n');
    Ok(out)
}

fn name(place: &Place) -> &'static str {
    match place.system() {
        System::MariaDb => "MariaDB",
        System::Postgres => "PostgreSQL",
    }
}

/// Names and types of a table's columns, in their order; none if there is no such table.
fn columns(place: &Place, table: &str) -> Result<Vec<(String, String)>> {
    let sql = match place.system() {
        System::MariaDb => format!(
            "SELECT concat(column_name, ' ', column_type) FROM information_schema.columns \
             WHERE table_schema = database() AND table_name = '{table}' ORDER BY ordinal_position"
        ),
        System::Postgres => format!(
            "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = to_regclass('{table}') AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ),
    };
    let told = place.sql(&sql)?;
    let column = |line: &str| {
        let (name, native) = line.split_once(' ')?;
        Some((name.to_owned(), native.replace('|', "\\|")))
    };
    Ok(told.lines().filter_map(column).collect())
}

fn distinct(place: &Place, table: &str, column: &str) -> String {
    let column = place.system().quote(column);
    match place.system() {
        System::MariaDb => format!("SELECT count(DISTINCT CAST({column} AS BINARY)) FROM {table}"),
        System::Postgres => format!("SELECT count(DISTINCT {column}::text) FROM {table}"),
    }
}
