//! Storage formats that only some servers and options make: read alike by both paths.

use super::types::twin;
use super::world::World;

async fn check(world: &World, name: &str, ty: &str, values: &[&str], want: &[&str]) {
    world.sql(&format!("CREATE TABLE {name} (id INT PRIMARY KEY, c {ty})"));
    assert!(
        world.check(&[name]).await.iter().all(|f| !f.refuses()),
        "{ty}"
    );
    let table = world.tables(&[name]).await.remove(0);
    let row = |(i, value): (usize, &&str)| format!("({i}, {value})");
    let rows: Vec<String> = values.iter().enumerate().map(row).collect();
    let fill = format!(
        "SET sql_mode = '', time_zone = '+00:00'; INSERT INTO shop.{name} VALUES {}",
        rows.join(", ")
    );
    let got = twin(world, &table, &fill).await;
    let got: Vec<_> = got
        .iter()
        .map(|line| line.split_once(',').unwrap().1)
        .collect();
    assert_eq!(got, want, "{ty}");
}

pub(crate) async fn times_in_the_format_before_5_6() {
    let world = World::new(&["mysql56_temporal_format=OFF"]);
    let times = ["'838:59:59'", "'-838:59:59'", "'-00:00:01'", "0", "NULL"];
    let whole = [
        "Time(3020399000000)",
        "Time(-3020399000000)",
        "Time(-1000000)",
        "Time(0)",
        "NULL",
    ];
    check(&world, "time0", "TIME", &times, &whole).await;
    let shown = world.sql("SHOW CREATE TABLE time0");
    assert!(shown.contains("mariadb-5.3"), "{shown}");
    for fsp in 1..=6 {
        let unit = 10_i64.pow(6 - fsp);
        let fraction = 999_999 / unit * unit;
        let max = 3_020_399_000_000 + fraction;
        let (max, min) = (format!("Time({max})"), format!("Time(-{max})"));
        let tick = format!("Time(-{unit})");
        let values = [
            format!("'838:59:59.{}'", "9".repeat(fsp as usize)),
            format!("'-838:59:59.{}'", "9".repeat(fsp as usize)),
            format!("'-00:00:00.{:0>width$}'", 1, width = fsp as usize),
            "0".to_owned(),
        ];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let want = [max.as_str(), &min, &tick, "Time(0)"];
        check(
            &world,
            &format!("time{fsp}"),
            &format!("TIME({fsp})"),
            &values,
            &want,
        )
        .await;
    }
}

pub(crate) async fn moments_in_the_format_before_5_6() {
    let world = World::new(&["mysql56_temporal_format=OFF"]);
    for fsp in 0..=6 {
        let unit = 10_i64.pow(6 - fsp);
        let us = 123_456 / unit * unit;
        let values = [
            "'9999-12-31 23:59:59'",
            "'2020-02-29 01:02:03.123456'",
            "'0000-00-00 00:00:00'",
            "'2020-00-01 00:00:00'",
            "NULL",
        ];
        let stamp = |y: i32, m: u8, d: u8, us: i64| {
            format!("Timestamp(Date {{ year: {y}, month: {m}, day: {d} }}, {us})")
        };
        // The server cuts what does not fit into the fraction, as it does by default.
        let want = [
            stamp(9999, 12, 31, 86_399_000_000),
            stamp(2020, 2, 29, 3_723_000_000 + us),
            stamp(0, 0, 0, 0),
            stamp(2020, 0, 1, 0),
            "NULL".to_owned(),
        ];
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        let name = format!("datetime{fsp}");
        check(&world, &name, &format!("DATETIME({fsp})"), &values, &want).await;
        let values = [
            "'2038-01-19 03:14:07'",
            "'1970-01-01 00:00:01.123456'",
            "'0000-00-00 00:00:00'",
        ];
        let want = [
            "Instant(2147483647000000)".to_owned(),
            format!("Instant({})", 1_000_000 + us),
            stamp(0, 0, 0, 0),
        ];
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        let name = format!("timestamp{fsp}");
        let ty = format!("TIMESTAMP({fsp}) NOT NULL");
        check(&world, &name, &ty, &values, &want).await;
    }
}

