//! How lists and options lie in the catalogue: JSON with short names, written and read here only.

mod verification;

pub(crate) use verification::{
    differences_read, differences_write, request_read, request_write, tables_read, tables_write,
};

use serde_json::{Map, Value, json};
use thalweg_core::mapping::{
    CreateTables, ExistingRows, ForeignKeys, OnBadRow, OnChange, OnChanges, TaskOptions,
    UnfitValues,
};
use thalweg_core::ports::{ClientCertificate, TlsMode, TlsOptions};
use thalweg_core::secret::Secret;

use crate::error::{Error, Result};
use crate::model::{ColumnInfo, ColumnLink, DataSourceOptions, Paused};

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(Error::internal)
}

pub(crate) fn options_write(options: &TaskOptions) -> String {
    json!({
        "create_tables": match options.create_tables {
            CreateTables::None => "none",
            CreateTables::Missing => "missing",
        },
        "existing_rows": match options.existing_rows {
            ExistingRows::Refuse => "refuse",
            ExistingRows::Replace => "replace",
            ExistingRows::Compare => "compare",
        },
        "foreign_keys": match options.foreign_keys {
            ForeignKeys::Enforce => "enforce",
            ForeignKeys::Replica => "replica",
        },
        "on_bad_row": match options.on_bad_row {
            OnBadRow::Stop => "stop",
            OnBadRow::Quarantine => "quarantine",
        },
        "quarantine_max": options.quarantine_max,
        "on_add_column": on_change(options.on_changes.add_column),
        "on_drop_column": on_change(options.on_changes.drop_column),
        "on_retype_column": on_change(options.on_changes.retype_column),
        "on_other_change": on_change(options.on_changes.other),
        "unfit_values": match options.unfit_values {
            UnfitValues::Stop => "stop",
            UnfitValues::Null => "null",
            UnfitValues::Nearest => "nearest",
        },
        "row_owner": options.row_owner,
        "workers": options.workers,
        "chunk_rows": options.chunk_rows,
        "row_bytes_max": options.row_bytes_max,
        "verify_rows_per_second": options.verify_rows_per_second,
    })
    .to_string()
}

pub(crate) fn options_read(text: &str) -> Result<TaskOptions> {
    let value = parse(text)?;
    let defaults = TaskOptions::default();
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    Ok(TaskOptions {
        create_tables: match word("create_tables") {
            "missing" => CreateTables::Missing,
            _ => CreateTables::None,
        },
        existing_rows: match word("existing_rows") {
            "replace" => ExistingRows::Replace,
            "compare" => ExistingRows::Compare,
            _ => ExistingRows::Refuse,
        },
        foreign_keys: match word("foreign_keys") {
            "replica" => ForeignKeys::Replica,
            _ => ForeignKeys::Enforce,
        },
        on_bad_row: match word("on_bad_row") {
            "quarantine" => OnBadRow::Quarantine,
            _ => OnBadRow::Stop,
        },
        quarantine_max: number("quarantine_max").unwrap_or(defaults.quarantine_max),
        on_changes: {
            let chosen = |key: &str, default: OnChange| {
                let found = ON_CHANGE.iter().find(|(_, known)| *known == word(key));
                found.map_or(default, |(chosen, _)| *chosen)
            };
            let defaults = OnChanges::default();
            OnChanges {
                add_column: chosen("on_add_column", defaults.add_column),
                drop_column: chosen("on_drop_column", defaults.drop_column),
                retype_column: chosen("on_retype_column", defaults.retype_column),
                other: chosen("on_other_change", defaults.other),
            }
        },
        unfit_values: match word("unfit_values") {
            "null" => UnfitValues::Null,
            "nearest" => UnfitValues::Nearest,
            _ => UnfitValues::Stop,
        },
        row_owner: match value.get("row_owner").and_then(Value::as_object) {
            None => defaults.row_owner,
            Some(owners) => owners
                .iter()
                .map(|(target, owner)| (target.clone(), owner.as_str().unwrap_or_default().into()))
                .collect(),
        },
        workers: number("workers")
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(defaults.workers),
        chunk_rows: number("chunk_rows").unwrap_or(defaults.chunk_rows),
        row_bytes_max: number("row_bytes_max").unwrap_or(defaults.row_bytes_max),
        verify_rows_per_second: number("verify_rows_per_second"),
    })
}

const ON_CHANGE: [(OnChange, &str); 4] = [
    (OnChange::Follow, "follow"),
    (OnChange::Ignore, "ignore"),
    (OnChange::Pause, "pause"),
    (OnChange::Stop, "stop"),
];

fn on_change(value: OnChange) -> &'static str {
    let found = ON_CHANGE.iter().find(|(known, _)| *known == value);
    found.map_or("", |(_, word)| word)
}

pub(crate) fn paused_write(paused: &Paused) -> String {
    json!({
        "reason": paused.reason,
        "fix": paused.fix,
        "since_ms": paused.since_ms,
        "returns": paused.returns,
    })
    .to_string()
}

pub(crate) fn paused_read(text: &str) -> Result<Paused> {
    let value = parse(text)?;
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(Paused {
        reason: word("reason").to_owned(),
        fix: word("fix").to_owned(),
        since_ms: value.get("since_ms").and_then(Value::as_i64).unwrap_or(0),
        returns: value.get("returns").and_then(Value::as_bool) == Some(true),
    })
}

const TLS: [(TlsMode, &str); 5] = [
    (TlsMode::Off, "off"),
    (TlsMode::Prefer, "prefer"),
    (TlsMode::Require, "require"),
    (TlsMode::VerifyCa, "verify-ca"),
    (TlsMode::VerifyFull, "verify-full"),
];

