//! `TABLE_MAP` events: how the rows that follow lie in the log.
//!
//! <https://mariadb.com/kb/en/table_map_event/>,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Table__map__event.html>.

use super::{Buf, Malformed};

/// How one column's value lies in a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Physical {
    /// Little-endian integer of so many bytes.
    Int(u8),
    Float,
    Double,
    /// Precision and scale.
    Decimal(u8, u8),
    Year,
    Date,
    /// The formats before MySQL 5.6, which MariaDB can still write. The log does not say how many
    /// digits of a fraction (MariaDB 5.3) there are: [`super::join::join`] puts them in.
    OldTime(u8),
    OldDatetime(u8),
    OldTimestamp(u8),
    /// Fraction digits.
    Time2(u8),
    Datetime2(u8),
    Timestamp2(u8),
    /// Bytes.
    Bit(u8),
    /// Bytes of the length prefix.
    Str(u8),
    /// MySQL's binary JSON: bytes of the length prefix.
    Json(u8),
    /// The typed array of a multi-valued index, a document as well: bytes of the length prefix.
    Array(u8),
    /// MySQL's `VECTOR`: bytes of the length prefix.
    Vector(u8),
    /// A `COMPRESSED` column of MariaDB: bytes of the length prefix.
    Compressed(u8),
    /// Bytes of the index.
    Enum(u8),
    /// Bytes of the mask.
    Set(u8),
}

/// A parsed `TABLE_MAP`.
#[derive(Clone, Debug)]
pub(crate) struct TableMap<'a> {
    pub(crate) id: u64,
    pub(crate) schema: &'a [u8],
    pub(crate) table: &'a [u8],
    types: &'a [u8],
    meta: &'a [u8],
    optional: &'a [u8],
}

/// What the server says of the columns beyond their types, as far as it does
/// (`binlog_row_metadata`; MySQL 8.0 and MariaDB 10.5 or newer).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata<'a> {
    /// Per column: whether it is unsigned; `None`: not told, or no number.
    pub(crate) unsigned: Vec<Option<bool>>,
    /// Per column: the id of its collation; `None`: not told, or no text.
    pub(crate) collation: Vec<Option<u64>>,
    /// The names, each with its length before it; empty: not told. See [`Strings`].
    pub(crate) names: Strings<'a>,
    /// Per column of `ENUM` and `SET`: its labels, if told.
    pub(crate) labels: Vec<Option<Strings<'a>>>,
    /// The primary key, if told.
    pub(crate) key: Vec<usize>,
    /// Per column: the kind of geometry; `None`: not told, or none.
    pub(crate) geometry: Vec<Option<u64>>,
}

/// Strings that lie one behind the other, each with its length before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut b = Buf(self.0);
        let len = b.lenenc().ok()?;
        let text = b.take(len).ok()?;
        self.0 = b.0;
        Some(text)
    }
}

/// More columns no table has.
const COLUMNS_MAX: usize = 4096;

/// Column types by their number in the log.
mod code {
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const YEAR: u8 = 13;
    pub(super) const NEWDATE: u8 = 14;
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const TIMESTAMP2: u8 = 17;
    pub(super) const DATETIME2: u8 = 18;
    pub(super) const TIME2: u8 = 19;
    pub(super) const TYPED_ARRAY: u8 = 20;
    pub(super) const BLOB_COMPRESSED: u8 = 140;
    pub(super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(super) const VECTOR: u8 = 242;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
    pub(super) const VAR_STRING: u8 = 253;
    pub(super) const STRING: u8 = 254;
    pub(super) const GEOMETRY: u8 = 255;
}

impl<'a> TableMap<'a> {
    /// Reads the post-header and the names; column details on demand.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Buf(body);
        let id = b.le(6)?;
        b.take(2)?;
        let schema = b.prefixed(1)?;
        b.take(1)?;
        let table = b.prefixed(1)?;
        b.take(1)?;
        let count = b.lenenc()?;
        if count > COLUMNS_MAX {
            return Err(Malformed("more columns than a table can have"));
        }
        let types = b.take(count)?;
        let len = b.lenenc()?;
        let meta = b.take(len)?;
        b.take(count.div_ceil(8))?;
        Ok(TableMap {
            id,
            schema,
            table,
            types,
            meta,
            optional: b.0,
        })
    }

