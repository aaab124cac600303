//! Writes binlog files of MySQL and MariaDB, event by event: what no server here can be made to log.
//!
//! The forms are those of the manuals:
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/namespacemysql_1_1binlog_1_1event.html>,
//! <https://mariadb.com/kb/en/replication-protocol/>. Nothing here is shared with a decoder.

pub mod logs;

use std::io::Write as _;

use serde_json::Value;

/// A file being written.
#[derive(Clone, Debug)]
pub struct Binlog {
    bytes: Vec<u8>,
    checksums: bool,
    /// Where the file's offsets begin: events of a compressed transaction have none.
    inner: bool,
}

/// What a row event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Rows that come.
    Write,
    /// Rows that change.
    Update,
    /// Rows that change, documents by their differences.
    PartialUpdate,
    /// Rows that go.
    Delete,
}

/// How a row event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// MariaDB, and MySQL before 5.6.
    V1,
    /// MySQL.
    V2,
    /// MariaDB with `log_bin_compress`.
    Compressed,
}

/// A column of a table map.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type by its number.
    pub ty: u8,
    /// What belongs to the type.
    pub meta: Vec<u8>,
    /// Whether a number is unsigned; `None`: it is no number.
    pub unsigned: Option<bool>,
    /// The collation of a text; `None`: it is no text.
    pub collation: Option<u16>,
}

impl Column {
    /// `INT`.
    pub fn int(name: &'static str) -> Column {
        Column {
            name,
            ty: 3,
            meta: Vec::new(),
            unsigned: Some(false),
            collation: None,
        }
    }

    /// `TEXT` in utf8mb4.
    pub fn text(name: &'static str) -> Column {
        Column {
            ty: 252,
            meta: vec![2],
            unsigned: None,
            collation: Some(255),
            ..Column::int(name)
        }
    }

    /// MySQL's `JSON`.
    pub fn json(name: &'static str) -> Column {
        Column {
            ty: 245,
            meta: vec![4],
            unsigned: None,
            ..Column::int(name)
        }
    }

    /// A column of any type that is neither a number nor text.
    pub fn other(name: &'static str, ty: u8, meta: &[u8]) -> Column {
        Column {
            ty,
            meta: meta.to_vec(),
            unsigned: None,
            ..Column::int(name)
        }
    }
}

/// The value of an `INT`.
pub fn int(value: i32) -> Option<Vec<u8>> {
    Some(value.to_le_bytes().to_vec())
}

/// The value of a `TEXT`.
pub fn text(value: &str) -> Option<Vec<u8>> {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    Some([&len.to_le_bytes()[..], value.as_bytes()].concat())
}

/// The value of a `JSON`.
pub fn json(value: &Value) -> Option<Vec<u8>> {
    let document = document(value);
    let len = u32::try_from(document.len()).unwrap_or(u32::MAX);
    Some([&len.to_le_bytes()[..], &document].concat())
}

/// The value of a `JSON` as changes: an operation (0 replaces, 1 inserts, 2 removes), a path, a value.
pub fn changes(list: &[(u8, &str, Option<Value>)]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (operation, path, value) in list {
        out.push(*operation);
        lenenc(&mut out, path.len());
        out.extend_from_slice(path.as_bytes());
        if let Some(value) = value {
            let document = document(value);
            lenenc(&mut out, document.len());
            out.extend_from_slice(&document);
        }
    }
    let len = u32::try_from(out.len()).unwrap_or(u32::MAX);
    Some([&len.to_le_bytes()[..], &out].concat())
}

/// A document in MySQL's binary form.
pub fn document(value: &Value) -> Vec<u8> {
    let small = part(value, false);
    match small.1.len() < 60_000 {
        true => [&[small.0][..], &small.1].concat(),
        false => {
            let large = part(value, true);
            [&[large.0][..], &large.1].concat()
        }
    }
}

