//! A live PostgreSQL is copied into another and followed, through a stop of the engine and a broken
//! connection, until both sides are equal row by row.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{Mapping, Operations, TaskOptions};
use thalweg_core::plan::{TablePair, resolve};
use thalweg_core::ports::Connector;
use thalweg_core::schema::TableName;
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::status::{TaskPhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_testkit::servers::{Postgres, PostgresOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pair::config;

const SCHEMA: &str = "
CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL, amount numeric(12,2) NOT NULL,
  changed timestamptz NOT NULL DEFAULT now(), ok bool, ratio float8, data bytea, day date, doc jsonb);
CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int REFERENCES account,
  note text);
INSERT INTO account SELECT i, 'účet č. ' || i, i / 7.0, now(), i % 2 = 0, i / 7.0::float8,
  decode(md5(i::text), 'hex'), '2024-02-28'::date + i, jsonb_build_object('n', i)
  FROM generate_series(1, 500) i;
INSERT INTO entry (account, note) SELECT 1 + i % 500, repeat('x', i % 50) FROM generate_series(1, 3000) i;";

const CHANGES: &str = "
BEGIN; UPDATE account SET amount = amount - 1 WHERE id <= 250;
UPDATE account SET amount = amount + 1 WHERE id > 250; COMMIT;
INSERT INTO entry (account, note) SELECT id, name FROM account WHERE id % 10 = 0;
DELETE FROM entry WHERE id IN (SELECT id FROM entry ORDER BY id LIMIT 5);
UPDATE entry SET note = '!' || note WHERE id % 9 = 0;
UPDATE account SET doc = NULL, data = NULL, changed = clock_timestamp() WHERE id % 50 = 3;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_postgres_is_copied_and_followed() {
    let from = Postgres::start(PostgresOptions::default()).unwrap();
    let to = Postgres::start(PostgresOptions::default()).unwrap();
    from.sql(SCHEMA).unwrap();
    let config = |s: &Postgres| config(s.host(), s.port(), "postgres", s.user(), s.password());
    let source = thalweg_postgres::connector()
        .source(&config(&from))
        .unwrap();
    let target = thalweg_postgres::connector().target(&config(&to)).unwrap();
    let names = ["account", "entry"].map(|name| TableName::new("public", name));
    let findings = source.check(&names).await.unwrap();
    assert!(!findings.iter().any(|f| f.refuses()), "{findings:?}");
    let described = source.describe(&names).await.unwrap();
    let pairs = described.into_iter().map(|source| {
        let name = TableName::new("copy", &source.name.name);
        let mapping = Mapping {
            id: source.name.name.clone(),
            source: source.name.clone(),
            target: name.clone(),
            columns: Vec::new(),
        };
        let proposal = target.propose(&source, &name, &mapping.pairs(&source));
        TablePair {
            mapping,
            source: Some(source),
            target: Some(proposal.unwrap()),
            create: true,
        }
    });
    let resolution = resolve(pairs.collect(), Operations::ALL, TaskOptions::default());
    let plan = resolution
        .plan
        .unwrap_or_else(|| panic!("{:?}", resolution.findings));
    to.sql("CREATE SCHEMA copy").unwrap();
    let spec = TaskSpec {
        key: TaskKey {
            server: "test".into(),
            task: "copy".into(),
        },
        plan: Arc::new(plan),
        source: Arc::clone(&source),
        target,
        expects_checkpoint: false,
    };
    for round in 0..3 {
        let (sender, mut status) = watch::channel(TaskStatus::default());
        let stop = CancellationToken::new();
        let mut run = JoinSet::new();
        let (limits, budget) = (Limits::default(), MemoryBudget::default());
        run.spawn(task::run(
            spec.clone(),
            limits,
            budget,
            sender,
            stop.clone(),
        ));
        from.sql(CHANGES).unwrap();
        if round == 1 {
            let gone = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication";
            let streaming = status.wait_for(|s| s.phase == TaskPhase::Streaming);
            drop(streaming.await.unwrap());
            from.sql(gone).unwrap();
            from.sql(CHANGES).unwrap();
        }
        let head = source.head().await.unwrap();
        let there = status.wait_for(|s| {
            let at = s.applied.as_ref();
            s.phase == TaskPhase::Streaming
                && at.is_some_and(|at| source.reached(at, &head).unwrap())
        });
        let there = tokio::time::timeout(Duration::from_secs(60), there).await;
        drop(there.expect("it catches up").unwrap());
        stop.cancel();
        run.join_next().await.unwrap().unwrap().unwrap();
        for table in ["account", "entry"] {
            let rows = |schema: &str| format!("SELECT t::text FROM {schema}.{table} t ORDER BY id");
            let (a, b) = (
                from.sql(&rows("public")).unwrap(),
                to.sql(&rows("copy")).unwrap(),
            );
            assert!(a.len() > 1_000);
            for (a, b) in a.lines().zip(b.lines()) {
                assert_eq!(a, b, "{table}, round {round}");
            }
            assert_eq!(a.len(), b.len(), "{table}, round {round}");
        }
    }
    source.release().await.unwrap();
    assert_eq!(
        from.sql("SELECT count(*) FROM pg_replication_slots")
            .unwrap(),
        "0"
    );
}
