//! What the source's foreign keys do and its log does not have ([`Cascade`]s that are `derived`).
//!
//! The values of a parent's rows that went, or whose referenced columns changed, are put into a
//! temporary table. Per foreign key, one statement notes in the temporary table of the child, if that
//! is a parent itself, what the rows it is about to change have and will have; a second one changes
//! them. So it goes on until nothing changes any more. A level number tells apart what belongs
//! together: a row that went is not found again, so even a table that references itself comes to an
//! end.
//!
//! A parent has two temporary tables, used in turn from level to level, because MySQL takes one only
//! once in a statement (<https://dev.mysql.com/doc/refman/8.0/en/temporary-table-problems.html>).
//! Making one does not commit.
//!
//! A delete is followed *before* the parent's rows go and an update after it, because the target may
//! have made some of the keys meanwhile (at the end of the load): a child that the target's own key
//! had removed could not lead to its children any more.

use thalweg_core::batch::{ApplyBatch, RowOp};
use thalweg_core::plan::{Cascade, Plan, no_old_value};
use thalweg_core::schema::ReferenceAction;
use thalweg_core::value::{CellRef, RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result};

use super::rules::Rules;
use super::session::{Session, quote};
use super::table::{Pack, Table};

/// The tables of the plan, all of them known.
pub(super) type Tables = [Option<(Table, Rules)>];

const GONE: &str = "1";
const CHANGED: &str = "2";

/// Follows the derived cascades of a plan.
#[derive(Debug)]
pub(super) struct Follower {
    /// Per target of the plan, the columns that any derived cascade references; none if none does.
    referenced: Vec<Vec<usize>>,
    /// Temporary tables that the session has.
    made: Vec<Staging>,
    /// The last level given out.
    level: u64,
}

/// A temporary table: whose, and which of its two.
type Staging = (usize, bool);

/// A row before and, unless it went, after.
pub(super) type Moved = (usize, Option<usize>);

