//! The change stream: every committed transaction once, in order, from any position.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use thalweg_core::Kind;
use thalweg_core::change::Commit;
use thalweg_core::ports::StreamLimits;
use thalweg_core::position::{Position, TxId};
use thalweg_core::schema::TableSchema;
use thalweg_core::value::RowBatch;

use super::world::{LIMITS, Tx, World, by_file, by_gtid, says, text};

const TABLES: &str = "CREATE TABLE a (id INT PRIMARY KEY, t MEDIUMTEXT); \
                      CREATE TABLE b (id INT PRIMARY KEY, t MEDIUMTEXT); \
                      CREATE TABLE other (id INT PRIMARY KEY AUTO_INCREMENT, t MEDIUMTEXT);";

/// Bytes of the event that ends a group: header, number, checksum.
const XID_EVENT: u64 = 19 + 8 + 4;

/// Some transactions of every size, others between them, over three files of the log.
const WORK: &str = "\
    INSERT INTO a VALUES (1, 'one'); \
    INSERT INTO other (t) VALUES ('x'); \
    BEGIN; INSERT INTO a VALUES (2, 'two'); INSERT INTO b VALUES (2, 'two'); \
    UPDATE a SET t = 'ZWEI' WHERE id = 2; COMMIT; \
    FLUSH BINARY LOGS; \
    BEGIN; INSERT INTO b SELECT seq, REPEAT('b', seq) FROM seq_100_to_400; COMMIT; \
    BEGIN; INSERT INTO other (t) VALUES ('y'); ROLLBACK; \
    BEGIN; INSERT INTO other (t) VALUES ('z'); DELETE FROM b WHERE id > 390; COMMIT; \
    INSERT INTO b VALUES (3, REPEAT('w', 2000000)); \
    FLUSH BINARY LOGS; \
    CREATE TABLE more (id INT); INSERT INTO more VALUES (1); DROP TABLE more; \
    SET gtid_domain_id = 7; UPDATE b SET id = id + 1000 WHERE id < 110; SET gtid_domain_id = 0; \
    TRUNCATE TABLE a; \
    INSERT INTO a VALUES (9, 'last');";

async fn rest_is_exact(world: &World, from: &Position, tables: &[TableSchema], want: &[Tx]) {
    for from in [from.clone(), by_file(from), by_gtid(from)] {
        let got = world.follow(&from, tables).await;
        let facts = |all: &[Tx]| -> Vec<_> {
            let one = |tx: &Tx| (tx.id.clone(), tx.changes.clone());
            all.iter().map(one).collect()
        };
        assert_eq!(facts(&got), facts(want), "from {from}");
    }
}

