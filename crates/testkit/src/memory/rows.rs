//! The rows a target in memory has, and what each operation does to them.
//!
//! This is the plainest form of what [`thalweg_core::batch`] says, one row at a time; databases do
//! the same with statements over many rows.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::batch::{FoldedTable, RowOp, TableCounts, TableOp};
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{ColumnSchema, ReferenceAction, TableName};
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Result};

use super::{DEFAULT, NULL, Row, Rows};

/// An image of a row: a cell that was not sent is `None`.
type Image = Vec<Option<i64>>;

/// Rows of which key there are, per source (a bit each), and those that wait for their owner's row.
type Aside = BTreeMap<Row, (u64, Option<Row>)>;

/// All rows of a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) tables: BTreeMap<TableName, Rows>,
    aside: BTreeMap<TableName, Aside>,
}

impl PartialEq for Store {
    /// A table that was looked at and has nothing is as one that was not.
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Self, two: &Self| {
            let tables = one
                .tables
                .iter()
                .all(|(name, rows)| rows.is_empty() || two.tables.get(name) == Some(rows));
            let mut aside = one.aside.iter();
            tables && aside.all(|(name, rows)| rows.is_empty() || two.aside.get(name) == Some(rows))
        };
        same(self, other) && same(other, self)
    }
}

/// [`Store::merge`], of tables.
fn merge<T: Clone + PartialEq>(
    there: &mut BTreeMap<TableName, BTreeMap<Row, T>>,
    base: &BTreeMap<TableName, BTreeMap<Row, T>>,
    mut next: BTreeMap<TableName, BTreeMap<Row, T>>,
) -> Result<()> {
    let names: BTreeSet<TableName> = base.keys().chain(next.keys()).cloned().collect();
    for name in names {
        let none = BTreeMap::new();
        let base = base.get(&name).unwrap_or(&none);
        let next = next.remove(&name).unwrap_or_default();
        let there = there.entry(name).or_default();
        let keys: BTreeSet<Row> = base.keys().chain(next.keys()).cloned().collect();
        for key in keys {
            if base.get(&key) == next.get(&key) {
                continue;
            }
            if there.get(&key) != base.get(&key) {
                return Err(Error::bug("two writers have written one row at once"));
            }
            match next.get(&key) {
                Some(row) => drop(there.insert(key, row.clone())),
                None => drop(there.remove(&key)),
            }
        }
    }
    Ok(())
}

/// A table of the store as an operation of one source sees it.
struct Part<'a> {
    table: &'a TargetTable,
    feed: usize,
    rows: &'a mut Rows,
    aside: &'a mut Aside,
    may_insert: bool,
}

impl Store {
    /// Whether two states that come from this one have changed one row.
    pub(super) fn meets(&self, one: &Store, other: &Store) -> bool {
        let changed = |to: &Store, name: &TableName, key: &[i64]| {
            let row = |store: &Store| {
                store
                    .tables
                    .get(name)
                    .and_then(|rows| rows.get(key).cloned())
            };
            row(self) != row(to)
        };
        let tables = self.tables.iter().chain(&one.tables);
        let mut keys = tables.flat_map(|(name, rows)| rows.keys().map(move |key| (name, key)));
        keys.any(|(name, key)| changed(one, name, key) && changed(other, name, key))
    }

    /// Does to this state what was done to `base` to make it `next`; an error if a row is not as it was there.
    pub(super) fn merge(&mut self, base: &Store, next: Store) -> Result<()> {
        if *self == *base {
            *self = next;
            return Ok(());
        }
        merge(&mut self.tables, &base.tables, next.tables)?;
        merge(&mut self.aside, &base.aside, next.aside)
    }

