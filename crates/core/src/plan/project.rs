//! From source changes to target operations.

use std::collections::BTreeMap;

use super::{Cell, Changed, Plan, Route, TargetTable};
use crate::batch::{RowOp, TableCounts, TableOp};
use crate::change::{Change, ChangeKind};
use crate::error::{Error, Kind, Result, Side};
use crate::value::{CellRef, RowBatch, RowRef, is_present};

/// Figures of one projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projected {
    /// Changes read, by kind (`repaired`, `missing` unused), whether selected or not.
    pub read: ReadCounts,
    /// Targets that have to be loaded again, because a change could not be placed ([`Fate::Again`],
    /// or [`Fate::New`] without the whole row); each once.
    pub again: Vec<usize>,
    /// Cells that were written as something else than the source has.
    pub changed: Changed,
}

/// Changes per index of [`Plan::sources`], of those that had any: a transaction of ten changes must not cost
/// a list of a thousand tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts(BTreeMap<usize, TableCounts>);

impl ReadCounts {
    /// Counts a change.
    pub fn count(&mut self, change: &Change) {
        let counts = self.0.entry(change.table).or_default();
        match change.kind {
            ChangeKind::Insert => counts.inserts += 1,
            ChangeKind::Update => counts.updates += 1,
            ChangeKind::Delete | ChangeKind::Truncate => counts.deletes += 1,
        }
    }

    /// Adds other counts.
    pub fn add(&mut self, more: &ReadCounts) {
        for (table, counts) in &more.0 {
            self.0.entry(*table).or_default().add(counts);
        }
    }

    /// Each table that had changes, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &TableCounts)> {
        self.0.iter().map(|(table, counts)| (*table, counts))
    }
}

/// What becomes of a change at one target table. Before a table is Live, the two keys of a change can
/// lie in chunks of different snapshots, of which one has the change and the other has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Neither chunk has it: it is applied as it is.
    Apply,
    /// Both have it: nothing is to do.
    Drop,
    /// Only the row before is to be seen to: it goes.
    Old,
    /// Only the row after is to be seen to: it comes.
    New,
    /// It is in some chunks and not in others in a way that no operation on rows makes up for.
    Again,
}

impl Plan {
    /// Turns source changes, whose images lie in `images`, into target operations in commit order,
    /// appended to `rows` and `ops`.
    ///
    /// `judge(target, change)` says what becomes of a change at that target table; it is asked for
    /// selected operations only. Operations that are not selected are dropped before any cost is paid; TRUNCATE follows
    /// DELETE. A `Data` error names target table and column, never the value.
    pub fn project(
        &self,
        changes: &[Change],
        images: &RowBatch,
        judge: &mut dyn FnMut(usize, &Change) -> Result<Fate>,
        rows: &mut RowBatch,
        ops: &mut Vec<TableOp>,
    ) -> Result<Projected> {
        let mut read = ReadCounts::default();
        let mut again: Vec<usize> = Vec::new();
        let mut changed = Changed::default();
        let mut scratch = Vec::new();
        for change in changes {
            let Some(source) = self.sources.get(change.table) else {
                return Err(Error::bug("a change of a table the plan does not know"));
            };
            let selected = match change.kind {
                ChangeKind::Insert => self.operations.insert,
                ChangeKind::Update => self.operations.update,
                ChangeKind::Delete | ChangeKind::Truncate => self.operations.delete,
            };
            read.count(change);
            if !selected {
                continue;
            }
            for route in &source.routes {
                let (target, feed) = (route.target, route.feed);
                let op = match judge(target, change)? {
                    Fate::Drop => continue,
                    Fate::Again => None,
                    fate => {
                        let mut work = Work {
                            out: &mut *rows,
                            scratch: &mut scratch,
                            changed: &mut changed,
                        };
                        self.route(route, fate, change, images, &mut work)?
                    }
                };
                match op {
                    Some(op) => ops.push(TableOp {
                        target,
                        feed,
                        op,
                        unchecked: change.unchecked,
                        origin: 0,
                    }),
                    None if again.contains(&target) => {}
                    None => again.push(target),
                }
            }
        }
        Ok(Projected {
            read,
            again,
            changed,
        })
    }

