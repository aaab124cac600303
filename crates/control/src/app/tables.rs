//! Tables of a task, one by one, also while it runs.
//!
//! What is decided is stored first. A running task is told then, ends its batch and plans again, by what is
//! stored: so a decision holds whatever happens to the process, and of decisions at the same time none is
//! lost. Before a table comes to a running task it is looked whether the task could go on with it: a task
//! that runs is not to stop for it.

use std::collections::HashMap;

use thalweg_core::Side;
use thalweg_core::finding::Finding;
use thalweg_engine::status::TableStatus;

use super::App;
use super::mappings::{check_links, check_tables, table_mapping};
use crate::catalog::{MappingChange, StoredTask, new_id, now_ms, page};
use crate::error::{Error, Result, Subject};
use crate::model::{
    MappingStatus, NewMapping, NewTable, Page, Paused, Scope, TableMapping, TaskTable, Window,
};
use crate::preflight::preflight;
use crate::supervisor::{Supervisor, run};
use crate::tables::{Named, Schemas, Tables};

impl App {
    /// The tables of a task, in the order they were mapped.
    pub async fn table_list(
        &self,
        scope: &Scope,
        task: &str,
        window: Window,
    ) -> Result<Page<TaskTable>> {
        let stored = self.created(scope, task).await?;
        Ok(page(self.tables(&stored).await?, window))
    }

    /// Those of its tables that are paused; also of a draft.
    pub async fn tables_paused(&self, scope: &Scope, task: &str) -> Result<Vec<TaskTable>> {
        let stored = self.task_seen(scope, task).await?;
        let mut all = self.tables(&stored).await?;
        all.retain(|table| table.paused.is_some());
        Ok(all)
    }

    /// How many mappings of each task are paused, by the task's id; tasks without are left out.
    pub async fn tasks_paused(&self) -> Result<HashMap<String, u64>> {
        self.catalog().mappings_paused().await
    }

    /// Leaves a table out of the task's runs until it is resumed; one that is paused already stays as it is.
    /// `NotFound(Mapping)`; `Conflict` if it is the last one of a task that runs.
    pub async fn table_pause(&self, scope: &Scope, task: &str, id: &str) -> Result<TaskTable> {
        let why = Paused {
            reason: "paused by a user".to_owned(),
            fix: "resume it".to_owned(),
            since_ms: now_ms(),
            returns: false,
        };
        let stored = self.created(scope, task).await?;
        let decide = |tables: &Tables, running| tables.pause(running, id, &why);
        self.decide(&stored, decide).await?;
        self.table(&stored, id).await
    }

    /// Takes a paused table back into the task's runs: it is loaded again. One that is not paused stays as it
    /// is. `NotFound(Mapping)`; of a task that runs `Mapping` with all that stands in the way, and
    /// `Unreachable` if a system cannot be asked for that: it stays paused then.
    pub async fn table_resume(&self, scope: &Scope, task: &str, id: &str) -> Result<TaskTable> {
        let stored = self.created(scope, task).await?;
        self.decide(&stored, |tables, _| tables.resume(id)).await?;
        self.table(&stored, id).await
    }

    /// Loads a table again, at the next run if the task does not run. `NotFound(Mapping)`; `Conflict` if it is
    /// paused, or if the task loads nothing.
    pub async fn table_reload(&self, scope: &Scope, task: &str, id: &str) -> Result<TaskTable> {
        let stored = self.created(scope, task).await?;
        let loads = stored.shown.operations.insert;
        let decide = |tables: &Tables, _| match (tables.load_again(id), loads) {
            (Ok(_), false) => Err(Error::Conflict(format!(
                "task {} does not carry inserts, so it loads no rows",
                stored.shown.name
            ))),
            (decided, _) => decided,
        };
        self.decide(&stored, decide).await?;
        self.table(&stored, id).await
    }

    /// Adds a table to a task that has its data sources. `Mapping` if it is there already or, of a task that
    /// runs, with all that stands in the way; `Conflict` if its target table is paused; `Unreachable` if a
    /// system cannot be asked for that. It is not added then.
    pub async fn table_add(&self, scope: &Scope, task: &str, new: NewTable) -> Result<TaskTable> {
        let stored = self.created(scope, task).await?;
        Self::composite(&stored)?;
        let (Some(source), Some(target)) = (&stored.shown.source, &stored.shown.target) else {
            return Err(Error::Mapping(format!(
                "task {} has no data sources yet: they come with its first mapping",
                stored.shown.name
            )));
        };
        let new = NewMapping {
            source_datasource_id: source.id.clone(),
            target_datasource_id: target.id.clone(),
            server_id: None,
            source_table: new.source_table,
            target_table: new.target_table,
            source_columns: new.source_columns,
            target_columns: new.target_columns,
            columns: new.columns,
        };
        check_tables(&new)?;
        check_links(&new.columns)?;
        let new = table_mapping(new_id(), new, MappingStatus::Manual);
        let new = Named::of(new, &run::schemas(&self.inner, &stored).await?)?;
        self.decide(&stored, |tables, _| tables.add(&new)).await?;
        self.table(&stored, &new.mapping.id).await
    }

