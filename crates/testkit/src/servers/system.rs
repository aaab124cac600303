//! Either kind of server behind one face, for proofs that run between any two of them.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::{MariaDb, MariaDbOptions, Postgres, PostgresOptions, process};

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    /// MariaDB.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

impl System {
    /// All of them.
    pub const ALL: [System; 2] = [System::MariaDb, System::Postgres];

    /// Quotes an identifier.
    pub fn quote(self, name: &str) -> String {
        let mark = match self {
            System::MariaDb => '`',
            System::Postgres => '"',
        };
        let double: String = [mark, mark].iter().collect();
        format!("{mark}{}{mark}", name.replace(mark, &double))
    }

    /// Quotes `schema.table`; the schema ends at the first dot, so a table's name may hold more.
    pub fn quote_table(self, table: &str) -> String {
        match table.split_once('.') {
            Some((schema, name)) => format!("{}.{}", self.quote(schema), self.quote(name)),
            None => self.quote(table),
        }
    }

    /// A text as a literal, under the settings servers start with.
    pub fn literal(self, text: &str) -> String {
        let text = match self {
            System::MariaDb => text.replace('\\', "\\\\"),
            System::Postgres => text.to_owned(),
        };
        format!("'{}'", text.replace('\'', "''"))
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            System::MariaDb => "mariadb",
            System::Postgres => "postgres",
        })
    }
}

impl FromStr for System {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match System::ALL.iter().find(|one| one.to_string() == text) {
            Some(system) => Ok(*system),
            None => bail!("{text:?} is none of mariadb and postgres"),
        }
    }
}

/// A running private server of either kind; see the [module](super) for what that means.
#[derive(Debug)]
pub enum Server {
    /// MariaDB.
    MariaDb(MariaDb),
    /// PostgreSQL.
    Postgres(Postgres),
}

/// Calls the method of the same name of whichever server it is.
macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Server::MariaDb(server) => server.$method($($argument),*),
            Server::Postgres(server) => server.$method($($argument),*),
        }
    };
}

impl Server {
    /// Starts one as it is by default: usable as a source and as a target.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(system: System) -> Result<Self> {
        Ok(match system {
            System::MariaDb => Server::MariaDb(MariaDb::start(MariaDbOptions::default())?),
            System::Postgres => Server::Postgres(Postgres::start(PostgresOptions::default())?),
        })
    }

    /// Its kind.
    pub fn system(&self) -> System {
        match self {
            Server::MariaDb(_) => System::MariaDb,
            Server::Postgres(_) => System::Postgres,
        }
    }

    /// The address to connect to.
    pub fn host(&self) -> &'static str {
        either!(self.host())
    }

    /// The port; it stays the same over [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        either!(self.port())
    }

    /// Who may do everything.
    pub fn user(&self) -> &'static str {
        either!(self.user())
    }

    /// The password of [`user`](Self::user).
    pub fn password(&self) -> &str {
        either!(self.password())
    }

    /// The directory with its data, which belongs to the account it runs as.
    pub fn data_dir(&self) -> PathBuf {
        either!(self.data_dir())
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        either!(self.pid())
    }

    /// The last lines of its own log, for the message of a failed test.
    pub fn log_tail(&self) -> String {
        either!(self.log_tail())
    }

    /// Runs statements as the superuser, outside any database of ours; the rows, one a line.
    ///
    /// # Errors
    /// What the server said about the first statement that failed.
    pub fn sql(&self, sql: &str) -> Result<String> {
        either!(self.sql(sql))
    }

    /// Like [`sql`](Self::sql), in `database`.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        either!(self.sql_in(database, sql))
    }

    /// Asks it to shut down, and waits.
    ///
    /// # Errors
    /// When it has not ended within the deadline; it is killed then.
    pub fn stop(&self) -> Result<()> {
        either!(self.stop())
    }

    /// SIGKILL. Committed transactions survive in the files, nothing else is promised.
    ///
    /// # Errors
    /// None now.
    pub fn kill(&self) -> Result<()> {
        either!(self.kill())
    }

    /// Stops it if it runs, and starts it on the same port and data.
    ///
    /// # Errors
    /// When it does not stop, start or answer within the deadline.
    pub fn restart(&self) -> Result<()> {
        either!(self.restart())
    }
}

