//! Cutting a batch where foreign keys act, so that each run of it can be folded.
//!
//! Folding puts a batch into another order: deletes, then updates, then inserts. Within one table that
//! changes nothing, but a parent's change may change its children at the target
//! ([`thalweg_core::plan::Cascade`]), and then it matters whether a child was changed before it or
//! after it. `UPDATE child SET parent = 2` and then `DELETE` of parent 1: with the delete first the
//! child would go with its old parent.
//!
//! A *trigger* is a delete of a parent's row, or an update of the columns that are referenced. It
//! changes exactly the children that hold the old value at that time. So it may change places with a
//! child's change unless that change's row holds, before or after it, a value that the trigger takes
//! away or brings; and with other changes of its own table unless they bring or take away the same
//! value. Where two changes may not change places, the batch is cut between them, and each run is
//! folded for itself. What remains:
//!
//! - Deletes of children and deletes of parents always may: a fold does the children's first, and
//!   gone is gone. (This is how a source that logs its cascades has them.)
//! - What is written after a parent's delete stays after it: a fold begins with the deletes.
//! - Deletes of two parents of one table, one that takes its rows along and one that sets values in them,
//!   may not change places if that matters to tables further down.
//! - Further down, in tables that the children's children are in, nobody knows which rows a trigger
//!   reaches: any other change there is taken to be one of them.
//! - A value that is not in the row image, or of a type whose equal values can differ in their
//!   bytes, is taken to be any value.
//!
//! A trigger that the source did with foreign keys off, whose children stay as they are, stands in a
//! run of its own. And a batch is cut between transactions that some table's rows have already and
//! those they have not ([`ApplyBatch::kept`]).
//!
//! Tables that no foreign key joins to a cascade, over whatever other tables, are not cut: they go
//! first, in one piece.

use rustc_hash::FxHashSet;
use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::plan::{Cascade, Plan, TargetTable};
use thalweg_core::schema::{ColumnType, ReferenceAction};
use thalweg_core::value::{CellRef, RowBatch, RowRef, decode_raw};
use thalweg_core::{Error, Result, Side};

use crate::batch::{TouchedKeys, fold};

/// Folds a batch, in one piece or cut into several that are to be applied one after the other in one
/// target transaction; only the last has the batch's position. `kept` says from which operation on
/// which targets have what derived cascades do, in order; none before the first.
///
/// `before` is what the batch before touches; what this one touches comes back.
///
/// A `Data` error if a foreign key of the target would change rows that the source has kept.
pub(crate) fn fold_runs(
    plan: &Plan,
    mut batch: ApplyBatch,
    kept: &[(usize, Vec<usize>)],
    before: Option<&TouchedKeys>,
) -> Result<(Vec<ApplyBatch>, TouchedKeys)> {
    let runs = runs(plan, &batch.rows, &batch.ordered, kept);
    if let [run] = runs.as_slice() {
        batch.kept.clone_from(&run.kept);
        if run.apart {
            enforced(plan, &batch.ordered)?;
        }
        let fold = fold(plan, &mut batch.rows, &batch.ordered, before);
        (batch.folded, batch.apart) = (fold.nets, fold.apart);
        return Ok((vec![batch], fold.touched));
    }
    // What no foreign key joins to a cascade needs no cut.
    let linked = linked(plan);
    let joined = |op: &TableOp| linked.get(op.target).is_some_and(|linked| *linked);
    let later = |index: &usize| {
        batch
            .ordered
            .iter()
            .take(*index)
            .filter(|op| joined(op))
            .count()
    };
    let kept: Vec<_> = kept
        .iter()
        .map(|(from, kept)| (later(from), kept.clone()))
        .collect();
    let (ordered, free): (Vec<TableOp>, Vec<TableOp>) =
        batch.ordered.iter().partition(|op| joined(op));
    let runs = self::runs(plan, &batch.rows, &ordered, &kept);
    let mut out = Vec::with_capacity(runs.len() + 1);
    if !free.is_empty() {
        out.push(part(plan, &batch.rows, &free, Vec::new()));
    }
    let mut rest = ordered.as_slice();
    let mut begin = 0;
    for run in runs {
        let (ops, later) = rest
            .split_at_checked(run.end - begin)
            .ok_or_else(|| Error::bug("a run beyond its batch"))?;
        (rest, begin) = (later, run.end);
        if run.apart {
            enforced(plan, ops)?;
        }
        out.push(part(plan, &batch.rows, ops, run.kept));
    }
    for part in &mut out {
        (part.brief, part.net) = (batch.brief, batch.net);
        part.comes_again = batch.comes_again;
    }
    if let Some(last) = out.last_mut() {
        last.position = batch.position;
        last.transactions = batch.transactions;
        (last.held, last.emptied, last.freed) = (batch.held, batch.emptied, batch.freed);
    }
    Ok((out, TouchedKeys::any()))
}

