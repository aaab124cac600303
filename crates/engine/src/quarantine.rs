//! Quarantine: rows that the target refuses, and what waits behind them.
//!
//! A task whose option says so does not stop at a row that the target refuses, or whose value fits no
//! column. The change goes into quarantine, at the target, in the transaction that moves the position
//! past it; and so does each later change of the same row, because to apply it would skip one. All
//! else goes on.
//!
//! *Finding the row.* A batch that the target refuses is rolled back and made again, of the transactions that
//! are kept for that (`stream/again.rs`; otherwise the task begins again at its checkpoint), to be *sifted*: it is
//! tried in pieces, each as always behind a savepoint; one that is refused is cut into smaller ones, and at
//! last its changes are tried one by one. What is refused then is
//! refused for itself ([`Sieve`]). After as many changes as a full batch has, batches are as before.
//!
//! *What waits behind it.* A change waits if the target row it starts from or ends at is touched by a
//! change in quarantine. One that moves a row takes the new key along, so that whatever is done to the
//! row under its new key waits too. So the changes in quarantine fall into groups that share no key
//! ([`groups`]), and between a group and everything else there is no order to keep, as between
//! any two rows. A merged table is judged source by source: changes of different sources commute.
//!
//! *Numbers.* A change gets its number when the stream takes it, whether or not it is refused later.
//! So the order in a group is that of the source, however it came to be there.
//!
//! *Release.* Between two batches of the stream, the changes of a group are converted anew, folded to
//! their net effect, and written in one transaction that removes them from quarantine. If the target
//! refuses that, they stay. Whatever comes later of these keys is taken by the stream after that. The row
//! is then what its source row was at that place of the log.
//!
//! A TRUNCATE of the source takes what lies in quarantine along: no row of before is left. A
//! table without a key has no rows to tell apart; its bad rows stop the task, as without quarantine. So do those
//! of a table whose foreign keys act, and of one whose keys do not tell its rows apart (`cannot_wait`).

mod careful;
mod sieve;
mod ward;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use thalweg_core::batch::{RowOp, TableOp};

use thalweg_core::plan::{Plan, TargetTable};

use thalweg_core::quarantine::Held;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, fnv1a};
use thalweg_core::value::{RowBatch, decode_raw, split_raw};
use thalweg_core::{Error, Result, Side};

use crate::batch::{add_key, is_exact};
use crate::status::now_us;
use crate::task::TaskSpec;
use crate::verify::shown;

pub(crate) use careful::Careful;
pub(crate) use sieve::Sieve;
pub(crate) use ward::Request;
pub use ward::{Settled, Ward, Way};

/// Bytes that each key in quarantine begins with.
const PRINT: usize = 8;
/// Characters of a key column's value that are shown.
const SHOWN_MAX: usize = 200;

/// A target table and one of its feeds.
type Place = (usize, usize);

/// The keys of rows that wait, by where they are.
#[derive(Clone, Debug, Default)]
struct Keys(FxHashMap<Place, FxHashSet<Box<[u8]>>>);

impl Keys {
    fn has(&self, place: Place, keys: OpKeys<'_>) -> bool {
        let Some(known) = self.0.get(&place) else {
            return false;
        };
        known.contains(keys.key) || keys.moved.is_some_and(|key| known.contains(key))
    }

    fn add(&mut self, place: Place, keys: OpKeys<'_>) {
        let known = self.0.entry(place).or_default();
        known.insert(keys.key.into());
        known.extend(keys.moved.map(Into::into));
    }
}

/// The keys that an operation touches, as encoded cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpKeys<'a> {
    key: &'a [u8],
    /// Where the row goes, if its key changes.
    moved: Option<&'a [u8]>,
}

/// What has to be known of a table to put rows of it aside.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Begins each of its keys in quarantine ([`print_of`]).
    print: [u8; PRINT],
    /// Why its rows cannot wait; `None`: they can.
    stays: Option<&'static str>,
}

/// The keys of an operation, made in `out`; `None` if it has none that tell a row: its table has no key, or
/// all rows go.
fn keys_of<'o>(
    table: &TargetTable,
    print: [u8; PRINT],
    rows: &RowBatch,
    op: RowOp,
    out: &'o mut Vec<u8>,
) -> Option<OpKeys<'o>> {
    out.clear();
    if table.key.is_empty() {
        return None;
    }
    let (first, after) = match op {
        RowOp::Insert(row) | RowOp::Delete(row) => (row, None),
        RowOp::Update { before, after } => (before, Some(after)),
        RowOp::Truncate => return None,
    };
    out.extend_from_slice(&print);
    add_key(table, rows.row(first), None, out)?;
    let middle = out.len();
    if let Some(after) = after {
        out.extend_from_slice(&print);
        add_key(table, rows.row(after), Some(rows.row(first)), out)?;
    }
    let (key, moved) = out.split_at_checked(middle)?;
    let moves = !moved.is_empty() && moved != key;
    Some(OpKeys {
        key,
        moved: moves.then_some(moved),
    })
}

