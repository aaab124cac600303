//! Comparing what is expected with the rows of a target in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::ports::{Compared, Comparer, Difference, Differs};
use thalweg_core::range::KeyRange;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result};

use super::{MemoryTarget, NULL, Row, Rows};

pub(super) struct MemoryComparer {
    pub(super) target: MemoryTarget,
    pub(super) plan: Arc<Plan>,
    table: usize,
    there: Rows,
    expected: Vec<Row>,
}

impl MemoryComparer {
    pub(super) fn new(target: MemoryTarget, plan: Arc<Plan>) -> Self {
        MemoryComparer {
            target,
            plan,
            table: 0,
            there: Rows::new(),
            expected: Vec::new(),
        }
    }

    fn table(&self) -> Result<&TargetTable> {
        let table = self.plan.targets.get(self.table);
        table.ok_or_else(|| Error::bug("no such target"))
    }
}

fn cell(value: i64) -> CellRef<'static> {
    match value {
        NULL => CellRef::Null,
        value => CellRef::I64(value),
    }
}

#[async_trait]
impl Comparer for MemoryComparer {
    async fn prepare(&mut self, target: usize) -> Result<()> {
        self.target.step()?;
        self.table = target;
        Ok(())
    }

    async fn open(&mut self, range: Option<&KeyRange>) -> Result<()> {
        self.target.step()?;
        let now = self.target.now();
        let rows = now.tables().get(&self.table()?.name);
        let mut rows = rows.cloned().unwrap_or_default();
        if let Some(range) = range {
            let within = |row: &Row| {
                let value = row.get(range.column).copied().unwrap_or(NULL);
                range.contains(CellRef::I64(value)) == Some(true)
            };
            rows.retain(|_, row| within(row));
        }
        self.there = rows;
        self.expected.clear();
        Ok(())
    }

    async fn expect(&mut self, rows: &RowBatch) -> Result<()> {
        self.target.step()?;
        for row in rows.iter() {
            let cells = row.cells().map(|cell| match cell {
                CellRef::I64(value) => Ok(value),
                CellRef::Null => Ok(NULL),
                _ => Err(Error::bug("an expected row is not whole")),
            });
            self.expected.push(cells.collect::<Result<_>>()?);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn compare(&mut self, limit: usize) -> Result<Compared> {
        self.target.step()?;
        let key = self.table()?.key.clone();
        let mut compared = Compared {
            there: self.there.len() as u64,
            ..Compared::default()
        };
        if key.is_empty() {
            let mut count: BTreeMap<&Row, i64> = BTreeMap::new();
            for row in &self.expected {
                *count.entry(row).or_default() += 1;
            }
            for row in self.there.values() {
                *count.entry(row).or_default() -= 1;
            }
            for more in count.values() {
                compared.missing += u64::try_from(*more).unwrap_or(0);
                compared.extra += u64::try_from(-*more).unwrap_or(0);
            }
            return Ok(compared);
        }
        let mut there: BTreeMap<Row, Row> = self
            .there
            .values()
            .map(|row| {
                let cells = key.iter().filter_map(|column| row.get(*column).copied());
                (cells.collect(), row.clone())
            })
            .collect();
        let mut found = Vec::new();
        for expected in &self.expected {
            let cells = key
                .iter()
                .filter_map(|column| expected.get(*column).copied());
            let cells: Row = cells.collect();
            match there.remove(&cells) {
                None => found.push((Differs::Missing, expected.clone(), Vec::new())),
                Some(row) => {
                    let pairs = row.iter().zip(expected).enumerate();
                    let columns = pairs.filter(|(_, (a, b))| a != b);
                    let columns: Vec<usize> = columns.map(|(column, _)| column).collect();
                    if !columns.is_empty() {
                        found.push((Differs::Changed, expected.clone(), columns));
                    }
                }
            }
        }
        found.extend(
            there
                .into_values()
                .map(|row| (Differs::Extra, row, Vec::new())),
        );
        for (differs, row, columns) in found {
            match differs {
                Differs::Changed => compared.changed += 1,
                Differs::Missing => compared.missing += 1,
                Differs::Extra => compared.extra += 1,
            }
            if compared.differences.len() >= limit {
                continue;
            }
            for (column, value) in row.iter().enumerate() {
                let left_out = differs == Differs::Extra && !key.contains(&column);
                compared.rows.push(match left_out {
                    true => CellRef::Absent,
                    false => cell(*value),
                });
            }
            let row = compared.rows.end_row();
            compared.differences.push(Difference {
                row,
                differs,
                columns,
            });
        }
        Ok(compared)
    }

    async fn close(&mut self) -> Result<()> {
        self.there.clear();
        self.expected.clear();
        self.target.step()
    }
}
