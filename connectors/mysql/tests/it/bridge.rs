//! A table that was altered is read as it is now, from a place on where it was another.

use thalweg_core::ports::Bridge;
use thalweg_core::position::{Layout, Position};
use thalweg_core::schema::{Drift, TableSchema, drifts};
use thalweg_core::value::{CellRef, decode_raw};
use thalweg_core::{Error, Kind};

use super::world::{Log, World, line, says};

/// The table `t` as it is now, every column wanted.
async fn now(world: &World) -> TableSchema {
    let mut tables = world.tables(&["t"]).await;
    TableSchema {
        whole: true,
        ..tables.remove(0)
    }
}

/// What a control plane asks and hears of a table that was `then` at the stored place.
async fn bridge(world: &World, then: &TableSchema, now: &TableSchema) -> Bridge {
    let (mut added, mut retyped) = (Vec::new(), Vec::new());
    for drift in drifts(&then.fingerprint(), &now.fingerprint()) {
        match drift {
            Drift::Added(name) => added.push(now.column_index(&name).unwrap()),
            Drift::Retyped { column, was, .. } => {
                retyped.push((now.column_index(&column).unwrap(), was));
            }
            Drift::Dropped(_) => {}
            other => panic!("{other}"),
        }
    }
    let source = world.source();
    let bridge = source.bridge(now, then.layout.as_ref(), &added, &retyped);
    bridge.await.unwrap()
}

/// The table with the layout that leads to it, and the fills as text.
fn open(now: &TableSchema, bridge: Bridge) -> (TableSchema, Vec<String>) {
    let Bridge::Open { layout, fills, .. } = bridge else {
        panic!("{bridge:?}");
    };
    let text = |raw: &Vec<u8>| match decode_raw(raw).unwrap() {
        CellRef::Decimal(number) => number.to_string(),
        cell => format!("{cell:?}"),
    };
    (with(now, &layout), fills.iter().map(text).collect())
}

fn with(table: &TableSchema, layout: &Layout) -> TableSchema {
    TableSchema {
        layout: Some(layout.clone()),
        ..table.clone()
    }
}

/// What the log has from a place on: lines, and behind each transaction the place and the layout there; and
/// the error that ended it before the present end.
async fn read(
    world: &World,
    from: &Position,
    table: &TableSchema,
) -> (Vec<(String, Position, Layout)>, Option<Error>) {
    let mut log = world.open(from, std::slice::from_ref(table)).await;
    follow(&mut log, table).await
}

/// The same of a stream that is open.
async fn follow(
    log: &mut Log,
    table: &TableSchema,
) -> (Vec<(String, Position, Layout)>, Option<Error>) {
    let mark = log.source.head().await.unwrap();
    let names = [table.name.name.clone()];
    let mut layout = table.layout.clone().unwrap();
    let mut out = Vec::new();
    loop {
        let part = match log.part().await {
            Ok(part) => part,
            Err(error) => return (out, Some(error)),
        };
        for change in part.schema {
            layout = change.layout;
        }
        let changes = part.changes.changes.iter();
        let lines: Vec<_> = changes
            .map(|c| line(c, &part.changes.rows, &names))
            .collect();
        let at = part.commit.unwrap().position;
        out.push((lines.join(" "), at.clone(), layout.clone()));
        if log.source.reached(&at, &mark).unwrap() {
            return (out, None);
        }
    }
}

fn lines(all: &[(String, Position, Layout)]) -> Vec<&str> {
    let lines = all.iter().map(|(lines, ..)| lines.as_str());
    lines.filter(|line| !line.is_empty()).collect()
}

