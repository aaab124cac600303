//! MySQL's events of transaction identifiers.
//!
//! `GTID_LOG_EVENT`, `ANONYMOUS_GTID_LOG_EVENT` and `PREVIOUS_GTIDS_LOG_EVENT`:
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Gtid__event.html>.
//! `GTID_TAGGED_LOG_EVENT` is written by MySQL's serialisation library:
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/PageLibsMysqlSerialization.html>.

use super::{Buf, Malformed};
use crate::gtid::{Gtid, GtidSet, Origin};

/// Which transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begins {
    /// `None`: it has no identifier.
    pub(crate) gtid: Option<Gtid>,
    /// When this server committed it, in microseconds, if it says so.
    pub(crate) time_us: Option<i64>,
}

const BAD: Malformed = Malformed("a GTID event cannot be read");

/// `GTID_LOG_EVENT` and `ANONYMOUS_GTID_LOG_EVENT`.
pub(crate) fn gtid(body: &[u8]) -> Result<Begins, Malformed> {
    let mut b = Buf(body);
    b.u8()?;
    let server = b.array::<16>()?;
    let number = b.u64()?;
    let mut time_us = None;
    // The logical clock of 5.7 and newer, then the time of the commit of 8.0 and newer.
    if b.0.first() == Some(&2) {
        b.take(17)?;
        if b.0.len() >= 7 {
            let time = b.le(7)? & !(1 << 55);
            time_us = i64::try_from(time).ok();
        }
    }
    let origin = Origin {
        server,
        tag: String::new(),
    };
    let gtid = (number != 0).then_some(Gtid { origin, number });
    Ok(Begins { gtid, time_us })
}

/// `GTID_TAGGED_LOG_EVENT`.
pub(crate) fn tagged(body: &[u8]) -> Result<Begins, Malformed> {
    let mut b = Buf(body);
    if b.u8()? != 2 {
        return Err(Malformed("a tagged GTID event of an unknown version"));
    }
    let size = usize::try_from(varying(&mut b)?).map_err(|_| BAD)?;
    let known = varying(&mut b)?;
    let used = body.len() - b.0.len();
    let mut b = Buf(b.take(size.checked_sub(used).ok_or(BAD)?)?);
    let (mut server, mut number, mut tag, mut time_us) = ([0; 16], 0, String::new(), None);
    while !b.0.is_empty() {
        match varying(&mut b)? {
            // Flags.
            0 => drop(varying(&mut b)?),
            1 => {
                for byte in &mut server {
                    *byte = u8::try_from(varying(&mut b)?).map_err(|_| BAD)?;
                }
            }
            2 => {
                let signed = varying(&mut b)?;
                if signed & 1 == 1 {
                    return Err(BAD);
                }
                number = signed >> 1;
            }
            3 => {
                let len = usize::try_from(varying(&mut b)?).map_err(|_| BAD)?;
                let text = std::str::from_utf8(b.take(len)?).map_err(|_| BAD)?;
                text.clone_into(&mut tag);
            }
            // Logical clock, times of the commit, length, versions, ticket.
            6 => time_us = i64::try_from(varying(&mut b)?).ok(),
            4 | 5 | 7..=11 => drop(varying(&mut b)?),
            field if field <= known => {
                return Err(Malformed(
                    "a tagged GTID event has a field that must not be ignored",
                ));
            }
            _ => break,
        }
    }
    let origin = Origin { server, tag };
    let gtid = (number != 0).then_some(Gtid { origin, number });
    Ok(Begins { gtid, time_us })
}

/// The number of bytes is that of the lowest one bits of the first, plus one.
fn varying(b: &mut Buf<'_>) -> Result<u64, Malformed> {
    let first = *b.0.first().ok_or(BAD)?;
    let ones = first.trailing_ones() as usize;
    if ones == 8 {
        b.u8()?;
        return b.u64();
    }
    Ok(b.le(ones + 1)? >> (ones + 1))
}

/// `PREVIOUS_GTIDS_LOG_EVENT`: everything in the log before this file.
pub(crate) fn previous(body: &[u8]) -> Result<GtidSet, Malformed> {
    let mut b = Buf(body);
    let head = b.u64()?;
    // The highest byte is the format; in that with tags the lowest is, too.
    let tagged = head >> 56 != 0;
    let origins = if tagged {
        head >> 8 & 0xFFFF_FFFF_FFFF
    } else {
        head
    };
    let mut out = GtidSet::default();
    for _ in 0..origins {
        let server = b.array::<16>()?;
        let mut tag = String::new();
        if tagged {
            let len = usize::try_from(varying(&mut b)?).map_err(|_| BAD)?;
            let text = std::str::from_utf8(b.take(len)?).map_err(|_| BAD)?;
            text.clone_into(&mut tag);
        }
        let origin = Origin { server, tag };
        for _ in 0..b.u64()? {
            let (from, to) = (b.u64()?, b.u64()?);
            out.add_range(&origin, from, to);
        }
    }
    Ok(out)
}
