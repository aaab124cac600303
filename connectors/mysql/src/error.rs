//! One table from the server's error numbers to what should be done about them.
//!
//! Numbers: <https://mariadb.com/kb/en/mariadb-error-code-reference/>.

use std::io::ErrorKind;

use mysql_async::{DriverError, Error as My, IoError};
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Kind, Side};

use crate::wire::Malformed;

/// What an errno asks for.
pub(crate) fn kind_of(errno: u16) -> Kind {
    match errno {
        // ER_MASTER_FATAL_ERROR_READING_BINLOG: purged, damaged or unknown place.
        1236 => Kind::PositionLost,
        // Access denied (to server, database, command, table, column), unknown database, wrong
        // plugin, password expired, privileges.
        1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1251 | 1698 | 1820 | 1862 | 1130 | 3118 => {
            Kind::Config
        }
        // No such table, unknown column.
        1146 | 1054 | 1109 => Kind::Schema,
        // Too many connections, shutdown, aborted, lock waits, deadlock, gone, lost, killed,
        // time limit, read-only during failover.
        1040 | 1203 | 1053 | 1152 | 1158 | 1159 | 1160 | 1161 | 1205 | 1213 | 2002 | 2003
        | 2006 | 2013 | 1317 | 1927 | 1969 | 1077 | 1079 | 1180 => Kind::Transient,
        // ER_SYNTAX and the rest: a statement of ours the server does not know.
        1064 | 1193 => Kind::Config,
        _ => Kind::Transient,
    }
}

/// What helps; `None`: nothing to be said, or only to wait.
pub(crate) fn hint_of(errno: u16) -> Option<&'static str> {
    Some(match errno {
        1236 => {
            "reset the task, so that it loads again; keep the log longer: SET GLOBAL \
                 binlog_expire_logs_seconds = 604800;"
        }
        1045 | 1698 | 3118 => {
            "correct the data source's user and password, or on the server: ALTER USER … \
             IDENTIFIED BY '…';"
        }
        1820 | 1862 => "on the server: ALTER USER … IDENTIFIED BY '…'; the password has expired",
        1130 => "on the server: CREATE USER …@'%' IDENTIFIED BY '…'; no account is for this host",
        1044 | 1142 | 1143 => "on the server: GRANT SELECT ON `database`.`table` TO …;",
        1227 => "on the server: GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO …;",
        1049 => "create the database, or correct the data source's database",
        1146 | 1054 | 1109 => {
            "the source table is not as it was when the task started: reset the task, so that it \
             is planned and loaded anew"
        }
        1040 | 1203 => "raise max_connections, or end idle sessions; the task goes on by itself",
        1064 | 1193 => {
            "the server is of a version that is not supported: use MariaDB 10.5 or newer"
        }
        _ => return None,
    })
}

/// The text of 1236 covers a purged log, one that was reset, and a server that refuses to send it.
fn dump_refused(text: &str) -> (Kind, Option<&'static str>) {
    if text.contains("same server_id") || text.contains("same server_uuid") {
        return (
            Kind::Transient,
            Some("another replica uses the data source's server_id: choose another one"),
        );
    }
    if text.contains("max_allowed_packet") {
        let fix = "SET GLOBAL max_allowed_packet = 1073741824;";
        return (Kind::Config, Some(fix));
    }
    (kind_of(1236), hint_of(1236))
}

