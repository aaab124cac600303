//! The common form of each type: what to ask of either side, and how its answer is made canonical.
//!
//! | form | MariaDB says | PostgreSQL says | canonical |
//! | --- | --- | --- | --- |
//! | number | the digits | the digits | no zeros that do not count |
//! | float | the shortest text that reads back, of the value as `DOUBLE` | the eight bytes | the bits |
//! | text, bytes | `HEX` | `encode(…, 'hex')` | lower-case hexadecimal |
//! | JSON in `jsonb` | `HEX` | `encode(…, 'hex')` | keys sorted, numbers by value |
//! | dates and times | ISO text in UTC | ISO text in UTC | no zeros at the end of a fraction |
//! | bits | binary digits | binary digits | as they come |
//!
//! JSON in a column of type `json` is text and compared as such, which is stricter.

use anyhow::{Context as _, Result, bail};

use super::json;

/// Stands for NULL. No form contains it otherwise.
pub(super) const NULL: &str = "~";

/// A kind of value both sides can tell without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Integers and decimals.
    Number,
    /// Binary floating point, as double precision.
    Float,
    /// Characters.
    Text,
    /// JSON whose text the target does not keep.
    Json,
    /// Octets.
    Bytes,
    /// A calendar day.
    Day,
    /// A duration or a time of day.
    Time,
    /// A date and time without a zone.
    Civil,
    /// A moment.
    Moment,
    /// A UUID.
    Uuid,
    /// `BIT(n)` or a truth value made of one.
    Bits,
}

/// Which server gave a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The source.
    MariaDb,
    /// The target.
    Postgres,
}

/// The form of a MariaDB column (`data_type` and `column_type` of `information_schema.columns`), and
/// the expression that gives it.
pub(super) fn of_mariadb(data: &str, full: &str, column: &str) -> Option<(Form, String)> {
    Some(match data {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" | "decimal" => {
            (Form::Number, column.into())
        }
        "float" | "double" => (Form::Float, format!("CAST({column} AS DOUBLE)")),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
            (Form::Text, format!("HEX(CONVERT({column} USING utf8mb4))"))
        }
        "inet4" | "inet6" => (Form::Text, format!("HEX(CAST({column} AS CHAR))")),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "geometry"
        | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" => (Form::Bytes, format!("HEX({column})")),
        "date" => (Form::Day, column.into()),
        "time" => (Form::Time, column.into()),
        "datetime" => (Form::Civil, column.into()),
        "timestamp" => (Form::Moment, column.into()),
        "uuid" => (Form::Uuid, format!("LOWER(CAST({column} AS CHAR))")),
        "bit" => {
            let length = full.strip_prefix("bit(")?.strip_suffix(')')?;
            (Form::Bits, format!("LPAD(BIN({column}), {length}, '0')"))
        }
        _ => return None,
    })
}

/// The form of a PostgreSQL column (its `format_type`) that holds values of `form`, and the
/// expression that gives it.
pub(super) fn of_postgres(form: Form, full: &str, column: &str) -> Option<(Form, String)> {
    let name = full.split('(').next().unwrap_or_default().trim_end();
    let name = if full.ends_with("with time zone") && name == "timestamp" {
        "timestamp with time zone"
    } else {
        name
    };
    let plain = format!("{column}::text");
    let text = format!("encode(convert_to({column}::text, 'UTF8'), 'hex')");
    Some(match (form, name) {
        (Form::Number, "smallint" | "integer" | "bigint" | "numeric") => (form, plain),
        (Form::Number | Form::Bits, "boolean") => (form, format!("{column}::int::text")),
        (Form::Float, "real" | "double precision") => {
            (form, format!("encode(float8send({column}::float8), 'hex')"))
        }
        (Form::Text, "text" | "character varying" | "character" | "json" | "inet") => (form, text),
        (Form::Text, "jsonb") => (Form::Json, text),
        (Form::Bytes, "bytea") => (form, format!("encode({column}, 'hex')")),
        (Form::Day, "date")
        | (Form::Time, "interval" | "time" | "time without time zone")
        | (Form::Civil, "timestamp" | "timestamp without time zone")
        | (Form::Uuid, "uuid" | "text" | "character varying")
        | (Form::Bits, "bit" | "bit varying") => (form, plain),
        (Form::Moment, "timestamp with time zone") => {
            (form, format!("({column} AT TIME ZONE 'UTC')::text"))
        }
        // A user's own type, such as an enumeration, for labels.
        (Form::Text, name) if !name.starts_with("timestamp") && name != "bytea" => (form, text),
        _ => return None,
    })
}

