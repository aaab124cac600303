//! Parking: how rows that exchange a unique value pass each other.
//!
//! A source that checks a unique key only at the end of a statement or transaction may write in an
//! order in which, at a target that checks each row, one row stands in the other's way. Then the row
//! to be written is *parked*: taken out of the table, kept with what it is to become, and put back
//! when the others have moved. Changes of a parked row change what it is to become. When the changes
//! of a transaction are done none may be left; one that still finds its place taken is a `Data`
//! error.
//!
//! The whole row is kept, columns that are not mapped included, by the server itself: in a temporary
//! table, so that no value goes through us. Making one does not commit.
//!
//! A row is not parked where taking it out would do more than that: where the table has triggers on
//! delete, or is referenced by a foreign key with an action while foreign keys are enforced.

use thalweg_core::value::{RowBatch, RowRef};
use thalweg_core::{Error, Kind, Result, Side};

use super::error::convert_for;
use super::rules::Rules;
use super::session::{Session, quote};
use super::statement::Statement;
use super::table::{Table, is_duplicate};

/// The column that numbers the rows of a parking table.
const NUMBER: &str = "`thalweg number`";

/// A row that waits for its place.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    target: usize,
    /// Under which number the parking table has what it was; `None`: it is new.
    number: Option<u64>,
    /// What it is to become, as a single row; cells left out stay what they were.
    row: RowBatch,
}

impl Parked {
    fn row(&self) -> RowRef<'_> {
        self.row.row(0)
    }
}

/// The parked rows of one target transaction.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: Vec<Parked>,
    /// Targets whose parking table this session has.
    made: Vec<usize>,
    numbered: u64,
}

impl Parking {
    /// Whether no row is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// The parked row with the key of `row`.
    pub(super) fn find(&self, target: usize, table: &Table, row: RowRef<'_>) -> Option<usize> {
        let same = |parked: &Parked| {
            parked.target == target
                && table.target.key.iter().all(|&cell| {
                    let of = |row: RowRef<'_>| row.raw_cells().nth(cell).map(<[u8]>::to_vec);
                    of(parked.row()) == of(row)
                })
        };
        self.parked.iter().position(same)
    }

    /// Lays an image over a parked row.
    pub(super) fn change(&mut self, parked: usize, after: RowRef<'_>) {
        if let Some(parked) = self.parked.get_mut(parked) {
            parked.row = RowBatch::laid_over(after, parked.row());
        }
    }

    /// A parked row goes.
    pub(super) fn remove(&mut self, parked: usize) {
        self.parked.remove(parked);
    }

    /// All parked rows are back where they were: what parked them was rolled back.
    pub(super) fn reset(&mut self) {
        self.parked.clear();
    }

    /// The parked rows, to be given to [`Parking::reset_to`].
    pub(super) fn parked(&self) -> &[Parked] {
        &self.parked
    }

    /// These rows are parked again, as they were: what was done since then was rolled back.
    pub(super) fn reset_to(&mut self, parked: Vec<Parked>) {
        self.parked = parked;
    }

    /// All parked rows of a table go.
    pub(super) fn clear(&mut self, target: usize) {
        self.parked.retain(|parked| parked.target != target);
    }

    /// Parks a row that is new.
    pub(super) fn park_new(&mut self, target: usize, row: RowRef<'_>) {
        let mut kept = RowBatch::new();
        kept.append(row);
        self.parked.push(Parked {
            target,
            number: None,
            row: kept,
        });
    }

    /// Takes the row with the key of `before` out of the table, to become `after`.
    pub(super) async fn park(
        &mut self,
        session: &mut Session,
        (target, table, rules): (usize, &Table, &Rules),
        before: RowRef<'_>,
        after: RowRef<'_>,
    ) -> Result<()> {
        if rules.delete_triggers || rules.cascades && rules.enforced {
            return Err(Error::data(format!(
                "rows of {} exchange a unique value, and none may be taken out meanwhile: the \
                 table has delete triggers, or foreign keys with actions reference it",
                table.target.name
            ))
            .with_hint(
                "drop the triggers, and set the task's option foreign_keys to replica or make the \
                 foreign keys RESTRICT; or drop the unique key",
            )
            .at(Side::Target));
        }
        self.make(session, target, table, rules).await?;
        self.numbered += 1;
        let (place, number) = (parking(target, table), self.numbered);
        let columns = rules.columns.join(", ");
        let name = &table.name;
        let mut keep = format!(
            "INSERT INTO {place} ({NUMBER}, {columns}) SELECT {number}, {columns} FROM {name} WHERE "
        )
        .into_bytes();
        let mut take = format!("DELETE FROM {name} WHERE ").into_bytes();
        table.put_find(before, false, &mut keep)?;
        table.put_find(before, false, &mut take)?;
        for statement in [keep, take] {
            let written = table.send_text(session, &statement).await?;
            if written.iter().map(|w| w.rows).sum::<u64>() != 1 {
                return Err(Error::bug("a row to be parked is not there").at(Side::Target));
            }
        }
        self.parked.push(Parked {
            target,
            number: Some(number),
            row: RowBatch::laid_over(after, before),
        });
        Ok(())
    }

