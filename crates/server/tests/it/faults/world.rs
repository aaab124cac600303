//! The task, what goes on at its source, and who looks at its target.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use thalweg_testkit::client::End;
use thalweg_testkit::proxy::Proxy;
use thalweg_testkit::servers::{Place, System};

use super::site::{Site, pause};
use super::table::{Again, Ends};
use crate::bank;
use crate::lab::Lab;

/// What is done to a table of the source again and again.
const ALTERS: [&str; 4] = [
    "ALTER TABLE item ADD COLUMN more INT DEFAULT 7",
    "ALTER TABLE item ADD COLUMN most VARCHAR(20)",
    "ALTER TABLE item DROP COLUMN more",
    "ALTER TABLE item DROP COLUMN most",
];
/// How long anything may take: a half-open connection is found within 30 s.
const PATIENCE: Duration = Duration::from_secs(90);
/// Rows of the table that takes a while to load.
const ITEMS: u32 = 6_000;
/// Bytes a second to the target while a load is to last.
const SLOW: u64 = 700_000;

/// Everything, dropped from top to bottom.
pub(super) struct World {
    writer: Option<Busy>,
    /// Alters a table, or writes bad rows.
    beside: Option<Busy>,
    reader: Option<Busy>,
    pub(super) lab: Lab,
    proxies: [Proxy; 2],
    task: String,
    tables: Vec<String>,
    /// Numbers that the writer has used.
    numbers: Arc<AtomicU64>,
    /// Sums of the bank that were seen and right.
    sums: Arc<AtomicU64>,
}

