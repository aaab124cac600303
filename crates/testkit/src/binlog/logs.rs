//! Whole logs with every kind of event and of column, each with the rows it leaves; and the recorded
//! ones, where they are.

mod types;

use std::path::PathBuf;

use serde_json::json;

use super::{Binlog, Column, Form, Rows, changes, int, json as doc, text};

/// A log, and what it stands for.
#[derive(Debug)]
pub struct Log {
    /// What is special about it.
    pub name: String,
    /// The file.
    pub file: Vec<u8>,
    /// Statements for MariaDB that make its tables with the rows that are there at its end.
    pub left: String,
    /// Words of the error that ends it; empty: it ends well.
    pub end: &'static str,
}

impl Log {
    fn new(name: impl Into<String>, log: &Binlog, left: impl Into<String>) -> Log {
        Log {
            name: name.into(),
            file: log.bytes().to_vec(),
            left: left.into(),
            end: "",
        }
    }
}

/// All of them.
pub fn all() -> Vec<Log> {
    let mut all = forms();
    all.extend([
        named(),
        types::types(),
        images(),
        keyless(),
        documents(),
        parts(),
    ]);
    all.extend(xa());
    all.extend(broken());
    all
}

/// The recorded logs by name, from the folder that `THALWEG_BINLOGS` names, by default
/// `../shared/data/mysql-binlogs` beside the repository; `None`, and a line that says so: they are absent.
///
/// # Panics
/// If one cannot be read.
pub fn recorded() -> Option<Vec<(String, Vec<u8>)>> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/mysql-binlogs"
    );
    let folder = std::env::var_os("THALWEG_BINLOGS").unwrap_or_else(|| default.into());
    let Ok(entries) = std::fs::read_dir(PathBuf::from(folder)) else {
        eprintln!("recordings: absent (THALWEG_BINLOGS names their folder)");
        return None;
    };
    let mut all: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("an entry of the folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let file = std::fs::read(&path).expect("a recording is read");
            (name.into_owned(), file)
        })
        .filter(|(name, _)| name != "README.md")
        .collect();
    all.sort();
    Some(all)
}

const SERVER: [u8; 16] = [0xAA; 16];
const ALL: &[bool] = &[true, true, true];

/// `id INT, name TEXT, data JSON`.
fn columns() -> Vec<Column> {
    vec![
        Column::int("id"),
        Column::text("name"),
        Column::json("data"),
    ]
}

fn begin(log: &mut Binlog) {
    log.query("d", "BEGIN");
}

/// An insert of two rows, an update and a delete, as they are inside of a transaction.
pub fn work(log: &mut Binlog, form: Form) {
    log.table_map(9, "d", "t", &columns(), true);
    let row = |id, name: &str| vec![int(id), text(name), doc(&json!({"n": id}))];
    log.rows(Rows::Write, form, 9, ALL, ALL, &[row(1, "a"), row(2, "b")]);
    let update = [row(1, "a"), vec![int(1), None, doc(&json!([1.5, "x"]))]].concat();
    log.rows(Rows::Update, form, 9, ALL, ALL, &[update]);
    log.rows(Rows::Delete, form, 9, ALL, ALL, &[row(2, "b")]);
}

/// What [`work`] leaves.
const WORK: &str = "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, data JSON); \
                    INSERT INTO t VALUES (1, NULL, '[1.5, \"x\"]');";

/// Writes a transaction.
type Write = fn(&mut Binlog);

