//! The common form of each type: what to ask of either side, and how its answer is made canonical.
//!
//! | form | MariaDB says | PostgreSQL says | canonical |
//! | --- | --- | --- | --- |
//! | number | the digits | the digits | no zeros that do not count |
//! | float | the shortest text that reads back, of the value as `DOUBLE` | the eight bytes | the bits |
//! | geometry | EWKB in hexadecimal, made of `SUBSTR`s | `encode(…, 'hex')` of the `bytea` it is in | lower-case hexadecimal |
//! | text, bytes | `HEX` | `encode(…, 'hex')` | lower-case hexadecimal |
//! | JSON where a side keeps its meaning only | `HEX` | `encode(…, 'hex')` | keys sorted, numbers by value |
//! | dates and times | ISO text in UTC | ISO text in UTC | no zeros at the end of a fraction |
//! | bits | binary digits | binary digits | as they come |
//!
//! A type has one form or more, the strictest first; a pair of types is compared in the first form of
//! the source's type that the target's type has too. The last resort of a type only its own engine
//! understands is its text. JSON that both sides keep as text is compared as text, which is stricter.

use anyhow::{Context as _, Result, bail};

use super::json;
use crate::servers::System;

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
    /// JSON whose text one side does not keep.
    Json,
    /// Octets.
    Bytes,
    /// A geometry as EWKB.
    Ewkb,
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

/// A column's type as its server's catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) system: System,
    /// Without length: `data_type` of MariaDB's catalogue, `format_type` without what is in brackets
    /// of PostgreSQL's; of a domain, the type below it.
    name: String,
    /// With everything: `column_type` or `format_type`.
    full: String,
}

impl Type {
    /// Of MariaDB, from `data_type` and `column_type` of `information_schema.columns`.
    pub(super) fn mariadb(data: &str, full: &str) -> Self {
        Self {
            system: System::MariaDb,
            name: data.to_owned(),
            full: full.to_owned(),
        }
    }

    /// Of PostgreSQL, from what `format_type` says.
    pub(super) fn postgres(full: &str) -> Self {
        let name = match full.split_once('(') {
            Some((name, rest)) => {
                let after = rest.split_once(')').map_or("", |(_, after)| after);
                format!("{}{after}", name.trim_end())
            }
            None => full.to_owned(),
        };
        Self {
            system: System::Postgres,
            name,
            full: full.to_owned(),
        }
    }

    /// The type for people.
    pub(super) fn full(&self) -> &str {
        &self.full
    }

    /// Whether its values are numbers for the server's own order.
    pub(super) fn is_number(&self) -> bool {
        self.forms().contains(&Form::Number) && self.name != "boolean"
    }

