//! Single tables of a task that runs: paused, resumed, loaded again, added and removed while all tables are
//! written to. The others go on, what comes back is equal, and what was decided holds when the server is
//! killed right after its answer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use thalweg_testkit::servers::{Place, System};

use crate::lab::{Lab, PATIENCE, Status};

/// How long a table that nobody touches may not be seen Live: the moment in which the task plans again, on a
/// slow machine.
const MOMENT: Duration = Duration::from_secs(10);
/// Between two looks, and between two writes.
const LOOK: Duration = Duration::from_millis(100);
const TABLES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn postgres_to_mariadb() {
    one_by_one(System::Postgres, System::MariaDb).unwrap();
}

#[test]
fn mariadb_to_postgres() {
    one_by_one(System::MariaDb, System::Postgres).unwrap();
}

#[test]
fn killed_from_postgres_to_mariadb() {
    killed(System::Postgres, System::MariaDb).unwrap();
}

#[test]
fn killed_from_mariadb_to_postgres() {
    killed(System::MariaDb, System::Postgres).unwrap();
}

#[test]
fn others_go_on_from_postgres_to_mariadb() {
    others_go_on(System::Postgres, System::MariaDb).unwrap();
}

#[test]
fn others_go_on_from_mariadb_to_postgres() {
    others_go_on(System::MariaDb, System::Postgres).unwrap();
}

#[test]
fn a_parent_is_loaded_again_from_postgres_to_mariadb() {
    parent_again(System::Postgres, System::MariaDb).unwrap();
}

#[test]
fn a_parent_is_loaded_again_from_mariadb_to_postgres() {
    parent_again(System::MariaDb, System::Postgres).unwrap();
}

/// A table is paused while another one is loaded: the chunks of that one that are in stay in.
#[test]
fn chunks_of_a_load_stay_in() {
    let lab = Lab::start(|source| {
        let make = "CREATE TABLE large (id BIGINT PRIMARY KEY, v BIGINT NOT NULL); \
             INSERT INTO large SELECT seq, seq FROM seq_1_to_60000; ANALYZE TABLE large; \
             CREATE TABLE a (id BIGINT PRIMARY KEY, v BIGINT NOT NULL); INSERT INTO a VALUES (1, 1)";
        source.sql(make).map(drop)
    });
    let lab = lab.unwrap();
    let task = lab.task("tables", &["large", "a"]).unwrap();
    let options = json!({"chunk_rows": 1_000, "workers": 1});
    lab.client.set_options(&task, &options).unwrap();
    lab.client.run_task(&task).unwrap();
    let world = World { lab, task };
    let loaded = |status: &Status| status.sum("loaded_chunks").unwrap_or(0) > 10;
    world.lab.wait(&world.task, "chunks", loaded).unwrap();
    let before = world.ledger().unwrap();
    world.call("pause", "a").unwrap();
    let again = |status: &Status| status.tables().len() == 1 && loaded(status);
    world.lab.wait(&world.task, "planned again", again).unwrap();
    let after = world.ledger().unwrap();
    assert!(before.len() > 10, "{before:?}");
    assert!(before.is_subset(&after), "{before:?} {after:?}");
    world.live(&["large"]).unwrap();
    world.lab.judge().all_equal(&["large"]).unwrap();
}

/// Each with some rows; all but `d` are mapped, and loaded in chunks.
struct World {
    lab: Lab,
    task: String,
}

impl World {
    fn start(from: System, to: System) -> Result<Self> {
        let lab = Lab::between(from, to, |source| {
            let numbers = match source.system() {
                System::MariaDb => "(SELECT seq AS n FROM seq_1_to_1000) r",
                System::Postgres => "generate_series(1, 1000) n",
            };
            for name in TABLES {
                source.sql(&format!(
                    "CREATE TABLE {name} (id BIGINT PRIMARY KEY, v BIGINT NOT NULL); \
                     INSERT INTO {name} SELECT n, n FROM {numbers}"
                ))?;
            }
            Ok(())
        })?;
        let task = lab.task("tables", &["a", "b", "c"])?;
        lab.client.set_options(&task, &json!({"chunk_rows": 400}))?;
        lab.client.run_task(&task)?;
        lab.wait(&task, "Live", |status| status.live(3))?;
        Ok(World { lab, task })
    }

