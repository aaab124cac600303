//! One run of one task, from its preflight to its end.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ColumnPair, Mapping, OnChange};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Following, Source, Target};
use thalweg_core::schema::TableName;
use thalweg_core::{Error as CoreError, Kind, Side};
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::quarantine::Ward;
use thalweg_engine::retry::{Action, action};
use thalweg_engine::status::{LastError, TaskPhase, TaskStatus};
use thalweg_engine::task::{self, TaskSpec};
use thalweg_engine::verify::Orders;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::book::{Book, Catalogued};
use super::record::{End, Failure, Record};
use super::verify::Follows;
use crate::app::Inner;
use crate::catalog::{StoredDataSource, StoredTask, now_ms};
use crate::error::{Error, Result};
use crate::model::{ColumnInfo, DataSourceRef, Paused, TableMapping};
use crate::preflight::{Preflight, preflight_behind};
use crate::tables::{Named, Schemas, Tables};

/// How often a task is planned because what it was planned for has changed by then.
const ROUNDS: usize = 20;

/// How often a task is planned at one place because of rows that are not in the log.
const UNSAID_TRIES: usize = 100;

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
    /// Mappings whose tables are to be loaded again, and those target tables.
    pub(crate) reload: Vec<(String, TableName)>,
    /// Mappings whose tables are to be compared and repaired, and those target tables.
    pub(crate) doubt: Vec<(String, TableName)>,
    /// Source tables at which a stream has ended for rows that are not in the log.
    pub(crate) unsaid: BTreeSet<TableName>,
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
        let last = self.status.borrow().clone();
        book.record.end(end, &last).await;
    }

    /// Plans, and runs the plan, until it is stopped or fails.
    pub(super) async fn work(&self, book: &mut impl Book) -> End {
        let mut forgets = self.task.forget;
        let mut expects_checkpoint = self.task.begun && !forgets;
        let mut last_try = None;
        let mut last_joining = None;
        let mut unsaid = BTreeSet::new();
        let mut unsaid_tries = 0;
        loop {
            let ready = tokio::select! {
                ready = self.prepare(book, &mut forgets, &unsaid) => ready,
                () = self.stop.cancelled() => return self.stopped(),
            };
            let (mut ends, plan) = match ready {
                Ok(ready) => ready,
                Err(failure) => return End::Failed(failure),
            };
            unsaid.clear();
            let (doubt, plan) = (std::mem::take(&mut ends.doubt), Arc::new(plan));
            let spec = TaskSpec {
                key: ends.key.clone(),
                plan: Arc::clone(&plan),
                source: Arc::clone(&ends.source),
                target: Arc::clone(&ends.target),
                expects_checkpoint,
                orders: self.orders.clone(),
                quarantine: self.quarantine.clone(),
            };
            let streamed = self.stream(spec, book, &doubt).await;
            let this_try = (self.status.borrow().applied.clone(), fingerprints(&plan));
            expects_checkpoint |= this_try.0.is_some();
            let error = match streamed {
                Ok(()) if self.stop.is_cancelled() => return self.stopped(),
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
            unsaid.extend(error.table().filter(|_| error.is_unsaid()).cloned());
            // Where only a table that was joining cannot go on, the others do. A new plan may lead over a change of
            // its source table, but not twice.
            let joining = error.joining().cloned();
            let goes_on = match &joining {
                Some(table) if !changed || last_joining == joining => {
                    self.leave_out(book, &error, table, &ends).await
                }
                _ => changed && (!again || self.pause(book, &error, &ends.mappings).await),
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

    /// Pauses the table that an error is about, if the task's options say so and others are left.
    async fn pause(&self, book: &mut impl Book, error: &CoreError, mappings: &[Mapping]) -> bool {
        let Some(table) = error.table() else {
            return false;
        };
        let fed = |mapping: &&Mapping| mapping.source == *table;
        let targets: Vec<&TableName> = mappings.iter().filter(fed).map(|m| &m.target).collect();
        let of_it = |mapping: &&Mapping| targets.contains(&&mapping.target);
        let paused: Vec<_> = mappings.iter().filter(of_it).cloned().collect();
        let fix = error.hint().unwrap_or_default().to_owned();
        self.pause_all(book, error, fix, (&paused, mappings)).await
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
        self.pause_all(book, error, fix, (&paused, &ends.mappings))
            .await
    }

    /// Pauses tables for an error, if the task's options say so and others are left.
    async fn pause_all(
        &self,
        book: &mut impl Book,
        error: &CoreError,
        fix: String,
        (paused, mappings): (&[Mapping], &[Mapping]),
    ) -> bool {
        let shown = &self.task.shown;
        let pauses = shown.options.on_changes.other == OnChange::Pause && shown.operations.insert;
        if !pauses || paused.len() == mappings.len() {
            return false;
        }
        let pause = Paused {
            reason: error.chain(),
            fix,
            since_ms: now_ms(),
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

    /// Runs a plan until it is stopped or is to be made again (`Ok`), or fails.
    async fn stream(
        &self,
        spec: TaskSpec,
        book: &mut impl Book,
        doubt: &[(String, TableName)],
    ) -> thalweg_core::Result<()> {
        let stop = self.stop.child_token();
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
        let too_slow = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            outcome = run => outcome,
            () = book.meanwhile(self.status.subscribe(), &self.orders, doubt) => Ok(()),
            () = replan => Ok(()),
            // Dropping the run is as a crash: nothing is lost.
            () = too_slow => Ok(()),
        }
    }

    fn stopped(&self) -> End {
        match self.ending.is_cancelled() {
            true => End::Paused,
            false => End::Cancelled,
        }
    }

    /// Preflight, tried again as long as a system cannot be asked.
    async fn prepare(
        &self,
        book: &mut impl Book,
        forgets: &mut bool,
        unsaid: &BTreeSet<TableName>,
    ) -> Result<(Ends, Plan), Failure> {
        let limits = Limits::default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.try_prepare(book, forgets, unsaid).await {
                Ok(ready) => return ready,
                Err(error) => error,
            };
            let Action::Retry(wait) = action(error.kind(), attempt, &limits) else {
                return Err(failure(&error, true));
            };
            warn!(task = %self.task.shown.id, attempt, error = %error.chain(), "task waits");
            book.remark(&format!("waiting, try {attempt}: {}", told(&error)))
                .await;
            self.waits(&error, attempt);
            tokio::time::sleep(wait).await;
        }
    }

    fn waits(&self, error: &CoreError, attempt: u32) {
        self.status.send_modify(|status| {
            status.phase = TaskPhase::Waiting;
            let now = u64::try_from(now_ms()).unwrap_or(0);
            status.since_ms = now;
            status.last_error = Some(LastError {
                kind: error.kind(),
                side: error.side(),
                message: error.chain(),
                hint: error.hint().map(str::to_owned),
                since_ms: now,
                attempt,
            });
        });
    }

    /// One try: `Err` if a system could not be asked, `Ok(Err)` if the task is refused.
    async fn try_prepare(
        &self,
        book: &mut impl Book,
        forgets: &mut bool,
        unsaid: &BTreeSet<TableName>,
    ) -> thalweg_core::Result<Result<(Ends, Plan), Failure>> {
        // What was decided until now is stored, and in this plan.
        self.replan.notified().now_or_never();
        let mut ends = match book.ends().await {
            Ok(ends) => ends,
            Err(error) => return Ok(Err(refused(error.to_string()))),
        };
        ends.unsaid.clone_from(unsaid);
        if ends.mappings.is_empty() {
            let none = "all tables of the task are paused. Fix: resume one, and run the task again";
            return Ok(Err(refused(none.to_owned())));
        }
        let id = &self.task.shown.id;
        if *forgets {
            ends.target
                .forget(&ends.key)
                .await
                .map_err(|e| e.at(Side::Target))?;
            if let Err(error) = book.forgotten().await {
                return Ok(Err(refused(error.to_string())));
            }
            *forgets = false;
        }
        if !ends.reload.is_empty() {
            let following = Following {
                again: ends.reload.iter().map(|(_, table)| table.clone()).collect(),
                ..Following::default()
            };
            let outline = ends.target.outline(&ends.key).await;
            // A task that the target does not know loads all there is.
            if outline.map_err(|e| e.at(Side::Target))?.is_some() {
                let followed = ends.target.follow(&ends.key, &following).await;
                followed.map_err(|e| e.at(Side::Target))?;
            }
            let ids: Vec<_> = ends.reload.iter().map(|(id, _)| id.clone()).collect();
            if let Err(error) = book.reloaded(&ids).await {
                return Ok(Err(refused(error.to_string())));
            }
        }
        let begun = self.task.begun || self.status.borrow().applied.is_some();
        let mut rounds = 0;
        let mut found = loop {
            let found = self.preflight(&ends).await?;
            rounds += 1;
            if rounds > ROUNDS {
                let why = "tables change again and again while the task is planned";
                return Err(CoreError::transient(why));
            }
            if !found.paused.is_empty() {
                book.remark(&listed(&found)).await;
                for (mapping, paused) in &found.paused {
                    warn!(task = %id, %mapping, reason = %paused.reason, "a table is paused");
                }
                if let Err(error) = book.pause(&found.paused).await {
                    return Ok(Err(refused(error.to_string())));
                }
                let stays =
                    |mapping: &Mapping| found.paused.iter().all(|(id, _)| *id != mapping.id);
                ends.mappings.retain(stays);
            }
            if let Some(following) = &found.following {
                info!(task = %id, statements = %following.statements.join("; "), "source tables have changed");
                book.remark(&listed(&found)).await;
                let doubted = ends.mappings.iter();
                let doubted = doubted.filter(|mapping| found.doubted.contains(&mapping.target));
                ends.doubt
                    .extend(doubted.map(|m| (m.id.clone(), m.target.clone())));
                let ids: Vec<_> = ends.doubt.iter().map(|(id, _)| id.clone()).collect();
                // First: it must not be forgotten.
                if let Err(error) = book.doubt(&ids, true).await {
                    return Ok(Err(refused(error.to_string())));
                }
                let followed = ends.target.follow(&ends.key, following).await;
                if let Err(error) = followed {
                    let error = error.at(Side::Target);
                    let refused = !matches!(error.kind(), Kind::Transient | Kind::Fenced);
                    let ours =
                        |m: &&Mapping| following.fingerprints.iter().any(|(t, _)| *t == m.target);
                    let tables: Vec<_> = ends.mappings.iter().filter(ours).cloned().collect();
                    let fix = following.statements.join("; ");
                    let all = (tables.as_slice(), ends.mappings.as_slice());
                    if !refused || !self.pause_all(book, &error, fix, all).await {
                        return Err(error);
                    }
                    let stays = |mapping: &Mapping| tables.iter().all(|m| m.id != mapping.id);
                    ends.mappings.retain(stays);
                }
                ends.unsaid.clear();
                if found.again {
                    continue;
                }
            }
            match &found.plan {
                // A table that goes between two questions is no table that was never there.
                None if begun && rounds == 1 => {}
                // While a task runs, a table that has yet to join it does not stop the others.
                None if self.status.borrow().applied.is_some() => {
                    let hindering = self.hindering(&ends).await?;
                    if hindering.is_empty() {
                        break found;
                    }
                    for (mapping, paused) in &hindering {
                        warn!(task = %id, %mapping, reason = %paused.reason, "a table is paused");
                    }
                    book.remark(&listed(&found)).await;
                    if let Err(error) = book.pause(&hindering).await {
                        return Ok(Err(refused(error.to_string())));
                    }
                    let stays = |m: &Mapping| hindering.iter().all(|(id, _)| *id != m.id);
                    ends.mappings.retain(stays);
                }
                Some(plan) if ends.target.set_aside(&ends.key, plan).await? => {}
                _ => break found,
            }
        };
        let Some(plan) = found.plan.take() else {
            return Ok(Err(Failure {
                kind: Kind::Config,
                side: found.refused_at,
                at_start: true,
                text: listed(&found),
            }));
        };
        book.remark(&listed(&found)).await;
        let name = |table: &thalweg_core::plan::TargetTable| {
            let sources = table
                .feeds
                .iter()
                .filter_map(|feed| plan.sources.get(feed.source));
            let sources: Vec<_> = sources.map(|s| s.schema.name.to_string()).collect();
            (sources.join(", "), table.name.to_string())
        };
        self.tables
            .send_replace(plan.targets.iter().map(name).collect());
        if let Err(error) = book.used().await {
            warn!(task = %id, error = %error, "the catalogue could not be written");
        }
        Ok(Ok((ends, plan)))
    }

    async fn preflight(&self, ends: &Ends) -> thalweg_core::Result<Preflight> {
        self.preflight_of(ends, &ends.mappings).await
    }

    async fn preflight_of(
        &self,
        ends: &Ends,
        mappings: &[Mapping],
    ) -> thalweg_core::Result<Preflight> {
        preflight_behind(
            ends.source.as_ref(),
            ends.target.as_ref(),
            &ends.key,
            mappings,
            (self.task.shown.operations, &self.task.shown.options),
            &ends.unsaid,
        )
        .await
    }

    /// The mappings without which the tables that are there already could go on, each with what stands in its way;
    /// none if these could not either.
    async fn hindering(&self, ends: &Ends) -> thalweg_core::Result<Vec<(String, Paused)>> {
        let outline = ends.target.outline(&ends.key).await;
        let outline = outline.map_err(|error| error.at(Side::Target))?;
        let there = |m: &&Mapping| outline.as_ref().is_some_and(|o| o.has(&m.target));
        let (mut all, joining): (Vec<_>, Vec<_>) =
            ends.mappings.iter().cloned().partition(|m| there(&m));
        if all.is_empty() || self.preflight_of(ends, &all).await?.refused_at.is_some() {
            return Ok(Vec::new());
        }
        let mut hindering = Vec::new();
        let targets: BTreeSet<TableName> = joining.iter().map(|m| m.target.clone()).collect();
        // Halved, so that one of a thousand is found by some twenty looks at both systems.
        let mut parts = vec![Vec::from_iter(targets)];
        while let Some(part) = parts.pop() {
            let some = joining.iter().filter(|m| part.contains(&m.target));
            let before = all.len();
            all.extend(some.clone().cloned());
            let found = self.preflight_of(ends, &all).await?;
            if found.refused_at.is_none() {
                continue;
            }
            all.truncate(before);
            if part.len() > 1 {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([other.to_vec(), one.to_vec()]);
                continue;
            }
            let mut errors = found.findings.iter().filter(|finding| finding.refuses());
            if let Some(finding) = errors.next() {
                let paused = Paused {
                    reason: format!("{}: {}", finding.subject, finding.message),
                    fix: finding.fix.clone(),
                    since_ms: now_ms(),
                };
                hindering.extend(some.map(|m| (m.id.clone(), paused.clone())));
            }
        }
        Ok(hindering)
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
            reload: marked(Tables::reload),
            doubt: marked(Tables::doubt),
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
fn told(error: &CoreError) -> String {
    match error.hint() {
        Some(hint) => format!("{}. Fix: {hint}", error.chain()),
        None => error.chain(),
    }
}

fn failure(error: &CoreError, at_start: bool) -> Failure {
    Failure {
        kind: error.kind(),
        side: error.side(),
        at_start,
        text: told(error),
    }
}

fn refused(text: String) -> Failure {
    Failure {
        kind: Kind::Config,
        side: None,
        at_start: true,
        text,
    }
}

/// All findings, one a line, the refusing ones first.
fn listed(found: &Preflight) -> String {
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
