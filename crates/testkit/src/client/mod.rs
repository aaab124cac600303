//! A small blocking client of the server's API, for tests, the demo and the benchmarks.
//!
//! It is a stranger to the server on purpose: it knows the published contract and nothing of the
//! server's code. Requests are signed with AK/SK, or carry a token.

mod sign;
mod task;

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

pub(crate) use sign::hex;
pub use sign::{Signed, authorization, query_string, sdk_date};
pub use task::{End, Kind};

/// How long one request may take. Creating tables and preflight checks are the slow ones.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What the client calls itself; signed, so it must reach the server as it is.
const AGENT: &str = "thalweg-testkit/1.0";
/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A key pair; each request is signed.
    Key {
        /// Access key.
        ak: String,
        /// Secret key.
        sk: String,
    },
    /// A token from [`Client::login`].
    Token(String),
    /// Nobody, to see what is refused.
    None,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers with lower-case names.
    pub headers: Vec<(String, String)>,
    /// The body; `Null` if there is none, a string if it is not JSON.
    pub json: Value,
    /// What was asked, for messages.
    pub asked: String,
}

impl Answer {
    /// A header's value, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body, if the request succeeded.
    ///
    /// # Errors
    /// When it did not; the message holds the server's own code and words.
    pub fn ok(self) -> Result<Value> {
        if self.status >= 400 {
            bail!("{}: status {}: {}", self.asked, self.status, self.json);
        }
        Ok(self.json)
    }
}

/// A client of one instance of one project.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base_url: String,
    project: String,
    instance: String,
    credentials: Credentials,
}

impl Client {
    /// A client that asks the server at `base_url`, such as `http://127.0.0.1:8080`.
    pub fn new(base_url: &str, project: &str, instance: &str, credentials: Credentials) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .user_agent(AGENT)
            .build();
        Self {
            agent: config.into(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            project: project.to_owned(),
            instance: instance.to_owned(),
            credentials,
        }
    }

    /// The same client with other credentials.
    #[must_use]
    pub fn with(&self, credentials: Credentials) -> Self {
        Self {
            credentials,
            ..self.clone()
        }
    }

    /// `/v2/{project}/fdi/instances/{instance}` and `rest`.
    pub fn fdi(&self, rest: &str) -> String {
        format!("/v2/{}/fdi/instances/{}{rest}", self.project, self.instance)
    }

    /// `/v2/{project}/instances/{instance}` and `rest`: the applications.
    pub fn instance(&self, rest: &str) -> String {
        format!("/v2/{}/instances/{}{rest}", self.project, self.instance)
    }

    /// `/v1/projects/{project}/instances/{instance}` and `rest`: what the contract lacks.
    pub fn native(&self, rest: &str) -> String {
        format!(
            "/v1/projects/{}/instances/{}{rest}",
            self.project, self.instance
        )
    }

    /// `GET`.
    ///
    /// # Errors
    /// When no answer came; see [`call`](Self::call).
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer> {
        self.call("GET", path, query, None)
    }

