//! What a PostgreSQL sends: messages of the output plugin, and of a `COPY`, in binary form.

use thalweg_postgres::stages::TABLE;

use crate::table::{Change, Kind, Row, Table, Value};

/// Microseconds from 1970 to 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

fn value(kind: Kind, value: &Value) -> Option<Vec<u8>> {
    let narrow = |v: i64| i32::try_from(v).unwrap_or_default();
    Some(match (kind, value) {
        (Kind::Int, Value::Int(v)) => narrow(*v).to_be_bytes().to_vec(),
        (_, Value::Int(v)) => v.to_be_bytes().to_vec(),
        (Kind::Decimal(_, scale), Value::Decimal(v)) => numeric(*v, scale),
        (_, Value::Text(v)) => v.as_bytes().to_vec(),
        (_, Value::Time(v)) => (v - EPOCH_MICROS).to_be_bytes().to_vec(),
        (_, Value::Float(v)) => v.to_be_bytes().to_vec(),
        (_, Value::Flag(v)) => vec![u8::from(*v)],
        _ => return None,
    })
}

/// The form of `numeric_send` of a number that is not negative.
fn numeric(unscaled: i64, scale: u32) -> Vec<u8> {
    let fraction = scale.div_ceil(4);
    let mut rest = unscaled * 10_i64.pow(4 * fraction - scale);
    let mut groups = Vec::new();
    while rest > 0 {
        groups.push(i16::try_from(rest % 10_000).unwrap_or_default());
        rest /= 10_000;
    }
    groups.reverse();
    let weight = i16::try_from(groups.len()).unwrap_or_default()
        - i16::try_from(fraction).unwrap_or_default()
        - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let count = i16::try_from(groups.len()).unwrap_or_default();
    let scale = i16::try_from(scale).unwrap_or_default();
    let numbers = [count, if count == 0 { 0 } else { weight }, 0, scale];
    numbers
        .iter()
        .chain(&groups)
        .flat_map(|n| n.to_be_bytes())
        .collect()
}

fn len(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes()
}

/// The body of a `CopyData` with a message of the plugin.
fn data(message: &[u8]) -> Vec<u8> {
    [b"w".as_slice(), &[0; 24], message].concat()
}

/// What the server says of a table before its first row.
pub(crate) fn relation(table: &Table) -> Vec<u8> {
    let (schema, types) = table.postgres();
    let mut out = vec![b'R'];
    out.extend(TABLE.to_be_bytes());
    out.extend(format!("{}\0{}\0d", schema.name.schema, schema.name.name).bytes());
    out.extend(u16::try_from(types.len()).unwrap_or_default().to_be_bytes());
    for (index, (column, ty)) in schema.columns.iter().zip(types).enumerate() {
        out.push(u8::from(index == 0));
        out.extend(format!("{}\0", column.name).bytes());
        out.extend(ty.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
    }
    data(&out)
}

/// A row of a message; `key`: only the first column means something.
fn tuple(table: &Table, row: &Row, key: bool, out: &mut Vec<u8>) {
    out.extend(u16::try_from(row.len()).unwrap_or_default().to_be_bytes());
    for (index, ((_, kind, _), cell)) in table.columns.iter().zip(row).enumerate() {
        match value(*kind, cell).filter(|_| !key || index == 0) {
            None => out.push(b'n'),
            Some(bytes) => {
                out.push(b'b');
                out.extend(len(&bytes));
                out.extend(bytes);
            }
        }
    }
}

/// The messages of transactions.
pub(crate) fn stream(table: &Table, transactions: &[Vec<Change>]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (number, transaction) in (1_u64..).zip(transactions) {
        let lsn = (number * 1000).to_be_bytes();
        let xid = u32::try_from(number).unwrap_or_default().to_be_bytes();
        out.push(data(&[b"B".as_slice(), &lsn, &[0; 8], &xid].concat()));
        for change in transaction {
            let (tag, image, row) = match *change {
                Change::Insert(n) => (b'I', b'N', (table.row)(n, 0)),
                Change::Update(n) => (b'U', b'N', (table.row)(n, 1)),
                Change::Delete(n) => (b'D', b'K', (table.row)(n, 0)),
            };
            let mut message = vec![tag];
            message.extend(TABLE.to_be_bytes());
            message.push(image);
            tuple(table, &row, image == b'K', &mut message);
            out.push(data(&message));
        }
        out.push(data(&[b"C\0".as_slice(), &lsn, &lsn, &[0; 8]].concat()));
    }
    out
}

/// The messages of a `COPY` of so many rows, without its end: what begins it, and a message for each row.
pub(crate) fn copy(table: &Table, rows: i64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let header = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0; 8]].concat();
    let row = |n| {
        let row = (table.row)(n, 0);
        let width = u16::try_from(row.len()).unwrap_or_default();
        let mut out = width.to_be_bytes().to_vec();
        for ((_, kind, _), cell) in table.columns.iter().zip(&row) {
            match value(*kind, cell) {
                None => out.extend([0xff; 4]),
                Some(bytes) => {
                    out.extend(len(&bytes));
                    out.extend(bytes);
                }
            }
        }
        out
    };
    (header, (1..=rows).map(row).collect())
}
