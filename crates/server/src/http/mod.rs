//! The HTTP API.
//!
//! A request passes, in this order: the table of routes, the body's limit, credentials, how often its user
//! may ask, the project of header and path, the instance of the path, and what the user's policies
//! allow; only then does a handler see it. Handlers parse, call the control plane and render; they decide
//! nothing. What changes something is in the audit log before it is done. Every answer carries
//! `X-Request-Id`.

mod auth;
mod body;
mod error;
mod fdi;
mod gate;
mod iam;
mod metrics;
mod native;
mod ops;
mod page;
mod quarantine;
mod query;
mod record;
mod roma;
mod route;
mod routes;
mod serve;
mod sign;
mod tables;
#[cfg(test)]
mod tests;
mod time;
mod tls;
mod verifications;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, Method, Response};
use axum::routing::{MethodFilter, on};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};
use thalweg_control::model::{Audited, Caller, Scope};
use thalweg_control::{App, Error};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use error::Failure;
pub(crate) use gate::{Gate, GateOptions};
use query::Query;
use route::{Access, Call, Reply, Route, Surface};
pub(crate) use serve::{Limits, serve};
use sign::Signed;
pub(crate) use tls::{Tls, TlsFiles};

/// A longer body is refused.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Of a body that is refused, so much is still read, so that the client sees the answer instead of a
/// broken connection.
const DRAIN_BYTES_MAX: usize = 32 << 20;
/// Bodies longer than this share [`LARGE_BODIES_BYTES_MAX`], so that no number of clients fills the
/// memory.
const SMALL_BODY_BYTES_MAX: usize = 64 << 10;
/// What all long bodies together may take.
const LARGE_BODIES_BYTES_MAX: usize = 128 << 20;
static LARGE_BODIES: Semaphore = Semaphore::const_new(LARGE_BODIES_BYTES_MAX / BODY_BYTES_MAX);

/// A call that changes something is given up after so long.
const RECORDED_TIME_MAX: Duration = Duration::from_secs(300);

const REQUEST_ID: &str = "x-request-id";

/// The address of the other end of a connection, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The router of all routes.
pub(crate) fn router(app: &App, gate: &Arc<Gate>) -> Router {
    router_of(app, routes::ROUTES, gate)
}

fn router_of(app: &App, routes: &'static [Route], gate: &Arc<Gate>) -> Router {
    let mut router = Router::new();
    for route in routes {
        let (app, gate) = (app.clone(), Arc::clone(gate));
        let handler = move |path: Result<Path<HashMap<String, String>>, _>, request: Request| {
            // A path that is not UTF-8 names nothing we have.
            let path = path.ok().map(|Path(path)| path);
            answer((app.clone(), Arc::clone(&gate)), *route, path, request)
        };
        router = router.route(route.path, on(filter(route.method), handler));
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
}

fn filter(method: &str) -> MethodFilter {
    let method = Method::from_bytes(method.as_bytes());
    let filter = method.ok().and_then(|m| MethodFilter::try_from(m).ok());
    filter.expect("the table of routes names methods that exist")
}

async fn unknown(request: Request) -> Response<Body> {
    let native = request.uri().path().starts_with("/v1/");
    let surface = if native {
        Surface::Native
    } else {
        Surface::Fdi
    };
    let id = request_id();
    finish(error::render(&Failure::UnknownPath, surface, &id), &id)
}

/// Answers a request to a route: whatever happens, in the shape of the route's surface.
async fn answer(
    ours: (App, Arc<Gate>),
    route: Route,
    path: Option<HashMap<String, String>>,
    request: Request,
) -> Response<Body> {
    let id = request_id();
    let begun = Instant::now();
    let work = AssertUnwindSafe(process(ours, route, path, request, &id)).catch_unwind();
    let outcome = match tokio::time::timeout(route.time_max, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::Panicked),
        Err(_) => Err(Failure::TooSlow {
            what: format!(
                "The answer took longer than {} seconds",
                route.time_max.as_secs()
            ),
        }),
    };
    let response = match outcome {
        Ok(reply) => reply.into_response(),
        Err(failure) => error::render(&failure, route.surface, &id),
    };
    tracing::debug!(
        method = route.method,
        route = route.path,
        status = response.status().as_u16(),
        millis = begun.elapsed().as_millis(),
        request_id = id,
        "request"
    );
    finish(response, &id)
}

