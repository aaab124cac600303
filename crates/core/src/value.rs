//! Rows: one representation, no allocation per cell.
//!
//! A [`RowBatch`] owns one growable byte arena. A row is a slice of it: per cell one tag byte, then
//! the payload, fixed width little-endian or a 32-bit length and bytes. A connector decodes once
//! into this form and the target encodes once from it; nothing else touches a value, and a cell
//! that needs no conversion is copied as bytes ([`RowRef::raw_cells`], [`RowBatch::push_raw`]).
//! Two cells hold the same value of the same kind exactly if their bytes are equal, so encoded key
//! cells can be hashed and compared as they are ([`DecimalRef`] is normalised for this reason).

mod date;
mod rank;
mod raw;

use std::fmt;
use std::ops::Range;

pub use date::Date;
pub use rank::rank;
pub use raw::{Cells, RawCells, decimal, decode_raw, integer, is_present, split_raw, text_bytes};

/// A decimal number: `(-1)^negative × digits × 10^-scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecimalRef<'a> {
    /// An ordinary number. `digits` are ASCII `0`..`9` without leading zeros, at least one, at
    /// least... as many as the value needs; zero is `"0"` and never negative. `scale` is kept as
    /// the source has it: 1.50 is digits 150, scale 2.
    Finite {
        /// Sign.
        negative: bool,
        /// Digits after the point.
        scale: u16,
        /// Unscaled ASCII digits.
        digits: &'a [u8],
    },
    /// Not a number.
    NaN,
    /// Infinity.
    Infinity,
    /// Minus infinity.
    NegInfinity,
}

impl fmt::Display for DecimalRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (negative, scale, digits) = match *self {
            DecimalRef::Finite {
                negative,
                scale,
                digits,
            } => (negative, scale, digits),
            DecimalRef::NaN => return f.write_str("NaN"),
            DecimalRef::Infinity => return f.write_str("Infinity"),
            DecimalRef::NegInfinity => return f.write_str("-Infinity"),
        };
        if negative {
            f.write_str("-")?;
        }
        let scale = usize::from(scale);
        let digits = std::str::from_utf8(digits).map_err(|_| fmt::Error)?;
        if digits.len() > scale {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            f.write_str(whole)?;
            if scale > 0 {
                write!(f, ".{fraction}")?;
            }
        } else {
            write!(f, "0.{digits:0>scale$}")?;
        }
        Ok(())
    }
}

