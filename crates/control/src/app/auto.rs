//! Automatic mapping: tables to tables and columns to columns of the same name.
//!
//! Two systems write names in different cases (PostgreSQL folds to lower, MariaDB may keep), so a name
//! that has no exact twin is paired with the only one that differs from it in case alone. No two
//! names of one side ever get the same twin.

use std::collections::{HashMap, HashSet};

use thalweg_core::plan::{Converter, Verdict};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};

use super::App;
use super::datasources::CALL_LIMIT;
use super::mappings::is_loaded;
use super::tasks::FIRST;
use crate::catalog::{StoredTask, new_id, now_ms};
use crate::error::{Error, Result};
use crate::model::{
    AutoMapping, ColumnInfo, ColumnLink, MappingStatus, Role, Scope, Selected, TableChoice,
    TableMapping, TaskMappings,
};

/// Tables one automatic mapping takes (the contract's limit).
const MAX: usize = 2000;

/// The fields that errors name.
pub(super) struct Fields {
    /// Of the source's tables.
    pub(super) source: &'static str,
    /// Of the target's.
    pub(super) target: &'static str,
}

const SELECTED: Fields = Fields {
    source: "source_select_mapping_tables",
    target: "target_select_mapping_tables",
};

impl App {
    /// Pairs tables of a draft, a stopped task, or a new draft by name. The answer holds at most ten
    /// mappings, those of before among them.
    pub async fn mapping_auto(&self, scope: &Scope, auto: AutoMapping) -> Result<TaskMappings> {
        let mut task = self.draft(scope, auto.task_id.as_deref()).await?;
        if task.created {
            task = self.stopped(scope, &task.shown.id).await?;
        }
        Self::composite(&task)?;
        let ends = [&auto.source_datasource_id, &auto.target_datasource_id];
        self.set_ends(scope, &mut task, ends)
            .await
            .map_err(of_the_form)?;
        if auto.server_id.is_some() {
            task.shown.server_id = auto.server_id;
        }
        let made = self
            .auto_mappings(
                scope,
                &task,
                ends.map(String::as_str),
                &auto.choice,
                &SELECTED,
            )
            .await?;
        task.shown.updated_ms = now_ms();
        self.catalog().task_put(&task).await?;
        let id = task.shown.id;
        self.catalog().mapping_create(&id, &made).await?;
        self.task_mappings(scope, &id, FIRST).await
    }

    /// A mapping for each chosen table of the source that the task does not map yet: to the target's
    /// table of the name wanted, or, if there is none, to a table of that name, which the task's option
    /// `create_tables` can make. Columns that cannot be paired are left out.
    pub(super) async fn auto_mappings(
        &self,
        scope: &Scope,
        task: &StoredTask,
        [source, target]: [&str; 2],
        choice: &TableChoice,
        fields: &Fields,
    ) -> Result<Vec<TableMapping>> {
        let from = self
            .tables_of(scope, source, &choice.sources, fields.source)
            .await?;
        let to = self
            .tables_of(scope, target, &choice.targets, fields.target)
            .await?;
        for selected in &choice.sources {
            if let Selected::Table(name) = selected
                && !from.tables.iter().any(|table| table.name == *name)
            {
                let reason = format!("the source has no table {name} that we may read");
                return Err(Error::invalid(fields.source, reason));
            }
        }
        let known = self.catalog().mapping_list(&task.shown.id).await?;
        let pair = |m: &TableMapping| {
            let source = TableName::parse(&m.source_table, &from.schema)?;
            Some((TableName::parse(&m.target_table, &to.schema)?, source))
        };
        let known: Vec<_> = known.iter().filter_map(pair).collect();
        let mapped: HashSet<&TableName> = known.iter().map(|(_, source)| source).collect();
        // What fills each table of the target.
        let mut filled: HashMap<TableName, TableName> = known.iter().cloned().collect();
        let new = |table: &&TableSchema| !mapped.contains(&table.name);
        let new: Vec<&TableSchema> = from.tables.iter().filter(new).collect();
        let wanted: Vec<String> = new
            .iter()
            .map(|table| format!("{}{}{}", choice.prefix, table.name.name, choice.suffix))
            .collect();
        let there: Vec<&str> = to
            .tables
            .iter()
            .map(|table| table.name.name.as_str())
            .collect();
        let wanted_names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let status = match task.created {
            true => MappingStatus::Add,
            false => MappingStatus::Auto,
        };
        let mut out = Vec::new();
        for ((table, name), twin) in new.iter().zip(&wanted).zip(twins(&wanted_names, &there)) {
            let twin = twin.and_then(|at| to.tables.get(at));
            let name = match twin {
                Some(twin) => twin.name.clone(),
                None => match place(name, &choice.targets, &to.schema) {
                    Some(place) => place,
                    None => continue,
                },
            };
            if let Some(other) = filled.insert(name.clone(), table.name.clone()) {
                let reason = format!(
                    "{other} and {} would both be mapped to {name}; select one of them here and map \
                     the other to a table of its own",
                    table.name
                );
                return Err(Error::invalid(fields.source, reason));
            }
            out.push(TableMapping {
                reload: is_loaded(task),
                ..mapping(table, &name, twin, status)
            });
        }
        Ok(out)
    }

