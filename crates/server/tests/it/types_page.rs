//! `docs/reference/types.md` says what the product does, as two servers and its own table of types
//! tell it.
//!
//! `UPDATE_TYPES=1 cargo nextest run -p thalweg-server the_page_of_types` writes the page anew. What
//! stands between the marks of the live results is kept; another test writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use thalweg_core::mapping::ColumnPair;
use thalweg_core::plan::{Pair, Verdict};
use thalweg_core::ports::Target;
use thalweg_core::schema::{Calendar, ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_testkit::servers::{Place, System};

use crate::pair::{config, connector};

/// Types of PostgreSQL, built in and of extensions that come with it.
const POSTGRES: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "real",
    "double precision",
    "numeric",
    "numeric(10,2)",
    "numeric(5,-2)",
    "numeric(3,5)",
    "money",
    "text",
    "character varying",
    "character varying(20)",
    "character(20)",
    "name",
    "\"char\"",
    "citext",
    "bytea",
    "bit(1)",
    "bit(20)",
    "bit varying(20)",
    "bit varying",
    "date",
    "time without time zone",
    "time(3) without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp(3) without time zone",
    "timestamp with time zone",
    "timestamp(0) with time zone",
    "interval",
    "interval year to month",
    "uuid",
    "json",
    "jsonb",
    "jsonpath",
    "xml",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "tstzmultirange",
    "tsvector",
    "tsquery",
    "integer[]",
    "text[]",
    "character varying(5)[]",
    "numeric(10,2)[]",
    "timestamp with time zone[]",
    "jsonb[]",
    "mood",
    "mood[]",
    "pair",
    "pair[]",
    "positive",
    "short_text",
    "list",
    "pg_lsn",
    "pg_snapshot",
    "xid",
    "xid8",
    "tid",
    "cid",
    "regclass",
    "oidvector",
    "int2vector",
    "hstore",
    "ltree",
    "lquery",
    "cube",
    "isbn13",
];

/// What some of them need.
const POSTGRES_SETUP: &str = "\
    CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION cube; \
    CREATE EXTENSION isn; CREATE TYPE mood AS ENUM ('sad', 'ok'); \
    CREATE TYPE pair AS (a int, b text); CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
    CREATE DOMAIN short_text AS varchar(5); CREATE DOMAIN list AS int[];";

/// Types of MariaDB.
const MARIADB: &[&str] = &[
    "TINYINT",
    "TINYINT UNSIGNED",
    "SMALLINT",
    "SMALLINT UNSIGNED",
    "MEDIUMINT",
    "MEDIUMINT UNSIGNED",
    "INT",
    "INT UNSIGNED",
    "INT(8) UNSIGNED ZEROFILL",
    "BIGINT",
    "BIGINT UNSIGNED",
    "BOOLEAN",
    "DECIMAL(10,2)",
    "DECIMAL(65,30)",
    "DECIMAL(10,2) UNSIGNED",
    "FLOAT",
    "FLOAT(7,3)",
    "DOUBLE",
    "BIT(1)",
    "BIT(20)",
    "BIT(64)",
    "CHAR(20)",
    "VARCHAR(200)",
    "TINYTEXT",
    "TEXT",
    "MEDIUMTEXT",
    "LONGTEXT",
    "VARCHAR(20) CHARACTER SET latin1",
    "TEXT CHARACTER SET sjis",
    "BINARY(16)",
    "VARBINARY(200)",
    "TINYBLOB",
    "BLOB",
    "MEDIUMBLOB",
    "LONGBLOB",
    "DATE",
    "TIME",
    "TIME(6)",
    "DATETIME",
    "DATETIME(6)",
    "TIMESTAMP NULL",
    "TIMESTAMP(6) NULL",
    "YEAR",
    "ENUM('a','b')",
    "SET('a','b')",
    "JSON",
    "UUID",
    "INET4",
    "INET6",
    "GEOMETRY",
    "POINT",
    "LINESTRING",
    "POLYGON",
    "MULTIPOINT",
    "MULTILINESTRING",
    "MULTIPOLYGON",
    "GEOMETRYCOLLECTION",
];

/// A table with a column of each type, as its server describes it, and the two targets.
struct Ends {
    tables: [TableSchema; 2],
    targets: [std::sync::Arc<dyn Target>; 2],
}