/// Why rows of a table cannot wait: what to say; `None`: they can. `exact`: the target refuses a row whose key
/// equals another row's in other bytes.
fn cannot_wait(plan: &Plan, target: usize, exact: bool) -> Option<&'static str> {
    let table = plan.targets.get(target)?;
    if table.key.is_empty() {
        return Some("the table has no key, so its rows cannot be put into quarantine");
    }
    let mut cascades = plan.cascades.iter();
    if cascades.any(|c| c.parent == target || c.child == target) {
        return Some(
            "foreign keys that act (CASCADE, SET NULL) join the table to others, so its rows cannot be put into \
             quarantine",
        );
    }
    let tells = |column: &usize| table.columns.get(*column).is_some_and(is_told_by_bytes);
    match exact || table.key.iter().all(tells) {
        true => None,
        false => Some(
            "the target takes keys of the table for equal that are written in different ways, so its rows \
             cannot be put into quarantine",
        ),
    }
}

/// Whether two values of a column of a key are equal to the target only if their bytes are. Of times none is
/// cut off: a key's value that does not fit is never changed.
fn is_told_by_bytes(column: &ColumnSchema) -> bool {
    is_exact(column)
        || matches!(
            column.ty,
            ColumnType::Time { .. }
                | ColumnType::Timestamp { .. }
                | ColumnType::Instant { .. }
                | ColumnType::Bits { .. }
                | ColumnType::Enum { .. }
        )
}

/// The first bytes of each key in quarantine: of which columns and types it is. What was put there under
/// another key cannot be compared with the rows of this one.
fn print_of(table: &TargetTable) -> [u8; PRINT] {
    let columns = table.key.iter().filter_map(|c| table.columns.get(*c));
    let text: Vec<_> = columns
        .map(|c| format!("{:?} {:?}", c.name, c.ty))
        .collect();
    let hash = fnv1a(&text.join(","));
    let mut print = [b' '; PRINT];
    print
        .iter_mut()
        .zip(hash.bytes())
        .for_each(|(to, from)| *to = from);
    print
}

/// What lies in quarantine, as far as the stream has to know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine {
    keys: Keys,
    /// No number is below.
    lowest: i64,
    /// Who gives the numbers, of the stream and of a load beside it.
    ward: Ward,
    /// Changes in it, those not yet committed included.
    counts: FxHashMap<Place, u64>,
    /// Per target of the plan.
    known: Arc<Vec<Known>>,
    /// So many there may be.
    max: u64,
}

impl Quarantine {
    /// As it is at the target.
    pub(crate) async fn read(spec: &TaskSpec) -> Result<Self> {
        let (plan, target) = (&*spec.plan, &spec.target);
        let held = target.held(&spec.key, false).await;
        let held = held.map_err(|error| error.at(Side::Target))?;
        let exact = target.capabilities().refuses_equal_keys;
        let known = plan
            .targets
            .iter()
            .enumerate()
            .map(|(target, table)| Known {
                print: print_of(table),
                stays: cannot_wait(plan, target, exact),
            });
        let mut this = Quarantine {
            known: Arc::new(known.collect()),
            max: plan.options.quarantine_max,
            // A number that was seen once is never that of another change.
            lowest: held.last().map_or(1, |last| last.number + 1).max(now_us()),
            ward: spec.quarantine.clone(),
            ..Quarantine::default()
        };
        for held in held {
            let Some(place) = place_of(plan, &held) else {
                continue;
            };
            if !held.key.starts_with(&this.known(place.0).print) {
                return Err(other_key(&held.target));
            }
            let keys = OpKeys {
                key: &held.key,
                moved: held.moved.as_deref(),
            };
            this.keys.add(place, keys);
            this.count(place);
        }
        Ok(this)
    }

    fn known(&self, target: usize) -> Known {
        let known = self.known.get(target).copied();
        known.unwrap_or(Known {
            print: [0; PRINT],
            stays: Some("the plan does not know the table"),
        })
    }

    fn count(&mut self, place: Place) {
        *self.counts.entry(place).or_default() += 1;
    }

    /// The number of the next change.
    pub(crate) fn number(&mut self) -> i64 {
        self.ward.number(self.lowest)
    }

    /// Changes in it, per target.
    pub(crate) fn changes(&self) -> Vec<u64> {
        let mut changes = vec![0; self.known.len()];
        for ((target, _), count) in &self.counts {
            let of = changes.iter_mut().skip(*target).take(1);
            of.for_each(|sum| *sum += count);
        }
        changes
    }

    /// Puts a row of a load into quarantine; `Err` is why it cannot be there.
    pub(crate) fn load(
        &mut self,
        plan: &Plan,
        place: Place,
        images: &RowBatch,
        row: usize,
        (log, why): (&str, Error),
    ) -> Result<Held> {
        let known = self.known(place.0);
        if let Some(text) = known.stays {
            return Err(stays(why, text));
        }
        let about = (self.number(), log, known.print);
        let held = careful::of_load(plan, place, images, row, about, why)?;
        self.room(0)?;
        self.count(place);
        Ok(held)
    }