    async fn make(
        &mut self,
        session: &mut Session,
        target: usize,
        table: &Table,
        rules: &Rules,
    ) -> Result<()> {
        if self.made.contains(&target) {
            return Ok(());
        }
        let make = format!(
            "CREATE TEMPORARY TABLE {} SELECT CAST(0 AS UNSIGNED) AS {NUMBER}, {} FROM {} LIMIT 0",
            parking(target, table),
            rules.columns.join(", "),
            table.name
        );
        match session.run(&make).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Config => {
                return Err(error.with_hint(format!(
                    "rows of {} exchange a unique value, which takes a temporary table: GRANT \
                     CREATE TEMPORARY TABLES ON {}.* TO the user",
                    table.target.name,
                    quote(&table.target.name.schema)
                )));
            }
            Err(error) => return Err(error),
        }
        self.made.push(target);
        Ok(())
    }

    /// Puts back what finds its place; `at_last`: all must.
    pub(super) async fn settle(
        &mut self,
        session: &mut Session,
        tables: &[Option<(Table, Rules)>],
        at_last: bool,
    ) -> Result<()> {
        loop {
            let before = self.parked.len();
            let mut refused = None;
            let mut left = Vec::new();
            for parked in std::mem::take(&mut self.parked) {
                let known = tables.get(parked.target).and_then(Option::as_ref);
                let (table, rules) =
                    known.ok_or_else(|| Error::bug("a parked row without a table"))?;
                let sql = back(&parked, table, rules)?;
                table.fits(sql.bytes(), &session.facts)?;
                match table.try_send(session, &sql, parked.row()).await {
                    Ok(written) if written.iter().all(|w| w.rows == 1) => {}
                    Ok(_) => return Err(Error::bug("a parked row is lost").at(Side::Target)),
                    Err(error) if is_duplicate(&error) => {
                        refused = Some(convert_for(error, &table.target));
                        left.push(parked);
                    }
                    Err(error) => return Err(convert_for(error, &table.target)),
                }
            }
            self.parked = left;
            match refused {
                Some(_) if self.parked.len() < before => {}
                Some(error) if at_last => return Err(error),
                _ => return Ok(()),
            }
        }
    }
}

/// The name of a table's parking table.
fn parking(target: usize, table: &Table) -> String {
    let schema = quote(&table.target.name.schema);
    format!("{schema}.`_thalweg_parking_{target}`")
}

/// The statement that puts a row back.
fn back<'a>(parked: &'a Parked, table: &Table, rules: &Rules) -> Result<Statement<'a>> {
    let Some(number) = parked.number else {
        let mut sql = Statement::from(table.insert());
        table.put_values(parked.row(), &mut sql)?;
        return Ok(sql);
    };
    let columns = rules.columns.join(", ");
    let mut sql = Statement::from(format!("INSERT INTO {} ({columns}) SELECT ", table.name));
    for (n, column) in rules.columns.iter().enumerate() {
        if n > 0 {
            sql.text.extend_from_slice(b", ");
        }
        let mapped = (0..table.width()).find(|&index| table.column(index) == column);
        let cell = mapped.and_then(|index| Some((index, parked.row().cell(index)?)));
        match cell.filter(|(_, cell)| cell.is_present()) {
            Some((index, cell)) => table.put_value(index, cell, &mut sql)?,
            None => sql.text.extend_from_slice(column.as_bytes()),
        }
    }
    let place = parking(parked.target, table);
    sql.text
        .extend_from_slice(format!(" FROM {place} WHERE {NUMBER} = {number}").as_bytes());
    Ok(sql)
}
