//! One task, from the claim of its target to its end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use thalweg_core::checkpoint::{self, Checkpoint, TableCheckpoint, TablePhase, TaskKey};
use thalweg_core::mapping::{ExistingRows, ForeignKeys, OnBadRow};
use thalweg_core::plan::{Plan, TargetTable, source_difference};
use thalweg_core::ports::{Inspect, Source, Target};
use thalweg_core::position::{Layout, Position};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Kind, Result, Side};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::answers::while_answering;
use crate::barrier::Barrier;
use crate::batch::TouchedKeys;
use crate::beside::Beside;
use crate::limits::{Limits, MemoryBudget};
use crate::load::{load, load_beside};
use crate::other_log;
use crate::quarantine::{Quarantine, Ward};
use crate::retry::{Action, action};
use crate::status::{self, Reporter, TableStatus, TaskPhase, TaskStatus};
use crate::stream::{End, Streaming};
use crate::verify::{self, Orders};

/// How often in a row what was loaded is forgotten because its server was replaced.
const ELSEWHERE_MAX: u32 = 10;

/// What is to run.
#[derive(Clone)]
pub struct TaskSpec {
    /// Names the task at its target.
    pub key: TaskKey,
    /// What to do.
    pub plan: Arc<Plan>,
    /// Where changes come from.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub target: Arc<dyn Target>,
    /// Whether this is a later run: no checkpoint at the target is then `PositionLost` (a restored
    /// target, say) and never a silent load.
    pub expects_checkpoint: bool,
    /// Target tables that have their rows already and are compared and repaired instead of loaded, as
    /// [`ExistingRows::Compare`](thalweg_core::mapping::ExistingRows) says, each with whether it is so also if the task has
    /// loaded it before. Whoever asks for it has them repaired when they are Live.
    pub compares: BTreeMap<TableName, bool>,
    /// Where verifications are asked for.
    pub orders: Orders,
    /// Where rows in quarantine are released and discarded.
    pub quarantine: Ward,
    /// How often in a row what was loaded was forgotten because its server was replaced; over plans too.
    pub elsewhere: Arc<AtomicU32>,
}

/// Runs a task until `stop` is cancelled (`Ok`: the batch in flight is finished first) or an error
/// needs a person or, if it is a `Schema` error, perhaps another plan (`Err`). Transient trouble is waited out inside, from the checkpoint on, for as
/// long as it takes; `Fenced` is returned as it is and is nobody's trouble.
///
/// `status` is published at every change. Dropping the future at any moment is as a crash: nothing
/// is lost, and the next run goes on from the target's checkpoint.
pub async fn run(
    spec: TaskSpec,
    limits: Limits,
    budget: MemoryBudget,
    status: watch::Sender<TaskStatus>,
    stop: CancellationToken,
) -> Result<()> {
    let report = Reporter::new(status.clone(), &spec.plan);
    let mut spec = spec;
    let mut attempt = 0;
    let elsewhere = Arc::clone(&spec.elsewhere);
    let mut sifts = false;
    let barrier = Arc::new(Barrier::default());
    // Ends with this future.
    let mut verifier = JoinSet::new();
    verifier.spawn(verify::serve(
        spec.clone(),
        limits,
        budget.clone(),
        Arc::clone(&barrier),
    ));
    loop {
        let before = status.borrow().applied.clone();
        let live = |table: &TableStatus| table.phase == status::TablePhase::Live;
        let tables = status.borrow().tables.clone();
        if !tables.is_empty() && tables.iter().all(live) {
            elsewhere.store(0, Relaxed);
        }
        let outcome = run_once(
            &mut spec,
            (&limits, &budget),
            &report,
            &barrier,
            &stop,
            &mut sifts,
        )
        .await;
        barrier.interrupt();
        let error = match outcome {
            Ok(End::Stopped) => {
                report.phase(TaskPhase::Stopped);
                info!(task = %spec.key, "task stopped");
                return Ok(());
            }
            Ok(End::Elsewhere) if elsewhere.load(Relaxed) >= ELSEWHERE_MAX => {
                let error = Error::config(
                    "the source's tables were loaded from one server after the other, each of which was replaced \
                     before they were in",
                )
                .with_hint("give the data source the address of one server, the primary, and run the task again")
                .at(Side::Source);
                report.error(TaskPhase::Failed, &error, ELSEWHERE_MAX);
                return Err(error);
            }
            Ok(end @ (End::Again | End::Elsewhere)) => {
                match end {
                    End::Elsewhere => {
                        elsewhere.fetch_add(1, Relaxed);
                    }
                    _ => info!(task = %spec.key, "a table is loaded again, as one chunk"),
                }
                let options = &spec.plan.options;
                if options.existing_rows == ExistingRows::Compare {
                    // It may be compared again, which whoever plans decides.
                    report.phase(TaskPhase::Preparing);
                    return Ok(());
                }
                let enforces = options.foreign_keys == ForeignKeys::Enforce;
                let mut tables = spec.plan.targets.iter();
                if enforces && tables.any(|table| !table.foreign_keys.is_empty()) {
                    // Foreign keys may have gone with it, which this plan believes in.
                    report.phase(TaskPhase::Preparing);
                    return Ok(());
                }
                continue;
            }
            Ok(End::Refused(error)) => {
                info!(task = %spec.key, error = %error.chain(), "a row is refused: it is looked for");
                continue;
            }
            Err(error) => with_remedy(error),
        };
        attempt = if status.borrow().applied == before {
            attempt + 1
        } else {
            1
        };
        let action = match action(error.kind(), attempt, &limits) {
            // Whoever plans may leave the table out.
            Action::Fail if error.joining().is_some() => Action::Plan,
            action => action,
        };
        match action {
            Action::Retry(wait) => {
                warn!(task = %spec.key, attempt, error = %error.chain(), "task waits");
                report.error(TaskPhase::Waiting, &error, attempt);
                tokio::select! {
                    () = stop.cancelled() => {
                        report.phase(TaskPhase::Stopped);
                        return Ok(());
                    }
                    () = tokio::time::sleep(wait) => {}
                }
            }
            Action::Plan => {
                report.error(TaskPhase::Preparing, &error, attempt);
                return Err(error);
            }
            Action::Fail => {
                report.error(TaskPhase::Failed, &error, attempt);
                return Err(error);
            }
            Action::Yield => {
                report.phase(TaskPhase::Stopped);
                return Err(error);
            }
        }
    }
}

