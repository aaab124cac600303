//! What every source does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thalweg_core::ports::{DataSourceConfig, Source};
use thalweg_core::position::Position;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Kind, Result};

use super::config;
use super::log::{LIMITS, Log, Tx, read};
use crate::servers::{Account, Place, System};
use crate::workload;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens a source.
pub type Open = fn(&DataSourceConfig) -> Result<Arc<dyn Source>>;

/// A private server with a database, and how a source of it is opened.
pub struct Subject {
    /// The database.
    pub place: Place,
    account: Account,
    open: Open,
}

impl Subject {
    /// Starts a server.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(system: System, open: Open) -> Self {
        let place = Place::start(system, "shop").expect("a private server starts");
        let account = place.source_account().expect("an account is made");
        Subject {
            place,
            account,
            open,
        }
    }

    /// A source, as a task opens it.
    fn source(&self) -> Arc<dyn Source> {
        (self.open)(&config(&self.place, &self.account)).expect("a source is opened")
    }

    fn sql(&self, sql: &str) -> String {
        self.place.sql(sql).expect("the test's own statement")
    }

    /// Tables by name, after a check that refuses nothing.
    async fn tables(&self, names: &[&str]) -> Vec<TableSchema> {
        let schema = self.place.schema();
        let names: Vec<_> = names
            .iter()
            .map(|name| TableName::new(schema, *name))
            .collect();
        // Tables made since the account was.
        if self.place.system() == System::Postgres {
            self.sql(&format!(
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
                self.account.user
            ));
        }
        let source = self.source();
        let findings = source.check(&names).await.expect("the check answers");
        assert!(
            !findings.iter().any(|finding| finding.refuses()),
            "{findings:?}"
        );
        let tables = source.describe(&names).await.expect("tables are described");
        assert_eq!(tables.len(), names.len());
        tables
    }

    /// Transactions with changes from `from` to the present end of the log.
    async fn follow(&self, from: &Position, tables: &[TableSchema]) -> Vec<Tx> {
        let log = Log::open(self.source(), from, tables).await;
        let mut log = log.expect("the log is read");
        log.rest().await.expect("the log is read to its end")
    }

    /// The place from which the log of these tables is kept.
    async fn secure(&self, tables: &[TableSchema]) -> Position {
        let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
        let secured = self.source().secure(&names).await;
        secured.expect("the log is kept")
    }

    /// What these statements write to the log of these tables.
    async fn says(&self, tables: &[&str], sql: &str) -> Vec<Vec<String>> {
        let tables = self.tables(tables).await;
        let from = self.secure(&tables).await;
        self.sql(sql);
        let all = self.follow(&from, &tables).await;
        all.into_iter().map(|tx| tx.changes).collect()
    }
}

const PLAIN: &str = "CREATE TABLE t (id INT PRIMARY KEY, v INT);";

/// A table that changes while it is read, together with the transactions its snapshot does not
/// contain, is the table at the end of the log: whatever the moment of the snapshot.
///
/// # Panics
/// When the source does not.
pub async fn load_then_stream_is_whole(subject: &Subject) {
    subject.sql(&format!(
        "{PLAIN} INSERT INTO t VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0);"
    ));
    let tables = subject.tables(&["t"]).await;
    let table = tables.first().expect("one table");
    let source = subject.source();
    let from = subject.secure(&tables).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (place, stop) = (subject.place.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            for n in 6.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let sql = format!(
                    "START TRANSACTION; INSERT INTO t VALUES ({n}, 0); UPDATE t SET v = v + 1 WHERE id = {}; \
                     DELETE FROM t WHERE id = {}; COMMIT;",
                    n - 2,
                    n - 4
                );
                place.sql(&sql).expect("the test's own writer");
            }
        })
    };
    let mut loads = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let read = read(source.as_ref(), table, &from).await;
        loads.push(read.expect("a chunk is read"));
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("the writer");
    let told = subject.sql("SELECT id, v FROM t ORDER BY id");
    let expected: BTreeMap<i64, i64> = told
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(id, v)| (id.parse().expect("a key"), v.parse().expect("a number")))
        .collect();
    let all = subject.follow(&from, &tables).await;
    for (rows, seen) in loads {
        let mut now: BTreeMap<i64, i64> = rows.iter().map(pair).collect();
        let mut applied = 0;
        for tx in &all {
            if !source
                .contains(&seen, &tx.id)
                .expect("a transaction is told")
            {
                applied += 1;
                tx.changes
                    .iter()
                    .for_each(|change| replay(change, &mut now));
            }
        }
        assert_eq!(
            now,
            expected,
            "{applied} of {} transactions after {seen:?}",
            all.len()
        );
    }
}

