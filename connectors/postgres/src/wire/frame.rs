//! Messages of the server: one byte of type, 32 bits of length (with itself), a body.

use super::{Buf, Malformed};

/// Types of messages, by the names of the manual.
pub(crate) mod tag {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const BACKEND_KEY_DATA: u8 = b'K';
    pub(crate) const COMMAND_COMPLETE: u8 = b'C';
    pub(crate) const COPY_BOTH: u8 = b'W';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const COPY_OUT: u8 = b'H';
    pub(crate) const DATA_ROW: u8 = b'D';
    pub(crate) const ERROR: u8 = b'E';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const READY: u8 = b'Z';
}

/// Bytes before a body.
pub(crate) const HEAD: usize = 5;

/// The head of the first message in `bytes`: its type and the length of its body; `None`: more
/// bytes are needed.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(u8, usize)>, Malformed> {
    let mut buf = Buf(bytes);
    if buf.0.len() < HEAD {
        return Ok(None);
    }
    let (tag, len) = (buf.u8()?, buf.u32()?);
    let body = usize::try_from(len)
        .ok()
        .and_then(|len| len.checked_sub(4))
        .ok_or(Malformed("a message is shorter than its head"))?;
    Ok(Some((tag, body)))
}

/// What the server says of an error. Its DETAIL is left out, because it can hold values of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Refusal {
    /// Reads the body of an `ErrorResponse`.
    pub(crate) fn parse(body: &[u8]) -> Result<Refusal, Malformed> {
        let mut buf = Buf(body);
        let mut out = Refusal::default();
        loop {
            let field = buf.u8()?;
            if field == 0 {
                return Ok(out);
            }
            let text = String::from_utf8_lossy(buf.cstr()?).into_owned();
            match field {
                b'C' => out.code = text,
                b'M' => out.message = text,
                b'H' => out.hint = text,
                _ => {}
            }
        }
    }
}

/// The values of a `DataRow` in text form.
pub(crate) fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, Malformed> {
    let mut buf = Buf(body);
    let count = buf.u16()?;
    let mut out = Vec::new();
    for _ in 0..count {
        let len = buf.i32()?;
        out.push(match usize::try_from(len) {
            Ok(len) => Some(String::from_utf8_lossy(buf.take(len)?).into_owned()),
            Err(_) => None,
        });
    }
    buf.end()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_needs_five_bytes_and_a_length_that_can_be() {
        assert_eq!(head(b"d\0\0\0").unwrap(), None);
        assert_eq!(head(b"d\0\0\0\x04").unwrap(), Some((b'd', 0)));
        assert_eq!(
            head(b"d\xff\xff\xff\xff").unwrap(),
            Some((b'd', 0xffff_fffb))
        );
        assert!(head(b"d\0\0\0\x03").is_err());
    }

    #[test]
    fn a_detail_is_not_kept() {
        let refusal = Refusal::parse(b"C23505\0Mduplicate\0DKey (a)=(secret)\0Hhelp\0\0").unwrap();
        assert_eq!(refusal.code, "23505");
        assert!(!format!("{refusal:?}").contains("secret"));
        assert!(Refusal::parse(b"C23505\0Mcut").is_err());
    }

    #[test]
    fn values_of_a_row_are_bounded_by_it() {
        let row = data_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap();
        assert_eq!(row, [Some("a".to_owned()), None]);
        assert!(data_row(b"\xff\xff\0\0\0\x01a").is_err());
        assert!(data_row(b"\0\x01\x7f\xff\xff\xffa").is_err());
    }
}
