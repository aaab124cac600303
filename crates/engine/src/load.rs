//! The load: what is not there yet of every table, in chunks, several at a time.
//!
//! Why this and the stream together are exact is said in [`crate::ledger`]. Here it is decided for
//! each table that is not loaded yet whether it is cut, and what is missing of it is cut and read.
//! Nothing of the cutting is stored: after a crash the gaps in the ledger are cut anew, as the table
//! is then.
//!
//! A table that is cut is emptied in a transaction of its own before its first chunk, which leaves
//! an empty ledger; so a load that goes on never empties again. A table that is one chunk is emptied
//! in the transaction that loads it.
//!
//! All chunks of all tables are read by one set of workers, those of the largest tables first, so
//! that a small table never waits alone for a large one's end. Each worker has a loader, which goes
//! from chunk to chunk.

mod moments;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use thalweg_core::checkpoint::{Checkpoint, LoadedChunk, TableCheckpoint, TablePhase};
use thalweg_core::mapping::ExistingRows;
use thalweg_core::plan::{Changed, Plan};
use thalweg_core::ports::{Chunk, ChunkReader, Gate, Loader};
use thalweg_core::position::{Position, Visibility};
use thalweg_core::quarantine::Held;
use thalweg_core::range::KeyRange;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result, Side};
use tokio::task::JoinSet;
use tracing::info;

use self::moments::takes_moments;
use crate::beside::Beside;
use crate::ledger::{Ledger, tiles};
use crate::limits::{Limits, MemoryBudget};
use crate::quarantine::Quarantine;
use crate::status::{self, Reporter};
use crate::task::{TaskSpec, quarantines};

/// A target table from which the stream can go on.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Loaded; the ledger says which changes are in it.
    Loaded(Ledger),
    /// Every transaction is applied whole.
    Live,
}

/// Loads what is missing, and gives the phases after it, per target of the plan. Dropping the
/// future is as a crash: a chunk in flight is not loaded.
pub(crate) async fn load(
    spec: &TaskSpec,
    checkpoint: &Checkpoint,
    from: &Position,
    limits: &Limits,
    budget: &MemoryBudget,
    report: &Reporter,
) -> Result<Vec<Phase>> {
    let desk = Desk::new(spec, checkpoint, from, limits, budget, report);
    desk.run().await
}

/// Loads what is missing beside a stream ([`crate::beside`]), which begins at `from`. Dropping the
/// future is as a crash.
pub(crate) async fn load_beside(
    spec: &TaskSpec,
    checkpoint: &Checkpoint,
    from: &Position,
    limits: &Limits,
    report: &Reporter,
    beside: Arc<Beside>,
) -> Result<()> {
    // Its own: what waits for the stream holds the others', and the stream may wait for a chunk.
    let budget = MemoryBudget::new(BESIDE_BYTES);
    let mut desk = Desk::new(spec, checkpoint, from, limits, &budget, report);
    desk.beside = Some(beside);
    desk.run().await.map(drop)
}

/// Rows that a load beside a stream has under way.
const BESIDE_BYTES: u64 = 16 << 20;

/// A chunk to be loaded.
#[derive(Clone)]
struct Job {
    target: usize,
    /// Of that target.
    feed: usize,
    source: usize,
    range: Option<KeyRange>,
    /// What to do with rows that are there, if the chunk is all of the table.
    existing: Option<ExistingRows>,
    /// What its snapshot must have seen, if the table takes one moment only.
    moment: Option<Visibility>,
}

/// A chunk that was loaded for a target.
type Done = (usize, LoadedChunk);

/// What the workers of a load share.
struct Desk {
    spec: TaskSpec,
    checkpoint: Checkpoint,
    from: Position,
    limits: Limits,
    budget: MemoryBudget,
    report: Reporter,
    jobs: Mutex<VecDeque<Job>>,
    /// Loaders that wait for a chunk.
    idle: Mutex<Vec<Box<dyn Loader>>>,
    /// Where rows go that the target refuses, if they do.
    quarantine: Mutex<Quarantine>,
    /// Where a stream is met that goes on meanwhile.
    beside: Option<Arc<Beside>>,
}