    /// Applies one operation.
    pub(super) fn apply(
        &mut self,
        plan: &Plan,
        rows: &RowBatch,
        op: &TableOp,
        kept: &[usize],
        counts: &mut TableCounts,
    ) -> Result<()> {
        let read = |row: usize| image(rows.row(row));
        let before = match op.op {
            RowOp::Update { before, .. } | RowOp::Delete(before) => {
                self.shown(plan, op.target, &read(before)?)?
            }
            RowOp::Insert(_) | RowOp::Truncate => None,
        };
        let mut part = self.part(plan, op.target, op.feed)?;
        match op.op {
            RowOp::Insert(row) => {
                counts.inserts += 1;
                counts.repaired += u64::from(part.insert(read(row)?)?);
            }
            RowOp::Update { before, after } => {
                counts.updates += 1;
                part.update(&read(before)?, read(after)?, counts)?;
            }
            RowOp::Delete(row) => {
                counts.deletes += 1;
                let old = part.delete(&read(row)?)?;
                counts.missing += u64::from(old.is_none());
            }
            RowOp::Truncate => {
                counts.deletes += 1;
                part.clear()?;
            }
        }
        let Some(before) = before else {
            return Ok(());
        };
        let after = match op.op {
            RowOp::Update { after, .. } => {
                let sent: Image = before.iter().copied().map(Some).collect();
                self.shown(plan, op.target, &laid(&sent, &read(after)?))?
            }
            _ => None,
        };
        self.follow(plan, op.target, kept, vec![(before, after)])
    }

    /// Applies the deletes of a net effect. Those of all tables come first.
    pub(super) fn apply_deletes(
        &mut self,
        plan: &Plan,
        rows: &RowBatch,
        folded: &FoldedTable,
        kept: &[usize],
    ) -> Result<()> {
        let mut gone = Vec::new();
        for row in &folded.deletes {
            let row = image(rows.row(*row))?;
            gone.extend(
                self.shown(plan, folded.target, &row)?
                    .map(|row| (row, None)),
            );
            self.part(plan, folded.target, folded.feed)?.delete(&row)?;
        }
        self.follow(plan, folded.target, kept, gone)
    }

    /// Applies the rest of a net effect: all updates at once, then inserts.
    pub(super) fn apply_writes(
        &mut self,
        plan: &Plan,
        rows: &RowBatch,
        folded: &FoldedTable,
        kept: &[usize],
    ) -> Result<()> {
        let read = |row: usize| image(rows.row(row));
        let mut changed = Vec::new();
        for (before, after) in &folded.updates {
            let Some(before) = self.shown(plan, folded.target, &read(*before)?)? else {
                continue;
            };
            let sent: Image = before.iter().copied().map(Some).collect();
            let after = laid(&sent, &read(*after)?);
            changed.push((before, after.into_iter().collect()));
        }
        let mut part = self.part(plan, folded.target, folded.feed)?;
        let mut coming = Vec::new();
        for (before, after) in &folded.updates {
            let (before, after) = (read(*before)?, read(*after)?);
            if part.table.merged() && part.key(&before)? == part.key(&laid(&before, &after))? {
                part.update(&before, after, &mut TableCounts::default())?;
                continue;
            }
            match part.delete(&before)? {
                Some(old) => coming.push(laid(&old, &after)),
                None if part.may_insert && part.whole(&after) => coming.push(after),
                None => {}
            }
        }
        for row in &folded.inserts {
            coming.push(read(*row)?);
        }
        for row in coming {
            part.insert(row)?;
        }
        self.follow(plan, folded.target, kept, changed)
    }

    /// The row that a parent of foreign keys shows under the key of an image.
    fn shown(&mut self, plan: &Plan, target: usize, image: &Image) -> Result<Option<Row>> {
        if plan.cascades_from(target).next().is_none() {
            return Ok(None);
        }
        let part = self.part(plan, target, 0)?;
        Ok(part.rows.get(&part.key(image)?).cloned())
    }

