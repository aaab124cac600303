//! A client of a running server's API, for commands that ask one.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use thalweg_core::secret::Secret;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::answer::{array, text};

/// How long one answer may take; the server itself gives up earlier.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
const AGENT: &str = concat!("thalweg/", env!("CARGO_PKG_VERSION"));
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Which server, and who asks it.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the server
    #[arg(
        long,
        env = "THALWEG_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    server: String,
    /// Instance of the task, as the server's first start has shown it
    #[arg(long, env = "THALWEG_INSTANCE", value_name = "ID")]
    instance: String,
    /// Login name
    #[arg(long, env = "THALWEG_USER", default_value = "admin")]
    user: String,
    /// Password
    #[arg(long, env = "THALWEG_PASSWORD", hide_env_values = true)]
    password: String,
    /// Certificates in PEM that the server's is to be signed by [default: the public ones]
    #[arg(long, env = "THALWEG_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Send the password to another machine without TLS
    #[arg(long)]
    allow_cleartext_password: bool,
}

/// A client that is logged in.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    user: String,
    password: Secret,
    project: String,
    instance: String,
    token: Secret,
}

/// An answer.
struct Answer {
    status: u16,
    token: Option<String>,
    json: Value,
}

impl Client {
    /// Logs in.
    pub(crate) fn login(args: ServerArgs) -> Result<Client, String> {
        let base = args.server.trim_end_matches('/').to_owned();
        check_address(&base, args.allow_cleartext_password)?;
        let roots = match &args.ca_file {
            None => RootCerts::WebPki,
            Some(file) => {
                let pem = fs::read(file).map_err(|error| error.to_string());
                let certificates = pem.and_then(|pem| certificates(&pem));
                let wrong = |error| format!("cannot use --ca-file {}: {error}", file.display());
                RootCerts::new_with_certs(&certificates.map_err(wrong)?)
            }
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .user_agent(AGENT)
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let mut client = Client {
            agent: config.into(),
            base,
            user: args.user,
            password: Secret::new(args.password),
            project: String::new(),
            instance: args.instance,
            token: Secret::default(),
        };
        client.renew()?;
        Ok(client)
    }

    /// Takes a new token, and with it the user's only project.
    fn renew(&mut self) -> Result<(), String> {
        let body = json!({ "auth": { "identity": {
            "methods": ["password"],
            "password": { "user": { "name": self.user, "password": self.password.expose() } },
        }}});
        self.token = Secret::default();
        let answer = self.send("POST", "/v3/auth/tokens", Some(&body))?;
        let project = answer.json.pointer("/token/project/id");
        match (
            answer.status,
            &answer.token,
            project.and_then(Value::as_str),
        ) {
            (201, Some(token), Some(project)) => {
                self.token = Secret::new(token.as_str());
                self.project = project.to_owned();
                Ok(())
            }
            _ => Err(format!("cannot log in as {}: {}", self.user, told(&answer))),
        }
    }

    /// A path of the API as the vendor has it.
    pub(crate) fn fdi(&self, rest: &str) -> String {
        let (project, instance) = (encode(&self.project), encode(&self.instance));
        format!("/v2/{project}/fdi/instances/{instance}{rest}")
    }

    /// A path of our own.
    pub(crate) fn native(&self, rest: &str) -> String {
        let (project, instance) = (encode(&self.project), encode(&self.instance));
        format!("/v1/projects/{project}/instances/{instance}{rest}")
    }

    /// What the server answers to a request that it does.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let mut answer = self.send(method, path, body)?;
        if answer.status == 401 {
            // Tokens do not live for ever, and what is waited for may take longer.
            self.renew()?;
            answer = self.send(method, path, body)?;
        }
        match answer.status {
            200..=299 => Ok(answer.json),
            _ => Err(told(&answer)),
        }
    }

