//! Recorded logs of MySQL 5.1 to 9.x and of MariaDB, each played to its end or to its damage.
//!
//! Where they are absent the tests say so; the built events cover every kind. The server's tests apply
//! them to targets.

use thalweg_mysql::recordings::{Recording, play};
use thalweg_testkit::binlog::logs::recorded;

use super::world::{LIMITS, line};

/// Every recording: how many events and changes it has, and how it ends (empty: well).
const ALL: &[(&str, u64, usize, &str)] = &[
    ("binlog-invisible-columns.000001", 22, 3, ""),
    ("binlog_56_gtid_reserved_word.000001", 20, 1, ""),
    ("binlog_savepoint.000001", 12, 0, ""),
    ("binlog_transaction.000001", 20, 0, ""),
    ("binlog_transaction_previous_GTID_no_tag.000001", 3, 0, ""),
    ("binlog_transaction_with_GTID.000001", 11, 0, ""),
    ("binlog_transaction_with_GTID_TAG.000001", 8, 1, ""),
    ("binlog_transaction_with_anonymous_GTID.000001", 9, 0, ""),
    ("binlog_truncated_event.000001", 0, 0, "ends too early"),
    (
        "binlog_truncated_prev_gtid_event.000001",
        1,
        0,
        "ends too early",
    ),
    ("bug11747887-bin.000003", 9, 0, ""),
    ("bug16266.000001", 6, 0, ""),
    ("bug27213339-bin.000001", 95, 0, ""),
    ("bug32407.001", 7, 2, ""),
    ("bug33029-slave-relay-bin.000001", 43, 0, ""),
    ("bug40482-bin.000001", 2, 0, "the server logged an incident"),
    ("corrupt-relay-bin.000624", 873, 0, "ends too early"),
    ("json-opaque.binlog", 25, 8, ""),
    (
        "json.binlog.000001",
        35,
        12,
        "changed parts of a JSON document but not the document",
    ),
    ("mariadb-bin.000001", 13, 2, ""),
    ("master-bin.000001", 3, 0, ""),
    ("minimal_row_metadata.000001", 8, 1, ""),
    ("mysql-enum-string-set.000001", 21, 3, ""),
    ("mysql_type_bit.000001", 11, 1, ""),
    ("rpl_atomic_ddl_rollback_full.000001", 11, 0, ""),
    ("rpl_atomic_ddl_rollback_table.000001", 7, 0, ""),
    ("rpl_atomic_ddl_rollback_view.000001", 7, 0, ""),
    (
        "rpl_cross_version_default_utf8mb4_collation.000001",
        19,
        0,
        "",
    ),
    ("rpl_unfiltered_hidden_gcol.000001", 15, 1, ""),
    ("slave-relay-bin.000001", 6, 0, ""),
    ("time_issue.000001", 8, 1, ""),
    ("transaction_compression.000001", 9, 1, ""),
    ("update-full-row.binlog", 10, 7, ""),
    ("update-partial-row.binlog", 10, 7, ""),
    ("vector.binlog", 38, 10, ""),
    // Row events of 5.1 before its release, in a form that was never released.
    ("ver_5_1-wl2325_r.001", 10, 0, "ends too early"),
    ("ver_5_1-wl2325_s.001", 5, 0, "an event of type 20"),
    ("ver_5_1_23.001", 24, 5, ""),
    ("ver_trunk_row_v2.001", 40, 5, ""),
    ("write-full-row.binlog", 9, 7, ""),
    ("write-partial-row.binlog", 10, 7, ""),
];

#[test]
fn every_recording_is_played_to_its_end_or_its_damage() {
    let Some(recorded) = recorded() else {
        return;
    };
    let names: Vec<&str> = recorded.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<&str> = ALL.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, known);
    for ((name, events, changes, end), (_, file)) in ALL.iter().zip(&recorded) {
        let played = play(file, None, LIMITS);
        assert_eq!(played.events.values().sum::<u64>(), *events, "{name}");
        let count: usize = played
            .transactions
            .iter()
            .map(|t| t.changes.changes.len())
            .sum();
        assert_eq!(count, *changes, "{name}");
        match &played.end {
            Ok(()) => assert_eq!(*end, "", "{name}"),
            Err(error) => {
                let said = !end.is_empty() && error.message().contains(end);
                assert!(said, "{name}: {}", error.message());
            }
        }
    }
}

