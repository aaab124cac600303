//! Cells as SQL literals.
//!
//! The statements of a target carry their values as text, because one statement of many rows is
//! several times as fast as many statements. A literal stands either for a value to store or for one
//! to compare with, and is exact in both: the server converts it to the column's type without a
//! change, or refuses it. The server's strict mode alone does not see to that. It rounds fractions,
//! cuts trailing spaces, pads `BINARY`, takes a text that is a number for the index of an `ENUM`
//! label, a small number for a year of this century and a NULL for the present time; so whatever it
//! would change in silence is refused here.
//!
//! What a session needs for that (see [`super::session`]): `NO_BACKSLASH_ESCAPES`, so that only the
//! quote is doubled, a UTF-8 client character set, in which no byte of a longer character is a
//! quote, UTC as time zone, and `ALLOW_INVALID_DATES` without `NO_ZERO_DATE`, so that the dates of a
//! MySQL source go in as they are.
//! <https://mariadb.com/kb/en/literals/>, <https://dev.mysql.com/doc/refman/8.0/en/literals.html>

use std::io::Write as _;

use thalweg_core::schema::{ColumnSchema, ColumnType};
use thalweg_core::value::{CellRef, Date, DecimalRef};

use super::statement::LONG_BYTES;

/// A literal could not be written: the reason, without the value.
type Refused = &'static str;

const OTHER_KIND: Refused = "the value is not of the column's type";
const DAY_MICROS: i64 = 86_400_000_000;
/// `TIME` ends at 838:59:59.999999 on either side of zero.
const TIME_MICROS_MAX: i64 = 3_020_399_999_999;

/// How a column's cells are written; chosen once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// An integer, also of a `BIT` column's value.
    Int,
    /// `YEAR`: 0, or 1901 to 2155.
    Year,
    /// `BIT(n)`, as a number.
    Bits(u32),
    /// `FLOAT` and `DOUBLE`.
    Float,
    /// `DECIMAL(p, s)`.
    Decimal { precision: usize, scale: usize },
    /// `VARCHAR` and `TEXT`.
    Text(Limit),
    /// `CHAR`, which does not keep trailing spaces.
    Char,
    /// `JSON`: in MySQL a type of its own, in MariaDB text.
    Json { native: bool },
    /// One of the labels, as its index.
    Enum(Vec<String>),
    /// Labels, as the number whose bits they are.
    Set(Vec<String>),
    /// `VARBINARY` and `BLOB`; `Some`: `BINARY(n)`, which pads shorter values.
    Bytes(Option<usize>),
    /// `GEOMETRY` and its kinds, in storage form.
    Geometry,
    /// `DATE`.
    Date,
    /// `TIME(p)`.
    Time(u8),
    /// `DATETIME(p)`.
    DateTime(u8),
    /// `TIMESTAMP(p)`: a moment.
    Timestamp(u8),
    /// `UUID` of MariaDB.
    Uuid,
    /// The text form of another type.
    Other,
}

/// How much text a column takes before it cuts trailing spaces (anything else it refuses).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// So many characters.
    Chars(usize),
    /// So many bytes; `width` bytes at least are taken by a character beyond ASCII.
    Bytes(usize),
}

