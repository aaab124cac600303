//! Events built one by one, so that every kind is read where no recording and no server has it.

use serde_json::json;
use thalweg_core::Kind;
use thalweg_mysql::recordings::{Recording, play};
use thalweg_testkit::binlog::logs::{FORMS, work};
use thalweg_testkit::binlog::{Binlog, Column, Form, Rows, changes, int, json as doc, text};

use super::world::{LIMITS, line};

const A: [u8; 16] = [0xAA; 16];
const UUID: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
/// `id INT, name TEXT, data JSON`.
fn columns() -> Vec<Column> {
    vec![
        Column::int("id"),
        Column::text("name"),
        Column::json("data"),
    ]
}

const ALL: &[bool] = &[true, true, true];

fn played(log: &Binlog) -> (Recording, Vec<String>) {
    let played = play(log.bytes(), None, LIMITS);
    let names: Vec<String> = played.tables.iter().map(|t| t.name.name.clone()).collect();
    let lines = played.transactions.iter().flat_map(|t| {
        let all = t.changes.changes.iter();
        all.map(|c| line(c, &t.changes.rows, &names))
    });
    let lines = lines.collect();
    (played, lines)
}

/// What [`work`] does.
const WORK: [&str; 4] = [
    r#"+t 1,'a',Json("{\"n\": 1}")"#,
    r#"+t 2,'b',Json("{\"n\": 2}")"#,
    r#"~t 1,'a',Json("{\"n\": 1}") > 1,NULL,Json("[1.5, \"x\"]")"#,
    r#"-t 2,'b',Json("{\"n\": 2}")"#,
];

#[test]
fn every_form_of_a_transaction_gives_the_same_rows() {
    for (name, write) in FORMS {
        for checksums in [false, true] {
            let mut log = Binlog::new("8.4.0", checksums);
            write(&mut log);
            log.event(3, 0, &[]);
            let (played, lines) = played(&log);
            played.end.unwrap();
            assert_eq!(lines, WORK, "{name}");
            assert_eq!(played.transactions.len(), 1, "{name}");
            let time = played.transactions[0].commit.as_ref().unwrap().time_us;
            let fraction = match name {
                "GTID" | "anonymous" | "CREATE TABLE AS SELECT" => 123_456,
                _ => 0,
            };
            if !name.contains("ompressed") && name != "group replication" {
                assert_eq!(time, Some(1_700_000_000_000_000 + fraction), "{name}");
            }
        }
    }
}

#[test]
fn transactions_are_named_and_sets_are_read() {
    let mut log = Binlog::new("8.4.0", true);
    log.previous_gtids(&[(A, "", 1, 6), (A, "tag", 1, 2)], true);
    for tag in ["", "tag"] {
        match tag {
            "" => log.gtid(A, 300),
            tag => log.tagged(A, tag, 300),
        }
        log.query("d", "BEGIN");
        work(&mut log, Form::V2);
        log.xid();
    }
    let (played, _) = played(&log);
    let ids: Vec<&str> = played.transactions.iter().map(|t| t.id.as_str()).collect();
    let want = [format!("g1;{UUID}:300"), format!("g1;{UUID}:tag:300")];
    assert_eq!(ids, want);
    assert_eq!(played.previous_gtids, format!("{UUID}:1-5,{UUID}:tag:1"));
    let mut log = Binlog::new("8.0.36", false);
    log.previous_gtids(&[(A, "", 1, 6)], false);
    assert_eq!(played_previous(&log), format!("{UUID}:1-5"));
}

fn played_previous(log: &Binlog) -> String {
    played(log).0.previous_gtids
}

#[test]
fn an_xa_transaction_of_mysql_comes_at_its_commit() {
    let prepare = |log: &mut Binlog, xid: &str, one_phase: bool| {
        log.gtid(A, 1);
        log.query("d", &format!("XA START X'{xid}',X'',1"));
        work(log, Form::V2);
        log.query("d", &format!("XA END X'{xid}',X'',1"));
        log.xa_prepare(&[0x61], one_phase);
    };
    let other = |log: &mut Binlog| {
        log.gtid(A, 2);
        log.query("d", "BEGIN");
        log.table_map(9, "d", "other", &[Column::int("id")], true);
        log.rows(Rows::Write, Form::V2, 9, &[true], &[true], &[vec![int(5)]]);
        log.xid();
    };
    let mut log = Binlog::new("8.0.36", true);
    prepare(&mut log, "61", false);
    other(&mut log);
    log.gtid(A, 3);
    log.query("d", "XA COMMIT X'61',X'',1");
    other(&mut log);
    let (both, lines) = played(&log);
    both.end.unwrap();
    let want = [&["+other 5"][..], &WORK, &["+other 5"]].concat();
    assert_eq!(lines, want);
    assert_eq!(both.transactions[1].id.as_str(), format!("g1;{UUID}:3"));

    let mut log = Binlog::new("8.0.36", true);
    prepare(&mut log, "61", false);
    other(&mut log);
    log.gtid(A, 3);
    log.query("d", "XA ROLLBACK X'61',X'',1");
    let (rolled_back, lines) = played(&log);
    rolled_back.end.unwrap();
    assert_eq!(lines, ["+other 5"]);

    let mut log = Binlog::new("8.0.36", true);
    prepare(&mut log, "61", true);
    other(&mut log);
    let (one_phase, lines) = played(&log);
    one_phase.end.unwrap();
    assert_eq!(lines, [&WORK[..], &["+other 5"]].concat());
}

