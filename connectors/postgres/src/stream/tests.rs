//! Transactions in progress, from a live server; and messages that no server sends.

use std::time::{Duration, Instant};

use thalweg_core::change::{ChangeKind, Transaction};
use thalweg_core::ports::{DataSourceConfig, StreamLimits};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_core::secret::Secret;
use thalweg_core::value::RowBatch;
use thalweg_testkit::servers::{Postgres, PostgresOptions};

use super::assembly::Assembly;
use super::relation::Known;
use super::{FLOOD, Pace};
use crate::config::connect_source;
use crate::position::Place;
use crate::schema::{Attribute, Keys};
use crate::wire::cells::{Codec, Form, Reader};
use crate::wire::frame::{self, Refusal};
use crate::wire::replication::Incoming;
use crate::wire::{Buf, copy, pgoutput, replication};

const LIMITS: StreamLimits = StreamLimits {
    part_bytes: 1 << 20,
    row_bytes_max: 1 << 20,
};

/// The changes of whole transactions as text.
fn told(transactions: &[Transaction]) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    let mut open = false;
    for transaction in transactions {
        let rows = &transaction.changes.rows;
        let line = |index: Option<usize>| {
            index.map(|index| {
                rows.row(index)
                    .cells()
                    .map(|c| format!("{c:?}"))
                    .collect::<String>()
            })
        };
        let changes = transaction.changes.changes.iter();
        let changes =
            changes.map(|c| format!("{:?} {:?} {:?}", c.kind, line(c.before), line(c.after)));
        if !open {
            out.push((transaction.id.to_string(), Vec::new()));
        }
        out.last_mut().unwrap().1.extend(changes);
        open = transaction.commit.is_none();
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_rolled_back_in_a_transaction_in_progress_is_dropped() {
    let server = Postgres::start(PostgresOptions {
        config: vec!["logical_decoding_work_mem = 64kB".into()],
        ..PostgresOptions::default()
    })
    .unwrap();
    server
        .sql(
            "CREATE TABLE a (id int PRIMARY KEY, t text); CREATE PUBLICATION p FOR TABLE a;
             SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
        )
        .unwrap();
    let config = DataSourceConfig {
        host: server.host().into(),
        port: server.port(),
        database: "postgres".into(),
        user: server.user().into(),
        password: Secret::new(server.password()),
        tls: Default::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/test".into(),
        networks: std::sync::Arc::default(),
    };
    let (one, two) = (
        connect_source(&config).await.unwrap(),
        connect_source(&config).await.unwrap(),
    );
    let fill = |from: u32| {
        format!(
            "INSERT INTO public.a SELECT i, repeat('x', 100) FROM generate_series({from}, {}) i;",
            from + 999
        )
    };
    // Two large transactions, each in several stretches; one is rolled back in part, a third whole.
    for (client, sql) in [
        (&one, format!("BEGIN; {}", fill(0))),
        (&two, format!("BEGIN; {}", fill(10_000))),
        (
            &one,
            format!(
                "SAVEPOINT s; {} SAVEPOINT t; {}",
                fill(20_000),
                fill(30_000)
            ),
        ),
        (&two, "UPDATE public.a SET t = 'y' WHERE id = 10000;".into()),
        (&one, format!("RELEASE t; ROLLBACK TO s; {}", fill(40_000))),
        (
            &two,
            format!(
                "DELETE FROM public.a WHERE id = 10001; {} COMMIT",
                fill(50_000)
            ),
        ),
        (&two, format!("BEGIN; {} ROLLBACK", fill(60_000))),
        (&one, "COMMIT".into()),
    ] {
        client.client.batch_execute(&sql).await.unwrap();
    }
    let oid = crate::slot::oid(&one.client, &TableName::new("public", "a"))
        .await
        .unwrap();
    let attributes = crate::schema::attributes(&one.client, &[oid]).await;
    let attributes = attributes.unwrap().remove(&oid).unwrap();
    let names = [TableName::new("public", "a")];
    let described = crate::schema::describe(&one.client, &names, Keys::All).await;
    let table = described.unwrap().remove(0);
    let (version, _) = crate::source::version(&one.client).await.unwrap();
    let streams = version >= 140_000;
    let mut seen = Vec::new();
    let mut aborted = 0;
    for options in [
        "'proto_version', '1'",
        "'proto_version', '2', 'streaming', 'on'",
        "'proto_version', '2', 'streaming', 'on', 'binary', 'true'",
    ] {
        if !streams && options.contains("streaming") {
            continue;
        }
        let sql = format!(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, \
             'publication_names', 'p', {options})"
        );
        let rows = one.client.query(&sql, &[]).await.unwrap();
        let known = Known::new(&table, oid, &attributes).unwrap();
        let mut assembly = Assembly::new(
            vec![known],
            replication::Lsn::default(),
            Place::default(),
            LIMITS,
        );
        let mut out = Vec::new();
        for row in &rows {
            let message: &[u8] = row.get(0);
            if let Ok((_, pgoutput::Message::StreamAbort { xid, subxid })) =
                pgoutput::parse(message, false)
                && xid != subxid
            {
                aborted += 1;
            }
            assembly.take(message).unwrap();
            out.extend(std::iter::from_fn(|| assembly.ready()));
        }
        assert!(assembly.held_bytes() < 1 << 20, "a rolled back one is kept");
        seen.push(told(&out));
    }
    assert!(
        aborted > 1 || !streams,
        "no savepoint was rolled back in what was streamed"
    );
    assert_eq!(seen[0].len(), 2);
    assert_eq!(seen[0][0].1.len(), 2_002);
    assert_eq!(seen[0][1].1.len(), 2_000);
    assert_eq!(seen.len(), if streams { 3 } else { 1 });
    assert!(seen.iter().all(|told| *told == seen[0]));
}

