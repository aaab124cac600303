//! Definitions of captured tables that change: whether the stream can go on, and how rows lie behind it.

use thalweg_core::change::SchemaChange;
use thalweg_core::schema::{ForeignKey, ReferenceAction, TableSchema};
use thalweg_core::{Error, Result, Side};

use crate::ddl::alter::{Action, Alter};
use crate::layout;
use crate::stream::decode::Decoder;

impl Decoder {
    /// An `ALTER TABLE` of a captured table, or what is as one.
    pub(super) fn alter(
        &mut self,
        table: usize,
        kind: &str,
        alter: Result<Alter, &'static str>,
        at: &str,
    ) -> Result<()> {
        let stop = |decoder: &Decoder, why: &str| decoder.refused(kind, table, at, why);
        let alter = alter.map_err(|why| stop(self, why))?;
        let (Some(schema), Some(before)) = (self.tables.get(table), self.layouts.get(table)) else {
            return Err(Error::bug("a captured table without a schema"));
        };
        if let Some(why) = touches(schema, &alter) {
            return Err(stop(self, &why));
        }
        let after = before.altered(&alter.actions).map_err(|why| {
            let why = format!("what is known of the table does not fit the statement: {why}");
            stop(self, &why)
        })?;
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

/// Why what a task reads of a table is not as before; `None`: it is.
fn touches(schema: &TableSchema, alter: &Alter) -> Option<String> {
    let mapped = |name: &str| {
        let mut columns = schema.columns.iter();
        columns.find(|column| layout::same(&column.name, name))
    };
    for action in &alter.actions {
        let Some(column) = action.old().and_then(mapped) else {
            continue;
        };
        let name = &column.name;
        match action {
            Action::Drop { .. } => return Some(format!("column {name} goes")),
            Action::Change { .. } => return Some(format!("column {name} is changed")),
            Action::Rename { to, .. } => return Some(format!("column {name} is called {to} now")),
            Action::Add { .. } | Action::Default { .. } => {}
        }
    }
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

fn acts(key: &ForeignKey) -> bool {
    key.on_delete != ReferenceAction::Refuse || key.on_update != ReferenceAction::Refuse
}