/// The log no longer has what comes after the position.
pub(crate) fn lost(message: impl Into<String>) -> Error {
    let error = Error::new(Kind::PositionLost, message).at(Side::Source);
    match hint_of(1236) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// A driver error as ours, at the source.
pub(crate) fn from_driver(error: My) -> Error {
    plain(error).at(Side::Source)
}

/// A driver error as ours, with no side yet.
pub(crate) fn plain(error: My) -> Error {
    match &error {
        My::Server(server) => {
            let errno = server.code;
            let (kind, hint) = match errno {
                1236 => dump_refused(&server.message),
                _ => (kind_of(errno), hint_of(errno)),
            };
            let message = format!("the server refused ({errno}): {}", server.message);
            let error = Error::new(kind, message);
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        My::Io(io) => match handshake(io) {
            Some(refused) => refused,
            None => Error::transient(format!("connection failed: {io}")),
        },
        My::Driver(DriverError::NoClientSslFlagFromServer) => Error::config(
            "the server offers no TLS",
        )
        .with_hint("set up TLS on the server (ssl_cert, ssl_key), or choose the TLS mode `off`"),
        My::Driver(DriverError::CleartextPluginDisabled) => Error::config(
            "the server asks for the password in clear text over an unprotected connection",
        )
        .with_hint("use TLS, or set allow_cleartext_password"),
        My::Driver(DriverError::ConnectionClosed | DriverError::PacketOutOfOrder) => {
            Error::transient("the server closed the connection")
        }
        My::Driver(other) => match other {
            DriverError::FromRow { .. } | DriverError::FromValue { .. } => {
                Error::bug("an answer of the server has an unexpected form")
            }
            DriverError::UnexpectedPacket { .. } => {
                Error::transient("the server sent an unexpected packet")
            }
            other => Error::config(format!("driver: {other}")),
        },
        other => Error::config(format!("driver: {other}")),
    }
}

/// An error of connecting, with no side yet: here the names are known that belong into a hint.
pub(crate) fn at_login(error: My, config: &DataSourceConfig) -> Error {
    let user = account(config);
    let database = config.database.replace('`', "``");
    let hint = match &error {
        My::Server(server) => match server.code {
            1045 | 1698 => format!(
                "correct the data source's user and password, or on the server: ALTER USER {user} \
                 IDENTIFIED BY '…'; (if both are right, an anonymous user of this host comes \
                 first: DROP USER ''@'localhost';)"
            ),
            1130 => format!("on the server: CREATE USER {user} IDENTIFIED BY '…';"),
            1044 => format!("on the server: GRANT SELECT ON `{database}`.* TO {user};"),
            1049 => format!(
                "correct the data source's database, or on the server: CREATE DATABASE `{database}`;"
            ),
            _ => return plain(error),
        },
        My::Io(IoError::Io(io)) if io.kind() == ErrorKind::ConnectionRefused => {
            "start the server, or correct the data source's host and port".to_owned()
        }
        _ => return plain(error),
    };
    plain(error).with_hint(hint)
}

/// An error of reading `what` (as GRANT names it), for which `right` is needed.
pub(crate) fn reading(error: My, config: &DataSourceConfig, right: &str, what: &str) -> Error {
    // Who is logged in and hears 1045 asked for a dump without the right to.
    let denied =
        matches!(&error, My::Server(s) if matches!(s.code, 1044 | 1045 | 1142 | 1143 | 1227));
    let error = from_driver(error);
    if !denied {
        return error;
    }
    let user = account(config);
    error.with_hint(format!("on the server: GRANT {right} ON {what} TO {user};"))
}

/// The account as the check's statements name it.
pub(crate) fn account(config: &DataSourceConfig) -> String {
    format!("'{}'@'%'", config.user.replace('\'', "''"))
}

/// What a failed TLS handshake asks for; `None`: it is none.
fn handshake(io: &IoError) -> Option<Error> {
    use rustls::CertificateError as Bad;
    let tls = match io {
        IoError::Tls(other) => {
            return Some(
                Error::config(format!("TLS cannot be set up: {other}")).with_hint(
                    "give the certificate authority of the data source as PEM, and its host as a \
                     name or an address",
                ),
            );
        }
        IoError::Io(io) => io.get_ref()?.downcast_ref::<rustls::Error>()?,
    };
    let (message, hint) = match tls {
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => (
            "the server's certificate is for another host name",
            "use the name the certificate has as the data source's host, or give the server a \
             certificate with this name",
        ),
        // A bad signature: another authority of the same name, made anew for example.
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => (
            "the server's certificate is from an authority that is not trusted",
            "give the authority's certificate (PEM) as the data source's CA, or choose TLS mode \
             require to connect without checking",
        ),
        rustls::Error::InvalidCertificate(_) => (
            "the server's certificate is not valid",
            "give the server a certificate that is not expired and that the data source's CA has \
             signed (FLUSH SSL reads it anew)",
        ),
        _ => (
            "the TLS handshake failed",
            "the server has to offer TLS 1.2 or 1.3",
        ),
    };
    Some(Error::config(format!("{message}: {tls}")).with_hint(hint))
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Error::data(format!("malformed binlog or value: {}", error.0)).at(Side::Source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_row() {
        for (errno, kind) in [
            (1236, Kind::PositionLost),
            (1045, Kind::Config),
            (1044, Kind::Config),
            (1227, Kind::Config),
            (1142, Kind::Config),
            (1146, Kind::Schema),
            (1213, Kind::Transient),
            (1205, Kind::Transient),
            (2006, Kind::Transient),
            (2013, Kind::Transient),
            (1040, Kind::Transient),
            (1927, Kind::Transient),
        ] {
            assert_eq!(kind_of(errno), kind, "{errno}");
            let stops = kind != Kind::Transient;
            assert!(!stops || hint_of(errno).is_some(), "{errno} has no hint");
        }
    }
}
