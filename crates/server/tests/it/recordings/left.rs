//! What each recording leaves, and how it ends: written down from the statements that were recorded and
//! from what another decoder (`mariadb-binlog -v`, and the formats' manuals where it knows an event not)
//! says of the rows.

use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_testkit::binlog::logs::Log;

/// How many recordings there are.
pub(super) const COUNT: usize = 41;

/// Recordings with rows: statements for MariaDB that make their tables as they are at the end.
const LEFT: &[(&str, &str)] = &[
    (
        "binlog-invisible-columns.000001",
        "CREATE TABLE t1 (f1 BIGINT, f2 BIGINT, f3 INT, f4 TEXT, f5 BLOB, f6 BIGINT UNSIGNED);
         INSERT INTO t1 VALUES (1, 2, -3, '4', x'05', 6000000000), (111, 222, -333, '444', x'55', NULL);",
    ),
    // Three more rows came by a statement, which is passed over.
    (
        "binlog_56_gtid_reserved_word.000001",
        "CREATE TABLE GENERATED (a INT PRIMARY KEY); INSERT INTO GENERATED VALUES (65);",
    ),
    (
        "binlog_transaction_with_GTID_TAG.000001",
        "CREATE TABLE orders (c1 INT, c2 INT, c3 DECIMAL(10,2)); INSERT INTO orders VALUES (3, 100, 250);",
    ),
    ("bug32407.001", "CREATE TABLE t1 (a INT); INSERT INTO t1 VALUES (1), (1);"),
    (
        "json-opaque.binlog",
        r#"CREATE TABLE test (a JSON); INSERT INTO test VALUES ('{"a": "base64:type15:VQ=="}'),
           ('{"b": "2012-03-18"}'), ('{"c": "2012-03-18 11:30:45.000000"}'), ('{"c": "87:31:46.654321"}'),
           ('{"d": 123.456}'), ('{"e": 9.00}'), ('{"e": [0, 1, true, false]}'), ('{"e": null}');"#,
    ),
    // Everybody is a year older; that they are two years older is in the transaction that cannot be read.
    (
        "json.binlog.000001",
        r#"CREATE TABLE t (id INT PRIMARY KEY, json_col JSON, name VARCHAR(100), age INT);
           INSERT INTO t VALUES (1, '{"age": 25, "data": "xxxxxxxxxx", "name": "Joe"}', 'Joe', 25),
             (2, '{"age": 33, "data": "yyyyyyyyyy", "name": "Sue"}', 'Sue', 33),
             (3, '{"age": 41, "data": "zzzzzzzzzz", "name": "Pete"}', 'Pete', 41);
           INSERT INTO t SELECT id + 3, json_col, name, age FROM t;"#,
    ),
    (
        "mariadb-bin.000001",
        r#"SET time_zone = '+00:00'; CREATE TABLE outbox (id INT PRIMARY KEY, topic TEXT,
             event_type VARCHAR(9), event BLOB, created TIMESTAMP);
           INSERT INTO outbox VALUES (62, 'foo', 'JSON', '{"foo":1}', FROM_UNIXTIME(1650493084)),
             (63, 'foo', 'JSON', '{"foo":1}', FROM_UNIXTIME(1650493195));"#,
    ),
    (
        "minimal_row_metadata.000001",
        "CREATE TABLE t1 (c1 INT, c2 BLOB, c3 TEXT, c4 INT, c5 BIGINT);
         INSERT INTO t1 VALUES (1, NULL, 'a', NULL, 3230202323);",
    ),
    (
        "mysql-enum-string-set.000001",
        "CREATE TABLE t (f1 TEXT, f2 TEXT, f3 TEXT, f4 TEXT, f5 TEXT);",
    ),
    (
        "mysql_type_bit.000001",
        "CREATE TABLE foo (a BIT(3), b TEXT, c BIT(8)); INSERT INTO foo VALUES (b'100', 'foo', b'100000');",
    ),
    (
        "rpl_unfiltered_hidden_gcol.000001",
        "CREATE TABLE t (c1 INT, c2 BIGINT, c3 TEXT); INSERT INTO t VALUES (1, NULL, '1');",
    ),
    ("time_issue.000001", "CREATE TABLE t (c1 TIME); INSERT INTO t VALUES ('-507:48:27');"),
    ("transaction_compression.000001", "CREATE TABLE tb1 (c1 INT); INSERT INTO tb1 VALUES (1);"),
    ("update-full-row.binlog", NDB_FULL),
    ("update-partial-row.binlog", NDB_FULL),
    // The database is dropped and made anew in the middle, with the same rows.
    (
        "vector.binlog",
        "CREATE TABLE foo (id BIGINT UNSIGNED PRIMARY KEY, vector_column TEXT);
         INSERT INTO foo VALUES (1, '[1.1,2.2,3.3]'), (2, '[1.0,-1.0,0.0]');
         CREATE TABLE bar (id BIGINT UNSIGNED PRIMARY KEY, vector_column TEXT, foo TEXT, vector_column2 TEXT);
         INSERT INTO bar VALUES (1, '[1.1,2.2]', NULL, '[1.1,2.2,3.3,4.4]'),
           (3, '[2.01,-2.01]', NULL, '[42.1,43.2,44.3,45.4]');",
    ),
    ("ver_5_1_23.001", OLD),
    ("ver_trunk_row_v2.001", OLD),
    ("write-full-row.binlog", NDB_FULL),
    // NDB logs an update as a row that comes, here without the column that stays; whoever is not told
    // that it stays has to take it for NULL.
    (
        "write-partial-row.binlog",
        "CREATE TABLE ba (c1 INT PRIMARY KEY, c2 INT, c3 INT);
         INSERT INTO ba VALUES (1, 1, 1), (3, 3, 3), (4, NULL, 40);",
    ),
];