/// Some operations of a batch as one of their own, folded.
pub(crate) fn part(plan: &Plan, rows: &RowBatch, ops: &[TableOp], kept: Vec<usize>) -> ApplyBatch {
    let mut part = ApplyBatch {
        kept,
        ..ApplyBatch::default()
    };
    for op in ops {
        part.ordered.push(moved(op, rows, &mut part.rows));
    }
    part.folded = fold(plan, &mut part.rows, &part.ordered, None).nets;
    part
}

/// Per target, whether foreign keys of whatever kind lead from it, over others, to one that acts.
fn linked(plan: &Plan) -> Vec<bool> {
    let mut linked = vec![false; plan.targets.len()];
    let acting = plan.cascades.iter().flat_map(|c| [c.parent, c.child]);
    let mut waiting: Vec<usize> = acting.collect();
    while let Some(index) = waiting.pop() {
        let Some(seen) = linked.get_mut(index).filter(|seen| !**seen) else {
            continue;
        };
        *seen = true;
        let Some(this) = plan.targets.get(index) else {
            continue;
        };
        let refers = |a: &TargetTable, b: &TargetTable| {
            a.foreign_keys.iter().any(|key| key.parent == b.name)
        };
        let targets = plan.targets.iter().enumerate();
        let near = targets.filter(|(_, other)| refers(this, other) || refers(other, this));
        waiting.extend(near.map(|(other, _)| other));
    }
    linked
}

/// The same operation over rows of another arena.
fn moved(op: &TableOp, from: &RowBatch, to: &mut RowBatch) -> TableOp {
    let mut row = |row: usize| {
        from.row(row).raw_cells().for_each(|cell| to.push_raw(cell));
        to.end_row()
    };
    let op_moved = match op.op {
        RowOp::Insert(image) => RowOp::Insert(row(image)),
        RowOp::Delete(image) => RowOp::Delete(row(image)),
        RowOp::Update { before, after } => RowOp::Update {
            before: row(before),
            after: row(after),
        },
        RowOp::Truncate => RowOp::Truncate,
    };
    TableOp {
        op: op_moved,
        ..*op
    }
}

/// The source has kept the children of these operations; the target would not.
fn enforced(plan: &Plan, ops: &[TableOp]) -> Result<()> {
    for op in ops {
        let mut cascades = plan.cascades_from(op.target);
        let Some(cascade) = cascades.find(|cascade| cascade.enforced) else {
            continue;
        };
        let name = |target: usize| plan.targets.get(target).map(|table| &table.name);
        let (Some(parent), Some(child)) = (name(cascade.parent), name(cascade.child)) else {
            continue;
        };
        return Err(Error::data(format!(
            "rows of {parent} went or changed their key at the source with foreign_key_checks = 0, \
             and the target's foreign key would change rows of {child} that the source has kept"
        ))
        .with_hint("set the task's option foreign_keys to replica, or drop the target's key")
        .at(Side::Target));
    }
    Ok(())
}

/// A part of a batch's operations, in commit order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    /// One past its last operation.
    end: usize,
    /// Whether it is one operation that was done with foreign keys off.
    apart: bool,
    /// [`ApplyBatch::kept`].
    kept: Vec<usize>,
}

