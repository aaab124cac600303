//! Joining what the log says of a table with what is known of it.

use thalweg_core::schema::{ColumnSchema, ColumnType, TableSchema};

use super::cells::{self, Meaning};
use super::map::{Metadata, Physical, Strings};
use super::rows::{Column, Columns, Missing};
use crate::layout::{self, Layout};

/// Joins what the log says with what is known of the table: all its columns, and those of the schema,
/// which are asked for. `Err` names the column that disagrees. `charset` gives the character set of a
/// collation, if it is known.
pub(crate) fn join(
    physical: &[Physical],
    metadata: &Metadata<'_>,
    layout: &Layout,
    schema: &TableSchema,
    charset: &dyn Fn(u64) -> Option<String>,
) -> Result<Columns, String> {
    if physical.len() != layout.columns.len() {
        return Err(format!(
            "it has {} columns in the log and {} in what is known of it there",
            physical.len(),
            layout.columns.len()
        ));
    }
    let mut names = metadata.names;
    let mut wanted = schema.columns.iter().enumerate().peekable();
    let mut out = Columns::default();
    let fill = |column: &ColumnSchema| layout.awaited(&column.name).map(|y| y.fill.clone());
    for (i, (p, known)) in physical.iter().zip(&layout.columns).enumerate() {
        if let Some(name) = names.next()
            && name != known.name.as_bytes()
        {
            return Err(format!(
                "column {} is called {} in the log",
                known.name,
                String::from_utf8_lossy(name)
            ));
        }
        while let Some((at, fill)) = wanted.peek().and_then(|(at, c)| Some((*at, fill(c)?))) {
            out.young.push((at, fill));
            wanted.next();
        }
        if let Some((at, column)) = wanted.next_if(|(_, c)| layout::same(&c.name, &known.name)) {
            if !known.native.is_empty() && !layout::same_kind(&known.native, &column.native) {
                return Err(format!(
                    "column {} was {} and is {}",
                    column.name, known.native, column.native
                ));
            }
            let told = Told::of(metadata, i);
            out.logged.push(Column {
                wanted: Some(at),
                ..wanted_column(*p, &told, column, known, charset)?
            });
        } else {
            out.logged.push(other_column(*p, known)?);
        }
    }
    let left = wanted.clone().map_while(|(at, c)| Some((at, fill(c)?)));
    out.young.extend(left);
    let mut wanted = wanted.skip_while(|(_, c)| fill(c).is_some());
    match wanted.next() {
        Some((_, column)) => Err(format!("column {} is not there", column.name)),
        None => Ok(out),
    }
}

/// What the log says of one column beyond its form.
struct Told<'a> {
    unsigned: Option<bool>,
    collation: Option<u64>,
    labels: Option<Strings<'a>>,
}

