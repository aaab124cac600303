//! The twin test: a value looks the same however it comes, byte by byte: loaded (the server's binary
//! form, or text for types without one we read), streamed in binary, streamed as text. The two
//! forms are read by different code, so each is the other's oracle; what is to come out is
//! spelled out for some.

use std::collections::BTreeMap;

use thalweg_core::schema::{ColumnType, TableSchema};
use thalweg_core::value::{CellRef, RowBatch, decode_raw};

use crate::log::{LIMITS, Log, Origin, read};

/// A type and values of it, as literals. Types of the second list have no binary form.
type Case = (&'static str, &'static [&'static str]);

const BINARY: &[Case] = &[
    ("boolean", &["t", "f"]),
    ("smallint", &["-32768", "-1", "0", "32767"]),
    ("integer", &["-2147483648", "-1", "0", "2147483647"]),
    (
        "bigint",
        &["-9223372036854775808", "0", "9223372036854775807"],
    ),
    ("oid", &["0", "1", "2147483648", "4294967295"]),
    (
        "real",
        &[
            "0",
            "-0",
            "1e-45",
            "-1e-45",
            "1.17549435e-38",
            "3.4028235e38",
            "-3.4028235e38",
            "0.1",
            "16777217",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e10",
            "123456.789",
            "1e-7",
        ],
    ),
    (
        "double precision",
        &[
            "0",
            "-0",
            "5e-324",
            "-5e-324",
            "2.2250738585072014e-308",
            "1.7976931348623157e308",
            "-1.7976931348623157e308",
            "0.1",
            "0.30000000000000004",
            "9007199254740993",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e22",
            "1e23",
            "123456789.123456789",
            "1e-5",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "0.0",
            "0.00000",
            "1",
            "-1",
            "10",
            "9999",
            "10000",
            "10001",
            "100000000",
            "0.1",
            "0.0001",
            "0.00001",
            "0.000000001",
            "-0.00010",
            "1.5",
            "1.50",
            "12345.6789",
            "123456789.1",
            "99999999999999999999999999999999999999999999999999999999999999999.999999999999",
            "-99999999999999999999999999999999999999.00000000000000000000000000000000000001",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e100",
            "1e-100",
            "1e5000",
            "1e-5000",
            "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899",
            "1000000000000.0000000000001",
            "20000.00002",
            "0.00012345",
            "0.9999",
            "0.99999",
        ],
    ),
    (
        "numeric(12,4)",
        &["0", "1", "99999999.9999", "-99999999.9999", "0.0001", "NaN"],
    ),
    ("numeric(5,-2)", &["0", "100", "-9999900", "12345"]),
    ("numeric(2,5)", &["0", "0.00099", "-0.00001"]),
    (
        "numeric(1000,0)",
        &["0", "7", "123456789012345678901234567890"],
    ),
    (
        "text",
        &[
            "",
            " ",
            "a",
            " a ",
            "ž",
            "日本語",
            "🦀",
            "e\u{301}",
            "a\tb\nc\r\\N",
            "\\",
            "'",
            "\"",
            "NULL",
            "\u{1}",
            "\u{7f}",
            "\u{feff}x",
            "\u{10ffff}",
            "ﷺ",
            "\\x00",
        ],
    ),
    (
        "character varying(5)",
        &["", "a", "a    ", "ěščřž", "     "],
    ),
    ("character(5)", &["", "a", "a ", " a", "ěščřž", "     "]),
    ("character", &["", "a", " "]),
    ("bpchar", &["", "a", "a  ", "  a"]),
    (
        "name",
        &[
            "",
            "a",
            "ž",
            "0123456789012345678901234567890123456789012345678901234567890123456789",
        ],
    ),
    (
        "bytea",
        &[
            "",
            "\\x00",
            "\\xff",
            "\\x00ff00",
            "\\x5c",
            "\\x27",
            "\\xdeadbeef",
        ],
    ),
    (
        "date",
        &[
            "4713-01-01 BC",
            "0001-12-31 BC",
            "0001-01-01",
            "1582-10-04",
            "1582-10-15",
            "1969-12-31",
            "1970-01-01",
            "2000-01-01",
            "1999-12-31",
            "2000-02-29",
            "1900-02-28",
            "9999-12-31",
            "10000-01-01",
            "294276-12-31",
            "5874897-12-31",
            "infinity",
            "-infinity",
            "0005-02-29 BC",
            "0001-02-29 BC",
            "0004-02-28 BC",
        ],
    ),
    (
        "time",
        &[
            "00:00",
            "00:00:00.000001",
            "12:34:56.789",
            "23:59:59.999999",
            "24:00:00",
            "23:59:60",
        ],
    ),
    ("time(0)", &["00:00", "12:34:56", "23:59:59.9"]),
    ("time(3)", &["00:00:00.001", "12:34:56.7895"]),
    (
        "timestamp",
        &[
            "4713-01-01 00:00:00 BC",
            "0001-12-31 23:59:59.999999 BC",
            "0001-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "1970-01-01 00:00:00",
            "1999-12-31 23:59:59.999999",
            "2000-01-01 00:00:00",
            "2000-01-01 00:00:00.000001",
            "2038-01-19 03:14:08",
            "9999-12-31 23:59:59.999999",
            "10000-01-01 00:00:00",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00.5 BC",
            "2016-12-31 23:59:60",
        ],
    ),
    ("timestamp(0)", &["2024-02-29 12:34:56.5", "infinity"]),
    ("timestamp(3)", &["2024-02-29 12:34:56.7894"]),
    (
        "timestamptz",
        &[
            "4713-01-01 00:00:00+00 BC",
            "0001-12-31 23:59:59.999999+00 BC",
            "0001-01-01 00:00:00+14",
            "1969-12-31 23:59:59.999999+00",
            "1970-01-01 00:00:00+00",
            "1999-12-31 23:59:59.999999-12",
            "2000-01-01 00:00:00+00",
            "2024-03-31 02:30:00+02",
            "9999-12-31 23:59:59.999999+00",
            "10000-01-01 00:00:00+00",
            "294246-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00.5+05:30 BC",
        ],
    ),
    ("timestamptz(0)", &["2024-02-29 12:34:56.5+01"]),
    (
        "interval",
        &[
            "0",
            "1 microsecond",
            "-1 microsecond",
            "1 day",
            "-1 day",
            "24 hours",
            "1 month",
            "-1 month",
            "1 year",
            "13 months",
            "-13 months",
            "1 year -1 month",
            "-1 year 2 months",
            "1 mon -1 day",
            "1 month -30 days +24:00:00",
            "178000000 years",
            "-178000000 years",
            "2147483647 days",
            "-2147483648 days",
            "2562047788:00:54.775807",
            "-2562047788:00:54.775807",
            "1 year 2 mons 3 days 04:05:06.789",
            "-1 year -2 mons -3 days -04:05:06.000007",
            "00:00:01",
            "99:59:59.999999",
            "2147483647 months",
            "-2147483648 months",
        ],
    ),
    ("interval(2)", &["1 day 00:00:01.239"]),
    ("interval day to second", &["1 day 02:03:04.5"]),
    ("interval year to month", &["5 years 3 months"]),
    (
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        ],
    ),
    (
        "json",
        &[
            "null",
            "1",
            "\"a\"",
            "[]",
            "{}",
            "{\"b\": 1,  \"a\": 2, \"b\": 3}",
            "[1, 2.50, 1e400]",
            "  {\"x\":\"\\u00e9\"}  ",
            "123456789012345678901234567890.123456789",
        ],
    ),
    (
        "jsonb",
        &[
            "null",
            "1",
            "\"a\"",
            "[]",
            "{}",
            "{\"b\": 1,  \"a\": 2, \"b\": 3}",
            "[1, 2.50, 1e100]",
            "{\"x\":\"\\u00e9\\n\"}",
            "123456789012345678901234567890.123456789",
            "true",
        ],
    ),
    ("bit", &["0", "1"]),
    ("bit(8)", &["00000000", "11111111", "10000001"]),
    (
        "bit(13)",
        &["0000000000000", "1111111111111", "1000000000001"],
    ),
    ("bit varying", &["", "0", "1", "101010101", "11111111"]),
    ("bit varying(9)", &["", "1", "111111111"]),
    ("mood", &["sad", "ok", "so, \"happy\"", "Ž"]),
    ("small", &["-3", "0", "99"]),
    ("tiny", &["1", "7"]),
    ("padded", &["a", "abc"]),
    ("mood_of_a_domain", &["ok"]),
    ("citext", &["", "aBc", "Ž"]),
];

const TEXT: &[Case] = &[
    (
        "integer[]",
        &[
            "{}",
            "{1,2,NULL}",
            "{{1,2},{3,4}}",
            "[0:1]={5,6}",
            "{-2147483648}",
        ],
    ),
    (
        "text[]",
        &[
            "{}",
            "{a,\"b,c\",\"\\\"\",NULL,\"NULL\",\"\"}",
            "{{ž},{🦀}}",
        ],
    ),
    ("numeric[]", &["{NaN,1.50,-0.001}"]),
    (
        "timestamptz[]",
        &["{\"2024-03-31 02:30:00+02\",infinity,NULL}"],
    ),
    ("bytea[]", &["{\"\\\\x00ff\"}"]),
    ("mood[]", &["{sad,ok}"]),
    ("float8[]", &["{0.1,NaN,-Infinity,5e-324}"]),
    ("interval[]", &["{\"1 year -2 mons +3 days 04:05:06\"}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": 1}\"}"]),
    ("int4range", &["empty", "[1,5)", "(,5)", "[1,)", "(,)"]),
    ("numrange", &["[1.5,2.50]", "(1,2)"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+00\",\"infinity\")"]),
    ("daterange", &["[2024-01-01,2024-02-01)"]),
    ("int8range", &["empty", "[1,9223372036854775807)"]),
    ("tsrange", &["[\"2024-01-01 00:00:00\",infinity)"]),
    ("int4multirange", &["{}", "{[1,3),[5,7)}"]),
    (
        "tstzmultirange",
        &["{}", "{[\"2024-01-01 00:00:00+00\",infinity)}"],
    ),
    ("character varying(5)[]", &["{}", "{abc,\"a    \"}"]),
    ("addr", &["(\"12, High St\",7)", "(,)", "(\"\",0)"]),
    ("addr[]", &["{\"(a,1)\",\"(,)\"}"]),
    (
        "inet",
        &[
            "0.0.0.0",
            "192.168.0.1/24",
            "::1",
            "fe80::1/64",
            "255.255.255.255",
        ],
    ),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:ff:fe:01:02:03"]),
    (
        "money",
        &["0", "-92233720368547758.08", "92233720368547758.07", "1.23"],
    ),
    (
        "timetz",
        &[
            "00:00:00+00",
            "23:59:59.999999-12",
            "24:00:00+14",
            "12:00:00+05:30",
        ],
    ),
    ("point", &["(1,2)", "(-0,1e300)", "(NaN,Infinity)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("box", &["(1,1),(0,0)"]),
    ("path", &["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    ("polygon", &["((0,0),(1,1),(1,0))"]),
    ("circle", &["<(0,0),1.5>"]),
    ("xml", &["<a b=\"c\">ž</a>", "text <b/>"]),
    ("tsvector", &["", "'a':1A 'b':2,3", "'it''s':1"]),
    ("tsquery", &["'a' & ( 'b' | !'c' )"]),
    ("\"char\"", &["a", ""]),
    ("regclass", &["pg_class", "public.twin"]),
    ("regtype", &["integer", "public.mood"]),
    ("pg_lsn", &["0/0", "16/B374D848"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("xid", &["0", "4294967295"]),
    ("xid8", &["0", "18446744073709551615"]),
    ("tid", &["(0,1)", "(4294967295,65535)"]),
    ("cid", &["0", "4294967295"]),
    ("oidvector", &["", "1 2 4294967295"]),
    ("int2vector", &["", "-32768 0 32767"]),
    ("bag", &["{1,2}"]),
    ("hstore", &["", "\"a\"=>NULL, \"b c\"=>\"1\""]),
    ("ltree", &["", "Top.Science"]),
    ("lquery", &["*.Science.*{1,2}"]),
    ("cube", &["(1)", "(0, 0),(1e300, -1.5)"]),
    ("isbn13", &["978-0-393-04002-9"]),
];

const SETUP: &str = "
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
CREATE EXTENSION cube; CREATE EXTENSION isn;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'so, \"happy\"', 'Ž');
CREATE TYPE addr AS (street text, number int);
CREATE DOMAIN small AS int CHECK (VALUE < 100); CREATE DOMAIN tiny AS small CHECK (VALUE < 10);
CREATE DOMAIN padded AS char(5); CREATE DOMAIN mood_of_a_domain AS mood; CREATE DOMAIN bag AS int[];
CREATE TABLE twin (id int PRIMARY KEY);";

fn columns(cases: &[Case], prefix: &str) -> String {
    let list = cases.iter().enumerate();
    list.map(|(i, (ty, _))| format!(", {prefix}{i} {ty}"))
        .collect()
}

/// Statements that put the n-th value of each type into row n.
fn rows(table: &str, lists: &[(&[Case], &str)]) -> String {
    let most = lists
        .iter()
        .flat_map(|(cases, _)| cases.iter().map(|(_, values)| values.len()));
    let mut sql = String::new();
    for row in 0..=most.max().unwrap() {
        let (mut names, mut values) = ("id".to_owned(), row.to_string());
        for (cases, prefix) in lists {
            for (i, (ty, all)) in cases.iter().enumerate() {
                if let Some(value) = all.get(row) {
                    names.push_str(&format!(", {prefix}{i}"));
                    values.push_str(&format!(
                        ", E'{}'::{ty}",
                        value.replace('\\', "\\\\").replace('\'', "''")
                    ));
                }
            }
        }
        sql.push_str(&format!(
            "INSERT INTO {table} ({names}) VALUES ({values});\n"
        ));
    }
    sql
}

/// Cells by row and column, as they lie in the arena.
type Cells = BTreeMap<(i64, String), Vec<u8>>;

fn cells(table: &TableSchema, rows: &RowBatch, of: impl Iterator<Item = usize>, out: &mut Cells) {
    for row in of.map(|i| rows.row(i)) {
        let Some(CellRef::I64(id)) = row.cell(0) else {
            panic!("a row without its key");
        };
        for (column, raw) in table.columns.iter().zip(row.raw_cells()) {
            out.insert((id, column.name.clone()), raw.to_vec());
        }
    }
}

async fn loaded(origin: &Origin, table: &TableSchema) -> Cells {
    let (rows, _) = read(origin.again().as_ref(), table).await;
    let mut out = Cells::new();
    cells(table, &rows, 0..rows.len(), &mut out);
    out
}

/// What the stream has of the table at `index`.
async fn streamed(log: &mut Log, tables: &[TableSchema], index: usize) -> Cells {
    let mark = log.source.head().await.unwrap();
    let mut out = Cells::new();
    while !log.source.reached(&log.at, &mark).unwrap() {
        let part = log.part().await.unwrap();
        let inserted = part.changes.changes.iter().filter(|c| c.table == index);
        let of = inserted.filter_map(|c| c.after);
        cells(&tables[index], &part.changes.rows, of, &mut out);
        if let Some(commit) = part.commit {
            log.at = commit.position;
        }
    }
    out
}

fn same(what: &str, table: &TableSchema, a: &Cells, b: &Cells) -> usize {
    assert_eq!(a.len(), b.len(), "{what}");
    for ((key, a), b) in a.iter().zip(b.values()) {
        let native = &table.column(&key.1).unwrap().native;
        let (x, y) = (decode_raw(a), decode_raw(b));
        assert_eq!(a, b, "{what}: {native} in row {}: {x:?}, {y:?}", key.0);
    }
    a.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_the_same_however_it_comes() {
    let origin = Origin::with(
        // Nothing of the server's own choice may show.
        &[
            "timezone = 'Asia/Kathmandu'",
            "datestyle = 'SQL, DMY'",
            "intervalstyle = 'iso_8601'",
            "extra_float_digits = -15",
            "bytea_output = 'escape'",
        ],
        SETUP,
    );
    origin.sql(&format!(
        "CREATE TABLE b (id int PRIMARY KEY{binary});
         CREATE TABLE t (id int PRIMARY KEY{binary}{text});",
        binary = columns(BINARY, "b"),
        text = columns(TEXT, "t"),
    ));
    let at = origin.secure(&["b", "t"]).await;
    let fill = rows("b", &[(BINARY, "b")]) + &rows("t", &[(BINARY, "b"), (TEXT, "t")]);
    origin.sql(&format!(
        "SET datestyle = ISO; SET timezone = 'UTC'; SET intervalstyle = postgres; {fill}"
    ));
    let tables = origin.tables(&["b", "t"]).await;
    let (b, t) = (&tables[0], &tables[1]);
    let loads = [loaded(&origin, b).await, loaded(&origin, t).await];
    let mut binary = Log::open(origin.again(), &at, &tables[..1], LIMITS)
        .await
        .unwrap();
    let in_binary = streamed(&mut binary, &tables[..1], 0).await;
    drop(binary);
    let mut cases = same("load and binary", b, &loads[0], &in_binary);
    for index in [0, 1] {
        let mut text = Log::open(origin.again(), &at, &tables, LIMITS)
            .await
            .unwrap();
        let as_text = streamed(&mut text, &tables, index).await;
        cases += same("load and text", &tables[index], &loads[index], &as_text);
    }
    let values: usize = BINARY
        .iter()
        .chain(TEXT)
        .map(|(_, values)| values.len())
        .sum();
    println!(
        "proof: twin, PostgreSQL: {values} values of {} types, {cases} cells compared",
        BINARY.len() + TEXT.len()
    );
    none_is_left_out(t);
    as_the_server_says(&origin, b, &loads[0]);
    assert!(b.columns.iter().any(|c| c.native == "citext" && c.folds));
    let other = |name: &str| {
        let column = t.columns.iter().find(|c| c.native == name).unwrap();
        matches!(
            &column.ty,
            ColumnType::Other {
                system: "postgres",
                ..
            }
        )
    };
    for name in [
        "integer[]",
        "public.addr",
        "public.addr[]",
        "inet",
        "public.bag",
    ] {
        assert!(other(name), "{name}");
    }
}

/// Every type that is documented has values here; the user's own are others.
fn none_is_left_out(table: &TableSchema) {
    let plain = |native: &str| match native.split_once('(') {
        Some((name, rest)) => name.to_owned() + rest.split_once(')').map_or("", |(_, rest)| rest),
        None => native.to_owned(),
    };
    let there: Vec<String> = table.columns.iter().map(|c| plain(&c.native)).collect();
    let documented = thalweg_testkit::documented::types("PostgreSQL");
    let lacking: Vec<&String> = documented
        .iter()
        .filter(|ty| !ty.starts_with("public.") && !there.contains(&plain(ty)))
        .collect();
    assert!(lacking.is_empty(), "no value of {lacking:?}");
}

/// Kinds with a text form of ours are compared with the server's.
fn as_the_server_says(origin: &Origin, table: &TableSchema, cells: &Cells) {
    let mut compared = 0;
    for column in &table.columns {
        let query = format!(
            "SET bytea_output = 'hex'; SET datestyle = 'ISO'; SELECT b.{name}::text FROM b WHERE b.{name} IS NOT NULL ORDER BY b.id",
            name = column.name
        );
        let said = || {
            origin
                .sql(&query)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let of = cells.iter().filter(|((_, name), _)| *name == column.name);
        let values = of.filter_map(|(_, raw)| match decode_raw(raw).unwrap() {
            CellRef::I64(v) => Some(v.to_string()),
            CellRef::U64(v) => Some(v.to_string()),
            CellRef::Decimal(v) => Some(v.to_string()),
            CellRef::Uuid(v) => Some(v.iter().map(|b| format!("{b:02x}")).collect()),
            CellRef::Bytes(v) => {
                let hex: String = v.iter().map(|b| format!("{b:02x}")).collect();
                Some(format!("\\x{hex}"))
            }
            CellRef::Date(date) if date.is_infinite() => Some(
                if date.year > 0 {
                    "infinity"
                } else {
                    "-infinity"
                }
                .to_owned(),
            ),
            CellRef::Date(date) => {
                let (year, era) = match date.year {
                    year @ 1.. => (year, ""),
                    year => (1 - year, " BC"),
                };
                Some(format!("{year:04}-{:02}-{:02}{era}", date.month, date.day))
            }
            _ => None,
        });
        let values: Vec<String> = values.collect();
        if values.is_empty() {
            continue;
        }
        let said = said().into_iter().map(|text| match column.ty {
            ColumnType::Uuid => text.replace('-', ""),
            _ => text,
        });
        assert_eq!(values, said.collect::<Vec<_>>(), "{}", column.native);
        compared += values.len();
    }
    assert!(compared > 80, "{compared}");
}