/// A span of time in PostgreSQL's three independent parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// One cell of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CellRef<'a> {
    /// SQL NULL.
    Null,
    /// The source did not send it because it did not change. Never the same as NULL.
    Unchanged,
    /// Not part of this image.
    Absent,
    /// Truth value.
    Bool(bool),
    /// Signed integer.
    I64(i64),
    /// Unsigned integer.
    U64(u64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// Exact decimal.
    Decimal(DecimalRef<'a>),
    /// Text in UTF-8.
    Text(&'a str),
    /// Octets.
    Bytes(&'a [u8]),
    /// Civil date.
    Date(Date),
    /// Time of day or duration in microseconds; MySQL's may be negative and exceed 24 hours.
    Time(i64),
    /// Civil date and time without zone: a date and the microseconds of its day. A zero MySQL
    /// TIMESTAMP also comes as this, with a zero date, since it is no moment.
    Timestamp(Date, i64),
    /// A moment: microseconds since the Unix epoch, UTC; `i64::MAX` and `i64::MIN` are infinities.
    Instant(i64),
    /// Interval.
    Interval(Interval),
    /// UUID.
    Uuid([u8; 16]),
    /// JSON text.
    Json(&'a str),
    /// Bit string: its length in bits, and the bits, first bit in the highest bit of the first
    /// byte, the last byte padded with zeros.
    Bits(u32, &'a [u8]),
    /// The text form of a type that only its own engine understands.
    Other(&'a str),
}

impl CellRef<'_> {
    /// Whether it carries a value or NULL, not merely a state.
    pub fn is_present(&self) -> bool {
        !matches!(self, CellRef::Unchanged | CellRef::Absent)
    }

    /// The kind's name, for messages that must not show the value.
    pub fn kind_name(&self) -> &'static str {
        match self {
            CellRef::Null => "null",
            CellRef::Unchanged => "unchanged",
            CellRef::Absent => "absent",
            CellRef::Bool(_) => "bool",
            CellRef::I64(_) => "signed integer",
            CellRef::U64(_) => "unsigned integer",
            CellRef::F32(_) => "single float",
            CellRef::F64(_) => "double float",
            CellRef::Decimal(_) => "decimal",
            CellRef::Text(_) => "text",
            CellRef::Bytes(_) => "bytes",
            CellRef::Date(_) => "date",
            CellRef::Time(_) => "time",
            CellRef::Timestamp(..) => "timestamp",
            CellRef::Instant(_) => "instant",
            CellRef::Interval(_) => "interval",
            CellRef::Uuid(_) => "uuid",
            CellRef::Json(_) => "json",
            CellRef::Bits(..) => "bits",
            CellRef::Other(_) => "other",
        }
    }
}

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const UNCHANGED: u8 = 1;
    pub(super) const ABSENT: u8 = 2;
    pub(super) const FALSE: u8 = 3;
    pub(super) const TRUE: u8 = 4;
    pub(super) const I64: u8 = 5;
    pub(super) const U64: u8 = 6;
    pub(super) const F32: u8 = 7;
    pub(super) const F64: u8 = 8;
    pub(super) const DECIMAL: u8 = 9;
    pub(super) const TEXT: u8 = 10;
    pub(super) const BYTES: u8 = 11;
    pub(super) const DATE: u8 = 12;
    pub(super) const TIME: u8 = 13;
    pub(super) const TIMESTAMP: u8 = 14;
    pub(super) const INSTANT: u8 = 15;
    pub(super) const INTERVAL: u8 = 16;
    pub(super) const UUID: u8 = 17;
    pub(super) const JSON: u8 = 18;
    pub(super) const BITS: u8 = 19;
    pub(super) const OTHER: u8 = 20;
}

/// Kinds of cells that are a string of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varying {
    /// [`CellRef::Text`].
    Text,
    /// [`CellRef::Bytes`].
    Bytes,
    /// [`CellRef::Json`].
    Json,
    /// [`CellRef::Other`].
    Other,
}

impl Varying {
    fn tag(self) -> u8 {
        match self {
            Varying::Text => tag::TEXT,
            Varying::Bytes => tag::BYTES,
            Varying::Json => tag::JSON,
            Varying::Other => tag::OTHER,
        }
    }
}

/// Rows in one arena.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    bytes: Vec<u8>,
    rows: Vec<(u32, u32)>,
    open: usize,
}

/// Memory that a batch keeps when it is emptied: several times what a batch of ordinary rows takes.
const KEPT_BYTES: usize = 16 << 20;

/// A value of so many bytes is long: behind it there is room for as much again before the arena grows,
/// which takes a copy of all that is in it.
const LONG_BYTES: usize = 64 << 10;

/// What a batch is made with at most, before it holds anything.
const LIKE_BYTES: usize = 8 << 10;
/// A batch's arena cannot outgrow this; the memory budget ends far below it.
const ARENA_MAX: &str = "a batch stays below 4 GiB";

impl RowBatch {
    /// An empty batch.
    pub fn new() -> Self {
        RowBatch::default()
    }

    /// An empty batch with room for what this one holds, at most a few KiB: for the next of many
    /// that are alike.
    #[must_use]
    pub fn like(&self) -> Self {
        RowBatch {
            bytes: Vec::with_capacity(self.bytes.len().min(LIKE_BYTES)),
            rows: Vec::with_capacity(self.rows.len().min(LIKE_BYTES / 64)),
            open: 0,
        }
    }

    /// Number of finished rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no finished row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of cells and offsets, for limits.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.rows.len() * 8
    }

    /// Bytes held for cells and offsets, in use or not, for the memory budget.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.rows.capacity() * 8
    }

    /// Removes all rows, keeping the memory for reuse; but not that of a row of unusual size, which
    /// would be held beside all that is made next.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.rows.clear();
        self.open = 0;
    }

    /// Appends a cell to the open row.
    ///
    /// # Panics
    /// If the arena would exceed 4 GiB, which limits on rows and batches exclude.
    #[inline]
    pub fn push(&mut self, cell: CellRef<'_>) {
        let out = &mut self.bytes;
        match cell {
            CellRef::Null => out.push(tag::NULL),
            CellRef::Unchanged => out.push(tag::UNCHANGED),
            CellRef::Absent => out.push(tag::ABSENT),
            CellRef::Bool(false) => out.push(tag::FALSE),
            CellRef::Bool(true) => out.push(tag::TRUE),
            CellRef::I64(v) => eight(out, tag::I64, v.to_le_bytes()),
            CellRef::U64(v) => eight(out, tag::U64, v.to_le_bytes()),
            CellRef::F32(v) => {
                let [a, b, c, d] = v.to_le_bytes();
                fixed(out, [tag::F32, a, b, c, d]);
            }
            CellRef::F64(v) => eight(out, tag::F64, v.to_le_bytes()),
            CellRef::Decimal(v) => push_decimal(out, v),
            CellRef::Text(v) => varying(out, tag::TEXT, v.as_bytes()),
            CellRef::Bytes(v) => varying(out, tag::BYTES, v),
            CellRef::Date(v) => push_date(out, tag::DATE, v),
            CellRef::Time(v) => eight(out, tag::TIME, v.to_le_bytes()),
            CellRef::Timestamp(date, micros) => {
                push_date(out, tag::TIMESTAMP, date);
                out.extend_from_slice(&micros.to_le_bytes());
            }
            CellRef::Instant(v) => eight(out, tag::INSTANT, v.to_le_bytes()),
            CellRef::Interval(v) => {
                out.push(tag::INTERVAL);
                out.extend_from_slice(&v.months.to_le_bytes());
                out.extend_from_slice(&v.days.to_le_bytes());
                out.extend_from_slice(&v.micros.to_le_bytes());
            }
            CellRef::Uuid(v) => {
                out.push(tag::UUID);
                out.extend_from_slice(&v);
            }
            CellRef::Json(v) => varying(out, tag::JSON, v.as_bytes()),
            CellRef::Bits(len, v) => {
                out.push(tag::BITS);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&u32::try_from(v.len()).expect(ARENA_MAX).to_le_bytes());
                out.extend_from_slice(v);
            }
            CellRef::Other(v) => varying(out, tag::OTHER, v.as_bytes()),
        }
    }

    /// Appends an already encoded cell, as [`RowRef::raw_cells`] gives it.
    #[inline]
    pub fn push_raw(&mut self, raw: &[u8]) {
        extend(&mut self.bytes, raw);
    }

    /// Appends a cell whose bytes are text if they are UTF-8; `false`: they are not, and nothing was
    /// appended.
    #[inline]
    pub fn push_utf8(&mut self, kind: Varying, bytes: &[u8]) -> bool {
        // Most text is ASCII and short: eight bytes at a time.
        let (words, rest) = bytes.as_chunks::<8>();
        let mut high = words
            .iter()
            .fold(0, |all, word| all | u64::from_le_bytes(*word));
        high |= rest.iter().fold(0, |all, byte| all | u64::from(*byte));
        if high & 0x8080_8080_8080_8080 != 0 && std::str::from_utf8(bytes).is_err() {
            return false;
        }
        varying(&mut self.bytes, kind.tag(), bytes);
        true
    }

    /// Appends a text cell whose bytes the caller builds in place; see [`RowBatch::push_with`].
    pub fn push_text_with<E>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push_with(Varying::Text, fill)
    }

    /// Appends cells of a finished row of this batch once more. `range` counts the bytes of that
    /// row's [`RowRef::raw_cells`] and begins and ends between two cells.
    ///
    /// # Panics
    /// If there is no such row or it is shorter.
    pub fn push_again(&mut self, row: usize, range: Range<usize>) {
        let &(start, end) = self
            .rows
            .get(row)
            .expect("row indexes come from this batch");
        let (start, end) = (start as usize, end as usize);
        assert!(start + range.end <= end, "the range lies in the row");
        self.bytes
            .extend_from_within(start + range.start..start + range.end);
    }

    /// Appends a cell whose bytes the caller builds in place; no copy, no allocation.
    ///
    /// `fill` appends to the vector it is given, UTF-8 for all but [`Varying::Bytes`], and must not
    /// touch what is already there. If it fails the cell is taken back.
    pub fn push_with<E>(
        &mut self,
        kind: Varying,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.push(kind.tag());
        self.bytes.extend_from_slice(&[0; 4]);
        if let Err(error) = fill(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let len = u32::try_from(self.bytes.len() - start - 5).expect(ARENA_MAX);
        if let Some(slot) = self.bytes.get_mut(start + 1..start + 5) {
            slot.copy_from_slice(&len.to_le_bytes());
        }
        Ok(())
    }

    /// Ends the open row and gives its index.
    #[inline]
    pub fn end_row(&mut self) -> usize {
        let start = u32::try_from(self.open).expect(ARENA_MAX);
        let end = u32::try_from(self.bytes.len()).expect(ARENA_MAX);
        self.rows.push((start, end));
        self.open = self.bytes.len();
        self.rows.len() - 1
    }

    /// Takes back the cells pushed since the last [`RowBatch::end_row`].
    pub fn discard_open_row(&mut self) {
        self.bytes.truncate(self.open);
    }

    /// Bytes pushed since the last [`RowBatch::end_row`].
    #[inline]
    pub fn open_bytes(&self) -> usize {
        self.bytes.len() - self.open
    }

    /// The first cell of the open row after `start` of its bytes.
    pub(crate) fn open_cell(&self, start: usize) -> Option<CellRef<'_>> {
        decode_raw(self.bytes.get(self.open + start..)?)
    }

    /// Takes back what was pushed to the open row after `start` of its bytes.
    pub(crate) fn take_back(&mut self, start: usize) {
        self.bytes.truncate(self.open + start);
    }

    /// The row with this index.
    ///
    /// # Panics
    /// If there is no such row: indexes come from [`RowBatch::end_row`] of the same batch.
    #[inline]
    pub fn row(&self, index: usize) -> RowRef<'_> {
        let &(start, end) = self
            .rows
            .get(index)
            .expect("row indexes come from this batch");
        let range = start as usize..end as usize;
        RowRef {
            bytes: self.bytes.get(range).expect("rows lie inside the arena"),
        }
    }

    /// All rows in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.rows.len()).map(|index| self.row(index))
    }

    /// One row of the cells of `newer`, or where it leaves one out, of `older`.
    pub fn laid_over(newer: RowRef<'_>, older: RowRef<'_>) -> RowBatch {
        let mut rows = RowBatch::new();
        rows.bytes.reserve(newer.bytes().max(older.bytes()));
        for (cell, (new, old)) in newer.cells().zip(newer.raw_cells().zip(older.raw_cells())) {
            rows.push_raw(if cell.is_present() { new } else { old });
        }
        rows.end_row();
        rows
    }

    /// Copies a row of another batch into this one and gives its index.
    #[inline]
    pub fn append(&mut self, row: RowRef<'_>) -> usize {
        debug_assert_eq!(self.open, self.bytes.len(), "no row is open");
        extend(&mut self.bytes, row.bytes);
        self.end_row()
    }
}

