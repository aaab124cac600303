//! The servers of a run, and the contenders between them.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use thalweg_testkit::client::{Client, End};
use thalweg_testkit::compare::Ends;
use thalweg_testkit::servers::{
    Account, MariaDb, MariaDbOptions, Place, Postgres, PostgresOptions, Server, System,
};
use thalweg_testkit::thalweg::Thalweg;

use crate::measure::{Cost, Processes, Span};
use crate::shell::Shell;

/// The database on every server.
pub(crate) const DATABASE: &str = "bench";
/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Between two looks whether a span is over. Whoever looks more often is a good part of what is measured.
const LOOK: Duration = Duration::from_millis(20);

/// Who brings the source's changes to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Contender {
    /// The source's own replication, to a server of its kind.
    Native,
    /// Thalweg, to a server of this kind.
    Ours(System),
}

/// One source, and a target for each contender.
pub(crate) struct World {
    pub(crate) source: Place,
    places: HashMap<Contender, Place>,
    /// In the order they take turns: the reference first.
    pub(crate) contenders: Vec<Contender>,
    pub(crate) thalweg: Thalweg,
    pub(crate) client: Client,
    app: String,
    source_id: String,
    target_ids: HashMap<System, String>,
    tasks: HashMap<System, String>,
    made: u32,
}

/// What a server is started for.
#[derive(Clone, Copy)]
struct Purpose {
    durable: bool,
    source: bool,
    /// A hundred tasks are connected to it.
    crowd: bool,
}

/// The settings that decide how fast a server can be, the same on all servers of a kind.
fn server(system: System, purpose: Purpose) -> Result<Server> {
    let Purpose {
        durable,
        source,
        crowd,
    } = purpose;
    let lines = |lines: &[&str]| -> Vec<String> {
        let lines = lines.iter();
        lines.map(|line| (*line).to_owned()).collect()
    };
    Ok(match system {
        System::Postgres => {
            let mut config = lines(&[
                "shared_buffers = 1GB",
                "max_wal_size = 16GB",
                "checkpoint_timeout = 30min",
                // Else a subscription that is enabled again may wait five seconds for its worker.
                "wal_retrieve_retry_interval = 10ms",
            ]);
            if crowd {
                config.extend(lines(&[
                    "max_connections = 1000",
                    "max_wal_senders = 250",
                    "max_replication_slots = 250",
                ]));
            }
            Server::Postgres(Postgres::start(PostgresOptions {
                durable,
                config,
                ..Default::default()
            })?)
        }
        System::MariaDb => {
            let mut config: Vec<String> = lines(&[
                "innodb_buffer_pool_size=1G",
                "innodb_log_file_size=2G",
                "max_allowed_packet=256M",
                "log_bin_trust_function_creators=ON",
            ]);
            if crowd {
                config.push("max_connections=1000".to_owned());
            }
            if !source {
                config.push("skip_log_bin".to_owned());
                config.push("slave_parallel_threads=4".to_owned());
                config.push("slave_parallel_mode=optimistic".to_owned());
            }
            Server::MariaDb(MariaDb::start(MariaDbOptions {
                durable,
                config,
                ..Default::default()
            })?)
        }
    })
}

