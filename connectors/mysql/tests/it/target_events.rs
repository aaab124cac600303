//! Rows that go as row events (`BINLOG`), beside the same rows as statements.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableCounts};
use thalweg_core::mapping::{ForeignKeys, TaskOptions};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applier, Loader, Target};
use thalweg_core::value::{CellRef, Date, DecimalRef, RowBatch};

use crate::target_world::{Goal, at, load_whole, ordered, row, says};

/// How often the server has replayed events.
const REPLAYED: &str = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Com_binlog'";

const COLUMNS: [&str; 41] = [
    "id bigint PRIMARY KEY AUTO_INCREMENT",
    "a1 tinyint",
    "a2 tinyint unsigned",
    "a3 smallint",
    "a4 smallint unsigned",
    "a5 mediumint",
    "a6 mediumint unsigned",
    "a7 int",
    "a8 int unsigned zerofill",
    "a9 bigint unsigned NOT NULL",
    "b1 float",
    "b2 double",
    "b3 decimal(30, 10)",
    "b4 decimal(5, 0)",
    "b5 decimal(65, 30)",
    "b6 decimal(9, 9)",
    "c1 year",
    "c2 date",
    "c3 time",
    "c4 time(3)",
    "c5 time(6)",
    "c6 datetime",
    "c7 datetime(2)",
    "c8 datetime(6)",
    "c9 timestamp NULL",
    "d1 timestamp(5) NULL ON UPDATE current_timestamp(5)",
    "d2 bit(1)",
    "d3 bit(13)",
    "d4 bit(64)",
    "e1 varchar(60) CHARACTER SET utf8mb4",
    "e2 varchar(60) CHARACTER SET latin1",
    "e3 char(40)",
    "e4 char(255) CHARACTER SET utf8mb4",
    "e5 tinytext",
    "e6 text CHARACTER SET utf8mb4",
    "e7 longtext CHARACTER SET utf8mb4",
    "f1 varbinary(300)",
    "f2 binary(4)",
    "f3 blob",
    "g1 enum('a', 'b', 'ünicode') CHARACTER SET utf8mb4",
    "g2 set('x', 'y', 'z')",
];

const TEXTS: [&str; 10] = [
    "",
    "a",
    "'",
    "\\",
    "\0",
    "a\tb\n",
    "Ünïcode",
    "\u{1f40e}",
    "end ",
    " start",
];

fn pick<T: Copy>(list: &[T], n: i64) -> T {
    let count = i64::try_from(list.len()).unwrap();
    list[usize::try_from(n.rem_euclid(count)).unwrap()]
}