/// Who logs in, and with what.
#[derive(Clone)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A database of a running server: one end of a pair. Its tables are in the database itself
/// (MariaDB) or in its schema `public` (PostgreSQL).
#[derive(Debug, Clone)]
pub struct Place {
    /// The server.
    pub server: Arc<Server>,
    /// The database.
    pub database: String,
}

impl Place {
    /// Starts a server and makes the database.
    ///
    /// # Errors
    /// When either fails.
    pub fn start(system: System, database: &str) -> Result<Self> {
        Self::create(Arc::new(Server::start(system)?), database)
    }

    /// Makes the database in a running server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create(server: Arc<Server>, database: &str) -> Result<Self> {
        let name = server.system().quote(database);
        server.sql(&match server.system() {
            System::MariaDb => format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"),
            System::Postgres => format!("CREATE DATABASE {name}"),
        })?;
        let database = database.to_owned();
        Ok(Self { server, database })
    }

    /// The kind of its server.
    pub fn system(&self) -> System {
        self.server.system()
    }

    /// Runs statements in it as the superuser; the rows, one a line, columns separated by tabs.
    ///
    /// # Errors
    /// What the server said about the first statement that failed; the later ones are not run.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.server.sql_in(&self.database, sql)
    }

    /// The schema its tables are in, as the API names it.
    pub fn schema(&self) -> &str {
        match self.system() {
            System::MariaDb => &self.database,
            System::Postgres => "public",
        }
    }

    /// A table of it as the API names it, `schema.table`.
    pub fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.schema())
    }

    /// An account with what the README says a source needs. To be called when the tables are there.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn source_account(&self) -> Result<Account> {
        let name = self.system().quote(&self.database);
        self.account(
            "thalweg_reader",
            &match self.system() {
                System::MariaDb => format!(
                    "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {{user}}; \
                     GRANT SELECT ON {name}.* TO {{user}};"
                ),
                // The publication is the task's own, and only the owner of a table may publish it.
                System::Postgres => format!(
                    "ALTER USER {{user}} REPLICATION; \
                     GRANT CREATE ON DATABASE {name} TO {{user}}; \
                     GRANT USAGE ON SCHEMA public TO {{user}}; \
                     GRANT SELECT ON ALL TABLES IN SCHEMA public TO {{user}}; \
                     GRANT postgres TO {{user}};"
                ),
            },
        )
    }

    /// An account with what the README says a target needs whose tables the task creates.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn target_account(&self) -> Result<Account> {
        let name = self.system().quote(&self.database);
        self.account(
            "thalweg_writer",
            &match self.system() {
                System::MariaDb => format!(
                    "GRANT ALL ON thalweg.* TO {{user}}; \
                     GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES, CREATE, ALTER, \
                     INDEX, REFERENCES ON {name}.* TO {{user}};"
                ),
                System::Postgres => format!(
                    "GRANT CREATE ON DATABASE {name} TO {{user}}; \
                     GRANT USAGE, CREATE ON SCHEMA public TO {{user}};"
                ),
            },
        )
    }

    /// Makes an account once; `{user}` stands for it in the grants.
    fn account(&self, user: &str, grants: &str) -> Result<Account> {
        let password = process::random_password();
        let (create, name) = match self.system() {
            System::MariaDb => (
                format!("CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY '{password}';"),
                format!("{user}@'%'"),
            ),
            System::Postgres => (
                format!("CREATE USER {user} PASSWORD '{password}';"),
                user.to_owned(),
            ),
        };
        self.sql(&(create + &grants.replace("{user}", &name)))?;
        Ok(Account {
            user: user.to_owned(),
            password,
        })
    }

    /// The command-line client, logged in as the superuser.
    pub(crate) fn client(&self) -> Command {
        match self.server.as_ref() {
            Server::MariaDb(server) => server.client(Some(&self.database)),
            Server::Postgres(server) => server.client(&self.database),
        }
    }
}
