//! Which status and which code a failure has: the one file that chooses.
//!
//! The contract does not list every code. What it leaves open is decided here and nowhere else, so
//! that a choice can be corrected in one place. Three shapes of a body exist in the contract: that of
//! the FDI service, that of the gateway in front of it, and that of the service that keeps
//! applications; our own paths under `/v1` answer `application/problem+json`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use thalweg_control::{Error, Subject};

use super::route::Surface;

/// Characters of a message or detail of the FDI service.
const MESSAGE_CHARS_MAX: usize = 512;
/// Characters of each field of the service that keeps applications.
const ROMA_CHARS_MAX: usize = 128;
/// Characters of a message in an item of a batch.
const ITEM_CHARS_MAX: usize = 64;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the control plane says, or what a parse function says in its words.
    Control(Error),
    /// No such path, or not with this method.
    UnknownPath,
    /// The body is larger than we read.
    TooLarge {
        /// How much we read.
        bytes_max: usize,
    },
    /// `X-Project-Id` and the path differ.
    ProjectDiffers,
    /// A batch without tasks.
    EmptyList,
    /// An item of a batch without a task.
    EmptyTaskId {
        /// Which one.
        index: usize,
    },
    /// An answer was not there in time.
    TooSlow {
        /// What took too long.
        what: String,
    },
    /// It has to be asked less often.
    Throttled {
        /// What comes too often, and when it will do.
        reason: String,
        /// From now.
        seconds: u64,
    },
    /// A handler panicked.
    Panicked,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Control(error)
    }
}

/// Who answers, by the contract: it decides the shape of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// The service itself.
    Service,
    /// The gateway in front of it.
    Gateway,
}

/// A failure with everything chosen.
struct Chosen {
    status: StatusCode,
    voice: Voice,
    code: &'static str,
    /// The documented text.
    text: String,
    /// What went wrong here, and how to fix it.
    reason: String,
    /// More of it, for the operations that have a third field.
    detail: Option<String>,
    /// The field that is wrong.
    field: Option<String>,
}

impl Chosen {
    fn new(status: StatusCode, code: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Chosen {
            status,
            voice: Voice::Service,
            code,
            text: text.to_owned(),
            reason: reason.into(),
            detail: None,
            field: None,
        }
    }

    fn gateway(status: StatusCode, code: &'static str, text: &str, reason: &str) -> Self {
        Chosen {
            voice: Voice::Gateway,
            ..Chosen::new(status, code, text, reason)
        }
    }

    fn message(&self) -> String {
        if self.text.ends_with('.') {
            return join(&self.text, &sentence(&self.reason));
        }
        join(&self.text, &self.reason)
    }
}

/// The codes in which the services differ.
#[derive(Clone, Copy)]
struct Codes {
    /// One named parameter.
    parameter: &'static str,
    /// The request as a whole.
    parameters: &'static str,
    /// The project of header and path.
    project: &'static str,
    /// A fault of ours, and its text.
    internal: (&'static str, &'static str),
}

impl Codes {
    fn of(surface: Surface) -> Codes {
        match surface {
            Surface::Roma => Codes {
                parameter: "ROMA.00013000",
                parameters: "ROMA.00013000",
                project: "ROMA.00013000",
                internal: ("ROMA.00011000", "System error."),
            },
            Surface::Iam => Codes {
                parameter: "APIG.2012",
                parameters: "APIG.2012",
                project: "APIG.2012",
                internal: ("APIG.9999", "System error."),
            },
            Surface::Fdi | Surface::FdiDetail | Surface::Native | Surface::Ops => Codes {
                parameter: "FDI.3033",
                parameters: "FDI.3002",
                project: "FDI.3039",
                internal: ("FDI.9999", "Network error."),
            },
        }
    }
}

/// The table.
fn choose(failure: &Failure, surface: Surface) -> Chosen {
    use StatusCode as S;
    let codes = Codes::of(surface);
    match failure {
        Failure::Control(error) => choose_control(error, codes),
        Failure::UnknownPath => Chosen::gateway(
            S::NOT_FOUND,
            "APIGW.0101",
            "The API does not exist or has not been published.",
            "No operation has this path and method.",
        ),
        Failure::TooLarge { bytes_max } => Chosen::gateway(
            S::PAYLOAD_TOO_LARGE,
            "APIG.0201",
            "Request entity too large.",
            &format!("A body has at most {bytes_max} bytes: send it in parts."),
        ),
        Failure::ProjectDiffers => Chosen::new(
            S::BAD_REQUEST,
            codes.project,
            "The project ID is empty or does not match the project ID in the URL.",
            "Send the same project in the header X-Project-Id and in the path.",
        ),
        Failure::EmptyList => Chosen::new(
            S::BAD_REQUEST,
            "FDI.3150",
            "The task list is empty.",
            "Put at least one {\"task_id\": …} into the field list.",
        ),
        Failure::EmptyTaskId { index } => Chosen::new(
            S::BAD_REQUEST,
            "FDI.3022",
            "One or more tasks have empty task IDs.",
            format!("Item {index} of list has no task_id."),
        ),
        Failure::TooSlow { what } => internal(codes, &format!("{what}; try again later.")),
        Failure::Throttled { reason, .. } => Chosen::gateway(
            S::TOO_MANY_REQUESTS,
            "APIG.0308",
            "The throttling threshold has been reached.",
            reason,
        ),
        Failure::Panicked => internal(codes, "Report the request id from the header X-Request-Id."),
    }
}