    /// Does to the children what the foreign keys of the plan do when these rows of `parent` changed
    /// at once, from the first to the second; `None`: gone. Not into targets that are `kept`. No child is merged or without key.
    fn follow(
        &mut self,
        plan: &Plan,
        parent: usize,
        kept: &[usize],
        changed: Vec<(Row, Option<Row>)>,
    ) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let open = plan.cascades_from(parent);
        for cascade in open.filter(|cascade| !kept.contains(&cascade.child)) {
            let value = |row: &Row, columns: &[usize]| -> Row {
                let cells = columns.iter().filter_map(|c| row.get(*c).copied());
                cells.collect()
            };
            let moves: BTreeMap<Row, Option<Row>> = changed
                .iter()
                .map(|(old, new)| {
                    let new = new.as_ref().map(|new| value(new, &cascade.parent_columns));
                    (value(old, &cascade.parent_columns), new)
                })
                .filter(|(old, new)| new.as_ref() != Some(old) && !old.contains(&NULL))
                .collect();
            let part = self.part(plan, cascade.child, 0)?;
            let mut below = Vec::new();
            for row in part.rows.values() {
                let Some(new) = moves.get(&value(row, &cascade.columns)) else {
                    continue;
                };
                let with = |values: &[i64]| {
                    let mut row = row.clone();
                    for (column, value) in cascade.columns.iter().zip(values) {
                        if let Some(cell) = row.get_mut(*column) {
                            *cell = *value;
                        }
                    }
                    row
                };
                let action = match new {
                    None => cascade.on_delete,
                    Some(_) => cascade.on_update,
                };
                let after = match (action, new) {
                    (ReferenceAction::Refuse, _) => continue,
                    (ReferenceAction::Cascade, None) => None,
                    (ReferenceAction::Cascade, Some(new)) => Some(with(new)),
                    (ReferenceAction::SetNull | ReferenceAction::SetDefault, _) => {
                        Some(with(&vec![NULL; cascade.columns.len()]))
                    }
                };
                below.push((row.clone(), after));
            }
            let sent = |row: &Row| -> Image { row.iter().copied().map(Some).collect() };
            for (old, _) in &below {
                let place = part.key(&sent(old))?;
                part.rows.remove(&place);
            }
            for row in below.iter().filter_map(|(_, new)| new.as_ref()) {
                let place = part.key(&sent(row))?;
                part.rows.insert(place, row.clone());
            }
            self.follow(plan, cascade.child, kept, below)?;
        }
        Ok(())
    }

    /// Removes what all sources have in a table, and what others have put there.
    pub(super) fn clear(&mut self, plan: &Plan, target: usize) -> Result<()> {
        let part = self.part(plan, target, 0)?;
        part.rows.clear();
        part.aside.clear();
        Ok(())
    }

    /// Adds loaded rows of a source, which are not there yet.
    pub(super) fn load(
        &mut self,
        plan: &Plan,
        (target, feed): (usize, usize),
        rows: &RowBatch,
    ) -> Result<()> {
        let mut part = self.part(plan, target, feed)?;
        for row in rows.iter() {
            if part.insert(image(row)?)? {
                return Err(Error::data("two rows with one key"));
            }
        }
        Ok(())
    }

    fn part<'a>(&'a mut self, plan: &'a Plan, target: usize, feed: usize) -> Result<Part<'a>> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        Ok(Part {
            table,
            feed,
            rows: self.tables.entry(table.name.clone()).or_default(),
            aside: self.aside.entry(table.name.clone()).or_default(),
            may_insert: plan.operations.insert,
        })
    }
}