/// Cuts `ordered` into runs that may each be folded, in one run if nothing speaks against it.
fn runs(
    plan: &Plan,
    rows: &RowBatch,
    ordered: &[TableOp],
    kept: &[(usize, Vec<usize>)],
) -> Vec<Run> {
    let kept_at = |index: usize| {
        let mut before = kept.iter().rev();
        let last = before.find(|(from, _)| *from <= index);
        last.map_or_else(Vec::new, |(_, kept)| kept.clone())
    };
    let until = |end: usize| Run {
        end,
        apart: false,
        kept: kept_at(end.saturating_sub(1)),
    };
    if plan.cascades.is_empty() || !ordered.iter().any(|op| triggers(plan, rows, op)) {
        return vec![Run {
            kept: Vec::new(),
            ..until(ordered.len())
        }];
    }
    let mut out: Vec<Run> = Vec::new();
    let mut state = State::new(plan);
    for (index, op) in ordered.iter().enumerate() {
        let apart = op.unchecked && triggers(plan, rows, op);
        let begun = out.last().map_or(0, |run| run.end) < index;
        let other = kept.iter().any(|(from, _)| *from == index);
        if begun && (apart || other || state.conflicts(rows, op)) {
            out.push(until(index));
            state.clear();
        }
        if apart {
            out.push(Run {
                end: index + 1,
                apart,
                kept: plan.cascades.iter().map(|cascade| cascade.child).collect(),
            });
        } else {
            state.add(rows, op);
        }
    }
    if out.last().is_none_or(|run| run.end < ordered.len()) {
        out.push(until(ordered.len()));
    }
    out
}

/// Whether an operation changes children, by any of the plan's cascades.
fn triggers(plan: &Plan, rows: &RowBatch, op: &TableOp) -> bool {
    let mut cascades = plan.cascades_from(op.target);
    cascades.any(|cascade| cascade.fires(rows, &op.op) || empties(cascade, op))
}

/// Whether the source emptied a parent with foreign keys off, and the target's key would empty its
/// child.
fn empties(cascade: &Cascade, op: &TableOp) -> bool {
    let truncates = op.unchecked && op.op == RowOp::Truncate;
    truncates && cascade.enforced && !cascade.logged && cascade.child != cascade.parent
}

/// What an operation on a parent does to the values that are referenced.
enum Trigger {
    /// The row goes.
    Delete(Value),
    /// From, to.
    Update(Value, Value),
}

impl Trigger {
    /// `None` if the cascade has nothing to do.
    fn of(cascade: &Cascade, rows: &RowBatch, op: &RowOp) -> Option<Trigger> {
        let value = |row: usize| Value::of(rows.row(row), &cascade.parent_columns);
        match *op {
            _ if !cascade.fires(rows, op) => None,
            RowOp::Update { before, after } => Some(Trigger::Update(value(before), value(after))),
            RowOp::Delete(row) => Some(Trigger::Delete(value(row))),
            RowOp::Insert(_) | RowOp::Truncate => None,
        }
    }
}

/// The value of a key's columns in one row image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Value {
    /// A column is NULL: it references nothing, and nothing references it.
    Null,
    /// The encoded cells.
    Cells(Vec<u8>),
    /// Not all in the image.
    Unknown,
}

impl Value {
    fn of(row: RowRef<'_>, columns: &[usize]) -> Value {
        let mut cells = Vec::new();
        let mut null = false;
        for &column in columns {
            let Some(raw) = row.raw_cells().nth(column) else {
                return Value::Unknown;
            };
            match decode_raw(raw) {
                Some(CellRef::Null) => null = true,
                Some(cell) if cell.is_present() => cells.extend_from_slice(raw),
                _ => return Value::Unknown,
            }
        }
        if null {
            Value::Null
        } else {
            Value::Cells(cells)
        }
    }
}

/// A set of values.
#[derive(Default)]
struct Values {
    cells: FxHashSet<Vec<u8>>,
    /// Holds one that is not known, which may be any.
    any: bool,
}

impl Values {
    fn add(&mut self, value: Value) {
        match value {
            Value::Null => {}
            Value::Cells(cells) => {
                self.cells.insert(cells);
            }
            Value::Unknown => self.any = true,
        }
    }