/// Columns of the tables that messages are made for: all codecs but `numeric`, whose ten bytes may
/// stand for a hundred thousand digits; it has a test of its own.
const CODECS: [Codec; 20] = [
    Codec::Bool,
    Codec::Int2,
    Codec::Int4,
    Codec::Int8,
    Codec::Oid,
    Codec::Float4,
    Codec::Float8,
    Codec::Text,
    Codec::Padded,
    Codec::Json,
    Codec::Jsonb,
    Codec::Bytea,
    Codec::Date,
    Codec::Time,
    Codec::Timestamp,
    Codec::Timestamptz,
    Codec::Interval,
    Codec::Uuid,
    Codec::Bits,
    Codec::Other,
];
/// Values of theirs: binary, and text.
const VALUES: [(&[u8], &str); 20] = [
    (b"\x01", "t"),
    (b"\x01\x02", "-32768"),
    (b"\x01\x02\x03\x04", "2147483647"),
    (b"\x01\x02\x03\x04\x05\x06\x07\x08", "-9223372036854775808"),
    (b"\x01\x02\x03\x04", "4294967295"),
    (b"\x7f\xc0\0\0", "1e-45"),
    (b"\x7f\xf8\0\0\0\0\0\0", "-Infinity"),
    ("žx".as_bytes(), "text"),
    (b"ab   ", "ab   "),
    (b"{\"a\": 1}", "[]"),
    (b"\x01{\"a\": 1}", "{}"),
    (b"\0\xff", "\\x00ff"),
    (b"\0\0\x01\0", "0044-03-15 BC"),
    (b"\0\0\0\x14\x1d\xd7\x5f\xff", "23:59:59.999999"),
    (b"\0\0\0\x14\x1d\xd7\x5f\xff", "2024-02-29 12:34:56.789"),
    (b"\0\0\0\x14\x1d\xd7\x5f\xff", "2024-02-29 12:34:56.789+00"),
    (
        b"\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03",
        "1 year -2 mons +3 days 04:05:06.7",
    ),
    (b"0123456789abcdef", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    (b"\0\0\0\x09\xff\x80", "101010101"),
    (b"{1}", "{1,2}"),
];

/// What messages call their table.
const TABLE: u32 = 5;

fn table() -> (TableSchema, Vec<Attribute>) {
    let columns = CODECS.iter().enumerate().map(|(i, codec)| Attribute {
        number: i16::try_from(i).unwrap(),
        ty: 25,
        typmod: -1,
        codec: *codec,
        column: ColumnSchema::new(format!("c{i}"), ColumnType::Bool, "x"),
    });
    let attributes: Vec<_> = columns.collect();
    let columns = attributes.iter().map(|a| a.column.clone()).collect();
    let mut schema = TableSchema::new(TableName::new("s", "t"), columns);
    schema.old_image = Some(vec![0]);
    (schema, attributes)
}

fn tuple(mut kind: impl FnMut(usize) -> u8, out: &mut Vec<u8>) {
    out.extend(20u16.to_be_bytes());
    for (i, (binary, text)) in VALUES.iter().enumerate() {
        let kind = kind(i);
        let value = match kind {
            b't' => text.as_bytes(),
            b'b' if CODECS[i].binary() => binary,
            b'b' => {
                out.push(b't');
                out.extend(0u32.to_be_bytes());
                continue;
            }
            _ => {
                out.push(kind);
                continue;
            }
        };
        out.push(kind);
        out.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        out.extend(value);
    }
}

/// One message of every kind, with xids where a stretch has them.
fn messages(streamed: bool) -> Vec<Vec<u8>> {
    let xid = 7u32.to_be_bytes();
    let carried = |tag: u8| {
        let mut out = vec![tag];
        if streamed {
            out.extend(xid);
        }
        out
    };
    let ended = [&[0; 17], 9u64.to_be_bytes().as_slice()].concat();
    let mut relation = carried(b'R');
    relation.extend(TABLE.to_be_bytes());
    relation.extend(b"s\0t\0d");
    relation.extend(20u16.to_be_bytes());
    for i in 0..20 {
        relation.push(u8::from(i == 0));
        relation.extend(format!("c{i}\0").as_bytes());
        relation.extend(25u32.to_be_bytes());
        relation.extend((-1i32).to_be_bytes());
    }
    let row = |tag: u8, images: &[u8]| {
        let mut out = carried(tag);
        out.extend(5u32.to_be_bytes());
        for (n, image) in images.iter().enumerate() {
            out.push(*image);
            let kinds = [b'b', b't', b'n'];
            tuple(|i| kinds[(i / 7 + n) % 3], &mut out);
        }
        out
    };
    let mut unchanged = carried(b'U');
    unchanged.extend(5u32.to_be_bytes());
    unchanged.push(b'N');
    tuple(|i| if i == 0 { b'b' } else { b'u' }, &mut unchanged);
    let truncate = [
        carried(b'T').as_slice(),
        &[0, 0, 0, 1, 0],
        &5u32.to_be_bytes(),
    ]
    .concat();
    let ty = [carried(b'Y').as_slice(), &[0, 0, 0, 1], b"n\0t\0"].concat();
    let logical = [
        carried(b'M').as_slice(),
        &[0; 9],
        b"p\0",
        &[0, 0, 0, 2, 1, 2],
    ]
    .concat();
    let mut all = vec![
        relation,
        ty,
        row(b'I', b"N"),
        row(b'U', b"KN"),
        row(b'U', b"ON"),
        unchanged,
    ];
    all.extend([row(b'D', b"K"), row(b'D', b"O"), truncate, logical]);
    if streamed {
        all.insert(0, [b"S".as_slice(), &xid, &[1]].concat());
        all.push(b"E".to_vec());
        all.push([b"A".as_slice(), &xid, &8u32.to_be_bytes()].concat());
        all.push([b"c".as_slice(), &xid, &ended].concat());
    } else {
        all.insert(0, [b"B".as_slice(), &[0; 16], &xid].concat());
        all.push([b"O".as_slice(), &[0; 8], b"o\0"].concat());
        all.push([b"C".as_slice(), &ended].concat());
        for (tag, zeros) in [(b'b', 28), (b'P', 29), (b'K', 29), (b'p', 29), (b'r', 37)] {
            all.push([&[tag], vec![0; zeros].as_slice(), b"gid\0"].concat());
        }
    }
    all
}

/// As the server frames it.
fn framed(message: &[u8], out: &mut Vec<u8>) {
    out.push(b'd');
    out.extend(u32::try_from(message.len() + 29).unwrap().to_be_bytes());
    out.push(b'w');
    out.extend([0; 24]);
    out.extend(message);
}

/// A small generator; the same seed gives the same inputs.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }

    /// Spoils bytes in one of several ways.
    fn spoil(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.roll(3) {
            let at = self.roll(bytes.len());
            match self.roll(7) {
                0 => bytes.truncate(at),
                1 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.roll(8);
                    }
                }
                2 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = [0, 1, 0x7f, 0x80, 0xff][self.roll(5)];
                    }
                }
                3 => {
                    let wild = [
                        [0xff; 4],
                        [0x7f, 0xff, 0xff, 0xff],
                        [0, 0, 0, 0],
                        [0, 1, 0, 0],
                    ];
                    let wild = wild[self.roll(4)];
                    for (byte, wild) in bytes.iter_mut().skip(at).zip(wild) {
                        *byte = wild;
                    }
                }
                4 => {
                    let byte = self.byte();
                    bytes.insert(at.min(bytes.len()), byte);
                }
                5 => {
                    if at < bytes.len() {
                        bytes.remove(at);
                    }
                }
                _ => {
                    let tail = other.get(self.roll(other.len())..).unwrap_or_default();
                    bytes.truncate(at);
                    bytes.extend(tail);
                }
            }
        }
    }
}

