//! MySQL as a target, which cannot be had live: the statements it is sent are MariaDB's but for the
//! differences below.
//!
//! The same work is done twice against MariaDB: as it is, and saying it is MySQL of some version, behind
//! a [`Relay`] that notes what is sent. So everything a session, a load, a stream and a removal say is
//! compared, word for word. It proves the text and what MariaDB makes of it, not what MySQL does with it.

use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Applier, Connector as _, DataSourceConfig, Target};
use thalweg_core::schema::{
    Calendar, ColumnType as T, ForeignKey, ReferenceAction, TableName, TableSchema,
};
use thalweg_core::value::{CellRef, Date, DecimalRef, RowBatch};

use crate::relay::Relay;
use crate::target_world::{
    Goal, at, column, int, load_whole, ordered, row, source, task, two_columns,
};
use crate::world::World;

/// Versions of MySQL: the oldest that is taken, the ends of 8, and the last series.
const VERSIONS: [&str; 4] = ["5.7.44", "8.0.36", "8.4.4", "9.2.0"];

/// What MySQL is told in other words, MariaDB's, and why.
const DIFFERENCES: [(&str, &str, &str); 3] = [
    (
        "utf8mb4_0900_bin",
        "utf8mb4_nopad_bin",
        "the collation that tells texts apart, trailing spaces included; 5.7 has none, there it is utf8mb4_bin",
    ),
    (
        "char(36) character set utf8mb4 collate utf8mb4_nopad_bin",
        "uuid",
        "MySQL has no type for it",
    ),
    (
        " AS thalweg_new ON DUPLICATE KEY",
        " ON DUPLICATE KEY",
        "VALUES() is deprecated since 8.0.20, and MariaDB has no alias for new rows",
    ),
];

/// What only MariaDB is asked or told: how the statement begins, and why.
const ONLY_MARIADB: [(&str, &str); 2] = [
    (
        "SET SESSION max_statement_time = 0, in_predicate_conversion_threshold = 0",
        "MySQL has neither; its own limit of time is for SELECT alone",
    ),
    (
        "SELECT check_clause, constraint_schema, table_name FROM information_schema.check_constraints",
        "JSON is a text with a check in MariaDB, and a type in MySQL",
    ),
];

/// A statement for MySQL in words that MariaDB understands.
fn understood(sql: &str) -> String {
    let sql = sql.replace(DIFFERENCES[0].0, DIFFERENCES[0].1);
    let mut out = sql.replace(DIFFERENCES[2].0, DIFFERENCES[2].1);
    while let Some((before, rest)) = out.split_once("thalweg_new.`") {
        let (name, behind) = rest.split_once('`').unwrap();
        out = format!("{before}VALUES(`{name}`){behind}");
    }
    out
}

/// A statement for either, as it is compared.
fn common(sql: &str) -> String {
    let sql = understood(sql).replace(DIFFERENCES[1].0, DIFFERENCES[1].1);
    let sql = sql.replace(
        "char(36) character set utf8mb4 collate utf8mb4_bin",
        DIFFERENCES[1].1,
    );
    sql.replace("utf8mb4_nopad_bin", "utf8mb4_bin")
}

/// A column of every kind, a unique and a foreign key.
fn every_kind() -> TableSchema {
    let calendar = Calendar::Real;
    let precision = 6;
    let labels = || vec!["a".to_owned(), "it's".to_owned()];
    let other = T::Other {
        system: "postgres",
        name: "inet".into(),
    };
    let kinds = [
        int(),
        int(),
        T::Bool,
        T::Float64 { special: true },
        T::Decimal {
            precision: Some(20),
            scale: Some(5),
            special: false,
        },
        T::Text { max_chars: None },
        T::Text {
            max_chars: Some(40),
        },
        T::Bytes { max_bytes: None },
        T::Date { calendar },
        T::Time {
            of_day: true,
            precision,
        },
        T::Timestamp {
            calendar,
            precision,
        },
        T::Instant {
            calendar,
            precision,
        },
        T::Instant {
            calendar: Calendar::Lenient,
            precision,
        },
        T::Uuid,
        T::Json { normalised: true },
        T::Bits {
            len: Some(9),
            varying: false,
        },
        T::Enum { labels: labels() },
        T::Set { labels: labels() },
        T::Interval,
        other,
    ];
    let named = |(n, ty): (usize, T)| match n {
        0 => column("id", ty),
        n => column(&format!("c{n}"), ty),
    };
    let columns = kinds.into_iter().enumerate().map(named).collect();
    TableSchema {
        foreign_keys: vec![ForeignKey {
            name: "parent".into(),
            columns: vec!["c1".into()],
            parent: TableName::new("there", "plain"),
            parent_columns: vec!["id".into()],
            on_delete: ReferenceAction::Cascade,
            on_update: ReferenceAction::Refuse,
            logged: false,
        }],
        comment: "every kind".into(),
        ..source("kinds", columns, &[6])
    }
}

