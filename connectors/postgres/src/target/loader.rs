//! Loading: one chunk in one transaction, by `COPY BINARY`: straight into the table, or
//! through a staging table where a type has no binary form we know ([`super::stage`]). Rows of one
//! source of several go by a staging table as well and meet the others' there ([`super::merged`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt as _;
use thalweg_core::batch::TableCounts;
use thalweg_core::checkpoint::LoadedChunk;
use thalweg_core::mapping::ExistingRows;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::ports::{Loader, WireForm};
use thalweg_core::quarantine::Held;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result, Side};
use tokio_postgres::CopyInSink;

use super::ddl::explain;
use super::encode::{HEADER, RowEncoder, TRAILER};
use super::merged::{Merged, Staging};
use super::stage::Stage;
use super::{FIELDS_BYTES, Owner, copy_sql, ledger, quarantine, send, side};
use crate::config::Connection;
use crate::error::{convert, of_table};
use crate::schema::quote_table;

pub(super) struct PostgresLoader {
    connection: Connection,
    owner: Owner,
    plan: Arc<Plan>,
    /// The table that the open transaction writes, and the feed of it, as indexes.
    open: Option<(usize, usize)>,
    /// The rows under way in it.
    copy: Option<Under>,
    /// Rows of the open transaction that were sifted.
    sifted: u64,
    /// Feeds that are staged, made once each.
    merged: BTreeMap<(usize, usize), Arc<Merged>>,
}

/// How rows are appended to what is sent.
type Put = fn(&RowEncoder, &RowBatch, &mut Vec<u8>) -> Result<()>;

/// Rows under way.
enum Under {
    Copy(Copy),
    Staging(Staging),
}

/// A `COPY` under way.
struct Copy {
    encoder: RowEncoder,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    /// Rows go to a staging table, and this statement brings them into their table.
    staged: Option<String>,
    rows: u64,
}

impl PostgresLoader {
    pub(super) fn new(connection: Connection, owner: Owner, plan: Arc<Plan>) -> Self {
        PostgresLoader {
            connection,
            owner,
            plan,
            open: None,
            copy: None,
            sifted: 0,
            merged: BTreeMap::new(),
        }
    }

    fn table(&self) -> Result<&TargetTable> {
        let open = self.open.as_ref();
        let table = open.and_then(|(target, _)| self.plan.targets.get(*target));
        table.ok_or_else(|| Error::bug("no transaction was begun"))
    }

    async fn empty_table(&self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        let table = self.table()?;
        let client = &self.connection.client;
        let name = quote_table(&table.name);
        match existing {
            ExistingRows::Replace => {
                let rows = format!("DELETE FROM {name}");
                client.batch_execute(&rows).await.map_err(convert)?;
            }
            ExistingRows::Compare => {}
            ExistingRows::Refuse => {
                let any = format!("SELECT 1 FROM {name} LIMIT 1");
                let any = client.query_opt(any.as_str(), &[]).await;
                if any.map_err(convert)?.is_some() {
                    return Err(Error::config(format!("{} has rows already", table.name))
                        .with_hint(format!(
                            "TRUNCATE {name}, or set existing_rows to replace or compare"
                        ))
                        .at(Side::Target));
                }
            }
        }
        if table.merged() {
            side::empty(client, &self.owner.task, &table.name).await?;
        }
        ledger::begin(client, &self.owner.task, &table.name, fingerprint).await
    }

    /// An error of a row, with its table.
    fn named(&self, error: Error) -> Error {
        match self.table() {
            Ok(table) => of_table(error, &table.name),
            Err(_) => error,
        }
    }

    async fn sql(&self, sql: &str) -> Result<()> {
        let done = self.connection.client.batch_execute(sql).await;
        done.map_err(convert)
    }