impl Literal {
    /// The literal form of a column; `None` for a type we do not know how to write.
    pub(super) fn of(column: &ColumnSchema, maria: bool) -> Option<Literal> {
        let native = column.native.as_str();
        Some(match &column.ty {
            ColumnType::Int { .. } if native.starts_with("year") => Literal::Year,
            ColumnType::Int { .. } => Literal::Int,
            ColumnType::Bits {
                len,
                varying: false,
            } => Literal::Bits(len.unwrap_or(1)),
            ColumnType::Float32 { .. } | ColumnType::Float64 { .. } => Literal::Float,
            ColumnType::Decimal {
                precision, scale, ..
            } => Literal::Decimal {
                precision: precision.unwrap_or(10) as usize,
                scale: scale.unwrap_or(0) as usize,
            },
            ColumnType::Text { .. } if native.starts_with("char") => Literal::Char,
            ColumnType::Text {
                max_chars: Some(chars),
            } => Literal::Text(Limit::Chars(*chars as usize)),
            ColumnType::Text { max_chars: None } => {
                Literal::Text(Limit::Bytes(match native.split([' ', '(']).next() {
                    Some("tinytext") => 255,
                    Some("text") => 65_535,
                    Some("mediumtext") => 16_777_215,
                    _ => u32::MAX as usize,
                }))
            }
            ColumnType::Json { .. } => Literal::Json { native: !maria },
            ColumnType::Enum { labels } => Literal::Enum(labels.clone()),
            ColumnType::Set { labels } => Literal::Set(labels.clone()),
            ColumnType::Bytes {
                max_bytes: Some(len),
            } if native.starts_with("binary") => Literal::Bytes(Some(*len as usize)),
            ColumnType::Bytes { .. } => Literal::Bytes(None),
            ColumnType::Geometry => Literal::Geometry,
            ColumnType::Date { .. } => Literal::Date,
            ColumnType::Time { precision, .. } => Literal::Time(*precision),
            ColumnType::Timestamp { precision, .. } => Literal::DateTime(*precision),
            ColumnType::Instant { precision, .. } => Literal::Timestamp(*precision),
            ColumnType::Uuid => Literal::Uuid,
            ColumnType::Other {
                system: "mysql", ..
            } => Literal::Other,
            _ => return None,
        })
    }

    /// Appends a value or NULL. After an error what was appended is of no use.
    pub(super) fn put(&self, cell: CellRef<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.write(cell, Form::Literal, out)
    }

    /// Whether values can stand as fields of a file ([`Literal::put_field`]) and mean the same as literals
    /// do. A file has text only, all of one character set: octets would be read as characters, and
    /// a number for a label, a bit string or a year means another value than its digits.
    pub(super) fn has_field(&self) -> bool {
        match self {
            Literal::Int
            | Literal::Float
            | Literal::Decimal { .. }
            | Literal::Text(_)
            | Literal::Char
            | Literal::Json { native: false }
            | Literal::Date
            | Literal::Time(_)
            | Literal::DateTime(_)
            | Literal::Timestamp(_)
            | Literal::Uuid => true,
            Literal::Year
            | Literal::Bits(_)
            | Literal::Json { native: true }
            | Literal::Enum(_)
            | Literal::Set(_)
            | Literal::Bytes(_)
            | Literal::Geometry
            | Literal::Other => false,
        }
    }

    /// Appends a value or NULL as a field of a file, escaped by `\`. After an error what was appended
    /// is of no use.
    pub(super) fn put_field(&self, cell: CellRef<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.write(cell, Form::Field, out)
    }

