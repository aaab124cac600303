//! Tables that change while they are read.

use thalweg_core::Kind;
use thalweg_core::ports::{Chunk, StreamLimits};

use crate::log::{self, LIMITS, Log, Origin, lines, read, says};

/// What happens to a table, and what the stream says of it (nothing: it goes on).
const CASES: &[(&str, &str)] = &[
    ("ALTER TABLE a ADD COLUMN more int DEFAULT 7", ""),
    (
        "ALTER TABLE a ALTER u DROP NOT NULL; ALTER TABLE a ALTER t SET DEFAULT 'x'",
        "",
    ),
    ("ALTER TABLE a DROP COLUMN t", "column t is gone"),
    ("ALTER TABLE a RENAME COLUMN t TO s", "column t is gone"),
    (
        "ALTER TABLE a ALTER u TYPE bigint",
        "column u has another type",
    ),
    (
        "ALTER TABLE a ALTER t TYPE varchar(9)",
        "column t has another type",
    ),
    (
        "ALTER TABLE a DROP COLUMN u; ALTER TABLE a ADD COLUMN u int NOT NULL DEFAULT 3",
        "column u was made anew",
    ),
    ("ALTER TABLE a REPLICA IDENTITY FULL", ""),
    (
        "ALTER TABLE a REPLICA IDENTITY USING INDEX a_u",
        "replica identity",
    ),
    ("ALTER TABLE a DROP CONSTRAINT a_pkey", "replica identity"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_form_stops_the_stream_before_its_first_row() {
    for (ddl, expected) in CASES {
        let origin = Origin::new(
            "CREATE TABLE a (id int PRIMARY KEY, u int NOT NULL, t text);
             CREATE UNIQUE INDEX a_u ON a (u)",
        );
        let at = origin.secure(&["a"]).await;
        let tables = origin.tables(&["a"]).await;
        let mut log = origin.open(&at, &tables).await;
        origin.sql("INSERT INTO a VALUES (1, 1, 'before')");
        assert_eq!(log.change().await.changes, ["+a 1,1,'before'"]);
        origin.sql(ddl);
        origin.sql("INSERT INTO a (id, u) VALUES (2, 2)");
        let next = loop {
            match log.next().await {
                Ok(tx) if tx.changes.is_empty() => {}
                other => break other,
            }
        };
        match next {
            Ok(tx) => {
                assert_eq!(*expected, "", "{ddl}: {:?}", tx.changes);
                assert_eq!(tx.changes.len(), 1);
            }
            Err(error) => {
                assert_ne!(*expected, "", "{ddl}: {}", error.chain());
                says(&error, Kind::Schema, &["public.a", expected]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_given_new_files_after_the_slot_is_read_in_its_own_snapshot() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
         INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1)",
    );
    let at = origin.secure(&["a", "b"]).await;
    origin.sql("BEGIN; TRUNCATE a; INSERT INTO a VALUES (3); COMMIT; INSERT INTO b VALUES (2)");
    let tables = origin.tables(&["a", "b"]).await;
    let source = origin.source.as_ref();
    assert!(source.shared_snapshot().is_some());
    let (rows, shared) = read(source, &tables[1]).await;
    assert_eq!(lines(&rows), ["1"]);
    let (rows, seen) = read(source, &tables[0]).await;
    assert_eq!(
        lines(&rows),
        ["3"],
        "in the slot's snapshot it would be empty"
    );
    assert_eq!(
        source.shared_snapshot(),
        None,
        "chunks share one, or none does"
    );
    let mut log = origin.open(&at, &tables).await;
    let all = log.rest().await;
    let inside = |seen| {
        all.iter()
            .map(|tx| source.contains(seen, &tx.id).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(inside(&seen), [true, true]);
    assert_eq!(inside(&shared), [false, false]);
    assert!(source.passed(&log.at, &seen).unwrap(), "{} {seen}", log.at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_comes_later_is_published_before_it_is_read() {
    let origin =
        Origin::new("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    let at = origin.secure(&["a"]).await;
    // Written to before it is published, committed after: neither in the stream nor, if nobody waited
    // for it, in the load.
    origin.sql("BEGIN; INSERT INTO b VALUES (1); PREPARE TRANSACTION 'p'");
    let source = origin.again();
    let tables = origin.tables(&["a", "b"]).await;
    let decide = async {
        let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'b'";
        origin.until(published, "1").await;
        origin.sql("COMMIT PREPARED 'p'");
    };
    let ((rows, seen), ()) = tokio::join!(read(source.as_ref(), &tables[1]), decide);
    assert_eq!(lines(&rows), ["1"]);
    origin.sql("INSERT INTO b VALUES (2)");
    let mut log = Log::open(source, &at, &tables, LIMITS).await.unwrap();
    let all = log.rest().await;
    let after = all
        .iter()
        .filter(|tx| !origin.source.contains(&seen, &tx.id).unwrap());
    let after: Vec<_> = after.flat_map(|tx| tx.changes.clone()).collect();
    assert_eq!(after, ["+b 2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_above_the_limit_is_told_by_its_table() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY, t text, d bytea);
         ALTER TABLE a ALTER t SET STORAGE EXTERNAL; INSERT INTO a VALUES (1, repeat('x', 300000))",
    );
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    let limits = |row_bytes_max| StreamLimits {
        row_bytes_max,
        ..LIMITS
    };
    let chunk = Chunk {
        table: 0,
        schema: tables[0].clone(),
        range: None,
        empty: false,
    };
    let words = ["a row of public.a is larger than the limit"];
    for (limit, fits) in [(299_000, false), (301_000, true)] {
        let mut reader = origin
            .source
            .read(&chunk, &at, limits(limit))
            .await
            .unwrap();
        match log::all(reader.as_mut()).await {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits);
                says(&error, Kind::Data, &words);
            }
        }
    }
    origin.sql("INSERT INTO a VALUES (2, '', ''); INSERT INTO a VALUES (3, repeat('y', 900000))");
    for (limit, fits) in [(100_000, false), (899_000, false), (901_000, true)] {
        let mut log = Log::open(origin.again(), &at, &tables, limits(limit))
            .await
            .unwrap();
        assert_eq!(log.change().await.changes, ["+a 2,'',Bytes([])"]);
        match log.next().await {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits);
                says(&error, Kind::Data, &words);
            }
        }
    }
}
