//! The checkpoint's own life: claimed, forgotten, removed without a trace.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::checkpoint::{Checkpoint, LoadedChunk, TablePhase, TaskKey};
use thalweg_core::mapping::{ColumnPair, ExistingRows, ForeignKeys};
use thalweg_core::plan::Plan;
use thalweg_core::ports::Target;
use thalweg_core::position::Position;
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::schema::{ColumnType, ForeignKey, ReferenceAction, TableName};
use thalweg_core::value::{CellRef, RowBatch};

use crate::world::{World, column, load_whole, one_table_at, plan, source, whole};

const SCHEMAS: &str = "SELECT count(*) FROM pg_namespace WHERE nspname = 'thalweg'";
const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = 'thalweg'";

fn one_table(world: &World) -> Arc<Plan> {
    one_table_at(world.target.as_ref())
}

fn task(name: &str) -> TaskKey {
    TaskKey {
        server: "s".into(),
        task: name.into(),
    }
}

fn count(world: &World, sql: &str) -> u32 {
    world.server.sql(sql).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_task_leaves_nothing() {
    let world = World::new();
    let plan = one_table(&world);
    let other = task("other");
    world.claim(&plan).await;
    world.target.prepare(&other, &plan).await.unwrap();
    world.target.claim(&other).await.unwrap();
    world.target.release(&world.key).await.unwrap();
    assert_eq!(count(&world, "SELECT count(*) FROM thalweg.checkpoint"), 1);
    assert_eq!(world.target.claim(&other).await.unwrap().epoch.0, 2);
    world.target.release(&other).await.unwrap();
    assert_eq!(count(&world, SCHEMAS), 0);
    // Nothing is there to release or to forget any more, and a task can begin again.
    world.target.release(&other).await.unwrap();
    world.target.forget(&other).await.unwrap();
    assert_eq!(world.claim(&plan).await.epoch.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_put_there_stays() {
    let world = World::new();
    let plan = one_table(&world);
    world.claim(&plan).await;
    world
        .server
        .sql("CREATE TABLE thalweg.notes (n int)")
        .unwrap();
    world.target.release(&world.key).await.unwrap();
    assert_eq!(count(&world, TABLES), 1);
    assert_eq!(world.claim(&plan).await.epoch.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_prepared_stays() {
    let world = World::new();
    let admin = "CREATE ROLE loader LOGIN PASSWORD 'secret'; CREATE SCHEMA thalweg; \
                 GRANT USAGE, CREATE ON SCHEMA thalweg, public TO loader";
    let limited = world.target_as("loader", "secret");
    world.server.sql(admin).unwrap();
    let plan = one_table(&world);
    // First with the schema only, then with tables that the role does not own.
    for owned in [true, false] {
        limited.prepare(&world.key, &plan).await.unwrap();
        limited.claim(&world.key).await.unwrap();
        limited.release(&world.key).await.unwrap();
        assert_eq!(count(&world, SCHEMAS), 1);
        assert_eq!(count(&world, TABLES), if owned { 0 } else { 5 });
        world.claim(&plan).await;
        world
            .server
            .sql("DELETE FROM thalweg.checkpoint; GRANT ALL ON ALL TABLES IN SCHEMA thalweg TO loader")
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_prepared_before_the_removal_claims_after_it() {
    let world = World::new();
    let plan = one_table(&world);
    world.claim(&plan).await;
    let late = task("late");
    world.target.prepare(&late, &plan).await.unwrap();
    world.target.release(&world.key).await.unwrap();
    // What it has created is noted already. Without that note, the tables would be gone.
    world
        .server
        .sql("DELETE FROM thalweg.checkpoint_table")
        .unwrap();
    world.target.release(&world.key).await.unwrap();
    assert_eq!(count(&world, SCHEMAS), 0);
    assert_eq!(world.target.claim(&late).await.unwrap().epoch.0, 1);
    assert_eq!(world.target.claim(&late).await.unwrap().epoch.0, 2);
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
    let world = World::new();
    let plan = one_table(&world);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (target, plan) = (Arc::clone(&world.target), Arc::clone(&plan));
        tasks.spawn(come_and_go(target, plan, format!("task{n}"), 8));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(count(&world, SCHEMAS), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_remembers_which_tables_were_loaded() {
    let world = World::new();
    let plan = one_table(&world);
    let epoch = world.claim(&plan).await.epoch;
    let at = Position::new("1");
    let start = async || {
        let applier = world
            .target
            .open_applier(&world.key, epoch, Arc::clone(&plan));
        let tables = [(0, "print".to_owned(), false)];
        applier.await.unwrap().start(&at, &tables).await.unwrap();
    };
    let stored = async || {
        let mut checkpoint = world.target.claim(&world.key).await.unwrap();
        let table = checkpoint.tables.remove(0);
        (checkpoint.epoch, table.phase, table.loaded_rows)
    };
    start().await;
    let (epoch, phase, loaded) = stored().await;
    assert_eq!((phase, loaded), (TablePhase::Waiting, None));
    let mut loader = world
        .target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let loaded = load_whole(loader.as_mut(), &plan, 0, &RowBatch::new(), "1").await;
    loaded.unwrap();
    world.target.forget(&world.key).await.unwrap();
    // An empty load is a load: what the stream wrote after it is the task's own.
    let (_, phase, loaded) = stored().await;
    assert_eq!((phase, loaded), (TablePhase::Waiting, Some(0)));
}

/// A parent and a child with a foreign key, of which the child has a second column.
fn family(world: &World) -> Arc<Plan> {
    let int = || ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
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
    plan(world, vec![parent, child])
}

/// Loads every table of a plan with nothing, and goes Live.
async fn go_live(world: &World, plan: &Arc<Plan>) {
    let epoch = world.claim(plan).await.epoch;
    for target in 0..plan.targets.len() {
        let mut loader = world
            .target
            .open_loader(&world.key, epoch, Arc::clone(plan))
            .await
            .unwrap();
        let loaded = load_whole(loader.as_mut(), plan, target, &RowBatch::new(), "1").await;
        loaded.unwrap();
    }
    let applier = world
        .target
        .open_applier(&world.key, epoch, Arc::clone(plan));
    applier.await.unwrap().go_live().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys_the_task_made_go_for_a_reload_and_come_back() {
    let world = World::new();
    let plan = family(&world);
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    for _ in 0..2 {
        go_live(&world, &plan).await;
        assert_eq!(count(&world, keys), 1);
        assert!(world.target.pending(&world.key).await.unwrap().is_empty());
        world.target.forget(&world.key).await.unwrap();
        assert_eq!(count(&world, keys), 0);
        // The plan has to be made as if the table was not there, so that its key comes back.
        let pending = world.target.pending(&world.key).await.unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].table, TableName::new("public", "child"));
        assert!(pending[0].loaded, "{pending:?}");
    }
    // One that somebody else made is not the task's to drop.
    let mine = "ALTER TABLE child ADD CONSTRAINT mine FOREIGN KEY (of) REFERENCES parent (id)";
    world.server.sql(mine).unwrap();
    world.target.forget(&world.key).await.unwrap();
    assert_eq!(count(&world, keys), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_left_the_plan_or_are_mapped_anew_are_set_aside() {
    let world = World::new();
    let plan = family(&world);
    go_live(&world, &plan).await;
    assert!(!world.target.set_aside(&world.key, &plan).await.unwrap());
    // The child lost a column of its mapping; the parent is as it was.
    let mut narrower = Plan::clone(&plan);
    let child = plan.targets.iter().position(|t| t.name.name == "child");
    let child = child.unwrap();
    narrower.targets[child].columns.pop();
    let source = narrower.targets[child].feeds[0].source;
    narrower.sources[source].routes[0].cells.pop();
    assert!(world.target.set_aside(&world.key, &narrower).await.unwrap());
    let phases = |checkpoint: Checkpoint| {
        let mut phases: Vec<_> = checkpoint
            .tables
            .into_iter()
            .map(|t| (t.target.name, t.phase))
            .collect();
        phases.sort_by(|a, b| a.0.cmp(&b.0));
        phases
    };
    let now = phases(world.target.claim(&world.key).await.unwrap());
    let expected = [
        ("child".to_owned(), TablePhase::Waiting),
        ("parent".to_owned(), TablePhase::Live),
    ];
    assert_eq!(now, expected);
    // Nothing is left in the plan: the parent misses changes from now on.
    narrower.targets.clear();
    assert!(world.target.set_aside(&world.key, &narrower).await.unwrap());
    let now = phases(world.target.claim(&world.key).await.unwrap());
    assert!(now.iter().all(|(_, phase)| *phase == TablePhase::Waiting));
}

/// Who drops a table and makes it again has an empty one: what was loaded is not in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_dropped_and_made_again_is_not_loaded() {
    let world = World::new();
    let plan = family(&world);
    go_live(&world, &plan).await;
    let again = "ALTER TABLE child RENAME TO old; CREATE TABLE child (LIKE old INCLUDING ALL)";
    world.server.sql(again).unwrap();
    let refused = world.target.claim(&world.key).await.unwrap_err();
    assert!(refused.message().contains("public.child"), "{refused}");
    assert!(world.target.set_aside(&world.key, &plan).await.unwrap());
    let phase = async |name: &str| {
        let checkpoint = world.target.claim(&world.key).await.unwrap();
        let table = checkpoint
            .tables
            .into_iter()
            .find(|t| t.target.name == name);
        table.map(|t| (t.phase, t.loaded_rows.is_some())).unwrap()
    };
    // Rows in it are not the task's own.
    assert_eq!(phase("child").await, (TablePhase::Waiting, false));
    assert_eq!(phase("parent").await.0, TablePhase::Live);
    assert!(!world.target.set_aside(&world.key, &plan).await.unwrap());
    // A dump and restore of all gives every table another oid, that of the checkpoint as well.
    let restored = "UPDATE thalweg.checkpoint_table SET relation = '1/2' WHERE phase = 'live'";
    world.server.sql(restored).unwrap();
    assert!(!world.target.set_aside(&world.key, &plan).await.unwrap());
    assert_eq!(phase("parent").await.0, TablePhase::Live);
    world.server.sql("DROP TABLE parent CASCADE").unwrap();
    assert!(world.target.set_aside(&world.key, &plan).await.unwrap());
    assert_eq!(phase("parent").await, (TablePhase::Waiting, false));
}

/// An index's name has to be unique in its schema; names at the source are unique per table only,
/// and may be longer than PostgreSQL takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_keys_are_made_whatever_they_are_called_at_the_source() {
    let world = World::new();
    let int = || ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
    let table = |name: &str, key: &str| {
        let columns = vec![column("id", int()), column("v", int())];
        let mut table = source(name, columns, &[1]);
        table.unique_keys[0].name = key.to_owned();
        table
    };
    let (long, key) = ("l".repeat(63), "k".repeat(64));
    let plan = plan(
        &world,
        vec![
            table("order", "item_id"),
            table("order_item", "id"),
            table(&long, &key),
        ],
    );
    let keys = "SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace \
                WHERE n.nspname = 'public' AND contype = 'u'";
    for _ in 0..2 {
        go_live(&world, &plan).await;
        assert_eq!(count(&world, keys), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_the_server_would_cut_are_findings() {
    let world = World::new();
    let int = ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
    let from = source("t", vec![column("id", int)], &[]);
    let check = |table: &str, to: &str, expected: usize| {
        let name = TableName::new("public", table);
        let columns = [ColumnPair {
            source: "id".to_owned(),
            target: to.to_owned(),
        }];
        let found = world.target.propose(&from, &name, &columns);
        assert_eq!(found.err().map_or(0, |f| f.len()), expected, "{table} {to}");
    };
    check(&"x".repeat(63), &"ü".repeat(31), 0);
    check(&"x".repeat(64), "id", 1);
    check("t", &"ü".repeat(32), 1);
    // To be asked for one is no error.
    let long = [TableName::new("public", "x".repeat(64))];
    assert!(world.target.describe(&long).await.unwrap().is_empty());
}

/// A chunk of the source table behind the only target.
fn chunk(plan: &Plan, [from, to]: [Option<&[u8]>; 2], seen: &str, rows: u64) -> LoadedChunk {
    let bound = |octets: Option<&[u8]>| octets.map(|o| Bound::new(CellRef::Bytes(o)));
    LoadedChunk {
        range: Some(KeyRange {
            column: 0,
            from: bound(from),
            to: bound(to),
        }),
        rows,
        ..whole(plan, 0, seen, 0)
    }
}

fn one_row(id: i64) -> RowBatch {
    let mut rows = RowBatch::new();
    rows.push(CellRef::I64(id));
    rows.end_row();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_has_exactly_the_chunks_whose_rows_are_there() {
    let world = World::new();
    let plan = one_table(&world);
    let epoch = world.claim(&plan).await.epoch;
    let target = &world.target;
    let open = async || {
        target
            .open_loader(&world.key, epoch, Arc::clone(&plan))
            .await
            .unwrap()
    };
    let phase = async || {
        let table = target.claim(&world.key).await.unwrap().tables.remove(0);
        (table.phase, table.loaded_rows, table.whole)
    };
    let count = || count(&world, "SELECT count(*) FROM public.t");
    let (mut one, mut other) = (open().await, open().await);
    one.begin(0, 0).await.unwrap();
    one.empty(ExistingRows::Refuse, "print").await.unwrap();
    one.commit(None, &[]).await.unwrap();
    // Two at once; a bound longer than any index takes.
    let long = [7; 9_000];
    let first = chunk(&plan, [None, Some(&long)], "7 but 6", 1);
    let second = chunk(&plan, [Some(&long), None], "9", 1);
    for (loader, id) in [(&mut one, 1), (&mut other, 2)] {
        loader.begin(0, 0).await.unwrap();
        loader.load(&one_row(id)).await.unwrap();
    }
    other.commit(Some(&second), &[]).await.unwrap();
    drop(one);
    assert_eq!(count(), 1, "the chunk in flight is rolled back");
    // A claim fences the loaders of before; what is in stays in.
    let (now, rows, _) = phase().await;
    assert_eq!(
        (now, rows),
        (TablePhase::Loading(vec![second.clone()]), Some(1))
    );
    other.begin(0, 0).await.unwrap();
    other.load(&one_row(1)).await.unwrap();
    let fenced = other.commit(Some(&first), &[]).await.unwrap_err();
    assert_eq!(fenced.kind(), Kind::Fenced);
    drop(other);
    let epoch = target.claim(&world.key).await.unwrap().epoch;
    let mut loader = target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    loader.begin(0, 0).await.unwrap();
    loader.load(&one_row(1)).await.unwrap();
    let wrong = LoadedChunk {
        rows: 2,
        ..first.clone()
    };
    assert_eq!(
        loader.commit(Some(&wrong), &[]).await.unwrap_err().kind(),
        Kind::Bug
    );
    drop(loader);
    let mut loader = target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    loader.begin(0, 0).await.unwrap();
    loader.load(&one_row(1)).await.unwrap();
    loader.commit(Some(&first), &[]).await.unwrap();
    let mut applier = target
        .open_applier(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    applier.go_live().await.unwrap();
    assert_eq!(phase().await, (TablePhase::Live, Some(2), false));
    let left = "SELECT count(*) FROM thalweg.checkpoint_chunk";
    assert_eq!(world.server.sql(left).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_given_up_begins_again_as_one_chunk() {
    let world = World::new();
    let plan = one_table(&world);
    let epoch = world.claim(&plan).await.epoch;
    let target = &world.target;
    let mut loader = target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    load_whole(loader.as_mut(), &plan, 0, &one_row(1), "7")
        .await
        .unwrap();
    let mut applier = target
        .open_applier(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    applier.load_again(&[0], true).await.unwrap();
    let table = target.claim(&world.key).await.unwrap().tables.remove(0);
    // The rows are the task's own to replace.
    let own = table.loaded_rows.is_some();
    assert_eq!(
        (table.phase, own, table.whole),
        (TablePhase::Waiting, true, true)
    );
    let fenced = applier.load_again(&[0], true).await.unwrap_err();
    assert_eq!(fenced.kind(), Kind::Fenced);
    let left = "SELECT count(*) FROM thalweg.checkpoint_chunk";
    assert_eq!(world.server.sql(left).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_a_version_without_ledgers_is_taken_over() {
    let world = World::new();
    let plan = one_table(&world);
    world.claim(&plan).await;
    world
        .server
        .sql(
            "DROP TABLE thalweg.checkpoint_chunk; \
             ALTER TABLE thalweg.checkpoint_table DROP COLUMN whole; \
             UPDATE thalweg.checkpoint_table SET phase = 'loaded', visibility = '7', loaded_rows = 3",
        )
        .unwrap();
    // Before it runs again it may be reset, or looked at; and it is taken over once.
    assert!(world.target.set_aside(&task("other"), &plan).await.is_ok());
    for _ in 0..2 {
        let table = world.claim(&plan).await.tables.remove(0);
        let there = LoadedChunk {
            rows: 3,
            ..whole(&plan, 0, "7", 0)
        };
        assert_eq!(table.phase, TablePhase::Loading(vec![there]));
    }
    world
        .server
        .sql("DROP TABLE thalweg.checkpoint_chunk")
        .unwrap();
    world.target.forget(&world.key).await.unwrap();
    world.target.release(&world.key).await.unwrap();
    assert_eq!(count(&world, SCHEMAS), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_takes_rows_of_several_moments_if_no_key_can_be_in_their_way() {
    let world = World::new();
    let plan = one_table(&world);
    world.claim(&plan).await;
    let loose = async |setup: &str, replica: bool| {
        world.server.sql(setup).unwrap();
        let mut plan = Plan::clone(&plan);
        if replica {
            plan.options.foreign_keys = ForeignKeys::Replica;
        }
        world.target.loose(&plan).await.unwrap()
    };
    assert_eq!(loose("SELECT 1", false).await, [true]);
    // Any key that holds the plan's is no harm.
    assert_eq!(
        loose(
            "ALTER TABLE t ADD n int; CREATE UNIQUE INDEX u ON t (n, id)",
            false
        )
        .await,
        [true]
    );
    assert_eq!(
        loose("CREATE UNIQUE INDEX v ON t (n) INCLUDE (id)", false).await,
        [false]
    );
    let other = "DROP INDEX v; CREATE TABLE o (id bigint PRIMARY KEY REFERENCES t (id))";
    assert_eq!(loose(other, false).await, [false]);
    assert_eq!(loose("SELECT 1", true).await, [true], "nobody checks it");
    assert_eq!(
        loose("DROP TABLE o; CREATE UNIQUE INDEX v ON t ((id % 2))", true).await,
        [false]
    );
    assert_eq!(
        loose("DROP INDEX v; ALTER TABLE t ADD EXCLUDE (n WITH =)", true).await,
        [false]
    );
}
