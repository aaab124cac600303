//! A log with a column of every type.

use serde_json::json;

use super::super::{Binlog, Column, Form, Rows, int, json as doc};
use super::{Log, SERVER, begin};

/// A column that is a number.
fn number(name: &'static str, ty: u8, meta: &[u8], unsigned: bool) -> Column {
    Column {
        unsigned: Some(unsigned),
        ..Column::other(name, ty, meta)
    }
}

/// A column that is a text or octets.
fn string(name: &'static str, ty: u8, meta: &[u8], collation: u16) -> Column {
    Column {
        collation: Some(collation),
        ..Column::other(name, ty, meta)
    }
}

/// `DECIMAL(20,5)`: 6 digits in 3 octets, 9 in 4, 5 in 3.
fn decimal(negative: bool, [a, b, c]: [u32; 3]) -> Vec<u8> {
    let mut out = [
        &a.to_be_bytes()[1..],
        &b.to_be_bytes(),
        &c.to_be_bytes()[1..],
    ]
    .concat();
    if let Some(first) = out.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        out.iter_mut().for_each(|byte| *byte = !*byte);
    }
    out
}

/// The last octets of a number, the highest first.
fn last(n: u64, octets: usize) -> Vec<u8> {
    n.to_be_bytes().into_iter().skip(8 - octets).collect()
}

/// A length of so many octets, then the value.
fn sized(octets: usize, value: &[u8]) -> Vec<u8> {
    let len = value.len().to_le_bytes();
    len.into_iter()
        .take(octets)
        .chain(value.iter().copied())
        .collect()
}

fn moment(year: u64, month: u64, day: u64, time: (u64, u64, u64), us: u64) -> Vec<u8> {
    let (hour, minute, second) = time;
    let days = (year * 13 + month) << 22 | day << 17;
    let packed = 0x80_0000_0000 | days | hour << 12 | minute << 6 | second;
    [last(packed, 5), last(us, 3)].concat()
}

/// A type: its column in the log, the column in MariaDB, and two values in the log and as literals.
type Typed = (Column, &'static str, [(Vec<u8>, &'static str); 2]);

/// Every type of column by its number in the log, with its extremes.
fn every_type() -> Vec<Typed> {
    let mut all = numbers();
    all.extend(times());
    all.extend(strings());
    all
}

fn numbers() -> Vec<Typed> {
    let le = |n: i64, octets: usize| {
        n.to_le_bytes()
            .into_iter()
            .take(octets)
            .collect::<Vec<u8>>()
    };
    vec![
        (
            number("tiny", 1, &[], false),
            "TINYINT",
            [(le(-128, 1), "-128"), (le(127, 1), "127")],
        ),
        (
            number("utiny", 1, &[], true),
            "SMALLINT",
            [(le(0, 1), "0"), (le(-1, 1), "255")],
        ),
        (
            number("small", 2, &[], false),
            "SMALLINT",
            [(le(-32_768, 2), "-32768"), (le(32_767, 2), "32767")],
        ),
        (
            number("usmall", 2, &[], true),
            "INT",
            [(le(0, 2), "0"), (le(-1, 2), "65535")],
        ),
        (
            number("medium", 9, &[], false),
            "INT",
            [
                (le(-8_388_608, 3), "-8388608"),
                (le(8_388_607, 3), "8388607"),
            ],
        ),
        (
            number("umedium", 9, &[], true),
            "INT",
            [(le(0, 3), "0"), (le(-1, 3), "16777215")],
        ),
        (
            number("plain", 3, &[], false),
            "INT",
            [
                (le(-2_147_483_648, 4), "-2147483648"),
                (le(2_147_483_647, 4), "2147483647"),
            ],
        ),
        (
            number("uplain", 3, &[], true),
            "BIGINT",
            [(le(0, 4), "0"), (le(-1, 4), "4294967295")],
        ),
        (
            number("big", 8, &[], false),
            "BIGINT",
            [
                (le(i64::MIN, 8), "-9223372036854775808"),
                (le(i64::MAX, 8), "9223372036854775807"),
            ],
        ),
        (
            number("ubig", 8, &[], true),
            "BIGINT UNSIGNED",
            [(le(0, 8), "0"), (le(-1, 8), "18446744073709551615")],
        ),
        (
            number("single", 4, &[4], false),
            "FLOAT",
            [
                ((-1.5_f32).to_le_bytes().to_vec(), "-1.5"),
                (16_777_216_f32.to_le_bytes().to_vec(), "16777216"),
            ],
        ),
        (
            number("double", 5, &[8], false),
            "DOUBLE",
            [
                (f64::MIN.to_le_bytes().to_vec(), "-1.7976931348623157e308"),
                (5e-324_f64.to_le_bytes().to_vec(), "5e-324"),
            ],
        ),
        (
            number("exact", 246, &[20, 5], false),
            "DECIMAL(20,5)",
            [
                (
                    decimal(true, [999_999, 999_999_999, 99_999]),
                    "-999999999999999.99999",
                ),
                (decimal(false, [123, 456_789, 1]), "123000456789.00001"),
            ],
        ),
        (
            number("year", 13, &[], true),
            "SMALLINT",
            [(vec![1], "1901"), (vec![255], "2155")],
        ),
        (
            Column::other("bits", 16, &[1, 1]),
            "BIT(16)",
            [(vec![0, 1], "1"), (vec![1, 0xFF], "511")],
        ),
    ]
}