/// A cell of a tag and so many bytes, in one piece: room for it is looked for once.
#[inline]
fn fixed<const N: usize>(out: &mut Vec<u8>, cell: [u8; N]) {
    out.extend_from_slice(&cell);
}

/// A cell of a tag and eight bytes.
#[inline]
fn eight(out: &mut Vec<u8>, tag: u8, [a, b, c, d, e, f, g, h]: [u8; 8]) {
    fixed(out, [tag, a, b, c, d, e, f, g, h]);
}

#[inline]
fn varying(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    let [a, b, c, d] = u32::try_from(payload.len()).expect(ARENA_MAX).to_le_bytes();
    out.reserve(5 + payload.len());
    fixed(out, [tag, a, b, c, d]);
    extend(out, payload);
}

#[inline]
fn extend(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() >= LONG_BYTES {
        out.reserve(bytes.len() + LONG_BYTES);
    }
    out.extend_from_slice(bytes);
}

#[inline]
fn push_date(out: &mut Vec<u8>, tag: u8, date: Date) {
    let [a, b, c, d] = date.year.to_le_bytes();
    fixed(out, [tag, a, b, c, d, date.month, date.day]);
}

fn push_decimal(out: &mut Vec<u8>, value: DecimalRef<'_>) {
    // Layout: tag, length of the rest, then class (0 plus, 1 minus, 2 NaN, 3 +inf, 4 -inf), scale
    // and digits for finite numbers.
    match value {
        DecimalRef::Finite {
            negative,
            scale,
            mut digits,
        } => {
            while let [b'0', rest @ ..] = digits {
                digits = rest;
            }
            let zero = digits.is_empty();
            let digits = if zero { b"0".as_slice() } else { digits };
            let length = u32::try_from(digits.len() + 3).expect(ARENA_MAX);
            let ([a, b, c, d], [e, f]) = (length.to_le_bytes(), scale.to_le_bytes());
            let class = u8::from(negative && !zero);
            out.reserve(8 + digits.len());
            fixed(out, [tag::DECIMAL, a, b, c, d, class, e, f]);
            out.extend_from_slice(digits);
        }
        special => {
            let class = match special {
                DecimalRef::NaN => 2,
                DecimalRef::Infinity => 3,
                _ => 4,
            };
            fixed(out, [tag::DECIMAL, 1, 0, 0, 0, class]);
        }
    }
}

/// One row: a slice of a batch's arena.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    bytes: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// Its cells in column order.
    #[inline]
    pub fn cells(self) -> Cells<'a> {
        Cells { rest: self.bytes }
    }

    /// Its cells in column order, each as the bytes it is encoded in.
    #[inline]
    pub fn raw_cells(self) -> RawCells<'a> {
        RawCells { rest: self.bytes }
    }

    /// The cell at `index`, walking there; `None` past the end.
    #[inline]
    pub fn cell(self, index: usize) -> Option<CellRef<'a>> {
        self.cells().nth(index)
    }

    /// Bytes it takes.
    pub fn bytes(self) -> usize {
        self.bytes.len()
    }

    /// Whether every cell carries a value or NULL.
    #[inline]
    pub fn is_whole(self) -> bool {
        self.raw_cells().all(is_present)
    }

    /// Whether every cell is there or in an `older` image.
    pub fn is_whole_over(self, older: RowRef<'_>) -> bool {
        let mut cells = self.raw_cells().zip(older.raw_cells());
        cells.all(|(new, old)| is_present(new) || is_present(old))
    }
}

#[cfg(test)]
mod tests;