impl Follower {
    /// `None`: no cascade of the plan is derived.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        let derived = |target: usize| plan.cascades_from(target).filter(|c| c.derived);
        let columns = |target: usize| -> Vec<usize> {
            let columns = derived(target).flat_map(|c| c.parent_columns.iter().copied());
            let mut columns: Vec<usize> = columns.collect();
            columns.sort_unstable();
            columns.dedup();
            columns
        };
        let referenced: Vec<_> = (0..plan.targets.len()).map(columns).collect();
        referenced
            .iter()
            .any(|c| !c.is_empty())
            .then_some(Follower {
                referenced,
                made: Vec::new(),
                level: 0,
            })
    }

    /// Whether an operation on a table has to be followed.
    pub(super) fn follows(plan: &Plan, rows: &RowBatch, target: usize, op: &RowOp) -> bool {
        let mut cascades = plan.cascades_from(target).filter(|c| c.derived);
        cascades.any(|cascade| cascade.fires(rows, op))
    }

    /// Changes the children, and theirs, of rows of one table of a batch.
    pub(super) async fn follow(
        &mut self,
        session: &mut Session,
        plan: &Plan,
        tables: &Tables,
        batch: &ApplyBatch,
        target: usize,
        moved: &[Moved],
    ) -> Result<()> {
        if self.columns(target).is_empty() || moved.is_empty() {
            return Ok(());
        }
        let first = (target, false);
        self.make(session, tables, first).await?;
        self.level += 1;
        self.stage(session, tables, &batch.rows, first, moved)
            .await?;
        let mut waiting = vec![(first, self.level)];
        while let Some((parent, level)) = waiting.pop() {
            let open = |c: &&Cascade| c.derived && !batch.kept.contains(&c.child);
            for cascade in plan.cascades_from(parent.0).filter(open) {
                let child = (cascade.child, !parent.1);
                if !self.columns(child.0).is_empty() {
                    self.make(session, tables, child).await?;
                }
                for op in [GONE, CHANGED] {
                    self.level += 1;
                    let step = Step::new(self, tables, cascade, op, (parent, level), child)?;
                    if let Some(step) = step
                        && step.run(session).await?
                    {
                        waiting.push((child, self.level));
                    }
                }
            }
        }
        self.empty(session, tables).await
    }

    fn columns(&self, target: usize) -> &[usize] {
        self.referenced.get(target).map_or(&[], Vec::as_slice)
    }

    async fn make(
        &mut self,
        session: &mut Session,
        tables: &Tables,
        staging: Staging,
    ) -> Result<()> {
        if self.made.contains(&staging) {
            return Ok(());
        }
        let table = of(tables, staging.0)?;
        let columns = self.columns(staging.0).iter().enumerate();
        let fields = columns.map(|(n, &column)| {
            let name = table.column(column);
            format!("t.{name} AS o{n}, t.{name} AS n{n}")
        });
        let fields = fields.collect::<Vec<_>>().join(", ");
        // The types of the columns; by the outer join they take NULL.
        let make = format!(
            "CREATE TEMPORARY TABLE {} (number bigint unsigned AUTO_INCREMENT PRIMARY KEY, \
             level bigint unsigned, op tinyint) SELECT {fields} \
             FROM (SELECT 1) one LEFT JOIN {} t ON FALSE LIMIT 0",
            name(table, staging),
            table.name
        );
        session.run(&make).await.map_err(|error| {
            if error.kind() != Kind::Config {
                return error;
            }
            error.with_hint(format!(
                "what foreign keys of the source change is worked out in temporary tables: GRANT \
                 CREATE TEMPORARY TABLES ON {}.* TO the user",
                quote(&table.target.name.schema)
            ))
        })?;
        self.made.push(staging);
        Ok(())
    }

    /// Puts rows of a batch into a temporary table, at the last level.
    async fn stage(
        &self,
        session: &mut Session,
        tables: &Tables,
        rows: &RowBatch,
        staging: Staging,
        moved: &[Moved],
    ) -> Result<()> {
        let table = of(tables, staging.0)?;
        let columns = self.columns(staging.0);
        let insert = insert(table, staging, columns.len()) + " VALUES ";
        let mut pack = Pack::new(insert, b",", "", &session.facts);
        for &(old, new) in moved {
            let (old, new) = (rows.row(old), new.map(|new| rows.row(new)));
            let put = |out: &mut Vec<u8>| {
                let op = if new.is_some() { CHANGED } else { GONE };
                out.extend_from_slice(format!("({}, {op}", self.level).as_bytes());
                for &column in columns {
                    out.push(b',');
                    put_old(table, column, old, out)?;
                    out.push(b',');
                    match new.and_then(|new| new.cell(column)) {
                        None => out.extend_from_slice(b"NULL"),
                        // A column that was not sent did not change.
                        Some(cell) if !cell.is_present() => put_old(table, column, old, out)?,
                        Some(cell) => table.put(column, cell, out)?,
                    }
                }
                out.push(b')');
                Ok(())
            };
            if pack.push(|out| put(&mut out.text))? {
                table.send(session, pack.sql()).await?;
            }
        }
        if pack.finish() {
            table.send(session, pack.sql()).await?;
        }
        Ok(())
    }

    async fn empty(&self, session: &mut Session, tables: &Tables) -> Result<()> {
        for &staging in &self.made {
            let table = of(tables, staging.0)?;
            session
                .run(&format!("DELETE FROM {}", name(table, staging)))
                .await?;
        }
        Ok(())
    }
}

/// The value by which children reference a row.
fn put_old(table: &Table, column: usize, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<()> {
    let cell = row.cell(column).unwrap_or(CellRef::Absent);
    if cell.is_present() {
        return table.put(column, cell, out);
    }
    Err(no_old_value(&table.target, column))
}

fn of(tables: &Tables, target: usize) -> Result<&Table> {
    let known = tables.get(target).and_then(Option::as_ref);
    let (table, _) = known.ok_or_else(|| Error::bug("a foreign key of an unknown table"))?;
    Ok(table)
}

/// The name of a temporary table.
fn name(table: &Table, (target, second): Staging) -> String {
    let schema = quote(&table.target.name.schema);
    format!("{schema}.`_thalweg_moved_{target}_{}`", u8::from(second))
}

/// The beginning of an `INSERT` into a temporary table.
fn insert(table: &Table, staging: Staging, columns: usize) -> String {
    let fields = (0..columns).map(|n| format!(", o{n}, n{n}"));
    let fields: String = fields.collect();
    format!("INSERT INTO {} (level, op{fields})", name(table, staging))
}

/// What one foreign key does to the children of staged rows.
struct Step<'a> {
    child: &'a Table,
    /// Notes the children in their own temporary table; `None`: nothing references them.
    note: Option<String>,
    change: String,
}

