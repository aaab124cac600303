//! MySQL's binary JSON, to the text that MySQL prints of it, and changes of parts of a document.
//!
//! The format: <https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html>. The text:
//! `wrapper_to_string` in `sql-common/json_dom.cc` (separators `, ` and `: `, what is escaped, values of
//! other types as quoted text) and `my_gcvt` in `strings/dtoa.cc` (doubles). The changes of
//! `PARTIAL_UPDATE_ROWS`: `Json_diff_vector` in `sql-common/json_diff.cc`.
//!
//! A document refers to its parts by offsets, so a malformed one could refer to one part many times
//! over. No document that MySQL writes is printed to more than six times its size (a control
//! character in a string becomes `\u0001`); what exceeds that is malformed.

use std::borrow::Cow;
use std::fmt::Write as _;

use thalweg_core::value::{DecimalRef, RowBatch, Varying};

use super::{Buf, Malformed, numbers};

/// `JSON_DOCUMENT_MAX_DEPTH`.
const DEPTH_MAX: usize = 100;

const BAD: Malformed = Malformed("a JSON document does not have MySQL's binary form");

/// Appends a document as a JSON cell. An empty value, which `INSERT IGNORE` can leave, is `null`.
pub(crate) fn push(out: &mut RowBatch, document: &[u8]) -> Result<(), Malformed> {
    let limit = document.len().saturating_mul(6).saturating_add(64);
    out.push_with(Varying::Json, |to| {
        let mut printer = Printer {
            end: to.len().saturating_add(limit),
            to,
        };
        printer.value(Value::root(document)?, 0)
    })
}

/// Appends what `changes` make of the document `old`.
pub(crate) fn push_changed(
    out: &mut RowBatch,
    old: &[u8],
    changes: &[u8],
) -> Result<(), Malformed> {
    let mut root = Node::Raw(Value::root(old)?);
    let mut b = Buf(changes);
    while !b.0.is_empty() {
        let operation = b.u8()?;
        let len = b.lenenc()?;
        let path = path(b.take(len)?)?;
        let mut value = || -> Result<Node<'_>, Malformed> {
            let len = b.lenenc()?;
            Ok(Node::Raw(Value::root(b.take(len)?)?))
        };
        match operation {
            0 => *root.find(&path, 0)? = value()?,
            1 => {
                let (last, parents) = path.split_last().ok_or(BAD)?;
                let value = value()?;
                root.find(parents, 0)?.insert(last, value)?;
            }
            2 => {
                let (last, parents) = path.split_last().ok_or(BAD)?;
                root.find(parents, 0)?.remove(last)?;
            }
            _ => return Err(Malformed("an unknown change of a JSON document")),
        }
    }
    let limit = (old.len() + changes.len())
        .saturating_mul(6)
        .saturating_add(64);
    out.push_with(Varying::Json, |to| {
        let mut printer = Printer {
            end: to.len().saturating_add(limit),
            to,
        };
        printer.node(&root, 0)
    })
}

/// A value in a document: its type, and the bytes that begin with it.
#[derive(Clone, Copy, Debug)]
struct Value<'a> {
    ty: u8,
    data: &'a [u8],
}

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// An array or object, taken apart as far as needed to look at one member.
#[derive(Clone, Copy)]
struct Container<'a> {
    /// Offsets count from here.
    bytes: &'a [u8],
    large: bool,
    object: bool,
    count: usize,
}

impl<'a> Value<'a> {
    fn root(document: &'a [u8]) -> Result<Value<'a>, Malformed> {
        match document.split_first() {
            None => Ok(Value {
                ty: LITERAL,
                data: &[0],
            }),
            Some((ty, data)) => Ok(Value { ty: *ty, data }),
        }
    }

    fn container(self) -> Result<Option<Container<'a>>, Malformed> {
        if self.ty > LARGE_ARRAY {
            return Ok(None);
        }
        let large = matches!(self.ty, LARGE_OBJECT | LARGE_ARRAY);
        let object = matches!(self.ty, SMALL_OBJECT | LARGE_OBJECT);
        let width = if large { 4 } else { 2 };
        let mut b = Buf(self.data);
        let count = usize::try_from(b.le(width)?).map_err(|_| BAD)?;
        let size = usize::try_from(b.le(width)?).map_err(|_| BAD)?;
        let bytes = self.data.get(..size).ok_or(BAD)?;
        let found = Container {
            bytes,
            large,
            object,
            count,
        };
        // So that `count` is bounded by the bytes there are.
        let entry = found.key_entry() + found.value_entry();
        if count.checked_mul(entry).is_none_or(|all| all > size) {
            return Err(BAD);
        }
        Ok(Some(found))
    }
}

