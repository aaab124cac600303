//! Mappings: tables to tables, columns to columns.

use std::collections::HashSet;

use thalweg_core::schema::TableName;

use super::App;
use super::tasks::two_ends;
use crate::catalog::{StoredTask, new_id, now_ms, page};
use crate::error::{Error, Result, Subject};
use crate::model::{
    ColumnInfo, ColumnLink, DataSourceRef, Direction, MappingFilter, MappingStatus, NewMapping,
    Scope, TableMapping, TaskMappings, Window,
};

impl App {
    /// Adds a mapping to a stopped task or a draft. Gives its id.
    pub async fn mapping_create(
        &self,
        scope: &Scope,
        task: &str,
        new: NewMapping,
    ) -> Result<String> {
        let mut stored = self.stopped(scope, task).await?;
        Self::composite(&stored)?;
        self.set_mapping(scope, &mut stored, &new).await?;
        let mapping = TableMapping {
            reload: is_loaded(&stored),
            ..table_mapping(new_id(), new, MappingStatus::Manual)
        };
        stored.shown.updated_ms = mapping.updated_ms;
        self.catalog()
            .mapping_create(task, std::slice::from_ref(&mapping))
            .await?;
        self.catalog().task_put(&stored).await?;
        Ok(mapping.id)
    }

    /// Changes a mapping of a stopped task or a draft; a table that is mapped in another way than
    /// before is loaded again.
    pub async fn mapping_update(
        &self,
        scope: &Scope,
        task: &str,
        id: &str,
        new: NewMapping,
    ) -> Result<()> {
        let mut stored = self.stopped(scope, task).await?;
        Self::composite(&stored)?;
        self.set_mapping(scope, &mut stored, &new).await?;
        let mapping = table_mapping(id.to_owned(), new, MappingStatus::Update);
        stored.shown.updated_ms = mapping.updated_ms;
        let changed = self.catalog().mapping_update(task, &mapping).await;
        self.not_elsewhere(task, id, changed).await?;
        self.catalog().task_put(&stored).await
    }

    /// Checks a mapping, and takes over into the task what it says of that.
    pub(super) async fn set_mapping(
        &self,
        scope: &Scope,
        task: &mut StoredTask,
        new: &NewMapping,
    ) -> Result<()> {
        check_tables(new)?;
        check_links(&new.columns)?;
        let ends = [&new.source_datasource_id, &new.target_datasource_id];
        self.set_ends(scope, task, ends).await?;
        if new.server_id.is_some() {
            task.shown.server_id = new.server_id;
        }
        Ok(())
    }

    /// Makes the data sources of these ids the task's.
    pub(super) async fn set_ends(
        &self,
        scope: &Scope,
        task: &mut StoredTask,
        [source, target]: [&String; 2],
    ) -> Result<()> {
        for (id, direction) in [(source, Direction::Source), (target, Direction::Target)] {
            let end = self.end(scope, id, direction).await?;
            self.set_end(task, end, direction).await?;
        }
        two_ends(task)
    }

    /// What became of a mapping of the task; an error says so if it belongs to another one.
    async fn not_elsewhere(&self, task: &str, id: &str, done: Result<()>) -> Result<()> {
        match done {
            Err(Error::NotFound(Subject::Mapping))
                if self.catalog().mapping_elsewhere(task, id).await? =>
            {
                Err(Error::Mapping(
                    "the mapping belongs to another task".to_owned(),
                ))
            }
            other => other,
        }
    }

    /// The task with those of its mappings that match, in the order they were made.
    pub async fn mapping_list(
        &self,
        scope: &Scope,
        task: &str,
        filter: MappingFilter,
        window: Window,
    ) -> Result<TaskMappings> {
        let stored = self.task_seen(scope, task).await?;
        let mut all = self.catalog().mapping_list(task).await?;
        let end = |wanted: &Option<String>, has: &Option<DataSourceRef>| {
            wanted
                .as_ref()
                .is_none_or(|w| has.as_ref().is_some_and(|has| has.id == *w))
        };
        let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w == has);
        let ends = end(&filter.source_datasource_id, &stored.shown.source)
            && end(&filter.target_datasource_id, &stored.shown.target);
        all.retain(|m| {
            ends && is(&filter.source_table, &m.source_table)
                && is(&filter.target_table, &m.target_table)
                && filter.table_name.as_ref().is_none_or(|part| {
                    let part = part.to_lowercase();
                    m.source_table.to_lowercase().contains(&part)
                        || m.target_table.to_lowercase().contains(&part)
                })
        });
        Ok(TaskMappings {
            task: stored.shown,
            mappings: page(all, window),
        })
    }

    pub(super) async fn task_mappings(
        &self,
        scope: &Scope,
        task: &str,
        window: Window,
    ) -> Result<TaskMappings> {
        self.mapping_list(scope, task, MappingFilter::default(), window)
            .await
    }

    /// Removes a mapping from a stopped task or a draft.
    pub async fn mapping_delete(&self, scope: &Scope, task: &str, id: &str) -> Result<()> {
        Self::composite(&self.stopped(scope, task).await?)?;
        let deleted = self.catalog().mapping_delete(task, id).await;
        self.not_elsewhere(task, id, deleted).await
    }
}

/// Whether a table that comes to a task is loaded in any case: the task has run, and may have loaded it before.
/// That its rows were in doubt was forgotten with its mapping.
pub(super) fn is_loaded(task: &StoredTask) -> bool {
    task.shown.execution.is_some()
}

pub(super) fn table_mapping(id: String, new: NewMapping, status: MappingStatus) -> TableMapping {
    let percent = match (new.columns.len(), new.source_columns.len()) {
        (0, _) | (_, 0) => 100,
        (linked, all) => u8::try_from((linked * 100 / all).min(100)).unwrap_or(100),
    };
    TableMapping {
        id,
        source_table: new.source_table,
        target_table: new.target_table,
        source_columns: new.source_columns,
        target_columns: new.target_columns,
        columns: new.columns,
        status,
        percent,
        updated_ms: now_ms(),
        paused: None,
        reload: false,
        doubt: false,
    }
}

pub(super) fn check_tables(new: &NewMapping) -> Result<()> {
    for (field, text) in [
        ("source_table", &new.source_table),
        ("target_table", &new.target_table),
    ] {
        if TableName::parse(text, "default").is_none() {
            return Err(Error::invalid(
                field,
                "it has to be a table, or schema.table",
            ));
        }
    }
    Ok(())
}

pub(super) fn check_links(links: &[ColumnLink]) -> Result<()> {
    let mut filled = HashSet::new();
    for link in links {
        let name = |info: &ColumnInfo| info.field_name.clone().filter(|name| !name.is_empty());
        let (Some(_), Some(target)) = (name(&link.source), name(&link.target)) else {
            return Err(Error::Mapping(
                "every entry of mapping_columns needs source_column and target_column".to_owned(),
            ));
        };
        if !filled.insert(target.clone()) {
            return Err(Error::Mapping(format!(
                "two entries of mapping_columns fill target column {target}"
            )));
        }
    }
    Ok(())
}
