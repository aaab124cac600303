//! Tasks: drafts, their life, and starting and stopping them.

use std::time::Duration;

use thalweg_core::mapping::{Operations, TaskOptions};

use super::dispatches::start;
use super::{App, auto};
use crate::catalog::{StoredTask, new_id, now_ms, page};
use crate::error::{Error, Result, Subject};
use crate::model::{
    BatchItem, DataSourceRef, Direction, ExecuteStatus, Leftover, Live, NewTask, Page, Role, Scope,
    Statistics, TableChoice, Task, TaskChange, TaskFilter, TaskInit, TaskKind, TaskMappings,
    TaskPlan, TaskSort, Window,
};
use crate::preflight::preflight;
use crate::supervisor::{Supervisor, run};

/// How long a draft is kept, in milliseconds.
const DRAFT_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a task that was just run may need to be seen running.
const START: Duration = Duration::from_secs(2);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// Mappings in the answer of init.
pub(super) const FIRST: Window = Window {
    offset: 0,
    limit: 10,
};

/// Its field is a flag, so that is what errors name.
const AUTO_MAPPING: auto::Fields = auto::Fields {
    source: "auto_mapping",
    target: "auto_mapping",
};

/// All of a list.
const ALL: Window = Window {
    offset: 0,
    limit: u32::MAX,
};

impl App {
    /// Makes a draft, or goes on with the one of that id. With `auto_mapping`, tables of the source's
    /// database are mapped to tables of the same name. The answer holds at most ten mappings.
    pub async fn task_init(&self, scope: &Scope, init: TaskInit) -> Result<TaskMappings> {
        self.drop_old_drafts().await?;
        let mut draft = self.draft(scope, init.task_id.as_deref()).await?;
        Self::composite(&draft)?;
        if draft.created {
            return Err(Error::invalid(
                "task_id",
                "this task is created already; leave task_id out for a new one",
            ));
        }
        for (id, direction) in [
            (&init.source_datasource_id, Direction::Source),
            (&init.target_datasource_id, Direction::Target),
        ] {
            if let Some(id) = id {
                let end = self.end(scope, id, direction).await?;
                self.set_end(&mut draft, end, direction).await?;
            }
        }
        two_ends(&draft)?;
        if init.server_id.is_some() {
            draft.shown.server_id = init.server_id;
        }
        let pair = if init.auto_mapping {
            let missing =
                |field: &str| Error::invalid(field, "auto_mapping needs both data sources");
            let source = draft.shown.source.clone();
            let target = draft.shown.target.clone();
            Some((
                source.ok_or_else(|| missing("source_datasource_id"))?,
                target.ok_or_else(|| missing("target_datasource_id"))?,
            ))
        } else {
            None
        };
        let mapped = match pair {
            Some((source, target)) => {
                let (ends, choice) = ([source.id.as_str(), &target.id], TableChoice::default());
                self.auto_mappings(scope, &draft, ends, &choice, &AUTO_MAPPING)
                    .await?
            }
            None => Vec::new(),
        };
        self.catalog().task_put(&draft).await?;
        let id = draft.shown.id.clone();
        self.catalog().mapping_create(&id, &mapped).await?;
        self.task_mappings(scope, &id, FIRST).await
    }

    /// Drops drafts that nobody has made a task of.
    pub(super) async fn drop_old_drafts(&self) -> Result<()> {
        let before = now_ms() - DRAFT_MS;
        self.catalog().task_drop_drafts(before).await
    }

