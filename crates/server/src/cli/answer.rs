//! What commands take out of answers, and how they print it.

use std::io::{self, Write as _};

use serde_json::Value;

/// A text of an object; empty if it has none of this name.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A number of an object; 0 if it has none of this name.
pub(super) fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// An array of an object; empty if it has none of this name.
pub(super) fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let array = value.get(field).and_then(Value::as_array);
    array.map_or(&[], Vec::as_slice)
}

/// Prints at once, so that whoever waits sees it.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}