/// Inputs at full size, and how long the ordinary suite may take for fewer.
const INPUTS: u64 = 5_000_000;
const BRIEFLY: Duration = Duration::from_secs(2);

#[test]
fn no_message_is_too_strange() {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 1,
    };
    let full = std::env::var_os("THALWEG_PROVE").is_some();
    let (mut dice, begun) = (Dice(seed), Instant::now());
    let lists = [messages(false), messages(true)];
    let (mut inputs, mut read, mut most) = (0_u64, 0_u64, 0_u64);
    while if full {
        inputs < INPUTS
    } else {
        begun.elapsed() < BRIEFLY
    } {
        let (schema, attributes) = table();
        let known = Known::new(&schema, TABLE, &attributes).unwrap();
        let mut assembly = Assembly::new(
            vec![known],
            replication::Lsn::default(),
            Place::default(),
            LIMITS,
        );
        let list = &lists[dice.roll(2)];
        let mut bytes = 0;
        for message in list {
            let mut wire = Vec::new();
            framed(message, &mut wire);
            let whole = dice.roll(4) > 0;
            if !whole {
                let other = &list[dice.roll(list.len())];
                // Often only the message, so that what is around it does not hide it.
                if dice.roll(4) == 0 {
                    dice.spoil(&mut wire, other);
                } else {
                    let mut message = message.clone();
                    dice.spoil(&mut message, other);
                    wire.clear();
                    framed(&message, &mut wire);
                }
            }
            inputs += 1;
            bytes += wire.len();
            let taken = take(&wire, &mut assembly);
            assert!(!whole || inputs > 1_000 || taken.is_ok() || bytes > wire.len());
            read += u64::from(taken.is_ok());
            let held = assembly.held_bytes();
            most = most.max(u64::try_from(held * 100 / bytes.max(1)).unwrap());
            assert!(
                held <= 8 * bytes,
                "{held} bytes are held of {bytes}, seed {seed}"
            );
        }
        while let Some(transaction) = assembly.ready() {
            let changes = &transaction.changes;
            for change in &changes.changes {
                assert_eq!(
                    change.kind == ChangeKind::Insert,
                    change.before.is_none() && change.after.is_some()
                );
                for image in [change.before, change.after].into_iter().flatten() {
                    assert_eq!(changes.rows.row(image).cells().count(), 20);
                }
            }
        }
    }
    println!(
        "proof: pgoutput, seed {seed}: {inputs} messages ({read} could be read), at most {most} % of \
         their size held"
    );
    assert!(read > inputs / 4 && read < inputs, "{read} of {inputs}");
}

