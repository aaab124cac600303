//! Cutting a table into chunks by a sample of its pages.
//!
//! `TABLESAMPLE SYSTEM` reads whole pages picked by chance, so the sample needs neither statistics that
//! somebody gathered nor a key that is spread evenly, and costs about as many page reads as there are
//! chunks times [`PAGES_PER_CHUNK`]. Bounds need not be values of rows, so what the sample misses or what
//! changes meanwhile does no harm: the chunks hold all keys either way.

use thalweg_core::Result;
use thalweg_core::ports::{Chunk, ChunkSize};
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::value::RowBatch;
use tokio_postgres::Client;

use crate::error::asking;
use crate::schema::{self, quote, quote_table};
use crate::slot;
use crate::snapshot::within;
use crate::wire::cells::{Codec, Form, Reader};

/// Pages that are looked at for a chunk.
const PAGES_PER_CHUNK: f64 = 8.0;
/// And at least so many.
const PAGES_MIN: f64 = 64.0;
/// Chunks a table is cut into at most.
const CHUNKS_MAX: usize = 10_000;
/// Longest value that becomes a bound.
const BOUND_BYTES_MAX: u64 = 1_000;

/// Whether the server orders values as [`thalweg_core::range::compare`] does.
fn ordered(codec: Codec) -> bool {
    matches!(
        codec,
        Codec::Int2
            | Codec::Int4
            | Codec::Int8
            | Codec::Date
            | Codec::Timestamp
            | Codec::Timestamptz
            | Codec::Uuid
            | Codec::Bytea
    )
}

pub(crate) async fn split(client: &Client, chunk: &Chunk, size: ChunkSize) -> Result<Vec<Chunk>> {
    let whole = || Ok(vec![chunk.clone()]);
    let table = &chunk.schema;
    let Some((column, first)) = table
        .primary_key
        .first()
        .and_then(|index| Some((*index, table.columns.get(*index)?)))
    else {
        return whole();
    };
    let oid = slot::oid(client, &table.name).await?;
    let attributes = schema::attributes(client, &[oid]).await?.remove(&oid);
    let attributes = attributes.unwrap_or_default();
    let attribute = attributes.iter().find(|a| a.column.name == first.name);
    let Some(codec) = attribute.map(|a| a.codec).filter(|codec| ordered(*codec)) else {
        return whole();
    };
    let row = client
        .query_one(
            "WITH RECURSIVE tree AS (SELECT $1::oid AS oid UNION ALL \
               SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid \
               JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition) \
             SELECT coalesce(sum(pg_relation_size(oid)), 0)::float8 \
               / current_setting('block_size')::float8, \
             coalesce(sum(pg_table_size(oid)), 0)::float8 FROM tree",
            &[&oid],
        )
        .await
        .map_err(asking)?;
    let (pages, bytes): (f64, f64) = (row.get(0), row.get(1));
    // Rows of one byte would be the most.
    let at_most = (bytes / number(size.bytes)).max(bytes / number(size.rows));
    if at_most < 2.0 {
        return whole();
    }
    let wanted = (bytes / number(size.bytes) * PAGES_PER_CHUNK).max(PAGES_MIN);
    let percent = (100.0 * wanted / pages.max(1.0)).clamp(0.001, 100.0);
    let sql = format!(
        "SELECT t.{column}::text FROM {} t TABLESAMPLE SYSTEM ({percent}){} ORDER BY t.{column}",
        quote_table(&table.name),
        within(table, chunk.range.as_ref())?,
        column = quote(&first.name),
    );
    let sample = client.query(&sql, &[]).await.map_err(asking)?;
    let share = 100.0 / percent;
    let sampled = u32::try_from(sample.len()).map_or(f64::MAX, f64::from);
    let rows = sampled * share;
    // A range's part of the bytes is that of its rows, which all the pages' sample would have.
    let by_rows = rows / number(size.rows);
    let by_bytes = match chunk.range {
        None => bytes / number(size.bytes),
        Some(_) => by_rows,
    };
    let chunks = count(by_rows.max(by_bytes)).min(CHUNKS_MAX);
    let bounds = bounds(&sample, codec, chunks)?;
    let mut from = chunk.range.as_ref().and_then(|range| range.from.clone());
    let last = chunk.range.as_ref().and_then(|range| range.to.clone());
    let mut out = Vec::with_capacity(bounds.len() + 1);
    for to in bounds.into_iter().map(Some).chain([last]) {
        let range = KeyRange {
            column,
            from: std::mem::replace(&mut from, to.clone()),
            to,
        };
        out.push(Chunk {
            range: Some(range),
            ..chunk.clone()
        });
    }
    if out.len() == 1 {
        return whole();
    }
    Ok(out)
}

/// Values of the sorted sample that part it into so many pieces, each once and not the first.
fn bounds(sample: &[tokio_postgres::Row], codec: Codec, chunks: usize) -> Result<Vec<Bound>> {
    let mut reader = Reader::new(BOUND_BYTES_MAX);
    let mut out: Vec<Bound> = Vec::new();
    let text = |index: usize| {
        sample
            .get(index)
            .and_then(|row| row.get::<_, Option<&str>>(0))
    };
    let mut before = text(0);
    for piece in 1..chunks {
        let Some(text) = text(piece * sample.len() / chunks) else {
            continue;
        };
        if before == Some(text) {
            continue;
        }
        before = Some(text);
        let mut rows = RowBatch::new();
        if reader
            .push(codec, Form::Text, text.as_bytes(), &mut rows)
            .is_err()
        {
            // Too long: the pieces around it stay one.
            continue;
        }
        rows.end_row();
        let raw = rows.row(0).raw_cells().next().unwrap_or_default();
        out.extend(Bound::from_raw(raw));
    }
    Ok(out)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are estimates")]
fn number(size: u64) -> f64 {
    size.max(1) as f64
}

/// A number of pieces, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate between 1 and CHUNKS_MAX"
)]
fn count(pieces: f64) -> usize {
    pieces.round().clamp(1.0, 10_000.0) as usize
}