/// Lets a snapshot be taken at once.
struct Open;

#[async_trait]
impl Gate for Open {
    async fn close(&self) {}
}

impl Desk {
    fn new(
        spec: &TaskSpec,
        checkpoint: &Checkpoint,
        from: &Position,
        limits: &Limits,
        budget: &MemoryBudget,
        report: &Reporter,
    ) -> Self {
        Desk {
            spec: spec.clone(),
            checkpoint: checkpoint.clone(),
            from: from.clone(),
            limits: *limits,
            budget: budget.clone(),
            report: report.clone(),
            jobs: Mutex::default(),
            idle: Mutex::default(),
            quarantine: Mutex::default(),
            beside: None,
        }
    }

    async fn run(self) -> Result<Vec<Phase>> {
        let workers = usize::from(self.plan().options.workers.clamp(1, 16));
        let (mut tables, mut jobs) = self.prepare(workers).await?;
        if quarantines(self.plan()) && !jobs.is_empty() {
            let quarantine = Quarantine::read(&self.spec).await?;
            *self
                .quarantine
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = quarantine;
        }
        let desk = Arc::new(self);
        let mut depth = 0;
        while !jobs.is_empty() {
            // Tables that derived cascades lead to come after those they lead from.
            let (now, later): (Vec<_>, Vec<_>) = jobs
                .into_iter()
                .partition(|job| desk.plan().cascade_depth(job.target) <= depth);
            (jobs, depth) = (later, depth + 1);
            for (target, chunk) in Arc::clone(&desk).load(now, workers).await? {
                if let Some(Some(chunks)) = tables.get_mut(target) {
                    chunks.push(chunk);
                }
            }
        }
        let phases = tables.into_iter().enumerate();
        phases
            .map(|(target, chunks)| desk.finish(target, chunks))
            .collect()
    }

