//! Configuration: a flag wins over the environment, the environment over the file, the file over
//! the default.

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ipnet::IpNet;
use serde::Deserialize;
use thalweg_control::schedule::parse_zone;
use thalweg_control::{Quotas, Tz};
use thalweg_core::networks::{METADATA, Networks};

use crate::http::{GateOptions, TlsFiles};

/// The settings as flags, as environment variables (`THALWEG_…`) and as keys of the file.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Directory of the state; made at the first start [default: thalweg-data]
    #[arg(long, env = "THALWEG_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "THALWEG_LISTEN", value_name = "ADDR")]
    listen: Option<String>,
    /// Certificate of this server, PEM, with those between it and its authority; read anew when it changes [default:
    /// none: HTTP]
    #[arg(long, env = "THALWEG_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, env = "THALWEG_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Authority whose certificates clients have to show, PEM [default: they show none]
    #[arg(long, env = "THALWEG_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Key that encrypts stored secrets; made at the first start, outside DIR [default: DIR.key]
    #[arg(long, env = "THALWEG_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Networks that data sources may lie in, such as 10.0.0.0/8 [default: all]
    #[arg(
        long,
        env = "THALWEG_ALLOW_NETWORKS",
        value_name = "NET,…",
        value_delimiter = ','
    )]
    allow_networks: Option<Vec<String>>,
    /// Networks that they may not lie in [default: where clouds keep the credentials of machines]
    #[arg(
        long,
        env = "THALWEG_DENY_NETWORKS",
        value_name = "NET,…",
        value_delimiter = ','
    )]
    deny_networks: Option<Vec<String>>,
    /// Integration applications of an instance [default: 100]
    #[arg(long, env = "THALWEG_MAX_APPLICATIONS", value_name = "N")]
    max_applications: Option<u32>,
    /// Data sources of an instance [default: 500]
    #[arg(long, env = "THALWEG_MAX_DATA_SOURCES", value_name = "N")]
    max_data_sources: Option<u32>,
    /// Tasks of an instance [default: 1000]
    #[arg(long, env = "THALWEG_MAX_TASKS", value_name = "N")]
    max_tasks: Option<u32>,
    /// Tasks that one call starts or stops [default: 10]
    #[arg(long, env = "THALWEG_MAX_BATCH", value_name = "N")]
    max_batch: Option<u32>,
    /// Time zone of schedules, such as Europe/Berlin [default: UTC]
    #[arg(long, env = "THALWEG_TIME_ZONE", value_name = "ZONE")]
    time_zone: Option<String>,
    /// Requests that one user may send in a second [default: 1000]
    #[arg(long, env = "THALWEG_MAX_REQUESTS_PER_SECOND", value_name = "N")]
    max_requests_per_second: Option<NonZeroU32>,
    /// Proxies in front of this server, whose X-Forwarded-For says who asks [default: none]
    #[arg(
        long,
        env = "THALWEG_TRUSTED_PROXIES",
        value_name = "NET,…",
        value_delimiter = ','
    )]
    trusted_proxies: Option<Vec<String>>,
    /// What to log: error, warn, info, debug, trace, or per module [default: info]
    #[arg(long, env = "THALWEG_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "THALWEG_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// The longest list of tasks that the contract has.
const BATCH_MAX: u32 = 9_999;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines, one object a line.
    Json,
}

/// The configuration of a server, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Directory of the state.
    pub(crate) data: PathBuf,
    /// Address to listen on, `host:port`.
    pub(crate) listen: String,
    /// How the API is encrypted.
    pub(crate) tls: Option<TlsFiles>,
    /// Key that encrypts stored secrets.
    pub(crate) key_file: PathBuf,
    /// Where data sources may lie.
    pub(crate) networks: Networks,
    /// How much there may be.
    pub(crate) quotas: Quotas,
    /// Where days and hours of schedules are.
    pub(crate) time_zone: Tz,
    /// How much may come from one user, and who speaks for whom.
    pub(crate) gate: GateOptions,
    /// What to log.
    pub(crate) log: String,
    /// How to log.
    pub(crate) log_format: LogFormat,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Flags and environment in `given`, then the file, then the defaults.
    pub(crate) fn load(given: Settings, file: Option<&Path>) -> Result<Config, ConfigError> {
        let stored = match file {
            None => Settings::default(),
            Some(path) => {
                let unread = |error: &dyn fmt::Display| {
                    let path = path.display();
                    ConfigError(format!("cannot use the configuration file {path}: {error}"))
                };
                let text = fs::read_to_string(path).map_err(|error| unread(&error))?;
                toml::from_str(&text).map_err(|error| unread(&error))?
            }
        };
        Config::resolve(given, stored)
    }

    fn resolve(given: Settings, stored: Settings) -> Result<Config, ConfigError> {
        let data = given.data.or(stored.data);
        let data = data.unwrap_or_else(|| PathBuf::from("thalweg-data"));
        let key_file = given.key_file.or(stored.key_file);
        let listen = given.listen.or(stored.listen);
        let log_format = given.log_format.or(stored.log_format);
        let networks = networks(
            given.allow_networks.or(stored.allow_networks),
            given.deny_networks.or(stored.deny_networks),
        )?;
        let most = Quotas::default();
        let max =
            |given: Option<u32>, stored: Option<u32>, most: u32| given.or(stored).unwrap_or(most);
        let quotas = Quotas {
            applications: max(
                given.max_applications,
                stored.max_applications,
                most.applications,
            ),
            data_sources: max(
                given.max_data_sources,
                stored.max_data_sources,
                most.data_sources,
            ),
            tasks: max(given.max_tasks, stored.max_tasks, most.tasks),
            batch: max(given.max_batch, stored.max_batch, most.batch),
        };
        if quotas.batch > BATCH_MAX {
            return Err(ConfigError(format!("max_batch: at most {BATCH_MAX}")));
        }
        let per_second = given
            .max_requests_per_second
            .or(stored.max_requests_per_second);
        let gate = GateOptions {
            requests_per_second: per_second.unwrap_or(GateOptions::default().requests_per_second),
            trusted_proxies: proxies(given.trusted_proxies.or(stored.trusted_proxies))?,
        };
        let time_zone = given.time_zone.or(stored.time_zone);
        let time_zone = time_zone.unwrap_or_else(|| "UTC".into());
        let time_zone = parse_zone(&time_zone).ok_or_else(|| {
            ConfigError(format!(
                "time_zone: there is no zone {time_zone}; give a name such as Europe/Berlin"
            ))
        })?;
        let tls = tls(
            given.tls_cert.or(stored.tls_cert),
            given.tls_key.or(stored.tls_key),
            given.tls_client_ca.or(stored.tls_client_ca),
        )?;
        Ok(Config {
            tls,
            time_zone,
            networks,
            quotas,
            gate,
            key_file: key_file.unwrap_or_else(|| beside(&data)),
            data,
            listen: listen.unwrap_or_else(|| "127.0.0.1:8080".into()),
            log: given.log.or(stored.log).unwrap_or_else(|| "info".into()),
            log_format: log_format.unwrap_or_default(),
        })
    }
}