/// Type and bytes of a value; containers with offsets of two or four bytes.
fn part(value: &Value, large: bool) -> (u8, Vec<u8>) {
    match value {
        Value::Null => (4, vec![0]),
        Value::Bool(true) => (4, vec![1]),
        Value::Bool(false) => (4, vec![2]),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => match (i16::try_from(n), i32::try_from(n)) {
                (Ok(n), _) => (5, n.to_le_bytes().to_vec()),
                (_, Ok(n)) => (7, n.to_le_bytes().to_vec()),
                _ => (9, n.to_le_bytes().to_vec()),
            },
            (_, Some(n), _) => (10, n.to_le_bytes().to_vec()),
            (_, _, f) => (11, f.unwrap_or_default().to_le_bytes().to_vec()),
        },
        Value::String(text) => {
            let mut out = Vec::new();
            let mut len = text.len();
            while len > 0x7F {
                out.push(low(len) | 0x80);
                len >>= 7;
            }
            out.push(low(len));
            out.extend_from_slice(text.as_bytes());
            (12, out)
        }
        Value::Array(list) => {
            let members: Vec<_> = list.iter().map(|value| (None, value)).collect();
            (if large { 3 } else { 2 }, container(&members, large))
        }
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().map(|(k, v)| (Some(k.as_str()), v)).collect();
            members.sort_by_key(|(key, _)| key.map(|key| (key.len(), key.to_owned())));
            (u8::from(large), container(&members, large))
        }
    }
}

fn low(n: usize) -> u8 {
    u8::try_from(n & 0x7F).unwrap_or_default()
}

fn container(members: &[(Option<&str>, &Value)], large: bool) -> Vec<u8> {
    let width = if large { 4 } else { 2 };
    let put = |out: &mut Vec<u8>, n: usize| {
        out.extend(n.to_le_bytes().iter().take(width));
    };
    let keys = members.iter().filter(|(key, _)| key.is_some()).count();
    let head = 2 * width + keys * (width + 2) + members.len() * (1 + width);
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (key, _) in members {
        let Some(key) = key else { continue };
        put(&mut entries, head + data.len());
        entries.extend(key.len().to_le_bytes().iter().take(2));
        data.extend_from_slice(key.as_bytes());
    }
    for (_, value) in members {
        let (ty, bytes) = part(value, large);
        entries.push(ty);
        let inline = matches!(ty, 4..=6) || large && matches!(ty, 7 | 8);
        if inline {
            entries.extend(bytes.iter().copied().chain([0; 4]).take(width));
        } else {
            put(&mut entries, head + data.len());
            data.extend_from_slice(&bytes);
        }
    }
    let mut out = Vec::new();
    put(&mut out, members.len());
    put(&mut out, head + data.len());
    out.extend(entries);
    out.extend(data);
    out
}

fn lenenc(out: &mut Vec<u8>, n: usize) {
    match n {
        0..=250 => out.extend(n.to_le_bytes().iter().take(1)),
        251..=0xFFFF => {
            out.push(252);
            out.extend(n.to_le_bytes().iter().take(2));
        }
        _ => {
            out.push(253);
            out.extend(n.to_le_bytes().iter().take(3));
        }
    }
}

/// A field of MySQL's payloads and heartbeats.
fn field(out: &mut Vec<u8>, ty: usize, value: &[u8]) {
    lenenc(out, ty);
    lenenc(out, value.len());
    out.extend_from_slice(value);
}

fn number(n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    lenenc(&mut out, n);
    out
}

/// An unsigned number of MySQL's serialisation library, in its widest form.
fn varying(out: &mut Vec<u8>, n: u64) {
    if n < 0x80 {
        out.push(u8::try_from(n << 1).unwrap_or_default());
    } else {
        out.push(0xFF);
        out.extend_from_slice(&n.to_le_bytes());
    }
}