/// A row of it, as the plan hands it over: in the target's types, of which that of a `uuid` differs.
fn kinds(rows: &mut RowBatch, id: i64, text: &str, uuid: CellRef<'_>) -> usize {
    let day = Date {
        year: 2024,
        month: 2,
        day: 29,
    };
    let decimal = DecimalRef::Finite {
        negative: true,
        scale: 5,
        digits: b"1234567",
    };
    row(
        rows,
        &[
            CellRef::I64(id),
            CellRef::Null,
            CellRef::I64(1),
            CellRef::F64(-1.5e300),
            CellRef::Decimal(decimal),
            CellRef::Text(text),
            CellRef::Text(text),
            CellRef::Bytes(b"\0\\'"),
            CellRef::Date(day),
            CellRef::Time(1_000_001),
            CellRef::Timestamp(day, 1),
            CellRef::Timestamp(day, 2),
            CellRef::Instant(1_700_000_000_000_002),
            uuid,
            CellRef::Json(r#"{"a": "it's \\ ž"}"#),
            CellRef::Bits(9, &[0x80, 0x80]),
            CellRef::Text("it's"),
            CellRef::Text("a,it's"),
            CellRef::Null,
            CellRef::Text("10.0.0.1/8"),
        ],
    )
}

fn batch(rows: RowBatch, ops: &[RowOp], position: u32) -> ApplyBatch {
    ApplyBatch {
        ordered: ordered(ops),
        position: at(position),
        rows,
        ..ApplyBatch::default()
    }
}

/// Changes of the first table one by one: some in each other's way, some of rows that are not there.
async fn one_by_one(applier: &mut dyn Applier) {
    let mut rows = RowBatch::new();
    let pair = |rows: &mut RowBatch, id, v| row(rows, &[CellRef::I64(id), CellRef::I64(v)]);
    let update = |rows: &mut RowBatch, old: (i64, i64), new: (i64, i64)| RowOp::Update {
        before: pair(rows, old.0, old.1),
        after: pair(rows, new.0, new.1),
    };
    let ops = [
        RowOp::Insert(pair(&mut rows, 1, 1)),
        RowOp::Insert(pair(&mut rows, 2, 2)),
        RowOp::Insert(pair(&mut rows, 2, 3)),
        update(&mut rows, (1, 1), (1, 3)),
        update(&mut rows, (2, 3), (2, 1)),
        update(&mut rows, (8, 8), (8, 8)),
        RowOp::Delete(pair(&mut rows, 1, 3)),
        RowOp::Delete(pair(&mut rows, 9, 9)),
    ];
    applier.apply(&batch(rows, &ops, 1)).await.unwrap();
    let rows = RowBatch::new();
    let emptied = batch(rows, &[RowOp::Truncate], 2);
    applier.apply(&emptied).await.unwrap();
}

/// Many changes of the second table as their net effect.
async fn in_bulk(applier: &mut dyn Applier, target: usize, uuid: CellRef<'_>) {
    for (position, what) in [(3, "insert"), (4, "update"), (5, "delete")] {
        let mut rows = RowBatch::new();
        let mut folded = FoldedTable {
            target,
            ..FoldedTable::default()
        };
        let mut ops = Vec::new();
        for id in 0..30 {
            let old = kinds(&mut rows, id, &format!("old {id}"), uuid);
            let new = kinds(&mut rows, id, &format!("new {id}"), uuid);
            match what {
                "insert" => {
                    folded.inserts.push(old);
                    ops.push(RowOp::Insert(old));
                }
                "update" => {
                    folded.updates.push((old, new));
                    ops.push(RowOp::Update {
                        before: old,
                        after: new,
                    });
                }
                _ => {
                    folded.deletes.push(new);
                    ops.push(RowOp::Delete(new));
                }
            }
        }
        let mut all = batch(rows, &ops, position);
        all.ordered.iter_mut().for_each(|op| op.target = target);
        all.folded = Some(vec![Net::Folded(folded)]);
        applier.apply(&all).await.unwrap();
    }
}

/// Everything a target is asked for in a task's life.
async fn life(goal: &Goal, uuid: CellRef<'_>) -> Vec<String> {
    let target = &goal.target;
    target.probe().await.unwrap();
    let parent = two_columns(&[1]);
    let overwritten_one = source("plain", two_columns(&[]).columns, &[]);
    let plan: Arc<Plan> = goal.plan(vec![parent, every_kind(), overwritten_one]);
    let ddl = target.ddl(&plan).await.unwrap();
    target.check(&goal.key, &plan).await.unwrap();
    let epoch = goal.claim(&plan).await.epoch;
    target.pending(&goal.key).await.unwrap();
    target.loose(&plan).await.unwrap();
    let mut loader = target
        .open_loader(&goal.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    // Parents come first in a plan.
    let of = |name: &str| {
        plan.targets
            .iter()
            .position(|t| t.name.name == name)
            .unwrap()
    };
    let [first, every, plain] = ["t", "kinds", "plain"].map(of);
    assert_eq!(first, 0, "the target that ops are of");
    for table in 0..3 {
        let mut rows = RowBatch::new();
        if table == every {
            kinds(&mut rows, 1_000, "loaded", uuid);
        }
        load_whole(loader.as_mut(), &plan, table, &rows, "1")
            .await
            .unwrap();
    }
    drop(loader);
    let mut applier = target
        .open_applier(&goal.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    applier.go_live().await.unwrap();
    one_by_one(applier.as_mut()).await;
    in_bulk(applier.as_mut(), every, uuid).await;
    overwritten(applier.as_mut(), plain).await;
    applier.load_again(&[0], true).await.unwrap();
    drop(applier);
    target
        .describe(&[TableName::new("shop", "kinds")])
        .await
        .unwrap();
    target.set_aside(&goal.key, &plan).await.unwrap();
    target.forget(&goal.key).await.unwrap();
    target.release(&goal.key).await.unwrap();
    assert!(!ddl.is_empty());
    ddl
}

/// Rows of the table whose only key is the primary key, which are overwritten.
async fn overwritten(applier: &mut dyn Applier, target: usize) {
    let mut rows = RowBatch::new();
    let (mut folded, mut ops) = (
        FoldedTable {
            target,
            ..FoldedTable::default()
        },
        Vec::new(),
    );
    for id in 0..30 {
        let mut pair = |v| row(&mut rows, &[CellRef::I64(id), CellRef::I64(v)]);
        let (before, after) = (pair(1), pair(2));
        folded.updates.push((before, after));
        ops.push(RowOp::Update { before, after });
    }
    let mut all = batch(rows, &ops, 6);
    all.ordered.iter_mut().for_each(|op| op.target = target);
    all.folded = Some(vec![Net::Folded(folded)]);
    applier.apply(&all).await.unwrap();
}

/// All statements of a life, as a server of this version is told them.
async fn said(version: Option<&str>) -> Vec<String> {
    let config: Vec<String> = version
        .map(|v| format!("version={v}"))
        .into_iter()
        .collect();
    let config: Vec<&str> = config.iter().map(String::as_str).collect();
    let world = World::new(&config);
    let (words, uuid): (fn(&str) -> String, _) = match version {
        Some(_) => (
            understood,
            CellRef::Text("07070707-0707-0707-0707-070707070707"),
        ),
        None => (str::to_owned, CellRef::Uuid([7; 16])),
    };
    let relay = Relay::start(world.server.port(), words).await;
    let through = DataSourceConfig {
        port: relay.port,
        ..world.config()
    };
    let target: Arc<dyn Target> = thalweg_mysql::connector().target(&through).unwrap();
    let goal = Goal {
        world,
        target,
        key: task("t"),
    };
    let ddl = life(&goal, uuid).await;
    [relay.told(), ddl].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_is_told_what_mariadb_is_told() {
    let all = said(None).await;
    let maria: Vec<String> = all
        .iter()
        .filter(|sql| !ONLY_MARIADB.iter().any(|(begin, _)| sql.starts_with(begin)))
        .map(|sql| common(sql))
        .collect();
    for (begin, _) in ONLY_MARIADB {
        assert!(all.iter().any(|sql| sql.starts_with(begin)), "{begin}");
    }
    let mut kinds: Vec<&str> = all.iter().filter_map(|sql| sql.split(' ').next()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for version in VERSIONS {
        let mysql = said(Some(version)).await;
        let same: Vec<String> = mysql.iter().map(|sql| common(sql)).collect();
        for (n, (one, two)) in maria.iter().zip(&same).enumerate() {
            assert_eq!(one, two, "statement {n} for MySQL {version}");
        }
        assert_eq!(maria.len(), same.len(), "MySQL {version}");
        let differ = mysql.iter().filter(|sql| !all.contains(sql)).count();
        // The alias came with 8.0.19; before there is the other collation alone.
        let alias = mysql.iter().any(|sql| sql.contains(DIFFERENCES[2].0));
        assert_eq!(alias, version != "5.7.44", "{version}");
        println!(
            "proof: MySQL {version} as a target: {} statements ({}) are MariaDB's, {differ} of them in \
             listed other words; {} are for MariaDB alone",
            same.len(),
            kinds.join(", "),
            all.len() - maria.len()
        );
    }
}