    fn write(&self, cell: CellRef<'_>, form: Form, out: &mut Vec<u8>) -> Result<(), Refused> {
        match (self, cell) {
            (_, CellRef::Null) => out.extend_from_slice(form.null()),
            (Literal::Int, CellRef::I64(v)) => integer(v, out),
            (Literal::Int, CellRef::U64(v)) => integer(v, out),
            (Literal::Year, CellRef::I64(v)) => {
                if v != 0 && !(1901..=2155).contains(&v) {
                    return Err("a YEAR is 0 or lies between 1901 and 2155");
                }
                integer(v, out);
            }
            (Literal::Bits(len), CellRef::Bits(bits, bytes)) => {
                let number = bit_number(*len, bits, bytes)?;
                integer(number, out);
            }
            (Literal::Float, CellRef::F32(v)) => float(f64::from(v), out)?,
            (Literal::Float, CellRef::F64(v)) => float(v, out)?,
            (Literal::Decimal { precision, scale }, CellRef::Decimal(v)) => {
                decimal(v, *precision, *scale, out)?;
            }
            (Literal::Text(limit), CellRef::Text(v)) => {
                limit.check(v)?;
                form.text(v.as_bytes(), out);
            }
            (Literal::Char, CellRef::Text(v)) => {
                if v.ends_with(' ') {
                    return Err("a CHAR column does not keep trailing spaces");
                }
                form.text(v.as_bytes(), out);
            }
            (Literal::Json { .. }, CellRef::Json(v)) | (Literal::Other, CellRef::Other(v)) => {
                form.text(v.as_bytes(), out);
            }
            // See [`Literal::is_unlabelled`].
            (Literal::Enum(_), CellRef::Text("")) if self.is_unlabelled(cell) => out.push(b'0'),
            (Literal::Enum(labels), CellRef::Text(v)) => {
                let index = labels.iter().position(|label| label == v);
                let index = index.ok_or("the column has no such label")? + 1;
                integer(index, out);
            }
            (Literal::Set(labels), CellRef::Text(v)) => {
                let number = set_number(labels, v)?;
                integer(number, out);
            }
            (Literal::Bytes(fixed), CellRef::Bytes(v)) => {
                if fixed.is_some_and(|len| v.len() < len) {
                    return Err("a BINARY column pads a value that is shorter than it");
                }
                binary(v, out);
            }
            (Literal::Geometry, CellRef::Bytes(v)) => binary(v, out),
            (Literal::Date, CellRef::Date(v)) => {
                form.quote(out);
                date(v, out)?;
                form.quote(out);
            }
            (Literal::Time(precision), CellRef::Time(v)) => {
                if !(-TIME_MICROS_MAX..=TIME_MICROS_MAX).contains(&v) {
                    return Err("a TIME lies between -838:59:59.999999 and 838:59:59.999999");
                }
                whole(v, *precision)?;
                form.quote(out);
                if v < 0 {
                    out.push(b'-');
                }
                clock(v.unsigned_abs(), out);
                form.quote(out);
            }
            (Literal::DateTime(p), CellRef::Timestamp(day, micros)) => {
                civil(day, micros, *p, form, out)?;
            }
            // A zero TIMESTAMP is no moment and comes as a civil time.
            (Literal::Timestamp(p), CellRef::Timestamp(day, micros)) => {
                let zero = Date {
                    year: 0,
                    month: 0,
                    day: 0,
                };
                if day != zero || micros != 0 {
                    return Err(OTHER_KIND);
                }
                civil(day, micros, *p, form, out)?;
            }
            (Literal::Timestamp(p), CellRef::Instant(v)) => {
                if v == i64::MAX || v == i64::MIN {
                    return Err("MySQL has no infinite dates");
                }
                let day = Date::from_unix_days(v.div_euclid(DAY_MICROS));
                let day = day.ok_or("the year is beyond 9999 or before 0")?;
                civil(day, v.rem_euclid(DAY_MICROS), *p, form, out)?;
            }
            (Literal::Uuid, CellRef::Uuid(v)) => {
                form.quote(out);
                for (index, byte) in v.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        out.push(b'-');
                    }
                    for half in [byte >> 4, byte & 15] {
                        out.push(if half < 10 {
                            b'0' + half
                        } else {
                            b'a' + half - 10
                        });
                    }
                }
                form.quote(out);
            }
            (_, CellRef::Absent | CellRef::Unchanged) => return Err("the value is not there"),
            _ => return Err(OTHER_KIND),
        }
        Ok(())
    }

    /// The bytes of a long value that can be stored without being written as a literal, and whether they
    /// are octets. `None`: it is short, or of a type that has no long values.
    pub(super) fn long<'a>(&self, cell: CellRef<'a>) -> Result<Option<(&'a [u8], bool)>, Refused> {
        let (bytes, octets) = match (self, cell) {
            (Literal::Text(_), CellRef::Text(v)) => (v.as_bytes(), false),
            (Literal::Json { .. }, CellRef::Json(v)) => (v.as_bytes(), false),
            (Literal::Bytes(None) | Literal::Geometry, CellRef::Bytes(v)) => (v, true),
            _ => return Ok(None),
        };
        if bytes.len() < LONG_BYTES {
            return Ok(None);
        }
        if let (Literal::Text(limit), CellRef::Text(v)) = (self, cell) {
            limit.check(v)?;
        }
        Ok(Some((bytes, octets)))
    }

    /// Whether a cell is what an `ENUM` has in place of a value it had refused: empty, and none of its
    /// labels. Only a session that is not strict can write it.
    pub(super) fn is_unlabelled(&self, cell: CellRef<'_>) -> bool {
        let Literal::Enum(labels) = self else {
            return false;
        };
        cell == CellRef::Text("") && !labels.iter().any(String::is_empty)
    }

    /// Appends a condition that is true exactly for rows whose column `name` (quoted) holds this
    /// very value, whatever the column's collation takes for equal. An index on it is used.
    pub(super) fn put_same(
        &self,
        name: &str,
        cell: CellRef<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        if cell == CellRef::Null {
            print(out, format_args!("{name} IS NULL"));
            return Ok(());
        }
        match (self, cell) {
            (Literal::Geometry, CellRef::Bytes(v)) => {
                print(out, format_args!("CAST({name} AS BINARY) = "));
                binary(v, out);
            }
            (Literal::Json { native: true }, CellRef::Json(v)) => {
                print(out, format_args!("{name} = CAST("));
                quoted(v.as_bytes(), out);
                out.extend_from_slice(b" AS JSON)");
            }
            (
                Literal::Text(_) | Literal::Char | Literal::Json { .. },
                CellRef::Text(v) | CellRef::Json(v),
            ) => {
                print(out, format_args!("{name} = "));
                self.put(cell, out)?;
                let octets = format_args!(" AND CAST(CONVERT({name} USING utf8mb4) AS BINARY) = ");
                print(out, octets);
                binary(v.as_bytes(), out);
            }
            _ => {
                print(out, format_args!("{name} = "));
                self.put(cell, out)?;
            }
        }
        Ok(())
    }
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In a statement.
    Literal,
    /// In a file that a statement reads.
    Field,
}

