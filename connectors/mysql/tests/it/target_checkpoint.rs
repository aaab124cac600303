//! The checkpoint's own life: claimed, forgotten, removed without a trace.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::checkpoint::{Checkpoint, TablePhase};
use thalweg_core::mapping::ColumnPair;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Target;
use thalweg_core::position::Position;
use thalweg_core::schema::{ForeignKey, ReferenceAction, TableName};
use thalweg_core::value::RowBatch;

use crate::target_world::{
    Goal, column, int, load_whole, plan_at, says, source, task, two_columns, whole,
};

const OURS: &str = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'thalweg'";
const DATABASES: &str =
    "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'thalweg'";

fn one_table(goal: &Goal) -> Arc<Plan> {
    goal.plan(vec![source("t", vec![column("id", int())], &[])])
}

fn count(goal: &Goal, sql: &str) -> u32 {
    goal.sql(sql).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_task_leaves_nothing() {
    let goal = Goal::new();
    let plan = one_table(&goal);
    let other = task("other");
    goal.claim(&plan).await;
    goal.target.prepare(&other, &plan).await.unwrap();
    goal.target.claim(&other).await.unwrap();
    goal.target.release(&goal.key).await.unwrap();
    assert_eq!(count(&goal, "SELECT count(*) FROM thalweg.checkpoint"), 1);
    assert_eq!(goal.target.claim(&other).await.unwrap().epoch.0, 2);
    goal.target.release(&other).await.unwrap();
    assert_eq!(count(&goal, DATABASES), 0);
    // Nothing is there to release or to forget any more, and a task can begin again.
    goal.target.release(&other).await.unwrap();
    goal.target.forget(&other).await.unwrap();
    assert!(!goal.target.set_aside(&other, &plan).await.unwrap());
    assert!(goal.target.pending(&other).await.unwrap().is_empty());
    assert_eq!(goal.claim(&plan).await.epoch.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_put_there_stays() {
    let goal = Goal::new();
    let plan = one_table(&goal);
    goal.claim(&plan).await;
    goal.sql("CREATE TABLE thalweg.notes (n int)");
    goal.target.release(&goal.key).await.unwrap();
    assert_eq!(count(&goal, OURS), 1);
    assert_eq!(goal.claim(&plan).await.epoch.0, 1);
    goal.sql("DROP TABLE thalweg.notes");
    goal.sql("CREATE FUNCTION thalweg.one() RETURNS int DETERMINISTIC RETURN 1");
    goal.target.release(&goal.key).await.unwrap();
    assert_eq!((count(&goal, OURS), count(&goal, DATABASES)), (0, 1));
}

/// A user that may do all in `shop` and no more.
fn limited(goal: &Goal) -> Arc<dyn Target> {
    goal.sql("CREATE USER loader@'%' IDENTIFIED BY 'secret'; GRANT ALL ON shop.* TO loader@'%'");
    goal.target_as("loader", "secret")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_create_a_database_has_the_checkpoint_in_his_own() {
    let goal = Goal::new();
    let limited = limited(&goal);
    let plan = plan_at(limited.as_ref(), vec![two_columns(&[])]);
    assert_eq!(limited.check(&goal.key, &plan).await.unwrap(), []);
    limited.prepare(&goal.key, &plan).await.unwrap();
    let epoch = limited.claim(&goal.key).await.unwrap().epoch;
    assert_eq!(count(&goal, DATABASES), 0);
    let mut loader = limited
        .open_loader(&goal.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let loaded = load_whole(loader.as_mut(), &plan, 0, &RowBatch::new(), "1").await;
    loaded.unwrap();
    // What it is granted later, and what others have there, changes nothing: its rows are here.
    goal.sql("GRANT ALL ON thalweg.* TO loader@'%'");
    goal.sql("CREATE DATABASE elsewhere");
    let elsewhere = goal.target_in("elsewhere");
    elsewhere.prepare(&task("other"), &plan).await.unwrap();
    elsewhere.claim(&task("other")).await.unwrap();
    assert_eq!(count(&goal, OURS), 5);
    let again = limited.claim(&goal.key).await.unwrap();
    assert_eq!((again.epoch.0, again.tables.len()), (2, 1));
    limited.release(&goal.key).await.unwrap();
    let left = "SELECT group_concat(table_name) FROM information_schema.tables \
                WHERE table_schema = 'shop'";
    assert_eq!(goal.sql(left), "t");
    assert_eq!(count(&goal, OURS), 5, "the other task's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_lock_tables_leaves_them() {
    let goal = Goal::new();
    goal.sql(
        "CREATE DATABASE thalweg; CREATE USER loader@'%' IDENTIFIED BY 'secret'; \
         GRANT ALL ON shop.* TO loader@'%'; \
         GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON thalweg.* TO loader@'%'",
    );
    let limited = goal.target_as("loader", "secret");
    let plan = one_table(&goal);
    for _ in 0..2 {
        limited.prepare(&goal.key, &plan).await.unwrap();
        assert_eq!(limited.claim(&goal.key).await.unwrap().epoch.0, 1);
        limited.release(&goal.key).await.unwrap();
        assert_eq!(count(&goal, OURS), 5);
        assert_eq!(count(&goal, "SELECT count(*) FROM thalweg.checkpoint"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_prepared_before_the_removal_claims_after_it() {
    let goal = Goal::new();
    let plan = one_table(&goal);
    goal.claim(&plan).await;
    let late = task("late");
    goal.target.prepare(&late, &plan).await.unwrap();
    goal.target.release(&goal.key).await.unwrap();
    // What it has created is noted already. Without that note, the tables would be gone.
    goal.sql("DELETE FROM thalweg.checkpoint_table");
    goal.target.release(&goal.key).await.unwrap();
    assert_eq!(count(&goal, DATABASES), 0);
    assert_eq!(goal.target.claim(&late).await.unwrap().epoch.0, 1);
    assert_eq!(goal.target.claim(&late).await.unwrap().epoch.0, 2);
}

/// One task that comes and goes, `rounds` times; its second claim must find its first.
async fn come_and_go(target: Arc<dyn Target>, plan: Arc<Plan>, name: String, rounds: u32) {
    let key = task(&name);
    for round in 0..rounds {
        target.prepare(&key, &plan).await.unwrap();
        for epoch in [1, 2] {
            let claimed = target.claim(&key).await.unwrap();
            assert_eq!(claimed.epoch.0, epoch, "{name}, round {round}");
        }
        target.release(&key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_come_and_go_never_take_another_ones_row() {
    let goal = Goal::new();
    let plan = one_table(&goal);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (target, plan) = (Arc::clone(&goal.target), Arc::clone(&plan));
        tasks.spawn(come_and_go(target, plan, format!("task{n}"), 8));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(count(&goal, DATABASES), 0);
}

/// What a crash between any two statements of a preparation leaves, the next one completes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_made_checkpoint_tables_are_completed() {
    let goal = Goal::new();
    let plan = one_table(&goal);
    for left in [
        "DROP TABLE thalweg.checkpoint_table",
        "DROP TABLE thalweg.checkpoint",
        "DROP TABLE thalweg.checkpoint_layout",
        "DROP TABLE thalweg.quarantine",
        "DROP TABLE thalweg.checkpoint_table, thalweg.checkpoint",
        "DROP TABLE shop.t",
    ] {
        goal.claim(&plan).await;
        goal.sql(left);
        goal.target.pending(&goal.key).await.unwrap();
        goal.target.forget(&goal.key).await.unwrap();
        goal.target.set_aside(&goal.key, &plan).await.unwrap();
        goal.claim(&plan).await;
        assert_eq!(count(&goal, OURS), 5, "{left}");
        let pending = goal.target.pending(&goal.key).await.unwrap();
        assert_eq!(pending[0].table, TableName::new("shop", "t"), "{left}");
        assert_eq!(pending.len(), 1, "{left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_created_is_not_waited_for() {
    let goal = Goal::new();
    let nowhere = TableName::new("nowhere", "t");
    let mut plan = Plan::clone(&one_table(&goal));
    plan.targets[0].name = nowhere;
    let error = goal.target.prepare(&goal.key, &plan).await.unwrap_err();
    says(&error, Kind::Config, "1049", "create the database");
    assert!(goal.target.pending(&goal.key).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_remembers_which_tables_were_loaded() {
    let goal = Goal::new();
    let plan = one_table(&goal);
    let mut applier = goal.applier(&plan).await;
    let tables = [(0, "print".to_owned(), false)];
    applier.start(&Position::new("1"), &tables).await.unwrap();
    let stored = async || {
        let mut checkpoint = goal.target.claim(&goal.key).await.unwrap();
        let table = checkpoint.tables.remove(0);
        (checkpoint.applied, table.phase, table.loaded_rows)
    };
    let first = Some(Position::new("1"));
    assert_eq!(stored().await, (first.clone(), TablePhase::Waiting, None));
    let mut loader = goal.loader(&plan).await;
    let loaded = load_whole(loader.as_mut(), &plan, 0, &RowBatch::new(), "1").await;
    loaded.unwrap();
    let ledger = TablePhase::Loading(vec![whole(&plan, 0, "1", 0)]);
    assert_eq!(stored().await, (first, ledger, Some(0)));
    goal.target.forget(&goal.key).await.unwrap();
    // An empty load is a load: what the stream wrote after it is the task's own.
    assert_eq!(stored().await, (None, TablePhase::Waiting, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_without_a_load_are_live_from_the_start() {
    let goal = Goal::new();
    goal.sql("CREATE TABLE t (id bigint PRIMARY KEY, v bigint); INSERT INTO t VALUES (1, 1)");
    let plan = goal.plan_into(&["t"], Default::default()).await;
    let mut applier = goal.applier(&plan).await;
    let tables = [(0, plan.fingerprint(0), true)];
    applier.start(&Position::new("1"), &tables).await.unwrap();
    assert!(!goal.target.set_aside(&goal.key, &plan).await.unwrap());
    let table = goal.target.claim(&goal.key).await.unwrap().tables.remove(0);
    assert_eq!((table.phase, table.loaded_rows), (TablePhase::Live, None));
}

/// A parent and a child with a foreign key, of which the child has a second column.
fn family(goal: &Goal) -> Arc<Plan> {
    let parent = source("parent", vec![column("id", int())], &[]);
    let mut child = source("child", vec![column("id", int()), column("of", int())], &[]);
    child.foreign_keys.push(ForeignKey {
        name: "child_of".into(),
        columns: vec!["of".into()],
        parent: parent.name.clone(),
        parent_columns: vec!["id".into()],
        on_delete: ReferenceAction::Refuse,
        on_update: ReferenceAction::Refuse,
        logged: true,
    });
    goal.plan(vec![parent, child])
}

const FOREIGN: &str = "SELECT count(*) FROM information_schema.referential_constraints \
                       WHERE constraint_schema = 'shop'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys_the_task_made_go_for_a_reload_and_come_back() {
    let goal = Goal::new();
    let plan = family(&goal);
    for _ in 0..2 {
        goal.go_live(&plan).await;
        assert_eq!(count(&goal, FOREIGN), 1);
        assert!(goal.target.pending(&goal.key).await.unwrap().is_empty());
        goal.target.forget(&goal.key).await.unwrap();
        assert_eq!(count(&goal, FOREIGN), 0);
        // The plan has to be made as if the table was not there, so that its key comes back.
        let pending = goal.target.pending(&goal.key).await.unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].table, TableName::new("shop", "child"));
        assert!(pending[0].loaded, "{pending:?}");
    }
    // One that somebody else made is not the task's to drop.
    goal.sql("ALTER TABLE child ADD CONSTRAINT mine FOREIGN KEY (`of`) REFERENCES parent (id)");
    goal.target.forget(&goal.key).await.unwrap();
    assert_eq!(count(&goal, FOREIGN), 1);
}

/// Each state a crash between two statements of going Live, or of a reset, can leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_half_made_or_half_dropped_come_out_right() {
    let goal = Goal::new();
    let plan = family(&goal);
    let noted = "UPDATE thalweg.checkpoint_table SET foreign_keys = 'child_of', \
                 keys_pending = 1, relation = NULL WHERE target_table = 'child'";
    let drop = "ALTER TABLE child DROP FOREIGN KEY child_of";
    goal.go_live(&plan).await;
    for crash in [
        // Noted, not yet made.
        [drop, noted],
        // Made, not yet Live.
        [
            noted,
            "UPDATE thalweg.checkpoint_table SET phase = 'loading'",
        ],
        // Made by an older owner that did not come to note it as done.
        [noted, "DO 0"],
    ] {
        crash.iter().for_each(|sql| drop_output(goal.sql(sql)));
        goal.applier(&plan).await.go_live().await.unwrap();
        assert_eq!(count(&goal, FOREIGN), 1, "{crash:?}");
    }
    // A reset that ended after its first or its second statement.
    let pending = "UPDATE thalweg.checkpoint_table SET keys_pending = 1, relation = NULL";
    for crash in [[pending, "DO 0"], [pending, drop]] {
        goal.go_live(&plan).await;
        crash.iter().for_each(|sql| drop_output(goal.sql(sql)));
        goal.target.forget(&goal.key).await.unwrap();
        assert_eq!(count(&goal, FOREIGN), 0, "{crash:?}");
        let pending = goal.target.pending(&goal.key).await.unwrap();
        let child = TableName::new("shop", "child");
        assert!(pending.iter().any(|one| one.table == child));
    }
}

fn drop_output(_: String) {}

fn phases(checkpoint: Checkpoint) -> Vec<(String, TablePhase)> {
    let tables = checkpoint.tables.into_iter();
    let mut phases: Vec<_> = tables.map(|t| (t.target.name, t.phase)).collect();
    phases.sort_by(|a, b| a.0.cmp(&b.0));
    phases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_left_the_plan_or_are_mapped_anew_are_set_aside() {
    let goal = Goal::new();
    let plan = family(&goal);
    goal.go_live(&plan).await;
    assert!(!goal.target.set_aside(&goal.key, &plan).await.unwrap());
    // The child lost a column of its mapping; the parent is as it was.
    let mut narrower = Plan::clone(&plan);
    let child = plan.targets.iter().position(|t| t.name.name == "child");
    let child = child.unwrap();
    narrower.targets[child].columns.pop();
    let source = narrower.targets[child].feeds[0].source;
    narrower.sources[source].routes[0].cells.pop();
    assert!(goal.target.set_aside(&goal.key, &narrower).await.unwrap());
    let now = phases(goal.target.claim(&goal.key).await.unwrap());
    let expected = [
        ("child".to_owned(), TablePhase::Waiting),
        ("parent".to_owned(), TablePhase::Live),
    ];
    assert_eq!(now, expected);
    // Nothing is left in the plan: the parent misses changes from now on.
    narrower.targets.clear();
    assert!(goal.target.set_aside(&goal.key, &narrower).await.unwrap());
    let now = phases(goal.target.claim(&goal.key).await.unwrap());
    assert!(now.iter().all(|(_, phase)| *phase == TablePhase::Waiting));
}

/// Who drops a table and makes it again has an empty one: what was loaded is not in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_dropped_and_made_again_is_not_loaded() {
    let goal = Goal::new();
    let plan = family(&goal);
    goal.go_live(&plan).await;
    goal.sql("INSERT INTO parent VALUES (1)");
    goal.sql("RENAME TABLE child TO old; CREATE TABLE child LIKE old");
    let refused = goal.target.claim(&goal.key).await.unwrap_err();
    says(&refused, Kind::Schema, "shop.child", "run the task again");
    assert!(goal.target.set_aside(&goal.key, &plan).await.unwrap());
    let phase = async |name: &str| {
        let checkpoint = goal.target.claim(&goal.key).await.unwrap();
        let mut tables = checkpoint.tables.into_iter();
        let table = tables.find(|t| t.target.name == name);
        table.map(|t| (t.phase, t.loaded_rows.is_some())).unwrap()
    };
    // Rows in it are not the task's own.
    assert_eq!(phase("child").await, (TablePhase::Waiting, false));
    assert_eq!(phase("parent").await.0, TablePhase::Live);
    // One that was altered, or restored with its rows, is believed.
    goal.sql("DROP TABLE old; UPDATE thalweg.checkpoint_table SET relation = '1'");
    assert!(!goal.target.set_aside(&goal.key, &plan).await.unwrap());
    assert_eq!(phase("parent").await.0, TablePhase::Live);
    let noted = "SELECT count(*) FROM thalweg.checkpoint_table WHERE relation = '1'";
    assert_eq!(count(&goal, noted), 1, "only of the table that waits");
    goal.go_live(&plan).await;
    goal.sql("DROP TABLE child, parent");
    assert!(goal.target.set_aside(&goal.key, &plan).await.unwrap());
    assert_eq!(phase("parent").await, (TablePhase::Waiting, false));
}

/// Rows that the stream took away, all of them, are no other table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_table_is_still_the_one_that_was_loaded() {
    let goal = Goal::new();
    let plan = family(&goal);
    goal.go_live(&plan).await;
    goal.sql("INSERT INTO parent VALUES (1); DELETE FROM parent");
    assert!(!goal.target.set_aside(&goal.key, &plan).await.unwrap());
    let now = phases(goal.target.claim(&goal.key).await.unwrap());
    assert!(now.iter().all(|(_, phase)| *phase == TablePhase::Live));
}

/// Names of foreign keys have to differ in the whole database; at the source perhaps only in the
/// table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_whatever_they_are_called_at_the_source() {
    let goal = Goal::new();
    let table = |name: &str, key: &str| {
        let columns = vec![column("id", int()), column("v", int())];
        let mut table = source(name, columns, &[1]);
        table.unique_keys[0].name = key.to_owned();
        let first = TableName::new("there", "first");
        table
            .foreign_keys
            .extend((name != "first").then(|| ForeignKey {
                name: "ref".into(),
                columns: vec!["v".into()],
                parent: first,
                parent_columns: vec!["id".into()],
                on_delete: ReferenceAction::Refuse,
                on_update: ReferenceAction::Refuse,
                logged: true,
            }));
        table
    };
    let (long, key) = ("l".repeat(64), "k".repeat(70));
    let plan = goal.plan(vec![
        table("first", "id"),
        table("second", "v"),
        table("third", "PRIMARY"),
        table(&long, &key),
    ]);
    let unique = "SELECT count(*) FROM information_schema.table_constraints \
                  WHERE table_schema = 'shop' AND constraint_type = 'UNIQUE'";
    for _ in 0..2 {
        goal.go_live(&plan).await;
        assert_eq!((count(&goal, unique), count(&goal, FOREIGN)), (4, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_the_server_would_not_take_are_findings() {
    let goal = Goal::new();
    let mut from = source("t", vec![column("id", int()), column("v", int())], &[]);
    from.columns[1].name = "w".into();
    let check = |table: &str, to: &str, other: &str, expected: &[&str]| {
        let name = TableName::new("shop", table);
        let pair = |source: &str, target: &str| ColumnPair {
            source: source.to_owned(),
            target: target.to_owned(),
        };
        let columns = [pair("id", to), pair("w", other)];
        let found = goal.target.propose(&from, &name, &columns);
        let codes: Vec<_> = found.err().unwrap_or_default();
        let codes: Vec<_> = codes.iter().map(|f| f.code).collect();
        assert_eq!(codes, expected, "{table} {to} {other}");
    };
    check(&"x".repeat(64), &"ü".repeat(64), "w", &[]);
    check(&"x".repeat(65), "id", "w", &["name_too_long"]);
    check("t", &"ü".repeat(65), "w", &["name_too_long"]);
    check("t ", "id", "w", &["name_impossible"]);
    check("t", "🎉", "w", &["name_impossible"]);
    check("t", "ID", "id", &["column_names_fold"]);
    // To be asked for one is no error.
    let long = [TableName::new("shop", "x".repeat(65))];
    assert!(goal.target.describe(&long).await.unwrap().is_empty());
}