/// How a transaction may lie in the log, each around [`work`].
pub const FORMS: [(&str, Write); 10] = [
    ("anonymous", |log| {
        log.anonymous();
        begin(log);
        work(log, Form::V2);
        log.xid();
    }),
    ("GTID", |log| {
        log.gtid(SERVER, 7);
        begin(log);
        log.event(29, 0x80, b"\x07INSERT");
        work(log, Form::V2);
        log.xid();
    }),
    ("tagged GTID", |log| {
        log.tagged(SERVER, "tag", 7);
        begin(log);
        work(log, Form::V2);
        log.xid();
    }),
    ("COMMIT", |log| {
        begin(log);
        work(log, Form::V1);
        log.query("d", "COMMIT");
    }),
    ("compressed with zstd", |log| {
        log.gtid(SERVER, 7);
        log.payload(true, |inner| {
            begin(inner);
            work(inner, Form::V2);
            inner.xid();
        });
    }),
    ("payload that is not compressed", |log| {
        log.gtid(SERVER, 7);
        log.payload(false, |inner| {
            begin(inner);
            work(inner, Form::V2);
            inner.xid();
        });
    }),
    ("group replication", |log| {
        log.gtid(SERVER, 7);
        begin(log);
        log.event(36, 0, &[0; 20]);
        log.event(37, 0, &[0; 20]);
        log.event(28, 0x80, &[]);
        work(log, Form::V2);
        log.xid();
    }),
    ("CREATE TABLE AS SELECT", |log| {
        log.anonymous();
        log.query("d", "CREATE TABLE x (a INT) START TRANSACTION");
        work(log, Form::V2);
        log.xid();
    }),
    ("MariaDB", |log| {
        log.event(163, 0, &[0; 4]);
        log.event(161, 0, &[0; 8]);
        log.maria_gtid(0, 7, 0, None);
        log.event(160, 0, b"INSERT");
        work(log, Form::V1);
        log.xid();
    }),
    ("MariaDB compressed", |log| {
        log.maria_gtid(0, 7, 0, None);
        work(log, Form::Compressed);
        log.query_compressed("d", "COMMIT");
    }),
];

fn forms() -> Vec<Log> {
    let mut all = Vec::new();
    for (name, write) in FORMS {
        for checksums in [false, true] {
            let mut log = Binlog::new("8.4.0", checksums);
            write(&mut log);
            log.event(3, 0, &[]);
            let sums = if checksums { ", checksums" } else { "" };
            all.push(Log::new(format!("{name}{sums}"), &log, WORK));
        }
    }
    all
}

/// Sets of GTIDs, and the events of the dump itself.
fn named() -> Log {
    let mut log = Binlog::new("8.4.0", true);
    log.previous_gtids(&[(SERVER, "", 1, 6), (SERVER, "tag", 1, 2)], true);
    log.rotate("binlog.000009", 4);
    log.heartbeat_v2("binlog.000009", 300);
    log.event(27, 0, b"binlog.000009");
    for ty in [5, 13, 14] {
        log.event(ty, 0, &[0; 9]);
    }
    log.gtid(SERVER, 300);
    begin(&mut log);
    work(&mut log, Form::V2);
    log.query("d", "SAVEPOINT `here`");
    log.xid();
    Log::new("events beside transactions", &log, WORK)
}

/// Row images that lack columns.
fn images() -> Log {
    const KEY: &[bool] = &[true, false, false];
    const NAME: &[bool] = &[false, true, false];
    let row = |id, name: &str| vec![int(id), text(name), doc(&json!({"n": id}))];
    let mut log = Binlog::new("8.0.36", true);
    for (number, form) in [(1, Form::V2), (2, Form::Compressed)] {
        let id = |n: i32| n + 10 * number;
        log.gtid(SERVER, u64::from(number.unsigned_abs()));
        begin(&mut log);
        log.table_map(9, "d", "t", &columns(), true);
        log.rows(
            Rows::Write,
            form,
            9,
            ALL,
            ALL,
            &[row(id(1), "a"), row(id(2), "b"), row(id(3), "c")],
        );
        log.rows(
            Rows::Update,
            form,
            9,
            KEY,
            NAME,
            &[vec![int(id(1)), text("x")]],
        );
        log.rows(
            Rows::Update,
            form,
            9,
            KEY,
            KEY,
            &[vec![int(id(2)), int(id(5))]],
        );
        log.rows(Rows::Write, form, 9, KEY, KEY, &[vec![int(id(7))]]);
        log.rows(Rows::Delete, form, 9, KEY, KEY, &[vec![int(id(3))]]);
        log.xid();
    }
    let left = "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, data JSON); INSERT INTO t VALUES \
                (11, 'x', '{\"n\": 11}'), (15, 'b', '{\"n\": 12}'), (17, NULL, NULL), \
                (21, 'x', '{\"n\": 21}'), (25, 'b', '{\"n\": 22}'), (27, NULL, NULL);";
    Log::new("minimal images", &log, left)
}