const NDB_FULL: &str = "CREATE TABLE ba (c1 INT PRIMARY KEY, c2 INT, c3 INT);
                        INSERT INTO ba VALUES (1, 1, 1), (3, 3, 3), (4, 4, 40);";

const OLD: &str = "CREATE TABLE t1 (a INT, b VARCHAR(50)); INSERT INTO t1 VALUES (1, 'one');";

/// Recordings that end in an error, and its words.
const ENDS: &[(&str, &str)] = &[
    ("binlog_truncated_event.000001", "ends too early"),
    ("binlog_truncated_prev_gtid_event.000001", "ends too early"),
    ("bug40482-bin.000001", "the server logged an incident"),
    ("corrupt-relay-bin.000624", "ends too early"),
    (
        "json.binlog.000001",
        "changed parts of a JSON document but not the document",
    ),
    ("ver_5_1-wl2325_r.001", "ends too early"),
    ("ver_5_1-wl2325_s.001", "an event of type 20"),
];

/// A recording as a log.
pub(super) fn log(name: String, file: Vec<u8>) -> Log {
    let of = |list: &[(&'static str, &'static str)]| {
        let found = list.iter().find(|(of, _)| *of == name);
        found.map_or("", |(_, words)| words)
    };
    Log {
        left: of(LEFT).to_owned() + &ndb_status(&name),
        end: of(ENDS),
        name,
        file,
    }
}

/// What NDB writes beside the rows: one row, whose first value is the number of the server.
fn ndb_status(name: &str) -> String {
    let server = match name {
        "write-partial-row.binlog" => 1,
        "write-full-row.binlog" => 2,
        "update-partial-row.binlog" => 3,
        "update-full-row.binlog" => 4,
        _ => return String::new(),
    };
    format!(
        "CREATE TABLE ndb_apply_status (c1 INT, c2 BIGINT, c3 BLOB, c4 BIGINT, c5 BIGINT); \
         INSERT INTO ndb_apply_status VALUES ({server}, 25769803786, '', 0, 0);"
    )
}

/// A table of a log that has none.
pub(super) fn nothing() -> TableSchema {
    let id = ColumnSchema::new("id", INT, "int");
    TableSchema::new(TableName::new("d", "nothing"), vec![id])
}

const INT: ColumnType = ColumnType::Int {
    bits: 32,
    unsigned: false,
};

/// The tables of a log, with what the `CREATE TABLE` in it says and the table map does not.
pub(super) fn described(log: &str, mut tables: Vec<TableSchema>) -> Vec<TableSchema> {
    let Some(table) = tables.first_mut() else {
        return tables;
    };
    let columns = |of: &[(&str, ColumnType, &str)]| -> Vec<ColumnSchema> {
        of.iter()
            .map(|(name, ty, native)| ColumnSchema::new(*name, ty.clone(), *native))
            .collect()
    };
    let text = ColumnType::Text {
        max_chars: Some(100),
    };
    let bits = |len| ColumnType::Bits {
        len: Some(len),
        varying: false,
    };
    match log {
        "update-full-row.binlog"
        | "update-partial-row.binlog"
        | "write-full-row.binlog"
        | "write-partial-row.binlog" => table.primary_key = vec![0],
        "binlog_56_gtid_reserved_word.000001" => {
            table.columns = columns(&[("a", INT, "int")]);
            table.primary_key = vec![0];
        }
        "bug32407.001" => table.columns = columns(&[("a", INT, "int")]),
        "json.binlog.000001" => {
            let json = ColumnType::Json { normalised: true };
            table.columns = columns(&[
                ("id", INT, "int"),
                ("json_col", json, "json"),
                ("name", text, "varchar(100) character set utf8mb4"),
                ("age", INT, "int"),
            ]);
            table.primary_key = vec![0];
        }
        "mysql_type_bit.000001" => {
            table.columns = columns(&[
                ("a", bits(3), "bit(3)"),
                (
                    "b",
                    ColumnType::Text { max_chars: None },
                    "text character set utf8mb4",
                ),
                ("c", bits(8), "bit(8)"),
            ]);
        }
        "ver_5_1_23.001" | "ver_trunk_row_v2.001" => {
            table.columns = columns(&[
                ("a", INT, "int"),
                ("b", text, "char(50) character set latin1"),
            ]);
        }
        _ => {}
    }
    tables
}
