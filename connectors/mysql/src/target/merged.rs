//! Target tables that several sources fill.
//!
//! Which sources have a row of a key is kept in a table beside the checkpoint, one per merged table
//! (the *side table*, see [`super::side`]): the key (`k0`, `k1` …), a bit per source (`sources`), and
//! where the task has a row owner the columns (`c0`, `c1` …) of rows that wait for the owner's. It is
//! written in the same transaction as the rows.
//!
//! Everything is done by statements over a staging table, for one row as for many. It is temporary,
//! one per source of a table and session, beside the checkpoint. Its rows say what to do (`op`), under
//! which key (`o0`, `o1` …), and what the row is to be (`c0`, `c1` …); of an image that leaves columns
//! out, `sent` has a character for each column of the source: 1 if it is there. Each statement is
//! about one source, so it touches that source's bit and columns only, and a row as such when the
//! first bit comes or the last one goes. The order is:
//!
//! 1. A row that moves takes the cells that were not sent from where it is now.
//! 2. Rows leave: the bit goes; the row is removed if it is not shown any more (with an owner, what
//!    others have in it is put aside), otherwise the source's columns return to their defaults.
//! 3. Rows change under their key.
//! 4. Rows come: the bit is set, and the row made or written over. With the owner's row comes what
//!    was put aside.
//!
//! Loaders of one table take turns ([`super::loader`]). A row that is made meets no
//! other one: it is found by its key before, and whatever else of it has to be unique and is not
//! makes the statement fail.
//!
//! Where the target takes different keys for equal, rows of different sources meet, and two rows of
//! one source must not: the task stops.

mod statements;

use std::collections::BTreeSet;

use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::plan::Plan;
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result, Side};

use super::Owner;
use super::error::convert_for;
use super::place::Place;
use super::rules::Rules;
use super::session::{Session, quote};
use super::side::{self, Types};
use super::table::{Pack, Table};
use statements::{Names, Sql};

/// A row leaves.
const DELETE: u8 = 1;
/// A row changes under its key.
const UPDATE: u8 = 2;
/// A row comes.
const INSERT: u8 = 3;
/// An update with some of the columns.
const PATCH: u8 = 4;
/// A row changes its key; not found yet.
const MOVE: u8 = 5;
/// The same, found and made whole.
const MOVED: u8 = 6;

/// How the rows of one source of a merged table are written in one session.
pub(super) struct Merged {
    table: Table,
    /// The columns the source fills.
    columns: Vec<usize>,
    /// Whether the target may take different keys for equal.
    folds: bool,
    sql: Sql,
    /// Rows on their way into the staging table.
    pack: Pack<'static>,
    staged: Staged,
}

/// What is staged; nothing is sent for a kind there is none of.
#[derive(Debug, Default)]
struct Staged {
    deletes: u64,
    updates: u64,
    inserts: u64,
    moves: u64,
    /// What was sent of moved rows, and of others, that are not whole: each once.
    moved: BTreeSet<String>,
    patched: BTreeSet<String>,
}