    fn has(&self, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Cells(cells) => self.any || self.cells.contains(cells),
            Value::Unknown => self.any || !self.cells.is_empty(),
        }
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.any = false;
    }
}

/// What a run has of one cascade.
struct Link<'p> {
    cascade: &'p Cascade,
    /// Whether equal values have equal bytes.
    exact: bool,
    /// Tables below the child that a delete of the parent may reach.
    below_delete: Vec<usize>,
    /// The same for an update.
    below_update: Vec<usize>,
    /// Values that children came with or have now.
    held: Values,
    /// Values that updates took away or brought.
    updated: Values,
    /// Values that inserts brought.
    inserted: Values,
}

/// What a run has of one table.
#[derive(Clone, Copy, Default)]
struct Touched {
    /// An insert or update.
    written: bool,
    /// May have been reached from above by an update.
    reached: bool,
    /// May have been reached from above by a delete that removed rows on its way.
    removed: bool,
    /// May have been reached from above by a delete that set values on its way.
    emptied: bool,
}

struct State<'p> {
    links: Vec<Link<'p>>,
    tables: Vec<Touched>,
}

impl<'p> State<'p> {
    fn new(plan: &'p Plan) -> Self {
        let link = |cascade: &'p Cascade| Link {
            cascade,
            exact: exact(plan, cascade),
            below_delete: below(plan, cascade, true),
            below_update: below(plan, cascade, false),
            held: Values::default(),
            updated: Values::default(),
            inserted: Values::default(),
        };
        State {
            links: plan.cascades.iter().map(link).collect(),
            tables: vec![Touched::default(); plan.targets.len()],
        }
    }

    fn clear(&mut self) {
        for link in &mut self.links {
            link.held.clear();
            link.updated.clear();
            link.inserted.clear();
        }
        self.tables.fill(Touched::default());
    }

    /// Whether `op` may not change places with an operation of the run.
    fn conflicts(&self, rows: &RowBatch, op: &TableOp) -> bool {
        if self
            .tables
            .get(op.target)
            .is_some_and(|table| table.reached)
        {
            return true;
        }
        self.links.iter().any(|link| {
            let as_child = link.cascade.child == op.target
                && link
                    .held_by(rows, &op.op)
                    .any(|value| link.updated.has(&value));
            as_child || (link.cascade.parent == op.target && self.meets(link, rows, &op.op))
        })
    }

    /// The same for an operation on the parent of a link.
    fn meets(&self, link: &Link<'_>, rows: &RowBatch, op: &RowOp) -> bool {
        let Some(trigger) = Trigger::of(link.cascade, rows, op) else {
            return false;
        };
        let goes = link.goes();
        let (below, values) = match trigger {
            Trigger::Delete(old) => {
                let other = |table: &usize| {
                    let table = self.tables.get(*table);
                    table.is_some_and(|t| if goes { t.emptied } else { t.removed })
                };
                if link.below_delete.iter().any(other) {
                    return true;
                }
                (&link.below_delete, vec![link.known(old)])
            }
            Trigger::Update(old, new) => {
                let values = vec![link.known(old), link.known(new)];
                (&link.below_update, values)
            }
        };
        let touched = |table: &usize| self.tables.get(*table).is_some_and(|t| t.written);
        below.iter().any(touched)
            || values.iter().any(|value| {
                let before = [&link.held, &link.updated, &link.inserted];
                before.into_iter().any(|values| values.has(value))
            })
    }

    fn add(&mut self, rows: &RowBatch, op: &TableOp) {
        let deletes = matches!(op.op, RowOp::Delete(_));
        let tables = &mut self.tables;
        if let Some(table) = tables.get_mut(op.target) {
            table.written |= !deletes;
        }
        for link in &mut self.links {
            // A row that goes is gone before any trigger of the fold.
            if link.cascade.child == op.target && !deletes {
                let held: Vec<_> = link.held_by(rows, &op.op).collect();
                held.into_iter().for_each(|value| link.held.add(value));
            }
            if link.cascade.parent != op.target {
                continue;
            }
            match Trigger::of(link.cascade, rows, &op.op) {
                Some(Trigger::Update(old, new)) => {
                    for value in [old, new] {
                        let value = link.known(value);
                        link.updated.add(value);
                    }
                    for &table in &link.below_update {
                        if let Some(table) = tables.get_mut(table) {
                            table.reached = true;
                        }
                    }
                }
                Some(Trigger::Delete(_)) => {
                    let goes = link.goes();
                    for &table in &link.below_delete {
                        if let Some(table) = tables.get_mut(table) {
                            table.removed |= goes;
                            table.emptied |= !goes;
                        }
                    }
                }
                None => {
                    if let RowOp::Insert(row) = op.op {
                        let value = Value::of(rows.row(row), &link.cascade.parent_columns);
                        let value = link.known(value);
                        link.inserted.add(value);
                    }
                }
            }
        }
    }
}

