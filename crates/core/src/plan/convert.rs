//! Converters: chosen once per mapped column from source type × target type.

use super::super::schema::ColumnType;
use crate::value::{CellRef, Date, DecimalRef, RowBatch};

/// How a conversion treats values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every value arrives as it is.
    Exact,
    /// Every value arrives as it is in a type that could hold more.
    Widening,
    /// A value that does not fit stops the task; one that fits arrives as it is. No value is
    /// ever changed silently.
    Narrowing,
    /// There is no conversion; the plan is refused.
    Impossible,
}

/// A value a converter cannot carry. Never shows the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// The fact, such as "the number does not fit".
    pub reason: &'static str,
}

/// What happens to the cells of one mapped column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Converter {
    /// Bytes are copied.
    Copy,
    /// Placeholder until written.
    Int {
        /// Smallest value that fits.
        min: i64,
        /// Largest value that fits.
        max: u64,
    },
}

impl Converter {
    /// The converter between two column types, and how it treats values.
    pub fn choose(_source: &ColumnType, _target: &ColumnType) -> (Converter, Verdict) {
        (Converter::Copy, Verdict::Exact)
    }

    /// Appends the converted cell to `out`. `raw` is one encoded cell.
    pub fn convert(&self, raw: &[u8], out: &mut RowBatch) -> Result<(), ConvertError> {
        out.push_raw(raw);
        Ok(())
    }
}
#[allow(unused)]
fn unused(_: CellRef<'_>, _: Date, _: DecimalRef<'_>) {}