    /// An error if there is no room for one more change.
    fn room(&self, more: usize) -> Result<()> {
        let all = self.counts.values().sum::<u64>() + more as u64;
        if all < self.max {
            return Ok(());
        }
        Err(Error::config(format!(
            "the quarantine is full: {all} changes lie in it (option quarantine_max)"
        ))
        .with_hint(
            "look at why they were refused (thalweg quarantine list TASK) and do away with the cause; raise \
             quarantine_max, run the task, and release or discard them",
        )
        .at(Side::Target))
    }

    /// Whether any of these operations touches what waits.
    pub(crate) fn touches(&self, plan: &Plan, rows: &RowBatch, ops: &[TableOp]) -> bool {
        if self.keys.0.is_empty() {
            return false;
        }
        let mut made = Vec::new();
        ops.iter().any(|op| {
            let place = (op.target, op.feed);
            if !self.keys.0.contains_key(&place) {
                return false;
            }
            let (table, print) = (plan.targets.get(op.target), self.known(op.target).print);
            let keys = table.and_then(|table| keys_of(table, print, rows, op.op, &mut made));
            // A TRUNCATE has none and touches all.
            keys.is_none_or(|keys| self.keys.has(place, keys))
        })
    }

    /// All that lies there of a place goes.
    fn empty(&mut self, place: Place) {
        self.keys.0.remove(&place);
        self.counts.remove(&place);
    }
}

/// Where a change in quarantine belongs in the plan.
fn place_of(plan: &Plan, held: &Held) -> Option<Place> {
    let target = plan.target_index(&held.target)?;
    let feeds = &plan.targets.get(target)?.feeds;
    let of = |feed: usize| plan.source_of(target, feed).map(|s| &s.schema.name);
    let feed = (0..feeds.len()).find(|feed| of(*feed) == Some(&held.source))?;
    Some((target, feed))
}

/// Which changes belong together: in each group no key is that of another. Groups by their first
/// change, changes in their order, as indexes.
pub fn groups(held: &[Held]) -> Vec<Vec<usize>> {
    type Owner<'a> = (&'a TableName, &'a TableName, &'a [u8]);
    // Of each change an earlier one of its group, or itself if none is known.
    let mut earlier: Vec<usize> = (0..held.len()).collect();
    let mut owners: FxHashMap<Owner<'_>, usize> = FxHashMap::default();
    for (at, one) in held.iter().enumerate() {
        for key in std::iter::once(&one.key).chain(&one.moved) {
            let owner = (&one.target, &one.source, key.as_slice());
            let known = *owners.entry(owner).or_insert(at);
            let (a, b) = (first(&mut earlier, known), first(&mut earlier, at));
            let later = earlier.get_mut(a.max(b));
            later.into_iter().for_each(|slot| *slot = a.min(b));
        }
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut places: FxHashMap<usize, usize> = FxHashMap::default();
    for at in 0..held.len() {
        let place = *places
            .entry(first(&mut earlier, at))
            .or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

/// The first change of a group, as far as is known; it is found faster the next time.
fn first(earlier: &mut [usize], at: usize) -> usize {
    let mut first = at;
    while let Some(&before) = earlier.get(first)
        && before != first
    {
        first = before;
    }
    let slot = earlier.get_mut(at);
    slot.into_iter().for_each(|slot| *slot = first);
    first
}

/// Rows wait that were put into quarantine under another key.
fn other_key(table: &TableName) -> Error {
    Error::config(format!(
        "rows of {table} lie in quarantine, and its key is another one by now"
    ))
    .with_hint(
        "give the table the key it had, run the task, and release or discard the rows; or reset the task, so \
         that it loads again",
    )
    .at(Side::Target)
}

/// The columns of a key with their values.
fn key_text(table: &TargetTable, key: &[u8]) -> String {
    let mut key = key.get(PRINT..).unwrap_or_default();
    let mut parts = Vec::new();
    for column in &table.key {
        let Some(raw) = split_raw(key) else { break };
        key = key.get(raw.len()..).unwrap_or_default();
        let name = table.columns.get(*column).map_or("?", |c| c.name.as_str());
        let value = decode_raw(raw).map(shown).unwrap_or_default();
        let value: String = value.chars().take(SHOWN_MAX).collect();
        parts.push(format!("{name}={value}"));
    }
    parts.join(", ")
}

/// What is kept of an error.
fn text(error: &Error) -> String {
    error.chain()
}

/// The error of a row that cannot wait, and why it cannot.
fn stays(error: Error, hint: &str) -> Error {
    let hint = match error.hint() {
        Some(known) => format!("{known}; {hint}"),
        None => hint.to_owned(),
    };
    error.with_hint(hint)
}

#[cfg(test)]
mod tests;
