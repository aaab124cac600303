//! The busy shop: it runs without an error, keeps its invariant, and repeats.

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use thalweg_testkit::servers::{Place, System};
use thalweg_testkit::workload::{self, DATABASE, Load, LoadOptions};

#[test]
fn the_shop_in_mariadb_is_busy_and_its_bank_keeps_its_total() {
    busy(System::MariaDb);
}

#[test]
fn the_shop_in_postgres_is_busy_and_its_bank_keeps_its_total() {
    busy(System::Postgres);
}

fn busy(system: System) {
    let place = Place::start(system, DATABASE).unwrap();
    workload::create(&place, 400).unwrap();
    let total = workload::bank_total(&place).unwrap();
    let count = |table: &str| -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        place.sql(&sql).unwrap().parse().unwrap()
    };
    for table in workload::tables() {
        let least = if table == "mark" { 1 } else { 20 };
        assert!(count(&table) >= least, "{table}");
    }
    let mut random = SmallRng::seed_from_u64(1);
    for (name, _) in workload::every_type_literals(system, &mut random) {
        // Not every type has an order, but all have a text.
        let text = match system {
            System::MariaDb => name.to_owned(),
            System::Postgres => format!("{name}::text"),
        };
        let sql = format!("SELECT count(DISTINCT {text}) FROM every_type");
        let different: u64 = place.sql(&sql).unwrap().parse().unwrap();
        assert!(different >= 2, "{name}");
    }
    let options = LoadOptions {
        seed: 7,
        rows: 400,
        rate: None,
        sysbench_rate: Some(100),
    };
    // Twice, as one load may follow another in the same database.
    for _ in 0..2 {
        let load = Load::start(&place, &options).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while load.done() < 3000 {
            load.check().unwrap();
            assert!(
                Instant::now() < until,
                "{} transactions in a minute",
                load.done()
            );
            assert_eq!(
                workload::bank_total(&place).unwrap(),
                total,
                "a reader in between"
            );
        }
        let summary = load.stop().unwrap();
        assert_eq!(summary.transactions.len(), 7);
        assert!(
            summary.transactions.values().all(|done| *done > 0),
            "{summary:?}"
        );
    }
    assert_eq!(workload::bank_total(&place).unwrap(), total);
    assert_eq!(workload::mark(&place).unwrap(), 1);
    assert_eq!(workload::marked(&place).unwrap(), 1);
}

#[test]
fn a_worker_that_fails_is_heard() {
    // A transaction that holds the table when it is dropped may be the one that has to give way.
    heard(System::MariaDb, &["doesn't exist", "Deadlock found"]);
    heard(System::Postgres, &["does not exist", "deadlock detected"]);
}

fn heard(system: System, words: &[&str]) {
    let place = Place::start(system, DATABASE).unwrap();
    workload::create(&place, 100).unwrap();
    let options = LoadOptions {
        seed: 1,
        rows: 100,
        rate: Some(200),
        sysbench_rate: Some(0),
    };
    let load = Load::start(&place, &options).unwrap();
    place.sql("DROP TABLE seat").unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while load.check().is_ok() {
        assert!(Instant::now() < until, "nobody complained");
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = format!("{:#}", load.stop().unwrap_err());
    assert!(
        error.contains("seat") && words.iter().any(|words| error.contains(words)),
        "{error}"
    );
}