impl Link<'_> {
    /// The values of this link that the row of a child's operation holds before and after it.
    fn held_by(&self, rows: &RowBatch, op: &RowOp) -> impl Iterator<Item = Value> {
        let images = match *op {
            RowOp::Insert(row) | RowOp::Delete(row) => [Some(row), None],
            RowOp::Update { before, after } => [Some(before), Some(after)],
            RowOp::Truncate => [None, None],
        };
        let value = |row: usize| self.known(Value::of(rows.row(row), &self.cascade.columns));
        images.map(|row| row.map(value)).into_iter().flatten()
    }

    /// Whether children go with their parent.
    fn goes(&self) -> bool {
        self.cascade.on_delete == ReferenceAction::Cascade
    }

    fn known(&self, value: Value) -> Value {
        match value {
            Value::Cells(_) if !self.exact => Value::Unknown,
            value => value,
        }
    }
}

/// Whether equal values of a link's columns have equal bytes, at both its ends.
fn exact(plan: &Plan, cascade: &Cascade) -> bool {
    let column = |target: usize, column: usize| plan.targets.get(target)?.columns.get(column);
    let both = cascade.parent_columns.iter().zip(&cascade.columns);
    let mut both = both.map(|(&p, &c)| column(cascade.parent, p).zip(column(cascade.child, c)));
    both.all(|both| {
        let Some((parent, child)) = both else {
            return false;
        };
        match (&parent.ty, &child.ty) {
            (ColumnType::Int { unsigned: a, .. }, ColumnType::Int { unsigned: b, .. }) => a == b,
            // Trailing spaces of a type of fixed length do not count.
            (ColumnType::Text { .. }, ColumnType::Text { .. }) => [parent, child]
                .iter()
                .all(|column| !column.folds && !column.native.starts_with("char")),
            (ColumnType::Bool, ColumnType::Bool)
            | (ColumnType::Bytes { .. }, ColumnType::Bytes { .. })
            | (ColumnType::Date { .. }, ColumnType::Date { .. })
            | (ColumnType::Uuid, ColumnType::Uuid) => true,
            _ => false,
        }
    })
}

/// The tables below a cascade's child that a delete (or an update) of the parent may change.
fn below(plan: &Plan, cascade: &Cascade, delete: bool) -> Vec<usize> {
    let mut out = Vec::new();
    let mut waiting = vec![(cascade, delete)];
    let mut seen = vec![(cascade.parent, cascade.child, delete)];
    while let Some((above, delete)) = waiting.pop() {
        let action = if delete {
            above.on_delete
        } else {
            above.on_update
        };
        // What happens to the child's row: it goes, or its referencing columns change.
        let goes = delete && action == ReferenceAction::Cascade;
        if action == ReferenceAction::Refuse {
            continue;
        }
        for next in plan.cascades_from(above.child) {
            let changes = next
                .parent_columns
                .iter()
                .any(|column| above.columns.contains(column));
            let acts = if goes {
                next.on_delete != ReferenceAction::Refuse
            } else {
                changes && next.on_update != ReferenceAction::Refuse
            };
            if !acts {
                continue;
            }
            if !out.contains(&next.child) {
                out.push(next.child);
            }
            let key = (next.parent, next.child, goes);
            if !seen.contains(&key) {
                seen.push(key);
                waiting.push((next, goes));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
