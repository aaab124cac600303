//! `content` of a data source: how to reach it.
//!
//! The contract has one object for all 35 types; every field of it is checked by type and limits, so
//! that a client that sends more than its type needs gets the same answers. Minima that the
//! contract's own examples break are not enforced. Of the secret fields only `password` is kept.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use thalweg_control::Result;
use thalweg_control::model::Content;
use thalweg_core::secret::Secret;

use crate::http::body::Fields;

/// What a field of `content` may be.
#[derive(Clone, Copy)]
enum Kind {
    /// A text of so many characters.
    Text(usize, usize),
    /// As `Text`, and it is kept from lists, logs and answers.
    Secret(usize),
    /// One of some words.
    Word(&'static [&'static str]),
    /// True or false.
    Flag,
    /// An integer.
    Int(u64, u64),
    /// Digits as a text.
    Digits(u32, u32),
    /// An object that is not looked into, since no type we have uses it.
    Object,
}

use Kind::{Digits, Flag, Int, Object, Text, Word};

const HIDDEN: Kind = Kind::Secret(1024);
const SHORT: Kind = Text(0, 256);
const FILE: Kind = Text(0, 1024);

const ENCODINGS: &[&str] = &[
    "big5", "dec8", "cp850", "hp8", "koi8r", "latin1", "latin2", "swe7", "ascii", "ujis", "sjis",
    "hebrew", "tis620", "koi8u", "gb2312", "greek", "cp1250", "gbk", "latin5", "armscii8", "utf8",
    "ucs2", "cp866", "keybcs2", "macce", "macroman", "cp852", "latin7", "utf8mb4", "cp1251",
    "utf16", "utf16le", "cp1256", "cp1257", "utf32", "binary", "geostd8", "cp932", "eucjpms",
    "gb18030",
];

/// The fields of the contract, and its aliases from examples.
const FIELDS: &[(&str, Kind)] = &[
    ("host", Text(1, 255)),
    ("port", Digits(0, 65535)),
    ("database_name", Text(1, 255)),
    ("user_name", Text(1, 255)),
    ("password", HIDDEN),
    ("mode", Word(&["default", "professional", "multiAddress"])),
    ("url", SHORT),
    ("cdc_mode", Word(&["xstream", "logminer"])),
    ("oracle_service_name", Text(1, 64)),
    ("encoding", Word(ENCODINGS)),
    ("mysql_timeout", Int(1, 20_000)),
    ("gauss100_version", Word(&["V100R003C20", "V300R001C00"])),
    ("redis_database", Text(1, 1000)),
    ("address", SHORT),
    ("broker", SHORT),
    ("ssl_enable", Flag),
    ("ssl", Flag),
    ("ssl_username", SHORT),
    ("ssl_password", HIDDEN),
    ("ssl_auth_method", Word(&["one-way", "two-way"])),
    ("trust_store", FILE),
    ("trust_store_file_type", Word(&["jks", "ts"])),
    ("trust_store_password", HIDDEN),
    ("key_store", FILE),
    ("key_store_file_type", Word(&["ks", "jks"])),
    ("key_store_password", HIDDEN),
    ("key_store_key_password", HIDDEN),
    ("ak", SHORT),
    ("sk", HIDDEN),
    ("bucket_name", SHORT),
    ("https", Flag),
    ("ftp_connect_mode", Word(&["active", "passive"])),
    ("connect_mode", Word(&["active", "passive"])),
    ("ftp_protocol", Word(&["sftp", "ftp"])),
    ("protocol", Word(&["sftp", "ftp"])),
    (
        "api_method",
        Word(&["POST", "PUT", "DELETE", "PATCH", "GET"]),
    ),
    ("api_auth_detail", Object),
    ("ApiAuthDetail", Object),
    ("auth_method", Word(&["none", "basicauth"])),
    ("mongodb_auth_source", Text(0, 60)),
    ("mongodb_cluster_enable", Flag),
    ("mongodb_replica_set", SHORT),
    ("dis_tunnel_name", SHORT),
    ("dis_data_type", Word(&["JSON"])),
    ("dis_setting_type", Word(&["basic", "senior"])),
    ("dis_endpoint", SHORT),
    ("dis_region", SHORT),
    ("dis_source_project_id", SHORT),
    ("hl7_position", Word(&["source", "target"])),
    ("hl7_whitelist_enable", Flag),
    ("hl7_whitelist", FILE),
    ("ldap_security_auth_type", Word(&["no", "simple"])),
    ("rabbitmq_virtual_host", SHORT),
    ("rabbitmq_ssl_protocol", Word(&["TLS"])),
    ("sap_client", Text(0, 10)),
    ("sap_sysnr", SHORT),
    ("snmp_network_protocol", Word(&["udp", "tcp"])),
    ("snmp_version", Int(0, 3)),
    ("snmp_community", HIDDEN),
    ("ibmmq_ccs_id", SHORT),
    ("ibmmq_queue_manager", SHORT),
    ("ibmmq_channel", SHORT),
    ("ibmmq_cipher_suite", SHORT),
    ("hdfs_path", SHORT),
    ("principal_name", SHORT),
    ("config_file_name", SHORT),
    ("config_file_content", HIDDEN),
    ("connection_instance_id", SHORT),
    ("connector_params", Object),
];

