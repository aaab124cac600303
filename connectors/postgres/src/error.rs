//! From SQLSTATE to what to do: the one table.
//!
//! Codes: <https://www.postgresql.org/docs/15/errcodes-appendix.html>. The server's DETAIL is never
//! shown, because it can hold the values of a row.

use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::TableName;
use thalweg_core::{Error, Kind, Side};

use crate::schema::quote;
use crate::wire::frame::Refusal;

/// A SQLSTATE or a class of them (its first two characters), what it asks for, and what helps;
/// an empty hint: nothing but to wait, or the server's own hint.
const TABLE: &[(&str, Kind, &str)] = &[
    ("08", Kind::Transient, ""),
    // One statement met a row twice.
    (
        "21000",
        Kind::Data,
        "the target takes the keys of two rows for equal: give its key a type and collation that tell them apart, or correct one of the rows at the source",
    ),
    (
        "0A",
        Kind::Schema,
        "the target table is of a kind that cannot be written so: make it an ordinary table",
    ),
    (
        "22",
        Kind::Data,
        "correct the row at the source, or change the target column so that it takes the value",
    ),
    (
        "22021",
        Kind::Data,
        "the text has a character that PostgreSQL cannot store (a NUL, for example): correct the row at the source",
    ),
    (
        "23",
        Kind::Data,
        "the target table has a rule that the source's does not: drop the constraint, or correct the row at the source",
    ),
    (
        "23502",
        Kind::Data,
        "ALTER TABLE … ALTER COLUMN … DROP NOT NULL on the target, or give the column a default if it is not mapped",
    ),
    (
        "23503",
        Kind::Data,
        "set the task's option foreign_keys to replica, or map the referenced table in this task too",
    ),
    (
        "23505",
        Kind::Data,
        "another row of the target has the same unique value: remove rows that the task did not write, or drop the unique key",
    ),
    (
        "25006",
        Kind::Config,
        "connect to the primary; or on the server: ALTER SYSTEM SET default_transaction_read_only = off; SELECT pg_reload_conf()",
    ),
    (
        "26",
        Kind::Config,
        "connect to the server itself: a pooler between gives our statements to another session",
    ),
    (
        "28",
        Kind::Config,
        "allow the connection in the server's pg_hba.conf, then SELECT pg_reload_conf()",
    ),
    (
        "28P01",
        Kind::Config,
        "correct the data source's user and password",
    ),
    (
        "3D000",
        Kind::Config,
        "create the database, or correct the data source's database",
    ),
    (
        "3F",
        Kind::Schema,
        "CREATE SCHEMA of this name at the target, or correct the mapping",
    ),
    ("40001", Kind::Transient, ""),
    ("40P01", Kind::Transient, ""),
    (
        "42",
        Kind::Schema,
        "the target table is not as it was when the task started: make it so again, or reset the task, so that it is planned and loaded anew",
    ),
    (
        "42501",
        Kind::Config,
        "GRANT the user what the message names; the check of the task lists the statements",
    ),
    (
        "42P01",
        Kind::Schema,
        "create the target table again (or set the task's option create_tables to missing), then run the task again: it loads the new table",
    ),
    (
        "53",
        Kind::Transient,
        "the server lacks a resource; the task goes on by itself when it has it again",
    ),
    (
        "53100",
        Kind::Transient,
        "the server's disk is full: free space on it, or drop what is not needed; the task goes on by itself",
    ),
    (
        "53200",
        Kind::Transient,
        "the server is out of memory: give it more, or lower work_mem and max_connections; the task goes on by itself",
    ),
    (
        "53300",
        Kind::Transient,
        "the server takes no more connections: raise max_connections, or end idle sessions; the task goes on by itself",
    ),
    (
        "44",
        Kind::Data,
        "the target is a view with a check option: map the table behind it, or correct the row at the source",
    ),
    (
        "54",
        Kind::Config,
        "a limit of the server was met: where it is the size of an index entry, drop the index at the target",
    ),
    (
        "55000",
        Kind::Schema,
        "the target table is not in a state in which it can be written: correct what the message names",
    ),
    (
        "55P03",
        Kind::Transient,
        "another session holds a lock on the table: SELECT * FROM pg_locks WHERE NOT granted shows who waits",
    ),
    ("57P01", Kind::Transient, ""),
    ("57P02", Kind::Transient, ""),
    ("57P03", Kind::Transient, ""),
    (
        "P0",
        Kind::Data,
        "a trigger or rule of the target refused the row: drop it, or ALTER TABLE … DISABLE TRIGGER",
    ),
    (
        "58",
        Kind::Transient,
        "the server cannot read or write its own files: look into its log",
    ),
];

