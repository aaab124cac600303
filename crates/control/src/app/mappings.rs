//! Mappings: tables to tables, columns to columns.

use std::collections::HashSet;

use thalweg_core::plan::{Converter, Verdict};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};

use super::App;
use super::tasks::two_ends;
use crate::catalog::{StoredTask, new_id, now_ms, page};
use crate::error::{Error, Result, Subject};
use crate::model::{
    ColumnInfo, ColumnLink, DataSourceRef, Direction, MappingFilter, MappingStatus, NewMapping,
    Scope, TableMapping, TaskMappings, Window,
};

/// Tables one automatic mapping takes (the contract's limit).
const AUTO_MAX: usize = 2000;

impl App {
    /// Adds a mapping to a stopped task or a draft. Gives its id.
    pub async fn mapping_create(
        &self,
        scope: &Scope,
        task: &str,
        new: NewMapping,
    ) -> Result<String> {
        let mut stored = self.stopped(scope, task).await?;
        let source = self
            .end(scope, &new.source_datasource_id, Direction::Source)
            .await?;
        let target = self
            .end(scope, &new.target_datasource_id, Direction::Target)
            .await?;
        check_tables(&new)?;
        check_links(&new.columns)?;
        self.set_end(&mut stored, source, Direction::Source).await?;
        self.set_end(&mut stored, target, Direction::Target).await?;
        two_ends(&stored)?;
        if new.server_id.is_some() {
            stored.shown.server_id = new.server_id;
        }
        let percent = match (new.columns.len(), new.source_columns.len()) {
            (0, _) | (_, 0) => 100,
            (linked, all) => u8::try_from((linked * 100 / all).min(100)).unwrap_or(100),
        };
        let mapping = TableMapping {
            id: new_id(),
            source_table: new.source_table,
            target_table: new.target_table,
            source_columns: new.source_columns,
            target_columns: new.target_columns,
            columns: new.columns,
            status: MappingStatus::Manual,
            percent,
            updated_ms: now_ms(),
        };
        stored.shown.updated_ms = mapping.updated_ms;
        self.catalog()
            .mapping_create(task, std::slice::from_ref(&mapping))
            .await?;
        self.catalog().task_put(&stored).await?;
        Ok(mapping.id)
    }

    /// The task with those of its mappings that match, in the order they were made.
    pub async fn mapping_list(
        &self,
        scope: &Scope,
        task: &str,
        filter: MappingFilter,
        window: Window,
    ) -> Result<TaskMappings> {
        let stored = self.catalog().task_show(&scope.instance, task).await?;
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
        self.stopped(scope, task).await?;
        match self.catalog().mapping_delete(task, id).await {
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

    /// Pairs every table of the source's database with the target's table of the same name (whatever
    /// the case, if only one is meant), and their columns likewise; a pair of columns that cannot work
    /// is left out. One that does not exist there is mapped to a table of its name, which the task's
    /// option `create_tables` can make.
    pub(super) async fn auto_mappings(
        &self,
        scope: &Scope,
        draft: &StoredTask,
        source: &DataSourceRef,
        target: &DataSourceRef,
    ) -> Result<Vec<TableMapping>> {
        let from = self.tables_of(scope, &source.id).await?;
        let to = self.tables_of(scope, &target.id).await?;
        let known = self.catalog().mapping_list(&draft.shown.id).await?;
        let mapped: HashSet<&str> = known.iter().map(|m| m.source_table.as_str()).collect();
        let mut out = Vec::new();
        for table in &from.tables {
            if mapped.contains(table.name.to_string().as_str()) {
                continue;
            }
            let twin = twin(&to.tables, &table.name.name, |t| &t.name.name);
            let name = match twin {
                Some(twin) => twin.name.clone(),
                None => TableName::new(&to.schema, &table.name.name),
            };
            out.push(auto_mapping(table, &name, twin));
        }
        Ok(out)
    }

    async fn tables_of(&self, scope: &Scope, id: &str) -> Result<Tables> {
        let stored = self.catalog().datasource_show(&scope.instance, id).await?;
        let (connector, config) = self.inner.reach(&stored, "thalweg".to_owned())?;
        let schema = connector.default_schema(&config);
        let failed = |e: thalweg_core::Error| Error::Unreachable {
            reason: e.chain(),
            detail: e.hint().map(str::to_owned),
        };
        let inspect = connector.inspect(&config).map_err(failed)?;
        let mut names = inspect.tables().await.map_err(failed)?;
        names.retain(|name| name.schema == schema);
        if names.len() > AUTO_MAX {
            return Err(Error::invalid(
                "auto_mapping",
                format!(
                    "{schema} has {} tables, and automatic mapping takes at most {AUTO_MAX}",
                    names.len()
                ),
            ));
        }
        let tables = inspect.describe(&names).await.map_err(failed)?;
        Ok(Tables { schema, tables })
    }
}

/// The tables of a data source's own schema.
struct Tables {
    schema: String,
    tables: Vec<TableSchema>,
}

/// The one of this name; or, if there is none, the only one that differs from it in case alone.
fn twin<'a, T>(all: &'a [T], name: &str, of: impl Fn(&T) -> &str) -> Option<&'a T> {
    let exact = all.iter().find(|one| of(one) == name);
    let lower = name.to_lowercase();
    let mut alike = all.iter().filter(|one| of(one).to_lowercase() == lower);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

fn auto_mapping(table: &TableSchema, name: &TableName, twin: Option<&TableSchema>) -> TableMapping {
    let links: Vec<ColumnLink> = match twin {
        None => Vec::new(),
        Some(twin) => {
            let pair = |from: &ColumnSchema| {
                let to = self::twin(&twin.columns, &from.name, |to| &to.name)?;
                let (_, verdict) = Converter::choose(&from.ty, &to.ty);
                (verdict != Verdict::Impossible && !to.generated).then(|| ColumnLink {
                    source: column_info(from),
                    target: column_info(to),
                })
            };
            table.columns.iter().filter_map(pair).collect()
        }
    };
    let percent = match (twin, table.columns.len()) {
        (Some(_), all) if all > 0 => links.len() * 100 / all,
        _ => 0,
    };
    TableMapping {
        id: new_id(),
        source_table: table.name.to_string(),
        target_table: name.to_string(),
        source_columns: table.columns.iter().map(column_info).collect(),
        target_columns: twin.map_or_else(Vec::new, |t| t.columns.iter().map(column_info).collect()),
        columns: links,
        status: MappingStatus::Auto,
        percent: u8::try_from(percent).unwrap_or(100),
        updated_ms: now_ms(),
    }
}

fn column_info(column: &ColumnSchema) -> ColumnInfo {
    let length = match &column.ty {
        ColumnType::Text { max_chars } => *max_chars,
        ColumnType::Bytes { max_bytes } => *max_bytes,
        ColumnType::Decimal { precision, .. } => *precision,
        ColumnType::Bits { len, .. } => *len,
        _ => None,
    };
    ColumnInfo {
        field_name: Some(column.name.clone()),
        field_type: Some(column.native.clone()),
        field_length: length.map(|length| length.to_string()),
    }
}

fn check_tables(new: &NewMapping) -> Result<()> {
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

fn check_links(links: &[ColumnLink]) -> Result<()> {
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