fn choose_control(error: &Error, codes: Codes) -> Chosen {
    use StatusCode as S;
    let service = |code, text, reason: &str| Chosen::new(S::BAD_REQUEST, code, text, reason);
    match error {
        Error::Invalid { field, reason } => Chosen {
            field: Some(field.clone()),
            ..Chosen::new(
                S::BAD_REQUEST,
                codes.parameter,
                &format!("Invalid parameter [{field}]."),
                reason,
            )
        },
        Error::Parameters(reason) => service(codes.parameters, "Invalid parameters.", reason),
        Error::Mapping(reason) => service(
            "FDI.3037",
            "The parameter in mapping information is invalid or does not match the task.",
            reason,
        ),
        Error::Address(reason) => service(
            "FDI.3043",
            "The data source IP address is not in the valid network segment.",
            reason,
        ),
        Error::Sql(reason) => service("FDI.3035", "Invalid SQL statement.", reason),
        Error::Running(reason) => service("FDI.3023", "One or more tasks are running.", reason),
        // Ours alone, so that their status can say it.
        Error::NotRunning(reason) => Chosen {
            status: S::CONFLICT,
            ..service("FDI.3027", "The task is not running.", reason)
        },
        Error::TooMany(reason) => Chosen {
            status: S::TOO_MANY_REQUESTS,
            ..service("FDI.3002", "Too many are waiting.", reason)
        },
        Error::Conflict(reason) => Chosen {
            status: S::CONFLICT,
            ..service(
                "FDI.3037",
                "The task's tables do not allow this now.",
                reason,
            )
        },
        // Of a task, as `Busy` is of the catalogue.
        Error::NotYet(reason) => Chosen {
            status: S::SERVICE_UNAVAILABLE,
            ..service("FDI.9999", "The task has not done it yet.", reason)
        },
        Error::Start(reason) => service("FDI.3026", "Failed to manually start the task.", reason),
        Error::NoSchedule(task) => Chosen {
            status: S::NOT_FOUND,
            ..service(
                "FDI.3083",
                "One or more scheduled tasks are not configured with scheduled plans.",
                &format!("Task {task} has none: make one with POST /tasks/{{task_id}}/dispatches."),
            )
        },
        Error::Stop(reason) => service("FDI.3027", "Failed to manually stop the task.", reason),
        Error::Unreachable { reason, detail } => Chosen {
            detail: detail.clone(),
            ..service("FDI.3016", "Failed to test the connectivity.", reason)
        },
        Error::NotFound(subject) => not_found(*subject),
        Error::OtherProject => Chosen::gateway(
            S::FORBIDDEN,
            "APIG.1005",
            "No permissions to request this method.",
            "The project in the path is not the caller's.",
        ),
        Error::Denied(reason) => Chosen::gateway(
            S::FORBIDDEN,
            "APIG.1005",
            "No permissions to request this method.",
            reason,
        ),
        Error::Unauthenticated(reason) => Chosen::gateway(
            S::UNAUTHORIZED,
            "APIGW.0301",
            "Incorrect IAM authentication information:",
            reason
                .strip_prefix("Incorrect IAM authentication information:")
                .unwrap_or(reason)
                .trim_start(),
        ),
        // Not the caller's fault, nor one of ours: the same request will do later.
        Error::Busy => Chosen {
            status: S::SERVICE_UNAVAILABLE,
            ..internal(codes, "The catalogue is busy with other calls; try again.")
        },
        // The cause is in our log under the request's id; the caller can do nothing with it.
        Error::Internal(_) => internal(codes, ""),
    }
}

fn not_found(subject: Subject) -> Chosen {
    let status = StatusCode::NOT_FOUND;
    let parameters = |reason: &str| Chosen::new(status, "FDI.3002", "Invalid parameters.", reason);
    match subject {
        Subject::Instance => Chosen::gateway(
            status,
            "APIG.3030",
            "The instance does not exist.",
            "Check the instance in the path.",
        ),
        Subject::Application => Chosen::new(
            status,
            "ROMA.00110006",
            "The resource does not exist.",
            "There is no application with this id.",
        ),
        Subject::Task => Chosen::new(status, "FDI.3081", "The task does not exist.", ""),
        Subject::DataSource => parameters("The data source does not exist."),
        Subject::Mapping => parameters("The mapping does not exist."),
        Subject::Verification => parameters("The verification does not exist."),
        Subject::QuarantinedRow => parameters("The quarantine has no row with this id."),
        Subject::Execution => parameters("The task has no execution with this tracking id."),
        Subject::Dispatch => parameters("The task has no such schedule."),
        Subject::User => parameters("The user does not exist."),
        Subject::Key => parameters("The user has no such access key."),
        Subject::Policy => parameters("The policy does not exist."),
        Subject::Grant => parameters("The user is granted nothing with this id."),
        Subject::Project => parameters("The project does not exist."),
        Subject::Token => parameters("The token is not one of yours, or has ended."),
    }
}

