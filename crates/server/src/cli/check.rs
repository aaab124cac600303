//! `thalweg check`: everything that stands between two databases and a task, with the fix for each.
//!
//! Asks what a task asks before it runs, and changes nothing. No state is needed: the ends are URLs.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use percent_encoding::percent_decode_str;
use thalweg_control::{Connectors, preflight};
use thalweg_core::Side;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{CreateTables, ExistingRows, Mapping, Operations, TaskOptions};
use thalweg_core::networks::Networks;
use thalweg_core::ports::{Connector, DataSourceConfig, TlsMode, TlsOptions};
use thalweg_core::schema::TableName;
use thalweg_core::secret::Secret;

use crate::connectors;

/// Limit for connecting and for each question.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How the task is called at the target while it is only a question.
const TASK: &str = "check";
/// Scheme of a URL, the type of data source it names, and the port when it names none.
const SCHEMES: [(&str, &str, u16); 4] = [
    ("mysql", "MYSQL", 3306),
    ("mariadb", "MYSQL", 3306),
    ("postgresql", "POSTGRESQL", 5432),
    ("postgres", "POSTGRESQL", 5432),
];
const TLS: [(&str, TlsMode); 5] = [
    ("off", TlsMode::Off),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Where changes come from, such as mysql://user@host:3306/database; ?tls=off, prefer, require
    /// or verify-full may follow
    source_url: String,
    /// Where they go, such as postgresql://user@host:5432/database
    target_url: String,
    /// Password of the source, unless it stands in the URL
    #[arg(long, env = "THALWEG_SOURCE_PASSWORD", hide_env_values = true)]
    source_password: Option<String>,
    /// Password of the target, unless it stands in the URL
    #[arg(long, env = "THALWEG_TARGET_PASSWORD", hide_env_values = true)]
    target_password: Option<String>,
    /// A table, and where it goes; may be repeated [default: all tables of the source's database]
    #[arg(long = "table", value_name = "DB.TABLE[=SCHEMA.TABLE]")]
    tables: Vec<String>,
    /// Whether missing target tables are to be made
    #[arg(long, value_enum, default_value = "none")]
    create_tables: CreateChoice,
    /// What is to happen to rows that lie in target tables already
    #[arg(long, value_enum, default_value = "refuse")]
    existing_rows: RowsChoice,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CreateChoice {
    None,
    Missing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RowsChoice {
    Refuse,
    Replace,
    Compare,
}

/// Prints all findings; `false` if one of them refuses the task.
pub(crate) async fn run(args: CheckArgs) -> Result<bool, String> {
    let all = connectors::all();
    let source = End::parse(&all, &args.source_url, args.source_password.as_deref())?;
    let target = End::parse(&all, &args.target_url, args.target_password.as_deref())?;
    let mappings = mappings(&source, &target, &args.tables).await?;
    let options = TaskOptions {
        create_tables: match args.create_tables {
            CreateChoice::None => CreateTables::None,
            CreateChoice::Missing => CreateTables::Missing,
        },
        existing_rows: match args.existing_rows {
            RowsChoice::Refuse => ExistingRows::Refuse,
            RowsChoice::Replace => ExistingRows::Replace,
            RowsChoice::Compare => ExistingRows::Compare,
        },
        ..TaskOptions::default()
    };
    let key = TaskKey {
        server: uuid::Uuid::new_v4().to_string(),
        task: TASK.into(),
    };
    let from = source.connector.source(&source.config).map_err(told)?;
    let to = target.connector.target(&target.config).map_err(told)?;
    let operations = Operations::ALL;
    let asked = preflight(&*from, &*to, &key, &mappings, operations, &options).await;
    let found = asked.map_err(told)?;
    let good = found.plan.is_some();
    print(&report(&found.findings, mappings.len(), good))?;
    Ok(good)
}

/// One end of a task.
struct End<'a> {
    connector: &'a dyn Connector,
    config: DataSourceConfig,
}

impl<'a> End<'a> {
    fn parse(all: &'a Connectors, url: &str, password: Option<&str>) -> Result<Self, String> {
        let url = Url::parse(url)?;
        let (_, kind, port) = SCHEMES
            .iter()
            .find(|(scheme, ..)| *scheme == url.scheme)
            .ok_or_else(|| {
                format!(
                    "{}:// is not known: give mysql:// or postgresql://",
                    url.scheme
                )
            })?;
        let connector = all
            .iter()
            .find(|connector| connector.kind() == *kind)
            .ok_or_else(|| format!("this build has no connector for {kind}"))?;
        let password = url.password.as_deref().or(password).unwrap_or_default();
        let config = DataSourceConfig {
            host: url.host,
            port: url.port.unwrap_or(*port),
            database: url.database,
            user: url.user,
            password: Secret::new(password),
            tls: TlsOptions {
                mode: url.tls,
                ..TlsOptions::default()
            },
            allow_cleartext_password: false,
            timeout: TIMEOUT,
            server_id: None,
            application_name: "thalweg/check".into(),
            // Whoever calls it connects from his own machine.
            networks: Arc::new(Networks::everywhere()),
        };
        Ok(End {
            connector: &**connector,
            config,
        })
    }

    fn default_schema(&self) -> String {
        self.connector.default_schema(&self.config)
    }
}

/// `scheme://user[:password]@host[:port]/database[?tls=…]`, decoded.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    scheme: String,
    user: String,
    password: Option<String>,
    host: String,
    port: Option<u16>,
    database: String,
    tls: TlsMode,
}