/// Rows of every type are the same cells, read from a snapshot and from the log.
///
/// # Panics
/// When the source does not.
pub async fn types_roundtrip(subject: &Subject) {
    let system = subject.place.system();
    subject.sql(&workload::every_type_create(system, 0));
    subject.sql(match system {
        System::MariaDb => "CREATE TABLE twin LIKE every_type",
        System::Postgres => "CREATE TABLE twin (LIKE every_type INCLUDING ALL)",
    });
    let tables = subject.tables(&["every_type", "twin"]).await;
    let (table, twin) = (tables.first().expect("one"), tables.get(1).expect("two"));
    let source = subject.source();
    let from = subject.secure(&tables).await;
    subject.sql("INSERT INTO twin SELECT * FROM every_type");
    let loaded = read(source.as_ref(), table, &from)
        .await
        .expect("a chunk is read")
        .0;
    let log = Log::open(subject.source(), &from, std::slice::from_ref(twin)).await;
    let mut log = log.expect("the log is read");
    while log
        .next()
        .await
        .expect("the log is read")
        .changes
        .is_empty()
    {}
    let cells = |rows: &RowBatch| {
        let all = rows.iter().map(|row| {
            let cells: Vec<Vec<u8>> = row.raw_cells().map(<[u8]>::to_vec).collect();
            (cells.first().cloned(), cells)
        });
        all.collect::<BTreeMap<_, _>>()
    };
    let (loaded, streamed) = (cells(&loaded), cells(&log.rows));
    assert!(loaded.len() > 50, "only {} rows", loaded.len());
    assert_eq!(loaded.len(), streamed.len());
    for (key, row) in &loaded {
        let other = streamed.get(key).expect("the row is in the log");
        for ((one, two), column) in row.iter().zip(other).zip(&table.columns) {
            assert!(
                one == two,
                "{} of row {key:?}: {one:?} loaded, {two:?} streamed",
                column.name
            );
        }
    }
}

/// Transactions come in the order of their commits, their changes in the order they were made; what
/// was rolled back, as a whole or to a savepoint, does not come.
///
/// # Panics
/// When the source does not.
pub async fn commit_order(subject: &Subject) {
    subject.sql(PLAIN);
    let said = subject
        .says(
            &["t"],
            "START TRANSACTION; INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2); UPDATE t SET v = 3 \
             WHERE id = 1; DELETE FROM t WHERE id = 2; COMMIT;
             START TRANSACTION; INSERT INTO t VALUES (8, 8); ROLLBACK;
             START TRANSACTION; INSERT INTO t VALUES (4, 4); SAVEPOINT a; INSERT INTO t VALUES (5, 5);
             ROLLBACK TO SAVEPOINT a; INSERT INTO t VALUES (6, 6); COMMIT;
             INSERT INTO t VALUES (9, NULL);",
        )
        .await;
    let said = said
        .iter()
        .map(|tx| tx.iter().map(|change| short(change)).collect());
    let said: Vec<Vec<String>> = said.collect();
    assert_eq!(
        said,
        [
            vec!["+t 1,1", "+t 2,2", "~t 1,3", "-t 2"],
            vec!["+t 4,4", "+t 6,6"],
            vec!["+t 9,NULL"]
        ]
    );
}

/// A change of the key says the old one and the new one.
///
/// # Panics
/// When the source does not.
pub async fn pk_update(subject: &Subject) {
    subject.sql(&format!("{PLAIN} INSERT INTO t VALUES (1, 7), (2, 8);"));
    let said = subject
        .says(
            &["t"],
            "UPDATE t SET id = 10 WHERE id = 1; UPDATE t SET id = id + 100;",
        )
        .await;
    let mut keys: Vec<Vec<(String, String)>> = Vec::new();
    for tx in &said {
        let moved = tx.iter().map(|change| {
            let (before, after) = change.split_once(" > ").expect("an update");
            let key = |image: &str| image.split(',').next().unwrap_or_default().to_owned();
            (key(before.trim_start_matches("~t ")), key(after))
        });
        keys.push(moved.collect());
    }
    let moved = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    assert_eq!(keys.len(), 2, "{said:?}");
    assert_eq!(keys.first(), Some(&vec![moved("1", "10")]));
    let mut second = keys.pop().unwrap_or_default();
    second.sort();
    assert_eq!(second, [moved("10", "110"), moved("2", "102")]);
}

