//! Values of every type there and back, refused values, and what foreign keys do.

use thalweg_core::Kind;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp};
use thalweg_core::mapping::TaskOptions;
use thalweg_core::value::{CellRef, Date, DecimalRef, RowBatch};

use crate::target_world::{Goal, at, load_whole, ordered, row, says};

fn dec<'a>(negative: bool, scale: u16, digits: &'a [u8]) -> CellRef<'a> {
    CellRef::Decimal(DecimalRef::Finite {
        negative,
        scale,
        digits,
    })
}

fn day(year: i32, month: u8, day: u8) -> Date {
    Date { year, month, day }
}

const NINES: &[u8] = &[b'9'; 65];

/// A type as DDL, values of it, and values that it must not take.
fn cases() -> Vec<(&'static str, Vec<CellRef<'static>>, Vec<CellRef<'static>>)> {
    use CellRef::{
        Bits, Bytes, F32, F64, I64, Instant, Json, Other, Text, Time, Timestamp, U64, Uuid,
    };
    let date = CellRef::Date;
    let quoted = "it's \\ \"x\" \0 \n %_ 🎉 žluť ";
    let mut point = vec![0_u8, 0, 0, 0, 1, 1, 0, 0, 0];
    point.extend(1.5_f64.to_le_bytes());
    point.extend((-2_f64).to_le_bytes());
    let point: &'static [u8] = point.leak();
    let all: &'static [u8] = (0..=255).collect::<Vec<u8>>().leak();
    vec![
        (
            "tinyint(1)",
            vec![I64(0), I64(1), I64(-128)],
            vec![I64(128)],
        ),
        ("tinyint unsigned", vec![U64(255)], vec![U64(256)]),
        ("smallint", vec![I64(-32_768)], vec![I64(32_768)]),
        (
            "mediumint unsigned",
            vec![U64(16_777_215)],
            vec![U64(16_777_216)],
        ),
        ("int", vec![I64(-2_147_483_648)], vec![I64(2_147_483_648)]),
        ("bigint", vec![I64(i64::MIN), I64(i64::MAX)], vec![]),
        ("bigint unsigned", vec![U64(0), U64(u64::MAX)], vec![]),
        (
            "year",
            vec![I64(0), I64(1901), I64(2155)],
            vec![I64(70), I64(1900)],
        ),
        (
            "float",
            vec![F32(0.1), F32(f32::MAX), F32(f32::MIN_POSITIVE), F32(-1.5)],
            vec![F32(f32::NAN), F32(f32::INFINITY)],
        ),
        (
            "double",
            vec![
                F64(0.1),
                F64(f64::MAX),
                F64(5e-324),
                F64(-1e-308),
                F64(1.0 / 3.0),
            ],
            vec![F64(f64::NAN), F64(f64::NEG_INFINITY)],
        ),
        (
            "decimal(65,0)",
            vec![dec(true, 0, NINES), dec(false, 0, b"0")],
            vec![dec(false, 1, b"15"), CellRef::Decimal(DecimalRef::NaN)],
        ),
        (
            "decimal(10,4)",
            vec![
                dec(true, 4, b"12"),
                dec(false, 4, b"123456789"),
                dec(false, 4, b"1"),
            ],
            vec![dec(false, 5, b"12345"), dec(false, 0, b"1234567")],
        ),
        (
            "decimal(30,30)",
            vec![dec(false, 30, b"1")],
            vec![dec(false, 0, b"1")],
        ),
        (
            "bit(1)",
            vec![Bits(1, &[0x80]), Bits(1, &[0])],
            vec![Bits(2, &[0x80])],
        ),
        (
            "bit(10)",
            vec![Bits(10, &[0x80, 0x40])],
            vec![Bits(9, &[0x80, 0x40])],
        ),
        ("bit(64)", vec![Bits(64, &[0xff; 8])], vec![]),
        (
            "varchar(40)",
            vec![
                Text(quoted),
                Text(""),
                Text("a"),
                Text("a "),
                Text("'"),
                Text("''"),
            ],
            vec![Text("0123456789012345678901234567890123456789 ")],
        ),
        (
            "char(5)",
            vec![Text("abc"), Text("")],
            vec![Text("ab "), Text("abcdef")],
        ),
        ("tinytext", vec![Text(quoted)], vec![]),
        ("longtext", vec![Text(quoted)], vec![]),
        (
            "varchar(9) CHARACTER SET latin1",
            vec![Text("é€"), Text("it's")],
            vec![Text("žluť🎉")],
        ),
        (
            "varchar(9) CHARACTER SET ucs2",
            vec![Text("é\0 ")],
            vec![Text("🎉")],
        ),
        ("varchar(9) CHARACTER SET utf16", vec![Text("é🎉 ")], vec![]),
        ("varchar(9) CHARACTER SET utf32", vec![Text("é🎉 ")], vec![]),
        (
            "varchar(9) CHARACTER SET utf8mb3",
            vec![Text("é ")],
            vec![Text("🎉")],
        ),
        (
            "varbinary(300)",
            vec![Bytes(all), Bytes(b""), Bytes(b"'")],
            vec![],
        ),
        (
            "binary(3)",
            vec![Bytes(b"a\0\0")],
            vec![Bytes(b"a"), Bytes(b"abcd")],
        ),
        ("longblob", vec![Bytes(all)], vec![]),
        (
            "date",
            vec![
                date(day(0, 0, 0)),
                date(day(2021, 2, 31)),
                date(day(2021, 0, 0)),
                date(day(9999, 12, 31)),
            ],
            vec![
                date(day(-1, 1, 1)),
                date(day(10_000, 1, 1)),
                date(Date::INFINITY),
            ],
        ),
        (
            "time(6)",
            vec![
                Time(-3_020_399_999_999),
                Time(3_020_399_999_999),
                Time(0),
                Time(-1),
            ],
            vec![Time(3_020_400_000_000)],
        ),
        ("time", vec![Time(86_400_000_000)], vec![Time(1)]),
        (
            "datetime(6)",
            vec![
                Timestamp(day(0, 0, 0), 0),
                Timestamp(day(9999, 12, 31), 86_399_999_999),
                Timestamp(day(2021, 2, 31), 1),
            ],
            vec![
                Timestamp(Date::NEG_INFINITY, 0),
                Timestamp(day(-5, 1, 1), 0),
            ],
        ),
        (
            "datetime(3)",
            vec![Timestamp(day(2001, 1, 1), 1_000)],
            vec![Timestamp(day(2001, 1, 1), 1)],
        ),
        (
            "timestamp(6) NULL",
            vec![
                Timestamp(day(0, 0, 0), 0),
                Instant(1_000_000),
                Instant(2_147_483_647_999_999),
            ],
            vec![
                Instant(-1),
                Instant(2_147_483_648_000_000),
                Instant(i64::MAX),
            ],
        ),
        (
            "enum('a','b''c','1')",
            vec![Text("a"), Text("b'c"), Text("1"), Text("")],
            vec![Text("2"), Text("A"), Text("a ")],
        ),
        (
            "set('x','y','z')",
            vec![Text(""), Text("x,z"), Text("x,y,z")],
            vec![Text("w"), Text("x,"), Text("1")],
        ),
        (
            "json",
            vec![Json("{\"b\": 1, \"a\":2}"), Json("\"it's\"")],
            vec![Json("{")],
        ),
        ("uuid", vec![Uuid([0x11; 16]), Uuid([0xff; 16])], vec![]),
        (
            "inet6",
            vec![Other("::1"), Other("2001:db8::")],
            vec![Other("x")],
        ),
        ("inet4", vec![Other("10.0.0.1")], vec![Other("::1")]),
        ("geometry", vec![Bytes(point)], vec![Bytes(b"abc")]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_type_come_back_as_they_went() {
    let goal = Goal::new();
    let mut values = 0;
    for (n, (ty, good, bad)) in cases().into_iter().enumerate() {
        let name = format!("t{n}");
        goal.sql(&format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, v {ty}) CHARACTER SET utf8mb4"
        ));
        let plan = goal.plan_into(&[&name], TaskOptions::default()).await;
        let mut rows = RowBatch::new();
        let with_null = good.iter().copied().chain([CellRef::Null]);
        for (id, cell) in (0..).zip(with_null.clone()) {
            row(&mut rows, &[CellRef::I64(id), cell]);
        }
        let mut loader = goal.loader(&plan).await;
        let loaded = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
        loaded.unwrap_or_else(|error| panic!("{ty}: {}", error.chain()));
        // The same by the row path, and then changed in place and found again by what they hold.
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let mut ops = Vec::new();
        for (id, cell) in (100..).zip(with_null.clone()) {
            let id = CellRef::I64(id);
            let empty = row(&mut batch.rows, &[id, CellRef::Null]);
            let full = row(&mut batch.rows, &[id, cell]);
            ops.push(RowOp::Insert(empty));
            ops.push(RowOp::Update {
                before: empty,
                after: full,
            });
        }
        batch.ordered = ordered(&ops);
        let mut applier = goal.applier(&plan).await;
        let applied = applier.apply(&batch).await;
        applied.unwrap_or_else(|error| panic!("{ty}: {}", error.chain()));
        let schema = goal.world.tables(&[&name]).await.remove(0);
        let (read, _) = goal.world.read(&schema).await;
        let got: Vec<CellRef<'_>> = read.iter().map(|row| row.cell(1).unwrap()).collect();
        let expected: Vec<CellRef<'_>> = with_null.clone().chain(with_null).collect();
        assert_eq!(got, expected, "{ty}");
        values += got.len();
        for cell in bad {
            let mut applier = goal.applier(&plan).await;
            let mut batch = ApplyBatch {
                position: at(1),
                ..ApplyBatch::default()
            };
            let new = row(&mut batch.rows, &[CellRef::I64(-1), cell]);
            batch.ordered = ordered(&[RowOp::Insert(new)]);
            let error = applier.apply(&batch).await.err();
            let error = error.unwrap_or_else(|| panic!("{ty} took {cell:?}"));
            says(&error, Kind::Data, &format!("shop.{name}"), " ");
            let place = error.chain();
            // Of a geometry the server does not tell the column.
            let named = ["column v", "constraint", "1416"];
            assert!(named.iter().any(|name| place.contains(name)), "{place}");
            values += 1;
        }
    }
    println!("{values} values");
}

/// Every type of another system becomes one here, and what is proposed is what is described.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_proposed_is_created_as_it_was_proposed() {
    use crate::target_world::{column, source};
    use thalweg_core::schema::{Calendar, ColumnType as T};
    let goal = Goal::new();
    let calendar = Calendar::Real;
    let labels = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let decimal = |precision, scale| T::Decimal {
        precision,
        scale,
        special: true,
    };
    let types = [
        T::Bool,
        T::Int {
            bits: 24,
            unsigned: true,
        },
        T::Int {
            bits: 64,
            unsigned: true,
        },
        T::Float32 { special: true },
        T::Float64 { special: true },
        decimal(Some(65), Some(30)),
        decimal(Some(1000), Some(3)),
        decimal(None, None),
        T::Text { max_chars: None },
        T::Text { max_chars: Some(9) },
        T::Text {
            max_chars: Some(1 << 20),
        },
        T::Bytes { max_bytes: None },
        T::Bytes { max_bytes: Some(9) },
        T::Date { calendar },
        T::Time {
            of_day: true,
            precision: 6,
        },
        T::Timestamp {
            calendar,
            precision: 6,
        },
        T::Instant {
            calendar,
            precision: 3,
        },
        T::Instant {
            calendar: Calendar::Lenient,
            precision: 6,
        },
        T::Interval,
        T::Uuid,
        T::Json { normalised: true },
        T::Json { normalised: false },
        T::Bits {
            len: Some(9),
            varying: false,
        },
        T::Bits {
            len: Some(65),
            varying: false,
        },
        T::Bits {
            len: None,
            varying: true,
        },
        T::Enum {
            labels: labels(&["a", "b'c", "\\"]),
        },
        T::Enum {
            labels: labels(&["ends with a space "]),
        },
        T::Set {
            labels: labels(&["x", "y"]),
        },
        T::Geometry,
        T::Other {
            system: "postgres",
            name: "int4range".into(),
        },
        T::Other {
            system: "mysql",
            name: "inet6".into(),
        },
    ];
    let mut columns = vec![column("id", T::Text { max_chars: None })];
    columns.extend(types.iter().enumerate().map(|(n, ty)| {
        let mut column = column(&format!("c{n}"), ty.clone());
        column.comment = "it's \\ so".into();
        column.nullable = n % 2 == 0;
        column
    }));
    let mut from = source("t", columns, &[9, 14]);
    from.primary_key = vec![0, 12];
    let plan = goal.plan(vec![from]);
    goal.go_live(&plan).await;
    let found = goal.target.describe(&[plan.targets[0].name.clone()]).await;
    let found = found.unwrap().remove(0);
    for (is, was) in found.columns.iter().zip(&plan.targets[0].columns) {
        assert_eq!((&is.name, &is.ty), (&was.name, &was.ty));
        let key = ["id", "c11"].contains(&is.name.as_str());
        assert_eq!(is.nullable, was.nullable && !key, "{}", is.name);
        // JSON of MariaDB has a collation of its own, and is in no key.
        let folds = is.folds && !matches!(is.ty, T::Json { .. });
        assert!(!folds, "{} {}", is.name, is.native);
        assert_eq!(is.comment, if is.name == "id" { "" } else { "it's \\ so" });
    }
    assert_eq!(found.primary_key, [0, 12]);
    assert_eq!(found.unique_keys.len(), 2);
    // Planned again it is the same table, and nothing is lacking.
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    assert_eq!(goal.target.check(&goal.key, &plan).await.unwrap(), []);
}