impl Url {
    /// The text of an error does not repeat the URL: a password may stand in it.
    fn parse(text: &str) -> Result<Url, String> {
        let form = "a URL looks like mysql://user@host:3306/database";
        let wrong = |what: &str| format!("{what}: {form}");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, database) = rest.split_once('/').ok_or_else(|| wrong("no database"))?;
        let (login, address) = place.rsplit_once('@').ok_or_else(|| wrong("no user"))?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decode(password)?)),
            None => (login, None),
        };
        // An address of IPv6 has colons of its own and stands in square brackets.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        let port = port.map(|port| port.parse().map_err(|_| wrong("the port is no port")));
        let url = Url {
            scheme: scheme.to_owned(),
            user: decode(user)?,
            password,
            host: decode(host.trim_start_matches('[').trim_end_matches(']'))?,
            port: port.transpose()?,
            database: decode(database)?,
            tls: tls(query)?,
        };
        if url.user.is_empty() || url.host.is_empty() || url.database.is_empty() {
            return Err(wrong("user, host or database is empty"));
        }
        Ok(url)
    }
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| String::from("the URL is not UTF-8 when decoded"))?;
    Ok(decoded.into_owned())
}

fn tls(query: &str) -> Result<TlsMode, String> {
    if query.is_empty() {
        return Ok(TlsMode::default());
    }
    let known = query
        .strip_prefix("tls=")
        .and_then(|word| TLS.iter().find(|(known, _)| *known == word));
    let (_, mode) = known.ok_or("after the question mark only tls=off, tls=prefer, tls=require or tls=verify-full may stand")?;
    Ok(*mode)
}

/// What is to go where: the tables named, or all of the source's database.
async fn mappings(
    source: &End<'_>,
    target: &End<'_>,
    named: &[String],
) -> Result<Vec<Mapping>, String> {
    let (from, to) = (source.default_schema(), target.default_schema());
    let mut pairs = Vec::new();
    for text in named {
        let (left, right) = text.split_once('=').unwrap_or((text, ""));
        let wrong = || format!("--table {text}: give DB.TABLE or DB.TABLE=SCHEMA.TABLE");
        let table = TableName::parse(left, &from).ok_or_else(wrong)?;
        let goes = if right.is_empty() {
            TableName::new(&to, &table.name)
        } else {
            TableName::parse(right, &to).ok_or_else(wrong)?
        };
        pairs.push((table, goes));
    }
    if named.is_empty() {
        let at_source = |error: thalweg_core::Error| told(error.at(Side::Source));
        let inspect = source
            .connector
            .inspect(&source.config)
            .map_err(at_source)?;
        let found = inspect.tables().await.map_err(at_source)?;
        let own = found.into_iter().filter(|table| table.schema == from);
        pairs.extend(own.map(|table| (table.clone(), TableName::new(&to, table.name))));
    }
    if pairs.is_empty() {
        return Err(format!(
            "the source has no tables in {from} that its user may see"
        ));
    }
    let mapping = |(at, (source, target)): (usize, (TableName, TableName))| Mapping {
        id: format!("{}", at + 1),
        source,
        target,
        columns: Vec::new(),
    };
    Ok(pairs.into_iter().enumerate().map(mapping).collect())
}

