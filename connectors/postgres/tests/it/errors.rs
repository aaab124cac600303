//! What a user meets when the target cannot be written: a kind and the exact fix.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::networks::Networks;
use thalweg_core::ports::{Connector, DataSourceConfig, TlsOptions};
use thalweg_core::position::Position;
use thalweg_core::secret::Secret;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Kind, Result};

use crate::world::{self, World, load_whole, one_table_at};

/// Makes a good configuration bad.
type Change = fn(&mut DataSourceConfig);

/// Kind, words of the message, words of the hint.
fn says(error: &Error, kind: Kind, message: &str, hint: &str) {
    assert_eq!(error.kind(), kind, "{}", error.chain());
    assert!(error.chain().contains(message), "{}", error.chain());
    let given = error.hint().unwrap_or_default();
    assert!(given.contains(hint), "{given:?} of {}", error.chain());
}

fn rows(ids: std::ops::Range<i64>) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position: Some(Position::new("1")),
        ..ApplyBatch::default()
    };
    for id in ids {
        batch.rows.push(CellRef::I64(id));
        let row = batch.rows.end_row();
        batch.ordered.push(TableOp {
            target: 0,
            feed: 0,
            op: RowOp::Insert(row),
            unchecked: false,
            origin: 0,
        });
    }
    batch
}

/// Prepares as the superuser, does `harm`, and applies rows as `user`.
async fn apply_after(world: &World, harm: &str, user: Option<(&str, &str)>) -> Result<()> {
    let plan = one_table_at(world.target.as_ref());
    let epoch = world.claim(&plan).await.epoch;
    world.server.sql(harm).unwrap();
    let target = match user {
        Some((name, password)) => world.target_as(name, password),
        None => Arc::clone(&world.target),
    };
    let mut applier = target.open_applier(&world.key, epoch, plan).await?;
    applier.apply(&rows(0..3)).await.map(drop)
}

