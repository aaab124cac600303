//! What happens in the demo, in order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use thalweg_testkit::client::{Client, End};
use thalweg_testkit::compare::Ends;
use thalweg_testkit::servers::Place;
use thalweg_testkit::thalweg::Thalweg;
use thalweg_testkit::workload::{self, Load, LoadOptions};

use crate::Options;
use crate::interrupt::Interrupt;
use crate::screen::{self, Screen};

/// How often the task is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the server stays down.
const DOWN: Duration = Duration::from_secs(2);
/// Transactions a second of each worker of the shop.
const RATE: u32 = 100;
/// Transactions a second of sysbench.
const SYSBENCH_RATE: u32 = 100;
/// The target's database.
const TARGET: &str = "warehouse";

/// Everything that runs; dropped from top to bottom.
struct Stage<'a> {
    load: Option<Load>,
    server: Thalweg,
    source: Place,
    target: Place,
    client: Client,
    task: String,
    tables: Vec<String>,
    bank: String,
    bank_read: u64,
    source_transactions: u64,
    screen: Screen,
    interrupt: &'a Interrupt,
}

/// Plays all of it; whether every table was equal.
pub(crate) fn tell(options: &Options, interrupt: &Interrupt) -> Result<bool> {
    let begin = Instant::now();
    let mut stage = Stage::build(options, interrupt)?;
    let played = stage.play(options);
    if played.is_err() && !interrupt.came() {
        eprintln!(
            "\nthe end of the server's log:\n{}",
            stage.server.log_tail()
        );
    }
    played?;
    let equal = stage.judge()?;
    let peak = stage.server.rss_bytes()?.peak >> 20;
    let end = stage.server.terminate()?;
    stage.screen.say(&format!(
        "the server ended {} ms after SIGTERM; it held {peak} MiB at most",
        end.as_millis()
    ));
    let verdict = if equal {
        "every table is equal"
    } else {
        "NOT EQUAL"
    };
    drop(stage);
    println!("\n{verdict}; {:.0} s in all", begin.elapsed().as_secs_f64());
    Ok(equal)
}

impl<'a> Stage<'a> {
    fn build(options: &Options, interrupt: &'a Interrupt) -> Result<Self> {
        let mut screen = Screen::new();
        let [from, to] = options.pair;
        screen.say(&format!("starting {from} and {to}, filling the shop"));
        let source = Place::start(from, workload::DATABASE)?;
        let target = Place::start(to, TARGET)?;
        interrupt.check()?;
        workload::create(&source, options.rows)?;
        let bank = workload::bank_total(&source)?;
        interrupt.check()?;
        let server = Thalweg::start(&options.binary)?;
        screen.say(&format!("the server listens on {}", server.base_url()));
        let client = server.client();
        Ok(Self {
            load: None,
            server,
            source,
            target,
            client,
            task: String::new(),
            tables: workload::tables(),
            bank,
            bank_read: 0,
            source_transactions: 0,
            screen,
            interrupt,
        })
    }

    /// From the first call to the end of the log.
    fn play(&mut self, options: &Options) -> Result<()> {
        self.describe()?;
        self.load = Some(Load::start(
            &self.source,
            &LoadOptions {
                seed: options.seed,
                rows: options.rows,
                rate: Some(RATE),
                sysbench_rate: Some(SYSBENCH_RATE),
            },
        )?);
        self.screen.say("the shop is busy; the task starts");
        let start = Instant::now();
        self.client.run_task(&self.task)?;
        let count = self.tables.len();
        let live = self.watch("all tables are live", PATIENCE, |status| {
            screen::all_live(status, count)
        })?;
        let (rows, time) = (screen::copied(&live), start.elapsed());
        self.screen.say(&format!(
            "{rows} rows copied under load and all tables live in {:.1} s ({:.0} rows/s)",
            time.as_secs_f64(),
            rate(rows, time)
        ));
        self.stream(options.stream / 2)?;
        self.crash()?;
        self.stream(options.stream / 2)?;
        self.end()
    }

    /// The composite task, by documented calls only.
    fn describe(&mut self) -> Result<()> {
        let client = &self.client;
        let app = client.create_app("demo")?;
        let source = End::of(&self.source, &self.source.source_account()?);
        let source = client.create_data_source("shop", &app, &source)?;
        let target = End::of(&self.target, &self.target.target_account()?);
        let target = client.create_data_source("copy", &app, &target)?;
        let task = client.init_task(&source, &target)?;
        client.create_task(&task, "demo", &app)?;
        for table in &self.tables {
            let (from, to) = self.names(table);
            client
                .map_table(&task, (&source, &target), (&from, &to))
                .with_context(|| format!("mapping {from}"))?;
        }
        client.set_options(&task, &json!({"create_tables": "missing"}))?;
        self.screen.say(&format!(
            "composite task {task} of {} tables, made by documented calls",
            self.tables.len()
        ));
        self.task = task;
        Ok(())
    }

