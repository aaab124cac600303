//! Tables of a target in memory that are made and altered.
//!
//! Rows lie in the order of the plan that wrote them last, so they are laid anew when another plan is
//! prepared. A statement is a line of fields.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_core::checkpoint::TablePhase;
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Alteration, Following};
use thalweg_core::position::Layout;
use thalweg_core::schema::{ColumnSchema, TableName, TableSchema};
use thalweg_core::value::{CellRef, decode_raw};
use thalweg_core::{Error, Result};

use super::alter::{bits, column, native, takes};
use super::target::{Committed, waiting};
use super::{DEFAULT, NULL};

/// What a target does wrong when it follows a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slip {
    /// Nothing.
    #[default]
    None,
    /// It notes that tables have followed, and does not alter them.
    Statements,
    /// It forgets how rows lie in the log.
    Layouts,
    /// It forgets which tables are to be loaded again.
    Again,
    /// It forgets what rows that are there get in a new column.
    Fills,
    /// It does not note that tables have followed.
    Fingerprints,
}

/// The definitions a target keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tables {
    pub(super) schemas: BTreeMap<TableName, TableSchema>,
    /// The columns of rows, in their order.
    pub(super) columns: BTreeMap<TableName, Vec<String>>,
    /// Made by the task, and not live yet.
    pub(super) pending: BTreeSet<TableName>,
}

fn names(columns: &[ColumnSchema]) -> Vec<String> {
    columns.iter().map(|column| column.name.clone()).collect()
}

/// Makes an empty table.
pub(super) fn make(state: &mut Committed, table: TableSchema) {
    let name = table.name.clone();
    let columns = names(&table.columns);
    let tables = Arc::make_mut(&mut state.tables);
    tables.columns.insert(name.clone(), columns);
    tables.schemas.insert(name.clone(), table);
    state.store.tables.insert(name, BTreeMap::new());
}

/// Gives a table other columns, or makes it.
pub(super) fn define(state: &mut Committed, table: &TableSchema) {
    if !state.tables.schemas.contains_key(&table.name) {
        make(state, table.clone());
        return;
    }
    lay(state, &table.name, &names(&table.columns));
    let schemas = &mut Arc::make_mut(&mut state.tables).schemas;
    schemas.insert(table.name.clone(), table.clone());
    for (at, column) in table.columns.iter().enumerate() {
        let rows = state.store.tables.get_mut(&table.name).into_iter();
        let cells = rows.flat_map(|rows| rows.values_mut().filter_map(|row| row.get_mut(at)));
        for cell in cells {
            if !takes(bits(column), *cell) || (*cell == NULL && !column.nullable) {
                *cell = DEFAULT;
            }
        }
    }
}

/// Lays the rows of a table in this order of its columns; new ones are at their defaults.
fn lay(state: &mut Committed, table: &TableName, columns: &[String]) {
    let before = state.tables.columns.get(table).cloned().unwrap_or_default();
    if before == columns {
        return;
    }
    let schema = state.tables.schemas.get(table);
    let default = |name: &String| {
        let column = schema.and_then(|schema| schema.column(name));
        match column.is_some_and(|column| column.nullable && !column.has_default) {
            true => NULL,
            false => DEFAULT,
        }
    };
    let place = |name: &String| before.iter().position(|other| other == name);
    let places: Vec<_> = columns
        .iter()
        .map(|name| (place(name), default(name)))
        .collect();
    for row in state
        .store
        .tables
        .entry(table.clone())
        .or_default()
        .values_mut()
    {
        let cell = |(at, default): &(Option<usize>, i64)| {
            at.and_then(|at| row.get(at).copied()).unwrap_or(*default)
        };
        *row = places.iter().map(cell).collect();
    }
    let kept = &mut Arc::make_mut(&mut state.tables).columns;
    kept.insert(table.clone(), columns.to_vec());
}

/// Whether there is nothing to be done for a plan.
pub(super) fn is_prepared(state: &Committed, plan: &Plan) -> bool {
    let laid = |name: &TableName| state.tables.columns.get(name);
    plan.targets.iter().all(|target| {
        let names = target.columns.iter().map(|column| &column.name);
        laid(&target.name).is_some_and(|laid| laid.iter().eq(names))
            && state.tables.schemas.contains_key(&target.name)
    })
}

/// Makes the tables that a plan makes, and lays rows as the plan writes them.
pub(super) fn prepare(state: &mut Committed, plan: &Plan) -> Result<()> {
    for target in &plan.targets {
        if target.create && !state.tables.schemas.contains_key(&target.name) {
            let table = TableSchema {
                primary_key: target.key.clone(),
                ..TableSchema::new(target.name.clone(), target.columns.clone())
            };
            make(state, table);
            let tables = Arc::make_mut(&mut state.tables);
            tables.pending.insert(target.name.clone());
            let known = &mut state.checkpoints;
            known
                .entry(target.name.clone())
                .or_insert_with(|| waiting(target.name.clone()));
        }
        let columns = names(&target.columns);
        let schema = state.tables.schemas.get(&target.name);
        let has = |name: &String| schema.is_some_and(|schema| schema.column(name).is_some());
        if !columns.iter().all(has) {
            let text = format!("table {} lacks a column of the plan", target.name);
            return Err(Error::bug(text));
        }
        lay(state, &target.name, &columns);
    }
    Ok(())
}

