//! One verification, from its first table to its last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rustc_hash::FxHashSet;
use thalweg_core::batch::TableOp;
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Chunk, Compared, Comparer, Differs, Gate, Inspect};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::range::KeyRange;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result, Side};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::rows::{blank, cut_column, open, repairs, shown, some, sum, with_fix};
use super::{Finding, Progress, Report, Request, RowReport, TableReport};
use crate::answers::while_answering;
use crate::barrier::{Barrier, Sees};
use crate::batch::key_hash;
use crate::limits::{Limits, MemoryBudget};
use crate::retry::{Action, action};
use crate::status::now_ms;
use crate::task::TaskSpec;

/// Differences of one table that are told one by one.
const TOLD_MAX: usize = 1000;
/// Differences of one range that the target tells one by one, by number and by bytes of their rows.
const RANGE_MAX: u64 = 10_000;
const RANGE_BYTES: u64 = 16 << 20;
/// Rows that are repaired in one transaction: the stream stands still meanwhile.
const REPAIR_ROWS: usize = 500;
/// How often the same rows are repaired.
const STUCK_MAX: u32 = 3;
/// How long a range rests before it is compared again, times the times it was, up to twenty.
const REST: Duration = Duration::from_millis(100);
/// How often a range is compared again because keys were disputed or moved.
const AGAIN_MAX: u32 = 30;
/// How long the stream may need to come to the barrier, and past it.
const REACH: Duration = Duration::from_secs(60);
/// A range is read within about so long.
const RANGE_SECONDS: u64 = 10;

const NOT_STAY: &str = "rows that were repaired differ again: something else changes them at the target. \
    Fix: look for a trigger of the target table, or for who else writes to it";
const CHANGING: &str = "rows kept changing while they were compared, so that nothing can be said of them. \
    Fix: verify the table again, when less goes on in it";

/// What makes one verification.
pub(super) struct Verifier<'a> {
    pub(super) spec: &'a TaskSpec,
    pub(super) limits: &'a Limits,
    pub(super) budget: &'a MemoryBudget,
    pub(super) barrier: &'a Barrier,
    pub(super) request: &'a Request,
    pub(super) report: &'a watch::Sender<Report>,
}

/// What the source says of visibilities.
impl Sees for TaskSpec {
    fn contains(&self, seen: &Visibility, id: &TxId) -> Result<bool> {
        self.source.contains(seen, id)
    }

    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool> {
        self.source.passed(at, seen)
    }
}

/// Holds the stream for a moment, once.
struct Hold<'a>(&'a Barrier, AtomicBool);

#[async_trait]
impl Gate for Hold<'_> {
    async fn close(&self) {
        if !self.1.swap(true, Ordering::Relaxed) {
            self.0.hold();
        }
    }
}

/// Ends what is under way at the barrier when it is dropped.
struct Under<'a>(&'a Barrier);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What was reported of a range.
#[derive(Default)]
struct Told {
    /// Hashes of the keys of rows.
    keys: FxHashSet<u64>,
    /// All that differ were counted, and not all were told.
    all: bool,
}

/// One comparison of one range.
struct Round {
    at: Position,
    rows: u64,
    hash: u128,
    /// Without those that are disputed.
    compared: Compared,
    /// Differing rows that have to be looked at again.
    open: bool,
    /// Rows were told that were not before.
    new: bool,
    repaired: u64,
    /// Rows that were not repaired because they have changed meanwhile.
    moved: u64,
    /// Why a row could not be repaired.
    refused: Option<Error>,
}

