//! `TRANSACTION_PAYLOAD`: the events of one transaction, compressed with zstd or not at all.
//!
//! The events are inflated one by one: in memory are the event as it came, the window of zstd (which
//! is at most 128 MiB and 2 MiB at the level servers use by default), and one event of the transaction, whose size is compared with
//! the limit before it is read.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Transaction__payload__event.html>.

use std::io::{Cursor, ErrorKind, Read};

use super::event::Header;
use super::{Buf, Malformed};

/// A payload that is being read.
pub(crate) struct Payload {
    events: Box<dyn Read + Send>,
    /// Bytes that are still to come, by the size the server told.
    left: u64,
    /// An event larger than this is not read.
    max: u64,
    /// How many events came.
    pub(crate) count: u64,
}

const SIZE: Malformed = Malformed("a compressed transaction has another size than it says");

impl Payload {
    /// Reads the head of a body.
    pub(crate) fn open(body: &[u8], max: u64) -> Result<Payload, Malformed> {
        let mut b = Buf(body);
        let (mut size, mut kind, mut plain) = (None, 255, None);
        loop {
            let field = b.lenenc()?;
            if field == 0 {
                break;
            }
            let len = b.lenenc()?;
            let mut value = Buf(b.take(len)?);
            match field {
                1 => size = Some(value.lenenc()?),
                2 => kind = value.lenenc()?,
                3 => plain = Some(value.lenenc()?),
                _ => {}
            }
        }
        if size.is_some_and(|size| size != b.0.len()) {
            return Err(SIZE);
        }
        let bytes = Cursor::new(b.0.to_vec());
        let (events, left): (Box<dyn Read + Send>, usize) = match kind {
            255 => (Box::new(bytes), b.0.len()),
            0 => {
                let decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                    .map_err(|_| Malformed("zstd cannot be set up"))?;
                let plain = plain.ok_or(Malformed("a compressed transaction without a size"))?;
                (Box::new(decoder), plain)
            }
            _ => return Err(Malformed("a transaction in an unknown compression")),
        };
        Ok(Payload {
            events,
            left: left as u64,
            max,
            count: 0,
        })
    }

    /// The next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(Header, Vec<u8>)>, Malformed> {
        if self.left == 0 {
            // The server told the size, so nothing can follow.
            return match self.read(1) {
                Ok(more) if more.is_empty() => Ok(None),
                _ => Err(SIZE),
            };
        }
        let head = self.read(19)?;
        let head = head.first_chunk::<19>().ok_or(SIZE)?;
        let (header, len) = Header::parse(head)?;
        let all = u64::from(header.size);
        if all > self.max {
            return Err(Malformed(
                "a compressed transaction has an event larger than the limit for a row",
            ));
        }
        self.left = self.left.checked_sub(all).ok_or(SIZE)?;
        let body = self.read(len)?;
        if body.len() != len {
            return Err(SIZE);
        }
        self.count += 1;
        Ok(Some((header, body)))
    }

    /// Up to `len` bytes; the vector grows as they come.
    fn read(&mut self, len: usize) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        match (&mut self.events).take(len as u64).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(SIZE),
            Err(_) => Err(Malformed("a compressed transaction does not inflate")),
        }
    }
}
