//! What the start of a task asks of its two systems, however many tables it has.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_control::preflight;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{CreateTables, Mapping, Operations, TaskOptions};
use thalweg_core::ports::{Source, Target};
use thalweg_core::schema::TableName;
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::status::{TablePhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_testkit::servers::{
    MariaDb, MariaDbOptions, Place, Postgres, PostgresOptions, Server, System,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pair::{config, connector};

/// Tables of the two tasks that are compared.
const FEW: usize = 5;
const MANY: usize = 50;
/// Statements that one start may have more than another: it takes longer, so that the questions of every
/// second are put more often, and lists are cut into blocks.
const SPARE: usize = 20;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// A database of a server that logs every statement.
fn place(system: System, database: &str) -> Place {
    let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
    let server = match system {
        System::MariaDb => Server::MariaDb(
            MariaDb::start(MariaDbOptions {
                config: lines(&["general_log=1", "general_log_file=statements.log"]),
                ..MariaDbOptions::default()
            })
            .unwrap(),
        ),
        System::Postgres => Server::Postgres(
            Postgres::start(PostgresOptions {
                config: lines(&[
                    "logging_collector = on",
                    "log_directory = '.'",
                    "log_filename = 'statements.log'",
                    "log_statement = 'all'",
                ]),
                ..PostgresOptions::default()
            })
            .unwrap(),
        ),
    };
    Place::create(Arc::new(server), database).unwrap()
}

/// The statements that a place's server has run so far, in their order, without their values.
fn statements(place: &Place) -> Vec<String> {
    let log = fs::read(place.server.data_dir().join("statements.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    let marks: &[&str] = match place.system() {
        System::MariaDb => &[" Query\t", " Execute\t", " Prepare\t"],
        System::Postgres => &["LOG:  statement: ", "LOG:  execute "],
    };
    let statement = |line: &str| {
        let mut found = marks.iter().filter_map(|mark| line.split_once(mark));
        found.next().map(|(_, statement)| shape(statement))
    };
    log.lines().filter_map(statement).collect()
}

/// A statement without numbers and texts, so that those of one kind are alike.
fn shape(statement: &str) -> String {
    let shape = statement
        .split('\'')
        .step_by(2)
        .collect::<Vec<_>>()
        .join("?");
    let shape: String = shape.chars().filter(|c| !c.is_ascii_digit()).collect();
    shape.chars().take(150).collect()
}

/// Two databases with tables, and a task between them.
struct World {
    from: Place,
    to: Place,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    key: TaskKey,
    mappings: Vec<Mapping>,
    begun: bool,
}

impl World {
    fn new(source: System, target: System, tables: usize) -> Self {
        let (from, to) = (place(source, "shop"), place(target, "warehouse"));
        let names: Vec<String> = (0..tables).map(|n| format!("t{n:04}")).collect();
        let make = |name: &String| {
            format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, note varchar(40) UNIQUE, amount int NOT NULL); \
                 INSERT INTO {name} VALUES (1, 'one', 10), (2, 'two', 20);\n"
            )
        };
        from.sql(&names.iter().map(make).collect::<String>())
            .unwrap();
        let (reader, writer) = (from.source_account().unwrap(), to.target_account().unwrap());
        let mapping = |name: &String| Mapping {
            id: name.clone(),
            source: TableName::new(from.schema(), name),
            target: TableName::new(to.schema(), name),
            columns: Vec::new(),
        };
        World {
            source: connector(source).source(&config(&from, &reader)).unwrap(),
            target: connector(target).target(&config(&to, &writer)).unwrap(),
            mappings: names.iter().map(mapping).collect(),
            from,
            to,
            key: TaskKey {
                server: "test".into(),
                task: "start".into(),
            },
            begun: false,
        }
    }

    /// Starts the task as its supervisor does, until all of its tables are Live, and stops it.
    async fn start(&mut self) {
        let options = TaskOptions {
            create_tables: CreateTables::Missing,
            ..TaskOptions::default()
        };
        let looks = || {
            preflight(
                self.source.as_ref(),
                self.target.as_ref(),
                &self.key,
                &self.mappings,
                Operations::ALL,
                &options,
            )
        };
        let since = Instant::now();
        let found = looks().await.unwrap();
        let plan = found.plan.unwrap_or_else(|| panic!("{:?}", found.findings));
        let aside = self.target.set_aside(&self.key, &plan).await.unwrap();
        assert!(!aside, "a table is loaded again");
        println!("  preflight {:?}", since.elapsed());
        let spec = TaskSpec {
            key: self.key.clone(),
            plan: Arc::new(plan),
            source: Arc::clone(&self.source),
            target: Arc::clone(&self.target),
            expects_checkpoint: self.begun,
            compares: std::collections::BTreeMap::new(),
            orders: thalweg_engine::verify::Orders::default(),
            quarantine: thalweg_engine::quarantine::Ward::default(),
            elsewhere: std::sync::Arc::default(),
        };
        self.begun = true;
        let (sender, mut status) = watch::channel(TaskStatus::default());
        let stop = CancellationToken::new();
        let mut run = JoinSet::new();
        run.spawn(task::run(
            spec,
            Limits::default(),
            MemoryBudget::default(),
            sender,
            stop.clone(),
        ));
        let live = |status: &TaskStatus| {
            let mut tables = status.tables.iter();
            !status.tables.is_empty() && tables.all(|table| table.phase == TablePhase::Live)
        };
        let waited = tokio::time::timeout(PATIENCE, status.wait_for(live));
        drop(waited.await.unwrap().unwrap());
        println!("  run {:?}", since.elapsed());
        stop.cancel();
        run.join_next().await.unwrap().unwrap().unwrap();
    }

    /// The same; the statements that source and target ran for it.
    async fn counted(&mut self) -> [Vec<String>; 2] {
        let before = [&self.from, &self.to].map(|place| statements(place).len());
        self.start().await;
        let [source, target] = [&self.from, &self.to].map(statements);
        [source[before[0]..].to_vec(), target[before[1]..].to_vec()]
    }
}

/// Processor seconds that a server has taken.
fn cpu(place: &Place) -> f64 {
    let server = place.server.pid().unwrap();
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // A process may end between the listing and the look.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let fields: Vec<i64> = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .map(|field| field.trim().parse().unwrap_or(0))
            .collect();
        let own = entry.file_name().to_string_lossy() == server.to_string();
        if own || fields[1] == i64::from(server) {
            let ended = if own { 2 } else { 0 };
            ticks += fields[11..13 + ended].iter().sum::<i64>();
        }
    }
    ticks as f64 / 100.0
}

