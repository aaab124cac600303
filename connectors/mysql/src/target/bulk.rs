//! The bulk path: the net effect of a batch per table, in statements of many rows.
//!
//! Where a MariaDB lets us replay row events ([`super::event`]), rows that go, come, or change and keep
//! their key go as such. Otherwise:
//!
//! - Deletes: by lists of keys.
//! - Updates: `INSERT … ON DUPLICATE KEY UPDATE` where that can mean nothing else: the row is whole
//!   and keeps its key, the primary key is the table's only unique key, inserts are selected and no
//!   trigger waits for one. Otherwise one `UPDATE` each, many of them in one packet. Not by a join on
//!   a derived table: that would give the values of a column one common type first, in which not
//!   every value is what it was.
//! - Inserts: of many rows, as files ([`super::file`]) where that can be, otherwise plainly. Who is there
//!   already is drift, and found by the row path.

use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::value::{RowBatch, RowRef};
use thalweg_core::{Error, Result};

use super::error::convert_for;
use super::event::{self, Item};
use super::file;
use super::rules::Rules;
use super::session::{Session, Written};
use super::statement::Statement;
use super::table::{Pack, Table};

/// Removes the rows that go.
pub(super) async fn delete(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    rows: &RowBatch,
    folded: &FoldedTable,
    counts: &mut TableCounts,
) -> Result<()> {
    if !rules.echoed {
        let items: Vec<Item> = folded.deletes.iter().copied().map(Item::Delete).collect();
        if event::write(session, table, rows, &items).await? {
            return Ok(());
        }
    }
    let key = table.names(table.target.key.iter().copied());
    let prefix = format!("DELETE FROM {} WHERE ({key}) IN (", table.name);
    let pack = Pack::new(prefix, b",", ")", &session.facts);
    let mut found = 0;
    let put = |&row: &usize, out: &mut Statement<'_>| table.put_key(rows.row(row), &mut out.text);
    table
        .send_packed(session, pack, &folded.deletes, 1, put, |_, written| {
            found += sum(written);
            Ok(())
        })
        .await?;
    if !rules.echoed {
        counts.missing += (folded.deletes.len() as u64).saturating_sub(found);
    }
    Ok(())
}

/// The rows that statements found or wrote.
fn sum(written: Option<Vec<Written>>) -> u64 {
    written.iter().flatten().map(|w| w.rows).sum()
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
    let key = &table.target.key;
    let is_simple = |&(before, after): &(usize, usize)| {
        let (old, new) = (rows.row(before), rows.row(after));
        new.is_whole() && key.iter().all(|&c| same(old, new, c))
    };
    let mut updates = folded.updates.clone();
    if !rules.echoed {
        let (simple, others): (Vec<_>, Vec<_>) = updates.iter().copied().partition(is_simple);
        let mut items: Vec<Item> = simple.iter().map(|&(_, row)| Item::Update(row)).collect();
        if others.is_empty() {
            items.extend(folded.inserts.iter().copied().map(Item::Insert));
        }
        if event::write(session, table, rows, &items).await? {
            if others.is_empty() {
                return Ok(());
            }
            updates = others;
        }
    }
    let overwrites = rules.only_primary && may_insert && !rules.insert_triggers;
    let (simple, others): (Vec<_>, Vec<_>) = updates
        .into_iter()
        .partition(|update| overwrites && is_simple(update));
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
async fn overwrite<'r>(
    session: &mut Session,
    table: &Table,
    rows: &'r RowBatch,
    updates: &[(usize, usize)],
    counts: &mut TableCounts,
) -> Result<Vec<(usize, usize)>> {
    let suffix = table.overwrite(session.facts.flavor);
    let pack = Pack::new(table.insert(), b",", &suffix, &session.facts);
    let mut alone = Vec::new();
    let put = |&(_, after): &(usize, usize), out: &mut Statement<'r>| {
        table.put_values(rows.row(after), out)
    };
    table
        .send_packed(session, pack, updates, 2, put, |packed, written| {
            let Some(written) = written else {
                alone.extend_from_slice(packed);
                return Ok(());
            };
            for written in written {
                let met = written
                    .duplicates
                    .ok_or_else(|| Error::bug("the server does not tell what it overwrote"))?;
                counts.repaired += (packed.len() as u64).saturating_sub(met);
            }
            Ok(())
        })
        .await?;
    Ok(alone)
}

/// Changes rows; gives those that were not found.
async fn update<'r>(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    rows: &'r RowBatch,
    updates: &[(usize, usize)],
) -> Result<Vec<(usize, usize)>> {
    let pack = Pack::new(String::new(), b";", "", &session.facts);
    let mut lacking = Vec::new();
    let put = |&(before, after): &(usize, usize), out: &mut Statement<'r>| {
        table.put_update(rows.row(before), rows.row(after), &rules.touched, out)
    };
    table
        .send_packed(session, pack, updates, 1, put, |packed, written| {
            let written = written.unwrap_or_default();
            if written.len() != packed.len() {
                return Err(Error::bug(
                    "the server answered other statements than were sent",
                ));
            }
            let found = packed.iter().zip(written);
            lacking.extend(
                found
                    .filter(|(_, w)| w.rows == 0)
                    .map(|(update, _)| *update),
            );
            Ok(())
        })
        .await?;
    Ok(lacking)
}

/// Inserts rows; how many.
pub(super) async fn insert<'r>(
    session: &mut Session,
    table: &Table,
    rows: impl Iterator<Item = RowRef<'r>>,
) -> Result<u64> {
    let rows: Vec<RowRef<'r>> = rows.collect();
    if event::insert(session, table, &rows).await? {
        return Ok(rows.len() as u64);
    }
    if file::takes(session, table, &rows)
        && let Some(inserted) = file::insert(session, table, &rows).await?
    {
        return Ok(inserted);
    }
    let mut inserted = 0;
    let alone = |row: &RowRef<'r>| table.unlabelled(*row) > 0;
    for run in rows.chunk_by(|a, b| alone(a) == alone(b)) {
        if run.first().is_some_and(alone) {
            for &row in run {
                let mut sql = Statement::from(table.insert());
                table.put_values(row, &mut sql)?;
                table.fits(sql.bytes(), &session.facts)?;
                let written = table.try_send(session, &sql, row).await;
                let written = written.map_err(|error| convert_for(error, &table.target))?;
                inserted += sum(Some(written));
            }
            continue;
        }
        let pack = Pack::new(table.insert(), b",", "", &session.facts);
        let put = |&row: &RowRef<'r>, out: &mut Statement<'r>| table.put_values(row, out);
        table
            .send_packed(session, pack, run, 1, put, |_, written| {
                inserted += sum(written);
                Ok(())
            })
            .await?;
    }
    Ok(inserted)
}
