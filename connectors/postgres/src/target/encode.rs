//! Cells as PostgreSQL's binary format has them.
//!
//! The formats are those of each type's `recv` function, and the file format of `COPY … BINARY`
//! (<https://www.postgresql.org/docs/15/sql-copy.html>): a signature, per row a 16-bit field count and
//! per field a 32-bit length (-1: NULL) and the bytes, at the end -1 as a count.

use thalweg_core::plan::TargetTable;
use thalweg_core::ports::WireForm;
use thalweg_core::schema::{ColumnSchema, ColumnType};
use thalweg_core::value::{
    CellRef, Date, DecimalRef, RowBatch, RowRef, decimal, decode_raw, integer, is_present,
    text_bytes,
};
use thalweg_core::{Error, Result, Side};

use crate::wire::copy::wire_form;

/// The header of a `COPY … BINARY` file: signature, no flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Its trailer.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;

/// How a column's cells are written; chosen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    /// `text`, `varchar`, `char`, `citext`, `name`, `json` and enumerations: all receive text.
    Text,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Bits,
    /// The text form of a type whose binary form we do not know, which the type's input function
    /// reads: arrays, ranges, composites, `inet`, `money`, `hstore` and whatever else there is.
    Form,
}

impl Encoder {
    /// The encoder of cells of a neutral type, as [`crate::schema::neutral`] gives it. A domain's
    /// `recv` function is that of its base type.
    pub(crate) fn of(ty: &ColumnType) -> Encoder {
        match ty {
            ColumnType::Bool => Encoder::Bool,
            ColumnType::Int { bits, unsigned } => match (bits, unsigned) {
                (16, false) => Encoder::Int2,
                (32, false) => Encoder::Int4,
                (64, false) => Encoder::Int8,
                (32, true) => Encoder::Oid,
                _ => Encoder::Form,
            },
            ColumnType::Float32 { .. } => Encoder::Float4,
            ColumnType::Float64 { .. } => Encoder::Float8,
            ColumnType::Decimal { .. } => Encoder::Numeric,
            ColumnType::Text { .. } | ColumnType::Enum { .. } | ColumnType::Set { .. } => {
                Encoder::Text
            }
            ColumnType::Json { normalised: false } => Encoder::Text,
            ColumnType::Json { normalised: true } => Encoder::Jsonb,
            ColumnType::Bytes { .. } => Encoder::Bytea,
            ColumnType::Date { .. } => Encoder::Date,
            ColumnType::Time { of_day: true, .. } => Encoder::Time,
            ColumnType::Timestamp { .. } => Encoder::Timestamp,
            ColumnType::Instant { .. } => Encoder::Timestamptz,
            ColumnType::Interval => Encoder::Interval,
            ColumnType::Uuid => Encoder::Uuid,
            ColumnType::Bits { .. } => Encoder::Bits,
            ColumnType::Time { of_day: false, .. }
            | ColumnType::Geometry
            | ColumnType::Other { .. } => Encoder::Form,
        }
    }