/// What our types need in mode `default`.
const NEEDED: &[&str] = &["host", "port", "database_name", "user_name"];

const ADDRESSES: RangeInclusive<usize> = 1..=100;

/// Whether a data source is made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything has to be there.
    Create,
    /// A password that is not there stays as it is stored.
    Update,
}

/// Reads `content` of a type we have.
pub(crate) fn parse(mut fields: Fields, purpose: Purpose) -> Result<Content> {
    let mut shown = Map::new();
    let mut password = None;
    for (name, kind) in FIELDS {
        let Some(value) = field(&mut fields, name, *kind)? else {
            continue;
        };
        match kind {
            Kind::Secret(_) if *name == "password" => {
                password = value.as_str().map(Secret::new);
            }
            // No type of ours reads it, and what is not stored cannot leak.
            Kind::Secret(_) | Object => {}
            _ => {
                shown.insert((*name).to_owned(), value);
            }
        }
    }
    addresses(&mut fields)?;
    check_default_mode(&fields, &shown)?;
    if password.is_none() && purpose == Purpose::Create {
        return Err(fields.missing("password"));
    }
    fields.finish()?;
    Ok(Content { shown, password })
}

fn field(fields: &mut Fields, name: &str, kind: Kind) -> Result<Option<Value>> {
    Ok(match kind {
        Text(min, max) => fields.text(name, min..=max)?.map(Value::from),
        Kind::Secret(max) => fields.text(name, 1..=max)?.map(Value::from),
        Word(words) => fields.word(name, words)?.map(Value::from),
        Flag => fields.flag(name)?.map(Value::from),
        Int(min, max) => fields.int(name, min..=max)?.map(Value::from),
        Digits(min, max) => fields.digits(name, min..=max)?.map(Value::from),
        Object => {
            // Looked at for its type only; what is in it is somebody else's contract.
            fields.object(name)?;
            None
        }
    })
}

fn addresses(fields: &mut Fields) -> Result<()> {
    let list = fields.objects("multi_oracle_address", ADDRESSES)?;
    for mut address in list.unwrap_or_default() {
        address.text("oracle_address", 1..=30)?;
        address.text("oracle_port", 1..=10)?;
        address.finish()?;
    }
    Ok(())
}

fn check_default_mode(fields: &Fields, shown: &Map<String, Value>) -> Result<()> {
    let mode = shown.get("mode").and_then(Value::as_str);
    if mode.is_some_and(|mode| mode != "default") {
        let text = "Only the mode default is built: give host, port, database_name, user_name.";
        return Err(fields.invalid("mode", text));
    }
    match NEEDED.iter().find(|name| !shown.contains_key(**name)) {
        Some(name) => Err(fields.missing(name)),
        None if shown.get("port").and_then(Value::as_str) == Some("0") => {
            Err(fields.invalid("port", "Give the port the database listens on."))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::body::tests::{field_of, fields};

    fn content() -> Map<String, Value> {
        match json!({
            "host": "db", "port": "3306", "database_name": "shop", "user_name": "root",
            "password": "geheim",
        }) {
            Value::Object(map) => map,
            _ => unreachable!(),
        }
    }

    fn with(name: &str, value: Value) -> Result<Content> {
        let mut map = content();
        map.insert(name.into(), value);
        parse(fields(Value::Object(map)), Purpose::Create)
    }

    #[test]
    fn a_plain_connection_is_read_and_its_password_is_apart() {
        let content = parse(fields(Value::Object(content())), Purpose::Create).unwrap();
        assert_eq!(content.password, Some(Secret::new("geheim")));
        let names: Vec<&String> = content.shown.keys().collect();
        assert_eq!(names, ["database_name", "host", "port", "user_name"]);
    }

    #[test]
    fn what_is_needed_is_named_when_it_is_missing() {
        for name in ["host", "port", "database_name", "user_name", "password"] {
            let mut map = content();
            map.remove(name);
            let result = parse(fields(Value::Object(map)), Purpose::Create);
            assert_eq!(field_of(result), name);
        }
        let mut map = content();
        map.remove("password");
        let content = parse(fields(Value::Object(map)), Purpose::Update).unwrap();
        assert_eq!(
            content.password, None,
            "an update may leave the password as it is"
        );
    }

    #[test]
    fn wrong_fields_are_named() {
        for (name, value) in [
            ("port", json!(3306)),
            ("port", json!("65536")),
            ("port", json!("0")),
            ("port", json!("-1")),
            ("host", json!("")),
            ("host", json!("x".repeat(256))),
            ("mode", json!("professional")),
            ("mode", json!("other")),
            ("encoding", json!("utf-8")),
            ("mysql_timeout", json!(0)),
            ("mysql_timeout", json!("1")),
            ("mysql_timeout", json!(20_001)),
            ("ssl_enable", json!("true")),
            ("multi_oracle_address", json!([])),
            ("api_auth_detail", json!("x")),
            ("unheard_of", json!(1)),
        ] {
            assert_eq!(field_of(with(name, value)), name);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for (name, kind) in FIELDS {
            if let Kind::Secret(_) = kind {
                let content = with(name, json!("geheim-1")).unwrap();
                assert!(!content.shown.contains_key(*name), "{name}");
            }
        }
        let content = with("api_auth_detail", json!({ "password": "geheim" })).unwrap();
        assert!(!content.shown.contains_key("api_auth_detail"));
    }
}
