//! The judge: equal tables are equal, and everything that is broken on purpose is found.

use System::{MariaDb, Postgres};
use thalweg_testkit::compare::{Difference, Ends, Report};
use thalweg_testkit::servers::{Place, System};

/// Type and value at the source, type and value at the target, another value at the target. Each is
/// a column of one table.
type Types = &'static [(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
)];

const MARIADB_TO_POSTGRES: Types = &[
    ("TINYINT", "-128", "smallint", "-128", "-127"),
    ("INT(6) ZEROFILL", "7", "bigint", "7", "70"),
    (
        "BIGINT UNSIGNED",
        "18446744073709551615",
        "numeric(20,0)",
        "18446744073709551615",
        "0",
    ),
    ("BOOL", "1", "boolean", "true", "false"),
    (
        "DECIMAL(65,30)",
        "-1.5",
        "numeric(65,30)",
        "-1.5",
        "-1.500000000000000000000000000001",
    ),
    ("DECIMAL(10,2)", "100", "numeric", "100.0", "10"),
    ("FLOAT", "1.1", "real", "1.1", "1.1000001"),
    (
        "FLOAT",
        "16777216",
        "double precision",
        "16777216",
        "16777217",
    ),
    (
        "DOUBLE",
        "0.1",
        "double precision",
        "0.1",
        "0.10000000000000002",
    ),
    ("DOUBLE", "5e-324", "double precision", "5e-324", "0"),
    ("CHAR(5)", "'a '", "varchar(5)", "'a'", "'a '"),
    (
        "VARCHAR(9)",
        "'ž🦊 \\\\ \\t'",
        "text",
        "E'ž🦊 \\\\ \\t'",
        "E'ž🦊 \\\\  '",
    ),
    ("TEXT", "'NULL'", "text", "'NULL'", "NULL"),
    ("TEXT", "'~'", "text", "'~'", "NULL"),
    ("TEXT", "''", "text", "''", "NULL"),
    ("TEXT CHARACTER SET latin1", "'é€'", "text", "'é€'", "'é'"),
    ("BINARY(3)", "x'01'", "bytea", "'\\x010000'", "'\\x01'"),
    (
        "BLOB",
        "x'00ff0a09'",
        "bytea",
        "'\\x00ff0a09'",
        "'\\x00ff0a0a'",
    ),
    (
        "DATE",
        "'0001-02-28'",
        "date",
        "'0001-02-28'",
        "'0001-02-28 BC'",
    ),
    (
        "TIME(6)",
        "'-838:59:59.000001'",
        "interval",
        "'-838:59:59.000001'",
        "'-838:59:59'",
    ),
    ("TIME", "'24:00:00'", "interval", "'24:00:00'", "'1 day'"),
    (
        "DATETIME(3)",
        "'2024-01-02 03:04:05.120'",
        "timestamp(3)",
        "'2024-01-02 03:04:05.12'",
        "'2024-01-02 03:04:05.121'",
    ),
    (
        "TIMESTAMP(6) NULL",
        "'2024-07-02 03:04:05.000001'",
        "timestamptz",
        "'2024-07-02 05:04:05.000001+02'",
        "'2024-07-02 03:04:05.000001+02'",
    ),
    ("YEAR", "2024", "smallint", "2024", "24"),
    (
        "BIT(10)",
        "b'1000000001'",
        "bit(10)",
        "B'1000000001'",
        "B'1000000000'",
    ),
    ("BIT(1)", "b'1'", "boolean", "true", "false"),
    ("ENUM('', 'ž')", "'ž'", "text", "'ž'", "''"),
    ("SET('a','b')", "'b,a'", "text", "'a,b'", "'b,a'"),
    (
        "JSON",
        "'{\"b\": 1}'",
        "json",
        "'{\"b\": 1}'",
        "'{\"b\":1}'",
    ),
    (
        "JSON",
        "'{\"b\": 1.0, \"a\": \"\\\\u017e\"}'",
        "jsonb",
        "'{\"a\":\"ž\",\"b\":1}'",
        "'{\"a\":\"ž\",\"b\":2}'",
    ),
    (
        "UUID",
        "'123E4567-e89b-12d3-a456-426655440000'",
        "uuid",
        "'123e4567-e89b-12d3-a456-426655440000'",
        "'123e4567-e89b-12d3-a456-426655440001'",
    ),
    ("INET6", "'::1'", "text", "'::1'", "'::2'"),
];