/// `key`: the key of its client certificate, sealed.
pub(crate) fn source_options_write(options: &DataSourceOptions, key: Option<&str>) -> String {
    let mode = TLS.iter().find(|(mode, _)| *mode == options.tls.mode);
    json!({
        "tls": mode.map_or("prefer", |(_, word)| word),
        "ca_pem": options.tls.ca_pem,
        "client_cert_pem": options.tls.client.as_ref().map(|client| client.cert_pem.as_str()),
        "client_key": key,
        "allow_cleartext_password": options.allow_cleartext_password,
    })
    .to_string()
}

/// `unseal`: opens the key of its client certificate.
pub(crate) fn source_options_read(
    text: &str,
    unseal: impl FnOnce(&str) -> Result<Secret>,
) -> Result<DataSourceOptions> {
    let value = parse(text)?;
    let word = value.get("tls").and_then(Value::as_str).unwrap_or_default();
    let mode = TLS.iter().find(|(_, name)| *name == word);
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let client = match (text("client_cert_pem"), text("client_key")) {
        (Some(cert_pem), Some(key)) => Some(ClientCertificate {
            cert_pem: cert_pem.to_owned(),
            key_pem: unseal(key)?,
        }),
        _ => None,
    };
    Ok(DataSourceOptions {
        tls: TlsOptions {
            mode: mode.map_or(TlsMode::default(), |(mode, _)| *mode),
            ca_pem: text("ca_pem").map(str::to_owned),
            client,
        },
        allow_cleartext_password: value
            .get("allow_cleartext_password")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

fn column_write(column: &ColumnInfo) -> Value {
    let mut map = Map::new();
    for (key, value) in [
        ("n", &column.field_name),
        ("t", &column.field_type),
        ("l", &column.field_length),
    ] {
        if let Some(value) = value {
            map.insert(key.to_owned(), Value::String(value.clone()));
        }
    }
    Value::Object(map)
}

fn column_read(value: &Value) -> ColumnInfo {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    ColumnInfo {
        field_name: text("n"),
        field_type: text("t"),
        field_length: text("l"),
    }
}

fn list(text: &str) -> Result<Vec<Value>> {
    match parse(text)? {
        Value::Array(list) => Ok(list),
        _ => Err(Error::Internal(
            "the catalogue has no list where one belongs".to_owned(),
        )),
    }
}

pub(crate) fn columns_write(columns: &[ColumnInfo]) -> String {
    Value::Array(columns.iter().map(column_write).collect()).to_string()
}

pub(crate) fn columns_read(text: &str) -> Result<Vec<ColumnInfo>> {
    Ok(list(text)?.iter().map(column_read).collect())
}

pub(crate) fn links_write(links: &[ColumnLink]) -> String {
    let pair = |link: &ColumnLink| json!([column_write(&link.source), column_write(&link.target)]);
    Value::Array(links.iter().map(pair).collect()).to_string()
}

pub(crate) fn links_read(text: &str) -> Result<Vec<ColumnLink>> {
    let end = |value: &Value, index: usize| value.get(index).map(column_read).unwrap_or_default();
    Ok(list(text)?
        .iter()
        .map(|value| ColumnLink {
            source: end(value, 0),
            target: end(value, 1),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_back_as_they_went() {
        let options = TaskOptions {
            create_tables: CreateTables::Missing,
            existing_rows: ExistingRows::Replace,
            foreign_keys: ForeignKeys::Replica,
            on_bad_row: OnBadRow::Quarantine,
            quarantine_max: 77,
            unfit_values: UnfitValues::Nearest,
            on_changes: OnChanges {
                add_column: OnChange::Ignore,
                drop_column: OnChange::Follow,
                retype_column: OnChange::Stop,
                other: OnChange::Stop,
            },
            row_owner: [("a.b".to_owned(), "c \"d".to_owned())].into(),
            workers: 7,
            chunk_rows: 5_000,
            row_bytes_max: 12_345,
            verify_rows_per_second: Some(9),
        };
        assert_eq!(options_read(&options_write(&options)).unwrap(), options);
        let defaults = TaskOptions::default();
        assert_eq!(options_read("{}").unwrap(), defaults);
        for mode in TLS {
            let options = DataSourceOptions {
                tls: TlsOptions {
                    mode: mode.0,
                    ca_pem: Some("pem".into()),
                    client: Some(ClientCertificate {
                        cert_pem: "certificate".into(),
                        key_pem: Secret::new("key"),
                    }),
                },
                allow_cleartext_password: true,
            };
            let text = source_options_write(&options, Some("sealed"));
            let unseal = |sealed: &str| {
                assert_eq!(sealed, "sealed");
                Ok(Secret::new("key"))
            };
            assert_eq!(source_options_read(&text, unseal).unwrap(), options);
        }
    }

    #[test]
    fn columns_and_links_come_back_as_they_went() {
        let column = |name: &str| ColumnInfo {
            field_name: Some(name.into()),
            field_type: None,
            field_length: Some("10".into()),
        };
        let columns = vec![column("a"), ColumnInfo::default(), column("ü \"quoted\"")];
        assert_eq!(columns_read(&columns_write(&columns)).unwrap(), columns);
        let links = vec![ColumnLink {
            source: column("a"),
            target: column("b"),
        }];
        assert_eq!(links_read(&links_write(&links)).unwrap(), links);
        assert!(columns_read("{").is_err() && columns_read("{}").is_err());
    }
}