    /// Writes some of the rows, in a `COPY` of their own; how many.
    async fn copy_some(&self, rows: &RowBatch, part: Range<usize>) -> Result<u64> {
        let mut some = RowBatch::new();
        for index in part {
            some.append(rows.row(index));
        }
        let copied = async {
            let mut copy = self.open_copy().await?;
            let mut bytes = Vec::with_capacity(some.bytes() + FIELDS_BYTES);
            copy.encoder.rows(&some, &mut bytes)?;
            copy.rows += some.len() as u64;
            send(&mut copy.sink, bytes).await.map_err(convert)?;
            let staged = copy.staged.is_some();
            let copied = self.end_copy(copy).await?;
            if staged {
                // It is emptied at the end of the transaction only.
                self.sql(&format!("DELETE FROM pg_temp.{}", self.staging()))
                    .await?;
            }
            Ok(copied)
        };
        copied.await.map_err(|error| self.named(error))
    }

    /// The name of the staging table of the open transaction's table.
    fn staging(&self) -> String {
        format!("thalweg_load_{}", self.open.unwrap_or_default().0)
    }

    async fn open_copy(&self) -> Result<Copy> {
        let table = self.table()?;
        let encoder = RowEncoder::new(table);
        let client = &self.connection.client;
        let (sql, staged) = match encoder.has_forms() {
            false => (copy_sql(table), None),
            true => {
                let types = Stage::of(client, table).await?;
                let name = self.staging();
                let through = types.through(&name, table);
                let create = client.batch_execute(&through.create);
                create.await.map_err(convert)?;
                (through.copy, Some(through.insert))
            }
        };
        let sink = client.copy_in(sql.as_str()).await.map_err(convert)?;
        let mut sink = Box::pin(sink);
        let header = sink.send(Bytes::from_static(HEADER));
        header.await.map_err(convert)?;
        Ok(Copy {
            encoder,
            sink,
            staged,
            rows: 0,
        })
    }

    /// Begins to take rows.
    async fn take(&mut self) -> Result<Under> {
        let table = self.table()?;
        if !table.merged() {
            return Ok(Under::Copy(self.open_copy().await?));
        }
        let open = self
            .open
            .ok_or_else(|| Error::bug("no transaction was begun"))?;
        let client = &self.connection.client;
        let merged = match self.merged.get(&open) {
            Some(merged) => Arc::clone(merged),
            None => Arc::new(Merged::new(client, &self.owner.task, &self.plan, open).await?),
        };
        let staging = merged.staging(client).await.map_err(|e| e.error)?;
        self.merged.insert(open, merged);
        Ok(Under::Staging(staging))
    }

    /// Ends what is under way; gives the rows it had.
    async fn end(&self, under: Under) -> Result<u64> {
        let staging = match under {
            Under::Copy(copy) => return self.end_copy(copy).await,
            Under::Staging(staging) => staging,
        };
        let merged = self.open.and_then(|open| self.merged.get(&open));
        let merged = merged.ok_or_else(|| Error::bug("rows were staged for another table"))?;
        let (rows, client) = (staging.rows(), &self.connection.client);
        let write = async {
            let ops = staging.finish().await?;
            merged
                .write(client, ops, true, &mut TableCounts::default())
                .await
        };
        write.await.map_err(|e| e.error)?;
        Ok(rows)
    }

    /// Ends the `COPY`; gives the rows it had.
    async fn end_copy(&self, mut copy: Copy) -> Result<u64> {
        let trailer = copy.sink.send(Bytes::from_static(TRAILER));
        trailer.await.map_err(convert)?;
        let mut rows = copy.sink.as_mut().finish().await.map_err(convert)?;
        if let Some(insert) = &copy.staged {
            let client = &self.connection.client;
            rows = client.execute(insert, &[]).await.map_err(convert)?;
        }
        if rows != copy.rows {
            return Err(Error::bug("the target counted other rows than were sent").at(Side::Target));
        }
        Ok(rows)
    }

