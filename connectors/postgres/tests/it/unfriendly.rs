//! A source that is altered behind our back, and that must not suffer from us.

use std::time::Duration;

use futures_util::future::join_all;
use thalweg_core::Kind;
use thalweg_core::ports::{Chunk, ChunkSize};
use thalweg_core::position::Position;
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::value::CellRef;

use crate::log::{LIMITS, Log, Origin, lines, public, read, read_range, says};

/// What the server refuses to the application because of a publication shows in an update.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_may_always_change_its_rows() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY, n int);
         CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, n int);
         CREATE TABLE nameless (n int);
         INSERT INTO a VALUES (1, 1); INSERT INTO late VALUES (1, 1); INSERT INTO nameless VALUES (1)",
    );
    let tables = origin.tables(&["a", "late", "nameless"]).await;
    assert_eq!(tables[0].old_image, Some(vec![0]));
    assert_eq!(
        tables[1].old_image,
        Some(Vec::new()),
        "no row is named by it"
    );
    origin.secure(&["late"]).await;
    origin.sql("UPDATE late SET n = 2");
    // Tables that join later.
    origin.secure(&["a"]).await;
    for (name, table) in ["late", "nameless"].iter().zip(&tables[1..]) {
        read(origin.again().as_ref(), table).await;
        origin.sql(&format!("UPDATE {name} SET n = 3"));
        origin.sql(&format!("DELETE FROM {name}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_joins_waits_for_its_writers_however_often_it_is_tried() {
    let origin =
        Origin::new("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    origin.secure(&["a"]).await;
    let table = origin.tables(&["b"]).await.remove(0);
    origin.sql("BEGIN; INSERT INTO b VALUES (1); PREPARE TRANSACTION 'writes'");
    // A first try that ends (with its process, say) once the table is published.
    let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'b'";
    let source = origin.again();
    tokio::select! {
        tried = read_range(source.as_ref(), &table, None) => panic!("{:?}", tried.err()),
        () = origin.until(published, "1") => {}
    }
    // Then two chunks at once. Longer than any commit is waited for, their writer is.
    let source = origin.again();
    let both = join_all([(); 2].map(|()| read_range(source.as_ref(), &table, None)));
    tokio::pin!(both);
    let early = tokio::time::timeout(Duration::from_secs(15), &mut both).await;
    assert!(early.is_err(), "a chunk was read beside its writer");
    origin.sql("COMMIT PREPARED 'writes'");
    for read in both.await {
        assert_eq!(lines(&read.unwrap().0), ["1"]);
    }
    // From then on nobody waits.
    origin.sql("BEGIN; INSERT INTO b VALUES (2); PREPARE TRANSACTION 'writes'");
    let (rows, _) = read(origin.again().as_ref(), &table).await;
    assert_eq!(lines(&rows), ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_back_in_time_is_not_followed() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    // What was read of a log that the server, restored from a copy of its disk, has not any more.
    let lsn = at.as_str().split(';').nth(1).unwrap();
    let ahead = Position::new(at.as_str().replace(lsn, "F0/0"));
    origin.sql("INSERT INTO a VALUES (1)");
    let (_, error) = origin.stops(&ahead, &tables).await;
    says(
        &error,
        Kind::PositionLost,
        &["ends at", "before the position F0/0"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_server_is_read_on_again_and_again() {
    let origin = Origin::with(
        &["restore_command = 'false'"],
        "CREATE TABLE a (id int PRIMARY KEY)",
    );
    let mut at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    for n in 1..=3 {
        origin.server.stop().unwrap();
        let signal = origin.server.data_dir().join("recovery.signal");
        std::fs::write(signal, "").unwrap();
        origin.server.restart().unwrap();
        // It answers readers before its recovery has ended.
        while origin.sql("SELECT pg_is_in_recovery()").trim() != "f" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for m in 0..2 {
            origin.sql(&format!("INSERT INTO a VALUES ({n}{m})"));
            let mut log = Log::open(origin.again(), &at, &tables, LIMITS)
                .await
                .unwrap();
            let change = log.change().await;
            assert_eq!(change.changes, [format!("+a {n}{m}")]);
            at = change.position;
        }
    }
    let timeline = at.as_str().split(';').nth(3);
    assert_eq!(timeline, Some("4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_table_of_the_same_name_is_not_taken_for_it() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let swap = "BEGIN; ALTER TABLE a RENAME TO b; CREATE TABLE a (id int PRIMARY KEY); COMMIT";
    for (made, sql) in [
        ("by us", "DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY)"),
        ("by us", swap),
    ] {
        let at = origin.secure(&["a"]).await;
        let tables = origin.tables(&["a"]).await;
        origin.sql(sql);
        origin.sql("INSERT INTO a VALUES (1)");
        let (seen, error) = origin.stops(&at, &tables).await;
        assert_eq!(seen, [], "{made}: {sql}");
        says(&error, Kind::Schema, &["public.a", "made anew"]);
    }
    // While it is read, and by a publication that takes whatever there is.
    origin.sql("DROP TABLE b; CREATE PUBLICATION thalweg_all FOR ALL TABLES");
    for (name, sql) in [
        (
            "thalweg/all",
            "DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)",
        ),
        (
            "thalweg/all",
            "ALTER TABLE a RENAME TO c; INSERT INTO c VALUES (2)",
        ),
    ] {
        let source = origin.named(name);
        let at = source.secure(&public(&["a"])).await.unwrap();
        let tables = origin.tables(&["a"]).await;
        let mut log = Log::open(source, &at, &tables, LIMITS).await.unwrap();
        origin.sql(sql);
        let error = loop {
            match log.next().await {
                Ok(tx) => assert_eq!(tx.changes, Vec::<String>::new(), "{sql}"),
                Err(error) => break error,
            }
        };
        says(&error, Kind::Schema, &["public.a"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_mean_the_same_whatever_the_server_is_set_to() {
    let origin = Origin::with(
        &["standard_conforming_strings = off", "backslash_quote = off"],
        "CREATE TABLE a (id bytea PRIMARY KEY); \
         INSERT INTO a SELECT decode(lpad(to_hex(i), 2, '0'), 'hex') FROM generate_series(0, 255) i",
    );
    origin.secure(&["a"]).await;
    let table = origin.tables(&["a"]).await.remove(0);
    for at in [0, 1, 0x27, 0x5c, 0x7f, 0xff_u8] {
        let bound = Some(Bound::new(CellRef::Bytes(&[at])));
        let from = KeyRange {
            column: 0,
            from: bound,
            to: None,
        };
        let part = read_range(origin.source.as_ref(), &table, Some(from)).await;
        assert_eq!(part.unwrap().0.len(), 256 - usize::from(at), "{at}");
    }
}

/// A partition that is made later has the default identity, whatever its table has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_of_a_partition_are_not_read_as_its_tables() {
    let setup =
        "CREATE TABLE a (id int, n int, v int NOT NULL, PRIMARY KEY (id, n)) PARTITION BY LIST (n);
         CREATE TABLE a_1 PARTITION OF a FOR VALUES IN (1);
         ALTER TABLE a REPLICA IDENTITY FULL; ALTER TABLE a_1 REPLICA IDENTITY FULL;
         CREATE TABLE b (id int PRIMARY KEY, n int NOT NULL) PARTITION BY RANGE (id);
         CREATE TABLE b_1 PARTITION OF b FOR VALUES FROM (0) TO (9)";
    let origin = Origin::new(setup);
    let other = "CREATE TABLE a_2 PARTITION OF a FOR VALUES IN (2);
        INSERT INTO a VALUES (1, 1, 1), (1, 2, 1), (2, 2, 1)";
    let index = "CREATE UNIQUE INDEX u ON b_1 (n); INSERT INTO b VALUES (1, 1);
        ALTER TABLE b_1 REPLICA IDENTITY USING INDEX u";
    for (name, before, sql) in [
        ("a", other, "UPDATE a SET v = 3 WHERE n = 2"),
        (
            "a",
            "SELECT 1",
            "UPDATE a SET id = 3 WHERE id = 1 AND n = 2",
        ),
        ("a", "SELECT 1", "DELETE FROM a WHERE n = 2"),
        ("b", index, "DELETE FROM b"),
    ] {
        let at = origin.secure(&[name]).await;
        let tables = origin.tables(&[name]).await;
        origin.sql(before);
        origin.sql(sql);
        let (_, error) = origin.stops(&at, &tables).await;
        says(&error, Kind::Schema, &["another replica identity", name]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cutting_a_table_may_take_longer_than_a_question() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 100000)",
    );
    let table = origin.tables(&["a"]).await.remove(0);
    let hasty = origin.hasty(Duration::from_secs(2));
    let chunk = Chunk {
        table: 0,
        schema: table,
        range: None,
        empty: false,
    };
    let size = ChunkSize {
        rows: 10_000,
        bytes: 1 << 30,
    };
    origin.sql("BEGIN; LOCK TABLE a; PREPARE TRANSACTION 'slow'");
    let free = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        origin.sql("ROLLBACK PREPARED 'slow'");
    };
    let (chunks, ()) = tokio::join!(hasty.split(&chunk, size), free);
    assert!(chunks.unwrap().len() > 2);
}