    /// The draft or task of an id, or a new draft.
    pub(super) async fn draft(&self, scope: &Scope, id: Option<&str>) -> Result<StoredTask> {
        if let Some(id) = id {
            match self.task_seen(scope, id).await {
                Err(Error::NotFound(Subject::Task)) => {}
                other => return other,
            }
            if self.catalog().task_id_taken(id).await? {
                return Err(Error::invalid(
                    "task_id",
                    "a deleted task of this id still has traces that are being removed; choose \
                     another id or wait",
                ));
            }
        }
        let max = self.quotas().tasks;
        if self.catalog().task_count(&scope.instance).await? >= u64::from(max) {
            return Err(Error::invalid(
                "task_name",
                format!("the instance has {max} tasks, the most it may have"),
            ));
        }
        let now = now_ms();
        Ok(StoredTask {
            instance: scope.instance.clone(),
            created: false,
            source_app: None,
            target_app: None,
            begun: false,
            forget: false,
            shown: Task {
                id: id.map_or_else(new_id, str::to_owned),
                name: String::new(),
                description: None,
                tag: None,
                operations: Operations::ALL,
                source: None,
                target: None,
                server_id: None,
                options: TaskOptions::default(),
                kind: TaskKind::Composite,
                detail: None,
                running: false,
                scheduled: false,
                dispatch: None,
                execution: None,
                created_ms: now,
                updated_ms: now,
            },
        })
    }

    /// A data source as the end of a task; `Invalid` if it cannot be that.
    pub(super) async fn end(
        &self,
        scope: &Scope,
        id: &str,
        direction: Direction,
    ) -> Result<DataSourceRef> {
        let field = field_of(direction);
        let found = self.source_for(scope, id, Role::Read).await;
        let found = found.map_err(|error| match error {
            Error::NotFound(_) => Error::invalid(field, "there is no data source with this id"),
            other => other,
        })?;
        let connector = crate::connect::connector(&self.inner.connectors, &found.shown.kind);
        let connector = connector.map_err(|error| Error::invalid(field, error.to_string()))?;
        let (can, role) = match direction {
            Direction::Source => (connector.roles().source, "source"),
            Direction::Target => (connector.roles().target, "target"),
        };
        if !can {
            return Err(Error::invalid(
                field,
                format!("{} cannot be a {role} yet", found.shown.kind),
            ));
        }
        Ok(DataSourceRef {
            id: found.shown.id,
            name: found.shown.name,
            kind: found.shown.kind,
            app_id: found.shown.app_id,
            app_name: found.shown.app_name,
        })
    }

    /// Makes `end` the task's; it can change only while nothing is mapped.
    pub(super) async fn set_end(
        &self,
        task: &mut StoredTask,
        end: DataSourceRef,
        direction: Direction,
    ) -> Result<()> {
        let (slot, app) = match direction {
            Direction::Source => (&mut task.shown.source, &task.source_app),
            Direction::Target => (&mut task.shown.target, &task.target_app),
        };
        let field = field_of(direction);
        if let Some(app) = app
            && *app != end.app_id
        {
            return Err(Error::Mapping(format!(
                "{field} belongs to application {}, but the task was created for application {app}",
                end.app_id
            )));
        }
        match slot {
            Some(known) if known.id != end.id => {
                if self.catalog().mapping_count(&task.shown.id).await? > 0 {
                    return Err(Error::Mapping(format!(
                        "{field} is not the task's: all mappings of a task share data source {}",
                        known.id
                    )));
                }
                *slot = Some(end);
            }
            _ => *slot = Some(end),
        }
        Ok(())
    }

    /// Names a draft, or makes a task that gets its data sources with its first mapping. Gives its id.
    pub async fn task_create(&self, scope: &Scope, new: NewTask) -> Result<String> {
        let mut task = match &new.task_id {
            Some(id) => self.task_seen(scope, id).await?,
            None => self.draft(scope, None).await?,
        };
        if task.created {
            return Err(Error::invalid(
                "task_id",
                "this task is created already; use the update call to change it",
            ));
        }
        for (app, direction) in [
            (&new.source_app_id, Direction::Source),
            (&new.target_app_id, Direction::Target),
        ] {
            self.check_app(scope, &task, app.as_deref(), direction)
                .await?;
        }
        let now = now_ms();
        task.created = true;
        task.source_app = new.source_app_id;
        task.target_app = new.target_app_id;
        task.shown.name = new.name;
        task.shown.description = new.description;
        task.shown.tag = new.tag;
        task.shown.operations = new.operations;
        task.shown.created_ms = now;
        task.shown.updated_ms = now;
        self.catalog().task_put(&task).await?;
        Ok(task.shown.id)
    }

