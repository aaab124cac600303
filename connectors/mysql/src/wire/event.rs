//! Headers and small events. MySQL's GTIDs are in [`super::ids`].
//!
//! <https://mariadb.com/kb/en/2-binlog-event-header/>, <https://mariadb.com/kb/en/gtid_event/>,
//! <https://mariadb.com/kb/en/query_event/>,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/namespacemysql_1_1binlog_1_1event.html>.

use super::{Buf, Malformed};

/// Event types by their number in the log.
pub(crate) mod ty {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const ANNOTATE_ROWS: u8 = 160;
    pub(crate) const MARIA_GTID: u8 = 162;
    pub(crate) const START_ENCRYPTION: u8 = 164;
    pub(crate) const QUERY_COMPRESSED: u8 = 165;
}

/// What a row event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOp {
    Write,
    Update,
    /// Documents may come as differences.
    PartialUpdate,
    Delete,
}

impl RowOp {
    /// Whether rows have two images.
    pub(crate) fn is_update(self) -> bool {
        matches!(self, RowOp::Update | RowOp::PartialUpdate)
    }
}

/// How a row event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) op: RowOp,
    /// Version 2, with extra data.
    pub(crate) v2: bool,
    /// Compressed by MariaDB.
    pub(crate) compressed: bool,
}

/// The form of a row event; `None`: it is none.
pub(crate) fn form(ty: u8) -> Option<Form> {
    let (op, v2, compressed) = match ty {
        23 => (RowOp::Write, false, false),
        24 => (RowOp::Update, false, false),
        25 => (RowOp::Delete, false, false),
        30 => (RowOp::Write, true, false),
        31 => (RowOp::Update, true, false),
        32 => (RowOp::Delete, true, false),
        39 => (RowOp::PartialUpdate, true, false),
        166 => (RowOp::Write, false, true),
        167 => (RowOp::Update, false, true),
        168 => (RowOp::Delete, false, true),
        169 => (RowOp::Write, true, true),
        170 => (RowOp::Update, true, true),
        171 => (RowOp::Delete, true, true),
        _ => return None,
    };
    Some(Form { op, v2, compressed })
}

/// Events that carry no rows: `STOP`, `INTVAR`, `RAND`, `USER_VAR`, `IGNORABLE`, `ROWS_QUERY`,
/// `PREVIOUS_GTIDS`, MariaDB's `ANNOTATE_ROWS`, `BINLOG_CHECKPOINT`, `GTID_LIST`, MySQL's
/// `TRANSACTION_CONTEXT`, `VIEW_CHANGE`; and whatever the server itself marks as no loss.
pub(crate) fn harmless(header: &Header) -> bool {
    header.flags & 0x80 != 0
        || matches!(
            header.ty,
            3 | 5 | 13 | 14 | 28 | 29 | ty::PREVIOUS_GTIDS | 36 | 37 | 160 | 161 | 163
        )
}

/// Events that begin a transaction: they are in no compressed one.
pub(crate) fn begins_group(ty: u8) -> bool {
    matches!(
        ty,
        ty::GTID | ty::ANONYMOUS_GTID | ty::GTID_TAGGED | ty::MARIA_GTID
    )
}

/// Events of a `LOAD DATA` that was logged as a statement: before 5.0, and since.
pub(crate) fn load_data(ty: u8) -> bool {
    matches!(ty, 6 | 8..=12 | 17 | 18)
}

/// MariaDB's `GTID_EVENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MariaGtid {
    pub(crate) seq: u64,
    pub(crate) domain: u32,
    /// One statement that is not followed by a commit.
    pub(crate) standalone: bool,
    /// The group ends in an XA PREPARE.
    pub(crate) prepared: bool,
    /// The beginning of an `ALTER TABLE` whose end is logged too, or the end of one that failed.
    pub(crate) undone: bool,
    /// The XA transaction this group prepares or decides.
    pub(crate) xid: Option<String>,
}

