//! One run of one task, from its preflight to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ColumnPair, Mapping, OnChange};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Source, Target};
use thalweg_core::schema::TableName;
use thalweg_core::{Error as CoreError, Kind, Side};
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::quarantine::Ward;
use thalweg_engine::status::{TablePhase, TaskPhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_engine::verify::Orders;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::book::{Book, Catalogued};
use super::record::{End, Failure, Record};
use super::release::release_source;
use super::verify::Follows;
use crate::app::Inner;
use crate::catalog::{StoredDataSource, StoredTask, now_ms};
use crate::error::{Error, Result};
use crate::model::{ColumnInfo, DataSourceRef, Paused, TableMapping, TaskKind};
use crate::preflight::Preflight;
use crate::tables::{Named, Schemas, Tables};

/// How often a task is planned at one place because of rows that are not in the log.
const UNSAID_TRIES: usize = 100;

/// A lag is given in milliseconds and measured each second.
const LAG_ROUND: Duration = Duration::from_secs(1);

/// How much longer it waits each time for a table that cannot return because somebody reads it at the target.
const READ_UP_AGAIN: Duration = Duration::from_secs(30);

/// The other way out when the place in the log is lost.
const COMPARES: &str = ". To write only what differs instead of copying all rows: set the task's option existing_rows to \
                        compare before you reset it";

/// How long a task that is asked to stop may finish its batch.
const DRAIN: Duration = Duration::from_secs(10);

/// One run.
pub(super) struct Run {
    pub(super) budget: MemoryBudget,
    pub(super) ending: CancellationToken,
    pub(super) task: StoredTask,
    pub(super) stop: CancellationToken,
    pub(super) replan: Arc<Notify>,
    pub(super) status: watch::Sender<TaskStatus>,
    pub(super) tables: watch::Sender<Vec<(String, String)>>,
    pub(super) orders: Orders,
    pub(super) quarantine: Ward,
}

/// Both ends of the task, ready to be asked.
pub(crate) struct Ends {
    pub(crate) key: TaskKey,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Arc<dyn Target>,
    /// Those of tables that are not paused.
    pub(crate) mappings: Vec<Mapping>,
    /// Those of tables that are paused and return by themselves.
    pub(crate) returning: Vec<Mapping>,
    /// Mappings whose tables are to be loaded again, and those target tables.
    pub(crate) reload: Vec<(String, TableName)>,
    /// Mappings whose tables are to be compared and repaired, and those target tables.
    pub(crate) doubt: Vec<(String, TableName)>,
    /// Target tables that are compared and repaired instead of loaded, each with whether also if the task has loaded
    /// it before; they are in doubt.
    pub(crate) compares: BTreeMap<TableName, bool>,
    /// Source tables at which a stream has ended for rows that are not in the log.
    pub(crate) unsaid: BTreeSet<TableName>,
}

/// What one plan of a run leaves to the next.
pub(super) struct Left {
    /// The target is to forget the task first.
    pub(super) forgets: bool,
    /// No table can go on as it is, and all are to be loaded again.
    pub(super) resets: bool,
    pub(super) expects_checkpoint: bool,
    /// The log is read up to where tables that return were paused.
    pub(super) due: bool,
    /// How often in a row some of them could not, because somebody reads them at the target.
    pub(super) waits: u32,
    /// Target tables that have returned, and were not Live since.
    pub(super) returned: BTreeSet<TableName>,
    /// The task has begun anew because of a change, and no table of it was Live since.
    pub(super) anew: bool,
    /// Source tables at which a stream has ended for rows that are not in the log.
    pub(super) unsaid: BTreeSet<TableName>,
    /// [`TaskSpec::elsewhere`].
    elsewhere: Arc<AtomicU32>,
}

impl Left {
    /// Notes which tables have become Live.
    fn look(&mut self, status: &TaskStatus, plan: &Plan) {
        let tables = status.tables.iter().zip(&plan.targets);
        for (_, table) in tables.filter(|(now, _)| now.phase == TablePhase::Live) {
            self.returned.remove(&table.name);
            self.anew = false;
        }
    }
}

impl Ends {
    /// Tables that were paused leave the plan.
    pub(super) fn leave(&mut self, paused: &[(String, Paused)]) {
        let of = |mapping: &Mapping| paused.iter().find(|(id, _)| *id == mapping.id);
        let leaving = self.mappings.iter().filter_map(|mapping| {
            let (_, paused) = of(mapping)?;
            paused.returns.then(|| mapping.clone())
        });
        self.returning.extend(leaving);
        self.mappings.retain(|mapping| of(mapping).is_none());
    }
}

impl Run {
    /// Runs until it is stopped or fails, and writes how it ended.
    pub(super) async fn drive(self, inner: Arc<Inner>, follows: Arc<Follows>) {
        let id = self.task.shown.id.clone();
        let Some(execution) = self.task.shown.execution.clone() else {
            error!(task = %id, "a task that should run has no execution");
            return;
        };
        info!(task = %id, "task starts");
        let mut record = Record::open(Arc::clone(&inner), &self.task, execution);
        record.begin().await;
        let mut book = Catalogued {
            inner,
            follows,
            task: self.task.clone(),
            record,
        };
        let work = AssertUnwindSafe(self.work(&mut book)).catch_unwind();
        let end = match work.await {
            Ok(end) => end,
            Err(_) => End::Failed(Failure {
                kind: Kind::Bug,
                side: None,
                at_start: false,
                text: "a panic in the task: please report it, with the server's log".to_owned(),
            }),
        };
        if let End::Failed(failure) = &end {
            self.status
                .send_modify(|status| status.phase = TaskPhase::Failed);
            error!(task = %id, kind = failure.kind.as_str(), error = %failure.text, "task failed");
        }
        let full = self.task.shown.kind == TaskKind::Timing { incremental: false };
        let over = full && !matches!(end, End::Paused);
        let last = self.status.borrow().clone();
        book.record.end(end, &last).await;
        if over {
            // The next run copies everything again: until then the source need not keep its log for this task. That
            // run does not begin before this is done, or given up.
            release_source(&book.inner, &self.task).await;
        }
    }

    /// Plans, and runs the plan, until it is stopped or fails.
    pub(super) async fn work(&self, book: &mut impl Book) -> End {
        let mut left = Left {
            forgets: self.task.forget,
            resets: false,
            expects_checkpoint: self.task.begun && !self.task.forget,
            due: false,
            waits: 0,
            returned: BTreeSet::new(),
            anew: false,
            unsaid: BTreeSet::new(),
            elsewhere: Arc::default(),
        };
        let mut last_try = None;
        let mut last_joining = None;
        let mut unsaid_tries = 0;
        loop {
            let ready = tokio::select! {
                ready = self.prepare(book, &mut left) => ready,
                () = self.stop.cancelled() => return self.stopped(),
            };
            let (mut ends, plan) = match ready {
                Ok(ready) => ready,
                Err(failure) => return End::Failed(failure),
            };
            left.unsaid.clear();
            let (mut doubt, plan) = (std::mem::take(&mut ends.doubt), Arc::new(plan));
            // One that was left out is not compared.
            doubt.retain(|(_, table)| plan.targets.iter().any(|target| target.name == *table));
            let spec = TaskSpec {
                key: ends.key.clone(),
                plan: Arc::clone(&plan),
                source: Arc::clone(&ends.source),
                target: Arc::clone(&ends.target),
                expects_checkpoint: left.expects_checkpoint,
                compares: std::mem::take(&mut ends.compares),
                orders: self.orders.clone(),
                quarantine: self.quarantine.clone(),
                elsewhere: Arc::clone(&left.elsewhere),
            };
            let due = AtomicBool::new(false);
            let wait = READ_UP_AGAIN * left.waits.min(10);
            let returns = (!ends.returning.is_empty()).then_some((&due, wait));
            let done = AtomicBool::new(false);
            let ends_by_itself = self.task.shown.kind.ends() && ends.returning.is_empty();
            let ends_by_itself = ends_by_itself.then_some(&done);
            let streamed = self
                .stream(spec, book, &doubt, (returns, ends_by_itself))
                .await;
            left.due = due.into_inner();
            left.look(&self.status.borrow(), &plan);
            let this_try = (self.status.borrow().applied.clone(), fingerprints(&plan));
            left.expects_checkpoint |= this_try.0.is_some();
            let error = match streamed {
                Ok(()) if self.stop.is_cancelled() => return self.stopped(),
                Ok(()) if done.into_inner() => return End::Done,
                Ok(()) => {
                    info!(task = %self.task.shown.id, "task is planned again: its tables are others");
                    self.plans_again(book);
                    continue;
                }
                Err(error) => error,
            };
            // A table has changed at the source. A plan of its present form may lead over that; the same
            // plan at the same place does not.
            let changed = error.kind() == Kind::Schema && error.side() == Some(Side::Source);
            // Others of that kind may lie at the same place.
            let again = last_try.as_ref() == Some(&this_try)
                && (!error.is_unsaid() || unsaid_tries >= UNSAID_TRIES);
            unsaid_tries = match error.is_unsaid() && last_try.as_ref() == Some(&this_try) {
                true => unsaid_tries + 1,
                false => 0,
            };
            left.unsaid
                .extend(error.table().filter(|_| error.is_unsaid()).cloned());
            // Where only a table that was joining cannot go on, the others do. A new plan may lead over a change of
            // its source table, but not twice.
            let joining = error.joining().cloned();
            let goes_on = match &joining {
                Some(table) if !changed || last_joining == joining => {
                    self.leave_out(book, &error, table, &ends).await
                }
                _ => {
                    changed && (!again || self.pause(book, &error, &ends.mappings, &mut left).await)
                }
            };
            if !goes_on {
                return End::Failed(failure(&error, false));
            }
            last_joining = joining;
            info!(task = %self.task.shown.id, error = %error.chain(), "task is planned again");
            book.remark(&format!("planned again: {}", error.chain()))
                .await;
            self.plans_again(book);
            last_try = Some(this_try);
        }
    }

    /// Pauses the table that an error is about, if the task's options say so and others are left. Where none is
    /// left and it would return, the task begins anew.
    async fn pause(
        &self,
        book: &mut impl Book,
        error: &CoreError,
        mappings: &[Mapping],
        left: &mut Left,
    ) -> bool {
        let Some(table) = error.table() else {
            return false;
        };
        let fed = |mapping: &&Mapping| mapping.source == *table;
        let targets: Vec<&TableName> = mappings.iter().filter(fed).map(|m| &m.target).collect();
        let of_it = |mapping: &&Mapping| targets.contains(&&mapping.target);
        let paused: Vec<_> = mappings.iter().filter(of_it).cloned().collect();
        let fix = error.hint().unwrap_or_default().to_owned();
        let shown = &self.task.shown;
        let returns = shown.options.on_changes.other == OnChange::Follow && shown.operations.insert;
        if returns && paused.len() == mappings.len() {
            left.resets = !left.anew;
            return left.resets;
        }
        let returns = returns && !targets.iter().any(|target| left.returned.contains(*target));
        self.pause_all(book, error, (fix, returns), (&paused, mappings))
            .await
    }

    /// Pauses the table that an error was met with when it was loaded, if the others can go on without it.
    async fn leave_out(
        &self,
        book: &mut impl Book,
        error: &CoreError,
        table: &TableName,
        ends: &Ends,
    ) -> bool {
        let (paused, rest): (Vec<_>, Vec<_>) = ends
            .mappings
            .iter()
            .cloned()
            .partition(|mapping| mapping.target == *table);
        let found = self.preflight_of(ends, &rest).await;
        // A system that cannot be asked now is asked again when the task is planned.
        if found.is_ok_and(|found| found.refused_at.is_some()) {
            return false;
        }
        let fix = error.hint().unwrap_or_default().to_owned();
        self.pause_all(book, error, (fix, false), (&paused, &ends.mappings))
            .await
    }

    /// Pauses tables for an error, if the task's options say so and others are left; whether they return.
    pub(super) async fn pause_all(
        &self,
        book: &mut impl Book,
        error: &CoreError,
        (fix, returns): (String, bool),
        (paused, mappings): (&[Mapping], &[Mapping]),
    ) -> bool {
        let shown = &self.task.shown;
        let pauses = shown.options.on_changes.other != OnChange::Stop && shown.operations.insert;
        if !pauses || paused.len() == mappings.len() {
            return false;
        }
        let pause = Paused {
            reason: error.chain(),
            fix,
            since_ms: now_ms(),
            returns,
        };
        let paused: Vec<_> = paused
            .iter()
            .map(|mapping| (mapping.id.clone(), pause.clone()))
            .collect();
        match book.pause(&paused).await {
            Ok(()) => {
                let tables: Vec<_> = paused.iter().map(|(id, _)| id.as_str()).collect();
                let tables = tables.join(" ");
                warn!(task = %shown.id, %tables, error = %error.chain(), "tables are paused");
                !paused.is_empty()
            }
            Err(error) => {
                warn!(task = %shown.id, error = %error, "the catalogue could not be written");
                false
            }
        }
    }

    /// The figures of its tables begin anew with the next plan.
    fn plans_again(&self, book: &mut impl Book) {
        book.carry(&self.status.borrow().clone());
        self.status.send_modify(|status| {
            status.tables.clear();
            status.sources.clear();
            if status.phase == TaskPhase::Stopped {
                status.phase = TaskPhase::Preparing;
                status.since_ms = u64::try_from(now_ms()).unwrap_or(0);
            }
        });
    }

    /// Runs a plan until it is stopped or is to be made again (`Ok`), or fails. `done`: also until the log is read
    /// up to where it ended when this was called, which is noted there.
    async fn stream(
        &self,
        spec: TaskSpec,
        book: &mut impl Book,
        doubt: &[(String, TableName)],
        (returns, done): (Option<(&AtomicBool, Duration)>, Option<&AtomicBool>),
    ) -> thalweg_core::Result<()> {
        let stop = self.stop.child_token();
        let settled = CancellationToken::new();
        let run = task::run(
            spec,
            Limits::default(),
            self.budget.clone(),
            self.status.clone(),
            stop.clone(),
        );
        let replan = async {
            self.replan.notified().await;
            stop.cancel();
            std::future::pending::<()>().await;
        };
        let due = async {
            if let Some((due, wait)) = returns {
                tokio::time::sleep(wait).await;
                self.read_up().await;
                due.store(true, Ordering::Relaxed);
                stop.cancel();
            }
            std::future::pending::<()>().await;
        };
        let once = async {
            if let Some(done) = done {
                settled.cancelled().await;
                self.read_up().await;
                done.store(true, Ordering::Relaxed);
                stop.cancel();
            }
            std::future::pending::<()>().await;
        };
        let too_slow = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            outcome = run => outcome,
            () = book.meanwhile(self.status.subscribe(), &self.orders, doubt, &settled) => Ok(()),
            () = replan => Ok(()),
            () = due => Ok(()),
            () = once => Ok(()),
            // Dropping the run is as a crash: nothing is lost.
            () = too_slow => Ok(()),
        }
    }

    /// Until the log is read up to where it ended when this was called: all that is committed longer ago than
    /// the lag is at the target.
    async fn read_up(&self) {
        let begun = Instant::now();
        let mut status = self.status.subscribe();
        loop {
            let streams = |now: &TaskStatus| now.phase == TaskPhase::Streaming;
            let lag = match &*status.borrow_and_update() {
                now if streams(now) => now.lag_ms.map(Duration::from_millis),
                _ => None,
            };
            if lag.is_some_and(|lag| begun.elapsed() > lag + LAG_ROUND) {
                return;
            }
            // It changes with the lag only.
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = tokio::time::sleep(LAG_ROUND) => {}
            }
        }
    }

    fn stopped(&self) -> End {
        match self.ending.is_cancelled() {
            true => End::Paused,
            false => End::Cancelled,
        }
    }
}

