//! What lies in quarantine: put there, taken out, gone with the table's load or the task.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::change::ChangeKind;
use thalweg_core::mapping::{ExistingRows, TaskOptions};
use thalweg_core::plan::Plan;
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;

use crate::target_sifted::Op::Insert;
use crate::target_sifted::batch;
use crate::target_world::{Goal, at, says, task};

/// A change in quarantine, of a table in `shop`.
pub(crate) fn held(number: i64, table: &str) -> Held {
    Held {
        number,
        target: TableName::new("shop", table),
        source: TableName::new("shop", table),
        key: vec![0, 255, b'\'', number.to_le_bytes()[0]],
        moved: None,
        shown: format!("id={number}, n='☃🎉'"),
        kind: ChangeKind::Update,
        error: None,
        place: "gtid 0-1-1".into(),
        at_ms: 1_700_000_000_123,
        change: (0..=255).collect(),
    }
}

pub(crate) const ROWS: &str =
    "SELECT group_concat(concat(id, ':', v) ORDER BY id SEPARATOR ' ') FROM t";
pub(crate) const APPLIED: &str = "SELECT applied FROM thalweg.checkpoint";

/// A table `t` of a number and a short text.
pub(crate) async fn short_texts(goal: &Goal, unique: &str) -> Arc<Plan> {
    goal.sql(&format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, v varchar(3) {unique})"
    ));
    goal.plan_into(&["t"], TaskOptions::default()).await
}

