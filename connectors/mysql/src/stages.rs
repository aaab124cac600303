//! The stages of the hot path that need no server, each by itself: for measurements. From events to
//! transactions is in [`crate::recordings`].

use mysql_async::Value;
use thalweg_core::schema::{ColumnType, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result};

use crate::snapshot;
pub use crate::target::stages::Encoder;
use crate::wire::cells::{self, Meaning};

/// From the driver's values to rows.
pub struct Reader {
    columns: Vec<(Meaning, ColumnType)>,
    values: Vec<Vec<Value>>,
}

impl Reader {
    /// Reads `rows` of a table: integers, floats, decimals, text and times without zone.
    pub fn new(table: &TableSchema, rows: &RowBatch) -> Result<Self> {
        let meaning = |column| cells::meaning(column).unwrap_or(Meaning::Plain);
        let columns = table.columns.iter();
        let values = rows.iter().map(|row| row.cells().map(value).collect());
        Ok(Reader {
            columns: columns.map(|c| (meaning(c), c.ty.clone())).collect(),
            values: values.collect::<Result<_>>()?,
        })
    }

    /// Appends all the rows.
    pub fn read(&self, into: &mut RowBatch) -> Result<()> {
        for row in &self.values {
            for ((meaning, ty), value) in self.columns.iter().zip(row) {
                snapshot::push(into, meaning, ty, value)?;
            }
            into.end_row();
        }
        Ok(())
    }
}

/// A cell as the driver gives it.
fn value(cell: CellRef<'_>) -> Result<Value> {
    Ok(match cell {
        CellRef::Null => Value::NULL,
        CellRef::I64(v) => Value::Int(v),
        CellRef::F64(v) => Value::Double(v),
        CellRef::Decimal(v) => Value::Bytes(v.to_string().into_bytes()),
        CellRef::Text(v) => Value::Bytes(v.as_bytes().to_vec()),
        CellRef::Timestamp(day, micros) => {
            let part = |unit: i64, below: i64| micros / unit % below;
            let small = |part: i64| u8::try_from(part).unwrap_or_default();
            let seconds = small(part(1_000_000, 60));
            let (hours, minutes) = (part(3_600_000_000, 24), part(60_000_000, 60));
            let year = u16::try_from(day.year).unwrap_or_default();
            let fraction = u32::try_from(part(1, 1_000_000)).unwrap_or_default();
            let (hours, minutes) = (small(hours), small(minutes));
            Value::Date(year, day.month, day.day, hours, minutes, seconds, fraction)
        }
        _ => return Err(Error::bug("a cell of a kind that is not measured")),
    })
}
