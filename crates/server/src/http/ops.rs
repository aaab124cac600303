//! Health and metrics, for whoever keeps the process running: without credentials, and without
//! anything a stranger should not see but names of tasks and tables.

use axum::http::StatusCode;
use thalweg_control::Error;

use super::error::Failure;
use super::route::{Call, Reply};
use super::{metrics, time};

const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) async fn live(_call: Call) -> Result<Reply, Failure> {
    Ok(Reply::Text(StatusCode::OK, TEXT, "live\n".into()))
}

pub(crate) async fn ready(call: Call) -> Result<Reply, Failure> {
    Ok(if call.app.ready().await {
        Reply::Text(StatusCode::OK, TEXT, "ready\n".into())
    } else {
        Reply::Text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".into())
    })
}

pub(crate) async fn metrics(call: Call) -> Result<Reply, Failure> {
    let tasks = metrics::Tasks {
        lives: call.app.lives(),
        verified: call.app.tasks_verified().await?,
        paused: call.app.tasks_paused().await?,
        now_ms: time::now_ms(),
    };
    let text = metrics::render(tasks).map_err(Error::internal)?;
    Ok(Reply::Text(StatusCode::OK, metrics::CONTENT_TYPE, text))
}