/// The changes of a recording as text.
fn changes(name: &str) -> Option<Vec<String>> {
    let played = recording(name)?;
    let names: Vec<String> = played.tables.iter().map(|t| t.name.name.clone()).collect();
    let lines = played.transactions.iter().flat_map(|t| {
        let all = t.changes.changes.iter();
        all.map(|c| line(c, &t.changes.rows, &names))
    });
    Some(lines.collect())
}

fn recording(name: &str) -> Option<Recording> {
    let recorded = recorded()?;
    let (_, file) = recorded.iter().find(|(of, _)| of == name).unwrap();
    Some(play(file, None, LIMITS))
}

#[test]
fn rows_are_what_the_recorded_statements_wrote() {
    for (name, want) in [
        (
            "json-opaque.binlog",
            &[
                r#"+test Json("{\"a\": \"base64:type15:VQ==\"}")"#,
                r#"+test Json("{\"b\": \"2012-03-18\"}")"#,
                r#"+test Json("{\"c\": \"2012-03-18 11:30:45.000000\"}")"#,
                r#"+test Json("{\"c\": \"87:31:46.654321\"}")"#,
                r#"+test Json("{\"d\": 123.456}")"#,
                r#"+test Json("{\"e\": 9.00}")"#,
                r#"+test Json("{\"e\": [0, 1, true, false]}")"#,
                r#"+test Json("{\"e\": null}")"#,
            ][..],
        ),
        (
            "binlog-invisible-columns.000001",
            &[
                "+t1 1,2,-3,'4',Bytes([5]),6000000000",
                "+t1 NULL,NULL,-33,'44',Bytes([85]),NULL",
                "~t1 NULL,NULL,-33,'44',Bytes([85]),NULL > 111,222,-333,'444',Bytes([85]),NULL",
            ],
        ),
        (
            "mysql-enum-string-set.000001",
            &[
                "+t '0…'100,'0…'298,'var1','one,three','0123456789'",
                "~t '0…'100,'0…'298,'var1','one,three','0123456789' > \
                 'field1','field_2','variant2','two,four','0…'298",
                "-t 'field1','field_2','variant2','two,four','0…'298",
            ],
        ),
        (
            "mysql_type_bit.000001",
            &["+foo Bits(8, [4]),'foo',Bits(8, [32])"],
        ),
        ("time_issue.000001", &["+t Time(-1828107000000)"]),
        ("transaction_compression.000001", &["+tb1 1"]),
        (
            "binlog_transaction_with_GTID_TAG.000001",
            &[
                "+orders 3,100,Decimal(Finite { negative: false, scale: 2, digits: [50, 53, 48, 48, 48] })",
            ],
        ),
        (
            "ver_5_1_23.001",
            &[
                "+t1 0,Bytes([111, 110, 101])",
                "+t1 1,Bytes([116, 119, 111])",
                "~t1 0,Bytes([111, 110, 101]) > 1,Bytes([111, 110, 101])",
                "~t1 1,Bytes([116, 119, 111]) > 2,Bytes([116, 119, 111])",
                "-t1 2,Bytes([116, 119, 111])",
            ],
        ),
    ] {
        let Some(got) = changes(name) else {
            return;
        };
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn vectors_are_read() {
    let Some(got) = changes("vector.binlog") else {
        return;
    };
    let want = [
        r#"+foo 1,Other("[1.1,2.2,3.3]")"#,
        r#"+foo 2,Other("[1.0,-1.0,0.0]")"#,
        r#"+bar 1,Other("[1.1,2.2]"),NULL,Other("[1.1,2.2,3.3,4.4]")"#,
        r#"+bar 2,Other("[1.01,-1.01]"),'bar',Other("[42.0,43.0,44.0,45.0]")"#,
    ];
    assert_eq!(got[..4], want);
    assert_eq!(got.len(), 10);
}

#[test]
fn transactions_are_named_by_their_gtids() {
    for (name, id, previous) in [
        (
            "binlog_transaction_with_GTID_TAG.000001",
            "g1;55778904-0299-11f1-b1b8-4ef0c4956feb:mytag:3",
            "55778904-0299-11f1-b1b8-4ef0c4956feb:1-13,\
             55778904-0299-11f1-b1b8-4ef0c4956feb:mytag:1-2",
        ),
        (
            "mysql_type_bit.000001",
            "g1;fbda2ad0-7c46-11ec-ae30-4ef7efc81a2a:3",
            "",
        ),
    ] {
        let Some(played) = recording(name) else {
            return;
        };
        assert_eq!(played.transactions[0].id.as_str(), id);
        assert_eq!(played.previous_gtids, previous);
    }
}
