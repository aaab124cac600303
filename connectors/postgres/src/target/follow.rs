//! What the source's foreign keys do and its log does not have ([`Cascade`]s that are `derived`).
//!
//! The rows of a parent that went, or whose referenced columns changed, are put into a temporary
//! table, one per parent. One statement per foreign key then changes all children at once; the rows
//! it changed are put into the temporary table of the child, if that is a parent itself, and so on until
//! nothing changes any more. A level number tells apart what belongs together: a row that went is not
//! found again, so even a table that references itself comes to an end.
//!
//! A delete is followed *before* the parent's rows go and an update after it, because the target may
//! have made some of the keys meanwhile (at the end of the load): a child that the target's own key
//! had removed could not lead to its children any more.

use bytes::Bytes;
use futures_util::SinkExt as _;
use thalweg_core::batch::{ApplyBatch, RowOp};
use thalweg_core::plan::{Cascade, Plan, TargetTable, no_old_value};
use thalweg_core::schema::ReferenceAction;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result};
use tokio_postgres::{Client, Statement};

use super::bulk::{BulkError, nulls};
use super::encode::{HEADER, RowEncoder, TRAILER};
use super::stage::Stage;
use crate::error::convert;
use crate::schema::{quote, quote_table};

const GONE: i16 = 1;
const CHANGED: i16 = 2;

/// Follows the derived cascades of a plan.
pub(super) struct Follower {
    /// Per target of the plan; `None`: no derived cascade leads from it.
    parents: Vec<Option<Parent>>,
    /// The last level given out.
    level: i64,
}

/// A table that is referenced.
struct Parent {
    /// The columns that are referenced by any of its cascades.
    columns: Vec<usize>,
    table: TargetTable,
    encoder: RowEncoder,
    types: Stage,
    copy: Statement,
    links: Vec<Link>,
}

/// What one foreign key does; `None`: nothing.
struct Link {
    child: usize,
    on_delete: Option<Statement>,
    on_update: Option<Statement>,
}

/// A row before and, unless it went, after.
type Moved = (usize, Option<usize>);

impl Follower {
    /// Makes the temporary tables and prepares the statements; the plan's tables exist.
    pub(super) async fn new(client: &Client, plan: &Plan) -> Result<Self> {
        let mut parents: Vec<Option<Parent>> = Vec::new();
        for target in 0..plan.targets.len() {
            parents.push(Parent::new(client, plan, target).await?);
        }
        // Statements name the tables of their children.
        for cascade in plan.cascades.iter().filter(|cascade| cascade.derived) {
            let link = Link::new(client, plan, &parents, cascade).await?;
            let parent = parents.get_mut(cascade.parent).and_then(Option::as_mut);
            parent.ok_or_else(no_parent)?.links.push(link);
        }
        Ok(Follower { parents, level: 0 })
    }

    /// Whether an operation on a table has to be followed.
    pub(super) fn follows(plan: &Plan, rows: &RowBatch, target: usize, op: &RowOp) -> bool {
        let mut cascades = plan.cascades_from(target).filter(|c| c.derived);
        cascades.any(|cascade| cascade.fires(rows, op))
    }

    /// Changes the children, and theirs, of rows of one table of a batch.
    pub(super) async fn follow(
        &mut self,
        client: &Client,
        batch: &ApplyBatch,
        target: usize,
        moved: impl Iterator<Item = Moved>,
    ) -> Result<(), BulkError> {
        let Some(parent) = self.parents.get(target).and_then(Option::as_ref) else {
            return Ok(());
        };
        self.level += 1;
        if !parent.stage(client, &batch.rows, self.level, moved).await? {
            return Ok(());
        }
        let mut waiting = vec![(target, self.level)];
        while let Some((target, level)) = waiting.pop() {
            let Some(parent) = self.parents.get(target).and_then(Option::as_ref) else {
                continue;
            };
            let open = |link: &&Link| !batch.kept.contains(&link.child);
            for link in parent.links.iter().filter(open) {
                for statement in [&link.on_delete, &link.on_update].into_iter().flatten() {
                    self.level += 1;
                    let found = client.execute(statement, &[&level, &self.level]).await?;
                    if found > 0 {
                        waiting.push((link.child, self.level));
                    }
                }
            }
        }
        Ok(())
    }
}

fn no_parent() -> Error {
    Error::bug("a cascade from a table that has none")
}

