//! From a data source's configuration to a connection.

use std::net::IpAddr;
use std::time::Duration;

use mysql_async::{ClientIdentity, Conn, DriverError, IoError, OptsBuilder, SslOpts};
use thalweg_core::ports::{DataSourceConfig, TlsMode};
use thalweg_core::{Error, Result, Side};
use tokio::net::lookup_host;

use crate::error::at_login;

/// How often the system asks a silent target whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// `named`: whom the server's certificate is taken to be for; `None`: the host.
fn options(
    config: &DataSourceConfig,
    addresses: &[IpAddr],
    tls: bool,
    named: Option<String>,
) -> OptsBuilder {
    let mut opts = OptsBuilder::default()
        .ip_or_hostname(config.host.clone())
        .resolved_ips(Some(addresses.to_vec()))
        .tcp_port(config.port)
        .user(Some(config.user.clone()))
        .pass(Some(config.password.expose().to_owned()))
        .prefer_socket(false)
        .tcp_nodelay(true)
        .max_allowed_packet(Some(1 << 30))
        .wait_timeout(Some(28_800))
        .secure_auth(true)
        // The server's own mode changes how the catalogue writes names and labels, and pads CHAR.
        .init(vec!["SET SESSION sql_mode = ''"])
        .connect_attribute("program_name", config.application_name.clone());
    if !config.database.is_empty() {
        opts = opts.db_name(Some(config.database.clone()));
    }
    // In clear text only where nobody can listen, or where the user said so.
    let private = is_loopback(&config.host) || (tls && config.tls.mode == TlsMode::VerifyFull);
    opts = opts.enable_cleartext_plugin(private || config.allow_cleartext_password);
    if tls {
        let mut ssl = SslOpts::default();
        if config.tls.verifies() {
            ssl = ssl.with_danger_tls_hostname_override(named);
            match &config.tls.ca_pem {
                Some(pem) => {
                    ssl = ssl
                        .with_disable_built_in_roots(true)
                        .with_root_certs(vec![pem.clone().into_bytes().into()]);
                }
                None => {
                    let native = rustls_native_certs::load_native_certs();
                    let roots = native
                        .certs
                        .into_iter()
                        .map(|cert| cert.as_ref().to_vec().into())
                        .collect();
                    ssl = ssl.with_disable_built_in_roots(true).with_root_certs(roots);
                }
            }
        } else {
            ssl = ssl
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true);
        }
        if let Some(client) = &config.tls.client {
            let bytes = |pem: &str| pem.as_bytes().to_vec().into();
            let identity =
                ClientIdentity::new(bytes(&client.cert_pem), bytes(client.key_pem.expose()));
            ssl = ssl.with_client_identity(Some(identity));
        }
        opts = opts.ssl_opts(Some(ssl));
    }
    opts
}

/// Whom a certificate is for that was refused for its name, and for nothing else.
fn presented(error: &mysql_async::Error) -> Option<String> {
    let mysql_async::Error::Io(IoError::Io(io)) = error else {
        return None;
    };
    let tls = io.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(bad) = tls else {
        return None;
    };
    let rustls::CertificateError::NotValidForNameContext { presented, .. } = bad else {
        return None;
    };
    // Such as DnsName("db.example") or IpAddress(10.0.0.1), among others that name no host.
    let host = |name: &String| {
        let name = name
            .strip_prefix("DnsName(")
            .or_else(|| name.strip_prefix("IpAddress("))?;
        Some(name.trim_end_matches(')').trim_matches('"').to_owned())
    };
    let name = presented.iter().find_map(host)?;
    // A wildcard is for any name in its place.
    Some(name.replace('*', "any"))
}

/// Connects to a source and logs in within the configuration's timeout.
pub(crate) async fn connect(config: &DataSourceConfig) -> Result<Conn> {
    log_in(config, |opts| opts)
        .await
        .map_err(|error| error.at(Side::Source))
}

/// Connects to a target and logs in within the configuration's timeout. The server counts the rows
/// that a statement has found, not only those that it changed.
pub(crate) async fn connect_target(config: &DataSourceConfig) -> Result<Conn> {
    let wanted = |opts: OptsBuilder| opts.client_found_rows(true).tcp_keepalive(Some(KEEPALIVE));
    log_in(config, wanted)
        .await
        .map_err(|error| error.at(Side::Target))
}

/// Where the host lies, as far as a data source may lie there.
async fn addresses(config: &DataSourceConfig) -> Result<Vec<IpAddr>> {
    let found = lookup_host((config.host.as_str(), config.port)).await;
    let found = found.map_err(|error| {
        let unknown = format!("the host {} cannot be resolved", config.host);
        let unknown = Error::transient(unknown);
        unknown
            .with_hint("correct the data source's host, or the names")
            .caused_by(error)
    })?;
    let found = found.map(|address| address.ip());
    config.networks.admitted(&config.host, found)
}

async fn log_in(
    config: &DataSourceConfig,
    wanted: impl Fn(OptsBuilder) -> OptsBuilder,
) -> Result<Conn> {
    let attempt = async {
        let addresses = addresses(config).await?;
        let named =
            |name: Option<String>| Conn::new(wanted(options(config, &addresses, true, name)));
        let open = |tls: bool| Conn::new(wanted(options(config, &addresses, tls, None)));
        let conn = match config.tls.mode {
            TlsMode::Off => open(false).await,
            // The driver looks at the name in any case: it is asked for the one that the certificate has.
            TlsMode::VerifyCa => match open(true).await {
                Err(error) => match presented(&error) {
                    Some(name) => named(Some(name)).await,
                    None => Err(error),
                },
                other => other,
            },
            TlsMode::Require | TlsMode::VerifyFull => open(true).await,
            TlsMode::Prefer => match open(true).await {
                Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer)) => {
                    open(false).await
                }
                other => other,
            },
        };
        conn.map_err(|error| at_login(error, config))
    };
    match tokio::time::timeout(config.timeout, Box::pin(attempt)).await {
        Ok(conn) => conn,
        Err(_) => Err(Error::transient(format!(
            "no connection to {}:{} within {:?}",
            config.host, config.port, config.timeout
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        assert!(is_loopback("127.0.0.1") && is_loopback("::1") && is_loopback("localhost"));
        assert!(!is_loopback("10.0.0.1") && !is_loopback("localhost.example.org"));
    }
}
