//! A table cut into chunks: every row is in exactly one, and the engine's order is the server's.

use std::collections::BTreeSet;

use thalweg_core::ports::{Chunk, ChunkSize};
use thalweg_core::range::KeyRange;
use thalweg_core::value::RowBatch;

use super::world::{LIMITS, World};

const SIZE: ChunkSize = ChunkSize {
    rows: 1_000,
    bytes: 1 << 30,
};

/// Cuts a table, reads its chunks, and asserts that each row lies in the chunk that the engine
/// expects it in, and in no other; gives the rows of each.
async fn cut(world: &World, table: &str, size: ChunkSize) -> Vec<usize> {
    let schema = world.tables(&[table]).await.remove(0);
    let column = schema.primary_key[0];
    let source = world.source();
    let from = world.here().await;
    let whole = Chunk {
        table: 0,
        schema,
        range: None,
        empty: false,
    };
    let chunks = source.split(&whole, size).await.unwrap();
    let ranges: Vec<Option<KeyRange>> = chunks.iter().map(|c| c.range.clone()).collect();
    let mut keys = BTreeSet::new();
    let mut lengths = Vec::new();
    for chunk in &chunks {
        let mut reader = source.read(chunk, &from, LIMITS).await.unwrap();
        let (mut rows, mut read) = (RowBatch::new(), 0);
        while reader.next(&mut rows).await.unwrap() {
            for row in rows.iter() {
                let key = row.cell(column).unwrap();
                let holds = |range: &Option<KeyRange>| {
                    range.as_ref().is_none_or(|r| r.contains(key).unwrap())
                };
                let holders: Vec<_> = ranges.iter().filter(|range| holds(range)).collect();
                assert_eq!(holders, [&chunk.range], "{table} {key:?}");
                let raw: Vec<u8> = row.raw_cells().flatten().copied().collect();
                assert!(keys.insert(raw), "{table} {key:?} is read twice");
            }
            read += rows.len();
        }
        lengths.push(read);
    }
    let count = world.sql(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(count.trim(), keys.len().to_string(), "{table}");
    // A part is cut like the whole: the first and the last begin and end where it does.
    if let [first, .., last] = ranges.as_slice() {
        let part = Chunk {
            range: ranges.get(1).cloned().flatten(),
            ..whole.clone()
        };
        let smaller = ChunkSize {
            rows: size.rows / 4,
            ..size
        };
        let parts = source.split(&part, smaller).await.unwrap();
        let part = part.range.unwrap();
        let range = |chunk: Option<&Chunk>| chunk.unwrap().range.clone().unwrap();
        assert_eq!(range(parts.first()).from, part.from);
        assert_eq!(range(parts.last()).to, part.to);
        assert_eq!(first.as_ref().unwrap().from, None);
        assert_eq!(last.as_ref().unwrap().to, None);
    }
    lengths
}

fn even(lengths: &[usize], rows: usize) {
    let total: usize = lengths.iter().sum();
    assert!(lengths.len() >= total / rows, "{lengths:?}");
    assert!(lengths.iter().all(|n| *n < 3 * rows), "{lengths:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_cut_by_keys_whose_order_is_known() {
    let world = World::new(&[]);
    // Keys of each type, the smallest and the largest it has among them.
    let keys = [
        ("tiny", "TINYINT", "n % 256 - 128", 256),
        ("whole", "BIGINT", "n * 1000003 - 5000000000", 10_000),
        (
            "huge",
            "BIGINT UNSIGNED",
            "18446744073709551615 - CAST(n * n AS UNSIGNED)",
            10_000,
        ),
        (
            "day",
            "DATE",
            "DATE '0001-01-01' + INTERVAL n * 300 DAY",
            10_000,
        ),
        (
            "moment",
            "DATETIME(6)",
            "TIMESTAMP '1999-12-31 23:59:59.5' + INTERVAL n * 1300003 MICROSECOND",
            10_000,
        ),
        ("octets", "VARBINARY(20)", "UNHEX(MD5(n))", 10_000),
        ("fixed", "BINARY(9)", "LEFT(UNHEX(MD5(n)), n % 9)", 10_000),
    ];
    for (name, ty, key, most) in keys {
        world.sql(&format!(
            "CREATE TABLE {name} (k {ty} PRIMARY KEY, v VARCHAR(40)); \
             INSERT IGNORE INTO {name} SELECT {key}, CONCAT('row ', n) FROM \
             (SELECT CAST(seq AS SIGNED) AS n FROM seq_0_to_9999) t LIMIT {most}; ANALYZE TABLE {name}"
        ));
        let size = ChunkSize {
            rows: most as u64 / 10,
            ..SIZE
        };
        let lengths = cut(&world, name, size).await;
        assert!(lengths.len() > 3, "{name}: {lengths:?}");
        if name != "fixed" {
            even(&lengths, most / 10);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lumps_and_wide_rows_are_cut_too_and_what_cannot_be_cut_is_not() {
    let world = World::new(&[]);
    world.sql(
        "CREATE TABLE lumps (k BIGINT PRIMARY KEY); \
         INSERT INTO lumps SELECT seq FROM seq_1_to_5000; \
         INSERT INTO lumps SELECT 9223372036854770000 + seq FROM seq_1_to_5000; \
         ANALYZE TABLE lumps",
    );
    even(&cut(&world, "lumps", SIZE).await, 1_000);
    world.sql(
        "CREATE TABLE wide (k INT PRIMARY KEY, v LONGTEXT); \
         INSERT INTO wide SELECT seq, REPEAT('x', 10000) FROM seq_1_to_1000; ANALYZE TABLE wide",
    );
    let size = ChunkSize {
        bytes: 1 << 20,
        ..SIZE
    };
    even(&cut(&world, "wide", size).await, 105);
    let small = world.sql("CREATE TABLE small (k INT PRIMARY KEY); INSERT INTO small VALUES (1)");
    assert_eq!(small, "");
    assert_eq!(cut(&world, "small", SIZE).await, [1]);
    assert_eq!(
        cut(
            &world,
            "lumps",
            ChunkSize {
                rows: 1 << 40,
                ..SIZE
            }
        )
        .await,
        [10_000]
    );
    // Ordered in ways of their own, and an empty one.
    for (name, ty, key) in [
        ("texts", "VARCHAR(40)", "seq"),
        ("uuids", "UUID", "MD5(seq)"),
        ("years", "YEAR", "1901 + seq % 250"),
        ("moments", "TIMESTAMP(6)", "NOW(6) + INTERVAL seq SECOND"),
        ("numbers", "DECIMAL(20)", "seq"),
        ("empty", "INT", "seq"),
    ] {
        let rows = if name == "empty" { 0 } else { 3_000 };
        world.sql(&format!(
            "CREATE TABLE {name} (k {ty} NOT NULL PRIMARY KEY); \
             INSERT IGNORE INTO {name} SELECT {key} FROM seq_1_to_3000 LIMIT {rows}"
        ));
        let size = ChunkSize { rows: 10, ..SIZE };
        assert_eq!(cut(&world, name, size).await.len(), 1, "{name}");
    }
    world.sql("CREATE TABLE keyless (a INT)");
    let schema = world.tables(&["keyless"]).await.remove(0);
    let whole = Chunk {
        table: 0,
        schema,
        range: None,
        empty: false,
    };
    let chunks = world.source().split(&whole, SIZE).await.unwrap();
    assert_eq!(chunks, [whole]);
}