#[test]
fn a_partial_document_is_what_the_whole_would_be() {
    let old = json!({
        "a": 1, "list": [1, "two", {"deep": [true, null]}], "long key \"x\"": 2.5,
        "big": u64::MAX, "text": "x".repeat(300),
    });
    for (steps, new) in [
        (
            vec![(0, "$.a", Some(json!("one")))],
            json!({"a": "one", "list": [1, "two", {"deep": [true, null]}], "long key \"x\"": 2.5,
                "big": u64::MAX, "text": "x".repeat(300)}),
        ),
        (
            vec![
                (2, "$.text", None),
                (1, "$.list[1]", Some(json!({"in": []}))),
                (1, "$.list[99]", Some(json!(-70_000))),
                (0, "$.list[3].deep[1]", Some(json!("x"))),
                (1, "$.b", Some(json!(false))),
                (1, "$.\"a b\"", Some(json!(1e100))),
                (0, "$.\"long key \\\"x\\\"\"", Some(json!({}))),
            ],
            json!({"a": 1, "b": false, "a b": 1e100, "big": u64::MAX, "long key \"x\"": {},
                "list": [1, {"in": []}, "two", {"deep": [true, "x"]}, -70_000]}),
        ),
        (
            vec![
                (2, "$.list[0]", None),
                (2, "$.big", None),
                (2, "$.text", None),
            ],
            json!({"a": 1, "list": ["two", {"deep": [true, null]}], "long key \"x\"": 2.5}),
        ),
        (vec![], old.clone()),
    ] {
        let write = |partial: bool| {
            let mut log = Binlog::new("8.0.36", true);
            log.anonymous();
            log.query("d", "BEGIN");
            log.table_map(9, "d", "t", &columns(), true);
            let before = [int(1), text("n"), doc(&old)];
            if partial {
                let row = [&before[..], &[int(1), text("n"), changes(&steps)]].concat();
                log.partial_update(9, ALL, ALL, &[true], &row);
            } else {
                let row = [&before[..], &[int(1), text("n"), doc(&new)]].concat();
                log.rows(Rows::Update, Form::V2, 9, ALL, ALL, &[row]);
            }
            log.xid();
            let (played, lines) = played(&log);
            played.end.unwrap();
            lines
        };
        assert_eq!(write(true), write(false), "{steps:?}");
    }
}

#[test]
fn changes_without_their_document_or_place_are_refused() {
    let run = |before: &[bool], steps: &[(u8, &str, Option<serde_json::Value>)]| {
        let mut log = Binlog::new("8.0.36", false);
        log.anonymous();
        log.query("d", "BEGIN");
        log.table_map(9, "d", "t", &columns(), true);
        let old = [int(1), text("n"), doc(&json!({"a": 1}))];
        let kept = old
            .into_iter()
            .zip(before)
            .filter(|(_, b)| **b)
            .map(|(v, _)| v);
        let row: Vec<_> = kept.chain([changes(steps)]).collect();
        log.partial_update(9, before, &[false, false, true], &[true], &row);
        log.xid();
        played(&log).0.end.unwrap_err()
    };
    let minimal = run(&[true, false, false], &[(0, "$.a", Some(json!(2)))]);
    assert_eq!(minimal.kind(), Kind::Config);
    assert!(
        minimal.message().contains("d.t.data"),
        "{}",
        minimal.message()
    );
    assert!(minimal.hint().unwrap().contains("binlog_row_value_options"));
    for (operation, path) in [
        (0, "$.b"),
        (1, "$.a"),
        (2, "$.a.b"),
        (1, "$[0]"),
        (7, "$.a"),
    ] {
        let error = run(ALL, &[(operation, path, Some(json!(2)))]);
        assert_eq!(error.kind(), Kind::Data, "{path}");
        assert!(
            !error.message().contains("$."),
            "no part of a row: {}",
            error.message()
        );
    }
}

