//! What is inside the `CopyData` of a replication connection, and what goes back.

use std::fmt;

use super::{Buf, Malformed};

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A place in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    /// Reads `16/B374D848`.
    pub(crate) fn parse(text: &str) -> Option<Lsn> {
        let (high, low) = text.split_once('/')?;
        let part = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Lsn((u64::from(part(high)?) << 32) | u64::from(part(low)?)))
    }
}

/// A message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// `XLogData`: a message of the output plugin.
    Data {
        /// "The starting point of the WAL data in this message."
        start: Lsn,
        /// The plugin's message.
        body: &'a [u8],
    },
    /// `Primary keepalive message`.
    Keepalive {
        /// "The current end of WAL on the server": how far the log has been decoded.
        wal_end: Lsn,
        /// Whether an answer is wanted at once.
        reply: bool,
    },
}

/// Bytes before the plugin's message in an `XLogData`.
pub(crate) const DATA_HEAD: usize = 25;

/// Reads the body of a `CopyData`.
pub(crate) fn incoming(body: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let mut buf = Buf(body);
    match buf.u8()? {
        b'w' => {
            let start = Lsn(buf.u64()?);
            // The end of WAL and the server's clock, which nobody needs here.
            buf.take(16)?;
            Ok(Incoming::Data { start, body: buf.0 })
        }
        b'k' => {
            let wal_end = Lsn(buf.u64()?);
            buf.take(8)?;
            let reply = buf.u8()? != 0;
            buf.end()?;
            Ok(Incoming::Keepalive { wal_end, reply })
        }
        _ => Err(Malformed("a replication message of an unknown kind")),
    }
}

/// Appends a `Standby status update` in a `CopyData`: everything before `durable` may be forgotten.
/// `ask`: the server shall answer with a keepalive. The clock (microseconds since 2000) is only for
/// the server's views.
pub(crate) fn status(durable: Lsn, clock: i64, ask: bool, out: &mut Vec<u8>) {
    out.push(super::frame::tag::COPY_DATA);
    out.extend(38u32.to_be_bytes());
    out.push(b'r');
    // Written, flushed, applied. The server sends a keepalive whenever it comes to the end of its log
    // and "written" lies behind, so all three are what is durable at the target.
    for _ in 0..3 {
        out.extend(durable.0.to_be_bytes());
    }
    out.extend(clock.to_be_bytes());
    out.push(u8::from(ask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_the_server_writes_them() {
        for (text, lsn) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_b374_d848),
            ("1/5", 1 << 32 | 5),
        ] {
            assert_eq!(Lsn::parse(text), Some(Lsn(lsn)));
            assert_eq!(Lsn(lsn).to_string(), text);
        }
        for text in ["", "1", "1/", "/1", "1/2/3", "x/1", "1/100000000"] {
            assert_eq!(Lsn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_is_a_frame_of_its_declared_length() {
        let mut out = Vec::new();
        status(Lsn(7), 9, true, &mut out);
        let (tag, len) = crate::wire::frame::head(&out).unwrap().unwrap();
        assert_eq!((tag, len), (b'd', out.len() - 5));
        assert_eq!(out.last(), Some(&1));
    }

    #[test]
    fn what_is_cut_short_is_told() {
        let mut keepalive = vec![b'k'];
        keepalive.extend([0; 17]);
        assert!(incoming(&keepalive).is_ok());
        for n in 0..keepalive.len() {
            assert!(incoming(&keepalive[..n]).is_err(), "{n}");
        }
        assert!(incoming(b"x").is_err());
    }
}
