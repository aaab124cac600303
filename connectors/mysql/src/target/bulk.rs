//! The bulk path: the net effect of a batch per table, in statements of many rows.
//!
//! - Deletes: by lists of keys.
//! - Updates: `INSERT … ON DUPLICATE KEY UPDATE` where that can mean nothing else: the row is whole
//!   and keeps its key, the primary key is the table's only unique key, inserts are selected and no
//!   trigger waits for one. Otherwise one `UPDATE` each, many of them in one packet. Not by a join on
//!   a derived table: that would give the values of a column one common type first, in which not
//!   every value is what it was.
//! - Inserts: of many rows, plainly. Who is there already is drift, and found by the row path.

use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::value::{RowBatch, RowRef};
use thalweg_core::{Error, Result};

use super::error::convert_for;
use super::session::Session;
use super::statement::Statement;
use super::table::{Pack, Rules, Table};

/// Removes the rows that go.
pub(super) async fn delete(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    rows: &RowBatch,
    folded: &FoldedTable,
    counts: &mut TableCounts,
) -> Result<()> {
    let key = table.names(table.target.key.iter().copied());
    let prefix = format!("DELETE FROM {} WHERE ({key}) IN (", table.name);
    let mut pack = Pack::new(prefix, b",", ")", &session.facts);
    let mut found = 0;
    for &row in &folded.deletes {
        if pack.push(|out| table.put_key(rows.row(row), &mut out.text))? {
            found += sent(session, table, &pack).await?;
        }
    }
    if pack.finish() {
        found += sent(session, table, &pack).await?;
    }
    if !rules.echoed {
        counts.missing += (folded.deletes.len() as u64).saturating_sub(found);
    }
    Ok(())
}

/// Sends the ready statement; the rows it found or wrote.
async fn sent(session: &mut Session, table: &Table, pack: &Pack<'_>) -> Result<u64> {
    let written = table.send(session, pack.sql()).await?;
    Ok(written.iter().map(|w| w.rows).sum())
}

/// Writes the rows that change and those that come.
pub(super) async fn write(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    rows: &RowBatch,
    folded: &FoldedTable,
    may_insert: bool,
    counts: &mut TableCounts,
) -> Result<()> {
    let after = |&(_, after): &(usize, usize)| table.unlabelled(rows.row(after)) > 0;
    if folded.updates.iter().any(after) {
        return Err(Error::data("such a value is written row by row"));
    }
    let overwrites = rules.only_primary && may_insert && !rules.insert_triggers;
    let key = &table.target.key;
    let overwritten = |&(before, after): &(usize, usize)| {
        let (old, new) = (rows.row(before), rows.row(after));
        overwrites && new.is_whole() && key.iter().all(|&c| same(old, new, c))
    };
    let (simple, others): (Vec<_>, Vec<_>) = folded.updates.iter().copied().partition(overwritten);
    // A statement of one row does not tell whether it inserted or changed it.
    let (simple, mut others) = match simple.len() {
        1 => (Vec::new(), [others, simple].concat()),
        _ => (simple, others),
    };
    let alone = overwrite(session, table, rows, &simple, counts).await?;
    others.extend(alone);
    let lacking = update(session, table, rules, rows, &others).await?;
    if rules.echoed && !lacking.is_empty() {
        return Err(Error::data(
            "rows that a foreign key of the target has moved already are found one by one",
        ));
    }
    let mut inserts: Vec<usize> = Vec::new();
    for (before, after) in lacking {
        let (old, new) = (rows.row(before), rows.row(after));
        if may_insert && !new.is_whole() && new.is_whole_over(old) {
            return Err(Error::data("such a row is put together one by one"));
        }
        if may_insert && new.is_whole() {
            counts.repaired += 1;
            inserts.push(after);
        } else {
            counts.missing += 1;
        }
    }
    inserts.extend_from_slice(&folded.inserts);
    insert(session, table, inserts.iter().map(|&row| rows.row(row))).await?;
    Ok(())
}

fn same(a: RowRef<'_>, b: RowRef<'_>, cell: usize) -> bool {
    a.raw_cells().nth(cell) == b.raw_cells().nth(cell)
}

/// Overwrites rows by their primary key; those that were not there are counted as repaired. Gives
/// back rows that fill a statement alone.
async fn overwrite(
    session: &mut Session,
    table: &Table,
    rows: &RowBatch,
    updates: &[(usize, usize)],
    counts: &mut TableCounts,
) -> Result<Vec<(usize, usize)>> {
    let suffix = table.overwrite(session.facts.flavor);
    let mut pack = Pack::new(table.insert(), b",", &suffix, &session.facts);
    let mut alone = Vec::new();
    let mut waiting = updates;
    for index in 0..=updates.len() {
        let ready = match updates.get(index) {
            Some(&(_, after)) => pack.push(|out| table.put_values(rows.row(after), out))?,
            None => pack.finish(),
        };
        if !ready {
            continue;
        }
        let (packed, rest) = waiting.split_at(pack.packed());
        waiting = rest;
        if packed.len() == 1 {
            alone.extend_from_slice(packed);
            continue;
        }
        for written in table.send(session, pack.sql()).await? {
            let met = written
                .duplicates
                .ok_or_else(|| Error::bug("the server does not tell what it overwrote"))?;
            counts.repaired += (packed.len() as u64).saturating_sub(met);
        }
    }
    Ok(alone)
}

/// Changes rows; gives those that were not found.
async fn update(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    rows: &RowBatch,
    updates: &[(usize, usize)],
) -> Result<Vec<(usize, usize)>> {
    let mut pack = Pack::new(String::new(), b";", "", &session.facts);
    let mut lacking = Vec::new();
    let mut waiting = updates.iter();
    for index in 0..=updates.len() {
        let ready = match updates.get(index) {
            Some(&(before, after)) => {
                let (old, new) = (rows.row(before), rows.row(after));
                pack.push(|out| table.put_update(old, new, &rules.touched, out))?
            }
            None => pack.finish(),
        };
        if !ready {
            continue;
        }
        let written = table.send(session, pack.sql()).await?;
        if written.len() != pack.packed() {
            return Err(Error::bug(
                "the server answered other statements than were sent",
            ));
        }
        for written in written {
            let update = waiting.next();
            lacking.extend(update.filter(|_| written.rows == 0));
        }
    }
    Ok(lacking)
}

/// Inserts rows; how many.
pub(super) async fn insert<'a>(
    session: &mut Session,
    table: &Table,
    rows: impl Iterator<Item = RowRef<'a>>,
) -> Result<u64> {
    let mut pack = Pack::new(table.insert(), b",", "", &session.facts);
    let mut inserted = 0;
    for row in rows {
        if table.unlabelled(row) > 0 {
            let mut sql = Statement::from(table.insert());
            table.put_values(row, &mut sql)?;
            table.fits(sql.bytes(), &session.facts)?;
            let written = table.try_send(session, &sql, row).await;
            let written = written.map_err(|error| convert_for(error, &table.target))?;
            inserted += written.iter().map(|w| w.rows).sum::<u64>();
            continue;
        }
        if pack.push(|out| table.put_values(row, out))? {
            inserted += sent(session, table, &pack).await?;
        }
    }
    if pack.finish() {
        inserted += sent(session, table, &pack).await?;
    }
    Ok(inserted)
}
