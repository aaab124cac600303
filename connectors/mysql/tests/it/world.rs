//! A private server, and what its log says as text.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::change::{Change, ChangeKind, Transaction};
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    ChangeStream, Chunk, Connector, DataSourceConfig, Source, StreamLimits, TlsOptions,
};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::secret::Secret;
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result, Side};
use thalweg_testkit::servers::{MariaDb, MariaDbOptions};

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

/// A server with one database, `shop`.
pub(crate) struct World {
    pub(crate) server: MariaDb,
}

impl World {
    /// Starts a server with these lines in its configuration.
    pub(crate) fn new(config: &[&str]) -> World {
        let server = MariaDb::start(MariaDbOptions {
            config: config.iter().map(|&line| line.to_owned()).collect(),
            ..MariaDbOptions::default()
        });
        let world = World {
            server: server.unwrap(),
        };
        world.server.sql("CREATE DATABASE shop").unwrap();
        world
    }

    /// Runs statements in `shop`.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql_in("shop", sql).unwrap()
    }

    pub(crate) fn config(&self) -> DataSourceConfig {
        DataSourceConfig {
            host: self.server.host().to_owned(),
            port: self.server.port(),
            database: "shop".into(),
            user: self.server.user().to_owned(),
            password: Secret::new(self.server.password()),
            tls: TlsOptions::default(),
            allow_cleartext_password: false,
            timeout: Duration::from_secs(10),
            server_id: None,
            application_name: "thalweg/test".into(),
            networks: std::sync::Arc::default(),
        }
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        thalweg_mysql::connector().source(&self.config()).unwrap()
    }

    /// The same server, as another user.
    pub(crate) fn source_as(&self, user: &str, password: &str) -> Arc<dyn Source> {
        let config = DataSourceConfig {
            user: user.into(),
            password: Secret::new(password),
            ..self.config()
        };
        thalweg_mysql::connector().source(&config).unwrap()
    }

    /// The end of the log as a position to start from.
    pub(crate) async fn here(&self) -> Position {
        self.source().secure(&[]).await.unwrap()
    }

    /// Tables of `shop` by name.
    pub(crate) async fn tables(&self, names: &[&str]) -> Vec<TableSchema> {
        let tables = self.source().describe(&shop(names)).await.unwrap();
        assert_eq!(tables.len(), names.len());
        tables
    }

    /// What preflight says of tables of `shop`.
    pub(crate) async fn check(&self, names: &[&str]) -> Vec<Finding> {
        self.source().check(&shop(names)).await.unwrap()
    }

    /// Opens the stream; an error of opening it comes with the first read.
    pub(crate) async fn open(&self, from: &Position, tables: &[TableSchema]) -> Log {
        self.open_with(from, tables, LIMITS).await
    }

    pub(crate) async fn open_with(
        &self,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Log {
        open_on(self.source(), from, tables, limits).await
    }

    /// Transactions with changes from `from` to the present end of the log.
    pub(crate) async fn follow(&self, from: &Position, tables: &[TableSchema]) -> Vec<Tx> {
        self.open(from, tables).await.rest().await
    }

    /// The changes of [`World::follow`], a list for each transaction.
    pub(crate) async fn changes(&self, from: &Position, names: &[&str]) -> Vec<Vec<String>> {
        let tables = self.tables(names).await;
        let all = self.follow(from, &tables).await;
        all.into_iter().map(|tx| tx.changes).collect()
    }

    /// The error that ends the stream before the present end of the log, and what came before.
    pub(crate) async fn stops(&self, from: &Position, tables: &[TableSchema]) -> (Vec<Tx>, Error) {
        let mut log = self.open(from, tables).await;
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

    /// A table's rows in a snapshot, and what that has seen.
    pub(crate) async fn read(&self, table: &TableSchema) -> (RowBatch, Visibility) {
        let chunk = Chunk {
            table: 0,
            schema: table.clone(),
            range: None,
            empty: false,
        };
        let from = self.source().head().await.unwrap();
        let mut reader = self.source().read(&chunk, &from, LIMITS).await.unwrap();
        let (mut all, mut some) = (RowBatch::new(), RowBatch::new());
        while reader.next(&mut some).await.unwrap() {
            for row in some.iter() {
                all.append(row);
            }
        }
        (all, reader.visibility().clone())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.server.log_tail());
        }
    }
}

