//! Those who look at the target while the server dies: none may ever see half a transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use thalweg_testkit::servers::Postgres;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

use crate::bank::{SNAPSHOT, TOTAL};
use crate::lab::TARGET;

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
    pub(super) fn start(runtime: &Handle, server: &Postgres) -> Result<Self> {
        let mut config = Config::new();
        config
            .host(server.host())
            .port(server.port())
            .user(server.user())
            .password(server.password())
            .dbname(TARGET);
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..4 {
            let (client, connection) = runtime.block_on(config.connect(NoTls))?;
            // Its error reaches the client as well.
            tasks.spawn_on(async move { drop(connection.await) }, runtime);
            tasks.spawn_on(read(client, number % 2 == 0, Arc::clone(&shared)), runtime);
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

async fn read(mut client: Client, whole: bool, shared: Arc<Shared>) {
    let mut before = 0;
    loop {
        let seen = match whole {
            true => one_statement(&client).await,
            false => one_transaction(&mut client).await,
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

async fn one_statement(client: &Client) -> Result<Sample> {
    let row = client.query_one(SNAPSHOT, &[]).await?;
    Ok(Sample {
        parts: [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?],
        ticks: row.try_get(3)?,
    })
}

async fn one_transaction(client: &mut Client) -> Result<Sample> {
    let build = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let transaction = build.read_only(true).start().await?;
    let mut found = [0; 4];
    for (found, query) in found.iter_mut().zip([
        "SELECT (sum(balance) * 100)::bigint FROM checking",
        "SELECT sum(cents)::bigint FROM savings",
        "SELECT (sum(amount) * 100)::bigint FROM vault",
        "SELECT ticks FROM clock",
    ]) {
        let value: Option<i64> = transaction.query_one(query, &[]).await?.try_get(0)?;
        *found = value.context("an empty table")?;
        // Time for a commit between two statements.
        tokio::task::yield_now().await;
    }
    transaction.commit().await?;
    let [one, two, three, ticks] = found;
    Ok(Sample {
        parts: [one, two, three],
        ticks,
    })
}