    /// What the binary form is called that the type takes, as [`crate::wire::cells::Codec::wire`] has it.
    fn wire(self) -> Option<&'static str> {
        Some(match self {
            Encoder::Bool => "bool",
            Encoder::Int2 => "int2",
            Encoder::Int4 => "int4",
            Encoder::Int8 => "int8",
            Encoder::Oid => "oid",
            Encoder::Float4 => "float4",
            Encoder::Float8 => "float8",
            Encoder::Numeric => "numeric",
            Encoder::Text => "text",
            Encoder::Jsonb => "jsonb",
            Encoder::Bytea => "bytea",
            Encoder::Date => "date",
            Encoder::Time => "time",
            Encoder::Timestamp => "timestamp",
            Encoder::Timestamptz => "timestamptz",
            Encoder::Interval => "interval",
            Encoder::Uuid => "uuid",
            Encoder::Bits => "bits",
            Encoder::Form => return None,
        })
    }

    /// Appends the bytes of a value; `Ok(false)` for NULL. The error is a reason without the value.
    fn put(self, cell: CellRef<'_>, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        const RANGE: &str = "the value is out of the type's range";
        match (self, cell) {
            (_, CellRef::Null) => return Ok(false),
            (Encoder::Bool, CellRef::Bool(v)) => out.push(u8::from(v)),
            (Encoder::Int2, CellRef::I64(v)) => {
                out.extend_from_slice(&i16::try_from(v).map_err(|_| RANGE)?.to_be_bytes());
            }
            (Encoder::Int4, CellRef::I64(v)) => {
                out.extend_from_slice(&i32::try_from(v).map_err(|_| RANGE)?.to_be_bytes());
            }
            (Encoder::Int8, CellRef::I64(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Encoder::Oid, CellRef::U64(v)) => {
                out.extend_from_slice(&u32::try_from(v).map_err(|_| RANGE)?.to_be_bytes());
            }
            (Encoder::Float4, CellRef::F32(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Encoder::Float8, CellRef::F64(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Encoder::Numeric, CellRef::Decimal(v)) => numeric(v, out)?,
            (Encoder::Text, CellRef::Text(v) | CellRef::Json(v)) => text(v.as_bytes(), out)?,
            (Encoder::Form, CellRef::Other(v) | CellRef::Text(v)) => {
                text(v.as_bytes(), out)?;
            }
            (Encoder::Jsonb, CellRef::Json(v)) => {
                out.push(1);
                text(v.as_bytes(), out)?;
            }
            (Encoder::Bytea, CellRef::Bytes(v)) => out.extend_from_slice(v),
            (Encoder::Date, CellRef::Date(v)) => {
                let days = match v {
                    Date::INFINITY => i32::MAX,
                    Date::NEG_INFINITY => i32::MIN,
                    v => i32::try_from(days(v)?).map_err(|_| RANGE)?,
                };
                out.extend_from_slice(&days.to_be_bytes());
            }
            (Encoder::Time, CellRef::Time(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Encoder::Timestamp, CellRef::Timestamp(date, micros)) => {
                let at = match date {
                    Date::INFINITY => i64::MAX,
                    Date::NEG_INFINITY => i64::MIN,
                    date => days(date)?
                        .checked_mul(DAY_MICROS)
                        .and_then(|at| at.checked_add(micros))
                        .ok_or(RANGE)?,
                };
                out.extend_from_slice(&at.to_be_bytes());
            }
            (Encoder::Timestamptz, CellRef::Instant(v)) => {
                let at = match v {
                    i64::MAX | i64::MIN => v,
                    v => v.checked_sub(EPOCH_DAYS * DAY_MICROS).ok_or(RANGE)?,
                };
                out.extend_from_slice(&at.to_be_bytes());
            }
            (Encoder::Interval, CellRef::Interval(v)) => {
                out.extend_from_slice(&v.micros.to_be_bytes());
                out.extend_from_slice(&v.days.to_be_bytes());
                out.extend_from_slice(&v.months.to_be_bytes());
            }
            (Encoder::Uuid, CellRef::Uuid(v)) => out.extend_from_slice(&v),
            (Encoder::Bits, CellRef::Bits(len, v)) => {
                out.extend_from_slice(&i32::try_from(len).map_err(|_| RANGE)?.to_be_bytes());
                out.extend_from_slice(v);
            }
            _ => return Err("the value is not of the column's type"),
        }
        Ok(true)
    }
}

fn text(value: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if has_nul(value) {
        return Err("text with a NUL character cannot be stored in PostgreSQL");
    }
    out.extend_from_slice(value);
    Ok(())
}

/// Whether text has a NUL character; short text eight bytes at a time, without a call.
#[inline]
fn has_nul(value: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    if value.len() > 64 {
        return memchr::memchr(0, value).is_some();
    }
    let (words, rest) = value.as_chunks::<8>();
    let nul = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(LOW) & !word & HIGH
    };
    words.iter().fold(0, |found, word| found | nul(word)) != 0 || rest.contains(&0)
}

fn days(date: Date) -> Result<i64, &'static str> {
    Ok(date
        .to_unix_days()
        .ok_or("the date does not exist in the calendar")?
        - EPOCH_DAYS)
}

/// Groups of a number that is written without memory of its own.
const SHORT_GROUPS: usize = 16;

/// `numeric_recv`: number of base-10000 digits, weight of the first, sign, display scale, digits.
fn numeric(value: DecimalRef<'_>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    const MANY: &str = "too many digits";
    let (negative, scale, digits) = match value {
        DecimalRef::Finite {
            negative,
            scale,
            digits,
        } => (negative, scale, digits),
        DecimalRef::NaN => return special(0xc000, out),
        DecimalRef::Infinity => return special(0xd000, out),
        DecimalRef::NegInfinity => return special(0xf000, out),
    };
    let sign = if negative { 0x40 } else { 0 };
    let [scale_high, scale_low] = scale.to_be_bytes();
    if digits == b"0" {
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, scale_high, scale_low]);
        return Ok(());
    }
    let whole = i64::try_from(digits.len()).map_err(|_| MANY)? - i64::from(scale);
    // The first group ends where the number of digits before the point is a multiple of four.
    let weight = whole.div_euclid(4) + i64::from(whole.rem_euclid(4) > 0) - 1;
    let lead = usize::try_from((weight + 1) * 4 - whole).map_err(|_| MANY)?;
    let count = (lead + digits.len()).div_ceil(4);
    let [count_high, count_low] = i16::try_from(count).map_err(|_| MANY)?.to_be_bytes();
    let [weight_high, weight_low] = i16::try_from(weight).map_err(|_| MANY)?.to_be_bytes();
    out.extend_from_slice(&[
        count_high,
        count_low,
        weight_high,
        weight_low,
        sign,
        0,
        scale_high,
        scale_low,
    ]);
    // The digits with zeros before and behind, in groups of four.
    let mut short = [*b"0000"; SHORT_GROUPS];
    let mut long = Vec::new();
    let groups = match short.get_mut(..count) {
        Some(groups) => groups,
        None => {
            long.resize(count, *b"0000");
            long.as_mut_slice()
        }
    };
    let places = groups.as_flattened_mut().iter_mut().skip(lead);
    for (place, digit) in places.zip(digits) {
        *place = *digit;
    }
    for group in groups {
        out.extend_from_slice(&number(*group).to_be_bytes());
    }
    Ok(())
}