/// Both ends of a task and its mappings.
pub(crate) async fn ends(inner: &Inner, task: &StoredTask, server_id: Option<u32>) -> Result<Ends> {
    let mappings = inner.catalog.mapping_list(&task.shown.id).await?;
    ends_of(inner, task, server_id, mappings).await
}

/// The same with other mappings than are stored.
pub(crate) async fn ends_of(
    inner: &Inner,
    task: &StoredTask,
    server_id: Option<u32>,
    mappings: Vec<TableMapping>,
) -> Result<Ends> {
    let (source, target) = data_sources(inner, task).await?;
    let name = format!("thalweg/{}", task.shown.id);
    let (from, mut from_config) = inner.reach(&source, name.clone())?;
    from_config.server_id = server_id;
    let (to, to_config) = inner.reach(&target, name)?;
    let schemas = (
        from.default_schema(&from_config),
        to.default_schema(&to_config),
    );
    let failed = |e: CoreError| Error::Start(told(&e));
    let tables = Tables::of(mappings, &schemas)?;
    let key = TaskKey {
        server: inner.server.clone(),
        task: task.shown.id.clone(),
    };
    let source = from.source(&from_config).map_err(failed)?;
    let target = to.target(&to_config).map_err(failed)?;
    Ok(Ends::of(key, (source, target), &tables))
}

