//! Rows that go as files (`LOAD DATA LOCAL`), beside the same rows as statements.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp};
use thalweg_core::mapping::TaskOptions;
use thalweg_core::plan::Plan;
use thalweg_core::value::{CellRef, Date, DecimalRef, RowBatch};

use crate::target_world::{Goal, at, load_whole, ordered, row, says};

/// How many files the server has read.
const FILES: &str =
    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Com_load'";

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a varchar(60) CHARACTER SET latin1, b longtext, \
     c decimal(30, 10), d datetime(6), e double, f float, g date, h time(3), i timestamp(6) NULL, \
     j char(40), k bigint unsigned, l json, m uuid)";

/// Texts that mean something in a file, a statement, or both.
const TEXTS: [&str; 22] = [
    "",
    " ",
    "\\",
    "\\N",
    "N",
    "NULL",
    "\\\\",
    "\t",
    "\n",
    "\r\n",
    "a\tb\\\tc\nd",
    "'",
    "''",
    "\"",
    "\0",
    "\u{1a}",
    "%_",
    "ünicode",
    "\\0",
    "\\t",
    "\\n",
    "end\\",
];

fn rows(first: i64) -> RowBatch {
    let mut rows = RowBatch::new();
    for n in 0..200_i64 {
        let number = usize::try_from(n).unwrap();
        let text = TEXTS[number % TEXTS.len()];
        // What a CHAR column does not keep is refused by both.
        let kept = text.trim_end_matches(' ');
        let wide = format!("{text}\u{1f40e}{text}");
        let digits = format!("{}", 1 + n * 1_234_567);
        let json = format!("{{\"a\": \"\\t{n}\"}}");
        let decimal = CellRef::Decimal(DecimalRef::Finite {
            negative: n % 2 == 1,
            scale: 3,
            digits: digits.as_bytes(),
        });
        let day = Date {
            year: 1970 + i32::try_from(n).unwrap(),
            month: 2,
            day: 3,
        };
        let mut uuid = [n.unsigned_abs().to_le_bytes()[0]; 16];
        (uuid[6], uuid[8]) = (0x4a, 0x8b);
        let null = |cell| if n % 7 == 3 { CellRef::Null } else { cell };
        row(
            &mut rows,
            &[
                CellRef::I64(first + n),
                null(CellRef::Text(text)),
                null(CellRef::Text(&wide)),
                null(decimal),
                null(CellRef::Timestamp(day, n * 1_000_003)),
                null(CellRef::F64(1.0 / (n as f64 + 3.0) * 1e-200)),
                null(CellRef::F32(1.0 / (n as f32 + 3.0))),
                null(CellRef::Date(day)),
                null(CellRef::Time(-n * 61_001_000)),
                null(CellRef::Instant((n + 2) * 1_000_000_007)),
                null(CellRef::Text(kept)),
                null(CellRef::U64(u64::MAX - n.unsigned_abs())),
                null(CellRef::Json(&json)),
                null(CellRef::Uuid(uuid)),
            ],
        );
    }
    rows
}

fn inserts(rows: RowBatch, position: u32) -> ApplyBatch {
    let inserts: Vec<usize> = (0..rows.len()).collect();
    let ops: Vec<_> = inserts.iter().map(|&row| RowOp::Insert(row)).collect();
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
}

async fn plan(goal: &Goal) -> Arc<Plan> {
    goal.sql(TABLE);
    goal.plan_into(&["t"], TaskOptions::default()).await
}

fn files(goal: &Goal) -> u64 {
    goal.sql(FILES).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_bring_what_statements_bring() {
    let goal = Goal::new();
    let plan = plan(&goal).await;
    let mut sums = Vec::new();
    for (local, expected) in [(0, 0), (1, 2)] {
        goal.sql(&format!("SET GLOBAL local_infile = {local}; DELETE FROM t"));
        let before = files(&goal);
        let mut loader = goal.loader(&plan).await;
        let loaded = load_whole(loader.as_mut(), &plan, 0, &rows(0), "1").await;
        loaded.unwrap();
        let mut applier = goal.applier(&plan).await;
        let applied = applier.apply(&inserts(rows(1_000), 1)).await.unwrap();
        assert_eq!(
            (applied.counts[0].inserts, applied.counts[0].repaired),
            (200, 0)
        );
        assert_eq!(files(&goal) - before, expected, "local_infile = {local}");
        let rows = goal.sql("SELECT * FROM t ORDER BY id");
        sums.push((rows, goal.sql("CHECKSUM TABLE t EXTENDED")));
    }
    assert_eq!(sums[0], sums[1]);
    assert_eq!(goal.sql("SELECT COUNT(*) FROM t"), "400");
}

/// A file's warnings are errors of statements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_file_would_change_or_skip_is_told_as_ever() {
    let goal = Goal::new();
    let plan = plan(&goal).await;
    // Too long, not of the character set: changed with a warning.
    for (text, code) in [("x".repeat(61), "1406"), ("\u{1f40e}".into(), "1366")] {
        let mut rows = rows(0);
        let mut cells = vec![CellRef::Null; 14];
        cells[0] = CellRef::I64(500);
        cells[1] = CellRef::Text(&text);
        row(&mut rows, &cells);
        let before = files(&goal);
        let mut loader = goal.loader(&plan).await;
        let error = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
        says(&error.unwrap_err(), Kind::Data, code, "");
        assert_eq!(files(&goal) - before, 1);
        drop(loader);
        let mut applier = goal.applier(&plan).await;
        let error = applier.apply(&inserts(rows, 1)).await.unwrap_err();
        says(&error, Kind::Data, code, "");
    }
    // Skipped with a warning: the rows that are there. The source's win, and are counted.
    goal.sql("INSERT INTO t (id, e) VALUES (7, 1), (8, 1)");
    let mut applier = goal.applier(&plan).await;
    let applied = applier.apply(&inserts(rows(0), 1)).await.unwrap();
    assert_eq!(applied.counts[0].repaired, 2);
    assert_eq!(goal.sql("SELECT COUNT(*) FROM t WHERE e = 1"), "0");
    assert_eq!(goal.sql("SELECT COUNT(*) FROM t"), "200");
}