    /// Loads chunks, several at a time.
    async fn load(self: Arc<Self>, jobs: Vec<Job>, workers: usize) -> Result<Vec<Done>> {
        let workers = workers.min(jobs.len());
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = jobs.into();
        // Dropped with this future.
        let mut running = JoinSet::new();
        for _ in 0..workers {
            running.spawn(Arc::clone(&self).work());
        }
        let mut all = Vec::new();
        while let Some(ended) = running.join_next().await {
            let done = ended.unwrap_or_else(|panic| {
                Err(Error::bug("a worker of the load panicked").caused_by(panic))
            });
            match done {
                Ok(done) => all.extend(done),
                Err(error) => {
                    running.shutdown().await;
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    fn plan(&self) -> &Arc<Plan> {
        &self.spec.plan
    }

    /// Whether a table is compared instead of loaded, and if so, also if the task has loaded it before.
    fn compares(&self, target: usize) -> Option<bool> {
        let table = self.plan().targets.get(target)?;
        self.spec.compares.get(&table.name).copied()
    }

    fn known(&self, target: usize) -> Option<&TableCheckpoint> {
        let table = self.plan().targets.get(target)?;
        let mut known = self.checkpoint.tables.iter();
        known.find(|known| known.target == table.name)
    }

    /// For each target the chunks that are there (`None`: it is Live), and all that are missing,
    /// those of the largest tables first.
    async fn prepare(&self, workers: usize) -> Result<(Vec<Option<Vec<LoadedChunk>>>, Vec<Job>)> {
        let plan = self.plan();
        let targets = 0..plan.targets.len();
        let live = |target| {
            self.known(target)
                .is_some_and(|t| t.phase == TablePhase::Live)
        };
        let loose = if plan.operations.insert && !targets.clone().all(live) {
            let loose = self.spec.target.loose(plan).await;
            loose.map_err(|e| e.at(Side::Target))?
        } else {
            Vec::new()
        };
        let prepared = targets.map(|target| {
            let loose = loose.get(target).copied().unwrap_or(false);
            let prepared = self.prepare_table(target, loose);
            prepared.map_err(move |error| self.of(target, error))
        });
        let prepared: Vec<_> = stream::iter(prepared)
            .buffered(workers)
            .try_collect()
            .await?;
        let (tables, jobs): (Vec<_>, Vec<_>) = prepared.into_iter().unzip();
        let mut jobs: Vec<Job> = jobs.into_iter().flatten().collect();
        let rows = |job: &Job| {
            let source = plan.sources.get(job.source)?;
            source.schema.estimated_rows
        };
        // Stable: the chunks of a table stay in the order of their keys.
        jobs.sort_by_key(|job| Reverse(rows(job)));
        Ok((tables, jobs))
    }

    /// Decides what is to be done for a table, and empties it if it is cut. Gives its chunks
    /// that are there (`None`: it is Live) and those that are missing.
    async fn prepare_table(
        &self,
        target: usize,
        loose: bool,
    ) -> Result<(Option<Vec<LoadedChunk>>, Vec<Job>)> {
        let plan = self.plan();
        let known = self.known(target);
        let phase = known.map_or(&TablePhase::Waiting, |known| &known.phase);
        let loaded = known.and_then(|known| known.loaded_rows);
        let there = match phase {
            TablePhase::Live => {
                self.tell(target, loaded.unwrap_or(0), status::TablePhase::Live);
                return Ok((None, Vec::new()));
            }
            // Without INSERT nothing is loaded; what an earlier choice has loaded stays.
            TablePhase::Waiting if !plan.operations.insert => return Ok((None, Vec::new())),
            TablePhase::Loading(chunks) if !plan.operations.insert => {
                return Ok((Some(chunks.clone()), Vec::new()));
            }
            TablePhase::Waiting => None,
            TablePhase::Loading(chunks) => Some(chunks),
        };
        let shared = self.spec.source.shared_snapshot();
        // One that was taken when the task began has not seen what was streamed since.
        let shared = shared.filter(|_| self.beside.is_none());
        let moments = loose && takes_moments(plan, target);
        let whole = known.is_some_and(|known| known.whole);
        let there = match there {
            Some(chunks) if self.may_go_on(target, chunks, moments, shared.as_ref())? => {
                Some(chunks.clone())
            }
            _ => None,
        };
        let begun = there.is_some();
        let compares = matches!(phase, TablePhase::Waiting)
            && self
                .compares(target)
                .is_some_and(|ours| ours || loaded.is_none());
        // Rows of an earlier load of this task are its own to replace.
        let existing = match (loaded, plan.options.existing_rows) {
            _ if compares => ExistingRows::Compare,
            (Some(_), _) => ExistingRows::Replace,
            (None, ExistingRows::Compare) => ExistingRows::Refuse,
            (None, chosen) => chosen,
        };
        let chunks = there.unwrap_or_default();
        if let Some(beside) = &self.beside {
            beside.decided(target, &chunks);
        }
        let ledger = Ledger::new(plan, &chunks)?;
        let mut jobs = Vec::new();
        for (feed, source) in feeds(plan, target) {
            for range in ledger.gaps(source) {
                let cut = !compares && (shared.is_some() || (moments && !whole));
                let ranges = self.cut(source, range, cut).await?;
                jobs.extend(ranges.into_iter().map(|range| Job {
                    target,
                    feed,
                    source,
                    range,
                    existing: None,
                    moment: shared.clone().filter(|_| !moments && !compares),
                }));
            }
        }
        let phase = match jobs.is_empty() {
            true => status::TablePhase::CatchingUp,
            false => status::TablePhase::Copying,
        };
        let rows = chunks.iter().map(|chunk| chunk.rows).sum();
        self.tell(target, rows, phase);
        self.report.table(target, |status| {
            status.chunks_loaded = chunks.len() as u64;
            status.chunks = (chunks.len() + jobs.len()) as u64;
        });
        match jobs.as_mut_slice() {
            [only] if !begun => only.existing = Some(existing),
            [first, ..] if !begun => self.empty(target, first.feed, existing).await?,
            _ => {}
        }
        Ok((Some(chunks), jobs))
    }

    /// Whether the chunks that are there can be kept: their rows may be of several moments, or are
    /// and will be of one, or nobody asks for their moment any more.
    fn may_go_on(
        &self,
        target: usize,
        chunks: &[LoadedChunk],
        moments: bool,
        shared: Option<&Visibility>,
    ) -> Result<bool> {
        let plan = self.plan();
        let mut ledger = Ledger::new(plan, chunks)?;
        let whole = feeds(plan, target).all(|(_, source)| ledger.gaps(source).is_empty());
        let source = &self.spec.source;
        Ok(moments
            || shared.is_some_and(|shared| ledger.visibilities().all(|seen| seen == shared))
            || whole && ledger.visibilities().count() < 2
            || whole && ledger.passed(|seen| source.passed(&self.from, seen))?)
    }

    /// The ranges a gap is loaded in.
    async fn cut(
        &self,
        source: usize,
        range: Option<KeyRange>,
        cut: bool,
    ) -> Result<Vec<Option<KeyRange>>> {
        // A gap between chunks is never all of a table: it may be read at another moment.
        if !cut {
            return Ok(vec![range]);
        }
        let whole = self.as_chunk(source, range)?;
        let size = self.limits.chunk(self.plan().options.chunk_rows);
        let parts = self.spec.source.split(&whole, size).await;
        let parts = parts.map_err(|e| e.at(Side::Source))?;
        let ranges: Vec<_> = parts.into_iter().map(|part| part.range).collect();
        let first_of_key = whole.schema.primary_key.first();
        let by_key = |range: &Option<KeyRange>| {
            range
                .as_ref()
                .is_none_or(|range| Some(&range.column) == first_of_key)
        };
        if !tiles(&whole.range, &ranges) || !ranges.iter().all(by_key) {
            return Err(
                Error::bug("a table was cut into chunks that do not make it up").at(Side::Source),
            );
        }
        Ok(ranges)
    }

    fn as_chunk(&self, source: usize, range: Option<KeyRange>) -> Result<Chunk> {
        let table = self.plan().sources.get(source);
        let table = table.ok_or_else(|| Error::bug("a target without a source"))?;
        Ok(Chunk {
            table: source,
            schema: table.schema.clone(),
            range,
            empty: false,
        })
    }

    /// Opens a chunk at the source.
    async fn open(&self, target: usize, chunk: &Chunk) -> Result<Box<dyn ChunkReader>> {
        let source = &self.spec.source;
        let limits = self.limits.stream(self.plan().options.row_bytes_max);
        let Some(beside) = &self.beside else {
            return source.read(chunk, &self.from, limits).await;
        };
        let range = chunk.range.as_ref();
        let from = beside.begin(target, chunk.table, range).await;
        let reader = source.read_now(chunk, &from, limits, &Open).await?;
        beside.sees(target, chunk.table, range, reader.visibility());
        Ok(reader)
    }

    /// Begins the load of a table that is cut.
    async fn empty(&self, target: usize, feed: usize, existing: ExistingRows) -> Result<()> {
        let mut loader = self.loader().await?;
        loader.begin(target, feed).await?;
        let fingerprint = self.plan().fingerprint(target);
        loader.empty(existing, &fingerprint).await?;
        loader.commit(None, &[]).await?;
        self.put_back(loader);
        Ok(())
    }

    async fn loader(&self) -> Result<Box<dyn Loader>> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(loader) = idle {
            return Ok(loader);
        }
        let (key, epoch) = (&self.spec.key, self.checkpoint.epoch);
        let plan = Arc::clone(self.plan());
        self.spec.target.open_loader(key, epoch, plan).await
    }

    fn put_back(&self, loader: Box<dyn Loader>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(loader);
    }

    /// One worker: loads chunks as long as there are any.
    async fn work(self: Arc<Self>) -> Result<Vec<Done>> {
        let mut done = Vec::new();
        let (mut rows, mut out) = (RowBatch::new(), RowBatch::new());
        loop {
            let next = self
                .jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(job) = next else { return Ok(done) };
            let again = job.clone();
            let mut reported = 0;
            let copied = self.copy(job, &mut rows, &mut out, &mut reported).await;
            done.push(match copied {
                Err(error) if self.may_sift(&again, &error) => {
                    info!(task = %self.spec.key, error = %error.chain(), "a row is refused: it is looked for");
                    rows.clear();
                    out.clear();
                    self.report.table(again.target, |status| {
                        status.loaded_rows = status.loaded_rows.saturating_sub(reported);
                    });
                    let target = again.target;
                    let sifted = self.sift(again, &mut rows, &mut out).await;
                    sifted.map_err(|error| self.of(target, error))?
                }
                copied => copied.map_err(|error| self.of(again.target, error))?,
            });
        }
    }

    /// An error that the load of a table has met.
    fn of(&self, target: usize, error: Error) -> Error {
        let table = self.plan().targets.get(target);
        match table.filter(|_| self.beside.is_some()) {
            Some(table) => error.of_joining(&table.name),
            None => error,
        }
    }

    /// Whether a chunk that the target has refused is loaded without the rows that are to blame.
    fn may_sift(&self, job: &Job, error: &Error) -> bool {
        let table = self.plan().targets.get(job.target);
        let apart = table.is_some_and(|table| !table.merged() && !table.key.is_empty());
        // Of a table that is compared no row is read.
        let reads = job.existing != Some(ExistingRows::Compare);
        error.kind() == Kind::Data && quarantines(self.plan()) && apart && reads
    }

    /// Loads a chunk; rows that are refused go into quarantine.
    async fn sift(&self, job: Job, rows: &mut RowBatch, out: &mut RowBatch) -> Result<Done> {
        let plan = self.plan();
        let (target, feed, source) = (job.target, job.feed, job.source);
        let at_source = |error: Error| error.at(Side::Source);
        let chunk = self.as_chunk(source, job.range)?;
        let mut reader = self.open(target, &chunk).await.map_err(at_source)?;
        let mut loader = self.loader().await?;
        loader.begin(target, feed).await?;
        if let Some(existing) = job.existing {
            loader.empty(existing, &plan.fingerprint(target)).await?;
        }
        let place = format!("load at {}", self.from);
        let (mut loaded, mut held, mut kept) = (0, Vec::new(), Vec::new());
        while reader.next(rows).await.map_err(at_source)? {
            kept.clear();
            let (changed, mut refused) =
                plan.project_rows_sifted(target, feed, rows, out, &mut kept)?;
            let memory = self.budget.take(rows.held_bytes() + out.held_bytes()).await;
            let more = rows.len() as u64;
            for (at, error) in loader.load_sifted(out).await? {
                let row = kept.get(at).copied();
                refused.push((
                    row.ok_or_else(|| Error::bug("a refused row of none"))?,
                    error,
                ));
            }
            let more = more.saturating_sub(refused.len() as u64);
            {
                let mut quarantine = self
                    .quarantine
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                for (row, error) in refused {
                    let why = (place.as_str(), error);
                    held.push(quarantine.load(plan, (target, feed), rows, row, why)?);
                }
            }
            self.report
                .loaded(source, target, more, rows.bytes(), out.bytes());
            self.report.changed(&changed);
            rows.clear();
            out.clear();
            drop(memory);
            loaded += more;
        }
        let refused = held.len() as u64;
        let seen = reader.visibility().clone();
        let done = self
            .enter((job.moment, target), seen, chunk, loaded, loader, &held)
            .await?;
        self.report
            .table(target, |status| status.refused += refused);
        Ok(done)
    }

    /// Loads a chunk; `reported` counts its rows that were told.
    async fn copy(
        &self,
        job: Job,
        rows: &mut RowBatch,
        out: &mut RowBatch,
        reported: &mut u64,
    ) -> Result<Done> {
        let plan = self.plan();
        let (target, source) = (job.target, job.source);
        let at_source = |error: Error| error.at(Side::Source);
        let mut chunk = self.as_chunk(source, job.range)?;
        // What is there counts as copied at this moment, and is repaired when the table is Live.
        chunk.empty = job.existing == Some(ExistingRows::Compare);
        let mut reader = self.open(target, &chunk).await.map_err(at_source)?;
        let mut loader = self.loader().await?;
        loader.begin(target, job.feed).await?;
        if let Some(existing) = job.existing {
            loader.empty(existing, &plan.fingerprint(target)).await?;
        }
        // Between two systems of a kind rows need not be taken apart.
        let relayed = plan.is_plain(target, job.feed)
            && loader
                .wire()
                .is_some_and(|form| reader.wire() == Some(form));
        if relayed {
            reader.relay();
        }
        let mut loaded = 0;
        while !chunk.empty && reader.next(rows).await.map_err(at_source)? {
            let changed = match relayed {
                true => {
                    std::mem::swap(rows, out);
                    Changed::default()
                }
                false => plan.project_rows(target, job.feed, rows, out)?,
            };
            // What was read is not kept beside what is written, nor that beside what is read next.
            let (read, written) = match relayed {
                true => (out.bytes(), out.bytes()),
                false => (rows.bytes(), out.bytes()),
            };
            let more = out.len() as u64;
            rows.clear();
            let held = self.budget.take(rows.held_bytes() + out.held_bytes()).await;
            match relayed {
                true => loader.load_wire(out).await?,
                false => loader.load(out).await?,
            }
            out.clear();
            drop(held);
            loaded += more;
            self.report.loaded(source, target, more, read, written);
            *reported += more;
            self.report.changed(&changed);
        }
        let seen = reader.visibility().clone();
        self.enter((job.moment, target), seen, chunk, loaded, loader, &[])
            .await
    }

    /// Enters a chunk that was written into the ledger.
    async fn enter(
        &self,
        (moment, target): (Option<Visibility>, usize),
        seen: Visibility,
        chunk: Chunk,
        loaded: u64,
        mut loader: Box<dyn Loader>,
        held: &[Held],
    ) -> Result<Done> {
        if moment.is_some_and(|moment| moment != seen) {
            return Err(
                Error::transient("the snapshot that the load shares has ended").at(Side::Source),
            );
        }
        let source = chunk.table;
        let chunk = LoadedChunk {
            source: chunk.schema.name,
            range: chunk.range,
            seen,
            rows: loaded,
        };
        loader.commit(Some(&chunk), held).await?;
        self.put_back(loader);
        if let Some(beside) = &self.beside {
            beside.there(target, source, &chunk, !held.is_empty());
        }
        self.report.table(target, |status| {
            status.chunks_loaded += 1;
            if status.chunks_loaded >= status.chunks {
                status.phase = status::TablePhase::CatchingUp;
            }
        });
        Ok((target, chunk))
    }

    /// The phase of a table whose chunks are all there.
    fn finish(&self, target: usize, chunks: Option<Vec<LoadedChunk>>) -> Result<Phase> {
        let Some(chunks) = chunks else {
            return Ok(Phase::Live);
        };
        let plan = self.plan();
        let ledger = Ledger::new(plan, &chunks)?;
        let mut gaps = feeds(plan, target).map(|(_, source)| ledger.gaps(source));
        if plan.operations.insert && gaps.any(|gaps| !gaps.is_empty()) {
            return Err(Error::bug("a table is loaded and has gaps"));
        }
        Ok(Phase::Loaded(ledger))
    }

    /// Publishes what is there of a table before anything is loaded.
    fn tell(&self, target: usize, rows: u64, phase: status::TablePhase) {
        self.report.table(target, |status| {
            // Otherwise it is a later attempt of the same run; what it had in flight is gone.
            if status.loaded_rows == 0 {
                status.loaded_earlier = rows;
            }
            status.loaded_rows = rows;
            status.loaded_earlier = status.loaded_earlier.min(rows);
            status.phase = phase;
        });
    }
}

/// The feeds of a target: index and source table.
pub(crate) fn feeds(plan: &Plan, target: usize) -> impl Iterator<Item = (usize, usize)> {
    let table = plan.targets.get(target).into_iter();
    let sources = table.flat_map(|table| table.feeds.iter().map(|feed| feed.source));
    sources.enumerate()
}
