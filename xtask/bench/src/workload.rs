//! What is measured: the tables of each workload, and the changes of a round.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use thalweg_testkit::servers::{Place, System};

use crate::world::DATABASE;

/// How many tables `tables` has.
const MANY: u64 = 1000;
/// How many tasks `tasks` has, each with the table of its number; the next is of the task beside them.
pub(crate) const TASKS: u64 = 100;
/// Rows in each of many tables. One table that stands beside them has as many as all of them together, so that
/// it is the same rows that change.
pub(crate) const ROWS_EACH: u64 = 100;
/// Tables of sysbench, and rows in each.
const SBTEST: (u64, u64) = (4, 100_000);
/// pgbench's scale: rows of its largest table in units of 100,000.
const TPCB: u64 = 10;

/// The tables with their procedures.
const MARIADB: &str = include_str!("../sql/mariadb.sql");
const POSTGRES: &str = include_str!("../sql/postgres.sql");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Narrow,
    Wide,
    Uniform,
    Zipf,
    Tpcb,
    Sysbench,
    Huge,
    Single,
    Tables,
    Text,
    Large,
    Latency,
    Tasks,
    Observe,
    Verify,
}

/// In the order they are run and shown, with what they are.
pub(crate) const ALL: &[(Workload, &str, &str)] = &[
    (
        Workload::Narrow,
        "narrow",
        "load of 5,000,000 rows of six columns",
    ),
    (
        Workload::Wide,
        "wide",
        "load of 500,000 rows of forty columns",
    ),
    (
        Workload::Uniform,
        "uniform",
        "backlog of 2,000,000 changes a round in transactions of ten (seven updates, two inserts, a delete), uniform keys among at least 1,000,000 rows",
    ),
    (
        Workload::Zipf,
        "zipf",
        "the same, the updates' keys by Zipf's law with exponent 1",
    ),
    (
        Workload::Tpcb,
        "tpcb",
        "backlog of 250,000 transactions of pgbench's TPC-B, scale 10 (PostgreSQL sources)",
    ),
    (
        Workload::Sysbench,
        "sysbench",
        "backlog of 250,000 transactions of sysbench's oltp_write_only on four tables of 100,000 rows",
    ),
    (
        Workload::Huge,
        "huge",
        "one transaction that updates 2,000,000 rows; ours from the commit on, as a replica does",
    ),
    (
        Workload::Single,
        "single",
        "backlog of 500,000 updates in transactions of ten in one table of 100,000 rows",
    ),
    (
        Workload::Tables,
        "tables",
        "the same in 1,000 tables in turn",
    ),
    (
        Workload::Text,
        "text",
        "backlog of 200,000 updates of a text of about 2 kB",
    ),
    (
        Workload::Large,
        "large",
        "load of 50 values of 10 MB of binary",
    ),
    (
        Workload::Latency,
        "latency",
        "commit at the source to visible at the target, for 20 s each at 100, 500 and 2,000 transactions a second",
    ),
    (
        Workload::Tasks,
        "tasks",
        "100 tasks of one table each on one server: what they take idle, and a backlog of 500,000 updates in transactions of ten, each in one of their tables, beside one task with one table; the processor time of the starts, and of idle tasks, is taken off",
    ),
    (
        Workload::Observe,
        "observe",
        "`uniform` at half its size in turns with and without a scrape of `/metrics`, the monitors and the status of the task each second",
    ),
    (
        Workload::Verify,
        "verify",
        "`uniform` at half its size in turns without a verification, with the task's own at 10,000 rows a second from its start on, and (`verify-full`) with one after the other at full speed",
    ),
];

/// A workload at a size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sized {
    pub(crate) workload: Workload,
    /// Percent of the full size.
    pub(crate) scale: u64,
    pub(crate) rounds: u32,
    /// A look: of the latencies, one.
    pub(crate) quick: bool,
}

