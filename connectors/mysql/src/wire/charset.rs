//! Text as stored, to UTF-8.

use super::Malformed;

/// A column's character set, as far as we read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    /// `utf8mb3`, `utf8mb4`, `ascii`.
    Utf8,
    /// `latin1`, which is Windows-1252 with its five holes as C1 controls.
    Latin1,
    /// `ucs2`, `utf16`: big-endian.
    Utf16,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`: big-endian.
    Utf32,
}

impl Charset {
    pub(crate) fn of(name: &str) -> Option<Charset> {
        Some(match name {
            "utf8" | "utf8mb3" | "utf8mb4" | "ascii" => Charset::Utf8,
            "latin1" => Charset::Latin1,
            "ucs2" | "utf16" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "utf32" => Charset::Utf32,
            _ => return None,
        })
    }
}

/// 0x80..=0x9F of Windows-1252; see <https://dev.mysql.com/doc/refman/8.4/en/charset-we-sets.html>.
const CP1252: [char; 32] = [
    '\u{20AC}', '\u{81}', '\u{201A}', '\u{192}', '\u{201E}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2C6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8D}', '\u{17D}', '\u{8F}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201C}', '\u{201D}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2DC}', '\u{2122}', '\u{161}', '\u{203A}', '\u{153}', '\u{9D}', '\u{17E}', '\u{178}',
];

const BAD: Malformed = Malformed("text is not valid in its character set");

/// Appends `bytes` to `out` as UTF-8.
pub(crate) fn append(set: Charset, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut tmp = [0; 4];
    let mut put = |c: char| out.extend_from_slice(c.encode_utf8(&mut tmp).as_bytes());
    match set {
        Charset::Utf8 => {
            out.extend_from_slice(std::str::from_utf8(bytes).map_err(|_| BAD)?.as_bytes());
        }
        Charset::Latin1 => {
            for &b in bytes {
                put(match b {
                    0x80..=0x9F => *CP1252.get(usize::from(b - 0x80)).ok_or(BAD)?,
                    b => char::from(b),
                });
            }
        }
        Charset::Utf16 | Charset::Utf16Le => {
            let (units, rest) = bytes.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(BAD);
            }
            let units = units.iter().map(|u| match set {
                Charset::Utf16 => u16::from_be_bytes(*u),
                _ => u16::from_le_bytes(*u),
            });
            for c in char::decode_utf16(units) {
                put(c.map_err(|_| BAD)?);
            }
        }
        Charset::Utf32 => {
            let (units, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(BAD);
            }
            for u in units {
                put(char::from_u32(u32::from_be_bytes(*u)).ok_or(BAD)?);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set() {
        for (set, bytes, text) in [
            (Charset::Utf8, "aé😀".as_bytes(), "aé😀"),
            (Charset::Latin1, &[0x61, 0xE9, 0x80, 0x81][..], "aé€\u{81}"),
            (
                Charset::Utf16,
                &[0, 0x61, 0xD8, 0x3D, 0xDE, 0x00][..],
                "a😀",
            ),
            (Charset::Utf32, &[0, 1, 0xF6, 0][..], "😀"),
        ] {
            let mut out = Vec::new();
            append(set, bytes, &mut out).unwrap();
            assert_eq!(std::str::from_utf8(&out).unwrap(), text);
        }
        assert!(append(Charset::Utf16, &[0xD8, 0, 0, 0x61], &mut Vec::new()).is_err());
        assert!(append(Charset::Utf8, &[0xFF], &mut Vec::new()).is_err());
    }
}
