//! A private MariaDB server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::{self, Account, Process, RunDir, command, find_binary};

const MISSING: &str = "no MariaDB server found on this machine: run `cargo x setup`, or install \
                       the package mariadb-server";
/// Changes whenever the way templates are made changes.
const TEMPLATE_FORMAT: u32 = 1;
/// How often a start is tried again on another port.
const PORT_TRIES: usize = 5;

/// How a private MariaDB is set up. The default is a usable source of row changes: binary log by
/// row with full images, GTIDs, and no waiting for the disk.
#[derive(Debug, Clone, Default)]
pub struct MariaDbOptions {
    /// Whether each commit waits for the disk (`sync_binlog=1`,
    /// `innodb_flush_log_at_trx_commit=1`). Off, a commit still survives [`MariaDb::kill`],
    /// because it has reached the operating system; only a crash of the machine loses it.
    pub durable: bool,
    /// `server_id`; without it, a number made from the port, so that two servers differ.
    pub server_id: Option<u32>,
    /// `gtid_domain_id`.
    pub gtid_domain_id: u32,
    /// More lines for the `[mariadbd]` section, such as `binlog_row_metadata=FULL`. They come
    /// last and win. `{dir}` stands for the directory that holds [`files`](Self::files).
    pub config: Vec<String>,
    /// Files the server shall find (certificates, for example): name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A running private MariaDB; see the [module](super) for what that means.
#[derive(Debug)]
pub struct MariaDb {
    // Dropped in this order: first the process, then its directory.
    process: Process,
    dir: RunDir,
    client: PathBuf,
    port: u16,
    password: String,
}

impl MariaDb {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When MariaDB is not installed, or does not start; the error holds the end of its log.
    pub fn start(options: MariaDbOptions) -> Result<Self> {
        let server = find_binary(&["mariadbd", "mysqld"], &[]).context(MISSING)?;
        let install =
            find_binary(&["mariadb-install-db", "mysql_install_db"], &[]).context(MISSING)?;
        let client = find_binary(&["mariadb", "mysql"], &[]).context(MISSING)?;
        let account = Account::unprivileged(&["mysql", "nobody"])?;
        let template = template(&server, &install, account.as_ref())?;
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
        options: &MariaDbOptions,
    ) -> Result<Self> {
        let dir = RunDir::from_template(template, account)?;
        let port = process::free_port()?;
        let password = process::random_password();
        for (name, content) in &options.files {
            dir.write(name, content)?;
        }
        let config = dir.write("my.cnf", config(options, &dir, port)?.as_bytes())?;
        // Runs before the server listens; the account of the template has no password yet.
        // It is done with the binary log off, so that the log starts with the test's own changes.
        let init = dir.write(
            "init.sql",
            format!(
                "SET SESSION sql_log_bin=0;\nALTER USER root@'%' IDENTIFIED BY '{password}';\n"
            )
            .as_bytes(),
        )?;
        let args: Vec<OsString> = vec![
            join("--defaults-file=", &config),
            join("--init-file=", &init),
            "--console".into(),
        ];
        let process = Process::new("MariaDB", server.to_owned(), args, &dir);
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

    /// The name of an account that may do everything.
    pub fn user(&self) -> &'static str {
        "root"
    }

    /// The password of [`user`](Self::user).
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The process id while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The directory with the binary logs (`binlog.000001`, …) and everything else.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.data()
    }

    /// The last lines of the server's own log, for the message of a failed test.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Runs statements as the superuser, without a default database, and returns the rows:
    /// one a line, columns separated by tabs, no heading.
    ///
    /// # Errors
    /// What the server said about the first statement that failed; the later ones are not run.
    pub fn sql(&self, sql: &str) -> Result<String> {
        process::run_sql(self.client(None), sql, "mariadb")
    }

