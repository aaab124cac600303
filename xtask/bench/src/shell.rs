//! One long-lived command-line client of a server: a statement goes in, its answer comes out, without
//! a process or a login per statement.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use thalweg_testkit::servers::{Place, System};

/// Marks the end of an answer.
const END: &str = "--end--";

pub(crate) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// As the superuser, in the place's database.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let server = &place.server;
        let port = server.port().to_string();
        let mut command;
        match place.system() {
            System::MariaDb => {
                command = Command::new("mariadb");
                command
                    .args(["--no-defaults", "--protocol=tcp", "--host", server.host()])
                    .args(["--port", &port, "--user", server.user()])
                    .args(["--batch", "--skip-column-names", "--unbuffered"])
                    .env("MYSQL_PWD", server.password());
            }
            System::Postgres => {
                command = Command::new("psql");
                command
                    .args(["-X", "-q", "-A", "-t", "-h", server.host(), "-p", &port])
                    .args(["-U", server.user(), "-v", "ON_ERROR_STOP=1"])
                    .env("PGPASSWORD", server.password());
            }
        }
        command.arg(&place.database);
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Shell {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Runs statements (each ended by `;`) and gives the lines they answer.
    pub(crate) fn ask(&mut self, sql: &str) -> Result<Vec<String>> {
        writeln!(self.input, "{sql}\nSELECT '{END}';")?;
        self.input.flush()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the client ended on: {sql}");
            }
            let line = line.trim_end();
            if line == END {
                return Ok(lines);
            }
            lines.push(line.to_owned());
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Nothing is left to do if it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
