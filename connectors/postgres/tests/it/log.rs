//! A private server as a source, and what its log says as text.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_core::change::{Change, ChangeKind, Transaction};
use thalweg_core::ports::{
    ChangeStream, Chunk, ChunkReader, Confirm, Connector, DataSourceConfig, Source, StreamLimits,
};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::range::KeyRange;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result, Side};
use thalweg_testkit::servers::{Postgres, PostgresOptions};

use crate::world;

pub(crate) const LIMITS: StreamLimits = StreamLimits {
    part_bytes: 1 << 20,
    row_bytes_max: 64 << 20,
};
/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transaction as a reader of the log meets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tx {
    pub(crate) id: TxId,
    /// One line a change: `+t 1,'a'`, `-t …`, `~t before > after`, `!t` for a truncate.
    pub(crate) changes: Vec<String>,
    pub(crate) position: Position,
    pub(crate) parts: usize,
}

/// A server and one task that reads it.
pub(crate) struct Origin {
    pub(crate) server: Postgres,
    pub(crate) source: Arc<dyn Source>,
}

impl Origin {
    /// Starts a server on which `setup` is run.
    pub(crate) fn new(setup: &str) -> Origin {
        Origin::with(&[], setup)
    }

    /// The same with these lines in its configuration.
    pub(crate) fn with(config: &[&str], setup: &str) -> Origin {
        let options = PostgresOptions {
            config: config.iter().map(|&line| line.to_owned()).collect(),
            ..PostgresOptions::default()
        };
        let server = Postgres::start(options).unwrap();
        server.sql(setup).unwrap();
        let source = thalweg_postgres::connector()
            .source(&world::config(&server))
            .unwrap();
        Origin { server, source }
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql(sql).unwrap()
    }

    /// The same task in another process: nothing of the first one is known.
    pub(crate) fn again(&self) -> Arc<dyn Source> {
        self.named("thalweg/test")
    }

    /// A source whose sessions have this name.
    pub(crate) fn named(&self, application: &str) -> Arc<dyn Source> {
        self.source_of(DataSourceConfig {
            application_name: application.into(),
            ..world::config(&self.server)
        })
    }

    /// The same task with this limit for a question.
    pub(crate) fn hasty(&self, timeout: Duration) -> Arc<dyn Source> {
        self.source_of(DataSourceConfig {
            timeout,
            ..world::config(&self.server)
        })
    }

    fn source_of(&self, config: DataSourceConfig) -> Arc<dyn Source> {
        thalweg_postgres::connector().source(&config).unwrap()
    }

    /// Tables of `public` by name.
    pub(crate) async fn tables(&self, names: &[&str]) -> Vec<TableSchema> {
        let tables = self.source.describe(&public(names)).await.unwrap();
        assert_eq!(tables.len(), names.len(), "{names:?}");
        tables
    }

    /// Makes slot and publication.
    pub(crate) async fn secure(&self, names: &[&str]) -> Position {
        self.source.secure(&public(names)).await.unwrap()
    }

    /// Opens the stream.
    pub(crate) async fn open(&self, from: &Position, tables: &[TableSchema]) -> Log {
        Log::open(Arc::clone(&self.source), from, tables, LIMITS)
            .await
            .unwrap()
    }

    /// Makes the slot, runs `sql`, and gives the changes, a list for each transaction.
    pub(crate) async fn changes(&self, names: &[&str], sql: &str) -> Vec<Vec<String>> {
        let at = self.secure(names).await;
        self.sql(sql);
        let tables = self.tables(names).await;
        let all = self.open(&at, &tables).await.rest().await;
        all.into_iter().map(|tx| tx.changes).collect()
    }

    /// The error that ends the stream before the present end of the log, and what came before.
    pub(crate) async fn stops(&self, from: &Position, tables: &[TableSchema]) -> (Vec<Tx>, Error) {
        let opened = Log::open(self.again(), from, tables, LIMITS).await;
        let mut log = match opened {
            Ok(log) => log,
            Err(error) => return (Vec::new(), error),
        };
        let mark = log.source.head().await.unwrap();
        let mut seen = Vec::new();
        loop {
            match log.next().await {
                Ok(tx) if tx.changes.is_empty() => {
                    let past = log.source.reached(&log.at, &mark).unwrap();
                    assert!(!past, "the stream passed the end: {seen:?}");
                }
                Ok(tx) => seen.push(tx),
                Err(error) => return (seen, error),
            }
        }
    }

