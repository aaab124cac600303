//! The bulk path: the net effect of a batch per table, by a few statements.
//!
//! Many rows come by `COPY` into a staging table, which is temporary, one per target table and session. A row
//! of it says what to do (`op`), under which key the row is found (`o0`, `o1` …), and what it is to be (`c0`,
//! `c1` …). Of an update that leaves columns out, `sent` has a character per column: 1 if it is there.
//!
//! A few rows of a table come as the statements' parameters, an array for each of the same columns
//! ([`arrays`]): where a batch has rows of a thousand tables, as many staging tables would cost far more
//! than the rows, because each commit of the server empties all that the session has.

mod arrays;

use std::sync::Arc;

use bytes::Bytes;
use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::value::{RowBatch, RowRef, is_present};
use thalweg_core::{Error, Result};
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::applier::BULK_BYTES_MIN;
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

/// Up to so many rows of a table come as arrays. Few where the tests are built, whose batches are small, so
/// that they go both ways.
const ARRAYS_MAX: usize = if cfg!(debug_assertions) { 24 } else { 256 };

/// How the rows of a folded table come to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `COPY` into a staging table.
    Staging,
    /// As parameters of each statement, an array for each column.
    Arrays,
}

/// What is done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Delete,
    Update,
    /// An update with some of the columns.
    Patch,
    Insert,
    /// An insert over the row that has the key.
    Overwrite,
    /// An insert of rows that were to be updated.
    Repair,
}

impl Do {
    const COUNT: usize = 6;

    /// What stands in `op` of the rows it is done with.
    fn op(self) -> i16 {
        match self {
            Do::Delete => DELETE,
            Do::Update | Do::Repair => UPDATE,
            Do::Patch => PATCH,
            Do::Insert | Do::Overwrite => INSERT,
        }
    }

    /// Whether it looks at the old key, and at the new row.
    fn reads(self) -> (bool, bool) {
        match self {
            Do::Delete => (true, false),
            Do::Update | Do::Patch => (true, true),
            Do::Insert | Do::Overwrite | Do::Repair => (false, true),
        }
    }
}

/// What the bulk path needs of one table, each made when it is first needed.
pub(super) struct Bulk {
    plan: Arc<Plan>,
    target: usize,
    /// [`thalweg_core::plan::Plan::is_echoed`].
    echoed: bool,
    encoder: RowEncoder,
    types: Stage,
    /// The statement that fills the staging table, which is there then.
    copy: OnceCell<Statement>,
    from_staging: [OnceCell<Statement>; Do::COUNT],
    from_arrays: [OnceCell<Statement>; Do::COUNT],
}

/// An error and whether the same changes in commit order may succeed.
pub(super) struct BulkError {
    pub(super) error: Error,
    pub(super) retry_in_order: bool,
    /// It comes of another one: the transaction has failed before.
    pub(super) follows: bool,
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
        let follows = error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION);
        BulkError {
            error: convert(error),
            retry_in_order,
            follows,
        }
    }
}

impl From<Error> for BulkError {
    fn from(error: Error) -> Self {
        BulkError {
            error,
            retry_in_order: false,
            follows: false,
        }
    }
}

