//! Folding: the net effect of a batch per target key.
//!
//! A hot row changes many times in a batch; the target needs to see the last state only. The
//! argument why the net effect is the same:
//!
//! - Per target table every key that the batch touches has at most one [`Entry`], found by the key
//!   the row has *now*. An entry remembers the row as the target has it (`origin`) and the row as it
//!   should be (`current`). A key that is known to hold no row keeps an entry with neither, so it
//!   can never be taken for a key the batch has not touched.
//! - A change of the key carries the entry to its new key and leaves such an empty entry behind.
//! - So every key is the key of at most one origin and of at most one current row, and what is
//!   emitted (origins without current: deletes; both: updates; currents without origin: inserts)
//!   leads from the first state to the last one when deletes come first, then all updates at once,
//!   then inserts.
//! - An image that leaves cells out is laid *over* the older image, never put in its place. Over an
//!   origin the left-out cells stay left out: the target has them.
//!
//! A merged table is folded per source: its changes of different sources commute (see
//! [`TargetTable`]), and within one source the argument above holds for the part of the row that the
//! source owns.
//!
//! A task that does not carry over all operations leaves rows at the target under keys that the source
//! has given up, so "the batch has not touched this key" does not say that no row is there. A row
//! that moves onto such a key replaces what is there, and a row that comes there and goes takes it
//! along; both would be lost in a net effect, so they are left in order: changes of a key without
//! DELETE, and a delete of a row that came in the batch without UPDATE.
//!
//! Some tables cannot be folded: one without key, one with a TRUNCATE, and one whose history no
//! correct source has (a change of a row that is not there, a second row under one key), which is a
//! sign of drift: row by row in commit order each such case is counted. Such a table is left in
//! order. The order between tables matters to foreign keys only, so if one joins such a table
//! to another table of the plan, the whole batch is left in order; otherwise the others are folded.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, Hasher};

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use thalweg_core::batch::{Apart, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::mapping::Operations;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{ColumnSchema, ColumnType};
use thalweg_core::value::{RowBatch, RowRef, is_present, rank};

/// The keys that a batch touches, to tell what the next one may do beside it.
#[derive(Clone, Debug, Default)]
pub struct TouchedKeys {
    /// Hashes of the keys, per target; of a table that is not there, any key may be touched. Two keys with
    /// one hash are taken for one.
    keys: FxHashMap<usize, FxHashSet<u64>>,
    /// Tables that are touched at all.
    tables: FxHashSet<usize>,
    /// Whether any table may be touched.
    any: bool,
}

impl TouchedKeys {
    /// Nothing is known of the batch before.
    pub fn any() -> Self {
        TouchedKeys {
            any: true,
            ..TouchedKeys::default()
        }
    }

    /// Whether a key may be touched.
    fn has(&self, target: usize, key: u64) -> bool {
        match self.keys.get(&target) {
            Some(keys) => keys.contains(&key),
            None => self.any || self.tables.contains(&target),
        }
    }
}

/// What folding made of a batch.
#[derive(Debug)]
pub struct Fold {
    /// The net effect per target table in the plan's order (parents before children) and source;
    /// `None` if the batch has to be applied row by row.
    pub nets: Option<Vec<Net>>,
    /// Which rows of it touch no key of the batch before.
    pub apart: Vec<Apart>,
    /// What it touches itself.
    pub touched: TouchedKeys,
}

/// The net effect of `ordered`. Merged images are appended to `rows`. `before`: what the batch before
/// touches; `None` if that is of no use, and what this one touches neither.
///
/// # Panics
/// If an operation names a target or a row that `plan` or `rows` do not have.
pub fn fold(
    plan: &Plan,
    rows: &mut RowBatch,
    ordered: &[TableOp],
    before: Option<&TouchedKeys>,
) -> Fold {
    let mut tables: Vec<Slot<'_>> = plan.targets.iter().map(|_| Slot::Untouched).collect();
    for op in ordered {
        let target = plan.targets.get(op.target);
        let target = target.expect("operations name targets of the plan");
        let slot = tables.get_mut(op.target).expect("one slot per target");
        if matches!(slot, Slot::Untouched) {
            *slot = Slot::new(target, plan.operations);
        }
        let Slot::Folded(feeds) = slot else {
            continue;
        };
        let table = feeds
            .get_mut(op.feed)
            .expect("operations name feeds of the plan");
        let done = match op.op {
            RowOp::Insert(row) => table.insert(rows, row),
            RowOp::Update { before, after } => table.update(rows, before, after),
            RowOp::Delete(row) => table.delete(rows, row),
            RowOp::Truncate => None,
        };
        if done.is_none() {
            *slot = Slot::InOrder;
        }
    }
    let in_order =
        |(index, slot): (usize, &Slot<'_>)| matches!(slot, Slot::InOrder) && joined(plan, index);
    let mut fold = Fold {
        nets: None,
        apart: Vec::new(),
        touched: TouchedKeys::any(),
    };
    if tables.iter().enumerate().any(in_order) {
        return fold;
    }
    fold.touched.any = false;
    let mut nets = Vec::new();
    for (target, slot) in tables.into_iter().enumerate() {
        if !matches!(slot, Slot::Untouched) {
            fold.touched.tables.insert(target);
        }
        match slot {
            Slot::Untouched => {}
            Slot::InOrder => nets.push(Net::InOrder(target)),
            Slot::Folded(feeds) => {
                let alone = before.is_some() && feeds.len() == 1;
                for (feed, table) in feeds.into_iter().enumerate() {
                    let keys = alone.then(|| table.keys()).flatten();
                    let Some(mut folded) = table.finish(rows, target, feed) else {
                        continue;
                    };
                    if let Some(((keys, before), table)) =
                        keys.zip(before).zip(plan.targets.get(target))
                    {
                        fold.apart.extend(apart(table, rows, &mut folded, before));
                        fold.touched.keys.insert(target, keys);
                    }
                    nets.push(Net::Folded(folded));
                }
            }
        }
    }
    fold.nets = Some(nets);
    fold
}

/// Puts the rows whose keys the batch before does not touch to the front of each list. `None` if there are
/// none, or a row changes its key: such a row may wait for another to leave.
fn apart(
    table: &TargetTable,
    rows: &RowBatch,
    folded: &mut FoldedTable,
    before: &TouchedKeys,
) -> Option<Apart> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for &(from, to) in &folded.updates {
        key_of(table, rows.row(from), None, &mut old)?;
        key_of(table, rows.row(to), Some(rows.row(from)), &mut new)?;
        if old != new {
            return None;
        }
    }
    let target = folded.target;
    let mut touches = |row: usize| {
        key_of(table, rows.row(row), None, &mut old);
        before.has(target, hash(&old))
    };
    let apart = Apart {
        target,
        deletes: front(&mut folded.deletes, |&row| touches(row)),
        updates: front(&mut folded.updates, |&(before, _)| touches(before)),
        inserts: front(&mut folded.inserts, |&row| touches(row)),
    };
    (apart.deletes + apart.updates + apart.inserts > 0).then_some(apart)
}

/// Moves what touches nothing to the front; how much that is.
fn front<T: Copy>(list: &mut Vec<T>, mut touches: impl FnMut(&T) -> bool) -> usize {
    let (behind, mut all): (Vec<T>, Vec<T>) = list.iter().partition(|item| touches(item));
    let count = all.len();
    all.extend(behind);
    *list = all;
    count
}

fn hash(key: &[u8]) -> u64 {
    FxBuildHasher.hash_one(key)
}

/// A hash of the key of a row.
pub(crate) fn key_hash(row: RowRef<'_>, key: &[usize]) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    for column in key {
        row.raw_cells().nth(*column).hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether two keys of a table are equal to the target only if their bytes are.
pub(crate) fn has_exact_key(table: &TargetTable) -> bool {
    let mut key = table.key.iter().map(|&column| table.columns.get(column));
    key.all(|column| column.is_some_and(is_exact))
}

/// The same of a column.
pub(crate) fn is_exact(column: &ColumnSchema) -> bool {
    match &column.ty {
        ColumnType::Int { .. }
        | ColumnType::Bool
        | ColumnType::Bytes { .. }
        | ColumnType::Date { .. }
        | ColumnType::Uuid => true,
        // Trailing spaces of a type of fixed length do not count.
        ColumnType::Text { .. } => {
            let native = column.native.as_str();
            let mut fixed = ["char(", "character(", "bpchar"].iter();
            let bare = matches!(native, "char" | "character");
            !column.folds && !bare && !fixed.any(|fixed| native.starts_with(fixed))
        }
        _ => false,
    }
}

/// Whether a foreign key, of the target or one whose doings the applier derives, joins a table to
/// another of the plan, or to itself.
fn joined(plan: &Plan, index: usize) -> bool {
    let mut cascades = plan.cascades.iter();
    if cascades.any(|c| c.parent == index || c.child == index) {
        return true;
    }
    let Some(table) = plan.targets.get(index) else {
        return false;
    };
    let refers = |child: &TargetTable| child.foreign_keys.iter().any(|k| k.parent == table.name);
    !table.foreign_keys.is_empty() || plan.targets.iter().any(refers)
}

/// One target table of a batch.
enum Slot<'p> {
    Untouched,
    /// Per source.
    Folded(Vec<Table<'p>>),
    InOrder,
}

impl<'p> Slot<'p> {
    fn new(target: &'p TargetTable, operations: Operations) -> Self {
        if target.key.is_empty() {
            return Slot::InOrder;
        }
        let count = target.feeds.len().max(1);
        let feeds = (0..count).map(|_| Table::new(target, operations));
        Slot::Folded(feeds.collect())
    }
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The row as the target has it, if it has one: carries its key there.
    origin: Option<usize>,
    /// The row as it should be; `None`: gone.
    current: Option<usize>,
    /// Whether `current` came by an insert after `origin` was deleted: both stand then, so that
    /// columns that are not mapped return to their defaults.
    replaced: bool,
}

/// Encoded key cells. Most keys are one number and need no memory of their own.
#[derive(Clone, Debug)]
enum Key {
    /// So many bytes, and the key in them.
    Short(u8, [u8; SHORT_KEY]),
    Long(Box<[u8]>),
}

/// As much as makes both kinds of [`Key`] the same size.
const SHORT_KEY: usize = 22;

impl Key {
    fn new(bytes: &[u8]) -> Key {
        let mut short = [0; SHORT_KEY];
        let length = u8::try_from(bytes.len());
        match (short.get_mut(..bytes.len()), length) {
            (Some(slot), Ok(length)) => {
                slot.copy_from_slice(bytes);
                Key::Short(length, short)
            }
            _ => Key::Long(bytes.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        match self {
            Key::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Key::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        let (this, other): (&[u8], &[u8]) = (self.borrow(), other.borrow());
        this == other
    }
}

impl Eq for Key {}

impl Hash for Key {
    /// As the slice that it is looked up by.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes: &[u8] = self.borrow();
        bytes.hash(state);
    }
}

/// The entries of one source of a target table that has a key.
struct Table<'p> {
    target: &'p TargetTable,
    operations: Operations,
    entries: Vec<Entry>,
    by_key: FxHashMap<Key, usize>,
    key: Vec<u8>,
    old_key: Vec<u8>,
}

impl<'p> Table<'p> {
    fn new(target: &'p TargetTable, operations: Operations) -> Self {
        Table {
            target,
            operations,
            entries: Vec::new(),
            by_key: FxHashMap::default(),
            key: Vec::new(),
            old_key: Vec::new(),
        }
    }

    fn insert(&mut self, rows: &RowBatch, row: usize) -> Option<()> {
        key_of(self.target, rows.row(row), None, &mut self.key)?;
        match self.by_key.get(self.key.as_slice()) {
            None => {
                let entry = Entry {
                    current: Some(row),
                    ..Entry::default()
                };
                self.add(entry);
            }
            Some(&index) => {
                let entry = self.entries.get_mut(index)?;
                if entry.current.is_some() {
                    return None;
                }
                entry.current = Some(row);
                entry.replaced = entry.origin.is_some();
            }
        }
        Some(())
    }

    fn delete(&mut self, rows: &RowBatch, row: usize) -> Option<()> {
        key_of(self.target, rows.row(row), None, &mut self.key)?;
        match self.by_key.get(self.key.as_slice()) {
            None => {
                let entry = Entry {
                    origin: Some(row),
                    ..Entry::default()
                };
                self.add(entry);
            }
            Some(&index) => {
                let entry = self.entries.get_mut(index)?;
                if entry.origin.is_none() && !self.operations.update {
                    return None;
                }
                entry.current.take()?;
                entry.replaced = false;
            }
        }
        Some(())
    }

    fn update(&mut self, rows: &mut RowBatch, before: usize, after: usize) -> Option<()> {
        key_of(self.target, rows.row(before), None, &mut self.old_key)?;
        let old = rows.row(before);
        key_of(self.target, rows.row(after), Some(old), &mut self.key)?;
        if self.key != self.old_key && !self.operations.delete {
            return None;
        }
        let index = match self.by_key.get(self.old_key.as_slice()) {
            Some(&index) => {
                let older = self.entries.get(index)?.current?;
                let merged = overlay(rows, after, older, |_| true);
                self.entries.get_mut(index)?.current = Some(merged);
                index
            }
            None => {
                // Over the target's own row, only key cells must not be left out.
                let key = &self.target.key;
                let current = overlay(rows, after, before, |cell| key.contains(&cell));
                self.entries.push(Entry {
                    origin: Some(before),
                    current: Some(current),
                    replaced: false,
                });
                self.by_key
                    .insert(Key::new(&self.old_key), self.entries.len() - 1);
                self.entries.len() - 1
            }
        };
        if self.key == self.old_key {
            return Some(());
        }
        if let Some(&there) = self.by_key.get(self.key.as_slice())
            && self.entries.get(there)?.current.is_some()
        {
            return None;
        }
        self.by_key.insert(Key::new(&self.key), index);
        self.entries.push(Entry::default());
        self.by_key
            .insert(Key::new(&self.old_key), self.entries.len() - 1);
        Some(())
    }

    fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.by_key
            .insert(Key::new(&self.key), self.entries.len() - 1);
    }

    /// All keys that were touched; `None` if they are not all that the target may take for them.
    fn keys(&self) -> Option<FxHashSet<u64>> {
        has_exact_key(self.target)
            .then(|| self.by_key.keys().map(|key| hash(key.borrow())).collect())
    }

    /// `None` if no operation touched it.
    fn finish(self, rows: &RowBatch, target: usize, feed: usize) -> Option<FoldedTable> {
        if self.entries.is_empty() {
            return None;
        }
        let mut folded = FoldedTable {
            target,
            feed,
            ..FoldedTable::default()
        };
        for entry in self.entries {
            match (entry.origin, entry.current) {
                (None, None) => {}
                (None, Some(current)) => folded.inserts.push(current),
                (Some(origin), None) => folded.deletes.push(origin),
                (Some(origin), Some(current)) if entry.replaced => {
                    folded.deletes.push(origin);
                    folded.inserts.push(current);
                }
                (Some(origin), Some(current)) => folded.updates.push((origin, current)),
            }
        }
        if sortable(self.target) {
            let key = &self.target.key;
            sort(&mut folded.deletes, rows, key, |row| *row);
            sort(&mut folded.updates, rows, key, |(before, _)| *before);
            sort(&mut folded.inserts, rows, key, |row| *row);
        }
        Some(folded)
    }
}

/// Whether the order in which rows of a table are written can make no difference. With another unique
/// key, or a reference to a row of the same table, a server that checks row by row may refuse another
/// order than the source's.
fn sortable(table: &TargetTable) -> bool {
    let mut references = table.foreign_keys.iter();
    table.unique_keys.is_empty() && !references.any(|key| key.parent == table.name)
}

/// Sorts by the key's first two columns, about: neighbours in the table are written one after the
/// other, while their pages are at hand.
fn sort<T: Copy>(list: &mut Vec<T>, rows: &RowBatch, key: &[usize], row: impl Fn(&T) -> usize) {
    let mut ranked: Vec<([u64; 2], T)> = Vec::with_capacity(list.len());
    ranked.extend(list.iter().map(|item| {
        let at = rows.row(row(item));
        let mut ranks = [0; 2];
        for (slot, column) in ranks.iter_mut().zip(key) {
            *slot = at.raw_cells().nth(*column).map_or(0, rank);
        }
        (ranks, *item)
    }));
    // Stable: what is alike stays in commit order.
    ranked.sort_by_key(|(ranks, _)| *ranks);
    list.clear();
    list.extend(ranked.into_iter().map(|(_, item)| item));
}

/// Writes the encoded key cells of `row` into `out`; cells that `row` leaves out are taken from
/// `fallback`. `None` if one is in neither.
pub(crate) fn key_of(
    target: &TargetTable,
    row: RowRef<'_>,
    fallback: Option<RowRef<'_>>,
    out: &mut Vec<u8>,
) -> Option<()> {
    out.clear();
    add_key(target, row, fallback, out)
}

/// The same, behind what `out` has.
pub(crate) fn add_key(
    target: &TargetTable,
    row: RowRef<'_>,
    fallback: Option<RowRef<'_>>,
    out: &mut Vec<u8>,
) -> Option<()> {
    for &column in &target.key {
        let present = |row: RowRef<'_>| {
            let raw = row.raw_cells().nth(column)?;
            is_present(raw).then(|| out.extend_from_slice(raw))
        };
        // `present` borrows `out`, so the two tries are one closure called twice.
        let mut present = present;
        present(row).or_else(|| present(fallback?))?;
    }
    Some(())
}

/// Lays `newer` over `older`: cells that `newer` leaves out and `wanted` asks for come from
/// `older`. Gives `newer` itself when there is nothing to fill in.
fn overlay(
    rows: &mut RowBatch,
    newer: usize,
    older: usize,
    wanted: impl Fn(usize) -> bool,
) -> usize {
    let fills = |(index, raw): (usize, &[u8])| !is_present(raw) && wanted(index);
    if !rows.row(newer).raw_cells().enumerate().any(fills) {
        return newer;
    }
    // By their places, because a value is copied once and not by way of another vector.
    let mut pieces = Vec::new();
    let (mut new_at, mut old_at) = (0, 0);
    let old = rows.row(older).raw_cells();
    for (index, (new, old)) in rows.row(newer).raw_cells().zip(old).enumerate() {
        pieces.push(match fills((index, new)) {
            true => (older, old_at..old_at + old.len()),
            false => (newer, new_at..new_at + new.len()),
        });
        new_at += new.len();
        old_at += old.len();
    }
    for (row, range) in pieces {
        rows.push_again(row, range);
    }
    rows.end_row()
}

#[cfg(test)]
pub(crate) mod tests;