fn entry(code: &str) -> Option<&'static (&'static str, Kind, &'static str)> {
    let find = |name: &str| TABLE.iter().find(|(key, ..)| *key == name);
    find(code).or_else(|| find(code.get(..2)?))
}

/// What a SQLSTATE asks for. Codes the table does not have are `Transient`.
pub fn kind_of(code: &str) -> Kind {
    entry(code).map_or(Kind::Transient, |(_, kind, _)| *kind)
}

/// What helps; `None`: nothing to be said.
pub fn hint_of(code: &str) -> Option<&'static str> {
    entry(code)
        .map(|(.., hint)| *hint)
        .filter(|hint| !hint.is_empty())
}

/// Turns an error of connecting into ours: here the names are known that belong into a hint.
pub(crate) fn convert_connect(
    error: tokio_postgres::Error,
    config: &DataSourceConfig,
    side: Side,
) -> Error {
    let hint = error
        .as_db_error()
        .and_then(|db| login_hint(db.code().code(), db.message(), config));
    let converted = match side {
        Side::Source => asking(error),
        Side::Target => convert(error),
    };
    match hint {
        Some(hint) => converted.with_hint(hint),
        None => converted,
    }
}

/// A login the source refused.
pub(crate) fn not_connected(refusal: &Refusal, config: &DataSourceConfig) -> Error {
    let error = refused(refusal);
    match login_hint(&refusal.code, &refusal.message, config) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What helps against a login that was refused.
fn login_hint(code: &str, message: &str, config: &DataSourceConfig) -> Option<String> {
    let (user, database) = (quote(&config.user), quote(&config.database));
    Some(match code {
        "28P01" => format!(
            "correct the data source's password, or on the server: ALTER ROLE {user} PASSWORD '…'"
        ),
        "28000" => format!(
            "on the server: CREATE ROLE {user} LOGIN PASSWORD '…' if it is missing, and a line in \
             pg_hba.conf such as: hostssl {database} {user} samenet scram-sha-256"
        ),
        "3D000" => format!("CREATE DATABASE {database} ENCODING 'UTF8'"),
        "42501" if message.contains("walsender") => format!("ALTER ROLE {user} REPLICATION"),
        "42501" => format!("GRANT CONNECT ON DATABASE {database} TO {user}"),
        _ => return None,
    })
}

/// What is different where the server is the source: as [`TABLE`].
const SOURCE: &[(&str, Kind, &str)] = &[
    (
        "0A",
        Kind::Config,
        "the check of the task says what the server has to be set to",
    ),
    (
        "3F",
        Kind::Schema,
        "the source schema is gone: correct the mapping",
    ),
    (
        "42",
        Kind::Schema,
        "the source table is not as it was when the task started: reset the task, so that it is planned and loaded anew",
    ),
    (
        "42501",
        Kind::Config,
        "GRANT the user what the message names; the check of the task lists the statements",
    ),
    // A slot or publication that is gone.
    (
        "42704",
        Kind::PositionLost,
        "reset the task, so that it loads again",
    ),
    (
        "53400",
        Kind::Config,
        "drop replication slots that nobody uses, or on the server: ALTER SYSTEM SET max_replication_slots = 20; and restart",
    ),
    (
        "53300",
        Kind::Transient,
        "raise max_connections or max_wal_senders, or end idle sessions; the task goes on by itself",
    ),
    (
        "55000",
        Kind::Config,
        "the check of the task says what the server has to be set to",
    ),
    (
        "55006",
        Kind::Transient,
        "another session reads the task's replication slot: SELECT * FROM pg_replication_slots shows which",
    ),
    (
        "58P01",
        Kind::PositionLost,
        "reset the task, so that it loads again",
    ),
    (
        "57014",
        Kind::Transient,
        "a statement was cancelled; the task tries again",
    ),
];

/// What a slot that was invalidated cannot do, by the server's version.
const GONE: [&str; 3] = [
    "cannot read from logical replication slot",
    "can no longer get changes from replication slot",
    "can no longer access replication slot",
];
/// What a standby says of itself.
const STANDBY: [&str; 4] = [
    "while in recovery",
    "during recovery",
    "recovery is in progress",
    "cannot use replication slot",
];

/// Turns what the source refused into ours.
pub(crate) fn refused(refusal: &Refusal) -> Error {
    let code = refusal.code.as_str();
    let find = |name: &str| SOURCE.iter().find(|(key, ..)| *key == name);
    let own = find(code).or_else(|| find(code.get(..2)?));
    let (kind, hint) = match own.or_else(|| entry(code)) {
        Some((_, kind, hint)) => (*kind, *hint),
        None => (Kind::Transient, ""),
    };
    let says = |phrases: &[&str]| {
        phrases
            .iter()
            .any(|phrase| refusal.message.contains(phrase))
    };
    // It was invalidated.
    let gone = code == "55000" && says(&GONE);
    // A server that is being promoted says so for a moment: "logical decoding cannot be used while in recovery", "recovery
    // is in progress", and of a slot that it still gets from its primary.
    let standby = matches!(code, "0A000" | "55000") && says(&STANDBY);
    let kind = match gone {
        true => Kind::PositionLost,
        false if standby => Kind::Transient,
        false => kind,
    };
    let message = match kind {
        Kind::Data => format!("PostgreSQL refused to read a row (SQLSTATE {code})"),
        _ => format!("PostgreSQL: {} (SQLSTATE {code})", refusal.message),
    };
    let error = Error::new(kind, message).at(Side::Source);
    let hint = match hint {
        _ if gone => "reset the task, so that it loads again",
        _ if standby => {
            "the server is a standby: promote it, or give the primary's host and port to the data source; the task goes \
             on by itself"
        }
        "" => refusal.hint.as_str(),
        hint => hint,
    };
    match hint {
        "" => error,
        hint => error.with_hint(hint),
    }
}

/// Turns a driver's error into ours, at the source.
pub(crate) fn asking(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) => refused(&Refusal {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            hint: db.hint().unwrap_or_default().to_owned(),
        }),
        None => match crate::tls::handshake_error(&error) {
            Some(tls) => tls.at(Side::Source),
            None => without_code(error).at(Side::Source),
        },
    }
}