const POSTGRES_TO_MARIADB: Types = &[
    ("smallint", "-32768", "SMALLINT", "-32768", "0"),
    ("boolean", "true", "TINYINT(1)", "1", "0"),
    ("boolean", "true", "BIT(1)", "b'1'", "b'0'"),
    ("numeric(10,2)", "1.50", "DECIMAL(10,2)", "1.5", "1.51"),
    ("numeric", "'NaN'", "TEXT", "'NaN'", "'Infinity'"),
    ("real", "1.1", "FLOAT", "1.1", "1.1000001"),
    (
        "double precision",
        "0.1",
        "DOUBLE",
        "0.1",
        "0.10000000000000002",
    ),
    ("varchar(9)", "'ž🦊\\'", "VARCHAR(9)", "'ž🦊\\\\'", "'ž🦊'"),
    ("char(5)", "'a'", "CHAR(5)", "'a'", "'b'"),
    ("bytea", "'\\x00ff'", "LONGBLOB", "x'00ff'", "x'00'"),
    (
        "date",
        "'2024-02-29'",
        "DATE",
        "'2024-02-29'",
        "'2024-02-28'",
    ),
    (
        "time(6)",
        "'23:59:59.5'",
        "TIME(6)",
        "'23:59:59.5'",
        "'23:59:59'",
    ),
    (
        "timestamp(6)",
        "'2024-02-29 01:02:03.000001'",
        "DATETIME(6)",
        "'2024-02-29 01:02:03.000001'",
        "'2024-02-29 01:02:03'",
    ),
    (
        "timestamptz",
        "'2024-02-29 01:02:03+02'",
        "DATETIME(6)",
        "'2024-02-28 23:02:03'",
        "'2024-02-29 01:02:03'",
    ),
    (
        "uuid",
        "'123e4567-e89b-12d3-a456-426655440000'",
        "UUID",
        "'123e4567-e89b-12d3-a456-426655440000'",
        "'123e4567-e89b-12d3-a456-426655440001'",
    ),
    (
        "jsonb",
        "'{\"b\": 1.0, \"a\": 2}'",
        "JSON",
        "'{\"a\":2,\"b\":1}'",
        "'{\"a\":2,\"b\":2}'",
    ),
    (
        "json",
        "'{\"b\": 1}'",
        "JSON",
        "'{\"b\": 1}'",
        "'{\"b\":1}'",
    ),
    ("integer[]", "'{1,NULL}'", "TEXT", "'{1,NULL}'", "'{1}'"),
    ("inet", "'::1'", "TEXT", "'::1'", "'::1/128'"),
    ("inet", "'10.0.0.1/8'", "TEXT", "'10.0.0.1/8'", "'10.0.0.1'"),
    ("bit varying(9)", "B'101'", "TEXT", "'101'", "'1010'"),
    (
        "interval",
        "'1 mon 2 days'",
        "TEXT",
        "'1 mon 2 days'",
        "'1 mon'",
    ),
    ("amount", "7", "DECIMAL(9,1)", "7", "7.1"),
];