    /// Sends rows, which `put` appends as the `COPY` has them.
    async fn add(&mut self, rows: &RowBatch, put: Put) -> Result<()> {
        if self.copy.is_none() {
            self.copy = Some(match self.take().await {
                Ok(copy) => copy,
                Err(error) => {
                    return Err(explain(&self.connection.client, &self.plan, error).await);
                }
            });
        }
        let copy = match self.copy.as_mut() {
            Some(Under::Copy(copy)) => copy,
            Some(Under::Staging(staging)) => {
                for row in rows.iter() {
                    staging.insert(row).await.map_err(|e| e.error)?;
                }
                return Ok(());
            }
            None => return Err(Error::bug("no copy was begun")),
        };
        let mut bytes = Vec::with_capacity(rows.bytes() + FIELDS_BYTES);
        put(&copy.encoder, rows, &mut bytes)?;
        copy.rows += rows.len() as u64;
        send(&mut copy.sink, bytes).await.map_err(convert)
    }
}

#[async_trait]
impl Loader for PostgresLoader {
    async fn begin(&mut self, target: usize, feed: usize) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::bug("a transaction is open"));
        }
        let begin = self.connection.client.batch_execute("BEGIN");
        begin.await.map_err(convert)?;
        self.open = Some((target, feed));
        Ok(())
    }

    async fn empty(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        match self.empty_table(existing, fingerprint).await {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&self.connection.client, &self.plan, error).await),
        }
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        let added = self.add(rows, RowEncoder::rows).await;
        added.map_err(|error| self.named(error))
    }

    fn wire(&self) -> Option<WireForm> {
        let table = self.table().ok().filter(|table| !table.merged())?;
        RowEncoder::new(table).wire()
    }

    async fn load_wire(&mut self, rows: &RowBatch) -> Result<()> {
        let added = self.add(rows, RowEncoder::relayed).await;
        added.map_err(|error| self.named(error))
    }

    async fn load_sifted(&mut self, rows: &RowBatch) -> Result<Vec<(usize, Error)>> {
        if self.table()?.merged() || self.copy.is_some() {
            return Err(Error::bug("rows that cannot be sifted"));
        }
        let mut refused = Vec::new();
        let mut waiting: Vec<Range<usize>> = Vec::new();
        waiting.push(0..rows.len());
        while let Some(part) = waiting.pop() {
            if part.is_empty() {
                continue;
            }
            self.sql("SAVEPOINT thalweg_sift").await?;
            match self.copy_some(rows, part.clone()).await {
                Ok(loaded) => {
                    self.sifted += loaded;
                    self.sql("RELEASE SAVEPOINT thalweg_sift").await?;
                    continue;
                }
                Err(error) if error.kind() == Kind::Data => {
                    self.sql("ROLLBACK TO SAVEPOINT thalweg_sift; RELEASE SAVEPOINT thalweg_sift")
                        .await?;
                    if part.len() == 1 {
                        refused.push((part.start, error));
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
            let middle = part.start + part.len() / 2;
            waiting.push(middle..part.end);
            waiting.push(part.start..middle);
        }
        Ok(refused)
    }

    async fn commit(&mut self, chunk: Option<&LoadedChunk>, held: &[Held]) -> Result<()> {
        let copied = match self.copy.take() {
            Some(under) => self.end(under).await.map_err(|error| self.named(error))?,
            None => 0,
        };
        let rows = copied + std::mem::take(&mut self.sifted);
        if rows != chunk.map_or(0, |chunk| chunk.rows) {
            return Err(Error::bug("a chunk says other rows than were loaded").at(Side::Target));
        }
        let table = self.table()?;
        let client = &self.connection.client;
        let Owner { task, epoch } = &self.owner;
        // FOR SHARE: other loaders may commit beside us, a new owner has to wait.
        let owned = client
            .query(
                "SELECT 1 FROM thalweg.checkpoint WHERE server = $1 AND task = $2 AND epoch = $3 \
                 FOR SHARE",
                &[&task.server, &task.task, &epoch.0],
            )
            .await
            .map_err(convert)?;
        self.owner.expect_one(owned.len() as u64)?;
        if let Some(chunk) = chunk {
            ledger::add(client, task, &table.name, chunk).await?;
        }
        quarantine::put(client, task, held).await?;
        client.batch_execute("COMMIT").await.map_err(convert)?;
        self.open = None;
        Ok(())
    }
}
