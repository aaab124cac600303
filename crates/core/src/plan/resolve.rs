//! Making a plan, or findings that say why not.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::cascade::{can_be_made, cascades};
use super::{Cell, Converter, Feed, Pair, Plan, Route, SourceTable, TargetTable, Verdict, key};
use crate::finding::Finding;
use crate::mapping::{ColumnPair, Mapping, OnChange, Operations, TaskOptions};
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
    /// Whether the task made it and then dropped foreign keys of it, which are to come back.
    pub rekey: bool,
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
    owners(&pairs, &options, &mut findings);
    let links = foreign_keys(&pairs, &options);
    let mut groups: Vec<Vec<TablePair>> = Vec::new();
    let mut group_of: BTreeMap<TableName, usize> = BTreeMap::new();
    for pair in pairs {
        let next = groups.len();
        let group = group_of.entry(pair.mapping.target.clone()).or_insert(next);
        match groups.get_mut(*group) {
            Some(group) => group.push(pair),
            None => groups.push(vec![pair]),
        }
    }
    let mut resolved = Vec::new();
    for group in &groups {
        resolved.extend(resolve_group(
            group,
            operations,
            &options,
            &links,
            &mut findings,
        ));
    }
    if findings.iter().any(Finding::refuses) {
        return Resolution {
            plan: None,
            findings,
        };
    }
    let mut plan = assemble(resolved, operations, options);
    let pairs: Vec<TablePair> = groups.into_iter().flatten().collect();
    let (cascades, more) = cascades(&pairs, &plan);
    plan.cascades = cascades;
    let whole = pairs.iter().filter(|pair| pair.mapping.columns.is_empty());
    let whole: HashSet<&TableName> = whole.map(|pair| &pair.mapping.source).collect();
    for source in &mut plan.sources {
        source.schema.whole = plan.options.on_changes.add_column != OnChange::Ignore
            && whole.contains(&source.schema.name);
        source.narrow();
    }
    findings.extend(more);
    Resolution {
        plan: (!findings.iter().any(Finding::refuses)).then_some(plan),
        findings,
    }
}

/// A target table before the indexes of its sources are known.
struct Resolved {
    target: TargetTable,
    sources: Vec<(TableSchema, Vec<Cell>)>,
}

/// One mapping whose tables and columns exist.
pub(super) struct Mapped<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) source: &'a TableSchema,
    /// Target column, source column (as indexes into the schemas) and converter, in the mapping's
    /// order.
    pub(super) cells: Vec<(usize, usize, Converter)>,
}

impl Mapped<'_> {
    /// The source column behind a target column.
    pub(super) fn behind(&self, target: usize) -> Option<usize> {
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.0 == target).map(|cell| cell.1)
    }
}

/// All mappings to one target table.
fn resolve_group(
    group: &[TablePair],
    operations: Operations,
    options: &TaskOptions,
    links: &BTreeMap<TableName, Vec<ForeignKey>>,
    findings: &mut Vec<Finding>,
) -> Option<Resolved> {
    let before = findings.len();
    let mut mapped = Vec::new();
    let mut there = None;
    for pair in group {
        let Some((source, target)) = exists(pair, findings) else {
            continue;
        };
        there = Some((target, pair));
        mapped.push(Mapped {
            mapping: &pair.mapping,
            source,
            cells: columns(&pair.mapping, source, target, findings),
        });
    }
    let (target, pair) = there?;
    let key = key::choose(target, &mapped, operations, findings);
    let owner = owner_of(&target.name, options);
    let row_owner = owner
        .and_then(|owner| mapped.iter().position(|m| is_named(&m.source.name, owner)))
        .filter(|_| mapped.len() > 1);
    if group.len() > 1 {
        key::merge(
            target,
            &mapped,
            &key.columns,
            row_owner,
            operations,
            findings,
        );
    }
    let mut columns: Vec<usize> = Vec::new();
    for (column, ..) in mapped.iter().flat_map(|m| &m.cells) {
        if !columns.contains(column) {
            columns.push(*column);
        }
    }
    unmapped(target, &columns, findings);
    if findings.iter().skip(before).any(Finding::refuses) {
        return None;
    }
    let places = |wanted: &[usize]| places(wanted, &columns);
    let key_places = places(&key.columns)?;
    let unique = |unique: &UniqueKey| {
        Some(UniqueKey {
            name: unique.name.clone(),
            columns: places(&unique.columns)?,
        })
    };
    let unique_keys = target.unique_keys.iter().filter_map(unique);
    let unique_keys = unique_keys
        .filter(|unique| key.is_primary || unique.columns != key_places)
        .collect();
    let cell = |mapped: &Mapped<'_>, column: &usize| {
        let mut cells = mapped.cells.iter();
        let found = cells.find(|(to, ..)| to == column);
        found.map_or(Cell::Absent, |(_, from, converter)| {
            Cell::Column(*from, converter.clone())
        })
    };
    let sources: Vec<(TableSchema, Vec<Cell>)> = mapped
        .iter()
        .map(|mapped| {
            let cells = columns.iter().map(|column| cell(mapped, column));
            (mapped.source.clone(), cells.collect())
        })
        .collect();
    let feed = |(_, cells): &(TableSchema, Vec<Cell>)| {
        let filled = cells
            .iter()
            .enumerate()
            .filter(|(_, cell)| **cell != Cell::Absent);
        Feed {
            source: 0,
            columns: filled.map(|(index, _)| index).collect(),
        }
    };
    Some(Resolved {
        target: TargetTable {
            name: target.name.clone(),
            columns: columns
                .iter()
                .filter_map(|&c| target.columns.get(c).cloned())
                .collect(),
            key: key_places,
            key_is_primary: key.is_primary,
            unique_keys,
            foreign_keys: links.get(&target.name).cloned().unwrap_or_default(),
            create: pair.create,
            rekey: pair.rekey,
            has_unmapped: columns.len() < target.columns.len(),
            feeds: sources.iter().map(feed).collect(),
            row_owner,
        },
        sources,
    })
}

