//! The source: questions of place and order, and the doors to snapshot and stream.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    Bridge, ChangeStream, Chunk, ChunkReader, ChunkSize, Confirm, DataSourceConfig, Inspect, Rows,
    Source, StreamLimits, Unsaid,
};
use thalweg_core::position::{Layout, Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Result, Side};
use tokio::sync::Mutex;

use crate::config::connect;
use crate::error::from_driver;
use crate::position::{Place, Seen};
use crate::stream::hub::{Expected, Hub};
use crate::{bridge, check, layout, query, schema, server, snapshot, split, stream};

/// How long [`Source::secure`] waits for prepared XA transactions to be decided.
const XA_WAIT: Duration = Duration::from_secs(10);

pub(crate) struct MySqlSource {
    config: DataSourceConfig,
    /// What its stream may share.
    hub: Option<Arc<Hub>>,
    /// Until it has a stream.
    expected: std::sync::Mutex<Option<Expected>>,
    /// An idle connection for the questions asked every second.
    idle: Mutex<Option<Conn>>,
}

impl MySqlSource {
    pub(crate) fn new(config: &DataSourceConfig, hub: Option<Arc<Hub>>) -> Self {
        MySqlSource {
            config: config.clone(),
            expected: std::sync::Mutex::new(hub.as_ref().map(Hub::expect)),
            hub,
            idle: Mutex::new(None),
        }
    }

    /// The place at the log's end, asked on the idle connection.
    async fn end(&self) -> Result<Place> {
        let mut idle = self.idle.lock().await;
        if let Some(mut conn) = idle.take()
            && let Ok(place) = self.end_by(&mut conn).await
        {
            *idle = Some(conn);
            return Ok(place);
        }
        // The server may have ended the old connection, or may have been restarted.
        let mut conn = connect(&self.config).await?;
        let place = self.end_by(&mut conn).await?;
        *idle = Some(conn);
        Ok(place)
    }

    async fn end_by(&self, conn: &mut Conn) -> Result<Place> {
        tokio::time::timeout(self.config.timeout, server::end_of_log(conn, &self.config))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }
}

/// Runs `question` on a new connection within the timeout.
async fn ask<T>(
    config: &DataSourceConfig,
    question: impl AsyncFnOnce(&mut Conn) -> Result<T>,
) -> Result<T> {
    ask_about(config, 0, question).await
}