impl Binlog {
    /// A file with its first event; `checksums`: behind every event.
    pub fn new(version: &str, checksums: bool) -> Binlog {
        let mut log = Binlog {
            bytes: vec![0xFE, b'b', b'i', b'n'],
            checksums,
            inner: false,
        };
        let mut body = vec![4, 0];
        body.extend(version.bytes().chain([0; 50]).take(50));
        body.extend([0, 0, 0, 0, 19]);
        body.extend([0; 42]);
        // The algorithm stands before the sum, which is there in any case.
        body.push(u8::from(checksums));
        if !checksums {
            body.extend([0; 4]);
        }
        log.event(15, 0, &body);
        log
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Any event.
    pub fn event(&mut self, ty: u8, flags: u16, body: &[u8]) {
        let sum = if self.checksums { 4 } else { 0 };
        let size = u32::try_from(19 + body.len() + sum).unwrap_or(u32::MAX);
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX) + size;
        let mut event = Vec::new();
        event.extend(1_700_000_000_u32.to_le_bytes());
        event.push(ty);
        event.extend(1_u32.to_le_bytes());
        event.extend(size.to_le_bytes());
        event.extend(if self.inner { 0 } else { end }.to_le_bytes());
        event.extend(flags.to_le_bytes());
        event.extend_from_slice(body);
        if self.checksums {
            event.extend(crc32(&event).to_le_bytes());
        }
        self.bytes.extend(event);
    }

    /// `QUERY`.
    pub fn query(&mut self, db: &str, sql: &str) {
        self.event(2, 0, &query(db, sql.as_bytes()));
    }

    /// MariaDB's compressed `QUERY`.
    pub fn query_compressed(&mut self, db: &str, sql: &str) {
        self.event(165, 0, &query(db, &deflate(sql.as_bytes())));
    }

    /// `XID`.
    pub fn xid(&mut self) {
        self.event(16, 0, &7_u64.to_le_bytes());
    }

    /// `GTID`, with the clock and the time of 8.0.
    pub fn gtid(&mut self, server: [u8; 16], number: u64) {
        self.event(33, 0, &gtid(server, number));
    }

    /// `ANONYMOUS_GTID`.
    pub fn anonymous(&mut self) {
        self.event(34, 0, &gtid([0; 16], 0));
    }

    /// `GTID_TAGGED_LOG_EVENT`.
    pub fn tagged(&mut self, server: [u8; 16], tag: &str, number: u64) {
        let mut fields = vec![0, 2, 2];
        for byte in server {
            varying(&mut fields, u64::from(byte));
        }
        fields.push(4);
        varying(&mut fields, number << 1);
        fields.push(6);
        varying(&mut fields, tag.len() as u64);
        fields.extend_from_slice(tag.as_bytes());
        for (id, value) in [
            (4, 2),
            (5, 4),
            (6, 1_700_000_000_000_000),
            (8, 99),
            (9, 80_400),
        ] {
            varying(&mut fields, id);
            varying(&mut fields, value);
        }
        let mut body = vec![2];
        let size = fields.len() + 3;
        varying(&mut body, u64::try_from(size).unwrap_or(u64::MAX));
        if body.len() > 2 {
            // The size is nine octets and counts itself.
            body.truncate(1);
            varying(&mut body, u64::try_from(size + 8).unwrap_or(u64::MAX));
        }
        varying(&mut body, 9);
        body.extend(fields);
        self.event(42, 0, &body);
    }

    /// `PREVIOUS_GTIDS`: server, tag, first number, number after the last; `tags`: in their form.
    pub fn previous_gtids(&mut self, sets: &[([u8; 16], &str, u64, u64)], tags: bool) {
        let count = sets.len() as u64;
        let mut body = if tags {
            (1 << 56 | count << 8 | 1).to_le_bytes().to_vec()
        } else {
            count.to_le_bytes().to_vec()
        };
        for (server, tag, from, to) in sets {
            body.extend(server);
            if tags {
                varying(&mut body, tag.len() as u64);
                body.extend_from_slice(tag.as_bytes());
            }
            for n in [1, *from, *to] {
                body.extend(n.to_le_bytes());
            }
        }
        self.event(35, 0, &body);
    }

    /// MariaDB's `GTID`: flags 1 standalone, 2 group commit, 64 prepared XA, 128 completed XA.
    pub fn maria_gtid(&mut self, domain: u32, number: u64, flags: u8, xid: Option<&[u8]>) {
        let mut body = number.to_le_bytes().to_vec();
        body.extend(domain.to_le_bytes());
        body.push(flags);
        if let Some(xid) = xid {
            body.extend(1_u32.to_le_bytes());
            body.extend([u8::try_from(xid.len()).unwrap_or_default(), 0]);
            body.extend_from_slice(xid);
        }
        body.resize(body.len().max(19), 0);
        self.event(162, 0, &body);
    }

