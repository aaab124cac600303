//! Bodies of requests: JSON objects whose fields are taken one by one.
//!
//! Every take checks type and limits and gives at most one error that names the field; `finish`
//! refuses what the operation does not have, so that a misspelt field is not silently nothing.
//! A null counts as not given. Duplicate keys are refused: which of the two was meant is not ours to
//! guess.
//!
//! One operation takes form data instead, whose fields are texts.

use std::fmt;
use std::ops::RangeInclusive;

use axum::body::Body;
use axum::extract::{Form, FromRequest, Multipart, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use thalweg_control::{Error, Result};

/// Reads a body that has to be a JSON object.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Fields> {
    if body.is_empty() {
        let text = "The operation needs a JSON object as its body.";
        return Err(Error::Parameters(text.into()));
    }
    if !is_json(headers) {
        let text = "Send the body with Content-Type: application/json.";
        return Err(Error::Parameters(text.into()));
    }
    let unread = |error| Error::Parameters(format!("The body is not the JSON expected: {error}."));
    let Strict(value) = serde_json::from_slice(body).map_err(unread)?;
    match value {
        Value::Object(map) => Ok(Fields::new(map, "")),
        _ => Err(Error::Parameters(
            "The body has to be a JSON object.".into(),
        )),
    }
}

/// Reads a body that has to be form data, URL-encoded or in parts: fields that are texts.
pub(crate) async fn form(headers: &HeaderMap, body: Bytes) -> Result<Fields> {
    let wrong = |reason: String| Error::Parameters(format!("The form is not readable: {reason}."));
    let in_parts = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"multipart/"));
    let mut request = Request::post("/")
        .body(Body::from(body))
        .map_err(Error::internal)?;
    *request.headers_mut() = headers.clone();
    let mut pairs = Vec::new();
    if in_parts {
        let parts = Multipart::from_request(request, &()).await;
        let mut parts = parts.map_err(|error| wrong(error.body_text()))?;
        let unread = |error: axum::extract::multipart::MultipartError| wrong(error.body_text());
        while let Some(part) = parts.next_field().await.map_err(unread)? {
            let name = part.name().unwrap_or_default().to_owned();
            pairs.push((name, part.text().await.map_err(unread)?));
        }
    } else {
        let form = Form::<Vec<(String, String)>>::from_request(request, &()).await;
        Form(pairs) = form.map_err(|error| wrong(error.body_text()))?;
    }
    let mut map = Map::new();
    for (name, value) in pairs {
        if map.insert(name.clone(), Value::String(value)).is_some() {
            return Err(wrong(format!("the field {name:?} stands twice")));
        }
    }
    Ok(Fields::new(map, ""))
}

/// `application/json`, with no parameter but a charset of UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let utf8 = |part: &str| {
        part.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    };
    essence.eq_ignore_ascii_case("application/json")
        && parts.filter(|part| !part.is_empty()).all(utf8)
}

/// The fields of an object that are not taken yet.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Stands before the names in errors, such as `mapping_columns[3].`.
    prefix: String,
}

impl Fields {
    fn new(map: Map<String, Value>, prefix: impl Into<String>) -> Self {
        Fields {
            map,
            prefix: prefix.into(),
        }
    }

    /// Those of a JSON object in a text; `None` if it is no such thing.
    pub(crate) fn of_json(text: &str) -> Option<Self> {
        match serde_json::from_str(text) {
            Ok(Strict(Value::Object(map))) => Some(Fields::new(map, "")),
            _ => None,
        }
    }

    /// An error about one of the fields.
    pub(crate) fn invalid(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::invalid(format!("{}{name}", self.prefix), reason)
    }

    /// The error for a mandatory field that is not there.
    pub(crate) fn missing(&self, name: &str) -> Error {
        self.invalid(name, "The field is mandatory.")
    }

    /// A field of any type; null is not given.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field of any type, null told apart from not given.
    pub(crate) fn take_nullable(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// A text whose length in characters lies in `chars`.
    pub(crate) fn text(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
    ) -> Result<Option<String>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let Value::String(text) = value else {
            return Err(self.invalid(name, "Give a string."));
        };
        if !chars.contains(&text.chars().count()) {
            let (min, max) = (chars.start(), chars.end());
            return Err(self.invalid(name, format!("Give {min} to {max} characters.")));
        }
        if text.contains('\0') {
            return Err(self.invalid(name, "A NUL character is not allowed."));
        }
        Ok(Some(text))
    }

    /// As [`Fields::text`], and an empty text is not given.
    pub(crate) fn text_or_empty(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
    ) -> Result<Option<String>> {
        if self.map.get(name).and_then(Value::as_str) == Some("") {
            self.map.remove(name);
        }
        self.text(name, chars)
    }

