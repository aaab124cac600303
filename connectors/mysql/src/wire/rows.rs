//! Row events, into the core's arena.
//!
//! An image need not have every column (`binlog_row_image`), and a bitmap says which it has. What a
//! cell that is not there means depends on the image:
//!
//! - *before*: the log does not have it: `Absent`.
//! - *after* of an update: it did not change. If the before image has it, its value is known and is
//!   copied, so that the key is there in both; otherwise it is `Unchanged`.
//! - *after* of an insert: the statement did not name it and its default is a constant, for what is
//!   computed (functions, `AUTO_INCREMENT`) is logged. The constant comes from the catalogue.
//! - A column that the log does not have yet has its one value in an image that has all columns of the log,
//!   and in an insert; otherwise it is as one that the image lacks.
//! - A virtual column is not logged under `MINIMAL` although its value may have changed. Its image
//!   cannot be read.
//!
//! Where both images of an update have the same long value, that after it is `Unchanged` as well: it
//! is in memory once, and is not written again. A value of that length is part of no key.
//!
//! <https://mariadb.com/kb/en/rows_event_v1v2/>,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Rows__event.html>;
//! what each image has: <https://dev.mysql.com/doc/refman/8.4/en/replication-options-binary-log.html>
//! (`binlog_row_image`) and what MariaDB 10.11 was seen to log.

use std::ops::Range;

use thalweg_core::value::{CellRef, RowBatch};

use super::cells::{self, Meaning};
use super::event::RowOp;
use super::map::Physical;
use super::{Buf, Malformed, json, numbers, skip};

/// What a column is in an image that lacks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Not known.
    #[default]
    Unknown,
    /// In an insert the encoded cell of its constant default.
    Default(Box<[u8]>),
    /// Computed when it is read, and so whatever the other columns make it.
    Virtual,
}

/// A column ready to decode.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) physical: Physical,
    /// Its index among the columns that are asked for; `None`: it is passed over.
    pub(crate) wanted: Option<usize>,
    pub(crate) unsigned: bool,
    /// How many zeros a decimal number gets behind its digits.
    pub(crate) zeros: u8,
    pub(crate) meaning: Meaning,
    pub(crate) missing: Missing,
}

/// The columns of a table, ready to decode.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    /// Those the log has.
    pub(crate) logged: Vec<Column>,
    /// Those it does not have yet, in order: the index among the columns that are asked for, and the
    /// encoded cell that all rows have.
    pub(crate) young: Vec<(usize, Box<[u8]>)>,
}

/// What an image has of young columns.
struct Fills<'a> {
    left: &'a [(usize, Box<[u8]>)],
    /// `None`: their cells.
    instead: Option<CellRef<'static>>,
}

impl Fills<'_> {
    /// Appends those that stand before a column that is asked for.
    #[inline]
    fn up_to(&mut self, wanted: usize, out: &mut RowBatch) {
        while let Some(((at, fill), rest)) = self.left.split_first()
            && *at < wanted
        {
            match self.instead {
                None => out.push_raw(fill),
                Some(cell) => out.push(cell),
            }
            self.left = rest;
        }
    }
}

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) why: &'static str,
    /// Index of the column in the schema, where one is to blame.
    pub(crate) column: Option<usize>,
    /// Whether a setting of the server is to blame and not the bytes.
    pub(crate) setting: Option<&'static str>,
}

impl From<Malformed> for Unreadable {
    fn from(error: Malformed) -> Self {
        Unreadable {
            why: error.0,
            column: None,
            setting: None,
        }
    }
}

const FULL_IMAGE: &str =
    "SET GLOBAL binlog_row_image = 'FULL'; reconnect all writers, then reset the task";
const NO_PARTIAL_JSON: &str =
    "SET GLOBAL binlog_row_value_options = ''; reconnect all writers, then reset the task";