    fn path(&self, rest: &str) -> String {
        let task = &self.task;
        self.lab
            .client
            .native(&format!("/tasks/{task}/tables{rest}"))
    }

    fn tables(&self) -> Result<Vec<Value>> {
        let page = self.lab.client.get(&self.path(""), &[])?.ok()?;
        let tables = page.get("tables").and_then(Value::as_array);
        Ok(tables.context("no tables")?.clone())
    }

    /// The table that the task has of a name.
    fn table(&self, name: &str) -> Result<Value> {
        let source = self.lab.source.table(name);
        let all = self.tables()?;
        let found = all.into_iter().find(|one| one["source_table"] == source);
        found.with_context(|| format!("the task has no table {name}"))
    }

    /// `pause`, `resume`, `reload`, or `remove`.
    fn call(&self, way: &str, name: &str) -> Result<()> {
        let table = self.table(name)?;
        let id = table["mapping_id"].as_str().context("no id")?;
        let client = &self.lab.client;
        let answer = match way {
            "remove" => client.delete(&self.path(&format!("/{id}")), &[], None)?,
            _ => client.post(&self.path(&format!("/{id}/{way}")), &[], None)?,
        };
        answer.ok().map(drop)
    }

    fn add(&self, name: &str) -> Result<()> {
        let names = (self.lab.source.table(name), self.lab.target.table(name));
        let body = json!({"source_table": names.0, "target_table": names.1});
        let answer = self.lab.client.post(&self.path(""), &[], Some(&body))?;
        answer.ok().map(drop)
    }

    /// A table whose mapping is deleted and made anew while the task is stopped is loaded, whatever there was
    /// to be done about its rows.
    fn mapped_again(&self, name: &str) -> Result<()> {
        let (client, lab) = (&self.lab.client, &self.lab);
        client.stop_task(&self.task)?;
        lab.wait(&self.task, "stopped", |status| status.phase() == "Stopped")?;
        self.damage(name)?;
        let table = self.table(name)?;
        let id = table["mapping_id"].as_str().context("no id")?;
        let path = client.fdi(&format!("/multi-tasks/{}/mappings/{id}", self.task));
        client.delete(&path, &[], None)?.ok()?;
        let ends = (lab.ends.0.as_str(), lab.ends.1.as_str());
        let names = (lab.source.table(name), lab.target.table(name));
        client.map_table(&self.task, ends, (&names.0, &names.1))?;
        client.run_task(&self.task)?;
        self.live(&["b", "c", "d"])?;
        ensure!(!self.damaged(name)?, "{name} was not loaded again");
        lab.judge().all_equal(&["b", "c", "d"])?;
        Ok(())
    }

    /// Waits until exactly these tables are Live, and none of them is to be loaded again.
    fn live(&self, names: &[&str]) -> Result<()> {
        let mut wanted: Vec<_> = names.iter().map(|one| self.lab.target.table(one)).collect();
        wanted.sort();
        let what = format!("{names:?} Live");
        let live = |status: &Status| {
            let tables = status.0["tables"].as_array().cloned().unwrap_or_default();
            let mut found: Vec<_> = tables
                .iter()
                .filter(|table| table["phase"] == "Live")
                .filter_map(|table| table["target"].as_str().map(str::to_owned))
                .collect();
            found.sort();
            tables.len() == wanted.len() && found == wanted && status.phase() == "Streaming"
        };
        let until = Instant::now() + PATIENCE;
        loop {
            self.lab.wait(&self.task, &what, live)?;
            if self.tables()?.iter().all(|table| table["reload"] == false) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{what}: {:?}", self.tables()?);
            thread::sleep(LOOK);
        }
    }