impl Form {
    fn null(self) -> &'static [u8] {
        match self {
            Form::Literal => b"NULL",
            Form::Field => b"\\N",
        }
    }

    fn quote(self, out: &mut Vec<u8>) {
        if self == Form::Literal {
            out.push(b'\'');
        }
    }

    fn text(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::Literal => quoted(bytes, out),
            Form::Field => escaped(bytes, out),
        }
    }
}

impl Limit {
    fn check(self, text: &str) -> Result<(), Refused> {
        if !text.ends_with(' ') {
            return Ok(());
        }
        let fits = match self {
            Limit::Chars(max) => text.len() <= max || text.chars().count() <= max,
            Limit::Bytes(max) => text.len() <= max,
        };
        if !fits {
            return Err("the text is longer than the column, which would cut its spaces");
        }
        Ok(())
    }
}

fn print(out: &mut Vec<u8>, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("a vector takes every byte");
}

fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The last `N` decimal digits of a number, with zeros in front.
fn digits<const N: usize>(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    out.extend_from_slice(&text);
}

/// A text literal, or the inside of a binary one.
fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\'', rest) {
        let (head, tail) = rest.split_at(at + 1);
        out.extend_from_slice(head);
        out.push(b'\'');
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// A text between tabs. In UTF-8 no byte of a longer character is one of these.
fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr3(b'\\', b'\t', b'\n', rest) {
        let (head, tail) = rest.split_at(at);
        out.extend_from_slice(head);
        let Some((byte, tail)) = tail.split_first() else {
            break;
        };
        out.push(b'\\');
        out.push(match byte {
            b'\t' => b't',
            b'\n' => b'n',
            byte => *byte,
        });
        rest = tail;
    }
    out.extend_from_slice(rest);
}

/// The introducer keeps the server from looking for characters in it.
fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"_binary");
    quoted(bytes, out);
}

