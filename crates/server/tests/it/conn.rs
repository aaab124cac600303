//! A connection to a database of either kind, for those who use a source or look at a target.

use anyhow::{Context as _, Result, anyhow};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Opts, OptsBuilder};
use thalweg_testkit::servers::{Place, System};
use tokio::task::JoinSet;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// The errors that ask for another try: deadlock, lock wait, a row someone else has changed.
const MARIADB_AGAIN: [u16; 3] = [1213, 1205, 1020];
const POSTGRES_AGAIN: [&str; 2] = ["40P01", "40001"];

/// One connection as the superuser.
pub(crate) enum Conn {
    MariaDb(mysql_async::Conn),
    /// With the task that does the talking, which ends with the connection.
    Postgres(
        tokio_postgres::Client,
        #[expect(dead_code, reason = "owned only")] JoinSet<()>,
    ),
}

impl Conn {
    /// Connects, inside a runtime.
    pub(crate) async fn open(place: &Place) -> Result<Self> {
        let server = &place.server;
        match place.system() {
            System::MariaDb => {
                let opts = OptsBuilder::default()
                    .ip_or_hostname(server.host())
                    .tcp_port(server.port())
                    .user(Some(server.user()))
                    .pass(Some(server.password()))
                    .db_name(Some(&place.database))
                    .prefer_socket(false);
                let conn = mysql_async::Conn::new(Opts::from(opts)).await?;
                Ok(Conn::MariaDb(conn))
            }
            System::Postgres => {
                let mut config = tokio_postgres::Config::new();
                config
                    .host(server.host())
                    .port(server.port())
                    .user(server.user())
                    .password(server.password())
                    .dbname(&place.database);
                let (client, connection) = config.connect(NoTls).await?;
                let mut task = JoinSet::new();
                // Its error reaches the client as well.
                task.spawn(async move { drop(connection.await) });
                Ok(Conn::Postgres(client, task))
            }
        }
    }

    /// The server's kind.
    pub(crate) fn system(&self) -> System {
        match self {
            Conn::MariaDb(_) => System::MariaDb,
            Conn::Postgres(..) => System::Postgres,
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(crate) async fn change(&mut self, sql: &str) -> Result<u64> {
        match self {
            Conn::MariaDb(conn) => {
                conn.query_drop(sql).await?;
                Ok(conn.affected_rows())
            }
            Conn::Postgres(client, _) => {
                let mut changed = 0;
                for message in client.simple_query(sql).await? {
                    if let SimpleQueryMessage::CommandComplete(rows) = message {
                        changed = rows;
                    }
                }
                Ok(changed)
            }
        }
    }

    /// The first row a query gives, each column as text.
    pub(crate) async fn first(&mut self, sql: &str) -> Result<Option<Vec<Option<String>>>> {
        match self {
            Conn::MariaDb(conn) => {
                let row: Option<mysql_async::Row> = conn.query_first(sql).await?;
                row.map(|row| {
                    (0..row.len())
                        .map(|index| {
                            row.get::<Option<String>, _>(index)
                                .context("no such column")
                        })
                        .collect()
                })
                .transpose()
            }
            Conn::Postgres(client, _) => {
                let messages = client.simple_query(sql).await?;
                Ok(messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(
                        (0..row.len())
                            .map(|index| row.get(index).map(|text| text.trim_end().to_owned()))
                            .collect(),
                    ),
                    _ => None,
                }))
            }
        }
    }

    /// The number in the first row's first column; `None` if there is no row, or it is NULL.
    pub(crate) async fn number(&mut self, sql: &str) -> Result<Option<i64>> {
        let row = self.first(sql).await?;
        let text = row.and_then(|row| row.into_iter().next().flatten());
        text.map(|text| text.parse().map_err(|_| anyhow!("not a number: {text:?}")))
            .transpose()
    }
}

/// Whether an error of a statement asks for another try.
pub(crate) fn asks_again(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<mysql_async::Error>() {
        Some(mysql_async::Error::Server(error)) => return MARIADB_AGAIN.contains(&error.code),
        Some(_) => return false,
        None => {}
    }
    let code = error.downcast_ref::<tokio_postgres::Error>();
    code.and_then(tokio_postgres::Error::code)
        .is_some_and(|code| POSTGRES_AGAIN.contains(&code.code()))
}
