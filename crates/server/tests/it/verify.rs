//! Verification between real servers, while the source is busy: no false alarm, exactly what was damaged,
//! and a repair that leaves both sides equal.

mod at_size;

use std::time::Duration;

use thalweg_core::ports::Differs;
use thalweg_core::schema::TableName;
use thalweg_engine::verify::{Finding, Progress, Report, Request};
use thalweg_testkit::servers::{Place, System};
use thalweg_testkit::workload::{self, Load, LoadOptions};

use crate::pair::{Pair, Running};

const ROWS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(600);

/// Rows that nobody changes at the source.
fn quiet(from: System) -> String {
    let (double, blob, time, series) = match from {
        System::MariaDb => (
            "DOUBLE",
            "BLOB",
            "DATETIME(6)",
            "(SELECT seq AS n FROM seq_1_to_500) r",
        ),
        System::Postgres => (
            "double precision",
            "bytea",
            "timestamp(6)",
            "generate_series(1, 500) n",
        ),
    };
    let octets = match from {
        System::MariaDb => "unhex(sha1(n))",
        System::Postgres => "sha224(n::text::bytea)",
    };
    let whole = match from {
        System::MariaDb => "",
        System::Postgres => "ALTER TABLE heap REPLICA IDENTITY FULL;",
    };
    format!(
        "CREATE TABLE quiet (id BIGINT PRIMARY KEY, f {double}, d DECIMAL(10,2), t VARCHAR(40), b {blob}, \
         at {time}); \
         INSERT INTO quiet SELECT n, n / 7.0, n / 100.0, concat('Text ', n), {octets}, \
         '2024-02-28 01:02:03.456789' FROM {series}; \
         CREATE TABLE heap (n BIGINT, t VARCHAR(40)); {whole} \
         INSERT INTO heap SELECT n % 50, 'same' FROM {series}; \
         CREATE TABLE word (w VARCHAR(40) PRIMARY KEY, n BIGINT); \
         INSERT INTO word SELECT concat('w', n), n FROM {series};"
    )
}

async fn verify(pair: &Pair, running: &Running, tables: &[&str], repair: bool) -> Report {
    let name = |table: &&str| TableName::new(pair.to.schema(), *table);
    let request = Request {
        tables: tables.iter().map(name).collect(),
        repair,
        ..Request::default()
    };
    let mut report = pair.spec.orders.verify(request).unwrap();
    let seen = report.clone();
    let done = report.wait_for(|report| report.progress == Progress::Done);
    let done = tokio::time::timeout(PATIENCE, done).await;
    let done = done.unwrap_or_else(|_| panic!("it does not end: {:#?}", seen.borrow()));
    let status = format!("{:?}", running.status.borrow().last_error);
    let report = done
        .unwrap_or_else(|_| panic!("it ended: {status}"))
        .clone();
    let times = report.tables.iter().map(|t| (t.target.as_str(), t.took_ms));
    println!("verified in ms: {:?}", times.collect::<Vec<_>>());
    report
}

fn finding<'a>(report: &'a Report, table: &str) -> &'a Finding {
    let mut tables = report.tables.iter();
    let found = tables.find(|of| of.target.ends_with(&format!(".{table}")));
    &found
        .unwrap_or_else(|| panic!("{table} is not in {report:?}"))
        .finding
}

fn all_equal(report: &Report) {
    for table in &report.tables {
        assert_eq!(table.finding, Finding::Equal, "a false alarm: {table:#?}");
        assert!(table.position.is_some() && table.hash != 0, "{table:?}");
    }
}

pairs!(
    a_busy_database_is_verified_and_repaired,
    #[cfg(all())],
    #[ignore = "each half is half of another pair, which the gate has: make prove verify"]
);

fn a_busy_database_is_verified_and_repaired(from: System, to: System) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(verified_and_repaired(from, to));
    if std::env::var_os("THALWEG_PROVE").is_some() {
        runtime.block_on(at_size::proved(from, to));
    }
}

