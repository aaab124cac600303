//! Requests signed with AK/SK: what is good, and what one wrong byte does.

use std::time::{Duration, SystemTime};

use serde_json::json;
use thalweg_testkit::client::{Signed, authorization, query_string, sdk_date};

use super::api::{Api, Want};
use super::raw::Request;

const REFUSED: Want<'_> = Want::Gateway(401, "APIGW.0301");

/// What is signed; the parts the tests change.
struct Plan<'a> {
    method: &'a str,
    path: String,
    query: &'a [(&'a str, &'a str)],
    body: &'a str,
    date: String,
    more: &'a [(&'a str, &'a str)],
}

impl Plan<'_> {
    /// The signed request.
    fn request(&self, api: &Api) -> Request {
        let id = &api.identity;
        self.signed_by(api, &id.ak, &id.sk)
    }

    fn signed_by(&self, api: &Api, ak: &str, sk: &str) -> Request {
        let mut headers = vec![
            ("Host", api.address.as_str()),
            ("User-Agent", "conformance/1.0"),
            ("Content-Type", "application/json;charset=utf-8"),
            ("X-Project-Id", api.identity.project.as_str()),
            ("X-Sdk-Date", self.date.as_str()),
        ];
        headers.extend(self.more);
        let signed = Signed {
            method: self.method,
            path: &self.path,
            query: self.query,
            headers: &headers,
            body: self.body.as_bytes(),
        };
        let authorization = authorization(ak, sk, &signed);
        let query = query_string(self.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::new(self.method, &format!("{}{mark}{query}", self.path));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body = self.body.into();
        request.header("Authorization", authorization)
    }
}

fn plan(api: &Api) -> Plan<'static> {
    Plan {
        method: "GET",
        path: api.fdi("/tasks"),
        query: &[("limit", "10"), ("name", "cdc test/中"), ("offset", "0")],
        body: "",
        date: sdk_date(SystemTime::now()),
        more: &[],
    }
}

#[test]
fn signatures_hold_and_break() {
    let mut api = Api::start();
    good_ones(&mut api);
    each_part_changed_once(&mut api);
    the_body_is_covered(&mut api);
    clocks(&mut api);
    garbage(&mut api);
    api.finish();
}

fn good_ones(api: &mut Api) {
    let request = plan(api).request(api);
    api.check("signed", &request, Want::Ok(200));
    let unsorted = Request {
        target: format!(
            "{}?offset=0&name=cdc%20test%2F%E4%B8%AD&limit=10",
            api.fdi("/tasks")
        ),
        ..request.clone()
    };
    api.check("another order of the query", &unsorted, Want::Ok(200));
    let body = json!({"task_name": "signed", "operation_types": ["INSERT"]}).to_string();
    let create = Plan {
        method: "POST",
        path: api.fdi("/multi-tasks"),
        query: &[],
        body: &body,
        ..plan(api)
    };
    let mut request = create.request(api);
    request.chunked = true;
    api.check("signed, in chunks", &request, Want::Ok(200));
    let odd = Plan {
        path: api.fdi("/tasks/a%20b%2Bc~%E4%B8%AD"),
        query: &[],
        ..plan(api)
    };
    api.check("an encoded path", &odd.request(api), Want::Refused);
    let answer = odd.request(api).send(&api.address).unwrap();
    api.same(
        "the signature of an encoded path holds",
        answer.status == 401,
        false,
    );
    let empty = Plan {
        query: &[("name", "")],
        ..plan(api)
    };
    api.check("an empty value", &empty.request(api), Want::Ok(200));
    let app = Plan {
        path: api.apps(""),
        query: &[],
        ..plan(api)
    };
    api.check("applications", &app.request(api), Want::Ok(200));
}

fn each_part_changed_once(api: &mut Api) {
    let good = plan(api).request(api);
    let changes: &[(&str, &str)] = &[
        ("Host", "localhost"),
        ("User-Agent", "conformance/1.1"),
        ("Content-Type", "application/json"),
        ("X-Project-Id", "c53626012ba84727b938ca8bf03108ef"),
        (
            "X-Sdk-Date",
            &sdk_date(SystemTime::now() - Duration::from_secs(1)),
        ),
    ];
    for (name, value) in changes {
        let request = good.clone().header(name, value);
        let answer = request.send(&api.address).map(|answer| answer.status);
        // A changed project id may be told before the signature is looked at.
        let told = *name == "X-Project-Id" && answer == Ok(400);
        if !told {
            api.check(&format!("changed {name}"), &request, REFUSED);
        }
    }
    for name in ["User-Agent", "X-Project-Id", "X-Sdk-Date", "Content-Type"] {
        let mut request = good.clone();
        request.headers.retain(|(header, _)| header != name);
        api.check(&format!("without {name}"), &request, REFUSED);
    }
    let with = |method: &str, target: String| Request {
        method: method.into(),
        target,
        ..good.clone()
    };
    let target = good.target.clone();
    let tampered = [
        with("POST", api.fdi("/multi-tasks/init?limit=10")),
        with("GET", target.replace("/tasks", "/datasources")),
        with("GET", target.replace("limit=10", "limit=11")),
        with("GET", format!("{target}&status=1")),
        with("GET", target.split('?').next().unwrap().to_owned()),
    ];
    for request in &tampered {
        api.check("changed request line", request, REFUSED);
    }
    let id = api.identity.clone();
    let other_sk = plan(api).signed_by(api, &id.ak, "another secret");
    api.check("another secret", &other_sk, REFUSED);
    let other_ak = plan(api).signed_by(api, "AKUNKNOWN00000000001", &id.sk);
    api.check("an unknown key", &other_ak, REFUSED);
    let lower = plan(api).signed_by(api, &id.ak.to_lowercase(), &id.sk);
    api.check("the key in lower case", &lower, REFUSED);
}

