//! From SQLSTATE to what to do: the one table.
//!
//! Codes: <https://www.postgresql.org/docs/15/errcodes-appendix.html>. The server's DETAIL is never
//! shown, because it can hold the values of a row.

use thalweg_core::{Error, Kind, Side};

/// What a SQLSTATE asks for. Codes the table does not have are `Transient`.
pub fn kind_of(code: &str) -> Kind {
    let class = code.get(..2).unwrap_or(code);
    match (code, class) {
        // A deadlock, a serialisation failure, a server that shuts down or starts up.
        ("40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03", _) => Kind::Transient,
        // The statement was refused because the server is a standby or set to read only.
        ("25006", _) => Kind::Config,
        // Insufficient privilege, wrong password, no such database.
        ("42501" | "3D000", _) | (_, "28") => Kind::Config,
        // No such table, column, function or type; a table that is there already.
        (_, "42" | "3F") => Kind::Schema,
        // A value or row the table does not take.
        (_, "22" | "23") => Kind::Data,
        _ => Kind::Transient,
    }
}

/// Turns a driver's error into ours, at the target.
pub(crate) fn convert(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        if let Some(tls) = crate::tls::handshake_error(&error) {
            return tls.at(Side::Target);
        }
        return Error::transient("the connection to PostgreSQL failed")
            .caused_by(error)
            .at(Side::Target);
    };
    let code = db.code().code();
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
    let mut converted = Error::new(kind, message).at(Side::Target);
    if let (Some(hint), false) = (db.hint(), kind == Kind::Data) {
        converted = converted.with_hint(hint);
    }
    converted
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
            ("22001", Kind::Data),
            ("22003", Kind::Data),
            ("23502", Kind::Data),
            ("23505", Kind::Data),
            ("XX000", Kind::Transient),
            ("", Kind::Transient),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