async fn verified_and_repaired(from: System, to: System) {
    let mut names = workload::tables();
    names.extend(["quiet", "heap", "word"].map(str::to_owned));
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    let make = |source: &Place, target: &Place| {
        workload::create(source, ROWS).unwrap();
        source.sql(&quiet(from)).unwrap();
        if from == to {
            target.sql(workload::user_types(to)).unwrap();
        }
    };
    let pair = Pair::made(from, to, make, &tables).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    let options = LoadOptions {
        seed: 7,
        rows: ROWS,
        rate: Some(40),
        sysbench_rate: Some(40),
    };
    let load = Load::start(&pair.from, &options).unwrap();
    let busy = verify(&pair, &running, &[], false).await;
    all_equal(&busy);
    load.check().unwrap();

    // One column's last bit, what a collation takes for equal, a row that is gone and one that came.
    let damage = [
        "UPDATE quiet SET f = f + 0.00000000000000003 WHERE id = 1",
        "UPDATE quiet SET t = 'TEXT 2' WHERE id = 2",
        "UPDATE quiet SET d = d + 0.01, at = NULL WHERE id = 3",
        "UPDATE quiet SET b = NULL WHERE id = 500",
        "DELETE FROM quiet WHERE id = 4",
        "INSERT INTO quiet (id, t) VALUES (-5, 'more')",
        "DELETE FROM word WHERE w = 'w77'",
        "INSERT INTO word VALUES ('x78', 1)",
        "UPDATE heap SET t = 'other' WHERE n = 7",
    ];
    for statement in damage {
        pair.to.sql(statement).unwrap();
    }
    let damaged = ["quiet", "heap", "word", "account"];
    let found = verify(&pair, &running, &damaged, false).await;
    let quiet = found.tables.iter().find(|t| t.target.ends_with(".quiet"));
    let quiet = quiet.unwrap();
    assert_eq!(
        [quiet.changed, quiet.missing, quiet.extra],
        [4, 1, 1],
        "{quiet:#?}"
    );
    let mut told: Vec<_> = quiet
        .differences
        .iter()
        .map(|row| (row.key[0].1.as_str(), row.differs, row.columns.join(",")))
        .collect();
    told.sort();
    let expected = [
        ("-5", Differs::Extra, ""),
        ("1", Differs::Changed, "f"),
        ("2", Differs::Changed, "t"),
        ("3", Differs::Changed, "d,at"),
        ("4", Differs::Missing, ""),
        ("500", Differs::Changed, "b"),
    ];
    let expected = expected.map(|(key, differs, columns)| (key, differs, columns.to_owned()));
    assert_eq!(told, expected);
    for (table, of) in [("quiet", 6), ("word", 2), ("heap", 20)] {
        assert_eq!(*finding(&found, table), Finding::Different, "{table}");
        let tables = found.tables.iter();
        let rows: u64 = tables
            .filter(|t| t.target.ends_with(&format!(".{table}")))
            .map(|t| t.changed + t.missing + t.extra)
            .sum();
        assert_eq!(rows, of, "{table}: {found:#?}");
    }
    let others = found
        .tables
        .iter()
        .filter(|t| t.finding != Finding::Different);
    assert_eq!(others.count(), found.tables.len() - 3);

    let repaired = verify(&pair, &running, &damaged, true).await;
    for table in ["quiet", "word"] {
        assert_eq!(
            *finding(&repaired, table),
            Finding::Repaired,
            "{repaired:#?}"
        );
    }
    // Rows without a key cannot be told apart: they are found, and not repaired.
    assert_eq!(*finding(&repaired, "heap"), Finding::Different);
    pair.to
        .sql("UPDATE heap SET t = 'same' WHERE n = 7")
        .unwrap();

    let summary = load.stop().unwrap();
    let _mark = workload::mark(&pair.from).unwrap();
    pair.caught_up(&mut running, PATIENCE).await;
    all_equal(&verify(&pair, &running, &[], false).await);
    running.stop().await.unwrap();
    pair.judge().all_equal(&tables).unwrap();
    println!(
        "proof: {} tables verified 4 times beside {} transactions, 8 damaged rows found and repaired, equal",
        tables.len(),
        summary.total()
    );
}
