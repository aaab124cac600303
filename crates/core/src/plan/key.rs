//! What identifies a target row, and whether several sources can fill one table.

use super::FEEDS_MAX;
use super::resolve::Mapped;
use crate::finding::Finding;
use crate::mapping::Operations;
use crate::schema::{ColumnSchema, TableSchema};

/// The key of a target table, as indexes into its schema; no columns: none.
#[derive(Default)]
pub(super) struct Key {
    pub(super) columns: Vec<usize>,
    pub(super) is_primary: bool,
}

/// The columns that identify a target row: its primary key, or else a unique key of not-null
/// columns, fully mapped by every source. Two rows of one source must never meet in one target row,
/// so the source columns behind the key have to hold a unique key of the source; and the source has
/// to log what finds a row that changes or goes.
pub(super) fn choose(
    target: &TableSchema,
    mapped: &[Mapped<'_>],
    operations: Operations,
    findings: &mut Vec<Finding>,
) -> Key {
    let candidates = keys(target);
    let fits =
        |(key, _): &&(&[usize], bool)| mapped.iter().all(|m| matches!(fit(m, key), Fit::Unique));
    let key = match candidates.iter().find(fits) {
        Some((columns, is_primary)) => Key {
            columns: columns.to_vec(),
            is_primary: *is_primary,
        },
        None => Key::default(),
    };
    for mapped in mapped {
        if key.columns.is_empty() {
            no_key(target, mapped, &candidates, findings);
        } else {
            folding(target, mapped, &key.columns, findings);
            not_unique(target, mapped, &key.columns, findings);
        }
        old_images(mapped, &key.columns, operations, findings);
    }
    key
}

/// The keys of a table that tell all its rows apart, the primary key (true) first.
fn keys(table: &TableSchema) -> Vec<(&[usize], bool)> {
    let not_null = |key: &&[usize]| {
        let mut columns = key.iter().map(|c| table.columns.get(*c));
        columns.all(|column| column.is_some_and(|column| !column.nullable))
    };
    let primary = Some(table.primary_key.as_slice()).filter(|key| !key.is_empty());
    let unique = table.unique_keys.iter().map(|key| key.columns.as_slice());
    let unique = unique.filter(not_null).map(|key| (key, false));
    primary
        .map(|key| (key, true))
        .into_iter()
        .chain(unique)
        .collect()
}

enum Fit {
    /// Not all of its columns are mapped.
    NotMapped,
    /// They are, but two rows of the source may be equal in what is mapped to them.
    NotUnique,
    Unique,
}

fn fit(mapped: &Mapped<'_>, key: &[usize]) -> Fit {
    let behind: Option<Vec<usize>> = key.iter().map(|c| mapped.behind(*c)).collect();
    let Some(behind) = behind else {
        return Fit::NotMapped;
    };
    let within = |(key, _): &(&[usize], bool)| key.iter().all(|c| behind.contains(c));
    match keys(mapped.source).iter().any(within) {
        true => Fit::Unique,
        false => Fit::NotUnique,
    }
}

/// Why no key of the target can be taken.
fn no_key(
    target: &TableSchema,
    mapped: &Mapped<'_>,
    candidates: &[(&[usize], bool)],
    findings: &mut Vec<Finding>,
) {
    let fits: Vec<Fit> = candidates.iter().map(|(key, _)| fit(mapped, key)).collect();
    if fits.iter().any(|fit| matches!(fit, Fit::Unique)) {
        // Another source is to blame.
        return;
    }
    let mapping = mapped.mapping;
    let subject = mapping.target.to_string();
    if fits.iter().any(|fit| matches!(fit, Fit::NotUnique)) {
        findings.push(Finding::error(
            "key_not_unique",
            subject,
            format!(
                "the columns of {} mapped to its key are not unique at the source, so two source \
                 rows could meet in one target row",
                mapping.source
            ),
            format!(
                "map the primary key of {} to the key of the target",
                mapping.source
            ),
        ));
    } else if !target.primary_key.is_empty() {
        findings.push(Finding::error(
            "key_not_mapped",
            subject,
            format!(
                "its primary key is not fully mapped from {}, so its rows cannot be told apart",
                mapping.source
            ),
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
}

/// Keys that are different at the source and the same at the target.
fn folding(target: &TableSchema, mapped: &Mapped<'_>, key: &[usize], findings: &mut Vec<Finding>) {
    let column = |table: &TableSchema, index: usize| -> Option<ColumnSchema> {
        table.columns.get(index).cloned()
    };
    for &to in key {
        let from = mapped.behind(to).and_then(|c| column(mapped.source, c));
        let (Some(from), Some(to)) = (from, column(target, to)) else {
            continue;
        };
        if to.folds && !from.folds {
            let subject = format!("{}.{}", mapped.mapping.target, to.name);
            findings.push(Finding::error(
                "key_folds",
                subject.clone(),
                format!(
                    "it is part of the key and takes different texts for equal (case, accents or \
                     trailing spaces), which column {} of {} tells apart: two source rows could \
                     meet in one target row",
                    from.name, mapped.mapping.source
                ),
                format!("give {subject} a binary or case-sensitive collation"),
            ));
        }
    }
}

/// Other unique keys that the source does not keep.
fn not_unique(
    target: &TableSchema,
    mapped: &Mapped<'_>,
    key: &[usize],
    findings: &mut Vec<Finding>,
) {
    for unique in &target.unique_keys {
        let behind: Option<Vec<usize>> = unique.columns.iter().map(|c| mapped.behind(*c)).collect();
        let Some(behind) = behind.filter(|_| unique.columns != key) else {
            continue;
        };
        let primary = std::iter::once(&mapped.source.primary_key).filter(|key| !key.is_empty());
        let mut keys = primary.chain(mapped.source.unique_keys.iter().map(|key| &key.columns));
        if !keys.any(|key| key.iter().all(|c| behind.contains(c))) {
            findings.push(Finding::warning(
                "unique_at_target_only",
                mapped.mapping.target.to_string(),
                format!(
                    "its unique key {} is not unique at {}: rows that are equal there stop the task",
                    unique.name, mapped.mapping.source
                ),
                format!("drop unique key {} of {}", unique.name, mapped.mapping.target),
            ));
        }
    }
}

/// A row that changes or goes is found by its old key, or without key by all its old columns, so the
/// source has to log them.
fn old_images(
    mapped: &Mapped<'_>,
    key: &[usize],
    operations: Operations,
    findings: &mut Vec<Finding>,
) {
    let Some(logged) = &mapped.source.old_image else {
        return;
    };
    if !operations.update && !operations.delete {
        return;
    }
    let needed = mapped
        .cells
        .iter()
        .filter(|(to, ..)| key.is_empty() || key.contains(to));
    let lacking = needed.filter(|(_, from, _)| !logged.contains(from));
    let names: Vec<&str> = lacking
        .filter_map(|(_, from, _)| mapped.source.columns.get(*from))
        .map(|column| column.name.as_str())
        .collect();
    if names.is_empty() {
        return;
    }
    let source = &mapped.mapping.source;
    findings.push(Finding::error(
        "old_image_lacks_key",
        source.to_string(),
        format!(
            "its log does not have the old values of {}, by which rows of {} that change or go \
             are found",
            names.join(", "),
            mapped.mapping.target
        ),
        format!(
            "log whole old rows (PostgreSQL: ALTER TABLE {source} REPLICA IDENTITY FULL; MySQL and \
             MariaDB: binlog_row_image = FULL), or map the primary key of {source} to the key of {}",
            mapped.mapping.target
        ),
    ));
}

/// Whether several sources can fill one table.
pub(super) fn merge(
    target: &TableSchema,
    mapped: &[Mapped<'_>],
    key: &[usize],
    row_owner: Option<usize>,
    operations: Operations,
    findings: &mut Vec<Finding>,
) {
    let subject = target.name.to_string();
    if key.is_empty() {
        findings.push(Finding::error(
            "merge_without_key",
            subject.clone(),
            "several sources are mapped to it, and it has no key that all of them fill, by which \
             their rows meet",
            format!("add a primary key to {subject} and map it in every mapping"),
        ));
    }
    if !operations.insert {
        findings.push(Finding::error(
            "merge_without_insert",
            subject.clone(),
            "several sources are mapped to it, and without INSERT nobody knows which of them has \
             a row",
            "select the operation INSERT",
        ));
    }
    if mapped.len() > FEEDS_MAX {
        findings.push(Finding::error(
            "too_many_sources",
            subject.clone(),
            format!("{} sources are mapped to it", mapped.len()),
            format!("keep {FEEDS_MAX} of them"),
        ));
    }
    for (index, one) in mapped.iter().enumerate() {
        let earlier = mapped.get(..index).unwrap_or_default();
        if earlier
            .iter()
            .any(|other| other.source.name == one.source.name)
        {
            findings.push(Finding::error(
                "source_mapped_twice",
                subject.clone(),
                format!("{} is mapped to it twice", one.source.name),
                format!(
                    "put all columns into one mapping and delete mapping {}",
                    one.mapping.id
                ),
            ));
            continue;
        }
        for (to, ..) in one.cells.iter().filter(|(to, ..)| !key.contains(to)) {
            let Some(column) = target.columns.get(*to) else {
                continue;
            };
            let name = format!("{subject}.{}", column.name);
            let other = earlier.iter().find(|other| other.behind(*to).is_some());
            // Without a key there is a finding already, and every key column would be named here.
            if let Some(other) = other.filter(|_| !key.is_empty()) {
                findings.push(Finding::error(
                    "column_of_two_sources",
                    name.clone(),
                    format!(
                        "both {} and {} are mapped to it, and it is not part of the key",
                        other.source.name, one.source.name
                    ),
                    format!(
                        "keep it in one of mappings {} and {}",
                        other.mapping.id, one.mapping.id
                    ),
                ));
            }
            let emptied = row_owner != Some(index) && !key.is_empty();
            if emptied && !column.nullable && !column.has_default {
                findings.push(Finding::error(
                    "not_null_not_filled",
                    name.clone(),
                    format!(
                        "it takes no NULL and has no default, and a row that {} does not have \
                         leaves it empty",
                        one.source.name
                    ),
                    format!(
                        "allow NULL in {name}, give it a default, or name {} in the task's option \
                         row_owner",
                        one.source.name
                    ),
                ));
            }
        }
    }
}
