//! Loading: one table in one transaction, by `COPY BINARY` straight into it.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt as _;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::ports::Loader;
use thalweg_core::position::Visibility;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result, Side};
use tokio_postgres::CopyInSink;

use super::ddl::explain;
use super::encode::{HEADER, RowEncoder, TRAILER};
use super::stage::Stage;
use super::{Owner, checkpoint, column_list, copy_sql};
use crate::config::Connection;
use crate::error::convert;
use crate::schema::quote_table;

pub(super) struct PostgresLoader {
    connection: Connection,
    owner: Owner,
    plan: Arc<Plan>,
    open: Option<Open>,
}

/// The table being loaded.
struct Open {
    target: usize,
    encoder: RowEncoder,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    /// Rows go to a staging table, and this statement brings them into their table.
    staged: Option<String>,
    rows: u64,
}

const STAGE: &str = "pg_temp.thalweg_load";

/// The statements that make the staging table, which goes with the transaction, and that empty it
/// into the table.
fn through_staging(table: &TargetTable, types: &Stage) -> (String, String) {
    let columns = 0..table.columns.len();
    let fields: Vec<_> = columns
        .clone()
        .map(|n| format!("c{n} {}", types.staged(n)))
        .collect();
    let values: Vec<_> = columns.map(|n| types.value(n, &format!("c{n}"))).collect();
    let create = format!(
        "CREATE TEMP TABLE thalweg_load ({}) ON COMMIT DROP",
        fields.join(", ")
    );
    let insert = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {STAGE}",
        quote_table(&table.name),
        column_list(table.columns.iter(), ""),
        values.join(", ")
    );
    (create, insert)
}

impl PostgresLoader {
    pub(super) fn new(connection: Connection, owner: Owner, plan: Arc<Plan>) -> Self {
        PostgresLoader {
            connection,
            owner,
            plan,
            open: None,
        }
    }

    /// Begins the transaction and the `COPY`.
    async fn open(&self, target: usize, replace: bool) -> Result<Open> {
        let table = self
            .plan
            .targets
            .get(target)
            .ok_or_else(|| Error::bug("no such target"))?;
        let encoder = RowEncoder::new(table);
        let client = &self.connection.client;
        let name = quote_table(&table.name);
        client.batch_execute("BEGIN").await.map_err(convert)?;
        if replace {
            client
                .batch_execute(&format!("DELETE FROM {name}"))
                .await
                .map_err(convert)?;
        } else {
            let any = format!("SELECT 1 FROM {name} LIMIT 1");
            if client
                .query_opt(any.as_str(), &[])
                .await
                .map_err(convert)?
                .is_some()
            {
                return Err(Error::config(format!("{} has rows already", table.name))
                    .with_hint(format!("TRUNCATE {name}, or set existing_rows to replace"))
                    .at(Side::Target));
            }
        }
        let (copy, staged) = match encoder.has_forms() {
            false => (copy_sql(table), None),
            true => {
                let types = Stage::of(client, table).await?;
                let (create, insert) = through_staging(table, &types);
                client.batch_execute(&create).await.map_err(convert)?;
                let copy = format!("COPY {STAGE} FROM STDIN (FORMAT binary)");
                (copy, Some(insert))
            }
        };
        let sink = client.copy_in(copy.as_str()).await.map_err(convert)?;
        let mut sink = Box::pin(sink);
        sink.send(Bytes::from_static(HEADER))
            .await
            .map_err(convert)?;
        Ok(Open {
            target,
            encoder,
            sink,
            staged,
            rows: 0,
        })
    }
}

#[async_trait]
impl Loader for PostgresLoader {
    async fn begin(&mut self, target: usize, replace: bool) -> Result<()> {
        match self.open(target, replace).await {
            Ok(open) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => Err(explain(&self.connection.client, &self.plan, error).await),
        }
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| Error::bug("load before begin"))?;
        let width =
            i16::try_from(open.encoder.width()).map_err(|_| Error::bug("too many columns"))?;
        let mut bytes = Vec::with_capacity(rows.bytes());
        for row in rows.iter() {
            bytes.extend(width.to_be_bytes());
            open.encoder.row(row, &mut bytes)?;
        }
        open.rows += rows.len() as u64;
        open.sink.send(Bytes::from(bytes)).await.map_err(convert)
    }

    async fn commit(&mut self, seen: &Visibility, fingerprint: &str) -> Result<u64> {
        let mut open = self
            .open
            .take()
            .ok_or_else(|| Error::bug("commit before begin"))?;
        open.sink
            .send(Bytes::from_static(TRAILER))
            .await
            .map_err(convert)?;
        let rows = open.sink.as_mut().finish().await.map_err(convert)?;
        let client = &self.connection.client;
        let rows = match &open.staged {
            Some(insert) => client
                .execute(insert.as_str(), &[])
                .await
                .map_err(convert)?,
            None => rows,
        };
        if rows != open.rows {
            return Err(Error::bug("the target counted other rows than were sent").at(Side::Target));
        }
        let table = self
            .plan
            .targets
            .get(open.target)
            .ok_or_else(|| Error::bug("no such target"))?;
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
        let count = i64::try_from(rows).unwrap_or(i64::MAX);
        let loaded = format!(
            "INSERT INTO thalweg.checkpoint_table (server, task, target_schema, target_table, \
             phase, visibility, fingerprint, loaded_rows, relation) \
             VALUES ($1, $2, $3, $4, 'loaded', $5, $6, $7, {}) \
             ON CONFLICT (server, task, target_schema, target_table) DO UPDATE SET \
             phase = 'loaded', visibility = $5, fingerprint = $6, loaded_rows = $7, \
             relation = excluded.relation",
            checkpoint::relation("$3", "$4")
        );
        client
            .execute(
                &loaded,
                &[
                    &task.server,
                    &task.task,
                    &table.name.schema,
                    &table.name.name,
                    &seen.as_str(),
                    &fingerprint,
                    &count,
                ],
            )
            .await
            .map_err(convert)?;
        client.batch_execute("COMMIT").await.map_err(convert)?;
        Ok(rows)
    }
}
