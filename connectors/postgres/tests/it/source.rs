//! The change stream: order, images, and what identifies a row.

use crate::log::{LIMITS, Log, Origin, lines, read, read_range};
use thalweg_core::ports::{Chunk, ChunkSize, StreamLimits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_and_the_stream_behind_it_are_all() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY, t text, n numeric(12,2));
         CREATE TABLE other (id int PRIMARY KEY);
         INSERT INTO a SELECT i, 'row ' || i, i / 4.0 FROM generate_series(1, 3) i",
    );
    let tables = origin.tables(&["a"]).await;
    let at = origin.secure(&["a"]).await;
    origin.sql("INSERT INTO a VALUES (4, NULL, NULL)");
    origin.sql(
        "BEGIN; UPDATE a SET t = 'é' WHERE id = 1; DELETE FROM a WHERE id = 2;
         UPDATE a SET id = 5 WHERE id = 3; COMMIT; INSERT INTO other VALUES (1)",
    );
    let (rows, seen) = read(origin.source.as_ref(), &tables[0]).await;
    assert_eq!(
        lines(&rows),
        ["1,'row 1',0.25", "2,'row 2',0.50", "3,'row 3',0.75"],
        "the state at the slot's begin"
    );
    assert!(origin.source.passed(&at, &seen).unwrap());
    let mut log = origin.open(&at, &tables).await;
    let all = log.rest().await;
    for tx in &all {
        assert!(!origin.source.contains(&seen, &tx.id).unwrap(), "{tx:?}");
    }
    let changes: Vec<_> = all.iter().map(|tx| tx.changes.clone()).collect();
    assert_eq!(
        changes,
        [
            vec!["+a 4,NULL,NULL"],
            vec![
                "~a 1,absent,absent > 1,'é',0.25",
                "-a 2,absent,absent",
                "~a 3,absent,absent > 5,'row 3',0.75"
            ]
        ]
    );
    // From the first commit on only the second comes.
    drop(log);
    let mut log = Log::open(origin.again(), &all[0].position, &tables, LIMITS)
        .await
        .unwrap();
    let rest = log.rest().await;
    assert_eq!(rest, all[1..]);
    // A snapshot of now contains both.
    let (rows, seen) = read(origin.again().as_ref(), &tables[0]).await;
    assert_eq!(
        lines(&rows),
        ["4,NULL,NULL", "1,'é',0.25", "5,'row 3',0.75"]
    );
    for tx in &all {
        assert!(origin.source.contains(&seen, &tx.id).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_comes_in_parts() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY, t text)");
    let at = origin.secure(&["a"]).await;
    origin.sql("INSERT INTO a SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i");
    let tables = origin.tables(&["a"]).await;
    let limits = StreamLimits {
        part_bytes: 10_000,
        ..LIMITS
    };
    let mut log = Log::open(origin.again(), &at, &tables, limits)
        .await
        .unwrap();
    let all = log.rest().await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].changes.len(), 1000);
    assert!(all[0].parts > 10, "{}", all[0].parts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_the_old_row_follows_the_replica_identity() {
    let origin = Origin::new(
        "CREATE TABLE d (id int PRIMARY KEY, u int NOT NULL, t text);
         CREATE TABLE f (id int PRIMARY KEY, u int NOT NULL, t text);
         CREATE TABLE i (id int PRIMARY KEY, u int NOT NULL, t text);
         CREATE TABLE k (id int, u int NOT NULL, t text);
         ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE k REPLICA IDENTITY FULL;
         CREATE UNIQUE INDEX i_u ON i (u); ALTER TABLE i REPLICA IDENTITY USING INDEX i_u;",
    );
    let names = ["d", "f", "i", "k"];
    let images: Vec<_> = origin
        .tables(&names)
        .await
        .into_iter()
        .map(|t| t.old_image)
        .collect();
    assert_eq!(images, [Some(vec![0]), None, Some(vec![1]), None]);
    let mut sql = String::new();
    for name in names {
        sql.push_str(&format!(
            "INSERT INTO {name} VALUES (1, 1, 'a'); UPDATE {name} SET t = 'b';
             UPDATE {name} SET id = 2; UPDATE {name} SET u = 2; DELETE FROM {name};"
        ));
    }
    let changes: Vec<_> = origin.changes(&names, &sql).await.concat();
    assert_eq!(
        changes,
        [
            "+d 1,1,'a'",
            "~d 1,absent,absent > 1,1,'b'",
            "~d 1,absent,absent > 2,1,'b'",
            "~d 2,absent,absent > 2,2,'b'",
            "-d 2,absent,absent",
            "+f 1,1,'a'",
            "~f 1,1,'a' > 1,1,'b'",
            "~f 1,1,'b' > 2,1,'b'",
            "~f 2,1,'b' > 2,2,'b'",
            "-f 2,2,'b'",
            "+i 1,1,'a'",
            "~i absent,1,absent > 1,1,'b'",
            "~i absent,1,absent > 2,1,'b'",
            "~i absent,1,absent > 2,2,'b'",
            "-i absent,2,absent",
            "+k 1,1,'a'",
            "~k 1,1,'a' > 1,1,'b'",
            "~k 1,1,'b' > 2,1,'b'",
            "~k 2,1,'b' > 2,2,'b'",
            "-k 2,2,'b'",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_toasted_value_that_did_not_change_is_not_null() {
    let origin = Origin::new(
        "CREATE TABLE d (id int PRIMARY KEY, n int, t text);
         CREATE TABLE f (id int PRIMARY KEY, n int, t text);
         ALTER TABLE f REPLICA IDENTITY FULL;
         ALTER TABLE d ALTER t SET STORAGE EXTERNAL; ALTER TABLE f ALTER t SET STORAGE EXTERNAL;
         INSERT INTO d VALUES (1, 1, repeat('x', 100000)); INSERT INTO f SELECT * FROM d",
    );
    let changes = origin
        .changes(
            &["d", "f"],
            "UPDATE d SET n = 2; UPDATE d SET t = repeat('y', 90000); UPDATE d SET id = 2;
             UPDATE f SET n = 2; UPDATE f SET t = NULL",
        )
        .await
        .concat();
    assert_eq!(
        changes,
        [
            "~d 1,absent,absent > 1,2,unchanged",
            "~d 1,absent,absent > 1,2,'y…'90000",
            "~d 1,absent,absent > 2,2,unchanged",
            "~f 1,1,'x…'100000 > 1,2,'x…'100000",
            "~f 1,2,'x…'100000 > 1,2,NULL",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncate_names_every_table_it_empties() {
    let origin = Origin::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE q (id int PRIMARY KEY);
         CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p);
         INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1); INSERT INTO q VALUES (1)",
    );
    let changes = origin
        .changes(
            &["p", "q", "c"],
            "BEGIN; TRUNCATE p, q CASCADE; INSERT INTO p VALUES (2); COMMIT; TRUNCATE q",
        )
        .await;
    assert_eq!(changes.len(), 2);
    let mut first = changes[0].clone();
    first[..3].sort();
    assert_eq!(first, ["!c", "!p", "!q", "+p 2"]);
    assert_eq!(changes[1], ["!q"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_their_root_or_tables_of_their_own() {
    let setup =
        "CREATE TABLE r (id int, at date, t text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
         CREATE TABLE r_1 PARTITION OF r FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
         CREATE TABLE r_2 (t text, x int, at date NOT NULL, id int NOT NULL);
         ALTER TABLE r_2 DROP x;
         ALTER TABLE r ATTACH PARTITION r_2 FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
         INSERT INTO r VALUES (1, '2024-02-03', 'a'), (2, '2024-08-03', 'b');";
    let work = "UPDATE r SET t = 'z' WHERE id = 2; UPDATE r SET at = '2024-09-09' WHERE id = 1;
         INSERT INTO r_2 (id, at) VALUES (3, '2024-12-31'); DELETE FROM r WHERE id = 2;
         CREATE TABLE r_3 PARTITION OF r FOR VALUES FROM ('2025-01-01') TO ('2025-07-01');
         INSERT INTO r VALUES (4, '2025-01-01', 'new')";
    let day = |m: u8, d: u8, y: i32| format!("Date(Date {{ year: {y}, month: {m}, day: {d} }})");
    let origin = Origin::new(setup);
    let at = origin.secure(&["r"]).await;
    let tables = origin.tables(&["r"]).await;
    let (rows, _) = read(origin.source.as_ref(), &tables[0]).await;
    assert_eq!(rows.len(), 2);
    origin.sql(work);
    let mut log = origin.open(&at, &tables).await;
    let changes: Vec<_> = log
        .rest()
        .await
        .into_iter()
        .flat_map(|tx| tx.changes)
        .collect();
    let (a, b, c) = (day(2, 3, 2024), day(8, 3, 2024), day(9, 9, 2024));
    assert_eq!(
        changes,
        [
            format!("~r 2,{b},absent > 2,{b},'z'"),
            format!("-r 1,{a},absent"),
            format!("+r 1,{c},'a'"),
            format!("+r 3,{},NULL", day(12, 31, 2024)),
            format!("-r 2,{b},absent"),
            format!("+r 4,{},'new'", day(1, 1, 2025)),
        ]
    );
    let leaves = Origin::new(setup);
    let changes = leaves.changes(&["r_1", "r_2"], work).await.concat();
    assert_eq!(
        changes,
        [
            format!("~r_2 absent,{b},2 > 'z',{b},2"),
            format!("-r_1 1,{a},absent"),
            format!("+r_2 'a',{c},1"),
            format!("+r_2 NULL,{},3", day(12, 31, 2024)),
            format!("-r_2 absent,{b},2"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_savepoint_took_back_does_not_come() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let changes = origin
        .changes(
            &["a"],
            "BEGIN; INSERT INTO a VALUES (1); SAVEPOINT s; INSERT INTO a VALUES (2);
             SAVEPOINT t; INSERT INTO a VALUES (3); ROLLBACK TO s; INSERT INTO a VALUES (4);
             RELEASE s; COMMIT; BEGIN; INSERT INTO a VALUES (5); ROLLBACK;
             SELECT pg_logical_emit_message(true, 'x', 'y'); INSERT INTO a VALUES (6)",
        )
        .await;
    assert_eq!(changes, [vec!["+a 1", "+a 4"], vec!["+a 6"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_cut_into_chunks_that_make_it_up() {
    let origin = Origin::new(
        "CREATE TABLE n (id int PRIMARY KEY, t text);
         CREATE TABLE u (id uuid PRIMARY KEY, t text);
         CREATE TABLE d (at timestamptz, id int, PRIMARY KEY (at, id));
         CREATE TABLE b (id bytea PRIMARY KEY);
         CREATE TABLE t (id text PRIMARY KEY);
         INSERT INTO n SELECT i * i, repeat('x', 50) FROM generate_series(-20000, 20000) i
           WHERE i <= 0 OR i % 2 = 0 ON CONFLICT DO NOTHING;
         INSERT INTO u SELECT md5(i::text)::uuid, 'y' FROM generate_series(1, 20000) i;
         INSERT INTO d SELECT timestamptz 'epoch' + i % 7 * interval '1 day', i FROM generate_series(1, 20000) i;
         INSERT INTO b SELECT sha256(i::text::bytea) FROM generate_series(1, 20000) i;
         INSERT INTO t SELECT i FROM generate_series(1, 20000) i",
    );
    let names = ["n", "u", "d", "b", "t"];
    let tables = origin.tables(&names).await;
    origin.secure(&names).await;
    let size = ChunkSize {
        rows: 4_000,
        bytes: 1 << 30,
    };
    for (table, pieces) in tables.iter().zip([4..=6, 4..=6, 4..=6, 4..=6, 1..=1]) {
        let whole = Chunk {
            table: 0,
            schema: table.clone(),
            range: None,
            empty: false,
        };
        let chunks = origin.source.split(&whole, size).await.unwrap();
        assert!(
            pieces.contains(&chunks.len()),
            "{}: {}",
            table.name,
            chunks.len()
        );
        let (all, _) = read(origin.source.as_ref(), table).await;
        let mut parts = Vec::new();
        for chunk in &chunks {
            let (rows, seen) = read_range(origin.source.as_ref(), table, chunk.range.clone())
                .await
                .unwrap();
            assert_eq!(Some(seen), origin.source.shared_snapshot());
            assert!(
                rows.len() < all.len() / 2 || chunks.len() < 2,
                "{}: {} of {}",
                table.name,
                rows.len(),
                all.len()
            );
            for row in rows.iter() {
                let key = row.cell(0).unwrap();
                let range = chunk.range.as_ref();
                assert_ne!(range.and_then(|range| range.contains(key)), Some(false));
            }
            parts.extend(lines(&rows));
        }
        let mut all = lines(&all);
        all.sort();
        parts.sort();
        assert_eq!(all, parts, "{}", table.name);
    }
}
