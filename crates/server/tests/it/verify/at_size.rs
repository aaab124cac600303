//! Five million rows, and fifty verifications, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thalweg_core::ports::Differs;
use thalweg_engine::verify::{Finding, TableReport};
use thalweg_testkit::servers::{Place, System};

use super::verify;
use crate::pair::{Pair, Running};

const LARGE: u64 = 5_000_000;
const SMALL: u64 = 100_000;
/// Rows whose numbers can be divided by this are changed by nobody.
const QUIET: u64 = 997;
/// Rows of each kind that are damaged; and one of its last bit.
const DAMAGED: u64 = 33;
/// Verifications of the small table.
const RUNS: u32 = 47;

fn create(source: &Place, name: &str, rows: u64) {
    let (double, time) = match source.system() {
        System::MariaDb => ("DOUBLE", "DATETIME(6)"),
        System::Postgres => ("double precision", "timestamp(6)"),
    };
    let series = match source.system() {
        System::MariaDb => format!("(SELECT seq AS n FROM seq_1_to_{rows}) r"),
        System::Postgres => format!("generate_series(1, {rows}) n"),
    };
    let make = format!(
        "CREATE TABLE {name} (id BIGINT PRIMARY KEY, k INT NOT NULL, f {double} NOT NULL, d DECIMAL(12,2), \
         t VARCHAR(60), at {time}); \
         INSERT INTO {name} SELECT n, n % 1000, n / 7.0, n / 100.0, concat('row ', n, ' of it'), \
         '2024-02-28 01:02:03.456789' FROM {series};"
    );
    source.sql(&make).unwrap();
}

/// Writes to both tables until it is stopped; its transactions.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Writer {
    fn start(source: &Place) -> Writer {
        let (stop, source) = (Arc::new(AtomicBool::new(false)), source.clone());
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut n, mut done) = (1_u64, 0);
            while !ends.load(Ordering::Relaxed) {
                let mut sql = String::new();
                for _ in 0..50 {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    for (name, rows) in [("large", LARGE), ("small", SMALL)] {
                        let id = (n >> 20) % rows + 1;
                        if id % QUIET == 0 {
                            continue;
                        }
                        let new = 10_000_000_000 + (n >> 30);
                        sql += &format!(
                            "BEGIN; UPDATE {name} SET k = k + 1, t = 'touched {n}' WHERE id = {id}; \
                             DELETE FROM {name} WHERE id = {new}; \
                             INSERT INTO {name} (id, k, f) VALUES ({new}, 1, 2.5); COMMIT; "
                        );
                        done += 1;
                    }
                }
                source.sql(&sql).unwrap();
            }
            done
        });
        Writer { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A transaction that stays open for a while after it has written.
fn long_open(source: &Place) -> std::thread::JoinHandle<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let row = 20_000_000_000 + NUMBER.fetch_add(1, Ordering::Relaxed);
    let sleep = match source.system() {
        System::MariaDb => "SLEEP(3)",
        System::Postgres => "pg_sleep(3)",
    };
    let source = source.clone();
    std::thread::spawn(move || {
        let sql = format!(
            "BEGIN; INSERT INTO small (id, k, f) VALUES ({row}, 1, 1.5); \
             UPDATE small SET k = -1 WHERE id = 1; SELECT {sleep}; COMMIT;"
        );
        source.sql(&sql).unwrap();
    })
}

async fn one(pair: &Pair, running: &Running, table: &str, repair: bool) -> TableReport {
    let report = verify(pair, running, &[table], repair).await;
    report.tables.into_iter().next().unwrap()
}

/// Damages a hundred rows behind the task's back.
fn damage(target: &Place) {
    let mut sql = String::new();
    for n in 1..=DAMAGED {
        let (a, b) = (n * QUIET * 100, n * QUIET * 100 + QUIET);
        sql += &format!(
            "UPDATE large SET d = d + 0.01 WHERE id = {a}; DELETE FROM large WHERE id = {b}; \
             INSERT INTO large (id, k, f) VALUES (-{n}, 1, 1); "
        );
    }
    // Of 997 and the next number.
    let bit = QUIET * 7;
    sql += &format!("UPDATE large SET f = f + 0.00000000000012 WHERE id = {bit};");
    target.sql(&sql).unwrap();
}

fn found(report: &TableReport) {
    let counts = [report.changed, report.missing, report.extra];
    assert_eq!(counts, [DAMAGED + 1, DAMAGED, DAMAGED], "{report:?}");
    let bit = (QUIET * 7).to_string();
    let mut bits = report.differences.iter().filter(|row| row.key[0].1 == bit);
    let bit = bits.next().unwrap();
    assert_eq!(
        (bit.differs, &bit.columns[..]),
        (Differs::Changed, &["f".to_owned()][..])
    );
}

pub(super) async fn proved(from: System, to: System) {
    let make = |source: &Place, _: &Place| {
        create(source, "large", LARGE);
        create(source, "small", SMALL);
    };
    let pair = Pair::made(from, to, make, &["large", "small"]).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, super::PATIENCE).await;
    let writer = Writer::start(&pair.from);
    damage(&pair.to);
    let first = one(&pair, &running, "large", false).await;
    found(&first);
    assert_eq!(first.finding, Finding::Different);
    let second = one(&pair, &running, "large", true).await;
    found(&second);
    assert_eq!(
        (&second.finding, second.repaired),
        (&Finding::Repaired, 100)
    );
    let third = one(&pair, &running, "large", false).await;
    assert_eq!(third.finding, Finding::Equal, "{third:?}");
    let mut open = Vec::new();
    for run in 0..RUNS {
        if run % 5 == 0 {
            open.push(long_open(&pair.from));
        }
        let report = one(&pair, &running, "small", false).await;
        assert_eq!(report.finding, Finding::Equal, "a false alarm: {report:?}");
    }
    for open in open {
        open.join().unwrap();
    }
    let transactions = writer.stop();
    pair.caught_up(&mut running, super::PATIENCE).await;
    running.stop().await.unwrap();
    pair.judge().all_equal(&["large", "small"]).unwrap();
    println!(
        "proof: verify {from:?} to {to:?}: exactly 100 damaged rows of {} found in {:.1} s ({:.0} k rows/s) and repaired, \
         then {} runs without a false alarm beside {transactions} transactions, equal up to {}",
        first.rows,
        first.took_ms as f64 / 1000.0,
        first.rows as f64 / first.took_ms as f64,
        RUNS + 1,
        third.position.unwrap().as_str(),
    );
}
