//! The rows of one side as its client prints them, one at a time.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context as _, Result, bail};

use super::catalog::Columns;
use super::form;
use crate::servers::process;
use crate::servers::{Place, System};

/// What is read from a client at once.
const BUFFER_BYTES: usize = 1 << 20;
/// What a session of MariaDB is told: moments in UTC, whole keys sorted, patience with a reader
/// that waits for the other side.
const MARIADB_SESSION: &str = "--init-command=SET SESSION time_zone='+00:00', sql_mode='', \
                               max_sort_length=1048576, sort_buffer_size=67108864, \
                               net_write_timeout=3600";
/// What a session of PostgreSQL is told.
const POSTGRES_SESSION: &str = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres";

/// A row in canonical form: fields with a tab after each.
#[derive(Debug, Default)]
pub(super) struct Row {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Row {
    /// All of it.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// One field; empty if there is none of this number.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).map_or(0, |end| end + 1),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or_default()
    }
}

/// A running query.
#[derive(Debug)]
pub(super) struct Rows {
    system: System,
    child: Child,
    output: BufReader<ChildStdout>,
    errors: std::fs::File,
    line: Vec<u8>,
}

impl Rows {
    /// Starts the query of the source (0) or the target (1).
    pub(super) fn start(place: &Place, columns: &Columns, end: usize) -> Result<Self> {
        let (system, query) = columns.query(end).context("there are two ends")?;
        let mut client = place.client();
        match system {
            System::MariaDb => client.arg("--quick").arg(MARIADB_SESSION),
            System::Postgres => client.env("PGOPTIONS", OsStr::new(POSTGRES_SESSION)),
        };
        let (errors, theirs) = unnamed_file()?;
        client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(theirs);
        let mut child = process::spawn(client).context("the client could not be started")?;
        let output = child.stdout.take().context("the client has no output")?;
        let mut input = child.stdin.take().context("the client has no input")?;
        // A query is far shorter than a pipe, so this does not wait for the client.
        input.write_all(query.as_bytes())?;
        drop(input);
        Ok(Self {
            system,
            child,
            output: BufReader::with_capacity(BUFFER_BYTES, output),
            errors,
            line: Vec::new(),
        })
    }

    /// Reads the next row into `row`; `false` at the end.
    pub(super) fn next(&mut self, columns: &Columns, row: &mut Row) -> Result<bool> {
        row.text.clear();
        row.ends.clear();
        self.line.clear();
        self.output.read_until(b'\n', &mut self.line)?;
        if self.line.is_empty() {
            return self.end();
        }
        let line = self
            .line
            .strip_suffix(b"\n")
            .context("the last line is cut short")?;
        let forms = columns.forms();
        let width = forms.len();
        let mut fields = line.split(|byte| *byte == b'\t');
        for form in forms {
            let said = fields.next().context("a row with too few fields")?;
            form::canonical(form, self.system, said, &mut row.text)?;
            row.ends.push(row.text.len());
            row.text.push(b'\t');
        }
        if fields.next().is_some() {
            bail!("a row with more than {width} fields");
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<bool> {
        let status = self.child.wait()?;
        let mut told = String::new();
        self.errors.seek(SeekFrom::Start(0))?;
        self.errors.read_to_string(&mut told)?;
        if !status.success() || !told.is_empty() {
            bail!(
                "the client of {:?} ended with {status}: {told}",
                self.system
            );
        }
        Ok(false)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already, which is what we want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A file for messages that nobody else can open, twice: a pipe would have to be read meanwhile.
fn unnamed_file() -> Result<(std::fs::File, std::fs::File)> {
    let path = std::env::temp_dir().join(format!("thalweg-{}", process::random_password()));
    let file = std::fs::File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let theirs = file.try_clone()?;
    Ok((file, theirs))
}
