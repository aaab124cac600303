//! From a table as it was at a place of the log to the table as it is now.
//!
//! A column that came has, in the rows that were there, the constant that the server keeps for them
//! (`attmissingval`, <https://www.postgresql.org/docs/17/catalog-pg-attribute.html>) or NULL, as long as
//! the table was not rewritten since. A statement whose default is computed for each row rewrites it, and so
//! does one that changes a type, perhaps with other values; so the rows of a rewritten table are in doubt.

use thalweg_core::plan::{Pair, Verdict};
use thalweg_core::ports::Bridge;
use thalweg_core::position;
use thalweg_core::range::Bound;
use thalweg_core::schema::{ColumnType, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result, Side};
use tokio_postgres::Client;

use crate::error::asking;
use crate::layout::{self, Layout, Young};
use crate::schema::{self, Attribute, neutral};
use crate::wire::cells::{Codec, Form, Reader};
use crate::{slot, source, unsaid};

/// See [`thalweg_core::ports::Source::bridge`].
pub(crate) async fn bridge(
    client: &Client,
    table: &TableSchema,
    then: Option<&position::Layout>,
    added: &[usize],
    retyped: &[(usize, String)],
) -> Result<Bridge> {
    let oid = slot::oid(client, &table.name).await?;
    let attributes = schema::attributes(client, &[oid]).await?;
    let attributes = attributes.get(&oid).map_or(&[][..], Vec::as_slice);
    let files = source::files(client, &[oid]).await?.concat();
    let Some(mut layout) = then.and_then(Layout::parse) else {
        let why = "which columns it had by then is not stored";
        return Ok(Bridge::Closed(why.to_owned()));
    };
    let rewritten = unsaid::rewritten(&layout.files, &files);
    let column = |index: usize| {
        let column = table.columns.get(index);
        column.ok_or_else(|| Error::bug("a column that is not there").at(Side::Source))
    };
    for (index, was) in retyped {
        let column = column(*index)?;
        if !widens(was, &column.native, &column.ty) {
            return Ok(Bridge::Closed(format!(
                "not every value of column {} is the same in {} as in {was}",
                column.name, column.native
            )));
        }
    }
    let read = table.columns.iter().map(|column| column.name.as_str());
    if let Some(name) = layout.made_anew(read, &layout::numbers(attributes)) {
        return Ok(Bridge::Closed(format!(
            "column {name} is another one by now, made anew or of another name before"
        )));
    }
    layout
        .young
        .retain(|young| table.column(&young.name).is_some());
    let unsaid = unsaid::between(client, oid, (&layout.files, &files), &[]).await?;
    let mut doubt = unsaid.is_some();
    let mut begun = Vec::with_capacity(added.len());
    let mut fills = Vec::with_capacity(added.len());
    for index in added {
        let column = column(*index)?;
        if let Some(fill) = layout.fill(&column.name) {
            fills.push(fill.to_vec());
            begun.push(true);
            continue;
        }
        begun.push(false);
        if layout.column(&column.name).is_some() {
            return Ok(Bridge::Unread);
        }
        let attribute = attributes.iter().find(|a| a.column.name == column.name);
        let number = attribute.map_or(0, |a| a.number);
        if layout
            .columns
            .iter()
            .any(|c| c.number == number && number != 0)
        {
            return Ok(Bridge::Closed(format!(
                "column {} is one that was there and has another name now",
                column.name
            )));
        }
        let constant = match attribute.filter(|_| !rewritten) {
            Some(attribute) => constant(client, oid, attribute).await?,
            None => None,
        };
        doubt |= constant.is_none();
        let fill = constant.unwrap_or_else(|| Bound::new(CellRef::Null).raw().to_vec());
        layout.young.push(Young {
            name: column.name.clone(),
            number,
            fill: fill.clone(),
        });
        fills.push(fill);
    }
    // What is rewritten meanwhile keeps no constants.
    layout.files = source::files(client, &[oid]).await?.concat();
    doubt |= layout.files != files && !added.is_empty();
    Ok(Bridge::Open {
        layout: layout.stored(),
        fills,
        doubt,
        begun,
    })
}

