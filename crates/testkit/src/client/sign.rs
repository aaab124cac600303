//! The AK/SK signature of a request, as the vendor's SDK makes it.
//!
//! Written from the description of the algorithm and checked against the SDK's own signatures, so
//! that a mistake the server makes in the same algorithm cannot hide behind a shared function.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::{digest, hmac};

/// The name of the one algorithm spoken here.
const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path as it stands in the request line.
    pub path: &'a str,
    /// Names and values, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers to sign, in any order; `Host` and `X-Sdk-Date` among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty for none.
    pub body: &'a [u8],
}

/// The value of the header `Authorization`.
pub fn authorization(key: &str, secret: &str, request: &Signed<'_>) -> String {
    let date = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-sdk-date"))
        .map_or("", |(_, value)| value);
    let canonical = sha256(canonical_request(request).as_bytes());
    let text = format!("{ALGORITHM}\n{date}\n{canonical}");
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hex(hmac::sign(&secret, text.as_bytes()).as_ref());
    let names = signed_headers(request);
    format!("{ALGORITHM} Access={key}, SignedHeaders={names}, Signature={signature}")
}

/// A query string, sorted and encoded: the form that is signed is also the one to send.
pub fn query_string(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (encode(name.as_bytes()), encode(value.as_bytes())))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// A moment as `X-Sdk-Date` has it, such as `20260102T030405Z`.
pub fn sdk_date(at: SystemTime) -> String {
    let seconds = at
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The calendar day of a number of days since 1970: years are counted from March, so that the leap
/// day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn canonical_request(request: &Signed<'_>) -> String {
    let mut headers: Vec<(String, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    headers.sort();
    let mut lines = String::new();
    for (name, value) in headers {
        lines.push_str(&name);
        lines.push(':');
        lines.push_str(value);
        lines.push('\n');
    }
    format!(
        "{}\n{}\n{}\n{lines}\n{}\n{}",
        request.method,
        canonical_path(request.path),
        query_string(request.query),
        signed_headers(request),
        sha256(request.body),
    )
}

fn signed_headers(request: &Signed<'_>) -> String {
    let mut names: Vec<String> = request
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort();
    names.join(";")
}

/// Each segment decoded and encoded again, always with a slash at the end.
fn canonical_path(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(|part| encode(&decode(part))).collect();
    let mut out = segments.join("/");
    if !out.ends_with('/') {
        out.push('/');
    }
    out
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            tail.get(2..).unwrap_or_default()
        } else {
            tail
        };
    }
    out
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AKTESTROMA0000000001";
    const SECRET: &str = "SKtestSecretKey0000000000000000000000001";
    const BASE: &str = "/v2/c53626012ba84727b938ca8bf03108ef/fdi/instances/\
                        fae7ff6c-8e07-4cf8-9e67-589cab2f017c";
    const HEADERS: [(&str, &str); 4] = [
        ("Host", "127.0.0.1:8080"),
        ("User-Agent", "conformance/1.0"),
        ("X-Project-Id", "c53626012ba84727b938ca8bf03108ef"),
        ("X-Sdk-Date", "20260102T030405Z"),
    ];
    const JSON: (&str, &str) = ("Content-Type", "application/json;charset=utf-8");

    /// The SDK's own answers.
    #[test]
    fn signatures_are_those_of_the_sdk() {
        let plain = ("Content-Type", "application/json");
        let token = ("X-Security-Token", "SECTOKEN");
        let create =
            br#"{"task_name": "cdctest1", "operation_types": ["INSERT", "UPDATE", "DELETE"]}"#;
        let query: &[(&str, &str)] = &[("limit", "10"), ("offset", "0"), ("name", "cdc test/中")];
        let reset = "/multi-tasks/15366328208d4d77b76532fe9f4006a6/reset";
        type Case<'a> = (
            &'a str,
            &'a str,
            &'a [(&'a str, &'a str)],
            &'a [(&'a str, &'a str)],
            &'a [u8],
            &'a str,
            &'a str,
        );
        let cases: [Case<'_>; 3] = [
            (
                "GET",
                "/tasks",
                query,
                &[plain],
                b"",
                "4f8111dbf523e04773d115ebf6a3f537b74044557f5d0a399c876f98f24c7d89",
                "1caca84d6cdc3a30634548c310836343dd145507dae4efbf7015e9382e523ffd",
            ),
            (
                "POST",
                "/multi-tasks",
                &[],
                &[JSON],
                create,
                "35e48aa1e9fe24b64be3766140e6e20134c39b44aa8a07bb66c703755afc690e",
                "7e6d112da9ec230fc024a229c1656e7bddb66e2ff651cb64a6909e8f5c9228db",
            ),
            (
                "POST",
                reset,
                &[],
                &[JSON, token],
                b"{}",
                "f94f339c562e29c349c99234a649caf0cf9c8e015ae0716b40e541a4e1708600",
                "924148b7909c981926b9072f1685f62edae9215933ba97c08117151403d17b65",
            ),
        ];
        for (method, path, query, more, body, canonical, signature) in cases {
            let path = format!("{BASE}{path}");
            let headers = [HEADERS.as_slice(), more].concat();
            let request = Signed {
                method,
                path: &path,
                query,
                headers: &headers,
                body,
            };
            assert_eq!(sha256(canonical_request(&request).as_bytes()), canonical);
            let header = authorization(KEY, SECRET, &request);
            assert!(
                header.ends_with(&format!("Signature={signature}")),
                "{header}"
            );
            assert!(
                header.starts_with(&format!("SDK-HMAC-SHA256 Access={KEY}, ")),
                "{header}"
            );
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_767_323_045, "20260102T030405Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(sdk_date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn an_encoded_path_is_signed_as_what_it_means() {
        assert_eq!(canonical_path("/a%20b/%zz/%2F"), "/a%20b/%25zz/%2F/");
    }
}
