//! The bulk path: the net effect of a batch per table, by `COPY` into a staging table and a few
//! statements.
//!
//! The staging table is temporary, one per target table and session. A row of it says what to do
//! (`op`), under which key the row is found (`o0`, `o1` …), and what it is to be (`c0`, `c1` …). Of an
//! update that leaves columns out, `sent` has a character per column: 1 if it is there.

use bytes::Bytes;
use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::plan::Plan;
use thalweg_core::value::{RowBatch, RowRef, is_present};
use thalweg_core::{Error, Result};
use tokio_postgres::{Client, Statement};

use super::encode::{HEADER, RowEncoder, TRAILER};
use super::stage::Stage;
use super::{FIELDS_BYTES, column_list, send};
use crate::error::{convert, of_table};
use crate::schema::{quote, quote_table};

/// Sent at once: the batch is never in memory a second time.
const CHUNK_BYTES: usize = 256 << 10;

const DELETE: i16 = 1;
const UPDATE: i16 = 2;
const INSERT: i16 = 3;
/// An update with some of the columns.
const PATCH: i16 = 4;

/// What the bulk path needs of one table, prepared once.
pub(super) struct Bulk {
    key: Vec<usize>,
    /// [`thalweg_core::plan::Plan::is_echoed`].
    echoed: bool,
    encoder: RowEncoder,
    copy: Statement,
    truncate: String,
    delete: Statement,
    update: Statement,
    patch: Statement,
    insert: Statement,
    overwrite: Statement,
    repair: Statement,
}

/// An error and whether the same changes in commit order may succeed.
pub(super) struct BulkError {
    pub(super) error: Error,
    pub(super) retry_in_order: bool,
}

impl BulkError {
    /// [`of_table`].
    pub(super) fn of(self, plan: &Plan, target: usize) -> Self {
        match plan.targets.get(target) {
            Some(table) => BulkError {
                error: of_table(self.error, &table.name),
                ..self
            },
            None => self,
        }
    }
}

impl From<tokio_postgres::Error> for BulkError {
    fn from(error: tokio_postgres::Error) -> Self {
        let retry_in_order = crate::error::is_order_dependent(&error);
        BulkError {
            error: convert(error),
            retry_in_order,
        }
    }
}

impl From<Error> for BulkError {
    fn from(error: Error) -> Self {
        BulkError {
            error,
            retry_in_order: false,
        }
    }
}

impl Bulk {
    /// Creates the staging table and prepares the statements. The table has a key.
    pub(super) async fn new(client: &Client, plan: &Plan, target: usize) -> Result<Self> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        let encoder = RowEncoder::new(table);
        let types = Stage::of(client, table).await?;
        let stage = format!("pg_temp.thalweg_stage_{target}");
        let keys = || {
            let column = |k: &usize| table.columns.get(*k).map(|column| (*k, column));
            table.key.iter().filter_map(column).enumerate()
        };
        let columns = || table.columns.iter().enumerate();
        let mut fields = vec!["op smallint".to_owned(), "sent text".to_owned()];
        fields.extend(keys().map(|(n, (k, _))| format!("o{n} {}", types.staged(k))));
        fields.extend(columns().map(|(n, _)| format!("c{n} {}", types.staged(n))));
        let create = format!(
            "CREATE TEMP TABLE thalweg_stage_{target} ({}) ON COMMIT DELETE ROWS",
            fields.join(", ")
        );
        client.batch_execute(&create).await.map_err(convert)?;

