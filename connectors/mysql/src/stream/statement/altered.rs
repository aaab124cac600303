//! Definitions of captured tables that change: whether the stream can go on, and how rows lie behind it.

use thalweg_core::change::SchemaChange;
use thalweg_core::position::Position;
use thalweg_core::schema::{ColumnSchema, ForeignKey, ReferenceAction, TableSchema};
use thalweg_core::{Error, Result, Side};

use crate::ddl::alter::{Action, Alter};
use crate::layout::{self, Column, Layout};
use crate::position::Place;
use crate::stream::decode::{Began, Decoder, Open};

impl Decoder {
    /// An `ALTER TABLE` of a captured table, or what is as one; `strict`: the session was.
    pub(super) fn alter(
        &mut self,
        table: usize,
        kind: &str,
        alter: Result<Alter, &'static str>,
        strict: bool,
        at: &str,
    ) -> Result<()> {
        let stop = |decoder: &Decoder, why: &str| decoder.refused(kind, table, at, why);
        let alter = alter.map_err(|why| stop(self, why))?;
        let (Some(schema), Some(before)) = (self.tables.get(table), self.layouts.get(table)) else {
            return Err(Error::bug("a captured table without a schema"));
        };
        let within = |mark: &Place| self.open.as_ref().and_then(|open| within(mark, open));
        let met = Met {
            schema,
            layout: before,
            described: self.end.as_ref().and_then(within) == Some(true),
            strict: strict && !alter.ignore,
            within: &within,
        };
        if let Some(why) = met.touches(&alter) {
            return Err(stop(self, &why));
        }
        let mut after = before.altered(&alter.actions).map_err(|why| {
            let why = format!("what is known of the table does not fit the statement: {why}");
            stop(self, &why)
        })?;
        for action in &alter.actions {
            let Action::Change { column: to, .. } = action else {
                continue;
            };
            // One that is asked for has become what it is asked for as.
            if let (Some(column), Some(at)) = (met.mapped(&to.name), after.at(&to.name))
                && let Some(known) = after.columns.get_mut(at)
            {
                known.native = layout::short(&column.native);
            }
        }
        after
            .young
            .retain(|young| !young.came || !met.past(&young.until));
        if after != *before {
            let layout = after.stored();
            self.schema.push(SchemaChange { table, layout });
            if let Some(layout) = self.layouts.get_mut(table) {
                *layout = after;
            }
        }
        // A table that was altered gets a new number, and its old one may be given again.
        self.maps.clear();
        Ok(())
    }

    /// A statement that the task cannot pass; `why` may be empty.
    pub(super) fn refused(&self, kind: &str, table: usize, at: &str, why: &str) -> Error {
        let colon = if why.is_empty() { "" } else { ": " };
        Error::schema(format!(
            "{kind} on {} at {at}: the task stopped before it{colon}{why}",
            self.table_name(table)
        ))
        .with_hint("make the same change in the target, then reset the task to load again")
        .at(Side::Source)
    }
}

/// Whether a group lies before the end that the log had; `None`: the two cannot be compared.
fn within(end: &Place, open: &Open) -> Option<bool> {
    match (&end.set, &open.began) {
        (Some(set), Began::MySql(gtid)) => Some(set.contains(gtid)),
        (_, began) => {
            let place = open.start.compare(&end.at).ok();
            // The end may be that of another server's log.
            let named = || match began {
                Began::Maria(domain, _, number) => {
                    Some(*number <= end.gtid.get(domain).map(|(_, last)| *last)?)
                }
                _ => None,
            };
            place.map(std::cmp::Ordering::is_lt).or_else(named)
        }
    }
}

/// A table where a statement meets it.
struct Met<'a> {
    /// As it is asked for.
    schema: &'a TableSchema,
    layout: &'a Layout,
    /// Whether it was described behind the statement, for certain.
    described: bool,
    /// Whether no value was changed in silence.
    strict: bool,
    /// Whether the statement lies before an end of the log; `None`: that cannot be told.
    within: &'a dyn Fn(&Place) -> Option<bool>,
}