/// Rows that nothing tells apart, of a table whose columns have no names in the log.
fn keyless() -> Log {
    const BOTH: &[bool] = &[true, true];
    let columns = [Column::int("a"), Column::text("b")];
    let row = |a: Option<i32>, b: Option<&str>| vec![a.and_then(int), b.and_then(text)];
    let (one, none) = (row(Some(1), Some("a")), row(None, None));
    let mut log = Binlog::new("5.7.44", true);
    for (rows, list) in [
        (
            Rows::Write,
            vec![
                one.clone(),
                one.clone(),
                none.clone(),
                one.clone(),
                none.clone(),
            ],
        ),
        (Rows::Delete, vec![one]),
        (Rows::Update, vec![[none, row(Some(2), Some("b"))].concat()]),
    ] {
        log.anonymous();
        begin(&mut log);
        log.table_map(9, "d", "k", &columns, false);
        log.rows(rows, Form::V2, 9, BOTH, BOTH, &list);
        log.xid();
    }
    let left = "CREATE TABLE k (c1 INT, c2 TEXT); \
                INSERT INTO k VALUES (1, 'a'), (1, 'a'), (NULL, NULL), (2, 'b');";
    Log::new("rows without a key", &log, left)
}

/// Documents that come as their differences.
fn documents() -> Log {
    let old = json!({"a": 1, "list": [1, "two", {"deep": [true, null]}], "text": "x".repeat(300)});
    let steps = [
        (2, "$.text", None),
        (1, "$.list[1]", Some(json!({"in": []}))),
        (0, "$.list[3].deep[1]", Some(json!("x"))),
        (1, "$.\"a b\"", Some(json!(false))),
    ];
    let mut log = Binlog::new("8.0.36", true);
    log.anonymous();
    begin(&mut log);
    log.table_map(9, "d", "t", &columns(), true);
    let before = [int(1), text("n"), doc(&old)];
    log.rows(Rows::Write, Form::V2, 9, ALL, ALL, &[before.to_vec()]);
    let row = [&before[..], &[int(1), text("m"), changes(&steps)]].concat();
    log.partial_update(9, ALL, ALL, &[true], &row);
    log.xid();
    let left = "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, data JSON); INSERT INTO t VALUES (1, 'm', \
                '{\"a\": 1, \"a b\": false, \"list\": [1, {\"in\": []}, \"two\", {\"deep\": [true, \"x\"]}]}');";
    Log::new("documents by their differences", &log, left)
}

/// Rows of `p (id INT, name TEXT)` in one event.
fn many(log: &mut Binlog, what: Rows, rows: &[Vec<Option<Vec<u8>>>]) {
    const BOTH: &[bool] = &[true, true];
    let columns = [Column::int("id"), Column::text("name")];
    log.table_map(8, "d", "p", &columns, true);
    log.rows(what, Form::V2, 8, BOTH, BOTH, rows);
}

/// A transaction in many parts, another that undoes half of it.
fn parts() -> Log {
    let row = |n: i32, name: &str| vec![int(n), text(&format!("{name} {n}"))];
    let mut log = Binlog::new("8.0.36", true);
    log.anonymous();
    begin(&mut log);
    let rows: Vec<_> = (0..2_000).map(|n| row(n, "first")).collect();
    many(&mut log, Rows::Write, &rows);
    log.xid();
    log.anonymous();
    begin(&mut log);
    let rows: Vec<_> = (0..2_000).step_by(2).map(|n| row(n, "first")).collect();
    many(&mut log, Rows::Delete, &rows);
    let rows: Vec<_> = (1..2_000)
        .step_by(2)
        .map(|n| [row(n, "first"), row(n, "second")].concat())
        .collect();
    many(&mut log, Rows::Update, &rows);
    log.xid();
    let left = "CREATE TABLE p (id INT PRIMARY KEY, name TEXT); \
                INSERT INTO p SELECT seq, CONCAT('second ', seq) FROM seq_1_to_1999_step_2;";
    Log::new("a transaction in parts", &log, left)
}

