//! One transaction far larger than the memory we may use, and a load of the same rows.

use std::time::Instant;

use anyhow::{Result, ensure};
use thalweg_testkit::servers::System;

use crate::lab::Lab;

/// Rows at gate size.
const GATE: u64 = 100_000;
/// Rows of the full proof.
const FULL: u64 = 2_000_000;
/// What the server may hold at its peak.
const PEAK_BYTES: u64 = 256 << 20;

const MARIADB: &str = "CREATE TABLE big (id INT PRIMARY KEY, name VARCHAR(100) NOT NULL, \
    amount DECIMAL(12,2) NOT NULL, at DATETIME(6) NOT NULL, note TEXT); \
    INSERT INTO big SELECT seq, concat('name of ', seq, repeat('x', seq % 40)), seq / 7, \
    '2024-02-29 01:02:03.456789' + INTERVAL seq SECOND, repeat('y', seq % 60) FROM seq_1_to_{rows}";

const POSTGRES: &str = "CREATE TABLE big (id integer PRIMARY KEY, name varchar(100) NOT NULL, \
    amount numeric(12,2) NOT NULL, at timestamp(6) NOT NULL, note text); \
    INSERT INTO big SELECT n, concat('name of ', n, repeat('x', n % 40)), n / 7.0, \
    timestamp '2024-02-29 01:02:03.456789' + n * interval '1 second', repeat('y', n % 60) \
    FROM generate_series(1, {rows}) n";

pairs!(a_transaction_of_any_size_fits_into_the_memory);

fn a_transaction_of_any_size_fits_into_the_memory(from: System, to: System) {
    let full = std::env::var_os("THALWEG_PROVE").is_some();
    run(from, to, if full { FULL } else { GATE }).unwrap();
}

fn run(from: System, to: System, rows: u64) -> Result<()> {
    let lab = Lab::between(from, to, |source| {
        let fill = match from {
            System::MariaDb => MARIADB,
            System::Postgres => POSTGRES,
        };
        let fill = fill.replace("{rows}", &rows.to_string());
        source.sql(&fill).map(drop)
    })?;
    let task = lab.task("huge", &["big"])?;
    let started = Instant::now();
    lab.client.run_task(&task)?;
    lab.wait(&task, "Live", |status| status.live(1))?;
    let loaded = lab.thalweg.rss_bytes()?.peak >> 20;
    let load = started.elapsed().as_secs_f64();

    let change = "UPDATE big SET amount = amount + 1, name = concat('!', name), note = upper(note)";
    lab.source.sql(change)?;
    let started = Instant::now();
    let status = lab.wait(&task, "the UPDATE at the target", |status| {
        status.sum("updates").is_ok_and(|updates| updates >= rows)
    })?;
    let memory = lab.thalweg.rss_bytes()?;
    println!(
        "proof: {from} to {to}: load of {rows} rows {load:.1} s, peak {loaded} MiB; one UPDATE of all of them in one \
         transaction {:.1} s after its commit, peak {} MiB",
        started.elapsed().as_secs_f64(),
        memory.peak >> 20
    );
    ensure!(status.sum("updates")? == rows, "{}", status.0);
    ensure!(
        memory.peak < PEAK_BYTES,
        "{} MiB at the peak",
        memory.peak >> 20
    );
    let names = (lab.source.table("big"), lab.target.table("big"));
    let report = lab.judge().compare(&names.0, &names.1)?;
    println!("proof: {report}");
    ensure!(report.equal() && report.source_rows == rows, "{report}");
    Ok(())
}
