//! What the source's foreign keys do and its log does not have ([`Cascade`]s that are `derived`).
//!
//! A batch with a change that is followed is applied row by row. A delete is followed before the
//! parent's row goes, from the deepest children up: each path of keys is one statement that joins from
//! the parent's row along it. An update is followed after it, from the parent down, by the old and
//! the new values; where a key of the target has done it already, it finds nothing to do. Paths end
//! where there are no rows, and at the depth at which InnoDB itself gives up
//! (<https://dev.mysql.com/doc/refman/8.0/en/create-table-foreign-keys.html>), so that tables that
//! reference themselves come to an end.

use thalweg_core::batch::{RowOp, TableOp};
use thalweg_core::plan::{Cascade, Plan};
use thalweg_core::schema::ReferenceAction;
use thalweg_core::value::{RowBatch, RowRef};
use thalweg_core::{Error, Result, Side};

use super::session::Session;
use super::table::{Rules, Table};

/// Levels of children that InnoDB follows.
const DEPTH_MAX: usize = 15;

/// The tables of the plan, all of them known.
pub(super) type Tables = [Option<(Table, Rules)>];

/// Whether an operation is followed.
pub(super) fn fires(plan: &Plan, rows: &RowBatch, op: &TableOp) -> bool {
    let mut cascades = plan.cascades_from(op.target).filter(|c| c.derived);
    !op.unchecked && cascades.any(|cascade| cascade.fires(rows, &op.op))
}

fn of(tables: &Tables, target: usize) -> Result<&Table> {
    let known = tables.get(target).and_then(Option::as_ref);
    let (table, _) = known.ok_or_else(|| Error::bug("a foreign key of an unknown table"))?;
    Ok(table)
}

/// Follows an operation whose parent row is still there (a delete) or is there again (an update).
pub(super) async fn follow(
    session: &mut Session,
    plan: &Plan,
    tables: &Tables,
    rows: &RowBatch,
    op: &TableOp,
) -> Result<()> {
    match op.op {
        RowOp::Delete(row) => delete(session, plan, tables, op.target, rows.row(row)).await,
        RowOp::Update { before, after } => {
            let images = (rows.row(before), rows.row(after));
            update(session, plan, tables, op.target, images).await
        }
        RowOp::Insert(_) | RowOp::Truncate => Ok(()),
    }
}

async fn delete(
    session: &mut Session,
    plan: &Plan,
    tables: &Tables,
    target: usize,
    row: RowRef<'_>,
) -> Result<()> {
    let mut paths: Vec<Vec<&Cascade>> = Vec::new();
    let mut open: Vec<Vec<&Cascade>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let last = path.last().map_or(target, |cascade| cascade.child);
        let acts = |c: &&Cascade| c.derived && c.on_delete != ReferenceAction::Refuse;
        for cascade in plan.cascades_from(last).filter(acts) {
            let longer = [path.as_slice(), &[cascade]].concat();
            let mut any = b"SELECT 1 FROM ".to_vec();
            join(tables, target, row, &longer, &mut any)?;
            any.extend_from_slice(b" LIMIT 1");
            if longer.len() > DEPTH_MAX || session.first::<u8>(&any).await?.is_none() {
                continue;
            }
            if cascade.on_delete == ReferenceAction::Cascade {
                open.push(longer.clone());
            }
            paths.push(longer);
        }
    }
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in &paths {
        let Some(cascade) = path.last() else { continue };
        let child = of(tables, cascade.child)?;
        let alias = format!("a{}", path.len());
        let sql = if cascade.on_delete == ReferenceAction::Cascade {
            let mut sql = format!("DELETE {alias} FROM ").into_bytes();
            join(tables, target, row, path, &mut sql)?;
            sql
        } else {
            let null = |&column: &usize| format!("{alias}.{} = NULL", child.column(column));
            let set: Vec<String> = cascade.columns.iter().map(null).collect();
            let mut joined = Vec::new();
            join(tables, target, row, path, &mut joined)?;
            // The condition comes after what is set.
            let at = joined.windows(WHERE.len()).position(|w| w == WHERE);
            let (from, condition) = joined.split_at(at.unwrap_or(joined.len()));
            let set = format!(" SET {}", set.join(", "));
            [b"UPDATE ", from, set.as_bytes(), condition].concat()
        };
        child.send(session, &sql).await?;
    }
    Ok(())
}

const WHERE: &[u8] = b" WHERE a0.";

/// `parent a0 JOIN child a1 ON … JOIN … WHERE a0.key = …`: the children at the end of a path.
fn join(
    tables: &Tables,
    target: usize,
    row: RowRef<'_>,
    path: &[&Cascade],
    out: &mut Vec<u8>,
) -> Result<()> {
    let parent = of(tables, target)?;
    out.extend_from_slice(format!("{} a0", parent.name).as_bytes());
    let mut above = parent;
    for (n, cascade) in path.iter().enumerate() {
        let child = of(tables, cascade.child)?;
        let pairs = cascade.columns.iter().zip(&cascade.parent_columns);
        let same: Vec<String> = pairs
            .map(|(&c, &p)| format!("a{}.{} = a{n}.{}", n + 1, child.column(c), above.column(p)))
            .collect();
        let on = same.join(" AND ");
        out.extend_from_slice(format!(" JOIN {} a{} ON {on}", child.name, n + 1).as_bytes());
        above = child;
    }
    place(parent, row, out)
}