/// With an exponent, so that the server reads it as a double and not as a decimal. The shortest
/// digits that read back as the same double; a single is written as the double it is, so that it
/// compares equal to the column.
fn float(value: f64, out: &mut Vec<u8>) -> Result<(), Refused> {
    if !value.is_finite() {
        return Err("MySQL has neither NaN nor infinities");
    }
    print(out, format_args!("{value:e}"));
    Ok(())
}

fn decimal(
    value: DecimalRef<'_>,
    precision: usize,
    scale_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let DecimalRef::Finite {
        negative,
        scale,
        digits,
    } = value
    else {
        return Err("MySQL has neither NaN nor infinities");
    };
    // Zeros at the end of the fraction say nothing; other digits would be rounded away.
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    let scale = usize::from(scale);
    let cut = scale.saturating_sub(scale_max);
    if digits != b"0" && cut > zeros {
        return Err("the number has more digits after the point than the column");
    }
    let (digits, scale) = match digits {
        b"0" => (digits, 0),
        digits => (
            digits.get(..digits.len() - cut).unwrap_or(digits),
            scale - cut,
        ),
    };
    if digits != b"0" && digits.len().saturating_sub(scale) > precision - scale_max.min(precision) {
        return Err("the number has more digits than the column");
    }
    if negative {
        out.push(b'-');
    }
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        if scale > 0 {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
    Ok(())
}

pub(super) fn bit_number(len: u32, bits: u32, bytes: &[u8]) -> Result<u64, Refused> {
    if bits != len || len > 64 {
        return Err("the bit string has another length than the column");
    }
    let number = bytes.iter().fold(0_u128, |n, b| n << 8 | u128::from(*b));
    let padding = bytes.len() * 8 - (len as usize).min(bytes.len() * 8);
    u64::try_from(number >> padding).map_err(|_| OTHER_KIND)
}

pub(super) fn set_number(labels: &[String], value: &str) -> Result<u64, Refused> {
    if value.is_empty() {
        return Ok(0);
    }
    let mut number = 0_u64;
    for label in value.split(',') {
        let place = labels.iter().position(|l| l == label);
        let place = place.ok_or("the column has no such label")?;
        number |= 1_u64
            .checked_shl(u32::try_from(place).map_err(|_| OTHER_KIND)?)
            .ok_or(OTHER_KIND)?;
    }
    Ok(number)
}

fn date(value: Date, out: &mut Vec<u8>) -> Result<(), Refused> {
    let Date { year, month, day } = value;
    if value.is_infinite() {
        return Err("MySQL has no infinite dates");
    }
    if !(0..=9999).contains(&year) {
        return Err("the year is beyond 9999 or before 0");
    }
    if month > 12 || day > 31 {
        return Err("the date does not exist");
    }
    digits::<4>(year.unsigned_abs().into(), out);
    out.push(b'-');
    digits::<2>(month.into(), out);
    out.push(b'-');
    digits::<2>(day.into(), out);
    Ok(())
}

fn civil(
    day: Date,
    micros: i64,
    precision: u8,
    form: Form,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    if !(0..DAY_MICROS).contains(&micros) {
        return Err("the time of day does not exist");
    }
    whole(micros, precision)?;
    form.quote(out);
    date(day, out)?;
    out.push(b' ');
    clock(micros.unsigned_abs(), out);
    form.quote(out);
    Ok(())
}

/// Whether a column of so many fractional digits keeps all of a time.
fn whole(micros: i64, precision: u8) -> Result<(), Refused> {
    let unit = 10_i64.pow(6 - u32::from(precision.min(6)));
    if micros % unit != 0 {
        return Err("the time has more digits after the point than the column");
    }
    Ok(())
}

fn clock(micros: u64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match hours {
        // A `TIME` has more than a day has.
        100.. => integer(hours, out),
        _ => digits::<2>(hours, out),
    }
    out.push(b':');
    digits::<2>(minutes, out);
    out.push(b':');
    digits::<2>(seconds % 60, out);
    if fraction > 0 {
        out.push(b'.');
        digits::<6>(fraction, out);
    }
}