/// A table emptied by TRUNCATE says so, between the changes before and after.
///
/// # Panics
/// When the source does not.
pub async fn truncate(subject: &Subject) {
    subject.sql(&format!("{PLAIN} INSERT INTO t VALUES (1, 1);"));
    let said = subject
        .says(
            &["t"],
            "INSERT INTO t VALUES (2, 2); TRUNCATE TABLE t; INSERT INTO t VALUES (3, 3);",
        )
        .await;
    assert_eq!(said, [["+t 2,2"], ["!t"], ["+t 3,3"]]);
}

/// Of a table without a key, the old row comes whole.
///
/// # Panics
/// When the source does not.
pub async fn no_pk_table(subject: &Subject) {
    let full = match subject.place.system() {
        System::MariaDb => "",
        System::Postgres => "ALTER TABLE n REPLICA IDENTITY FULL;",
    };
    subject.sql(&format!(
        "CREATE TABLE n (a INT, b VARCHAR(9)); {full} INSERT INTO n VALUES (1, 'x'), (1, 'x'), (NULL, NULL);"
    ));
    let said = subject
        .says(
            &["n"],
            "UPDATE n SET b = 'y' WHERE a = 1; DELETE FROM n WHERE a IS NULL;",
        )
        .await;
    assert_eq!(
        said,
        [
            vec!["~n 1,'x' > 1,'y'", "~n 1,'x' > 1,'y'"],
            vec!["-n NULL,NULL"]
        ]
    );
}

/// A transaction larger than a part comes in parts of one id, and only the last moves the position.
///
/// # Panics
/// When the source does not.
pub async fn huge_transaction(subject: &Subject) {
    subject.sql("CREATE TABLE big (id INT PRIMARY KEY, v VARCHAR(200) NOT NULL);");
    let tables = subject.tables(&["big"]).await;
    let from = subject.secure(&tables).await;
    let rows = 20_000;
    subject.sql(&match subject.place.system() {
        System::MariaDb => {
            format!("INSERT INTO big SELECT seq, repeat('x', 100) FROM seq_1_to_{rows}")
        }
        System::Postgres => {
            format!("INSERT INTO big SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n")
        }
    });
    let all = subject.follow(&from, &tables).await;
    let tx = all.first().expect("the transaction");
    assert_eq!((all.len(), tx.changes.len()), (1, rows));
    assert!(tx.parts > 3, "{} parts", tx.parts);
    assert!(
        tx.part_bytes < 2 * LIMITS.part_bytes,
        "a part of {} bytes",
        tx.part_bytes
    );
}

/// After a crash of the server, reading goes on from every position that was handed out with exactly
/// what came after it.
///
/// # Panics
/// When the source does not.
pub async fn resume_after_kill(subject: &Subject) {
    subject.sql(PLAIN);
    let tables = subject.tables(&["t"]).await;
    let from = subject.secure(&tables).await;
    for n in 0..5 {
        subject.sql(&format!("INSERT INTO t VALUES ({n}, 0), ({}, 0)", n + 100));
    }
    let before = subject.follow(&from, &tables).await;
    subject.place.server.kill().expect("a server is killed");
    subject.place.server.restart().expect("it starts again");
    subject.sql("INSERT INTO t VALUES (50, 50)");
    let changes = |all: &[Tx]| all.iter().map(|tx| tx.changes.clone()).collect::<Vec<_>>();
    let all = subject.follow(&from, &tables).await;
    assert_eq!(all.len(), 6, "{all:?}");
    let all = changes(&all);
    assert!(all.starts_with(&changes(&before)), "{all:?}");
    for (at, tx) in before.iter().enumerate() {
        let rest = subject.follow(&tx.position, &tables).await;
        let expected: Vec<_> = all.iter().skip(at + 1).cloned().collect();
        assert_eq!(changes(&rest), expected, "after transaction {at}");
    }
}

