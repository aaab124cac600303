//! Target tables that several sources fill.
//!
//! Which sources have a row of a key is kept in a table beside the checkpoint, one per merged table
//! (the *side table*, see [`super::side`]): the key (`k0`, `k1` …), a bit per source (`sources`), and
//! where the task has a row owner the columns (`c0`, `c1` …) of rows that wait for the owner's. It is
//! written in the same transaction as the rows.
//!
//! Everything is done by statements over a staging table, for one row as for many. Its rows say
//! what to do (`op`), under which key (`o0`, `o1` …), and what the row is to be (`c0`, `c1` …); `sent`
//! as in [`super::bulk`]. Each statement is about one source, so it touches that source's bit and
//! columns only, and a row as such when the first bit comes or the last one goes. The order is:
//!
//! 1. A row that moves takes the cells that were not sent from where it is now.
//! 2. Rows leave: the bit goes; the row is removed if it is not shown any more (with an owner, what
//!    others have in it is put aside), otherwise the source's columns return to their defaults.
//! 3. Rows change under their key.
//! 4. Rows come: the bit is set, and the row made or written over. With the owner's row comes what
//!    was put aside.
//!
//! Keys are locked in the side table first and in their order, so loads of several sources into
//! one table wait for each other and do not block each other for ever.
//!
//! Where the target takes different keys for equal, rows of different sources meet, and two rows of
//! one source must not: the task stops.

mod statements;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::TableName;
use thalweg_core::value::{RowBatch, RowRef, is_present};
use thalweg_core::{Error, Result, Side};
use tokio_postgres::{Client, CopyInSink, Statement};

use super::bulk::{BulkError, nulls, sent};
use super::encode::{HEADER, RowEncoder, TRAILER};
use super::send;
use super::stage::Stage;
use crate::error::convert;
use statements::{Names, Sql};

/// Sent at once: the batch is never in memory a second time.
const CHUNK_BYTES: usize = 256 << 10;

/// A row leaves.
const DELETE: i16 = 1;
/// A row changes under its key.
const UPDATE: i16 = 2;
/// A row comes.
const INSERT: i16 = 3;
/// An update with some of the columns.
const PATCH: i16 = 4;
/// A row changes its key; not found yet.
const MOVE: i16 = 5;
/// The same, found and made whole.
const MOVED: i16 = 6;

/// What one source of a merged table needs, prepared once.
pub(super) struct Merged {
    key: Vec<usize>,
    /// The columns the source fills.
    columns: Vec<usize>,
    encoder: RowEncoder,
    copy: Statement,
    sql: Sql,
    name: TableName,
    /// Whether the target may take different keys for equal.
    folds: bool,
}

