//! Rows are read in the form their table had at their place in the log.

use serde_json::json;
use thalweg_core::Kind;
use thalweg_core::position::{Layout, Position};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_mysql::recordings::play;
use thalweg_testkit::binlog::{Binlog, Column, Form, Rows, changes, int, json as doc, text};

use super::world::{LIMITS, World, line, says};

/// Only these columns of a table, as a plan that maps no others asks for them.
fn only(table: &TableSchema, names: &[&str]) -> TableSchema {
    let mut table = table.clone();
    table.columns.retain(|c| names.contains(&c.name.as_str()));
    assert_eq!(table.primary_key, [0]);
    table
}

/// What the log has from `tables` on: lines, and after each transaction the place and the layout there.
async fn read(
    world: &World,
    from: &Position,
    table: &TableSchema,
) -> Vec<(String, Position, Layout)> {
    let mut log = world.open(from, std::slice::from_ref(table)).await;
    let mark = log.source.head().await.unwrap();
    let names = [table.name.name.clone()];
    let mut layout = table.layout.clone().unwrap();
    let mut out = Vec::new();
    loop {
        let part = log.part().await.unwrap_or_else(|e| panic!("{}", e.chain()));
        for change in part.schema {
            assert_eq!(change.table, 0);
            layout = change.layout;
        }
        let changes = part.changes.changes.iter();
        let lines: Vec<_> = changes
            .map(|c| line(c, &part.changes.rows, &names))
            .collect();
        let at = part.commit.unwrap().position;
        out.push((lines.join(" "), at.clone(), layout.clone()));
        if log.source.reached(&at, &mark).unwrap() {
            return out;
        }
    }
}

const TABLE: &str =
    "CREATE TABLE t (id INT PRIMARY KEY, x INT, a INT NOT NULL, y VARCHAR(9), b TEXT)";

