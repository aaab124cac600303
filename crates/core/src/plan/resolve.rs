//! Making a plan, or findings that say why not.

use std::collections::{BTreeMap, HashSet};

use super::{Converter, Pair, Plan, Route, SourceTable, TargetTable, Verdict};
use crate::finding::Finding;
use crate::mapping::{ColumnPair, Mapping, Operations, TaskOptions};
use crate::schema::{ForeignKey, TableName, TableSchema, UniqueKey};

/// One mapping with what both systems say of its tables.
#[derive(Clone, Debug)]
pub struct TablePair {
    /// What the user wants.
    pub mapping: Mapping,
    /// The source table; `None`: it does not exist.
    pub source: Option<TableSchema>,
    /// The target table, or the proposal for one that is to be created; `None`: it does not exist.
    pub target: Option<TableSchema>,
    /// Whether `target` is a proposal.
    pub create: bool,
}

impl Mapping {
    /// The column pairs wanted: those given, or all source columns by name.
    pub fn pairs(&self, source: &TableSchema) -> Vec<ColumnPair> {
        if !self.columns.is_empty() {
            return self.columns.clone();
        }
        let by_name = |c: &crate::schema::ColumnSchema| ColumnPair {
            source: c.name.clone(),
            target: c.name.clone(),
        };
        source.columns.iter().map(by_name).collect()
    }
}

/// What came of it. `plan` is set exactly if no finding refuses.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The plan.
    pub plan: Option<Plan>,
    /// Everything there is to say, all at once.
    pub findings: Vec<Finding>,
}

/// Resolves a task.
pub fn resolve(pairs: Vec<TablePair>, operations: Operations, options: TaskOptions) -> Resolution {
    let mut findings = Vec::new();
    if pairs.is_empty() {
        findings.push(Finding::error(
            "no_mapping",
            "task",
            "it has no mapping",
            "add a mapping",
        ));
    }
    let mut fed: BTreeMap<TableName, TableName> = BTreeMap::new();
    for pair in &pairs {
        let (from, to) = (&pair.mapping.source, &pair.mapping.target);
        if let Some(first) = fed.insert(to.clone(), from.clone()) {
            findings.push(Finding::error(
                "several_sources",
                to.to_string(),
                format!(
                    "both {first} and {from} are mapped to it; one target table takes its \
                         rows from one mapping until merging is built"
                ),
                "keep one of the mappings, or map the other to a table of its own",
            ));
        }
    }
    let links = foreign_keys(&pairs);
    let mut resolved = Vec::new();
    for pair in pairs {
        let found = findings.len();
        if let Some(table) = resolve_pair(&pair, &links, &mut findings) {
            resolved.push(table);
        }
        debug_assert!(found <= findings.len());
    }
    let plan =
        (!findings.iter().any(Finding::refuses)).then(|| assemble(resolved, operations, options));
    Resolution { plan, findings }
}

/// A resolved pair before indexes are known.
struct Resolved {
    source: TableSchema,
    target: TargetTable,
    cells: Vec<(usize, Converter)>,
}

fn resolve_pair(
    pair: &TablePair,
    links: &BTreeMap<TableName, Vec<ForeignKey>>,
    findings: &mut Vec<Finding>,
) -> Option<Resolved> {
    let mapping = &pair.mapping;
    let Some(source) = &pair.source else {
        findings.push(Finding::error(
            "source_table_missing",
            mapping.source.to_string(),
            "the source has no such table, or the user may not see it",
            format!(
                "create it, grant SELECT on it, or delete mapping {}",
                mapping.id
            ),
        ));
        return None;
    };
    let Some(target) = &pair.target else {
        findings.push(Finding::error(
            "target_table_missing",
            mapping.target.to_string(),
            "the target has no such table",
            "create it, or set the task's option create_tables to missing",
        ));
        return None;
    };
    let before = findings.len();
    let (columns, cells, sources) = columns(mapping, source, target, findings);
    let (key, key_is_primary) = key(mapping, source, target, &columns, &sources, findings);
    unmapped(target, &columns, findings);
    if findings.iter().skip(before).any(Finding::refuses) {
        return None;
    }
    let unique_keys = target
        .unique_keys
        .iter()
        .filter_map(|unique| {
            Some(UniqueKey {
                name: unique.name.clone(),
                columns: places(&unique.columns, &columns)?,
            })
        })
        .filter(|unique| key_is_primary || unique.columns != key)
        .collect();
    Some(Resolved {
        source: source.clone(),
        cells,
        target: TargetTable {
            name: target.name.clone(),
            columns: columns
                .iter()
                .filter_map(|&c| target.columns.get(c).cloned())
                .collect(),
            key,
            key_is_primary,
            unique_keys,
            foreign_keys: links.get(&target.name).cloned().unwrap_or_default(),
            create: pair.create,
            has_unmapped: columns.len() < target.columns.len(),
            source: 0,
        },
    })
}