impl Merged {
    /// Creates the staging table.
    pub(super) async fn new(
        session: &mut Session,
        (owner, place): (&Owner, &Place),
        plan: &Plan,
        (target, feed): (usize, usize),
    ) -> Result<Self> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        let columns = table.feeds.get(feed).map(|feed| feed.columns.clone());
        let columns = columns.ok_or_else(|| Error::bug("no such feed"))?;
        let types = Types::read(session, table).await?;
        let mut rules = Rules::read(session, &[table]).await?;
        let rules = rules.pop().unwrap_or_default();
        let stage = place.quoted(&format!("merge_{target}_{feed}"));
        let create = create_stage(&stage, &table.key, &columns, &types);
        if let Err(error) = session.run(&create).await {
            return Err(match error.kind() {
                Kind::Config => error.with_hint(format!(
                    "several tables are mapped to {}, which takes a temporary table: GRANT CREATE \
                     TEMPORARY TABLES ON {}.* TO the user",
                    table.name,
                    quote(&place.database)
                )),
                _ => error,
            });
        }
        let mut key = table.key.iter().filter_map(|c| table.columns.get(*c));
        let folds = key.any(|column| column.folds);
        let table_of = Table::new(table, session.facts.flavor)?;
        let sql = Sql::new(Names {
            table: table.clone(),
            feed,
            keeps: !plan.operations.delete,
            touched: rules.touched,
            stage,
            target: table_of.name.clone(),
            side: side::quoted(place, &owner.task, &table.name),
        });
        Ok(Merged {
            table: table_of,
            columns,
            folds,
            pack: Pack::new(sql.fill.clone(), b",", "", &session.facts),
            sql,
            staged: Staged::default(),
        })
    }

    /// Forgets what is staged.
    pub(super) async fn empty(&mut self, session: &mut Session) -> Result<()> {
        self.pack = Pack::new(self.sql.fill.clone(), b",", "", &session.facts);
        self.staged = Staged::default();
        self.run(session, &self.sql.empty).await.map(drop)
    }

    /// Stages a folded table, and nothing else.
    pub(super) async fn stage(
        &mut self,
        session: &mut Session,
        rows: &RowBatch,
        folded: &FoldedTable,
    ) -> Result<()> {
        self.empty(session).await?;
        for row in &folded.deletes {
            self.row(session, DELETE, Some(rows.row(*row)), None)
                .await?;
        }
        for (before, after) in &folded.updates {
            let (old, new) = (rows.row(*before), rows.row(*after));
            let op = match (self.table.target.moves(old, new), self.is_whole(new)) {
                (true, _) => MOVE,
                (false, true) => UPDATE,
                (false, false) => PATCH,
            };
            self.row(session, op, Some(old), Some(new)).await?;
        }
        for row in &folded.inserts {
            self.insert(session, rows.row(*row)).await?;
        }
        self.flush(session).await
    }

    /// Stages a delete of every row the source has, and nothing else.
    pub(super) async fn stage_all(&mut self, session: &mut Session) -> Result<()> {
        self.empty(session).await?;
        self.staged.deletes = self.run(session, &self.sql.all).await?;
        Ok(())
    }

    /// Stages a row that comes.
    pub(super) async fn insert(&mut self, session: &mut Session, row: RowRef<'_>) -> Result<()> {
        if !self.is_whole(row) {
            return Err(Error::bug("a row to insert is not whole"));
        }
        self.row(session, INSERT, None, Some(row)).await
    }

    /// Brings to the server what is staged; rows that come, so far.
    pub(super) async fn finish(&mut self, session: &mut Session) -> Result<u64> {
        self.flush(session).await?;
        Ok(self.staged.inserts)
    }

    /// Lets rows leave: the staged deletes, and moved rows at their old keys.
    pub(super) async fn delete(
        &mut self,
        session: &mut Session,
        counts: &mut TableCounts,
    ) -> Result<()> {
        let mut leaving = self.staged.deletes;
        if self.staged.moves > 0 {
            leaving += self.run(session, &self.sql.moves).await?;
            for sent in &self.staged.moved {
                leaving += self.run(session, &self.sql.fill_moves(sent)).await?;
            }
        }
        if leaving == 0 {
            return Ok(());
        }
        let left = self.run(session, &self.sql.forget).await?;
        counts.missing += leaving.saturating_sub(left);
        self.run(session, &self.sql.leave).await.map(drop)
    }

    /// Writes the staged updates and lets rows come, moved ones at their new keys.
    pub(super) async fn write(
        &mut self,
        session: &mut Session,
        counts: &mut TableCounts,
    ) -> Result<()> {
        let coming = self.staged.inserts + self.staged.moves > 0;
        if coming && self.folds {
            self.refuse_any(session, &self.sql.strangers).await?;
        }
        // Signs of drift first: a row that comes and is there, one that changes and is not.
        let mut updates = self.staged.updates;
        let mut inserts = self.staged.inserts;
        if inserts > 0 {
            let met = self.run(session, &self.sql.met).await?;
            counts.repaired += met;
            updates += met;
        }
        if updates + self.staged.moves > 0 || !self.staged.patched.is_empty() {
            let whole = self.run(session, &self.sql.lost_whole).await?;
            counts.repaired += whole;
            inserts += whole;
            counts.missing += self.run(session, &self.sql.lost).await?;
        }
        if updates > 0 {
            self.run(session, &self.sql.update).await?;
        }
        for sent in &self.staged.patched {
            self.run(session, &self.sql.patch(sent)).await?;
        }
        if inserts + self.staged.moves == 0 {
            return Ok(());
        }
        if self.folds {
            self.refuse_any(session, &self.sql.twins).await?;
        }
        self.run(session, &self.sql.note).await?;
        self.run(session, &self.sql.come).await.map(drop)
    }

    /// Runs statements; the rows they found or wrote.
    async fn run(&self, session: &mut Session, sql: &str) -> Result<u64> {
        if sql.is_empty() {
            return Ok(0);
        }
        let written = self.table.send_text(session, sql.as_bytes()).await?;
        Ok(written.iter().map(|written| written.rows).sum())
    }

    /// `Data` error if a question has an answer.
    async fn refuse_any(&self, session: &mut Session, question: &str) -> Result<()> {
        if session.first::<u8>(question).await?.is_none() {
            return Ok(());
        }
        let name = &self.table.target.name;
        Err(Error::data(format!(
            "{name} takes the keys of two rows of one source table for equal"
        ))
        .with_hint(
            "give the target's key columns a collation that tells them apart \
             (utf8mb4_nopad_bin; MySQL 8: utf8mb4_0900_bin), or correct one of the rows at the \
             source",
        )
        .at(Side::Target))
    }

    /// Whether a row has all columns of its source.
    fn is_whole(&self, row: RowRef<'_>) -> bool {
        let mut cells = row.cells().enumerate();
        cells.all(|(n, cell)| cell.is_present() || !self.columns.contains(&n))
    }

    async fn row(
        &mut self,
        session: &mut Session,
        op: u8,
        old: Option<RowRef<'_>>,
        new: Option<RowRef<'_>>,
    ) -> Result<()> {
        let (old, cells) = (decoded(old), decoded(new));
        let sent = match new {
            Some(row) if !self.is_whole(row) => Some(self.sent(&cells)),
            _ => None,
        };
        let staged = &mut self.staged;
        match op {
            DELETE => staged.deletes += 1,
            UPDATE => staged.updates += 1,
            INSERT => staged.inserts += 1,
            MOVE => staged.moves += 1,
            _ => {}
        }
        let sent_kinds = match op {
            MOVE => &mut staged.moved,
            _ => &mut staged.patched,
        };
        if let Some(sent) = sent.as_ref().filter(|sent| !sent_kinds.contains(*sent)) {
            sent_kinds.insert(sent.clone());
        }
        let cells = self.staging_row(&old, &cells);
        let unlabelled = cells.iter().flatten();
        let unlabelled = unlabelled.filter(|(index, cell)| self.table.is_unlabelled(*index, *cell));
        let unlabelled = u16::try_from(unlabelled.count()).unwrap_or(u16::MAX);
        let put = |out: &mut Vec<u8>| {
            let sent = sent.map_or("NULL".to_owned(), |sent| format!("'{sent}'"));
            out.extend_from_slice(format!("({op},{sent}").as_bytes());
            for cell in cells {
                out.push(b',');
                match cell {
                    Some((index, cell)) => self.table.put(index, cell, out)?,
                    None => out.extend_from_slice(b"NULL"),
                }
            }
            out.push(b')');
            Ok(())
        };
        if unlabelled > 0 {
            let mut sql = self.sql.fill.clone().into_bytes();
            put(&mut sql)?;
            self.table.fits(sql.len(), &session.facts)?;
            let written = session.write_unlabelled(&sql, unlabelled).await;
            let refused = |error| convert_for(error, &self.table.target);
            return written.map(drop).map_err(refused);
        }
        if self.pack.push(|out| put(&mut out.text))? {
            self.table.send(session, self.pack.sql()).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, session: &mut Session) -> Result<()> {
        if self.pack.finish() {
            self.table.send(session, self.pack.sql()).await?;
        }
        Ok(())
    }

    /// What was sent of a row that is not whole.
    fn sent(&self, cells: &[CellRef<'_>]) -> String {
        let sent = |column: &usize| match cells.get(*column) {
            Some(cell) if cell.is_present() => '1',
            _ => '0',
        };
        self.columns.iter().map(sent).collect()
    }

    /// The cells of a staging row after `op` and `sent`, with the target columns they are of; `None`
    /// is NULL. What is to be found by its key now stands there; what comes stands there
    /// afterwards. The key a row is to have is whole.
    fn staging_row<'r>(
        &self,
        old: &[CellRef<'r>],
        new: &[CellRef<'r>],
    ) -> Vec<Option<(usize, CellRef<'r>)>> {
        let key = self.table.target.key.as_slice();
        let of = |row: &[CellRef<'r>], column: usize| {
            let cell = row.get(column).filter(|cell| cell.is_present());
            cell.map(|cell| (column, *cell))
        };
        let found = if old.is_empty() { new } else { old };
        let found = key.iter().map(|c| of(found, *c));
        let becomes = self.columns.iter().map(|c| {
            let stays = || of(old, *c).filter(|_| !new.is_empty() && key.contains(c));
            of(new, *c).or_else(stays)
        });
        found.chain(becomes).collect()
    }
}

/// The cells of a row; none of no row.
fn decoded(row: Option<RowRef<'_>>) -> Vec<CellRef<'_>> {
    row.map_or(Vec::new(), |row| row.cells().collect())
}

fn create_stage(stage: &str, key: &[usize], columns: &[usize], types: &Types) -> String {
    let mut fields = vec![
        "op tinyint NOT NULL".to_owned(),
        "sent text CHARACTER SET ascii COLLATE ascii_bin".to_owned(),
    ];
    let keys = key.iter().enumerate();
    fields.extend(keys.map(|(n, c)| format!("o{n} {} NULL", types.exact(*c))));
    fields.extend(columns.iter().map(|c| {
        let ty = match key.contains(c) {
            true => types.exact(*c).to_owned(),
            false => types.roomy(*c),
        };
        format!("c{c} {ty} NULL")
    }));
    format!(
        "CREATE TEMPORARY TABLE {stage} ({}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
        fields.join(", ")
    )
}
