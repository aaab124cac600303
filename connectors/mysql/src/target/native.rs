//! What a table looks like here that is to hold the rows of a table of another system.

use thalweg_core::finding::Finding;
use thalweg_core::mapping::ColumnPair;
use thalweg_core::schema::{Calendar, ColumnSchema, ColumnType, TableName, TableSchema, UniqueKey};

use super::ddl::NAME_CHARS_MAX;
use super::session::{Flavor, text};
use crate::schema::refuses;

/// Bytes of an index entry (InnoDB, 16 KiB pages, dynamic rows).
const INDEX_BYTES_MAX: usize = 3_072;
/// Bytes of a row without what lies outside of it (`TEXT`, `BLOB`), with some room for the lengths
/// and the null bits: the server's limit is 65,535.
const ROW_BYTES_MAX: usize = 60_000;
/// Bytes that a long column takes of a row.
const LONG_BYTES: usize = 12;
/// Bytes of a character in utf8mb4.
const CHAR_BYTES: usize = 4;

/// The table proposed for `columns` of `source`, or findings.
pub(super) fn propose(
    source: &TableSchema,
    name: &TableName,
    columns: &[ColumnPair],
    flavor: Flavor,
) -> Result<TableSchema, Vec<Finding>> {
    let mut findings = Vec::new();
    findings.extend(bad_name(&name.to_string(), &name.name, "table"));
    let mut origins: Vec<usize> = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for pair in columns {
        // A column that does not exist is the plan's to tell.
        let Some(index) = source.column_index(&pair.source) else {
            continue;
        };
        let subject = format!("{name}.{}", pair.target);
        findings.extend(bad_name(&subject, &pair.target, "column"));
        let same = |other: &&str| {
            *other != pair.target && other.to_lowercase() == pair.target.to_lowercase()
        };
        if let Some(other) = named.iter().find(|other| same(other)) {
            findings.push(Finding::error(
                "column_names_fold",
                subject,
                format!("its name differs from that of column {other} in case only"),
                "map one of the two to a column of another name",
            ));
        }
        named.push(&pair.target);
        origins.push(index);
    }
    let limits = Limits::of(source, &origins);
    let mut proposed = TableSchema::new(name.clone(), Vec::new());
    let pairs = columns
        .iter()
        .filter(|pair| source.column_index(&pair.source).is_some());
    for (pair, &index) in pairs.zip(&origins) {
        let Some(column) = source.columns.get(index) else {
            continue;
        };
        let limit = limits.of_column(index);
        let Some((native, ty)) = native(&column.ty, limit, flavor) else {
            findings.push(Finding::error(
                "type_without_counterpart",
                format!("{}.{}", source.name, column.name),
                format!(
                    "type {} has no counterpart in {} yet",
                    column.native,
                    flavor.name()
                ),
                "leave the column out of the mapping",
            ));
            continue;
        };
        proposed.columns.push(ColumnSchema {
            nullable: column.nullable,
            comment: column.comment.clone(),
            refuses: refuses(&ty, &native),
            ..ColumnSchema::new(&pair.target, ty, native)
        });
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let in_key: Vec<bool> = origins
        .iter()
        .map(|&index| limits.of_column(index).is_some())
        .collect();
    shrink(&mut proposed.columns, &in_key, flavor);
    let places = |key: &[usize]| -> Option<Vec<usize>> {
        key.iter()
            .map(|c| origins.iter().position(|o| o == c))
            .collect()
    };
    proposed.primary_key = places(&source.primary_key).unwrap_or_default();
    proposed.unique_keys = source
        .unique_keys
        .iter()
        .filter_map(|key| {
            Some(UniqueKey {
                name: key.name.clone(),
                columns: places(&key.columns)?,
            })
        })
        .collect();
    proposed.comment = source.comment.clone();
    Ok(proposed)
}

/// A finding if a name of what is to be created is none here.
fn bad_name(subject: &str, name: &str, what: &str) -> Option<Finding> {
    let chars = name.chars().count();
    let fault = if chars > NAME_CHARS_MAX {
        format!("the name has {chars} characters, MySQL takes {NAME_CHARS_MAX}")
    } else if name.ends_with(' ') {
        "the name ends with a space, which MySQL does not take".to_owned()
    } else if name.chars().any(|c| c == '\0' || c > '\u{ffff}') {
        "the name has a character that MySQL does not take in names".to_owned()
    } else {
        return None;
    };
    Some(Finding::error(
        if chars > NAME_CHARS_MAX {
            "name_too_long"
        } else {
            "name_impossible"
        },
        subject,
        fault,
        format!("map to a {what} with another name"),
    ))
}

/// How many bytes each column of a key may have, so that the key fits an index.
struct Limits(Vec<Option<usize>>);

impl Limits {
    fn of(source: &TableSchema, origins: &[usize]) -> Limits {
        let mut limits = vec![None; source.columns.len()];
        let foreign = source.foreign_keys.iter().map(|key| {
            let index = |name: &String| source.column_index(name);
            key.columns.iter().filter_map(index).collect::<Vec<usize>>()
        });
        let keys = std::iter::once(source.primary_key.clone())
            .chain(source.unique_keys.iter().map(|key| key.columns.clone()))
            .chain(foreign)
            .filter(|key| key.iter().all(|c| origins.contains(c)));
        for key in keys {
            let fixed = |c: &usize| source.columns.get(*c).and_then(|c| index_bytes(&c.ty));
            let taken: usize = key.iter().filter_map(fixed).sum();
            let varying = key.iter().filter(|c| fixed(c).is_none()).count().max(1);
            let each = INDEX_BYTES_MAX.saturating_sub(taken) / varying;
            for column in key {
                if let Some(limit) = limits.get_mut(column) {
                    *limit = Some(limit.unwrap_or(each).min(each));
                }
            }
        }
        Limits(limits)
    }

    fn of_column(&self, index: usize) -> Option<usize> {
        self.0.get(index).copied().flatten()
    }
}

/// Bytes in an index of a type without length; `None` for the others.
fn index_bytes(ty: &ColumnType) -> Option<usize> {
    Some(match ty {
        ColumnType::Bool => 1,
        ColumnType::Int { .. }
        | ColumnType::Float32 { .. }
        | ColumnType::Float64 { .. }
        | ColumnType::Date { .. }
        | ColumnType::Time { .. }
        | ColumnType::Timestamp { .. }
        | ColumnType::Instant { .. } => 8,
        ColumnType::Decimal {
            precision: Some(_), ..
        } => 32,
        ColumnType::Bits {
            len: Some(..=64),
            varying: false,
        }
        | ColumnType::Enum { .. }
        | ColumnType::Set { .. } => 8,
        ColumnType::Uuid => 36 * CHAR_BYTES,
        _ => return None,
    })
}

/// The type here of a type anywhere, as DDL and as neutral type; `None` if there is none. `key`: how
/// many bytes a column of a key may have.
pub(super) fn native(
    ty: &ColumnType,
    key: Option<usize>,
    flavor: Flavor,
) -> Option<(String, ColumnType)> {
    let calendar = Calendar::Lenient;
    let plain = |native: &str, ty: ColumnType| Some((native.to_owned(), ty));
    match ty {
        ColumnType::Bool => plain(
            "tinyint(1)",
            ColumnType::Int {
                bits: 8,
                unsigned: false,
            },
        ),
        ColumnType::Int { bits, unsigned } => {
            let name = match bits {
                8 => "tinyint",
                16 => "smallint",
                24 => "mediumint",
                32 => "int",
                _ => "bigint",
            };
            let sign = if *unsigned { " unsigned" } else { "" };
            Some((format!("{name}{sign}"), ty.clone()))
        }
        ColumnType::Float32 { .. } => plain("float", ColumnType::Float32 { special: false }),
        ColumnType::Float64 { .. } => plain("double", ColumnType::Float64 { special: false }),
        ColumnType::Decimal {
            precision: Some(precision @ 1..=65),
            scale,
            ..
        } if scale.unwrap_or(0) <= (*precision).min(30) => {
            let scale = scale.unwrap_or(0);
            Some((
                format!("decimal({precision},{scale})"),
                ColumnType::Decimal {
                    precision: Some(*precision),
                    scale: Some(scale),
                    special: false,
                },
            ))
        }
        ColumnType::Text { max_chars } => Some(long_text(*max_chars, key, flavor)),
        ColumnType::Bytes { max_bytes } => Some(octets(*max_bytes, key)),
        ColumnType::Date { .. } => plain("date", ColumnType::Date { calendar }),
        ColumnType::Time { precision, .. } => Some((
            format!("time({precision})"),
            ColumnType::Time {
                of_day: false,
                precision: *precision,
            },
        )),
        ColumnType::Instant {
            calendar: Calendar::Lenient,
            precision,
        } => Some((format!("timestamp({precision})"), ty.clone())),
        // In UTC: TIMESTAMP ends in 2038.
        ColumnType::Timestamp { precision, .. } | ColumnType::Instant { precision, .. } => Some((
            format!("datetime({precision})"),
            ColumnType::Timestamp {
                calendar,
                precision: *precision,
            },
        )),
        ColumnType::Uuid if flavor.has_uuid() => plain("uuid", ColumnType::Uuid),
        ColumnType::Uuid => Some((
            format!("char(36) {}", charset(flavor)),
            ColumnType::Text {
                max_chars: Some(36),
            },
        )),
        ColumnType::Json { .. } if key.is_none() => plain(
            "json",
            ColumnType::Json {
                normalised: !flavor.maria,
            },
        ),
        ColumnType::Bits {
            len: Some(len @ 1..=64),
            varying: false,
        } => Some((format!("bit({len})"), ty.clone())),
        ColumnType::Enum { labels } if are_labels(labels, 65_535) => {
            Some((choice("enum", labels, flavor), ty.clone()))
        }
        ColumnType::Set { labels }
            if are_labels(labels, 64)
                && !labels.iter().any(|l| l.is_empty() || l.contains(',')) =>
        {
            Some((choice("set", labels, flavor), ty.clone()))
        }
        ColumnType::Enum { labels } | ColumnType::Set { labels } => {
            let sum: usize = labels.iter().map(|l| l.chars().count() + 1).sum();
            Some(long_text(u32::try_from(sum).ok(), key, flavor))
        }
        ColumnType::Geometry => plain("geometry", ColumnType::Geometry),
        ColumnType::Other {
            system: "mysql",
            name,
        } if flavor.maria && matches!(name.as_str(), "inet4" | "inet6") => {
            Some((name.clone(), ty.clone()))
        }
        // What only its own engine understands, in its text form.
        ColumnType::Decimal { .. }
        | ColumnType::Interval
        | ColumnType::Json { .. }
        | ColumnType::Bits { .. }
        | ColumnType::Other { .. } => Some(long_text(None, key, flavor)),
    }
}

fn charset(flavor: Flavor) -> String {
    format!("character set utf8mb4 collate {}", flavor.collation())
}

fn long_text(max_chars: Option<u32>, key: Option<usize>, flavor: Flavor) -> (String, ColumnType) {
    let most = key.map_or(ROW_BYTES_MAX, |bytes| bytes) / CHAR_BYTES;
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let chars = match (max_chars, key) {
        (Some(chars), _) if chars <= most => Some(chars),
        (_, Some(_)) => Some(most),
        (_, None) => None,
    };
    let set = charset(flavor);
    let native = match chars {
        Some(chars) => format!("varchar({chars}) {set}"),
        None => format!("longtext {set}"),
    };
    (native, ColumnType::Text { max_chars: chars })
}

fn octets(max_bytes: Option<u32>, key: Option<usize>) -> (String, ColumnType) {
    let most = u32::try_from(key.unwrap_or(ROW_BYTES_MAX)).unwrap_or(u32::MAX);
    let bytes = match (max_bytes, key) {
        (Some(bytes), _) if bytes <= most => Some(bytes),
        (_, Some(_)) => Some(most),
        (_, None) => None,
    };
    let native = match bytes {
        Some(bytes) => format!("varbinary({bytes})"),
        None => "longblob".to_owned(),
    };
    (native, ColumnType::Bytes { max_bytes: bytes })
}

/// Whether labels stay what they are as labels of an `ENUM` or `SET`: trailing spaces go, and there
/// are limits.
fn are_labels(labels: &[String], most: usize) -> bool {
    let fits = |label: &String| label.chars().count() <= 255 && !label.ends_with(' ');
    !labels.is_empty() && labels.len() <= most && labels.iter().all(fits)
}

fn choice(word: &str, labels: &[String], flavor: Flavor) -> String {
    let labels: Vec<String> = labels.iter().map(|label| text(label)).collect();
    format!("{word}({}) {}", labels.join(","), charset(flavor))
}

/// Moves the widest columns out of the row until it fits.
fn shrink(columns: &mut [ColumnSchema], in_key: &[bool], flavor: Flavor) {
    let bytes = |column: &ColumnSchema| match &column.ty {
        ColumnType::Text {
            max_chars: Some(chars),
        } => *chars as usize * CHAR_BYTES + 2,
        ColumnType::Bytes {
            max_bytes: Some(bytes),
        } => *bytes as usize + 2,
        ColumnType::Decimal { .. } => 32,
        ColumnType::Uuid => 16,
        ColumnType::Text { .. }
        | ColumnType::Bytes { .. }
        | ColumnType::Json { .. }
        | ColumnType::Geometry => LONG_BYTES,
        _ => 8,
    };
    let mut sum: usize = columns.iter().map(bytes).sum();
    while sum > ROW_BYTES_MAX {
        let widest = columns
            .iter_mut()
            .zip(in_key)
            .filter(|(_, in_key)| !**in_key)
            .map(|(column, _)| column)
            .filter(|column| {
                matches!(
                    column.ty,
                    ColumnType::Text { max_chars: Some(_) }
                        | ColumnType::Bytes { max_bytes: Some(_) }
                )
            })
            .max_by_key(|column| bytes(column));
        let Some(column) = widest else {
            return;
        };
        sum -= bytes(column);
        (column.native, column.ty) = match column.ty {
            ColumnType::Text { .. } => long_text(None, None, flavor),
            _ => octets(None, None),
        };
        sum += LONG_BYTES;
    }
}