/// Values that are sent before their statement, several of them in one row and one statement after the
/// other, by the loader and by both ways of the applier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_values_are_stored_as_they_are() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, t longtext, b longblob, j json) \
         CHARACTER SET utf8mb4",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    const TEXT: &str = "it's \\ :a ? 🎉 ";
    const OCTETS: &[u8] = b"\x00\xff'\\";
    const JSON: &str = ", \"o'\"";
    let text = |n: i64| format!("{n}{}", TEXT.repeat(90_000));
    let octets = |n: i64| [&n.to_le_bytes()[..], &OCTETS.repeat(300_000)].concat();
    let json = |n: i64| format!("[{n}{}]", JSON.repeat(200_000));
    let long = |rows: &mut RowBatch, id: i64, n: i64| {
        let (text, octets, json) = (text(n), octets(n), json(n));
        let texts = (CellRef::Text(&text), CellRef::Json(&json));
        let cells = [CellRef::I64(id), texts.0, CellRef::Bytes(&octets), texts.1];
        row(rows, &cells)
    };
    let short = |rows: &mut RowBatch, id: i64| {
        let cells = [CellRef::Text("'"), CellRef::Bytes(b"'"), CellRef::Json("1")];
        row(rows, &[&[CellRef::I64(id)], &cells[..]].concat())
    };
    let check = |want: &[(i64, i64)]| {
        let found = goal.sql("SELECT id, md5(t), md5(b), md5(j) FROM t WHERE id < 10 ORDER BY id");
        let found: Vec<_> = found
            .lines()
            .map(|l| l.split('\t').collect::<Vec<_>>())
            .collect();
        assert_eq!(found.len(), want.len());
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        for (found, (id, n)) in found.iter().zip(want) {
            let sums = format!(
                "SELECT md5(concat('{n}', repeat(x'{}', 90000))), \
                 md5(concat(x'{}', repeat(x'{}', 300000))), \
                 md5(concat('[{n}', repeat(x'{}', 200000), ']'))",
                hex(TEXT.as_bytes()),
                hex(&n.to_le_bytes()),
                hex(OCTETS),
                hex(JSON.as_bytes())
            );
            assert_eq!(found[0], id.to_string());
            assert_eq!(found[1..].join("\t"), goal.sql(&sums), "{id}");
        }
    };
    let mut rows = RowBatch::new();
    long(&mut rows, 1, 1);
    short(&mut rows, 10);
    short(&mut rows, 11);
    long(&mut rows, 2, 2);
    let mut loader = goal.loader(&plan).await;
    load_whole(loader.as_mut(), &plan, 0, &rows, "1")
        .await
        .unwrap();
    drop(loader);
    check(&[(1, 1), (2, 2)]);
    for (bulk, first) in [(false, 3), (true, 5)] {
        let mut applier = goal.applier(&plan).await;
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let rows = &mut batch.rows;
        let before = short(rows, 1);
        let update = (before, long(rows, 1, first));
        let mut inserts = vec![long(rows, first, first), long(rows, first + 1, first)];
        inserts.extend((0..10).map(|n| short(rows, first * 100 + n)));
        let mut ops = vec![RowOp::Update {
            before: update.0,
            after: update.1,
        }];
        ops.extend(inserts.iter().map(|&row| RowOp::Insert(row)));
        batch.ordered = ordered(&ops);
        let folded = FoldedTable {
            inserts,
            updates: vec![update],
            ..FoldedTable::default()
        };
        batch.folded = bulk.then(|| vec![Net::Folded(folded)]);
        applier.apply(&batch).await.unwrap();
    }
    check(&[(1, 5), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5)]);
}