pub(crate) async fn compressed_columns() {
    for config in [
        &["column_compression_zlib_wrap=ON"][..],
        &["column_compression_zlib_wrap=OFF"],
        &["column_compression_zlib_level=0"],
        &["log_bin_compress=ON", "log_bin_compress_min_len=10"],
    ] {
        let world = World::new(config);
        let long = format!("'{}'", "ab".repeat(500));
        let values = ["'short'", &long, "''", "NULL"];
        for (i, (ty, open, close)) in [
            ("TEXT COMPRESSED", "'", "'"),
            ("MEDIUMTEXT COMPRESSED CHARACTER SET latin1", "'", "'"),
            ("VARCHAR(2000) COMPRESSED", "'", "'"),
            ("VARCHAR(1000) COMPRESSED CHARACTER SET utf16", "'", "'"),
        ]
        .into_iter()
        .enumerate()
        {
            let long = format!("{open}a…{close}1000");
            let want = ["'short'", &long, "''", "NULL"];
            check(&world, &format!("text{i}"), ty, &values, &want).await;
        }
        let zeros = format!("REPEAT('{}', 100)", r"\0");
        let values = ["'short'", &zeros, "''", "NULL"];
        let bytes = |bytes: &[u8]| format!("Bytes({bytes:?})");
        let want = [
            bytes(b"short"),
            bytes(&[0; 100]),
            bytes(b""),
            "NULL".to_owned(),
        ];
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        for (i, ty) in ["BLOB COMPRESSED", "VARBINARY(2000) COMPRESSED"]
            .into_iter()
            .enumerate()
        {
            check(&world, &format!("bytes{i}"), ty, &values, &want).await;
        }
    }
}

pub(crate) async fn geometry() {
    let world = World::new(&["binlog_row_metadata=FULL"]);
    let point = |srid: u32, x: f64, y: f64| {
        let mut bytes = srid.to_le_bytes().to_vec();
        bytes.extend([1, 1, 0, 0, 0]);
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
        format!("Bytes({bytes:?})")
    };
    let want = [point(0, 1.0, -2.5), point(4326, 3.0, 4.0)];
    let want: Vec<&str> = want.iter().map(String::as_str).collect();
    let values = [
        "ST_GeomFromText('POINT(1 -2.5)')",
        "ST_GeomFromText('POINT(3 4)', 4326)",
    ];
    check(&world, "g", "GEOMETRY", &values, &want).await;
    check(&world, "p", "POINT NOT NULL", &values, &want).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_map_of_another_schema_is_an_error_that_names_the_column() {
    let world = World::new(&["binlog_row_metadata=FULL"]);
    let columns = "id INT PRIMARY KEY, a INT UNSIGNED, b VARCHAR(9) CHARACTER SET latin1, \
                   c ENUM('x', 'y'), d DECIMAL(5, 2), e DATETIME(3), f BLOB";
    for (change, word) in [
        ("ADD g INT", "8"),
        ("CHANGE a a1 INT UNSIGNED", "a1 is called a"),
        ("MODIFY a INT", "a has another sign"),
        ("MODIFY a BIGINT UNSIGNED", "a has another type"),
        (
            "MODIFY b VARCHAR(9) CHARACTER SET utf8mb4",
            "b has another character set",
        ),
        ("MODIFY c ENUM('y', 'x')", "c has another list of labels"),
        (
            "MODIFY c ENUM('x', 'y', 'z')",
            "c has another list of labels",
        ),
        ("MODIFY d DECIMAL(6, 2)", "d has another type"),
        ("MODIFY e DATETIME(2)", "e has another type"),
        (
            "MODIFY f TEXT CHARACTER SET utf8mb4",
            "f has another character set",
        ),
        ("DROP d, ADD z DECIMAL(5, 2) AFTER c", "z is called d"),
    ] {
        world.sql(&format!("CREATE OR REPLACE TABLE t ({columns})"));
        let start = world.here().await;
        world.sql("INSERT INTO t VALUES (1, 2, 'b', 'x', 1, '2020-01-01', 'f')");
        world.sql(&format!("ALTER TABLE t {change}"));
        // The task was stopped while the table was altered, and reads on with what there is now.
        let tables = world.tables(&["t"]).await;
        let (seen, error) = world.stops(&start, &tables).await;
        assert_eq!(seen, [], "{change}");
        super::world::says(&error, thalweg_core::Kind::Schema, &["shop.t", word]);
        assert!(error.hint().is_some());
    }
}