impl World {
    /// Starts everything. `durable`: whether the targets' commits wait for the disk. `native`: with the
    /// source's own replication; without it, there is room for many tasks.
    pub(crate) fn start(
        system: System,
        targets: &[System],
        durable: bool,
        native: bool,
    ) -> Result<Self> {
        let binary = std::env::var("THALWEG_BIN").unwrap_or("target/release/thalweg".to_owned());
        let place = |system, durable, source| -> Result<Place> {
            let purpose = Purpose {
                durable,
                source,
                crowd: !native,
            };
            Place::create(Arc::new(server(system, purpose)?), DATABASE)
        };
        // What makes the backlog is not measured, and need not wait for the disk.
        let source = place(system, false, true)?;
        let mut places = HashMap::new();
        let mut contenders = Vec::new();
        if native {
            places.insert(Contender::Native, place(system, durable, false)?);
            contenders.push(Contender::Native);
        }
        for target in targets {
            places.insert(Contender::Ours(*target), place(*target, durable, false)?);
            contenders.push(Contender::Ours(*target));
        }
        let thalweg = Thalweg::start(Path::new(&binary))
            .with_context(|| format!("{binary}: build it with cargo build --release"))?;
        let client = thalweg.client();
        let app = client.create_app("bench")?;
        let end = |name: &str, place: &Place| {
            let root = Account {
                user: place.server.user().to_owned(),
                password: place.server.password().to_owned(),
            };
            client.create_data_source(name, &app, &End::of(place, &root))
        };
        let source_id = end("source", &source)?;
        let mut target_ids = HashMap::new();
        for (contender, place) in &places {
            if let Contender::Ours(system) = contender {
                target_ids.insert(*system, end(&format!("target {system}"), place)?);
            }
        }
        Ok(World {
            source,
            places,
            contenders,
            thalweg,
            client,
            app,
            source_id,
            target_ids,
            tasks: HashMap::new(),
            made: 0,
        })
    }

    pub(crate) fn place(&self, contender: Contender) -> Result<&Place> {
        self.places.get(&contender).context("no such contender")
    }

    pub(crate) fn processes(&self, contender: Contender) -> Result<Processes> {
        let pid = |place: &Place| place.server.pid().context("a server has ended");
        Ok(Processes {
            server: match contender {
                Contender::Native => None,
                Contender::Ours(_) => Some(self.thalweg.pid().context("thalweg has ended")?),
            },
            source: pid(&self.source)?,
            target: pid(self.place(contender)?)?,
        })
    }

    /// Copies `tables` to a contender's target, which has none, and leaves it stopped where it would
    /// follow; what the copying cost. A replica's tables are made before, which is not measured.
    pub(crate) fn load(&mut self, contender: Contender, tables: &[String]) -> Result<Cost> {
        match (contender, self.source.system()) {
            (Contender::Native, System::Postgres) => self.subscribe(tables),
            (Contender::Native, System::MariaDb) => self.dump(tables),
            (Contender::Ours(system), _) => self.run_task(system, tables),
        }
    }

    fn subscribe(&self, tables: &[String]) -> Result<Cost> {
        let replica = self.place(Contender::Native)?;
        let schema = self.definitions(tables)?;
        replica.sql(&schema)?;
        let list = tables.join(", ");
        self.source
            .sql(&format!("CREATE PUBLICATION bench FOR TABLE {list}"))?;
        let mut shell = Shell::open(replica)?;
        let span = Span::begin(self.processes(Contender::Native)?)?;
        let source = &self.source.server;
        replica.sql(&format!(
            "CREATE SUBSCRIPTION bench CONNECTION 'host={} port={} dbname={DATABASE} user={} password={}' \
             PUBLICATION bench",
            source.host(),
            source.port(),
            source.user(),
            source.password()
        ))?;
        let ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r';";
        self.wait("the subscription is ready", || {
            Ok(shell.ask(ready)?.first().is_some_and(|n| n == "0"))
        })?;
        let cost = span.end()?;
        self.pause(Contender::Native)?;
        Ok(cost)
    }

