//! A live MariaDB is copied into PostgreSQL and followed, through crashes of the engine, until both
//! sides are equal row by row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::{Connector, DataSourceConfig, Source, Target};
use thalweg_core::schema::TableName;
use thalweg_core::secret::Secret;
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::status::{TaskPhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TABLES: [&str; 3] = ["account", "entry", "place"];

const SCHEMA: &str = "CREATE DATABASE shop; USE shop;
CREATE TABLE account (id INT UNSIGNED PRIMARY KEY, name VARCHAR(40) NOT NULL, amount DECIMAL(12,2) NOT NULL,
  changed TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6));
CREATE TABLE entry (id BIGINT AUTO_INCREMENT PRIMARY KEY, account INT UNSIGNED NOT NULL, ratio DOUBLE,
  data VARBINARY(20), day DATE, at DATETIME(3), note TEXT, FOREIGN KEY (account) REFERENCES account (id));
CREATE TABLE place (id INT PRIMARY KEY, seat INT NOT NULL UNIQUE);
INSERT INTO account (id, name, amount) SELECT seq, concat('konto č. ', seq), 100 FROM seq_1_to_500;
INSERT INTO entry (account, ratio, data, day, at, note) SELECT 1 + seq % 500, seq / 7, unhex(sha1(seq)),
  '2024-02-28' + INTERVAL seq DAY, '2024-02-28 01:02:03.456' + INTERVAL seq HOUR, repeat('x', seq % 50)
  FROM seq_1_to_3000;
INSERT INTO place SELECT seq, seq FROM seq_1_to_50;";

/// One round of changes; each statement group is a transaction.
const CHANGES: &str = "USE shop;
START TRANSACTION; UPDATE account SET amount = amount - 1 WHERE id <= 250;
UPDATE account SET amount = amount + 1 WHERE id > 250; COMMIT;
INSERT INTO entry (account, ratio, note) SELECT id, NULL, name FROM account WHERE id % 10 = 0;
DELETE FROM entry ORDER BY id LIMIT 5;
UPDATE entry SET note = concat('!', note) WHERE id % 9 = 0;
START TRANSACTION; UPDATE place SET seat = -1 WHERE id = 1; UPDATE place SET seat = 1 WHERE id = 2;
UPDATE place SET seat = 2 WHERE id = 1; UPDATE place SET seat = 0 WHERE id = 1;
UPDATE place SET seat = 2 WHERE id = 2; UPDATE place SET seat = 1 WHERE id = 1; COMMIT;";

struct Ends {
    mariadb: Arc<MariaDb>,
    postgres: Postgres,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
}

fn config(host: &str, port: u16, database: &str, user: &str, password: &str) -> DataSourceConfig {
    DataSourceConfig {
        host: host.into(),
        port,
        database: database.into(),
        user: user.into(),
        password: Secret::new(password),
        tls: Default::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/test".into(),
    }
}

impl Ends {
    fn start() -> Self {
        let mariadb = MariaDb::start(MariaDbOptions::default()).unwrap();
        let postgres = Postgres::start(PostgresOptions::default()).unwrap();
        mariadb.sql(SCHEMA).unwrap();
        let (m, p) = (&mariadb, &postgres);
        let from = config(m.host(), m.port(), "shop", m.user(), m.password());
        let to = config(p.host(), p.port(), "postgres", p.user(), p.password());
        Ends {
            source: thalweg_mysql::connector().source(&from).unwrap(),
            target: thalweg_postgres::connector().target(&to).unwrap(),
            mariadb: Arc::new(mariadb),
            postgres,
        }
    }

    async fn plan(&self) -> Arc<Plan> {
        let names = TABLES.map(|name| TableName::new("shop", name));
        let findings = self.source.check(&names).await.unwrap();
        assert!(
            !findings.iter().any(|finding| finding.refuses()),
            "{findings:?}"
        );
        let described = self.source.describe(&names).await.unwrap();
        let mut pairs = Vec::new();
        for source in described {
            let target = TableName::new("public", &source.name.name);
            let mapping = Mapping {
                id: source.name.name.clone(),
                source: source.name.clone(),
                target: target.clone(),
                columns: Vec::new(),
            };
            let proposal = self
                .target
                .propose(&source, &target, &mapping.pairs(&source))
                .unwrap();
            let (proposal, _) = self.target.settle(proposal).await.unwrap();
            pairs.push(TablePair {
                mapping,
                source: Some(source),
                target: Some(proposal),
                create: true,
            });
        }
        let resolution = resolve(pairs, Operations::ALL, TaskOptions::default());
        Arc::new(
            resolution
                .plan
                .unwrap_or_else(|| panic!("{:?}", resolution.findings)),
        )
    }

