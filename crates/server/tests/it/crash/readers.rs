//! Those who look at the target while the server dies: none may ever see half a transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use thalweg_testkit::servers::{Place, System};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::bank::{SNAPSHOT, TOTAL};
use crate::conn::Conn;

/// Between two samples of one reader, so that looking is not most of the work.
const PAUSE: Duration = Duration::from_millis(20);

/// What was seen once.
struct Sample {
    parts: [i64; 3],
    ticks: i64,
}

#[derive(Default)]
struct Shared {
    samples: AtomicU64,
    /// The first thing that was wrong.
    wrong: Mutex<Option<String>>,
}

/// Readers at work; gone when dropped.
pub(super) struct Readers {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Readers {
    /// Two that ask for everything in one statement, two that ask piece by piece in one
    /// transaction with one snapshot. When this returns they are connected.
    pub(super) fn start(runtime: &Handle, place: &Place) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..4 {
            // In the runtime, because a connection may want a task of its own.
            let conn = runtime.block_on(Conn::open(place))?;
            tasks.spawn_on(read(conn, number % 2 == 0, Arc::clone(&shared)), runtime);
        }
        Ok(Self {
            shared,
            _tasks: tasks,
        })
    }

    /// How many samples were right.
    pub(super) fn samples(&self) -> u64 {
        self.shared.samples.load(Ordering::Relaxed)
    }

    /// Whether all were.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = &self.shared.wrong;
        let wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wrong.map_or(Ok(()), |wrong| Err(anyhow!(wrong)))
    }
}

async fn read(mut conn: Conn, whole: bool, shared: Arc<Shared>) {
    let mut before = 0;
    loop {
        let seen = match whole {
            true => one_statement(&mut conn).await,
            false => one_transaction(&mut conn).await,
        };
        match seen.and_then(|sample| judge(&sample, &mut before)) {
            Ok(()) => drop(shared.samples.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                let samples = shared.samples.load(Ordering::Relaxed);
                let mut wrong = shared.wrong.lock().unwrap_or_else(PoisonError::into_inner);
                wrong.get_or_insert(format!("after {samples} samples: {error:#}"));
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn judge(sample: &Sample, before: &mut i64) -> Result<()> {
    let total: i64 = sample.parts.iter().sum();
    if total != TOTAL {
        bail!(
            "a reader saw half a transaction: {total} cents instead of {TOTAL}, {:?} by table",
            sample.parts
        );
    }
    if sample.ticks < *before {
        bail!(
            "a reader saw the clock go back from {before} to {}",
            sample.ticks
        );
    }
    *before = sample.ticks;
    Ok(())
}

async fn one_statement(conn: &mut Conn) -> Result<Sample> {
    let row = conn.first(SNAPSHOT).await?.context("no row")?;
    let mut numbers = Vec::new();
    for cell in row {
        numbers.push(cell.context("NULL")?.parse::<i64>()?);
    }
    match numbers.as_slice() {
        [one, two, three, ticks] => Ok(Sample {
            parts: [*one, *two, *three],
            ticks: *ticks,
        }),
        _ => bail!("{} columns", numbers.len()),
    }
}

async fn one_transaction(conn: &mut Conn) -> Result<Sample> {
    match conn.system() {
        System::MariaDb => conn.change("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"),
        System::Postgres => conn.change("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
    }
    .await?;
    let mut found = [0; 4];
    for (found, query) in found.iter_mut().zip([
        "SELECT CAST(sum(balance) * 100 AS DECIMAL(30,0)) FROM checking",
        "SELECT sum(cents) FROM savings",
        "SELECT CAST(sum(amount) * 100 AS DECIMAL(30,0)) FROM vault",
        "SELECT ticks FROM clock",
    ]) {
        *found = conn.number(query).await?.context("an empty table")?;
        // Time for a commit between two statements.
        tokio::task::yield_now().await;
    }
    conn.change("COMMIT").await?;
    let [one, two, three, ticks] = found;
    Ok(Sample {
        parts: [one, two, three],
        ticks,
    })
}