/// Prepared transactions, overtaken by another, and decided in every way.
fn xa() -> Vec<Log> {
    const OTHER: &str = "CREATE TABLE other (id INT PRIMARY KEY); INSERT INTO other VALUES (5);";
    let prepare = |log: &mut Binlog, one_phase: bool| {
        log.gtid(SERVER, 1);
        log.query("d", "XA START X'61',X'',1");
        work(log, Form::V2);
        log.query("d", "XA END X'61',X'',1");
        log.xa_prepare(b"a", one_phase);
    };
    let other = |log: &mut Binlog| {
        log.table_map(7, "d", "other", &[Column::int("id")], true);
        log.rows(Rows::Write, Form::V2, 7, &[true], &[true], &[vec![int(5)]]);
        log.xid();
    };
    let mut all = Vec::new();
    for (decision, left) in [
        ("XA COMMIT", WORK),
        (
            "XA ROLLBACK",
            "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, data JSON);",
        ),
    ] {
        let mut log = Binlog::new("8.0.36", true);
        prepare(&mut log, false);
        log.gtid(SERVER, 2);
        begin(&mut log);
        other(&mut log);
        log.gtid(SERVER, 3);
        log.query("d", &format!("{decision} X'61',X'',1"));
        all.push(Log::new(decision, &log, format!("{left} {OTHER}")));
        let mut log = Binlog::new("10.11.6-MariaDB", true);
        log.maria_gtid(0, 1, 64, Some(b"a"));
        work(&mut log, Form::V1);
        log.xa_prepare(b"a", false);
        log.maria_gtid(0, 2, 0, None);
        other(&mut log);
        log.maria_gtid(0, 3, 129, Some(b"a"));
        log.query("d", &format!("{decision} X'61',X'',1"));
        let name = format!("{decision} of MariaDB");
        all.push(Log::new(name, &log, format!("{left} {OTHER}")));
    }
    let mut log = Binlog::new("8.0.36", true);
    prepare(&mut log, true);
    all.push(Log::new("XA in one phase", &log, WORK));
    all
}

/// Logs that end in an error inside of a transaction, behind one that is whole.
fn broken() -> Vec<Log> {
    let rows: Vec<_> = (0..2_000).map(|n| vec![int(n), text("torn")]).collect();
    let mut whole = Binlog::new("8.0.36", true);
    whole.gtid(SERVER, 1);
    begin(&mut whole);
    work(&mut whole, Form::V2);
    // Its table is known from the transaction that is torn, too.
    many(&mut whole, Rows::Write, &[vec![int(-1), text("whole")]]);
    whole.xid();
    let left = format!(
        "{WORK} CREATE TABLE p (id INT PRIMARY KEY, name TEXT); INSERT INTO p VALUES (-1, 'whole');"
    );
    let start = whole.bytes().len();
    let second = |event: Option<(u8, &[u8])>| {
        let mut log = whole.clone();
        log.gtid(SERVER, 2);
        begin(&mut log);
        many(&mut log, Rows::Write, &rows);
        many(
            &mut log,
            Rows::Update,
            &[vec![int(-1), text("whole"), int(-1), text("torn")]],
        );
        if let Some((ty, body)) = event {
            log.event(ty, 0, body);
        }
        log.xid();
        log
    };
    let log = |name: &str, file: Vec<u8>, end| Log {
        name: name.to_owned(),
        file,
        left: left.clone(),
        end,
    };
    let full = second(None).bytes().to_vec();
    let mut all = Vec::new();
    for (name, bytes) in [
        ("cut in an event's head", start + 10),
        ("cut in rows", start + (full.len() - start) / 2),
        ("cut before its end", full.len() - 1),
    ] {
        let file = full.get(..bytes).unwrap_or_default().to_vec();
        all.push(log(name, file, "ends too early"));
    }
    for (name, at) in [
        ("wrong sum of rows", full.len() - 100),
        ("wrong sum of XID", full.len() - 6),
    ] {
        let mut file = full.clone();
        if let Some(byte) = file.get_mut(at) {
            *byte ^= 0x55;
        }
        all.push(log(name, file, "wrong checksum"));
    }
    for (name, ty, end) in [
        ("unknown event", 99, "an event of type 99"),
        ("incident", 26, "the server logged an incident"),
        ("encrypted log", 164, "an encrypted log"),
    ] {
        all.push(log(
            name,
            second(Some((ty, &[1, 2, 3]))).bytes().to_vec(),
            end,
        ));
    }
    // Under a checksum that is right: the damage is in what was compressed.
    let mut packed = Binlog::new("8.0.36", false);
    let head = packed.bytes().len() + 19;
    packed.payload(true, |inner| {
        begin(inner);
        many(inner, Rows::Write, &rows);
        inner.xid();
    });
    let mut body = packed.bytes().get(head..).unwrap_or_default().to_vec();
    let magic = [0x28, 0xB5, 0x2F, 0xFD];
    let at = body.windows(4).position(|four| four == magic);
    if let Some(byte) = at.and_then(|at| body.get_mut(at)) {
        *byte ^= 0x55;
    }
    let mut damaged = whole.clone();
    damaged.gtid(SERVER, 2);
    damaged.event(40, 0, &body);
    let damaged = damaged.bytes().to_vec();
    all.push(log("damaged payload", damaged, "compressed transaction"));
    all
}