    /// All rows of a table as text of one form on both sides.
    fn rows(&self, table: &str) -> (String, String) {
        let (maria, pg) = match table {
            "account" => (
                "SELECT concat_ws('|', id, name, amount, changed) FROM account ORDER BY id",
                "SELECT concat_ws('|', id, name, amount, to_char(changed, 'YYYY-MM-DD HH24:MI:SS.US')) \
                 FROM account ORDER BY id",
            ),
            "entry" => (
                "SELECT concat_ws('|', id, account, ratio, lower(hex(data)), day, at, note) \
                 FROM entry ORDER BY id",
                "SELECT concat_ws('|', id, account, ratio, encode(data, 'hex'), \
                 day, to_char(at, 'YYYY-MM-DD HH24:MI:SS.MS'), note) FROM entry ORDER BY id",
            ),
            _ => (
                "SELECT concat_ws('|', id, seat) FROM place ORDER BY id",
                "SELECT concat_ws('|', id, seat) FROM place ORDER BY id",
            ),
        };
        let maria = self
            .mariadb
            .sql(&format!("USE shop; SET time_zone = '+00:00'; {maria}"));
        let pg = self.postgres.sql(&format!("SET timezone = 'UTC'; {pg}"));
        (
            maria.unwrap(),
            pg.unwrap().trim_start_matches("SET\n").to_owned(),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_database_is_copied_and_followed_through_crashes() {
    let ends = Ends::start();
    let plan = ends.plan().await;
    let spec = TaskSpec {
        key: TaskKey {
            server: "test".into(),
            task: "shop".into(),
        },
        plan,
        source: Arc::clone(&ends.source),
        target: Arc::clone(&ends.target),
        expects_checkpoint: false,
    };
    let stop_load = Arc::new(AtomicBool::new(false));
    let load = {
        let (mariadb, stop) = (Arc::clone(&ends.mariadb), Arc::clone(&stop_load));
        std::thread::spawn(move || {
            let mut rounds = 0;
            while !stop.load(Ordering::SeqCst) {
                mariadb.sql(CHANGES).unwrap();
                rounds += 1;
            }
            rounds
        })
    };
    // Crashes: the future is dropped wherever it stands, as SIGKILL would leave it.
    for crash in 0..6 {
        let (status, _) = watch::channel(TaskStatus::default());
        let run = task::run(
            spec.clone(),
            Limits::default(),
            MemoryBudget::default(),
            status,
            CancellationToken::new(),
        );
        let ended = tokio::time::timeout(Duration::from_millis(60 + 150 * crash), run).await;
        assert!(ended.is_err(), "{ended:?}");
    }
    stop_load.store(true, Ordering::SeqCst);
    let rounds = load.join().unwrap();
    let head = ends.source.head().await.unwrap();
    let (status, watched) = watch::channel(TaskStatus::default());
    let stop = CancellationToken::new();
    let run = task::run(
        spec,
        Limits::default(),
        MemoryBudget::default(),
        status,
        stop.clone(),
    );
    let reach = async {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // Before streaming the position is the load's start: the load may not have ended.
            let status = watched.borrow().clone();
            let applied = status
                .applied
                .filter(|_| status.phase == TaskPhase::Streaming);
            if applied.is_some_and(|applied| ends.source.reached(&applied, &head).unwrap()) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "not there in a minute: {:?}",
                watched.borrow()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(run, reach);
    ended.unwrap();
    println!("{rounds} rounds of changes");
    for table in TABLES {
        let (source, target) = ends.rows(table);
        let different = source
            .lines()
            .zip(target.lines())
            .filter(|(source, target)| source != target);
        assert_eq!(different.take(3).collect::<Vec<_>>(), [], "{table}");
        assert_eq!(source.lines().count(), target.lines().count(), "{table}");
        println!("{table}: {} rows equal", source.lines().count());
    }
}