async fn process(
    (app, gate): (App, Arc<Gate>),
    route: Route,
    path: Option<HashMap<String, String>>,
    request: Request,
    id: &str,
) -> Result<Reply, Failure> {
    let path = path.ok_or(Failure::UnknownPath)?;
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| *peer);
    let address = gate.address(peer, &parts.headers);
    // The place among the long bodies is held until the answer is made.
    let (body, _place) = read(body).await?;
    let raw_query = parts.uri.query().unwrap_or_default();
    let caller = match route.access {
        Access::Open => None,
        _ => {
            let signed = Signed {
                method: parts.method.as_str(),
                path: parts.uri.path(),
                query: raw_query,
                headers: &parts.headers,
                body: &body,
            };
            let caller = auth::caller(&app, &signed).await?;
            gate.request(&caller.user().id)?;
            Some(caller)
        }
    };
    let scope = match &caller {
        None => None,
        Some(caller) => {
            let project = path.get("project_id").map_or("", String::as_str);
            if let Some(header) = parts.headers.get("x-project-id")
                && path.contains_key("project_id")
                && header.as_bytes() != project.as_bytes()
            {
                return Err(Failure::ProjectDiffers);
            }
            scope(&app, &route, caller, &path).await?
        }
    };
    let query = Query::parse(raw_query);
    let call = Call {
        app,
        path,
        query,
        headers: parts.headers,
        body,
        caller,
        scope,
        address,
        gate,
    };
    if route.access == Access::Open || !record::is_recorded(&route) {
        admit(&call, &route)?;
        return (route.handler)(call).await;
    }
    let path = parts.uri.path();
    if let Err(denied) = admit(&call, &route) {
        let user = call.caller.as_ref().map(|caller| &caller.user().id);
        if user.is_none_or(|user| call.gate.notes_refusal(user)) {
            let refused = record::begins(&route, &call, (id, path), None);
            let (status, code) = error::status(&denied, route.surface);
            call.app.audit_refused(&refused, (status, code)).await?;
        }
        return Err(denied);
    }
    let before = record::shown(&route, &call).await;
    let begins = record::begins(&route, &call, (id, path), before);
    // From here on it goes to its end, and its end into the log, whatever becomes of who has called.
    let calls = call.gate.calls.clone();
    let id = id.to_owned();
    let done = calls.spawn(async move { recorded(route, call, begins, &id).await });
    done.await.unwrap_or(Err(Failure::Panicked))
}

/// Does a call that the audit log has: after its beginning is written, and before its end is.
async fn recorded(route: Route, call: Call, begins: Audited, id: &str) -> Result<Reply, Failure> {
    let about = call.clone();
    about.app.audit_begin(&begins).await?;
    let work = AssertUnwindSafe((route.handler)(call)).catch_unwind();
    // Nobody waits for it any more, long before that.
    let outcome = match tokio::time::timeout(RECORDED_TIME_MAX, work).await {
        Ok(outcome) => outcome.unwrap_or(Err(Failure::Panicked)),
        Err(_) => Err(Failure::TooSlow {
            what: "The call was given up".to_owned(),
        }),
    };
    let (status, code, after) = record::ended(&route, &about, &outcome).await;
    let noted = about
        .app
        .audit_end(id, (status, code), after.as_ref())
        .await;
    if let Err(error) = noted {
        // It is done, and its beginning is in the log; an error now would say the opposite.
        tracing::error!(error = %error, request_id = id, "the audit log could not be written");
    }
    outcome
}

/// The caller where a path lies; `None`: outside of all instances.
async fn scope(
    app: &App,
    route: &Route,
    caller: &Caller,
    path: &HashMap<String, String>,
) -> Result<Option<Scope>, Failure> {
    let part = |name: &str| path.get(name).map_or("", String::as_str);
    let project = part("project_id");
    Ok(match route.access {
        Access::Open | Access::Domain | Access::User => None,
        Access::Project => {
            app.project_known(caller, project).await?;
            None
        }
        Access::OnlyInstance => Some(app.scope_of_project(caller, project).await?),
        Access::Instance => Some(app.scope(caller, project, part("instance_id")).await?),
    })
}

/// Whether the caller's policies allow what a route does.
fn admit(call: &Call, route: &Route) -> Result<(), Failure> {
    let (Some(caller), Some(action)) = (&call.caller, route.action) else {
        return Ok(());
    };
    let project = match route.access {
        Access::Open | Access::Domain => None,
        Access::User if call.user_id()? == caller.user().id => return Ok(()),
        Access::User => None,
        Access::Project | Access::OnlyInstance | Access::Instance => Some(call.id("project_id")),
    };
    Ok(call.app.admit(caller, action, project)?)
}

/// The whole body, up to its limit, and the place it took if it is long.
async fn read(body: Body) -> Result<(Bytes, Option<SemaphorePermit<'static>>), Failure> {
    let bytes_max = BODY_BYTES_MAX;
    // The length announced: nobody waits for what will be refused.
    if body.size_hint().lower() > DRAIN_BYTES_MAX as u64 {
        return Err(Failure::TooLarge { bytes_max });
    }
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut seen = 0_usize;
    let mut place = None;
    while let Some(chunk) = stream.next().await {
        let broken = |_| Error::Parameters("The body ended before its end.".into());
        let chunk = chunk.map_err(broken)?;
        seen = seen.saturating_add(chunk.len());
        if seen > DRAIN_BYTES_MAX {
            break;
        }
        if seen > BODY_BYTES_MAX {
            bytes = BytesMut::new();
            continue;
        }
        if seen > SMALL_BODY_BYTES_MAX && place.is_none() {
            place = Some(LARGE_BODIES.acquire().await.map_err(Error::internal)?);
        }
        bytes.extend_from_slice(&chunk);
    }
    if seen > BODY_BYTES_MAX {
        return Err(Failure::TooLarge { bytes_max });
    }
    Ok((bytes.freeze(), place))
}

fn request_id() -> String {
    Uuid::new_v4().simple().to_string()
}

fn finish(mut response: Response<Body>, id: &str) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