/// The two tables of a mapping, or what is to be said of one that is missing.
fn exists<'a>(
    pair: &'a TablePair,
    findings: &mut Vec<Finding>,
) -> Option<(&'a TableSchema, &'a TableSchema)> {
    let mapping = &pair.mapping;
    if pair.source.is_none() {
        findings.push(Finding::error(
            "source_table_missing",
            mapping.source.to_string(),
            "the source has no such table, or the user may not see it",
            format!(
                "create it, grant SELECT on it, or delete mapping {}",
                mapping.id
            ),
        ));
    } else if pair.target.is_none() {
        findings.push(Finding::error(
            "target_table_missing",
            mapping.target.to_string(),
            "the target has no such table",
            "create it, or set the task's option create_tables to missing",
        ));
    }
    Some((pair.source.as_ref()?, pair.target.as_ref()?))
}

/// The source table that the options make the owner of a target table's rows.
pub(super) fn owner_of<'a>(target: &TableName, options: &'a TaskOptions) -> Option<&'a str> {
    let mut owners = options.row_owner.iter();
    let owner = owners.find(|(named, _)| is_named(target, named));
    owner.map(|(_, owner)| owner.as_str())
}

/// Whether an option's text names a table.
pub(super) fn is_named(table: &TableName, text: &str) -> bool {
    text == table.to_string() || text == table.name
}

/// Row owners that the mappings do not have.
fn owners(pairs: &[TablePair], options: &TaskOptions, findings: &mut Vec<Finding>) {
    for (target, owner) in &options.row_owner {
        let known = pairs
            .iter()
            .any(|p| is_named(&p.mapping.target, target) && is_named(&p.mapping.source, owner));
        if !known {
            findings.push(Finding::error(
                "row_owner_unknown",
                target.clone(),
                format!("the option row_owner names {owner}, which is not mapped to it"),
                format!("map {owner} to {target}, or correct the option row_owner"),
            ));
        }
    }
}

/// The mapped columns and their converters.
fn columns(
    mapping: &Mapping,
    source: &TableSchema,
    target: &TableSchema,
    findings: &mut Vec<Finding>,
) -> Vec<(usize, usize, Converter)> {
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
                    "not every {} fits {}{}; one that does not stops the task unless its option \
                     unfit_values says otherwise",
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
        cells.push((to, from, converter.between(s, t)));
    }
    if cells.is_empty() {
        findings.push(Finding::error(
            "no_columns",
            mapping.target.to_string(),
            "no column is mapped",
            format!("map at least the key columns in mapping {}", mapping.id),
        ));
    }
    cells
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
fn foreign_keys(
    pairs: &[TablePair],
    options: &TaskOptions,
) -> BTreeMap<TableName, Vec<ForeignKey>> {
    let targets: HashSet<&TableName> = pairs.iter().map(|p| &p.mapping.target).collect();
    let mut links: BTreeMap<TableName, Vec<ForeignKey>> = BTreeMap::new();
    for pair in pairs {
        let (Some(source), Some(target)) = (&pair.source, &pair.target) else {
            continue;
        };
        let mut keys: Vec<ForeignKey> = Vec::new();
        if pair.create || pair.rekey {
            let made = source
                .foreign_keys
                .iter()
                .filter(|key| can_be_made(key))
                .filter_map(|key| {
                    let mut parents = pairs.iter().filter(|p| p.mapping.source == key.parent);
                    parents.find_map(|parent| mapped_key(key, pair, source, parent, options))
                });
            keys.extend(made);
        }
        if !pair.create {
            let there = target.foreign_keys.iter();
            keys.extend(there.filter(|k| targets.contains(&k.parent)).cloned());
        }
        let known = links.entry(target.name.clone()).or_default();
        for key in keys {
            if !known.contains(&key) {
                known.push(key);
            }
        }
    }
    links
}