/// A connection to the source that is gone.
pub(crate) fn broken() -> Error {
    Error::transient("the connection to PostgreSQL failed").at(Side::Source)
}

/// The place to go on from is gone, or is not of this server.
pub(crate) fn lost(message: impl Into<String>) -> Error {
    Error::new(Kind::PositionLost, message)
        .with_hint("reset the task, so that it loads again")
        .at(Side::Source)
}

/// Turns a driver's error into ours, at the target.
pub(crate) fn convert(error: tokio_postgres::Error) -> Error {
    plain(error).at(Side::Target)
}

/// The same where it is not known which end the server is.
pub(crate) fn plain(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        if let Some(tls) = crate::tls::handshake_error(&error) {
            return tls;
        }
        return without_code(error);
    };
    let code = db.code().code();
    // Not a table of the task but where we keep what it has.
    let ours = |name: &&str| db.message().contains(*name);
    if matches!(code, "42P01" | "3F000") && ["\"thalweg.", "\"thalweg\""].iter().any(ours) {
        return thalweg_core::checkpoint::gone();
    }
    let kind = kind_of(code);
    let mut place = String::new();
    for (word, name) in [
        ("table", db.table()),
        ("column", db.column()),
        ("constraint", db.constraint()),
    ] {
        if let Some(name) = name {
            place.push_str(&format!(", {word} {name}"));
        }
    }
    // Messages of class 22 can quote the value that was refused; those of other classes name
    // objects and settings only.
    let message = match kind {
        Kind::Data => format!("PostgreSQL refused a row (SQLSTATE {code}{place})"),
        _ => format!("PostgreSQL: {} (SQLSTATE {code}{place})", db.message()),
    };
    let mut converted = Error::new(kind, message);
    let own = db.hint().filter(|_| kind != Kind::Data);
    if let Some(hint) = hint_of(code).or(own) {
        converted = converted.with_hint(hint);
    }
    // NOT NULL and CHECK.
    match code {
        "23502" | "23514" => converted.of_row(),
        _ => converted,
    }
}