impl<'a> Container<'a> {
    fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }

    fn key_entry(&self) -> usize {
        if self.object { self.width() + 2 } else { 0 }
    }

    fn value_entry(&self) -> usize {
        1 + self.width()
    }

    fn number(&self, at: usize, width: usize) -> Result<usize, Malformed> {
        let mut b = Buf(self.bytes.get(at..).ok_or(BAD)?);
        usize::try_from(b.le(width)?).map_err(|_| BAD)
    }

    fn key(&self, i: usize) -> Result<&'a [u8], Malformed> {
        let at = 2 * self.width() + i * self.key_entry();
        let start = self.number(at, self.width())?;
        let len = self.number(at + self.width(), 2)?;
        let end = start.checked_add(len).ok_or(BAD)?;
        self.bytes.get(start..end).ok_or(BAD)
    }

    fn value(&self, i: usize) -> Result<Value<'a>, Malformed> {
        let at = 2 * self.width() + self.count * self.key_entry() + i * self.value_entry();
        let ty = *self.bytes.get(at).ok_or(BAD)?;
        let inline = matches!(ty, LITERAL..=6) || self.large && matches!(ty, 7 | 8);
        let start = if inline {
            at + 1
        } else {
            self.number(at + 1, self.width())?
        };
        let data = self.bytes.get(start..).ok_or(BAD)?;
        Ok(Value { ty, data })
    }
}

/// Up to five bytes of seven bits each, lowest first.
fn length(b: &mut Buf<'_>) -> Result<usize, Malformed> {
    let mut out = 0_usize;
    for shift in [0, 7, 14, 21, 28] {
        let byte = b.u8()?;
        out |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(out);
        }
    }
    Err(BAD)
}

struct Printer<'a> {
    to: &'a mut Vec<u8>,
    /// Longer than this the vector may not become.
    end: usize,
}

