//! From source changes to target operations.

use super::{Cell, Plan, Route, SourceTable, TargetTable};
use crate::batch::{RowOp, TableCounts, TableOp};
use crate::change::{Change, ChangeBatch, ChangeKind};
use crate::error::{Error, Kind, Result, Side};
use crate::value::{CellRef, RowBatch, RowRef};

/// Figures of one projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projected {
    /// Changes read per index of [`Plan::sources`], by kind (`repaired`, `missing` unused),
    /// whether selected or not.
    pub read: Vec<TableCounts>,
}

impl Plan {
    /// Turns source changes into target operations in commit order, appended to `rows` and `ops`.
    ///
    /// `wanted(target, feed)` says whether the transaction is to be applied to that target table
    /// (false while the load of that source into it already contains the transaction); it is asked
    /// once per feed and call.
    /// Operations that are not selected are dropped before any cost is paid; TRUNCATE follows
    /// DELETE. A `Data` error names target table and column, never the value.
    pub fn project(
        &self,
        changes: &ChangeBatch,
        wanted: &mut dyn FnMut(usize, usize) -> bool,
        rows: &mut RowBatch,
        ops: &mut Vec<TableOp>,
    ) -> Result<Projected> {
        let mut read = vec![TableCounts::default(); self.sources.len()];
        let mut ask = |route: &Route| wanted(route.target, route.feed);
        let routes = |source: &SourceTable| source.routes.iter().map(&mut ask).collect();
        let wanted: Vec<Vec<bool>> = self.sources.iter().map(routes).collect();
        let mut scratch = Vec::new();
        for change in &changes.changes {
            let Some(source) = self.sources.get(change.table) else {
                return Err(Error::bug("a change of a table the plan does not know"));
            };
            let selected = match change.kind {
                ChangeKind::Insert => self.operations.insert,
                ChangeKind::Update => self.operations.update,
                ChangeKind::Delete | ChangeKind::Truncate => self.operations.delete,
            };
            if let Some(counts) = read.get_mut(change.table) {
                count(counts, change.kind);
            }
            if !selected {
                continue;
            }
            let wanted = wanted.get(change.table).into_iter().flatten();
            for (route, _) in source
                .routes
                .iter()
                .zip(wanted)
                .filter(|(_, wanted)| **wanted)
            {
                let op = self.route(route, change, changes, rows, &mut scratch)?;
                ops.push(TableOp {
                    target: route.target,
                    feed: route.feed,
                    op,
                });
            }
        }
        Ok(Projected { read })
    }

    /// Converts loaded rows of the source table behind a feed of `target`, appended to `out`.
    pub fn project_rows(
        &self,
        target: usize,
        feed: usize,
        rows: &RowBatch,
        out: &mut RowBatch,
    ) -> Result<()> {
        let source = self.source_of(target, feed);
        let mut routes = source.into_iter().flat_map(|source| &source.routes);
        let route = routes
            .find(|route| route.target == target && route.feed == feed)
            .ok_or_else(|| Error::bug("a feed without a route"))?;
        let mut scratch = Vec::new();
        for row in rows.iter() {
            self.image(route, row, out, &mut scratch)?;
        }
        Ok(())
    }

    fn target(&self, index: usize) -> Result<&TargetTable> {
        self.targets
            .get(index)
            .ok_or_else(|| Error::bug("a target the plan does not know"))
    }

    fn route<'a>(
        &self,
        route: &Route,
        change: &Change,
        changes: &'a ChangeBatch,
        rows: &mut RowBatch,
        scratch: &mut Vec<&'a [u8]>,
    ) -> Result<RowOp> {
        let image = |index: Option<usize>| {
            index
                .map(|index| changes.rows.row(index))
                .ok_or_else(|| Error::bug("a change without the row image its kind needs"))
        };
        Ok(match change.kind {
            ChangeKind::Insert => {
                RowOp::Insert(self.image(route, image(change.after)?, rows, scratch)?)
            }
            ChangeKind::Update => {
                let before = self.image(route, image(change.before)?, rows, scratch)?;
                let after = self.image(route, image(change.after)?, rows, scratch)?;
                RowOp::Update { before, after }
            }
            ChangeKind::Delete => {
                RowOp::Delete(self.image(route, image(change.before)?, rows, scratch)?)
            }
            ChangeKind::Truncate => RowOp::Truncate,
        })
    }

    /// Converts one row image; gives its index in `out`.
    fn image<'a>(
        &self,
        route: &Route,
        row: RowRef<'a>,
        out: &mut RowBatch,
        scratch: &mut Vec<&'a [u8]>,
    ) -> Result<usize> {
        scratch.clear();
        scratch.extend(row.raw_cells());
        for (column, cell) in route.cells.iter().enumerate() {
            let Cell::Column(source, converter) = cell else {
                out.push(CellRef::Absent);
                continue;
            };
            let raw = scratch.get(*source).ok_or_else(|| {
                Error::new(
                    Kind::Schema,
                    "a row has fewer columns than its table had at the start",
                )
                .with_hint("reset the task so that it reads the table again")
                .at(Side::Source)
            })?;
            if let Err(error) = converter.convert(raw, out) {
                out.discard_open_row();
                let table = self.target(route.target)?;
                let name = table.columns.get(column).map_or("?", |c| c.name.as_str());
                return Err(Error::data(format!(
                    "a value does not fit column {name} of {}: {}",
                    table.name, error.reason
                ))
                .with_hint(format!(
                    "correct the row at the source, or change column {name} of {} so that it \
                     takes the value, then run the task again",
                    table.name
                ))
                .at(Side::Target));
            }
        }
        Ok(out.end_row())
    }
}

fn count(counts: &mut TableCounts, kind: ChangeKind) {
    match kind {
        ChangeKind::Insert => counts.inserts += 1,
        ChangeKind::Update => counts.updates += 1,
        ChangeKind::Delete | ChangeKind::Truncate => counts.deletes += 1,
    }
}