/// Prints what the first start and the next take, with the kinds of statements that are many.
#[tokio::main]
async fn measure(source: System, target: System) {
    let tables = std::env::var("TABLES").map_or(1_000, |n| n.parse().unwrap());
    let mut world = World::new(source, target, tables);
    for what in ["first start", "restart"] {
        println!("{source} to {target}, {tables} tables, {what}:");
        let (since, before) = (Instant::now(), [&world.from, &world.to].map(cpu));
        let statements = world.counted().await;
        let seconds = since.elapsed().as_secs_f64();
        let after = [&world.from, &world.to].map(cpu);
        println!("  {seconds:.1} s");
        for (side, name) in ["source", "target"].into_iter().enumerate() {
            let cpu = after[side] - before[side];
            println!(
                "  {name}: {cpu:.2} s, {} statements",
                statements[side].len()
            );
            let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
            for statement in &statements[side] {
                *kinds.entry(statement).or_default() += 1;
            }
            let mut kinds: Vec<_> = kinds.into_iter().filter(|(_, n)| *n > tables / 4).collect();
            kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
            for (kind, n) in kinds {
                println!("    {n:6} {kind}");
            }
        }
    }
}

/// A start asks of many tables what it asks of few, in hardly more statements. What it does to each table is
/// left: it is made, loaded and given its keys when the task starts first, and of what a user may do to
/// a table MariaDB is asked for each.
#[tokio::main]
async fn few_statements(source: System, target: System) {
    let mut counts = Vec::new();
    for tables in [FEW, MANY] {
        let mut world = World::new(source, target, tables);
        world.start().await;
        counts.push(world.counted().await.map(|statements| statements.len()));
    }
    let per_table = match target {
        System::MariaDb => 4,
        System::Postgres => 0,
    };
    let more = MANY - FEW;
    for (side, per_table) in [0, per_table].into_iter().enumerate() {
        let (few, many) = (counts[0][side], counts[1][side]);
        println!("{few} statements for {FEW} tables, {many} for {MANY}");
        assert!(
            many <= few + more * per_table + SPARE,
            "side {side}: {few} statements for {FEW} tables, {many} for {MANY}"
        );
    }
}

#[test]
fn restarts_from_mariadb_to_postgres_with_few_statements() {
    few_statements(System::MariaDb, System::Postgres);
}

#[test]
fn restarts_from_postgres_to_mariadb_with_few_statements() {
    few_statements(System::Postgres, System::MariaDb);
}

/// `cargo nextest run -p thalweg-server --run-ignored only --no-capture start::measured`, `TABLES` being 1,000.
mod measured {
    use super::*;

    #[test]
    #[ignore = "a measurement"]
    fn mariadb_to_postgres() {
        measure(System::MariaDb, System::Postgres);
    }

    #[test]
    #[ignore = "a measurement"]
    fn postgres_to_mariadb() {
        measure(System::Postgres, System::MariaDb);
    }

    #[test]
    #[ignore = "a measurement"]
    fn mariadb_to_mariadb() {
        measure(System::MariaDb, System::MariaDb);
    }

    #[test]
    #[ignore = "a measurement"]
    fn postgres_to_postgres() {
        measure(System::Postgres, System::Postgres);
    }
}