    /// `XA_PREPARE`.
    pub fn xa_prepare(&mut self, xid: &[u8], one_phase: bool) {
        let mut body = vec![u8::from(one_phase)];
        body.extend(1_u32.to_le_bytes());
        body.extend(u32::try_from(xid.len()).unwrap_or(u32::MAX).to_le_bytes());
        body.extend(0_u32.to_le_bytes());
        body.extend_from_slice(xid);
        self.event(38, 0, &body);
    }

    /// `TABLE_MAP` of table number `id`; `full`: with names, signs, collations and the key.
    pub fn table_map(&mut self, id: u8, db: &str, table: &str, columns: &[Column], full: bool) {
        let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0];
        for name in [db, table] {
            body.push(u8::try_from(name.len()).unwrap_or_default());
            body.extend_from_slice(name.as_bytes());
            body.push(0);
        }
        lenenc(&mut body, columns.len());
        body.extend(columns.iter().map(|c| c.ty));
        let meta: Vec<u8> = columns.iter().flat_map(|c| c.meta.clone()).collect();
        lenenc(&mut body, meta.len());
        body.extend(meta);
        body.extend(vec![0xFF; columns.len().div_ceil(8)]);
        let signs: Vec<bool> = columns.iter().filter_map(|c| c.unsigned).collect();
        let mut bits = vec![0; signs.len().div_ceil(8)];
        for (i, unsigned) in signs.iter().enumerate() {
            if let Some(byte) = bits.get_mut(i / 8) {
                *byte |= u8::from(*unsigned) << (7 - i % 8);
            }
        }
        field(&mut body, 1, &bits);
        let mut collations = Vec::new();
        for collation in columns.iter().filter_map(|c| c.collation) {
            lenenc(&mut collations, usize::from(collation));
        }
        field(&mut body, 3, &collations);
        if full {
            let mut names = Vec::new();
            for column in columns {
                lenenc(&mut names, column.name.len());
                names.extend_from_slice(column.name.as_bytes());
            }
            field(&mut body, 4, &names);
            field(&mut body, 8, &[0]);
        }
        self.event(19, 0, &body);
    }

    /// A row event of table number `id`. `before` and `after` say which columns the images have; each
    /// row has one value for each of these, first those before, then those after. `None` is NULL.
    pub fn rows(
        &mut self,
        what: Rows,
        form: Form,
        id: u8,
        before: &[bool],
        after: &[bool],
        rows: &[Vec<Option<Vec<u8>>>],
    ) {
        let data: Vec<u8> = rows
            .iter()
            .flat_map(|row| images(what, before, row, None))
            .collect();
        self.row_event(what, form, id, before, after, &data);
    }

    /// `PARTIAL_UPDATE_ROWS` of one row: `differs` says for each column of JSON whether its value comes
    /// as [`changes`].
    pub fn partial_update(
        &mut self,
        id: u8,
        before: &[bool],
        after: &[bool],
        differs: &[bool],
        row: &[Option<Vec<u8>>],
    ) {
        let data = images(Rows::PartialUpdate, before, row, Some(differs));
        self.row_event(Rows::PartialUpdate, Form::V2, id, before, after, &data);
    }

    fn row_event(
        &mut self,
        what: Rows,
        form: Form,
        id: u8,
        before: &[bool],
        after: &[bool],
        data: &[u8],
    ) {
        let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0];
        if form == Form::V2 {
            body.extend([2, 0]);
        }
        lenenc(&mut body, before.len().max(after.len()));
        if what != Rows::Write {
            body.extend(bitmap(before));
        }
        if what != Rows::Delete {
            body.extend(bitmap(after));
        }
        match form {
            Form::Compressed => body.extend(deflate(data)),
            _ => body.extend_from_slice(data),
        }
        let ty = match (what, form) {
            (Rows::Write, Form::V1) => 23,
            (Rows::Update, Form::V1) => 24,
            (Rows::Delete, Form::V1) => 25,
            (Rows::Write, Form::V2) => 30,
            (Rows::Update, Form::V2) => 31,
            (Rows::Delete, Form::V2) => 32,
            (Rows::Write, Form::Compressed) => 166,
            (Rows::Update, Form::Compressed) => 167,
            (Rows::Delete, Form::Compressed) => 168,
            (Rows::PartialUpdate, _) => 39,
        };
        self.event(ty, 0, &body);
    }

    /// `TRANSACTION_PAYLOAD` with the events that `fill` writes; `zstd`: compressed.
    pub fn payload(&mut self, zstd: bool, fill: impl FnOnce(&mut Binlog)) {
        let mut inner = Binlog {
            bytes: Vec::new(),
            checksums: false,
            inner: true,
        };
        fill(&mut inner);
        let plain = inner.bytes;
        let packed = if zstd {
            zstd::encode_all(plain.as_slice(), 3).unwrap_or_default()
        } else {
            plain.clone()
        };
        let mut body = Vec::new();
        field(&mut body, 2, &number(if zstd { 0 } else { 255 }));
        field(&mut body, 3, &number(plain.len()));
        field(&mut body, 1, &number(packed.len()));
        body.push(0);
        body.extend(packed);
        self.event(40, 0, &body);
    }

    /// `ROTATE` to another file.
    pub fn rotate(&mut self, file: &str, pos: u64) {
        let mut body = pos.to_le_bytes().to_vec();
        body.extend_from_slice(file.as_bytes());
        self.event(4, 0, &body);
    }

    /// `HEARTBEAT` of the second version.
    pub fn heartbeat_v2(&mut self, file: &str, pos: usize) {
        let mut body = Vec::new();
        field(&mut body, 1, file.as_bytes());
        field(&mut body, 2, &number(pos));
        body.push(0);
        self.event(41, 0, &body);
    }
}