/// One of many values for each column.
fn put(rows: &mut RowBatch, id: i64, n: i64, order: &[usize]) -> usize {
    let text = pick(&TEXTS, n);
    let kept = text.trim_end_matches(' ');
    let ascii = if text.is_ascii() { text } else { "plain" };
    let wide = text.repeat(30);
    let wide = wide.trim_end_matches(' ');
    let digits = (1 + n * 1_234_567).to_string();
    let decimal = |digits, scale| {
        CellRef::Decimal(DecimalRef::Finite {
            negative: n % 2 == 1 && digits != b"0",
            scale,
            digits,
        })
    };
    let day = pick(
        &[
            (1, 1, 1),
            (1970, 2, 28),
            (9999, 12, 31),
            (0, 0, 0),
            (2024, 2, 31),
            (2000, 0, 0),
        ],
        n,
    );
    let day = Date {
        year: day.0,
        month: day.1,
        day: day.2,
    };
    let micros = pick(&[0, 1, 86_399_999_999, 43_200_120_000], n);
    let time = pick(
        &[0, -1, 3_020_399_000_000, -3_020_399_999_000, -61_120_000],
        n,
    );
    let cut = |micros: i64, unit: i64| micros / unit * unit;
    let moment = pick(
        &[1_000_000, 1_700_000_000_123_450, 2_147_483_647_000_000],
        n,
    );
    let zero = Date {
        year: 0,
        month: 0,
        day: 0,
    };
    let bits = n.unsigned_abs().to_be_bytes();
    let [.., high, low] = u16::try_from(n % 8192)
        .unwrap_or(0)
        .to_be_bytes()
        .map(u16::from);
    let thirteen = ((high << 8 | low) << 3).to_be_bytes();
    let bytes: Vec<u8> = (0..n % 290).map(|b| b.to_le_bytes()[0]).collect();
    let number = |signed: i64, n: i64| pick(&[0, 1, -1, signed, -signed - 1, n], n);
    let above = |max: u64| pick(&[0, 1, max, max / 2], n);
    let cells = [
        CellRef::I64(id),
        CellRef::I64(number(127, n % 100)),
        CellRef::U64(above(255)),
        CellRef::I64(number(32_767, n)),
        CellRef::U64(above(65_535)),
        CellRef::I64(number(8_388_607, n)),
        CellRef::U64(above(16_777_215)),
        CellRef::I64(number(i64::from(i32::MAX), n)),
        CellRef::U64(above(u64::from(u32::MAX))),
        CellRef::U64(above(u64::MAX)),
        CellRef::F32(1.0 / (n as f32 + 3.0)),
        CellRef::F64(pick(&[0.0, -1.5, f64::MAX, f64::MIN_POSITIVE], n)),
        decimal(digits.as_bytes(), 3),
        decimal(
            pick(&[b"0".as_slice(), b"99999", b"7", b"1200000"], n),
            if n % 4 == 3 { 2 } else { 0 },
        ),
        decimal(
            pick(
                &[
                    b"1".as_slice(),
                    &[b'9'; 65],
                    b"123456789012345678901234567890",
                ],
                n,
            ),
            30,
        ),
        decimal(
            pick(&[b"0".as_slice(), b"999999999", b"1"], n),
            if n % 3 == 0 { 0 } else { 9 },
        ),
        CellRef::I64(pick(&[0, 1901, 2155, 1970], n)),
        CellRef::Date(day),
        CellRef::Time(cut(time, 1_000_000)),
        CellRef::Time(cut(time, 1_000)),
        CellRef::Time(time),
        CellRef::Timestamp(day, cut(micros, 1_000_000)),
        CellRef::Timestamp(day, cut(micros, 10_000)),
        CellRef::Timestamp(day, micros),
        if n % 5 == 1 {
            CellRef::Timestamp(zero, 0)
        } else {
            CellRef::Instant(cut(moment, 1_000_000))
        },
        CellRef::Instant(cut(moment, 10)),
        CellRef::Bits(1, pick(&[&[0], &[0x80]], n)),
        CellRef::Bits(13, &thirteen),
        CellRef::Bits(64, &bits),
        CellRef::Text(text),
        CellRef::Text(ascii),
        CellRef::Text(if kept.is_ascii() { kept } else { "plain" }),
        CellRef::Text(wide),
        CellRef::Text(ascii),
        CellRef::Text(text),
        CellRef::Text(wide),
        CellRef::Bytes(&bytes),
        CellRef::Bytes(pick(&[b"abcd", b"\0\0\0\0", b"a\0\0\0", b"    "], n)),
        CellRef::Bytes(&bytes),
        CellRef::Text(pick(&["a", "b", "ünicode"], n)),
        CellRef::Text(pick(&["", "x", "x,z", "x,y,z"], n)),
    ];
    let cells: Vec<CellRef<'_>> = order
        .iter()
        .map(|&column| match column {
            0 | 9 => cells[column],
            column if (n + i64::try_from(column).unwrap()) % 11 == 5 => CellRef::Null,
            column => cells[column],
        })
        .collect();
    row(rows, &cells)
}

