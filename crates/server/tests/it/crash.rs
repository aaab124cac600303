//! The crash test: the built server is killed again and again under load, and nothing is lost.
//!
//! Three kinds of moment, told apart by what the *target* holds right after the kill and not by what
//! the server had said before: while tables are loaded, at the hand-over (all are loaded, none is
//! Live), and while it streams. Rounds of reset and load repeat until the first two have had their
//! kills; then the task streams through the rest, while readers look for half transactions. Nobody
//! helps the server: it is only started again. In the end every row of every table is compared.
//!
//! `SEED=n` repeats the decisions of a run, `THALWEG_PROVE=1` is the full size.

mod readers;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use thalweg_testkit::servers::System;
use thalweg_testkit::workload::{self, Load, LoadOptions};
use tokio::runtime::Runtime;

use crate::bank::{self, Customers};
use crate::lab::{Lab, PATIENCE};
use readers::Readers;

/// How long the server may take to end when it is asked to.
const TERM_MAX: Duration = Duration::from_secs(8);
/// Between two looks for the moment of the hand-over.
const LOOK: Duration = Duration::from_millis(2);
/// Rounds after which we say that the hand-over cannot be hit.
const ROUNDS_MAX: u32 = 80;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Kills while tables are loaded, at the hand-over, while it streams.
    kills: [u32; 3],
    /// Kills of the first two kinds in one round at most.
    a_round: [u32; 2],
    /// Polite ends while it streams.
    terms: u32,
    samples: u64,
    /// Rows in each of sysbench's tables.
    rows: u32,
}

impl Size {
    fn chosen(pair: [System; 2]) -> Self {
        let full = std::env::var_os("THALWEG_PROVE").is_some();
        match (full, pair) {
            (true, _) => Self {
                kills: [60, 20, 120],
                a_round: [8, 4],
                terms: 10,
                samples: 10_000,
                rows: 40_000,
            },
            (false, [System::MariaDb, System::Postgres]) => Self {
                kills: [12, 4, 24],
                a_round: [6, 2],
                terms: 3,
                samples: 1_000,
                rows: 6_000,
            },
            // What differs between pairs is how a load and a stream go on, which a few kills show.
            (false, _) => Self {
                kills: [5, 2, 8],
                a_round: [3, 1],
                terms: 1,
                samples: 300,
                rows: 2_000,
            },
        }
    }
}

/// When the server died, by what the target held then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Load,
    HandOver,
    Live,
}

/// The test while it runs; dropped from top to bottom.
struct Crash {
    readers: Option<Readers>,
    load: Option<Load>,
    customers: Option<Customers>,
    lab: Lab,
    runtime: Runtime,
    task: String,
    tables: Vec<String>,
    size: Size,
    random: SmallRng,
    begin: Instant,
    rounds: u32,
    /// By moment.
    kills: [u32; 3],
    /// Kills after Live that came too late for a hand-over, before there were readers.
    late: u32,
    terms: u32,
}

pairs!(
    the_server_is_killed_again_and_again_and_nothing_is_lost,
    #[cfg(all())],
    #[ignore = "each half is half of another pair, which the gate has: make prove crash"]
);

fn the_server_is_killed_again_and_again_and_nothing_is_lost(from: System, to: System) {
    let pair = [from, to];
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = seed.unwrap_or(20_260_101);
    println!("crash test: SEED={seed} {:?}", Size::chosen(pair));
    let mut crash = Crash::start(pair, seed).unwrap();
    if let Err(error) = crash.run(seed) {
        println!("{}", crash.said());
        let logs = crash.lab.logs();
        panic!("crash test: {error:#}\nSEED={seed}\n{logs}");
    }
}