impl Ends {
    /// Those of these tables.
    pub(super) fn of(
        key: TaskKey,
        (source, target): (Arc<dyn Source>, Arc<dyn Target>),
        tables: &Tables,
    ) -> Self {
        let marked = |marked: fn(&Tables, &TableName) -> bool| {
            let marked = tables.active().filter(|one| marked(tables, &one.target));
            let marked = marked.map(|one| (one.mapping.id.clone(), one.target.clone()));
            marked.collect()
        };
        Ends {
            key,
            source,
            target,
            mappings: tables.active().map(core_mapping).collect(),
            returning: tables.returning().map(core_mapping).collect(),
            reload: marked(Tables::reload),
            doubt: marked(Tables::doubt),
            compares: BTreeMap::new(),
            unsaid: BTreeSet::new(),
        }
    }
}

/// The schemas of tables that are named without one.
pub(crate) async fn schemas(inner: &Inner, task: &StoredTask) -> Result<Schemas> {
    let (source, target) = data_sources(inner, task).await?;
    let name = format!("thalweg/{}", task.shown.id);
    let (from, from_config) = inner.reach(&source, name.clone())?;
    let (to, to_config) = inner.reach(&target, name)?;
    Ok((
        from.default_schema(&from_config),
        to.default_schema(&to_config),
    ))
}