/// The same, of so many tables.
async fn ask_about<T>(
    config: &DataSourceConfig,
    tables: usize,
    question: impl AsyncFnOnce(&mut Conn) -> Result<T>,
) -> Result<T> {
    let run = async {
        let mut conn = connect(config).await?;
        let answer = question(&mut conn).await?;
        // The answer stands, whether or not the farewell arrives.
        drop(conn.disconnect().await);
        Ok(answer)
    };
    tokio::time::timeout(config.time_for(tables), Box::pin(run))
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

/// How long a server may lack what another one had.
const COMES_ON: Duration = Duration::from_secs(5);

pub(crate) fn timed_out() -> Error {
    Error::transient("the source did not answer in time").at(Side::Source)
}

#[async_trait]
impl Inspect for MySqlSource {
    async fn probe(&self) -> Result<()> {
        ask(&self.config, async |conn| {
            conn.query_drop("SELECT 1").await.map_err(from_driver)
        })
        .await
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        ask(&self.config, async |conn| {
            schema::tables(conn)
                .await
                .map_err(|error| error.at(Side::Source))
        })
        .await
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        ask_about(&self.config, tables.len(), async |conn| {
            let described = schema::describe(conn, tables).await;
            described.map_err(|error| error.at(Side::Source))
        })
        .await
    }

    async fn describe_query(&self, sql: &str) -> Result<TableSchema> {
        ask(&self.config, async |conn| query::describe(conn, sql).await).await
    }
}

#[async_trait]
impl Source for MySqlSource {
    async fn check(&self, tables: &[TableName]) -> Result<Vec<Finding>> {
        // Without a default database, so that who may see none still hears everything at once.
        let config = DataSourceConfig {
            database: String::new(),
            ..self.config.clone()
        };
        ask_about(&config, tables.len(), async |conn| {
            check::check(conn, &config, tables).await
        })
        .await
    }

    async fn secure(&self, _tables: &[TableName]) -> Result<Position> {
        let mut conn = connect(&self.config).await?;
        let mut place = server::end_of_log(&mut conn, &self.config).await?;
        if place.set.is_none() {
            place.gtid = server::gtid_at(&mut conn, &place.at).await?;
            place.born = stream::birth(&self.config, &place).await?;
        }
        // Whatever is prepared now may have been prepared before the place; what is decided later is
        // decided behind it.
        let mut open = server::prepared(&mut conn).await?;
        let since = Instant::now();
        while !open.is_empty() {
            if since.elapsed() > XA_WAIT {
                return Err(Error::config(format!(
                    "XA transactions are prepared and not decided: {}",
                    open.join("; ")
                ))
                .with_hint("end each with XA COMMIT or XA ROLLBACK, then start again")
                .at(Side::Source));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = server::prepared(&mut conn).await?;
            open.retain(|xid| now.contains(xid));
        }
        drop(conn.disconnect().await);
        Ok(place.position())
    }

    async fn split(&self, chunk: &Chunk, size: ChunkSize) -> Result<Vec<Chunk>> {
        let mut conn = connect(&self.config).await?;
        let chunks = split::split(&mut conn, &self.config, chunk, size).await?;
        drop(conn.disconnect().await);
        Ok(chunks)
    }

    async fn read(
        &self,
        chunk: &Chunk,
        from: &Position,
        limits: StreamLimits,
    ) -> Result<Box<dyn ChunkReader>> {
        let reader = Box::pin(snapshot::open(&self.config, chunk, from, limits)).await?;
        Ok(Box::new(reader))
    }

    fn contains(&self, seen: &Visibility, tx: &TxId) -> Result<bool> {
        Seen::parse(seen)?.contains(tx)
    }

    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool> {
        Place::of_position(at)?.passed(&Seen::parse(seen)?)
    }

    /// What lies behind the log's end, or has another name.
    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>> {
        let since = Instant::now();
        loop {
            // Not by a connection of before, which may still lead to the old server.
            let end = ask(&self.config, async |conn| {
                server::end_of_log(conn, &self.config).await
            })
            .await?;
            let other = |seen: &&Visibility| Ok(!end.passed(&Seen::parse(seen)?)?);
            let others: Vec<bool> = seen.iter().map(other).collect::<Result<_>>()?;
            // One that has just been promoted may have transactions of the old one to apply yet; a coordinate stays
            // another server's.
            let by_gtid = |(seen, other): (&&Visibility, &bool)| {
                *other && matches!(Seen::parse(seen), Ok(Seen::Gtids(_)))
            };
            let waits = seen.iter().zip(&others).any(by_gtid);
            if !waits || since.elapsed() >= COMES_ON {
                return Ok(others);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn head(&self) -> Result<Position> {
        Ok(self.end().await?.position())
    }

    fn reached(&self, at: &Position, mark: &Position) -> Result<bool> {
        Place::of_position(at)?.reached(&Place::of_position(mark)?)
    }

    async fn backlog_bytes(&self, at: &Position) -> Result<Option<u64>> {
        let at = Place::of_position(at)?.at;
        let end = self.end().await?.at;
        if end.file == at.file {
            return Ok(end.pos.checked_sub(at.pos));
        }
        let mut idle = self.idle.lock().await;
        let Some(mut conn) = idle.take() else {
            return Ok(None);
        };
        let rows: Vec<Row> = conn.query("SHOW BINARY LOGS").await.map_err(from_driver)?;
        *idle = Some(conn);
        let mut sum: Option<u64> = None;
        for row in rows {
            let (Some(file), Some(size)) = (row.get::<String, _>(0), row.get::<u64, _>(1)) else {
                return Ok(None);
            };
            if file == at.file {
                sum = size.checked_sub(at.pos);
            } else {
                sum = sum.map(|s| s + size);
            }
        }
        Ok(sum)
    }

    async fn stream(
        &self,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<(Box<dyn ChangeStream>, Box<dyn Confirm>)> {
        let hub = self.hub.clone();
        let stream = stream::Stream::open(&self.config, hub, from, tables, limits);
        let stream = Box::pin(stream).await?;
        let expected = self.expected.lock();
        drop(expected.unwrap_or_else(PoisonError::into_inner).take());
        Ok((Box::new(stream), Box::new(NothingToConfirm)))
    }

    async fn bridge(
        &self,
        table: &TableSchema,
        then: Option<&Layout>,
        added: &[usize],
        retyped: &[(usize, String)],
    ) -> Result<Bridge> {
        ask(&self.config, async |conn| {
            bridge::bridge(conn, &self.config, table, then, added, retyped).await
        })
        .await
    }

    async fn unsaid(&self, tables: &[(&TableName, &Layout, bool)]) -> Result<Vec<Unsaid>> {
        let told = |&(_, &(.., told)): &(usize, &(&TableName, &Layout, bool))| told;
        let tables: Vec<_> = tables.iter().enumerate().filter(told).collect();
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let end = ask(&self.config, async |conn| {
            Ok(server::marked_end(conn, &self.config).await?.position())
        });
        let end = end.await?;
        let one = |&(table, &(name, then, _)): &(usize, &(&TableName, &Layout, bool))| {
            let mut layout = layout::Layout::read(then, name)?;
            layout.passes = Some(end.as_str().to_owned());
            Ok(Unsaid {
                table,
                layout: layout.stored(),
                rows: Rows::Went,
                how: "a partition was dropped or truncated, which takes rows that the log does not name".to_owned(),
            })
        };
        tables.iter().map(one).collect()
    }

    async fn release(&self) -> Result<()> {
        // A binlog reader leaves nothing on the server.
        Ok(())
    }
}

/// The server keeps its log by its own settings; it cannot be told how far we are.
struct NothingToConfirm;

#[async_trait]
impl Confirm for NothingToConfirm {
    async fn confirm(&mut self, _durable: &Position) -> Result<()> {
        Ok(())
    }
}