    /// The physical form of every column.
    pub(crate) fn columns(&self) -> Result<Vec<Physical>, Malformed> {
        let mut meta = Buf(self.meta);
        self.types
            .iter()
            .map(|ty| physical(*ty, &mut meta))
            .collect()
    }

    /// The type each column has once `STRING` is taken apart: `ENUM` and `SET` hide in it.
    fn real_types(&self) -> Result<Vec<u8>, Malformed> {
        let mut meta = Buf(self.meta);
        let real = |ty: &u8| {
            let before = meta;
            physical(*ty, &mut meta)?;
            Ok(match (*ty, before.0.first()) {
                (code::STRING, Some(&real @ (code::ENUM | code::SET))) => real,
                (ty, _) => ty,
            })
        };
        self.types.iter().map(real).collect()
    }

    /// What else the server says.
    pub(crate) fn metadata(&self) -> Result<Metadata<'a>, Malformed> {
        let types = self.real_types()?;
        let mut out = Metadata {
            unsigned: vec![None; types.len()],
            collation: vec![None; types.len()],
            labels: vec![None; types.len()],
            geometry: vec![None; types.len()],
            ..Metadata::default()
        };
        let of = |wanted: fn(u8) -> bool| -> Vec<usize> {
            let all = types.iter().enumerate();
            all.filter_map(|(i, ty)| wanted(*ty).then_some(i)).collect()
        };
        let mut b = Buf(self.optional);
        while !b.0.is_empty() {
            let field = b.u8()?;
            let len = b.lenenc()?;
            let mut value = Buf(b.take(len)?);
            match field {
                1 => {
                    for (nth, i) in of(has_sign).into_iter().enumerate() {
                        let byte = value.0.get(nth / 8).ok_or(super::SHORT)?;
                        set(&mut out.unsigned, i, byte >> (7 - nth % 8) & 1 == 1);
                    }
                }
                2 => default_collations(value, &of(is_text), &mut out.collation)?,
                3 => each(value, &of(is_text), &mut out.collation)?,
                10 => default_collations(value, &of(has_labels), &mut out.collation)?,
                11 => each(value, &of(has_labels), &mut out.collation)?,
                4 => out.names = strings(&mut value, types.len())?,
                5 => labels(value, &of(|ty| ty == code::SET), &mut out.labels)?,
                6 => labels(value, &of(|ty| ty == code::ENUM), &mut out.labels)?,
                7 => each(value, &of(|ty| ty == code::GEOMETRY), &mut out.geometry)?,
                8 | 9 => {
                    while !value.0.is_empty() && out.key.len() < types.len() {
                        out.key.push(value.lenenc()?);
                        if field == 9 {
                            value.lenenc()?;
                        }
                    }
                }
                // Visibility, dimensions of vectors, and what is yet to come: rows lie as they do.
                _ => {}
            }
        }
        Ok(out)
    }
}

fn set<T>(list: &mut [Option<T>], i: usize, value: T) {
    if let Some(slot) = list.get_mut(i) {
        *slot = Some(value);
    }
}

fn has_sign(ty: u8) -> bool {
    matches!(ty, 0..=5 | 8 | 9 | code::YEAR | code::NEWDECIMAL)
}

fn is_text(ty: u8) -> bool {
    matches!(
        ty,
        code::VARCHAR
            | code::VAR_STRING
            | code::STRING
            | code::BLOB_COMPRESSED
            | code::VARCHAR_COMPRESSED
            | code::VECTOR
            | 249..=252
    )
}

fn has_labels(ty: u8) -> bool {
    matches!(ty, code::ENUM | code::SET)
}

/// One number for each of `columns`.
fn each(mut b: Buf<'_>, columns: &[usize], out: &mut [Option<u64>]) -> Result<(), Malformed> {
    for i in columns {
        set(out, *i, b.lenenc()? as u64);
    }
    Ok(())
}

/// A collation for all of `columns`, then those that have another.
fn default_collations(
    mut b: Buf<'_>,
    columns: &[usize],
    out: &mut [Option<u64>],
) -> Result<(), Malformed> {
    let default = b.lenenc()? as u64;
    for i in columns {
        set(out, *i, default);
    }
    while !b.0.is_empty() {
        let nth = b.lenenc()?;
        let collation = b.lenenc()? as u64;
        let i = columns
            .get(nth)
            .ok_or(Malformed("a collation of no column"))?;
        set(out, *i, collation);
    }
    Ok(())
}