/// The number that four digits are, all at once: each step works on two numbers in one word.
fn number(digits: [u8; 4]) -> u16 {
    let digits = u32::from_le_bytes(digits) & 0x0f0f_0f0f;
    let two = (digits * 10 + (digits >> 8)) & 0x00ff_00ff;
    let number = (two & 0xff) * 100 + (two >> 16);
    u16::try_from(number).unwrap_or_default()
}

fn special(sign: u16, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let [high, low] = sign.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, high, low, 0, 0]);
    Ok(())
}

/// Writes the fields of rows of one target table.
#[derive(Clone, Debug)]
pub(crate) struct RowEncoder {
    columns: Vec<Encoder>,
    table: String,
    names: Vec<String>,
}

impl RowEncoder {
    pub(crate) fn new(table: &TargetTable) -> Self {
        let column = |column: &ColumnSchema| Encoder::of(&column.ty);
        RowEncoder {
            columns: table.columns.iter().map(column).collect(),
            table: table.name.to_string(),
            names: table
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
        }
    }

    /// Whether a column's cells are written in their text form.
    pub(crate) fn is_form(&self, index: usize) -> bool {
        self.columns.get(index) == Some(&Encoder::Form)
    }

    /// Whether some column's cells are.
    pub(crate) fn has_forms(&self) -> bool {
        self.columns.contains(&Encoder::Form)
    }

    /// The form of its rows in a `COPY`, if rows of another `COPY` may have it.
    pub(crate) fn wire(&self) -> Option<WireForm> {
        wire_form(self.columns.iter().map(|column| column.wire()))
    }