    /// The names of the tables that the task's status tells as paused.
    fn paused(&self) -> Result<Vec<String>> {
        let status = self.lab.status(&self.task)?.0;
        let paused = status["paused_tables"].as_array().context("no list")?;
        Ok(paused
            .iter()
            .filter_map(|table| table["target_table"].as_str().map(str::to_owned))
            .collect())
    }

    /// The chunks that are in at a PostgreSQL, each with what it has seen.
    fn ledger(&self) -> Result<BTreeSet<String>> {
        let chunks = "SELECT encode(range_from, 'hex'), encode(range_to, 'hex'), visibility \
                      FROM thalweg.checkpoint_chunk";
        Ok(self
            .lab
            .target
            .sql(chunks)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// What a table is at the target, in short.
    fn sums(&self, name: &str) -> Result<String> {
        let sums = format!("SELECT count(*), sum(v), max(id) FROM {name}");
        self.lab.target.sql(&sums)
    }

    /// Makes a row at the target another one; only a load puts it right.
    fn damage(&self, name: &str) -> Result<()> {
        let damage = format!("UPDATE {name} SET v = -7 WHERE id = 500");
        self.lab.target.sql(&damage).map(drop)
    }

    fn damaged(&self, name: &str) -> Result<bool> {
        let count = format!("SELECT count(*) FROM {name} WHERE id = 500 AND v = -7");
        Ok(self.lab.target.sql(&count)?.trim() == "1")
    }

    /// Waits until a row that is written now has come.
    fn arrives(&self, name: &str, id: u64) -> Result<()> {
        let insert = format!("INSERT INTO {name} VALUES ({id}, 1)");
        self.lab.source.sql(&insert)?;
        let count = format!("SELECT count(*) FROM {name} WHERE id = {id}");
        let until = Instant::now() + PATIENCE;
        while self.lab.target.sql(&count)?.trim() != "1" {
            ensure!(Instant::now() < until, "row {id} of {name} never came");
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

fn one_by_one(from: System, to: System) -> Result<()> {
    let world = World::start(from, to)?;
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let away = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&world.lab.source, &stop, &written));
        let watcher = scope.spawn(|| watch(&world, &stop));
        let handled = handle(&world);
        stop.store(true, Ordering::SeqCst);
        writer.join().expect("the writer does not panic")?;
        let away = watcher.join().expect("the watcher does not panic");
        handled?;
        away
    })
    .with_context(|| world.lab.logs())?;
    for (id, name) in ["b", "c", "d"].into_iter().enumerate() {
        world.arrives(name, 1_000_000 + id as u64)?;
    }
    world.lab.judge().all_equal(&["b", "c", "d"])?;
    println!(
        "proof: {from} to {to}: under {} writes to each table, table b was not Live for {away:?} at most; \
         tables that came back or stayed are equal",
        written.load(Ordering::SeqCst)
    );
    ensure!(away < MOMENT, "table b was not Live for {away:?}");
    Ok(())
}

/// While the load of a table stands still, changes of the others arrive, also those of transactions that
/// have changed that table too.
fn others_go_on(from: System, to: System) -> Result<()> {
    const HELD: u64 = 12;
    let world = World::start(from, to)?;
    let sleep = match to {
        System::MariaDb => format!("SELECT SLEEP({HELD})"),
        System::Postgres => format!("SELECT pg_sleep({HELD})"),
    };
    let hold =
        format!("BEGIN; SELECT count(*) FROM (SELECT * FROM c FOR UPDATE) r; {sleep}; COMMIT");
    thread::scope(|scope| {
        let holder = scope.spawn(|| world.lab.target.sql(&hold));
        // What it has to lock is locked at once.
        thread::sleep(Duration::from_secs(1));
        world.call("reload", "c")?;
        let c = world.lab.target.table("c");
        let away = |status: &Status| {
            let mut tables = status.0["tables"].as_array().into_iter().flatten();
            tables.any(|table| table["target"] == c && table["phase"] != "Live")
        };
        world.lab.wait(&world.task, "c is loaded", away)?;
        world.arrives("a", 900_001)?;
        let both = "BEGIN; INSERT INTO c VALUES (900002, 1); UPDATE c SET v = v + 1 WHERE id < 900; \
                    INSERT INTO a VALUES (900002, 1); COMMIT";
        world.lab.source.sql(both)?;
        world.arrives("b", 900_003)?;
        let there = world.lab.target.sql("SELECT count(*) FROM a WHERE id = 900002")?;
        ensure!(there.trim() == "1", "it came before the row of b");
        ensure!(!holder.is_finished(), "the load stood still all along");
        holder.join().expect("the holder does not panic").map(drop)
    })
    .with_context(|| world.lab.logs())?;
    world.live(&["a", "b", "c"])?;
    world.arrives("c", 900_004)?;
    world.lab.judge().all_equal(&["a", "b", "c"]).map(drop)
}

/// A table that others reference is loaded again while all are written to: its children stay, the stream
/// goes on, and the foreign key comes back.
fn parent_again(from: System, to: System) -> Result<()> {
    let lab = Lab::between(from, to, |source| {
        source.sql(
            "CREATE TABLE p (id BIGINT PRIMARY KEY, v BIGINT NOT NULL); \
             CREATE TABLE c (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, p BIGINT, \
               CONSTRAINT of_p FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE); \
             CREATE TABLE r (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, p BIGINT, \
               CONSTRAINT r_of_p FOREIGN KEY (p) REFERENCES p (id)); \
             INSERT INTO p VALUES (1, 1), (2, 2), (3, 3); \
             INSERT INTO c VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3); \
             INSERT INTO r VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)",
        )?;
        Ok(())
    })?;
    let task = lab.task("tables", &["p", "c", "r"])?;
    lab.client.run_task(&task)?;
    lab.wait(&task, "Live", |status| status.live(3))?;
    let world = World { lab, task };
    again_and_again(&world, to).with_context(|| world.lab.logs())
}

fn again_and_again(world: &World, to: System) -> Result<()> {
    let keys = || {
        let count = match to {
            System::MariaDb => {
                "SELECT count(*) FROM information_schema.referential_constraints \
                 WHERE constraint_schema = database() AND referenced_table_name = 'p'"
            }
            System::Postgres => {
                "SELECT count(*) + (SELECT 100 * count(*) FROM pg_index WHERE indrelid = 'c'::regclass) \
                 FROM pg_constraint WHERE confrelid = 'p'::regclass"
            }
        };
        world.lab.target.sql(count)
    };
    let before = keys()?;
    ensure!(
        before.trim().ends_with('2'),
        "the keys are not there: {before}"
    );
    // What was loaded is there before they are.
    let come_back = || {
        let until = Instant::now() + PATIENCE;
        while keys()? != before {
            ensure!(
                Instant::now() < until,
                "{} keys instead of {before}",
                keys()?
            );
            thread::sleep(LOOK);
        }
        Ok(())
    };
    for n in 10..12_u64 {
        world.lab.target.sql("UPDATE p SET v = -5 WHERE id = 3")?;
        world.call("reload", "p")?;
        let write = format!(
            "INSERT INTO p VALUES ({n}, {n}); INSERT INTO c VALUES ({n}, {n}, {n}); \
             INSERT INTO r VALUES ({n}, {n}, {n}); UPDATE c SET v = v + 1; UPDATE p SET v = v + 1 WHERE id < 3"
        );
        world.lab.source.sql(&write)?;
        world.live(&["p", "c", "r"])?;
        world.arrives("p", 900_000 + n)?;
        let damaged = world.lab.target.sql("SELECT v FROM p WHERE id = 3")?;
        ensure!(damaged.trim() == "3", "it was not loaded again");
        come_back()?;
    }
    let gone = "DELETE FROM r WHERE id = 2; DELETE FROM p WHERE id = 2";
    world.lab.source.sql(gone)?;
    world.arrives("p", 900_100)?;
    world.lab.judge().all_equal(&["p", "c", "r"])?;
    // Another's key from a table that the task does not have: the rows it leads to cannot be deleted.
    let key = match to {
        System::Postgres => "id BIGINT PRIMARY KEY REFERENCES p (id)",
        System::MariaDb => "id BIGINT PRIMARY KEY, FOREIGN KEY (id) REFERENCES p (id)",
    };
    let theirs = format!("CREATE TABLE theirs ({key}); INSERT INTO theirs VALUES (1)");
    world.lab.target.sql(&theirs)?;
    world.call("reload", "p")?;
    let client = &world.lab.client;
    if world.lab.source.system() == System::Postgres {
        let paused = |status: &Status| status.0["paused_tables"].to_string().contains("theirs");
        world.lab.wait(&world.task, "p is paused", paused)?;
        world.live(&["c", "r"])?;
        world.lab.source.sql("INSERT INTO p VALUES (500, 5)")?;
        world.lab.source.sql("INSERT INTO c VALUES (500, 5, 500)")?;
        world.lab.target.sql("DROP TABLE theirs")?;
        world.call("resume", "p")?;
    } else {
        // What its cascades do is not in the log: the others cannot go on without it.
        let until = Instant::now() + PATIENCE;
        let failed = loop {
            let status = client.status(&world.task)?;
            // Of a task that still ends there is the fact only.
            if status["phase"] == "Failed" && status["last_error"]["message"].is_string() {
                break status;
            }
            ensure!(Instant::now() < until, "it goes on: {status}");
            thread::sleep(LOOK);
        };
        let told = failed["last_error"]["message"].to_string();
        ensure!(told.contains("theirs") && told.contains("DROP"), "{told}");
        world.lab.target.sql("DROP TABLE theirs")?;
        client.run_task(&world.task)?;
    }
    world.live(&["p", "c", "r"])?;
    world.arrives("p", 900_200)?;
    world.lab.judge().all_equal(&["p", "c", "r"])?;
    come_back()
}

/// What users do with the tables.
fn handle(world: &World) -> Result<()> {
    world.call("pause", "a")?;
    world.live(&["b", "c"])?;
    ensure!(world.paused()? == [world.lab.target.table("a")]);
    let held = world.sums("a")?;
    world.arrives("b", 900_001)?;
    world.arrives("c", 900_001)?;
    ensure!(world.sums("a")? == held, "changes of a paused table came");
    world.damage("a")?;
    world.call("resume", "a")?;
    world.live(&["a", "b", "c"])?;
    ensure!(world.paused()?.is_empty());
    ensure!(!world.damaged("a")?, "it was not loaded again");
    world.arrives("a", 900_002)?;

    world.damage("c")?;
    world.call("reload", "c")?;
    world.live(&["a", "b", "c"])?;
    ensure!(!world.damaged("c")?, "it was not loaded again");

    // One whose rows do not fit is paused, and the others go on.
    let wide = match world.lab.target.system() {
        System::MariaDb => "ALTER TABLE d MODIFY v BIGINT NOT NULL",
        System::Postgres => "ALTER TABLE d ALTER COLUMN v TYPE BIGINT",
    };
    let make = "CREATE TABLE d (id BIGINT PRIMARY KEY, v SMALLINT NOT NULL)";
    world.lab.target.sql(make)?;
    if world.lab.target.system() == System::Postgres {
        let [_, writer] = &world.lab.accounts;
        let grant = format!("GRANT ALL ON d TO {}", writer.user);
        world.lab.target.sql(&grant)?;
    }
    let unfit = "UPDATE d SET v = 100000 WHERE id = 900";
    world.lab.source.sql(unfit)?;
    world.add("d")?;
    let paused = |status: &Status| status.0["paused_tables"].to_string().contains("fit");
    world.lab.wait(&world.task, "d is paused", paused)?;
    world.live(&["a", "b", "c"])?;
    world.arrives("b", 900_005)?;
    world.lab.target.sql(wide)?;
    world.call("resume", "d")?;
    world.live(&["a", "b", "c", "d"])?;
    world.arrives("d", 900_003)?;
    // Nothing of this is to be found at the target: the task goes on without it.
    let refused = format!("{:#}", world.add("nowhere").unwrap_err());
    ensure!(refused.contains("task would stop: "), "{refused}");
    world.live(&["a", "b", "c", "d"])?;

    world.call("remove", "a")?;
    world.live(&["b", "c", "d"])?;
    let left = world.sums("a")?;
    world.arrives("b", 900_004)?;
    ensure!(world.sums("a")? == left, "changes of a removed table came");
    let rows = world.lab.target.sql("SELECT count(*) FROM a")?;
    ensure!(rows.trim().parse::<u64>()? > 1000, "its rows stay");
    Ok(())
}

/// Writes to all tables, each round in one transaction.
fn write(source: &Place, stop: &AtomicBool, written: &AtomicU64) -> Result<()> {
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let (new, old) = (10_000 + round, 1 + round * 7 % 400);
        let changes: String = TABLES
            .iter()
            .map(|name| {
                format!(
                    "INSERT INTO {name} VALUES ({new}, {round}); \
                     UPDATE {name} SET v = v + 1 WHERE id = {old}; \
                     DELETE FROM {name} WHERE id = {}; ",
                    600 + round % 300
                )
            })
            .collect();
        source.sql(&format!("BEGIN; {changes} COMMIT"))?;
        written.store(round, Ordering::SeqCst);
        thread::sleep(LOOK);
    }
    Ok(())
}