/// An error if a row does not fit its table.
pub(super) fn check(state: &Committed) -> Result<()> {
    for (name, schema) in &state.tables.schemas {
        let columns = state.tables.columns.get(name).into_iter().flatten();
        let columns: Vec<_> = columns.map(|name| schema.column(name)).collect();
        let rows = state.store.tables.get(name);
        for row in rows.into_iter().flat_map(|rows| rows.values()) {
            let fits = |(cell, column): (&i64, &Option<&ColumnSchema>)| {
                column.is_some_and(|column| {
                    takes(bits(column), *cell) && (*cell != NULL || column.nullable)
                })
            };
            if row.len() != columns.len() || !row.iter().zip(&columns).all(fits) {
                return Err(Error::data(format!("a row does not fit table {name}")));
            }
        }
    }
    Ok(())
}

/// Marks tables as not loaded.
pub(super) fn wait_for_load<'a>(
    state: &mut Committed,
    tables: impl Iterator<Item = &'a TableName>,
) {
    for table in tables {
        state.live = false;
        state.held.retain(|_, held| held.target != *table);
        if let Some(known) = state.checkpoints.get_mut(table) {
            known.phase = TablePhase::Waiting;
        }
    }
}

/// The statements that take these steps.
pub(super) fn statements(
    table: &TableName,
    steps: &[Alteration],
) -> std::result::Result<Vec<String>, String> {
    let statement = |step: &Alteration| match step {
        Alteration::Add { column, fill } => {
            let fill = match decode_raw(fill) {
                Some(CellRef::I64(value)) => value,
                _ => NULL,
            };
            let (name, native) = (&column.name, &column.native);
            let null = column.nullable || fill == NULL;
            format!("{table} add {name} {native} {null} {fill}")
        }
        Alteration::Retype(column) => format!("{table} retype {} {}", column.name, column.native),
        Alteration::Drop(name) => format!("{table} drop {name}"),
        Alteration::Remake => format!("{table} remake"),
    };
    Ok(steps.iter().map(statement).collect())
}

/// A part of following that is done or not.
pub(super) enum Step<'a> {
    Layout(&'a TableName, &'a Layout),
    Statement(&'a str, Slip),
    Again(&'a TableName),
    Fingerprint(&'a TableName, &'a str),
}

/// The parts of following, in the order in which they may be committed one by one.
pub(super) fn steps(following: &Following, slip: Slip) -> Vec<Step<'_>> {
    let layouts = following.layouts.iter().map(|(t, l)| Step::Layout(t, l));
    let statements = following.statements.iter();
    let statements = statements.map(|text| Step::Statement(text, slip));
    let again = following.again.iter().map(Step::Again);
    let fingerprints = following.fingerprints.iter();
    let fingerprints = fingerprints.map(|(table, text)| Step::Fingerprint(table, text));
    let all = layouts.chain(statements).chain(again).chain(fingerprints);
    all.filter(|step| match step {
        Step::Layout(..) => slip != Slip::Layouts,
        Step::Statement(..) => slip != Slip::Statements,
        Step::Again(_) => slip != Slip::Again,
        Step::Fingerprint(..) => slip != Slip::Fingerprints,
    })
    .collect()
}

impl Step<'_> {
    pub(super) fn take(&self, state: &mut Committed) -> Result<()> {
        match self {
            Step::Layout(table, layout) => {
                let layouts = &mut state.layouts;
                layouts.insert((*table).clone(), (*layout).clone());
            }
            Step::Statement(text, slip) => alter(state, text, *slip)?,
            Step::Again(table) => wait_for_load(state, std::iter::once(*table)),
            Step::Fingerprint(table, text) => {
                if let Some(known) = state.checkpoints.get_mut(*table) {
                    known.fingerprint = (*text).to_owned();
                }
            }
        }
        Ok(())
    }
}

/// Runs a statement.
fn alter(state: &mut Committed, statement: &str, slip: Slip) -> Result<()> {
    let strange = || Error::config(format!("this statement cannot be run: {statement}"));
    let fields: Vec<&str> = statement.split(' ').collect();
    let (Some(table), rest) = (fields.first(), fields.get(1..).unwrap_or_default()) else {
        return Err(strange());
    };
    let table = TableName::parse(table, "").ok_or_else(strange)?;
    if rest == ["remake"] {
        let tables = Arc::make_mut(&mut state.tables);
        tables.schemas.remove(&table);
        tables.columns.remove(&table);
        state.store.tables.remove(&table);
        return Ok(());
    }
    let rows = state.store.tables.entry(table.clone()).or_default();
    let tables = Arc::make_mut(&mut state.tables);
    let schema = tables.schemas.get_mut(&table).ok_or_else(strange)?;
    let laid = tables.columns.entry(table).or_default();
    let wide = |text: &str| if text == native(32) { 32 } else { 64 };
    match rest {
        ["add", name, native, null, fill] => {
            if schema.column(name).is_some() {
                return Err(strange());
            }
            let fill: i64 = fill.parse().map_err(|_| strange())?;
            schema.columns.push(ColumnSchema {
                has_default: fill != NULL,
                ..column(name, wide(native), *null == "true")
            });
            laid.push((*name).to_owned());
            let fill = match (slip, *null == "true") {
                (Slip::Fills, true) => NULL,
                (Slip::Fills, false) => DEFAULT,
                _ => fill,
            };
            rows.values_mut().for_each(|row| row.push(fill));
        }
        ["retype", name, native] => {
            let at = schema.column_index(name).ok_or_else(strange)?;
            if let Some(there) = schema.columns.get_mut(at) {
                *there = ColumnSchema {
                    has_default: there.has_default,
                    ..column(name, wide(native), there.nullable)
                };
            }
        }
        ["drop", name] => {
            schema.column(name).ok_or_else(strange)?;
            *schema = schema.clone().with_columns(|other| other != *name);
            if let Some(at) = laid.iter().position(|other| other == name) {
                laid.remove(at);
                rows.values_mut().for_each(|row| {
                    row.remove(at);
                });
            }
        }
        _ => return Err(strange()),
    }
    Ok(())
}