    /// A mandatory text.
    pub(crate) fn text_needed(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
    ) -> Result<String> {
        self.text(name, chars)?.ok_or_else(|| self.missing(name))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.invalid(name, "Give true or false.")),
        }
    }

    /// An integer.
    pub(crate) fn int(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (min, max) = (range.start(), range.end());
                Err(self.invalid(name, format!("Give an integer from {min} to {max}.")))
            }
        }
    }

    /// An integer, null told apart from not given.
    pub(crate) fn int_or_null(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<Option<u64>>> {
        if self.map.get(name) == Some(&Value::Null) {
            self.map.remove(name);
            return Ok(Some(None));
        }
        Ok(self.int(name, range)?.map(Some))
    }

    /// One of `words`, exactly.
    pub(crate) fn word(
        &mut self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = value
            .as_str()
            .and_then(|text| words.iter().find(|word| **word == text));
        match found {
            Some(word) => Ok(Some(word)),
            None => Err(self.invalid(name, format!("Give one of {}.", words.join(", ")))),
        }
    }

    /// A text of decimal digits whose number lies in `range`.
    pub(crate) fn digits(
        &mut self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<String>> {
        let Some(text) = self.text(name, 1..=20)? else {
            return Ok(None);
        };
        let number = text
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse().ok());
        match number.flatten().filter(|number| range.contains(number)) {
            Some(_) => Ok(Some(text)),
            None => {
                let (min, max) = (range.start(), range.end());
                Err(self.invalid(
                    name,
                    format!("Give a string of digits from {min} to {max}."),
                ))
            }
        }
    }

    /// An integer, as a number or as a text of digits.
    pub(crate) fn digits_or_int(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>> {
        if let Some(Value::String(text)) = self.map.get(name)
            && let Ok(number) = text.parse::<u64>()
        {
            self.map.insert(name.to_owned(), number.into());
        }
        self.int(name, range)
    }

    /// An object. Errors about its fields name them without their parent, as the contract does.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields::new(map, self.prefix.clone()))),
            Some(_) => Err(self.invalid(name, "Give an object.")),
        }
    }

    /// An array of objects; `None` if it is not given.
    pub(crate) fn objects(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
    ) -> Result<Option<Vec<Fields>>> {
        let Some(values) = self.array(name, count)? else {
            return Ok(None);
        };
        let object = |(at, value)| match value {
            Value::Object(map) => Ok(Fields::new(map, format!("{}{name}[{at}].", self.prefix))),
            _ => Err(self.invalid(&format!("{name}[{at}]"), "Give an object.")),
        };
        let objects: Result<Vec<Fields>> = values.into_iter().enumerate().map(object).collect();
        objects.map(Some)
    }

    /// An array.
    pub(crate) fn array(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
    ) -> Result<Option<Vec<Value>>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let Value::Array(values) = value else {
            return Err(self.invalid(name, "Give an array."));
        };
        if !count.contains(&values.len()) {
            let (min, max) = (count.start(), count.end());
            return Err(self.invalid(name, format!("Give {min} to {max} items.")));
        }
        Ok(Some(values))
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self) -> Result<()> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.invalid(name, "The operation has no such field.")),
        }
    }
}

/// A JSON value in which no object has a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                let text = format!("the key {key:?} stands twice");
                return Err(serde::de::Error::custom(text));
            }
            let Strict(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// The fields of a value that is an object.
    pub(crate) fn fields(value: Value) -> Fields {
        match value {
            Value::Object(map) => Fields::new(map, ""),
            other => panic!("{other} is not an object"),
        }
    }

    /// The field an error names.
    pub(crate) fn field_of<T: fmt::Debug>(result: Result<T>) -> String {
        match result {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("expected one wrong field, got {other:?}"),
        }
    }

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        headers
    }

    #[test]
    fn content_types_of_json_in_utf8_pass() {
        let check = |text: &str, expected| assert_eq!(is_json(&headers(text)), expected, "{text}");
        check("application/json", true);
        check("application/json;charset=utf-8", true);
        check("Application/JSON; Charset=\"UTF-8\"", true);
        check("application/json;", true);
        check("application/json;charset=gbk", false);
        check("application/json;version=1", false);
        check("application/problem+json", false);
        check("text/plain", false);
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn only_an_object_without_duplicate_keys_is_a_body() {
        let json = headers("application/json");
        let broken = [
            "",
            "{",
            "[]",
            "1",
            "{} x",
            r#"{"a":1,"a":2}"#,
            r#"{"o":{"a":1,"a":2}}"#,
        ];
        for body in broken {
            let result = parse(&json, body.as_bytes());
            assert!(matches!(result, Err(Error::Parameters(_))), "{body}");
        }
        assert!(parse(&json, b"{\"a\":[{\"a\":1}]}").is_ok());
        assert!(matches!(parse(&json, b"\xff"), Err(Error::Parameters(_))));
        let deep = "[".repeat(100_000);
        assert!(parse(&json, deep.as_bytes()).is_err());
    }

    #[test]
    fn a_wrong_field_is_named() {
        let wrong = || {
            fields(json!({
                "text": "", "number": 1, "flag": "true", "int": -1, "word": "c", "digits": "1x",
                "object": [], "objects": [{}, 1], "array": [], "zero": "a\0",
            }))
        };
        assert_eq!(field_of(wrong().text("text", 1..=3)), "text");
        assert_eq!(field_of(wrong().text("number", 1..=3)), "number");
        assert_eq!(field_of(wrong().text("zero", 1..=3)), "zero");
        assert_eq!(field_of(wrong().text_needed("absent", 1..=3)), "absent");
        assert_eq!(field_of(wrong().flag("flag")), "flag");
        assert_eq!(field_of(wrong().int("int", 0..=9)), "int");
        assert_eq!(field_of(wrong().word("word", &["a", "b"])), "word");
        assert_eq!(field_of(wrong().digits("digits", 0..=9)), "digits");
        assert_eq!(field_of(wrong().object("object")), "object");
        assert_eq!(field_of(wrong().objects("objects", 1..=2)), "objects[1]");
        assert_eq!(field_of(wrong().array("array", 1..=2)), "array");
        assert_eq!(field_of(wrong().finish()), "array");
        assert_eq!(wrong().text_or_empty("text", 1..=3).unwrap(), None);
    }

    #[test]
    fn fields_in_a_list_are_named_with_their_place() {
        let mut outer = fields(json!({ "list": [{ "id": "a" }, { "id": 1 }] }));
        let mut objects = outer.objects("list", 1..=9).unwrap().unwrap();
        assert_eq!(objects[0].text("id", 1..=3).unwrap().unwrap(), "a");
        assert_eq!(field_of(objects[1].text("id", 1..=3)), "list[1].id");
    }
}