/// A foreign key of the source in target names, where the parent is mapped by `parent`: if the parent
/// fills that table whole (all of its rows are shown there) and the referenced columns are a key of
/// it.
pub(super) fn mapped_key(
    key: &ForeignKey,
    child: &TablePair,
    source: &TableSchema,
    parent: &TablePair,
    options: &TaskOptions,
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
    let owner = owner_of(&parent.mapping.target, options);
    if owner.is_some_and(|owner| !is_named(&key.parent, owner)) {
        return None;
    }
    let from = parent.source.as_ref()?;
    let parent_columns = rename(&parent.mapping.pairs(from), &key.parent_columns)?;
    if !is_key(parent.target.as_ref()?, &parent_columns) {
        return None;
    }
    Some(ForeignKey {
        name: key.name.clone(),
        columns: rename(&child.mapping.pairs(source), &key.columns)?,
        parent: parent.mapping.target.clone(),
        parent_columns,
        ..key.clone()
    })
}

/// Whether these columns, in any order, are the primary or a unique key of a table.
fn is_key(table: &TableSchema, names: &[String]) -> bool {
    let keys =
        std::iter::once(&table.primary_key).chain(table.unique_keys.iter().map(|k| &k.columns));
    let mut keys = keys.filter(|key| !key.is_empty() && key.len() == names.len());
    keys.any(|key| {
        let columns = key.iter().filter_map(|c| table.columns.get(*c));
        columns
            .into_iter()
            .all(|column| names.contains(&column.name))
    })
}

/// Puts parents before children and gives everything its index.
fn assemble(tables: Vec<Resolved>, operations: Operations, options: TaskOptions) -> Plan {
    let mut sources: Vec<SourceTable> = Vec::new();
    let mut source_of: BTreeMap<TableName, usize> = BTreeMap::new();
    let mut targets: Vec<TargetTable> = Vec::new();
    let mut waiting: HashSet<TableName> = tables.iter().map(|t| t.target.name.clone()).collect();
    let mut tables = VecDeque::from(tables);
    loop {
        let free = tables.iter().position(|table| {
            let parents = table.target.foreign_keys.iter().map(|key| &key.parent);
            parents
                .into_iter()
                .all(|p| *p == table.target.name || !waiting.contains(p))
        });
        // A cycle has no order: the first of it goes, and the row-by-row path sorts it out.
        let Some(mut table) = tables.remove(free.unwrap_or(0)) else {
            break;
        };
        waiting.remove(&table.target.name);
        for (index, (source, cells)) in table.sources.into_iter().enumerate() {
            let known = *source_of.entry(source.name.clone()).or_insert_with(|| {
                sources.push(SourceTable {
                    schema: source,
                    routes: Vec::new(),
                });
                sources.len() - 1
            });
            if let Some(feed) = table.target.feeds.get_mut(index) {
                feed.source = known;
            }
            if let Some(feeding) = sources.get_mut(known) {
                // Foreign keys and further unique keys ask for other columns.
                let target = &table.target;
                let brief = !target.key.is_empty()
                    && !target.merged()
                    && target.unique_keys.is_empty()
                    && target.foreign_keys.is_empty();
                let in_place = |(n, cell): (usize, &Cell)| matches!(cell, Cell::Column(from, Converter::Copy) if *from == n);
                feeding.routes.push(Route {
                    target: targets.len(),
                    feed: index,
                    brief,
                    plain: cells.len() == feeding.schema.columns.len()
                        && cells.iter().enumerate().all(in_place),
                    cells,
                });
            }
        }
        targets.push(table.target);
    }
    Plan {
        sources,
        targets,
        cascades: Vec::new(),
        operations,
        options,
    }
}

#[cfg(test)]
mod tests;
