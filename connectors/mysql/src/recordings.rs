//! Recorded binlog files, played without a server: for tests and measurements.
//!
//! A file goes through the decoder that the stream uses. Tables are those the caller gives, or what the
//! log itself says of them: names, signs, character sets, labels and keys where the server wrote them
//! (`binlog_row_metadata`), else columns `c1`, `c2` … of signed numbers and bytes. There is no catalogue to
//! ask for defaults: what an insert leaves out is NULL.

use std::collections::BTreeMap;

use thalweg_core::change::Transaction;
use thalweg_core::ports::StreamLimits;
use thalweg_core::schema::{Calendar, ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_core::{Error, Result, Side};

use crate::layout::{self, Layout};
use crate::position::{Coordinate, Place};
use crate::stream::cursor::Cursor;
use crate::stream::decode::{Decoder, Known, Playing, Step};
use crate::wire::event::{Header, ty};
use crate::wire::map::{Physical, TableMap};
use crate::wire::{Buf, Malformed};

/// What a recording holds, up to its end or its first damage.
#[derive(Debug)]
pub struct Recording {
    /// The tables; changes refer to them by index. One that was altered is there once for each form.
    pub tables: Vec<TableSchema>,
    /// Transactions with changes in commit order, each in one part or in several.
    pub transactions: Vec<Transaction>,
    /// How many events of each type there are, those inside compressed transactions included.
    pub events: BTreeMap<u8, u64>,
    /// The GTIDs of all transactions before the file, as MySQL writes sets; empty: none or not told.
    pub previous_gtids: String,
    /// The error that ended it before the end of the file.
    pub end: Result<()>,
}

/// Plays a binlog file with these limits. `tables`: those to capture, as they were; `None`: all, as the
/// log has them. Statements that define tables or change rows without row events are passed over.
pub fn play(file: &[u8], tables: Option<&[TableSchema]>, limits: StreamLimits) -> Recording {
    let mut transactions = Vec::new();
    let played = visit(file, tables, limits, &mut |part| transactions.push(part));
    Recording {
        transactions,
        ..played
    }
}

/// The same, handing each transaction or part to `each`; the recording that is given has none.
pub fn visit(
    file: &[u8],
    tables: Option<&[TableSchema]>,
    limits: StreamLimits,
    each: &mut dyn FnMut(Transaction),
) -> Recording {
    let place = Place {
        at: Coordinate {
            server: 1,
            file: FILE.to_owned(),
            pos: 4,
        },
        ..Place::default()
    };
    let cursor = Cursor {
        file: FILE.into(),
        ..Cursor::new(1)
    };
    let known = |table: &TableSchema| {
        let nulls = || vec![layout::null(); table.columns.len()];
        let given = table.layout.clone();
        TableSchema {
            layout: given.or_else(|| Some(Layout::new(table, nulls()).stored())),
            ..table.clone()
        }
    };
    let given: Vec<TableSchema> = tables.unwrap_or_default().iter().map(known).collect();
    let mut decoder = match Decoder::new(place, cursor, false, &given, Known::default(), limits) {
        Ok(decoder) => decoder,
        Err(error) => {
            return Recording {
                tables: given,
                transactions: Vec::new(),
                events: BTreeMap::new(),
                previous_gtids: String::new(),
                end: Err(error),
            };
        }
    };
    decoder.playing = Some(Playing {
        learn: tables.is_none().then_some(learned),
        ..Playing::default()
    });
    let end = run(&mut decoder, file, &mut Out { each, open: false });
    let playing = decoder.playing.take().unwrap_or_default();
    Recording {
        tables: decoder.tables().to_vec(),
        transactions: Vec::new(),
        events: playing.events,
        previous_gtids: playing.previous.to_string(),
        end,
    }
}

/// The name the file plays under.
const FILE: &str = "recording.000001";

/// Where transactions go.
struct Out<'a> {
    each: &'a mut dyn FnMut(Transaction),
    /// Whether a part has gone whose transaction is to go on.
    open: bool,
}

impl Out<'_> {
    /// Takes a step; gives where the group starts that is wanted again.
    fn take(&mut self, step: Step) -> Option<u64> {
        match step {
            Step::Nothing => None,
            Step::Again(_, pos) => Some(pos),
            Step::Out(part) => {
                // A transaction without changes only moves the position.
                let says = !part.changes.changes.is_empty() || !part.schema.is_empty();
                if self.open || part.commit.is_none() || says {
                    self.open = part.commit.is_none();
                    (self.each)(part);
                }
                None
            }
        }
    }
}

fn run(decoder: &mut Decoder, file: &[u8], out: &mut Out<'_>) -> Result<()> {
    let mut events = Events::open(file)?;
    while let Some((header, body)) = events.next()? {
        let mut again = out.take(decoder.event(&header, body, false)?);
        while let Some(step) = decoder.more()? {
            again = again.or(out.take(step));
        }
        let Some(pos) = again else {
            continue;
        };
        decoder.again();
        let mut events = events.from(pos)?;
        while decoder.in_group() {
            let lost = || Error::data("a prepared transaction has no end").at(Side::Source);
            let (header, body) = events.next()?.ok_or_else(lost)?;
            out.take(decoder.event(&header, body, true)?);
            while let Some(step) = decoder.more()? {
                out.take(step);
            }
        }
    }
    Ok(())
}

/// The events of a file.
struct Events<'a> {
    file: &'a [u8],
    rest: Buf<'a>,
    /// Bytes of the checksum behind each body.
    sum: usize,
}