/// The frame of a row event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsEvent<'a> {
    pub(crate) table_id: u64,
    /// The session had `foreign_key_checks = 0` (flag `NO_FOREIGN_KEY_CHECKS_F`).
    pub(crate) unchecked: bool,
    pub(crate) width: usize,
    pub(crate) present: &'a [u8],
    /// Columns of the after image of an update.
    pub(crate) present_after: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> RowsEvent<'a> {
    /// `v2`: with extra data; an update has two bitmaps.
    pub(crate) fn parse(body: &'a [u8], v2: bool, op: RowOp) -> Result<Self, Malformed> {
        let mut b = Buf(body);
        let table_id = b.le(6)?;
        let unchecked = b.u16()? & 0x2 != 0;
        if v2 {
            let len = usize::from(b.u16()?);
            b.take(len.checked_sub(2).ok_or(Malformed("extra data length"))?)?;
        }
        let width = b.lenenc()?;
        let bitmap = width.div_ceil(8);
        let present = b.take(bitmap)?;
        let present_after = if op.is_update() {
            b.take(bitmap)?
        } else {
            present
        };
        Ok(RowsEvent {
            table_id,
            unchecked,
            width,
            present,
            present_after,
            data: b.0,
        })
    }
}

pub(super) fn bit(map: &[u8], i: usize) -> bool {
    map.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
}

/// The images of one row, as indexes into the batch they were read into.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Images {
    pub(crate) before: Option<usize>,
    pub(crate) after: Option<usize>,
}

/// Reads the rows of an event one after the other.
pub(crate) struct Rows<'a> {
    op: RowOp,
    columns: &'a [Column],
    young: &'a [(usize, Box<[u8]>)],
    present: &'a [u8],
    present_after: &'a [u8],
    data: Buf<'a>,
    /// A value larger than this is not inflated.
    max: u64,
    /// Where the cells of the before image lie in its row, if the after image needs them.
    before: Vec<Range<usize>>,
    /// The documents of the before image by column, if the after image needs them.
    documents: Vec<Option<&'a [u8]>>,
    /// The long values of the before image by column, as they are in the log.
    long: Vec<(usize, &'a [u8])>,
}

/// A value of so many bytes is long.
const LONG_BYTES: usize = 64 << 10;

