//! The busy shop: it runs without an error, keeps its invariant, and repeats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_testkit::servers::{MariaDb, MariaDbOptions};
use thalweg_testkit::workload::{self, DATABASE, EVERY_TYPE_COLUMNS, Load, LoadOptions};

#[test]
fn the_shop_is_busy_and_its_bank_keeps_its_total() {
    let server = Arc::new(MariaDb::start(MariaDbOptions::default()).unwrap());
    workload::create(&server, 400).unwrap();
    let total = workload::bank_total(&server).unwrap();
    let count = |table: &str| -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        server.sql_in(DATABASE, &sql).unwrap().parse().unwrap()
    };
    for table in workload::tables() {
        assert!(count(&table) >= 20, "{table}");
    }
    for (name, ty, _) in EVERY_TYPE_COLUMNS {
        let sql = format!("SELECT count(DISTINCT {name}) FROM every_type");
        let different: u64 = server.sql_in(DATABASE, &sql).unwrap().parse().unwrap();
        assert!(different >= 2, "{name} {ty}");
    }
    let options = LoadOptions {
        seed: 7,
        rows: 400,
        rate: None,
        sysbench_rate: Some(100),
    };
    // Twice, as one load may follow another in the same database.
    for _ in 0..2 {
        let load = Load::start(&server, &options).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while load.done() < 3000 {
            load.check().unwrap();
            assert!(
                Instant::now() < until,
                "{} transactions in a minute",
                load.done()
            );
            assert_eq!(
                workload::bank_total(&server).unwrap(),
                total,
                "a reader in between"
            );
        }
        let summary = load.stop().unwrap();
        println!("{summary:?}");
        assert_eq!(summary.transactions.len(), 6);
        assert!(
            summary.transactions.values().all(|done| *done > 0),
            "{summary:?}"
        );
    }
    assert_eq!(workload::bank_total(&server).unwrap(), total);
}

#[test]
fn a_worker_that_fails_is_heard() {
    let server = Arc::new(MariaDb::start(MariaDbOptions::default()).unwrap());
    workload::create(&server, 100).unwrap();
    let options = LoadOptions {
        seed: 1,
        rows: 100,
        rate: Some(200),
        sysbench_rate: Some(0),
    };
    let load = Load::start(&server, &options).unwrap();
    server.sql_in(DATABASE, "DROP TABLE seat").unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while load.check().is_ok() {
        assert!(Instant::now() < until, "nobody complained");
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = format!("{:#}", load.stop().unwrap_err());
    assert!(
        error.contains("seat") && error.contains("doesn't exist"),
        "{error}"
    );
}
