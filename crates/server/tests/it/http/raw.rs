//! HTTP by hand: what no well-behaved client would send must be sendable.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request as it goes over the wire.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query, encoded.
    pub(super) target: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// Whether to send the body in chunks instead of with its length.
    pub(super) chunked: bool,
}

impl Request {
    pub(super) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
            chunked: false,
        }
    }

    /// With a header, instead of one of the same name.
    pub(super) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .retain(|(old, _)| !old.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// With a body that says it is JSON.
    pub(super) fn json(self, body: impl AsRef<[u8]>) -> Self {
        let mut request = self.header("Content-Type", "application/json;charset=utf-8");
        request.body = body.as_ref().to_vec();
        request
    }

    /// Sends it and reads the answer.
    pub(super) fn send(&self, address: &str) -> Result<Answer, String> {
        let io = |error: std::io::Error| format!("no answer: {error}");
        let mut stream = TcpStream::connect(address).map_err(io)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(io)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(io)?;
        // A server that refuses early may close before all is written: its answer counts.
        let written = stream.write_all(&self.bytes(address));
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        if bytes.is_empty() {
            return Err(format!("no answer: {written:?} {read:?}"));
        }
        Answer::parse(&bytes)
    }

    fn bytes(&self, address: &str) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let has = |name: &str| self.headers.iter().any(|h| h.0.eq_ignore_ascii_case(name));
        let mut head = String::from("Connection: close\r\n");
        if !has("Host") {
            write!(head, "Host: {address}\r\n").unwrap();
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !has("Content-Length") && (self.method != "GET" || !self.body.is_empty()) {
            write!(head, "Content-Length: {}\r\n", self.body.len()).unwrap();
        }
        out.extend(head.bytes());
        for (name, value) in &self.headers {
            out.extend(format!("{name}: ").bytes());
            out.extend(value);
            out.extend(b"\r\n");
        }
        out.extend(b"\r\n");
        if self.chunked {
            for chunk in self.body.chunks(64 << 10) {
                out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
        } else {
            out.extend(&self.body);
        }
        out
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let lossy = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| format!("no end of the headers: {}", lossy()))?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let mut answer = Self {
            status: status.ok_or_else(|| format!("no status: {}", lossy()))?,
            headers: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().into()))
                .collect(),
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body).ok_or("broken chunks")?;
        } else if answer
            .header("content-length")
            .is_some_and(|length| length != answer.body.len().to_string())
        {
            return Err(format!("cut short or too long: {}", answer.short()));
        }
        Ok(answer)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` if it is none.
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// For messages.
    pub(super) fn short(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let body: String = body.chars().take(300).collect();
        format!("{} {body}", self.status)
    }
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let length = std::str::from_utf8(&bytes[..end]).ok()?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(out);
        }
        out.extend(bytes.get(end + 2..end + 2 + length)?);
        bytes = bytes.get(end + 4 + length..)?;
    }
}