/// Appends the canonical form of what a server said.
pub(super) fn canonical(form: Form, origin: Origin, said: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if said == NULL.as_bytes() {
        out.extend_from_slice(said);
        return Ok(());
    }
    match form {
        Form::Number => number(said, out),
        Form::Float if origin == Origin::MariaDb => {
            let text = std::str::from_utf8(said)?;
            let value: f64 = text
                .parse()
                .with_context(|| format!("not a number: {text:?}"))?;
            out.extend_from_slice(format!("{:016x}", value.to_bits()).as_bytes());
        }
        Form::Text | Form::Bytes => out.extend(said.iter().map(u8::to_ascii_lowercase)),
        Form::Json => {
            let text = String::from_utf8(unhex(said)?).context("JSON is not UTF-8")?;
            let start = out.len();
            json::canonical(&text, out)?;
            // In hexadecimal as other text, so that no tab or line end is left in it.
            let made = crate::client::hex(out.get(start..).unwrap_or_default());
            out.truncate(start);
            out.extend_from_slice(made.as_bytes());
        }
        Form::Time | Form::Civil | Form::Moment => fraction(said, out),
        Form::Float | Form::Day | Form::Uuid | Form::Bits => out.extend_from_slice(said),
    }
    Ok(())
}

/// Without zeros at the end of the fraction.
fn fraction(said: &[u8], out: &mut Vec<u8>) {
    let mut text = said;
    if text.contains(&b'.') {
        while let Some(shorter) = text.strip_suffix(b"0") {
            text = shorter;
        }
        text = text.strip_suffix(b".").unwrap_or(text);
    }
    out.extend_from_slice(text);
}

/// Without zeros in front (`ZEROFILL`, `YEAR`) or at the end of the fraction.
fn number(said: &[u8], out: &mut Vec<u8>) {
    let (sign, mut digits) = match said.strip_prefix(b"-") {
        Some(digits) => (b"-".as_slice(), digits),
        None => (b"".as_slice(), said),
    };
    while let [b'0', rest @ ..] = digits {
        if !rest.first().is_some_and(u8::is_ascii_digit) {
            break;
        }
        digits = rest;
    }
    let start = out.len();
    out.extend_from_slice(sign);
    fraction(digits, out);
    if out.get(start..) == Some(b"-0") {
        out.truncate(start);
        out.push(b'0');
    }
}

/// Octets of hexadecimal text.
pub(super) fn unhex(text: &[u8]) -> Result<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        bail!("an odd number of hexadecimal digits");
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).context("not hexadecimal");
    pairs
        .iter()
        .map(|[high, low]| Ok(u8::try_from(digit(*high)? * 16 + digit(*low)?)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_becomes_the_same() {
        use Origin::{MariaDb, Postgres};
        let cases: [(Form, Origin, &str, &str); 16] = [
            (Form::Number, MariaDb, "0000", "0"),
            (Form::Number, MariaDb, "007", "7"),
            (Form::Number, MariaDb, "-0.50", "-0.5"),
            (Form::Number, Postgres, "0.00", "0"),
            (Form::Number, Postgres, "-0.00", "0"),
            (Form::Number, Postgres, "100", "100"),
            (
                Form::Number,
                Postgres,
                "18446744073709551615",
                "18446744073709551615",
            ),
            (Form::Float, MariaDb, "0.1", "3fb999999999999a"),
            (
                Form::Float,
                Postgres,
                "3fb999999999999a",
                "3fb999999999999a",
            ),
            (Form::Float, MariaDb, "-0", "8000000000000000"),
            (Form::Text, MariaDb, "C5BE", "c5be"),
            (
                Form::Civil,
                MariaDb,
                "2024-01-02 03:04:00.000000",
                "2024-01-02 03:04:00",
            ),
            (Form::Time, MariaDb, "-838:59:59.120000", "-838:59:59.12"),
            (Form::Time, Postgres, "10:20:00", "10:20:00"),
            (Form::Bytes, MariaDb, "", ""),
            (Form::Json, Postgres, "7b7d", "7b7d"),
        ];
        for (form, origin, said, expected) in cases {
            let mut out = b"before".to_vec();
            canonical(form, origin, said.as_bytes(), &mut out).unwrap();
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("before{expected}"),
                "{said}"
            );
        }
    }

    #[test]
    fn types_without_a_common_form_are_refused() {
        assert!(of_mariadb("polyhedron", "polyhedron", "c").is_none());
        assert!(of_postgres(Form::Number, "text", "c").is_none());
        assert!(of_postgres(Form::Civil, "timestamp(6) with time zone", "c").is_none());
        assert!(of_postgres(Form::Moment, "timestamp(6) with time zone", "c").is_some());
        assert!(of_postgres(Form::Civil, "timestamp(6) without time zone", "c").is_some());
        assert!(of_postgres(Form::Text, "bytea", "c").is_none());
    }
}