/// Nobody listens there, and nobody is asked.
#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_connected_to() {
    let nobody = DataSourceConfig {
        host: "localhost".into(),
        port: 1,
        database: "postgres".into(),
        user: "postgres".into(),
        password: Secret::new(""),
        tls: TlsOptions::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: String::new(),
        networks: Arc::new(Networks::new(&[], &["127.0.0.0/8", "::1"]).unwrap()),
    };
    let connector = thalweg_postgres::connector();
    let (source, target) = (connector.source(&nobody), connector.target(&nobody));
    let inspect = connector.inspect(&nobody).unwrap();
    for asked in [
        inspect.probe().await,
        source.unwrap().secure(&[]).await.map(drop),
        target.unwrap().probe().await,
    ] {
        says(
            &asked.unwrap_err(),
            Kind::Config,
            "may not lie at",
            "allow_networks",
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_connect_is_told_why() {
    let world = World::new();
    let setup = "CREATE ROLE loader LOGIN PASSWORD 'secret'; CREATE DATABASE closed; \
                 REVOKE CONNECT ON DATABASE closed FROM PUBLIC";
    world.server.sql(setup).unwrap();
    let good = world::config(&world.server);
    let probe = async |change: Change| {
        let mut config = good.clone();
        config.user = "loader".into();
        config.password = thalweg_core::secret::Secret::new("secret");
        change(&mut config);
        let inspect = thalweg_postgres::connector().inspect(&config).unwrap();
        inspect.probe().await
    };
    probe(|_| ()).await.unwrap();
    let cases: [(Change, Kind, &str, &str); 4] = [
        (
            |c| c.user = "stranger".into(),
            Kind::Config,
            "28P01",
            "ALTER ROLE \"stranger\" PASSWORD",
        ),
        (
            |c| c.database = "lost \"one".into(),
            Kind::Config,
            "3D000",
            "CREATE DATABASE \"lost \"\"one\"",
        ),
        (
            |c| c.database = "closed".into(),
            Kind::Config,
            "42501",
            "GRANT CONNECT ON DATABASE \"closed\" TO \"loader\"",
        ),
        (
            |c| c.port = 1,
            Kind::Transient,
            "does not answer",
            "start the server",
        ),
    ];
    for (change, kind, message, hint) in cases {
        says(&probe(change).await.unwrap_err(), kind, message, hint);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_takes_no_writes_is_told() {
    let world = World::new();
    let plan = one_table_at(world.target.as_ref());
    let read_only = "ALTER DATABASE postgres SET default_transaction_read_only = on";
    let error = apply_after(&world, read_only, None).await.unwrap_err();
    says(
        &error,
        Kind::Config,
        "25006",
        "default_transaction_read_only = off",
    );
    let error = world.target.claim(&world.key).await.unwrap_err();
    says(&error, Kind::Config, "25006", "connect to the primary");
    let findings = world.target.check(&world.key, &plan).await.unwrap();
    assert!(findings.iter().any(|f| f.code == "read_only"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named_as_the_statement_that_gives_it() {
    let world = World::new();
    world
        .server
        .sql("CREATE ROLE loader LOGIN PASSWORD 'secret'")
        .unwrap();
    let user = Some(("loader", "secret"));
    let checkpoint = "GRANT USAGE ON SCHEMA thalweg TO loader; \
                      GRANT ALL ON ALL TABLES IN SCHEMA thalweg TO loader";
    let error = apply_after(&world, checkpoint, user).await.unwrap_err();
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON \"public\".\"t\" TO loader";
    says(&error, Kind::Config, "42501", grant);
    let some = "GRANT SELECT, INSERT ON t TO loader";
    let plan = one_table_at(world.target.as_ref());
    world.server.sql(some).unwrap();
    let limited = world.target_as("loader", "secret");
    let epoch = world.claim(&plan).await.epoch;
    let loader = limited
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await;
    let mut loader = loader.unwrap();
    let rows = RowBatch::new();
    let error = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
    let error = error.unwrap_err();
    says(&error, Kind::Config, "42501", grant);
    world.server.sql(error.hint().unwrap()).unwrap();
    apply_after(&world, "SELECT 1", user).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_create_nothing_is_told_by_the_check_and_by_the_start() {
    let world = World::new();
    let setup = "CREATE ROLE loader LOGIN PASSWORD 'secret'; CREATE SCHEMA thalweg; \
                 GRANT USAGE, CREATE ON SCHEMA thalweg TO loader";
    world.server.sql(setup).unwrap();
    let limited = world.target_as("loader", "secret");
    let plan = one_table_at(limited.as_ref());
    let grant = "GRANT CREATE ON SCHEMA \"public\" TO loader";
    let findings = limited.check(&world.key, &plan).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].fix, grant);
    let error = limited.prepare(&world.key, &plan).await.unwrap_err();
    says(&error, Kind::Config, "42501", grant);
    world.server.sql(grant).unwrap();
    limited.prepare(&world.key, &plan).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_dropped_while_streaming_stops_the_task() {
    let world = World::new();
    let plan = one_table_at(world.target.as_ref());
    let epoch = world.claim(&plan).await.epoch;
    for bulk in [false, true] {
        world.target.prepare(&world.key, &plan).await.unwrap();
        let applier = world
            .target
            .open_applier(&world.key, epoch, Arc::clone(&plan));
        let mut applier = applier.await.unwrap();
        let batch = |from: i64| {
            let mut batch = rows(from..from + 100);
            if bulk {
                batch.folded = Some(vec![Net::Folded(FoldedTable {
                    inserts: (0..100).collect(),
                    ..Default::default()
                })]);
            }
            batch
        };
        applier.apply(&batch(0)).await.unwrap();
        world.server.sql("DROP TABLE t").unwrap();
        let error = applier.apply(&batch(200)).await.unwrap_err();
        says(
            &error,
            Kind::Schema,
            "42P01",
            "create the target table again",
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_the_target_refuses_is_named_without_its_value() {
    let world = World::new();
    let check = "ALTER TABLE t ADD CONSTRAINT small CHECK (id < 2)";
    let error = apply_after(&world, check, None).await.unwrap_err();
    says(
        &error,
        Kind::Data,
        "table t, constraint small",
        "drop the constraint",
    );
    let plan = one_table_at(world.target.as_ref());
    let epoch = world.claim(&plan).await.epoch;
    let mut loader = world
        .target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let mut rows = RowBatch::new();
    rows.push(CellRef::I64(987_654_321));
    rows.end_row();
    let error = load_whole(loader.as_mut(), &plan, 0, &rows, "1").await;
    let error = error.unwrap_err();
    says(
        &error,
        Kind::Data,
        "table t, constraint small",
        "drop the constraint",
    );
    assert!(!error.chain().contains("987654321"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out_and_told() {
    let world = World::new();
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER full_disk BEFORE INSERT ON t EXECUTE FUNCTION full_disk()";
    let error = apply_after(&world, full, None).await.unwrap_err();
    says(&error, Kind::Transient, "53100", "disk is full");
}
