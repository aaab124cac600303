//! What becomes of a value that its column does not take: the one place where it is decided, for
//! loads and changes and for every target.
//!
//! A converter refuses the value first ([`super::Converter::convert`]), so a value that fits costs
//! nothing here. What is put in its place depends on the value and the column only. So a row that was
//! loaded is found again by the changes that follow, in a table without a key too, where all its
//! columns tell which row it is.
//!
//! Columns that identify a row or refer to one are never changed: two keys could become one, and one
//! of the two rows would be lost in silence.

use super::{ConvertError, Converter, Plan};
use crate::error::{Error, Result, Side};
use crate::mapping::UnfitValues;
use crate::value::{CellRef, RowBatch};

/// A column, as the indexes of a target table and of one of its columns.
type Place = (usize, usize);

/// Cells of one column that were changed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedCells {
    /// Index into [`Plan::targets`].
    pub target: usize,
    /// Index into [`super::TargetTable::columns`].
    pub column: usize,
    /// Why the value did not fit; never shows it.
    pub reason: &'static str,
    /// How many cells.
    pub cells: u64,
}

/// Cells that were changed, by column and reason: few entries, however many cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed(Vec<ChangedCells>);

impl Changed {
    pub(super) fn add(&mut self, (target, column): Place, why: ConvertError) {
        self.push(ChangedCells {
            target,
            column,
            reason: why.reason,
            cells: 1,
        });
    }

    /// Adds those of `more`.
    pub fn merge(&mut self, more: &Changed) {
        for cells in &more.0 {
            self.push(*cells);
        }
    }

    fn push(&mut self, more: ChangedCells) {
        let same = |known: &&mut ChangedCells| {
            (known.target, known.column, known.reason) == (more.target, more.column, more.reason)
        };
        match self.0.iter_mut().find(same) {
            Some(known) => known.cells += more.cells,
            None => self.0.push(more),
        }
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &ChangedCells> {
        self.0.iter()
    }
}

impl Plan {
    /// Whether a column of a target identifies its rows or refers to rows: it is part of the key, or
    /// of a foreign key from or to the table. Values of such columns are never changed. In a table
    /// without a key no column is one.
    pub fn identifies(&self, target: usize, column: usize) -> bool {
        let Some(table) = self.targets.get(target) else {
            return false;
        };
        let Some(name) = table.columns.get(column).map(|column| &column.name) else {
            return false;
        };
        let refers = table
            .foreign_keys
            .iter()
            .any(|key| key.columns.contains(name));
        let mut keys = self.targets.iter().flat_map(|child| &child.foreign_keys);
        table.key.contains(&column)
            || refers
            || keys.any(|key| key.parent == table.name && key.parent_columns.contains(name))
    }

    /// Appends what takes the place of a value that did not fit, as the task's options say.
    pub(super) fn settle(
        &self,
        place: Place,
        converter: &Converter,
        raw: &[u8],
        why: ConvertError,
        out: &mut RowBatch,
    ) -> Result<()> {
        if self.identifies(place.0, place.1) {
            return Err(self.unfit(place, why));
        }
        let made = match self.options.unfit_values {
            UnfitValues::Stop => return Err(self.unfit(place, why)),
            UnfitValues::Null => false,
            UnfitValues::Nearest => {
                let near = converter.nearest(raw, out);
                near.map_err(|why| self.unfit(place, why))?
            }
        };
        if made {
            return Ok(());
        }
        let column = self
            .targets
            .get(place.0)
            .and_then(|t| t.columns.get(place.1));
        if !column.is_some_and(|column| column.nullable) {
            return Err(self.unfit(place, why));
        }
        out.push(CellRef::Null);
        Ok(())
    }

    /// The same in the image of a row as it was. Where a key tells which row it is, its other cells
    /// are as if they had not been sent: a value that is gone need not fit.
    pub(super) fn settle_old(
        &self,
        place: Place,
        converter: &Converter,
        raw: &[u8],
        why: ConvertError,
        out: &mut RowBatch,
    ) -> Result<()> {
        let keyed = self
            .targets
            .get(place.0)
            .is_some_and(|table| !table.key.is_empty());
        if keyed && !self.identifies(place.0, place.1) {
            out.push(CellRef::Absent);
            return Ok(());
        }
        self.settle(place, converter, raw, why, out)
    }

    /// The error of a value that does not fit: names table, column, key and reason, never the value.
    fn unfit(&self, (target, column): Place, why: ConvertError) -> Error {
        let Some(table) = self.targets.get(target) else {
            return Error::bug("a target the plan does not know");
        };
        let name = |index: &usize| table.columns.get(*index).map_or("?", |c| c.name.as_str());
        let key: Vec<&str> = table.key.iter().map(name).collect();
        let key = match key.is_empty() {
            true => "no key".to_owned(),
            false => format!("key {}", key.join(", ")),
        };
        let (name, table_name) = (name(&column), &table.name);
        let policy = match self.options.unfit_values {
            _ if self.identifies(target, column) => {
                "; columns of keys and foreign keys are never changed".to_owned()
            }
            UnfitValues::Nearest => String::new(),
            UnfitValues::Null => ", or set the task's option unfit_values to nearest".to_owned(),
            UnfitValues::Stop => {
                ", or set the task's option unfit_values to null or nearest".to_owned()
            }
        };
        Error::data(format!(
            "a value does not fit column {name} of {table_name} ({key}): {}",
            why.reason
        ))
        .with_hint(format!(
            "change column {name} of {table_name} so that it takes the value{policy}, then run the \
             task again; or correct the row at the source and reset the task"
        ))
        .at(Side::Target)
    }
}

#[cfg(test)]
mod tests;