fn the_body_is_covered(api: &mut Api) {
    let body = json!({"task_name": "covered", "operation_types": ["INSERT"]}).to_string();
    let create = Plan {
        method: "POST",
        path: api.fdi("/multi-tasks"),
        query: &[],
        body: &body,
        ..plan(api)
    };
    let good = create.request(api);
    let mut changed = good.clone();
    changed.body = body.replace("covered", "uncovered").into_bytes();
    api.check("another body", &changed, REFUSED);
    // The hash of the signed body, given in a header that is not signed, must not cover another.
    let hash = |text: &str| {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest
            .as_ref()
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let claimed = changed.clone().header("X-Sdk-Content-Sha256", hash(&body));
    api.check("another body with the old hash", &claimed, REFUSED);
    let mut empty = good.clone();
    empty.body.clear();
    api.check("no body", &empty, REFUSED);
    let secured = Plan {
        more: &[("X-Security-Token", "SECTOKEN")],
        ..plan(api)
    };
    // Temporary keys are not given out, so a token of one belongs to no key of ours.
    let request = secured.request(api);
    api.check("a security token", &request, REFUSED);
    let request = request.header("X-Security-Token", "OTHER");
    api.check("a changed security token", &request, REFUSED);
    api.check("the good one, unchanged", &good, Want::Ok(200));
}

fn clocks(api: &mut Api) {
    let now = SystemTime::now();
    let minutes = |n: u64| Duration::from_secs(60 * n);
    for (date, want) in [
        (now - minutes(14), Want::Ok(200)),
        (now + minutes(14), Want::Ok(200)),
        (now - minutes(16), REFUSED),
        (now + minutes(16), REFUSED),
        (now - minutes(60 * 24 * 365), REFUSED),
    ] {
        let dated = Plan {
            date: sdk_date(date),
            ..plan(api)
        };
        api.check(
            &format!("signed at {}", dated.date),
            &dated.request(api),
            want,
        );
    }
    for date in [
        "",
        "now",
        "2026-01-02T03:04:05Z",
        "20260102T030405",
        "20261332T256199Z",
        "1767323045",
    ] {
        let dated = Plan {
            date: date.into(),
            ..plan(api)
        };
        api.check(&format!("signed at {date:?}"), &dated.request(api), REFUSED);
    }
}

fn garbage(api: &mut Api) {
    let good = plan(api).request(api);
    let header = |name: &str| {
        let found = good.headers.iter().find(|(header, _)| header == name);
        String::from_utf8(found.unwrap().1.clone()).unwrap()
    };
    let value = header("Authorization");
    let (head, signature) = value.rsplit_once('=').unwrap();
    let flipped = if signature.starts_with('0') { "1" } else { "0" };
    let flipped = format!("{head}={flipped}{}", &signature[1..]);
    let values = [
        String::new(),
        "Basic dXNlcjpwYXNz".into(),
        "SDK-HMAC-SHA256".into(),
        "SDK-HMAC-SHA256 Access=".into(),
        format!("SDK-HMAC-SHA256 Access={}", api.identity.ak),
        format!("{head}="),
        format!("{head}={}", &signature[..63]),
        format!("{head}={signature}0"),
        format!("{head}={}", "0".repeat(64)),
        flipped,
        value.replace("SDK-HMAC-SHA256", "SDK-HMAC-SM3"),
        value.replace("SDK-HMAC-SHA256", "V11-HMAC-SHA256"),
        value.replace("SDK-HMAC-SHA256", "AWS4-HMAC-SHA256"),
        value.replace("content-type;", ""),
        value.replace("content-type;", "content-type;x-missing;"),
        value.replace("SignedHeaders=", "SignedHeaders=;"),
        format!("SDK-HMAC-SHA256 {}", "a=b, ".repeat(5000)),
    ];
    for value in values {
        let request = good.clone().header("Authorization", &value);
        let what: String = value.chars().take(80).collect();
        api.check(&what, &request, REFUSED);
    }
    let request = good
        .clone()
        .header("Authorization", b"SDK-HMAC-SHA256 \xff\xfe");
    api.check("bytes that are no text", &request, REFUSED);
    api.check("the good one, unchanged", &good, Want::Ok(200));
}