/// Deletes, updates and inserts of these.
fn batch(position: u32, order: &[usize], ids: [std::ops::Range<i64>; 3]) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position: at(position),
        ..ApplyBatch::default()
    };
    let mut folded = FoldedTable::default();
    let mut ops = Vec::new();
    let [deletes, updates, inserts] = ids;
    for id in deletes {
        let row = put(&mut batch.rows, id, id, order);
        folded.deletes.push(row);
        ops.push(RowOp::Delete(row));
    }
    for id in updates {
        let before = put(&mut batch.rows, id, id, order);
        let after = put(&mut batch.rows, id, id + 7, order);
        folded.updates.push((before, after));
        ops.push(RowOp::Update { before, after });
    }
    for id in inserts {
        let row = put(&mut batch.rows, id, id, order);
        folded.inserts.push(row);
        ops.push(RowOp::Insert(row));
    }
    batch.ordered = ordered(&ops);
    batch.folded = Some(vec![Net::Folded(folded)]);
    batch
}

fn replayed(goal: &Goal) -> u64 {
    goal.sql(REPLAYED).parse().unwrap()
}

/// The octets of all values of the table.
fn rows_of(goal: &Goal) -> String {
    let cells: Vec<String> = COLUMNS
        .iter()
        .filter_map(|column| column.split(' ').next())
        .map(|name| format!("COALESCE(HEX(CAST({name} AS BINARY)), '-')"))
        .collect();
    let cells = cells.join(", ");
    goal.sql(&format!(
        "SELECT CONCAT_WS(' ', {cells}) FROM t ORDER BY id"
    ))
}

/// A user that may not replay events.
fn plain(goal: &Goal) -> Arc<dyn Target> {
    goal.sql(
        "CREATE USER IF NOT EXISTS plain@'%' IDENTIFIED BY 'plain'; \
         GRANT ALL ON *.* TO plain@'%'; REVOKE BINLOG REPLAY, SUPER ON *.* FROM plain@'%'",
    );
    goal.target_as("plain", "plain")
}

async fn loader(goal: &Goal, target: &Arc<dyn Target>, plan: &Arc<Plan>) -> Box<dyn Loader> {
    let epoch = goal.claim(plan).await.epoch;
    let loader = target.open_loader(&goal.key, epoch, Arc::clone(plan)).await;
    loader.unwrap()
}

async fn applier(goal: &Goal, target: &Arc<dyn Target>, plan: &Arc<Plan>) -> Box<dyn Applier> {
    let epoch = goal.claim(plan).await.epoch;
    let applier = target
        .open_applier(&goal.key, epoch, Arc::clone(plan))
        .await;
    applier.unwrap()
}