const POSTGRES_TO_POSTGRES: Types = &[
    ("numeric", "'NaN'", "numeric", "'NaN'", "0"),
    ("numeric", "1.50", "numeric", "1.5", "1.51"),
    ("real", "'NaN'", "real", "'NaN'", "'-Infinity'"),
    ("double precision", "'-0'", "double precision", "'-0'", "0"),
    ("text", "'a '", "text", "'a '", "'a'"),
    ("date", "'infinity'", "date", "'infinity'", "'-infinity'"),
    (
        "date",
        "'0044-03-15 BC'",
        "date",
        "'0044-03-15 BC'",
        "'0044-03-15'",
    ),
    (
        "timestamptz",
        "'infinity'",
        "timestamptz",
        "'infinity'",
        "'-infinity'",
    ),
    ("interval", "'1 mon'", "interval", "'1 mon'", "'30 days'"),
    ("timetz", "'12:00+02'", "timetz", "'12:00+02'", "'11:00+01'"),
    ("jsonb", "'{\"a\": 1.0}'", "jsonb", "'{\"a\": 1.0}'", "'{}'"),
    (
        "text[]",
        "'{a,NULL}'",
        "text[]",
        "'{a,NULL}'",
        "'{a,\"NULL\"}'",
    ),
    ("int4range", "'[1,5)'", "int4range", "'[1,4]'", "'empty'"),
    ("point", "'(1,2)'", "point", "'(1,2)'", "'(1,3)'"),
    ("bit(3)", "B'101'", "bit(3)", "B'101'", "B'100'"),
    ("mood", "'sad'", "mood", "'sad'", "'glad'"),
    ("pair", "'(1,a)'", "pair", "'(1,a)'", "'(1,b)'"),
];

const MARIADB_TO_MARIADB: Types = &[
    (
        "BIGINT UNSIGNED",
        "18446744073709551615",
        "BIGINT UNSIGNED",
        "18446744073709551615",
        "0",
    ),
    ("FLOAT", "1.1", "FLOAT", "1.1", "1.1000001"),
    (
        "TIME(6)",
        "'-838:59:59'",
        "TIME(6)",
        "'-838:59:59'",
        "'838:59:59'",
    ),
    ("DATE", "'0000-00-00'", "DATE", "'0000-00-00'", "NULL"),
    (
        "TEXT CHARACTER SET latin1",
        "'é€'",
        "TEXT CHARACTER SET utf8mb4",
        "'é€'",
        "'é'",
    ),
    ("VARCHAR(3)", "'a '", "VARCHAR(3)", "'a '", "'a'"),
    (
        "BIT(10)",
        "b'1000000001'",
        "BIT(10)",
        "b'1000000001'",
        "b'1'",
    ),
    (
        "POINT",
        "ST_GeomFromText('POINT(1 2)', 4326)",
        "POINT",
        "ST_GeomFromText('POINT(1 2)', 4326)",
        "ST_GeomFromText('POINT(1 2)', 0)",
    ),
    ("INET6", "'::1'", "INET6", "'::1'", "'::2'"),
    ("SET('a','b')", "'b,a'", "SET('a','b')", "'a,b'", "'b'"),
    ("YEAR", "2024", "YEAR", "2024", "2023"),
    (
        "JSON",
        "'{\"b\": 1}'",
        "JSON",
        "'{\"b\": 1}'",
        "'{\"b\":1}'",
    ),
];

/// What some of the columns need in either server.
const PREPARED: &str = "CREATE DOMAIN amount AS numeric(9,1); CREATE TYPE mood AS ENUM ('sad', 'glad'); \
                        CREATE TYPE pair AS (a int, b text);";

struct Pair {
    source: Place,
    target: Place,
}

impl Pair {
    fn start() -> Self {
        Self::between(MariaDb, Postgres)
    }

    fn between(source: System, target: System) -> Self {
        let start = |system, database| Place::start(system, database).unwrap();
        Self {
            source: start(source, "shop"),
            target: start(target, "copy"),
        }
    }

    fn ends(&self) -> Ends<'_> {
        Ends {
            source: &self.source,
            target: &self.target,
        }
    }

    fn compare(&self, table: &str) -> Report {
        let names = (self.source.table(table), self.target.table(table));
        self.ends().compare(&names.0, &names.1).unwrap()
    }
}

