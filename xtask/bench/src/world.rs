//! The servers, the tables, and the changes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use thalweg_testkit::client::{Client, End};
use thalweg_testkit::compare::Ends;
use thalweg_testkit::servers::{
    Account, MariaDb, MariaDbOptions, Place, Postgres, PostgresOptions, Server,
};
use thalweg_testkit::thalweg::Thalweg;

use crate::Size;
use crate::shell::Shell;

/// A row of about a hundred bytes in eight columns, as in the figures of other systems.
const SCHEMA: &str = "CREATE DATABASE bench; USE bench;
CREATE TABLE item (id BIGINT PRIMARY KEY, a INT NOT NULL, b DECIMAL(12,2) NOT NULL,
  c VARCHAR(40) NOT NULL, d VARCHAR(60), e DATETIME(6) NOT NULL, f DOUBLE, g TINYINT(1) NOT NULL)
  CHARACTER SET utf8mb4;
CREATE TABLE marker (id INT PRIMARY KEY);
CREATE TABLE beat (id INT PRIMARY KEY, note VARCHAR(40) NOT NULL);";

/// Single-row statements: seven updates, two inserts and a delete a transaction. Deletes walk up from
/// the lowest row, inserts from the highest; updates fall between the rows that stay.
const PROCEDURE: &str = "USE bench;
DELIMITER //
CREATE PROCEDURE work(transactions INT, lowest BIGINT, highest BIGINT)
BEGIN
  DECLARE t INT DEFAULT 0;
  DECLARE n INT;
  DECLARE chosen BIGINT;
  DECLARE kept BIGINT DEFAULT lowest + transactions;
  WHILE t < transactions DO
    START TRANSACTION;
    SET n = 0;
    WHILE n < 7 DO
      SET chosen = kept + FLOOR(RAND() * (highest - kept));
      UPDATE item SET a = a + 1, b = b + 0.25, e = NOW(6) WHERE id = chosen;
      SET n = n + 1;
    END WHILE;
    INSERT INTO item VALUES (highest + 2 * t + 1, t, t / 4, CONCAT('inserted ', t), NULL, NOW(6), t / 7, 1);
    INSERT INTO item VALUES (highest + 2 * t + 2, t, t / 4, CONCAT('inserted ', t), REPEAT('x', t % 60), NOW(6), t / 7, 0);
    DELETE FROM item WHERE id = lowest + t;
    COMMIT;
    SET t = t + 1;
  END WHILE;
END //
DELIMITER ;";

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    pub(crate) size: Size,
    pub(crate) source: Place,
    pub(crate) replica: Server,
    pub(crate) postgres: Place,
    pub(crate) thalweg: Thalweg,
    pub(crate) client: Client,
    pub(crate) task: String,
}

impl World {
    /// Starts everything and brings both targets to the state before the changes. Prints the rate of
    /// the first load.
    pub(crate) fn start(size: Size) -> Result<Self> {
        let binary = std::env::var("THALWEG_BIN").unwrap_or("target/release/thalweg".to_owned());
        let durable = size.durable;
        println!(
            "source: MariaDB; A: thalweg into PostgreSQL; B: MariaDB's replication into MariaDB"
        );
        println!(
            "durability of both targets: {}",
            match durable {
                true =>
                    "every commit waits for the disk (fsync, synchronous_commit, \
                         innodb_flush_log_at_trx_commit=1; no binary log at the replica)",
                false => "no commit waits for the disk",
            }
        );
        let source = MariaDb::start(MariaDbOptions {
            config: vec!["innodb_buffer_pool_size=1G".into()],
            ..Default::default()
        })?;
        let mut config = vec![
            "skip_log_bin".to_owned(),
            "innodb_buffer_pool_size=1G".to_owned(),
        ];
        if durable {
            config.push("innodb_flush_log_at_trx_commit=1".to_owned());
        }
        let replica = MariaDb::start(MariaDbOptions {
            config,
            ..Default::default()
        })?;
        let postgres = Postgres::start(PostgresOptions {
            durable,
            ..Default::default()
        })?;
        let thalweg = Thalweg::start(Path::new(&binary))
            .with_context(|| format!("{binary}: build it with cargo build --release"))?;
        let client = thalweg.client();
        let place = |server, database: &str| Place {
            server: Arc::new(server),
            database: database.to_owned(),
        };
        let mut world = World {
            size,
            source: place(Server::MariaDb(source), "bench"),
            replica: Server::MariaDb(replica),
            postgres: place(Server::Postgres(postgres), "postgres"),
            thalweg,
            client,
            task: String::new(),
        };
        world.fill()?;
        world.replicate()?;
        world.load()?;
        Ok(world)
    }

    fn fill(&self) -> Result<()> {
        self.source.server.sql(SCHEMA)?;
        self.source.server.sql(PROCEDURE)?;
        let rows = self.size.rows;
        self.source.server.sql(&format!(
            "USE bench; INSERT INTO item SELECT seq, seq % 1000, seq / 100, CONCAT('name of ', seq), \
             REPEAT('d', seq % 60), NOW(6), seq / 3, seq % 2 FROM seq_1_to_{rows}"
        ))?;
        Ok(())
    }

    /// The reference: a replica by GTID that has what the source has, and is stopped.
    fn replicate(&self) -> Result<()> {
        let (source, replica) = (&self.source.server, &self.replica);
        replica.sql(&format!(
            "CHANGE MASTER TO master_host='127.0.0.1', master_port={}, master_user='{}', \
             master_password='{}', master_use_gtid=slave_pos; START SLAVE;",
            source.port(),
            source.user(),
            source.password()
        ))?;
        self.mark(0)?;
        self.wait_replica(0)?;
        self.replica.sql("STOP SLAVE")?;
        Ok(())
    }