impl Part<'_> {
    /// Whether an image has every cell that its source fills.
    fn whole(&self, image: &Image) -> bool {
        let feed = self.table.feeds.get(self.feed);
        let mut columns = feed.into_iter().flat_map(|feed| &feed.columns);
        columns.all(|column| image.get(*column).is_some_and(Option::is_some))
    }

    /// The cells that identify a row: its key, or all of it.
    fn key(&self, image: &Image) -> Result<Row> {
        let cell = |column: &usize| image.get(*column).copied().flatten();
        let key: Option<Row> = match self.table.key.as_slice() {
            [] => image.iter().copied().collect(),
            key => key.iter().map(cell).collect(),
        };
        key.ok_or_else(|| Error::bug("a row without the cells that identify it"))
    }

    /// The place of a row: its key. Without key, equal rows are numbered.
    fn place(&self, image: &Image, free: bool) -> Result<Row> {
        let mut key = self.key(image)?;
        if self.table.key.is_empty() {
            let like = |n: i64| key.iter().copied().chain([n]).collect::<Row>();
            let count = (0..)
                .find(|n| !self.rows.contains_key(&like(*n)))
                .unwrap_or(0);
            key.push(if free { count } else { count - 1 });
        }
        Ok(key)
    }

    fn bit(&self) -> u64 {
        1 << self.feed
    }

    /// Whether a row with these sources is shown.
    fn shown(&self, sources: u64) -> bool {
        match self.table.row_owner {
            Some(owner) => sources & (1 << owner) != 0,
            None => sources != 0,
        }
    }

    /// Whether there was a row of the source already.
    fn insert(&mut self, image: Image) -> Result<bool> {
        if !self.whole(&image) {
            return Err(Error::bug("a row to insert is not whole"));
        }
        let place = self.place(&image, true)?;
        if !self.table.merged() {
            let row = self.fresh(&image);
            return Ok(self.rows.insert(place, row).is_some());
        }
        let (sources, parked) = self.aside.remove(&place).unwrap_or_default();
        let row = self.rows.remove(&place).or(parked);
        let row = row.unwrap_or_else(|| self.fresh(&image));
        let row = over(row, &image);
        self.put(place, sources | self.bit(), row);
        Ok(sources & self.bit() != 0)
    }

    /// The cells that the source had there.
    fn delete(&mut self, image: &Image) -> Result<Option<Image>> {
        let place = self.place(image, false)?;
        if !self.table.merged() {
            let row = self.rows.remove(&place);
            return Ok(row.map(|row| row.into_iter().map(Some).collect()));
        }
        let Some((sources, parked)) = self.aside.remove(&place) else {
            return Ok(None);
        };
        let row = self.rows.remove(&place).or(parked);
        let row = row.ok_or_else(|| Error::bug("a source without a row"))?;
        let (mut old, mut left) = (Image::new(), Row::new());
        let owned: Vec<usize> = self.table.owned(self.feed).collect();
        for (index, (cell, column)) in row.into_iter().zip(&self.table.columns).enumerate() {
            let (key, owned) = (self.table.key.contains(&index), owned.contains(&index));
            old.push((key || owned).then_some(cell));
            left.push(if owned { default(column) } else { cell });
        }
        self.put(place, sources & !self.bit(), left);
        Ok((sources & self.bit() != 0).then_some(old))
    }

    /// Puts a merged row where it belongs.
    fn put(&mut self, place: Row, sources: u64, row: Row) {
        if self.shown(sources) {
            self.rows.insert(place.clone(), row);
            self.aside.insert(place, (sources, None));
        } else if sources != 0 {
            self.aside.insert(place, (sources, Some(row)));
        }
    }

    fn update(&mut self, before: &Image, after: Image, counts: &mut TableCounts) -> Result<()> {
        let moved = laid(before, &after);
        if self.table.merged() && self.key(before)? == self.key(&moved)? {
            let place = self.key(before)?;
            let bit = self.bit();
            let there = self
                .aside
                .get_mut(&place)
                .filter(|(sources, _)| sources & bit != 0);
            if let Some((_, parked)) = there {
                let row = self.rows.get_mut(&place).or(parked.as_mut());
                let row = row.ok_or_else(|| Error::bug("a source without a row"))?;
                *row = over(row.clone(), &after);
                return Ok(());
            }
        }
        let after = match self.delete(before)? {
            Some(old) => laid(&old, &after),
            None if self.may_insert && self.whole(&after) => {
                counts.repaired += 1;
                after
            }
            None => {
                counts.missing += 1;
                return Ok(());
            }
        };
        self.insert(after)?;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        if !self.table.merged() {
            self.rows.clear();
            return Ok(());
        }
        let places: Vec<Row> = self.aside.keys().cloned().collect();
        for place in places {
            let mut image: Image = vec![None; self.table.columns.len()];
            for (column, cell) in self.table.key.iter().zip(&place) {
                if let Some(slot) = image.get_mut(*column) {
                    *slot = Some(*cell);
                }
            }
            self.delete(&image)?;
        }
        Ok(())
    }

    /// A new row: cells that are not sent are at their defaults.
    fn fresh(&self, image: &Image) -> Row {
        let columns = image.iter().zip(&self.table.columns);
        columns
            .map(|(cell, column)| cell.unwrap_or_else(|| default(column)))
            .collect()
    }
}

/// What a column is when nobody fills it.
fn default(column: &ColumnSchema) -> i64 {
    if column.has_default { DEFAULT } else { NULL }
}

/// The sent cells of `newer` over those of `older`.
fn laid(older: &Image, newer: &Image) -> Image {
    newer
        .iter()
        .zip(older)
        .map(|(new, old)| new.or(*old))
        .collect()
}

/// The sent cells of `newer` over a row.
fn over(row: Row, newer: &Image) -> Row {
    newer
        .iter()
        .zip(row)
        .map(|(new, old)| new.unwrap_or(old))
        .collect()
}

fn image(row: RowRef<'_>) -> Result<Image> {
    row.cells()
        .map(|cell| match cell {
            CellRef::I64(value) => Ok(Some(value)),
            CellRef::Null => Ok(Some(NULL)),
            CellRef::Unchanged | CellRef::Absent => Ok(None),
            other => Err(Error::bug(format!("a cell of kind {}", other.kind_name()))),
        })
        .collect()
}