/// The mapped target columns, their converters, and the source column behind each.
fn columns(
    mapping: &Mapping,
    source: &TableSchema,
    target: &TableSchema,
    findings: &mut Vec<Finding>,
) -> (Vec<usize>, Vec<(usize, Converter)>, Vec<usize>) {
    let mut columns = Vec::new();
    let mut cells = Vec::new();
    let mut seen = HashSet::new();
    for pair in mapping.pairs(source) {
        let subject = format!("{}.{}", mapping.target, pair.target);
        let Some(from) = source.column_index(&pair.source) else {
            findings.push(Finding::error(
                "source_column_missing",
                format!("{}.{}", mapping.source, pair.source),
                "the source table has no such column (names are case-sensitive)",
                format!("correct mapping {}", mapping.id),
            ));
            continue;
        };
        let Some(to) = target.column_index(&pair.target) else {
            findings.push(Finding::error(
                "target_column_missing",
                subject,
                "the target table has no such column (names are case-sensitive)",
                format!("add the column, or correct mapping {}", mapping.id),
            ));
            continue;
        };
        if !seen.insert(to) {
            findings.push(Finding::error(
                "column_mapped_twice",
                subject,
                "more than one source column is mapped to it",
                format!("keep one in mapping {}", mapping.id),
            ));
            continue;
        }
        let (Some(s), Some(t)) = (source.columns.get(from), target.columns.get(to)) else {
            continue;
        };
        if t.generated {
            findings.push(Finding::error(
                "column_generated",
                subject,
                "the target computes this column, so it cannot be written",
                format!("leave it out of mapping {}", mapping.id),
            ));
            continue;
        }
        let Pair {
            converter,
            verdict,
            note,
        } = Pair::of(&s.ty, &t.ty);
        match verdict {
            Verdict::Impossible => findings.push(Finding::error(
                "type_impossible",
                subject.clone(),
                format!(
                    "{} cannot be carried over from {} without changing values",
                    t.native, s.native
                ),
                format!("give {subject} a type that holds every {}", s.native),
            )),
            Verdict::Narrowing => findings.push(Finding::info(
                "type_narrowing",
                subject.clone(),
                format!(
                    "not every {} fits {}{}; one that does not stops the task",
                    s.native,
                    t.native,
                    if note.is_empty() {
                        String::new()
                    } else {
                        format!(" ({note})")
                    }
                ),
                "",
            )),
            Verdict::Lossy => findings.push(Finding::warning(
                "type_lossy",
                subject.clone(),
                format!(
                    "{} arrives in {} in another form: {note}",
                    s.native, t.native
                ),
                format!("give {subject} a type that keeps every {}", s.native),
            )),
            Verdict::Exact | Verdict::Widening => {}
        }
        if s.nullable && !t.nullable {
            findings.push(Finding::warning(
                "nullable_to_not_null",
                subject.clone(),
                "the source column allows NULL, the target column does not; a NULL stops the task",
                format!("allow NULL in {subject}"),
            ));
        }
        columns.push(to);
        cells.push((from, converter));
    }
    if columns.is_empty() {
        findings.push(Finding::error(
            "no_columns",
            mapping.target.to_string(),
            "no column is mapped",
            format!("map at least the key columns in mapping {}", mapping.id),
        ));
    }
    let sources = cells.iter().map(|(from, _)| *from).collect();
    (columns, cells, sources)
}

/// The columns that identify a target row: its primary key, or else a unique key of not-null
/// columns, fully mapped. Two source rows must never meet in one target row, so the source columns
/// behind it have to hold a unique key of the source.
fn key(
    mapping: &Mapping,
    source: &TableSchema,
    target: &TableSchema,
    columns: &[usize],
    sources: &[usize],
    findings: &mut Vec<Finding>,
) -> (Vec<usize>, bool) {
    let subject = mapping.target.to_string();
    let primary = &target.primary_key;
    let candidates = std::iter::once((primary, true))
        .filter(|(key, _)| !key.is_empty())
        .chain(
            target
                .unique_keys
                .iter()
                .map(|unique| (&unique.columns, false))
                .filter(|(key, _)| {
                    key.iter()
                        .all(|c| target.columns.get(*c).is_some_and(|c| !c.nullable))
                }),
        );
    let source_keys: Vec<&Vec<usize>> = std::iter::once(&source.primary_key)
        .filter(|key| !key.is_empty())
        .chain(source.unique_keys.iter().map(|u| &u.columns).filter(|key| {
            key.iter()
                .all(|c| source.columns.get(*c).is_some_and(|c| !c.nullable))
        }))
        .collect();
    let mut mapped_any = false;
    for (key, is_primary) in candidates {
        let Some(places) = places(key, columns) else {
            continue;
        };
        mapped_any = true;
        let behind: Vec<usize> = places
            .iter()
            .filter_map(|p| sources.get(*p).copied())
            .collect();
        if source_keys
            .iter()
            .any(|unique| unique.iter().all(|c| behind.contains(c)))
        {
            return (places, is_primary);
        }
    }
    if mapped_any {
        findings.push(Finding::error(
            "key_not_unique",
            subject,
            "the source columns mapped to its key are not unique at the source, so two source \
             rows could meet in one target row",
            format!(
                "map the primary key of {} to the key of the target",
                mapping.source
            ),
        ));
    } else if !primary.is_empty() {
        findings.push(Finding::error(
            "key_not_mapped",
            subject,
            "its primary key is not fully mapped, so its rows cannot be told apart",
            format!("map every key column in mapping {}", mapping.id),
        ));
    } else {
        findings.push(Finding::warning(
            "no_key",
            subject.clone(),
            "it has no primary key: rows are found by all their columns, one by one, which is slow",
            format!("add a primary key to {subject}"),
        ));
    }
    (Vec::new(), false)
}