/// ` WHERE a0.key = …`
fn place(parent: &Table, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<()> {
    if parent.target.key.is_empty() {
        return Err(Error::data(format!(
            "{} has no key, so what its foreign keys do cannot be followed",
            parent.target.name
        ))
        .with_hint("add a primary key to the target table")
        .at(Side::Target));
    }
    for (n, &column) in parent.target.key.iter().enumerate() {
        let word: &[u8] = if n == 0 { WHERE } else { b" AND a0." };
        out.extend_from_slice(word);
        out.extend_from_slice(parent.column(column).as_bytes());
        out.extend_from_slice(b" = ");
        let cell = row.cell(column);
        let cell = cell.ok_or_else(|| Error::bug("a row without its key"))?;
        parent.put(column, cell, out)?;
    }
    Ok(())
}

/// Rows whose columns have changed, all from and to the same values.
struct Changed {
    target: usize,
    /// Which rows: ` WHERE a0.…`, by what they have now.
    condition: Vec<u8>,
    /// Column, old and new value as literals.
    columns: Vec<(usize, Vec<u8>, Vec<u8>)>,
}

async fn update(
    session: &mut Session,
    plan: &Plan,
    tables: &Tables,
    target: usize,
    (old, new): (RowRef<'_>, RowRef<'_>),
) -> Result<()> {
    let parent = of(tables, target)?;
    let referenced = |column: &usize| {
        let mut cascades = plan.cascades_from(target).filter(|c| c.derived);
        cascades.any(|cascade| cascade.parent_columns.contains(column))
    };
    let mut columns = Vec::new();
    for column in (0..parent.width()).filter(referenced) {
        let (Some(was), Some(is)) = (old.cell(column), new.cell(column)) else {
            continue;
        };
        if !is.is_present() || was == is {
            continue;
        }
        if !was.is_present() {
            return Err(Error::data(format!(
                "the log does not have the old value of column {} of {}, which foreign keys \
                 reference",
                parent.column(column),
                parent.target.name
            ))
            .with_hint("SET GLOBAL binlog_row_image = 'FULL' at the source, and reset the task")
            .at(Side::Source));
        }
        let (mut from, mut to) = (Vec::new(), Vec::new());
        parent.put(column, was, &mut from)?;
        parent.put(column, is, &mut to)?;
        columns.push((column, from, to));
    }
    let mut condition = Vec::new();
    let moved = parent.target.key.iter();
    let whole = moved
        .clone()
        .all(|&c| new.cell(c).is_some_and(|c| c.is_present()));
    place(parent, if whole { new } else { old }, &mut condition)?;
    let mut open = vec![Changed {
        target,
        condition,
        columns,
    }];
    let mut level = 0;
    while !open.is_empty() && level < DEPTH_MAX {
        level += 1;
        let mut next = Vec::new();
        for changed in open {
            next.extend(step(session, plan, tables, &changed).await?);
        }
        open = next;
    }
    Ok(())
}

/// Changes the children of changed rows; gives those that changed to other values.
async fn step(
    session: &mut Session,
    plan: &Plan,
    tables: &Tables,
    changed: &Changed,
) -> Result<Vec<Changed>> {
    let parent = of(tables, changed.target)?;
    let mut out = Vec::new();
    let of_column = |column: usize| changed.columns.iter().find(|(c, ..)| *c == column);
    let acts = |c: &&Cascade| {
        let moved = c
            .parent_columns
            .iter()
            .any(|&column| of_column(column).is_some());
        c.derived && c.on_update != ReferenceAction::Refuse && moved
    };
    for cascade in plan.cascades_from(changed.target).filter(acts) {
        let child = of(tables, cascade.child)?;
        let mut on = Vec::new();
        let mut set = Vec::new();
        let mut columns = Vec::new();
        for (&own, &theirs) in cascade.columns.iter().zip(&cascade.parent_columns) {
            let word: &[u8] = if on.is_empty() {
                b" ON a1."
            } else {
                b" AND a1."
            };
            let name = child.column(own).as_bytes();
            let now = match of_column(theirs) {
                Some((_, from, to)) => {
                    on.extend([word, name, b" = ", from.as_slice()].concat());
                    columns.push((own, from.clone(), to.clone()));
                    to.as_slice()
                }
                None => {
                    let theirs = parent.column(theirs).as_bytes();
                    on.extend([word, name, b" = a0.", theirs].concat());
                    name
                }
            };
            let word: &[u8] = if set.is_empty() {
                b" SET a1."
            } else {
                b", a1."
            };
            match cascade.on_update {
                ReferenceAction::Cascade if now == name => {
                    set.extend([word, name, b" = a1.", name].concat());
                }
                ReferenceAction::Cascade => set.extend([word, name, b" = ", now].concat()),
                _ => set.extend([word, name, b" = NULL"].concat()),
            }
        }
        let tables = format!("UPDATE {} a0 JOIN {} a1", parent.name, child.name);
        let sql = [tables.as_bytes(), &on, &set, &changed.condition].concat();
        let written = child.send(session, &sql).await?;
        let found = written.iter().any(|w| w.rows > 0);
        if !found || cascade.on_update != ReferenceAction::Cascade {
            continue;
        }
        let mut condition = Vec::new();
        for (n, (column, _, to)) in columns.iter().enumerate() {
            let word: &[u8] = if n == 0 { WHERE } else { b" AND a0." };
            let name = child.column(*column).as_bytes();
            condition.extend([word, name, b" = ", to.as_slice()].concat());
        }
        out.push(Changed {
            target: cascade.child,
            condition,
            columns,
        });
    }
    Ok(out)
}