#[test]
fn every_type_from_mariadb_to_postgres_is_compared_and_no_change_missed() {
    every_type(MariaDb, Postgres, MARIADB_TO_POSTGRES);
}

#[test]
fn every_type_from_postgres_to_mariadb_is_compared_and_no_change_missed() {
    every_type(Postgres, MariaDb, POSTGRES_TO_MARIADB);
}

#[test]
fn every_type_from_postgres_to_postgres_is_compared_and_no_change_missed() {
    every_type(Postgres, Postgres, POSTGRES_TO_POSTGRES);
}

#[test]
fn every_type_from_mariadb_to_mariadb_is_compared_and_no_change_missed() {
    every_type(MariaDb, MariaDb, MARIADB_TO_MARIADB);
}

fn every_type(source: System, target: System, types: Types) {
    let pair = Pair::between(source, target);
    for place in [&pair.source, &pair.target] {
        let prepared = match place.system() {
            MariaDb => "SET GLOBAL sql_mode = ''",
            Postgres => PREPARED,
        };
        place.sql(prepared).unwrap();
    }
    let mut columns = (Vec::new(), Vec::new());
    let mut values = (Vec::new(), Vec::new());
    for (index, (from, value, to, same, _)) in types.iter().enumerate() {
        columns.0.push(format!("c{index} {from}"));
        columns.1.push(format!("c{index} {to}"));
        values.0.push(*value);
        values.1.push(*same);
    }
    let create = |columns: &[String]| {
        format!(
            "CREATE TABLE t (id INT PRIMARY KEY, {});",
            columns.join(", ")
        )
    };
    let insert = |values: &[&str]| {
        let nulls = vec!["NULL"; values.len()].join(", ");
        format!(
            "INSERT INTO t VALUES (1, {}), (2, {nulls});",
            values.join(", ")
        )
    };
    let (from, to) = (create(&columns.0), create(&columns.1));
    pair.source.sql(&(from + &insert(&values.0))).unwrap();
    pair.target.sql(&(to + &insert(&values.1))).unwrap();
    let report = pair.compare("t");
    assert!(report.equal(), "{report}");
    assert_eq!((report.source_rows, report.target_rows), (2, 2));
    assert_eq!(report.source_sha256, report.target_sha256);
    for (index, (from, _, _, same, other)) in types.iter().enumerate() {
        let set = |value: &str| format!("UPDATE t SET c{index} = {value} WHERE id = 1;");
        pair.target.sql(&set(other)).unwrap();
        let report = pair.compare("t");
        let expected = Difference::Different("1".into(), vec![format!("c{index}")]);
        assert_eq!(report.first, [expected], "{from}: {same} and {other}");
        assert_ne!(report.source_sha256, report.target_sha256);
        pair.target.sql(&set(same)).unwrap();
    }
}

