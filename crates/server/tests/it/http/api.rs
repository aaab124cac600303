//! One server, its credentials, and the check that all tables go through.

use std::path::Path;

use serde_json::{Value, json};
use thalweg_testkit::thalweg::{Identity, Thalweg};

use super::raw::{Answer, Request};

/// What an answer has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want<'a> {
    /// This status.
    Ok(u16),
    /// Refused in the flat shape: status, code, and what the message names.
    Fdi(u16, &'a str, &'a str),
    /// Refused in the four-field shape of the applications.
    Roma(u16, &'a str, &'a str),
    /// Refused in the gateway's shape.
    Gateway(u16, &'a str),
    /// Refused as our own operations do it: status, and what the detail names.
    Problem(u16, &'a str),
    /// Refused for the request's own fault, in whatever documented shape.
    Refused,
}

/// A wrong parameter: 400 `FDI.3033` that names it.
pub(super) const fn bad(name: &str) -> Want<'_> {
    Want::Fdi(400, "FDI.3033", name)
}

/// A wrong value of an application: 400 `ROMA.00013000` that names it.
pub(super) const fn bad_app(name: &str) -> Want<'_> {
    Want::Roma(400, "ROMA.00013000", name)
}

/// A running server and all that was found wrong with it.
pub(super) struct Api {
    server: Thalweg,
    pub(super) identity: Identity,
    pub(super) address: String,
    pub(super) token: String,
    wrong: Vec<String>,
    checked: usize,
}

impl Api {
    pub(super) fn start() -> Self {
        Api::start_with(&[], &[])
    }

