//! A private PostgreSQL server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::{self, Account, Process, RunDir, command, find_binary};

const MISSING: &str = "no PostgreSQL server found on this machine: run `cargo x setup`, or install \
                       the package postgresql";
/// Changes whenever the way templates are made changes.
const TEMPLATE_FORMAT: u32 = 1;
/// How often a start is tried again on another port.
const PORT_TRIES: usize = 5;
/// Names the folder with `postgres` and `initdb` of another version than the newest installed one.
pub const POSTGRES_BIN: &str = "THALWEG_POSTGRES_BIN";
/// Debian's tree of server versions: `VERSION/bin/postgres`.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// How a private PostgreSQL is set up. The default is a usable target and a usable source of
/// logical changes (`wal_level=logical`) that does not wait for the disk.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether commits wait for the disk (`fsync=on`). Off, a commit still survives
    /// [`Postgres::kill`], because it has reached the operating system; only a crash of the
    /// machine loses it.
    pub durable: bool,
    /// More lines for `postgresql.conf`, such as `max_connections = 20`. They come last and win.
    /// `{dir}` stands for the directory that holds [`files`](Self::files).
    pub config: Vec<String>,
    /// Files the server shall find (certificates, for example): name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Who may connect, and how.
const RULES: &str = "host all all 127.0.0.1/32 scram-sha-256\n\
                     host replication all 127.0.0.1/32 scram-sha-256\n";

/// A running private PostgreSQL; see the [module](super) for what that means.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: first the process, then its directory.
    process: Process,
    dir: RunDir,
    client: PathBuf,
    port: u16,
    password: String,
}

impl Postgres {
    /// Starts a server (the newest version found, or the one [`POSTGRES_BIN`] names) and waits until
    /// it answers.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start; the error holds the end of its log.
    pub fn start(options: PostgresOptions) -> Result<Self> {
        let server = match std::env::var_os(POSTGRES_BIN) {
            Some(dir) => {
                let server = Path::new(&dir).join("postgres");
                let found = server.is_file().then_some(server);
                found
                    .with_context(|| format!("{POSTGRES_BIN}={} has no postgres", dir.display()))?
            }
            None => find_binary(&["postgres"], &version_dirs()).context(MISSING)?,
        };
        let home = server
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .collect::<Vec<_>>();
        let initdb = find_binary(&["initdb"], &home).context(MISSING)?;
        // A client talks to every version, and some packages of a server have none.
        let client = find_binary(&["psql"], &home).context(MISSING)?;
        let account = Account::unprivileged(&["postgres", "nobody"])?;
        let template = template(&server, &initdb, account.as_ref())?;
        let mut last = None;
        for _ in 0..PORT_TRIES {
            match Self::start_on_a_port(&server, &client, &template, account.as_ref(), &options) {
                Ok(started) => return Ok(started),
                // Another process took the port between the look and the start.
                Err(error) if format!("{error:#}").contains("Address already in use") => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.context("no try was made")?)
    }

    fn start_on_a_port(
        server: &Path,
        client: &Path,
        template: &Path,
        account: Option<&Account>,
        options: &PostgresOptions,
    ) -> Result<Self> {
        let dir = RunDir::from_template(template, account)?;
        let port = process::free_port()?;
        let password = process::random_password();
        for (name, content) in &options.files {
            dir.write(name, content)?;
        }
        let config = dir.write("postgresql.conf", config(options, &dir, port)?.as_bytes())?;
        dir.write("pg_hba.conf", RULES.as_bytes())?;
        set_password(server, &dir, account, &password)?;
        let args: Vec<OsString> = vec!["-D".into(), dir.data().into(), "-c".into(), {
            let mut file = OsString::from("config_file=");
            file.push(&config);
            file
        }];
        let process = Process::new("PostgreSQL", server.to_owned(), args, &dir);
        let started = Self {
            process,
            dir,
            client: client.to_owned(),
            port,
            password,
        };
        started.process.start(|| started.answers())?;
        Ok(started)
    }

    /// The address to connect to.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port; it stays the same over [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of the superuser, and of a database.
    pub fn user(&self) -> &'static str {
        "postgres"
    }