#[test]
fn missing_extra_and_different_rows_are_counted_and_named() {
    let pair = Pair::start();
    // Keys in an order that differs from that of their text, and text keys whose order depends on
    // the collation.
    let both = "CREATE TABLE number (id BIGINT PRIMARY KEY, v INT NULL);
        INSERT INTO number VALUES (-10, 1), (-9, 1), (0, 1), (9, 1), (10, 1), (100, 1);
        CREATE TABLE word (a VARCHAR(20), b INT, v TEXT, PRIMARY KEY (a, b));
        INSERT INTO word VALUES ('B', 2, 'x'), ('a', 10, 'x'), ('a', 9, 'x'), ('é', 1, 'x'),
          ('Z ', 1, 'x'), ('🦊', 1, 'x'), ('\u{ffff}', 1, 'x'), ('', 1, 'x');";
    let binary = both.replace("VARCHAR(20)", "VARCHAR(20) COLLATE utf8mb4_nopad_bin");
    pair.source.sql(&binary).unwrap();
    pair.target.sql(both).unwrap();
    for table in ["number", "word"] {
        let report = pair.compare(table);
        assert!(report.equal(), "{report}");
    }
    let broken = "UPDATE number SET v = NULL WHERE id = -9; DELETE FROM number WHERE id = 9;
        INSERT INTO number VALUES (11, 1);
        UPDATE word SET v = 'y' WHERE a = 'é'; DELETE FROM word WHERE a = '🦊';
        INSERT INTO word VALUES ('A', 1, 'x');";
    pair.target.sql(broken).unwrap();
    let expect = |table: &str, changed: &str, missing: &str, extra: &str| {
        let report = pair.compare(table);
        assert_eq!(
            (report.missing, report.extra, report.different),
            (1, 1, 1),
            "{report}"
        );
        for found in [
            Difference::Different(changed.into(), vec!["v".into()]),
            Difference::Missing(missing.into()),
            Difference::Extra(extra.into()),
        ] {
            assert!(report.first.contains(&found), "{report}");
        }
        assert!(report.to_string().contains('≠'));
    };
    expect("number", "-9", "9", "11");
    expect("word", "\"é\", 1", "\"🦊\", 1", "\"A\", 1");
}

#[test]
fn without_a_key_rows_count_as_often_as_they_are_there() {
    let pair = Pair::start();
    let both = "CREATE TABLE t (a INT NULL, b TEXT NULL);
        INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, 'y'), (10, NULL), (9, '~');";
    pair.source.sql(both).unwrap();
    pair.target.sql(both).unwrap();
    assert!(pair.compare("t").equal());
    pair.target.sql("INSERT INTO t VALUES (1, 'x')").unwrap();
    let report = pair.compare("t");
    assert_eq!(
        (report.missing, report.extra, report.different),
        (0, 1, 0),
        "{report}"
    );
}

#[test]
fn what_cannot_be_compared_is_an_error_and_not_equal() {
    let pair = Pair::start();
    let source = "CREATE TABLE a (id INT PRIMARY KEY, v INT); CREATE TABLE b LIKE a;
        CREATE TABLE c LIKE a; CREATE TABLE d LIKE a;";
    pair.source.sql(source).unwrap();
    let target = "CREATE TABLE a (id int, v bytea); CREATE TABLE b (id int);
        CREATE TABLE c (id int, v int, w int);";
    pair.target.sql(target).unwrap();
    for (table, words) in [
        ("a", "no common form"),
        ("b", "has no v"),
        ("c", "more columns"),
        ("d", "does not exist"),
        ("e", "does not exist"),
    ] {
        let names = (pair.source.table(table), pair.target.table(table));
        let error = pair.ends().compare(&names.0, &names.1).unwrap_err();
        assert!(format!("{error:#}").contains(words), "{table}: {error:#}");
    }
}

/// At full size by `ROWS=5000000`: time and memory do not grow beyond the rows.
#[test]
fn a_large_table_is_streamed() {
    let rows: u32 = std::env::var("ROWS").map_or(200_000, |rows| rows.parse().unwrap());
    let pair = Pair::start();
    pair.source
        .sql(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, v BIGINT, s VARCHAR(20), d DOUBLE); INSERT INTO t \
                 SELECT seq, seq * 7919, concat('row ', seq), seq / 4 FROM seq_1_to_{rows}"
        ))
        .unwrap();
    pair.target
        .sql(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, v bigint, s text, d double precision); INSERT INTO t \
             SELECT n, n * 7919::bigint, 'row ' || n, n / 4.0 FROM generate_series(1, {rows}) n"
        ))
        .unwrap();
    let start = std::time::Instant::now();
    let report = pair.compare("t");
    println!("{report} in {:?}", start.elapsed());
    assert!(
        report.equal() && report.source_rows == u64::from(rows),
        "{report}"
    );
}