/// Reads `GTID_EVENT`.
pub(crate) fn maria_gtid(body: &[u8]) -> Result<MariaGtid, Malformed> {
    let mut b = Buf(body);
    let (seq, domain, flags) = (b.u64()?, b.u32()?, b.u8()?);
    // Commit id and xid follow each other only where flags say so; a short body is padded at its end.
    b.take(if flags & 2 != 0 { 8 } else { 0 })?;
    let xa = flags & (64 | 128) != 0;
    let xid = xa.then(|| xid(&mut b)).transpose()?;
    // `FL_START_ALTER_E1`, `FL_ROLLBACK_ALTER_E1`; servers before 10.8 pad with zeros.
    let extra = b.u8().unwrap_or(0);
    Ok(MariaGtid {
        seq,
        domain,
        standalone: flags & 1 != 0,
        prepared: flags & 64 != 0,
        undone: extra & (2 | 8) != 0,
        xid,
    })
}

/// `formatID`, lengths, data; as `format.gtrid.bqual` in hexadecimal.
fn xid(b: &mut Buf<'_>) -> Result<String, Malformed> {
    let format = b.u32()?;
    let (g, q) = (usize::from(b.u8()?), usize::from(b.u8()?));
    Ok(xid_text(format, b.take(g)?, b.take(q)?))
}

/// `XA_PREPARE`: whether it is also the commit, and the transaction as [`MariaGtid::xid`] has it.
pub(crate) fn xa_prepare(body: &[u8]) -> Result<(bool, String), Malformed> {
    let mut b = Buf(body);
    let one_phase = b.u8()? != 0;
    let format = b.u32()?;
    let mut part = || usize::try_from(b.u32()?).map_err(|_| super::SHORT);
    let (g, q) = (part()?, part()?);
    Ok((one_phase, xid_text(format, b.take(g)?, b.take(q)?)))
}

/// `format.gtrid.bqual` in hexadecimal.
pub(crate) fn xid_text(format: u32, gtrid: &[u8], bqual: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("{format}.{}.{}", hex(gtrid), hex(bqual))
}

/// File and offset of a `HEARTBEAT` of the second version: fields of type, length and value.
pub(crate) fn heartbeat_v2(body: &[u8]) -> Result<(String, u64), Malformed> {
    let mut b = Buf(body);
    let (mut file, mut pos) = (String::new(), 0);
    loop {
        let field = b.lenenc()?;
        if field == 0 {
            return Ok((file, pos));
        }
        let len = b.lenenc()?;
        let mut value = Buf(b.take(len)?);
        match field {
            1 => file = String::from_utf8_lossy(value.0).into_owned(),
            2 => pos = value.lenenc()? as u64,
            _ => {}
        }
    }
}

/// Default database and statement of a `QUERY` event.
pub(crate) fn query(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut b = Buf(body);
    b.take(8)?;
    let db = usize::from(b.u8()?);
    b.take(2)?;
    let status = usize::from(b.u16()?);
    b.take(status)?;
    let db = b.take(db)?;
    b.take(1)?;
    Ok((db, b.0))
}

/// Whether the session of a statement's body had `sql_mode` strict, so that no value was changed to fit; if it
/// is not told, it had not.
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Query__event.html>
pub(crate) fn strict(body: &[u8]) -> bool {
    /// Bytes in front of the status variables.
    const HEAD: usize = 13;
    /// `STRICT_TRANS_TABLES` and `STRICT_ALL_TABLES`.
    const STRICT: u64 = 3 << 21;
    let mut b = Buf(body.get(HEAD..).unwrap_or_default());
    // `Q_FLAGS2_CODE` with four bytes comes first.
    if b.0.first() == Some(&0) {
        b = Buf(b.0.get(5..).unwrap_or_default());
    }
    b.u8() == Ok(1) && b.u64().is_ok_and(|mode| mode & STRICT != 0)
}

/// What stands before every event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) timestamp: u32,
    pub(crate) ty: u8,
    pub(crate) server_id: u32,
    pub(crate) size: u32,
    pub(crate) log_pos: u32,
    pub(crate) flags: u16,
}

impl Header {
    /// Reads a header and gives it with the bytes of its event's body.
    pub(crate) fn parse(bytes: &[u8; 19]) -> Result<(Header, usize), Malformed> {
        let mut b = Buf(bytes);
        let header = Header {
            timestamp: b.u32()?,
            ty: b.u8()?,
            server_id: b.u32()?,
            size: b.u32()?,
            log_pos: b.u32()?,
            flags: b.u16()?,
        };
        let size = usize::try_from(header.size).map_err(|_| super::SHORT)?;
        let body = size.checked_sub(19).ok_or(Malformed("event size"))?;
        Ok((header, body))
    }