    async fn tables_of(
        &self,
        scope: &Scope,
        id: &str,
        selected: &[Selected],
        field: &str,
    ) -> Result<Tables> {
        let stored = self.source_for(scope, id, Role::Read).await?;
        let (connector, mut config) = self.inner.reach(&stored, "thalweg".to_owned())?;
        config.timeout = config.timeout.min(CALL_LIMIT);
        let schema = connector.default_schema(&config);
        let failed = |e: thalweg_core::Error| Error::Unreachable {
            reason: e.chain(),
            detail: e.hint().map(str::to_owned),
        };
        let inspect = connector.inspect(&config).map_err(failed)?;
        let mut names = inspect.tables().await.map_err(failed)?;
        names.retain(|name| match selected {
            [] => name.schema == schema,
            selected => selected.iter().any(|one| match one {
                Selected::Table(table) => table == name,
                Selected::Schema(schema) => *schema == name.schema,
            }),
        });
        if names.len() > MAX {
            let reason = format!(
                "{} tables are meant, and automatic mapping takes at most {MAX}",
                names.len()
            );
            return Err(Error::invalid(field, reason));
        }
        let tables = inspect.describe(&names).await.map_err(failed)?;
        Ok(Tables { schema, tables })
    }
}

/// The form names the data sources in its own way.
fn of_the_form(error: Error) -> Error {
    match error {
        Error::Invalid { field, reason } => Error::Invalid {
            field: field.replace("_datasource_id", "_ds_id"),
            reason,
        },
        other => other,
    }
}

/// Tables of a data source, and its own schema.
struct Tables {
    schema: String,
    tables: Vec<TableSchema>,
}

/// Where a table is made that the target does not have; `None` if it is not among those selected.
fn place(name: &str, selected: &[Selected], own: &str) -> Option<TableName> {
    if selected.is_empty() {
        return Some(TableName::new(own, name));
    }
    let by_name = selected.iter().find_map(|one| match one {
        Selected::Table(table) if table.name == name => Some(table.clone()),
        _ => None,
    });
    by_name.or_else(|| {
        selected.iter().find_map(|one| match one {
            Selected::Schema(schema) => Some(TableName::new(schema, name)),
            Selected::Table(_) => None,
        })
    })
}