impl Met<'_> {
    fn mapped(&self, name: &str) -> Option<&ColumnSchema> {
        let mut columns = self.schema.columns.iter();
        columns.find(|column| layout::same(&column.name, name))
    }

    /// Whether the statement lies behind an end of the log, for certain.
    fn past(&self, end: &str) -> bool {
        let end = Place::of_position(&Position::new(end));
        end.is_ok_and(|end| (self.within)(&end) == Some(false))
    }

    /// Why what a task reads of the table is not as before, or not as it is asked for; `None`: it is.
    fn touches(&self, alter: &Alter) -> Option<String> {
        if let Some(why) = alter.actions.iter().find_map(|action| self.touched(action)) {
            return Some(why);
        }
        let schema = self.schema;
        let keyless = schema.primary_key.is_empty();
        // Which key's columns stand in images that are not whole.
        let partial = keyless && schema.old_image.is_some();
        let columns_go = alter.actions.iter().any(|action| action.old().is_some());
        if partial && (alter.unique || !alter.dropped.is_empty() || columns_go) {
            return Some("the columns that tell its rows apart may be others".to_owned());
        }
        alter.dropped.iter().find_map(|name| {
            let mut keys = schema.unique_keys.iter();
            let identifies = keyless && keys.any(|key| layout::same(&key.name, name));
            if identifies || layout::same(name, "PRIMARY") {
                return Some(format!("index {name} tells its rows apart"));
            }
            let mut links = schema.foreign_keys.iter();
            let acts = links.any(|key| acts(key) && layout::same(&key.name, name));
            acts.then(|| format!("foreign key {name} changes rows by itself"))
        })
    }

    fn touched(&self, action: &Action) -> Option<String> {
        if let Action::Add { column, if_new, .. } = action {
            return self.added(&column.name, *if_new);
        }
        let name = action.old()?;
        // Nothing is done (`IF EXISTS`), or the statement does not fit.
        self.layout.at(name)?;
        let called = match action {
            Action::Change { column, .. } => Some(&column.name),
            Action::Rename { to, .. } => Some(to),
            _ => None,
        };
        let Some(column) = self.mapped(name) else {
            // It has values of its own, and is one that is asked for from now on.
            let column = called.and_then(|to| self.mapped(to))?;
            return Some(format!("column {name} is called {} now", column.name));
        };
        let name = &column.name;
        let mut young = self.layout.young.iter();
        let fresh = young.any(|young| {
            young.came && layout::same(&young.column.name, name) && !self.past(&young.until)
        });
        match action {
            Action::Drop { .. } => Some(format!("column {name} goes")),
            Action::Rename { to, .. } => Some(format!("column {name} is called {to} now")),
            Action::Change { .. } | Action::Default { .. } if fresh => Some(format!(
                "column {name} was changed since it came, so that the rows that were there may have another \
                 value"
            )),
            Action::Change { column: to, .. } if !self.widens(column, to) => {
                Some(format!("column {name} is changed"))
            }
            Action::Change { .. } | Action::Default { .. } | Action::Add { .. } => None,
        }
    }

    fn added(&self, name: &str, if_new: bool) -> Option<String> {
        let there = if_new && self.layout.at(name).is_some();
        let asked = !self.schema.whole || self.mapped(name).is_some();
        // One that the table did not have any more when it was described has gone again.
        let passes = there || asked || self.described;
        (!passes).then(|| format!("column {name} came"))
    }

    /// Whether a change is the one that makes of a column what it is asked for as. It holds all values it
    /// had then; only NULL it may not hold any more.
    fn widens(&self, column: &ColumnSchema, to: &Column) -> bool {
        let at = self.layout.at(&column.name);
        let known = at.and_then(|at| self.layout.columns.get(at));
        let key = self.schema.column_index(&column.name);
        let key = key.is_some_and(|at| self.schema.primary_key.contains(&at));
        to.name == column.name
            && known.is_some_and(|known| known.changes_to(column))
            && (self.strict || column.nullable || key)
    }
}

fn acts(key: &ForeignKey) -> bool {
    key.on_delete != ReferenceAction::Refuse || key.on_update != ReferenceAction::Refuse
}