    async fn check_app(
        &self,
        scope: &Scope,
        task: &StoredTask,
        app: Option<&str>,
        direction: Direction,
    ) -> Result<()> {
        let Some(app) = app else { return Ok(()) };
        let (field, end) = match direction {
            Direction::Source => ("source_app_id", &task.shown.source),
            Direction::Target => ("target_app_id", &task.shown.target),
        };
        let found = self.application_show(scope, app).await;
        found.map_err(|error| match error {
            Error::NotFound(_) => {
                Error::invalid(field, "there is no integration application with this id")
            }
            other => other,
        })?;
        match end {
            Some(end) if end.app_id != app => Err(Error::invalid(
                field,
                format!(
                    "data source {} of the task belongs to application {}",
                    end.name, end.app_id
                ),
            )),
            _ => Ok(()),
        }
    }

    /// A created task that is neither running nor being stopped.
    pub(super) async fn stopped(&self, scope: &Scope, id: &str) -> Result<StoredTask> {
        let task = self.task_seen(scope, id).await?;
        if task.shown.is_on() || self.supervisor.runs(id) {
            return Err(running(&task));
        }
        Ok(task)
    }

    /// `Invalid(task_id)` for an ordinary task.
    pub(super) fn composite(task: &StoredTask) -> Result<()> {
        match task.shown.kind {
            TaskKind::Composite => Ok(()),
            TaskKind::Realtime | TaskKind::Timing { .. } => Err(Error::invalid(
                "task_id",
                "this is an ordinary task, of one table; change it by PUT /tasks/{task_id}",
            )),
        }
    }

