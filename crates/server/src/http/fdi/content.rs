//! `content` of a data source: how to reach it.
//!
//! The contract has one object for all 35 types; every field of it is checked by type and limits, so
//! that a client that sends more than its type needs gets the same answers. Minima that the
//! contract's own examples break are not enforced. Of a type that we connect to, only the `password` of the
//! secret fields is kept; of the others, which are stored and no more, all of them, sealed together.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};
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
    /// An object that is not looked into, since no type we have uses it; it may hold secrets.
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

/// What our types need, by mode.
const NEEDED: &[&str] = &["host", "port", "database_name", "user_name"];
const NEEDED_PROFESSIONAL: &[&str] = &["url", "user_name"];

const ADDRESSES: RangeInclusive<usize> = 1..=100;

/// Whether a data source is made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything has to be there.
    Create,
    /// A password that is not there stays as it is stored.
    Update,
}

/// Reads `content`; `supported`: of a type we connect to.
pub(crate) fn parse(mut fields: Fields, purpose: Purpose, supported: bool) -> Result<Content> {
    let mut shown = Map::new();
    let mut secrets = Map::new();
    for (name, kind) in FIELDS {
        let Some(value) = field(&mut fields, name, *kind)? else {
            continue;
        };
        match kind {
            Kind::Secret(_) | Object => secrets.insert((*name).to_owned(), value),
            _ => shown.insert((*name).to_owned(), value),
        };
    }
    // It may have a password in it. In the mode professional it is looked into, and such a one refused.
    let professional = shown.get("mode").and_then(Value::as_str) == Some("professional");
    if !(supported && professional)
        && let Some(url) = shown.remove("url")
    {
        secrets.insert("url".to_owned(), url);
    }
    if let Some(addresses) = addresses(&mut fields)? {
        shown.insert("multi_oracle_address".to_owned(), addresses);
    }
    let secret = match supported {
        true => {
            check_mode(&fields, &shown)?;
            // No type of ours reads another, and what is not stored cannot leak.
            let password = secrets.get("password").and_then(Value::as_str);
            if password.is_none() && purpose == Purpose::Create {
                return Err(fields.missing("password"));
            }
            password.map(Secret::new)
        }
        false if secrets.is_empty() && purpose == Purpose::Update => None,
        false => Some(Secret::new(Value::Object(secrets).to_string())),
    };
    fields.finish()?;
    Ok(Content { shown, secret })
}

fn field(fields: &mut Fields, name: &str, kind: Kind) -> Result<Option<Value>> {
    Ok(match kind {
        Text(min, max) => fields.text(name, min..=max)?.map(Value::from),
        Kind::Secret(max) => fields.text(name, 1..=max)?.map(Value::from),
        Word(words) => fields.word(name, words)?.map(Value::from),
        Flag => fields.flag(name)?.map(Value::from),
        Int(min, max) => fields.int(name, min..=max)?.map(Value::from),
        Digits(min, max) => fields.digits(name, min..=max)?.map(Value::from),
        // Looked at for its type only; what is in it is somebody else's contract.
        Object => match fields.take(name) {
            None => None,
            Some(value @ Value::Object(_)) => Some(value),
            Some(_) => return Err(fields.invalid(name, "Give an object.")),
        },
    })
}

fn addresses(fields: &mut Fields) -> Result<Option<Value>> {
    let Some(list) = fields.objects("multi_oracle_address", ADDRESSES)? else {
        return Ok(None);
    };
    let mut out = Vec::with_capacity(list.len());
    for mut one in list {
        let (address, port) = (
            one.text("oracle_address", 1..=30)?,
            one.text("oracle_port", 1..=10)?,
        );
        one.finish()?;
        out.push(json!({ "oracle_address": address, "oracle_port": port }));
    }
    Ok(Some(out.into()))
}

fn check_mode(fields: &Fields, shown: &Map<String, Value>) -> Result<()> {
    let needed = match shown.get("mode").and_then(Value::as_str) {
        None | Some("default") => NEEDED,
        Some("professional") => NEEDED_PROFESSIONAL,
        Some(_) => {
            let text = "This type has the modes default and professional.";
            return Err(fields.invalid("mode", text));
        }
    };
    match needed.iter().find(|name| !shown.contains_key(**name)) {
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
        parse(fields(Value::Object(map)), Purpose::Create, true)
    }

    #[test]
    fn a_plain_connection_is_read_and_its_password_is_apart() {
        let content = parse(fields(Value::Object(content())), Purpose::Create, true).unwrap();
        assert_eq!(content.secret, Some(Secret::new("geheim")));
        let names: Vec<&String> = content.shown.keys().collect();
        assert_eq!(names, ["database_name", "host", "port", "user_name"]);
    }

    #[test]
    fn what_is_needed_is_named_when_it_is_missing() {
        for name in ["host", "port", "database_name", "user_name", "password"] {
            let mut map = content();
            map.remove(name);
            let result = parse(fields(Value::Object(map)), Purpose::Create, true);
            assert_eq!(field_of(result), name);
        }
        let mut map = content();
        map.remove("password");
        let content = parse(fields(Value::Object(map)), Purpose::Update, true).unwrap();
        assert_eq!(
            content.secret, None,
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
            ("mode", json!("multiAddress")),
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
    fn a_connection_string_stands_for_host_port_and_database() {
        let map = json!({ "mode": "professional", "url": "jdbc:mysql://db/shop", "user_name": "root",
            "password": "geheim" });
        let content = parse(fields(map.clone()), Purpose::Create, true).unwrap();
        assert_eq!(content.shown["url"], "jdbc:mysql://db/shop");
        for name in ["url", "user_name", "password"] {
            let mut map = map.clone();
            map.as_object_mut().unwrap().remove(name);
            assert_eq!(field_of(parse(fields(map), Purpose::Create, true)), name);
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_kept_with_its_secrets_apart() {
        let map = json!({ "broker": "a:9092", "ssl_enable": true, "ssl_password": "geheim-1",
            "api_auth_detail": { "password": "geheim-2" },
            "multi_oracle_address": [{ "oracle_address": "db", "oracle_port": "1521" }] });
        let content = parse(fields(map), Purpose::Create, false).unwrap();
        let shown = Value::Object(content.shown).to_string();
        assert!(
            shown.contains("a:9092") && shown.contains("1521") && !shown.contains("geheim"),
            "{shown}"
        );
        let secret = content.secret.unwrap();
        assert!(secret.expose().contains("geheim-1") && secret.expose().contains("geheim-2"));
        let none = parse(
            fields(json!({ "broker": "a:9092" })),
            Purpose::Update,
            false,
        )
        .unwrap();
        assert_eq!(none.secret, None, "an update may leave them as they are");
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
