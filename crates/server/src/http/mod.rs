//! The HTTP API.
//!
//! A request passes, in this order: the table of routes, the body's limit, credentials, the project
//! of header and path, the instance of the path; only then does a handler see it. Handlers parse,
//! call the control plane and render; they decide nothing. Every answer carries `X-Request-Id`.

mod auth;
mod body;
mod error;
mod fdi;
mod iam;
mod metrics;
mod native;
mod ops;
mod page;
mod quarantine;
mod query;
mod roma;
mod route;
mod routes;
mod serve;
mod sign;
mod tables;
#[cfg(test)]
mod tests;
mod time;
mod verifications;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, Method, Response};
use axum::routing::{MethodFilter, on};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};
use thalweg_control::{App, Error};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use error::Failure;
use query::Query;
use route::{Access, Call, Reply, Route, Surface};
pub(crate) use serve::{Limits, serve};
use sign::Signed;

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

const REQUEST_ID: &str = "x-request-id";

/// The router of all routes.
pub(crate) fn router(app: &App) -> Router {
    router_of(app, routes::ROUTES)
}

fn router_of(app: &App, routes: &'static [Route]) -> Router {
    let mut router = Router::new();
    for route in routes {
        let app = app.clone();
        let handler = move |path: Result<Path<HashMap<String, String>>, _>, request: Request| {
            // A path that is not UTF-8 names nothing we have.
            let path = path.ok().map(|Path(path)| path);
            answer(app.clone(), *route, path, request)
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
    app: App,
    route: Route,
    path: Option<HashMap<String, String>>,
    request: Request,
) -> Response<Body> {
    let id = request_id();
    let begun = Instant::now();
    let work = AssertUnwindSafe(process(app, route, path, request)).catch_unwind();
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
    app: App,
    route: Route,
    path: Option<HashMap<String, String>>,
    request: Request,
) -> Result<Reply, Failure> {
    let path = path.ok_or(Failure::UnknownPath)?;
    let (parts, body) = request.into_parts();
    // The place among the long bodies is held until the answer is made.
    let (body, _place) = read(body).await?;
    let raw_query = parts.uri.query().unwrap_or_default();
    let scope = match route.access {
        Access::Open => None,
        Access::Instance | Access::Project => {
            let signed = Signed {
                method: parts.method.as_str(),
                path: parts.uri.path(),
                query: raw_query,
                headers: &parts.headers,
                body: &body,
            };
            let user = auth::caller(&app, &signed).await?;
            let part = |name: &str| path.get(name).map_or("", String::as_str);
            let project = part("project_id");
            if let Some(header) = parts.headers.get("x-project-id")
                && header.as_bytes() != project.as_bytes()
            {
                return Err(Failure::ProjectDiffers);
            }
            Some(match route.access {
                Access::Project => app.scope_of_project(&user, project).await?,
                _ => app.scope(&user, project, part("instance_id")).await?,
            })
        }
    };
    let query = Query::parse(raw_query);
    let headers = parts.headers;
    (route.handler)(Call {
        app,
        path,
        query,
        headers,
        body,
        scope,
    })
    .await
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