fn stage_of(target: usize) -> String {
    format!("pg_temp.thalweg_moved_{target}")
}

impl Parent {
    async fn new(client: &Client, plan: &Plan, target: usize) -> Result<Option<Self>> {
        let mut columns: Vec<usize> = plan
            .cascades_from(target)
            .filter(|cascade| cascade.derived)
            .flat_map(|cascade| cascade.parent_columns.iter().copied())
            .collect();
        columns.sort_unstable();
        columns.dedup();
        let Some(table) = plan.targets.get(target).filter(|_| !columns.is_empty()) else {
            return Ok(None);
        };
        let types = Stage::of(client, table).await?;
        let mut fields = vec!["level bigint".to_owned(), "op smallint".to_owned()];
        for side in ["o", "n"] {
            let places = columns.iter().enumerate();
            fields.extend(places.map(|(n, column)| format!("{side}{n} {}", types.staged(*column))));
        }
        let create = format!(
            "CREATE TEMP TABLE thalweg_moved_{target} ({}) ON COMMIT DELETE ROWS",
            fields.join(", ")
        );
        client.batch_execute(&create).await.map_err(convert)?;
        let copy = format!("COPY {} FROM STDIN (FORMAT binary)", stage_of(target));
        Ok(Some(Parent {
            columns,
            table: table.clone(),
            encoder: RowEncoder::new(table),
            types,
            copy: client.prepare(&copy).await.map_err(convert)?,
            links: Vec::new(),
        }))
    }

    /// A referenced column's old (`o`) and new (`n`) value in the temporary table, as stored there.
    fn staged(&self, side: &str, column: usize) -> Option<String> {
        let place = self.columns.iter().position(|c| *c == column)?;
        Some(format!("s.{side}{place}"))
    }

    /// The same as a value of the column.
    fn value(&self, side: &str, column: usize) -> Option<String> {
        Some(self.types.value(column, &self.staged(side, column)?))
    }

    /// Copies rows into the temporary table; whether there were any.
    async fn stage(
        &self,
        client: &Client,
        rows: &RowBatch,
        level: i64,
        moved: impl Iterator<Item = Moved>,
    ) -> Result<bool, BulkError> {
        let width = i16::try_from(2 + 2 * self.columns.len())
            .map_err(|_| Error::bug("too many columns"))?;
        let mut bytes = HEADER.to_vec();
        let mut any = false;
        for (old, new) in moved {
            any = true;
            bytes.extend(width.to_be_bytes());
            bytes.extend(8i32.to_be_bytes());
            bytes.extend(level.to_be_bytes());
            bytes.extend(2i32.to_be_bytes());
            bytes.extend(new.map_or(GONE, |_| CHANGED).to_be_bytes());
            let old = rows.row(old);
            let columns = self.columns.iter().copied();
            let sent = |column: &usize| old.cell(*column).is_some_and(|cell| cell.is_present());
            if let Some(column) = columns.clone().find(|column| !sent(column)) {
                return Err(no_old_value(&self.table, column).into());
            }
            self.encoder.fields(old, columns.clone(), &mut bytes)?;
            match new.map(|new| rows.row(new)) {
                None => nulls(self.columns.len(), &mut bytes),
                Some(new) => {
                    for column in columns {
                        // A column that was not sent did not change.
                        let sent = new.cell(column).is_some_and(|cell| cell.is_present());
                        let row = if sent { new } else { old };
                        let column = std::iter::once(column);
                        self.encoder.fields(row, column, &mut bytes)?;
                    }
                }
            }
        }
        if !any {
            return Ok(false);
        }
        bytes.extend_from_slice(TRAILER);
        let sink = client.copy_in::<_, Bytes>(&self.copy).await?;
        let mut sink = Box::pin(sink);
        sink.send(Bytes::from(bytes)).await?;
        sink.as_mut().finish().await?;
        Ok(true)
    }
}

impl Link {
    async fn new(
        client: &Client,
        plan: &Plan,
        parents: &[Option<Parent>],
        cascade: &Cascade,
    ) -> Result<Self> {
        let prepare = async |sql: Option<String>| match sql {
            Some(sql) => client.prepare(&sql).await.map(Some).map_err(convert),
            None => Ok(None),
        };
        Ok(Link {
            child: cascade.child,
            on_delete: prepare(statement(plan, parents, cascade, GONE)?).await?,
            on_update: prepare(statement(plan, parents, cascade, CHANGED)?).await?,
        })
    }
}