/// Certificate and key, both or none.
fn tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<TlsFiles>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles {
            cert,
            key,
            client_ca,
        })),
        (None, None) if client_ca.is_none() => Ok(None),
        (None, _) => Err(ConfigError("tls_cert: it is needed too".into())),
        (_, None) => Err(ConfigError("tls_key: it is needed too".into())),
    }
}

/// Networks of proxies.
fn proxies(given: Option<Vec<String>>) -> Result<Vec<IpNet>, ConfigError> {
    let given = given.unwrap_or_default();
    let given = given.iter().filter(|text| !text.is_empty());
    let one = |text: &String| thalweg_core::networks::parse(text);
    given
        .map(one)
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError(format!("trusted_proxies: {}", error.message())))
}

/// An empty list allows all, and denies nothing.
fn networks(
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
) -> Result<Networks, ConfigError> {
    let list = |given: Vec<String>| given.into_iter().filter(|text| !text.is_empty()).collect();
    let allow: Vec<String> = list(allow.unwrap_or_default());
    let deny = deny.unwrap_or_else(|| METADATA.map(str::to_owned).to_vec());
    let wrong = |name: &'static str| {
        move |error: thalweg_core::Error| ConfigError(format!("{name}: {}", error.message()))
    };
    Networks::new(&allow, &[]).map_err(wrong("allow_networks"))?;
    Networks::new(&allow, &list(deny)).map_err(wrong("deny_networks"))
}

/// `DIR.key`: whoever copies the directory alone has no key.
fn beside(data: &Path) -> PathBuf {
    // Collected anew from its components, `DIR/` does not become `DIR/.key`.
    let mut name = data.components().collect::<PathBuf>().into_os_string();
    name.push(".key");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/thalweg.toml"
    );

    #[test]
    fn the_example_file_holds_the_defaults() {
        let none = Settings::default;
        let config = Config::load(none(), Some(Path::new(EXAMPLE))).unwrap();
        assert_eq!(config, Config::resolve(none(), none()).unwrap());
    }

    #[test]
    fn given_settings_win_over_the_file() {
        let given = Settings {
            data: Some("/srv/one/".into()),
            ..Settings::default()
        };
        let stored: Settings = toml::from_str("data = 'two'\nlog = 'debug'").unwrap();
        let config = Config::resolve(given, stored).unwrap();
        assert_eq!(config.key_file, Path::new("/srv/one.key"));
        assert_eq!(config.log, "debug");
    }

    #[test]
    fn networks_and_quotas_are_read_from_both() {
        let given = Settings {
            deny_networks: Some(vec![String::new()]),
            max_tasks: Some(7),
            ..Settings::default()
        };
        let stored: Settings =
            toml::from_str("allow_networks = ['10.0.0.0/8']\nmax_tasks = 9\nmax_batch = 20")
                .unwrap();
        let config = Config::resolve(given, stored).unwrap();
        let none: [&str; 0] = [];
        assert_eq!(
            config.networks,
            Networks::new(&["10.0.0.0/8"], &none).unwrap()
        );
        assert_eq!((config.quotas.tasks, config.quotas.batch), (7, 20));
        let wrong = Settings {
            deny_networks: Some(vec!["metadata".into()]),
            ..Settings::default()
        };
        let error = Config::resolve(wrong, Settings::default()).unwrap_err();
        assert!(
            error
                .0
                .starts_with("deny_networks: \"metadata\" is no network"),
            "{error}"
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = toml::from_str::<Settings>("date = 'x'").unwrap_err();
        assert!(error.to_string().contains("date"), "{error}");
    }
}