/// The position follows the end of the log while only others write, and can be confirmed.
///
/// # Panics
/// When the source does not.
pub async fn idle_advances(subject: &Subject) {
    subject.sql(&format!("{PLAIN} CREATE TABLE other (id INT PRIMARY KEY);"));
    let tables = subject.tables(&["t"]).await;
    let source = subject.source();
    let from = subject.secure(&tables).await;
    let log = Log::open(subject.source(), &from, &tables).await;
    let mut log = log.expect("the log is read");
    for n in 0..3 {
        subject.sql(&format!("INSERT INTO other VALUES ({n})"));
        let head = source.head().await.expect("the end of the log is told");
        let since = Instant::now();
        while !source.reached(&log.at, &head).expect("places are compared") {
            assert!(since.elapsed() < PATIENCE, "the position stands still");
            let tx = log.next().await.expect("the log is read");
            assert!(tx.changes.is_empty(), "{tx:?}");
        }
        log.confirm().await.expect("a position is confirmed");
    }
}

/// A log that no longer reaches back is told as such.
///
/// # Panics
/// When the source does not.
pub async fn log_purged(subject: &Subject) {
    subject.sql(PLAIN);
    let tables = subject.tables(&["t"]).await;
    let from = subject.secure(&tables).await;
    subject.sql("INSERT INTO t VALUES (1, 1)");
    match subject.place.system() {
        System::MariaDb => {
            let purge = "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE now() + INTERVAL 1 DAY; SHOW BINARY LOGS";
            let since = Instant::now();
            while subject.sql(purge).lines().count() > 1 {
                assert!(since.elapsed() < PATIENCE, "the log is not purged");
            }
        }
        System::Postgres => {
            subject.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
        }
    }
    let error = match Log::open(subject.source(), &from, &tables).await {
        Err(error) => error,
        Ok(mut log) => match log.rest().await {
            Err(error) => error,
            Ok(all) => panic!("a lost log was read: {all:?}"),
        },
    };
    assert_eq!(error.kind(), Kind::PositionLost, "{}", error.chain());
    assert!(error.hint().is_some(), "{}", error.chain());
}

/// What a task leaves at the source can be removed, also twice, and nothing then holds the log.
///
/// # Panics
/// When the source does not.
pub async fn release_is_repeatable(subject: &Subject) {
    subject.sql(PLAIN);
    let tables = subject.tables(&["t"]).await;
    let from = subject.secure(&tables).await;
    subject.sql("INSERT INTO t VALUES (1, 1)");
    assert_eq!(subject.follow(&from, &tables).await.len(), 1);
    for _ in 0..2 {
        subject.source().release().await.expect("it is released");
    }
    let left = match subject.place.system() {
        System::MariaDb => "SHOW SLAVE HOSTS",
        System::Postgres => {
            "SELECT slot_name FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication"
        }
    };
    let since = Instant::now();
    let mut n = 1;
    while !subject.sql(left).is_empty() {
        assert!(since.elapsed() < PATIENCE, "{}", subject.sql(left));
        // MariaDB sees that a reader is gone when it has something to send.
        n += 1;
        subject.sql(&format!("INSERT INTO t VALUES ({n}, 1)"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A row of two numbers.
fn pair(row: thalweg_core::value::RowRef<'_>) -> (i64, i64) {
    let mut numbers = row.cells().map(|cell| match cell {
        CellRef::I64(n) => n,
        other => panic!("not a number: {other:?}"),
    });
    let mut next = || numbers.next().expect("two numbers");
    (next(), next())
}

/// A change of a table of two numbers without what sources log differently: an insert or update as the
/// row after it, a delete as its key.
fn short(change: &str) -> String {
    let (head, images) = change.split_once(' ').unwrap_or((change, ""));
    let image = match head.starts_with('-') {
        true => images.split(',').next(),
        false => images.split(" > ").last(),
    };
    format!("{head} {}", image.unwrap_or_default())
}

/// Does to a map what a change of a table of two numbers says.
fn replay(change: &str, rows: &mut BTreeMap<i64, i64>) {
    let (kind, images) = change.split_at(1);
    let images = images.trim_start_matches("t ");
    let (before, after) = images.split_once(" > ").unwrap_or((images, images));
    let numbers = |image: &str| -> Vec<i64> {
        let all = image.split(',').filter(|cell| *cell != "?");
        all.map(|cell| cell.parse().expect("a number")).collect()
    };
    let key = |image: &str| numbers(image).first().copied().expect("a key");
    if kind != "+" && !before.is_empty() {
        rows.remove(&key(before));
    }
    if kind != "-" {
        let new = numbers(after);
        assert_eq!(new.len(), 2, "{change}");
        rows.insert(key(after), new.get(1).copied().expect("two numbers"));
    }
}