impl<'a> Step<'a> {
    /// `None`: nothing. What is noted gets the follower's last level.
    fn new(
        follower: &Follower,
        tables: &'a Tables,
        cascade: &Cascade,
        op: &str,
        (parent, level): (Staging, u64),
        staging: Staging,
    ) -> Result<Option<Self>> {
        let (above, child) = (of(tables, parent.0)?, of(tables, staging.0)?);
        let place = |column: &usize| follower.columns(parent.0).iter().position(|c| c == column);
        // The child's column, and where what it references is staged.
        let mut links = Vec::new();
        for (&column, from) in cascade.columns.iter().zip(&cascade.parent_columns) {
            let place = place(from).ok_or_else(|| Error::bug("a column that is not staged"))?;
            links.push((column, place));
        }
        let each = |form: &dyn Fn(&str, usize) -> String, between: &str| {
            let parts = links
                .iter()
                .map(|(c, place)| form(child.column(*c), *place));
            parts.collect::<Vec<_>>().join(between)
        };
        let on = each(&|name, place| format!("t.{name} = s.o{place}"), " AND ");
        let mut found = format!("s.level = {level} AND s.op = {op}");
        let action = if op == GONE {
            cascade.on_delete
        } else {
            let same = each(&|_, place| format!("s.o{place} <=> s.n{place}"), " AND ");
            found.push_str(&format!(" AND NOT ({same})"));
            cascade.on_update
        };
        let goes = op == GONE && action == ReferenceAction::Cascade;
        let value = |name: &str, place: usize| match action {
            ReferenceAction::Cascade => format!("s.n{place}"),
            ReferenceAction::SetDefault => format!("DEFAULT(t.{name})"),
            ReferenceAction::SetNull | ReferenceAction::Refuse => "NULL".to_owned(),
        };
        let joined = format!("{} t JOIN {} s ON {on}", child.name, name(above, parent));
        let change = if action == ReferenceAction::Refuse {
            return Ok(None);
        } else if goes {
            format!("DELETE t FROM {joined} WHERE {found}")
        } else {
            let set = each(
                &|name, place| format!("t.{name} = {}", value(name, place)),
                ", ",
            );
            format!("UPDATE {joined} SET {set} WHERE {found}")
        };
        let referenced = follower.columns(staging.0);
        let fields = referenced.iter().map(|column| {
            let name = child.column(*column);
            let link = links.iter().find(|(c, _)| c == column);
            let new = match link {
                _ if goes => "NULL".to_owned(),
                Some((_, place)) => value(name, *place),
                None => format!("t.{name}"),
            };
            format!(", t.{name}, {new}")
        });
        let fields: String = fields.collect();
        let op = if goes { GONE } else { CHANGED };
        let note = format!(
            "{} SELECT {}, {op}{fields} FROM {joined} WHERE {found}",
            insert(child, staging, referenced.len()),
            follower.level
        );
        Ok(Some(Step {
            child,
            note: (!referenced.is_empty()).then_some(note),
            change,
        }))
    }

    /// Whether there are children to be followed.
    async fn run(&self, session: &mut Session) -> Result<bool> {
        if let Some(note) = &self.note {
            let noted = self.child.send_text(session, note.as_bytes()).await?;
            if noted.iter().all(|w| w.rows == 0) {
                return Ok(false);
            }
        }
        self.child
            .send_text(session, self.change.as_bytes())
            .await?;
        Ok(self.note.is_some())
    }
}