impl<'a> Rows<'a> {
    /// `data` is that of the event, inflated where it was compressed.
    pub(crate) fn new(
        op: RowOp,
        columns: &'a Columns,
        event: &RowsEvent<'a>,
        data: &'a [u8],
        max: u64,
    ) -> Rows<'a> {
        Rows {
            op,
            columns: &columns.logged,
            young: &columns.young,
            present: event.present,
            present_after: event.present_after,
            data: Buf(data),
            max,
            before: Vec::new(),
            documents: Vec::new(),
            long: Vec::new(),
        }
    }

    /// Bytes that were not read.
    pub(crate) fn left(&self) -> usize {
        self.data.0.len()
    }

    /// The next row, read into `out`; `None` at the end. After an error the image that was begun is
    /// taken back.
    pub(crate) fn next(&mut self, out: &mut RowBatch) -> Result<Option<Images>, Unreadable> {
        if self.data.0.is_empty() {
            return Ok(None);
        }
        let left = self.data.0.len();
        let read = match self.op {
            RowOp::Write => self.insert(out).map(|after| Images {
                before: None,
                after: Some(after),
            }),
            RowOp::Delete => self.before(out, false).map(|before| Images {
                before: Some(before),
                after: None,
            }),
            RowOp::Update | RowOp::PartialUpdate => self.update(out),
        };
        let read = read.inspect_err(|_| out.discard_open_row())?;
        if self.data.0.len() == left {
            return Err(Malformed("row images without content").into());
        }
        Ok(Some(read))
    }

    fn insert(&mut self, out: &mut RowBatch) -> Result<usize, Unreadable> {
        let nulls = self.nulls(self.present)?;
        let mut fills = self.fills(None);
        let mut nth = 0;
        for (i, column) in self.columns.iter().enumerate() {
            fills.up_to(column.wanted.unwrap_or(0), out);
            if bit(self.present, i) {
                cell(&mut self.data, column, bit(nulls, nth), self.max, out).map_err(at(column))?;
                nth += 1;
                continue;
            }
            if column.wanted.is_none() {
                continue;
            }
            match &column.missing {
                Missing::Default(raw) => out.push_raw(raw),
                Missing::Virtual => return Err(lacks(column, "the log lacks a virtual column")),
                Missing::Unknown => {
                    let why = "an insert in the log lacks a column whose default is not known";
                    return Err(lacks(column, why));
                }
            }
        }
        fills.up_to(usize::MAX, out);
        Ok(out.end_row())
    }

    fn before(&mut self, out: &mut RowBatch, documents: bool) -> Result<usize, Unreadable> {
        let nulls = self.nulls(self.present)?;
        self.long.clear();
        let mut fills = self.fills((!self.complete(self.present)).then_some(CellRef::Absent));
        let mut nth = 0;
        for (i, column) in self.columns.iter().enumerate() {
            fills.up_to(column.wanted.unwrap_or(0), out);
            if !bit(self.present, i) {
                if column.wanted.is_some() {
                    out.push(CellRef::Absent);
                }
                continue;
            }
            let before = self.data.0;
            cell(&mut self.data, column, bit(nulls, nth), self.max, out).map_err(at(column))?;
            nth += 1;
            let read = before.len() - self.data.0.len();
            if read > LONG_BYTES && column.wanted.is_some() {
                self.long.extend(before.get(..read).map(|raw| (i, raw)));
            }
            if documents && let (Physical::Json(n), Some(_)) = (column.physical, column.wanted) {
                let document = before.get(usize::from(n)..before.len() - self.data.0.len());
                if let Some(slot) = self.documents.get_mut(i) {
                    *slot = document.filter(|d| !d.is_empty());
                }
            }
        }
        fills.up_to(usize::MAX, out);
        Ok(out.end_row())
    }

    fn update(&mut self, out: &mut RowBatch) -> Result<Images, Unreadable> {
        let partial_json = self.op == RowOp::PartialUpdate;
        if partial_json {
            self.documents.clear();
            self.documents.resize(self.columns.len(), None);
        }
        let before = self.before(out, partial_json)?;
        let complete = self.complete(self.present_after);
        self.before.clear();
        if !complete {
            let mut start = 0;
            for raw in out.row(before).raw_cells() {
                self.before.push(start..start + raw.len());
                start += raw.len();
            }
        }
        // One bit for each column of JSON: whether it comes as differences.
        let mut differs: &[u8] = &[];
        if partial_json && self.data.lenenc()? & 1 == 1 {
            let json = |c: &&Column| matches!(c.physical, Physical::Json(_));
            let count = self.columns.iter().filter(json).count();
            differs = self.data.take(count.div_ceil(8))?;
        }
        let nulls = self.nulls(self.present_after)?;
        let mut fills = self.fills((!complete).then_some(CellRef::Unchanged));
        let (mut nth, mut nth_json) = (0, 0);
        for (i, column) in self.columns.iter().enumerate() {
            fills.up_to(column.wanted.unwrap_or(0), out);
            let is_json = matches!(column.physical, Physical::Json(_));
            let as_differences = is_json && bit(differs, nth_json);
            nth_json += usize::from(is_json);
            if !bit(self.present_after, i) {
                self.carry(i, column, before, out)?;
                continue;
            }
            let null = bit(nulls, nth);
            nth += 1;
            if as_differences && !null && column.wanted.is_none() {
                self.data.prefixed(4)?;
            } else if as_differences && !null {
                let Some(Some(old)) = self.documents.get(i) else {
                    return Err(Unreadable {
                        why: "the log has the changed parts of a JSON document but not the document",
                        column: column.wanted,
                        setting: Some(NO_PARTIAL_JSON),
                    });
                };
                let changes = self.data.prefixed(4)?;
                json::push_changed(out, old, changes).map_err(at(column))?;
            } else if !null && self.same(i)? {
                out.push(CellRef::Unchanged);
            } else {
                cell(&mut self.data, column, null, self.max, out).map_err(at(column))?;
            }
        }
        fills.up_to(usize::MAX, out);
        Ok(Images {
            before: Some(before),
            after: Some(out.end_row()),
        })
    }

    fn fills(&self, instead: Option<CellRef<'static>>) -> Fills<'a> {
        Fills {
            left: self.young,
            instead,
        }
    }

    /// Whether an image has all columns of the log.
    fn complete(&self, present: &[u8]) -> bool {
        (0..self.columns.len()).all(|i| bit(present, i))
    }

    /// Passes over a long value that is as it was; whether it was one.
    fn same(&mut self, i: usize) -> Result<bool, Malformed> {
        let Some((_, old)) = self.long.iter().find(|(column, _)| *column == i) else {
            return Ok(false);
        };
        let same = self.data.0.starts_with(old);
        if same {
            self.data.take(old.len())?;
        }
        Ok(same)
    }

    /// A column the after image of an update lacks.
    fn carry(
        &self,
        i: usize,
        column: &Column,
        before: usize,
        out: &mut RowBatch,
    ) -> Result<(), Unreadable> {
        let Some(wanted) = column.wanted else {
            return Ok(());
        };
        if bit(self.present, i)
            && let Some(range) = self.before.get(wanted)
        {
            out.push_again(before, range.clone());
            return Ok(());
        }
        if column.missing == Missing::Virtual {
            return Err(lacks(column, "the log lacks a virtual column"));
        }
        out.push(CellRef::Unchanged);
        Ok(())
    }

    fn nulls(&mut self, present: &[u8]) -> Result<&'a [u8], Malformed> {
        let all = (0..self.columns.len()).filter(|i| bit(present, *i)).count();
        self.data.take(all.div_ceil(8))
    }
}

