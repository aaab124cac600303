//! Signatures of requests (`SDK-HMAC-SHA256`), checked as the vendor's client makes them.
//!
//! The client and we build the same text from the request, and the client proves with an HMAC of it
//! that it holds the secret key. Everything that goes into the text is protected: method, path,
//! query, body and the headers named. Host and date have to be among these, so that a signature is
//! good for one server and for a short time only.

use axum::http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use ring::{digest, hmac};

use super::time;

const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// How far the clocks may differ.
const SKEW_MS: i64 = 15 * 60 * 1000;
/// More than any client signs.
const HEADERS_MAX: usize = 100;
const DATE: &str = "x-sdk-date";
const CONTENT_HASH: &str = "x-sdk-content-sha256";

/// What the contract leaves as it is: letters, digits, `-`, `_`, `.`, `~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The parts of a request that are signed.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// Method.
    pub(crate) method: &'a str,
    /// Path as received.
    pub(crate) path: &'a str,
    /// Query as received, without the question mark.
    pub(crate) query: &'a str,
    /// Headers as received.
    pub(crate) headers: &'a HeaderMap,
    /// Body as received.
    pub(crate) body: &'a [u8],
}

/// The `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    /// The access key.
    pub(crate) access: String,
    /// As given: names joined with semicolons.
    signed_headers: String,
    signature: Vec<u8>,
}

impl Authorization {
    /// Reads `SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…`; the text of the error says
    /// what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (algorithm, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if algorithm != ALGORITHM {
            return Err(format!(
                "the algorithm is not supported, sign with {ALGORITHM}"
            ));
        }
        let (mut access, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let place = match part.trim().split_once('=') {
                Some(("Access", value)) => (&mut access, value),
                Some(("SignedHeaders", value)) => (&mut signed_headers, value),
                Some(("Signature", value)) => (&mut signature, value),
                _ => return Err("the Authorization header has an unknown part".into()),
            };
            if place.0.replace(place.1).is_some() {
                return Err("the Authorization header has a part twice".into());
            }
        }
        let (Some(access), Some(signed_headers), Some(signature)) =
            (access, signed_headers, signature)
        else {
            return Err("the Authorization header lacks a part".into());
        };
        let signature = unhex(signature).ok_or("the signature is not hexadecimal")?;
        Ok(Authorization {
            access: access.to_owned(),
            signed_headers: signed_headers.to_owned(),
            signature,
        })
    }

    /// Whether the holder of `secret` signed `request` about now; the text of the error says why not.
    pub(crate) fn verify(
        &self,
        request: &Signed<'_>,
        secret: &str,
        now_ms: i64,
    ) -> Result<(), String> {
        let date = self.checked_date(request, now_ms)?;
        let canonical = self.canonical(request)?;
        let text = format!("{ALGORITHM}\n{date}\n{}", hex(sha256(&canonical).as_ref()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, text.as_bytes(), &self.signature)
            .map_err(|_| String::from("verify aksk signature fail"))
    }

    fn checked_date<'a>(&self, request: &Signed<'a>, now_ms: i64) -> Result<&'a str, String> {
        for needed in ["host", DATE] {
            if !self.names().any(|name| name.eq_ignore_ascii_case(needed)) {
                return Err(format!("the header {needed} has to be signed"));
            }
        }
        let date = one(request.headers, DATE)?;
        let date = std::str::from_utf8(date).unwrap_or_default();
        let signed_ms = time::parse_compact(date)
            .ok_or("the header X-Sdk-Date is not a time like 20260102T030405Z")?;
        if (now_ms - signed_ms).abs() > SKEW_MS {
            return Err("the header X-Sdk-Date is more than 15 minutes off: set the clock".into());
        }
        Ok(date)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.signed_headers.split(';')
    }

    /// The text both sides build.
    fn canonical(&self, request: &Signed<'_>) -> Result<Vec<u8>, String> {
        if self.names().count() > HEADERS_MAX {
            return Err("too many headers are signed".into());
        }
        let mut text = format!(
            "{}\n{}\n{}\n",
            request.method,
            canonical_path(request.path),
            canonical_query(request.query)
        )
        .into_bytes();
        for name in self.names() {
            text.extend_from_slice(name.to_ascii_lowercase().as_bytes());
            text.push(b':');
            text.extend_from_slice(one(request.headers, name)?);
            text.push(b'\n');
        }
        text.push(b'\n');
        text.extend_from_slice(self.signed_headers.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(body_hash(request)?.as_bytes());
        Ok(text)
    }
}