impl Printer<'_> {
    fn text(&mut self, text: &str) -> Result<(), Malformed> {
        if self.to.len() + text.len() > self.end {
            return Err(BAD);
        }
        self.to.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Quoted and escaped.
    fn string(&mut self, text: &str) -> Result<(), Malformed> {
        self.text("\"")?;
        let mut from = 0;
        for (i, byte) in text.bytes().enumerate() {
            let mut hex = String::new();
            let escaped = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                8 => "\\b",
                9 => "\\t",
                10 => "\\n",
                12 => "\\f",
                13 => "\\r",
                0..0x20 => {
                    write!(hex, "\\u{byte:04x}").map_err(|_| BAD)?;
                    hex.as_str()
                }
                _ => continue,
            };
            self.text(text.get(from..i).ok_or(BAD)?)?;
            self.text(escaped)?;
            from = i + 1;
        }
        self.text(text.get(from..).ok_or(BAD)?)?;
        self.text("\"")
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let text = std::str::from_utf8(bytes);
        self.string(text.map_err(|_| Malformed("a JSON string is not UTF-8"))?)
    }

    fn separate(&mut self, i: usize) -> Result<(), Malformed> {
        if i > 0 { self.text(", ") } else { Ok(()) }
    }

    fn value(&mut self, value: Value<'_>, depth: usize) -> Result<(), Malformed> {
        if let Some(all) = value.container()? {
            if depth >= DEPTH_MAX {
                return Err(BAD);
            }
            self.text(if all.object { "{" } else { "[" })?;
            for i in 0..all.count {
                self.separate(i)?;
                if all.object {
                    self.bytes(all.key(i)?)?;
                    self.text(": ")?;
                }
                self.value(all.value(i)?, depth + 1)?;
            }
            return self.text(if all.object { "}" } else { "]" });
        }
        let mut b = Buf(value.data);
        match value.ty {
            LITERAL => match b.u8()? {
                0 => self.text("null"),
                1 => self.text("true"),
                2 => self.text("false"),
                _ => Err(BAD),
            },
            5 => self.text(&b.u16()?.cast_signed().to_string()),
            6 => self.text(&b.u16()?.to_string()),
            7 => self.text(&b.u32()?.cast_signed().to_string()),
            8 => self.text(&b.u32()?.to_string()),
            9 => self.text(&b.u64()?.cast_signed().to_string()),
            10 => self.text(&b.u64()?.to_string()),
            11 => self.text(&double(f64::from_bits(b.u64()?))),
            STRING => {
                let len = length(&mut b)?;
                self.bytes(b.take(len)?)
            }
            OPAQUE => {
                let ty = b.u8()?;
                let len = length(&mut b)?;
                self.opaque(ty, b.take(len)?)
            }
            _ => Err(BAD),
        }
    }

    /// A value of a type that JSON has not.
    fn opaque(&mut self, ty: u8, data: &[u8]) -> Result<(), Malformed> {
        let packed = || <[u8; 8]>::try_from(data).map(i64::from_le_bytes);
        match ty {
            246 => {
                let mut b = Buf(data);
                let (precision, scale) = (b.u8()?, b.u8()?);
                if precision > 65 || scale > precision {
                    return Err(BAD);
                }
                let number = numbers::digits(&mut b, precision, scale)?;
                let digits = number.digits();
                let zeros = digits.iter().take_while(|d| **d == b'0').count();
                let whole = digits.len().saturating_sub(usize::from(scale) + 1);
                let digits = digits.get(zeros.min(whole)..).unwrap_or_default();
                let decimal = DecimalRef::Finite {
                    negative: number.negative,
                    scale: u16::from(scale),
                    digits,
                };
                self.text(&decimal.to_string())
            }
            10 => self.string(&day(packed().map_err(|_| BAD)? >> 24)),
            7 | 12 => {
                let packed = packed().map_err(|_| BAD)?;
                let text = format!("{} {}", day(packed >> 24), time(packed, 32));
                self.string(&text)
            }
            11 => {
                let packed = packed().map_err(|_| BAD)?;
                let sign = if packed < 0 { "-" } else { "" };
                let packed = packed.checked_abs().ok_or(BAD)?;
                self.string(&format!("{sign}{}", time(packed, 1024)))
            }
            // A string that an expression has made of another type's field.
            253 => self.bytes(data),
            ty => self.string(&base64(ty, data)),
        }
    }

    fn node(&mut self, node: &Node<'_>, depth: usize) -> Result<(), Malformed> {
        if depth >= DEPTH_MAX {
            return Err(BAD);
        }
        match node {
            Node::Raw(value) => self.value(*value, depth),
            Node::Array(list) => {
                self.text("[")?;
                for (i, node) in list.iter().enumerate() {
                    self.separate(i)?;
                    self.node(node, depth + 1)?;
                }
                self.text("]")
            }
            Node::Object(list) => {
                self.text("{")?;
                for (i, (key, node)) in list.iter().enumerate() {
                    self.separate(i)?;
                    self.bytes(key)?;
                    self.text(": ")?;
                    self.node(node, depth + 1)?;
                }
                self.text("}")
            }
        }
    }
}

/// The date in the upper part of a packed moment: months of 13, days of 32, above 17 bits of time.
fn day(whole: i64) -> String {
    let days = whole >> 17;
    let months = days >> 5;
    format!("{:04}-{:02}-{:02}", months / 13, months % 13, days & 31)
}

/// The time in a packed moment, hours below `hours`; the fraction has 24 bits.
fn time(packed: i64, hours: i64) -> String {
    let v = packed >> 24;
    let (hour, minute, second) = ((v >> 12) % hours, v >> 6 & 63, v & 63);
    format!(
        "{hour:02}:{minute:02}:{second:02}.{:06}",
        packed & 0xFF_FFFF
    )
}