    /// Definitions with keys, by the server's own dump.
    fn definitions(&self, tables: &[String]) -> Result<String> {
        let server = &self.source.server;
        let mut command = Command::new("pg_dump");
        command
            .args(["--schema-only", "--no-publications", "-h", server.host()])
            .args(["-p", &server.port().to_string(), "-U", server.user()])
            .args(tables.iter().map(|table| format!("--table=public.{table}")))
            .arg(DATABASE)
            .env("PGPASSWORD", server.password());
        let output = command.output().context("cannot start pg_dump")?;
        ensure!(
            output.status.success(),
            "pg_dump: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// `mariadb-dump` piped into `mariadb`; then the replica knows where to go on.
    fn dump(&self, tables: &[String]) -> Result<Cost> {
        let replica = self.place(Contender::Native)?;
        let client = |program: &str, server: &Server| {
            let mut command = Command::new(program);
            command
                .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"])
                .arg(format!("--port={}", server.port()))
                .args(["--user=root", "--max-allowed-packet=256M"])
                .env("MYSQL_PWD", server.password());
            command
        };
        let span = Span::begin(self.processes(Contender::Native)?)?;
        let mut dump = client("mariadb-dump", &self.source.server)
            .args([
                "--single-transaction",
                "--master-data=1",
                "--gtid",
                DATABASE,
            ])
            .args(tables)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start mariadb-dump")?;
        let pipe = dump.stdout.take().context("no standard output")?;
        let fed = client("mariadb", &replica.server)
            .arg(DATABASE)
            .stdin(pipe)
            .status()
            .context("cannot start mariadb")?;
        ensure!(
            dump.wait()?.success() && fed.success(),
            "mariadb-dump into mariadb failed"
        );
        let cost = span.end()?;
        let source = &self.source.server;
        replica.sql(&format!(
            "CHANGE MASTER TO master_host='127.0.0.1', master_port={}, master_user='{}', \
             master_password='{}', master_use_gtid=slave_pos",
            source.port(),
            source.user(),
            source.password()
        ))?;
        Ok(cost)
    }

    /// Makes a task from the source to a target that copies and follows `tables`; its id.
    pub(crate) fn make_task(&mut self, system: System, tables: &[String]) -> Result<String> {
        self.made += 1;
        let client = &self.client;
        let target_id = self.target_ids.get(&system).context("no such target")?;
        let target = self.place(Contender::Ours(system))?;
        let ends = (self.source_id.as_str(), target_id.as_str());
        let task = client.init_task(ends.0, ends.1)?;
        for table in tables {
            let names = (self.source.table(table), target.table(table));
            client.map_table(&task, ends, (&names.0, &names.1))?;
        }
        client.set_options(&task, &json!({"create_tables": "missing"}))?;
        client.create_task(&task, &format!("bench{}", self.made), &self.app)?;
        Ok(task)
    }

    fn run_task(&mut self, system: System, tables: &[String]) -> Result<Cost> {
        let task = self.make_task(system, tables)?;
        self.tasks.insert(system, task.clone());
        let contender = Contender::Ours(system);
        let span = Span::begin(self.processes(contender)?)?;
        self.client.run_task(&task)?;
        self.wait_live(&task, tables.len())?;
        let cost = span.end()?;
        self.pause(contender)?;
        Ok(cost)
    }

    /// Waits until all tables of a task are Live.
    pub(crate) fn wait_live(&self, task: &str, tables: usize) -> Result<()> {
        self.wait("all tables are Live", || {
            let status = self.status_of(task)?;
            let tables_of = status.get("tables").and_then(Value::as_array);
            let live = |table: &Value| table.get("phase").is_some_and(|phase| phase == "Live");
            Ok(tables_of.is_some_and(|all| all.len() == tables && all.iter().all(live)))
        })
    }

    /// Waits until a task that was asked to stop has stopped.
    pub(crate) fn wait_stopped(&self, task: &str) -> Result<()> {
        self.wait("the task has stopped", || {
            let status = self.status_of(task)?;
            Ok(status.get("phase").is_some_and(|phase| phase == "Stopped"))
        })
    }

    pub(crate) fn task(&self, system: System) -> Result<&str> {
        let task = self.tasks.get(&system);
        Ok(task.context("no task was made")?.as_str())
    }

    fn status(&self, system: System) -> Result<Value> {
        self.status_of(self.task(system)?)
    }

    /// What a task says of itself; an error if it has failed.
    pub(crate) fn status_of(&self, task: &str) -> Result<Value> {
        let status = self.client.status(task)?;
        if status.get("phase").is_some_and(|phase| phase == "Failed") {
            bail!("the task failed: {status}");
        }
        Ok(status)
    }

    /// Lets a contender follow.
    pub(crate) fn resume(&self, contender: Contender) -> Result<()> {
        let replica = self.place(contender)?;
        match (contender, self.source.system()) {
            (Contender::Native, System::Postgres) => {
                replica.sql("ALTER SUBSCRIPTION bench ENABLE").map(drop)
            }
            (Contender::Native, System::MariaDb) => replica.sql("START SLAVE").map(drop),
            (Contender::Ours(system), _) => self.client.run_task(self.task(system)?),
        }
    }

    /// Stops a contender, and waits until it has stopped.
    pub(crate) fn pause(&self, contender: Contender) -> Result<()> {
        let replica = self.place(contender)?;
        match (contender, self.source.system()) {
            (Contender::Native, System::Postgres) => {
                replica.sql("ALTER SUBSCRIPTION bench DISABLE")?;
                let active = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'bench' AND active";
                self.wait("the subscription has stopped", || {
                    Ok(self.source.sql(active)?.trim() == "0")
                })
            }
            (Contender::Native, System::MariaDb) => replica.sql("STOP SLAVE").map(drop),
            (Contender::Ours(system), _) => {
                let task = self.task(system)?;
                self.client.stop_task(task)?;
                self.wait_stopped(task)
            }
        }
    }

    /// Takes a contender back to where it has nothing.
    pub(crate) fn forget(&mut self, contender: Contender, tables: &[String]) -> Result<()> {
        let replica = self.place(contender)?;
        match (contender, self.source.system()) {
            (Contender::Native, System::Postgres) => {
                replica.sql("DROP SUBSCRIPTION bench")?;
                self.source.sql("DROP PUBLICATION bench")?;
            }
            (Contender::Native, System::MariaDb) => {
                replica.sql("RESET SLAVE ALL")?;
            }
            (Contender::Ours(system), _) => self.client.delete_task(self.task(system)?)?,
        }
        for table in tables {
            replica.sql(&format!("DROP TABLE {table}"))?;
        }
        Ok(())
    }

    /// Puts a mark behind all changes so far.
    pub(crate) fn mark(&self, mark: u32) -> Result<()> {
        self.source
            .sql(&format!("INSERT INTO marker VALUES ({mark})"))
            .map(drop)
    }

    /// Waits until a contender's target shows a mark.
    pub(crate) fn wait_mark(&self, contender: Contender, mark: u32) -> Result<()> {
        let mut shell = Shell::open(self.place(contender)?)?;
        let found = format!("SELECT count(*) FROM marker WHERE id = {mark};");
        let mut look = Instant::now();
        self.wait("the mark at the target", || {
            if look.elapsed() > Duration::from_secs(1) {
                look = Instant::now();
                self.healthy(contender)?;
            }
            Ok(shell.ask(&found)?.first().is_some_and(|n| n == "1"))
        })
    }

    /// Whether a contender still works.
    fn healthy(&self, contender: Contender) -> Result<()> {
        match (contender, self.source.system()) {
            (Contender::Native, System::Postgres) => Ok(()),
            (Contender::Native, System::MariaDb) => {
                let status = self.place(contender)?.sql("SHOW SLAVE STATUS")?;
                ensure!(!status.contains("Error "), "the replica stopped: {status}");
                Ok(())
            }
            (Contender::Ours(system), _) => self.status(system).map(drop),
        }
    }

    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done()? {
            if start.elapsed() > PATIENCE {
                let log = self.thalweg.log_tail();
                bail!("{what}: not within {PATIENCE:?}\n{log}");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Compares every row of the source's tables with a contender's.
    pub(crate) fn compare(&self, contender: Contender, tables: &[String]) -> Result<()> {
        let target = self.place(contender)?;
        let ends = Ends {
            source: &self.source,
            target,
        };
        for table in tables {
            let found = ends.compare(&self.source.table(table), &target.table(table))?;
            ensure!(found.equal(), "{contender:?}: {found}");
        }
        Ok(())
    }
}