fn counts(inserts: u64, updates: u64, deletes: u64, repaired: u64, missing: u64) -> TableCounts {
    TableCounts {
        inserts,
        updates,
        deletes,
        repaired,
        missing,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_bring_what_statements_bring() {
    let goal = Goal::new();
    goal.sql(&format!("CREATE TABLE t ({})", COLUMNS.join(", ")));
    let straight: Vec<usize> = (0..COLUMNS.len()).collect();
    let turned: Vec<usize> = straight.iter().rev().copied().collect();
    let mut seen = Vec::new();
    for (order, events) in [(&straight, true), (&turned, true), (&straight, false)] {
        let names: Vec<&str> = order
            .iter()
            .map(|&column| COLUMNS[column].split(' ').next().unwrap())
            .collect();
        let plan = goal
            .plan_columns(&[("t", names.as_slice())], TaskOptions::default())
            .await;
        goal.sql("DELETE FROM t");
        let target = match events {
            true => Arc::clone(&goal.target),
            false => plain(&goal),
        };
        let before = replayed(&goal);
        let mut rows = RowBatch::new();
        for id in 1..701 {
            put(&mut rows, id, id, order);
        }
        let mut loader = loader(&goal, &target, &plan).await;
        let loaded = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
        loaded.unwrap();
        let mut applier = applier(&goal, &target, &plan).await;
        let batch = batch(1, order, [1..301, 301..701, 1_000..1_300]);
        let applied = applier.apply(&batch).await.unwrap();
        assert_eq!(applied.counts, [counts(300, 400, 300, 0, 0)]);
        // One statement each for the load, the deletes, and what is changed and inserted, and the
        // format for each session, which is refused where the right is not there.
        let more = replayed(&goal) - before;
        assert_eq!(more, if events { 5 } else { 2 });
        seen.push(rows_of(&goal));
    }
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[1], seen[2]);
    assert_eq!(goal.sql("SELECT COUNT(*) FROM t"), "700");
    // Whoever inserts at the target later gets a number of his own.
    assert_eq!(
        goal.sql("INSERT INTO t (a9) VALUES (0); SELECT MAX(id) FROM t"),
        "1300"
    );
}

/// Rows that are not as they should be are counted as ever, and made right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_there_already_is_counted_as_ever() {
    let goal = Goal::new();
    goal.sql(&format!("CREATE TABLE t ({})", COLUMNS.join(", ")));
    let order: Vec<usize> = (0..COLUMNS.len()).collect();
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut seen = Vec::new();
    for target in [Arc::clone(&goal.target), plain(&goal)] {
        goal.sql("DELETE FROM t");
        let mut applier = applier(&goal, &target, &plan).await;
        let whole = batch(1, &order, [0..0, 0..0, 1..1_001]);
        applier.apply(&whole).await.unwrap();
        goal.sql("DELETE FROM t WHERE id IN (3, 301, 302)");
        goal.sql("INSERT INTO t (id, a9) VALUES (1100, 1)");
        let before = replayed(&goal);
        let batch = batch(2, &order, [1..301, 301..701, 1_001..1_301]);
        let applied = applier.apply(&batch).await.unwrap();
        assert_eq!(applied.counts, [counts(300, 400, 300, 3, 1)]);
        seen.push((rows_of(&goal), replayed(&goal) - before));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert!(seen[0].1 > 0 && seen[1].1 == 0);
}

/// What the server would take from an event and should not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_value_of_the_column_is_refused_as_ever() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, a varchar(5) CHARACTER SET utf8mb4, \
         b tinyint, c varchar(60) CHARACTER SET latin1, d int NOT NULL)",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let cells = [
        CellRef::Text("short"),
        CellRef::I64(1),
        CellRef::Text("ok"),
        CellRef::I64(0),
    ];
    let fails = [
        (0, CellRef::Text("longer"), "1406"),
        (1, CellRef::I64(128), "1264"),
        (2, CellRef::Text("\u{1f40e}"), "1366"),
        (3, CellRef::Null, "takes no NULL"),
    ];
    for (column, cell, code) in fails {
        let mut rows = RowBatch::new();
        for id in 0..300 {
            let mut cells = cells;
            if id == 299 {
                cells[column] = cell;
            }
            row(&mut rows, &[&[CellRef::I64(id)], &cells[..]].concat());
        }
        let mut loader = goal.loader(&plan).await;
        let error = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
        says(&error.unwrap_err(), Kind::Data, code, "");
        drop(loader);
        let inserts: Vec<usize> = (0..300).collect();
        let ops: Vec<RowOp> = inserts.iter().map(|&row| RowOp::Insert(row)).collect();
        let batch = ApplyBatch {
            position: at(1),
            ordered: ordered(&ops),
            folded: Some(vec![Net::Folded(FoldedTable {
                inserts,
                ..FoldedTable::default()
            })]),
            rows,
            ..ApplyBatch::default()
        };
        let mut applier = goal.applier(&plan).await;
        let error = applier.apply(&batch).await.unwrap_err();
        says(&error, Kind::Data, code, "");
        drop(applier);
        assert_eq!(goal.sql("SELECT COUNT(*) FROM t"), "0");
    }
    // What only looks odd goes: characters beyond ASCII that the column's character set has.
    let mut rows = RowBatch::new();
    for id in 0..300 {
        let cells = [
            CellRef::Text("ünïcö"),
            CellRef::Null,
            CellRef::Text("ü"),
            CellRef::I64(0),
        ];
        row(&mut rows, &[&[CellRef::I64(id)], &cells[..]].concat());
    }
    let mut loader = goal.loader(&plan).await;
    let loaded = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
    loaded.unwrap();
    assert_eq!(
        goal.sql("SELECT COUNT(*) FROM t WHERE c = 'ü' AND LENGTH(c) = 1"),
        "300"
    );
}

