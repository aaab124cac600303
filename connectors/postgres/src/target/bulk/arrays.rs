//! Rows as parameters of a statement: an array for each column.
//!
//! An array's binary form is that of `array_recv`
//! (<https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/arrayfuncs.c>): the number of
//! dimensions, whether there may be NULLs, the elements' type, their number and the index of the first, each
//! 32 bits; then the elements, as the fields of a `COPY`.

use bytes::BytesMut;
use postgres_types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result};
use tokio_postgres::Statement;

use super::{Op, sent};
use crate::target::encode::RowEncoder;

/// One column of some rows.
#[derive(Debug, Default)]
pub(super) struct Array {
    element: u32,
    len: i32,
    fields: Vec<u8>,
}

impl ToSql for Array {
    fn to_sql(
        &self,
        _ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.reserve(20 + self.fields.len());
        for word in [1_i32, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.element.to_be_bytes());
        for word in [self.len, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.fields);
        Ok(IsNull::No)
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// The parameters of `statement`: which columns were `sent`, the old key and the new row, as far as it
/// reads them.
pub(super) fn of(
    encoder: &RowEncoder,
    key: &[usize],
    rows: &RowBatch,
    ops: impl Iterator<Item = Op>,
    (patch, (old, new)): (bool, (bool, bool)),
    statement: &Statement,
) -> Result<Vec<Array>> {
    let element = |ty: &Type| match ty.kind() {
        Kind::Array(element) => Ok(element.oid()),
        _ => Err(Error::bug("a parameter that is no array")),
    };
    let array = |ty: &Type| {
        let element = element(ty)?;
        Ok(Array {
            element,
            ..Array::default()
        })
    };
    let mut arrays: Vec<Array> = statement
        .params()
        .iter()
        .map(array)
        .collect::<Result<_>>()?;
    let missing = || Error::bug("a statement without a parameter for each column");
    let mut len = 0;
    for (_, before, after) in ops {
        len += 1;
        let mut columns = arrays.iter_mut().map(|array| &mut array.fields);
        let row = after.map(|after| rows.row(after));
        if let Some(row) = row.filter(|_| patch) {
            sent(row, columns.next().ok_or_else(missing)?);
        }
        if let Some(before) = before.filter(|_| old) {
            for column in key {
                let out = columns.next().ok_or_else(missing)?;
                encoder.fields(rows.row(before), std::iter::once(*column), out)?;
            }
        }
        if let Some(row) = row.filter(|_| new) {
            for (index, raw) in row.raw_cells().enumerate() {
                let out = columns.next().ok_or_else(missing)?;
                match patch {
                    true => encoder.staged_cell(index, raw, out)?,
                    false => encoder.field(index, raw, out)?,
                }
            }
        }
    }
    for array in &mut arrays {
        array.len = len;
    }
    Ok(arrays)
}