impl<'a> Told<'a> {
    fn of(metadata: &Metadata<'a>, i: usize) -> Told<'a> {
        Told {
            unsigned: metadata.unsigned.get(i).copied().flatten(),
            collation: metadata.collation.get(i).copied().flatten(),
            labels: metadata.labels.get(i).copied().flatten(),
        }
    }
}

/// A column that is asked for. Where it is to get another type, it lies there as it did before, and its
/// cells are as those of the type it gets.
fn wanted_column(
    p: Physical,
    told: &Told<'_>,
    c: &ColumnSchema,
    known: &layout::Column,
    charset: &dyn Fn(u64) -> Option<String>,
) -> Result<Column, String> {
    let meaning = cells::meaning(c)
        .ok_or_else(|| format!("the character set of column {} is not built yet", c.name))?;
    let other = |what: &str| Err(format!("column {} has another {what} in the log", c.name));
    let changes = known.changes_to(c);
    let within = if changes {
        within(p, &c.ty, &known.native)
    } else {
        None
    };
    let Some(p) = within.or_else(|| fits(p, &c.ty, &meaning)) else {
        return other("type");
    };
    let unsigned = matches!(c.ty, ColumnType::Int { unsigned: true, .. });
    if let (ColumnType::Int { .. }, Some(told)) = (&c.ty, told.unsigned)
        && p != Physical::Year
        && told != unsigned
    {
        return other("sign");
    }
    if let Some(told) = told.collation.and_then(charset)
        && !same_charset(&told, &c.ty, &c.native)
    {
        return other("character set");
    }
    if let (Some(told), ColumnType::Enum { labels } | ColumnType::Set { labels }) =
        (told.labels, &c.ty)
        && !same_labels(told, labels, changes)
    {
        return other("list of labels");
    }
    let zeros = match (p, &c.ty) {
        (Physical::Decimal(_, has), ColumnType::Decimal { scale: Some(n), .. }) => {
            u8::try_from(*n).unwrap_or(0).saturating_sub(has)
        }
        _ => 0,
    };
    Ok(Column {
        physical: p,
        wanted: None,
        unsigned,
        zeros,
        meaning,
        missing: known.missing.clone(),
    })
}

/// A column that is passed over.
fn other_column(p: Physical, known: &layout::Column) -> Result<Column, String> {
    if !layout::agrees(&known.native, p) {
        return Err(format!("column {} has another type in the log", known.name));
    }
    let digits = layout::digits(&known.native);
    let physical = match p {
        Physical::OldTime(_) | Physical::OldDatetime(_) | Physical::OldTimestamp(_)
            if known.native.is_empty() =>
        {
            return Err(format!(
                "how many digits of a second column {} has is not known there",
                known.name
            ));
        }
        Physical::OldTime(_) => Physical::OldTime(digits),
        Physical::OldDatetime(_) => Physical::OldDatetime(digits),
        Physical::OldTimestamp(_) => Physical::OldTimestamp(digits),
        p => p,
    };
    Ok(Column {
        physical,
        wanted: None,
        unsigned: false,
        zeros: 0,
        meaning: Meaning::Plain,
        missing: Missing::Unknown,
    })
}

/// The physical form of a type, which is called `native`, whose values are all of another type; `None`: it is
/// not one that lies in another way.
fn within(p: Physical, ty: &ColumnType, native: &str) -> Option<Physical> {
    let within = match (p, ty) {
        (Physical::Int(n), ColumnType::Int { bits, .. }) => n * 8 <= *bits,
        (
            Physical::Decimal(digits, has),
            ColumnType::Decimal {
                precision: Some(precision),
                scale: Some(scale),
                ..
            },
        ) => {
            let whole = precision.saturating_sub(*scale);
            u32::from(has) <= *scale && u32::from(digits.saturating_sub(has)) <= whole
        }
        (Physical::Time2(f), ColumnType::Time { precision, .. })
        | (Physical::Datetime2(f), ColumnType::Timestamp { precision, .. })
        | (Physical::Timestamp2(f), ColumnType::Instant { precision, .. }) => f <= *precision,
        (Physical::OldTime(_), ColumnType::Time { .. }) => {
            return Some(Physical::OldTime(layout::digits(native)));
        }
        (Physical::OldDatetime(_), ColumnType::Timestamp { .. }) => {
            return Some(Physical::OldDatetime(layout::digits(native)));
        }
        (Physical::OldTimestamp(_), ColumnType::Instant { .. }) => {
            return Some(Physical::OldTimestamp(layout::digits(native)));
        }
        _ => false,
    };
    within.then_some(p)
}

/// The physical form, completed by what only the schema knows; `None`: they do not fit.
fn fits(p: Physical, ty: &ColumnType, meaning: &Meaning) -> Option<Physical> {
    let fits = match (p, ty) {
        (Physical::Int(n), ColumnType::Int { bits, .. }) => n * 8 == *bits,
        (Physical::Year, ColumnType::Int { .. }) => *meaning == Meaning::Year,
        (Physical::Float, ColumnType::Float32 { .. })
        | (Physical::Double, ColumnType::Float64 { .. })
        | (Physical::Date, ColumnType::Date { .. })
        | (Physical::Bit(_), ColumnType::Bits { .. })
        | (Physical::Enum(_), ColumnType::Enum { .. })
        | (Physical::Set(_), ColumnType::Set { .. })
        | (Physical::Json(_), ColumnType::Json { normalised: true }) => true,
        (
            Physical::Decimal(dp, ds),
            ColumnType::Decimal {
                precision, scale, ..
            },
        ) => *precision == Some(u32::from(dp)) && *scale == Some(u32::from(ds)),
        (Physical::Time2(f), ColumnType::Time { precision, .. })
        | (Physical::Datetime2(f), ColumnType::Timestamp { precision, .. })
        | (Physical::Timestamp2(f), ColumnType::Instant { precision, .. }) => f == *precision,
        (Physical::OldTime(_), ColumnType::Time { precision, .. }) => {
            return Some(Physical::OldTime(*precision));
        }
        (Physical::OldDatetime(_), ColumnType::Timestamp { precision, .. }) => {
            return Some(Physical::OldDatetime(*precision));
        }
        (Physical::OldTimestamp(_), ColumnType::Instant { precision, .. }) => {
            return Some(Physical::OldTimestamp(*precision));
        }
        (Physical::Vector(_), ColumnType::Other { .. }) => *meaning == Meaning::Vector,
        (
            Physical::Str(_),
            ColumnType::Text { .. }
            | ColumnType::Json { normalised: false }
            | ColumnType::Geometry
            | ColumnType::Bytes { .. }
            | ColumnType::Uuid
            | ColumnType::Other { .. },
        )
        | (
            Physical::Compressed(_),
            ColumnType::Text { .. }
            | ColumnType::Json { normalised: false }
            | ColumnType::Bytes { .. },
        ) => true,
        _ => false,
    };
    fits.then_some(p)
}

/// Whether a character set told by the log is that of the column.
fn same_charset(told: &str, ty: &ColumnType, native: &str) -> bool {
    let plain = |name: &str| match name {
        "utf8" => "utf8mb3".to_owned(),
        name => name.to_owned(),
    };
    match (ty, native.split_once(" character set ")) {
        (ColumnType::Text { .. } | ColumnType::Json { .. }, Some((_, name))) => {
            plain(told) == plain(name)
        }
        (ColumnType::Bytes { .. }, _) => told == "binary",
        _ => true,
    }
}

/// Labels come in their column's character set: those beyond ASCII are not compared. `more`: there may be
/// more labels than the log tells.
fn same_labels(told: Strings<'_>, labels: &[String], more: bool) -> bool {
    let same = |(told, label): (&[u8], &String)| {
        !told.is_ascii() || !label.is_ascii() || told == label.as_bytes()
    };
    let count = told.count();
    let enough = count == labels.len() || more && count < labels.len();
    enough && told.zip(labels).all(same)
}