    /// Removes a table from a task; at the target it stays as it is. `NotFound(Mapping)`; `Conflict` if it is
    /// the last one of a task that runs.
    pub async fn table_remove(&self, scope: &Scope, task: &str, id: &str) -> Result<()> {
        let stored = self.created(scope, task).await?;
        Self::composite(&stored)?;
        self.decide(&stored, |tables, running| tables.remove(running, id))
            .await
    }

    /// Decides about a task's tables, stores it, and tells the task if it runs.
    async fn decide(
        &self,
        task: &StoredTask,
        decide: impl Fn(&Tables, bool) -> Result<Vec<MappingChange>> + Send + Sync,
    ) -> Result<()> {
        let id = &task.shown.id;
        let mut after = self.catalog().mapping_list(id).await?;
        if task.shown.source.is_none() || task.shown.target.is_none() {
            // So it has no mappings.
            return decide(&Tables::new(Vec::new()), false).map(drop);
        }
        let schemas = run::schemas(&self.inner, task).await?;
        let tables = Tables::of(after.clone(), &schemas)?;
        // What is refused does not disturb the task.
        let changes = decide(&tables, task.shown.running)?;
        if changes.is_empty() {
            return Ok(());
        }
        let comes =
            |one: &MappingChange| matches!(one, MappingChange::Add(_) | MappingChange::Resume(_));
        if task.shown.running && changes.iter().any(comes) {
            changes.iter().for_each(|change| change.apply(&mut after));
            self.could_go_on(task, after).await?;
        }
        // Told also if the caller goes away while it is stored.
        let told = Told(&self.supervisor, id);
        let stored = self.catalog().mappings_change(id, |now, running| {
            decide(&Tables::of(now, &schemas)?, running)
        });
        stored.await?;
        drop(told);
        Ok(())
    }

    /// Whether a running task would not stop for these mappings.
    async fn could_go_on(&self, task: &StoredTask, mappings: Vec<TableMapping>) -> Result<()> {
        let shown = &task.shown;
        let ends = run::ends_of(&self.inner, task, shown.server_id, mappings).await?;
        let (source, target) = (ends.source.as_ref(), ends.target.as_ref());
        let asked = preflight(
            source,
            target,
            &ends.key,
            &ends.mappings,
            shown.operations,
            &shown.options,
        );
        let found = asked.await.map_err(|error| not_asked(&error))?;
        if found.refused_at.is_none() {
            return Ok(());
        }
        let refusing = found.findings.iter().filter(|finding| finding.refuses());
        let told: Vec<_> = refusing.map(told).collect();
        Err(Error::Mapping(format!(
            "the task would stop: {}",
            told.join("; ")
        )))
    }

    async fn table(&self, task: &StoredTask, id: &str) -> Result<TaskTable> {
        let all = self.tables(task).await?;
        let found = all.into_iter().find(|table| table.mapping == id);
        // Another call may have removed it meanwhile.
        found.ok_or(Error::NotFound(Subject::Mapping))
    }

    async fn tables(&self, task: &StoredTask) -> Result<Vec<TaskTable>> {
        let mappings = self.catalog().mapping_list(&task.shown.id).await?;
        if mappings.is_empty() {
            return Ok(Vec::new());
        }
        let schemas: Schemas = run::schemas(&self.inner, task).await?;
        let tables = Tables::of(mappings, &schemas)?;
        let live = self.supervisor.live(&task.shown.id);
        let known = live.iter().flat_map(|live| {
            let names = live.tables.iter().map(|(_, target)| target.as_str());
            names.zip(&live.status.tables)
        });
        let known: HashMap<&str, &TableStatus> = known.collect();
        let shown = |one: &Named| shown(one, &tables, &known);
        Ok(tables.all.iter().map(shown).collect())
    }
}

/// Has a task planned again when it is dropped.
struct Told<'a>(&'a Supervisor, &'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.replan(self.1);
    }
}

fn shown(one: &Named, tables: &Tables, known: &HashMap<&str, &TableStatus>) -> TaskTable {
    let target = one.target.to_string();
    let status = known.get(target.as_str()).map(|status| (*status).clone());
    TaskTable {
        mapping: one.mapping.id.clone(),
        source: one.source.to_string(),
        paused: tables.paused(&one.target).cloned(),
        reload: tables.reload(&one.target),
        target,
        status,
    }
}

/// A system does not say whether a task can go on.
fn not_asked(error: &thalweg_core::Error) -> Error {
    let end = match error.side() {
        Some(Side::Source) => "the source",
        Some(Side::Target) => "the target",
        None => "a system",
    };
    Error::Unreachable {
        reason: format!(
            "{end} could not be asked whether the task can go on with the table, so nothing was changed: {}",
            error.chain()
        ),
        detail: error.hint().map(str::to_owned),
    }
}

/// A finding with its fix.
fn told(finding: &Finding) -> String {
    match finding.fix.is_empty() {
        true => format!("{}: {}", finding.subject, finding.message),
        false => format!(
            "{}: {} (fix: {})",
            finding.subject, finding.message, finding.fix
        ),
    }
}