/// An error the server did not report.
fn without_code(error: tokio_postgres::Error) -> Error {
    match error.to_string().as_str() {
        // The driver does not know the method the server asks for, or the other way round.
        "authentication error" => Error::config("cannot log in to PostgreSQL")
            .with_hint("set scram-sha-256 as the method in the server's pg_hba.conf")
            .caused_by(error),
        "error connecting to server" => Error::transient("PostgreSQL does not answer")
            .with_hint("start the server, or correct the data source's host and port")
            .caused_by(error),
        _ => Error::transient("the connection to PostgreSQL failed").caused_by(error),
    }
}

/// An error of a row of `table`: says so where the server does not, as of a value that does not fit.
pub(crate) fn of_table(error: Error, table: &TableName) -> Error {
    let named = error.kind() != Kind::Data || error.message().contains(", table ");
    if named { error } else { error.context(table) }
}

/// Whether an error of a bulk statement may come from the order of its rows only, so that the same
/// changes in commit order can succeed: a constraint (class 23) was met on the way.
pub(crate) fn is_order_dependent(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| code.code().starts_with("23"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_being_promoted_is_waited_for() {
        let kind = |code: &str, message: &str| {
            let refusal = Refusal {
                code: code.to_owned(),
                message: message.to_owned(),
                hint: String::new(),
            };
            refused(&refusal).kind()
        };
        let decoding = "logical decoding cannot be used while in recovery";
        assert_eq!(kind("0A000", decoding), Kind::Transient);
        assert_eq!(kind("55000", "recovery is in progress"), Kind::Transient);
        let synced = "cannot use replication slot \"a\" for logical decoding";
        assert_eq!(kind("55000", synced), Kind::Transient);
        let invalid = "can no longer get changes from replication slot \"a\"";
        assert_eq!(kind("55000", invalid), Kind::PositionLost);
        assert_eq!(kind("0A000", "not on table recovery_codes"), Kind::Config);
        assert_eq!(
            kind("55000", "logical decoding requires wal_level >= logical"),
            Kind::Config
        );
        assert_eq!(kind("0A000", "not on a temporary table"), Kind::Config);
    }

    #[test]
    fn every_known_code_has_its_kind() {
        for (code, kind) in [
            ("08006", Kind::Transient),
            ("40001", Kind::Transient),
            ("40P01", Kind::Transient),
            ("53100", Kind::Transient),
            ("53300", Kind::Transient),
            ("55P03", Kind::Transient),
            ("57P01", Kind::Transient),
            ("57P03", Kind::Transient),
            ("25006", Kind::Config),
            ("28P01", Kind::Config),
            ("28000", Kind::Config),
            ("3D000", Kind::Config),
            ("42501", Kind::Config),
            ("42P01", Kind::Schema),
            ("42703", Kind::Schema),
            ("3F000", Kind::Schema),
            ("21000", Kind::Data),
            ("22001", Kind::Data),
            ("22003", Kind::Data),
            ("23502", Kind::Data),
            ("23505", Kind::Data),
            ("0A000", Kind::Schema),
            ("26000", Kind::Config),
            ("54000", Kind::Config),
            ("55000", Kind::Schema),
            ("P0001", Kind::Data),
            ("XX000", Kind::Transient),
            ("", Kind::Transient),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }

    #[test]
    fn whoever_must_act_is_told_how() {
        for (key, kind, hint) in TABLE {
            assert!(
                *kind == Kind::Transient || !hint.is_empty(),
                "{key} has no hint"
            );
        }
        assert!(hint_of("53100").is_some_and(|hint| hint.contains("disk is full")));
        assert_eq!(hint_of("23514"), hint_of("23"));
        assert_eq!(hint_of("40001"), None);
        assert_eq!(hint_of("XX000"), None);
    }
}