fn internal(codes: Codes, reason: &str) -> Chosen {
    let (code, text) = codes.internal;
    Chosen::new(StatusCode::INTERNAL_SERVER_ERROR, code, text, reason)
}

/// Status and code of the answer for a failure on a surface.
pub(crate) fn status(failure: &Failure, surface: Surface) -> (u16, &'static str) {
    let chosen = choose(failure, surface);
    (chosen.status.as_u16(), chosen.code)
}

/// The answer for a failure on a surface.
pub(crate) fn render(failure: &Failure, surface: Surface, request_id: &str) -> Response<Body> {
    let chosen = choose(failure, surface);
    if chosen.status.is_server_error() {
        let error = match failure {
            Failure::Control(error) => error.to_string(),
            other => format!("{other:?}"),
        };
        tracing::error!(request_id, error, "request failed");
    }
    let (body, content_type) = match (surface, chosen.voice) {
        (Surface::Native, _) => (problem(&chosen), "application/problem+json"),
        (_, Voice::Gateway) | (Surface::Iam | Surface::Ops, _) => {
            (gateway(&chosen, request_id), "application/json")
        }
        (Surface::Roma, _) => (roma(&chosen, request_id), "application/json"),
        (Surface::Fdi | Surface::FdiDetail, _) => (
            fdi(&chosen, surface == Surface::FdiDetail),
            "application/json",
        ),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = chosen.status;
    let content_type = HeaderValue::from_static(content_type);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Failure::Throttled { seconds, .. } = failure {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
    }
    if chosen.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Code and message of an item of a batch; both empty if there is no error.
pub(crate) fn item(error: Option<&Error>) -> (&'static str, String) {
    let Some(error) = error else {
        return ("", String::new());
    };
    if let Error::Internal(cause) = error {
        tracing::error!(error = cause, "item of a batch failed");
    }
    let chosen = choose_control(error, Codes::of(Surface::Fdi));
    (chosen.code, cut(&chosen.message(), ITEM_CHARS_MAX))
}

fn fdi(chosen: &Chosen, with_detail: bool) -> Value {
    let mut body = Map::new();
    body.insert("error_code".into(), chosen.code.into());
    let mut message = chosen.message();
    if let Some(detail) = chosen.detail.as_deref().filter(|d| !d.is_empty()) {
        if with_detail {
            body.insert("detail".into(), cut(detail, MESSAGE_CHARS_MAX).into());
        } else {
            message = join(&message, &sentence(detail));
        }
    }
    let message = cut(&message, MESSAGE_CHARS_MAX);
    body.insert("error_msg".into(), message.into());
    Value::Object(body)
}

fn gateway(chosen: &Chosen, request_id: &str) -> Value {
    json!({
        "error_msg": cut(&chosen.message(), MESSAGE_CHARS_MAX),
        "error_code": chosen.code,
        "request_id": request_id,
    })
}

fn roma(chosen: &Chosen, request_id: &str) -> Value {
    let details = if chosen.reason.is_empty() {
        chosen.text.clone()
    } else {
        sentence(&chosen.reason)
    };
    json!({
        "error_code": chosen.code,
        "error_msg": cut(&chosen.message(), ROMA_CHARS_MAX),
        "error_details": cut(&details, ROMA_CHARS_MAX),
        "request_id": request_id,
    })
}

fn problem(chosen: &Chosen) -> Value {
    let detail = if chosen.reason.is_empty() {
        chosen.text.clone()
    } else {
        sentence(&chosen.reason)
    };
    let more = sentence(chosen.detail.as_deref().unwrap_or_default());
    let detail = join(&detail, &more);
    let mut body = json!({
        "type": "about:blank",
        "title": chosen.text,
        "status": chosen.status.as_u16(),
        "detail": detail,
    });
    if let (Some(field), Some(body)) = (&chosen.field, body.as_object_mut()) {
        body.insert("field".into(), field.as_str().into());
    }
    body
}

fn join(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first.to_owned(),
        (true, false) => second.to_owned(),
        (false, false) => format!("{first} {second}"),
    }
}

/// Reasons come as short facts in small letters, from many places; behind the documented text they
/// are sentences. A first word that is a name, such as `server_id`, stays as it is.
fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    let plain = first
        .chars()
        .all(|c| c.is_ascii_lowercase() || c == '\'' || c == ',');
    let mut chars = text.chars();
    let mut out = match chars.next() {
        Some(head) if plain => format!("{}{}", head.to_ascii_uppercase(), chars.as_str()),
        _ => text.to_owned(),
    };
    if !out.is_empty() && !out.ends_with(['.', '!', '?', ';']) {
        out.push('.');
    }
    out
}

/// At most `chars_max` characters; the last one says that there was more.
fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests;