impl Merged {
    /// Creates the staging table and prepares what is sent for each batch.
    pub(super) async fn new(
        client: &Client,
        task: &TaskKey,
        plan: &Plan,
        (target, feed): (usize, usize),
    ) -> Result<Self> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        let columns = table.feeds.get(feed).map(|feed| feed.columns.clone());
        let stage = format!("thalweg_merge_{target}_{feed}");
        let types = Stage::of(client, table).await?;
        let create = create_stage(&stage, table, &types);
        client.batch_execute(&create).await.map_err(convert)?;
        let stage = format!("pg_temp.{stage}");
        let copy = format!("COPY {stage} FROM STDIN (FORMAT binary)");
        let mut key = table.key.iter().filter_map(|c| table.columns.get(*c));
        Ok(Merged {
            name: table.name.clone(),
            folds: key.any(|column| column.folds),
            key: table.key.clone(),
            columns: columns.ok_or_else(|| Error::bug("no such feed"))?,
            encoder: RowEncoder::new(table),
            copy: client.prepare(&copy).await.map_err(convert)?,
            sql: Sql::new(&Names::new(
                task,
                table,
                feed,
                &stage,
                &types,
                !plan.operations.delete,
            )),
        })
    }

    /// Copies a folded table into staging. `reused`: staging was filled before in this
    /// transaction.
    pub(super) async fn stage(
        self: &Arc<Self>,
        client: &Client,
        rows: &RowBatch,
        folded: &FoldedTable,
        reused: bool,
    ) -> Result<Ops, BulkError> {
        if reused {
            client.batch_execute(&self.sql.empty).await?;
        }
        let mut staging = self.staging(client).await?;
        for row in &folded.deletes {
            staging.row(DELETE, Some(rows.row(*row)), None).await?;
        }
        for (before, after) in &folded.updates {
            let (old, new) = (rows.row(*before), rows.row(*after));
            let op = self.update_kind(old, new);
            staging.row(op, Some(old), Some(new)).await?;
        }
        for row in &folded.inserts {
            let row = rows.row(*row);
            if !self.is_whole(row) {
                return Err(Error::bug("a row to insert is not whole").into());
            }
            staging.insert(row).await?;
        }
        staging.finish().await
    }

    /// Begins to fill the staging table.
    pub(super) async fn staging(self: &Arc<Self>, client: &Client) -> Result<Staging, BulkError> {
        let sink = client.copy_in(&self.copy).await?;
        Ok(Staging {
            merged: Arc::clone(self),
            sink: Box::pin(sink),
            bytes: HEADER.to_vec(),
            ops: Ops::default(),
        })
    }

    /// Stages a delete of every row the source has.
    pub(super) async fn stage_all(&self, client: &Client, reused: bool) -> Result<Ops, BulkError> {
        if reused {
            client.batch_execute(&self.sql.empty).await?;
        }
        let deletes = client.execute(self.sql.all.as_str(), &[]).await?;
        Ok(Ops {
            deletes,
            ..Ops::default()
        })
    }

    /// Lets rows leave: the staged deletes, and moved rows at their old keys.
    pub(super) async fn delete(
        &self,
        client: &Client,
        ops: Ops,
        counts: &mut TableCounts,
    ) -> Result<(), BulkError> {
        let mut leaving = ops.deletes;
        if ops.moves > 0 {
            leaving += client.execute(self.sql.fill_moves.as_str(), &[]).await?;
        }
        if leaving == 0 {
            return Ok(());
        }
        let left = client.execute(self.sql.forget.as_str(), &[]).await?;
        counts.missing += leaving.saturating_sub(left);
        for sql in &self.sql.leave {
            client.execute(sql.as_str(), &[]).await?;
        }
        Ok(())
    }

    /// Writes the staged updates and lets rows come, moved ones at their new keys.
    pub(super) async fn write(
        &self,
        client: &Client,
        ops: Ops,
        may_insert: bool,
        counts: &mut TableCounts,
    ) -> Result<(), BulkError> {
        let run = async |sql: &str| client.execute(sql, &[]).await;
        let Ops {
            mut updates,
            mut inserts,
            ..
        } = ops;
        if self.folds && inserts + ops.moves > 0 {
            // Two that come at once make the statement fail that notes them.
            self.refuse_strangers(client).await?;
        }
        // Signs of drift first: a row that comes and is there, one that changes and is not.
        if inserts > 0 {
            let met = run(&self.sql.met).await?;
            counts.repaired += met;
            updates += met;
        }
        if updates + ops.patches + ops.moves > 0 {
            let lost = client
                .query_one(self.sql.lost.as_str(), &[&may_insert])
                .await?;
            let count = |index: usize| u64::try_from(lost.get::<_, i64>(index)).unwrap_or(0);
            counts.repaired += count(0);
            counts.missing += count(1);
            inserts += count(0);
        }
        if updates > 0 {
            for sql in &self.sql.update {
                run(sql).await?;
            }
        }
        if ops.patches > 0 {
            for sql in &self.sql.patch {
                run(sql).await?;
            }
        }
        if inserts + ops.moves > 0 {
            run(&self.sql.note).await?;
            for sql in &self.sql.come {
                run(sql).await?;
            }
        }
        Ok(())
    }

    /// `Data` error if a row comes to a key that another row of its source has.
    async fn refuse_strangers(&self, client: &Client) -> Result<(), BulkError> {
        let met = client.query_opt(self.sql.strangers.as_str(), &[]).await?;
        if met.is_none() {
            return Ok(());
        }
        let error = Error::data(format!(
            "{} takes the keys of two rows of one source table for equal",
            self.name
        ))
        .with_hint(
            "give the target's key columns a type and collation that tell them apart, or correct \
             one of the rows at the source",
        );
        Err(error.at(Side::Target).into())
    }

    /// Whether a row has all columns of its source.
    fn is_whole(&self, row: RowRef<'_>) -> bool {
        let present = |column: &usize| row.cell(*column).is_some_and(|cell| cell.is_present());
        self.columns.iter().all(present)
    }

    fn update_kind(&self, old: RowRef<'_>, new: RowRef<'_>) -> i16 {
        let mut moves = old
            .cells()
            .zip(new.cells())
            .enumerate()
            .filter(|(n, (old, new))| self.key.contains(n) && new.is_present() && old != new);
        match (moves.next().is_some(), self.is_whole(new)) {
            (true, _) => MOVE,
            (false, true) => UPDATE,
            (false, false) => PATCH,
        }
    }
}

