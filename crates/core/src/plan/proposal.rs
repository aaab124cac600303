//! One proposal for a table that several sources are to fill.

use std::collections::{BTreeMap, BTreeSet};

use super::TablePair;
use super::resolve::{is_named, owner_of};
use crate::mapping::TaskOptions;
use crate::schema::{TableName, TableSchema, UniqueKey};

/// Makes the proposals for one table the same: it gets the columns of all of them and the key of the
/// first. A column outside the key allows NULL, because a row may come from another source, unless
/// the row owner fills it.
pub fn join_proposals(pairs: &mut [TablePair], options: &TaskOptions) {
    let mut done: BTreeSet<TableName> = BTreeSet::new();
    let mut counts: BTreeMap<TableName, usize> = BTreeMap::new();
    for pair in pairs.iter().filter(|pair| pair.create) {
        *counts.entry(pair.mapping.target.clone()).or_default() += 1;
    }
    for index in 0..pairs.len() {
        let name = match pairs.get(index) {
            Some(pair) if pair.create => pair.mapping.target.clone(),
            _ => continue,
        };
        if done.contains(&name) {
            continue;
        }
        let of = |pair: &&TablePair| pair.create && pair.mapping.target == name;
        if counts.get(&name).is_some_and(|count| *count > 1) {
            let joined = join(pairs.iter().filter(of), &name, options);
            for pair in pairs.iter_mut() {
                if pair.create && pair.mapping.target == name {
                    pair.target.clone_from(&joined);
                }
            }
        }
        done.insert(name);
    }
}

fn join<'a>(
    pairs: impl Iterator<Item = &'a TablePair>,
    name: &TableName,
    options: &TaskOptions,
) -> Option<TableSchema> {
    let owner = owner_of(name, options);
    let mut joined: Option<TableSchema> = None;
    for pair in pairs {
        let proposal = pair.target.as_ref()?;
        let owned = owner.is_some_and(|owner| is_named(&pair.mapping.source, owner));
        let table = joined.get_or_insert_with(|| TableSchema {
            columns: Vec::new(),
            unique_keys: Vec::new(),
            ..proposal.clone()
        });
        let first = table.columns.is_empty();
        let mut places = Vec::new();
        for (index, column) in proposal.columns.iter().enumerate() {
            let known = table.column_index(&column.name);
            places.push(known.unwrap_or_else(|| {
                let mut column = column.clone();
                let key = first && proposal.primary_key.contains(&index);
                column.nullable |= !key && !owned;
                table.columns.push(column);
                table.columns.len() - 1
            }));
        }
        for key in &proposal.unique_keys {
            let columns = key.columns.iter().map(|c| places.get(*c).copied());
            let columns: Option<Vec<usize>> = columns.collect();
            table.unique_keys.extend(columns.map(|columns| UniqueKey {
                name: key.name.clone(),
                columns,
            }));
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Mapping;
    use crate::schema::{ColumnSchema, ColumnType};

    fn pair(source: &str, columns: &[&str]) -> TablePair {
        let int = ColumnType::Int {
            bits: 64,
            unsigned: false,
        };
        let column = |name: &&str| ColumnSchema {
            nullable: false,
            ..ColumnSchema::new(*name, int.clone(), "bigint")
        };
        let target = TableName::new("s", "t");
        let proposal = TableSchema {
            primary_key: vec![0],
            unique_keys: vec![UniqueKey {
                name: source.into(),
                columns: vec![1],
            }],
            ..TableSchema::new(target.clone(), columns.iter().map(column).collect())
        };
        TablePair {
            mapping: Mapping {
                id: source.into(),
                source: TableName::new("s", source),
                target,
                columns: Vec::new(),
            },
            source: None,
            target: Some(proposal),
            create: true,
            rekey: false,
        }
    }

    #[test]
    fn a_table_of_several_sources_has_the_columns_of_all() {
        for (owner, nullable) in [
            (None, [false, true, true]),
            (Some("a"), [false, false, true]),
            (Some("s.b"), [false, true, false]),
        ] {
            let mut pairs = vec![pair("a", &["id", "x"]), pair("b", &["id", "y"])];
            let row_owner = owner.map(|owner| ("t".to_owned(), owner.to_owned()));
            let options = TaskOptions {
                row_owner: row_owner.into_iter().collect(),
                ..TaskOptions::default()
            };
            join_proposals(&mut pairs, &options);
            assert_eq!(pairs[0].target, pairs[1].target);
            let table = pairs[0].target.clone().unwrap();
            let columns = table.columns.iter().map(|c| (c.name.as_str(), c.nullable));
            let expected = ["id", "x", "y"].into_iter().zip(nullable);
            assert!(columns.eq(expected), "{owner:?} {table:?}");
            assert_eq!(table.primary_key, [0]);
            let unique: Vec<_> = table.unique_keys.iter().map(|key| key.columns[0]).collect();
            assert_eq!(unique, [1, 2]);
        }
    }
}
