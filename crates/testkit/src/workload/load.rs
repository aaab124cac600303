//! The workers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::tables::{self, Sizes};
use super::{postgres, sysbench, types, types_postgres};
use crate::servers::{Place, System, process};

/// How busy the shop is.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// What the transactions are drawn from.
    pub seed: u64,
    /// The rows the tables were [created](super::create) with.
    pub rows: u32,
    /// Transactions a second of each of our workers at most; without it, as many as it can.
    pub rate: Option<u32>,
    /// Transactions a second of sysbench at most; 0 leaves sysbench out.
    pub sysbench_rate: Option<u32>,
}

/// What a load did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Committed transactions by worker.
    pub transactions: BTreeMap<&'static str, u64>,
    /// How long it ran.
    pub time: Duration,
}

impl Summary {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.transactions.values().sum()
    }
}

/// A running load. Stopped on drop; call [`stop`](Self::stop) to hear what it did.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<(&'static str, JoinHandle<Result<u64>>)>,
    start: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, error: &Error) {
        let mut slot = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| format!("{error:#}"));
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a worker of ours does next, given its random numbers and how many it has done.
type Next = Box<dyn FnMut(&mut SmallRng, u64) -> String + Send>;

impl Load {
    /// Starts all workers.
    ///
    /// # Errors
    /// When a client cannot be started.
    pub fn start(place: &Place, options: &LoadOptions) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut load = Self {
            shared: Arc::clone(&shared),
            workers: Vec::new(),
            start: Instant::now(),
        };
        let sizes = Sizes::of(options.rows);
        for (index, (name, next)) in (0u64..).zip(workers(place.system(), sizes)) {
            let session = Session::start(place)?;
            let random = SmallRng::seed_from_u64(options.seed.wrapping_mul(31).wrapping_add(index));
            let (shared, rate) = (Arc::clone(&shared), options.rate);
            let body = move || {
                let done = work(session, &shared, random, rate, next);
                done.inspect_err(|error| shared.fail(error))
            };
            load.spawn(name, body)?;
        }
        if options.sysbench_rate != Some(0) {
            let (shared, place, options) = (Arc::clone(&shared), place.clone(), options.clone());
            let body = move || {
                let done = work_sysbench(&place, &shared, &options);
                done.inspect_err(|error| shared.fail(error))
            };
            load.spawn("sysbench", body)?;
        }
        Ok(load)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        body: impl FnOnce() -> Result<u64> + Send + 'static,
    ) -> Result<()> {
        let thread = std::thread::Builder::new().name(format!("load {name}"));
        self.workers.push((name, thread.spawn(body)?));
        Ok(())
    }

    /// Transactions committed until now.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Whether all workers still work.
    ///
    /// # Errors
    /// What the first that failed had to say; the others have been told to stop.
    pub fn check(&self) -> Result<()> {
        let slot = self
            .shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref() {
            Some(failure) => Err(anyhow!("the load failed: {failure}")),
            None => Ok(()),
        }
    }

    /// Lets each worker finish its transaction; what they did.
    ///
    /// # Errors
    /// When a worker had failed.
    pub fn stop(mut self) -> Result<Summary> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut transactions = BTreeMap::new();
        for (name, worker) in self.workers.drain(..) {
            let done = worker
                .join()
                .map_err(|_| anyhow!("worker {name} panicked"))?;
            let done = done.with_context(|| format!("worker {name} of the load failed"))?;
            transactions.insert(name, done);
        }
        Ok(Summary {
            transactions,
            time: self.start.elapsed(),
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (_, worker) in self.workers.drain(..) {
            // What a worker had to say is in `check`; who drops the load does not ask.
            drop(worker.join());
        }
    }
}

/// Our workers, each the only one of its tables but for the bank's.
fn workers(system: System, sizes: Sizes) -> [(&'static str, Next); 6] {
    let bank = || -> Next {
        match system {
            System::MariaDb => Box::new(move |random, _| tables::bank(random, sizes)),
            System::Postgres => Box::new(move |random, _| postgres::bank(random, sizes)),
        }
    };
    let [shop, seat, every_type]: [Next; 3] = match system {
        System::MariaDb => [
            Box::new(move |random, _| tables::shop(random, sizes)),
            Box::new(move |random, number| tables::seat(random, sizes, number)),
            Box::new(|random, _| types::change(random)),
        ],
        System::Postgres => [
            Box::new(move |random, _| postgres::shop(random, sizes)),
            Box::new(move |random, number| postgres::seat(random, sizes, number)),
            Box::new(|random, _| types_postgres::change(random)),
        ],
    };
    [
        ("shop", shop),
        ("seat", seat),
        (
            "basket",
            Box::new(move |random, number| tables::basket(random, sizes, number)),
        ),
        ("every_type", every_type),
        ("bank 1", bank()),
        ("bank 2", bank()),
    ]
}

fn work(
    mut session: Session,
    shared: &Shared,
    mut random: SmallRng,
    rate: Option<u32>,
    mut next: Next,
) -> Result<u64> {
    let pause = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
    let mut due = Instant::now();
    let mut done = 0;
    while !shared.stopped() {
        session.run(&next(&mut random, done))?;
        done += 1;
        shared.done.fetch_add(1, Ordering::Relaxed);
        if let Some(pause) = pause {
            due += pause;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    session.end()?;
    Ok(done)
}

fn work_sysbench(place: &Place, shared: &Shared, options: &LoadOptions) -> Result<u64> {
    let mut done = 0;
    let mut seed = options.seed;
    while !shared.stopped() {
        let slice = sysbench::slice(place, options.rows, options.sysbench_rate, seed)?;
        seed = seed.wrapping_add(1);
        done += slice;
        shared.done.fetch_add(slice, Ordering::Relaxed);
    }
    Ok(done)
}

/// One client process that takes transaction after transaction. It ends at the first error, and the
/// server then rolls back what was open: half a transaction is never committed.
#[derive(Debug)]
struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    answer: String,
}

impl Session {
    fn start(place: &Place) -> Result<Self> {
        let mut client = place.client();
        // The other's client writes each answer at once anyway.
        if place.system() == System::MariaDb {
            client.arg("--unbuffered");
        }
        client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::spawn(client).context("the client could not be started")?;
        let input = child.stdin.take().context("the client has no input")?;
        let output = child.stdout.take().context("the client has no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
            answer: String::new(),
        })
    }

    /// Runs statements and waits until the server has done them.
    fn run(&mut self, sql: &str) -> Result<()> {
        let sent = self
            .input
            .write_all(format!("{sql}\nSELECT 'done';\n").as_bytes());
        self.answer.clear();
        let read = sent.and_then(|()| self.output.read_line(&mut self.answer));
        if read.is_ok() && self.answer == "done\n" {
            return Ok(());
        }
        // Its last words are in the pipe before its output ends, so nothing is lost.
        drop(self.child.kill());
        let mut told = String::new();
        if let Some(errors) = &mut self.child.stderr {
            errors.read_to_string(&mut told)?;
        }
        Err(anyhow!("{} after: {sql}", told.trim()).context("a client ended"))
    }

    fn end(mut self) -> Result<()> {
        drop(self.input);
        let status = self.child.wait()?;
        status
            .success()
            .then_some(())
            .with_context(|| format!("a client ended with {status}"))
    }
}