    /// What the supervisor has of a task that runs. `NotRunning`.
    pub(super) async fn of_running<T>(
        &self,
        task: &StoredTask,
        of: impl Fn(&Supervisor) -> Option<T>,
    ) -> Result<T> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = of(&self.supervisor) {
                return Ok(found);
            }
            // The supervisor may not have come to it yet.
            if !task.shown.running || waited >= START {
                return Err(Error::NotRunning(format!(
                    "task {} is not running; run it first",
                    task.shown.name
                )));
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    /// Changes a stopped task. With `repulling_snapshot` the next run copies existing rows again and
    /// replaces those that this task wrote.
    pub async fn task_update(&self, scope: &Scope, id: &str, change: TaskChange) -> Result<()> {
        let mut task = self.created(scope, id).await?;
        Self::composite(&task)?;
        self.stopped(scope, id).await?;
        if change.description.is_some() {
            task.shown.description = change.description;
        }
        if change.tag.is_some() {
            task.shown.tag = change.tag;
        }
        task.shown.operations = change.operations;
        task.forget |= change.repulling_snapshot;
        task.shown.updated_ms = now_ms();
        self.catalog().task_put(&task).await
    }

    /// Forgets the position of a stopped task: its next run begins with a load.
    pub async fn task_reset(&self, scope: &Scope, id: &str) -> Result<()> {
        let mut task = self.created(scope, id).await?;
        self.stopped(scope, id).await?;
        task.forget = true;
        task.shown.updated_ms = now_ms();
        self.catalog().task_put(&task).await
    }

    /// A task that is no draft.
    pub(super) async fn created(&self, scope: &Scope, id: &str) -> Result<StoredTask> {
        let task = self.task_seen(scope, id).await?;
        match task.created {
            true => Ok(task),
            false => Err(Error::NotFound(Subject::Task)),
        }
    }

    /// Those the caller sees, oldest first; no drafts.
    async fn tasks_seen(&self, scope: &Scope) -> Result<Vec<Task>> {
        let mut all = self.catalog().task_list(&scope.instance).await?;
        let sees = self.sees(scope).await?;
        all.retain(|task| sees.task(task));
        Ok(all.into_iter().map(|task| task.shown).collect())
    }

    /// Those that match; drafts are not listed.
    pub async fn task_list(
        &self,
        scope: &Scope,
        filter: TaskFilter,
        window: Window,
    ) -> Result<Page<Task>> {
        let mut all = self.tasks_seen(scope).await?;
        all.retain(|task| matches(task, &filter));
        match filter.sort {
            TaskSort::Created => {}
            TaskSort::Updated => all.sort_by_key(|task| task.updated_ms),
            TaskSort::Name => all.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        if filter.descending {
            all.reverse();
        }
        Ok(page(all, window))
    }

    /// One of them.
    pub async fn task_show(&self, scope: &Scope, id: &str) -> Result<Task> {
        Ok(self.created(scope, id).await?.shown)
    }

    /// Deletes a stopped task at once; its traces at both ends are removed in the background.
    pub async fn task_delete(&self, scope: &Scope, id: &str) -> Result<()> {
        self.stopped(scope, id).await?;
        self.catalog().task_delete(id).await?;
        self.supervisor.hint();
        Ok(())
    }

    /// `Start` if there is nothing that it could move.
    async fn runnable(&self, scope: &Scope, task: &StoredTask) -> Result<()> {
        let (id, name) = (&task.shown.id, &task.shown.name);
        if task.shown.source.is_none()
            || task.shown.target.is_none()
            || self.catalog().mapping_count(id).await? == 0
        {
            return Err(Error::Start(format!(
                "task {name} has no mapping; add one first"
            )));
        }
        let tables = self.table_list(scope, id, ALL).await?.entities;
        if tables.iter().all(|table| table.paused.is_some()) {
            return Err(Error::Start(format!(
                "all tables of task {name} are paused; resume one first"
            )));
        }
        Ok(())
    }

    /// Starts a stopped task; a scheduled one is run once, whether its schedule is on or not. What the systems have to say about it follows in its execution.
    pub async fn task_run(&self, scope: &Scope, id: &str) -> Result<()> {
        let task = self.created(scope, id).await?;
        if task.shown.running || self.supervisor.runs(id) {
            return Err(running(&task));
        }
        self.runnable(scope, &task).await?;
        if task.shown.kind.ends() && task.shown.dispatch.is_none() {
            return Err(Error::NoSchedule(task.shown.name));
        }
        match start(&self.inner, &task.shown, now_ms()).await? {
            true => self.supervisor.hint(),
            // Another call was faster.
            false => return Err(running(&task)),
        }
        Ok(())
    }

    /// Turns the schedule of a task on: it is run at the next time, and then on and on.
    async fn task_schedule(&self, scope: &Scope, task: &StoredTask) -> Result<()> {
        let shown = &task.shown;
        let Some(dispatch) = &shown.dispatch else {
            return Err(Error::NoSchedule(shown.name.clone()));
        };
        if shown.is_on() || self.supervisor.runs(&shown.id) {
            return Err(running(task));
        }
        self.runnable(scope, task).await?;
        let due = dispatch.next_after(self.inner.zone, now_ms())?;
        if due.is_none() {
            return Err(Error::Start(format!(
                "the schedule of task {} has no time that is still to come",
                shown.name
            )));
        }
        self.catalog().task_schedule(&shown.id, true, due).await?;
        self.supervisor.hint();
        Ok(())
    }

    /// Stops a task, and turns its schedule off: the batch in flight is finished, for at most ten seconds.
    /// Answers when it has stopped.
    pub async fn task_terminate(&self, scope: &Scope, id: &str) -> Result<()> {
        let task = self.created(scope, id).await?;
        if !task.shown.is_on() {
            return Err(Error::Stop(format!(
                "task {} is not running",
                task.shown.name
            )));
        }
        if task.shown.scheduled {
            self.catalog().task_schedule(id, false, None).await?;
        }
        self.catalog().task_desire(id, false).await?;
        self.supervisor.stop(id).await;
        // One that had not begun yet has nobody to write its end.
        self.catalog().executions_orphaned_of(id).await
    }

    /// Starts or stops each task; one item per id, in order, with its own error. Of a scheduled task the
    /// schedule is turned on or off.
    pub async fn task_batch(
        &self,
        scope: &Scope,
        start: bool,
        ids: &[String],
    ) -> Result<Vec<BatchItem>> {
        let mut items = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.created(scope, id).await;
            let name = found
                .as_ref()
                .map_or(String::new(), |task| task.shown.name.clone());
            let done = match (start, found) {
                (true, Ok(task)) if task.shown.kind.ends() => {
                    self.task_schedule(scope, &task).await
                }
                (true, _) => self.task_run(scope, id).await,
                (false, _) => self.task_terminate(scope, id).await,
            };
            items.push(BatchItem {
                task_id: id.clone(),
                task_name: name,
                error: done.err(),
            });
        }
        Ok(items)
    }

    /// Tasks by the outcome of their last execution: ordinary ones, and composite ones.
    pub async fn task_statistics(&self, scope: &Scope) -> Result<(Statistics, Statistics)> {
        let (mut ordinary, mut composite) = (Statistics::default(), Statistics::default());
        for task in self.tasks_seen(scope).await? {
            let out = match task.kind {
                TaskKind::Composite => &mut composite,
                TaskKind::Realtime | TaskKind::Timing { .. } => &mut ordinary,
            };
            match task.execute_status() {
                ExecuteStatus::Unstarted => {}
                ExecuteStatus::Waiting | ExecuteStatus::Running => out.running += 1,
                ExecuteStatus::Error => out.abnormal += 1,
                ExecuteStatus::Cancelled => out.terminated += 1,
                ExecuteStatus::Success => out.completed += 1,
            }
        }
        Ok((ordinary, composite))
    }

    /// What the task would do if it were run now, also of a draft; nothing is changed at either
    /// end. `Unreachable` if a system cannot be asked.
    pub async fn task_plan(&self, scope: &Scope, id: &str) -> Result<TaskPlan> {
        let task = self.task_seen(scope, id).await?;
        let ends = run::ends(&self.inner, &task, task.shown.server_id).await?;
        let asked = async {
            let (operations, options) = (task.shown.operations, &task.shown.options);
            let (source, target) = (ends.source.as_ref(), ends.target.as_ref());
            let mappings = &ends.mappings;
            let found = preflight(source, target, &ends.key, mappings, operations, options).await?;
            let statements = match &found.planned {
                Some(plan) => target.ddl(plan).await?,
                None => Vec::new(),
            };
            Ok::<_, thalweg_core::Error>(TaskPlan {
                findings: found.findings,
                tables: found.tables,
                statements,
            })
        };
        asked.await.map_err(|error| Error::Unreachable {
            reason: error.chain(),
            detail: error.hint().map(str::to_owned),
        })
    }

    /// Native options, also of a draft.
    pub async fn task_options(&self, scope: &Scope, id: &str) -> Result<TaskOptions> {
        let task = self.task_seen(scope, id).await?;
        Ok(task.shown.options)
    }

    /// Replaces the native options of a stopped task or of a draft.
    pub async fn task_options_set(
        &self,
        scope: &Scope,
        id: &str,
        options: TaskOptions,
    ) -> Result<TaskOptions> {
        self.stopped(scope, id).await?;
        self.catalog().task_options_set(id, &options).await?;
        Ok(options)
    }

    /// What the task says of itself; `None` if it does not run in this process.
    pub async fn task_live(&self, scope: &Scope, id: &str) -> Result<Option<Live>> {
        self.task_seen(scope, id).await?;
        Ok(self.supervisor.live(id))
    }

    /// The statements that remove a task from its source.
    async fn traces_at_source(&self, task: &StoredTask) -> Result<Vec<String>> {
        let Some(source) = &task.shown.source else {
            return Ok(Vec::new());
        };
        let stored = self.catalog().datasource_show(&task.instance, &source.id);
        let name = format!("thalweg/{}", task.shown.id);
        let (connector, config) = self.inner.reach(&stored.await?, name)?;
        let source = connector.source(&config);
        Ok(source.map_or_else(|_| Vec::new(), |source| source.traces()))
    }

    /// Deleted tasks whose traces could not be removed yet.
    pub async fn task_leftovers(&self, scope: &Scope) -> Result<Vec<Leftover>> {
        let mut out = Vec::new();
        let sees = self.sees(scope).await?;
        for one in self.catalog().tasks_releasing().await? {
            let seen = one.task.instance == scope.instance && sees.task(&one.task);
            let (Some(error), true) = (one.error, seen) else {
                continue;
            };
            let mut statements = self.traces_at_source(&one.task).await.unwrap_or_default();
            let shown = one.task.shown;
            let name = |end: &Option<DataSourceRef>| {
                end.as_ref().map_or("?".to_owned(), |end| end.name.clone())
            };
            let (server, task) = (&self.inner.server, &shown.id);
            let tables = [
                "quarantine",
                "checkpoint_layout",
                "checkpoint_chunk",
                "checkpoint_table",
                "checkpoint",
            ];
            statements.extend(tables.map(|table| {
                format!(
                    "DELETE FROM thalweg.{table} WHERE server = '{server}' AND task = '{task}';"
                )
            }));
            out.push(Leftover {
                place: format!(
                    "target {} (schema thalweg), source {}",
                    name(&shown.target),
                    name(&shown.source)
                ),
                statements,
                task_name: shown.description.unwrap_or_default(),
                task_id: shown.id,
                error,
                tried_ms: one.tried_ms.unwrap_or(0),
            });
        }
        Ok(out)
    }
}

fn running(task: &StoredTask) -> Error {
    Error::Running(format!(
        "task {} is running; stop it first (terminate)",
        task.shown.name
    ))
}

fn field_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Source => "source_datasource_id",
        Direction::Target => "target_datasource_id",
    }
}