/// Statements that leave id, a and b alone; some bring columns whose types lie as those of others, so
/// that a wrong layout would shift a row and not show.
const ALTERS: &[&str] = &[
    "ADD c INT NOT NULL DEFAULT 77",
    "ADD d INT DEFAULT 78 AFTER id, DROP c",
    "ADD COLUMN (e TEXT, f INT), ALGORITHM=COPY",
    "MODIFY f BIGINT FIRST, DROP x",
    "CHANGE y `a b` VARCHAR(40) AFTER b, ADD INDEX (a)",
    "ADD COLUMN IF NOT EXISTS f INT, ADD g DECIMAL(30, 7) DEFAULT 1.5 FIRST",
    "ADD h DATETIME(3) DEFAULT '2024-01-01' AFTER g, ADD i ENUM('x', 'y') DEFAULT 'y' AFTER h, \
     ADD j BIT(9) DEFAULT b'101' AFTER h, ADD k TIME(6) DEFAULT '1:2:3' FIRST, ADD l YEAR DEFAULT 2001 FIRST, \
     ADD m DOUBLE DEFAULT 1 FIRST, ADD n TIMESTAMP(2) NULL DEFAULT NULL FIRST, ADD o MEDIUMBLOB AFTER a",
    "RENAME COLUMN d TO z, ALTER a SET DEFAULT 9",
    "ADD UNIQUE KEY (id, a), ADD p INT AS (a + 1) VIRTUAL AFTER id, ADD q INT AS (a + 2) STORED AFTER id",
    "ENGINE=InnoDB ROW_FORMAT=DYNAMIC, COMMENT 'x', ADD r INT INVISIBLE DEFAULT 5 FIRST",
    "DROP INDEX a, DROP COLUMN z, ADD z INT DEFAULT 79 FIRST",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_a_table_had_is_read_from_any_place() {
    for config in [
        &[][..],
        &["binlog_row_metadata=FULL"],
        &["binlog_row_image=MINIMAL"],
    ] {
        let world = World::new(config);
        world.sql(TABLE);
        let start = world.here().await;
        let table = only(&world.tables(&["t"]).await[0], &["id", "a", "b"]);
        let mut want = Vec::new();
        for (n, alter) in ALTERS.iter().enumerate() {
            let id = 10 * n;
            world.sql(&format!(
                "INSERT INTO t (id, a, b) VALUES ({id}, {n}, 'é{n}'), ({id} + 1, 0, NULL); \
                 UPDATE t SET a = a + 1, b = 'new' WHERE id = {id} + 1; \
                 DELETE FROM t WHERE id = {id} + 1; ALTER TABLE t {alter}"
            ));
            let (one, two) = (id, id + 1);
            want.push(format!("+t {one},{n},'é{n}' +t {two},0,NULL"));
            want.push(format!("~t {two},0,NULL > {two},1,'new'"));
            want.push(format!("-t {two},1,'new'"));
        }
        let partial = config.contains(&"binlog_row_image=MINIMAL");
        if partial {
            for line in &mut want {
                if let Some(update) = line.strip_prefix('~').and_then(|l| l.split_once(',')) {
                    let id = update.0.strip_prefix("t ").unwrap();
                    *line = format!("~t {id},absent,absent > {id},1,'new'");
                } else if let Some(delete) = line.strip_prefix("-t ") {
                    let id = delete.split(',').next().unwrap();
                    *line = format!("-t {id},absent,absent");
                }
            }
        }
        let all = read(&world, &start, &table).await;
        let lines: Vec<_> = all.iter().map(|(lines, ..)| lines.clone()).collect();
        let lines: Vec<_> = lines.into_iter().filter(|l| !l.is_empty()).collect();
        assert_eq!(lines, want, "{config:?}");
        let layouts = all.windows(2).filter(|w| w[0].2 != w[1].2).count();
        assert!(layouts >= 9, "{layouts} changes of the layout");
        // A crash at any place: it goes on with what was stored there.
        for (n, (_, at, layout)) in all.iter().enumerate() {
            let table = TableSchema {
                layout: Some(layout.clone()),
                ..table.clone()
            };
            let before = all
                .iter()
                .take(n + 1)
                .filter(|(l, ..)| !l.is_empty())
                .count();
            if n + 1 < all.len() {
                let rest = read(&world, at, &table).await;
                let rest: Vec<_> = rest
                    .into_iter()
                    .map(|(l, ..)| l)
                    .filter(|l| !l.is_empty())
                    .collect();
                assert_eq!(rest, want[before..], "{config:?} from {at}");
            }
        }
        // What is known in the end is what the server says.
        let now = world.tables(&["t"]).await[0].layout.clone().unwrap();
        let names = |layout: &Layout| {
            let lines = layout.as_str().lines().skip(1);
            let names = lines.map(|line| line.split('\t').next().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&all.last().unwrap().2), names(&now));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alter_logged_in_two_phases_counts_at_its_end() {
    let world = World::new(&[]);
    world.sql(TABLE);
    let start = world.here().await;
    let table = only(&world.tables(&["t"]).await[0], &["id", "a", "b"]);
    world.sql("INSERT INTO t VALUES (1, 2, 3, '4', '5'), (2, 2, 3, '4', '5')");
    let two = "SET binlog_alter_two_phase = 1; ALTER TABLE t";
    let fails = format!("{two} ADD c INT AFTER id, ADD UNIQUE (a)");
    world.server.sql_in("shop", &fails).unwrap_err();
    world.sql(&format!(
        "INSERT INTO t VALUES (3, 2, 3, '4', '5'); {two} ADD c INT AFTER id; \
         INSERT INTO t VALUES (4, 1, 2, 3, '4', '5')"
    ));
    let log = world.server.sql_in("shop", "SHOW BINLOG EVENTS").unwrap();
    for word in ["START ALTER", "ROLLBACK ALTER", "COMMIT ALTER"] {
        assert!(log.contains(word), "{word} in {log}");
    }
    let all = read(&world, &start, &table).await;
    let lines: Vec<_> = all
        .into_iter()
        .map(|(l, ..)| l)
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(lines, ["+t 1,3,'5' +t 2,3,'5'", "+t 3,3,'5'", "+t 4,3,'5'"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_is_that_of_the_place_or_not_known() {
    let world = World::new(&["binlog_row_image=MINIMAL"]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY, v INT DEFAULT 5, x INT DEFAULT 1)");
    let start = world.here().await;
    let table = only(&world.tables(&["t"]).await[0], &["id", "v"]);
    world.sql(
        "INSERT INTO t (id) VALUES (1); ALTER TABLE t ALTER x SET DEFAULT 2; INSERT INTO t (id) VALUES (2); \
         ALTER TABLE t ALTER v SET DEFAULT 6; INSERT INTO t (id, v) VALUES (3, 8); INSERT INTO t (id) VALUES (4)",
    );
    let (seen, error) = world.stops(&start, &[table]).await;
    let lines: Vec<_> = seen.into_iter().flat_map(|tx| tx.changes).collect();
    assert_eq!(lines, ["+t 1,5", "+t 2,5", "+t 3,8"]);
    says(&error, Kind::Config, &["shop.t.v", "default"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_layout_is_found_out() {
    let world = World::new(&[]);
    world.sql(TABLE);
    let start = world.here().await;
    let table = only(&world.tables(&["t"]).await[0], &["id", "a", "b"]);
    world.sql("INSERT INTO t VALUES (1, 2, 3, '4', '5')");
    let text = table.layout.as_ref().unwrap().as_str().to_owned();
    let line = |name: &str| {
        let mut lines = text.lines();
        lines
            .find(|l| l.starts_with(&format!("{name}\t")))
            .unwrap()
            .to_owned()
    };
    for (layout, word) in [
        (
            text.replace(&format!("{}\n", line("x")), ""),
            "5 columns in the log and 4",
        ),
        (
            format!("{text}\nz\tint(11)\t"),
            "5 columns in the log and 6",
        ),
        (
            text.replace(&line("x"), "x\tbigint(20)\t"),
            "column x has another type",
        ),
        (
            text.replace(&line("y"), "y\tint(11)\t"),
            "column y has another type",
        ),
        (
            text.replace(&line("a"), "a\tint(10) unsigned\t"),
            "column a was int(10) unsigned",
        ),
        (
            text.replace(&line("a"), "w\tint(11)\t"),
            "column a is not there",
        ),
        ("9".to_owned(), "does not understand"),
    ] {
        let table = TableSchema {
            layout: Some(Layout::new(layout)),
            ..table.clone()
        };
        let (seen, error) = world.stops(&start, &[table]).await;
        assert_eq!(seen, []);
        says(&error, Kind::Schema, &["shop.t", word]);
        assert!(error.hint().unwrap().contains("reset the task"));
    }
}

/// `d.t` as `id INT, name TEXT` of a table that also has `data JSON` behind them.
fn narrow() -> TableSchema {
    let int = ColumnType::Int {
        bits: 32,
        unsigned: false,
    };
    let text = ColumnType::Text { max_chars: None };
    TableSchema {
        primary_key: vec![0],
        layout: Some(Layout::new("1\nid\tint\t\nname\ttext\t\ndata\tjson\t")),
        ..TableSchema::new(
            TableName::new("d", "t"),
            vec![
                ColumnSchema::new("id", int, "int"),
                ColumnSchema::new("name", text, "text character set utf8mb4"),
            ],
        )
    }
}

/// Played with the table as it was at the beginning: lines, layouts, and how it ended.
fn played(log: &Binlog) -> (Vec<String>, usize, thalweg_core::Result<()>) {
    let played = play(log.bytes(), Some(&[narrow()]), LIMITS);
    let (mut lines, mut layouts) = (Vec::new(), 0);
    for part in &played.transactions {
        let names = ["t".to_owned()];
        let all = part.changes.changes.iter();
        lines.extend(all.map(|change| line(change, &part.changes.rows, &names)));
        layouts += part.schema.len();
    }
    (lines, layouts, played.end)
}

#[test]
fn logs_of_mysql_are_read_through_their_definitions() {
    let [id, name, data] = [
        Column::int("id"),
        Column::text("name"),
        Column::json("data"),
    ];
    let time = Column::other("v", 18, &[3]);
    for full in [false, true] {
        let mut log = Binlog::new("8.4.0", true);
        let old = [id.clone(), name.clone(), data.clone()];
        log.gtid([1; 16], 1);
        log.query("d", "BEGIN");
        log.table_map(9, "d", "t", &old, full);
        let row = [int(1), text("a"), doc(&json!({"n": 1}))];
        log.rows(
            Rows::Write,
            Form::V2,
            9,
            &[true; 3],
            &[true; 3],
            &[row.to_vec()],
        );
        let differs = changes(&[(0, "$.n", Some(json!("two")))]);
        let row = [&row[..], &[int(2), text("b"), differs]].concat();
        log.partial_update(9, &[true; 3], &[true; 3], &[true], &row);
        log.xid();
        log.gtid([1; 16], 2);
        log.query(
            "d",
            "ALTER TABLE t ADD COLUMN extra JSON AFTER id, ALGORITHM=INSTANT",
        );
        log.gtid([1; 16], 3);
        log.payload(true, |log| {
            log.query("d", "BEGIN");
            let extra = Column::json("extra");
            log.table_map(
                10,
                "d",
                "t",
                &[id.clone(), extra, name.clone(), data.clone()],
                full,
            );
            let row = vec![int(3), doc(&json!([1, {}])), text("c"), None];
            log.rows(Rows::Write, Form::V2, 10, &[true; 4], &[true; 4], &[row]);
            let row = vec![int(3), text("d")];
            let (before, after) = ([true, false, false, false], [false, false, true, false]);
            log.rows(Rows::Update, Form::V2, 10, &before, &after, &[row]);
            log.xid();
        });
        log.gtid([1; 16], 4);
        let alter = "ALTER TABLE `d`.`t` RENAME COLUMN extra TO `name 2`, DROP data, ADD v DATETIME(3) FIRST";
        log.query("other", alter);
        log.gtid([1; 16], 5);
        log.query("d", "BEGIN");
        let more = Column::json("name 2");
        log.table_map(
            9,
            "d",
            "t",
            &[time.clone(), id.clone(), more, name.clone()],
            full,
        );
        let value = Some(vec![0x99; 7]);
        let row = vec![value, int(4), doc(&json!(true)), text("e")];
        log.rows(Rows::Delete, Form::V2, 9, &[true; 4], &[true; 4], &[row]);
        log.xid();
        let (lines, layouts, end) = played(&log);
        end.unwrap();
        let want = [
            "+t 1,'a'",
            "~t 1,'a' > 2,'b'",
            "+t 3,'c'",
            "~t 3,absent > 3,'d'",
            "-t 4,'e'",
        ];
        assert_eq!(lines, want, "full: {full}");
        assert_eq!(layouts, 2);
        // Without the last statement the columns are as many, and not the same.
        let mut wrong = Binlog::new("8.4.0", true);
        wrong.gtid([1; 16], 5);
        wrong.query("d", "BEGIN");
        wrong.table_map(9, "d", "t", &[id.clone(), data.clone(), name.clone()], full);
        wrong.xid();
        let (lines, _, end) = played(&wrong);
        assert!(lines.is_empty());
        says(&end.unwrap_err(), Kind::Schema, &["d.t", "column"]);
    }
}