/// Whether every value of a type is one of another, and is logged in a form that is read as such
/// ([`widened`]).
fn widens(was: &str, is: &str, to: &ColumnType) -> bool {
    let from = neutral(was);
    let padded = |native: &str| native.starts_with("character(") || native == "bpchar";
    let known = match (&from, to) {
        (ColumnType::Int { .. }, ColumnType::Int { .. }) => was != "oid" && is != "oid",
        (ColumnType::Text { .. }, ColumnType::Text { .. }) => {
            !padded(was) && !padded(is) && was != "name" && is != "name"
        }
        (ColumnType::Bits { varying: from, .. }, ColumnType::Bits { varying: to, .. }) => {
            *from && *to
        }
        (ColumnType::Decimal { .. }, ColumnType::Decimal { .. })
        | (ColumnType::Time { .. }, ColumnType::Time { .. })
        | (ColumnType::Timestamp { .. }, ColumnType::Timestamp { .. })
        | (ColumnType::Instant { .. }, ColumnType::Instant { .. }) => true,
        _ => false,
    };
    known
        && matches!(
            Pair::of(&from, to).verdict,
            Verdict::Exact | Verdict::Widening
        )
}

/// How values of a system type `was` are read where the column is of type `is` by now, each a number and
/// a modifier; `None`: not every value of the one is the same value of the other.
pub(crate) fn widened(was: (u32, i32), is: (u32, i32)) -> Option<Codec> {
    let ((old, old_mod), (new, new_mod)) = (was, is);
    let limit = |modifier: i32| if modifier < 0 { i32::MAX } else { modifier };
    let wider = match (old, new) {
        (21, 23 | 20) | (23, 20) => true,
        // character varying, to text and to longer ones; bit varying; digits of times.
        (1043 | 25, 25) => true,
        (25, 1043) => new_mod < 0,
        (1043, 1043) | (1562, 1562) | (1083, 1083) | (1114, 1114) | (1184, 1184) => {
            limit(new_mod) >= limit(old_mod)
        }
        (1700, 1700) if new_mod < 0 => true,
        (1700, 1700) => {
            // Precision and scale above and below 16 bits, with 4 added.
            let digits = |modifier: i32| ((modifier - 4) >> 16, (modifier - 4) & 0x7ff);
            let ((p, s), (wide_p, wide_s)) = (digits(old_mod), digits(new_mod));
            old_mod >= 0 && s < 0x400 && wide_s < 0x400 && wide_s >= s && wide_p - wide_s >= p - s
        }
        _ => false,
    };
    wider.then(|| schema::codec(old, &ColumnType::Bool))
}

/// The encoded cell that a column has in rows of before, in a table that was not rewritten since; `None`:
/// its partitions differ, or it cannot be read.
async fn constant(client: &Client, oid: u32, attribute: &Attribute) -> Result<Option<Vec<u8>>> {
    // Before version 11 no such constants are kept.
    let kept = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attname = 'attmissingval' \
             AND attrelid = 'pg_attribute'::regclass)",
            &[],
        )
        .await
        .map_err(asking)?;
    if !kept.get::<_, bool>(0) {
        return Ok(None);
    }
    let rows = client
        .query(
            "WITH RECURSIVE tree AS (SELECT $1::oid AS oid UNION ALL \
               SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid \
               JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition) \
             SELECT DISTINCT (a.attmissingval::text::text[])[1] FROM tree t \
             JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'r' \
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = $2::text \
             AND NOT a.attisdropped LIMIT 2",
            &[&oid, &attribute.column.name],
        )
        .await
        .map_err(asking)?;
    let [row] = rows.as_slice() else {
        return Ok(None);
    };
    let mut cells = RowBatch::new();
    match row.get::<_, Option<&str>>(0) {
        None => cells.push(CellRef::Null),
        Some(text) => {
            let mut reader = Reader::new(u64::MAX);
            let pushed = reader.push(attribute.codec, Form::Text, text.as_bytes(), &mut cells);
            if pushed.is_err() {
                return Ok(None);
            }
        }
    }
    let row = cells.end_row();
    Ok(cells.row(row).raw_cells().next().map(<[u8]>::to_vec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wider_is_known() {
        for (was, is, wanted) in [
            ("integer", "bigint", true),
            ("smallint", "integer", true),
            ("bigint", "integer", false),
            ("character varying(10)", "character varying(20)", true),
            ("character varying(20)", "character varying(10)", false),
            ("character varying(20)", "text", true),
            ("text", "character varying(20)", false),
            ("character(3)", "text", false),
            ("numeric(10,2)", "numeric(12,2)", true),
            ("numeric(10,2)", "numeric(10,3)", false),
            ("numeric(10,2)", "numeric", true),
            (
                "timestamp(3) without time zone",
                "timestamp(6) without time zone",
                true,
            ),
            (
                "timestamp(6) without time zone",
                "timestamp(3) without time zone",
                false,
            ),
            ("real", "double precision", false),
            ("integer", "text", false),
        ] {
            assert_eq!(widens(was, is, &neutral(is)), wanted, "{was} to {is}");
        }
    }
}
