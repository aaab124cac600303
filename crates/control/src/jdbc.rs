//! Connection strings of the mode `professional`, as the original takes them: `jdbc:mysql://host:port/database?…`.
//!
//! A connection string can do much that a form of host and port cannot, and not all of it is harmless in the hands
//! of whoever may make a data source: so only parameters that change nothing for us are taken, by name, and every other
//! is refused.

use url::{Host, Url};

use crate::error::{Error, Result};

/// What a connection string says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
}

/// Of one type: its `datasource_type`, its scheme, its port, and the parameters that change nothing for us. They
/// say how a driver in Java gives values to its program, and how it batches; we do neither.
type System = (&'static str, &'static str, u16, &'static [&'static str]);

const SYSTEMS: &[System] = &[
    (
        "MYSQL",
        "mysql",
        3306,
        &[
            "autoReconnect",
            "cachePrepStmts",
            "characterEncoding",
            "failOverReadOnly",
            "nullCatalogMeansCurrent",
            "rewriteBatchedStatements",
            "serverTimezone",
            "tinyInt1isBit",
            "useCursorFetch",
            "useServerPrepStmts",
            "useUnicode",
            "yearIsDateType",
            "zeroDateTimeBehavior",
        ],
    ),
    (
        "POSTGRESQL",
        "postgresql",
        5432,
        &[
            "ApplicationName",
            "binaryTransfer",
            "defaultRowFetchSize",
            "prepareThreshold",
            "reWriteBatchedInserts",
            "stringtype",
            "tcpKeepAlive",
        ],
    ),
];

/// What encrypts is an option of the data source here, where it can be checked.
const ENCRYPTION: &[&str] = &[
    "requireSSL",
    "ssl",
    "sslMode",
    "sslmode",
    "trustCertificateKeyStoreUrl",
    "useSSL",
    "verifyServerCertificate",
];

/// Reads the connection string of a type. `Invalid(url)` says what is wrong.
pub(crate) fn parse(kind: &str, text: &str) -> Result<Place> {
    let wrong = |reason: &str| Error::invalid("url", reason);
    let system = SYSTEMS.iter().find(|(known, ..)| *known == kind);
    let (_, scheme, port, harmless) =
        system.ok_or_else(|| wrong("this type has no connection string here"))?;
    let form = format!("give jdbc:{scheme}://host:port/database");
    let rest = text.strip_prefix("jdbc:").ok_or_else(|| wrong(&form))?;
    let url = Url::parse(rest).map_err(|error| wrong(&format!("{form}: {error}")))?;
    if url.scheme() != *scheme {
        return Err(wrong(&form));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "leave user and password out: they have fields of their own",
        ));
    }
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() && !name.contains([',', '(', '%']) => {
            name.to_owned()
        }
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        _ => return Err(wrong(&format!("{form}, with one host"))),
    };
    let database = percent_encoding::percent_decode_str(url.path().trim_start_matches('/'));
    let database = database.decode_utf8().map_err(|_| wrong(&form))?;
    if database.is_empty() || database.contains('/') {
        return Err(wrong(&format!("{form}, with a database")));
    }
    if url.fragment().is_some() {
        return Err(wrong(&form));
    }
    for (name, _) in url.query_pairs() {
        if ENCRYPTION.contains(&name.as_ref()) {
            return Err(wrong(&format!(
                "leave {name} out: encryption is the option tls of the data source"
            )));
        }
        if !harmless.contains(&name.as_ref()) {
            return Err(wrong(&format!(
                "the parameter {name} is not taken; taken, without effect, are {}",
                harmless.join(", ")
            )));
        }
    }
    Ok(Place {
        host,
        port: url.port().unwrap_or(*port),
        database: database.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_host_port_and_database() {
        for (kind, text, host, port, database) in [
            ("MYSQL", "jdbc:mysql://db:3307/shop", "db", 3307, "shop"),
            (
                "MYSQL",
                "jdbc:mysql://10.0.0.1/shop?useUnicode=true&characterEncoding=utf8",
                "10.0.0.1",
                3306,
                "shop",
            ),
            (
                "POSTGRESQL",
                "jdbc:postgresql://[::1]:5433/a%20b",
                "::1",
                5433,
                "a b",
            ),
            (
                "POSTGRESQL",
                "jdbc:postgresql://db/shop?stringtype=unspecified",
                "db",
                5432,
                "shop",
            ),
        ] {
            let place = parse(kind, text).unwrap();
            assert_eq!(
                (place.host.as_str(), place.port, place.database.as_str()),
                (host, port, database),
                "{text}"
            );
        }
    }

    #[test]
    fn what_could_do_more_is_refused() {
        for (kind, text, told) in [
            ("MYSQL", "", "jdbc:mysql://"),
            ("MYSQL", "mysql://db/shop", "jdbc:mysql://"),
            ("MYSQL", "jdbc:postgresql://db/shop", "jdbc:mysql://"),
            (
                "ORACLE",
                "jdbc:oracle:thin:@db:1521:x",
                "no connection string",
            ),
            ("MYSQL", "jdbc:mysql:///shop", "one host"),
            ("MYSQL", "jdbc:mysql://a,b/shop", "one host"),
            ("MYSQL", "jdbc:mysql://db", "database"),
            ("MYSQL", "jdbc:mysql://db/", "database"),
            ("MYSQL", "jdbc:mysql://db/a/b", "database"),
            (
                "MYSQL",
                "jdbc:mysql://root:geheim@db/shop",
                "user and password",
            ),
            (
                "MYSQL",
                "jdbc:mysql://db/shop?allowLoadLocalInfile=true",
                "allowLoadLocalInfile",
            ),
            (
                "MYSQL",
                "jdbc:mysql://db/shop?autoDeserialize=true",
                "autoDeserialize",
            ),
            ("MYSQL", "jdbc:mysql://db/shop?useSSL=true", "tls"),
            (
                "POSTGRESQL",
                "jdbc:postgresql://db/shop?socketFactory=x",
                "socketFactory",
            ),
            (
                "POSTGRESQL",
                "jdbc:postgresql://db/shop?sslmode=disable",
                "tls",
            ),
            ("MYSQL", "jdbc:mysql://db/shop#x", "jdbc:mysql://"),
        ] {
            let error = parse(kind, text).unwrap_err().to_string();
            assert!(
                error.starts_with("url: ") && error.contains(told),
                "{text}: {error}"
            );
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
