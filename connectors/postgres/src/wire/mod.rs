//! The wire: an own thin connection, and decoders as functions from bytes to values. The decoders
//! know no socket, never panic, and allocate nothing that the input does not pay for.
//!
//! Formats: <https://www.postgresql.org/docs/15/protocol-message-formats.html> (messages),
//! <https://www.postgresql.org/docs/15/protocol-replication.html> (what is inside `CopyData`).

pub(crate) mod cells;
pub(crate) mod connection;
pub(crate) mod copy;
pub(crate) mod frame;
pub(crate) mod pgoutput;
pub(crate) mod replication;
pub(crate) mod text;

/// Bytes that do not have the form the protocol describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

const SHORT: Malformed = Malformed("a message ends too early");
const NO_UTF8: Malformed = Malformed("text is not UTF-8");
const LEFT: Malformed = Malformed("a message has bytes past its end");

/// A cursor over bytes; integers are big-endian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buf<'a>(pub(crate) &'a [u8]);

impl<'a> Buf<'a> {
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Bytes up to a zero byte, which is taken too.
    pub(crate) fn cstr(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(SHORT)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// The same as UTF-8, which every session of ours asks for.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        utf8(self.cstr()?)
    }

    /// Nothing may be left.
    #[inline]
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(LEFT)
    }
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| NO_UTF8)
}