async fn ends() -> Ends {
    let mut tables = Vec::new();
    let mut targets = Vec::new();
    for (system, setup, types) in [
        (System::Postgres, POSTGRES_SETUP, POSTGRES),
        (System::MariaDb, "", MARIADB),
    ] {
        let place = Place::start(system, "shop").unwrap();
        let columns = types.iter().enumerate();
        let columns: Vec<_> = columns.map(|(n, ty)| format!("c{n} {ty}")).collect();
        place
            .sql(&format!("{setup} CREATE TABLE t ({})", columns.join(", ")))
            .unwrap();
        let account = place.target_account().unwrap();
        let target = connector(system).target(&config(&place, &account)).unwrap();
        let name = TableName::new(place.schema(), "t");
        // Of the owner, because the page is about types and not about rights.
        let mut found = target.describe(&[name]).await.unwrap();
        tables.push(found.remove(0));
        targets.push(target);
        // The server is needed no longer: proposals are made without asking.
        drop(place);
    }
    Ends {
        tables: tables.try_into().unwrap(),
        targets: targets.try_into().unwrap_or_else(|_| panic!("two targets")),
    }
}

fn text(max_chars: Option<u32>) -> ColumnType {
    ColumnType::Text { max_chars }
}

/// Kinds of types by the name they have on the page, each as its widest.
fn kinds() -> Vec<(&'static str, ColumnType)> {
    use Calendar::{Lenient, Real};
    use ColumnType as T;
    let labels = || vec!["a".to_owned(), "b".to_owned()];
    let int = |bits, unsigned| T::Int { bits, unsigned };
    let other = |system, name: &str| T::Other {
        system,
        name: name.into(),
    };
    let precision = 6;
    vec![
        ("bool", T::Bool),
        ("int", int(64, false)),
        ("unsigned int", int(64, true)),
        ("float32", T::Float32 { special: true }),
        ("float64", T::Float64 { special: true }),
        (
            "decimal",
            T::Decimal {
                precision: None,
                scale: None,
                special: true,
            },
        ),
        (
            "decimal(65,30)",
            T::Decimal {
                precision: Some(65),
                scale: Some(30),
                special: false,
            },
        ),
        ("text", text(None)),
        ("text(40)", text(Some(40))),
        ("bytes", T::Bytes { max_bytes: None }),
        ("date", T::Date { calendar: Real }),
        ("date, MySQL", T::Date { calendar: Lenient }),
        (
            "time of day",
            T::Time {
                of_day: true,
                precision,
            },
        ),
        (
            "duration",
            T::Time {
                of_day: false,
                precision,
            },
        ),
        (
            "timestamp",
            T::Timestamp {
                calendar: Real,
                precision,
            },
        ),
        (
            "timestamp, MySQL",
            T::Timestamp {
                calendar: Lenient,
                precision,
            },
        ),
        (
            "instant",
            T::Instant {
                calendar: Real,
                precision,
            },
        ),
        (
            "instant, MySQL",
            T::Instant {
                calendar: Lenient,
                precision,
            },
        ),
        ("interval", T::Interval),
        ("uuid", T::Uuid),
        ("json text", T::Json { normalised: false }),
        ("json", T::Json { normalised: true }),
        (
            "bit",
            T::Bits {
                len: Some(1),
                varying: false,
            },
        ),
        (
            "bits(20)",
            T::Bits {
                len: Some(20),
                varying: false,
            },
        ),
        (
            "varying bits",
            T::Bits {
                len: None,
                varying: true,
            },
        ),
        ("enum", T::Enum { labels: labels() }),
        ("set", T::Set { labels: labels() }),
        ("geometry", T::Geometry),
        ("other: PostGIS geometry", other("postgres", "geometry")),
        ("other: integer[]", other("postgres", "integer[]")),
        ("other: inet", other("postgres", "inet")),
        ("other: inet6, MariaDB", other("mysql", "inet6")),
    ]
}

/// A neutral type in words.
fn neutral(ty: &ColumnType) -> String {
    use ColumnType as T;
    let real = |calendar: &Calendar| match calendar {
        Calendar::Real => "",
        Calendar::Lenient => ", MySQL",
    };
    let limit = |name: &str, limit: &Option<u32>| match limit {
        Some(limit) => format!("{name}({limit})"),
        None => name.to_owned(),
    };
    match ty {
        T::Bool => "bool".into(),
        T::Int {
            bits,
            unsigned: false,
        } => format!("int{bits}"),
        T::Int {
            bits,
            unsigned: true,
        } => format!("unsigned int{bits}"),
        T::Float32 { .. } => "float32".into(),
        T::Float64 { .. } => "float64".into(),
        T::Decimal {
            precision: Some(p),
            scale,
            ..
        } => match scale {
            Some(s) => format!("decimal({p},{s})"),
            None => format!("decimal({p})"),
        },
        T::Decimal {
            precision: None, ..
        } => "decimal".into(),
        T::Text { max_chars } => limit("text", max_chars),
        T::Bytes { max_bytes } => limit("bytes", max_bytes),
        T::Date { calendar } => format!("date{}", real(calendar)),
        T::Time {
            of_day: true,
            precision,
        } => format!("time of day({precision})"),
        T::Time { precision, .. } => format!("duration({precision})"),
        T::Timestamp {
            calendar,
            precision,
        } => format!("timestamp({precision}){}", real(calendar)),
        T::Instant {
            calendar,
            precision,
        } => format!("instant({precision}){}", real(calendar)),
        T::Interval => "interval".into(),
        T::Uuid => "uuid".into(),
        T::Json { normalised: false } => "json text".into(),
        T::Json { normalised: true } => "json".into(),
        T::Bits {
            len,
            varying: false,
        } => limit("bits", len),
        T::Bits { len, .. } => limit("varying bits", len),
        T::Enum { .. } => "enum".into(),
        T::Set { .. } => "set".into(),
        T::Geometry => "geometry".into(),
        T::Other { name, .. } => format!("other: {name}"),
    }
}