/// The hash of the body. A client may state it in a header, and then it has to be true: all our
/// bodies are JSON, so nothing is too long to be hashed.
fn body_hash(request: &Signed<'_>) -> Result<String, String> {
    let hash = hex(sha256(request.body).as_ref());
    if !request.body.is_empty() && request.headers.contains_key(CONTENT_HASH) {
        let stated = one(request.headers, CONTENT_HASH)?;
        if !stated.eq_ignore_ascii_case(hash.as_bytes()) {
            return Err("the header X-Sdk-Content-Sha256 is not the hash of the body".into());
        }
    }
    Ok(hash)
}

/// The only value of a header, trimmed.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a [u8], String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes().trim_ascii()),
        (None, _) => Err(format!("the signed header {} is missing", shown(name))),
        (Some(_), Some(_)) => Err(format!("the signed header {} stands twice", shown(name))),
    }
}

/// A name from the request, short enough to be told back.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Decoded, each segment encoded again, with a slash at the end.
fn canonical_path(path: &str) -> String {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let segments = decoded.split(|byte| *byte == b'/').map(encode);
    let mut text = segments.collect::<Vec<String>>().join("/");
    if !text.ends_with('/') {
        text.push('/');
    }
    text
}

/// Pairs decoded, encoded again and sorted.
fn canonical_query(query: &str) -> String {
    let code = |part: &str| encode(&percent_decode_str(part).collect::<Vec<u8>>());
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<(String, String)> = pairs.map(|(k, v)| (code(k), code(v))).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join("&")
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const AK: &str = "AKTESTROMA0000000001";
    const SK: &str = "SKtestSecretKey0000000000000000000000001";
    const PROJECT: &str = "c53626012ba84727b938ca8bf03108ef";
    const INSTANCE: &str = "fae7ff6c-8e07-4cf8-9e67-589cab2f017c";
    const HEADERS: &str = "content-type;host;user-agent;x-project-id;x-sdk-date";

    struct Request {
        method: &'static str,
        path: String,
        query: &'static str,
        headers: HeaderMap,
        body: &'static [u8],
        authorization: Authorization,
    }

    impl Request {
        fn new(
            method: &'static str,
            path: &str,
            query: &'static str,
            content_type: &str,
            body: &'static str,
            signature: &str,
        ) -> Self {
            let mut request = Request {
                method,
                path: format!("/v2/{PROJECT}/fdi/instances/{INSTANCE}{path}"),
                query,
                headers: HeaderMap::new(),
                body: body.as_bytes(),
                authorization: Authorization::parse(&format!(
                    "SDK-HMAC-SHA256 Access={AK}, SignedHeaders={HEADERS}, Signature={signature}"
                ))
                .unwrap(),
            };
            for (name, value) in [
                ("host", "127.0.0.1:8080"),
                ("user-agent", "conformance/1.0"),
                ("x-project-id", PROJECT),
                ("x-sdk-date", "20260102T030405Z"),
                ("content-type", content_type),
            ] {
                request.set(name, value);
            }
            request
        }

        fn set(&mut self, name: &'static str, value: &str) {
            self.headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }

        fn verify_at(&self, now_ms: i64, secret: &str) -> Result<(), String> {
            let request = Signed {
                method: self.method,
                path: &self.path,
                query: self.query,
                headers: &self.headers,
                body: self.body,
            };
            self.authorization.verify(&request, secret, now_ms)
        }

        fn verify(&self) -> Result<(), String> {
            self.verify_at(signed_ms(), SK)
        }
    }

    fn signed_ms() -> i64 {
        time::parse_compact("20260102T030405Z").unwrap()
    }

    fn vector_1() -> Request {
        Request::new(
            "GET",
            "/tasks",
            "limit=10&name=cdc%20test%2F%E4%B8%AD&offset=0",
            "application/json",
            "",
            "1caca84d6cdc3a30634548c310836343dd145507dae4efbf7015e9382e523ffd",
        )
    }

    fn vector_2() -> Request {
        Request::new(
            "POST",
            "/multi-tasks",
            "",
            "application/json;charset=utf-8",
            r#"{"task_name": "cdctest1", "operation_types": ["INSERT", "UPDATE", "DELETE"]}"#,
            "7e6d112da9ec230fc024a229c1656e7bddb66e2ff651cb64a6909e8f5c9228db",
        )
    }

    fn vector_3() -> Request {
        let mut request = Request::new(
            "POST",
            "/multi-tasks/15366328208d4d77b76532fe9f4006a6/reset",
            "",
            "application/json;charset=utf-8",
            "{}",
            "924148b7909c981926b9072f1685f62edae9215933ba97c08117151403d17b65",
        );
        request.set("x-security-token", "SECTOKEN");
        // The signer sorts the names.
        request.authorization.signed_headers =
            "content-type;host;user-agent;x-project-id;x-sdk-date;x-security-token".into();
        request
    }

    #[test]
    fn vectors_of_the_contract_verify() {
        assert_eq!(vector_1().verify(), Ok(()));
        assert_eq!(vector_2().verify(), Ok(()));
        assert_eq!(vector_3().verify(), Ok(()));
    }

    #[test]
    fn order_of_the_query_and_its_encoding_do_not_matter() {
        let mut request = vector_1();
        request.query = "offset=0&name=cdc%20test/%e4%b8%ad&limit=10";
        assert_eq!(request.verify(), Ok(()));
    }

    #[test]
    fn anything_changed_is_refused() {
        let check = |what: &str, change: &dyn Fn(&mut Request)| {
            for (at, mut request) in [vector_1(), vector_2(), vector_3()].into_iter().enumerate() {
                change(&mut request);
                assert!(request.verify().is_err(), "{what}, vector {}", at + 1);
            }
        };
        check("method", &|r| r.method = "PUT");
        check("path", &|r| r.path.push('x'));
        check("query", &|r| r.query = "limit=11");
        check("body", &|r| r.body = b"{\"a\":1}");
        check("signature", &|r| r.authorization.signature[0] ^= 1);
        check("short signature", &|r| {
            r.authorization.signature.truncate(8)
        });
        check("no signature", &|r| r.authorization.signature.clear());
        check("content type", &|r| r.set("content-type", "text/plain"));
        check("host", &|r| r.set("host", "127.0.0.1:8081"));
        check("agent", &|r| r.set("user-agent", "other"));
        check("project", &|r| r.set("x-project-id", "other"));
        check("date", &|r| r.set("x-sdk-date", "20260102T030406Z"));
        check("header gone", &|r| drop(r.headers.remove("user-agent")));
        check("header twice", &|r| {
            let value = r.headers.get("user-agent").cloned().unwrap();
            r.headers.append("user-agent", value);
        });
        check("date unsigned", &|r| {
            r.authorization.signed_headers = "content-type;host".into();
        });
        check("host unsigned", &|r| {
            r.authorization.signed_headers = "content-type;x-sdk-date".into();
        });
        let mut token = vector_3();
        token.set("x-security-token", "OTHER");
        assert!(token.verify().is_err());
    }

    #[test]
    fn another_secret_is_refused() {
        assert!(vector_1().verify_at(signed_ms(), "").is_err());
        assert!(vector_1().verify_at(signed_ms(), "SKtest").is_err());
    }

    #[test]
    fn clocks_may_differ_by_fifteen_minutes() {
        let check = |ms: i64, good| {
            assert_eq!(
                vector_1().verify_at(signed_ms() + ms, SK).is_ok(),
                good,
                "{ms}"
            );
        };
        check(SKEW_MS, true);
        check(-SKEW_MS, true);
        check(SKEW_MS + 1, false);
        check(-SKEW_MS - 1, false);
    }

    #[test]
    fn a_stated_hash_of_the_body_has_to_be_true() {
        let mut request = vector_2();
        request.set(CONTENT_HASH, &hex(sha256(request.body).as_ref()));
        assert_eq!(request.verify(), Ok(()));
        request.set(CONTENT_HASH, "UNSIGNED-PAYLOAD");
        assert!(request.verify().is_err());
        let mut empty = vector_1();
        empty.set(CONTENT_HASH, "UNSIGNED-PAYLOAD");
        assert_eq!(
            empty.verify(),
            Ok(()),
            "without a body the header counts for nothing"
        );
    }

    #[test]
    fn only_the_algorithm_of_the_contract_is_understood() {
        for wrong in [
            "",
            "Bearer x",
            "V11-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=00",
            "SDK-HMAC-SM3 Access=a, SignedHeaders=b, Signature=00",
            "SDK-HMAC-SHA256",
            "SDK-HMAC-SHA256 Access=a, SignedHeaders=b",
            "SDK-HMAC-SHA256 Access=a, Access=a, SignedHeaders=b, Signature=00",
            "SDK-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=0",
            "SDK-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=+1",
            "SDK-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=00, Other=c",
        ] {
            assert!(Authorization::parse(wrong).is_err(), "{wrong}");
        }
    }
}