/// Numbers, and whether there is an error.
pub(crate) async fn lie_there(goal: &Goal) -> Vec<(i64, bool)> {
    let held = goal.target.held(&goal.key, false).await.unwrap();
    held.iter()
        .map(|held| (held.number, held.error.is_some()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quarantine_is_written_with_the_position() {
    let goal = Goal::new();
    let unknown = goal.target.held(&task("another"), true).await.unwrap();
    assert_eq!(unknown, []);
    goal.sql("CREATE TABLE other (id bigint PRIMARY KEY, v varchar(3))");
    short_texts(&goal, "").await;
    let plan = goal
        .plan_into(&["t", "other"], TaskOptions::default())
        .await;
    let index = |name: &str| {
        plan.targets
            .iter()
            .position(|t| t.name.name == name)
            .unwrap()
    };
    let mut applier = goal.applier(&plan).await;
    let all = [
        held(i64::MIN, "t"),
        Held {
            moved: Some(vec![0, 1, 2]),
            error: Some("refused: ☃".into()),
            kind: ChangeKind::Delete,
            ..held(7, "t")
        },
        Held {
            source: TableName::new("shop", "elsewhere"),
            kind: ChangeKind::Insert,
            change: Vec::new(),
            ..held(8, "t")
        },
        held(9, "other"),
        held(i64::MAX, "t"),
    ];
    let mut putting = batch(&[Insert(1, "a")], None);
    putting.held = all.to_vec();
    applier.apply(&putting).await.unwrap();
    assert_eq!(lie_there(&goal).await, []);
    drop(applier);
    let mut applier = goal.applier(&plan).await;
    assert_eq!(
        (lie_there(&goal).await, goal.sql(ROWS).as_str()),
        (vec![], "NULL")
    );
    putting.position = at(1);
    applier.apply(&putting).await.unwrap();
    assert_eq!(goal.target.held(&goal.key, true).await.unwrap(), all);
    let without = goal.target.held(&goal.key, false).await.unwrap();
    assert!(without.iter().all(|held| held.change.is_empty()));
    assert_eq!(without[1].moved, all[1].moved);
    assert_eq!(goal.target.held(&task("another"), true).await.unwrap(), []);
    // Without rows; and rolled back as well.
    let mut freeing = batch(&[], None);
    freeing.freed = vec![7, i64::MAX, 12_345];
    applier.apply(&freeing).await.unwrap();
    assert_eq!(lie_there(&goal).await.len(), 5);
    drop(applier);
    let mut applier = goal.applier(&plan).await;
    assert_eq!(lie_there(&goal).await.len(), 5);
    freeing.position = at(2);
    let applied = applier.apply(&freeing).await.unwrap();
    assert_eq!((applied.durable, goal.sql(APPLIED).as_str()), (at(2), "2"));
    assert_eq!(
        lie_there(&goal).await,
        [(i64::MIN, false), (8, false), (9, false)]
    );
    // What comes with it is from after the TRUNCATE, of this source only.
    let mut emptying = batch(&[], at(3));
    emptying.emptied = vec![(index("t"), 0)];
    emptying.held = vec![held(10, "t")];
    applier.apply(&emptying).await.unwrap();
    assert_eq!(
        lie_there(&goal).await,
        [(8, false), (9, false), (10, false)]
    );
    // One that the server would not take as a whole is told.
    let mut large = batch(&[], at(4));
    large.held = vec![Held {
        change: vec![0; 17 << 20],
        ..held(11, "t")
    }];
    let error = applier.apply(&large).await.unwrap_err();
    says(
        &error,
        Kind::Data,
        "a change of shop.t in quarantine",
        "max_allowed_packet",
    );
}

/// Whoever empties a table does not wait for what others put there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_other_tables_are_in_nobodys_way() {
    let goal = Goal::new();
    goal.sql("CREATE TABLE other (id bigint PRIMARY KEY, v varchar(3))");
    short_texts(&goal, "").await;
    let plan = goal
        .plan_into(&["t", "other"], TaskOptions::default())
        .await;
    let other = plan
        .targets
        .iter()
        .position(|t| t.name.name == "other")
        .unwrap();
    let epoch = goal.claim(&plan).await.epoch;
    let opened = goal
        .target
        .open_applier(&goal.key, epoch, Arc::clone(&plan))
        .await;
    let mut applier = opened.unwrap();
    let mut putting = batch(&[], at(1));
    putting.held = vec![held(1, "t"), held(2, "other")];
    applier.apply(&putting).await.unwrap();
    putting.position = None;
    putting.held = vec![held(3, "t"), held(4, "t")];
    putting.freed = vec![1];
    applier.apply(&putting).await.unwrap();
    let opened = goal
        .target
        .open_loader(&goal.key, epoch, Arc::clone(&plan))
        .await;
    let mut loader = opened.unwrap();
    loader.begin(other, 0).await.unwrap();
    loader
        .empty(ExistingRows::Replace, &plan.fingerprint(other))
        .await
        .unwrap();
    loader.commit(None, &[held(5, "other")]).await.unwrap();
    assert_eq!(lie_there(&goal).await, [(1, false), (5, false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_loaded_again_has_nothing_in_quarantine() {
    let goal = Goal::new();
    goal.sql("CREATE TABLE other (id bigint PRIMARY KEY, v varchar(3))");
    short_texts(&goal, "").await;
    let plan = goal
        .plan_into(&["t", "other"], TaskOptions::default())
        .await;
    let t = plan
        .targets
        .iter()
        .position(|t| t.name.name == "t")
        .unwrap();
    let put = async || {
        goal.go_live(&plan).await;
        let mut putting = batch(&[], at(1));
        let elsewhere = TableName::new("shop", "elsewhere");
        putting.held = vec![
            held(1, "t"),
            held(2, "other"),
            Held {
                source: elsewhere,
                ..held(3, "t")
            },
        ];
        let mut applier = goal.applier(&plan).await;
        applier.apply(&putting).await.unwrap();
        applier
    };
    let mut applier = put().await;
    applier.load_again(&[t], true).await.unwrap();
    assert_eq!(lie_there(&goal).await, [(2, false)]);
    goal.target.forget(&goal.key).await.unwrap();
    assert_eq!(lie_there(&goal).await, []);
    put().await;
    goal.sql("DROP TABLE t");
    assert!(goal.target.set_aside(&goal.key, &plan).await.unwrap());
    assert_eq!(lie_there(&goal).await, [(2, false)]);
    let mut without = Plan::clone(&plan);
    without.targets.clear();
    assert!(goal.target.set_aside(&goal.key, &without).await.unwrap());
    assert_eq!(lie_there(&goal).await, []);
}

/// A checkpoint that an earlier version has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_quarantine_has_nothing_in_it() {
    let goal = Goal::new();
    let plan = short_texts(&goal, "").await;
    let drop = "DROP TABLE thalweg.quarantine";
    goal.go_live(&plan).await;
    goal.sql(drop);
    assert_eq!(lie_there(&goal).await, []);
    goal.target.forget(&goal.key).await.unwrap();
    goal.go_live(&plan).await;
    goal.sql(drop);
    goal.sql("DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, v varchar(3))");
    assert!(goal.target.set_aside(&goal.key, &plan).await.unwrap());
    // It is made with the rest.
    let mut applier = goal.applier(&plan).await;
    let mut putting = batch(&[], at(1));
    putting.held = vec![held(1, "t")];
    applier.apply(&putting).await.unwrap();
    assert_eq!(lie_there(&goal).await, [(1, false)]);
    std::mem::drop(applier);
    goal.sql(drop);
    goal.target.release(&goal.key).await.unwrap();
    let left = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'thalweg'";
    assert_eq!(goal.sql(left), "0");
    // With the table, its rows go.
    let mut applier = goal.applier(&plan).await;
    applier.apply(&putting).await.unwrap();
    let other = task("another");
    goal.target.prepare(&other, &plan).await.unwrap();
    goal.target.claim(&other).await.unwrap();
    std::mem::drop(applier);
    goal.target.release(&goal.key).await.unwrap();
    assert_eq!(goal.sql("SELECT count(*) FROM thalweg.quarantine"), "0");
}
