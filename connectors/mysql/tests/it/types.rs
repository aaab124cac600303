//! The twin test: a row looks the same in the snapshot and in the stream, cell by cell and byte by
//! byte, or its column is refused before the start. [`super::twin`] runs it with everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use thalweg_core::change::ChangeKind;
use thalweg_core::schema::TableSchema;
use thalweg_core::value::{CellRef, RowBatch, decode_raw};

use super::world::{World, text};

/// What was compared so far in this process.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Columns by their types, as the server names them.
    pub(crate) types: BTreeSet<String>,
    pub(crate) rows: usize,
    /// All cells but keys.
    pub(crate) values: usize,
    /// All cells, keys included.
    pub(crate) cells: usize,
}

static COUNTED: Mutex<Counted> = Mutex::new(Counted {
    types: BTreeSet::new(),
    rows: 0,
    values: 0,
    cells: 0,
});

/// Takes what was counted.
pub(crate) fn counted() -> Counted {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut counted)
}

/// Rows by their first cell, the others as they lie in the arena.
type Image = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn image(rows: &RowBatch, which: impl Iterator<Item = usize>) -> Image {
    which
        .map(|i| {
            let cells: Vec<Vec<u8>> = rows.row(i).raw_cells().map(<[u8]>::to_vec).collect();
            (cells[0].clone(), cells)
        })
        .collect()
}

