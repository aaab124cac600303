//! Values that the target column does not take, by each policy, loaded and followed, through the API.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use thalweg_testkit::servers::System;

use crate::lab::{Lab, PATIENCE};

/// A column, a value as the source writes it that does not fit, and what is nearest to it as the
/// target prints it.
type Unfit = (&'static str, &'static str, &'static str);

const COLUMNS: [&str; 4] = ["n", "d", "at", "t"];
const FITS: &str = "7, '2024-02-29', '2024-02-29 01:02:03.456789', 'text'";
const SHOWN: &str = "7\t2024-02-29\t2024-02-29 01:02:03.456789\ttext";

fn unfit(from: System, to: System) -> Vec<Unfit> {
    let mut cases = vec![("n", "70001", "32767"), ("n", "-70001", "-32768")];
    cases.extend(match (from, to) {
        (System::MariaDb, System::Postgres) => vec![
            ("d", "'0000-00-00'", "null"),
            ("d", "'2021-00-07'", "2021-01-07"),
            ("at", "'2021-02-00 01:02:03'", "2021-02-01 01:02:03"),
            ("t", "concat('a', char(0), 'b')", "ab"),
        ],
        (System::Postgres, System::MariaDb) => vec![
            ("d", "'infinity'", "null"),
            ("d", "'12000-01-02'", "9999-12-31"),
            (
                "at",
                "'0044-03-15 01:02:03 BC'",
                "0000-01-01 00:00:00.000000",
            ),
            ("t", "'a b  '", "a b"),
        ],
        (System::MariaDb, System::MariaDb) => vec![("t", "'a b  '", "a b")],
        (System::Postgres, System::Postgres) => Vec::new(),
    });
    cases
}

pairs!(values_that_do_not_fit_follow_the_policy);

fn values_that_do_not_fit_follow_the_policy(from: System, to: System) {
    run(from, to).unwrap();
}

/// Tables `u_…` with a key and `k_…` without one, for each policy.
fn tables(system: System, int: &str, text: &str) -> String {
    let (at, whole) = match system {
        System::MariaDb => ("DATETIME(6)", ""),
        System::Postgres => ("timestamp(6)", "ALTER TABLE {k} REPLICA IDENTITY FULL;"),
    };
    let mut sql = String::new();
    for policy in ["stop", "null", "nearest"] {
        let k = format!("k_{policy}");
        sql += &format!(
            "CREATE TABLE u_{policy} (id INT PRIMARY KEY, n {int}, d DATE, at {at}, t {text}); \
             CREATE TABLE {k} (n {int}); {}",
            whole.replace("{k}", &k)
        );
    }
    sql
}

fn run(from: System, to: System) -> Result<()> {
    let cases = unfit(from, to);
    let lab = Lab::between(from, to, |source| {
        source.sql(&tables(from, "INT", "VARCHAR(40)"))?;
        for policy in ["stop", "null", "nearest"] {
            source.sql(&format!(
                "INSERT INTO u_{policy} VALUES (0, {FITS}), (999, {FITS}); \
                 INSERT INTO k_{policy} VALUES (1), (70001), (70001)"
            ))?;
            insert(source, policy, 1, &cases)?;
        }
        Ok(())
    })?;
    let text = match to {
        System::MariaDb => "CHAR(40)",
        System::Postgres => "VARCHAR(40)",
    };
    lab.target.sql(&tables(to, "SMALLINT", text))?;
    if to == System::Postgres {
        let writer = &lab.accounts[1].user;
        lab.target.sql(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {writer}"
        ))?;
    }
    stops(&lab)?;
    for policy in ["null", "nearest"] {
        changes(&lab, policy, &cases).with_context(|| format!("{policy}\n{}", lab.logs()))?;
    }
    Ok(())
}

/// A row for each case, each with one value that does not fit.
fn insert(
    source: &thalweg_testkit::servers::Place,
    policy: &str,
    first: usize,
    cases: &[Unfit],
) -> Result<()> {
    for (id, (column, value, _)) in (first..).zip(cases) {
        source.sql(&format!("INSERT INTO u_{policy} VALUES ({id}, {FITS})"))?;
        set(source, policy, id, column, value)?;
    }
    Ok(())
}

fn set(
    source: &thalweg_testkit::servers::Place,
    policy: &str,
    id: usize,
    column: &str,
    value: &str,
) -> Result<()> {
    // Zero dates and days that do not exist.
    let mode = match source.system() {
        System::MariaDb => "SET sql_mode = 'ALLOW_INVALID_DATES'; ",
        System::Postgres => "",
    };
    let sql = format!("{mode}UPDATE u_{policy} SET {column} = {value} WHERE id = {id}");
    source.sql(&sql).map(drop)
}

/// Without a choice the task stops, and says where and why and how to go on, but not what.
fn stops(lab: &Lab) -> Result<()> {
    let task = lab.task("stop", &["u_stop"])?;
    lab.client.run_task(&task)?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        let status = lab.client.status(&task)?;
        if status["phase"] == "Failed" {
            break status.to_string();
        }
        ensure!(Instant::now() < until, "it does not stop: {status}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    for part in [
        "column ",
        "u_stop",
        "key id",
        "unfit_values to null or nearest",
    ] {
        ensure!(status.contains(part), "{part}: {status}");
    }
    ensure!(!status.contains("70001"), "{status}");
    let refused = lab
        .client
        .set_options(&task, &json!({"unfit_values": "zero"}));
    ensure!(refused.is_err(), "an unknown policy");
    Ok(())
}