    /// The forms it has, the strictest first.
    fn forms(&self) -> &'static [Form] {
        use Form::{Bits, Bytes, Civil, Day, Ewkb, Float, Json, Moment, Number, Text, Time, Uuid};
        match (self.system, self.name.as_str()) {
            (
                System::MariaDb,
                "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" | "decimal",
            )
            | (System::Postgres, "smallint" | "integer" | "bigint" | "numeric" | "oid") => {
                &[Number, Text]
            }
            (System::Postgres, "boolean") => &[Number, Bits, Text],
            (System::MariaDb, "float" | "double")
            | (System::Postgres, "real" | "double precision") => &[Float, Text],
            (System::MariaDb, "longtext") | (System::Postgres, "json") => &[Text, Json],
            (
                System::MariaDb,
                "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "enum" | "set",
            ) => &[Text, Json],
            (System::MariaDb, "inet4" | "inet6") => &[Text],
            (System::Postgres, "jsonb") => &[Json],
            (
                System::MariaDb,
                "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob",
            ) => &[Bytes],
            (System::Postgres, "bytea") => &[Bytes, Ewkb],
            (
                System::MariaDb,
                "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
                | "multipolygon" | "geometrycollection",
            ) => &[Ewkb],
            (_, "date") => &[Day, Text],
            (System::MariaDb, "time")
            | (System::Postgres, "time without time zone" | "interval") => &[Time, Text],
            (System::MariaDb, "datetime") => &[Civil, Moment, Text],
            (System::MariaDb, "timestamp") | (System::Postgres, "timestamp with time zone") => {
                &[Moment, Text]
            }
            (System::Postgres, "timestamp without time zone") => &[Civil, Text],
            (_, "uuid") => &[Uuid, Text],
            (_, "bit") | (System::Postgres, "bit varying") => &[Bits, Text],
            (System::MariaDb, _) => &[],
            // Characters, labels of a user's own type, and what only PostgreSQL understands.
            (System::Postgres, "text" | "character varying" | "character") => &[Text, Json],
            (System::Postgres, _) => &[Text],
        }
    }

    /// The expression that gives a column of this type in a form it has.
    pub(super) fn ask(&self, form: Form, column: &str) -> String {
        match self.system {
            System::MariaDb => self.ask_mariadb(form, column),
            System::Postgres => self.ask_postgres(form, column),
        }
    }

    fn ask_mariadb(&self, form: Form, column: &str) -> String {
        let characters = self.forms().contains(&Form::Json);
        match form {
            Form::Number | Form::Day | Form::Time | Form::Civil | Form::Moment => column.into(),
            Form::Float => format!("CAST({column} AS DOUBLE)"),
            Form::Text | Form::Json if characters => {
                format!("HEX(CONVERT({column} USING utf8mb4))")
            }
            Form::Text | Form::Json => format!("HEX(CAST({column} AS CHAR CHARACTER SET utf8mb4))"),
            Form::Bytes => format!("HEX({column})"),
            // Stored are the SRID and then WKB; EWKB has the SRID behind the type, whose bit 29
            // says so.
            Form::Ewkb => format!(
                "IF(ST_SRID({column}) = 0, HEX(SUBSTR({column}, 5)), CONCAT(\
                 HEX(SUBSTR({column}, 5, 4)), HEX(CHAR(ORD(SUBSTR({column}, 9, 1)) | 32)), \
                 HEX(SUBSTR({column}, 1, 4)), HEX(SUBSTR({column}, 10))))"
            ),
            Form::Uuid => format!("LOWER(CAST({column} AS CHAR))"),
            Form::Bits => {
                let length = self.full.strip_prefix("bit(");
                let length = length.and_then(|rest| rest.strip_suffix(')'));
                format!("LPAD(BIN({column}), {}, '0')", length.unwrap_or("1"))
            }
        }
    }

    fn ask_postgres(&self, form: Form, column: &str) -> String {
        let plain = format!("{column}::text");
        match form {
            Form::Number | Form::Bits if self.name == "boolean" => format!("{column}::int::text"),
            Form::Float => format!("encode(float8send({column}::float8), 'hex')"),
            Form::Bytes | Form::Ewkb => format!("encode({column}, 'hex')"),
            Form::Moment => format!("({column} AT TIME ZONE 'UTC')::text"),
            // A cast always tells the length of the network, the type's own text only if there is one.
            Form::Text if self.name == "inet" => format!(
                "encode(convert_to(CASE WHEN masklen({column}) = CASE family({column}) WHEN 4 \
                 THEN 32 ELSE 128 END THEN host({column}) ELSE {plain} END, 'UTF8'), 'hex')"
            ),
            Form::Text | Form::Json => format!("encode(convert_to({plain}, 'UTF8'), 'hex')"),
            Form::Number | Form::Day | Form::Time | Form::Civil | Form::Uuid | Form::Bits => plain,
        }
    }
}

/// The form in which values of two types are compared; `None`: there is none.
pub(super) fn common(from: &Type, to: &Type) -> Option<Form> {
    let both = |form: &&Form| to.forms().contains(form);
    from.forms().iter().find(both).copied()
}

/// Appends the canonical form of what a server said.
pub(super) fn canonical(form: Form, origin: System, said: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if said == NULL.as_bytes() {
        out.extend_from_slice(said);
        return Ok(());
    }
    match form {
        Form::Number => number(said, out),
        Form::Float if origin == System::MariaDb => {
            let text = std::str::from_utf8(said)?;
            let value: f64 = text
                .parse()
                .with_context(|| format!("not a number: {text:?}"))?;
            out.extend_from_slice(format!("{:016x}", value.to_bits()).as_bytes());
        }
        Form::Text | Form::Bytes | Form::Ewkb => {
            out.extend(said.iter().map(u8::to_ascii_lowercase));
        }
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
        use System::{MariaDb, Postgres};
        let cases: [(Form, System, &str, &str); 16] = [
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
    fn a_pair_of_types_has_the_strictest_common_form_or_none() {
        let maria = |data: &str| Type::mariadb(data, data);
        let postgres = Type::postgres;
        let cases = [
            (maria("polyhedron"), postgres("text"), None),
            (maria("int"), postgres("numeric(20,0)"), Some(Form::Number)),
            (maria("int"), postgres("text"), Some(Form::Text)),
            (maria("blob"), postgres("text"), None),
            (maria("text"), postgres("bytea"), None),
            (maria("double"), postgres("real"), Some(Form::Float)),
            (
                maria("datetime"),
                postgres("timestamp(6) without time zone"),
                Some(Form::Civil),
            ),
            (
                maria("datetime"),
                postgres("timestamp(6) with time zone"),
                Some(Form::Moment),
            ),
            (postgres("jsonb"), maria("longtext"), Some(Form::Json)),
            (maria("longtext"), postgres("jsonb"), Some(Form::Json)),
            (maria("longtext"), postgres("json"), Some(Form::Text)),
            (postgres("json"), maria("longtext"), Some(Form::Text)),
            (postgres("integer[]"), maria("longtext"), Some(Form::Text)),
            (postgres("integer[]"), maria("blob"), None),
            (maria("bit"), postgres("boolean"), Some(Form::Bits)),
            (postgres("boolean"), maria("tinyint"), Some(Form::Number)),
            (postgres("mood"), postgres("mood"), Some(Form::Text)),
        ];
        for (from, to, expected) in cases {
            assert_eq!(common(&from, &to), expected, "{from:?} {to:?}");
        }
    }
}
