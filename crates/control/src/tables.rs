//! What is decided about single tables of a task: plain functions over its mappings.
//!
//! A target table that several mappings fill is paused, resumed and loaded again as a whole: with one of its
//! sources alone it would hold a part of its rows. So it is paused as soon as one of its mappings is.

use std::collections::BTreeMap;

use thalweg_core::schema::TableName;

use crate::catalog::MappingChange;
use crate::error::{Error, Result, Subject};
use crate::model::{Paused, TableMapping};

/// The schemas of names without one: at the source and at the target.
pub(crate) type Schemas = (String, String);

/// A mapping and its tables, each with its schema.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) mapping: TableMapping,
    pub(crate) source: TableName,
    pub(crate) target: TableName,
}

impl Named {
    pub(crate) fn of(mapping: TableMapping, schemas: &Schemas) -> Result<Self> {
        let table = |text: &str, schema: &str| {
            TableName::parse(text, schema)
                .ok_or_else(|| Error::Mapping(format!("{text:?} is no table name")))
        };
        Ok(Named {
            source: table(&mapping.source_table, &schemas.0)?,
            target: table(&mapping.target_table, &schemas.1)?,
            mapping,
        })
    }
}

/// The mappings of a task.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) all: Vec<Named>,
    /// Places in `all` of those that fill a target table.
    filling: BTreeMap<TableName, Vec<usize>>,
}

impl Tables {
    pub(crate) fn of(mappings: Vec<TableMapping>, schemas: &Schemas) -> Result<Self> {
        let named = mappings.into_iter().map(|one| Named::of(one, schemas));
        Ok(Tables::new(named.collect::<Result<_>>()?))
    }

    pub(crate) fn new(all: Vec<Named>) -> Self {
        let mut filling: BTreeMap<TableName, Vec<usize>> = BTreeMap::new();
        for (at, one) in all.iter().enumerate() {
            filling.entry(one.target.clone()).or_default().push(at);
        }
        Tables { all, filling }
    }

    /// Why a target table is paused.
    pub(crate) fn paused(&self, target: &TableName) -> Option<&Paused> {
        self.filling(target)
            .find_map(|one| one.mapping.paused.as_ref())
    }

    /// Whether a target table is to be loaded again.
    pub(crate) fn reload(&self, target: &TableName) -> bool {
        self.filling(target).any(|one| one.mapping.reload)
    }

    /// Whether the rows of a target table are to be compared and repaired.
    pub(crate) fn doubt(&self, target: &TableName) -> bool {
        self.filling(target).any(|one| one.mapping.doubt)
    }

    /// Those whose tables are paused and return by themselves.
    pub(crate) fn returning(&self) -> impl Iterator<Item = &Named> {
        let returns = |one: &&Named| {
            self.paused(&one.target)
                .is_some_and(|paused| paused.returns)
        };
        self.all.iter().filter(returns)
    }

    /// Those that runs use.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Named> {
        self.all
            .iter()
            .filter(|one| self.paused(&one.target).is_none())
    }

    /// All mappings of a target table are paused. Of one that is paused the first reason stays, unless it would return
    /// by itself. `Conflict` if
    /// nothing would be left to a task that runs.
    pub(crate) fn pause(
        &self,
        running: bool,
        id: &str,
        why: &Paused,
    ) -> Result<Vec<MappingChange>> {
        let target = &self.find(id)?.target;
        let paused = self.paused(target);
        if paused.is_some_and(|paused| !paused.returns) {
            return Ok(Vec::new());
        }
        if paused.is_none() && running && self.active().all(|one| one.target == *target) {
            return Err(last(target));
        }
        let pause = |one: &Named| MappingChange::Pause(one.mapping.id.clone(), why.clone());
        Ok(self.filling(target).map(pause).collect())
    }

    /// A target table that is paused is not any more, and is loaded again.
    pub(crate) fn resume(&self, id: &str) -> Result<Vec<MappingChange>> {
        let target = &self.find(id)?.target;
        if self.paused(target).is_none() {
            return Ok(Vec::new());
        }
        let resume = |one: &Named| MappingChange::Resume(one.mapping.id.clone());
        Ok(self.filling(target).map(resume).collect())
    }

    /// A target table is loaded again. `Conflict` if it is paused.
    pub(crate) fn load_again(&self, id: &str) -> Result<Vec<MappingChange>> {
        let target = &self.find(id)?.target;
        if self.paused(target).is_some() {
            return Err(Error::Conflict(format!(
                "table {target} is paused: resume it, which loads it again"
            )));
        }
        let reload = |one: &Named| MappingChange::Reload(one.mapping.id.clone());
        Ok(self.filling(target).map(reload).collect())
    }

    /// It is loaded, also if the task has loaded it before and did not run since it was removed: that its rows
    /// were in doubt was forgotten with its mapping. `Mapping` if its tables are mapped to each other already,
    /// `Conflict` if its target table is paused.
    pub(crate) fn add(&self, new: &Named) -> Result<Vec<MappingChange>> {
        let Named { source, target, .. } = new;
        let same = |one: &Named| one.source == *source && one.target == *target;
        if self.all.iter().any(same) {
            return Err(Error::Mapping(format!(
                "{source} is mapped to {target} already"
            )));
        }
        if self.paused(target).is_some() {
            return Err(Error::Conflict(format!(
                "table {target} is filled from other tables, too, and is paused: resume it first"
            )));
        }
        Ok(vec![MappingChange::Add(TableMapping {
            reload: true,
            ..new.mapping.clone()
        })])
    }

    /// `Conflict` if nothing would be left to a task that runs.
    pub(crate) fn remove(&self, running: bool, id: &str) -> Result<Vec<MappingChange>> {
        let target = &self.find(id)?.target;
        let mut active = self.active().peekable();
        if running && active.peek().is_some() && active.all(|one| one.mapping.id == id) {
            return Err(last(target));
        }
        Ok(vec![MappingChange::Remove(id.to_owned())])
    }

    /// The mapping of an id.
    pub(crate) fn find(&self, id: &str) -> Result<&Named> {
        let found = self.all.iter().find(|one| one.mapping.id == id);
        found.ok_or(Error::NotFound(Subject::Mapping))
    }

    fn filling(&self, target: &TableName) -> impl Iterator<Item = &Named> {
        let places = self.filling.get(target).into_iter().flatten();
        places.filter_map(|at| self.all.get(*at))
    }
}

fn last(target: &TableName) -> Error {
    Error::Conflict(format!(
        "table {target} is the last one that the task is running for: stop the task instead"
    ))
}

#[cfg(test)]
mod tests;