fn at(column: &Column) -> impl Fn(Malformed) -> Unreadable {
    let column = column.wanted;
    move |error| Unreadable {
        column,
        ..error.into()
    }
}

fn lacks(column: &Column, why: &'static str) -> Unreadable {
    Unreadable {
        why,
        column: column.wanted,
        setting: Some(FULL_IMAGE),
    }
}

/// One cell of an image.
fn cell(
    d: &mut Buf<'_>,
    c: &Column,
    null: bool,
    max: u64,
    out: &mut RowBatch,
) -> Result<(), Malformed> {
    if c.wanted.is_none() {
        return if null {
            Ok(())
        } else {
            skip::skip(d, c.physical)
        };
    }
    if null {
        out.push(CellRef::Null);
        return Ok(());
    }
    match c.physical {
        Physical::Int(n) => {
            let raw = d.le(usize::from(n))?;
            if c.unsigned {
                out.push(CellRef::U64(raw));
            } else {
                let shift = 64 - 8 * u32::from(n);
                out.push(CellRef::I64((raw << shift).cast_signed() >> shift));
            }
        }
        Physical::Float => out.push(CellRef::F32(f32::from_bits(d.u32()?))),
        Physical::Double => out.push(CellRef::F64(f64::from_bits(d.u64()?))),
        Physical::Decimal(precision, scale) => numbers::decimal(d, precision, scale, c.zeros, out)?,
        Physical::Year => {
            let y = i64::from(d.u8()?);
            out.push(CellRef::I64(if y == 0 { 0 } else { y + 1900 }));
        }
        Physical::Date => cells::push_date(out, numbers::date3(d.le(3)?)),
        Physical::OldTime(fsp) => out.push(CellRef::Time(numbers::old_time(d, fsp)?)),
        Physical::OldDatetime(fsp) => cells::push_datetime(out, numbers::old_datetime(d, fsp)?),
        Physical::OldTimestamp(fsp) => cells::push_instant(out, numbers::old_timestamp(d, fsp)?),
        Physical::Time2(fsp) => out.push(CellRef::Time(numbers::time2(d, fsp)?)),
        Physical::Datetime2(fsp) => {
            let packed = d.be(5)?;
            let us = numbers::fraction(d, fsp)?;
            cells::push_datetime(out, numbers::datetime2(packed, us));
        }
        Physical::Timestamp2(fsp) => {
            let seconds = d.be(4)?;
            let us = numbers::fraction(d, fsp)?;
            cells::push_instant(out, (seconds * 1_000_000).cast_signed() + us);
        }
        Physical::Bit(n) => {
            let value = d.be(usize::from(n))?;
            let Meaning::Bits(len) = c.meaning else {
                return Err(Malformed("BIT where the schema has another type"));
            };
            cells::push_bits(out, len, value);
        }
        Physical::Str(n) | Physical::Vector(n) => {
            cells::push_string(out, &c.meaning, d.prefixed(usize::from(n))?)?;
        }
        Physical::Json(n) | Physical::Array(n) => {
            json::push(out, d.prefixed(usize::from(n))?)?;
        }
        Physical::Compressed(n) => {
            let plain = numbers::column(d.prefixed(usize::from(n))?, max)?;
            cells::push_string(out, &c.meaning, &plain)?;
        }
        Physical::Enum(n) => match &c.meaning {
            Meaning::Enum(labels) => cells::push_enum(out, labels, d.le(usize::from(n))?)?,
            _ => return Err(Malformed("ENUM where the schema has another type")),
        },
        Physical::Set(n) => match &c.meaning {
            Meaning::Set(labels) => cells::push_set(out, labels, d.le(usize::from(n))?)?,
            _ => return Err(Malformed("SET where the schema has another type")),
        },
    }
    Ok(())
}
