//! Decoders: functions from bytes to values. No socket, no panic, no allocation per cell.

pub(crate) mod cells;
pub(crate) mod charset;
pub(crate) mod event;
pub(crate) mod ids;
pub(crate) mod join;
pub(crate) mod json;
pub(crate) mod map;
pub(crate) mod numbers;
pub(crate) mod payload;
pub(crate) mod rows;
mod skip;

/// Bytes that do not have the form the protocol describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

const SHORT: Malformed = Malformed("ends too early");

/// A cursor over bytes.
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
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A little-endian integer of `n` ≤ 8 bytes.
    #[inline]
    pub(crate) fn le(&mut self, n: usize) -> Result<u64, Malformed> {
        match n {
            1 => return Ok(self.u8()?.into()),
            2 => return Ok(self.u16()?.into()),
            4 => return Ok(self.u32()?.into()),
            8 => return self.u64(),
            _ => {}
        }
        let bytes = self.take(n)?;
        Ok(bytes.iter().rev().fold(0, |v, b| (v << 8) | u64::from(*b)))
    }

    /// A big-endian integer of `n` ≤ 8 bytes.
    #[inline]
    pub(crate) fn be(&mut self, n: usize) -> Result<u64, Malformed> {
        let bytes = self.take(n)?;
        Ok(bytes.iter().fold(0, |v, b| (v << 8) | u64::from(*b)))
    }

    /// `Protocol::LengthEncodedInteger` as a length.
    #[inline]
    pub(crate) fn lenenc(&mut self) -> Result<usize, Malformed> {
        let n = match self.u8()? {
            n @ 0..=250 => u64::from(n),
            252 => self.le(2)?,
            253 => self.le(3)?,
            254 => self.le(8)?,
            _ => return Err(Malformed("bad length-encoded integer")),
        };
        usize::try_from(n).map_err(|_| Malformed("length too large"))
    }

    /// A length of `n` bytes, then that many bytes.
    #[inline]
    pub(crate) fn prefixed(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let len = self.le(n)?;
        self.take(usize::try_from(len).map_err(|_| SHORT)?)
    }
}
