//! Verifications in the catalogue.

use serde_json::{Map, Value, json};
use thalweg_core::ports::Differs;
use thalweg_core::position::Position;
use thalweg_core::schema::TableName;
use thalweg_engine::verify::{Finding, Request, RowReport, TableReport};

use super::{list, parse};
use crate::error::Result;

/// Rows that differ kept of one verification: the first of them, table by table.
const ROWS_MAX: usize = 10_000;
/// Characters kept of a value of a key.
const VALUE_CHARS_MAX: usize = 1_000;

const DIFFERS: [(Differs, &str); 3] = [
    (Differs::Changed, "c"),
    (Differs::Missing, "m"),
    (Differs::Extra, "e"),
];

pub(crate) fn request_write(request: &Request) -> String {
    let tables = request.tables.iter();
    json!({
        "tables": tables.map(|t| json!([t.schema, t.name])).collect::<Vec<Value>>(),
        "repair": request.repair,
        "rows_per_second": request.rows_per_second,
    })
    .to_string()
}

pub(crate) fn request_read(text: &str) -> Result<Request> {
    let value = parse(text)?;
    let tables = value.get("tables").and_then(Value::as_array);
    let name = |table: &Value| TableName::new(text_at(table, 0), text_at(table, 1));
    Ok(Request {
        tables: tables.into_iter().flatten().map(name).collect(),
        repair: value.get("repair").and_then(Value::as_bool) == Some(true),
        rows_per_second: value.get("rows_per_second").and_then(Value::as_u64),
        // Of one that is stored nobody asks it any more.
        hurries: false,
    })
}

/// What is known of tables, without the rows that differ.
pub(crate) fn tables_write(tables: &[TableReport]) -> String {
    Value::Array(tables.iter().map(table_write).collect()).to_string()
}

fn table_write(table: &TableReport) -> Value {
    let (finding, reason) = match &table.finding {
        Finding::Waiting => ("waiting", None),
        Finding::Running => ("running", None),
        Finding::Equal => ("equal", None),
        Finding::Repaired => ("repaired", None),
        Finding::Different => ("different", None),
        Finding::Failed(reason) => ("failed", Some(reason)),
    };
    json!({
        "source": table.source,
        "target": table.target,
        "finding": finding,
        "reason": reason,
        "position": table.position.as_ref().map(Position::as_str),
        "rows": table.rows,
        "hash": format!("{:032x}", table.hash),
        "at_ms": table.at_ms,
        "took_ms": table.took_ms,
        "changed": table.changed,
        "missing": table.missing,
        "extra": table.extra,
        "repaired": table.repaired,
    })
}

pub(crate) fn tables_read(text: &str) -> Result<Vec<TableReport>> {
    Ok(list(text)?.iter().map(table_read).collect())
}

fn table_read(value: &Value) -> TableReport {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default();
    TableReport {
        source: text("source").to_owned(),
        target: text("target").to_owned(),
        finding: match text("finding") {
            "running" => Finding::Running,
            "equal" => Finding::Equal,
            "repaired" => Finding::Repaired,
            "different" => Finding::Different,
            "failed" => Finding::Failed(text("reason").to_owned()),
            _ => Finding::Waiting,
        },
        position: match text("position") {
            "" => None,
            position => Some(Position::new(position)),
        },
        rows: number("rows"),
        hash: u128::from_str_radix(text("hash"), 16).unwrap_or(0),
        at_ms: number("at_ms"),
        took_ms: number("took_ms"),
        changed: number("changed"),
        missing: number("missing"),
        extra: number("extra"),
        repaired: number("repaired"),
        differences: Vec::new(),
    }
}

/// The rows that differ, table by table; `None` if there are none. The text holds values of the user.
pub(crate) fn differences_write(tables: &[TableReport]) -> Option<String> {
    let mut room = ROWS_MAX;
    let mut all = Vec::with_capacity(tables.len());
    for table in tables {
        let rows = table.differences.iter().take(room);
        let rows: Vec<Value> = rows.map(row_write).collect();
        room = room.saturating_sub(rows.len());
        all.push(Value::Array(rows));
    }
    (room < ROWS_MAX).then(|| Value::Array(all).to_string())
}