fn report(findings: &[Finding], tables: usize, good: bool) -> String {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut text = String::new();
    for finding in &findings {
        let severity = finding.severity.as_str();
        text.push_str(&format!(
            "{severity:<8}{}: {}\n",
            finding.subject, finding.message
        ));
        for line in finding.fix.lines() {
            text.push_str(&format!("        fix: {line}\n"));
        }
    }
    let refusing = findings.iter().filter(|finding| finding.refuses()).count();
    text.push_str(&match (good, refusing) {
        (true, _) if tables == 1 => "1 table can be replicated\n".into(),
        (true, _) => format!("{tables} tables can be replicated\n"),
        (false, 1) => "1 finding refuses the task\n".into(),
        (false, count) => format!("{count} findings refuse the task\n"),
    });
    text
}

/// An error of a connector: at which end, with its causes and what to do.
fn told(error: thalweg_core::Error) -> String {
    let end = match error.side() {
        Some(Side::Source) => "source: ",
        Some(Side::Target) => "target: ",
        None => "",
    };
    match error.hint() {
        Some(hint) => format!("{end}{}; {hint}", error.chain()),
        None => format!("{end}{}", error.chain()),
    }
}

fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url = Url::parse("mysql://ro%40ot:p%3Aw%2F@db:3307/sh%20op?tls=require").unwrap();
        assert_eq!(
            (url.user.as_str(), url.password.as_deref()),
            ("ro@ot", Some("p:w/"))
        );
        assert_eq!((url.host.as_str(), url.port), ("db", Some(3307)));
        assert_eq!(
            (url.database.as_str(), url.tls),
            ("sh op", TlsMode::Require)
        );
        let url = Url::parse("postgresql://u@[::1]/d").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.password),
            ("::1", None, None)
        );
        let url = Url::parse("postgresql://u:@[::1]:5433/d").unwrap();
        assert_eq!((url.port, url.password.as_deref()), (Some(5433), Some("")));
    }

    #[test]
    fn wrong_urls_are_told_without_their_password() {
        for wrong in [
            "geheim",
            "mysql://u:geheim@h",
            "mysql://h/geheim",
            "mysql://u:geheim@h:x/d",
            "mysql://u:geheim@/d",
            "mysql://:geheim@h/d",
            "mysql://u:geheim@h/",
            "mysql://u:geheim@h/d?tls=maybe",
            "mysql://u:geheim%ff@h/d",
        ] {
            let error = Url::parse(wrong).unwrap_err();
            assert!(!error.contains("geheim"), "{error}");
        }
        let all = connectors::all();
        assert!(End::parse(&all, "oracle://u@h/d", None).is_err());
    }

    #[test]
    fn errors_stand_before_warnings_each_with_its_fix() {
        let findings = [
            Finding::warning("w", "table a", "is big", ""),
            Finding::error(
                "e",
                "binlog_format",
                "is STATEMENT",
                "SET GLOBAL binlog_format = ROW",
            ),
        ];
        let text = report(&findings, 1, false);
        let expected = "error   binlog_format: is STATEMENT\n        fix: SET GLOBAL binlog_format = ROW\n\
                        warning table a: is big\n1 finding refuses the task\n";
        assert_eq!(text, expected);
    }
}
