//! Connections: accepted up to a bound, each with limits of time, and ended in order.
//!
//! The library's own server knows neither a limit for the reading of headers nor a bound on
//! connections, and with either missing a handful of slow clients holds the process.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Peer;
use super::tls::Tls;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// More connections wait to be accepted.
    connections_max: usize,
    /// A request's headers arrive within this, and an idle connection is closed after it.
    headers_time_max: Duration,
    /// A connection is asked to end after this, so that a client that never reads its answer holds
    /// nothing longer.
    connection_time_max: Duration,
    /// How long a request in flight may still take then: longer than any may in all.
    old_drain_time_max: Duration,
    /// How long requests in flight may take once the process was asked to end.
    stop_drain_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 512,
            headers_time_max: Duration::from_secs(20),
            connection_time_max: Duration::from_secs(600),
            old_drain_time_max: Duration::from_secs(85),
            stop_drain_time_max: Duration::from_secs(5),
        }
    }
}

/// Bytes of a request's line and headers.
const HEADERS_BYTES_MAX: usize = 64 << 10;
/// Pause after a failed accept, such as without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets requests in flight end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) {
    let mut watch = JoinSet::new();
    if let Some(tls) = tls.clone() {
        let stop = stop.clone();
        watch.spawn(async move { tls.watch(&stop).await });
    }
    let free = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                let acceptor = tls.as_ref().map(|tls| tls.acceptor());
                let serving = accepted_one(stream, acceptor, router.clone(), limits, stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
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

async fn accepted_one(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "connection without TCP_NODELAY");
    }
    let peer = stream
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let router = router.layer(Extension(Peer(peer)));
    let Some(acceptor) = acceptor else {
        return connection(stream, router, limits, stop).await;
    };
    // Who does not end the handshake holds its place no longer than who does not end its headers.
    let shaken = tokio::time::timeout(limits.headers_time_max, acceptor.accept(stream));
    let shaken = tokio::select! {
        shaken = shaken => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => connection(stream, router, limits, stop).await,
        Ok(Err(error)) => tracing::debug!(error = %error, "no TLS"),
        Err(_) => tracing::debug!("no TLS in time"),
    }
}

async fn connection<S>(stream: S, router: Router, limits: Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers_time_max)
        .max_buf_size(HEADERS_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Ok(ended),
        () = tokio::time::sleep(limits.connection_time_max) => Err(limits.old_drain_time_max),
        () = stop.cancelled() => Err(limits.stop_drain_time_max),
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
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Server {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        serving: JoinSet<()>,
    }

    async fn start(limits: Limits) -> Server {
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "slow"
        };
        let router = Router::new()
            .route("/", get(|| async { "fast" }))
            .route("/slow", get(slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, router, limits, None, stop.clone()));
        Server {
            address,
            stop,
            serving,
        }
    }

    async fn ask(server: &Server, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(server.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_headers_frees_its_place() {
        let server = start(Limits {
            connections_max: 1,
            headers_time_max: Duration::from_millis(200),
            ..Limits::default()
        })
        .await;
        for silent in ["", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(silent.as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(5), ask(&server, "/")).await;
            assert!(answer.unwrap().unwrap().ends_with("fast"), "{silent:?}");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let server = start(Limits {
            headers_time_max: Duration::from_millis(200),
            ..Limits::default()
        })
        .await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(5), read).await;
        read.expect("the server closes it").unwrap();
        assert!(answer.contains("fast"));
    }

    #[tokio::test]
    async fn a_request_in_flight_ends_and_then_the_server_does() {
        let mut server = start(Limits::default()).await;
        let asked = ask(&server, "/slow");
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.stop.cancel();
        };
        let (answer, ()) = tokio::join!(asked, stop);
        assert!(answer.unwrap().ends_with("slow"));
        let begun = Instant::now();
        server.serving.join_next().await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert!(ask(&server, "/").await.is_err(), "nothing listens any more");
    }
}