    /// `POST`, with or without a body.
    ///
    /// # Errors
    /// When no answer came; see [`call`](Self::call).
    pub fn post(&self, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Answer> {
        self.call("POST", path, query, body)
    }

    /// `PUT`.
    ///
    /// # Errors
    /// When no answer came; see [`call`](Self::call).
    pub fn put(&self, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Answer> {
        self.call("PUT", path, query, body)
    }

    /// `PATCH`.
    ///
    /// # Errors
    /// When no answer came; see [`call`](Self::call).
    pub fn patch(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        self.call("PATCH", path, query, body)
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// When no answer came; see [`call`](Self::call).
    pub fn delete(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        self.call("DELETE", path, query, body)
    }

    /// A token for a user, by its password.
    ///
    /// # Errors
    /// When no answer came, or one without a token.
    pub fn login(&self, domain: &str, user: &str, password: &str) -> Result<String> {
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "password": password, "domain": {"name": domain}}}},
            "scope": {"project": {"id": self.project}}}});
        let nobody = self.with(Credentials::None);
        let answer = nobody.post("/v3/auth/tokens", &[], Some(&body))?;
        let token = answer.header("x-subject-token").map(str::to_owned);
        answer.ok()?;
        token.context("the answer to the login holds no token")
    }

    /// Any request. An answer of any status is `Ok`.
    ///
    /// # Errors
    /// When the server could not be asked, or its answer not be read.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let asked = format!("{method} {path}");
        let bytes = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let query_text = query_string(query);
        let mark = if query_text.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{query_text}", self.base_url);
        let host = self
            .base_url
            .split_once("://")
            .map_or(self.base_url.as_str(), |(_, host)| host);
        let kind = if body.is_some() {
            "application/json;charset=utf-8"
        } else {
            "application/json"
        };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("Host", host)
            .header("User-Agent", AGENT)
            .header("Content-Type", kind);
        match &self.credentials {
            Credentials::Key { ak, sk } => {
                let date = sdk_date(SystemTime::now());
                let headers = [
                    ("Host", host),
                    ("User-Agent", AGENT),
                    ("Content-Type", kind),
                    ("X-Project-Id", self.project.as_str()),
                    ("X-Sdk-Date", date.as_str()),
                ];
                let signed = Signed {
                    method,
                    path,
                    query,
                    headers: &headers,
                    body: &bytes,
                };
                request = request
                    .header("X-Project-Id", &self.project)
                    .header("X-Sdk-Date", &date)
                    .header("Authorization", authorization(ak, sk, &signed));
            }
            Credentials::Token(token) => request = request.header("X-Auth-Token", token),
            Credentials::None => {}
        }
        let sent = self.send(request, bytes, asked.clone());
        sent.context(asked)
    }

    fn send(
        &self,
        request: ureq::http::request::Builder,
        body: Vec<u8>,
        asked: String,
    ) -> Result<Answer> {
        let method = request.method_ref().cloned().unwrap_or_default();
        let bare = body.is_empty() && (method == "GET" || method == "DELETE");
        let mut response = if bare {
            self.agent.run(request.body(())?)?
        } else {
            let request = request.body(body)?;
            let request = self
                .agent
                .configure_request(request)
                .allow_non_standard_methods(true);
            self.agent.run(request.build())?
        };
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()?;
        let json = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
        };
        Ok(Answer {
            status: response.status().as_u16(),
            headers,
            json,
            asked,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request, and returns it: its head and its body.
    fn one_request(listener: &TcpListener, answer: &str) -> (String, String) {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0);
        }
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn asked(
        answer: &'static str,
        ask: impl FnOnce(Client) -> Result<Answer>,
    ) -> (String, String, Answer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || one_request(&listener, answer));
        let credentials = Credentials::Key {
            ak: "AK".into(),
            sk: "SK".into(),
        };
        let answer = ask(Client::new(&base, "project", "instance", credentials)).unwrap();
        let (head, body) = server.join().unwrap();
        (head, body, answer)
    }

    #[test]
    fn what_is_signed_is_what_is_sent() {
        let (head, body, answer) = asked(
            "HTTP/1.1 400 Bad Request\r\nX-Request-Id: 7\r\nContent-Length: 56\r\n\r\n\
             {\"error_code\": \"FDI.3002\", \"error_msg\": \"wrong number\"} ",
            |client| {
                client.post(
                    &client.fdi("/x"),
                    &[("b", "ž"), ("a", "1")],
                    Some(&json!({"k": 1})),
                )
            },
        );
        assert!(
            head.starts_with("POST /v2/project/fdi/instances/instance/x?a=1&b=%C5%BE HTTP/1.1\r\n"),
            "{head}"
        );
        let value = |name: &str| {
            let found = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .collect::<Vec<_>>();
            assert_eq!(found.len(), 1, "{name} once in {head}");
            found[0].clone()
        };
        let names = [
            "content-type",
            "host",
            "user-agent",
            "x-project-id",
            "x-sdk-date",
        ];
        let values = names.map(value);
        let headers: Vec<(&str, &str)> = names
            .into_iter()
            .zip(values.iter().map(String::as_str))
            .collect();
        let expected = authorization(
            "AK",
            "SK",
            &Signed {
                method: "POST",
                path: "/v2/project/fdi/instances/instance/x",
                query: &[("a", "1"), ("b", "ž")],
                headers: &headers,
                body: body.as_bytes(),
            },
        );
        assert_eq!(value("authorization"), expected);
        assert_eq!(
            (answer.status, answer.header("x-request-id")),
            (400, Some("7"))
        );
        let error = answer.ok().unwrap_err().to_string();
        assert!(error.contains("FDI.3002"), "{error}");
    }

    #[test]
    fn requests_without_a_body_say_so() {
        for method in ["POST", "DELETE", "GET"] {
            let (head, body, answer) = asked("HTTP/1.1 204 No Content\r\n\r\n", |client| {
                client.call(method, "/x", &[], None)
            });
            assert!(head.contains(method) && body.is_empty(), "{head}");
            if method == "POST" {
                assert!(
                    head.to_ascii_lowercase().contains("content-length: 0"),
                    "{head}"
                );
            }
            assert_eq!((answer.status, &answer.json), (204, &Value::Null));
        }
    }
}
