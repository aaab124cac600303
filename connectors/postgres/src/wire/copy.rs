//! The file format of `COPY … TO … (FORMAT binary)`
//! (<https://www.postgresql.org/docs/15/sql-copy.html>): a signature, then rows, each a 16-bit count
//! and per field a 32-bit length (-1: NULL) and its bytes; -1 as a count ends it.

use thalweg_core::ports::WireForm;

use super::{Buf, Malformed};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// What rows of these columns are called; `None`: some column's values are not handed on as they are.
pub(crate) fn wire_form(columns: impl Iterator<Item = Option<&'static str>>) -> Option<WireForm> {
    let columns: Vec<&str> = columns.collect::<Option<_>>()?;
    Some(WireForm(format!("postgres copy: {}", columns.join(" "))))
}

/// Takes the header off `bytes`; `false`: more bytes are needed.
pub(crate) fn header(bytes: &mut Buf<'_>) -> Result<bool, Malformed> {
    let mut buf = *bytes;
    if buf.0.len() < SIGNATURE.len() + 8 {
        return Ok(false);
    }
    if buf.take(SIGNATURE.len())? != SIGNATURE {
        return Err(Malformed("no signature of COPY"));
    }
    // Flags are of no use to us: none but "has OIDs" was ever defined.
    buf.u32()?;
    let extension = usize::try_from(buf.u32()?).unwrap_or(usize::MAX);
    if buf.0.len() < extension {
        return Ok(false);
    }
    buf.take(extension)?;
    *bytes = buf;
    Ok(true)
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// The fields of a row.
    Row(Fields<'a>),
    /// More bytes are needed.
    More,
    /// The end of the file.
    End,
}

/// The fields of one row; its bytes have been walked through once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub(crate) width: usize,
    bytes: &'a [u8],
    /// The whole row, with its count.
    pub(crate) row: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields in order; `None`: NULL.
    #[inline]
    pub(crate) fn values(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut buf = Buf(self.bytes);
        (0..self.width).map_while(move |_| field(&mut buf).ok().flatten())
    }
}

/// A field; the outer `None`: more bytes are needed.
#[inline]
fn field<'a>(buf: &mut Buf<'a>) -> Result<Option<Option<&'a [u8]>>, Malformed> {
    if buf.0.len() < 4 {
        return Ok(None);
    }
    match buf.i32()? {
        -1 => Ok(Some(None)),
        len => {
            let len = usize::try_from(len).map_err(|_| Malformed("a field of negative length"))?;
            if buf.0.len() < len {
                return Ok(None);
            }
            Ok(Some(Some(buf.take(len)?)))
        }
    }
}

/// Takes the next row off `bytes`.
pub(crate) fn next<'a>(bytes: &mut Buf<'a>) -> Result<Next<'a>, Malformed> {
    let mut buf = *bytes;
    if buf.0.len() < 2 {
        return Ok(Next::More);
    }
    let count = buf.i16()?;
    if count == -1 {
        *bytes = buf;
        return Ok(Next::End);
    }
    let width = usize::try_from(count).map_err(|_| Malformed("a row of negative width"))?;
    let all = buf.0;
    for _ in 0..width {
        if field(&mut buf)?.is_none() {
            return Ok(Next::More);
        }
    }
    let fields = all.get(..all.len() - buf.0.len()).unwrap_or_default();
    let row = bytes.0.get(..bytes.0.len() - buf.0.len());
    let row = row.unwrap_or_default();
    *bytes = buf;
    Ok(Next::Row(Fields {
        width,
        bytes: fields,
        row,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_wherever_it_is_cut() {
        let mut file = SIGNATURE.to_vec();
        file.extend([0; 8]);
        let head = file.len();
        file.extend(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
        let row = file.len();
        file.extend([0xff, 0xff]);
        for cut in 0..file.len() {
            let mut buf = Buf(&file[..cut]);
            assert_eq!(header(&mut buf).unwrap(), cut >= head, "{cut}");
            if cut < head {
                continue;
            }
            match next(&mut buf).unwrap() {
                Next::Row(fields) => {
                    assert!(cut >= row);
                    let values: Vec<_> = fields.values().collect();
                    assert_eq!(values, [Some(b"a".as_slice()), None]);
                    assert_eq!(next(&mut buf).unwrap(), Next::More);
                }
                other => assert!(other == Next::More && cut < row, "{cut}"),
            }
        }
        let mut buf = Buf(&file[row..]);
        assert_eq!(next(&mut buf).unwrap(), Next::End);
        assert!(next(&mut Buf(b"\xff\xfe")).is_err());
    }
}