/// Somebody alters the table between two batches: values stay with the names of their columns, and
/// what was added is obeyed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_altered_meanwhile_is_written_as_it_is() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL); \
         CREATE TABLE log (id int)",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut applier = goal.applier(&plan).await;
    let mut position = 0;
    let mut insert = |from: i64| {
        position += 1;
        let mut rows = RowBatch::new();
        for id in from..from + 300 {
            row(&mut rows, &[id, 10, 20].map(CellRef::I64));
        }
        let inserts: Vec<usize> = (0..300).collect();
        let ops: Vec<RowOp> = inserts.iter().map(|&row| RowOp::Insert(row)).collect();
        ApplyBatch {
            position: at(position),
            ordered: ordered(&ops),
            folded: Some(vec![Net::Folded(FoldedTable {
                inserts,
                ..FoldedTable::default()
            })]),
            rows,
            ..ApplyBatch::default()
        }
    };
    let right = "SELECT COUNT(*) FROM t WHERE a = 10 AND b = 20";
    let before = replayed(&goal);
    applier.apply(&insert(0)).await.unwrap();
    assert_eq!(replayed(&goal) - before, 2);
    goal.sql("ALTER TABLE t MODIFY a int NOT NULL AFTER b");
    applier.apply(&insert(1_000)).await.unwrap();
    assert_eq!(replayed(&goal) - before, 3);
    assert_eq!(goal.sql(right), "600");
    goal.sql("ALTER TABLE t MODIFY a bigint NOT NULL FIRST");
    applier.apply(&insert(2_000)).await.unwrap();
    assert_eq!(replayed(&goal) - before, 4);
    assert_eq!(goal.sql(right), "900");
    goal.sql(
        "CREATE TRIGGER after_t AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.id)",
    );
    applier.apply(&insert(3_000)).await.unwrap();
    assert_eq!(replayed(&goal) - before, 4);
    assert_eq!(goal.sql("SELECT COUNT(*) FROM log"), "300");
    // A new applier asks anew.
    goal.sql("DROP TRIGGER after_t; ALTER TABLE t ADD CHECK (id < 4100)");
    let mut applier = goal.applier(&plan).await;
    let error = applier.apply(&insert(4_000)).await.unwrap_err();
    says(&error, Kind::Data, "4025", "");
    assert_eq!(goal.sql(right), "1200");
}

/// A server that forgives what is missing could not be believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgives_gets_statements() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a int); SET GLOBAL slave_exec_mode = 'IDEMPOTENT'",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut rows = RowBatch::new();
    for id in 0..300 {
        row(&mut rows, &[id, 1].map(CellRef::I64));
    }
    let before = replayed(&goal);
    let mut loader = goal.loader(&plan).await;
    let loaded = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
    loaded.unwrap();
    assert_eq!(replayed(&goal), before);
}

/// The server would follow a foreign key of an event though the session does not check any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_no_foreign_key_is_to_follow_stay() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a int); \
         CREATE TABLE child (id int PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id) ON DELETE CASCADE); \
         INSERT INTO t SELECT seq, 1 FROM seq_0_to_299; INSERT INTO child SELECT id FROM t",
    );
    let options = TaskOptions {
        foreign_keys: ForeignKeys::Replica,
        ..TaskOptions::default()
    };
    let plan = goal.plan_into(&["t"], options).await;
    let mut batch = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    for id in 0..300 {
        row(&mut batch.rows, &[id, 1].map(CellRef::I64));
    }
    let deletes: Vec<usize> = (0..300).collect();
    let ops: Vec<RowOp> = deletes.iter().map(|&row| RowOp::Delete(row)).collect();
    batch.ordered = ordered(&ops);
    batch.folded = Some(vec![Net::Folded(FoldedTable {
        deletes,
        ..FoldedTable::default()
    })]);
    let mut applier = goal.applier(&plan).await;
    applier.apply(&batch).await.unwrap();
    let left = "SELECT (SELECT COUNT(*) FROM t) + 1000 * (SELECT COUNT(*) FROM child)";
    assert_eq!(goal.sql(left), "300000");
}