impl Workload {
    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = ALL.iter().find(|(_, known, _)| *known == name);
        match found {
            Some((workload, ..)) => Ok(*workload),
            None => {
                let names: Vec<_> = ALL.iter().map(|(_, name, _)| *name).collect();
                bail!(
                    "there is no workload {name}; there are {}",
                    names.join(", ")
                )
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        let found = ALL.iter().find(|(workload, ..)| *workload == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// Whether the load is what is measured.
    pub(crate) fn is_load(self) -> bool {
        matches!(self, Self::Narrow | Self::Wide | Self::Large)
    }

    /// Whether thalweg is compared with itself, so that no reference is needed.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Tasks | Self::Observe | Self::Verify)
    }

    pub(crate) fn has(self, source: System) -> bool {
        self != Self::Tpcb || source == System::Postgres
    }
}

impl Sized {
    fn scaled(self, full: u64) -> u64 {
        (full * self.scale / 100).max(10)
    }

    /// Rows loaded, or changes of a round.
    pub(crate) fn amount(self) -> u64 {
        match self.workload {
            Workload::Narrow => self.scaled(5_000_000),
            Workload::Wide | Workload::Single | Workload::Tables => self.scaled(500_000),
            // Whole transactions, and as many changes for each task.
            Workload::Tasks => self.scaled(500_000).next_multiple_of(10 * TASKS),
            Workload::Observe | Workload::Verify => self.scaled(1_000_000),
            Workload::Uniform | Workload::Zipf | Workload::Huge => self.scaled(2_000_000),
            // Four changes a transaction.
            Workload::Tpcb | Workload::Sysbench => 4 * self.scaled(250_000),
            Workload::Text => self.scaled(200_000),
            Workload::Large => self.scaled(50),
            Workload::Latency => 0,
        }
    }

    /// Transactions a second of which the latency is measured.
    pub(crate) fn rates(self) -> &'static [u32] {
        match self.quick {
            true => &[500],
            false => &[100, 500, 2000],
        }
    }

    /// How many times changes are made.
    fn backlogs(self) -> u32 {
        match self.workload {
            Workload::Observe => 2 * self.rounds,
            Workload::Verify => 3 * self.rounds,
            _ => self.rounds,
        }
    }

    /// Rows there are before the changes.
    fn rows(self) -> u64 {
        match self.workload {
            Workload::Uniform | Workload::Zipf | Workload::Observe | Workload::Verify => {
                let deleted = self.amount() / 10 * u64::from(self.backlogs() + 1);
                self.scaled(1_000_000).max(deleted)
            }
            Workload::Text => self.scaled(100_000),
            _ => self.amount(),
        }
    }

    pub(crate) fn tables(self) -> Vec<String> {
        let own: Vec<String> = match self.workload {
            Workload::Narrow => vec!["narrow".into()],
            Workload::Wide => vec!["wide".into()],
            Workload::Uniform
            | Workload::Zipf
            | Workload::Huge
            | Workload::Observe
            | Workload::Verify => {
                vec!["item".into()]
            }
            Workload::Tasks => (0..=TASKS).map(|n| format!("t{n}")).collect(),
            Workload::Tpcb => ["accounts", "branches", "tellers", "history"]
                .map(|name| format!("pgbench_{name}"))
                .to_vec(),
            Workload::Sysbench => (1..=SBTEST.0).map(|n| format!("sbtest{n}")).collect(),
            Workload::Single => vec!["t0".into()],
            Workload::Tables => (0..MANY).map(|n| format!("t{n}")).collect(),
            Workload::Text => vec!["letters".into()],
            Workload::Large => vec!["blobs".into()],
            Workload::Latency => vec!["beat".into()],
        };
        own.into_iter().chain(["marker".to_owned()]).collect()
    }

    /// Makes the tables at a source, with what is in them before.
    pub(crate) fn fill(self, source: &Place) -> Result<()> {
        let system = source.system();
        source.sql(match system {
            System::MariaDb => MARIADB,
            System::Postgres => POSTGRES,
        })?;
        let rows = self.rows();
        let sql = match self.workload {
            Workload::Narrow => numbered(
                system,
                rows,
                "INSERT INTO narrow SELECT n, n % 1000, n / 7, CONCAT('name ', n), n / 100.0, @now",
            ),
            Workload::Wide => wide(system, rows),
            Workload::Uniform
            | Workload::Zipf
            | Workload::Huge
            | Workload::Observe
            | Workload::Verify => numbered(
                system,
                rows,
                "INSERT INTO item SELECT n, n % 1000, n / 100.0, CONCAT('name of ', n), \
                 REPEAT('d', @int(n % 60)), @now, n / 3.0, n % 2 = 1",
            ),
            Workload::Text => numbered(
                system,
                rows,
                "INSERT INTO letters SELECT n, 0, REPEAT(CONCAT('text ', n, ', '), 150)",
            ),
            Workload::Large => numbered(
                system,
                rows,
                match system {
                    System::MariaDb => "INSERT INTO blobs SELECT n, REPEAT(x'00ff275c', 2500000)",
                    System::Postgres => {
                        "INSERT INTO blobs SELECT n, decode(repeat('00ff275c', 2500000), 'hex')"
                    }
                },
            ),
            Workload::Single => format!("CALL make_tables(0, 1, {})", MANY * ROWS_EACH),
            Workload::Tables => format!("CALL make_tables(0, {MANY}, {ROWS_EACH})"),
            Workload::Tasks => {
                source.sql(&format!(
                    "CALL make_tables({TASKS}, 1, {})",
                    TASKS * ROWS_EACH
                ))?;
                format!("CALL make_tables(0, {TASKS}, {ROWS_EACH})")
            }
            Workload::Latency => String::new(),
            Workload::Tpcb => {
                let scale = TPCB.to_string();
                pgbench(source, &["--initialize", "--quiet", "--scale", &scale])?;
                // A row without a key could not be told from its twin.
                "ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY".to_owned()
            }
            Workload::Sysbench => {
                sysbench(source, &["prepare"])?;
                String::new()
            }
        };
        if !sql.is_empty() {
            source.sql(&sql)?;
        }
        if system == System::Postgres {
            source.sql("VACUUM ANALYZE")?;
            source.sql("CHECKPOINT")?;
        }
        Ok(())
    }

    /// Makes the changes of a round, the first being 1.
    pub(crate) fn change(self, source: &Place, round: u32) -> Result<()> {
        let amount = self.amount();
        let done = u64::from(round - 1) * (amount / 10);
        let sql = match self.workload {
            Workload::Uniform | Workload::Zipf | Workload::Observe | Workload::Verify => format!(
                "CALL backlog({}, {}, {}, {})",
                amount / 10,
                1 + done,
                self.rows() + 2 * done,
                self.workload == Workload::Zipf
            ),
            Workload::Huge => "UPDATE item SET a = a + 1".to_owned(),
            Workload::Single => format!("CALL robin({amount}, 1, {})", MANY * ROWS_EACH),
            Workload::Tables => format!("CALL robin({amount}, {MANY}, {ROWS_EACH})"),
            Workload::Text => format!("CALL rewrite({amount}, {})", self.rows()),
            Workload::Tpcb => {
                let each = (amount / 16).to_string();
                let args = ["--no-vacuum", "--client=4", "--transactions", &each];
                return pgbench(source, &args);
            }
            Workload::Sysbench => {
                let events = format!("--events={}", amount / 4);
                return sysbench(source, &["--threads=4", "--time=0", &events, "run"]);
            }
            Workload::Narrow
            | Workload::Wide
            | Workload::Large
            | Workload::Latency
            | Workload::Tasks => {
                bail!("{} makes no changes in rounds", self.workload.name())
            }
        };
        source.sql(&sql).map(drop)
    }
}

/// A statement that selects from the numbers 1 to `rows`, named `n`.
fn numbered(system: System, rows: u64, select: &str) -> String {
    match system {
        System::MariaDb => {
            let select = select.replace("@now", "NOW(6)").replace("@int", "");
            format!("{select} FROM (SELECT seq AS n FROM seq_1_to_{rows}) AS numbers")
        }
        System::Postgres => {
            let select = select
                .replace("@now", "clock_timestamp()")
                .replace("@int", "int4");
            format!("{select} FROM generate_series(1, {rows}) AS n")
        }
    }
}

/// Forty columns: a key, and thirteen each of integers, text and decimals.
fn wide(system: System, rows: u64) -> String {
    let columns = |of: &dyn Fn(u32) -> String| (1..=13).map(of).collect::<Vec<_>>().join(", ");
    let create = columns(&|n| format!("i{n} INT, t{n} VARCHAR(40), d{n} DECIMAL(12,3)"));
    let select = columns(&|n| format!("n % {n}000, CONCAT('column {n} of ', n), n / 1000.0 + {n}"));
    let insert = numbered(
        system,
        rows,
        &format!("INSERT INTO wide SELECT n, {select}"),
    );
    format!("CREATE TABLE wide (id BIGINT PRIMARY KEY, {create}); {insert}")
}

fn pgbench(source: &Place, args: &[&str]) -> Result<()> {
    let server = &source.server;
    let mut command = Command::new("pgbench");
    command
        .args(["-h", server.host(), "-p", &server.port().to_string()])
        .args(["-U", server.user()])
        .args(args)
        .arg(DATABASE)
        .env("PGPASSWORD", server.password());
    run(command)
}

fn sysbench(source: &Place, args: &[&str]) -> Result<()> {
    let server = &source.server;
    let driver = match source.system() {
        System::MariaDb => "mysql",
        System::Postgres => "pgsql",
    };
    let mut command = Command::new("sysbench");
    command
        .arg("oltp_write_only")
        .arg(format!("--db-driver={driver}"));
    for (name, value) in [
        ("host", server.host()),
        ("port", &server.port().to_string()),
        ("user", server.user()),
        ("password", server.password()),
        ("db", DATABASE),
    ] {
        command.arg(format!("--{driver}-{name}={value}"));
    }
    let (tables, rows) = SBTEST;
    command
        .arg(format!("--tables={tables}"))
        .arg(format!("--table-size={rows}"))
        .args(args);
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{}: {}{}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