/// Where each of `wanted` stands among `columns`; `None` if one is missing.
fn places(wanted: &[usize], columns: &[usize]) -> Option<Vec<usize>> {
    wanted
        .iter()
        .map(|w| columns.iter().position(|c| c == w))
        .collect()
}

fn unmapped(target: &TableSchema, columns: &[usize], findings: &mut Vec<Finding>) {
    for (index, column) in target.columns.iter().enumerate() {
        let fills = column.nullable || column.has_default || column.generated;
        if !fills && !columns.contains(&index) {
            let subject = format!("{}.{}", target.name, column.name);
            findings.push(Finding::error(
                "unmapped_not_null",
                subject.clone(),
                "it takes no NULL, has no default, and no source column is mapped to it",
                format!("map a column to {subject}, give it a default, or allow NULL"),
            ));
        }
    }
}

/// Foreign keys of target tables to other targets of the task, in target names. For a table that is
/// to be created they come from the source's foreign keys whose two ends are mapped.
fn foreign_keys(pairs: &[TablePair]) -> BTreeMap<TableName, Vec<ForeignKey>> {
    let targets: HashSet<&TableName> = pairs.iter().map(|p| &p.mapping.target).collect();
    let mut links = BTreeMap::new();
    for pair in pairs {
        let (Some(source), Some(target)) = (&pair.source, &pair.target) else {
            continue;
        };
        let keys: Vec<ForeignKey> = if pair.create {
            source
                .foreign_keys
                .iter()
                .filter_map(|key| mapped_key(key, pair, source, pairs))
                .collect()
        } else {
            target
                .foreign_keys
                .iter()
                .filter(|k| targets.contains(&k.parent))
                .cloned()
                .collect()
        };
        links.insert(target.name.clone(), keys);
    }
    links
}

fn mapped_key(
    key: &ForeignKey,
    child: &TablePair,
    source: &TableSchema,
    pairs: &[TablePair],
) -> Option<ForeignKey> {
    let rename = |pairs: &[ColumnPair], names: &[String]| -> Option<Vec<String>> {
        let of = |name: &String| {
            pairs
                .iter()
                .find(|p| &p.source == name)
                .map(|p| p.target.clone())
        };
        names.iter().map(of).collect()
    };
    let parent = pairs.iter().find(|p| p.mapping.source == key.parent)?;
    Some(ForeignKey {
        name: key.name.clone(),
        columns: rename(&child.mapping.pairs(source), &key.columns)?,
        parent: parent.mapping.target.clone(),
        parent_columns: rename(
            &parent.mapping.pairs(parent.source.as_ref()?),
            &key.parent_columns,
        )?,
        on_delete: key.on_delete,
        on_update: key.on_update,
    })
}

/// Puts parents before children and gives everything its index.
fn assemble(mut tables: Vec<Resolved>, operations: Operations, options: TaskOptions) -> Plan {
    let mut sources: Vec<SourceTable> = Vec::new();
    let mut targets: Vec<TargetTable> = Vec::new();
    while !tables.is_empty() {
        let waiting: HashSet<TableName> = tables.iter().map(|t| t.target.name.clone()).collect();
        let free = tables.iter().position(|table| {
            let parents = table.target.foreign_keys.iter().map(|key| &key.parent);
            parents
                .into_iter()
                .all(|p| *p == table.target.name || !waiting.contains(p))
        });
        // A cycle has no order: the first of it goes, and the row-by-row path sorts it out.
        let mut table = tables.remove(free.unwrap_or(0));
        let source = match sources
            .iter()
            .position(|s| s.schema.name == table.source.name)
        {
            Some(index) => index,
            None => {
                sources.push(SourceTable {
                    schema: table.source,
                    routes: Vec::new(),
                });
                sources.len() - 1
            }
        };
        table.target.source = source;
        if let Some(feeding) = sources.get_mut(source) {
            feeding.routes.push(Route {
                target: targets.len(),
                cells: table.cells,
            });
        }
        targets.push(table.target);
    }
    Plan {
        sources,
        targets,
        operations,
        options,
    }
}