fn row_write(row: &RowReport) -> Value {
    let column = |(name, value): &(String, String)| {
        let mut kept: String = value.chars().take(VALUE_CHARS_MAX).collect();
        if kept.len() < value.len() {
            kept.push('…');
        }
        json!([name, kept])
    };
    let differs = DIFFERS.iter().find(|(known, _)| *known == row.differs);
    let mut map = Map::new();
    let key = row.key.iter().map(column).collect();
    map.insert("k".to_owned(), Value::Array(key));
    map.insert("d".to_owned(), differs.map(|(_, word)| *word).into());
    map.insert("c".to_owned(), row.columns.clone().into());
    Value::Object(map)
}

/// Gives tables their rows that differ.
pub(crate) fn differences_read(text: &str, tables: &mut [TableReport]) -> Result<()> {
    for (rows, table) in list(text)?.iter().zip(tables) {
        let rows = rows.as_array().into_iter().flatten();
        table.differences = rows.map(row_read).collect();
    }
    Ok(())
}

fn row_read(value: &Value) -> RowReport {
    let array = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let word = value.get("d").and_then(Value::as_str).unwrap_or_default();
    let differs = DIFFERS.iter().find(|(_, known)| *known == word);
    let texts = array("c").filter_map(Value::as_str);
    RowReport {
        key: array("k")
            .map(|pair| (text_at(pair, 0), text_at(pair, 1)))
            .collect(),
        differs: differs.map_or(Differs::Changed, |(differs, _)| *differs),
        columns: texts.map(str::to_owned).collect(),
    }
}

fn text_at(value: &Value, index: usize) -> String {
    let text = value.get(index).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(differs: Differs) -> RowReport {
        RowReport {
            key: vec![("b".into(), "ž".into()), ("a".into(), "1".into())],
            differs,
            columns: vec!["x".into()],
        }
    }

    #[test]
    fn verifications_come_back_as_they_went() {
        for (tables, rows_per_second) in
            [(vec![], None), (vec![TableName::new("a", "b.c")], Some(7))]
        {
            let request = Request {
                tables,
                repair: rows_per_second.is_some(),
                rows_per_second,
                hurries: false,
            };
            assert_eq!(request_read(&request_write(&request)).unwrap(), request);
        }
        let findings = [
            Finding::Waiting,
            Finding::Running,
            Finding::Equal,
            Finding::Repaired,
            Finding::Different,
            Finding::Failed("why".into()),
        ];
        let table = |finding| TableReport {
            source: "a.b".into(),
            target: "c.d".into(),
            finding,
            position: Some(Position::new("0-1-2")),
            rows: 1,
            hash: u128::MAX - 7,
            at_ms: 2,
            took_ms: 3,
            changed: 4,
            missing: 5,
            extra: 6,
            repaired: 7,
            differences: DIFFERS.iter().map(|(differs, _)| row(*differs)).collect(),
        };
        let mut tables: Vec<TableReport> = findings.into_iter().map(table).collect();
        tables.push(TableReport::default());
        let mut read = tables_read(&tables_write(&tables)).unwrap();
        assert!(read.iter().all(|table| table.differences.is_empty()));
        differences_read(&differences_write(&tables).unwrap(), &mut read).unwrap();
        assert_eq!(read, tables);
        assert_eq!(differences_write(&[TableReport::default()]), None);
    }

    #[test]
    fn of_many_rows_and_long_values_a_part_is_kept() {
        let mut long = row(Differs::Missing);
        long.key = vec![("k".into(), "ž".repeat(VALUE_CHARS_MAX + 1))];
        let table = TableReport {
            differences: vec![long; ROWS_MAX / 2 + 1],
            ..TableReport::default()
        };
        let tables = vec![table.clone(), table];
        let mut read = vec![TableReport::default(); 2];
        differences_read(&differences_write(&tables).unwrap(), &mut read).unwrap();
        let kept: Vec<usize> = read.iter().map(|table| table.differences.len()).collect();
        assert_eq!(kept, [ROWS_MAX / 2 + 1, ROWS_MAX / 2 - 1]);
        let value = &read[0].differences[0].key[0].1;
        assert_eq!(value.chars().count(), VALUE_CHARS_MAX + 1);
        assert!(value.ends_with('…'));
    }
}