/// A stream being read.
pub(crate) struct Log {
    pub(crate) source: Arc<dyn Source>,
    stream: Result<Box<dyn ChangeStream>>,
    names: Vec<String>,
    /// The last position handed out.
    pub(crate) at: Position,
    moved: bool,
}

impl Log {
    /// The next part, as it comes.
    pub(crate) async fn part(&mut self) -> Result<Transaction> {
        let stream = match &mut self.stream {
            Ok(stream) => stream,
            Err(error) => {
                let kind = error.kind();
                return Err(std::mem::replace(error, Error::new(kind, "told already")));
            }
        };
        let part = tokio::time::timeout(PATIENCE, stream.next()).await;
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
            let lines = part
                .changes
                .changes
                .iter()
                .map(|c| line(c, rows, &self.names));
            changes.extend(lines);
            if let Some(commit) = part.commit {
                self.at = commit.position.clone();
                self.moved = true;
                return Ok(Tx {
                    id: id.clone(),
                    changes,
                    position: commit.position,
                    parts,
                });
            }
        }
    }

    /// Transactions with changes up to the present end of the log.
    pub(crate) async fn rest(&mut self) -> Vec<Tx> {
        let mark = self.source.head().await.unwrap();
        let mut out = Vec::new();
        // The place where it began may be that of another server.
        while !self.moved || !self.source.reached(&self.at, &mark).unwrap() {
            let tx = self.next().await.unwrap();
            if !tx.changes.is_empty() {
                out.push(tx);
            }
        }
        out
    }
}

/// Opens the stream of a source; an error of opening it comes with the first read.
pub(crate) async fn open_on(
    source: Arc<dyn Source>,
    from: &Position,
    tables: &[TableSchema],
    limits: StreamLimits,
) -> Log {
    let stream = source.stream(from, tables, limits).await;
    Log {
        source,
        stream: stream.map(|(stream, _)| stream),
        names: tables.iter().map(|t| t.name.name.clone()).collect(),
        at: from.clone(),
        moved: false,
    }
}

/// Names of tables of `shop`.
pub(crate) fn shop(names: &[&str]) -> Vec<TableName> {
    names.iter().map(|n| TableName::new("shop", *n)).collect()
}

/// The same place without its GTIDs, so that the server is asked by file and offset.
pub(crate) fn by_file(position: &Position) -> Position {
    let mut parts: Vec<&str> = position.as_str().split(';').collect();
    assert!(!parts[4].is_empty(), "a place with GTIDs");
    parts[4] = "";
    Position::new(parts.join(";"))
}

/// The same place as if another server had given it, so that it is found by GTIDs.
pub(crate) fn by_gtid(position: &Position) -> Position {
    let mut parts: Vec<&str> = position.as_str().split(';').collect();
    assert!(!parts[4].is_empty(), "a place with GTIDs");
    parts[1] = "1";
    Position::new(parts.join(";"))
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

/// A change as text.
pub(crate) fn line(change: &Change, rows: &RowBatch, names: &[String]) -> String {
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
            CellRef::I64(n) => write!(out, "{n}"),
            CellRef::U64(n) => write!(out, "{n}"),
            CellRef::Text(t) if t.len() > 40 => {
                let first = t.chars().next().unwrap_or_default();
                write!(out, "'{first}…'{}", t.len())
            }
            CellRef::Text(t) => write!(out, "'{t}'"),
            other => write!(out, "{other:?}"),
        };
        written.unwrap();
    }
    out
}
