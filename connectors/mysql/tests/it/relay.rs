//! A relay in front of a server of MariaDB that says it is one of MySQL: it notes every statement as it
//! was sent, and puts the few words that only MySQL understands into MariaDB's.
//!
//! A packet is three octets of length, a number and so many octets; a command begins a new count of
//! numbers. <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;

/// What stands between.
pub(crate) struct Relay {
    pub(crate) port: u16,
    told: Arc<Mutex<Vec<String>>>,
    _work: JoinSet<()>,
}

impl Relay {
    /// Listens for connections to the server at `to`, whose statements go through `words`.
    pub(crate) async fn start(to: u16, words: fn(&str) -> String) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&told);
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                for end in [&client, &server] {
                    end.set_nodelay(true).unwrap();
                }
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                connections.spawn(async move {
                    tokio::io::copy(&mut from_server, &mut to_client)
                        .await
                        .map(drop)
                });
                connections.spawn(forward(from_client, to_server, Arc::clone(&noted), words));
            }
        });
        Relay {
            port,
            told,
            _work: work,
        }
    }

    /// All statements so far.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// Passes a client's packets on until it or the server is gone.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    told: Arc<Mutex<Vec<String>>>,
    words: fn(&str) -> String,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head).await?;
        let [a, b, c, number] = head;
        let mut body = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        from.read_exact(&mut body).await?;
        let command = body.first().copied().filter(|_| number == 0);
        if let Some(command @ (COM_QUERY | COM_STMT_PREPARE)) = command {
            let text = std::str::from_utf8(&body[1..]).unwrap();
            told.lock().unwrap().push(text.to_owned());
            let said = words(text);
            body = [&[command], said.as_bytes()].concat();
        }
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        let packet = [&[len[0], len[1], len[2], number], body.as_slice()].concat();
        to.write_all(&packet).await?;
    }
}
