//! Text as stored, to UTF-8.
//!
//! The Unicode sets are computed. All others are read with tables that say for each code what
//! MariaDB's own `CONVERT(… USING utf8mb4)` makes of it, because the tables of the Web standards
//! differ from the server's in places. They lie in `charset/tables.bin`, which a test makes from a
//! server and compares with one (`tests/it/charsets.rs`). A code the server has no character for is
//! an error here; the server's own answer would be a question mark.
//!
//! `tables.bin` is a list of sets. Each is the length of its name (one octet), the name, the length
//! of what follows (32 bits), and a zlib stream of 16-bit numbers, all big-endian: the characters of
//! the 256 codes of one octet, and, if there are more, those of the 65,536 codes of two octets and
//! of the 65,536 codes of two octets behind an 0x8F. [`NONE`] stands for no character.
//!
//! The set `gb18030` of MySQL is not read: there is no server to make its table from.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::OnceLock;

use super::Malformed;

/// No character has this code.
const NONE: u16 = 0xffff;
/// Begins codes of three octets.
const THREE: u8 = 0x8f;

/// A column's character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    /// `utf8mb3`, `utf8mb4`.
    Utf8,
    /// `ucs2`: big-endian, no surrogates.
    Ucs2,
    /// `utf16`: big-endian.
    Utf16,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`: big-endian.
    Utf32,
    /// Any other, by its table.
    Table(&'static Table),
}

impl Charset {
    /// The set of this name; `None`: it is not read.
    pub(crate) fn of(name: &str) -> Option<Charset> {
        Some(match name {
            "utf8" | "utf8mb3" | "utf8mb4" => Charset::Utf8,
            "ucs2" => Charset::Ucs2,
            "utf16" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "utf32" => Charset::Utf32,
            name => Charset::Table(Table::of(name)?),
        })
    }
}

/// The characters of a set.
pub(crate) struct Table {
    name: &'static str,
    one: Vec<u16>,
    two: Vec<u16>,
    three: Vec<u16>,
    /// Whether the codes below 0x80 are ASCII.
    ascii: bool,
}

impl PartialEq for Table {
    fn eq(&self, other: &Table) -> bool {
        self.name == other.name
    }
}

impl Eq for Table {}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A set's compressed table, and what has become of it.
type Entry = (&'static [u8], OnceLock<Table>);

impl Table {
    fn of(name: &str) -> Option<&'static Table> {
        static ALL: OnceLock<BTreeMap<&'static str, Entry>> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            let mut rest: &'static [u8] = include_bytes!("charset/tables.bin");
            let mut all = BTreeMap::new();
            while let Some((name, packed)) = entry(&mut rest) {
                all.insert(name, (packed, OnceLock::new()));
            }
            all
        });
        let (name, (packed, table)) = all.get_key_value(name)?;
        Some(table.get_or_init(|| Table::read(name, packed)))
    }

    fn read(name: &'static str, packed: &[u8]) -> Table {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(packed)
            .read_to_end(&mut bytes)
            .expect("the tables are part of the program");
        let (pairs, _) = bytes.as_chunks::<2>();
        let mut codes = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
        let one: Vec<u16> = codes.by_ref().take(1 << 8).collect();
        let two = codes.by_ref().take(1 << 16).collect();
        let three = codes.collect();
        let ascii = (0..0x80).all(|code: u16| one.get(usize::from(code)) == Some(&code));
        Table {
            name,
            one,
            two,
            three,
            ascii,
        }
    }

    /// The character at the begin of `bytes`, and what is behind it.
    fn next<'a>(&self, bytes: &'a [u8]) -> Option<(char, &'a [u8])> {
        let pick = |codes: &[u16], code: u16| {
            let found = codes.get(usize::from(code)).copied();
            let found = found.filter(|code| *code != NONE)?;
            char::from_u32(found.into())
        };
        let (first, rest) = bytes.split_first()?;
        if let Some(c) = pick(&self.one, (*first).into()) {
            return Some((c, rest));
        }
        if let (THREE, Some((pair, rest))) = (*first, rest.split_first_chunk::<2>())
            && let Some(c) = pick(&self.three, u16::from_be_bytes(*pair))
        {
            return Some((c, rest));
        }
        let (pair, rest) = bytes.split_first_chunk::<2>()?;
        Some((pick(&self.two, u16::from_be_bytes(*pair))?, rest))
    }
}

/// The next set of `tables.bin`.
fn entry(rest: &mut &'static [u8]) -> Option<(&'static str, &'static [u8])> {
    let (len, tail) = rest.split_first()?;
    let (name, tail) = tail.split_at_checked((*len).into())?;
    let (len, tail) = tail.split_first_chunk::<4>()?;
    let (packed, tail) = tail.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = tail;
    Some((std::str::from_utf8(name).ok()?, packed))
}

const BAD: Malformed = Malformed("text is not valid in its character set");

/// Appends `bytes` to `out` as UTF-8.
pub(crate) fn append(set: Charset, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut tmp = [0; 4];
    let mut put = |c: char, out: &mut Vec<u8>| {
        out.extend_from_slice(c.encode_utf8(&mut tmp).as_bytes());
    };
    match set {
        Charset::Utf8 => {
            out.extend_from_slice(std::str::from_utf8(bytes).map_err(|_| BAD)?.as_bytes());
        }
        Charset::Table(table) => {
            let mut rest = bytes;
            while !rest.is_empty() {
                if table.ascii {
                    let plain = rest.iter().take_while(|b| b.is_ascii()).count();
                    let (plain, tail) = rest.split_at(plain);
                    out.extend_from_slice(plain);
                    rest = tail;
                    if rest.is_empty() {
                        break;
                    }
                }
                let (c, tail) = table.next(rest).ok_or(BAD)?;
                put(c, out);
                rest = tail;
            }
        }
        Charset::Ucs2 | Charset::Utf16 | Charset::Utf16Le => {
            let (units, rest) = bytes.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(BAD);
            }
            let units = units.iter().map(|u| match set {
                Charset::Utf16Le => u16::from_le_bytes(*u),
                _ => u16::from_be_bytes(*u),
            });
            if set == Charset::Ucs2 {
                for unit in units {
                    put(char::from_u32(unit.into()).ok_or(BAD)?, out);
                }
                return Ok(());
            }
            for c in char::decode_utf16(units) {
                put(c.map_err(|_| BAD)?, out);
            }
        }
        Charset::Utf32 => {
            let (units, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(BAD);
            }
            for u in units {
                put(char::from_u32(u32::from_be_bytes(*u)).ok_or(BAD)?, out);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &str, bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        append(Charset::of(set).unwrap(), bytes, &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_set() {
        for (set, bytes, text) in [
            ("utf8mb4", "aé😀".as_bytes(), "aé😀"),
            ("latin1", &[0x61, 0xE9, 0x80, 0x81], "aé€\u{81}"),
            ("swe7", b"a\\[", "aÖÄ"),
            ("utf16", &[0, 0x61, 0xD8, 0x3D, 0xDE, 0x00], "a😀"),
            ("utf32", &[0, 1, 0xF6, 0], "😀"),
            ("sjis", &[0x83, 0x5c, 0x5c, 0xb1], "ソ\\ｱ"),
            ("cp932", &[0x87, 0x40, 0x81, 0x60], "①～"),
            (
                "ujis",
                &[0xa4, 0xa2, 0x8e, 0xb1, 0x8f, 0xb0, 0xa1, b'a'],
                "あｱ丂a",
            ),
            ("gbk", &[0x81, 0x40, b'x'], "丂x"),
            ("euckr", &[0xb0, 0xa1], "가"),
            ("big5", &[0xa4, 0x40], "一"),
        ] {
            assert_eq!(read(set, bytes).as_deref(), Some(text), "{set}");
        }
        for (set, bytes) in [
            ("utf16", &[0xD8, 0, 0, 0x61][..]),
            ("ucs2", &[0xD8, 0x3D, 0xDE, 0]),
            ("utf8mb4", &[0xFF]),
            ("ascii", &[0x80]),
            ("big5", &[0xa4]),
            ("ujis", &[0x8f, 0xb0]),
            ("cp1250", &[0x81]),
        ] {
            assert_eq!(read(set, bytes), None, "{set} {bytes:x?}");
        }
        assert!(Charset::of("gb18030").is_none());
    }
}
