//! A log as a source: its tables are empty when it begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::change::Transaction;
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    ChangeStream, Chunk, ChunkReader, Confirm, Inspect, Source, StreamLimits,
};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result};
use thalweg_mysql::recordings::{Recording, play};
use thalweg_testkit::binlog::logs::Log;

use super::left;

const ROW_BYTES_MAX: u64 = 1 << 20;

/// A log that is played whenever a stream is opened. A place is the number of commits before it.
#[derive(Clone, Debug)]
pub(super) struct Played {
    file: Arc<[u8]>,
    pub(super) tables: Vec<TableSchema>,
    /// Whether the log does not say it all of its tables. One that does is asked again each time,
    /// because a table may be altered in the middle of it.
    given: bool,
    /// How many transactions come whole.
    pub(super) commits: usize,
    /// How many events of each type there are.
    pub(super) events: BTreeMap<u8, u64>,
}

impl Played {
    pub(super) fn new(log: &Log, part_bytes: usize) -> Played {
        let limits = StreamLimits {
            part_bytes,
            row_bytes_max: ROW_BYTES_MAX,
        };
        let learned = play(&log.file, None, limits);
        let tables = left::described(&log.name, learned.tables.clone());
        let mut played = Played {
            file: log.file.as_slice().into(),
            given: tables != learned.tables,
            tables,
            commits: 0,
            events: BTreeMap::new(),
        };
        let whole = played.play(limits);
        match &whole.end {
            Ok(()) => assert_eq!(log.end, "", "{}", log.name),
            Err(error) => assert_ne!(log.end, "", "{}: {}", log.name, error.chain()),
        }
        played.commits = whole
            .transactions
            .iter()
            .filter(|t| t.commit.is_some())
            .count();
        played.events = whole.events;
        played
    }

    fn play(&self, limits: StreamLimits) -> Recording {
        play(&self.file, self.given.then_some(&self.tables), limits)
    }
}

fn number(at: &Position) -> Result<usize> {
    at.as_str()
        .parse()
        .map_err(|_| Error::bug("a place of another source"))
}

#[async_trait]
impl Inspect for Played {
    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        Ok(self.tables.iter().map(|table| table.name.clone()).collect())
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        let asked = |table: &&TableSchema| tables.contains(&table.name);
        Ok(self.tables.iter().filter(asked).cloned().collect())
    }
}

#[async_trait]
impl Source for Played {
    async fn check(&self, _: &[TableName]) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn secure(&self, _: &[TableName]) -> Result<Position> {
        Ok(Position::new("0"))
    }

    async fn read(&self, _: &Chunk, _: &Position, _: StreamLimits) -> Result<Box<dyn ChunkReader>> {
        Ok(Box::new(Nothing(Visibility::new("0"))))
    }

    fn contains(&self, _: &Visibility, _: &TxId) -> Result<bool> {
        Ok(false)
    }

    fn passed(&self, _: &Position, _: &Visibility) -> Result<bool> {
        Ok(true)
    }

    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>> {
        Ok(vec![false; seen.len()])
    }

    async fn head(&self) -> Result<Position> {
        Ok(Position::new(self.commits.to_string()))
    }

    fn reached(&self, at: &Position, mark: &Position) -> Result<bool> {
        Ok(number(at)? >= number(mark)?)
    }

    async fn backlog_bytes(&self, _: &Position) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn stream(
        &self,
        from: &Position,
        _: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<(Box<dyn ChangeStream>, Box<dyn Confirm>)> {
        let limits = StreamLimits {
            row_bytes_max: ROW_BYTES_MAX,
            ..limits
        };
        let played = self.play(limits);
        let (mut commits, from) = (0, number(from)?);
        let mut parts = Vec::new();
        for mut part in played.transactions {
            let wanted = commits >= from;
            if let Some(commit) = &mut part.commit {
                commits += 1;
                commit.position = Position::new(commits.to_string());
            }
            if wanted {
                parts.push(part);
            }
        }
        let stream = Stream {
            parts: parts.into_iter(),
            end: played.end.err(),
        };
        Ok((Box::new(stream), Box::new(Unheard)))
    }

    async fn release(&self) -> Result<()> {
        Ok(())
    }
}

/// An empty table.
struct Nothing(Visibility);

#[async_trait]
impl ChunkReader for Nothing {
    fn visibility(&self) -> &Visibility {
        &self.0
    }

    async fn next(&mut self, into: &mut RowBatch) -> Result<bool> {
        into.clear();
        Ok(false)
    }
}

/// What is left of a log, and how it ends.
struct Stream {
    parts: std::vec::IntoIter<Transaction>,
    end: Option<Error>,
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<Transaction> {
        match (self.parts.next(), self.end.take()) {
            (Some(part), end) => {
                self.end = end;
                Ok(part)
            }
            (None, Some(error)) => Err(error),
            (None, None) => std::future::pending().await,
        }
    }
}

/// A log is nobody who keeps anything.
struct Unheard;

#[async_trait]
impl Confirm for Unheard {
    async fn confirm(&mut self, _: &Position) -> Result<()> {
        Ok(())
    }
}
