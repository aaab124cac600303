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
/// How often a row may lie in memory at a time, beside the budget: what was read and what is made of it,
/// and once more for what a driver does with it.
const COPIES: u64 = 3;
/// The same for an update that leaves the value as it is, from a MariaDB source with whole images in its
/// log. There the row is twice as large, since its event has the value before and after; and MariaDB's
/// driver hands an event over as a copy of the packet that it came in.
const COPIES_LEFT_ALONE: u64 = 4;

const LEFT_ALONE: &str = "one left alone";

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
    let mut peaks = Vec::new();
    lab.client.run_task(&task)?;
    lab.wait(&task, "Live", |status| status.live(1))?;
    same(&lab)?;
    peaks.push(("loaded", lab.thalweg.rss_bytes()?.peak));
    let octets = octets(from, bytes);
    let insert = |id: u8| format!("INSERT INTO big VALUES ({id}, {octets}, NULL)");
    let text = format!(
        "UPDATE big SET t = repeat('it''s', {}) WHERE id = 2",
        bytes / 4
    );
    let steps = [
        // The second is read while the first is written.
        ("two inserted", vec![insert(3), insert(4)]),
        ("one changed", vec![text]),
        (
            "one deleted",
            vec!["DELETE FROM big WHERE id = 1".to_owned()],
        ),
        (
            LEFT_ALONE,
            vec!["UPDATE big SET t = 'three' WHERE id = 3".to_owned()],
        ),
    ];
    let mut transactions = 0;
    for (name, changes) in steps {
        lab.thalweg.forget_peak()?;
        for change in &changes {
            lab.source.sql(change)?;
            transactions += 1;
        }
        lab.wait(&task, "a change at the target", |status| {
            status.number("transactions") >= Some(transactions)
        })?;
        same(&lab)?;
        peaks.push((name, lab.thalweg.rss_bytes()?.peak));
    }
    let shown: Vec<_> = peaks
        .iter()
        .map(|(name, peak)| format!("{name} {}", peak >> 20))
        .collect();
    println!(
        "proof: {from} to {to}: a value of {} MiB in {:.1} s; peaks in MiB: {}",
        bytes >> 20,
        started.elapsed().as_secs_f64(),
        shown.join(", ")
    );
    for (name, peak) in peaks {
        let copies = match (from, name) {
            (System::MariaDb, LEFT_ALONE) => COPIES_LEFT_ALONE,
            _ => COPIES,
        };
        let may = BUDGET + copies * bytes + SELF;
        let (is, may) = (peak >> 20, may >> 20);
        ensure!(is < may, "{name}: {is} MiB at the peak, of {may} MiB");
    }
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