    /// Like [`sql`](Self::sql), in `database`.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        process::run_sql(self.client(Some(database)), sql, "mariadb")
    }

    /// Asks the server to shut down, and waits. Nothing happens if it does not run.
    ///
    /// # Errors
    /// When it has not ended within the deadline; it is killed then.
    pub fn stop(&self) -> Result<()> {
        self.process.stop("TERM")
    }

    /// SIGKILL. Committed transactions survive in the files, nothing else is promised. Nothing
    /// happens if the server does not run.
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

    /// Freezes the server (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Errors
    /// When the server does not run.
    pub fn pause(&self) -> Result<()> {
        process::send_signal("STOP", self.pid().context("MariaDB does not run")?)
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    /// When the server does not run.
    pub fn resume(&self) -> Result<()> {
        process::send_signal("CONT", self.pid().context("MariaDB does not run")?)
    }

    /// The command-line client, logged in; the caller gives it statements and reads its output.
    pub(crate) fn client(&self, database: Option<&str>) -> Command {
        let port = format!("--port={}", self.port);
        let mut args: Vec<OsString> = [
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            &port,
            "--user=root",
            // Of the client; the server has a limit of its own.
            "--max-allowed-packet=1G",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ]
        .iter()
        .map(OsString::from)
        .collect();
        args.extend(database.map(OsString::from));
        let mut client = command(&self.client, &args, Path::new("/"), None);
        client.env("MYSQL_PWD", &self.password);
        client
    }

    fn answers(&self) -> Result<()> {
        let data = self.sql("SELECT @@datadir")?;
        if Path::new(&data) != self.data_dir() {
            bail!("another server answers on port {}", self.port);
        }
        Ok(())
    }
}

fn join(flag: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(flag);
    joined.push(path);
    joined
}

/// One of our run directories as text for a configuration file.
fn config(options: &MariaDbOptions, dir: &RunDir, port: u16) -> Result<String> {
    let path = dir
        .path()
        .to_str()
        .context("the temporary directory is not UTF-8")?;
    // Without `durable`, a commit is written to the operating system but not forced to the disk:
    // a killed server loses nothing, a test does not wait.
    let (flush, sync) = if options.durable { (1, 1) } else { (2, 0) };
    let server_id = options
        .server_id
        .unwrap_or_else(|| 100_000 + u32::from(port));
    // In a shared directory for temporary tables, each server that starts takes away those of the
    // others, and a server whose temporary table is gone ends.
    let mut text = format!(
        "[mariadbd]\n\
         datadir={path}/data\n\
         tmpdir={path}\n\
         socket={path}/socket\n\
         pid-file={path}/pid\n\
         bind-address=127.0.0.1\n\
         port={port}\n\
         skip-name-resolve\n\
         log_bin=binlog\n\
         binlog_format=ROW\n\
         binlog_row_image=FULL\n\
         server_id={server_id}\n\
         gtid_domain_id={}\n\
         gtid_strict_mode=ON\n\
         character-set-server=utf8mb4\n\
         max_connections=200\n\
         innodb_buffer_pool_size=128M\n\
         innodb_log_file_size=64M\n\
         innodb_flush_log_at_trx_commit={flush}\n\
         sync_binlog={sync}\n",
        options.gtid_domain_id
    );
    for line in &options.config {
        text.push_str(&line.replace("{dir}", path));
        text.push('\n');
    }
    Ok(text)
}

fn template(server: &Path, install: &Path, account: Option<&Account>) -> Result<PathBuf> {
    let mut version = Command::new(server);
    version.args(["--no-defaults", "--version"]);
    let version = process::run(version, "mariadbd --version")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.split("Ver").nth(1).unwrap_or(&version).trim();
    let version = version.split_whitespace().next().unwrap_or("unknown");
    let name = account.map_or("self", |account| &account.name);
    let key = format!("mariadb-{TEMPLATE_FORMAT}-{version}-{name}");
    process::template(&key, account, |dir| {
        let data = dir
            .to_str()
            .context("the temporary directory is not UTF-8")?;
        let mut args: Vec<OsString> = vec![
            "--no-defaults".into(),
            format!("--datadir={data}").into(),
            "--auth-root-authentication-method=normal".into(),
            "--skip-test-db".into(),
            "--skip-name-resolve".into(),
            "--innodb-log-file-size=8M".into(),
        ];
        let extra =
            std::env::temp_dir().join(format!("thalweg-{}.sql", process::random_password()));
        std::fs::write(
            &extra,
            // Other accounts of the name `root` would win over root@'%' for local connections.
            "FLUSH PRIVILEGES;\n\
             DELETE FROM mysql.global_priv WHERE User IN ('root', '') AND Host <> 'localhost';\n\
             FLUSH PRIVILEGES;\n\
             CREATE USER root@'%';\n\
             GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;\n",
        )?;
        args.push(join("--extra-file=", &extra));
        let made = process::run(command(install, &args, dir, account), "mariadb-install-db");
        std::fs::remove_file(&extra)?;
        made.map(drop)
    })
}
