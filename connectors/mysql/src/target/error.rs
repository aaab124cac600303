//! From the server's error numbers to what to do, at the target.
//!
//! Numbers: <https://mariadb.com/kb/en/mariadb-error-code-reference/>,
//! <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>. Messages about
//! values are never shown, because the server writes the value into them; which column, key or
//! constraint it was is taken from them by name.

use mysql_async::{Error as My, ServerError};
use thalweg_core::plan::TargetTable;
use thalweg_core::{Error, Kind, Side};

use crate::error::plain;

/// A row, or nothing of a row.
const ANY_ROW: &str = "a row";
const CORRECT: &str =
    "correct the row at the source, or change the target column so that it takes the value";
const RULE: &str = "the target table has a rule that the source's does not: drop the constraint, \
                    or correct the row at the source";
const FOREIGN: &str = "set the task's option foreign_keys to replica, or map the referenced table \
                       in this task too";
const WRITABLE: &str = "connect to the primary; or on the server: SET GLOBAL read_only = OFF";
const CHANGED: &str = "the target table is not as it was when the task started: make it so again, \
                       or reset the task, so that it is planned and loaded anew";
const GRANT: &str = "GRANT the user what the message names; the check of the task lists the \
                     statements";
const FULL: &str = "the server's disk is full: free space on it, or drop what is not needed; the \
                    task goes on by itself";

