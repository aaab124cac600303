//! Taking changes one by one: those of rows that wait are put aside.

use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::change::{Change, ChangeBatch, ChangeKind};
use thalweg_core::plan::{Fate, Plan, Projected, TargetTable};
use thalweg_core::quarantine::{Held, encode};
use thalweg_core::schema::TableName;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result};

use super::sieve::{NOBODY, Sieve};
use super::{OpKeys, PRINT, Place, Quarantine, key_text, keys_of, place_of, stays, text};
use crate::status::now_ms;

/// Takes changes one by one, and puts aside those of rows that wait.
pub(crate) struct Careful<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) quarantine: &'a mut Quarantine,
    /// What is noted of operations that pass; `None`: the batch is not sifted.
    pub(crate) sieve: Option<&'a mut Sieve>,
    /// Where the changes lie in the log.
    pub(crate) place: &'a str,
    /// Memory that keys are made in.
    pub(crate) made: Vec<u8>,
}

/// What becomes of a change at a target.
type Judge<'a> = &'a mut dyn FnMut(usize, &Change) -> Result<Fate>;

impl Careful<'_> {
    /// As [`Plan::project`], into a batch.
    pub(crate) fn project(
        &mut self,
        changes: &ChangeBatch,
        judge: Judge<'_>,
        batch: &mut ApplyBatch,
    ) -> Result<Projected> {
        let plan = self.plan;
        let mut all = Projected::default();
        for (index, change) in changes.changes.iter().enumerate() {
            let source = plan.sources.get(change.table);
            let source = source.ok_or_else(|| Error::bug("a change of no table of the plan"))?;
            for (at, route) in source.routes.iter().enumerate() {
                let place = (route.target, route.feed);
                let mut fate = Fate::Drop;
                let mut only = |target: usize, change: &Change| {
                    if target != place.0 {
                        return Ok(Fate::Drop);
                    }
                    fate = judge(target, change)?;
                    Ok(fate)
                };
                let before = batch.ordered.len();
                let one = std::slice::from_ref(change);
                let (rows, ops) = (&mut batch.rows, &mut batch.ordered);
                let projected = match plan.project(one, &changes.rows, &mut only, rows, ops) {
                    Ok(projected) => projected,
                    Err(error) if error.kind() == Kind::Data => {
                        self.unfit(place, change, fate, changes, batch, error)?;
                        // A change that could not be converted was read all the same.
                        if at == 0 {
                            all.read.count(change);
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if at == 0 {
                    all.read.add(&projected.read);
                }
                for target in projected.again {
                    if !all.again.contains(&target) {
                        all.again.push(target);
                    }
                }
                match batch.ordered.get(before).copied() {
                    Some(op) if !self.passes(op, index, fate, changes, batch)? => {
                        batch.ordered.truncate(before);
                    }
                    _ => all.changed.merge(&projected.changed),
                }
            }
        }
        Ok(all)
    }

    /// Whether an operation is for the target; otherwise it waits.
    fn passes(
        &mut self,
        op: TableOp,
        index: usize,
        fate: Fate,
        changes: &ChangeBatch,
        batch: &mut ApplyBatch,
    ) -> Result<bool> {
        let place = (op.target, op.feed);
        let plan = self.plan;
        let missing = || Error::bug("an operation on a table the plan does not know");
        let table = plan.targets.get(place.0).ok_or_else(missing)?;
        if let Some(last) = batch.ordered.last_mut() {
            last.origin = NOBODY;
        }
        if op.op == RowOp::Truncate {
            self.quarantine.empty(place);
            batch
                .held
                .retain(|held| place_of(plan, held) != Some(place));
            batch.emptied.push(place);
            return Ok(true);
        }
        // Of a table whose rows cannot wait none does.
        let known = self.quarantine.known(place.0);
        let mut made = std::mem::take(&mut self.made);
        let keys = keys_of(table, known.print, &batch.rows, op.op, &mut made);
        let keys = keys.filter(|_| known.stays.is_none());
        let Some(keys) = keys else { return Ok(true) };
        let waits = self.quarantine.keys.has(place, keys);
        if waits {
            let change = changes.changes.get(index).ok_or_else(missing)?;
            let held = self.held(place, keys, change, fate, changes, None)?;
            self.put(place, keys, held, batch)?;
        } else if let Some(sieve) = &mut self.sieve {
            let number = self.quarantine.number();
            let origin = sieve.pass(place, keys, (index, fate), number);
            let last = batch.ordered.last_mut();
            last.into_iter().for_each(|last| last.origin = origin);
        }
        self.made = made;
        Ok(!waits)
    }

    /// A change whose value fits no column goes into quarantine, if it is being sifted.
    fn unfit(
        &mut self,
        place: Place,
        change: &Change,
        fate: Fate,
        changes: &ChangeBatch,
        batch: &mut ApplyBatch,
        error: Error,
    ) -> Result<()> {
        if self.sieve.is_none() {
            return Err(error);
        }
        let (table, _) = self.names(place)?;
        let known = self.quarantine.known(place.0);
        if let Some(text) = known.stays {
            return Err(stays(error, text));
        }
        let mut rows = RowBatch::new();
        let mut image = |row: Option<usize>| {
            let row = row.map(|row| changes.rows.row(row));
            row.map(|row| self.plan.project_key(place.0, place.1, row, &mut rows))
                .transpose()
        };
        // A key that fits no column tells no row.
        let (Ok(before), Ok(after)) = (image(change.before), image(change.after)) else {
            return Err(error);
        };
        let op = match (change.kind, before, after) {
            (ChangeKind::Insert, _, Some(row)) => RowOp::Insert(row),
            (ChangeKind::Update, Some(before), Some(after)) => RowOp::Update { before, after },
            (ChangeKind::Delete, Some(row), _) => RowOp::Delete(row),
            _ => return Err(error),
        };
        let mut made = Vec::new();
        let Some(keys) = keys_of(table, known.print, &rows, op, &mut made) else {
            return Err(error);
        };
        // If it waits already, that is why it is there.
        let why = (!self.quarantine.keys.has(place, keys)).then(|| text(&error));
        let held = self.held(place, keys, change, fate, changes, why)?;
        self.put(place, keys, held, batch)
    }

    fn put(
        &mut self,
        place: Place,
        keys: OpKeys<'_>,
        held: Held,
        batch: &mut ApplyBatch,
    ) -> Result<()> {
        self.quarantine.room(0)?;
        self.quarantine.keys.add(place, keys);
        self.quarantine.count(place);
        batch.held.push(held);
        Ok(())
    }

    fn names(&self, (target, feed): Place) -> Result<(&TargetTable, (&TableName, &TableName))> {
        let missing = || Error::bug("an operation on a table the plan does not know");
        let table = self.plan.targets.get(target).ok_or_else(missing)?;
        let source = self.plan.source_of(target, feed).ok_or_else(missing)?;
        Ok((table, (&table.name, &source.schema.name)))
    }

    fn held(
        &mut self,
        place: Place,
        keys: OpKeys<'_>,
        change: &Change,
        fate: Fate,
        changes: &ChangeBatch,
        error: Option<String>,
    ) -> Result<Held> {
        let number = self.quarantine.number();
        let made = Made {
            plan: self.plan,
            place,
            log: self.place,
        };
        made.held(number, keys, (change, &changes.rows), fate, error)
    }
}

/// What changes in quarantine are made of.
pub(super) struct Made<'a> {
    pub(super) plan: &'a Plan,
    pub(super) place: Place,
    /// Where in the log.
    pub(super) log: &'a str,
}

impl Made<'_> {
    pub(super) fn held(
        &self,
        number: i64,
        keys: OpKeys<'_>,
        (change, images): (&Change, &RowBatch),
        fate: Fate,
        error: Option<String>,
    ) -> Result<Held> {
        let missing = || Error::bug("an operation on a table the plan does not know");
        let (target, feed) = self.place;
        let table = self.plan.targets.get(target).ok_or_else(missing)?;
        let source = self.plan.source_of(target, feed).ok_or_else(missing)?;
        Ok(Held {
            number,
            target: table.name.clone(),
            source: source.schema.name.clone(),
            key: keys.key.to_vec(),
            moved: keys.moved.map(<[u8]>::to_vec),
            shown: key_text(table, keys.key),
            kind: change.kind,
            error,
            place: self.log.to_owned(),
            at_ms: now_ms(),
            change: encode(&source.schema, change, images, fate),
        })
    }
}

/// A row of a load that was refused, as a change in quarantine; `Err` is why it cannot be one.
pub(super) fn of_load(
    plan: &Plan,
    place: Place,
    images: &RowBatch,
    row: usize,
    (number, log, print): (i64, &str, [u8; PRINT]),
    why: Error,
) -> Result<Held> {
    let table = plan.targets.get(place.0);
    let table = table.ok_or_else(|| Error::bug("a load of no table"))?;
    let mut rows = RowBatch::new();
    let Ok(key) = plan.project_key(place.0, place.1, images.row(row), &mut rows) else {
        return Err(why);
    };
    let mut made = Vec::new();
    let Some(keys) = keys_of(table, print, &rows, RowOp::Insert(key), &mut made) else {
        return Err(why);
    };
    let feed = table.feeds.get(place.1);
    let change = Change {
        table: feed.map_or(0, |feed| feed.source),
        kind: ChangeKind::Insert,
        before: None,
        after: Some(row),
        unchecked: false,
    };
    let of = Made { plan, place, log };
    of.held(
        number,
        keys,
        (&change, images),
        Fate::Apply,
        Some(text(&why)),
    )
}