    /// The password of [`user`](Self::user).
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The process id of the postmaster while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.data()
    }

    /// The last lines of the server's own log, for the message of a failed test.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Runs statements as the superuser in the database `postgres`, each in its own transaction,
    /// and returns the rows: one a line, columns separated by tabs, no heading.
    ///
    /// # Errors
    /// What the server said about the first statement that failed; the later ones are not run.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in("postgres", sql)
    }

    /// Like [`sql`](Self::sql), in `database`.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        process::run_sql(self.client(database), sql, "psql")
    }

    /// Puts a rule before those of `pg_hba.conf`.
    ///
    /// # Errors
    /// When the file cannot be written, or the server does not read it.
    pub fn rule(&self, rule: &str) -> Result<()> {
        let rules = format!("{rule}\n{RULES}");
        self.dir.write("pg_hba.conf", rules.as_bytes())?;
        self.sql("SELECT pg_reload_conf()").map(drop)
    }

    /// Asks the server to shut down without waiting for its clients ("fast"), and waits for it.
    /// Nothing happens if it does not run.
    ///
    /// # Errors
    /// When it has not ended within the deadline; it is killed then.
    pub fn stop(&self) -> Result<()> {
        self.process.stop("INT")
    }

    /// SIGKILL for the postmaster and all its workers at once. Committed transactions survive in
    /// the files, nothing else is promised. Nothing happens if the server does not run.
    ///
    /// # Errors
    /// None now.
    pub fn kill(&self) -> Result<()> {
        self.process.kill();
        Ok(())
    }

    /// Stops the server if it runs, and starts it on the same port and data.
    ///
    /// # Errors
    /// When it does not stop, start or answer within the deadline.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.process.start(|| self.answers())
    }

    /// The command-line client, logged in; the caller gives it statements and reads its output.
    pub(crate) fn client(&self, database: &str) -> Command {
        let port = self.port.to_string();
        let args: Vec<OsString> = [
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--field-separator=\t",
            "--set=ON_ERROR_STOP=1",
            "--host=127.0.0.1",
            "--port",
            &port,
            "--username=postgres",
            "--no-password",
            "--dbname",
            database,
        ]
        .iter()
        .map(OsString::from)
        .collect();
        let mut client = command(&self.client, &args, Path::new("/"), None);
        client
            .env("PGPASSWORD", &self.password)
            .env("PGCLIENTENCODING", "UTF8");
        client
    }

    fn answers(&self) -> Result<()> {
        let data = self.sql("SHOW data_directory")?;
        if Path::new(&data) != self.data_dir() {
            bail!("another server answers on port {}", self.port);
        }
        Ok(())
    }
}

/// The `bin` directories of Debian's packages, newest version first.
fn version_dirs() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(DEBIAN_VERSIONS) else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort();
    versions
        .into_iter()
        .rev()
        .map(|(_, path)| path.join("bin"))
        .collect()
}

fn config(options: &PostgresOptions, dir: &RunDir, port: u16) -> Result<String> {
    let path = dir
        .path()
        .to_str()
        .context("the temporary directory is not UTF-8")?;
    // Without `durable`, a commit is written to the operating system but not forced to the disk:
    // a killed server loses nothing, a test does not wait. `synchronous_commit` stays on, because
    // without it a killed server forgets its last commits.
    let fsync = if options.durable { "on" } else { "off" };
    let mut text = format!(
        "hba_file = '{path}/pg_hba.conf'\n\
         listen_addresses = '127.0.0.1'\n\
         port = {port}\n\
         unix_socket_directories = ''\n\
         password_encryption = scram-sha-256\n\
         max_connections = 200\n\
         shared_buffers = 128MB\n\
         wal_level = logical\n\
         max_wal_senders = 32\n\
         max_replication_slots = 32\n\
         max_prepared_transactions = 16\n\
         fsync = {fsync}\n\
         full_page_writes = {fsync}\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         lc_messages = 'C'\n"
    );
    for line in &options.config {
        text.push_str(&line.replace("{dir}", path));
        text.push('\n');
    }
    Ok(text)
}

/// Gives the superuser its password by the single-user mode, before anyone can connect.
fn set_password(
    server: &Path,
    dir: &RunDir,
    account: Option<&Account>,
    password: &str,
) -> Result<()> {
    let args: Vec<OsString> = ["--single", "-D"]
        .iter()
        .map(OsString::from)
        .chain([dir.data().into()])
        .collect();
    let mut args = args;
    // Before version 14 the default would make a password our rules do not take.
    let settings = ["-c", "fsync=off", "-c", "password_encryption=scram-sha-256"];
    args.extend(settings.iter().map(OsString::from));
    args.push("postgres".into());
    let single = command(server, &args, dir.path(), account);
    let sql = format!("ALTER USER postgres PASSWORD '{password}'\n");
    process::run_sql(single, &sql, "postgres --single").map(drop)
}

fn template(server: &Path, initdb: &Path, account: Option<&Account>) -> Result<PathBuf> {
    let mut version = Command::new(server);
    version.arg("--version");
    let version = process::run(version, "postgres --version")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.split_whitespace().nth(2).unwrap_or("unknown");
    let name = account.map_or("self", |account| &account.name);
    let key = format!("postgres-{TEMPLATE_FORMAT}-{version}-{name}");
    process::template(&key, account, |dir| {
        let mut args: Vec<OsString> = vec!["-D".into(), dir.into()];
        args.extend(
            [
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]
            .iter()
            .map(OsString::from),
        );
        process::run(command(initdb, &args, dir, account), "initdb").map(drop)
    })
}