    /// Converts loaded rows of the source table behind a feed of `target`, appended to `out`. Gives
    /// the cells that were changed.
    pub fn project_rows(
        &self,
        target: usize,
        feed: usize,
        rows: &RowBatch,
        out: &mut RowBatch,
    ) -> Result<Changed> {
        let route = self.route_of(target, feed)?;
        let mut changed = Changed::default();
        let mut work = Work {
            out,
            scratch: &mut Vec::new(),
            changed: &mut changed,
        };
        for row in rows.iter() {
            self.image(route, row, Image::After(None), &mut work)?;
        }
        Ok(changed)
    }

    /// The same, but rows with a value that fits no column are left out, and come back with their errors.
    /// `kept` gets the indexes of the others.
    pub fn project_rows_sifted(
        &self,
        target: usize,
        feed: usize,
        rows: &RowBatch,
        out: &mut RowBatch,
        kept: &mut Vec<usize>,
    ) -> Result<(Changed, Vec<(usize, Error)>)> {
        let route = self.route_of(target, feed)?;
        let (mut changed, mut refused) = (Changed::default(), Vec::new());
        let mut scratch = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let mut work = Work {
                out,
                scratch: &mut scratch,
                changed: &mut changed,
            };
            match self.image(route, row, Image::After(None), &mut work) {
                Ok(_) => kept.push(index),
                Err(error) if error.kind() == Kind::Data => refused.push((index, error)),
                Err(error) => return Err(error),
            }
        }
        Ok((changed, refused))
    }

    /// Converts the key of a row image of a feed alone, appended to `out`: its other cells are `Absent`,
    /// and so are those of the key that the image does not have. Gives the index of the row made.
    pub fn project_key(
        &self,
        target: usize,
        feed: usize,
        image: RowRef<'_>,
        out: &mut RowBatch,
    ) -> Result<usize> {
        let route = self.route_of(target, feed)?;
        let mut work = Work {
            out,
            scratch: &mut Vec::new(),
            changed: &mut Changed::default(),
        };
        self.image(route, image, Image::Key, &mut work)
    }

    /// Whether the rows of a feed become the target's as they are: no cell is converted or left out.
    pub fn is_plain(&self, target: usize, feed: usize) -> bool {
        let source = self.source_of(target, feed);
        let mut routes = source.into_iter().flat_map(|source| {
            let width = source.schema.columns.len();
            source.routes.iter().map(move |route| (route, width))
        });
        routes.any(|(route, width)| {
            let this = route.target == target && route.feed == feed;
            this && route.plain && route.cells.len() == width
        })
    }

    fn route_of(&self, target: usize, feed: usize) -> Result<&Route> {
        let source = self.source_of(target, feed);
        let mut routes = source.into_iter().flat_map(|source| &source.routes);
        routes
            .find(|route| route.target == target && route.feed == feed)
            .ok_or_else(|| Error::bug("a feed without a route"))
    }

    fn target(&self, index: usize) -> Result<&TargetTable> {
        self.targets
            .get(index)
            .ok_or_else(|| Error::bug("a target the plan does not know"))
    }

    /// The operation that a change makes; `None` if it needs cells that nobody has.
    fn route<'a>(
        &self,
        route: &Route,
        fate: Fate,
        change: &Change,
        images: &'a RowBatch,
        work: &mut Work<'_, 'a>,
    ) -> Result<Option<RowOp>> {
        let image = |index: Option<usize>| {
            index
                .map(|index| images.row(index))
                .ok_or_else(|| Error::bug("a change without the row image its kind needs"))
        };
        let mut convert = |row, image| self.image(route, row, image, work);
        // `told`: nothing of the row as it was stands in for what the row as it is now lacks.
        let brief = route.brief && self.cascades.is_empty();
        let before = |told: bool| match brief && told {
            true => Image::Key,
            false => Image::Before,
        };
        Ok(Some(match (change.kind, fate) {
            (ChangeKind::Insert, _) => {
                RowOp::Insert(convert(image(change.after)?, Image::After(None))?)
            }
            (ChangeKind::Update, Fate::Old) | (ChangeKind::Delete, _) => {
                RowOp::Delete(convert(image(change.before)?, before(true))?)
            }
            (ChangeKind::Update, Fate::New) => {
                // What did not change stands in the image before, if anywhere.
                let old = (image(change.before)?, Fill::All);
                let row = convert(image(change.after)?, Image::After(Some(old)))?;
                let cells = work.out.row(row).raw_cells().zip(&route.cells);
                let mut sent = cells.map(|(raw, from)| *from == Cell::Absent || is_present(raw));
                if !sent.all(|sent| sent) {
                    return Ok(None);
                }
                RowOp::Insert(row)
            }
            (ChangeKind::Update, _) => {
                let (old, new) = (image(change.before)?, image(change.after)?);
                let before = convert(old, before(new.is_whole()))?;
                let after = convert(new, Image::After(Some((old, Fill::Key))))?;
                RowOp::Update { before, after }
            }
            (ChangeKind::Truncate, _) => RowOp::Truncate,
        }))
    }

    /// Converts one row image; gives its index in the rows made.
    fn image<'a>(
        &self,
        route: &Route,
        row: RowRef<'a>,
        image: Image<'a>,
        work: &mut Work<'_, 'a>,
    ) -> Result<usize> {
        let Work {
            out,
            scratch,
            changed,
        } = work;
        let only = match image {
            Image::Key => Some(self.target(route.target)?.key.as_slice()),
            _ => None,
        };
        if route.plain && only.is_none() {
            let (mut width, mut whole) = (0, true);
            for raw in row.raw_cells() {
                width += 1;
                whole &= is_present(raw);
            }
            let fills = !whole && matches!(image, Image::After(Some(_)));
            if width == route.cells.len() && !fills {
                return Ok(out.append(row));
            }
        }
        scratch.clear();
        scratch.extend(row.raw_cells());
        if let Image::After(Some((fallback, fill))) = image {
            let key = &self.target(route.target)?.key;
            let in_key = |column: usize| {
                let mut cells = key.iter().filter_map(|place| route.cells.get(*place));
                cells.any(|cell| matches!(cell, Cell::Column(from, _) if *from == column))
            };
            let images = scratch.iter_mut().zip(fallback.raw_cells());
            for (column, (raw, other)) in images.enumerate() {
                if !is_present(raw) && (fill == Fill::All || in_key(column)) {
                    *raw = other;
                }
            }
        }
        for (column, cell) in route.cells.iter().enumerate() {
            let (Cell::Column(source, converter), true) =
                (cell, only.is_none_or(|key| key.contains(&column)))
            else {
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
            if let Err(why) = converter.convert(raw, out) {
                let place = (route.target, column);
                let settled = match image {
                    Image::Before | Image::Key => self.settle_old(place, converter, raw, why, out),
                    Image::After(_) => self.settle(place, converter, raw, why, out),
                };
                match settled {
                    Ok(()) if image.is_after() => changed.add(place, why),
                    Ok(()) => {}
                    Err(error) => {
                        out.discard_open_row();
                        return Err(error);
                    }
                }
            }
        }
        Ok(out.end_row())
    }
}

/// What rows are made with.
struct Work<'w, 'a> {
    out: &'w mut RowBatch,
    /// Cells of the row at hand.
    scratch: &'w mut Vec<&'a [u8]>,
    changed: &'w mut Changed,
}

/// Which image of a change a row is.
#[derive(Clone, Copy)]
enum Image<'a> {
    /// The row as it was: it tells which row is meant.
    Before,
    /// The key of the row as it was, which is all that is asked of it.
    Key,
    /// The row as it is to be written. Of the cells that it leaves out those to fill are taken from
    /// the other image.
    After(Option<(RowRef<'a>, Fill)>),
}

impl Image<'_> {
    fn is_after(self) -> bool {
        matches!(self, Image::After(_))
    }
}

/// Which left-out cells are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// All that the other image has.
    All,
    /// Those of the target's key: a row that is changed always says which it is then.
    Key,
}