#[test]
fn large_documents_are_read() {
    let list: Vec<String> = (0..9_000).map(|n| format!("value {n}")).collect();
    let value = json!({"list": list, "n": 1_000_000});
    let mut log = Binlog::new("8.0.36", false);
    log.anonymous();
    log.query("d", "BEGIN");
    log.table_map(9, "d", "t", &columns(), true);
    log.rows(
        Rows::Write,
        Form::V2,
        9,
        ALL,
        ALL,
        &[vec![int(1), None, doc(&value)]],
    );
    log.xid();
    let played = play(log.bytes(), None, LIMITS);
    played.end.unwrap();
    let row = played.transactions[0].changes.rows.row(0);
    let Some(thalweg_core::value::CellRef::Json(text)) = row.cell(2) else {
        panic!("a document");
    };
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(text).unwrap(),
        value
    );
    assert!(text.starts_with(r#"{"n": 1000000, "list": ["value 0", "value 1","#));
}

#[test]
fn what_cannot_be_passed_over_stops() {
    let unknown = |ty: u8, flags: u16| {
        let mut log = Binlog::new("9.9.9", true);
        log.gtid(A, 1);
        log.query("d", "BEGIN");
        log.event(ty, flags, &[1, 2, 3]);
        work(&mut log, Form::V2);
        log.xid();
        played(&log)
    };
    for ty in [43, 99, 159, 172, 255] {
        let (played, lines) = unknown(ty, 0);
        assert!(lines.is_empty());
        let error = played.end.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(
            error.message().contains(&format!("type {ty} at")),
            "{}",
            error.message()
        );
        // What the server itself marks as no loss is passed over.
        assert_eq!(unknown(ty, 0x80).1, WORK);
    }
    let (played, _) = unknown(26, 0);
    assert_eq!(played.end.unwrap_err().kind(), Kind::PositionLost);
    let (played, _) = unknown(164, 0);
    assert!(played.end.unwrap_err().message().contains("encrypted"));
}

#[test]
fn a_payload_that_lies_is_refused() {
    let mut whole = Binlog::new("8.0.36", false);
    whole.gtid(A, 1);
    whole.payload(true, |inner| {
        inner.query("d", "BEGIN");
        work(inner, Form::V2);
        inner.xid();
    });
    let bytes = whole.bytes();
    // The declared size, and each byte of the compressed events.
    let start = bytes
        .windows(4)
        .position(|w| w == [0x28, 0xB5, 0x2F, 0xFD])
        .unwrap();
    let mut refused = 0;
    for at in start - 12..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x55;
        let played = play(&bad, None, LIMITS);
        refused += u32::from(played.end.is_err());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn events_of_the_dump_itself_move_the_place() {
    let mut log = Binlog::new("8.4.0", true);
    log.rotate("binlog.000009", 4);
    log.heartbeat_v2("binlog.000009", 300);
    log.event(27, 0, b"binlog.000009");
    for ty in [5, 13, 14] {
        log.event(ty, 0, &[0; 9]);
    }
    log.anonymous();
    log.query("d", "CREATE TABLE x (a INT) START TRANSACTION");
    work(&mut log, Form::V2);
    log.xid();
    let (played, lines) = played(&log);
    played.end.unwrap();
    assert_eq!(lines, WORK);
    let position = played.transactions[0]
        .commit
        .as_ref()
        .unwrap()
        .position
        .as_str()
        .to_owned();
    assert!(position.contains("binlog.000009"), "{position}");
}

#[test]
fn a_part_is_handed_out_in_the_middle_of_an_event() {
    let mut log = Binlog::new("8.0.36", true);
    log.anonymous();
    log.query("d", "BEGIN");
    log.table_map(9, "d", "t", &[Column::int("id")], true);
    let rows: Vec<_> = (0..5_000).map(|n| vec![int(n)]).collect();
    log.rows(Rows::Write, Form::V2, 9, &[true], &[true], &rows);
    log.rows(Rows::Delete, Form::Compressed, 9, &[true], &[true], &rows);
    log.xid();
    let limits = thalweg_core::ports::StreamLimits {
        part_bytes: 10_000,
        ..LIMITS
    };
    let played = play(log.bytes(), None, limits);
    played.end.unwrap();
    assert!(played.transactions.len() > 20);
    let all = played.transactions.iter();
    let seen: usize = all.clone().map(|t| t.changes.changes.len()).sum();
    assert_eq!(seen, 10_000);
    for part in all.clone() {
        assert!(part.changes.bytes() < 11_000);
        assert_eq!(part.id, played.transactions[0].id);
    }
    assert_eq!(all.filter(|t| t.commit.is_some()).count(), 1);
}