impl Bulk {
    /// Of a table with a key.
    pub(super) async fn new(client: &Client, plan: &Arc<Plan>, target: usize) -> Result<Self> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        Ok(Bulk {
            plan: Arc::clone(plan),
            target,
            echoed: plan.is_echoed(target),
            encoder: RowEncoder::new(table),
            types: Stage::of(client, table).await?,
            copy: OnceCell::new(),
            from_staging: Default::default(),
            from_arrays: Default::default(),
        })
    }

    fn table(&self) -> Result<&TargetTable> {
        let table = self.plan.targets.get(self.target);
        table.ok_or_else(|| Error::bug("no such target"))
    }

    /// The same for one batch whenever it is asked.
    fn by(rows: &RowBatch, folded: &FoldedTable) -> By {
        match folded.rows() <= ARRAYS_MAX && rows.bytes() < BULK_BYTES_MIN {
            true => By::Arrays,
            false => By::Staging,
        }
    }

    /// What is done first with the rows there are. Whether an update has all columns is not asked here, since that
    /// is a look at each row.
    fn needs(folded: &FoldedTable) -> impl Iterator<Item = Do> {
        [
            (Do::Delete, folded.deletes.len()),
            (Do::Update, folded.updates.len()),
            (Do::Insert, folded.inserts.len()),
        ]
        .into_iter()
        .filter_map(|(what, rows)| (rows > 0).then_some(what))
    }

    /// Whether [`Self::prepare`] has nothing to do.
    pub(super) fn is_prepared(&self, rows: &RowBatch, folded: &FoldedTable) -> bool {
        let by = Self::by(rows, folded);
        let there = |what| self.cell(what, by).is_some_and(OnceCell::initialized);
        (by == By::Arrays || self.copy.initialized()) && Self::needs(folded).all(there)
    }

    /// Makes the staging table if it is needed, and prepares the statements that are.
    pub(super) async fn prepare(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
    ) -> Result<()> {
        let by = Self::by(rows, folded);
        if by == By::Staging {
            self.copy(client).await?;
        }
        for what in Self::needs(folded) {
            self.statement(client, what, by).await?;
        }
        Ok(())
    }

    fn stage_name(&self) -> String {
        format!("pg_temp.thalweg_stage_{}", self.target)
    }

    async fn copy(&self, client: &Client) -> Result<&Statement> {
        let make = async || {
            let table = self.table()?;
            let fields = self.fields(table, (true, true)).into_iter();
            let fields = [("op", "smallint".to_owned()), ("sent", "text".to_owned())]
                .map(|(name, ty)| (name.to_owned(), ty))
                .into_iter()
                .chain(fields);
            let fields: Vec<_> = fields.map(|(name, ty)| format!("{name} {ty}")).collect();
            let create = format!(
                "CREATE TEMP TABLE thalweg_stage_{} ({}) ON COMMIT DELETE ROWS",
                self.target,
                fields.join(", ")
            );
            client.batch_execute(&create).await.map_err(convert)?;
            let copy = format!("COPY {} FROM STDIN (FORMAT binary)", self.stage_name());
            client.prepare(&copy).await.map_err(convert)
        };
        self.copy.get_or_try_init(make).await
    }

    /// Names and types of what is staged of the old key and of the new row.
    fn fields(&self, table: &TargetTable, (old, new): (bool, bool)) -> Vec<(String, String)> {
        let field = |name: String, column: usize| (name, self.types.staged(column).to_owned());
        let olds = table.key.iter().enumerate().filter(|_| old);
        let news = (0..table.columns.len()).filter(|_| new);
        olds.map(|(n, column)| field(format!("o{n}"), *column))
            .chain(news.map(|n| field(format!("c{n}"), n)))
            .collect()
    }

    fn cell(&self, what: Do, by: By) -> Option<&OnceCell<Statement>> {
        let all = match by {
            By::Staging => &self.from_staging,
            By::Arrays => &self.from_arrays,
        };
        all.get(what as usize)
    }

    async fn statement(&self, client: &Client, what: Do, by: By) -> Result<&Statement> {
        let cell = self.cell(what, by);
        let cell = cell.ok_or_else(|| Error::bug("no such statement"))?;
        let prepare = async || {
            let sql = self.sql(self.table()?, what, by);
            client.prepare(&sql).await.map_err(convert)
        };
        cell.get_or_try_init(prepare).await
    }

    fn sql(&self, table: &TargetTable, what: Do, by: By) -> String {
        let name = quote_table(&table.name);
        let columns = || table.columns.iter().enumerate();
        let staged = |n: usize| self.types.value(n, &format!("s.c{n}"));
        let (from, only) = match by {
            By::Staging => (
                format!("{} s", self.stage_name()),
                format!("s.op = {}", what.op()),
            ),
            By::Arrays => {
                let mut fields = self.fields(table, what.reads());
                if what == Do::Patch {
                    fields.insert(0, ("sent".to_owned(), "text".to_owned()));
                }
                let types = fields.iter().enumerate();
                let types: Vec<_> = types
                    .map(|(n, (_, ty))| format!("${}::{ty}[]", n + 1))
                    .collect();
                let names: Vec<_> = fields.into_iter().map(|(name, _)| name).collect();
                let (types, names) = (types.join(", "), names.join(", "));
                (format!("unnest({types}) s ({names})"), "true".to_owned())
            }
        };
        let same = || {
            let keys = table.key.iter().enumerate();
            let same = keys.filter_map(|(n, k)| {
                let column = quote(&table.columns.get(*k)?.name);
                Some(format!(
                    "t.{column} = {}",
                    self.types.value(*k, &format!("s.o{n}"))
                ))
            });
            same.collect::<Vec<_>>().join(" AND ")
        };
        let list = |each: &dyn Fn(usize, &str) -> String| {
            let each = columns().map(|(n, column)| each(n, &quote(&column.name)));
            each.collect::<Vec<_>>().join(", ")
        };
        let updated = |set: String| {
            format!(
                "UPDATE {name} t SET {set} FROM {from} WHERE {only} AND {}",
                same()
            )
        };
        let inserted = |met: String| {
            format!(
                "INSERT INTO {name} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {from} \
                 WHERE {only} ON CONFLICT ({}) {met}",
                column_list(table.columns.iter(), ""),
                list(&|n, _| staged(n)),
                super::ddl::names(table, &table.key),
            )
        };
        match what {
            Do::Delete => {
                format!(
                    "DELETE FROM {name} t USING {from} WHERE {only} AND {}",
                    same()
                )
            }
            Do::Update => updated(list(&|n, column| format!("{column} = {}", staged(n)))),
            // A value that stays where it is out of line is not read.
            Do::Patch => updated(list(&|n, column| {
                let (place, value) = (n + 1, staged(n));
                format!(
                    "{column} = CASE substr(s.sent, {place}, 1) WHEN '1' THEN {value} ELSE t.{column} END"
                )
            })),
            Do::Insert | Do::Repair => inserted("DO NOTHING".to_owned()),
            Do::Overwrite => {
                let set = list(&|_, column| format!("{column} = excluded.{column}"));
                inserted(format!("DO UPDATE SET {set}"))
            }
        }
    }

    /// Copies a folded table into staging, if it comes so. `reused`: staging was filled before in this
    /// transaction.
    pub(super) async fn stage(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
        reused: bool,
    ) -> Result<bool, BulkError> {
        if Self::by(rows, folded) == By::Arrays {
            return Ok(false);
        }
        let copy = self.copy(client).await?;
        if reused {
            let truncate = format!("TRUNCATE {}", self.stage_name());
            client.batch_execute(&truncate).await?;
        }
        let key = &self.table()?.key;
        let sink = client.copy_in::<_, Bytes>(copy).await?;
        let mut sink = Box::pin(sink);
        let mut bytes = HEADER.to_vec();
        for op in ops(rows, folded) {
            put(&self.encoder, key, rows, op, &mut bytes)?;
            if bytes.len() >= CHUNK_BYTES {
                send(&mut sink, std::mem::take(&mut bytes)).await?;
            }
        }
        bytes.extend_from_slice(TRAILER);
        send(&mut sink, bytes).await?;
        sink.as_mut().finish().await?;
        Ok(true)
    }

    /// Does something with those rows of a folded table that it is for; how many rows of the target that
    /// were.
    async fn execute(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
        what: Do,
    ) -> Result<u64, BulkError> {
        let by = Self::by(rows, folded);
        let statement = self.statement(client, what, by).await?;
        let mut params = Vec::new();
        if by == By::Arrays {
            let ops = ops(rows, folded).filter(|(op, ..)| *op == what.op());
            let parts = (what == Do::Patch, what.reads());
            let key = &self.table()?.key;
            params = arrays::of(&self.encoder, key, rows, ops, parts, statement)?;
        }
        Ok(client.execute_raw(statement, &params).await?)
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
            follows: false,
        })
    }

    /// Removes the rows that go.
    pub(super) async fn delete(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
    ) -> Result<TableCounts, BulkError> {
        let mut counts = TableCounts::default();
        if !folded.deletes.is_empty() {
            let found = self.execute(client, rows, folded, Do::Delete).await?;
            if !self.echoed {
                counts.missing += (folded.deletes.len() as u64).saturating_sub(found);
            }
        }
        Ok(counts)
    }

    /// Writes the rows that change and come. All that is done whatever is found is sent at once, when the
    /// future is first polled.
    pub(super) async fn write(
        &self,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
        may_insert: bool,
    ) -> Result<TableCounts, BulkError> {
        let mut counts = TableCounts::default();
        let patches = folded.updates.iter().map(|(_, row)| update(rows, *row));
        let patches = patches.filter(|op| *op == PATCH).count();
        let whole = folded.updates.len() - patches;
        let execute = async |what: Do, of: usize| match of {
            0 => Ok(0),
            _ => self.execute(client, rows, folded, what).await,
        };
        if patches > 0 {
            // There already but for the first time.
            self.statement(client, Do::Patch, Self::by(rows, folded))
                .await?;
        }
        let (patched, updated, inserted) = tokio::join!(
            biased;
            execute(Do::Patch, patches),
            execute(Do::Update, whole),
            execute(Do::Insert, folded.inserts.len()),
        );
        // Before anything is sent that would only be told that the transaction has failed.
        let (patched, updated, inserted) = (patched?, updated?, inserted?);
        let lacking = (patches as u64).saturating_sub(patched);
        if lacking > 0 {
            self.echo(lacking)?;
            let fills = |&(before, row): &(usize, usize)| {
                let (old, new) = (rows.row(before), rows.row(row));
                !new.is_whole() && new.is_whole_over(old)
            };
            if may_insert && folded.updates.iter().any(fills) {
                return Err(BulkError {
                    error: Error::bug("a row that is put together one by one"),
                    retry_in_order: true,
                    follows: false,
                });
            }
            counts.missing += lacking;
        }
        let lacking = (whole as u64).saturating_sub(updated);
        if lacking > 0 {
            self.echo(lacking)?;
            if may_insert {
                counts.repaired += self.execute(client, rows, folded, Do::Repair).await?;
            } else {
                counts.missing += lacking;
            }
        }
        // An insert that meets its own key is drift: the source's row wins and it is counted.
        let met = (folded.inserts.len() as u64).saturating_sub(inserted);
        if met > 0 {
            self.execute(client, rows, folded, Do::Overwrite).await?;
            counts.repaired += met;
        }
        Ok(counts)
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
