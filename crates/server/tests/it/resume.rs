//! The server is killed in the middle of loading one large table that changes all the while: the
//! chunks that were finished stay, and the copy is equal in the end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use thalweg_testkit::servers::{Place, System};

use crate::lab::{Lab, PATIENCE};

/// Rows of the table, and rows of a chunk, at gate size and for the full proof.
const GATE: (u64, u64) = (120_000, 4_000);
const FULL: (u64, u64) = (5_000_000, 100_000);
/// Loads are killed when these parts of the chunks are in.
const KILLS: [f64; 3] = [0.2, 0.5, 0.8];
/// A key that is written last.
const LAST: u64 = 1_000_000_000;

const MARIADB: &str = "CREATE TABLE large (id INT PRIMARY KEY, name VARCHAR(60) NOT NULL, \
    amount INT NOT NULL); INSERT INTO large SELECT seq, concat('name of ', seq, repeat('x', \
    seq % 30)), seq % 1000 FROM seq_1_to_{rows}; ANALYZE TABLE large";

const POSTGRES: &str = "CREATE TABLE large (id integer PRIMARY KEY, name varchar(60) NOT NULL, \
    amount integer NOT NULL); INSERT INTO large SELECT n, concat('name of ', n, repeat('x', \
    n % 30)), n % 1000 FROM generate_series(1, {rows}) n; ANALYZE large";

pairs!(
    only_the_chunks_in_flight_are_repeated,
    #[cfg(all())],
    #[ignore = "each half is half of another pair, which the gate has: make prove resume"]
);

fn only_the_chunks_in_flight_are_repeated(from: System, to: System) {
    let size = match std::env::var_os("THALWEG_PROVE") {
        Some(_) => FULL,
        None => GATE,
    };
    run(from, to, size).unwrap();
}

fn run(from: System, to: System, (rows, chunk_rows): (u64, u64)) -> Result<()> {
    let lab = Lab::between(from, to, |source| {
        let fill = match from {
            System::MariaDb => MARIADB,
            System::Postgres => POSTGRES,
        };
        let fill = fill.replace("{rows}", &rows.to_string());
        source.sql(&fill).map(drop)
    })?;
    let task = lab.task("resume", &["large"])?;
    let options = json!({"chunk_rows": chunk_rows});
    lab.client.set_options(&task, &options)?;
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let (kept, changes) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&lab.source, rows, &stop));
        let loaded = load(&lab, &task);
        stop.store(true, Ordering::SeqCst);
        let changes = writer.join().expect("the writer does not panic");
        Ok::<_, anyhow::Error>((loaded?, changes?))
    })
    .with_context(|| lab.logs())?;
    let load = started.elapsed().as_secs_f64();
    let last = format!("INSERT INTO large VALUES ({LAST}, 'last', 0)");
    lab.source.sql(&last)?;
    let there = format!("SELECT count(*) FROM large WHERE id = {LAST}");
    let until = Instant::now() + PATIENCE;
    while lab.target.sql(&there)?.trim() != "1" {
        ensure!(Instant::now() < until, "the last row never came");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let names = (lab.source.table("large"), lab.target.table("large"));
    let report = lab.judge().compare(&names.0, &names.1)?;
    println!(
        "proof: {from} to {to}: load of {rows} rows under {changes} changes in {load:.1} s with {} \
         kills; chunks that were in and stayed as they were at each: {kept:?}; {report}",
        KILLS.len()
    );
    ensure!(report.equal(), "{report}");
    Ok(())
}

/// Loads until the table is Live, with kills; gives how many finished chunks each of them left.
fn load(lab: &Lab, task: &str) -> Result<Vec<usize>> {
    lab.client.run_task(task)?;
    let mut before = BTreeSet::new();
    let mut kept = Vec::new();
    for part in KILLS {
        lab.wait(task, "chunks", |status| {
            let figure = |name| status.sum(name).unwrap_or(0) as f64;
            figure("chunks") > 0.0 && figure("loaded_chunks") >= part * figure("chunks")
        })?;
        lab.thalweg.kill();
        let now = ledger(&lab.target)?;
        ensure!(now.len() > 1, "{part}: a load in chunks: {now:?}");
        let lost: Vec<_> = before.difference(&now).collect();
        ensure!(lost.is_empty(), "chunks loaded again: {lost:?}");
        ensure!(now.len() > before.len(), "nothing was loaded");
        kept.push(now.len());
        before = now;
        lab.thalweg.restart()?;
    }
    lab.wait(task, "Live", |status| status.live(1))?;
    let left = ledger(&lab.target)?;
    ensure!(left.is_empty(), "the ledger of a Live table: {left:?}");
    Ok(kept)
}

/// The finished chunks, each as a line of its range, what it has seen, and its rows.
fn ledger(target: &Place) -> Result<BTreeSet<String>> {
    let hex = |column: &str| match target.system() {
        System::MariaDb => format!("coalesce(hex({column}), '-')"),
        System::Postgres => format!("coalesce(encode({column}, 'hex'), '-')"),
    };
    let rows = target.sql(&format!(
        "SELECT {}, {}, visibility, loaded_rows FROM thalweg.checkpoint_chunk",
        hex("range_from"),
        hex("range_to")
    ))?;
    Ok(rows.lines().map(str::to_owned).collect())
}

/// Changes rows, moves some to other chunks, and removes and adds some, until it is told to stop;
/// gives how many statements that took.
fn write(source: &Place, rows: u64, stop: &AtomicBool) -> Result<u64> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut statements = 0;
    let mut fresh = 2 * rows;
    while !stop.load(Ordering::SeqCst) {
        let (id, other) = (rng.random_range(1..=rows), rng.random_range(1..=rows));
        fresh += 1;
        let sql = format!(
            "UPDATE large SET amount = amount + 1 WHERE id BETWEEN {id} AND {id} + 20; \
             DELETE FROM large WHERE id = {other}; \
             UPDATE large SET id = {other} WHERE id = {id}; \
             INSERT INTO large VALUES ({fresh}, 'fresh', 1); \
             DELETE FROM large WHERE id = {fresh} - 5"
        );
        source.sql(&sql)?;
        statements += 5;
    }
    Ok(statements)
}
