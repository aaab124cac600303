//! A connection that can do what the driver cannot: `CopyBoth`, and rows whose declared length is
//! compared with a limit before they are read.
//!
//! Only simple queries. The reading half is cancel-safe: what has arrived stays in the buffer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Result, Side};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frame::{self, Refusal, tag};
use super::{Buf, Malformed};
use crate::config::addresses;
use crate::error::{broken, refused};
use crate::tls;

/// Read at once, and what a buffer that held a large row shrinks back to.
const READ_BYTES: usize = 256 * 1024;
/// Longest message but for rows.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Plain or encrypted.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(socket) => Pin::new(socket.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Socket::Tls(socket) => Pin::new(socket.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket.as_mut()).poll_shutdown(cx),
        }
    }
}

/// A logged-in session.
pub(crate) struct Connection {
    incoming: Incoming,
    outgoing: Outgoing,
    /// The server's process, to be cancelled or ended by another session.
    pub(crate) pid: u32,
}

/// Where messages come from.
pub(crate) struct Incoming {
    socket: ReadHalf<Socket>,
    buffer: BytesMut,
    /// Bytes of the message that was given last.
    given: usize,
}

/// Where messages go.
pub(crate) struct Outgoing {
    socket: WriteHalf<Socket>,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Ordinary statements.
    Sql,
    /// Replication commands; ordinary statements work too.
    Replication,
}

/// Why a message could not be had.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection is gone.
    Io(io::Error),
    Malformed(Malformed),
    /// A message of this type is declared longer than allowed. Its beginning has been read.
    TooLong,
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Failure::Malformed(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(error) => broken().caused_by(error),
            Failure::Malformed(error) => error.into(),
            Failure::TooLong => Error::from(Malformed("a message is longer than any should be")),
        }
    }
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Error::config(format!("PostgreSQL sent what we cannot read: {error}"))
            .with_hint(
                "is it PostgreSQL 11 or newer, with nothing between that changes the protocol? If \
                 so, report it",
            )
            .at(Side::Source)
    }
}

impl Incoming {
    /// The next message: its type and its body, which may have at most `max` bytes. Cancel-safe.
    pub(crate) async fn message(
        &mut self,
        max: usize,
    ) -> std::result::Result<(u8, &[u8]), Failure> {
        self.forget();
        let (tag, len) = loop {
            if let Some((tag, len)) = frame::head(&self.buffer)? {
                // Enough to tell of what it is before it is refused.
                let enough = if len > max { len.min(64) } else { len };
                if self.buffer.len() >= frame::HEAD + enough {
                    if len > max {
                        return Err(Failure::TooLong);
                    }
                    break (tag, len);
                }
                let missing = frame::HEAD + enough - self.buffer.len();
                self.buffer.reserve(missing.max(READ_BYTES));
            } else {
                self.buffer.reserve(READ_BYTES);
            }
            let read = self.socket.read_buf(&mut self.buffer).await;
            if read.map_err(Failure::Io)? == 0 {
                return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        self.given = frame::HEAD + len;
        let body = self.buffer.get(frame::HEAD..self.given);
        Ok((tag, body.unwrap_or_default()))
    }

    /// The beginning of a message that was refused as too long.
    pub(crate) fn beginning(&self) -> &[u8] {
        self.buffer.get(frame::HEAD..).unwrap_or_default()
    }

    /// Drops the message that was given last, and the memory of an unusually long one. The next
    /// message does so too, but until then a long one would be held beside what was made of it.
    pub(crate) fn forget(&mut self) {
        let long = self.given > 4 * READ_BYTES;
        self.buffer.advance(std::mem::take(&mut self.given));
        if long && self.buffer.len() <= READ_BYTES {
            self.buffer = BytesMut::from(self.buffer.as_ref());
        } else if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ_BYTES {
            self.buffer = BytesMut::new();
        }
    }
}

impl Outgoing {
    /// Sends it all.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.socket.flush().await
    }
}

impl Connection {
    /// Connects and logs in within the configuration's timeout. The session is not pinned yet.
    pub(crate) async fn open(
        config: &DataSourceConfig,
        name: &str,
        purpose: Purpose,
    ) -> Result<Connection> {
        let place = format!(
            "could not connect to PostgreSQL at {}:{}",
            config.host, config.port
        );
        let opening = Box::pin(login(config, name, purpose));
        tokio::time::timeout(config.timeout, opening)
            .await
            .unwrap_or_else(|_| Err(Error::transient("no answer within the time limit")))
            .map_err(|error| error.context(place).at(Side::Source))
    }