impl<'a> Events<'a> {
    fn open(file: &'a [u8]) -> Result<Events<'a>> {
        let mut rest = Buf(file);
        if rest.take(4)? != [0xFE, b'b', b'i', b'n'] {
            return Err(Malformed("not a binlog file").into());
        }
        Ok(Events { file, rest, sum: 0 })
    }

    /// The events from an offset on.
    fn from(&self, pos: u64) -> Result<Events<'a>> {
        let rest = usize::try_from(pos)
            .ok()
            .and_then(|pos| self.file.get(pos..));
        Ok(Events {
            rest: Buf(rest.ok_or(Malformed("an offset behind the end"))?),
            ..*self
        })
    }

    fn next(&mut self) -> Result<Option<(Header, &'a [u8])>> {
        if self.rest.0.is_empty() {
            return Ok(None);
        }
        let (header, len) = Header::parse(&self.rest.array()?)?;
        let body = self.rest.take(len)?;
        if header.ty == ty::FORMAT_DESCRIPTION {
            // Since 5.6 the body ends in algorithm and checksum.
            self.sum = match body.split_last_chunk::<5>() {
                Some((_, [1, ..])) => 4,
                _ => 0,
            };
        }
        let Some((plain, sum)) = body.split_last_chunk::<4>().filter(|_| self.sum > 0) else {
            return Ok(Some((header, body)));
        };
        if u32::from_le_bytes(*sum) != header.crc(plain) {
            return Err(Malformed("an event has a wrong checksum").into());
        }
        Ok(Some((header, plain)))
    }
}

/// A table as its map describes it.
fn learned(map: &TableMap<'_>) -> Result<TableSchema> {
    let physical = map.columns()?;
    let told = map.metadata()?;
    let mut names = told.names;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let labels = |i: usize, count: u32| match told.labels.get(i) {
        Some(Some(list)) => list.map(text).collect(),
        _ => (1..=count).map(|n| n.to_string()).collect(),
    };
    let calendar = Calendar::Lenient;
    let mut columns = Vec::new();
    for (i, p) in physical.iter().enumerate() {
        let unsigned = told.unsigned.get(i).copied().flatten().unwrap_or(false);
        let collation = told.collation.get(i).copied().flatten().unwrap_or(63);
        let geometry = told.geometry.get(i).copied().flatten().is_some();
        let string = || match charset(collation) {
            Some(set) => {
                let ty = ColumnType::Text { max_chars: None };
                (ty, format!("text character set {set}"))
            }
            None => (ColumnType::Bytes { max_bytes: None }, "blob".to_owned()),
        };
        let of = |ty: ColumnType, native: &str| (ty, native.to_owned());
        let (ty, native) = match *p {
            Physical::Int(n) => of(
                ColumnType::Int {
                    bits: n * 8,
                    unsigned,
                },
                "int",
            ),
            Physical::Year => of(
                ColumnType::Int {
                    bits: 16,
                    unsigned: false,
                },
                "year(4)",
            ),
            Physical::Float => of(ColumnType::Float32 { special: false }, "float"),
            Physical::Double => of(ColumnType::Float64 { special: false }, "double"),
            Physical::Decimal(precision, scale) => of(
                ColumnType::Decimal {
                    precision: Some(u32::from(precision)),
                    scale: Some(u32::from(scale)),
                    special: false,
                },
                "decimal",
            ),
            Physical::Date => of(ColumnType::Date { calendar }, "date"),
            Physical::OldTime(precision) | Physical::Time2(precision) => of(
                ColumnType::Time {
                    precision,
                    of_day: false,
                },
                "time",
            ),
            Physical::OldDatetime(precision) | Physical::Datetime2(precision) => of(
                ColumnType::Timestamp {
                    precision,
                    calendar,
                },
                "datetime",
            ),
            Physical::OldTimestamp(precision) | Physical::Timestamp2(precision) => of(
                ColumnType::Instant {
                    precision,
                    calendar,
                },
                "timestamp",
            ),
            Physical::Bit(bytes) => {
                let len = Some(u32::from(bytes) * 8);
                of(
                    ColumnType::Bits {
                        len,
                        varying: false,
                    },
                    "bit",
                )
            }
            Physical::Str(_) if geometry => of(ColumnType::Geometry, "geometry"),
            Physical::Str(_) | Physical::Compressed(_) => string(),
            Physical::Json(_) | Physical::Array(_) => {
                of(ColumnType::Json { normalised: true }, "json")
            }
            Physical::Vector(_) => {
                let (system, name) = ("mysql", "vector".to_owned());
                of(ColumnType::Other { system, name }, "vector(1)")
            }
            Physical::Enum(bytes) => {
                let count = if bytes > 1 { 65_535 } else { 255 };
                of(
                    ColumnType::Enum {
                        labels: labels(i, count),
                    },
                    "enum",
                )
            }
            Physical::Set(bytes) => {
                let labels = labels(i, u32::from(bytes) * 8);
                of(ColumnType::Set { labels }, "set")
            }
        };
        let name = names.next().map_or_else(|| format!("c{}", i + 1), text);
        columns.push(ColumnSchema::new(name, ty, native));
    }
    let name = TableName::new(text(map.schema), text(map.table));
    let primary_key = told
        .key
        .into_iter()
        .filter(|i| *i < columns.len())
        .collect();
    Ok(TableSchema {
        primary_key,
        ..TableSchema::new(name, columns)
    })
}

/// The character sets of the collations that recordings have; `None`: bytes.
fn charset(collation: u64) -> Option<&'static str> {
    match collation {
        63 => None,
        5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Some("latin1"),
        33 | 76 | 83 | 192..=215 | 223 => Some("utf8mb3"),
        _ => Some("utf8mb4"),
    }
}
