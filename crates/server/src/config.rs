//! Configuration: a flag wins over the environment, the environment over the file, the file over
//! the default.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

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
    /// Key that encrypts stored secrets; made at the first start, outside DIR [default: DIR.key]
    #[arg(long, env = "THALWEG_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or per module [default: info]
    #[arg(long, env = "THALWEG_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "THALWEG_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

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
    /// Key that encrypts stored secrets.
    pub(crate) key_file: PathBuf,
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
        Ok(Config::resolve(given, stored))
    }

    fn resolve(given: Settings, stored: Settings) -> Config {
        let data = given.data.or(stored.data);
        let data = data.unwrap_or_else(|| PathBuf::from("thalweg-data"));
        let key_file = given.key_file.or(stored.key_file);
        let listen = given.listen.or(stored.listen);
        let log_format = given.log_format.or(stored.log_format);
        Config {
            key_file: key_file.unwrap_or_else(|| beside(&data)),
            data,
            listen: listen.unwrap_or_else(|| "127.0.0.1:8080".into()),
            log: given.log.or(stored.log).unwrap_or_else(|| "info".into()),
            log_format: log_format.unwrap_or_default(),
        }
    }
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
        assert_eq!(config, Config::resolve(none(), none()));
    }

    #[test]
    fn given_settings_win_over_the_file() {
        let given = Settings {
            data: Some("/srv/one/".into()),
            ..Settings::default()
        };
        let stored: Settings = toml::from_str("data = 'two'\nlog = 'debug'").unwrap();
        let config = Config::resolve(given, stored);
        assert_eq!(config.key_file, Path::new("/srv/one.key"));
        assert_eq!(config.log, "debug");
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = toml::from_str::<Settings>("date = 'x'").unwrap_err();
        assert!(error.to_string().contains("date"), "{error}");
    }
}
