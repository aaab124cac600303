//! A network between two that talk by TCP, which can be broken on purpose.
//!
//! It passes bytes both ways. Told to, it stops passing them while both connections stay open (a cable that is
//! out, a firewall that drops), passes them slowly, closes everything, or closes each connection after
//! some bytes more, which is in the middle of a message as a rule.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Between two looks at what it is told to do.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes passed at once at most.
const PIECE: usize = 64 << 10;

/// The network. Dropping it closes all connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    end: AtomicBool,
    /// Nothing passes.
    held: AtomicBool,
    /// New connections are closed at once.
    refuses: AtomicBool,
    /// Bytes a second of each direction of a connection; 0: as fast as it goes.
    rate: AtomicU64,
    /// Bytes after which each connection is closed; 0: never.
    cut_after: AtomicU64,
    /// Bytes passed, of all connections and both directions.
    passed: AtomicU64,
    /// Both ends of each connection that is open, by its number.
    open: Mutex<HashMap<u64, [TcpStream; 2]>>,
    /// Connections so far.
    count: AtomicU64,
}

impl State {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Listens on a port of 127.0.0.1 and passes what comes to `to`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("the proxy's port")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("proxy".into());
        let accepts = thread.spawn(move || accept(&listener, to, &own))?;
        Ok(Proxy {
            port,
            state,
            threads: vec![accepts],
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that have passed, of all connections and both ways.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// Nothing passes any more, and nobody is told; or it goes on where it was.
    pub fn hold(&self, held: bool) {
        self.state.held.store(held, Ordering::Relaxed);
    }

    /// New connections are closed at once, or taken again.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::Relaxed);
    }

    /// So many bytes a second each way of each connection; 0: as fast as it goes.
    pub fn slow(&self, bytes: u64) {
        self.state.rate.store(bytes, Ordering::Relaxed);
    }

    /// Closes all connections that are open.
    pub fn cut(&self) {
        for (_, ends) in self.state.open().drain() {
            for end in ends {
                // One that is closed already is what is wanted.
                end.shutdown(Shutdown::Both).ok();
            }
        }
    }

    /// Closes each connection when so many bytes more have passed one way; 0: no more.
    pub fn cut_after(&self, bytes: u64) {
        self.state.cut_after.store(bytes, Ordering::Relaxed);
    }

    /// Passes everything again.
    pub fn mend(&self) {
        self.hold(false);
        self.refuse(false);
        self.slow(0);
        self.cut_after(0);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.end.store(true, Ordering::Relaxed);
        self.cut();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, to: SocketAddr, state: &Arc<State>) {
    while !state.end.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                if state.refuses.load(Ordering::Relaxed) {
                    continue;
                }
                // Who cannot be connected is told by the end of its connection.
                drop(connect(client, to, state));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn connect(client: TcpStream, to: SocketAddr, state: &Arc<State>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(to)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    }
    let ways = [
        (client.try_clone()?, server.try_clone()?),
        (server.try_clone()?, client.try_clone()?),
    ];
    let number = state.count.fetch_add(1, Ordering::Relaxed);
    state.open().insert(number, [client, server]);
    for (from, to) in ways {
        let state = Arc::clone(state);
        let pass = move || {
            pass(from, to, &state);
            // What stays open here would be a file too many after some thousand connections.
            state.open().remove(&number);
        };
        // It ends with its connection, which the proxy closes when it is dropped.
        drop(
            std::thread::Builder::new()
                .name("proxy way".into())
                .spawn(pass)?,
        );
    }
    Ok(())
}

/// Passes one way of a connection until it is closed.
fn pass(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut piece = vec![0; PIECE];
    let mut left: Option<u64> = None;
    while !state.end.load(Ordering::Relaxed) {
        if state.held.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            continue;
        }
        let cut_after = state.cut_after.load(Ordering::Relaxed);
        let mut most = PIECE;
        if cut_after == 0 {
            left = None;
        } else {
            let left = left.get_or_insert(cut_after);
            most = most.min(usize::try_from(*left).unwrap_or(PIECE));
        }
        let rate = state.rate.load(Ordering::Relaxed);
        if rate > 0 {
            most = most.min(usize::try_from(rate / 50).unwrap_or(PIECE).max(1));
        }
        let since = Instant::now();
        let Some(room) = piece.get_mut(..most) else {
            break;
        };
        let count = match from.read(room) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        // What was read when it was held is not passed before it is not.
        while state.held.load(Ordering::Relaxed) && !state.end.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        if room
            .get(..count)
            .is_none_or(|bytes| to.write_all(bytes).is_err())
        {
            break;
        }
        state.passed.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(left) = &mut left {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                break;
            }
        }
        if rate > 0 {
            let due = Duration::from_secs_f64(count as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(since.elapsed()));
        }
    }
    // The other end is told, and so is the other way.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