    /// The id of a task that is named by it, or by its name.
    pub(crate) fn task(&mut self, task: &str) -> Result<String, String> {
        for (query, field) in [("task_id", "task_id"), ("name", "task_name")] {
            let path = self.fdi(&format!("/tasks?limit=1000&{query}={}", encode(task)));
            // An id that is too long for one is the name of a task at most, and the other way round.
            let Ok(found) = self.call("GET", &path, None) else {
                continue;
            };
            let same = |one: &&Value| text(one, field) == task;
            if let Some(one) = array(&found, "entities").iter().find(same) {
                return Ok(text(one, "task_id").to_owned());
            }
        }
        // Here an error shows if there is one that has nothing to do with the task.
        self.call("GET", &self.fdi("/tasks?limit=1"), None)?;
        Err(format!("there is no task with the id or the name {task}"))
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("cannot ask the server at {}: {error}", self.base)
        };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        if !self.token.expose().is_empty() {
            request = request.header("X-Auth-Token", self.token.expose());
        }
        let sent = match body {
            None => request.body(()).map(|request| self.agent.run(request)),
            Some(body) => {
                let request = request.body(body.to_string());
                request.map(|request| self.agent.run(request))
            }
        };
        let sent = sent.map_err(|error| failed(&error))?;
        let mut response = sent.map_err(|error| failed(&error))?;
        let token = response.headers().get("x-subject-token");
        let token = token.and_then(|token| token.to_str().ok());
        let token = token.map(str::to_owned);
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let bytes = body.read_to_vec().map_err(|error| failed(&error))?;
        Ok(Answer {
            status: response.status().as_u16(),
            token,
            // What is no JSON is not from this server; its status says enough.
            json: serde_json::from_slice(&bytes).unwrap_or_default(),
        })
    }
}

/// One part of a path, or a value of a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The password goes to another machine by TLS only, unless somebody wants otherwise.
fn check_address(base: &str, clear: bool) -> Result<(), String> {
    let Some((scheme, rest)) = base.split_once("://") else {
        return Err("--server looks like http://127.0.0.1:8080".to_owned());
    };
    match scheme {
        "https" => Ok(()),
        "http" => {
            let authority = rest.split('/').next().unwrap_or_default();
            let host = match authority.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => host,
                _ => authority,
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let here = host.parse::<std::net::IpAddr>().map(|ip| ip.is_loopback());
            if clear || host == "localhost" || here == Ok(true) {
                return Ok(());
            }
            Err(format!(
                "{base} is another machine, and the password would go there in clear text: give an \
                 address with https://, or --allow-cleartext-password"
            ))
        }
        _ => Err("--server begins with http:// or https://".to_owned()),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut all = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(one) = item.map_err(|error| error.to_string())? {
            all.push(one);
        }
    }
    match all.is_empty() {
        true => Err("it holds no certificate".to_owned()),
        false => Ok(all),
    }
}

/// What an answer says of why it is none.
fn told(answer: &Answer) -> String {
    let text = |field: &str| answer.json.get(field).and_then(Value::as_str);
    match text("detail").or_else(|| text("error_msg")) {
        Some(reason) => reason.to_owned(),
        None => format!("the server answered with status {}", answer.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_stays_on_this_machine_or_goes_by_tls() {
        for fine in [
            "http://127.0.0.1:8080",
            "http://localhost:8080",
            "http://[::1]:8080",
            "http://[::1]",
            "http://127.0.0.2/path",
            "https://thalweg.example.org",
        ] {
            check_address(fine, false).unwrap();
        }
        for other in [
            "http://10.0.0.1:8080",
            "http://thalweg:8080",
            "http://127.0.0.1.org",
        ] {
            check_address(other, false).unwrap_err();
            check_address(other, true).unwrap();
        }
        for wrong in ["127.0.0.1:8080", "ftp://127.0.0.1"] {
            check_address(wrong, true).unwrap_err();
        }
    }

    #[test]
    fn what_stands_in_a_path_is_encoded() {
        assert_eq!(encode("a b/ž?.~"), "a%20b%2F%C5%BE%3F.~");
    }

    #[test]
    fn a_file_without_a_certificate_is_none() {
        assert!(certificates(b"").is_err());
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\nx\n").is_err());
    }
}
