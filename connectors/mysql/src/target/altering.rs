//! Target tables that follow their source tables.
//!
//! Every statement that alters a table commits by itself. So how the log is to be read is stored first,
//! which says what was begun, and the fingerprints last: whatever ends in between is done again, and finds
//! the columns that came already there.

use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::ports::{Alteration, Following};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName};
use thalweg_core::value::{CellRef, decode_raw};

use super::checkpoint::{self, Again};
use super::layouts;
use super::literal::Literal;
use super::place::find;
use super::session::{Flavor, Session, quote, text};
use super::table::quote_table;

/// The statements that take steps at a table.
pub(super) fn statements(
    table: &TableName,
    steps: &[Alteration],
    flavor: Flavor,
) -> std::result::Result<Vec<String>, String> {
    let table = quote_table(table);
    let step = |step: &Alteration| {
        Ok(match step {
            Alteration::Add { column, fill } => {
                let (name, native) = (quote(&column.name), &column.native);
                let fill = decode_raw(fill).unwrap_or(CellRef::Null);
                let rest = match fill {
                    // Rows may be there that have none.
                    CellRef::Null => " NULL".to_owned(),
                    fill => {
                        let null = if column.nullable {
                            " NULL"
                        } else {
                            " NOT NULL"
                        };
                        format!("{null} DEFAULT {}", constant(column, fill, flavor)?)
                    }
                };
                format!("ALTER TABLE {table} ADD COLUMN {name} {native}{rest}")
            }
            Alteration::Retype(column) => {
                let moment = matches!(column.ty, ColumnType::Instant { .. });
                if !column.nullable && (column.has_default || moment) {
                    return Err(format!(
                        "column {} has a default or numbers rows at the target, which another type \
                         would take from it",
                        column.name
                    ));
                }
                let null = if column.nullable {
                    " NULL"
                } else {
                    " NOT NULL"
                };
                let (name, native) = (quote(&column.name), &column.native);
                let comment = match column.comment.as_str() {
                    "" => String::new(),
                    comment => format!(" COMMENT {}", text(comment)),
                };
                format!("ALTER TABLE {table} MODIFY COLUMN {name} {native}{null}{comment}")
            }
            Alteration::Remake => format!("DROP TABLE IF EXISTS {table}"),
            Alteration::Drop(name) => format!("ALTER TABLE {table} DROP COLUMN {}", quote(name)),
        })
    };
    steps.iter().map(step).collect()
}

/// A value as a column's default.
fn constant(
    column: &ColumnSchema,
    fill: CellRef<'_>,
    flavor: Flavor,
) -> std::result::Result<String, String> {
    let refused = || format!("the constant of column {} cannot be written", column.name);
    if let (ColumnType::Enum { .. } | ColumnType::Set { .. }, CellRef::Text(label)) =
        (&column.ty, fill)
    {
        return Ok(text(label));
    }
    let literal = Literal::of(column, flavor.maria).ok_or_else(refused)?;
    if matches!(
        literal,
        Literal::Bits(_) | Literal::Geometry | Literal::Other
    ) {
        return Err(refused());
    }
    let mut out = Vec::new();
    let put = literal.put(fill, &mut out);
    put.map_err(|why| format!("{}: {why}", refused()))?;
    let out = String::from_utf8(out).map_err(|_| refused())?;
    // Long types take a default only as an expression.
    let kind = column.native.split(['(', ' ']).next().unwrap_or_default();
    let long = kind.ends_with("text") || kind.ends_with("blob") || kind == "json";
    Ok(if long { format!("({out})") } else { out })
}

/// Alters tables and notes it. Repeatable.
pub(super) async fn follow(
    session: &mut Session,
    task: &TaskKey,
    following: &Following,
) -> Result<()> {
    let Some(place) = find(session, task).await? else {
        return Ok(());
    };
    layouts::put(session, &place, task, &following.layouts).await?;
    for (table, _) in &following.fingerprints {
        checkpoint::unnote_relation(session, &place, task, table).await?;
    }
    session.run("COMMIT").await?;
    for statement in &following.statements {
        session.run(statement).await?;
    }
    checkpoint::wait_for_load(session, &place, task, &following.again, Again::AsBefore).await?;
    let note = format!(
        "UPDATE {} SET fingerprint = ? WHERE server = ? AND task = ? AND target_schema = ? \
         AND target_table = ?",
        place.tables()
    );
    for (table, fingerprint) in &following.fingerprints {
        let key = (
            fingerprint,
            &task.server,
            &task.task,
            &table.schema,
            &table.name,
        );
        session.exec(&note, key).await?;
    }
    let followed: Vec<TableName> = following
        .fingerprints
        .iter()
        .map(|(t, _)| t.clone())
        .collect();
    checkpoint::note_relations(session, &place, task, &followed).await
}