fn times() -> Vec<Typed> {
    let day = |year: u32, month: u32, day: u32| sized3(day | month << 5 | year << 9);
    let span = |negative: bool, hms: u64, us: u64| {
        let value = hms << 24 | us;
        let zero = 0x8000_0000_0000_u64;
        last(if negative { zero - value } else { zero + value }, 6)
    };
    let most = 838 << 12 | 59 << 6 | 59;
    vec![
        (
            Column::other("day", 10, &[]),
            "DATE",
            [
                (day(1, 1, 1), "'0001-01-01'"),
                (day(9999, 12, 31), "'9999-12-31'"),
            ],
        ),
        (
            Column::other("newday", 14, &[]),
            "DATE",
            [
                (day(1000, 2, 28), "'1000-02-28'"),
                (day(2024, 2, 29), "'2024-02-29'"),
            ],
        ),
        (
            Column::other("oldtime", 11, &[]),
            "TIME",
            [
                (sized3(1), "'00:00:01'"),
                (sized3(8_385_959), "'838:59:59'"),
            ],
        ),
        (
            Column::other("oldmoment", 12, &[]),
            "DATETIME",
            [
                (
                    10_101_000_000_u64.to_le_bytes().to_vec(),
                    "'0001-01-01 00:00:00'",
                ),
                (
                    99_991_231_235_959_u64.to_le_bytes().to_vec(),
                    "'9999-12-31 23:59:59'",
                ),
            ],
        ),
        (
            Column::other("oldstamp", 7, &[]),
            "TIMESTAMP NULL",
            [
                (1_u32.to_le_bytes().to_vec(), "'1970-01-01 00:00:01'"),
                (
                    2_147_483_647_u32.to_le_bytes().to_vec(),
                    "'2038-01-19 03:14:07'",
                ),
            ],
        ),
        (
            Column::other("span", 19, &[6]),
            "TIME(6)",
            [
                (span(true, most, 0), "'-838:59:59'"),
                (span(false, 0, 1), "'00:00:00.000001'"),
            ],
        ),
        (
            Column::other("moment", 18, &[6]),
            "DATETIME(6)",
            [
                (
                    moment(1, 1, 1, (0, 0, 0), 1),
                    "'0001-01-01 00:00:00.000001'",
                ),
                (
                    moment(9999, 12, 31, (23, 59, 59), 999_999),
                    "'9999-12-31 23:59:59.999999'",
                ),
            ],
        ),
        (
            Column::other("stamp", 17, &[6]),
            "TIMESTAMP(6) NULL",
            [
                (
                    [last(1, 4), last(500_000, 3)].concat(),
                    "'1970-01-01 00:00:01.5'",
                ),
                (
                    [last(2_147_483_647, 4), last(999_999, 3)].concat(),
                    "'2038-01-19 03:14:07.999999'",
                ),
            ],
        ),
    ]
}

/// A number in three octets, the lowest first.
fn sized3(n: u32) -> Vec<u8> {
    n.to_le_bytes().into_iter().take(3).collect()
}