/// A thread that does something again and again.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Busy {
    fn start(mut step: impl FnMut() -> Result<()> + Send + 'static) -> Result<Busy> {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let body = move || {
            while !ends.load(Ordering::Relaxed) {
                step()?;
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("busy".into());
        let thread = Some(thread.spawn(body)?);
        Ok(Busy { stop, thread })
    }

    fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped")?;
        thread.join().map_err(|_| anyhow!("it panicked"))?
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Five transactions: money moves, and rows come, change and go.
fn transactions(number: u64) -> String {
    let mut sql = String::new();
    for step in 0..5 {
        let n = number * 5 + step;
        let (a, b) = (n % 300 + 1, n % 200 + 1);
        let (new, old) = (1_000_000 + n, 1_000_000 + n.saturating_sub(40));
        let row = n * 7 % u64::from(ITEMS) + 1;
        sql += &format!(
            "BEGIN; UPDATE checking SET balance = balance - 1 WHERE id = {a}; \
             UPDATE savings SET cents = cents + 100 WHERE id = {b}; \
             INSERT INTO item (id, code, body, n) VALUES ({new}, 'c{new}', 'new', {n}); \
             UPDATE item SET n = {n} WHERE id = {row}; \
             DELETE FROM item WHERE id = {old}; \
             UPDATE clock SET ticks = ticks + 1; COMMIT; "
        );
    }
    sql
}

/// What the bank holds at the target, if it can be asked.
fn total(target: &Place) -> Option<i64> {
    let told = target.sql(bank::SNAPSHOT).ok()?;
    let mut parts = told.split_whitespace().map(|cents| {
        let cents = cents.split('.').next().unwrap_or_default();
        cents.parse::<i64>().ok()
    });
    Some(parts.next()?? + parts.next()?? + parts.next()??)
}

impl World {
    pub(super) fn start([from, to]: [System; 2]) -> Result<World> {
        let lab = Lab::between(from, to, |source| {
            bank::create(source)?;
            let rows = match from {
                System::MariaDb => format!("SELECT seq AS n FROM seq_1_to_{ITEMS}"),
                System::Postgres => format!("SELECT n FROM generate_series(1, {ITEMS}) n"),
            };
            let body = "concat(repeat(concat('body ', n, ' '), 20), n)";
            source.sql(&format!(
                "CREATE TABLE item (id BIGINT PRIMARY KEY, code VARCHAR(40) NOT NULL, \
                 body VARCHAR(400), n INT); \
                 INSERT INTO item SELECT n, concat('c', n), {body}, n FROM ({rows}) r"
            ))?;
            Ok(())
        })?;
        let address = |place: &Place| -> Result<SocketAddr> {
            Ok(format!("{}:{}", place.server.host(), place.server.port()).parse()?)
        };
        let proxies = [
            Proxy::start(address(&lab.source)?)?,
            Proxy::start(address(&lab.target)?)?,
        ];
        let mut lab = lab;
        let end = |name: &str, place: &Place, account, proxy: &Proxy| {
            let end = End {
                port: proxy.port(),
                ..End::of(place, account)
            };
            lab.client.create_data_source(name, &lab.app, &end)
        };
        let [reader, writer] = &lab.accounts;
        let [near, far] = &proxies;
        lab.ends = (
            end("shop by proxy", &lab.source, reader, near)?,
            end("copy by proxy", &lab.target, writer, far)?,
        );
        // The bank's tables first: they are all there when `item` is being loaded.
        let mut tables: Vec<String> = bank::TABLES.map(str::to_owned).to_vec();
        tables.push("item".to_owned());
        let task = lab.task("faults", &tables)?;
        lab.client
            .set_options(&task, &json!({"chunk_rows": ITEMS / 6}))?;
        let mut world = World {
            writer: None,
            beside: None,
            reader: None,
            lab,
            proxies,
            task,
            tables,
            numbers: Arc::default(),
            sums: Arc::default(),
        };
        world.lab.client.run_task(&world.task)?;
        world.write()?;
        world.live()?;
        world.look()?;
        Ok(world)
    }

    pub(super) fn site(&self) -> Site<'_> {
        Site {
            lab: &self.lab,
            proxies: &self.proxies,
            task: &self.task,
        }
    }

    /// Sums of the bank that were seen, all of them right.
    pub(super) fn sums(&self) -> u64 {
        self.sums.load(Ordering::Relaxed)
    }

    fn write(&mut self) -> Result<()> {
        if self.writer.is_none() {
            let (source, numbers) = (self.lab.source.clone(), Arc::clone(&self.numbers));
            self.writer = Some(Busy::start(move || {
                // A source that is gone takes nothing; whatever it has is the truth.
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                if source.sql(&transactions(number)).is_err() {
                    pause(20);
                }
                pause(20);
                Ok(())
            })?);
        }
        Ok(())
    }

    /// Looks at the bank at the target, from now on.
    fn look(&mut self) -> Result<()> {
        if self.reader.is_none() {
            let (target, sums) = (self.lab.target.clone(), Arc::clone(&self.sums));
            self.reader = Some(Busy::start(move || {
                match total(&target) {
                    Some(bank::TOTAL) => drop(sums.fetch_add(1, Ordering::Relaxed)),
                    Some(total) => bail!("the bank holds {total} and not {}", bank::TOTAL),
                    None => {}
                }
                pause(30);
                Ok(())
            })?);
        }
        Ok(())
    }

    /// The task streams, and columns that nobody maps come and go.
    pub(super) fn alter(&mut self) -> Result<()> {
        self.stream()?;
        let source = self.lab.source.clone();
        self.beside = Some(Busy::start(move || {
            for alter in ALTERS {
                // What is there already, or not yet, is left as it is.
                source.sql(alter).ok();
                pause(60);
            }
            Ok(())
        })?);
        pause(300);
        Ok(())
    }

    /// The task streams, and rows go into quarantine.
    pub(super) fn quarantine(&mut self) -> Result<()> {
        self.on_bad_row("quarantine")?;
        self.stream()?;
        let rule = "ALTER TABLE item ADD CONSTRAINT waits CHECK (n > -1000)";
        self.site().insist(|| self.lab.target.sql(rule).map(drop))?;
        let (source, numbers) = (self.lab.source.clone(), Arc::clone(&self.numbers));
        self.beside = Some(Busy::start(move || {
            let bad = 900_000_000 + numbers.fetch_add(1, Ordering::Relaxed);
            let sql = format!(
                "INSERT INTO item (id, code, body, n) VALUES ({bad}, 'c{bad}', 'bad', -5000); \
                 UPDATE item SET body = 'follows' WHERE id = {bad}; \
                 UPDATE item SET n = -6000 WHERE id = {bad} % 50 + 1; \
                 UPDATE item SET id = {bad} + 10000000 WHERE id = {bad} AND {bad} % 3 = 0; \
                 UPDATE item SET n = 1 WHERE id = ({bad} + 25) % 50 + 1; \
                 DELETE FROM item WHERE id = {bad} - 5;"
            );
            source.sql(&sql).ok();
            pause(40);
            Ok(())
        })?);
        self.waits_in_quarantine()
    }

    /// Waits until something lies in quarantine.
    pub(super) fn waits_in_quarantine(&self) -> Result<()> {
        self.until("rows go into quarantine", |status| {
            let tables = status.get("tables").and_then(Value::as_array);
            let changes = |table: &Value| table["quarantined"].as_u64().unwrap_or(0);
            let changes: u64 = tables.into_iter().flatten().map(changes).sum();
            Ok((changes > 0).then_some(()))
        })
    }

    /// What becomes of a bad row from now on.
    fn on_bad_row(&self, policy: &str) -> Result<()> {
        let client = &self.lab.client;
        client.stop_task(&self.task)?;
        client.set_options(&self.task, &json!({"on_bad_row": policy}))?;
        client.run_task(&self.task)
    }

    fn nothing_beside(&mut self) -> Result<()> {
        let Some(beside) = self.beside.take() else {
            return Ok(());
        };
        beside.stop()?;
        for column in ["more", "most"] {
            let drop_it = format!("ALTER TABLE item DROP COLUMN {column}");
            // It may have been dropped, or never made.
            self.lab.source.sql(&drop_it).ok();
        }
        Ok(())
    }

    /// Nothing is bad any more: all rows are released; how many.
    pub(super) fn release(&mut self) -> Result<u64> {
        for proxy in &self.proxies {
            proxy.mend();
        }
        self.nothing_beside()?;
        let lift = "ALTER TABLE item DROP CONSTRAINT waits";
        // A table that was made anew has none.
        let lifted = self.site().insist(|| match self.lab.target.sql(lift) {
            Err(error) if !format!("{error:#}").contains("exist") => Err(error),
            _ => Ok(()),
        });
        lifted?;
        self.live()?;
        self.arrive()?;
        let client = &self.lab.client;
        let path = client.native(&format!("/tasks/{}/quarantine", self.task));
        let asked = json!({"all": true});
        let answer = client.post(&format!("{path}/release"), &[], Some(&asked))?;
        let answer = answer.ok()?;
        let left = client.get(&path, &[])?.ok()?;
        ensure!(left["total"] == json!(0), "not all leave: {answer}, {left}");
        // For the next one.
        let good = "UPDATE item SET n = 0 WHERE n <= -1000";
        self.lab.source.sql(good)?;
        self.on_bad_row("stop")?;
        answer["rows"].as_u64().context("no number of rows")
    }

    fn look_away(&mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.stop().context("the reader at the target"),
            None => Ok(()),
        }
    }

    fn status(&self) -> Result<Value> {
        self.lab.client.status(&self.task)
    }

    fn until<T>(&self, what: &str, mut done: impl FnMut(&Value) -> Result<Option<T>>) -> Result<T> {
        let until = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        loop {
            // While our server is down there is nobody to ask.
            if let Ok(status) = self.status() {
                if let Some(found) = done(&status)? {
                    return Ok(found);
                }
                last = status;
            }
            ensure!(
                Instant::now() < until,
                "{what}: not after {PATIENCE:?}: {last}"
            );
            pause(30);
        }
    }

    /// Waits until all tables are Live.
    fn live(&self) -> Result<()> {
        self.until("all tables are Live", |status| {
            let status = crate::lab::Status(status.clone());
            if status.phase() == "Failed" {
                bail!("the task failed: {}", status.0);
            }
            Ok(status.live(self.tables.len()).then_some(()))
        })
    }

    /// The task streams, and somebody writes and looks.
    pub(super) fn stream(&mut self) -> Result<()> {
        self.write()?;
        self.live()?;
        self.look()
    }

    /// The task begins again and is in the middle of its load, which takes a while.
    pub(super) fn load_slowly(&mut self) -> Result<()> {
        self.look_away()?;
        self.write()?;
        // Where nobody was let run for seconds, it may be over by then.
        for _ in 0..5 {
            if self.loads_slowly()? {
                return Ok(());
            }
        }
        bail!("the load was over before the fault, each time")
    }

    /// Whether it is in the middle of it.
    fn loads_slowly(&mut self) -> Result<bool> {
        let client = &self.lab.client;
        client.stop_task(&self.task)?;
        let path = client.fdi(&format!("/multi-tasks/{}/reset", self.task));
        client.post(&path, &[], None)?.ok()?;
        let [_, far] = &self.proxies;
        let before = far.passed();
        far.slow(SLOW);
        client.run_task(&self.task)?;
        let until = Instant::now() + PATIENCE;
        while far.passed() < before + 400_000 {
            ensure!(
                Instant::now() < until,
                "the load does not begin: {:?}",
                self.status()
            );
            pause(5);
        }
        let status = crate::lab::Status(self.status()?);
        Ok(!status.live(self.tables.len()))
    }

    /// Begins a verification that takes a few seconds; its address.
    pub(super) fn verify_slowly(&self) -> Result<String> {
        let client = &self.lab.client;
        let path = client.native(&format!("/tasks/{}/verifications", self.task));
        let asked = client.post(&path, &[], Some(&json!({"rows_per_second": 2_500})))?;
        let asked = asked.ok()?;
        let id = asked.get("verification_id").and_then(Value::as_str);
        let id = id.with_context(|| format!("no verification: {asked}"))?;
        let address = format!("{path}/{id}");
        // Until it is in the middle of it.
        pause(400);
        Ok(address)
    }

    /// The verification that a fault has met ends, without a false alarm.
    pub(super) fn verified(&self, address: &str, ends: &Ends) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.lab.client.get(address, &[]).and_then(|a| a.ok());
            if let Ok(shown) = shown {
                let state = shown.get("state").and_then(Value::as_str);
                let tables = shown.get("tables").and_then(Value::as_array);
                let result = |table: &Value| table["result"].as_str().unwrap_or("").to_owned();
                let results: Vec<String> = tables.into_iter().flatten().map(result).collect();
                // A fault that stops the task may be one of the target's rows.
                let stops = matches!(ends, Ends::Stops(..) | Ends::Pauses(_));
                let alarm = results.iter().any(|result| result == "different");
                ensure!(stops || !alarm, "a false alarm: {shown}");
                if matches!(state, Some("done" | "ended")) {
                    return Ok(());
                }
            }
            ensure!(Instant::now() < until, "the verification does not end");
            pause(100);
        }
    }

    /// Waits until the task says that it waits, and why, in these words.
    pub(super) fn waits(&self, says: &str) -> Result<String> {
        self.until("it waits", |status| {
            let message = status
                .pointer("/last_error/message")
                .and_then(Value::as_str);
            let phase = status.get("phase").and_then(Value::as_str);
            if phase == Some("Failed") {
                bail!("the task failed: {status}");
            }
            Ok(message
                .filter(|said| said.contains(says))
                .map(str::to_owned))
        })
    }

    /// The table that is paused, with `says` in its reason, and a fix.
    pub(super) fn pauses(&self, says: &str) -> Result<String> {
        self.until("its table is paused", |status| {
            if status.get("phase").and_then(Value::as_str) == Some("Failed") {
                bail!("the task failed: {status}");
            }
            let paused = status["paused_tables"].as_array();
            let text = |one: &Value, name: &str| one[name].as_str().unwrap_or("").to_owned();
            let told =
                |one: &&Value| text(one, "reason").contains(says) && !text(one, "fix").is_empty();
            let found = paused.into_iter().flatten().find(told);
            Ok(found.map(|one| text(one, "reason")))
        })
    }

    /// Takes paused tables back.
    pub(super) fn resume(&mut self) -> Result<()> {
        // A table whose log has changes of its form yet to be read is paused again.
        self.nothing_beside()?;
        self.arrive()?;
        let client = &self.lab.client;
        let status = self.status()?;
        for one in status["paused_tables"].as_array().into_iter().flatten() {
            let id = one["mapping_id"].as_str().context("no mapping")?;
            let path = client.native(&format!("/tasks/{}/tables/{id}/resume", self.task));
            client.post(&path, &[], Some(&json!({})))?.ok()?;
        }
        Ok(())
    }

    /// Waits until the task has stopped with an error; its text.
    pub(super) fn fails(&self) -> Result<String> {
        self.until("it stops", |status| {
            let running = status.get("phase").and_then(Value::as_str) != Some("Failed");
            let message = status
                .pointer("/last_error/message")
                .and_then(Value::as_str);
            // Of a task that still ends there is the fact only.
            let whole = message
                .filter(|_| !running && status.pointer("/last_error/kind") == Some(&Value::Null));
            Ok(whole.map(str::to_owned))
        })
    }

    /// Starts it again after an error.
    pub(super) fn again(&mut self, again: Again) -> Result<()> {
        if again == Again::Reset {
            // A table that is altered while a task starts wants it to be run again.
            self.nothing_beside()?;
            if self.reader.is_some() {
                self.look_away()?;
            }
            let client = &self.lab.client;
            let path = client.fdi(&format!("/multi-tasks/{}/reset", self.task));
            client.post(&path, &[], None)?.ok()?;
            return client.run_task(&self.task);
        }
        self.lab.client.run_task(&self.task)
    }

    /// Everything goes on as it should: the rest of the log arrives, and all rows are equal; how many.
    pub(super) fn equal(&mut self) -> Result<u64> {
        for proxy in &self.proxies {
            proxy.mend();
        }
        self.nothing_beside()?;
        self.live()?;
        self.arrive()?;
        if let Some(reader) = &self.reader
            && reader.thread.as_ref().is_some_and(JoinHandle::is_finished)
        {
            self.look_away()?;
        }
        let reports = self.lab.judge().all_equal(&self.tables)?;
        let log = std::fs::read(self.lab.thalweg.log())?;
        let log = String::from_utf8_lossy(&log);
        ensure!(!log.contains("panicked"), "the server has panicked");
        Ok(reports.iter().map(|report| report.source_rows).sum())
    }

    /// Nobody writes any more, and all that was written has arrived.
    fn arrive(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.stop()?;
        }
        let site = self.site();
        site.insist(|| {
            let tick = "UPDATE clock SET ticks = ticks + 1";
            self.lab.source.sql(tick).map(drop)
        })?;
        let ticks = bank::ticks(&self.lab.source)?;
        self.until("the target has all of it", |status| {
            if status.get("phase").and_then(Value::as_str) == Some("Failed") {
                bail!("the task failed: {status}");
            }
            Ok(match bank::ticks(&self.lab.target) {
                Ok(there) if there == ticks => Some(()),
                _ => None,
            })
        })
    }

    /// After a cell that failed: everything from the beginning, so that the next one is judged by itself.
    pub(super) fn anew(&mut self) -> Result<()> {
        self.writer = None;
        self.beside = None;
        self.reader = None;
        let [from, to] = [self.lab.source.system(), self.lab.target.system()];
        *self = World::start([from, to])?;
        Ok(())
    }
}