    /// Waits until a query gives this answer.
    pub(crate) async fn until(&self, query: &str, expected: &str) {
        let since = Instant::now();
        loop {
            let is = self.sql(query);
            if is == expected {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{query}: {is}, not {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.server.log_tail());
        }
    }
}

/// A table's rows in a snapshot, and what that has seen.
pub(crate) async fn read(source: &dyn Source, table: &TableSchema) -> (RowBatch, Visibility) {
    read_range(source, table, None).await.unwrap()
}

/// The same for a part of the table.
pub(crate) async fn read_range(
    source: &dyn Source,
    table: &TableSchema,
    range: Option<KeyRange>,
) -> Result<(RowBatch, Visibility)> {
    let from = source.head().await?;
    let chunk = Chunk {
        table: 0,
        schema: table.clone(),
        range,
        empty: false,
    };
    let mut reader = source.read(&chunk, &from, LIMITS).await?;
    let rows = all(reader.as_mut()).await?;
    Ok((rows, reader.visibility().clone()))
}

/// What is left of a chunk.
pub(crate) async fn all(reader: &mut dyn ChunkReader) -> Result<RowBatch> {
    let (mut all, mut some) = (RowBatch::new(), RowBatch::new());
    while reader.next(&mut some).await? {
        for row in some.iter() {
            all.append(row);
        }
    }
    Ok(all)
}

/// A stream being read.
pub(crate) struct Log {
    pub(crate) source: Arc<dyn Source>,
    stream: Box<dyn ChangeStream>,
    pub(crate) confirm: Box<dyn Confirm>,
    names: Vec<String>,
    /// The last position handed out.
    pub(crate) at: Position,
}

impl Log {
    pub(crate) async fn open(
        source: Arc<dyn Source>,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<Log> {
        let (stream, confirm) = source.stream(from, tables, limits).await?;
        Ok(Log {
            source,
            stream,
            confirm,
            names: tables.iter().map(|t| t.name.name.clone()).collect(),
            at: from.clone(),
        })
    }

    /// The next part, as it comes.
    pub(crate) async fn part(&mut self) -> Result<Transaction> {
        let part = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        part.expect("a stream says something in time")
    }

    /// The next whole transaction, empty or not.
    pub(crate) async fn next(&mut self) -> Result<Tx> {
        let (mut changes, mut parts, mut id) = (Vec::new(), 0, None);
        loop {
            let part = self.part().await?;
            parts += 1;
            let id = id.get_or_insert_with(|| part.id.clone());
            assert_eq!(*id, part.id, "parts of one transaction");
            let rows = &part.changes.rows;
            let of_part = part.changes.changes.iter();
            changes.extend(of_part.map(|c| line(c, rows, &self.names)));
            if let Some(commit) = part.commit {
                self.at = commit.position.clone();
                return Ok(Tx {
                    id: id.clone(),
                    changes,
                    position: commit.position,
                    parts,
                });
            }
        }
    }

    /// The next transaction with changes.
    pub(crate) async fn change(&mut self) -> Tx {
        loop {
            let tx = self.next().await.unwrap();
            if !tx.changes.is_empty() {
                return tx;
            }
        }
    }

    /// Transactions with changes up to the present end of the log.
    pub(crate) async fn rest(&mut self) -> Vec<Tx> {
        let mark = self.source.head().await.unwrap();
        let mut out = Vec::new();
        while !self.source.reached(&self.at, &mark).unwrap() {
            let tx = self.next().await.unwrap();
            if !tx.changes.is_empty() {
                out.push(tx);
            }
        }
        out
    }
}

/// Names of tables of `public`.
pub(crate) fn public(names: &[&str]) -> Vec<TableName> {
    names.iter().map(|n| TableName::new("public", *n)).collect()
}

/// Asserts what an error asks for and that its message has these words.
pub(crate) fn says(error: &Error, kind: Kind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{}", error.chain());
    assert_eq!(error.side(), Some(Side::Source));
    for word in words {
        assert!(
            error.message().contains(word),
            "{word} in {}",
            error.chain()
        );
    }
}

fn line(change: &Change, rows: &RowBatch, names: &[String]) -> String {
    let image = |index: Option<usize>| index.map_or_else(String::new, |i| text(rows.row(i)));
    let (before, after) = (image(change.before), image(change.after));
    let name = &names[change.table];
    match change.kind {
        ChangeKind::Insert => format!("+{name} {after}"),
        ChangeKind::Delete => format!("-{name} {before}"),
        ChangeKind::Update => format!("~{name} {before} > {after}"),
        ChangeKind::Truncate => format!("!{name}"),
    }
}

/// A row as text; long values by their length.
pub(crate) fn text(row: RowRef<'_>) -> String {
    let mut out = String::new();
    for cell in row.cells() {
        if !out.is_empty() {
            out.push(',');
        }
        let written = match cell {
            CellRef::Null => write!(out, "NULL"),
            CellRef::Absent => write!(out, "absent"),
            CellRef::Unchanged => write!(out, "unchanged"),
            CellRef::I64(n) => write!(out, "{n}"),
            CellRef::Text(t) if t.len() > 40 => {
                let first = t.chars().next().unwrap_or_default();
                write!(out, "'{first}…'{}", t.len())
            }
            CellRef::Text(t) => write!(out, "'{t}'"),
            CellRef::Other(t) => write!(out, "{t}"),
            CellRef::Decimal(d) => write!(out, "{d}"),
            other => write!(out, "{other:?}"),
        };
        written.unwrap();
    }
    out
}

/// All rows as text.
pub(crate) fn lines(rows: &RowBatch) -> Vec<String> {
    rows.iter().map(text).collect()
}