async fn resumes_from_everywhere(config: &[&str]) {
    let world = World::new(config);
    world.sql(TABLES);
    world.sql("INSERT INTO other (t) VALUES ('first')");
    let tables = world.tables(&["a", "b"]).await;
    let start = world.here().await;
    world.sql(WORK);
    let whole = world.follow(&start, &tables).await;
    let sizes: Vec<usize> = whole.iter().map(|tx| tx.changes.len()).collect();
    assert_eq!(sizes, [1, 3, 301, 10, 1, 12, 1, 1]);
    let everywhere = || {
        let starts = std::iter::once(&start).chain(whole.iter().map(|tx| &tx.position));
        starts.enumerate().map(|(i, from)| (from, &whole[i..]))
    };
    for (from, rest) in everywhere() {
        rest_is_exact(&world, from, &tables, rest).await;
    }
    world.server.kill().unwrap();
    world.server.restart().unwrap();
    join_all(everywhere().map(|(from, rest)| rest_is_exact(&world, from, &tables, rest))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumes_from_every_position_with_checksums() {
    resumes_from_everywhere(&["binlog_checksum=CRC32"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumes_from_every_position_without_checksums() {
    resumes_from_everywhere(&["binlog_checksum=NONE", "binlog_annotate_row_events=OFF"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumes_from_every_position_of_a_compressed_log() {
    resumes_from_everywhere(&[
        "log_bin_compress=ON",
        "log_bin_compress_min_len=10",
        "binlog_row_metadata=FULL",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_log_is_an_error_and_never_data() {
    for config in [&["log_bin_compress=OFF"], &["log_bin_compress=ON"]] {
        let world = World::new(config);
        world.sql(TABLES);
        let tables = world.tables(&["a"]).await;
        let start = world.here().await;
        world.sql(
            "INSERT INTO a VALUES (1, 'good'); \
             INSERT INTO a VALUES (2, REPEAT('marked', 100)); FLUSH BINARY LOGS",
        );
        let good = world.follow(&start, &tables).await;
        assert_eq!(good.len(), 2);
        let file = world.server.data_dir().join("binlog.000001");
        let mut bytes = std::fs::read(&file).unwrap();
        let end: usize = good[1]
            .position
            .as_str()
            .split(';')
            .nth(3)
            .unwrap()
            .parse()
            .unwrap();
        // Behind the rows lies the event that commits; their checksum ends before it.
        bytes[end - usize::try_from(XID_EVENT).unwrap() - 8] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let (seen, error) = world.stops(&start, &tables).await;
        assert_eq!(seen, good[..1]);
        says(
            &error,
            Kind::Transient,
            &["wrong checksum", "binlog.000001"],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_a_part_comes_in_parts_with_one_commit() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let tables = world.tables(&["a", "b"]).await;
    let start = world.here().await;
    world.sql(
        "BEGIN; INSERT INTO a SELECT seq, REPEAT('a', 100) FROM seq_1_to_5000; \
         UPDATE b SET t = ''; INSERT INTO b VALUES (1, 'end'); COMMIT; \
         INSERT INTO a VALUES (0, 'next')",
    );
    let limits = StreamLimits {
        part_bytes: 65_536,
        ..LIMITS
    };
    let mut log = world.open_with(&start, &tables, limits).await;
    let mut parts: Vec<(TxId, Option<Commit>)> = Vec::new();
    while parts.last().is_none_or(|(_, commit)| commit.is_none()) {
        let part = log.part().await.unwrap();
        assert!(part.changes.bytes() < 3 * limits.part_bytes);
        parts.push((part.id, part.commit));
    }
    assert!(parts.len() > 5, "{} parts", parts.len());
    assert!(parts.iter().all(|(id, _)| *id == parts[0].0));
    // Left in the middle, it comes again from its start.
    let mut log = world.open_with(&start, &tables, limits).await;
    log.part().await.unwrap();
    log.part().await.unwrap();
    let mut log = world.open_with(&log.at, &tables, limits).await;
    let all = log.rest().await;
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].changes.len(), all[0].parts), (5001, parts.len()));
    assert_eq!(all[1].changes, ["+a 0,'next'"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_above_the_limit_is_refused_before_it_is_read() {
    let world = World::new(&["log_bin_compress=ON"]);
    world.sql(TABLES);
    let tables = world.tables(&["a"]).await;
    let start = world.here().await;
    world.sql("INSERT INTO a VALUES (1, REPEAT('x', 3000000))");
    let limits = StreamLimits {
        row_bytes_max: 1 << 20,
        ..LIMITS
    };
    let mut log = world.open_with(&start, &tables, limits).await;
    let error = loop {
        match log.next().await {
            Ok(tx) => assert!(tx.changes.is_empty()),
            Err(error) => break error,
        }
    };
    says(&error, Kind::Data, &["larger"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_of_what_was_rolled_back() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let start = world.here().await;
    world.sql(
        "BEGIN; INSERT INTO a VALUES (1, 'no'); ROLLBACK; \
         BEGIN; COMMIT; \
         BEGIN; INSERT INTO a VALUES (2, 'yes'); SAVEPOINT s; INSERT INTO b VALUES (2, 'no'); \
         UPDATE a SET t = 'no'; ROLLBACK TO s; INSERT INTO b VALUES (3, 'yes'); COMMIT;",
    );
    let twice = "INSERT INTO a VALUES (4, 'no'), (2, 'twice')";
    world.server.sql_in("shop", twice).unwrap_err();
    world.sql("INSERT IGNORE INTO a VALUES (5, 'yes'), (2, 'twice')");
    assert_eq!(
        world.changes(&start, &["a", "b"]).await,
        [vec!["+a 2,'yes'", "+b 3,'yes'"], vec!["+a 5,'yes'"]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_come_in_the_order_in_which_they_were_made() {
    let world = World::new(&[]);
    world.sql(TABLES);
    world.sql(
        "CREATE TRIGGER of_a AFTER INSERT ON a FOR EACH ROW \
         INSERT INTO b VALUES (NEW.id + 100, CONCAT('of ', NEW.t))",
    );
    let start = world.here().await;
    world.sql(
        "BEGIN; INSERT INTO a VALUES (1, 'x'), (2, 'y'); UPDATE b SET id = id + 1 ORDER BY id DESC; \
         REPLACE INTO b VALUES (102, 'r'); INSERT INTO a VALUES (1, 'z') ON DUPLICATE KEY UPDATE t = 'd'; \
         DELETE FROM a WHERE id = 2; COMMIT; \
         INSERT INTO b SELECT id + 500, t FROM b; \
         UPDATE a, b SET a.id = 7, b.t = 'm' WHERE a.id = 1 AND b.id = 102",
    );
    let want = [
        vec![
            "+a 1,'x'",
            "+b 101,'of x'",
            "+a 2,'y'",
            "+b 102,'of y'",
            "~b 102,'of y' > 103,'of y'",
            "~b 101,'of x' > 102,'of x'",
            "~b 102,'of x' > 102,'r'",
            "~a 1,'x' > 1,'d'",
            "-a 2,'y'",
        ],
        vec!["+b 602,'r'", "+b 603,'of y'"],
        vec!["~a 1,'d' > 7,'d'", "~b 102,'r' > 102,'m'"],
    ];
    let got = world.changes(&start, &["a", "b"]).await;
    // Rows of one statement are logged table by table.
    let sorted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        let want: Vec<String> = want.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(sorted(got), sorted(&want));
        let of = |all: &[String], table: char| -> Vec<String> {
            let mine = all.iter().filter(|line| line[1..].starts_with(table));
            mine.cloned().collect()
        };
        assert_eq!(
            (of(got, 'a'), of(got, 'b')),
            (of(&want, 'a'), of(&want, 'b'))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_and_invisible_columns_are_in_every_image() {
    let world = World::new(&[]);
    world.sql(
        "CREATE TABLE g (id INT PRIMARY KEY, v INT AS (id * 2) VIRTUAL, \
         hidden INT INVISIBLE DEFAULT 5, s INT AS (id * 3) STORED, t TEXT)",
    );
    let start = world.here().await;
    world.sql("INSERT INTO g (id, t) VALUES (1, 'a'); UPDATE g SET hidden = 6; DELETE FROM g");
    assert_eq!(
        world.changes(&start, &["g"]).await,
        [
            ["+g 1,2,5,3,'a'"],
            ["~g 1,2,5,3,'a' > 1,2,6,3,'a'"],
            ["-g 1,2,6,3,'a'"]
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_position_follows_the_end_of_the_log() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let tables = world.tables(&["a"]).await;
    let mut log = world.open(&world.here().await, &tables).await;
    for round in 0..3 {
        let change = match round {
            0 => "INSERT INTO other (t) VALUES ('x'), ('y')",
            1 => "FLUSH BINARY LOGS",
            _ => "CREATE TABLE c (id INT)",
        };
        world.sql(change);
        let mark = log.source.head().await.unwrap();
        let since = Instant::now();
        while !log.source.reached(&log.at, &mark).unwrap() {
            assert!(log.next().await.unwrap().changes.is_empty());
        }
        // A heartbeat comes every half second; the rest is for a busy machine.
        assert!(
            since.elapsed() < Duration::from_secs(3),
            "{:?}",
            since.elapsed()
        );
        // A file's beginning is finished a little after it is there.
        while log.source.backlog_bytes(&log.at).await.unwrap() != Some(0) {
            log.next().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let tables = world.tables(&["a"]).await;
    let start = world.here().await;
    world.sql("INSERT INTO a VALUES (1, 'x')");
    let mut log = world.open(&start, &tables).await;
    assert_eq!(log.rest().await.len(), 1);
    world.server.pause().unwrap();
    let since = Instant::now();
    let error = loop {
        match log.next().await {
            Ok(tx) => assert!(tx.changes.is_empty()),
            Err(error) => break error,
        }
    };
    says(&error, Kind::Transient, &["sent nothing"]);
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "{:?}",
        since.elapsed()
    );
    world.server.resume().unwrap();
    world.sql("INSERT INTO a VALUES (2, 'y')");
    assert_eq!(world.follow(&log.at, &tables).await.len(), 1);
}

/// As if a kill had come when all but the last `bytes` of the log were written.
async fn cut_short(bytes: u64) -> (World, Position, Vec<Tx>) {
    let world = World::new(&[]);
    world.sql(TABLES);
    let tables = world.tables(&["a", "b"]).await;
    let start = world.here().await;
    world.sql("INSERT INTO a VALUES (1, 'whole'); BEGIN; INSERT INTO a VALUES (2, 'x'); COMMIT");
    let all = world.follow(&start, &tables).await;
    world.server.kill().unwrap();
    let file = world.server.data_dir().join("binlog.000001");
    let log = std::fs::File::options().write(true).open(&file).unwrap();
    log.set_len(log.metadata().unwrap().len() - bytes).unwrap();
    world.server.restart().unwrap();
    world.sql("INSERT INTO b VALUES (3, 'after')");
    (world, start, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_a_crash_cut_short_is_dropped() {
    let (world, start, all) = cut_short(XID_EVENT).await;
    let tables = world.tables(&["a", "b"]).await;
    let rest = world.follow(&start, &tables).await;
    assert_eq!(rest[0], all[0]);
    let after: Vec<_> = rest[1..].iter().map(|tx| tx.changes.clone()).collect();
    assert_eq!(after, [["+b 3,'after'"]]);
    let resumed = world.follow(&rest[0].position, &tables).await;
    assert_eq!(resumed, rest[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_inside_an_event_is_lost() {
    let (world, start, all) = cut_short(XID_EVENT + 9).await;
    let tables = world.tables(&["a", "b"]).await;
    let (seen, error) = world.stops(&start, &tables).await;
    assert_eq!(seen, all[..1]);
    says(&error, Kind::PositionLost, &["truncated"]);
}

/// Rows by key, as lines.
type Rows = BTreeMap<String, String>;

fn key(row: &str) -> String {
    row.split(',').next().unwrap().to_owned()
}

fn apply(rows: &mut Rows, table: &str, tx: &Tx) {
    for line in &tx.changes {
        let (name, row) = line[1..].split_once(' ').unwrap();
        if name != table {
            continue;
        }
        let (before, after) = match (&line[..1], row.split_once(" > ")) {
            ("~", Some((before, after))) => (Some(before), Some(after)),
            ("-", None) => (Some(row), None),
            _ => (None, Some(row)),
        };
        if let Some(before) = before {
            assert_eq!(rows.remove(&key(before)).as_deref(), Some(before), "{line}");
        }
        if let Some(after) = after {
            assert_eq!(rows.insert(key(after), after.to_owned()), None, "{line}");
        }
    }
}

/// Transactions over both tables, some with a rotation between.
fn busy(writer: usize) -> String {
    let one = |n: usize| {
        let id = writer * 1000 + n + 1000;
        let flush = if n == 25 { "FLUSH BINARY LOGS;" } else { "" };
        format!(
            "{flush} BEGIN; INSERT INTO a VALUES ({id}, 'w'); \
             UPDATE b SET t = 'by {id}' WHERE id = {}; DELETE FROM a WHERE id = {}; COMMIT;",
            n % 5,
            id - 3
        )
    };
    (1..=50).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_has_exactly_the_transactions_it_says() {
    let world = World::new(&[]);
    world.sql(TABLES);
    world.sql("INSERT INTO b SELECT seq, 'start' FROM seq_0_to_4");
    let tables = world.tables(&["a", "b"]).await;
    let start = world.here().await;
    let lines = |rows: &RowBatch| -> Rows {
        let rows = rows.iter().map(text);
        rows.map(|row| (key(&row), row)).collect()
    };
    let first = [0, 1].map(async |t| lines(&world.read(&tables[t]).await.0));
    let first = join_all(first).await;
    let mut reads = Vec::new();
    std::thread::scope(|scope| {
        let world = &world;
        let writers = [0, 1, 2, 3].map(|w| scope.spawn(move || world.sql(&busy(w))));
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            while reads.len() < 20 || writers.iter().any(|w| !w.is_finished()) {
                let t = reads.len() % 2;
                let (rows, seen) = runtime.block_on(world.read(&tables[t]));
                reads.push((t, lines(&rows), seen));
            }
        });
    });
    let all = world.follow(&start, &tables).await;
    assert_eq!(all.len(), 200);
    let source = world.source();
    let contains = |seen, tx: &Tx| source.contains(seen, &tx.id).unwrap();
    let mut sizes: Vec<usize> = Vec::new();
    for (t, rows, seen) in &reads {
        let name = ["a", "b"][*t];
        let mut want = first[*t].clone();
        let inside: Vec<&Tx> = all.iter().filter(|tx| contains(seen, tx)).collect();
        inside.iter().for_each(|tx| apply(&mut want, name, tx));
        assert_eq!(*rows, want, "{seen}");
        // They are a prefix, and passed as soon as the last of them is.
        let count = inside.len();
        assert!(inside.iter().zip(&all).all(|(a, b)| a.id == b.id));
        for (i, tx) in all.iter().enumerate() {
            let passed = source.passed(&tx.position, seen).unwrap();
            assert!(passed || i < count, "{seen} {i}");
            assert!(!passed || i + 1 >= count, "{seen} {i}");
        }
        sizes.push(count);
    }
    sizes.dedup();
    assert!(
        sizes.len() > 2,
        "the reads saw the writers at work: {sizes:?}"
    );
}