/// Reads the table by both paths, asserts that they agree, and gives the rows in order of the key.
pub(crate) async fn twin(world: &World, table: &TableSchema, fill: &str) -> Vec<String> {
    let start = world.here().await;
    world.server.sql(fill).unwrap();
    let (read, _) = world.read(table).await;
    let snapshot = image(&read, 0..read.len());
    let mut log = world.open(&start, std::slice::from_ref(table)).await;
    let mark = log.source.head().await.unwrap();
    let mut stream = Image::new();
    while !log.source.reached(&log.at, &mark).unwrap() {
        let part = log.part().await.unwrap();
        let inserted = part.changes.changes.iter().filter_map(|c| {
            assert_eq!(c.kind, ChangeKind::Insert);
            c.after
        });
        stream.extend(image(&part.changes.rows, inserted));
        if let Some(commit) = part.commit {
            log.at = commit.position;
        }
    }
    assert!(!snapshot.is_empty());
    assert_eq!(snapshot.len(), stream.len(), "{}", table.name);
    for (key, cells) in &snapshot {
        for (column, (a, b)) in table.columns.iter().zip(cells.iter().zip(&stream[key])) {
            let (a, b) = (decode_raw(a), decode_raw(b));
            assert_eq!(a, b, "{} {} of row {key:?}", column.name, column.native);
        }
        assert_eq!(*cells, stream[key], "{}", table.name);
    }
    {
        let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        let natives = table.columns.iter().skip(1).map(|c| c.native.clone());
        counted.types.extend(natives);
        counted.rows += snapshot.len();
        counted.values += snapshot.len() * (table.columns.len() - 1);
        counted.cells += snapshot.len() * table.columns.len();
    }
    let mut lines: Vec<(i64, String)> = read
        .iter()
        .map(|row| match row.cell(0) {
            Some(CellRef::I64(id)) => (id, text(row)),
            other => panic!("a key {other:?}"),
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// A table of one column and the twin of its values; gives what both paths read.
async fn column(world: &World, name: &str, ty: &str, values: &[&str]) -> Vec<String> {
    world.sql(&format!("CREATE TABLE {name} (id INT PRIMARY KEY, c {ty})"));
    let table = world.tables(&[name]).await.remove(0);
    assert_eq!(world.check(&[name]).await, [], "{ty}");
    let rows: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(i, value)| format!("({i}, {value})"))
        .collect();
    let fill = format!(
        "SET sql_mode = '', time_zone = '+00:00'; INSERT INTO shop.{name} VALUES {}",
        rows.join(", ")
    );
    let lines = twin(world, &table, &fill).await;
    assert_eq!(lines.len(), values.len());
    let behind = |line: String| line.split_once(',').unwrap().1.to_owned();
    lines.into_iter().map(behind).collect()
}

/// A type, values as literals, and how both paths read them.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

async fn all(cases: &[Case]) {
    let world = World::new(&[]);
    for (i, (ty, values)) in cases.iter().enumerate() {
        let literals: Vec<&str> = values.iter().map(|(literal, _)| *literal).collect();
        let want: Vec<&str> = values.iter().map(|(_, want)| *want).collect();
        let got = column(&world, &format!("c{i}"), ty, &literals).await;
        assert_eq!(got, want, "{ty}");
    }
}

pub(crate) async fn whole_numbers() {
    all(&[
        (
            "TINYINT",
            &[("-128", "-128"), ("127", "127"), ("NULL", "NULL")],
        ),
        ("TINYINT UNSIGNED", &[("0", "0"), ("255", "255")]),
        ("SMALLINT", &[("-32768", "-32768"), ("32767", "32767")]),
        ("SMALLINT UNSIGNED", &[("65535", "65535")]),
        (
            "MEDIUMINT",
            &[("-8388608", "-8388608"), ("8388607", "8388607")],
        ),
        ("MEDIUMINT UNSIGNED", &[("16777215", "16777215")]),
        (
            "INT",
            &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")],
        ),
        ("INT UNSIGNED", &[("0", "0"), ("4294967295", "4294967295")]),
        (
            "INT UNSIGNED ZEROFILL",
            &[("1", "1"), ("4294967295", "4294967295")],
        ),
        (
            "BIGINT",
            &[
                ("-9223372036854775808", "-9223372036854775808"),
                ("9223372036854775807", "9223372036854775807"),
            ],
        ),
        (
            "BIGINT UNSIGNED",
            &[("18446744073709551615", "18446744073709551615")],
        ),
        ("BOOL", &[("TRUE", "1"), ("FALSE", "0"), ("-7", "-7")]),
        (
            "YEAR",
            &[
                ("0", "0"),
                ("1901", "1901"),
                ("2155", "2155"),
                ("99", "1999"),
            ],
        ),
        (
            "BIT(1)",
            &[
                ("0", "Bits(1, [0])"),
                ("1", "Bits(1, [128])"),
                ("NULL", "NULL"),
            ],
        ),
        ("BIT(9)", &[("257", "Bits(9, [128, 128])")]),
        (
            "BIT(64)",
            &[(
                "18446744073709551614",
                "Bits(64, [255, 255, 255, 255, 255, 255, 255, 254])",
            )],
        ),
    ])
    .await;
}

pub(crate) async fn every_length_of_bits() {
    let world = World::new(&[]);
    let list = |each: fn(u32) -> String| (1..=64).map(each).collect::<Vec<_>>().join(", ");
    world.sql(&format!(
        "CREATE TABLE b (id INT PRIMARY KEY, {})",
        list(|n| format!("b{n} BIT({n})"))
    ));
    let table = world.tables(&["b"]).await.remove(0);
    let values = |each: fn(u32) -> String| list(each);
    let fill = format!(
        "INSERT INTO shop.b VALUES (1, {}), (2, {}), (3, {})",
        values(|n| (u64::MAX >> (64 - n)).to_string()),
        values(|n| (1_u64 << (n - 1)).to_string()),
        values(|_| "NULL".to_owned()),
    );
    assert_eq!(twin(&world, &table, &fill).await.len(), 3);
}

pub(crate) async fn fractions() {
    let world = World::new(&[]);
    let big = format!("{}.{}", "9".repeat(35), "9".repeat(30));
    let small = format!("-0.{}1", "0".repeat(29));
    let got = column(&world, "d", "DECIMAL(65,30)", &[&big, &small, "-0", "1.50"]).await;
    let digits = |scale, negative: bool, digits: &str| {
        let bytes = digits.as_bytes();
        format!("Decimal(Finite {{ negative: {negative}, scale: {scale}, digits: {bytes:?} }})")
    };
    assert_eq!(
        got,
        [
            digits(30, false, &"9".repeat(65)),
            digits(30, true, "1"),
            digits(30, false, "0"),
            digits(30, false, &format!("15{}", "0".repeat(29))),
        ]
    );
    for (i, ty) in [
        "DECIMAL(1,0)",
        "DECIMAL(9,0)",
        "DECIMAL(10,9)",
        "DECIMAL(18,9)",
        "DECIMAL(19,10)",
        "DECIMAL(30,30)",
        "DECIMAL(65,0)",
        "DECIMAL(10,2) UNSIGNED",
        "DECIMAL(20,2) UNSIGNED ZEROFILL",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("d{i}");
        column(
            &world,
            &name,
            ty,
            &["0", "0.1", "-0.9", "1", "-1", "9e70", "-9e70", "NULL"],
        )
        .await;
    }
    all(&[
        (
            "FLOAT",
            &[
                ("1.1", "F32(1.1)"),
                ("-3.40282e38", "F32(-3.40282e38)"),
                ("-1e-30", "F32(-1e-30)"),
            ],
        ),
        (
            "DOUBLE",
            &[
                ("2.2250738585072014e-308", "F64(2.2250738585072014e-308)"),
                ("-1.7976931348623157e308", "F64(-1.7976931348623157e308)"),
            ],
        ),
        ("FLOAT(7,3)", &[("1.2346", "F32(1.235)")]),
        ("DOUBLE(10,2) UNSIGNED ZEROFILL", &[("1.006", "F64(1.01)")]),
    ])
    .await;
}

pub(crate) async fn dates_and_times() {
    const ZERO: &str = "Timestamp(Date { year: 0, month: 0, day: 0 }, 0)";
    all(&[
        (
            "DATE",
            &[
                ("'0000-00-00'", "Date(Date { year: 0, month: 0, day: 0 })"),
                (
                    "'2024-00-10'",
                    "Date(Date { year: 2024, month: 0, day: 10 })",
                ),
                (
                    "'2024-05-00'",
                    "Date(Date { year: 2024, month: 5, day: 0 })",
                ),
                (
                    "'9999-12-31'",
                    "Date(Date { year: 9999, month: 12, day: 31 })",
                ),
                ("'0001-01-01'", "Date(Date { year: 1, month: 1, day: 1 })"),
            ],
        ),
        (
            "TIME",
            &[
                ("'838:59:59'", "Time(3020399000000)"),
                ("'-838:59:59'", "Time(-3020399000000)"),
                ("'-00:00:01'", "Time(-1000000)"),
                ("'00:00:00'", "Time(0)"),
            ],
        ),
        (
            "TIME(1)",
            &[
                ("'-00:00:00.1'", "Time(-100000)"),
                ("'01:00:00.9'", "Time(3600900000)"),
            ],
        ),
        ("TIME(3)", &[("'-12:00:00.001'", "Time(-43200001000)")]),
        (
            "TIME(6)",
            &[
                ("'838:59:59.999999'", "Time(3020399999999)"),
                ("'-838:59:59.999999'", "Time(-3020399999999)"),
                ("'-00:00:00.000001'", "Time(-1)"),
            ],
        ),
        (
            "DATETIME",
            &[
                ("'0000-00-00 00:00:00'", ZERO),
                (
                    "'9999-12-31 23:59:59'",
                    "Timestamp(Date { year: 9999, month: 12, day: 31 }, 86399000000)",
                ),
            ],
        ),
        (
            "DATETIME(5)",
            &[(
                "'1000-00-01 00:00:00.12345'",
                "Timestamp(Date { year: 1000, month: 0, day: 1 }, 123450)",
            )],
        ),
        (
            "DATETIME(6)",
            &[(
                "'2024-02-29 12:00:00.000001'",
                "Timestamp(Date { year: 2024, month: 2, day: 29 }, 43200000001)",
            )],
        ),
        (
            "TIMESTAMP NULL",
            &[
                ("0", ZERO),
                ("'1970-01-01 00:00:01'", "Instant(1000000)"),
                ("'2038-01-19 03:14:07'", "Instant(2147483647000000)"),
                ("NULL", "NULL"),
            ],
        ),
        (
            "TIMESTAMP(2) NULL",
            &[("'2001-09-09 01:46:40.25'", "Instant(1000000000250000)")],
        ),
        (
            "TIMESTAMP(6) NULL",
            &[
                ("0", ZERO),
                ("'2038-01-19 03:14:07.999999'", "Instant(2147483647999999)"),
            ],
        ),
    ])
    .await;
}

pub(crate) async fn octets_and_labels() {
    all(&[
        (
            "BINARY(4)",
            &[
                ("''", "Bytes([0, 0, 0, 0])"),
                ("x'00ff'", "Bytes([0, 255, 0, 0])"),
                ("x'20202020'", "Bytes([32, 32, 32, 32])"),
            ],
        ),
        ("BINARY(0)", &[("''", "Bytes([])"), ("NULL", "NULL")]),
        (
            "VARBINARY(300)",
            &[
                ("''", "Bytes([])"),
                ("x'0000'", "Bytes([0, 0])"),
                ("' '", "Bytes([32])"),
            ],
        ),
        ("TINYBLOB", &[("x'00'", "Bytes([0])"), ("NULL", "NULL")]),
        (
            "LONGBLOB",
            &[("''", "Bytes([])"), ("x'ff'", "Bytes([255])")],
        ),
        ("CHAR(0)", &[("''", "''"), ("NULL", "NULL")]),
        (
            "CHAR(255)",
            &[("' a  '", "' a'"), ("''", "''"), ("'  '", "''")],
        ),
        (
            "VARCHAR(10)",
            &[("' a  '", "' a  '"), ("''", "''"), ("NULL", "NULL")],
        ),
        (
            "TEXT",
            &[
                ("' a\\t  '", "' a\t  '"),
                ("'🦊'", "'🦊'"),
                ("'a\\0b'", "'a\0b'"),
            ],
        ),
        ("CHAR(5) COLLATE utf8mb4_nopad_bin", &[("'a  '", "'a'")]),
        (
            "ENUM('a','','it''s','b\\\\c','ž中',' x','y\\n')",
            &[
                ("1", "'a'"),
                ("2", "''"),
                ("3", "'it's'"),
                ("4", "'b\\c'"),
                ("5", "'ž中'"),
                ("6", "' x'"),
                ("7", "'y\n'"),
                ("'wrong'", "''"),
                ("NULL", "NULL"),
            ],
        ),
        (
            "SET('a','it''s','ž','b\\\\c')",
            &[
                ("''", "''"),
                ("'a,ž'", "'a,ž'"),
                ("15", "'a,it's,ž,b\\c'"),
                ("NULL", "NULL"),
            ],
        ),
        (
            "JSON",
            &[(
                "'{\"b\": 1.50, \"a\":[\"🦊\"]}'",
                "Json(\"{\\\"b\\\": 1.50, \\\"a\\\":[\\\"🦊\\\"]}\")",
            )],
        ),
        (
            "INET4",
            &[
                ("'255.0.0.1'", "Other(\"255.0.0.1\")"),
                ("'0.0.0.0'", "Other(\"0.0.0.0\")"),
            ],
        ),
        (
            "INET6",
            &[
                ("'::'", "Other(\"::\")"),
                ("'2001:db8::ff00'", "Other(\"2001:db8::ff00\")"),
                ("'::ffff:1.2.3.4'", "Other(\"::ffff:1.2.3.4\")"),
            ],
        ),
    ])
    .await;
    all(&[
        (
            "ENUM('🦊','b?','','it''s','ž\\\\') CHARACTER SET utf8mb4",
            &[
                ("1", "'🦊'"),
                ("2", "'b?'"),
                ("3", "''"),
                ("4", "'it's'"),
                ("5", "'ž\\'"),
                ("NULL", "NULL"),
            ],
        ),
        (
            "SET('?','ž🦊','c') CHARACTER SET utf16",
            &[("7", "'?,ž🦊,c'"), ("2", "'ž🦊'"), ("0", "''")],
        ),
        (
            "ENUM('中','文') CHARACTER SET gbk",
            &[("1", "'中'"), ("0", "''")],
        ),
    ])
    .await;
    let world = World::new(&[]);
    let labels = |n: u32| {
        (1..=n)
            .map(|i| format!("'l{i}'"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let labels_300 = format!("ENUM({})", labels(300));
    let got = column(&world, "e", &labels_300, &["1", "255", "256", "300"]).await;
    assert_eq!(got, ["'l1'", "'l255'", "'l256'", "'l300'"]);
    let set = format!("SET({})", labels(64));
    let got = column(
        &world,
        "s",
        &set,
        &["9223372036854775809", "18446744073709551615"],
    )
    .await;
    assert_eq!(got[0], "'l1,l64'");
    column(
        &world,
        "p",
        "GEOMETRY",
        &[
            "POINT(1, 2)",
            "ST_GeomFromText('LINESTRING(0 0, 1 1)', 4326)",
        ],
    )
    .await;
    for (i, text) in [
        "LINESTRING(0 0,1 1)",
        "POLYGON((0 0,1 0,1 1,0 0))",
        "MULTIPOINT(0 0,-1e300 1)",
        "MULTILINESTRING((0 0,1 1),(2 2,3 3))",
        "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))",
        "GEOMETRYCOLLECTION(POINT(1 2))",
    ]
    .iter()
    .enumerate()
    {
        let (ty, _) = text.split_once('(').unwrap();
        let values = [format!("ST_GeomFromText('{text}')"), "NULL".to_owned()];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        column(&world, &format!("p{i}"), ty, &values).await;
    }
    let octets = ["''", "x'00ff'", "REPEAT(x'5c', 200)", "NULL"];
    column(&world, "b1", "BLOB", &octets).await;
    column(&world, "b2", "MEDIUMBLOB", &octets).await;
    column(&world, "t1", "TINYTEXT", &["''", "' a '", "NULL"]).await;
    column(
        &world,
        "t2",
        "LONGTEXT",
        &["''", "REPEAT('🦊', 70000)", "NULL"],
    )
    .await;
    let long = ["REPEAT('x', 255)", "REPEAT('ž', 16000)", "NULL"];
    column(&world, "v", "VARCHAR(16000)", &long).await;
    column(&world, "m", "MEDIUMTEXT", &["REPEAT('ž', 3000000)", "''"]).await;
}

pub(crate) async fn uuids_of_every_version_and_variant() {
    let world = World::new(&[]);
    let texts: Vec<String> = (0..=255_u32)
        .map(|n| format!("01234567-89ab-{:x}def-{:x}edc-ba9876543210", n / 16, n % 16))
        .chain(["00000000-0000-0000-0000-000000000000".to_owned()])
        .collect();
    let literals: Vec<String> = texts.iter().map(|t| format!("'{t}'")).collect();
    let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
    let got = column(&world, "u", "UUID", &literals).await;
    // The server takes no other variants of versions that are not known.
    let taken = got.iter().filter(|got| *got != "NULL").count();
    assert!(taken > 190, "{taken}");
    for (got, text) in got.iter().zip(&texts).filter(|(got, _)| *got != "NULL") {
        let hex = text.replace('-', "");
        let bytes: Vec<u8> = (0..16)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert_eq!(*got, format!("Uuid({bytes:?})"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_exactly_is_refused_by_name() {
    let world = World::new(&[]);
    for (columns, code) in [
        ("c YEAR(2))", "column_type"),
        ("c TEXT UNIQUE)", "hidden_column"),
        ("c INT) WITH SYSTEM VERSIONING", "table_missing"),
    ] {
        let create = "CREATE OR REPLACE TABLE t (id INT PRIMARY KEY";
        world.sql(&format!("{create}, {columns}"));
        let found = world.check(&["t"]).await;
        let said: Vec<_> = found.iter().map(|f| (f.code, f.refuses())).collect();
        assert_eq!(said, [(code, true)], "{columns}");
        let subject = &found[0].subject;
        let names_it = subject.contains("shop.t.c") || subject == "shop.t: c";
        assert!(names_it || code == "table_missing", "{subject}");
    }
}

pub(crate) async fn computed_hidden_and_checked_columns_are_carried() {
    let world = World::new(&[]);
    for (name, columns, values, want) in [
        (
            "computed",
            "c INT, d INT AS (c + 1) VIRTUAL, e TEXT AS (CONCAT(c, 'x')) STORED",
            "(id, c) VALUES (1, 12)",
            "1,12,13,'12x'",
        ),
        (
            "invisible",
            "c INT INVISIBLE DEFAULT 4, d INT",
            "(id, d) VALUES (1, 2)",
            "1,4,2",
        ),
        (
            "period",
            "c DATE, d DATE, e INT, PERIOD FOR p (c, d)",
            "VALUES (1, '2020-01-01', '2021-01-01', 3)",
            "1,Date(Date { year: 2020, month: 1, day: 1 }),\
             Date(Date { year: 2021, month: 1, day: 1 }),3",
        ),
        (
            "checked",
            "c LONGTEXT CHECK (json_valid(c)), d LONGTEXT CHECK (d <> '')",
            "VALUES (1, '{}', '{}')",
            "1,Json(\"{}\"),'{}'",
        ),
    ] {
        world.sql(&format!(
            "CREATE TABLE {name} (id INT PRIMARY KEY, {columns})"
        ));
        assert_eq!(world.check(&[name]).await, []);
        let table = world.tables(&[name]).await.remove(0);
        let fill = format!("INSERT INTO shop.{name} {values}");
        assert_eq!(twin(&world, &table, &fill).await, [want]);
    }
}