    /// The next message, but for notices and changes of settings.
    async fn next(&mut self, max: usize) -> Result<(u8, &[u8])> {
        loop {
            let (tag, _) = self.incoming.message(max).await?;
            if tag == b'N' || tag == b'A' || tag == tag::PARAMETER_STATUS {
                continue;
            }
            break;
        }
        // Given once more, because a borrow cannot leave a loop.
        let given = self.incoming.given;
        let head = self.incoming.buffer.first().copied().unwrap_or_default();
        let body = self.incoming.buffer.get(frame::HEAD..given);
        Ok((head, body.unwrap_or_default()))
    }

    /// Sends statements without waiting.
    async fn ask(&mut self, sql: &str) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|e| Error::bug("a statement").caused_by(e))?;
        self.outgoing
            .send(&out)
            .await
            .map_err(|error| broken().caused_by(error))
    }

    /// Runs statements and gives the rows of all of them as text.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.ask(sql).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let (tag, body) = self.next(MESSAGE_BYTES_MAX).await?;
            match tag {
                tag::DATA_ROW => rows.push(frame::data_row(body)?),
                tag::ERROR => failed = Some(Refusal::parse(body)?),
                tag::READY => {
                    return match failed {
                        Some(refusal) => Err(refused(&refusal)),
                        None => Ok(rows),
                    };
                }
                _ => {}
            }
        }
    }

    /// Starts a `COPY … TO STDOUT`; its data comes from [`Incoming::message`].
    pub(crate) async fn copy_out(self, sql: &str) -> Result<(Incoming, Outgoing)> {
        self.start(sql, tag::COPY_OUT).await
    }

    /// Starts replication.
    pub(crate) async fn copy_both(self, sql: &str) -> Result<(Incoming, Outgoing)> {
        self.start(sql, tag::COPY_BOTH).await
    }

    async fn start(mut self, sql: &str, wanted: u8) -> Result<(Incoming, Outgoing)> {
        self.ask(sql).await?;
        loop {
            let (tag, body) = self.next(MESSAGE_BYTES_MAX).await?;
            match tag {
                tag if tag == wanted => return Ok((self.incoming, self.outgoing)),
                tag::ERROR => return Err(refused(&Refusal::parse(body)?)),
                tag::READY => return Err(Malformed("no data where data was asked for").into()),
                _ => {}
            }
        }
    }
}

async fn login(config: &DataSourceConfig, name: &str, purpose: Purpose) -> Result<Connection> {
    let socket = dial(config).await?;
    let encrypted = matches!(socket, Socket::Tls(_));
    let (read, write) = tokio::io::split(socket);
    let mut connection = Connection {
        incoming: Incoming {
            socket: read,
            buffer: BytesMut::with_capacity(READ_BYTES),
            given: 0,
        },
        outgoing: Outgoing { socket: write },
        pid: 0,
    };
    let mut parameters = vec![
        ("user", config.user.as_str()),
        ("database", config.database.as_str()),
        ("application_name", name),
        ("client_encoding", "UTF8"),
    ];
    if purpose == Purpose::Replication {
        parameters.push(("replication", "database"));
    }
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)
        .map_err(|e| Error::config("a name of the data source has a zero byte").caused_by(e))?;
    connection.send(&out).await?;
    connection.authenticate(config, encrypted).await?;
    loop {
        let (tag, body) = connection.next(MESSAGE_BYTES_MAX).await?;
        match tag {
            tag::BACKEND_KEY_DATA => {
                let pid = Buf(body).u32()?;
                connection.pid = pid;
            }
            tag::ERROR => return Err(crate::error::not_connected(&Refusal::parse(body)?, config)),
            tag::READY => return Ok(connection),
            _ => {}
        }
    }
}