/// For how long table `b`, which nobody touches, was not Live, at most.
fn watch(world: &World, stop: &AtomicBool) -> Result<Duration> {
    let name = world.lab.target.table("b");
    let mut seen = Instant::now();
    let mut away = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let status = world.lab.status(&world.task)?.0;
        let mut tables = status["tables"].as_array().into_iter().flatten();
        if tables.any(|table| table["target"] == name && table["phase"] == "Live") {
            away = away.max(seen.elapsed());
            seen = Instant::now();
        }
        thread::sleep(LOOK);
    }
    Ok(away.max(seen.elapsed()))
}

/// The server is killed right after each answer.
fn killed(from: System, to: System) -> Result<()> {
    let world = World::start(from, to)?;
    let killed = || -> Result<()> {
        world.lab.thalweg.kill();
        world.lab.thalweg.restart()
    };
    let work = || -> Result<()> {
        world.call("pause", "a")?;
        killed()?;
        world.live(&["b", "c"])?;
        ensure!(world.paused()? == [world.lab.target.table("a")]);
        world.damage("a")?;
        world.arrives("b", 900_001)?;
        world.lab.source.sql("INSERT INTO a VALUES (900001, 1)")?;

        world.call("resume", "a")?;
        killed()?;
        world.live(&["a", "b", "c"])?;
        ensure!(!world.damaged("a")?, "it was not loaded again");

        world.damage("c")?;
        world.call("reload", "c")?;
        killed()?;
        world.live(&["a", "b", "c"])?;
        ensure!(!world.damaged("c")?, "it was not loaded again");

        world.add("d")?;
        killed()?;
        world.live(&["a", "b", "c", "d"])?;
        for name in TABLES {
            world.arrives(name, 900_002)?;
        }
        world.lab.judge().all_equal(&TABLES)?;

        world.call("remove", "a")?;
        killed()?;
        world.live(&["b", "c", "d"])?;
        let left = world.sums("a")?;
        world.lab.source.sql("DELETE FROM a WHERE id < 100")?;
        world.arrives("b", 900_003)?;
        ensure!(world.sums("a")? == left, "changes of a removed table came");
        world.lab.judge().all_equal(&["b", "c", "d"])?;
        world.mapped_again("b")
    };
    work().with_context(|| world.lab.logs())
}