/// Whatever lost the position, one thing helps.
fn with_remedy(error: Error) -> Error {
    if error.kind() == Kind::PositionLost && error.hint().is_none() {
        return error.with_hint("reset the task, so that it loads again");
    }
    error
}

/// One attempt, from the claim on.
async fn run_once(
    spec: &mut TaskSpec,
    (limits, budget): (&Limits, &MemoryBudget),
    report: &Reporter,
    barrier: &Barrier,
    stop: &CancellationToken,
    sifts: &mut bool,
) -> Result<End> {
    let (source, to) = (Arc::clone(&spec.source), Arc::clone(&spec.target));
    let systems: [(Side, &dyn Inspect); 2] = [(Side::Source, &*source), (Side::Target, &*to)];
    let before_stream = async {
        report.phase(TaskPhase::Preparing);
        let target = |error: Error| error.at(Side::Target);
        spec.target
            .prepare(&spec.key, &spec.plan)
            .await
            .map_err(target)?;
        let mut checkpoint = spec.target.claim(&spec.key).await.map_err(target)?;
        check_fingerprints(&spec.plan, &checkpoint)?;
        find_keys(&spec.plan, &mut checkpoint);
        if other_log::forget(spec, &checkpoint).await? {
            return Ok(None);
        }
        let from = start(spec, &checkpoint).await?;
        let tables = as_of(&spec.plan, &checkpoint);
        report.start(&from);
        let beside = beside(&spec.plan, &checkpoint, &from);
        let phases = match &beside {
            Some(beside) => beside.phases(&spec.plan)?,
            None => {
                report.phase(TaskPhase::Loading);
                let loaded = load(spec, &checkpoint, &from, limits, budget, report).await;
                loaded.map_err(target)?
            }
        };
        let quarantine = Quarantine::read(spec).await?;
        let loaded = (phases, beside);
        Ok::<_, Error>(Some((checkpoint, from, loaded, tables, quarantine)))
    };
    let ready = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(End::Stopped),
        ready = while_answering(before_stream, &systems, || report.moved()) => ready?,
    };
    let Some((checkpoint, from, (phases, beside), tables, quarantine)) = ready else {
        return Ok(End::Elsewhere);
    };
    spec.expects_checkpoint = true;
    let apart = spec.target.capabilities().apart;
    spec.quarantine.tell(&quarantine.changes());
    report.quarantined(&quarantine.changes());
    // Ends with the stream.
    let mut load = JoinSet::new();
    if let Some(beside) = &beside {
        let (spec, from, checkpoint) = (spec.clone(), from.clone(), checkpoint.clone());
        let (limits, report) = (*limits, report.clone());
        let beside = Arc::clone(beside);
        load.spawn(async move {
            let systems: [(Side, &dyn Inspect); 2] =
                [(Side::Source, &*spec.source), (Side::Target, &*spec.target)];
            let meeting = Arc::clone(&beside);
            let load = load_beside(&spec, &checkpoint, &from, &limits, &report, meeting);
            let load = async { load.await.map_err(|error| error.at(Side::Target)) };
            let loaded = while_answering(load, &systems, || report.moved()).await;
            loaded.inspect_err(|_| beside.fail())
        });
    }
    let streamed = Streaming {
        spec,
        epoch: checkpoint.epoch,
        phases,
        beside: beside.clone(),
        load,
        known: 0,
        waits: false,
        tables,
        limits,
        report,
        spare: Vec::new(),
        in_parts: false,
        barrier,
        live: false,
        touched: apart.then(|| Arc::new(TouchedKeys::any())),
        quarantine,
        keys_wait: None,
        sifted: sifts.then_some(0),
        closed: VecDeque::new(),
        place: from.to_string(),
    }
    .run(from, budget, stop, sifts)
    .await;
    match streamed {
        // What is refused is no change of the log.
        Err(error) if beside.is_some_and(|beside| beside.has_failed()) => Err(error),
        Err(error) if error.kind() == Kind::Data && !*sifts && quarantines(&spec.plan) => {
            *sifts = true;
            Ok(End::Refused(error))
        }
        other => other.map_err(of_the_log),
    }
}