/// What happens to a column at a target that makes the table for it.
fn made(target: &dyn Target, source: &TableSchema, column: &ColumnSchema) -> (String, String) {
    let pair = ColumnPair {
        source: column.name.clone(),
        target: column.name.clone(),
    };
    let name = TableName::new("public", "t");
    match target.propose(source, &name, &[pair]) {
        Err(findings) => (String::new(), findings[0].message.clone()),
        Ok(proposed) => {
            let made = &proposed.columns[0];
            let Pair { verdict, note, .. } = Pair::of(&column.ty, &made.ty);
            let note = if note.is_empty() {
                String::new()
            } else {
                format!(": {note}")
            };
            (made.native.clone(), format!("{}{note}", verdict.name()))
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const BEGIN: &str = "<!-- live results: begin -->";
const END: &str = "<!-- live results: end -->";

const HEAD: &str = include_str!("types_page.md");

fn page(ends: &Ends, live: &str) -> String {
    let mut page = HEAD.to_owned();
    for (n, system) in ["PostgreSQL", "MariaDB"].into_iter().enumerate() {
        writeln!(page, "\n## From {system}\n").unwrap();
        writeln!(
            page,
            "| type | neutral type | made in PostgreSQL | | made in MySQL and MariaDB | |"
        )
        .unwrap();
        writeln!(page, "| --- | --- | --- | --- | --- | --- |").unwrap();
        let source = &ends.tables[n];
        for column in &source.columns {
            write!(
                page,
                "| `{}` | {} ",
                cell(&column.native),
                cell(&neutral(&column.ty))
            )
            .unwrap();
            for target in &ends.targets {
                let (native, told) = made(target.as_ref(), source, column);
                write!(page, "| `{}` | {} ", cell(&native), cell(&told)).unwrap();
            }
            page.push_str("|\n");
        }
    }
    page.push_str(
        "\n## Every pair\n\nWhat a column of an existing table takes, by neutral type. `=` exact, `+` \
         widening, `≤` narrowing, `~` lossy, empty: impossible. Numbers and texts stand for all their \
         sizes; the widest is shown.\n\n| from \\ to ",
    );
    let kinds = kinds();
    for (name, _) in &kinds {
        write!(page, "| {name} ").unwrap();
    }
    page.push_str("|\n| --- ");
    kinds.iter().for_each(|_| page.push_str("| --- "));
    page.push_str("|\n");
    let mut notes: BTreeMap<(usize, &str, &str), Vec<&str>> = BTreeMap::new();
    for (from, (name, source)) in kinds.iter().enumerate() {
        write!(page, "| {name} ").unwrap();
        for (to, target) in &kinds {
            let pair = Pair::of(source, target);
            let sign = match pair.verdict {
                Verdict::Exact => "=",
                Verdict::Widening => "+",
                Verdict::Narrowing => "≤",
                Verdict::Lossy => "~",
                Verdict::Impossible => "",
            };
            write!(page, "| {sign} ").unwrap();
            if !pair.note.is_empty() && pair.verdict != Verdict::Impossible {
                let entry = notes.entry((from, pair.verdict.name(), pair.note));
                entry.or_default().push(to);
            }
        }
        page.push_str("|\n");
    }
    page.push_str("\n| from | to | | what becomes of values, or which of them fit |\n| --- | --- | --- | --- |\n");
    for ((from, verdict, note), to) in notes {
        let (name, to) = (kinds[from].0, to.join("; "));
        writeln!(page, "| {name} | {to} | {verdict} | {} |", cell(note)).unwrap();
    }
    write!(page, "\n## Live results\n\n{BEGIN}{live}{END}\n").unwrap();
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_types_says_what_the_product_does() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/types.md");
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let live = there
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END));
    let made = page(&ends().await, live.map_or("\n", |(live, _)| live));
    if std::env::var_os("UPDATE_TYPES").is_some() {
        std::fs::write(&path, &made).unwrap();
        return;
    }
    let differs = there.lines().zip(made.lines()).find(|(a, b)| a != b);
    assert!(
        there == made,
        "docs/reference/types.md is not what the product does; run this test with UPDATE_TYPES=1: {differs:?}"
    );
}