/// A number, what it asks for, and what helps; an empty hint: nothing but to wait.
const TABLE: &[(u16, Kind, &str)] = &[
    // Waiting helps: locks, connections, shutdown, failover, memory, disk.
    (
        1205,
        Kind::Transient,
        "another session holds a lock on the row or table: SHOW PROCESSLIST shows who waits",
    ),
    (1213, Kind::Transient, ""),
    (
        1206,
        Kind::Transient,
        "the server is out of memory for locks: raise innodb_buffer_pool_size",
    ),
    (
        1040,
        Kind::Transient,
        "the server takes no more connections: raise max_connections, or end idle sessions; the task goes on by itself",
    ),
    (
        1203,
        Kind::Transient,
        "the user has too many connections: raise max_user_connections, or end idle sessions; the task goes on by itself",
    ),
    (
        1226,
        Kind::Transient,
        "the user has used up a resource: raise its limits with ALTER USER; the task goes on by itself",
    ),
    (1053, Kind::Transient, ""),
    (1077, Kind::Transient, ""),
    (1079, Kind::Transient, ""),
    (1080, Kind::Transient, ""),
    (1152, Kind::Transient, ""),
    (1158, Kind::Transient, ""),
    (1159, Kind::Transient, ""),
    (1160, Kind::Transient, ""),
    (1161, Kind::Transient, ""),
    (1184, Kind::Transient, ""),
    (
        1223,
        Kind::Transient,
        "another session has locked the server: UNLOCK TABLES there; the task goes on by itself",
    ),
    (1317, Kind::Transient, ""),
    (1927, Kind::Transient, ""),
    (1969, Kind::Transient, ""),
    (3024, Kind::Transient, ""),
    (4031, Kind::Transient, ""),
    (1021, Kind::Transient, FULL),
    (1114, Kind::Transient, FULL),
    (1026, Kind::Transient, FULL),
    (
        1037,
        Kind::Transient,
        "the server is out of memory; the task goes on by itself",
    ),
    (
        1038,
        Kind::Transient,
        "the server is out of memory for sorting; the task goes on by itself",
    ),
    (
        1041,
        Kind::Transient,
        "the server is out of memory; the task goes on by itself",
    ),
    (
        1135,
        Kind::Transient,
        "the server cannot create a thread; the task goes on by itself",
    ),
    (1412, Kind::Transient, ""),
    // A person must act.
    (1044, Kind::Config, GRANT),
    (
        1045,
        Kind::Config,
        "correct the data source's user and password",
    ),
    (
        1049,
        Kind::Config,
        "create the database, or correct the data source's database",
    ),
    (
        1130,
        Kind::Config,
        "on the server: CREATE USER …@'%' IDENTIFIED BY '…'; no account is for this host",
    ),
    (1142, Kind::Config, GRANT),
    (1143, Kind::Config, GRANT),
    (1227, Kind::Config, GRANT),
    (1370, Kind::Config, GRANT),
    (1290, Kind::Config, WRITABLE),
    (1792, Kind::Config, WRITABLE),
    (1836, Kind::Config, WRITABLE),
    (
        1064,
        Kind::Config,
        "the server is of a version that is not supported: use MariaDB 10.3 or MySQL 5.7, or newer",
    ),
    (
        1193,
        Kind::Config,
        "the server is of a version that is not supported: use MariaDB 10.3 or MySQL 5.7, or newer",
    ),
    (
        1115,
        Kind::Config,
        "the server does not know a character set: use MariaDB 10.3 or MySQL 5.7, or newer",
    ),
    (
        1273,
        Kind::Config,
        "the server does not know a collation: use MariaDB 10.3 or MySQL 5.7, or newer",
    ),
    (
        1665,
        Kind::Config,
        "on the server: SET GLOBAL binlog_format = 'ROW'",
    ),
    (1059, Kind::Config, "map to a shorter name"),
    (
        1060,
        Kind::Config,
        "map the columns to names that differ in more than case",
    ),
    (
        1071,
        Kind::Config,
        "create the table by hand with shorter key columns",
    ),
    (
        1118,
        Kind::Config,
        "create the table by hand, with fewer or other columns, or map fewer columns",
    ),
    (1117, Kind::Config, "map fewer columns"),
    (
        1005,
        Kind::Config,
        "create the foreign key by hand, or drop it at the source and reset the task",
    ),
    (
        1215,
        Kind::Config,
        "create the foreign key by hand, or drop it at the source and reset the task",
    ),
    // The table is not what it was.
    (1051, Kind::Schema, CHANGED),
    (1054, Kind::Schema, CHANGED),
    (1109, Kind::Schema, CHANGED),
    (1136, Kind::Schema, CHANGED),
    (
        1146,
        Kind::Schema,
        "create the target table again (or set the task's option create_tables to missing), then run the task again: it loads the new table",
    ),
    (1906, Kind::Schema, CHANGED),
    (3105, Kind::Schema, CHANGED),
    (
        1932,
        Kind::Schema,
        "the server has lost the table's file: repair it, or create the table again and run the task: it loads the new table",
    ),
    // The row.
    (
        1048,
        Kind::Data,
        "ALTER TABLE … MODIFY … NULL on the target, or correct the row at the source",
    ),
    (
        1062,
        Kind::Data,
        "another row of the target has the same unique value: remove rows that the task did not write, or drop the unique key",
    ),
    (
        1169,
        Kind::Data,
        "another row of the target has the same unique value: remove rows that the task did not write, or drop the unique key",
    ),
    (
        1586,
        Kind::Data,
        "another row of the target has the same unique value: remove rows that the task did not write, or drop the unique key",
    ),
    (
        1153,
        Kind::Data,
        "on the server: SET GLOBAL max_allowed_packet = 1073741824, then run the task again",
    ),
    (1216, Kind::Data, FOREIGN),
    (1217, Kind::Data, FOREIGN),
    (1451, Kind::Data, FOREIGN),
    (1452, Kind::Data, FOREIGN),
    (1264, Kind::Data, CORRECT),
    (1265, Kind::Data, CORRECT),
    (
        1267,
        Kind::Data,
        "the text has a character that the target column's character set does not have: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4",
    ),
    (1292, Kind::Data, CORRECT),
    (1300, Kind::Data, CORRECT),
    (
        1364,
        Kind::Data,
        "give the target column a default, allow NULL in it, or map a column to it",
    ),
    (
        1366,
        Kind::Data,
        "the text has a character that the target column's character set does not have: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4",
    ),
    (1406, Kind::Data, CORRECT),
    (1411, Kind::Data, CORRECT),
    (1416, Kind::Data, CORRECT),
    (1441, Kind::Data, CORRECT),
    (
        1526,
        Kind::Data,
        "add a partition for the value to the target table",
    ),
    (
        1644,
        Kind::Data,
        "a trigger of the target table refused the row: drop the trigger, or correct the row at the source",
    ),
    (1690, Kind::Data, CORRECT),
    (3140, Kind::Data, CORRECT),
    (3141, Kind::Data, CORRECT),
    (3819, Kind::Data, RULE),
    (4025, Kind::Data, RULE),
];

