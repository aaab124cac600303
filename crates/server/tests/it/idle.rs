//! A PostgreSQL source whose captured tables are idle keeps no log, whatever else is written.
//!
//! A logical slot holds the log from `restart_lsn` on, and its reader says by `confirmed_flush_lsn` how
//! far it is. Both must follow the end of the log although no transaction of the task's tables passes:
//! while other tables write much, while the log grows without any transaction (a switch of its
//! segment), and while nothing happens at all. No restart may be needed for it: the connection that
//! reads the slot is the same all along.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use thalweg_testkit::servers::{Place, System};

use crate::lab::{Lab, PATIENCE, Status};

const MIB: u64 = 1 << 20;
/// How far the confirmed position may be behind the end of the log, at any sample.
const CONFIRMED_MAX: u64 = 16 * MIB;
/// How much log the slot may hold a while after the writes.
const RESTART_MAX: u64 = 64 * MIB;
/// How long the server's own bookkeeping may take until then.
const AFTER: Duration = Duration::from_secs(30);
/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// What is written a second at most: a slot that cannot keep up with its server is another matter.
const PACE: u64 = 24 * MIB;

/// How much is written.
fn bytes() -> u64 {
    match std::env::var_os("THALWEG_PROVE") {
        Some(_) => 2048 * MIB,
        None => 200 * MIB,
    }
}

#[test]
fn an_idle_table_keeps_no_log() {
    let lab = Lab::between(System::Postgres, System::Postgres, |source| {
        let tables = "CREATE TABLE quiet (id integer PRIMARY KEY, v text); \
                      INSERT INTO quiet SELECT n, 'quiet ' || n FROM generate_series(1, 1000) n; \
                      CREATE TABLE noise (id bigint, v text);";
        source.sql(tables).map(drop)
    })
    .unwrap();
    if let Err(error) = run(&lab) {
        panic!("idle: {error:#}\n{}", lab.logs());
    }
}

fn run(lab: &Lab) -> Result<()> {
    let task = lab.task("idle", &["quiet"])?;
    lab.client.run_task(&task)?;
    lab.wait(&task, "Live", |status| status.live(1))?;
    let mut slot = Slot::new(&lab.source)?;

    let written = slot.while_written(bytes())?;
    let busy = slot.worst;
    let held = slot.let_go()?;
    println!(
        "proof: idle tables, {} MiB of log written by others: confirmed at most {} KiB behind its end in {} \
         samples; {} KiB held {} s later",
        written / MIB,
        busy / 1024,
        slot.samples,
        held.bytes / 1024,
        held.after.as_secs()
    );

    slot.worst = 0;
    for _ in 0..4 {
        // The log grows by a segment, and no transaction is in it.
        lab.source.sql("SELECT pg_switch_wal()")?;
        slot.sample_for(SAMPLE * 2)?;
    }
    let held = slot.let_go()?;
    println!(
        "proof: idle tables, segments switched, no transactions: confirmed at most {} KiB behind; {} KiB held",
        slot.worst / 1024,
        held.bytes / 1024
    );

    slot.worst = 0;
    slot.sample_for(if bytes() > 1024 * MIB {
        AFTER
    } else {
        SAMPLE * 3
    })?;
    let held = slot.let_go()?;
    println!(
        "proof: idle tables, no other writes: confirmed at most {} KiB behind; {} KiB held; one connection \
         all along",
        slot.worst / 1024,
        held.bytes / 1024
    );

    lab.source.sql("UPDATE quiet SET v = 'loud' WHERE id = 7")?;
    lab.wait(&task, "the update", |status: &Status| {
        status.sum("updates").is_ok_and(|updates| updates == 1)
    })?;
    ensure!(
        slot.reader()? == slot.reader,
        "the slot's reader is another"
    );
    lab.judge().all_equal(&["quiet"]).map(drop)
}

/// What a slot still held, and how long after the writes.
struct Held {
    bytes: u64,
    after: Duration,
}