/// The next `count` strings.
fn strings<'a>(b: &mut Buf<'a>, count: usize) -> Result<Strings<'a>, Malformed> {
    let all = b.0;
    for _ in 0..count {
        let len = b.lenenc()?;
        b.take(len)?;
    }
    let used = all.len() - b.0.len();
    Ok(Strings(all.get(..used).unwrap_or_default()))
}

fn labels<'a>(
    mut b: Buf<'a>,
    columns: &[usize],
    out: &mut [Option<Strings<'a>>],
) -> Result<(), Malformed> {
    for i in columns {
        let count = b.lenenc()?;
        let list = strings(&mut b, count)?;
        set(out, *i, list);
    }
    Ok(())
}

fn physical(ty: u8, m: &mut Buf<'_>) -> Result<Physical, Malformed> {
    let fsp = |n: u8| {
        if n <= 6 {
            Ok(n)
        } else {
            Err(Malformed("fraction digits"))
        }
    };
    let prefix = |max: u16| if max < 256 { 1 } else { 2 };
    let blob = |n: u8| {
        if (1..=4).contains(&n) {
            Ok(n)
        } else {
            Err(Malformed("blob length bytes"))
        }
    };
    Ok(match ty {
        1 => Physical::Int(1),
        2 => Physical::Int(2),
        3 => Physical::Int(4),
        8 => Physical::Int(8),
        9 => Physical::Int(3),
        4 => {
            m.u8()?;
            Physical::Float
        }
        5 => {
            m.u8()?;
            Physical::Double
        }
        code::TIMESTAMP => Physical::OldTimestamp(0),
        code::TIME => Physical::OldTime(0),
        code::DATETIME => Physical::OldDatetime(0),
        code::DATE | code::NEWDATE => Physical::Date,
        code::YEAR => Physical::Year,
        code::VARCHAR | code::VAR_STRING => Physical::Str(prefix(m.u16()?)),
        code::BIT => {
            let (bits, bytes) = (m.u8()?, m.u8()?);
            let n = bytes.saturating_add(u8::from(bits > 0));
            if n > 8 {
                return Err(Malformed("BIT too long"));
            }
            Physical::Bit(n)
        }
        code::TIMESTAMP2 => Physical::Timestamp2(fsp(m.u8()?)?),
        code::DATETIME2 => Physical::Datetime2(fsp(m.u8()?)?),
        code::TIME2 => Physical::Time2(fsp(m.u8()?)?),
        code::TYPED_ARRAY => {
            // The type of the elements, then what belongs to it: three bytes for VARCHAR.
            let details = match m.u8()? {
                code::VARCHAR => 3,
                code::NEWDECIMAL | code::STRING | code::BIT => 2,
                4 | 5 | code::TIMESTAMP2 | code::DATETIME2 | code::TIME2 | code::JSON => 1,
                _ => 0,
            };
            m.take(details)?;
            Physical::Array(4)
        }
        code::BLOB_COMPRESSED => Physical::Compressed(blob(m.u8()?)?),
        code::VARCHAR_COMPRESSED => Physical::Compressed(prefix(m.u16()?)),
        code::VECTOR => Physical::Vector(blob(m.u8()?)?),
        code::JSON => Physical::Json(blob(m.u8()?)?),
        code::NEWDECIMAL => {
            let (precision, scale) = (m.u8()?, m.u8()?);
            if precision > 65 || scale > precision {
                return Err(Malformed("decimal precision"));
            }
            Physical::Decimal(precision, scale)
        }
        249..=252 | code::GEOMETRY => Physical::Str(blob(m.u8()?)?),
        code::STRING => string(m.u8()?, m.u8()?)?,
        _ => return Err(Malformed("a column type this version does not know")),
    })
}

/// `STRING`: the real type in the first byte, with two bits of a long length in it.
fn string(hi: u8, lo: u8) -> Result<Physical, Malformed> {
    let (real, len) = if hi & 0x30 == 0x30 {
        (hi, u16::from(lo))
    } else {
        let high = u16::from((hi & 0x30) ^ 0x30) << 4;
        (hi | 0x30, high | u16::from(lo))
    };
    Ok(match real {
        code::ENUM if len <= 2 => Physical::Enum(lo),
        code::SET if len <= 8 => Physical::Set(lo),
        code::STRING | code::VAR_STRING => Physical::Str(if len < 256 { 1 } else { 2 }),
        _ => return Err(Malformed("string type")),
    })
}
