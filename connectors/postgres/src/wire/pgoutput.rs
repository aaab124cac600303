//! Messages of the output plugin `pgoutput`, protocol versions 1 to 4
//! (<https://www.postgresql.org/docs/17/protocol-logicalrep-message-formats.html>).
//!
//! Between `Stream Start` and `Stream Stop` the messages of a transaction in progress carry the xid of
//! the (sub)transaction they belong to; outside they do not. Nothing in the bytes says which, so the
//! caller does.

use super::replication::Lsn;
use super::{Buf, Malformed};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Begin {
        /// Where the commit record begins.
        commit: Lsn,
        time: i64,
        xid: u32,
    },
    Commit(Ended),
    /// The transaction came from another server.
    Origin,
    Relation(Relation<'a>),
    Type,
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Oids<'a>,
    },
    /// A logical decoding message.
    Logical,
    StreamStart {
        xid: u32,
    },
    StreamStop,
    StreamCommit {
        xid: u32,
        ended: Ended,
    },
    StreamAbort {
        xid: u32,
        subxid: u32,
    },
    BeginPrepare {
        gid: &'a str,
    },
    Prepare {
        gid: &'a str,
    },
    CommitPrepared {
        gid: &'a str,
    },
    RollbackPrepared {
        gid: &'a str,
    },
    StreamPrepare {
        gid: &'a str,
    },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Where its commit record begins.
    pub(crate) commit: Lsn,
    /// Where it ends: reading resumes here.
    pub(crate) end: Lsn,
    /// The commit time, microseconds since 2000.
    pub(crate) time: i64,
}

/// A table as the following rows have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation<'a> {
    pub(crate) id: u32,
    /// Empty means `pg_catalog`.
    pub(crate) schema: &'a str,
    pub(crate) name: &'a str,
    /// `relreplident`: `d`, `n`, `f` or `i`.
    pub(crate) identity: u8,
    pub(crate) columns: Vec<Column<'a>>,
}

/// A column of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column<'a> {
    /// Whether it belongs to the replica identity.
    pub(crate) key: bool,
    pub(crate) name: &'a str,
    pub(crate) ty: u32,
    pub(crate) typmod: i32,
}

/// The old row of an update or a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old<'a> {
    /// Only the columns of the replica identity; the others are sent as NULL and mean nothing.
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

/// Values of a row; its bytes have been walked through once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    pub(crate) width: usize,
    cells: &'a [u8],
}

/// One value as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent<'a> {
    Null,
    /// An unchanged TOASTed value, which is not in the log.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

#[inline]
fn sent<'a>(buf: &mut Buf<'a>) -> Result<Sent<'a>, Malformed> {
    let value = |buf: &mut Buf<'a>| {
        let len =
            usize::try_from(buf.i32()?).map_err(|_| Malformed("a value of negative length"))?;
        buf.take(len)
    };
    Ok(match buf.u8()? {
        b'n' => Sent::Null,
        b'u' => Sent::Unchanged,
        b't' => Sent::Text(value(buf)?),
        b'b' => Sent::Binary(value(buf)?),
        _ => return Err(Malformed("a value of an unknown kind")),
    })
}

impl<'a> Tuple<'a> {
    fn parse(buf: &mut Buf<'a>) -> Result<Tuple<'a>, Malformed> {
        let width = usize::from(buf.u16()?);
        let all = buf.0;
        for _ in 0..width {
            sent(buf)?;
        }
        let cells = all.get(..all.len() - buf.0.len()).unwrap_or_default();
        Ok(Tuple { width, cells })
    }

    /// The values in order.
    #[inline]
    pub(crate) fn values(self) -> impl Iterator<Item = Sent<'a>> {
        let mut buf = Buf(self.cells);
        (0..self.width).map_while(move |_| sent(&mut buf).ok())
    }
}

/// A list of relation ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oids<'a>(&'a [u8]);

impl Oids<'_> {
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> {
        let (chunks, _) = self.0.as_chunks::<4>();
        chunks.iter().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

fn ended(buf: &mut Buf<'_>) -> Result<Ended, Malformed> {
    buf.u8()?;
    Ok(Ended {
        commit: Lsn(buf.u64()?),
        end: Lsn(buf.u64()?),
        time: buf.i64()?,
    })
}

/// Flags, two places, a time, an xid, and the name of a prepared transaction.
fn prepared<'a>(buf: &mut Buf<'a>) -> Result<&'a str, Malformed> {
    buf.take(1 + 8 + 8 + 8 + 4)?;
    buf.text()
}