    /// The checksum the event should carry.
    pub(crate) fn crc(&self, body: &[u8]) -> u32 {
        let mut flags = self.flags;
        if self.ty == ty::FORMAT_DESCRIPTION {
            // Computed before the file was marked as in use.
            flags &= !1;
        }
        let mut h = crc32fast::Hasher::new();
        h.update(&self.timestamp.to_le_bytes());
        h.update(&[self.ty]);
        h.update(&self.server_id.to_le_bytes());
        h.update(&self.size.to_le_bytes());
        h.update(&self.log_pos.to_le_bytes());
        h.update(&flags.to_le_bytes());
        h.update(body);
        h.finalize()
    }

    /// Whether the server made it up for this connection (`LOG_EVENT_ARTIFICIAL_F`).
    pub(crate) fn artificial(&self) -> bool {
        self.flags & 0x20 != 0
    }
}

/// Offset and file of a `ROTATE` event, or file of a heartbeat when `offset` is false.
pub(crate) fn rotate(header: &Header, body: &[u8]) -> Result<(u64, String), Malformed> {
    let mut b = Buf(body);
    let pos = b.u64()?;
    Ok((pos, file_name(header, body, b.0)))
}

/// The name that ends a body; a checksum the driver left at the end is taken off. (The first,
/// made-up events of a dump come before the driver knows that there are checksums.)
pub(crate) fn file_name(header: &Header, body: &[u8], name: &[u8]) -> String {
    let mut name = name;
    if let (Some((rest, sum)), Some((short, _))) =
        (body.split_last_chunk::<4>(), name.split_last_chunk::<4>())
        && u32::from_le_bytes(*sum) == header.crc(rest)
    {
        name = short;
    }
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gtid_with_and_without_xid_and_commit_id() {
        let body = |flags: u8, rest: &[u8]| {
            let mut out = vec![7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, flags];
            out.extend_from_slice(rest);
            maria_gtid(&out)
        };
        let xid = [1, 0, 0, 0, 2, 1, b'a', b'b', b'c'];
        let found = body(64, &xid).unwrap();
        assert_eq!((found.seq, found.domain, found.prepared), (7, 3, true));
        assert_eq!(found.xid.as_deref(), Some("1.6162.63"));
        let with_commit_id = [&[9; 8][..], &xid].concat();
        let found = body(128 | 2, &with_commit_id).unwrap();
        assert_eq!(
            (found.prepared, found.xid.as_deref()),
            (false, Some("1.6162.63"))
        );
        assert_eq!(body(1, &[0; 6]).unwrap().xid, None);
        assert!(body(64, &xid[..8]).is_err());
    }

    #[test]
    fn a_statement_tells_whether_its_session_was_strict() {
        let check = |status: &[u8], want: bool| {
            let body = [&[0; 13][..], status].concat();
            assert_eq!(strict(&body), want, "{status:?}");
        };
        let mode = |mode: u64| [&[1][..], &mode.to_le_bytes()].concat();
        let flags = [0, 0, 0, 0, 0];
        check(&mode(1 << 21), true);
        check(&[&flags[..], &mode(1 << 22 | 5)].concat(), true);
        check(&[&flags[..], &mode(1 << 20 | 1 << 23)].concat(), false);
        check(&mode(1 << 21)[..8], false);
        check(&flags[..3], false);
        check(&[], false);
        assert!(!strict(&[]));
    }

    #[test]
    fn an_xa_prepare_names_its_transaction() {
        let body = [&[0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(xa_prepare(&body).unwrap(), (false, "1.6162.63".into()));
        assert!(xa_prepare(&body[..15]).is_err());
    }

    #[test]
    fn a_heartbeat_of_the_second_version_has_a_long_offset() {
        let body = [
            &[1, 3][..],
            b"b.1",
            &[2, 9, 254],
            &u64::MAX.to_le_bytes()[..],
            &[0],
        ]
        .concat();
        let want = ("b.1".to_owned(), u64::MAX);
        assert_eq!(heartbeat_v2(&body).unwrap(), want);
        assert!(heartbeat_v2(&body[..5]).is_err());
    }
}