/// The same of a stream that comes to the end.
async fn rest(
    world: &World,
    from: &Position,
    table: &TableSchema,
) -> Vec<(String, Position, Layout)> {
    let (all, error) = read(world, from, table).await;
    assert!(error.is_none(), "{}", error.unwrap().chain());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_read_as_it_is_now_from_any_place() {
    for config in [
        &[][..],
        &["binlog_row_metadata=FULL"],
        &["binlog_row_image=MINIMAL"],
    ] {
        let world = World::new(config);
        world.sql(
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, e ENUM('x', 'y'), \
             s VARCHAR(9) CHARACTER SET latin1, d DATETIME, gone INT)",
        );
        let start = world.here().await;
        let then = now(&world).await;
        let mut first = world.open(&start, std::slice::from_ref(&then)).await;
        world.sql(
            "INSERT INTO t VALUES (1, 10, 'x', 'é', '2024-01-02 03:04:05', 5); UPDATE t SET a = 11; \
             ALTER TABLE t ADD c INT NOT NULL DEFAULT 7",
        );
        let (_, error) = follow(&mut first, &then).await;
        says(
            &error.unwrap(),
            Kind::Schema,
            &["ALTER TABLE on shop.t", "column c came"],
        );
        world.sql(
            "INSERT INTO t (id, a, e, s, d) VALUES (2, 20, 'y', 'b', '2024-01-02 03:04:05'); \
             UPDATE t SET c = 8 WHERE id = 2; \
             ALTER TABLE t ADD c2 INT DEFAULT 1 FIRST, ADD c3 INT; INSERT INTO t (id) VALUES (3); \
             ALTER TABLE t DROP c2; ALTER TABLE t DROP COLUMN c3, DROP gone; \
             ALTER TABLE t MODIFY a BIGINT, ADD INDEX (a); \
             INSERT INTO t VALUES (4, 5000000000, 'x', 'd', NULL, 9); \
             ALTER TABLE t MODIFY e ENUM('x', 'y', 'z'), MODIFY s VARCHAR(30) CHARACTER SET latin1, \
             ADD n VARCHAR(9) FIRST, CHANGE d d DATETIME(3); \
             INSERT INTO t VALUES ('n', 5, 1, 'z', 'a longer text', '2024-01-02 03:04:05.678', 6); \
             UPDATE t SET n = 'm' WHERE id = 1; DELETE FROM t WHERE id = 2",
        );
        let is = now(&world).await;
        let (table, fills) = open(&is, bridge(&world, &then, &is).await);
        assert_eq!(fills, ["Null", "I64(7)"]);
        let date = "Timestamp(Date { year: 2024, month: 1, day: 2 }, 11045";
        let (d, later) = (format!("{date}000000)"), format!("{date}678000)"));
        let full = [
            format!("+t NULL,1,10,'x','é',{d},7"),
            format!("~t NULL,1,10,'x','é',{d},7 > NULL,1,11,'x','é',{d},7"),
            format!("+t NULL,2,20,'y','b',{d},7"),
            format!("~t NULL,2,20,'y','b',{d},7 > NULL,2,20,'y','b',{d},8"),
            "+t NULL,3,NULL,NULL,NULL,NULL,7".to_owned(),
            "+t NULL,4,5000000000,'x','d',NULL,9".to_owned(),
            format!("+t 'n',5,1,'z','a longer text',{later},6"),
            format!("~t NULL,1,11,'x','é',{d},7 > 'm',1,11,'x','é',{d},7"),
            format!("-t NULL,2,20,'y','b',{d},8"),
        ];
        let key = |id: u32| format!("absent,{id},absent,absent,absent,absent,absent");
        let update = |id: u32, [n, a, c]: [&str; 3]| {
            format!(
                "~t {} > {n},{id},{a},Unchanged,Unchanged,Unchanged,{c}",
                key(id)
            )
        };
        let minimal = [
            full[0].clone(),
            update(1, ["Unchanged", "11", "Unchanged"]),
            full[2].clone(),
            update(2, ["Unchanged", "Unchanged", "8"]),
            full[4].clone(),
            full[5].clone(),
            full[6].clone(),
            update(1, ["'m'", "Unchanged", "Unchanged"]),
            format!("-t {}", key(2)),
        ];
        let want = match config.contains(&"binlog_row_image=MINIMAL") {
            true => minimal,
            false => full,
        };
        let all = rest(&world, &start, &table).await;
        assert_eq!(lines(&all), want, "{config:?}");
        // What is known in the end is what the server says.
        let types = |layout: &Layout| {
            let lines = layout.as_str().lines();
            let types = lines.map(|line| line.split('\t').take(2).collect::<Vec<_>>().join(" "));
            types.collect::<Vec<_>>()
        };
        let columns = types(is.layout.as_ref().unwrap());
        assert_eq!(types(&all.last().unwrap().2)[..columns.len()], columns);
        // A crash at any place: it goes on with what was stored there.
        for (n, (_, at, layout)) in all.iter().enumerate().take(all.len() - 1) {
            let from_here = rest(&world, at, &with(&is, layout)).await;
            let before = lines(&all[..=n]).len();
            assert_eq!(lines(&from_here), want[before..], "{config:?} from {at}");
        }
        // So does a plan that is made once more, before the columns came or behind it.
        for (_, at, layout) in [&all[0], &all[all.len() - 2]] {
            let there = with(&is, layout);
            let (again, fills) = open(&is, bridge(&world, &there, &is).await);
            assert_eq!((again.layout, fills), (there.layout, Vec::new()), "{at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_that_is_not_that_of_the_rows_is_found_out() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY)");
    let start = world.here().await;
    let then = now(&world).await;
    world.sql(
        "INSERT INTO t VALUES (1); ALTER TABLE t ADD c INT DEFAULT 7; INSERT INTO t VALUES (2, 2); \
         ALTER TABLE t ALTER c SET DEFAULT 9; INSERT INTO t VALUES (3, 3)",
    );
    let is = now(&world).await;
    let (table, fills) = open(&is, bridge(&world, &then, &is).await);
    assert_eq!(fills, ["I64(9)"]);
    let (all, error) = read(&world, &start, &table).await;
    assert_eq!(lines(&all), ["+t 1,9", "+t 2,2"]);
    let words = [
        "ALTER TABLE on shop.t",
        "column c was changed since it came",
    ];
    says(&error.unwrap(), Kind::Schema, &words);
    // Nor is it forgotten where the column has come and the default is still to be changed.
    let (_, at, layout) = all.last().unwrap();
    let (_, error) = read(&world, at, &with(&is, layout)).await;
    says(&error.unwrap(), Kind::Schema, &words);

    // One that is changed behind the end of the log by then is none of the rows' that were there.
    let start = world.here().await;
    let then = now(&world).await;
    world.sql("INSERT INTO t VALUES (4, 4); ALTER TABLE t ADD k INT DEFAULT 1");
    let is = now(&world).await;
    let (table, fills) = open(&is, bridge(&world, &then, &is).await);
    assert_eq!(fills, ["I64(1)"]);
    world.sql("ALTER TABLE t ALTER k SET DEFAULT 2; INSERT INTO t (id) VALUES (5)");
    let all = rest(&world, &start, &table).await;
    assert_eq!(lines(&all), ["+t 4,4,1", "+t 5,9,2"]);
    let layout = all.last().unwrap().2.as_str();
    assert!(
        layout.lines().all(|line| line.split('\t').count() <= 3),
        "{layout}"
    );
}

/// The bridge is open, but rows that were there may have values of their own.
const DOUBT: &str = "doubt";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_does_not_say_closes_the_bridge_or_leaves_a_doubt() {
    let world = World::new(&[]);
    let closed = |bridge: Bridge, word: &str| match bridge {
        Bridge::Closed(why) => assert!(why.contains(word), "{why}"),
        Bridge::Open { doubt: true, .. } if word == DOUBT => {}
        Bridge::Open { .. } | Bridge::Unread => panic!("{word}"),
    };
    for (alters, rows, want) in [
        ("ADD c INT", true, Ok("Null")),
        ("ADD c INT NOT NULL", true, Ok("I64(0)")),
        ("ADD c BIGINT UNSIGNED NOT NULL", true, Ok("U64(0)")),
        ("ADD c DECIMAL(6, 2) NOT NULL", true, Ok("0.00")),
        ("ADD c TEXT NOT NULL", true, Ok("Text(\"\")")),
        ("ADD c VARBINARY(5) NOT NULL", true, Ok("Bytes([])")),
        ("ADD c VARCHAR(9) DEFAULT 'a''b'", true, Ok("Text(\"a'b\")")),
        ("ADD c INT AS (a + 1) VIRTUAL", true, Err(DOUBT)),
        ("ADD c INT AS (id + 1) STORED", true, Err(DOUBT)),
        ("ADD c DATETIME DEFAULT CURRENT_TIMESTAMP", true, Err(DOUBT)),
        ("ADD c BINARY(3) NOT NULL", true, Err(DOUBT)),
        ("ADD c INT NOT NULL AUTO_INCREMENT UNIQUE", true, Err(DOUBT)),
        (
            "MODIFY a BIGINT UNSIGNED",
            true,
            Err("column a was int(11) and is bigint(20) unsigned"),
        ),
        ("MODIFY a DECIMAL(20)", true, Err("column a was int(11)")),
        ("MODIFY s VARCHAR(3)", true, Err("column s was varchar(9)")),
        ("MODIFY l ENUM('x')", true, Err("column l was long-")),
    ] {
        let label = "y".repeat(200);
        world.sql(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, s VARCHAR(9), l ENUM('{label}'))"
        ));
        if rows {
            world.sql("INSERT INTO t (id) VALUES (1)");
        }
        let then = now(&world).await;
        world.sql(&format!("ALTER TABLE t {alters}"));
        let is = now(&world).await;
        let bridge = bridge(&world, &then, &is).await;
        match want {
            Ok(fill) => {
                assert!(
                    matches!(&bridge, Bridge::Open { doubt: false, .. }),
                    "{alters}"
                );
                assert_eq!(open(&is, bridge).1, [fill], "{alters}");
            }
            Err(word) => closed(bridge, word),
        }
        world.sql("DROP TABLE t");
    }
    world.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT)");
    let is = now(&world).await;
    let source = world.source();
    let at_all = |then: Option<Layout>| {
        let (source, is) = (&source, &is);
        async move { source.bridge(is, then.as_ref(), &[1], &[]).await.unwrap() }
    };
    closed(at_all(None).await, "not known");
    assert_eq!(at_all(is.layout.clone()).await, Bridge::Unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_lead_elsewhere_still_end_the_stream() {
    let world = World::new(&[]);
    for (table, alters, word) in [
        ("a INT", "RENAME COLUMN a TO b", "column a is called b now"),
        ("a INT", "CHANGE a b INT", "column a is called b now"),
        // On the way there values may have been cut.
        (
            "a SMALLINT",
            "MODIFY a INT; ALTER TABLE t MODIFY a BIGINT",
            "column a is changed",
        ),
        // Where it was NULL it is 0 now.
        (
            "a INT",
            "ADD x INT; SET sql_mode = ''; ALTER TABLE t MODIFY a BIGINT NOT NULL",
            "column a is changed",
        ),
        (
            "a INT",
            "ADD x INT; ALTER IGNORE TABLE t MODIFY a BIGINT NOT NULL",
            "column a is changed",
        ),
        (
            "a INT",
            "ADD c INT DEFAULT 1; ALTER TABLE t DROP c; ALTER TABLE t ADD c INT DEFAULT 2",
            "column c goes",
        ),
    ] {
        world.sql(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, {table}); INSERT INTO t VALUES (1, NULL)"
        ));
        let start = world.here().await;
        let then = now(&world).await;
        world.sql(&format!(
            "ALTER TABLE t {alters}; INSERT INTO t (id, {}) VALUES (2, 2)",
            if word.contains("called") { "b" } else { "a" }
        ));
        let is = now(&world).await;
        let (table, _) = open(&is, bridge(&world, &then, &is).await);
        let (all, error) = read(&world, &start, &table).await;
        assert_eq!(lines(&all), Vec::<&str>::new(), "{alters}");
        says(
            &error.unwrap(),
            Kind::Schema,
            &["ALTER TABLE on shop.t", word],
        );
        world.sql("DROP TABLE t");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_while_its_stream_is_opened_is_not_begun() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, s TEXT, l ENUM('?', 'ž'))");
    let start = world.here().await;
    let then = now(&world).await;
    assert_eq!(
        rest(&world, &start, &then)
            .await
            .iter()
            .flat_map(|(l, ..)| l.chars())
            .count(),
        0
    );
    for (alters, word) in [
        ("ADD c INT", "column c came"),
        ("DROP c, DROP a", "column a is gone"),
        (
            "ADD a BIGINT AFTER id",
            "column a was int(11) and is bigint(20)",
        ),
        (
            "MODIFY a INT, MODIFY s TEXT CHARACTER SET latin1",
            "column s was text",
        ),
    ] {
        world.sql(&format!("ALTER TABLE t {alters}"));
        let (all, error) = read(&world, &start, &then).await;
        assert_eq!(all.len(), 0);
        says(
            &error.unwrap(),
            Kind::Schema,
            &["shop.t was changed while the task started", word],
        );
    }
    // Of one that is not asked for whole, what is not asked for is of no account.
    let part = TableSchema {
        whole: false,
        ..then.clone()
    };
    let (_, error) = read(&world, &start, &part).await;
    says(&error.unwrap(), Kind::Schema, &["column a goes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_the_old_type_are_given_as_those_of_the_new_one() {
    let decimal = |negative: bool, scale: u16, digits: &str| {
        let digits = digits.as_bytes();
        format!("Decimal(Finite {{ negative: {negative}, scale: {scale}, digits: {digits:?} }})")
    };
    let date = "Date { year: 2024, month: 1, day: 2 }";
    for config in [
        &[][..],
        &["binlog_row_metadata=FULL", "mysql56_temporal_format=OFF"],
    ] {
        let world = World::new(config);
        for (was, value, is, other, want) in [
            (
                "TINYINT",
                "-5",
                "BIGINT",
                "9",
                ["-5".to_owned(), "9".to_owned()],
            ),
            (
                "SMALLINT UNSIGNED",
                "65535",
                "INT UNSIGNED",
                "70000",
                ["65535".to_owned(), "70000".to_owned()],
            ),
            (
                "MEDIUMINT",
                "-8388608",
                "INT",
                "1",
                ["-8388608".to_owned(), "1".to_owned()],
            ),
            (
                "DECIMAL(5, 2)",
                "-1.5",
                "DECIMAL(30, 4)",
                "123456.7",
                [decimal(true, 4, "15000"), decimal(false, 4, "1234567000")],
            ),
            (
                "DATETIME(1)",
                "'2024-01-02 00:00:01.5'",
                "DATETIME(4)",
                "'2024-01-02 00:00:01.2345'",
                [
                    format!("Timestamp({date}, 1500000)"),
                    format!("Timestamp({date}, 1234500)"),
                ],
            ),
            (
                "TIMESTAMP NULL",
                "FROM_UNIXTIME(5)",
                "TIMESTAMP(6) NULL",
                "FROM_UNIXTIME(5.000001)",
                ["Instant(5000000)".to_owned(), "Instant(5000001)".to_owned()],
            ),
            (
                "TIME(2)",
                "'-00:00:01.25'",
                "TIME(5)",
                "'0:0:1'",
                ["Time(-1250000)".to_owned(), "Time(1000000)".to_owned()],
            ),
            (
                "CHAR(3)",
                "'a '",
                "VARCHAR(300)",
                "'é '",
                ["'a'".to_owned(), "'é '".to_owned()],
            ),
            (
                "VARCHAR(300)",
                "'é '",
                "MEDIUMTEXT",
                "'b'",
                ["'é '".to_owned(), "'b'".to_owned()],
            ),
            (
                "TINYBLOB",
                "'a'",
                "BLOB",
                "'b'",
                ["Bytes([97])".to_owned(), "Bytes([98])".to_owned()],
            ),
            (
                "SET('a', 'b')",
                "'a,b'",
                "SET('a', 'b', 'c')",
                "'a,c'",
                ["'a,b'".to_owned(), "'a,c'".to_owned()],
            ),
            (
                "ENUM('ž')",
                "'ž'",
                "ENUM('ž', 'a')",
                "'a'",
                ["'ž'".to_owned(), "'a'".to_owned()],
            ),
        ] {
            world.sql(&format!("CREATE TABLE t (id INT PRIMARY KEY, v {was})"));
            let start = world.here().await;
            let then = now(&world).await;
            world.sql(&format!(
                "INSERT INTO t VALUES (1, {value}); ALTER TABLE t MODIFY v {is}; INSERT INTO t VALUES (2, {other})"
            ));
            let is = now(&world).await;
            let (table, _) = open(&is, bridge(&world, &then, &is).await);
            let all = rest(&world, &start, &table).await;
            let [first, second] = want;
            assert_eq!(
                lines(&all),
                [format!("+t 1,{first}"), format!("+t 2,{second}")],
                "{was}"
            );
            world.sql("DROP TABLE t");
        }
    }
}
