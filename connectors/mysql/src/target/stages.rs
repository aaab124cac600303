//! The encoder by itself, for measurements: what [`super::bulk`] sends of a batch, without a session.

use thalweg_core::Result;
use thalweg_core::batch::FoldedTable;
use thalweg_core::plan::TargetTable;
use thalweg_core::value::RowBatch;

use super::session::{Facts, Flavor};
use super::statement::Statement;
use super::table::{Pack, Table};

/// From rows to statements.
pub struct Encoder {
    table: Table,
    facts: Facts,
    overwrite: String,
}

impl Encoder {
    /// Writes rows of one table of a MariaDB.
    pub fn new(table: &TargetTable) -> Result<Self> {
        let table = Table::new(table, Flavor::DEFAULT)?;
        Ok(Encoder {
            overwrite: table.overwrite(Flavor::DEFAULT),
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