/// Reads one message. `streamed`: it lies between `Stream Start` and `Stream Stop`; the xid it carries
/// then is given too.
pub(crate) fn parse(body: &[u8], streamed: bool) -> Result<(Option<u32>, Message<'_>), Malformed> {
    let mut buf = Buf(body);
    let tag = buf.u8()?;
    let carries = matches!(tag, b'M' | b'R' | b'Y' | b'I' | b'U' | b'D' | b'T');
    let xid = match streamed && carries {
        true => Some(buf.u32()?),
        false => None,
    };
    let message = message(tag, &mut buf)?;
    buf.end()?;
    Ok((xid, message))
}

fn message<'a>(tag: u8, buf: &mut Buf<'a>) -> Result<Message<'a>, Malformed> {
    Ok(match tag {
        b'B' => Message::Begin {
            commit: Lsn(buf.u64()?),
            time: buf.i64()?,
            xid: buf.u32()?,
        },
        b'C' => Message::Commit(ended(buf)?),
        b'O' => {
            buf.u64()?;
            buf.cstr()?;
            Message::Origin
        }
        b'R' => Message::Relation(relation(buf)?),
        b'Y' => {
            buf.u32()?;
            buf.cstr()?;
            buf.cstr()?;
            Message::Type
        }
        b'I' => Message::Insert {
            relation: buf.u32()?,
            new: new(buf)?,
        },
        b'U' => {
            let relation = buf.u32()?;
            let old = match buf.0.first() {
                Some(b'K' | b'O') => Some(old(buf)?),
                _ => None,
            };
            Message::Update {
                relation,
                old,
                new: new(buf)?,
            }
        }
        b'D' => Message::Delete {
            relation: buf.u32()?,
            old: old(buf)?,
        },
        b'T' => {
            let count = usize::try_from(buf.u32()?).unwrap_or(usize::MAX);
            buf.u8()?;
            let bytes = count.checked_mul(4).ok_or(super::SHORT)?;
            Message::Truncate {
                relations: Oids(buf.take(bytes)?),
            }
        }
        b'M' => {
            buf.take(1 + 8)?;
            buf.cstr()?;
            let len = usize::try_from(buf.u32()?).unwrap_or(usize::MAX);
            buf.take(len)?;
            Message::Logical
        }
        b'S' => {
            let xid = buf.u32()?;
            buf.u8()?;
            Message::StreamStart { xid }
        }
        b'E' => Message::StreamStop,
        b'c' => Message::StreamCommit {
            xid: buf.u32()?,
            ended: ended(buf)?,
        },
        b'A' => {
            let (xid, subxid) = (buf.u32()?, buf.u32()?);
            if !buf.0.is_empty() {
                // With parallel streaming also where and when.
                buf.take(16)?;
            }
            Message::StreamAbort { xid, subxid }
        }
        b'b' => {
            buf.take(8 + 8 + 8 + 4)?;
            Message::BeginPrepare { gid: buf.text()? }
        }
        b'P' => Message::Prepare {
            gid: prepared(buf)?,
        },
        b'K' => Message::CommitPrepared {
            gid: prepared(buf)?,
        },
        b'p' => Message::StreamPrepare {
            gid: prepared(buf)?,
        },
        b'r' => {
            buf.take(1 + 8 + 8 + 8 + 8 + 4)?;
            Message::RollbackPrepared { gid: buf.text()? }
        }
        _ => {
            return Err(Malformed(
                "a message of the output plugin that is not known",
            ));
        }
    })
}

fn new<'a>(buf: &mut Buf<'a>) -> Result<Tuple<'a>, Malformed> {
    match buf.u8()? {
        b'N' => Tuple::parse(buf),
        _ => Err(Malformed("a row without its new values")),
    }
}

fn old<'a>(buf: &mut Buf<'a>) -> Result<Old<'a>, Malformed> {
    match buf.u8()? {
        b'K' => Ok(Old::Key(Tuple::parse(buf)?)),
        b'O' => Ok(Old::Full(Tuple::parse(buf)?)),
        _ => Err(Malformed("a row without its old values")),
    }
}

fn relation<'a>(buf: &mut Buf<'a>) -> Result<Relation<'a>, Malformed> {
    let id = buf.u32()?;
    let (schema, name) = (buf.text()?, buf.text()?);
    let identity = buf.u8()?;
    let count = buf.u16()?;
    // Not `with_capacity`: the count is not to be trusted before the columns are there.
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(Column {
            key: buf.u8()? & 1 != 0,
            name: buf.text()?,
            ty: buf.u32()?,
            typmod: buf.i32()?,
        });
    }
    Ok(Relation {
        id,
        schema,
        name,
        identity,
        columns,
    })
}