impl Verifier<'_> {
    fn plan(&self) -> &Plan {
        &self.spec.plan
    }

    pub(super) async fn run(&self) {
        let plan = self.plan();
        let asked = |target: &usize| {
            let table = plan.targets.get(*target);
            self.request.tables.is_empty()
                || table.is_some_and(|table| self.request.tables.contains(&table.name))
        };
        let targets: Vec<usize> = (0..plan.targets.len()).filter(asked).collect();
        self.report.send_modify(|report| {
            report.progress = Progress::Running;
            report.tables = targets.iter().map(|target| blank(plan, *target)).collect();
        });
        for (place, target) in targets.into_iter().enumerate() {
            self.table(place, target).await;
        }
        info!(task = %self.spec.key, "verification done");
        self.report.send_modify(|report| {
            report.progress = Progress::Done;
            report.waits = None;
        });
    }

    fn tell(&self, place: usize, change: impl FnOnce(&mut TableReport)) {
        self.report.send_modify(|report| {
            if let Some(table) = report.tables.get_mut(place) {
                change(table);
            }
        });
    }

    /// Verifies one table. What passes by itself is waited for.
    async fn table(&self, place: usize, target: usize) {
        let begun = Instant::now();
        self.tell(place, |table| table.finding = Finding::Running);
        let finding = match self.compare_table(place, target).await {
            Ok(finding) => finding,
            Err(error) => {
                warn!(task = %self.spec.key, error = %error.chain(), "a table is not verified");
                Finding::Failed(with_fix(&error))
            }
        };
        self.tell(place, |table| {
            table.finding = finding;
            table.at_ms = now_ms();
            table.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        });
    }

    async fn compare_table(&self, place: usize, target: usize) -> Result<Finding> {
        let plan = self.plan();
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        if table.merged() {
            return Err(Error::config("a table of several sources is not compared")
                .with_hint("compare its columns by the sources' keys by hand"));
        }
        if !(plan.operations.insert && plan.operations.update) {
            let text =
                "a task without INSERT or UPDATE leaves rows as they are, so they are not compared";
            return Err(Error::config(text).with_hint("let the task carry over both"));
        }
        self.no_row_waits(target)?;
        let quarantine = &self.spec.quarantine;
        let before = quarantine.changes(target);
        let mut attempt = 0;
        let ranges = loop {
            match self.cut(target).await {
                Ok(ranges) => break ranges,
                Err(error) => self.wait(error, &mut attempt).await?,
            }
        };
        let mut comparer = None;
        let mut differs = false;
        let mut failed = None;
        for range in ranges {
            let mut told = Told::default();
            let (mut again, mut stuck) = (0, 0);
            loop {
                let mut attempt = 0;
                let round = loop {
                    let round =
                        self.round((place, target), range.as_ref(), &mut told, &mut comparer);
                    match round.await {
                        Ok(round) => break round,
                        Err(error) => self.wait(error, &mut attempt).await?,
                    }
                };
                self.report.send_if_modified(|r| r.waits.take().is_some());
                again += 1;
                stuck += u32::from(round.repaired > 0 && !round.new);
                let repaired = round.repaired > 0 && stuck < STUCK_MAX;
                let changes = (round.open || round.moved > 0) && again < AGAIN_MAX;
                if repaired || changes {
                    tokio::time::sleep(REST * again.min(20)).await;
                    continue;
                }
                differs |= !round.compared.is_equal();
                let why = match round.refused {
                    Some(error) => Some(with_fix(&error)),
                    None if stuck >= STUCK_MAX => Some(NOT_STAY.to_owned()),
                    None if round.open || round.moved > 0 => Some(CHANGING.to_owned()),
                    None => None,
                };
                failed = failed.or(why);
                self.tell(place, |table| {
                    table.position = Some(round.at);
                    table.rows += round.rows;
                    table.hash = table.hash.wrapping_add(round.hash);
                });
                break;
            }
        }
        if quarantine.changes(target) != before {
            let text = "rows of it went into quarantine while it was compared";
            return Err(
                Error::config(text).with_hint("release or discard them, then verify it again")
            );
        }
        if let Some(why) = failed {
            return Ok(Finding::Failed(why));
        }
        let report = self.report.borrow();
        let found = report.tables.get(place);
        let found = found.is_some_and(|table| table.changed + table.missing + table.extra > 0);
        Ok(match (differs, found) {
            (true, _) => Finding::Different,
            (false, true) => Finding::Repaired,
            (false, false) => Finding::Equal,
        })
    }

    /// Reports what differs, unless it was reported of this range before. Whether there were rows that
    /// were not.
    fn found(&self, (place, target): (usize, usize), compared: &Compared, told: &mut Told) -> bool {
        let Some(table) = self.plan().targets.get(target) else {
            return false;
        };
        let all = compared.changed + compared.missing + compared.extra;
        let listed = compared.differences.len() as u64;
        let name = |column: &usize| {
            let column = table.columns.get(*column);
            column.map_or(String::new(), |column| column.name.clone())
        };
        let mut new = Vec::new();
        let mut counts = [0; 3];
        let before = told.keys.len();
        for difference in &compared.differences {
            let row = compared.rows.row(difference.row);
            if !told.keys.insert(key_hash(row, &table.key)) {
                continue;
            }
            let [changed, missing, extra] = &mut counts;
            *match difference.differs {
                Differs::Changed => changed,
                Differs::Missing => missing,
                Differs::Extra => extra,
            } += 1;
            let cell =
                |column: &usize| (name(column), row.cell(*column).map_or(String::new(), shown));
            if new.len() < TOLD_MAX {
                new.push(RowReport {
                    key: table.key.iter().map(cell).collect(),
                    differs: difference.differs,
                    columns: difference.columns.iter().map(name).collect(),
                });
            }
        }
        let any = told.keys.len() > before;
        if told.all {
            return any;
        }
        if listed < all {
            // The others cannot be told from those that another round finds.
            told.all = true;
            counts = [compared.changed, compared.missing, compared.extra];
        }
        self.tell(place, |report| {
            let [changed, missing, extra] = counts;
            report.changed += changed;
            report.missing += missing;
            report.extra += extra;
            let room = TOLD_MAX.saturating_sub(report.differences.len());
            report.differences.extend(new.into_iter().take(room));
        });
        any
    }

    /// Waits before what trouble that passes has interrupted is tried again; an error that does not
    /// pass is given back.
    async fn wait(&self, error: Error, attempt: &mut u32) -> Result<()> {
        *attempt += 1;
        match action(error.kind(), *attempt, self.limits) {
            Action::Retry(wait) if *attempt < AGAIN_MAX => {
                let why = error.chain();
                self.report.send_modify(|report| report.waits = Some(why));
                tokio::time::sleep(wait).await;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn chunk(&self, target: usize, range: Option<KeyRange>) -> Result<Chunk> {
        let plan = self.plan();
        let missing = || Error::bug("a target without a source");
        let feed = plan
            .targets
            .get(target)
            .and_then(|table| table.feeds.first());
        let source = feed.ok_or_else(missing)?.source;
        let schema = &plan.sources.get(source).ok_or_else(missing)?.schema;
        Ok(Chunk {
            table: source,
            schema: schema.clone(),
            range,
            empty: false,
        })
    }

    /// The ranges a table is compared in.
    async fn cut(&self, target: usize) -> Result<Vec<Option<KeyRange>>> {
        let whole = self.chunk(target, None)?;
        if cut_column(self.plan(), target).is_none() {
            return Ok(vec![None]);
        }
        let mut size = self.limits.chunk(self.plan().options.chunk_rows);
        if let Some(rate) = self.request.rows_per_second {
            size.rows = size.rows.min((rate * RANGE_SECONDS).max(1));
        }
        let parts = self.spec.source.split(&whole, size).await;
        let parts = parts.map_err(|error| error.at(Side::Source))?;
        Ok(parts.into_iter().map(|part| part.range).collect())
    }

    /// Compares a range once, and repairs what differs if it is to be.
    async fn round(
        &self,
        (place, target): (usize, usize),
        range: Option<&KeyRange>,
        told: &mut Told,
        kept: &mut Option<Box<dyn Comparer>>,
    ) -> Result<Round> {
        let at_target = |error: Error| error.at(Side::Target);
        // After an error it is of no more use.
        let mut comparer = match kept.take() {
            Some(comparer) => comparer,
            None => {
                let plan = Arc::clone(&self.spec.plan);
                self.spec
                    .target
                    .open_comparer(plan)
                    .await
                    .map_err(at_target)?
            }
        };
        comparer.prepare(target).await.map_err(at_target)?;
        let (source, to) = (&*self.spec.source, &*self.spec.target);
        let systems: [(Side, &dyn Inspect); 2] = [(Side::Source, source), (Side::Target, to)];
        let look = self.look((place, target), range, told, comparer.as_mut());
        let round = while_answering(look, &systems, || 0).await?;
        *kept = Some(comparer);
        Ok(round)
    }

    async fn look(
        &self,
        (place, target): (usize, usize),
        range: Option<&KeyRange>,
        told: &mut Told,
        comparer: &mut dyn Comparer,
    ) -> Result<Round> {
        let (spec, barrier, plan) = (self.spec, self.barrier, self.plan());
        let at_source = |error: Error| error.at(Side::Source);
        let at_target = |error: Error| error.at(Side::Target);
        let chunk = self.chunk(target, range.cloned())?;
        let there = match range {
            None => None,
            Some(range) => Some(KeyRange {
                column: cut_column(plan, target)
                    .ok_or_else(|| Error::bug("a range of a table that has none"))?,
                ..range.clone()
            }),
        };
        let under = Under(barrier);
        let from = barrier.begin(plan, target).await?;
        self.no_row_waits(target)?;
        let limits = self.limits.stream(plan.options.row_bytes_max);
        let gate = Hold(barrier, AtomicBool::new(false));
        let reader = spec.source.read_now(&chunk, &from, limits, &gate);
        let mut reader = reader.await.map_err(at_source)?;
        barrier.seen(reader.visibility(), spec)?;
        let at = barrier.reached(REACH).await?;
        comparer.open(there.as_ref()).await.map_err(at_target)?;
        barrier.opened()?;

        let begun = Instant::now();
        let (mut count, mut bytes, mut hash) = (0, 0, 0);
        let (mut rows, mut out) = (RowBatch::new(), RowBatch::new());
        while reader.next(&mut rows).await.map_err(at_source)? {
            barrier.goes_on()?;
            plan.project_rows(target, 0, &rows, &mut out)?;
            let held = self.budget.take(rows.held_bytes() + out.held_bytes()).await;
            for row in out.iter() {
                hash = sum(hash, row);
            }
            comparer.expect(&out).await.map_err(at_target)?;
            drop(held);
            count += out.len() as u64;
            bytes += out.bytes() as u64;
            rows.clear();
            out.clear();
            let hurries = self.request.hurries && self.spec.orders.waits();
            if let Some(rate) = self.request.rows_per_second.filter(|_| !hurries) {
                let due = Duration::from_secs_f64(count as f64 / rate.max(1) as f64);
                tokio::time::sleep_until(begun + due).await;
            }
        }
        drop(reader);
        let limit = RANGE_BYTES / (bytes / count.max(1)).max(1);
        let limit = usize::try_from(limit.clamp(10, RANGE_MAX)).unwrap_or(10);
        let mut compared = comparer.compare(limit).await.map_err(at_target)?;
        // Before the stream is waited for: somebody else may wait for the table, and the stream for that.
        comparer.close().await.map_err(at_target)?;
        let disputed = barrier.disputed(REACH).await?;
        self.leave_out(&mut compared);
        let open = open(plan, target, &mut compared, &disputed);
        // Before it is repaired: whatever becomes of that, it was found.
        let new = self.found((place, target), &compared, told);
        let mut round = Round {
            at,
            rows: count,
            hash,
            open,
            new,
            compared,
            repaired: 0,
            moved: 0,
            refused: None,
        };
        if self.request.repair {
            self.repair((place, target), &mut round).await?;
        }
        drop(under);
        Ok(round)
    }

    /// An error if rows of a table are in quarantine: they differ, and why is known.
    fn no_row_waits(&self, target: usize) -> Result<()> {
        match self.spec.quarantine.changes(target).0 {
            0 => Ok(()),
            changes => Err(
                Error::config(format!("{changes} changes of it lie in quarantine"))
                    .with_hint("release or discard them first: thalweg quarantine list TASK"),
            ),
        }
    }

    /// Repairs what differs, a few hundred rows at a time. Of rows that the target refuses together each
    /// gets its turn.
    async fn repair(&self, (place, target): (usize, usize), round: &mut Round) -> Result<()> {
        let rows = std::mem::take(&mut round.compared.rows);
        let all = repairs(target, &round.compared);
        let mut waiting: VecDeque<Vec<TableOp>> =
            all.chunks(REPAIR_ROWS).map(<[TableOp]>::to_vec).collect();
        while let Some(part) = waiting.pop_front() {
            self.no_row_waits(target)?;
            let error = match self.barrier.repair(some(&rows, &part), REACH).await? {
                Ok(done) => {
                    round.repaired += done.rows;
                    round.moved += done.moved;
                    self.tell(place, |table| table.repaired += done.rows);
                    continue;
                }
                Err(error) => error.at(Side::Target),
            };
            if error.kind() == Kind::Data && part.len() > 1 {
                let (first, second) = part.split_at(part.len() / 2);
                waiting.push_front(second.to_vec());
                waiting.push_front(first.to_vec());
                continue;
            }
            if error.kind() == Kind::Transient {
                return Err(error);
            }
            let goes_on = error.kind() == Kind::Data;
            round.refused.get_or_insert(error);
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Without an operation the task leaves rows as they are.
    fn leave_out(&self, compared: &mut Compared) {
        let operations = self.plan().operations;
        let counted = |differs: &Differs| match differs {
            Differs::Changed => operations.update,
            Differs::Missing => operations.insert,
            Differs::Extra => operations.delete,
        };
        for (differs, count) in [
            (Differs::Changed, &mut compared.changed),
            (Differs::Missing, &mut compared.missing),
            (Differs::Extra, &mut compared.extra),
        ] {
            if !counted(&differs) {
                *count = 0;
            }
        }
        compared.differences.retain(|d| counted(&d.differs));
    }
}
