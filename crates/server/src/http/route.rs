//! What a route is: method, path, who may call it, and the handler.
//!
//! All routes stand in one table (see [`super::routes`]), so that a test can compare it with the
//! OpenAPI document and call each of them without credentials.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::Value;
use thalweg_control::model::{Caller, Scope};
use thalweg_control::policy::Action;
use thalweg_control::{App, Error};

use super::body::Fields;
use super::error::Failure;
use super::gate::Gate;
use super::query::Query;

/// An answer takes at most so long, the reading of the body included.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(30);
/// One for which a running task is waited for: a little longer than the control plane waits.
pub(crate) const WAITING_TIME_MAX: Duration = Duration::from_secs(75);

/// Which family of operations a route belongs to: it decides the shape of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// Data integration.
    Fdi,
    /// Data integration, operations whose errors may have a third field `detail`.
    FdiDetail,
    /// Integration applications.
    Roma,
    /// Tokens.
    Iam,
    /// Our own operations under `/v1`.
    Native,
    /// Health and metrics.
    Ops,
}

/// Where a route lies, and so what its caller has to have to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody may call it, without credentials.
    Open,
    /// The instance of the path.
    Instance,
    /// The project of the path; the instance is the project's only one.
    OnlyInstance,
    /// The project of the path.
    Project,
    /// Outside of all projects.
    Domain,
    /// The user of the path; everybody may do it with itself, whatever its policies say.
    User,
}

/// The word that stands for the caller where a path names a user.
pub(crate) const ME: &str = "me";

/// The future of an answer.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;

/// One operation.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub(crate) method: &'static str,
    /// With `{name}` for each parameter.
    pub(crate) path: &'static str,
    /// Shape of errors.
    pub(crate) surface: Surface,
    /// Where it lies.
    pub(crate) access: Access,
    /// What the caller's policies have to allow; `None`: every caller may.
    pub(crate) action: Option<Action>,
    /// How long its answer may take.
    pub(crate) time_max: Duration,
    /// What it does.
    pub(crate) handler: fn(Call) -> Answer,
}

/// A request that passed authentication.
#[derive(Clone)]
pub(crate) struct Call {
    /// The control plane.
    pub(crate) app: App,
    /// Parameters of the path, decoded.
    pub(crate) path: HashMap<String, String>,
    /// Parameters of the query, decoded.
    pub(crate) query: Query,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body as received.
    pub(crate) body: Bytes,
    /// Who calls; on every route that is not [`Access::Open`].
    pub(crate) caller: Option<Caller>,
    /// The caller inside the instance of the path, if the path names one.
    pub(crate) scope: Option<Scope>,
    /// Where the request came from.
    pub(crate) address: IpAddr,
    /// Wrong passwords, and how often may be called.
    pub(crate) gate: Arc<Gate>,
}

impl Call {
    /// The caller inside the instance of the path.
    pub(crate) fn scope(&self) -> Result<&Scope, Failure> {
        // A route that asks for it with `Access::Open` is a fault of ours, not a panic.
        let missing = || Error::Internal("route without a scope".into());
        self.scope.as_ref().ok_or_else(|| missing().into())
    }

    /// Who calls.
    pub(crate) fn caller(&self) -> Result<&Caller, Failure> {
        let missing = || Error::Internal("route without a caller".into());
        self.caller.as_ref().ok_or_else(|| missing().into())
    }

    /// The user of the path, who may be the caller itself.
    pub(crate) fn user_id(&self) -> Result<&str, Failure> {
        match self.id("user_id") {
            ME => Ok(&self.caller()?.user().id),
            id => Ok(id),
        }
    }

    /// A parameter of the path. Ids have 1 to 64 characters; others are ids of nothing, which the
    /// control plane finds out by itself, so this only keeps endless ones from it.
    pub(crate) fn id(&self, name: &str) -> &str {
        let id = self.path.get(name).map_or("", String::as_str);
        if id.len() > 64 { "" } else { id }
    }

    /// The body as an object with fields.
    pub(crate) fn fields(&self) -> Result<Fields, Error> {
        super::body::parse(&self.headers, &self.body)
    }

    /// The body as a form with fields.
    pub(crate) async fn form(&self) -> Result<Fields, Error> {
        super::body::form(&self.headers, self.body.clone()).await
    }

    /// The body as an object with fields, or `None` if it is empty.
    pub(crate) fn fields_if_any(&self) -> Result<Option<Fields>, Error> {
        if self.body.is_empty() {
            return Ok(None);
        }
        self.fields().map(Some)
    }
}

/// A success.
pub(crate) enum Reply {
    /// A JSON body.
    Json(StatusCode, Value),
    /// A JSON body and one header more.
    WithHeader(StatusCode, (&'static str, String), Value),
    /// Text of a given type.
    Text(StatusCode, &'static str, String),
    /// No body: 204.
    Empty,
}

impl Reply {
    /// 200 with a JSON body.
    pub(crate) fn ok(value: Value) -> Result<Reply, Failure> {
        Ok(Reply::Json(StatusCode::OK, value))
    }

    /// 201 with a JSON body.
    pub(crate) fn created(value: Value) -> Result<Reply, Failure> {
        Ok(Reply::Json(StatusCode::CREATED, value))
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Reply::Json(status, _) | Reply::WithHeader(status, ..) | Reply::Text(status, ..) => {
                *status
            }
            Reply::Empty => StatusCode::NO_CONTENT,
        }
    }

    /// The HTTP response.
    pub(crate) fn into_response(self) -> Response<Body> {
        let (status, content_type, extra, body) = match self {
            Reply::Json(status, value) => (status, "application/json", None, value.to_string()),
            Reply::WithHeader(status, header, value) => {
                (status, "application/json", Some(header), value.to_string())
            }
            Reply::Text(status, content_type, text) => (status, content_type, None, text),
            Reply::Empty => (StatusCode::NO_CONTENT, "", None, String::new()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some((name, value)) = extra
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(name, value);
        }
        response
    }
}