    /// The composite task, loaded, Live and stopped.
    fn load(&mut self) -> Result<()> {
        let root = |place: &Place| Account {
            user: place.server.user().to_owned(),
            password: place.server.password().to_owned(),
        };
        let from = End::of(&self.source, &root(&self.source));
        let to = End::of(&self.postgres, &root(&self.postgres));
        let client = &self.client;
        let app = client.create_app("bench")?;
        let from = client.create_data_source("source", &app, &from)?;
        let to = client.create_data_source("target", &app, &to)?;
        let task = client.init_task(&from, &to)?;
        client.create_task(&task, "bench", &app)?;
        for table in ["item", "marker", "beat"] {
            let path = client.fdi(&format!("/multi-tasks/{task}/mappings"));
            let body = json!({
                "source_datasource_id": from,
                "target_datasource_id": to,
                "source_table": format!("bench.{table}"),
                "target_table": format!("public.{table}"),
            });
            client.post(&path, &[], Some(&body))?.ok()?;
        }
        client.set_options(&task, &json!({"create_tables": "missing"}))?;
        self.task = task;
        let start = Instant::now();
        self.client.run_task(&self.task)?;
        self.wait("all tables are Live", |world| {
            let status = world.status()?;
            let tables = status.get("tables").and_then(Value::as_array);
            let tables = tables.cloned().unwrap_or_default();
            let live = |table: &Value| table.get("phase").is_some_and(|phase| phase == "Live");
            Ok(tables.len() == 3 && tables.iter().all(live))
        })?;
        let (took, rows) = (start.elapsed().as_secs_f64(), self.size.rows);
        let rate = thousands(rows, took);
        println!("proof: load: {rows} rows in {took:.1} s, {rate} rows/s (from run to Live)");
        self.stop_task()
    }

    pub(crate) fn status(&self) -> Result<Value> {
        let path = self.client.native(&format!("/tasks/{}/status", self.task));
        let status = self.client.get(&path, &[])?.ok()?;
        if status.get("phase").is_some_and(|phase| phase == "Failed") {
            bail!("the task failed: {status}");
        }
        Ok(status)
    }

    pub(crate) fn stop_task(&self) -> Result<()> {
        let path = self.client.fdi(&format!("/tasks/{}/terminate", self.task));
        self.client.post(&path, &[], None)?.ok().map(drop)
    }

    /// Makes one round of changes at the source and marks their end.
    pub(crate) fn change(&self, round: u32) -> Result<()> {
        let transactions = self.size.changes / 10;
        let done = u64::from(round - 1) * transactions;
        let (lowest, highest) = (1 + done, self.size.rows + 2 * done);
        self.source.server.sql(&format!(
            "USE bench; CALL work({transactions}, {lowest}, {highest})"
        ))?;
        self.mark(round)
    }

    fn mark(&self, round: u32) -> Result<()> {
        let mark = format!("INSERT INTO bench.marker VALUES ({round})");
        self.source.server.sql(&mark).map(drop)
    }

    pub(crate) fn wait_target(&self, round: u32) -> Result<()> {
        let mut shell = Shell::postgres(&self.postgres.server)?;
        self.wait("the mark at the target", |_| {
            let found = format!("SELECT count(*) FROM marker WHERE id = {round};");
            Ok(shell.ask(&found)?.first().is_some_and(|n| n == "1"))
        })
    }

    pub(crate) fn wait_replica(&self, round: u32) -> Result<()> {
        let mut shell = Shell::mariadb(&self.replica)?;
        self.wait("the mark at the replica", |world| {
            // The tables themselves arrive by replication.
            let there =
                "SELECT count(*) FROM information_schema.tables WHERE table_name = 'marker';";
            if shell.ask(there)?.first().is_some_and(|n| n == "0") {
                return Ok(false);
            }
            let found = format!("SELECT count(*) FROM bench.marker WHERE id = {round};");
            if shell.ask(&found)?.first().is_some_and(|n| n == "1") {
                return Ok(true);
            }
            let errors = world.replica.sql("SHOW SLAVE STATUS")?;
            match errors.contains("Error ") {
                true => bail!("the replica stopped: {errors}"),
                false => Ok(false),
            }
        })
    }

    /// Asks every 20 ms.
    fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done(self)? {
            if start.elapsed() > PATIENCE {
                bail!(
                    "{what}: not within {PATIENCE:?}\n{}",
                    self.thalweg.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Compares every row of the source with both targets, and prints what it found.
    pub(crate) fn compare(&self) -> Result<bool> {
        let ends = Ends {
            source: &self.source,
            target: &self.postgres,
        };
        let mut equal = true;
        for table in ["item", "marker", "beat"] {
            let found = ends.compare(&format!("bench.{table}"), &format!("public.{table}"))?;
            println!("proof: compare {found}");
            equal &= found.equal();
            let sum = |server: &Server| server.sql(&format!("CHECKSUM TABLE bench.{table}"));
            let same = sum(&self.source.server)? == sum(&self.replica)?;
            println!(
                "compare {table}: source and replica: {}",
                if same { "equal" } else { "DIFFERENT" }
            );
            equal &= same;
        }
        Ok(equal)
    }
}

/// A rate in thousands.
pub(crate) fn thousands(count: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = count as f64 / seconds / 1000.0;
    format!("{rate:.1} k")
}