fn strings() -> Vec<Typed> {
    const UTF8: u16 = 255;
    const LATIN1: u16 = 8;
    const BINARY: u16 = 63;
    let point = [
        &[0; 4][..],
        &[1, 1, 0, 0, 0],
        &1_f64.to_le_bytes(),
        &(-2_f64).to_le_bytes(),
    ]
    .concat();
    let floats = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
    vec![
        (
            string("short", 15, &[80, 0], UTF8),
            "TEXT",
            [(sized(1, b""), "''"), (sized(1, "ž🦊".as_bytes()), "'ž🦊'")],
        ),
        (
            string("long", 15, &[0xE8, 3], UTF8),
            "TEXT",
            [
                (sized(2, &[b'x'; 900]), "REPEAT('x', 900)"),
                (sized(2, b" a "), "' a '"),
            ],
        ),
        (
            string("fixed", 254, &[254, 80], UTF8),
            "TEXT",
            [(sized(1, b"a"), "'a'"), (sized(1, " é".as_bytes()), "' é'")],
        ),
        (
            string("latin", 252, &[2], LATIN1),
            "TEXT",
            [(sized(2, &[0xE9, 0x80]), "'é€'"), (sized(2, b"?"), "'?'")],
        ),
        (
            string("tinyblob", 252, &[1], BINARY),
            "LONGBLOB",
            [(sized(1, &[0]), "x'00'"), (sized(1, b""), "''")],
        ),
        (
            string("mediumblob", 252, &[3], BINARY),
            "LONGBLOB",
            [
                (sized(3, &[0xFF; 300]), "REPEAT(x'ff', 300)"),
                (sized(3, b"\\'"), "x'5c27'"),
            ],
        ),
        (
            string("longblob", 252, &[4], BINARY),
            "LONGBLOB",
            [(sized(4, &[1, 2]), "x'0102'"), (sized(4, b"\n"), "x'0a'")],
        ),
        (
            string("packed", 140, &[2], UTF8),
            "TEXT",
            [(sized(2, &[0, b'a', b'b']), "'ab'"), (sized(2, b""), "''")],
        ),
        (
            Column::other("place", 255, &[4]),
            "LONGBLOB",
            [
                (
                    sized(4, &point),
                    "x'000000000101000000000000000000f03f00000000000000c0'",
                ),
                (
                    sized(4, &point),
                    "x'000000000101000000000000000000f03f00000000000000c0'",
                ),
            ],
        ),
        (
            Column::other("label", 254, &[247, 1]),
            "VARCHAR(9)",
            [(vec![1], "'1'"), (vec![255], "'255'")],
        ),
        (
            Column::other("labels", 254, &[248, 1]),
            "VARCHAR(20)",
            [(vec![0], "''"), (vec![0x83], "'1,2,8'")],
        ),
        (
            string("vector", 242, &[4], BINARY),
            "TEXT",
            [
                (sized(4, &floats), "'[1.5,-2.0]'"),
                (sized(4, &floats), "'[1.5,-2.0]'"),
            ],
        ),
        (
            Column::json("data"),
            "JSON",
            [
                (
                    doc(&json!({"a": [u64::MAX, -1, 2.5, "ž", null, true, {}]}))
                        .unwrap_or_default(),
                    "'{\"a\": [18446744073709551615, -1, 2.5, \"ž\", null, true, {}]}'",
                ),
                (doc(&json!("")).unwrap_or_default(), "'\"\"'"),
            ],
        ),
    ]
}

/// Rows of all types: low, high, none; a row of none gets values, one of values is removed.
pub(super) fn types() -> Log {
    let types = every_type();
    let mut columns = vec![Column::int("id")];
    columns.extend(types.iter().map(|(column, ..)| column.clone()));
    let all = vec![true; columns.len()];
    let row = |id: i32, which: Option<usize>| -> Vec<Option<Vec<u8>>> {
        let value = |(.., values): &Typed| values.get(which?).map(|(value, _)| value.clone());
        std::iter::once(int(id))
            .chain(types.iter().map(value))
            .collect()
    };
    let mut log = Binlog::new("8.4.0", true);
    log.gtid(SERVER, 1);
    begin(&mut log);
    log.table_map(9, "d", "types", &columns, true);
    let rows = [
        row(1, Some(0)),
        row(2, Some(1)),
        row(3, None),
        row(4, Some(0)),
    ];
    log.rows(Rows::Write, Form::V2, 9, &all, &all, &rows);
    let update = [row(3, None), row(3, Some(1))].concat();
    log.rows(Rows::Update, Form::V2, 9, &all, &all, &[update]);
    let update = [row(2, Some(1)), row(2, None)].concat();
    log.rows(Rows::Update, Form::V2, 9, &all, &all, &[update]);
    log.rows(Rows::Delete, Form::V2, 9, &all, &all, &[row(4, Some(0))]);
    log.xid();
    let create: String = types
        .iter()
        .map(|(column, ty, _)| format!(", `{}` {ty}", column.name))
        .collect();
    let values = |which: usize| -> String {
        let literal = |(.., values): &Typed| values.get(which).map(|(_, literal)| *literal);
        let literals: Vec<_> = types.iter().filter_map(literal).collect();
        literals.join(", ")
    };
    let left = format!(
        "SET time_zone = '+00:00'; CREATE TABLE types (id INT PRIMARY KEY{create}); \
         INSERT INTO types VALUES (1, {}), (3, {}); INSERT INTO types (id) VALUES (2);",
        values(0),
        values(1)
    );
    Log::new("every type", &log, left)
}
