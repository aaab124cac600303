//! The encoder by itself, for measurements: what [`super::bulk`] sends of a batch, without a session.

use thalweg_core::batch::FoldedTable;
use thalweg_core::plan::TargetTable;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result};

use super::event::layout::Layout;
use super::event::{Item, Writer};
use super::session::{Facts, Flavor};
use super::statement::Statement;
use super::table::{Pack, Table};

/// From rows to statements.
pub struct Encoder {
    table: Table,
    facts: Facts,
    overwrite: String,
    layout: Option<Layout>,
}

impl Encoder {
    /// Writes rows of one table of a MariaDB.
    pub fn new(table: &TargetTable) -> Result<Self> {
        let table = Table::new(table, Flavor::DEFAULT)?;
        Ok(Encoder {
            overwrite: table.overwrite(Flavor::DEFAULT),
            layout: Layout::proposed(&table),
            table,
            facts: Facts {
                flavor: Flavor::DEFAULT,
                packet_max: 16 << 20,
                files: false,
                locks_rows: true,
            },
        })
    }

    /// Writes the statements of a batch; gives their bytes.
    pub fn apply(&self, rows: &RowBatch, folded: &FoldedTable) -> Result<usize> {
        let table = &self.table;
        let key = table.names(table.target.key.iter().copied());
        let prefix = format!("DELETE FROM {} WHERE ({key}) IN (", table.name);
        let deletes = self.pack(&folded.deletes, prefix, ")", |row, out| {
            table.put_key(rows.row(*row), &mut out.text)
        })?;
        let updates = self.pack(
            &folded.updates,
            table.insert(),
            &self.overwrite,
            |(_, row), out| table.put_values(rows.row(*row), out),
        )?;
        let inserts = self.pack(&folded.inserts, table.insert(), "", |row, out| {
            table.put_values(rows.row(*row), out)
        })?;
        Ok(deletes + updates + inserts)
    }

    /// Writes a batch as row events; gives the bytes of their statements.
    pub fn events(&self, rows: &RowBatch, folded: &FoldedTable) -> Result<usize> {
        let refused = || Error::bug("such rows go as statements");
        let layout = self.layout.as_ref().ok_or_else(refused)?;
        let items = (folded.deletes.iter().copied().map(Item::Delete))
            .chain(folded.updates.iter().map(|&(_, row)| Item::Update(row)))
            .chain(folded.inserts.iter().copied().map(Item::Insert));
        let mut writer = Writer::new(layout, 1);
        let mut cells: Vec<CellRef<'_>> = Vec::with_capacity(layout.width());
        let mut bytes = 0;
        for item in items {
            cells.clear();
            cells.extend(rows.row(item.row()).cells());
            if writer.put(item, &cells).map_err(|_| refused())? {
                let (first, second) = writer.finish();
                bytes += first.len() + second.len();
            }
        }
        let (first, second) = writer.finish();
        Ok(bytes + first.len() + second.len())
    }

    /// Writes the statements that load rows; gives their bytes.
    pub fn load(&self, rows: &RowBatch) -> Result<usize> {
        let all: Vec<_> = rows.iter().collect();
        self.pack(&all, self.table.insert(), "", |row, out| {
            self.table.put_values(*row, out)
        })
    }

    fn pack<'r, T>(
        &self,
        items: &[T],
        prefix: String,
        suffix: &str,
        put: impl Fn(&T, &mut Statement<'r>) -> Result<()>,
    ) -> Result<usize> {
        let mut pack = Pack::new(prefix, b",", suffix, &self.facts);
        let mut bytes = 0;
        for item in items {
            if pack.push(|out| put(item, out))? {
                bytes += pack.sql().bytes();
            }
        }
        if pack.finish() {
            bytes += pack.sql().bytes();
        }
        Ok(bytes)
    }
}