/// Those of [`TABLE`] that are about the values of one row.
const OF_ROW: &[u16] = &[1048, 1264, 1265, 1292, 1366, 1406, 3819, 4025];

fn entry(errno: u16) -> Option<&'static (u16, Kind, &'static str)> {
    TABLE.iter().find(|(number, ..)| *number == errno)
}

/// What an error number asks for. Numbers the table does not have are `Transient`.
pub(super) fn kind_of(errno: u16) -> Kind {
    entry(errno).map_or(Kind::Transient, |(_, kind, _)| *kind)
}

/// A driver's error as ours, where no row is being written.
pub(super) fn convert(error: My) -> Error {
    let My::Server(server) = error else {
        return plain(error).at(Side::Target);
    };
    refused(&server, ANY_ROW, "")
}

/// A driver's error as ours, of a statement that writes rows of `table`.
pub(super) fn convert_for(error: My, table: &TargetTable) -> Error {
    let My::Server(server) = error else {
        return plain(error).at(Side::Target);
    };
    refused(
        &server,
        &format!("a row of {}", table.name),
        &place(&server, table),
    )
}

fn refused(server: &ServerError, what: &str, place: &str) -> Error {
    let errno = server.code;
    // Not a table of the task but where we keep what it has.
    if matches!(errno, 1146 | 1049)
        && ["'thalweg.", "._thalweg_"]
            .iter()
            .any(|ours| server.message.contains(ours))
    {
        return thalweg_core::checkpoint::gone();
    }
    let message = match entry(errno) {
        Some((_, Kind::Data, _)) => format!("the server refused {what} ({errno}{place})"),
        // What it does not understand it quotes, values and all; the same may be true of errors we
        // have never met.
        Some((1064, ..)) | None => format!("the server refused a statement ({errno}{place})"),
        Some(_) if what == ANY_ROW => format!("the server refused ({errno}): {}", server.message),
        Some(_) => format!(
            "writing {what}: the server refused ({errno}): {}",
            server.message
        ),
    };
    let mut error = Error::new(kind_of(errno), message).at(Side::Target);
    if OF_ROW.contains(&errno) {
        error = error.of_row();
    }
    match entry(errno) {
        Some((.., hint)) if !hint.is_empty() => error.with_hint(*hint),
        _ => error,
    }
}

/// Which column, key or constraint a message is about. A value in it could look like such words, so
/// only names that the table has, or what stands at the end, are believed.
fn place(server: &ServerError, table: &TargetTable) -> String {
    let message = server.message.as_str();
    let after = |word: &str, close: char| {
        let (_, rest) = message.rsplit_once(word)?;
        Some(rest.split(close).next().unwrap_or(rest).to_owned())
    };
    match server.code {
        1062 | 1586 => after("for key '", '\'').map(|key| format!(", key {key}")),
        1216 | 1217 | 1451 | 1452 | 4025 => {
            after("CONSTRAINT `", '`').map(|name| format!(", constraint {name}"))
        }
        // No value in these.
        1048 => between(message, "Column '").map(|name| format!(", column {name}")),
        1364 => between(message, "Field '").map(|name| format!(", column {name}")),
        3819 => after("constraint '", '\'').map(|name| format!(", constraint {name}")),
        _ => {
            let TargetTable { name, columns, .. } = table;
            let named = columns.iter().find(|column| {
                let column = &column.name;
                message.contains(&format!("olumn '{column}'"))
                    || message.contains(&format!("Field '{column}'"))
                    || message.contains(&format!("`{}`.`{}`.`{column}`", name.schema, name.name))
            });
            named.map(|column| format!(", column {}", column.name))
        }
    }
    .unwrap_or_default()
}

/// What stands between a word and the next quote.
fn between(message: &str, word: &str) -> Option<String> {
    let (_, rest) = message.split_once(word)?;
    Some(rest.split_once('\'')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_must_act_is_told_how() {
        for (number, kind, hint) in TABLE {
            assert!(
                *kind == Kind::Transient || !hint.is_empty(),
                "{number} has no hint"
            );
            let same = TABLE.iter().filter(|(other, ..)| other == number);
            assert_eq!(same.count(), 1, "{number} stands once");
        }
    }
}
