//! What a source's log says, as text: one line a change, so that a test shows what it expects.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::Result;
use thalweg_core::change::{Change, ChangeKind, Transaction};
use thalweg_core::ports::{ChangeStream, Chunk, Confirm, Source, StreamLimits};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::schema::TableSchema;
use thalweg_core::value::{CellRef, RowBatch, RowRef};

/// Bounds small enough for a test to reach.
pub const LIMITS: StreamLimits = StreamLimits {
    part_bytes: 256 << 10,
    row_bytes_max: 64 << 20,
};
/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transaction as a reader of the log meets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tx {
    /// Which one.
    pub id: TxId,
    /// `+t 1,'a'`, `-t …`, `~t before > after`, `!t` for a truncate. Cells that are not sent are `?`.
    pub changes: Vec<String>,
    /// Where reading resumes after it.
    pub position: Position,
    /// In how many parts it came.
    pub parts: usize,
    /// The largest of them, in bytes.
    pub part_bytes: usize,
}

/// A stream being read.
pub struct Log {
    source: Arc<dyn Source>,
    stream: Box<dyn ChangeStream>,
    confirm: Box<dyn Confirm>,
    names: Vec<String>,
    /// The last position handed out.
    pub at: Position,
    /// Rows of the last transaction.
    pub rows: RowBatch,
}

impl Log {
    /// Opens it.
    ///
    /// # Errors
    /// What the source says.
    pub async fn open(
        source: Arc<dyn Source>,
        from: &Position,
        tables: &[TableSchema],
    ) -> Result<Log> {
        let (stream, confirm) = source.stream(from, tables, LIMITS).await?;
        Ok(Log {
            source,
            stream,
            confirm,
            names: tables.iter().map(|table| table.name.name.clone()).collect(),
            at: from.clone(),
            rows: RowBatch::new(),
        })
    }

    /// The next part, as it comes.
    ///
    /// # Errors
    /// What the source says.
    ///
    /// # Panics
    /// When the stream says nothing for a minute.
    pub async fn part(&mut self) -> Result<Transaction> {
        let part = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        part.expect("a stream says something in time")
    }

    /// The next whole transaction, empty or not.
    ///
    /// # Errors
    /// What the source says.
    ///
    /// # Panics
    /// When a part does not belong to the transaction before its end.
    pub async fn next(&mut self) -> Result<Tx> {
        let (mut changes, mut parts, mut part_bytes, mut first) = (Vec::new(), 0, 0, None);
        self.rows.clear();
        loop {
            let part = self.part().await?;
            parts += 1;
            part_bytes = part_bytes.max(part.changes.bytes());
            let id = first.get_or_insert_with(|| part.id.clone());
            assert_eq!(*id, part.id, "parts of one transaction");
            let rows = &part.changes.rows;
            let line = |change| self.line(change, rows);
            changes.extend(part.changes.changes.iter().map(line));
            for change in &part.changes.changes {
                if let Some(after) = change.after {
                    self.rows.append(rows.row(after));
                }
            }
            if let Some(commit) = part.commit {
                self.at = commit.position.clone();
                return Ok(Tx {
                    id: id.clone(),
                    changes,
                    position: commit.position,
                    parts,
                    part_bytes,
                });
            }
        }
    }

    /// Transactions with changes up to the present end of the log.
    ///
    /// # Errors
    /// What the source says.
    pub async fn rest(&mut self) -> Result<Vec<Tx>> {
        let mark = self.source.head().await?;
        let mut all = Vec::new();
        while !self.source.reached(&self.at, &mark)? {
            let tx = self.next().await?;
            if !tx.changes.is_empty() {
                all.push(tx);
            }
        }
        Ok(all)
    }

    /// Tells the source that everything handed out is durable.
    ///
    /// # Errors
    /// What the source says.
    pub async fn confirm(&mut self) -> Result<()> {
        self.confirm.confirm(&self.at).await
    }

    fn line(&self, change: &Change, rows: &RowBatch) -> String {
        let image = |index: Option<usize>| index.map_or_else(String::new, |i| text(rows.row(i)));
        let (before, after) = (image(change.before), image(change.after));
        let name = self.names.get(change.table).map_or("", String::as_str);
        match change.kind {
            ChangeKind::Insert => format!("+{name} {after}"),
            ChangeKind::Delete => format!("-{name} {before}"),
            ChangeKind::Update => format!("~{name} {before} > {after}"),
            ChangeKind::Truncate => format!("!{name}"),
        }
    }
}

/// All rows of a table in a snapshot that has seen everything before `from`, and what else it has.
///
/// # Errors
/// What the source says.
///
/// # Panics
/// If the source does not know the snapshot as one of its log.
pub async fn read(
    source: &dyn Source,
    table: &TableSchema,
    from: &Position,
) -> Result<(RowBatch, Visibility)> {
    let chunk = Chunk {
        table: 0,
        schema: table.clone(),
        range: None,
        empty: false,
    };
    let mut reader = source.read(&chunk, from, LIMITS).await?;
    let (mut all, mut some) = (RowBatch::new(), RowBatch::new());
    while reader.next(&mut some).await? {
        for row in some.iter() {
            all.append(row);
        }
    }
    let seen = reader.visibility().clone();
    drop(reader);
    assert_eq!(source.of_other_log(&[&seen]).await?, [false], "{seen}");
    Ok((all, seen))
}

/// A row as text.
pub fn text(row: RowRef<'_>) -> String {
    let mut out = String::new();
    for cell in row.cells() {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&match cell {
            CellRef::Null => "NULL".to_owned(),
            CellRef::Absent | CellRef::Unchanged => "?".to_owned(),
            CellRef::I64(n) => n.to_string(),
            CellRef::U64(n) => n.to_string(),
            CellRef::Text(text) => format!("'{text}'"),
            other => format!("{other:?}"),
        });
    }
    out
}
