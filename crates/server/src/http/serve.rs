//! Connections: accepted up to a bound, each with limits of time, and ended in order.
//!
//! The library's own server knows neither a limit for the reading of headers nor a bound on
//! connections, and with either missing a handful of slow clients holds the process.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// More connections wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// A request's headers arrive within this, and an idle connection is closed after it.
const HEADERS_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes of a request's line and headers.
const HEADERS_BYTES_MAX: usize = 64 << 10;
/// A connection is asked to end after this: a client that never reads its answer holds nothing
/// longer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a request in flight may still take then.
const OLD_DRAIN_TIME_MAX: Duration = Duration::from_secs(40);
/// How long requests in flight may take once the process was asked to end.
const STOP_DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept, such as without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets requests in flight end.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                connections.spawn(connection(stream, permit, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Cancel-safe: a permit that is dropped is given back.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await;
    let permit = permit.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: Router,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "connection without TCP_NODELAY");
    }
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME_MAX)
        .max_buf_size(HEADERS_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Ok(ended),
        () = tokio::time::sleep(CONNECTION_TIME_MAX) => Err(OLD_DRAIN_TIME_MAX),
        () = stop.cancelled() => Err(STOP_DRAIN_TIME_MAX),
    };
    let ended = match ended {
        Ok(ended) => Some(ended),
        Err(drain) => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(drain, serving).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(error, "connection ended early");
    }
    drop(permit);
}