async fn data_sources(
    inner: &Inner,
    task: &StoredTask,
) -> Result<(StoredDataSource, StoredDataSource)> {
    let known = |end: &Option<DataSourceRef>| {
        end.clone()
            .ok_or_else(|| Error::Start("the task has no data sources".to_owned()))
    };
    let (source, target) = (known(&task.shown.source)?, known(&task.shown.target)?);
    let show = async |id: &str| inner.catalog.datasource_show(&task.instance, id).await;
    Ok((show(&source.id).await?, show(&target.id).await?))
}

fn core_mapping(named: &Named) -> Mapping {
    let name = |info: &ColumnInfo| info.field_name.clone().unwrap_or_default();
    let columns = named.mapping.columns.iter();
    Mapping {
        id: named.mapping.id.clone(),
        source: named.source.clone(),
        target: named.target.clone(),
        columns: columns
            .map(|link| ColumnPair {
                source: name(&link.source),
                target: name(&link.target),
            })
            .collect(),
    }
}

/// What a plan reads and writes.
fn fingerprints(plan: &Plan) -> Vec<String> {
    (0..plan.targets.len())
        .map(|target| plan.fingerprint(target))
        .collect()
}

/// An error with its fix.
pub(super) fn told(error: &CoreError) -> String {
    match error.hint() {
        Some(hint) => format!("{}. Fix: {hint}", error.chain()),
        None => error.chain(),
    }
}

pub(super) fn failure(error: &CoreError, at_start: bool) -> Failure {
    let mut text = told(error);
    if error.kind() == Kind::PositionLost {
        text.push_str(COMPARES);
    }
    Failure {
        kind: error.kind(),
        side: error.side(),
        at_start,
        text,
    }
}

pub(super) fn refused(text: String) -> Failure {
    Failure {
        kind: Kind::Config,
        side: None,
        at_start: true,
        text,
    }
}

/// All findings, one a line, the refusing ones first.
pub(super) fn listed(found: &Preflight) -> String {
    let mut findings: Vec<&Finding> = found.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let line = |f: &&Finding| {
        let fix = match f.fix.is_empty() {
            true => String::new(),
            false => format!(" Fix: {}", f.fix),
        };
        format!("{} {}: {}.{fix}", f.severity.as_str(), f.subject, f.message)
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}
