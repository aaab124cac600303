//! Throwaway database servers for tests, the demo and the benchmarks.
//!
//! Each server is a real one (`mariadbd`, `postgres`) started as a child process on a free port of
//! 127.0.0.1, with its own data directory below the system's temporary directory. Nothing is
//! installed, nothing is shared with a server of the machine, and nothing is left behind:
//!
//! - the data directory is a copy of a template that is made once per machine, server version and
//!   account (a file lock makes the others wait), so a start costs well under a second;
//! - when we run as root, the server runs as an unprivileged account (`postgres` or `mysql` where
//!   they exist, else `nobody`), because PostgreSQL refuses root and MariaDB should;
//! - a start returns when a client has logged in *and* the answer came from our own data
//!   directory, so a stranger on the same port can never be mistaken for our server;
//! - dropping the value kills the server and removes its directory. If the test process itself is
//!   killed, the kernel kills the server (`setpriv --pdeathsig`, where available), and the next start
//!   of any throwaway server sweeps the directory away.
//!
//! The API blocks (no runtime is needed) and takes `&self`, so a server can be shared by threads
//! and killed from one while another uses it. SQL for the set-up goes through the servers' own
//! command-line clients; this crate needs no driver.
//!
//! ```no_run
//! use thalweg_testkit::servers::{MariaDb, MariaDbOptions};
//! # fn main() -> anyhow::Result<()> {
//! let source = MariaDb::start(MariaDbOptions::default())?;
//! source.sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY)")?;
//! source.kill()?; // SIGKILL, as a power cut would leave the files
//! source.restart()?; // the same port, the same data
//! # Ok(())
//! # }
//! ```

mod mariadb;
mod postgres;
pub(crate) mod process;
mod system;

pub use mariadb::{MariaDb, MariaDbOptions};
pub use postgres::{POSTGRES_BIN, Postgres, PostgresOptions};
pub use process::send_signal;
pub use system::{Account, Place, Server, System};
