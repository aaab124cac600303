//! A recorded binlog file, for tests and measurements.

use std::collections::HashMap;

use thalweg_core::Result;

use super::event::{RowOp, row_op, ty};
use super::rows::{Physical, RowsEvent, TableMap, inflate, skip};
use super::{Buf, Malformed};

/// Counts events and the row images that could be walked; damage ends the walk with an error.
pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, u64)> {
    let mut b = Buf(bytes);
    if b.take(4)? != [0xFE, b'b', b'i', b'n'] {
        return Err(Malformed("not a binlog file").into());
    }
    let mut maps: HashMap<u64, Vec<Physical>> = HashMap::new();
    let (mut events, mut images) = (0, 0);
    let mut sum = 0;
    while !b.0.is_empty() {
        let mut h = Buf(b.take(19)?);
        h.take(4)?;
        let kind = h.u8()?;
        h.take(4)?;
        let size = usize::try_from(h.u32()?).unwrap_or(usize::MAX);
        let body = b.take(size.checked_sub(19).ok_or(Malformed("event size"))?)?;
        if kind == ty::FORMAT_DESCRIPTION {
            // Since 5.6 the body ends in algorithm and checksum.
            sum = match body.split_last_chunk::<5>() {
                Some((_, [1, ..])) => 4,
                _ => 0,
            };
        }
        let body = body.get(..body.len().saturating_sub(sum)).unwrap_or(body);
        events += 1;
        if kind == ty::TABLE_MAP {
            let map = TableMap::parse(body)?;
            match map.columns() {
                Ok(columns) => maps.insert(map.id, columns),
                Err(_) => maps.remove(&map.id),
            };
        }
        let Some((op, v2, compressed)) = row_op(kind) else {
            continue;
        };
        let event = RowsEvent::parse(body, v2, op == RowOp::Update)?;
        let Some(columns) = maps.get(&event.table_id) else {
            continue;
        };
        let inflated;
        let mut data = if compressed {
            inflated = inflate(event.data, 1 << 28)?;
            Buf(&inflated)
        } else {
            Buf(event.data)
        };
        let mut after = false;
        while !data.0.is_empty() {
            let present = if after {
                event.present_after
            } else {
                event.present
            };
            walk(&mut data, columns, present)?;
            images += 1;
            after = op == RowOp::Update && !after;
        }
    }
    Ok((events, images))
}

fn walk(data: &mut Buf<'_>, columns: &[Physical], present: &[u8]) -> Result<(), Malformed> {
    let has = |map: &[u8], i: usize| map.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1);
    let count = (0..columns.len()).filter(|i| has(present, *i)).count();
    let before = data.0.len();
    let nulls = data.take(count.div_ceil(8))?;
    let mut nth = 0;
    for (i, p) in columns.iter().enumerate() {
        if has(present, i) {
            if !has(nulls, nth) {
                skip(data, *p)?;
            }
            nth += 1;
        }
    }
    if data.0.len() == before {
        return Err(Malformed("a row image without content"));
    }
    Ok(())
}