/// Connects, with TLS if both sides want it.
async fn dial(config: &DataSourceConfig) -> Result<Socket> {
    let mode = tls::mode(config)?;
    let addresses = addresses(config).await?.into_iter();
    let addresses: Vec<_> = addresses
        .map(|address| SocketAddr::new(address, config.port))
        .collect();
    let mut socket = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| {
            Error::transient("PostgreSQL does not answer")
                .with_hint("start the server, or correct the data source's host and port")
                .caused_by(error)
        })?;
    let options = socket2::SockRef::from(&socket);
    let alive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(10));
    let set = socket
        .set_nodelay(true)
        .and_then(|()| options.set_tcp_keepalive(&alive));
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| options.set_tcp_user_timeout(Some(Duration::from_secs(30))));
    set.map_err(|error| Error::transient("a socket could not be set up").caused_by(error))?;
    if mode == SslMode::Disable {
        return Ok(Socket::Plain(socket));
    }
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    let mut answer = [0];
    let asked = async {
        socket.write_all(&out).await?;
        socket.read_exact(&mut answer).await
    };
    asked.await.map_err(|error| broken().caused_by(error))?;
    match (answer, mode) {
        ([b'S'], _) => {}
        ([b'N'], SslMode::Prefer) => return Ok(Socket::Plain(socket)),
        ([b'N'], _) => return Err(tls::not_offered()),
        _ => return Err(Malformed("no answer to the question for TLS").into()),
    }
    let name = ServerName::try_from(config.host.clone())
        .map_err(|e| Error::config("the data source's host is no name").caused_by(e))?;
    let client = TlsConnector::from(Arc::new(tls::client(&config.tls)?));
    match client.connect(name, socket).await {
        Ok(socket) => Ok(Socket::Tls(Box::new(socket))),
        Err(error) => Err(tls::failed(&error).unwrap_or_else(|| broken().caused_by(error))),
    }
}

impl Connection {
    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.outgoing.send(bytes).await;
        sent.map_err(|error| broken().caused_by(error))
    }

    /// Answers what the server asks for until it says that we are in.
    async fn authenticate(&mut self, config: &DataSourceConfig, encrypted: bool) -> Result<()> {
        let password = config.password.expose();
        let mut scram: Option<ScramSha256> = None;
        let other = || {
            Error::config("cannot log in to PostgreSQL: it asks for a method we do not have")
                .with_hint("set scram-sha-256 as the method in the server's pg_hba.conf")
        };
        let failed = |error: io::Error| {
            Error::config("the login failed: this is not the server the password belongs to")
                .with_hint("correct the data source's password, host and port")
                .caused_by(error)
        };
        loop {
            let (tag, body) = self.next(MESSAGE_BYTES_MAX).await?;
            if tag == tag::ERROR {
                return Err(crate::error::not_connected(&Refusal::parse(body)?, config));
            }
            if tag != tag::AUTHENTICATION {
                return Err(Malformed("something else than a login").into());
            }
            let mut buf = Buf(body);
            let mut out = BytesMut::new();
            let made = match buf.u32()? {
                0 => return Ok(()),
                3 => {
                    if !encrypted && !tls::may_be_plain(config) {
                        return Err(other());
                    }
                    frontend::password_message(password.as_bytes(), &mut out)
                }
                5 => {
                    let hash = md5_hash(config.user.as_bytes(), password.as_bytes(), buf.array()?);
                    frontend::password_message(hash.as_bytes(), &mut out)
                }
                10 => {
                    let mut known = false;
                    loop {
                        match buf.cstr()? {
                            b"" => break,
                            name => known |= name == sasl::SCRAM_SHA_256.as_bytes(),
                        }
                    }
                    if !known {
                        return Err(other());
                    }
                    let begun =
                        ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    let begun = scram.insert(begun);
                    frontend::sasl_initial_response(sasl::SCRAM_SHA_256, begun.message(), &mut out)
                }
                11 => {
                    let scram = scram.as_mut().ok_or_else(other)?;
                    scram.update(buf.0).map_err(failed)?;
                    frontend::sasl_response(scram.message(), &mut out)
                }
                12 => {
                    let scram = scram.as_mut().ok_or_else(other)?;
                    scram.finish(buf.0).map_err(failed)?;
                    continue;
                }
                _ => return Err(other()),
            };
            made.map_err(|e| Error::config("the password has a zero byte").caused_by(e))?;
            self.send(&out).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::Kind;
    use thalweg_core::networks::Networks;
    use thalweg_core::secret::Secret;

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_not_allowed_is_not_dialled() {
        let nobody = DataSourceConfig {
            host: "localhost".into(),
            port: 1,
            database: String::new(),
            user: String::new(),
            password: Secret::new(""),
            tls: Default::default(),
            allow_cleartext_password: false,
            timeout: Duration::from_secs(10),
            server_id: None,
            application_name: String::new(),
            networks: Arc::new(Networks::new(&[], &["127.0.0.0/8", "::1"]).unwrap()),
        };
        let dialled = Connection::open(&nobody, "test", Purpose::Sql).await;
        let error = dialled.err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{}", error.chain());
    }
}