/// The statement that changes the children. `$1` is the level of the parent's rows, `$2` that of the
/// children's.
fn statement(
    plan: &Plan,
    parents: &[Option<Parent>],
    cascade: &Cascade,
    op: i16,
) -> Result<Option<String>> {
    let parent = parents.get(cascade.parent).and_then(Option::as_ref);
    let parent = parent.ok_or_else(no_parent)?;
    let child = plan.targets.get(cascade.child);
    let child = child.ok_or_else(|| Error::bug("a cascade to a table the plan does not know"))?;
    let name = |column: usize| child.columns.get(column).map(|c| quote(&c.name));
    // Referencing column, its name, and what it references.
    let mut pairs = Vec::new();
    for (column, referenced) in cascade.columns.iter().zip(&cascade.parent_columns) {
        let name = name(*column).ok_or_else(no_parent)?;
        pairs.push((*column, name, *referenced));
    }
    let list = |form: &dyn Fn(&str, usize) -> Option<String>, between: &str| {
        let each = pairs.iter().map(|(_, name, from)| form(name, *from));
        let each: Option<Vec<_>> = each.collect();
        each.map(|each| each.join(between)).ok_or_else(no_parent)
    };
    let stage = stage_of(cascade.parent);
    let same = |name: &str, from| Some(format!("t.{name} = {}", parent.value("o", from)?));
    let mut found = format!(
        "s.level = $1::int8 AND s.op = {op} AND {}",
        list(&same, " AND ")?
    );
    let action = if op == GONE {
        cascade.on_delete
    } else {
        let (old, new) = (
            list(&|_, from| parent.staged("o", from), ", ")?,
            list(&|_, from| parent.staged("n", from), ", ")?,
        );
        found.push_str(&format!(" AND ROW({old}) IS DISTINCT FROM ROW({new})"));
        cascade.on_update
    };
    let table = quote_table(&child.name);
    let set = |value: &dyn Fn(usize) -> Option<String>| {
        let set = list(
            &|name, from| Some(format!("{name} = {}", value(from)?)),
            ", ",
        )?;
        Ok::<_, Error>(format!(
            "UPDATE {table} t SET {set} FROM {stage} s WHERE {found}"
        ))
    };
    let constant = |text: &'static str| move |_| Some(text.to_owned());
    let (sql, deletes) = match action {
        ReferenceAction::Refuse => return Ok(None),
        ReferenceAction::Cascade if op == GONE => {
            let sql = format!("DELETE FROM {table} t USING {stage} s WHERE {found}");
            (sql, true)
        }
        ReferenceAction::Cascade => (set(&|from| parent.value("n", from))?, false),
        ReferenceAction::SetNull => (set(&constant("NULL"))?, false),
        ReferenceAction::SetDefault => (set(&constant("DEFAULT"))?, false),
    };
    // `$2` is used in any case, so that all statements take the same parameters.
    let below = parents.get(cascade.child).and_then(Option::as_ref);
    let Some(below) = below else {
        return Ok(Some(format!("{sql} AND $2::int8 IS NOT NULL")));
    };
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (place, column) in below.columns.iter().enumerate() {
        let name = name(*column).ok_or_else(no_parent)?;
        let staged = below.types.staged(*column);
        // What RETURNING gives is the row as it is now; what it referenced is in the staged row.
        let old = pairs.iter().find(|(c, ..)| c == column && !deletes);
        let old = match old {
            Some((_, _, from)) => parent.value("o", *from).ok_or_else(no_parent)?,
            None => format!("t.{name}"),
        };
        fields.push(format!("({old})::{staged} AS o{place}"));
        columns.push(format!("o{place}"));
        if !deletes {
            fields.push(format!("t.{name}::{staged} AS n{place}"));
            columns.push(format!("n{place}"));
        }
    }
    let (fields, columns) = (fields.join(", "), columns.join(", "));
    let op = if deletes { GONE } else { CHANGED };
    Ok(Some(format!(
        "WITH m AS ({sql} RETURNING {fields}) INSERT INTO {} (level, op, {columns}) \
         SELECT $2::int8, {op}, {columns} FROM m",
        stage_of(cascade.child)
    )))
}
