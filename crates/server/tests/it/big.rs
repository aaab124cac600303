//! Single values far larger than a batch: loaded, inserted, changed and deleted, and what memory that
//! takes.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use thalweg_testkit::servers::{Place, System};

use crate::lab::Lab;

/// Bytes of a value at gate size and in the full proof.
const GATE: u64 = 16 << 20;
const FULL: u64 = 300 << 20;
/// The memory budget of the server's tasks together.
const BUDGET: u64 = 192 << 20;
/// What the server takes besides, with nothing to do.
const SELF: u64 = 32 << 20;
/// How often a value may lie in memory at a time. Three times is what is promised, and what a task
/// between two PostgreSQL keeps to; a MariaDB source with whole images in its log was measured at
/// eight, a MariaDB target at four. This number may only shrink.
const COPIES: u64 = 10;

pairs!(a_large_value_arrives_within_a_known_memory);

fn a_large_value_arrives_within_a_known_memory(from: System, to: System) {
    let full = std::env::var_os("THALWEG_PROVE").is_some();
    run(from, to, if full { FULL } else { GATE }).unwrap();
}

/// Octets of every kind that a target's literals have to take care of.
fn octets(system: System, bytes: u64) -> String {
    let times = bytes / 4;
    match system {
        System::MariaDb => format!("repeat(x'00ff275c', {times})"),
        System::Postgres => format!("decode(repeat('00ff275c', {times}), 'hex')"),
    }
}

fn packets(place: &Place) -> Result<()> {
    match place.system() {
        System::MariaDb => place
            .sql("SET GLOBAL max_allowed_packet = 1073741824")
            .map(drop),
        System::Postgres => Ok(()),
    }
}

fn run(from: System, to: System, bytes: u64) -> Result<()> {
    let lab = Lab::between(from, to, |source| {
        packets(source)?;
        let (octets_type, text_type) = match from {
            System::MariaDb => ("LONGBLOB", "LONGTEXT"),
            System::Postgres => ("bytea", "text"),
        };
        source.sql(&format!(
            "CREATE TABLE big (id INT PRIMARY KEY, b {octets_type}, t {text_type})"
        ))?;
        let octets = octets(from, bytes);
        let load = format!("INSERT INTO big VALUES (1, {octets}, 'one'), (2, NULL, 'two')");
        source.sql(&load).map(drop)
    })?;
    packets(&lab.target)?;
    let task = lab.task("big", &["big"])?;
    let limit = json!({"row_bytes_max": bytes + bytes / 8});
    lab.client.set_options(&task, &limit)?;
    let started = Instant::now();
    lab.client.run_task(&task)?;
    lab.wait(&task, "Live", |status| status.live(1))?;
    same(&lab)?;
    let loaded = lab.thalweg.rss_bytes()?.peak >> 20;
    let load = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let octets = octets(from, bytes);
    for (n, change) in [
        format!("INSERT INTO big VALUES (3, {octets}, NULL)"),
        format!(
            "UPDATE big SET t = repeat('it''s', {}) WHERE id = 2",
            bytes / 4
        ),
        "UPDATE big SET t = 'three' WHERE id = 3".to_owned(),
        "DELETE FROM big WHERE id = 1".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        lab.source.sql(change)?;
        lab.wait(&task, "a change at the target", |status| {
            status.number("transactions") > u64::try_from(n).ok()
        })?;
        same(&lab)?;
    }
    let peak = lab.thalweg.rss_bytes()?.peak;
    let may = BUDGET + COPIES * bytes + SELF;
    println!(
        "proof: {from} to {to}: a value of {} MiB loaded in {load:.1} s, peak {loaded} MiB; inserted, updated and \
         deleted in {:.1} s, peak {} MiB of {} MiB",
        bytes >> 20,
        started.elapsed().as_secs_f64(),
        peak >> 20,
        may >> 20
    );
    ensure!(peak < may, "{} MiB at the peak", peak >> 20);
    Ok(())
}

/// Both sides have the same rows; the digests are their own.
fn same(lab: &Lab) -> Result<()> {
    let query = "SELECT id, coalesce(md5(b), '-'), coalesce(octet_length(b), 0), \
                 coalesce(md5(t), '-'), coalesce(octet_length(t), 0) FROM big ORDER BY id";
    let (source, target) = (lab.source.sql(query)?, lab.target.sql(query)?);
    ensure!(source == target, "source:\n{source}\ntarget:\n{target}");
    Ok(())
}