/// The task's slot, watched.
struct Slot<'a> {
    source: &'a Place,
    /// The connection that reads it.
    reader: String,
    /// The furthest the confirmed position was behind.
    worst: u64,
    samples: u32,
}

impl<'a> Slot<'a> {
    fn new(source: &'a Place) -> Result<Self> {
        let mut slot = Slot {
            source,
            reader: String::new(),
            worst: 0,
            samples: 0,
        };
        slot.reader = slot.reader()?;
        ensure!(!slot.reader.is_empty(), "no slot is read");
        Ok(slot)
    }

    /// Which process reads it, since when.
    fn reader(&self) -> Result<String> {
        let sql = "SELECT a.pid, a.backend_start FROM pg_replication_slots s \
                   JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE slot_type = 'logical'";
        self.source.sql(sql)
    }

    /// Bytes from the confirmed position, and from the oldest the slot keeps, to the end of the log.
    fn behind(&self) -> Result<(u64, u64)> {
        let told = self.source.sql(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), \
             pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots \
             WHERE slot_type = 'logical'",
        )?;
        let (confirmed, restart) = told.split_once('\t').context("there is not one slot")?;
        // What is confirmed may be ahead of what was asked a moment before.
        let bytes = |text: &str| {
            text.trim()
                .parse::<i64>()
                .map(|n| u64::try_from(n).unwrap_or(0))
        };
        Ok((bytes(confirmed)?, bytes(restart)?))
    }

    fn sample(&mut self) -> Result<()> {
        let (confirmed, _) = self.behind()?;
        self.samples += 1;
        self.worst = self.worst.max(confirmed);
        ensure!(
            confirmed <= CONFIRMED_MAX,
            "the confirmed position is {} KiB behind",
            confirmed / 1024
        );
        Ok(())
    }

    fn sample_for(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.sample()?;
            std::thread::sleep(SAMPLE);
        }
        self.sample()
    }

    /// Samples while another table writes so much log; how much it was.
    fn while_written(&mut self, bytes: u64) -> Result<u64> {
        let (source, over) = (self.source.clone(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let written = write(&source, bytes);
                over.store(true, Ordering::SeqCst);
                written
            });
            while !over.load(Ordering::SeqCst) {
                self.sample()?;
                std::thread::sleep(SAMPLE);
            }
            writer
                .join()
                .map_err(|_| anyhow::anyhow!("the writer panicked"))?
        })
    }

    /// Waits until the slot holds little; an error if it does not soon enough.
    fn let_go(&mut self) -> Result<Held> {
        let start = Instant::now();
        loop {
            self.sample()?;
            let (_, restart) = self.behind()?;
            if restart <= RESTART_MAX {
                let after = start.elapsed();
                return Ok(Held {
                    bytes: restart,
                    after,
                });
            }
            if start.elapsed() > AFTER.min(PATIENCE) {
                bail!(
                    "{} MiB of log held {AFTER:?} after the writes",
                    restart / MIB
                );
            }
            std::thread::sleep(SAMPLE);
        }
    }
}

/// Writes log, in transactions of about a MiB, at a steady pace; how much.
fn write(source: &Place, bytes: u64) -> Result<u64> {
    let position = |since: &str| -> Result<String> {
        source.sql(&format!(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{since}')"
        ))
    };
    let begin = source.sql("SELECT pg_current_wal_lsn()")?;
    let start = Instant::now();
    loop {
        let written: u64 = position(&begin)?.trim().parse()?;
        if written >= bytes {
            return Ok(written);
        }
        let step = "INSERT INTO noise SELECT n, repeat(md5(random()::text), 30) \
                    FROM generate_series(1, 1000) n;";
        source.sql(&step.repeat(4))?;
        if written > 64 * MIB {
            source.sql("DELETE FROM noise WHERE ctid IN (SELECT ctid FROM noise LIMIT 500)")?;
        }
        let due = Duration::from_millis(written * 1000 / PACE);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
}