/// The tables that are loaded beside the stream; `None`: it waits for all, because there is none yet that it
/// could keep equal meanwhile.
fn beside(plan: &Plan, checkpoint: &Checkpoint, from: &Position) -> Option<Arc<Beside>> {
    let phase = |table: &TargetTable| {
        let mut known = checkpoint.tables.iter();
        let known = known.find(|known| known.target == table.name);
        known.map_or(&TablePhase::Waiting, |known| &known.phase)
    };
    let is_live = |phase: &TablePhase| *phase == TablePhase::Live;
    let phases: Vec<_> = plan.targets.iter().map(phase).collect();
    let live = phases.iter().filter(|phase| is_live(phase)).count();
    if !plan.operations.insert || live == 0 || live == phases.len() {
        return None;
    }
    let missing = phases.into_iter().map(|phase| match phase {
        TablePhase::Live => None,
        TablePhase::Waiting => Some(Vec::new()),
        TablePhase::Loading(chunks) => Some(chunks.clone()),
    });
    Some(Arc::new(Beside::new(missing.collect(), from.clone())))
}

/// Whether rows that the target refuses go into quarantine.
pub(crate) fn quarantines(plan: &Plan) -> bool {
    plan.options.on_bad_row == OnBadRow::Quarantine
}

/// A value in the log stays as it is, however often the row is corrected at the source.
fn of_the_log(error: Error) -> Error {
    if error.kind() != Kind::Data {
        return error;
    }
    let remedy = "once a row is corrected at the source, reset the task (or delete the table's \
                  mapping and add it again) before it runs: its log keeps the old value";
    let hint = match error.hint() {
        Some(hint) => format!("{hint}; {remedy}"),
        None => remedy.to_owned(),
    };
    error.with_hint(hint)
}

/// Where the stream begins: at the checkpoint, or at a place secured and stored now. The layouts of that
/// place are stored too: those of a table that was not followed are the present ones.
async fn start(spec: &TaskSpec, checkpoint: &Checkpoint) -> Result<Position> {
    let plan = &spec.plan;
    let layouts = layouts(&as_of(plan, checkpoint));
    let epoch = checkpoint.epoch;
    let applier = async || {
        let plan = Arc::clone(plan);
        let applier = spec.target.open_applier(&spec.key, epoch, plan).await;
        applier.map_err(|e| e.at(Side::Target))
    };
    if let Some(applied) = &checkpoint.applied {
        let same = layouts
            .iter()
            .all(|layout| checkpoint.layouts.contains(layout));
        if !same || layouts.len() != checkpoint.layouts.len() {
            let kept = applier().await?.keep_layouts(&layouts).await;
            kept.map_err(|e| e.at(Side::Target))?;
        }
        return Ok(applied.clone());
    }
    // A table that was followed lacks whatever happened since, whoever remembers the run.
    let followed = |table: &TableCheckpoint| table.phase != TablePhase::Waiting;
    if spec.expects_checkpoint || checkpoint.tables.iter().any(followed) {
        return Err(checkpoint::gone());
    }
    let sources = plan.sources.iter();
    let tables: Vec<_> = sources.map(|s| s.schema.name.clone()).collect();
    let secured = spec.source.secure(&tables).await;
    let from = secured.map_err(|e| e.at(Side::Source))?;
    still(spec, &tables).await.map_err(|e| e.at(Side::Source))?;
    let live = !plan.operations.insert;
    let tables: Vec<_> = (0..plan.targets.len())
        .map(|target| (target, plan.fingerprint(target), live))
        .collect();
    let mut applier = applier().await?;
    let started = async {
        // First: without a position they mean nothing.
        applier.keep_layouts(&layouts).await?;
        applier.start(&from, &tables).await
    };
    started.await.map_err(|e| e.at(Side::Target))?;
    Ok(from)
}

