//! Target tables that are to be loaded again because their source tables have changed, and do not fit these any more.

use std::collections::BTreeMap;

use thalweg_core::mapping::{CreateTables, Mapping, TaskOptions};
use thalweg_core::ports::{Alteration, Following, Source, Target};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Result, Side};

use super::drift::takes;
use super::{by_name, distinct, named};

/// What makes target tables fit: those that do not take the rows of their source tables as they are now, or have
/// another key, are dropped, to be created anew. Nothing, where the task creates no tables. For tables that the task
/// does not write to at the time.
pub(crate) async fn refit(
    (source, target): (&dyn Source, &dyn Target),
    mappings: &[Mapping],
    options: &TaskOptions,
) -> Result<Following> {
    let mut out = Following::default();
    if options.create_tables != CreateTables::Missing {
        return Ok(out);
    }
    let sources = distinct(mappings.iter().map(|m| &m.source));
    let targets = distinct(mappings.iter().map(|m| &m.target));
    let from = source.describe(&sources).await;
    let from = from.map_err(|e| e.at(Side::Source))?;
    let there = target.describe(&targets).await;
    let there = there.map_err(|e| e.at(Side::Target))?;
    let from = by_name(&from);
    let propose = |mapping: &Mapping| {
        let source = named(&from, &mapping.source)?;
        let pairs = mapping.pairs(&source);
        target.propose(&source, &mapping.target, &pairs).ok()
    };
    let proposed = mappings.iter().filter_map(propose).collect();
    let settled = target.settle(proposed).await;
    let settled = settled.map_err(|e| e.at(Side::Target))?;
    let mut wanted: BTreeMap<TableName, Vec<&TableSchema>> = BTreeMap::new();
    for (table, _) in &settled {
        wanted.entry(table.name.clone()).or_default().push(table);
    }
    for table in &there {
        let wanted = wanted.get(&table.name).map_or(&[][..], Vec::as_slice);
        let keyed = |wanted: &&TableSchema| key(wanted) == key(table);
        // One of several sources is left as it is: it is paused, if it does not take the rows.
        if wanted.len() != 1 || takes(table, wanted) && wanted.iter().all(keyed) {
            continue;
        }
        let remade = target.alter(&table.name, &[Alteration::Remake]);
        out.statements.extend(remade.unwrap_or_default());
        out.again.push(table.name.clone());
    }
    Ok(out)
}

/// The names of the columns of a table's primary key.
fn key(table: &TableSchema) -> Vec<&str> {
    let columns = table.primary_key.iter();
    let columns = columns.filter_map(|at| table.columns.get(*at));
    columns.map(|column| column.name.as_str()).collect()
}