    /// Appends rows that are in that form already, each of them a cell of octets.
    pub(crate) fn relayed(&self, rows: &RowBatch, out: &mut Vec<u8>) -> Result<()> {
        for row in rows.iter() {
            match row.cell(0) {
                Some(CellRef::Bytes(row)) => out.extend_from_slice(row),
                _ => return Err(Error::bug("a row that is not relayed")),
            }
        }
        Ok(())
    }

    /// Number of columns.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Appends the fields `wanted` of a row, in that order, each with its length.
    pub(crate) fn fields(
        &self,
        row: RowRef<'_>,
        wanted: impl Iterator<Item = usize>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        for index in wanted {
            let raw = row.raw_cells().nth(index);
            self.field(index, raw.unwrap_or_default(), out)?;
        }
        Ok(())
    }

    /// Appends rows as a `COPY` has them.
    pub(crate) fn rows(&self, rows: &RowBatch, out: &mut Vec<u8>) -> Result<()> {
        let width = i16::try_from(self.width()).map_err(|_| Error::bug("too many columns"))?;
        for row in rows.iter() {
            out.extend_from_slice(&width.to_be_bytes());
            self.row(row, out)?;
        }
        Ok(())
    }

    /// Appends all fields of a row.
    pub(crate) fn row(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (index, raw) in row.raw_cells().enumerate() {
            self.field(index, raw, out)?;
        }
        Ok(())
    }

    /// Appends all fields of a row; cells that were not sent as NULL.
    pub(crate) fn staged(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (index, raw) in row.raw_cells().enumerate() {
            self.staged_cell(index, raw, out)?;
        }
        Ok(())
    }

    /// Appends one field; a cell that was not sent as NULL.
    pub(crate) fn staged_cell(&self, index: usize, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match is_present(raw) {
            true => self.field(index, raw, out),
            false => {
                out.extend_from_slice(&[0xff; 4]);
                Ok(())
            }
        }
    }

    /// Appends one field: an encoded cell with its length.
    #[inline]
    pub(crate) fn field(&self, index: usize, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let encoder = self
            .columns
            .get(index)
            .ok_or_else(|| Error::bug("a cell without a column"))?;
        // What most columns are, each in one piece.
        match encoder {
            Encoder::Int4 => {
                if let Some(Ok(number)) = integer(raw).map(i32::try_from) {
                    let [a, b, c, d] = number.to_be_bytes();
                    out.extend_from_slice(&[0, 0, 0, 4, a, b, c, d]);
                    return Ok(());
                }
            }
            Encoder::Int8 => {
                if let Some(number) = integer(raw) {
                    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
                    out.extend_from_slice(&[0, 0, 0, 8, a, b, c, d, e, f, g, h]);
                    return Ok(());
                }
            }
            _ => {}
        }
        let start = out.len();
        out.extend_from_slice(&[0xff; 4]);
        let put = match (encoder, text_bytes(raw), decimal(raw)) {
            (Encoder::Text, Some(bytes), _) => text(bytes, out).map(|()| true),
            (Encoder::Numeric, _, Some(value)) => numeric(value, out).map(|()| true),
            _ => encoder.put(decode_raw(raw).unwrap_or(CellRef::Absent), out),
        };
        match put {
            Ok(false) => {}
            Ok(true) => {
                let len = i32::try_from(out.len() - start - 4)
                    .map_err(|_| Error::data("a value above 2 GiB").at(Side::Target))?;
                if let Some(slot) = out.get_mut(start..start + 4) {
                    slot.copy_from_slice(&len.to_be_bytes());
                }
            }
            Err(reason) => {
                let column = self.names.get(index).map_or("?", String::as_str);
                let message = format!("a value of column {column} of {}: {reason}", self.table);
                return Err(Error::data(message)
                    .with_hint("correct the row at the source, then run the task again")
                    .at(Side::Target));
            }
        }
        Ok(())
    }
}
