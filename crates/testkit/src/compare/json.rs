//! JSON by meaning: no white space, keys sorted (of repeated ones the last, as `jsonb` keeps it),
//! strings by their characters, numbers by their exact value and not as floats.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::value::RawValue;

/// Appends the canonical text of a JSON text.
pub(super) fn canonical(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = parse(text)?;
            out.push(b'{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                string(&name, out);
                out.push(b':');
                canonical(value.get(), out)?;
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(text)?;
            out.push(b'[');
            for (index, value) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                canonical(value.get(), out)?;
            }
            out.push(b']');
        }
        Some(b'"') => string(&parse::<String>(text)?, out),
        Some(b'-' | b'0'..=b'9') => {
            // Parsed for its syntax only.
            parse::<&RawValue>(text)?;
            number(text, out)?;
        }
        _ => {
            let value: serde_json::Value = parse(text)?;
            out.extend_from_slice(value.to_string().as_bytes());
        }
    }
    Ok(())
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T> {
    // The message of a parser names a place, not the value.
    serde_json::from_str(text).context("a JSON value cannot be read")
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

/// `-12.50e3` as `-125e2`: digits without zeros at either end, and a power of ten.
fn number(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let short = digits.trim_end_matches('0');
    if short.is_empty() {
        out.push(b'0');
        return Ok(());
    }
    let exponent: i64 = exponent
        .parse()
        .context("a JSON exponent is out of range")?;
    let power =
        exponent - i64::try_from(fraction.len())? + i64::try_from(digits.len() - short.len())?;
    out.extend_from_slice(format!("{sign}{short}e{power}").as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    fn made(text: &str) -> String {
        let mut out = Vec::new();
        super::canonical(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_of_one_meaning_are_one() {
        for (one, two) in [
            (" { \"b\" : 1 , \"a\" : [ ] } ", "{\"a\":[],\"b\":1}"),
            ("1.0", "1"),
            ("100", "1e2"),
            ("-12.50e3", "-12500"),
            ("0.0", "-0"),
            ("\"\\u017e\\u0009\"", "\"ž\\t\""),
            ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
            ("null", " null"),
            ("[true,false]", "[ true , false ]"),
        ] {
            assert_eq!(made(one), made(two), "{one}");
        }
    }

    #[test]
    fn texts_of_two_meanings_are_two() {
        for (one, two) in [
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.10000000000000001"),
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            ("{\"a\":null}", "{}"),
            ("-1", "1"),
        ] {
            assert_ne!(made(one), made(two), "{one}");
        }
        assert!(super::canonical("{\"a\":", &mut Vec::new()).is_err());
        assert!(super::canonical("1x", &mut Vec::new()).is_err());
    }
}