/// `base64:type<number>:` and the bytes, a new line after each 76 characters.
fn base64(ty: u8, data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("base64:type{ty}:");
    let mut column = 0;
    for group in data.chunks(3) {
        if column == 76 {
            out.push('\n');
            column = 0;
        }
        column += 4;
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= group.len() {
                let digit = (bits >> (18 - 6 * i) & 63) as usize;
                out.push(char::from(DIGITS.get(digit).copied().unwrap_or(b'=')));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// A double as `my_gcvt` prints it: the shortest digits that give it back; without an exponent
/// between 1e-15 and 1e15 and where all digits before the point are known; `.0` makes it a double.
pub(super) fn double(v: f64) -> String {
    let text = format!("{v:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits),
    };
    let digits = digits.replace('.', "");
    let len = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    if point >= -14 && (point <= 15 || len > point) {
        let before = usize::try_from(point).unwrap_or(0);
        return match digits.split_at_checked(before) {
            _ if point <= 0 => {
                let zeros = usize::try_from(-point).unwrap_or(0);
                format!("{sign}0.{}{digits}", "0".repeat(zeros))
            }
            Some((whole, "")) => format!("{sign}{whole}.0"),
            Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{digits:0<before$}.0"),
        };
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{dot}{rest}e{}", point - 1)
}

/// A document as far as changes have taken it apart.
#[derive(Debug)]
enum Node<'a> {
    Raw(Value<'a>),
    Array(Vec<Node<'a>>),
    /// In MySQL's order: shorter keys first, then by bytes.
    Object(Vec<(Cow<'a, [u8]>, Node<'a>)>),
}

/// A step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Leg<'a> {
    Member(Cow<'a, [u8]>),
    Cell(usize),
}

const NO_PLACE: Malformed = Malformed("a change of a JSON document has no place in it");

impl<'a> Node<'a> {
    /// Takes it apart, one level.
    fn open(&mut self) -> Result<(), Malformed> {
        let Node::Raw(value) = self else {
            return Ok(());
        };
        let Some(all) = value.container()? else {
            return Ok(());
        };
        *self = if all.object {
            let member = |i| Ok((Cow::Borrowed(all.key(i)?), Node::Raw(all.value(i)?)));
            Node::Object(
                (0..all.count)
                    .map(member)
                    .collect::<Result<_, Malformed>>()?,
            )
        } else {
            let member = |i| Ok(Node::Raw(all.value(i)?));
            Node::Array(
                (0..all.count)
                    .map(member)
                    .collect::<Result<_, Malformed>>()?,
            )
        };
        Ok(())
    }

    fn find(&mut self, path: &[Leg<'_>], depth: usize) -> Result<&mut Node<'a>, Malformed> {
        let Some((leg, rest)) = path.split_first() else {
            return Ok(self);
        };
        if depth >= DEPTH_MAX {
            return Err(BAD);
        }
        self.open()?;
        let next = match (self, leg) {
            (Node::Array(list), Leg::Cell(i)) => list.get_mut(*i),
            (Node::Object(list), Leg::Member(name)) => list
                .iter_mut()
                .find_map(|(key, node)| (key == name).then_some(node)),
            _ => None,
        };
        next.ok_or(NO_PLACE)?.find(rest, depth + 1)
    }

    fn insert(&mut self, leg: &Leg<'_>, value: Node<'a>) -> Result<(), Malformed> {
        self.open()?;
        match (self, leg) {
            (Node::Array(list), Leg::Cell(i)) => list.insert((*i).min(list.len()), value),
            (Node::Object(list), Leg::Member(name)) => {
                let order = |key: &[u8]| key.len().cmp(&name.len()).then(key.cmp(name.as_ref()));
                match list.binary_search_by(|(key, _)| order(key)) {
                    Ok(_) => return Err(NO_PLACE),
                    Err(at) => list.insert(at, (Cow::Owned(name.to_vec()), value)),
                }
            }
            _ => return Err(NO_PLACE),
        }
        Ok(())
    }

    fn remove(&mut self, leg: &Leg<'_>) -> Result<(), Malformed> {
        self.open()?;
        match (self, leg) {
            (Node::Array(list), Leg::Cell(i)) if *i < list.len() => drop(list.remove(*i)),
            (Node::Object(list), Leg::Member(name)) => {
                let at = list.iter().position(|(key, _)| key == name);
                list.remove(at.ok_or(NO_PLACE)?);
            }
            _ => return Err(NO_PLACE),
        }
        Ok(())
    }
}

/// `$`, then `.name`, `."quoted name"` or `[number]`.
fn path(text: &[u8]) -> Result<Vec<Leg<'_>>, Malformed> {
    const BAD: Malformed = Malformed("a path in a JSON document cannot be read");
    let mut rest = text.strip_prefix(b"$").ok_or(BAD)?;
    let mut out = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        if out.len() > DEPTH_MAX {
            return Err(BAD);
        }
        match first {
            b'[' => {
                let end = tail.iter().position(|b| *b == b']').ok_or(BAD)?;
                let number = std::str::from_utf8(tail.get(..end).ok_or(BAD)?);
                let number = number.ok().and_then(|n| n.parse().ok()).ok_or(BAD)?;
                out.push(Leg::Cell(number));
                rest = tail.get(end + 1..).ok_or(BAD)?;
            }
            b'.' if tail.first() == Some(&b'"') => {
                let quoted = tail.get(1..).ok_or(BAD)?;
                let (name, used) = unquoted(quoted).ok_or(BAD)?;
                out.push(Leg::Member(name));
                rest = quoted.get(used..).ok_or(BAD)?;
            }
            b'.' => {
                let end = tail.iter().position(|b| matches!(b, b'.' | b'['));
                let (name, after) = tail.split_at(end.unwrap_or(tail.len()));
                out.push(Leg::Member(Cow::Borrowed(name)));
                rest = after;
            }
            _ => return Err(BAD),
        }
    }
    Ok(out)
}

/// The string before the next quotation mark, and the bytes up to behind that.
fn unquoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let plain = text.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    if text.get(plain) == Some(&b'"') {
        return Some((Cow::Borrowed(text.get(..plain)?), plain + 1));
    }
    let mut out = Vec::new();
    let mut i = 0;
    loop {
        match text.get(i)? {
            b'"' => return Some((Cow::Owned(out), i + 1)),
            b'\\' => {
                let escaped = *text.get(i + 1)?;
                i += 1;
                match escaped {
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'n' => out.push(10),
                    b'r' => out.push(13),
                    b't' => out.push(9),
                    b'u' => {
                        // Only what is below a space is written so.
                        let hex = std::str::from_utf8(text.get(i + 1..i + 5)?).ok()?;
                        out.push(u8::from_str_radix(hex, 16).ok()?);
                        i += 4;
                    }
                    other => out.push(other),
                }
            }
            other => out.push(*other),
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_core::value::CellRef;

    fn text(document: &[u8]) -> String {
        let mut rows = RowBatch::new();
        push(&mut rows, document).unwrap();
        rows.end_row();
        match rows.row(0).cell(0) {
            Some(CellRef::Json(text)) => text.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn doubles_are_printed_as_mysql_prints_them() {
        for (v, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (1_234_567_890_123_456.0, "1.234567890123456e15"),
            (1e-14, "0.00000000000001"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (1e200, "1e200"),
            (1.5e-300, "1.5e-300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157e308"),
        ] {
            assert_eq!(double(v), want);
        }
    }

    #[test]
    fn other_types_are_printed_as_text() {
        let opaque = |ty: u8, data: &[u8]| {
            text(&[&[OPAQUE, ty, u8::try_from(data.len()).unwrap()], data].concat())
        };
        let moment = |day: i64, time: i64, us: i64| ((day << 17 | time) << 24 | us).to_le_bytes();
        let day = (2015 * 13 + 1) << 5 | 15;
        let time = 23 << 12 | 24 << 6 | 25;
        assert_eq!(opaque(10, &moment(day, 0, 0)), r#""2015-01-15""#);
        let want = r#""2015-01-15 23:24:25.120000""#;
        assert_eq!(opaque(12, &moment(day, time, 120_000)), want);
        assert_eq!(opaque(7, &moment(day, time, 120_000)), want);
        assert_eq!(opaque(11, &moment(0, time, 0)), r#""23:24:25.000000""#);
        let minus = (-(((838 << 12 | time & 0xFFF) << 24) | 5)).to_le_bytes();
        assert_eq!(opaque(11, &minus), r#""-838:24:25.000005""#);
        assert_eq!(opaque(246, &[5, 2, 0x80, 0x01, 0x17]), "1.23");
        assert_eq!(opaque(246, &[3, 2, 0x80, 0x05]), "0.05");
        assert_eq!(opaque(16, &[0x80]), r#""base64:type16:gA==""#);
        let long = opaque(252, &[0; 58]);
        assert_eq!(
            long,
            format!(r#""base64:type252:{}\nAA==""#, "A".repeat(76))
        );
        assert_eq!(text(&[]), "null");
        assert_eq!(text(&[STRING, 3, b'"', 1, b'/']), r#""\"\u0001/""#);
    }

    #[test]
    fn a_document_that_refers_to_itself_is_malformed() {
        // An array of two values which are both the array.
        let own = [2, 2, 0, 10, 0, 2, 0, 0, 2, 0, 0];
        assert_eq!(push(&mut RowBatch::new(), &own), Err(BAD));
    }

    #[test]
    fn paths() {
        let member = |name: &'static str| Leg::Member(Cow::Borrowed(name.as_bytes()));
        assert_eq!(path(b"$").unwrap(), []);
        assert_eq!(
            path(br#"$.a[12]."b \"\\\u0001.c".d"#).unwrap(),
            [
                member("a"),
                Leg::Cell(12),
                member("b \"\\\u{1}.c"),
                member("d")
            ]
        );
        for bad in [&b""[..], b"a", b"$a", b"$[", b"$[x]", b"$.\"a"] {
            assert!(path(bad).is_err());
        }
    }
}
