//! Quarantine of a target in memory, and the rows it refuses.

use std::collections::BTreeMap;

use thalweg_core::batch::ApplyBatch;
use thalweg_core::plan::Plan;
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Result};

use super::rows::Store;

/// A table takes no row whose value in a column is at least this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) table: TableName,
    pub(super) column: usize,
    pub(super) below: i64,
}

impl Limit {
    fn refuses(&self, row: &[i64]) -> bool {
        row.get(self.column)
            .is_some_and(|value| *value >= self.below)
    }
}

/// An error if a table has a row that it does not take.
pub(super) fn check(limits: &[Limit], store: &Store) -> Result<()> {
    let refuses = |limit: &Limit| {
        let rows = store.tables.get(&limit.table);
        let mut rows = rows.into_iter().flat_map(|rows| rows.values());
        rows.any(|row| limit.refuses(row))
    };
    match limits.iter().any(refuses) {
        false => Ok(()),
        true => Err(Error::data("a value is too large")),
    }
}

/// Does to what lies in quarantine what was done to `base` to make it `next`.
pub(super) fn merge(
    there: &mut BTreeMap<i64, Held>,
    base: &BTreeMap<i64, Held>,
    next: BTreeMap<i64, Held>,
) -> Result<()> {
    there.retain(|number, _| next.contains_key(number) || !base.contains_key(number));
    for (number, held) in next {
        if !base.contains_key(&number) && there.insert(number, held).is_some() {
            return Err(Error::bug("two changes in quarantine have one number"));
        }
    }
    Ok(())
}

/// Does to what lies in quarantine what a batch says, and adds `more`.
pub(super) fn settle(
    there: &mut BTreeMap<i64, Held>,
    plan: &Plan,
    batch: &ApplyBatch,
    more: Vec<Held>,
) -> Result<()> {
    for (target, feed) in &batch.emptied {
        let table = plan.targets.get(*target).map(|table| &table.name);
        let source = plan
            .source_of(*target, *feed)
            .map(|source| &source.schema.name);
        there.retain(|_, held| Some(&held.target) != table || Some(&held.source) != source);
    }
    for number in &batch.freed {
        if there.remove(number).is_none() {
            return Err(Error::bug("a change leaves quarantine that is not in it"));
        }
    }
    for held in batch.held.iter().cloned().chain(more) {
        if there.insert(held.number, held).is_some() {
            return Err(Error::bug("two changes in quarantine have one number"));
        }
    }
    Ok(())
}