/// How many rows of each kind are staged; nothing is sent for a kind there is none of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ops {
    deletes: u64,
    updates: u64,
    inserts: u64,
    patches: u64,
    moves: u64,
}

/// An open `COPY` into the staging table.
pub(super) struct Staging {
    merged: Arc<Merged>,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    bytes: Vec<u8>,
    ops: Ops,
}

impl Staging {
    /// Rows added so far.
    pub(super) fn rows(&self) -> u64 {
        self.ops.inserts
    }

    /// Adds a row that comes.
    pub(super) async fn insert(&mut self, row: RowRef<'_>) -> Result<(), BulkError> {
        self.row(INSERT, None, Some(row)).await
    }

    async fn row(
        &mut self,
        op: i16,
        old: Option<RowRef<'_>>,
        new: Option<RowRef<'_>>,
    ) -> Result<(), BulkError> {
        let Merged { key, encoder, .. } = self.merged.as_ref();
        match op {
            DELETE => self.ops.deletes += 1,
            UPDATE => self.ops.updates += 1,
            PATCH => self.ops.patches += 1,
            MOVE => self.ops.moves += 1,
            _ => self.ops.inserts += 1,
        }
        let bytes = &mut self.bytes;
        let width = i16::try_from(2 + key.len() + encoder.width())
            .map_err(|_| Error::bug("too many columns"))?;
        bytes.extend(width.to_be_bytes());
        bytes.extend(2i32.to_be_bytes());
        bytes.extend(op.to_be_bytes());
        match new.filter(|row| !self.merged.is_whole(*row)) {
            Some(row) => sent(row, bytes),
            None => nulls(1, bytes),
        }
        // What is to be found by its key now stands there; what comes stands there afterwards.
        match (old, new) {
            (Some(row), _) | (None, Some(row)) => {
                encoder.fields(row, key.iter().copied(), bytes)?;
            }
            (None, None) => nulls(key.len(), bytes),
        }
        match new {
            Some(row) => self.merged.new_row(row, old, bytes)?,
            None => nulls(encoder.width(), bytes),
        }
        if bytes.len() >= CHUNK_BYTES {
            send(&mut self.sink, std::mem::take(bytes)).await?;
        }
        Ok(())
    }

    /// Ends the `COPY`.
    pub(super) async fn finish(mut self) -> Result<Ops, BulkError> {
        self.bytes.extend_from_slice(TRAILER);
        send(&mut self.sink, self.bytes).await?;
        self.sink.as_mut().finish().await?;
        Ok(self.ops)
    }
}

impl Merged {
    /// The cells a row is to have; its key is whole, and what was not sent is NULL.
    fn new_row(&self, row: RowRef<'_>, old: Option<RowRef<'_>>, out: &mut Vec<u8>) -> Result<()> {
        let mut old = old.map(RowRef::raw_cells);
        for (column, new) in row.raw_cells().enumerate() {
            let old = old.as_mut().and_then(Iterator::next);
            let old = old.filter(|_| self.key.contains(&column) && !is_present(new));
            self.encoder.staged_cell(column, old.unwrap_or(new), out)?;
        }
        Ok(())
    }
}

fn create_stage(stage: &str, table: &TargetTable, types: &Stage) -> String {
    let mut fields = vec!["op smallint".to_owned(), "sent text".to_owned()];
    let keys = table.key.iter().enumerate();
    fields.extend(keys.map(|(n, column)| format!("o{n} {}", types.staged(*column))));
    fields.extend((0..table.columns.len()).map(|c| format!("c{c} {}", types.staged(c))));
    format!(
        "CREATE TEMP TABLE {stage} ({}) ON COMMIT DELETE ROWS",
        fields.join(", ")
    )
}
