//! Targets that are not what they look like: partitions, deferred keys, settings of the server.

use thalweg_core::Kind;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::plan::Plan;
use thalweg_core::ports::Applier;
use thalweg_core::position::Position;
use thalweg_core::schema::{ColumnType, TableName};
use thalweg_core::value::{CellRef, RowBatch};

use crate::world::{World, column, plan, source};

const INT: ColumnType = ColumnType::Int {
    bits: 64,
    unsigned: false,
};

/// A plan for `public.t (id, n)`, which `setup` made otherwise than the plan would.
async fn made(world: &World, setup: &str, keyed: bool) -> std::sync::Arc<Plan> {
    let columns = vec![column("id", INT), column("n", INT)];
    let mut table = source("t", columns, &[]);
    if !keyed {
        table.primary_key.clear();
    }
    world.server.sql(setup).unwrap();
    plan(world, vec![table])
}

async fn applier(world: &World, plan: &std::sync::Arc<Plan>) -> Box<dyn Applier> {
    let checkpoint = world.claim(plan).await;
    let (key, epoch) = (&world.key, checkpoint.epoch);
    let applier = world
        .target
        .open_applier(key, epoch, std::sync::Arc::clone(plan));
    let mut applier = applier.await.unwrap();
    let tables = [(0, plan.fingerprint(0), true)];
    applier.start(&Position::new("0"), &tables).await.unwrap();
    applier
}

/// Rows `(id, n)` as operations on the one target.
fn batch(ops: &[(i64, i64)], op: impl Fn(usize) -> RowOp) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position: Some(Position::new("1")),
        transactions: 1,
        ..ApplyBatch::default()
    };
    let mut rows = RowBatch::new();
    for (id, n) in ops {
        rows.push(CellRef::I64(*id));
        rows.push(CellRef::I64(*n));
        let row = rows.end_row();
        batch.ordered.push(TableOp {
            target: 0,
            feed: 0,
            op: op(row),
            unchecked: false,
            origin: 0,
        });
    }
    batch.rows = rows;
    batch
}

fn folded(mut batch: ApplyBatch) -> ApplyBatch {
    let inserts = batch.ordered.iter().map(|op| match op.op {
        RowOp::Insert(row) => row,
        _ => panic!("inserts only"),
    });
    batch.folded = Some(vec![Net::Folded(FoldedTable {
        inserts: inserts.collect(),
        ..FoldedTable::default()
    })]);
    batch
}

/// The second partition has its columns in another order.
const PARTED: &str = "CREATE TABLE t (id bigint NOT NULL, n bigint) PARTITION BY RANGE (id);
    CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
    CREATE TABLE t2 (n bigint, id bigint NOT NULL);
    ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (1000) TO (2000);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_partitioned_table_are_inserted_and_met() {
    let world = World::new();
    let setup = format!("{PARTED} ALTER TABLE t ADD PRIMARY KEY (id)");
    let plan = made(&world, &setup, true).await;
    let mut applier = applier(&world, &plan).await;
    let many: Vec<_> = (0..100).map(|id| (id * 20, 1)).collect();
    for (ops, repaired) in [
        (&many[..10], 0),
        (&many[..], 10),
        (&many[..20], 20),
        (&many[..], 100),
    ] {
        let mut batch = batch(ops, RowOp::Insert);
        if ops.len() == 100 {
            batch = folded(batch);
        }
        let applied = applier.apply(&batch).await.unwrap();
        assert_eq!(applied.counts[0].repaired, repaired);
    }
    let all = "SELECT count(*), sum(n), min(id), max(id) FROM t";
    assert_eq!(world.server.sql(all).unwrap(), "100\t100\t0\t1980");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_key_is_one_of_one_partition() {
    let world = World::new();
    let plan = made(&world, PARTED, false).await;
    let mut applier = applier(&world, &plan).await;
    let rows = [(1, 1), (1001, 1), (1, 1)];
    applier.apply(&batch(&rows, RowOp::Insert)).await.unwrap();
    let all = "SELECT id FROM t ORDER BY 1";
    applier
        .apply(&batch(&rows[..1], RowOp::Delete))
        .await
        .unwrap();
    assert_eq!(world.server.sql(all).unwrap(), "1\n1001");
    let mut moved = batch(&[(1001, 1), (1002, 1)], RowOp::Insert);
    moved.ordered.truncate(1);
    moved.ordered[0].op = RowOp::Update {
        before: 0,
        after: 1,
    };
    applier.apply(&moved).await.unwrap();
    assert_eq!(world.server.sql(all).unwrap(), "1\n1002");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferrable_key_is_none_at_a_target() {
    let world = World::new();
    let sql =
        "CREATE TABLE t (id bigint PRIMARY KEY DEFERRABLE, n bigint NOT NULL UNIQUE DEFERRABLE)";
    world.server.sql(sql).unwrap();
    let name = TableName::new("public", "t");
    let table = world.target.describe(&[name]).await.unwrap().remove(0);
    assert_eq!(table.primary_key, Vec::<usize>::new());
    assert_eq!(table.unique_keys, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_setting_of_the_server_weakens_a_writer() {
    let world = World::new();
    let settings = [
        ("synchronous_commit", "off"),
        ("default_transaction_isolation", "'repeatable read'"),
        ("statement_timeout", "'1min'"),
        ("idle_session_timeout", "'1min'"),
        ("standard_conforming_strings", "off"),
    ];
    for (name, value) in settings {
        let sql = format!("ALTER ROLE postgres SET {name} = {value}");
        world.server.sql(&sql).unwrap();
    }
    // A trigger tells what holds where rows are written.
    let told = "CREATE TABLE told (name text PRIMARY KEY, setting text);
        CREATE TABLE t (id bigint PRIMARY KEY, n bigint);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO told SELECT s.name, s.setting FROM pg_settings s; RETURN NEW; END $$;
        CREATE TRIGGER tell AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION tell()";
    let plan = made(&world, told, true).await;
    let mut applier = applier(&world, &plan).await;
    applier
        .apply(&batch(&[(1, 1)], RowOp::Insert))
        .await
        .unwrap();
    for (name, expected) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("standard_conforming_strings", "on"),
        ("tcp_keepalives_idle", "10"),
    ] {
        let told = format!("SELECT setting FROM told WHERE name = '{name}'");
        assert_eq!(world.server.sql(&told).unwrap(), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_policy_hides_are_not_passed_over() {
    let world = World::new();
    world
        .server
        .sql(
            "CREATE ROLE writer LOGIN PASSWORD 'w'; GRANT ALL ON DATABASE postgres TO writer;
             CREATE TABLE t (id bigint PRIMARY KEY, n bigint); GRANT ALL ON t TO writer; GRANT ALL ON SCHEMA public TO writer;
             INSERT INTO t VALUES (1, 1); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             CREATE POLICY seen ON t USING (n > 1)",
        )
        .unwrap();
    let world = World {
        target: world.target_as("writer", "w"),
        ..world
    };
    let plan = made(&world, "SELECT 1", true).await;
    let mut applier = applier(&world, &plan).await;
    let error = applier.apply(&batch(&[(1, 1)], RowOp::Delete)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{}", error.chain());
}
