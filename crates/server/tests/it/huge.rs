//! One transaction far larger than the memory we may use, and a load of the same rows.
//!
//! `THALWEG_HUGE_ROWS` sets the number of rows; the full proof takes two million. The memory of the
//! whole test process is measured: the databases are processes of their own.

use std::time::{Duration, Instant};

use crate::pair::Pair;

/// Rows at gate size.
const ROWS: u64 = 100_000;
/// What the process may hold at its peak, in KiB.
const PEAK_KIB: u64 = 256 << 10;
const LONG: Duration = Duration::from_secs(1_800);

const TABLE: &str = "CREATE TABLE big (id INT PRIMARY KEY, name VARCHAR(100) NOT NULL, \
                     amount DECIMAL(12,2) NOT NULL, at DATETIME(6) NOT NULL, note TEXT)";

/// Both servers compute it in the same way; only rows of the same content give the same sums.
const SUMS: &str = "SELECT count(*), sum(id), sum(amount), sum(length(name)), sum(length(note)), \
                    min(name), max(name), min(note), max(note) FROM big";

/// A value of this process in KiB.
fn memory_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_any_size_fits_into_the_memory() {
    let rows = std::env::var("THALWEG_HUGE_ROWS").map_or(ROWS, |rows| rows.parse().unwrap());
    let setup = format!(
        "{TABLE}; INSERT INTO big SELECT seq, concat('name of ', seq, repeat('x', seq % 40)), \
         seq / 7, '2024-02-29 01:02:03.456789' + INTERVAL seq SECOND, repeat('y', seq % 60) \
         FROM seq_1_to_{rows}"
    );
    let pair = Pair::start(&setup, &["big"]).await;
    let before = memory_kib("VmRSS");
    let mut running = pair.run();
    let started = Instant::now();
    pair.caught_up(&mut running, LONG).await;
    println!(
        "load of {rows} rows: {:.1} s, peak {} MiB (before: {} MiB)",
        started.elapsed().as_secs_f64(),
        memory_kib("VmHWM") >> 10,
        before >> 10
    );
    assert_eq!(running.status.borrow().sources[0].loaded_rows, rows);

    let change =
        "UPDATE shop.big SET amount = amount + 1, name = concat('!', name), note = upper(note)";
    pair.mariadb.sql(change).unwrap();
    let started = Instant::now();
    pair.caught_up(&mut running, LONG).await;
    let peak = memory_kib("VmHWM");
    println!(
        "UPDATE of {rows} rows in one transaction: {:.1} s, peak {} MiB",
        started.elapsed().as_secs_f64(),
        peak >> 10
    );
    {
        let status = running.status.borrow();
        assert_eq!(status.sources[0].read.updates, rows);
        assert_eq!(status.tables[0].written.updates, rows);
        println!(
            "{} MiB read, {} MiB written",
            status.bytes_read >> 20,
            status.bytes_written >> 20
        );
    }
    let (source, target) = pair.both(SUMS);
    assert_eq!(source, target);
    assert!(peak < PEAK_KIB, "{} MiB at the peak", peak >> 10);
    running.stop().await.unwrap();
}
