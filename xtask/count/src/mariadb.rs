//! What a MariaDB logs: a file with full row images.

use thalweg_core::value::Date;
use thalweg_testkit::binlog::{Binlog, Column, Form, Rows};

use crate::table::{Change, Kind, Table, Value};

const DAY_MICROS: i64 = 86_400_000_000;
/// The collation `utf8mb4_general_ci`.
const COLLATION: u16 = 45;

fn column(kind: Kind) -> Column {
    let byte = |n: u32| u8::try_from(n).unwrap_or_default();
    let number = |ty, meta: &[u8]| Column {
        unsigned: Some(false),
        ..Column::other("", ty, meta)
    };
    match kind {
        Kind::BigInt => number(8, &[]),
        Kind::Int => number(3, &[]),
        Kind::Decimal(precision, scale) => number(246, &[byte(precision), byte(scale)]),
        Kind::Text(chars) => Column {
            collation: Some(COLLATION),
            ..Column::other("", 15, &[byte(4 * chars), 0])
        },
        Kind::Time => Column::other("", 18, &[6]),
        Kind::Float => number(5, &[8]),
        Kind::Flag => number(1, &[]),
    }
}

fn value(kind: Kind, value: &Value) -> Option<Vec<u8>> {
    let narrow = |v: i64| i32::try_from(v).unwrap_or_default();
    Some(match (kind, value) {
        (Kind::Int, Value::Int(v)) => narrow(*v).to_le_bytes().to_vec(),
        (_, Value::Int(v)) => v.to_le_bytes().to_vec(),
        (Kind::Decimal(precision, scale), Value::Decimal(v)) => decimal(*v, precision, scale),
        (_, Value::Text(v)) => {
            let len = u8::try_from(v.len()).unwrap_or_default();
            [&[len], v.as_bytes()].concat()
        }
        (_, Value::Time(v)) => time(*v),
        (_, Value::Float(v)) => v.to_le_bytes().to_vec(),
        (_, Value::Flag(v)) => vec![u8::from(*v)],
        _ => return None,
    })
}

/// Digits in groups of nine, counted from the point; the sign is the first bit.
fn decimal(unscaled: i64, precision: u32, scale: u32) -> Vec<u8> {
    let bytes = |digits: u32| digits.div_ceil(2) as usize;
    let unit = 10_i64.pow(scale);
    let (whole, fraction) = (unscaled / unit, unscaled % unit);
    let (lead, nines) = ((precision - scale) % 9, (precision - scale) / 9);
    let tail = |n: i64, bytes: usize| n.to_be_bytes().into_iter().skip(8 - bytes);
    // No number here has more than one group of nine.
    let unit = 1_000_000_000_i64.pow(nines);
    let mut out: Vec<u8> = tail(whole / unit, bytes(lead)).collect();
    out.extend(tail(whole % unit, 4 * nines as usize));
    out.extend(tail(fraction, bytes(scale)));
    if let Some(first) = out.first_mut() {
        *first ^= 0x80;
    }
    out
}

/// `DATETIME2(6)`.
fn time(micros: i64) -> Vec<u8> {
    let day = Date::from_unix_days(micros.div_euclid(DAY_MICROS)).unwrap_or(Date::INFINITY);
    let of_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let month = i64::from(day.year) * 13 + i64::from(day.month);
    let civil = (month << 5 | i64::from(day.day)) << 17;
    let clock = (seconds / 3600) << 12 | (seconds / 60 % 60) << 6 | (seconds % 60);
    let packed = 0x80_0000_0000 + (civil | clock);
    let tail = |n: i64, bytes: usize| n.to_be_bytes().into_iter().skip(8 - bytes);
    tail(packed, 5).chain(tail(fraction, 3)).collect()
}

/// A log of transactions: a statement for each change, but one for a transaction's inserts.
pub(crate) fn log(table: &Table, transactions: &[Vec<Change>]) -> Vec<u8> {
    let columns: Vec<Column> = table
        .columns
        .iter()
        .map(|(_, kind, _)| column(*kind))
        .collect();
    let all = vec![true; columns.len()];
    let row = |n: i64, updates: i64| -> Vec<Option<Vec<u8>>> {
        let row = (table.row)(n, updates);
        let cells = table.columns.iter().zip(&row);
        cells
            .map(|((_, kind, _), cell)| value(*kind, cell))
            .collect()
    };
    let mut log = Binlog::new("10.11.6-MariaDB", true);
    for (number, transaction) in (1_u64..).zip(transactions) {
        log.maria_gtid(0, number, 0, None);
        let mut statement = |what: Rows, rows: &[Vec<Option<Vec<u8>>>]| {
            log.table_map(9, "bench", table.name, &columns, false);
            log.rows(what, Form::V1, 9, &all, &all, rows);
        };
        let mut inserts = Vec::new();
        for change in transaction {
            match *change {
                Change::Insert(n) => inserts.push(row(n, 0)),
                Change::Update(n) => statement(Rows::Update, &[[row(n, 0), row(n, 1)].concat()]),
                Change::Delete(n) => statement(Rows::Delete, &[row(n, 0)]),
            }
        }
        statement(Rows::Write, &inserts);
        log.xid();
    }
    log.bytes().to_vec()
}
