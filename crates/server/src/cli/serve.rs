//! `thalweg serve`: opens the state, serves until a signal, and ends in order.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use thalweg_control::model::FirstStart;
use thalweg_control::{App, OpenOptions, TOKEN_LIFE};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::ServeArgs;
use crate::config::Config;
use crate::{connectors, http, telemetry};

/// How long tasks may take to end their batch in flight.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// How long calls may take that nobody waits for any more.
const CALLS_TIME_MAX: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT. The text of an error is for the person who started the server.
pub(crate) async fn run(args: ServeArgs) -> Result<(), String> {
    let config = Config::load(args.settings, args.config.as_deref()).map_err(|e| e.to_string())?;
    telemetry::start(&config)?;
    // Before the state is touched: a second server with the same address ends here.
    let listener = bind(&config.listen).await?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let tls = config.tls.map(http::Tls::open).transpose()?.map(Arc::new);
    if tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "listening beyond this machine without TLS: give --tls-cert and --tls-key, or put a proxy with \
             TLS in front, which has to leave the headers Host and User-Agent as they are"
        );
    }
    let signals = Signals::watch()?;
    let opened = App::open(OpenOptions {
        data: config.data.clone(),
        key_file: config.key_file.clone(),
        connectors: connectors::all(),
        networks: config.networks.clone(),
        quotas: config.quotas,
        zone: config.time_zone,
        token_life: TOKEN_LIFE,
        announce: |first| print(&introduce(first)),
    });
    let (app, _) = opened.await.map_err(|error| error.to_string())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    print(&format!("listening {scheme}://{address}\n"))?;
    tracing::info!(%address, data = %config.data.display(), "serving");
    let stop = CancellationToken::new();
    let limits = http::Limits::default();
    let gate = Arc::new(http::Gate::new(config.gate));
    let serving = http::serve(
        listener,
        http::router(&app, &gate),
        limits,
        tls,
        stop.clone(),
    );
    tokio::join!(serving, signals.forward(stop));
    tracing::info!("stopping");
    // Calls whose callers are gone.
    gate.calls.close();
    if tokio::time::timeout(CALLS_TIME_MAX, gate.calls.wait())
        .await
        .is_err()
    {
        tracing::warn!("a call was given up");
    }
    app.shutdown(SHUTDOWN_TIME_MAX).await;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(listen: &str) -> Result<TcpListener, String> {
    TcpListener::bind(listen).await.map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or choose another address",
            io::ErrorKind::PermissionDenied => "choose a port above 1023, or another address",
            _ => "give an address of this machine, such as 127.0.0.1:8080",
        };
        format!("cannot listen on {listen}: {error}; {fix} with --listen")
    })
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> Result<Self, String> {
        let watch =
            |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
        Ok(Signals {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    /// Cancels `stop` at the first of them, also one that came before the call.
    async fn forward(mut self, stop: CancellationToken) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        stop.cancel();
    }
}

/// What the first start made, one word and its value a line.
fn introduce(first: &FirstStart) -> String {
    let lines = [
        ("project", first.project.as_str()),
        ("instance", &first.instance),
        ("domain", &first.domain),
        ("user", &first.user),
        ("password", first.password.expose()),
        ("ak", &first.ak),
        ("sk", first.sk.expose()),
    ];
    let mut text = String::from("first start: these are shown once, keep them\n");
    for (word, value) in lines {
        text.push_str(&format!("{word:<10}{value}\n"));
    }
    text
}

/// On standard output, which a caller may read as a pipe: flushed, and a failure is one.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}