fn gtid(server: [u8; 16], number: u64) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(server);
    body.extend(number.to_le_bytes());
    body.push(2);
    body.extend([0; 16]);
    let time: u64 = 1_700_000_000_123_456;
    body.extend(time.to_le_bytes().iter().take(7));
    body.push(99);
    body.extend(80_036_u32.to_le_bytes());
    body
}

fn query(db: &str, sql: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(u8::try_from(db.len()).unwrap_or_default());
    body.extend([0; 4]);
    body.extend_from_slice(db.as_bytes());
    body.push(0);
    body.extend_from_slice(sql);
    body
}

fn bitmap(bits: &[bool]) -> Vec<u8> {
    let mut out = vec![0_u8; bits.len().div_ceil(8)];
    for (i, bit) in bits.iter().enumerate() {
        if let Some(byte) = out.get_mut(i / 8) {
            *byte |= u8::from(*bit) << (i % 8);
        }
    }
    out
}

fn images(
    what: Rows,
    before: &[bool],
    row: &[Option<Vec<u8>>],
    differs: Option<&[bool]>,
) -> Vec<u8> {
    let count = |bits: &[bool]| bits.iter().filter(|b| **b).count();
    let first = if what == Rows::Write {
        0
    } else {
        count(before)
    };
    let (before, after) = row.split_at(first.min(row.len()));
    let mut out = Vec::new();
    let image = |out: &mut Vec<u8>, values: &[Option<Vec<u8>>]| {
        let nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
        out.extend(bitmap(&nulls));
        out.extend(values.iter().flatten().flatten());
    };
    if what != Rows::Write {
        image(&mut out, before);
    }
    if what != Rows::Delete {
        if let Some(differs) = differs {
            out.push(1);
            out.extend(bitmap(differs));
        }
        image(&mut out, after);
    }
    out
}

/// MariaDB's compressed form: how the length is written, the length, zlib.
fn deflate(plain: &[u8]) -> Vec<u8> {
    let len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    let mut out = vec![0x84];
    out.extend(len.to_be_bytes());
    let mut encoder = flate2::write::ZlibEncoder::new(out, flate2::Compression::default());
    let written = encoder.write_all(plain);
    debug_assert!(written.is_ok(), "a vector takes everything");
    encoder.finish().unwrap_or_default()
}

/// CRC-32 as binlogs have it (ISO-HDLC).
fn crc32(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.finalize()
}