        let name = quote_table(&table.name);
        let staged = |n: usize| types.value(n, &format!("s.c{n}"));
        let same: Vec<_> = keys()
            .map(|(n, (k, c))| {
                let staged = types.value(k, &format!("s.o{n}"));
                format!("t.{} = {staged}", quote(&c.name))
            })
            .collect();
        let same = same.join(" AND ");
        let set: Vec<_> = columns()
            .map(|(n, c)| format!("{} = {}", quote(&c.name), staged(n)))
            .collect();
        // A value that stays where it is out of line is not read.
        let patch: Vec<_> = columns()
            .map(|(n, c)| {
                let (name, place, value) = (quote(&c.name), n + 1, staged(n));
                format!("{name} = CASE substr(s.sent, {place}, 1) WHEN '1' THEN {value} ELSE t.{name} END")
            })
            .collect();
        let list = column_list(table.columns.iter(), "");
        let values: Vec<_> = columns().map(|(n, _)| staged(n)).collect();
        let values = values.join(", ");
        let key_list = super::ddl::names(table, &table.key);
        let excluded: Vec<_> = columns()
            .map(|(_, c)| format!("{0} = excluded.{0}", quote(&c.name)))
            .collect();
        let insert = |op: i16, conflict: &str| {
            format!(
                "INSERT INTO {name} ({list}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {stage} s \
                 WHERE s.op = {op} ON CONFLICT ({key_list}) {conflict}"
            )
        };
        let prepare = async |sql: String| client.prepare(&sql).await.map_err(convert);
        Ok(Bulk {
            key: table.key.clone(),
            echoed: plan.is_echoed(target),
            copy: prepare(format!("COPY {stage} FROM STDIN (FORMAT binary)")).await?,
            truncate: format!("TRUNCATE {stage}"),
            delete: prepare(format!(
                "DELETE FROM {name} t USING {stage} s WHERE s.op = {DELETE} AND {same}"
            ))
            .await?,
            update: prepare(format!(
                "UPDATE {name} t SET {} FROM {stage} s WHERE s.op = {UPDATE} AND {same}",
                set.join(", ")
            ))
            .await?,
            patch: prepare(format!(
                "UPDATE {name} t SET {} FROM {stage} s WHERE s.op = {PATCH} AND {same}",
                patch.join(", ")
            ))
            .await?,
            insert: prepare(insert(INSERT, "DO NOTHING")).await?,
            overwrite: prepare(insert(
                INSERT,
                &format!("DO UPDATE SET {}", excluded.join(", ")),
            ))
            .await?,
            repair: prepare(insert(UPDATE, "DO NOTHING")).await?,
            encoder,
        })
    }

    /// Copies a folded table into staging. `reused`: staging was filled before in this
    /// transaction.
    pub(super) async fn stage(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
        reused: bool,
    ) -> Result<(), BulkError> {
        if reused {
            client.batch_execute(&self.truncate).await?;
        }
        let sink = client.copy_in::<_, Bytes>(&self.copy).await?;
        let mut sink = Box::pin(sink);
        let mut bytes = HEADER.to_vec();
        for op in ops(rows, folded) {
            put(&self.encoder, &self.key, rows, op, &mut bytes)?;
            if bytes.len() >= CHUNK_BYTES {
                send(&mut sink, std::mem::take(&mut bytes)).await?;
            }
        }
        bytes.extend_from_slice(TRAILER);
        send(&mut sink, bytes).await?;
        sink.as_mut().finish().await?;
        Ok(())
    }

    /// A row that is not there may have been moved by a foreign key of the target already: one by
    /// one it is found.
    fn echo(&self, lacking: u64) -> Result<(), BulkError> {
        if !self.echoed || lacking == 0 {
            return Ok(());
        }
        Err(BulkError {
            error: Error::bug("rows that were moved already"),
            retry_in_order: true,
        })
    }

    /// Removes the staged deletes.
    pub(super) async fn delete(
        &self,
        client: &Client,
        folded: &FoldedTable,
        counts: &mut TableCounts,
    ) -> Result<(), BulkError> {
        if folded.deletes.is_empty() {
            return Ok(());
        }
        let found = client.execute(&self.delete, &[]).await?;
        if !self.echoed {
            counts.missing += (folded.deletes.len() as u64).saturating_sub(found);
        }
        Ok(())
    }

    /// Writes the staged updates and inserts.
    pub(super) async fn write(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
        may_insert: bool,
        counts: &mut TableCounts,
    ) -> Result<(), BulkError> {
        let patches = folded.updates.iter().map(|(_, row)| update(rows, *row));
        let patches = patches.filter(|op| *op == PATCH).count();
        if patches > 0 {
            let found = client.execute(&self.patch, &[]).await?;
            let lacking = (patches as u64).saturating_sub(found);
            self.echo(lacking)?;
            let fills = |&(before, row): &(usize, usize)| {
                let (old, new) = (rows.row(before), rows.row(row));
                !new.is_whole() && new.is_whole_over(old)
            };
            if lacking > 0 && may_insert && folded.updates.iter().any(fills) {
                return Err(BulkError {
                    error: Error::bug("a row that is put together one by one"),
                    retry_in_order: true,
                });
            }
            counts.missing += lacking;
        }
        let whole = folded.updates.len() - patches;
        if whole > 0 {
            let found = client.execute(&self.update, &[]).await?;
            let lacking = (whole as u64).saturating_sub(found);
            self.echo(lacking)?;
            if lacking > 0 && may_insert {
                counts.repaired += client.execute(&self.repair, &[]).await?;
            } else {
                counts.missing += lacking;
            }
        }
        if !folded.inserts.is_empty() {
            // An insert that meets its own key is drift: the source's row wins and it is counted.
            let new = client.execute(&self.insert, &[]).await?;
            let met = (folded.inserts.len() as u64).saturating_sub(new);
            if met > 0 {
                client.execute(&self.overwrite, &[]).await?;
                counts.repaired += met;
            }
        }
        Ok(())
    }
}

