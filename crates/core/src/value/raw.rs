//! Cells as the bytes they are encoded in, and how they are read.

use super::{CellRef, Date, DecimalRef, Interval, tag};

/// Whether an encoded cell carries a value or NULL, not merely a state. Looks at its tag only.
#[inline]
pub fn is_present(raw: &[u8]) -> bool {
    !matches!(raw, [tag::UNCHANGED | tag::ABSENT, ..])
}

/// The bytes of an encoded cell of text or JSON: what [`decode_raw`] gives as `str`, without looking
/// at them again. They are UTF-8, since a cell is made of a `str`.
#[inline]
pub fn text_bytes(raw: &[u8]) -> Option<&[u8]> {
    let (head, rest) = raw.split_first_chunk::<5>()?;
    matches!(head, [tag::TEXT | tag::JSON, ..]).then_some(rest)
}

/// The number that an encoded cell of a signed integer is: what [`decode_raw`] gives, without asking
/// what else the cell could be.
#[inline]
pub fn integer(raw: &[u8]) -> Option<i64> {
    let (tag, number) = raw.split_first()?;
    (*tag == tag::I64).then_some(i64::from_le_bytes(number.try_into().ok()?))
}

/// The same of a decimal number.
#[inline]
pub fn decimal(raw: &[u8]) -> Option<DecimalRef<'_>> {
    let (head, rest) = raw.split_first_chunk::<5>()?;
    match head {
        [tag::DECIMAL, ..] => read_decimal(rest),
        _ => None,
    }
}

/// Iterates decoded cells.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = CellRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<CellRef<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(read(&mut self.rest).expect("arenas are written by RowBatch only"))
    }
}

/// Iterates cells as encoded bytes.
#[derive(Clone, Debug)]
pub struct RawCells<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for RawCells<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let len = raw_len(self.rest)?;
        let (cell, rest) = self
            .rest
            .split_at_checked(len)
            .expect("arenas are written by RowBatch only");
        self.rest = rest;
        Some(cell)
    }
}

/// Decodes one cell that [`RowRef::raw_cells`] gave; `None` if the bytes are no cell.
#[inline]
pub fn decode_raw(mut raw: &[u8]) -> Option<CellRef<'_>> {
    read(&mut raw)
}

/// The first of encoded cells that lie one behind the other; `None` if what is there is no cell.
pub fn split_raw(raw: &[u8]) -> Option<&[u8]> {
    let mut rest = raw;
    read(&mut rest)?;
    raw.get(..raw.len() - rest.len())
}

/// Bytes of a cell of each kind, in the order of the tags; 0: the cell says how long it is.
const LENGTHS: [u8; 21] = [
    1, 1, 1, 1, 1, // states and truth values
    9, 9, 5, 9, // numbers
    0, 0, 0, // decimals, text, octets
    7, 9, 15, 9, 17, // times
    17, 0, 0, 0, // UUIDs, JSON, bits, others
];

/// The length of the first encoded cell; `None` when there is none.
#[inline]
fn raw_len(bytes: &[u8]) -> Option<usize> {
    let tag = *bytes.first()?;
    Some(match LENGTHS.get(usize::from(tag)) {
        Some(0) | None if tag == tag::BITS => 9 + le_u32(bytes.get(5..9)?)? as usize,
        Some(0) | None => 5 + le_u32(bytes.get(1..5)?)? as usize,
        Some(length) => usize::from(*length),
    })
}

#[inline]
fn le_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[inline]
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

#[inline]
fn take_var<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(*take::<4>(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

#[inline]
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_var(rest)?).ok()
}

#[inline]
fn take_date(rest: &mut &[u8]) -> Option<Date> {
    let year = i32::from_le_bytes(*take::<4>(rest)?);
    let [month, day] = *take::<2>(rest)?;
    Some(Date { year, month, day })
}

#[inline]
fn read<'a>(rest: &mut &'a [u8]) -> Option<CellRef<'a>> {
    let [tag] = *take::<1>(rest)?;
    Some(match tag {
        tag::NULL => CellRef::Null,
        tag::UNCHANGED => CellRef::Unchanged,
        tag::ABSENT => CellRef::Absent,
        tag::FALSE => CellRef::Bool(false),
        tag::TRUE => CellRef::Bool(true),
        tag::I64 => CellRef::I64(i64::from_le_bytes(*take(rest)?)),
        tag::U64 => CellRef::U64(u64::from_le_bytes(*take(rest)?)),
        tag::F32 => CellRef::F32(f32::from_le_bytes(*take(rest)?)),
        tag::F64 => CellRef::F64(f64::from_le_bytes(*take(rest)?)),
        tag::DECIMAL => CellRef::Decimal(read_decimal(take_var(rest)?)?),
        tag::TEXT => CellRef::Text(take_text(rest)?),
        tag::BYTES => CellRef::Bytes(take_var(rest)?),
        tag::DATE => CellRef::Date(take_date(rest)?),
        tag::TIME => CellRef::Time(i64::from_le_bytes(*take(rest)?)),
        tag::TIMESTAMP => CellRef::Timestamp(take_date(rest)?, i64::from_le_bytes(*take(rest)?)),
        tag::INSTANT => CellRef::Instant(i64::from_le_bytes(*take(rest)?)),
        tag::INTERVAL => CellRef::Interval(Interval {
            months: i32::from_le_bytes(*take(rest)?),
            days: i32::from_le_bytes(*take(rest)?),
            micros: i64::from_le_bytes(*take(rest)?),
        }),
        tag::UUID => CellRef::Uuid(*take(rest)?),
        tag::JSON => CellRef::Json(take_text(rest)?),
        tag::BITS => CellRef::Bits(u32::from_le_bytes(*take(rest)?), take_var(rest)?),
        tag::OTHER => CellRef::Other(take_text(rest)?),
        _ => return None,
    })
}

#[inline]
fn read_decimal(bytes: &[u8]) -> Option<DecimalRef<'_>> {
    let (class, rest) = bytes.split_first()?;
    Some(match class {
        0 | 1 => {
            let (scale, digits) = rest.split_first_chunk::<2>()?;
            DecimalRef::Finite {
                negative: *class == 1,
                scale: u16::from_le_bytes(*scale),
                digits,
            }
        }
        2 => DecimalRef::NaN,
        3 => DecimalRef::Infinity,
        _ => DecimalRef::NegInfinity,
    })
}