/// For each of `names`, which of `others` is its twin: the one of the same name; else the one that
/// differs in case alone, if neither side has a second such name without a twin.
fn twins(names: &[&str], others: &[&str]) -> Vec<Option<usize>> {
    let exact: HashMap<&str, usize> = others
        .iter()
        .enumerate()
        .rev()
        .map(|(at, o)| (*o, at))
        .collect();
    let mut out: Vec<Option<usize>> = names.iter().map(|name| exact.get(name).copied()).collect();
    let taken: HashSet<usize> = out.iter().flatten().copied().collect();
    let mut alike: HashMap<String, (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (at, name) in names.iter().enumerate() {
        if !exact.contains_key(name) {
            alike.entry(name.to_lowercase()).or_default().0.push(at);
        }
    }
    for (at, other) in others
        .iter()
        .enumerate()
        .filter(|(at, _)| !taken.contains(at))
    {
        if let Some(pair) = alike.get_mut(&other.to_lowercase()) {
            pair.1.push(at);
        }
    }
    for pair in alike.into_values() {
        if let ([name], [other]) = (pair.0.as_slice(), pair.1.as_slice())
            && let Some(twin) = out.get_mut(*name)
        {
            *twin = Some(*other);
        }
    }
    out
}

fn mapping(
    table: &TableSchema,
    name: &TableName,
    twin: Option<&TableSchema>,
    status: MappingStatus,
) -> TableMapping {
    let there = twin.map_or(&[][..], |twin| &twin.columns);
    let mut links = Vec::new();
    let mut whole = 0;
    let paired = twins(&names(&table.columns), &names(there));
    for (from, twin) in table.columns.iter().zip(paired) {
        let Some(to) = twin.and_then(|at| there.get(at)) else {
            continue;
        };
        let (_, verdict) = Converter::choose(&from.ty, &to.ty);
        if verdict == Verdict::Impossible || to.generated {
            continue;
        }
        whole += usize::from(verdict != Verdict::Lossy);
        links.push(ColumnLink {
            source: column_info(from),
            target: column_info(to),
        });
    }
    let percent = match table.columns.len() {
        0 => 0,
        all => whole * 100 / all,
    };
    TableMapping {
        id: new_id(),
        source_table: table.name.to_string(),
        target_table: name.to_string(),
        source_columns: table.columns.iter().map(column_info).collect(),
        target_columns: there.iter().map(column_info).collect(),
        columns: links,
        status,
        percent: u8::try_from(percent).unwrap_or(100),
        updated_ms: now_ms(),
        paused: None,
        reload: false,
        doubt: false,
    }
}

fn names(columns: &[ColumnSchema]) -> Vec<&str> {
    columns.iter().map(|column| column.name.as_str()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paired_and_none_twice() {
        let check = |names: &[&str], others: &[&str], wanted: &[Option<usize>]| {
            assert_eq!(twins(names, others), wanted, "{names:?} {others:?}");
        };
        check(&["a", "B", "c"], &["b", "a"], &[Some(1), Some(0), None]);
        check(&["A", "a"], &["a"], &[None, Some(0)]);
        check(&["A", "a"], &["a", "A"], &[Some(1), Some(0)]);
        check(&["Ab", "aB"], &["ab"], &[None, None]);
        check(&["ab"], &["Ab", "aB"], &[None]);
        check(&["ab", "Ab"], &["Ab", "aB"], &[Some(1), Some(0)]);
        check(&["straße", "ŽLUŤ"], &["žluť"], &[None, Some(0)]);
        check(&[], &["a"], &[]);
    }

    #[test]
    fn a_missing_table_gets_a_place_among_those_selected() {
        let table = |text: &str| Selected::Table(TableName::parse(text, "").unwrap());
        let schema = |text: &str| Selected::Schema(text.to_owned());
        let check = |name: &str, selected: &[Selected], wanted: Option<&str>| {
            let place = place(name, selected, "own").map(|place| place.to_string());
            assert_eq!(place.as_deref(), wanted, "{name} {selected:?}");
        };
        check("t", &[], Some("own.t"));
        check("t", &[schema("s")], Some("s.t"));
        check("t", &[schema("s"), table("x.t")], Some("x.t"));
        check("t", &[table("x.u")], None);
    }
}
