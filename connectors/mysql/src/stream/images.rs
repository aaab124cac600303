//! Table maps and row events: images of rows, in parts of a bounded size.
//!
//! A row event of a few bytes can stand for many cells (a column that an image lacks takes no bit), so
//! a part is handed out as soon as it is full, in the middle of an event if need be.

use thalweg_core::change::{Change, ChangeKind, Transaction};
use thalweg_core::schema::TableSchema;
use thalweg_core::{Error, Result, Side};

use super::decode::{Captured, Decoder, Step, place_of, stop};
use crate::wire::event::{Form, RowOp};
use crate::wire::join::join;
use crate::wire::map::{Metadata, TableMap};
use crate::wire::numbers;
use crate::wire::rows::{Columns, Rows, RowsEvent, Unreadable};

impl Decoder {
    pub(super) fn table_map(&mut self, body: &[u8]) -> Result<()> {
        let map = TableMap::parse(body)?;
        let known = self.maps.get(&map.id).filter(|m| m.body == body);
        let captured = match known {
            Some(known) => known.table.is_some(),
            None => {
                self.learn(&map)?;
                let key = (map.schema.to_vec(), map.table.to_vec());
                let table = match self.names.get(&key).copied() {
                    None => None,
                    Some(index) => Some((index, self.columns(&map, index)?)),
                };
                let captured = table.is_some();
                let body = body.to_vec();
                self.maps.insert(map.id, Captured { body, table });
                captured
            }
        };
        if let Some(open) = &mut self.open {
            open.touched |= captured;
        }
        Ok(())
    }

    /// The columns of a captured table, as the log and the schema together have them.
    fn columns(&self, map: &TableMap<'_>, index: usize) -> Result<Columns> {
        let (schema, layout) = self
            .tables
            .get(index)
            .zip(self.layouts.get(index))
            .ok_or_else(|| Error::bug("a captured table without a schema"))?;
        let physical = map.columns()?;
        let metadata = if physical.len() == layout.columns.len() {
            map.metadata()?
        } else {
            Metadata::default()
        };
        let charset = |collation: u64| self.known.collations.get(&collation).cloned();
        join(&physical, &metadata, layout, schema, &charset).map_err(|why| {
            Error::schema(format!("table {} at {}: {why}", schema.name, self.here()))
                .with_hint(
                    "make the same change in the target, or take it back, then reset the task to \
                     load again with the present schema",
                )
                .at(Side::Source)
                .about(&schema.name)
        })
    }

    /// Reads a row event; what does not fit into a part stays for [`Decoder::more`].
    pub(super) fn row_event(&mut self, body: &[u8], form: Form, second: bool) -> Result<Step> {
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > self.event_max() {
            let (at, limit) = (self.here(), self.limits.row_bytes_max);
            return Err(
                Error::data(format!("a row at {at} is larger than {limit} bytes")).at(Side::Source),
            );
        }
        self.rows(body, form, second)
    }

    fn rows(&mut self, body: &[u8], form: Form, second: bool) -> Result<Step> {
        let max = self.event_max();
        let event = RowsEvent::parse(body, form.v2, form.op)?;
        let Some(map) = self.maps.get(&event.table_id) else {
            return Err(stop(format!("rows without a table map at {}", self.here())));
        };
        if map.table.is_none() {
            return Ok(Step::Nothing);
        }
        let Some(open) = self.open.as_ref() else {
            return Err(stop(format!("rows outside a group at {}", self.here())));
        };
        if open.later && !second {
            return Ok(Step::Nothing);
        }
        let inflated;
        let data = if form.compressed {
            inflated = numbers::inflate(event.data, max)?;
            &inflated
        } else {
            event.data
        };
        let left = self.read(&event, form.op, data)?;
        if left > 0 {
            // Both bitmaps and what is left, as an event that is not compressed.
            let mut rest = body
                .get(..body.len() - event.data.len())
                .unwrap_or_default()
                .to_vec();
            rest.extend(data.get(data.len() - left..).unwrap_or_default());
            let form = Form {
                compressed: false,
                ..form
            };
            self.rest = Some((rest, form, second));
        }
        let step = self.part(left > 0);
        // Rows outside of a group: see [`super::decode::Playing`].
        let single = self.open.as_ref().is_some_and(|o| o.single);
        let loose = self.playing.is_some() && !second && single;
        if loose && self.rest.is_none() && matches!(step, Step::Nothing) {
            return self.commit();
        }
        Ok(step)
    }

    /// Goes on with the row event that did not fit into a part.
    pub(super) fn resume(&mut self) -> Result<Option<Step>> {
        let Some((body, form, second)) = self.rest.take() else {
            return Ok(None);
        };
        self.rows(&body, form, second).map(Some)
    }

    /// Reads rows until a part is full, and gives the bytes that are left.
    fn read(&mut self, event: &RowsEvent<'_>, op: RowOp, data: &[u8]) -> Result<usize> {
        let (open, cursor) = (self.open.as_ref(), &self.cursor);
        let at = || place_of(open, cursor);
        let Some((table, columns)) = self
            .maps
            .get(&event.table_id)
            .and_then(|m| m.table.as_ref())
        else {
            return Ok(0);
        };
        if event.width != columns.logged.len() {
            return Err(stop(format!(
                "rows at {} have another width than their table map",
                at()
            )));
        }
        let batch = &mut self.changes;
        let kind = match op {
            RowOp::Write => ChangeKind::Insert,
            RowOp::Delete => ChangeKind::Delete,
            RowOp::Update | RowOp::PartialUpdate => ChangeKind::Update,
        };
        let mut rows = Rows::new(op, columns, event, data, self.limits.row_bytes_max);
        while rows.left() > 0 {
            match rows.next(&mut batch.rows) {
                Ok(Some(images)) => batch.changes.push(Change {
                    table: *table,
                    kind,
                    before: images.before,
                    after: images.after,
                    unchecked: event.unchecked,
                }),
                Ok(None) => break,
                Err(why) => return Err(unreadable(&why, self.tables.get(*table), &at())),
            }
            if batch.bytes() >= self.limits.part_bytes {
                break;
            }
        }
        Ok(rows.left())
    }

    /// What was read, if it is enough for a part.
    fn part(&mut self, full: bool) -> Step {
        if !full && self.changes.bytes() < self.limits.part_bytes {
            return Step::Nothing;
        }
        let Some(open) = self.open.as_mut() else {
            return Step::Nothing;
        };
        open.parts = true;
        Step::Out(Transaction {
            id: Decoder::name(open).id(),
            changes: self.changes.take(),
            schema: Vec::new(),
            commit: None,
            log_bytes: std::mem::take(&mut self.log_bytes),
        })
    }
}

/// An error that names table and column, and the place, but no value.
fn unreadable(why: &Unreadable, table: Option<&TableSchema>, at: &str) -> Error {
    let mut name = table.map_or_else(String::new, |t| t.name.to_string());
    if let Some(column) = table.and_then(|t| t.columns.get(why.column?)) {
        name = format!("{name}.{}", column.name);
    }
    match why.setting {
        Some(fix) => stop(format!("{name} at {at}: {}", why.why)).with_hint(fix),
        None => Error::data(format!("{name} at {at}: {}", why.why)).at(Side::Source),
    }
}