fn matches(task: &Task, filter: &TaskFilter) -> bool {
    let end = |wanted: &Option<String>, has: Option<&str>| {
        wanted.as_ref().is_none_or(|w| has == Some(w.as_str()))
    };
    let (source, target) = (task.source.as_ref(), task.target.as_ref());
    end(&filter.task_id, Some(&task.id))
        && end(&filter.tag, task.tag.as_deref())
        && end(&filter.source_datasource_id, source.map(|s| s.id.as_str()))
        && end(&filter.target_datasource_id, target.map(|t| t.id.as_str()))
        && end(&filter.source_app_id, source.map(|s| s.app_id.as_str()))
        && end(&filter.target_app_id, target.map(|t| t.app_id.as_str()))
        && filter.running.is_none_or(|running| running == task.is_on())
        && filter
            .realtime
            .is_none_or(|realtime| realtime != task.kind.ends())
        && filter
            .execute_status
            .is_none_or(|status| status == task.execute_status())
        && filter
            .name
            .as_ref()
            .is_none_or(|part| task.name.to_lowercase().contains(&part.to_lowercase()))
        && filter
            .name_exact_case
            .as_ref()
            .is_none_or(|part| task.name.contains(part.as_str()))
}

/// With one data source at both ends, automatic mapping would pair every table with itself.
pub(super) fn two_ends(task: &StoredTask) -> Result<()> {
    let id = |end: &Option<DataSourceRef>| end.as_ref().map(|end| end.id.clone());
    match (id(&task.shown.source), id(&task.shown.target)) {
        (Some(source), Some(target)) if source == target => Err(Error::invalid(
            "target_datasource_id",
            "source and target are the same data source, so that a table could be copied onto itself",
        )),
        _ => Ok(()),
    }
}