impl Crash {
    fn start(pair: [System; 2], seed: u64) -> Result<Self> {
        let size = Size::chosen(pair);
        let [from, to] = pair;
        let lab = Lab::between(from, to, |source| {
            workload::create(source, size.rows)?;
            bank::create(source)
        })?;
        let mut tables = workload::tables();
        tables.extend(bank::TABLES.map(str::to_owned));
        let task = lab.task("crash", &tables)?;
        // So that a kill in a load comes between chunks of a table as well as between tables.
        let options = serde_json::json!({"chunk_rows": size.rows / 12});
        lab.client.set_options(&task, &options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let load = Load::start(
            &lab.source,
            &LoadOptions {
                seed,
                rows: size.rows,
                rate: Some(10),
                sysbench_rate: Some(5),
            },
        )?;
        let customers = Customers::start(runtime.handle(), &lab.source, seed, 3, 20);
        Ok(Self {
            readers: None,
            load: Some(load),
            customers: Some(customers),
            lab,
            runtime,
            task,
            tables,
            size,
            random: SmallRng::seed_from_u64(seed),
            begin: Instant::now(),
            rounds: 0,
            kills: [0; 3],
            late: 0,
            terms: 0,
        })
    }

    fn run(&mut self, seed: u64) -> Result<()> {
        while self.wants(Moment::Load) || self.wants(Moment::HandOver) {
            self.round()?;
        }
        self.wait_live()?;
        self.readers = Some(Readers::start(self.runtime.handle(), &self.lab.target)?);
        self.say("all tables are Live, readers look");
        self.stream()?;
        let transactions = self.stop_load()?;
        let rows = self.judge()?;
        println!(
            "proof: crash test {} to {} passed: SEED={seed} {} transactions={transactions}; {} tables, \
             {rows} rows compared: 0 missing, 0 extra, 0 different; {:.0} s",
            self.lab.source.system(),
            self.lab.target.system(),
            self.said(),
            self.tables.len(),
            self.begin.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn said(&self) -> String {
        let [load, hand_over, stream] = self.kills;
        let samples = self.readers.as_ref().map_or(0, Readers::samples);
        format!(
            "kills={} ({load} load, {hand_over} hand-over, {stream} stream; {} late ones not \
             counted) rounds={} sigterm={} samples={samples}",
            load + hand_over + stream,
            self.late,
            self.rounds,
            self.terms
        )
    }

    fn say(&self, what: &str) {
        println!("{:7.1} s: {what}", self.begin.elapsed().as_secs_f64());
    }

    fn wants(&self, moment: Moment) -> bool {
        self.kills[moment as usize] < self.size.kills[moment as usize]
    }

    /// The load and the readers are as they should be.
    fn check(&mut self) -> Result<()> {
        if let Some(load) = &self.load {
            load.check()?;
        }
        if let Some(customers) = &mut self.customers {
            customers.check()?;
        }
        self.readers.as_ref().map_or(Ok(()), Readers::check)
    }

    fn sleep(&mut self, most: Duration) {
        std::thread::sleep(most.mul_f64(self.random.random()));
    }

    /// Reset (but for the first), run, kills during the load, kills at the hand-over.
    fn round(&mut self) -> Result<()> {
        ensure!(self.rounds < ROUNDS_MAX, "too many rounds: {}", self.said());
        let client = &self.lab.client;
        if self.rounds > 0 {
            client.stop_task(&self.task)?;
            let path = client.fdi(&format!("/multi-tasks/{}/reset", self.task));
            client.post(&path, &[], None)?.ok()?;
        }
        client.run_task(&self.task)?;
        self.rounds += 1;
        let [in_load, at_hand_over] = self.size.a_round;
        for _ in 0..in_load {
            if !self.wants(Moment::Load) {
                break;
            }
            self.kill_in_load()?;
            if self.moment()? == Moment::Live {
                break;
            }
        }
        self.ensure_up()?;
        for _ in 0..at_hand_over {
            if !self.wants(Moment::HandOver) || !self.wait_hand_over()? {
                break;
            }
            self.sleep(Duration::from_millis(10));
            self.kill()?;
            self.lab.thalweg.restart()?;
        }
        self.check()
    }

    /// One kill somewhere in the load; the server may be down afterwards, or up.
    fn kill_in_load(&mut self) -> Result<()> {
        match self.random.random_range(0..10) {
            // So early that it does not listen, and may not have opened its data.
            0..3 => {
                let life = Duration::from_millis(40).mul_f64(self.random.random());
                self.lab.thalweg.restart_for(life)?;
                self.count()
            }
            3..5 => {
                self.ensure_up()?;
                self.sleep(Duration::from_millis(100));
                self.kill()
            }
            _ => {
                self.ensure_up()?;
                self.sleep(Duration::from_millis(900));
                self.kill()
            }
        }
    }

    fn ensure_up(&self) -> Result<()> {
        match self.lab.thalweg.pid() {
            Some(_) => Ok(()),
            None => self.lab.thalweg.restart(),
        }
    }

    fn kill(&mut self) -> Result<()> {
        ensure!(self.lab.thalweg.pid().is_some(), "there is nothing to kill");
        self.lab.thalweg.kill();
        self.count()
    }

    /// Counts a kill that has just happened.
    fn count(&mut self) -> Result<()> {
        let moment = self.moment()?;
        println!(
            "{:7.1} s: killed, {moment:?}",
            self.begin.elapsed().as_secs_f64()
        );
        match (moment, &self.readers) {
            (Moment::Live, None) => self.late += 1,
            (_, None) => self.kills[moment as usize] += 1,
            (Moment::Live, Some(_)) => self.kills[moment as usize] += 1,
            (_, Some(_)) => bail!("tables that were Live are not any more: {moment:?}"),
        }
        Ok(())
    }

    /// What the target holds.
    fn moment(&self) -> Result<Moment> {
        let there = "SELECT count(*) FROM information_schema.tables \
                     WHERE table_schema = 'thalweg' AND table_name = 'checkpoint_chunk'";
        if self.lab.target.sql(there)?.trim() == "0" {
            return Ok(Moment::Load);
        }
        // Loaded: a chunk begins the table, and where one ends another begins.
        let told = self.lab.target.sql(
            "SELECT count(CASE WHEN phase = 'live' THEN 1 END), \
             count(CASE WHEN phase = 'loading' \
               AND EXISTS (SELECT 1 FROM thalweg.checkpoint_chunk a WHERE \
                 a.target_schema = t.target_schema AND a.target_table = t.target_table \
                 AND a.range_from IS NULL) \
               AND NOT EXISTS (SELECT 1 FROM thalweg.checkpoint_chunk a WHERE \
                 a.target_schema = t.target_schema AND a.target_table = t.target_table \
                 AND a.range_to IS NOT NULL AND NOT EXISTS ( \
                   SELECT 1 FROM thalweg.checkpoint_chunk b WHERE \
                   b.target_schema = a.target_schema AND b.target_table = a.target_table \
                   AND b.range_from = a.range_to)) THEN 1 END) \
             FROM thalweg.checkpoint_table t",
        )?;
        let mut numbers = told.split_whitespace().map(str::parse);
        let (live, loaded): (usize, usize) = (
            numbers.next().context("no count")??,
            numbers.next().context("no count")??,
        );
        Ok(match live {
            0 if loaded == self.tables.len() => Moment::HandOver,
            0 => Moment::Load,
            _ => Moment::Live,
        })
    }

    /// Waits until every table is loaded; false if they are Live already.
    fn wait_hand_over(&mut self) -> Result<bool> {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.lab.status(&self.task)?;
            let tables = status.tables();
            let loaded = |phase: &&str| matches!(*phase, "CatchingUp" | "Live");
            if tables.len() == self.tables.len() && tables.iter().all(loaded) {
                return Ok(tables.contains(&"CatchingUp"));
            }
            ensure!(Instant::now() < until, "no hand-over: {}", status.0);
            std::thread::sleep(LOOK);
        }
    }

    fn wait_live(&mut self) -> Result<()> {
        self.ensure_up()?;
        let count = self.tables.len();
        self.wait("all tables are Live", |status| status.live(count))
    }

    fn wait(&mut self, what: &str, done: impl Fn(&crate::lab::Status) -> bool) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.lab.status(&self.task)?;
            if done(&status) {
                return Ok(());
            }
            self.check()?;
            ensure!(
                Instant::now() < until,
                "not yet after {PATIENCE:?}: {what}: {}",
                status.0
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills while it streams, with readers, and a polite end now and then.
    fn stream(&mut self) -> Result<()> {
        let polite = self.size.kills[Moment::Live as usize] / (self.size.terms + 1);
        while self.wants(Moment::Live) {
            if self.terms < self.kills[Moment::Live as usize] / polite {
                self.terminate()?;
            }
            self.kill_in_stream()?;
            self.check()?;
        }
        self.ensure_up()?;
        let until = Instant::now() + PATIENCE;
        while self.readers.as_ref().map_or(0, Readers::samples) < self.size.samples {
            self.check()?;
            ensure!(Instant::now() < until, "too few samples: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.check()
    }

    fn kill_in_stream(&mut self) -> Result<()> {
        match self.random.random_range(0..10) {
            0..2 => {
                let life = Duration::from_millis(150).mul_f64(self.random.random());
                self.lab.thalweg.restart_for(life)?;
                return self.count();
            }
            2..5 => self.ensure_up()?,
            _ => {
                self.ensure_up()?;
                self.wait("something is applied", |status| {
                    status.number("transactions").is_some_and(|count| count > 0)
                })?;
            }
        }
        self.sleep(Duration::from_millis(400));
        self.kill()
    }

    fn terminate(&mut self) -> Result<()> {
        self.ensure_up()?;
        self.sleep(Duration::from_millis(300));
        let time = self.lab.thalweg.terminate()?;
        self.say(&format!("ended {} ms after SIGTERM", time.as_millis()));
        ensure!(time < TERM_MAX, "it took {time:?} to end");
        self.terms += 1;
        Ok(())
    }

    /// Stops the load and waits until the target has all of it; the transactions of the source.
    fn stop_load(&mut self) -> Result<u64> {
        let load = self.load.take().context("no load")?.stop()?.total();
        let customers = self.customers.take().context("no customers")?;
        let customers = self.runtime.block_on(customers.stop())?;
        self.lab.source.sql("UPDATE clock SET ticks = ticks + 1")?;
        let ticks = bank::ticks(&self.lab.source)?;
        self.say("the load has stopped");
        let until = Instant::now() + PATIENCE;
        let behind = "SELECT ticks FROM clock";
        while self.lab.target.sql(behind)?.trim() != ticks.to_string() {
            self.lab.status(&self.task)?;
            ensure!(
                Instant::now() < until,
                "the target does not reach the end of the log"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.say("the target has the last transaction");
        // The log may go on after the last transaction, but nothing in it waits.
        self.wait("the backlog is empty", |status| {
            status.number("backlog_bytes") == Some(0)
        })?;
        self.check()?;
        Ok(load + customers)
    }

    /// Compares everything; the rows.
    fn judge(&mut self) -> Result<u64> {
        let mut rows = 0;
        for report in self.lab.judge().all_equal(&self.tables)? {
            rows += report.source_rows;
            println!("{report}");
        }
        let status = self.lab.status(&self.task)?;
        ensure!(
            status.sum("missing")? == 0 && status.sum("repaired")? == 0,
            "{}",
            status.0
        );
        self.check_executions()?;
        let log = std::fs::read(self.lab.thalweg.log())?;
        let log = String::from_utf8_lossy(&log);
        ensure!(!log.contains("panicked"), "the server has panicked");
        Ok(rows)
    }

    /// One execution a run: a restart goes on with the last one, and none ended in an error.
    fn check_executions(&self) -> Result<()> {
        let path = format!("/tasks/{}/monitor-logs", self.task);
        let found = self
            .lab
            .client
            .get(&self.lab.client.fdi(&path), &[("limit", "999")])?
            .ok()?;
        let found = found.get("entities").and_then(Value::as_array);
        let found = found.context("no executions")?;
        let status = |one: &Value| {
            one.get("execute_status")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let running: Vec<_> = found.iter().filter_map(status).collect();
        let expected = usize::try_from(self.rounds)?;
        let good = running.len() == expected
            && running.first().is_some_and(|one| one == "RUNNING")
            && running.iter().skip(1).all(|one| one == "CANCELLED");
        ensure!(good, "{expected} executions expected, found {running:?}");
        Ok(())
    }
}