fn take(wire: &[u8], assembly: &mut Assembly) -> Result<(), ()> {
    let (tag, len) = frame::head(wire).map_err(drop)?.ok_or(())?;
    let body = wire.get(frame::HEAD..).unwrap_or_default();
    drop(Refusal::parse(body));
    drop(frame::data_row(body));
    if tag != b'd' || len > body.len() {
        return Err(());
    }
    match replication::incoming(body).map_err(drop)? {
        Incoming::Data { body, .. } => assembly.take(body).map_err(drop),
        Incoming::Keepalive { wal_end, .. } => {
            assembly.alive(wal_end);
            Ok(())
        }
    }
}

#[test]
fn no_value_is_too_strange() {
    let full = std::env::var_os("THALWEG_PROVE").is_some();
    let (mut dice, begun) = (Dice(3), Instant::now());
    let mut file = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02".to_vec();
    for (value, _) in &VALUES[..2] {
        file.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        file.extend(*value);
    }
    file.extend([0xff, 0xff]);
    let numerics: [&[u8]; 3] = [
        b"\0\x02\0\0\0\0\0\x02\0\x01\x13\x88",
        b"\0\x01\x7f\xff\0\0\0\0\0\x01",
        b"\0\x01\x80\0\x40\0\x3f\xff\0\x01",
    ];
    let mut inputs = 0_u64;
    while if full {
        inputs < INPUTS
    } else {
        begun.elapsed() < BRIEFLY
    } {
        inputs += 1;
        let at = dice.roll(21);
        let (codec, mut bytes, form) = match (at, dice.roll(2)) {
            (20, _) => (
                Codec::Numeric,
                numerics[dice.roll(3)].to_vec(),
                Form::Binary,
            ),
            (at, 0) => (CODECS[at], VALUES[at].0.to_vec(), Form::Binary),
            (at, _) => (CODECS[at], VALUES[at].1.as_bytes().to_vec(), Form::Text),
        };
        let other = VALUES[dice.roll(20)].1.as_bytes();
        dice.spoil(&mut bytes, other);
        let mut rows = RowBatch::new();
        let row_bytes_max = 10_000;
        let mut reader = Reader::new(row_bytes_max);
        if reader.push(codec, form, &bytes, &mut rows).is_ok() {
            rows.end_row();
            assert_eq!(rows.row(0).cells().count(), 1, "{codec:?} {bytes:?}");
        }
        // A cell has a tag and a length of its own.
        assert!(rows.held_bytes() <= 64 + 2 * 10_000, "{codec:?} {bytes:?}");
        let mut cut = file.clone();
        dice.spoil(&mut cut, &numerics.concat());
        let mut buf = Buf(&cut);
        if copy::header(&mut buf) == Ok(true) {
            while let Ok(copy::Next::Row(fields)) = copy::next(&mut buf) {
                assert!(fields.values().count() <= fields.width);
            }
        }
    }
    println!("proof: values and COPY of PostgreSQL: {inputs} inputs");
}

#[test]
fn a_socket_is_left_alone_only_while_messages_pour_in() {
    let pace = |messages, ms| Pace {
        messages,
        since: Instant::now() - Duration::from_millis(ms),
    };
    assert!(pace(1_000, 5).floods(), "two hundred in a millisecond");
    assert!(!pace(1_000, 100).floods(), "ten in a millisecond");
    assert!(!pace(FLOOD - 1, 0).floods(), "too few to tell");
    let mut again = pace(1_000, 5);
    again.floods();
    assert!(!again.floods(), "counting begins anew");
}