/// The source tables as they lie in the log at the checkpoint.
fn as_of(plan: &Plan, checkpoint: &Checkpoint) -> Vec<TableSchema> {
    let mut tables = plan.source_schemas();
    if checkpoint.applied.is_some() {
        for table in tables.iter_mut().filter(|table| table.layout.is_some()) {
            let mut stored = checkpoint.layouts.iter();
            let stored = stored.find(|(name, _)| *name == table.name);
            table.layout = stored.map_or(table.layout.take(), |(_, layout)| Some(layout.clone()));
        }
    }
    tables
}

fn layouts(tables: &[TableSchema]) -> Vec<(TableName, Layout)> {
    let with = |table: &TableSchema| Some((table.name.clone(), table.layout.clone()?));
    tables.iter().filter_map(with).collect()
}

/// Whether tables still lie as they did when the plan was made, so that this was so at a place secured
/// in between.
async fn still(spec: &TaskSpec, names: &[TableName]) -> Result<()> {
    let planned = layouts(&spec.plan.source_schemas());
    if planned.is_empty() {
        return Ok(());
    }
    let now = layouts(&spec.source.describe(names).await?);
    let same = |(table, layout): &&(TableName, Layout)| {
        let is = now.iter().find(|(name, _)| name == table);
        is.is_some_and(|(_, is)| spec.source.lies_same(layout, is))
    };
    match planned.iter().find(|planned| !same(planned)) {
        None => Ok(()),
        Some((table, _)) => Err(Error::schema(format!(
            "table {table} was changed while the task started"
        ))
        .with_hint("run the task again")),
    }
}

/// The columns of stored ranges as this plan numbers them: always the first of the primary key.
fn find_keys(plan: &Plan, checkpoint: &mut Checkpoint) {
    for table in &mut checkpoint.tables {
        let TablePhase::Loading(chunks) = &mut table.phase else {
            continue;
        };
        for chunk in chunks {
            let source = plan.sources.iter().find(|s| s.schema.name == chunk.source);
            let key = source.and_then(|source| source.schema.primary_key.first());
            if let (Some(range), Some(key)) = (&mut chunk.range, key) {
                range.column = *key;
            }
        }
    }
}

/// A log must be decoded with the schema it was written under.
fn check_fingerprints(plan: &Plan, checkpoint: &Checkpoint) -> Result<()> {
    for known in &checkpoint.tables {
        let target = plan
            .targets
            .iter()
            .position(|table| table.name == known.target);
        let Some(target) = target else { continue };
        if matches!(known.phase, TablePhase::Waiting) {
            continue;
        }
        let Some((feed, how)) = source_difference(&known.fingerprint, &plan.fingerprint(target))
        else {
            continue;
        };
        let source = plan.source_of(target, feed);
        let name = source.map_or(known.target.to_string(), |s| s.schema.name.to_string());
        let applied = checkpoint.applied.as_ref();
        let at = applied.map_or_else(String::new, |at| format!(" ({at})"));
        return Err(Error::schema(format!(
            "table {name} has changed since the task's place in the log{at}: {how}"
        ))
        .with_hint(CHANGED)
        .at(Side::Source)
        .about(source.map_or(&known.target, |s| &s.schema.name)));
    }
    Ok(())
}

/// What to do when what a task reads of a table is another now.
const CHANGED: &str = "make the same change in the target (or take it back), then reset the task, so \
                       that it loads the table as it is now";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_value_of_the_log_asks_for_more_than_a_correction() {
        let check = |error: Error, expected: bool| {
            let hint = of_the_log(error.with_hint("correct the row"))
                .hint()
                .map(str::to_owned);
            let hint = hint.unwrap();
            assert!(hint.starts_with("correct the row"), "{hint}");
            assert_eq!(hint.contains("reset the task"), expected, "{hint}");
        };
        check(Error::data("too long"), true);
        check(Error::config("a grant"), false);
    }
}