fn changes(lab: &Lab, policy: &str, cases: &[Unfit]) -> Result<()> {
    let names = [format!("u_{policy}"), format!("k_{policy}")];
    let task = lab.task(policy, &names)?;
    let options = lab
        .client
        .set_options(&task, &json!({"unfit_values": policy}))?;
    ensure!(options["unfit_values"] == policy, "{options}");
    lab.client.run_task(&task)?;
    lab.wait(&task, "Live", |status| status.live(2))?;
    let fits = |id: usize| format!("{id}\t{SHOWN}");
    let shown = |id: usize, (column, _, nearest): &Unfit| {
        let near = if policy == "null" { "null" } else { nearest };
        let parts = SHOWN.split('\t').zip(COLUMNS);
        let parts = parts.map(|(fits, name)| if name == *column { near } else { fits });
        format!("{id}\t{}", parts.collect::<Vec<_>>().join("\t"))
    };
    let mut expected = vec![fits(0)];
    expected.extend((1..).zip(cases).map(|(id, case)| shown(id, case)));
    expected.push(fits(999));
    arrives(lab, &task, policy, &expected)?;
    let low = if policy == "null" { "null" } else { "32767" };
    keyless(lab, &task, policy, &["1", low, low])?;

    // The same values as changes: rows that come, change to and from such values, and go.
    insert(&lab.source, policy, 101, cases)?;
    lab.source
        .sql(&format!("INSERT INTO u_{policy} VALUES (50, {FITS})"))?;
    set(&lab.source, policy, 999, cases[0].0, cases[0].1)?;
    for (id, (column, ..)) in (1..).zip(cases) {
        let fitting = FITS
            .split(", ")
            .zip(COLUMNS)
            .find(|(_, name)| name == column);
        set(
            &lab.source,
            policy,
            id,
            column,
            fitting.context("a column")?.0,
        )?;
    }
    lab.source
        .sql(&format!("DELETE FROM u_{policy} WHERE id = 102"))?;
    lab.source.sql(&match lab.source.system() {
        System::MariaDb => format!("DELETE FROM k_{policy} WHERE n = 70001 LIMIT 1"),
        System::Postgres => format!(
            "DELETE FROM k_{policy} WHERE ctid = (SELECT min(ctid) FROM k_{policy} WHERE n = 70001)"
        ),
    })?;
    let mut expected = vec![fits(0)];
    expected.extend((1..).zip(cases).map(|(id, _)| fits(id)));
    expected.push(fits(50));
    let came = (101..).zip(cases).filter(|(id, _)| *id != 102);
    expected.extend(came.map(|(id, case)| shown(id, case)));
    expected.push(shown(999, &cases[0]));
    arrives(lab, &task, policy, &expected)?;
    keyless(lab, &task, policy, &["1", low])?;
    counted(lab, &task, cases)?;
    let log = lab.thalweg.log_tail();
    ensure!(!log.contains("70001"), "{log}");
    lab.client.stop_task(&task)
}

/// Each column that had such values is told with a reason and a number.
fn counted(lab: &Lab, task: &str, cases: &[Unfit]) -> Result<()> {
    let status = lab.status(task)?.0;
    let tables = status["tables"].as_array().context("tables")?;
    let changed: Vec<&Value> = tables
        .iter()
        .filter_map(|table| table["changed_values"].as_array())
        .flatten()
        .collect();
    for (column, ..) in cases {
        let told = |c: &&&Value| c["column"] == *column && c["values"].as_u64() > Some(0);
        ensure!(changed.iter().any(|c| told(&c)), "{column}: {status}");
    }
    // Two rows with such a number were loaded, two came, one became such.
    let numbers = changed.iter().filter(|c| c["column"] == "n");
    let numbers: u64 = numbers.filter_map(|c| c["values"].as_u64()).sum();
    ensure!(numbers >= 5 + 2, "{status}");
    ensure!(!status.to_string().contains("70001"), "{status}");
    Ok(())
}

fn arrives(lab: &Lab, task: &str, policy: &str, expected: &[String]) -> Result<()> {
    let columns = COLUMNS
        .map(|name| text_of(lab.target.system(), name))
        .join(", ");
    let query = format!("SELECT id, {columns} FROM u_{policy} ORDER BY id");
    shows(lab, task, &query, &expected.join("\n"))
}

fn keyless(lab: &Lab, task: &str, policy: &str, expected: &[&str]) -> Result<()> {
    let n = text_of(lab.target.system(), "n");
    let query = format!("SELECT {n} FROM k_{policy} ORDER BY 1");
    shows(lab, task, &query, &expected.join("\n"))
}

fn text_of(system: System, column: &str) -> String {
    match system {
        System::MariaDb => format!("coalesce(cast({column} AS CHAR), 'null')"),
        System::Postgres => format!("coalesce({column}::text, 'null')"),
    }
}

/// Waits until the target answers a query as expected.
fn shows(lab: &Lab, task: &str, query: &str, expected: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        lab.status(task)?;
        let got = lab.target.sql(query)?;
        if got.trim_end() == expected {
            return Ok(());
        }
        ensure!(Instant::now() < until, "expected\n{expected}\ngot\n{got}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