    /// With more arguments of `thalweg serve`, and more environment.
    pub(super) fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_thalweg"));
        let server = Thalweg::start_with(binary, args, env).unwrap();
        let identity = server.identity().clone();
        let address = server.base_url().trim_start_matches("http://").to_owned();
        let client = server.client();
        let token = client
            .login(&identity.domain, &identity.user, &identity.password)
            .unwrap();
        Self {
            server,
            identity,
            address,
            token,
            wrong: Vec::new(),
            checked: 0,
        }
    }

    /// Kills the server and starts it again on its data.
    pub(super) fn restart(&self) {
        self.server.restart().unwrap();
    }

    /// `{I}` of the contract and `rest`.
    pub(super) fn fdi(&self, rest: &str) -> String {
        let Identity {
            project, instance, ..
        } = &self.identity;
        format!("/v2/{project}/fdi/instances/{instance}{rest}")
    }

    /// Our own operations and `rest`.
    pub(super) fn native(&self, rest: &str) -> String {
        let Identity {
            project, instance, ..
        } = &self.identity;
        format!("/v1/projects/{project}/instances/{instance}{rest}")
    }

    /// The applications and `rest`.
    pub(super) fn apps(&self, rest: &str) -> String {
        let Identity {
            project, instance, ..
        } = &self.identity;
        format!("/v2/{project}/instances/{instance}/apps{rest}")
    }

    /// A request with the token.
    pub(super) fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).header("X-Auth-Token", &self.token)
    }

    pub(super) fn fail(&mut self, sentence: String) {
        println!("WRONG {sentence}");
        self.wrong.push(sentence);
    }

    pub(super) fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, wanted: T) {
        self.checked += 1;
        if found != wanted {
            self.fail(format!("{what}: {found:?}, wanted {wanted:?}"));
        }
    }

    /// Sends a request and checks the answer; returns its JSON.
    pub(super) fn check(&mut self, what: &str, request: &Request, want: Want<'_>) -> Value {
        self.answer(what, request, want)
            .map(|answer| answer.value())
            .unwrap_or_default()
    }

    /// Like [`check`](Self::check); the answer, if there was one.
    pub(super) fn answer(
        &mut self,
        what: &str,
        request: &Request,
        want: Want<'_>,
    ) -> Option<Answer> {
        self.checked += 1;
        let what = format!("{what}: {} {}", request.method, short(&request.target));
        let answer = match request.send(&self.address) {
            Ok(answer) => answer,
            Err(error) => {
                self.fail(format!("{what}: {error}, wanted {want:?}"));
                return None;
            }
        };
        for sentence in complaints(&answer, want) {
            self.fail(format!("{what}: {sentence}; {}", answer.short()));
        }
        Some(answer)
    }

    /// Sends a JSON body and checks the answer.
    pub(super) fn ask(
        &mut self,
        what: &str,
        (method, target): (&str, &str),
        body: &Value,
        want: Want<'_>,
    ) -> Value {
        let request = self.request(method, target).json(body.to_string());
        self.check(
            &format!("{what} {}", short(&body.to_string())),
            &request,
            want,
        )
    }

    /// A request without a body.
    pub(super) fn bare(&mut self, method: &str, target: &str, want: Want<'_>) -> Value {
        let request = self.request(method, target);
        self.check("bare", &request, want)
    }

    /// Sends `base` with one field changed, for each field and value of the table, and expects that
    /// the answer names the field. A value of `None` leaves the field out.
    pub(super) fn wrong_fields<'a>(
        &mut self,
        call: (&str, &str),
        base: &Value,
        table: &[(&'a str, Option<Value>)],
        want: fn(&'a str) -> Want<'a>,
    ) {
        for (field, value) in table {
            let body = with(base, field, value.clone());
            let leaf = field.rsplit('.').next().unwrap_or(field);
            self.ask(&format!("wrong {field}"), call, &body, want(leaf));
        }
    }

    /// Sends each query of the table; a wrong one names its parameter.
    pub(super) fn queries(&mut self, path: &str, table: &[(&str, Want<'_>)]) {
        for (query, want) in table {
            self.bare("GET", &format!("{path}?{query}"), *want);
        }
    }

    /// An application.
    pub(super) fn app(&mut self, name: &str) -> String {
        let made = self.ask(
            "app",
            ("POST", &self.apps("")),
            &json!({"name": name}),
            Want::Ok(201),
        );
        text(&made["id"])
    }

    /// A data source; nothing needs to answer there.
    pub(super) fn datasource(&mut self, name: &str, kind: &str, app: &str) -> String {
        let body = datasource(name, kind, app);
        let made = self.ask(
            "data source",
            ("POST", &self.fdi("/datasources")),
            &body,
            Want::Ok(201),
        );
        text(&made["datasource_id"])
    }

    /// An empty task.
    pub(super) fn task(&mut self, name: &str) -> String {
        let body = json!({"task_name": name, "operation_types": ["INSERT"]});
        let made = self.ask(
            "task",
            ("POST", &self.fdi("/multi-tasks")),
            &body,
            Want::Ok(200),
        );
        text(&made["task_id"])
    }

    /// Panics with all that was wrong.
    pub(super) fn finish(self) {
        println!("{} checks", self.checked);
        assert!(
            self.wrong.is_empty(),
            "{} of {} checks found something wrong\n  {}\nthe end of the server's log:\n{}",
            self.wrong.len(),
            self.checked,
            self.wrong.join("\n  "),
            self.server.log_tail()
        );
    }
}

/// A data source's body; its address is one where nothing listens.
pub(super) fn datasource(name: &str, kind: &str, app: &str) -> Value {
    json!({
        "datasource_name": name,
        "datasource_type": kind,
        "app_id": app,
        "content": {
            "host": "127.0.0.1", "port": "1", "database_name": "shop", "user_name": "user",
            "password": "password", "mode": "default",
        },
    })
}

/// A copy of `base` with the field at the dotted path changed or left out.
pub(super) fn with(base: &Value, path: &str, value: Option<Value>) -> Value {
    let mut changed = base.clone();
    let (parents, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = &mut changed;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        place = match part.parse::<usize>() {
            Ok(at) => &mut place[at],
            Err(_) => &mut place[part],
        };
    }
    match value {
        Some(value) => place[leaf] = value,
        None => drop(place.as_object_mut().unwrap().remove(leaf)),
    }
    changed
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The keys of an object, sorted.
pub(super) fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<String> = value
        .as_object()
        .map(|object| object.keys().cloned().collect())
        .unwrap_or_default();
    keys.sort();
    keys
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(160).collect();
    if cut.len() < text.len() {
        format!("{cut}… ({} bytes)", text.len())
    } else {
        cut
    }
}

/// All that is wrong with an answer.
fn complaints(answer: &Answer, want: Want<'_>) -> Vec<String> {
    let mut said = Vec::new();
    let request_id = answer.header("x-request-id").unwrap_or_default();
    if request_id.is_empty() {
        said.push("no X-Request-Id".into());
    }
    if !answer.body.is_empty() {
        let kind = answer.header("content-type").unwrap_or_default();
        let wanted = match want {
            Want::Problem(..) => "application/problem+json",
            _ => "application/json",
        };
        if !kind.starts_with(wanted) {
            said.push(format!("content type is {kind:?}"));
        }
    }
    let body = answer.value();
    let (status, code, names) = match want {
        Want::Ok(status) => {
            if answer.status != status {
                said.push(format!("wanted status {status}"));
            }
            return said;
        }
        Want::Refused => {
            let refused = (400..500).contains(&answer.status);
            let shape = shape(&body, request_id);
            if !refused || shape.is_err() {
                said.push(format!("wanted to be refused; {shape:?}"));
            }
            return said;
        }
        Want::Problem(status, names) => {
            let told = body["detail"].as_str().unwrap_or_default();
            let field = body["field"].as_str().unwrap_or_default();
            let names = told.contains(names) || field.contains(names);
            if answer.status != status || body["status"] != status || !names {
                said.push(format!("wanted {want:?}"));
            }
            return said;
        }
        Want::Fdi(status, code, names) | Want::Roma(status, code, names) => (status, code, names),
        Want::Gateway(status, code) => (status, code, ""),
    };
    let found = (answer.status, body["error_code"].as_str());
    if found != (status, Some(code)) {
        said.push(format!("wanted {status} {code} {names}"));
        return said;
    }
    let wanted = match want {
        Want::Roma(..) => "roma",
        Want::Gateway(..) => "gateway",
        _ => "fdi",
    };
    match shape(&body, request_id) {
        Ok(found) if found == wanted => {}
        found => said.push(format!("wanted the shape {wanted}, found {found:?}")),
    }
    said.extend(naming(&body, code, names));
    said
}

/// Whether the message begins as documented and names what is wrong.
fn naming(body: &Value, code: &str, names: &str) -> Option<String> {
    let message = body["error_msg"].as_str().unwrap_or_default();
    let details = body["error_details"].as_str().unwrap_or_default();
    let begins = match code {
        "FDI.3002" => "Invalid parameters.",
        "FDI.3016" => "Failed to test the connectivity.",
        "FDI.3022" => "One or more tasks have empty task IDs.",
        "FDI.3023" => "One or more tasks are running.",
        "FDI.3026" => "Failed to manually start the task.",
        "FDI.3027" => "Failed to manually stop the task.",
        "FDI.3033" => "Invalid parameter [",
        "FDI.3037" => "The parameter in mapping information is invalid",
        "FDI.3039" => "The project ID is empty or does not match the project ID in the URL.",
        "FDI.3081" => "The task does not exist.",
        "FDI.3150" => "The task list is empty.",
        "APIGW.0301" => "Incorrect IAM authentication information: ",
        _ => "",
    };
    // An unknown data source or mapping of a path has a code whose text is about parameters.
    let unknown = code == "FDI.3002" && message.contains("does not exist");
    if !message.starts_with(begins) && !unknown {
        return Some(format!("the message does not begin with {begins:?}"));
    }
    let place = if code == "FDI.3033" {
        message.split("]. ").next().unwrap_or_default()
    } else if details.contains(names) {
        details
    } else {
        message
    };
    (!place.contains(names)).then(|| format!("{names:?} is not named"))
}

/// Which documented shape of an error a body has, and that its fields are well.
fn shape(body: &Value, request_id: &str) -> Result<&'static str, String> {
    let found = keys(body);
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let (name, length) = match found[..] {
        ["error_code", "error_msg"] | ["detail", "error_code", "error_msg"] => ("fdi", 2..=512),
        ["error_code", "error_details", "error_msg", "request_id"] => ("roma", 1..=128),
        ["error_code", "error_msg", "request_id"] => ("gateway", 1..=512),
        _ => return Err(format!("fields {found:?}")),
    };
    for field in found {
        let chars = body[field].as_str().map(|text| text.chars().count());
        let limits = match field {
            "error_code" => 8..=36,
            _ => length.clone(),
        };
        if !chars.is_some_and(|chars| limits.contains(&chars)) {
            return Err(format!(
                "{field} has {chars:?} characters, wanted {limits:?}"
            ));
        }
        if field == "request_id" && body[field] != request_id {
            return Err("request_id is not that of the header".into());
        }
    }
    Ok(name)
}