    fn stream(&mut self, time: Duration) -> Result<()> {
        let (start, before) = (Instant::now(), self.client.status(&self.task)?);
        let after = self.watch("streaming", time + PATIENCE, |_| start.elapsed() >= time)?;
        let changes = screen::changes(&after).saturating_sub(screen::changes(&before));
        self.screen.say(&format!(
            "{changes} changes applied in {:.0} s of streaming ({:.0}/s); readers of the copy saw \
             the bank's total {} times, always {}",
            start.elapsed().as_secs_f64(),
            rate(changes, start.elapsed()),
            self.bank_read,
            self.bank
        ));
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        self.screen.say("kill -9 of the server; the shop goes on");
        self.server.kill();
        let until = Instant::now() + DOWN;
        while Instant::now() < until {
            self.read_bank()?;
            self.interrupt.sleep(LOOK)?;
        }
        let start = Instant::now();
        self.server.restart()?;
        let count = self.tables.len();
        self.watch("streaming after the crash", PATIENCE, |status| {
            status.get("phase").and_then(Value::as_str) == Some("Streaming")
                && screen::all_live(status, count)
        })?;
        self.screen.say(&format!(
            "started again, and streaming {:.1} s later",
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// The load stops, and the copy reaches the end of the source's log.
    fn end(&mut self) -> Result<()> {
        let Some(load) = self.load.take() else {
            bail!("the load does not run");
        };
        let summary = load.stop()?;
        let list: Vec<String> = summary
            .transactions
            .iter()
            .map(|(name, done)| format!("{name} {done}"))
            .collect();
        self.screen.say(&format!(
            "the shop closes after {} transactions ({:.0}/s): {}",
            summary.total(),
            rate(summary.total(), summary.time),
            list.join(", ")
        ));
        let (mark, target) = (workload::mark(&self.source)?, self.target.clone());
        let start = Instant::now();
        self.watch("the end of the log", PATIENCE, |_| {
            workload::marked(&target).is_ok_and(|there| there == mark)
        })?;
        self.screen.say(&format!(
            "the copy reached the end of the log {:.1} s later",
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// A table as the API names it, at the source and at the target.
    fn names(&self, table: &str) -> (String, String) {
        (self.source.table(table), self.target.table(table))
    }

    /// Looks at the task until `done`, as a reader of the copy looks at its bank.
    fn watch(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let until = Instant::now() + patience;
        loop {
            self.interrupt.sleep(LOOK)?;
            if let Some(load) = &self.load {
                load.check()?;
                self.source_transactions = load.done();
            }
            let status = self.client.status(&self.task)?;
            self.screen.show(&status, self.source_transactions);
            if screen::is_live(&status, &self.names("account").1) {
                self.read_bank()?;
            }
            if status.get("phase").and_then(Value::as_str) == Some("Failed") {
                bail!("the task failed: {status}");
            }
            if done(&status) {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("not {what} after {} s: {status}", patience.as_secs());
            }
        }
    }

    fn read_bank(&mut self) -> Result<()> {
        let total = workload::bank_total(&self.target)?;
        if total != self.bank {
            bail!(
                "a reader of the copy saw a total of {total} in the bank, not {}",
                self.bank
            );
        }
        self.bank_read += 1;
        Ok(())
    }

    fn judge(&mut self) -> Result<bool> {
        self.screen
            .say("comparing every row, by the databases' own clients");
        let ends = Ends {
            source: &self.source,
            target: &self.target,
        };
        let (start, mut rows, mut equal) = (Instant::now(), 0, true);
        for table in &self.tables {
            self.interrupt.check()?;
            let (from, to) = self.names(table);
            let report = ends.compare(&from, &to)?;
            let word = if report.equal() { "equal" } else { "NOT EQUAL" };
            println!("  {word:<10}{report}");
            equal &= report.equal();
            rows += report.source_rows;
        }
        let status = self.client.status(&self.task)?;
        self.screen.say(&format!(
            "{rows} rows of {} tables compared in {:.1} s; {} changes were applied by this process",
            self.tables.len(),
            start.elapsed().as_secs_f64(),
            screen::changes(&status)
        ));
        Ok(equal)
    }
}

fn rate(count: u64, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64().max(0.001)
}