/// What to do, the row that carries the key at the batch's start, the row as it is to be.
type Op = (i16, Option<usize>, Option<usize>);

/// What a folded table puts into staging.
pub(crate) fn ops<'a>(
    rows: &'a RowBatch,
    folded: &'a FoldedTable,
) -> impl Iterator<Item = Op> + 'a {
    let deletes = folded.deletes.iter().map(|row| (DELETE, Some(*row), None));
    let updates = folded.updates.iter();
    let updates = updates.map(|(before, row)| (update(rows, *row), Some(*before), Some(*row)));
    let inserts = folded.inserts.iter().map(|row| (INSERT, None, Some(*row)));
    deletes.chain(updates).chain(inserts)
}

/// Appends a row of staging.
pub(crate) fn put(
    encoder: &RowEncoder,
    key: &[usize],
    rows: &RowBatch,
    (op, old, new): Op,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let width = i16::try_from(2 + key.len() + encoder.width())
        .map_err(|_| Error::bug("too many columns"))?;
    let ([a, b], [c, d]) = (width.to_be_bytes(), op.to_be_bytes());
    bytes.extend_from_slice(&[a, b, 0, 0, 0, 2, c, d]);
    match new.filter(|_| op == PATCH) {
        Some(row) => sent(rows.row(row), bytes),
        None => nulls(1, bytes),
    }
    match old {
        Some(row) => encoder.fields(rows.row(row), key.iter().copied(), bytes)?,
        None => nulls(key.len(), bytes),
    }
    match new {
        Some(row) if op == PATCH => encoder.staged(rows.row(row), bytes)?,
        Some(row) => {
            bytes.reserve(rows.row(row).bytes() + FIELDS_BYTES);
            encoder.row(rows.row(row), bytes)?;
        }
        None => nulls(encoder.width(), bytes),
    }
    Ok(())
}

/// Whether an update has all columns.
fn update(rows: &RowBatch, row: usize) -> i16 {
    match rows.row(row).is_whole() {
        true => UPDATE,
        false => PATCH,
    }
}

/// The field `sent` of a row.
pub(super) fn sent(row: RowRef<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let mark = |raw: &[u8]| if is_present(raw) { b'1' } else { b'0' };
    out.extend(row.raw_cells().map(mark));
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&len.to_be_bytes());
    }
}

/// So many fields that are NULL.
pub(super) fn nulls(count: usize, out: &mut Vec<u8>) {
    for _ in 0..count {
        out.extend_from_slice(&[0xff; 4]);
    }
}
