//! The server under test, as a child process.
//!
//! It is driven from outside only: started as a user starts it, judged by what it prints, and killed
//! without warning. Its port is drawn from the range of [`servers`](crate::servers) and not left to
//! the system, because a port of the system's own range may be taken by any outgoing connection
//! while the server is down.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::client::{Client, Credentials};
use crate::servers::process::{self, DEADLINE, POLL, RunDir, command, send_signal};

/// How often a first start is tried again on another port.
const PORT_TRIES: usize = 5;
/// Lines of the log that a message shows.
const LOG_LINES: usize = 30;

/// What the server prints at its first start.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Project id.
    pub project: String,
    /// Instance id.
    pub instance: String,
    /// Domain of the first user.
    pub domain: String,
    /// The first user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("project", &self.project)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// What a process holds in memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub rss: u64,
    /// At its most.
    pub peak: u64,
}

/// A running server with its own data directory; killed and removed on drop.
#[derive(Debug)]
pub struct Thalweg {
    // Dropped in this order: first the process, then its directory.
    child: Running,
    dir: RunDir,
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    port: u16,
    base_url: String,
    identity: Identity,
}

#[derive(Debug, Default)]
struct Running(Mutex<Option<Child>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            // Both fail only for a process that is gone already, which is what we want.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Thalweg {
    /// Starts `binary` with a fresh data directory and waits until it listens.
    ///
    /// # Errors
    /// When it ends, prints no credentials or does not listen within a minute; with its log.
    pub fn start(binary: &Path) -> Result<Self> {
        Self::start_with(binary, &[], &[])
    }

    /// Like [`start`](Self::start), with more arguments of `thalweg serve` and more environment.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(binary: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let binary = fs::canonicalize(binary)
            .with_context(|| format!("there is no server binary {}", binary.display()))?;
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let env: Vec<(OsString, OsString)> = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let dir = RunDir::empty()?;
            let port = process::free_port()?;
            let (child, printed) = match launch(&binary, &dir, port, &args, &env) {
                Ok(started) => started,
                // Another process took the port between the look and the start.
                Err(error) if format!("{error:#}").contains("in use") => {
                    last = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let child = Running(Mutex::new(Some(child)));
            let identity = identity(&printed).with_context(|| {
                format!(
                    "the first start did not print all credentials ({} lines)",
                    printed.lines().count()
                )
            })?;
            let base_url = listening(&printed)
                .context("it does not listen")?
                .to_owned();
            return Ok(Self {
                child,
                dir,
                binary,
                args,
                env,
                port,
                base_url,
                identity,
            });
        }
        Err(last.context("no try was made")?)
    }

    /// Where it listens; the same over [`restart`](Self::restart).
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Who and what it is, as it printed at its first start.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A client of it that signs with its key pair.
    pub fn client(&self) -> Client {
        let Identity {
            project,
            instance,
            ak,
            sk,
            ..
        } = &self.identity;
        let credentials = Credentials::Key {
            ak: ak.clone(),
            sk: sk.clone(),
        };
        Client::new(&self.base_url, project, instance, credentials)
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().as_ref().map(Child::id)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.data()
    }

    /// The file with all it wrote to stderr, over all its starts.
    pub fn log(&self) -> PathBuf {
        log(&self.dir)
    }

    /// The last lines of its log, for the message of a failed test.
    pub fn log_tail(&self) -> String {
        log_tail(&self.dir)
    }

    /// SIGKILL. Nothing happens if it does not run.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// SIGTERM, then waits until it has ended; how long that took.
    ///
    /// # Errors
    /// When it does not run, or has not ended within a minute (it is killed then), or says that
    /// it did not end well.
    pub fn terminate(&self) -> Result<Duration> {
        let mut child = self.child.lock().take().context("it does not run")?;
        let start = Instant::now();
        send_signal("TERM", child.id())?;
        while start.elapsed() < DEADLINE {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(start.elapsed()),
                Some(status) => bail!("it ended with {status}:\n{}", self.log_tail()),
                None => std::thread::sleep(POLL),
            }
        }
        drop(child.kill());
        drop(child.wait());
        bail!(
            "it has not ended {DEADLINE:?} after SIGTERM:\n{}",
            self.log_tail()
        )
    }

    /// Starts it again on the same data and port; kills it before if it runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<()> {
        self.kill();
        let (child, printed) = launch(&self.binary, &self.dir, self.port, &self.args, &self.env)?;
        *self.child.lock() = Some(child);
        if listening(&printed) != Some(self.base_url.as_str()) {
            bail!("it listens elsewhere than before: {printed}");
        }
        Ok(())
    }

    /// Starts it again on the same data and port and kills it `life` after that, wherever it stands
    /// then: it may not have listened, or not even opened its data. Killed before if it runs.
    ///
    /// # Errors
    /// When it cannot be started, or ends by itself before that.
    pub fn restart_for(&self, life: Duration) -> Result<()> {
        self.kill();
        let until = Instant::now() + life;
        let mut child = run(&self.binary, &self.dir, self.port, &self.args, &self.env)?;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let ended = child.try_wait()?;
        drop(child.kill());
        drop(child.wait());
        match ended {
            Some(status) => bail!("it ended by itself ({status}):\n{}", self.log_tail()),
            None => Ok(()),
        }
    }

    /// What the process holds in memory.
    ///
    /// # Errors
    /// When it does not run.
    pub fn rss_bytes(&self) -> Result<Memory> {
        let pid = self.pid().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        memory(&status).context("its /proc/PID/status tells no memory")
    }

    /// Makes what it holds now the most that it ever held.
    ///
    /// # Errors
    /// When it does not run.
    pub fn forget_peak(&self) -> Result<()> {
        let pid = self.pid().context("it does not run")?;
        // <https://docs.kernel.org/filesystems/proc.html>, "clear_refs".
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("its peak stays")
    }
}

fn log(dir: &RunDir) -> PathBuf {
    dir.path().join("server.log")
}

fn stdout(dir: &RunDir) -> PathBuf {
    dir.path().join("stdout")
}

fn log_tail(dir: &RunDir) -> String {
    let text = fs::read(log(dir)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Starts the process; its output goes to files.
fn run(
    binary: &Path,
    dir: &RunDir,
    port: u16,
    args: &[OsString],
    env: &[(OsString, OsString)],
) -> Result<Child> {
    let mut all: Vec<OsString> = vec!["serve".into(), "--data".into(), dir.data().into()];
    all.extend(["--listen".into(), format!("127.0.0.1:{port}").into()]);
    all.extend(["--key-file".into(), dir.path().join("key").into()]);
    all.extend_from_slice(args);
    let log = File::options().create(true).append(true).open(log(dir))?;
    let mut command = command(binary, &all, dir.path(), None);
    command
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdout(File::create(stdout(dir))?)
        .stderr(log);
    process::spawn(command).context("the server could not be started")
}

/// Starts the process and waits until it listens; the process and what it printed until then.
fn launch(
    binary: &Path,
    dir: &RunDir,
    port: u16,
    args: &[OsString],
    env: &[(OsString, OsString)],
) -> Result<(Child, String)> {
    let mut child = run(binary, dir, port, args, env)?;
    let until = Instant::now() + DEADLINE;
    let failure = loop {
        let ended = child.try_wait()?;
        let printed = fs::read_to_string(stdout(dir))?;
        if let Some(status) = ended {
            break anyhow!("the server ended at its start ({status})");
        }
        if listening(&printed).is_some() {
            return Ok((child, printed));
        }
        if Instant::now() > until {
            break anyhow!("the server does not listen after {DEADLINE:?}");
        }
        std::thread::sleep(POLL);
    };
    drop(child.kill());
    drop(child.wait());
    Err(failure.context(format!("the end of its log:\n{}", log_tail(dir))))
}

/// The value of a line `word   value`; only whole lines count, the last may be half written.
fn value<'a>(printed: &'a str, word: &str) -> Option<&'a str> {
    let whole = printed.rsplit_once('\n')?.0;
    whole.lines().find_map(|line| {
        let (found, rest) = line.trim().split_once(char::is_whitespace)?;
        (found == word).then(|| rest.trim())
    })
}

fn listening(printed: &str) -> Option<&str> {
    value(printed, "listening")
}

fn identity(printed: &str) -> Option<Identity> {
    let word = |word| value(printed, word).map(str::to_owned);
    Some(Identity {
        project: word("project")?,
        instance: word("instance")?,
        domain: word("domain")?,
        user: word("user")?,
        password: word("password")?,
        ak: word("ak")?,
        sk: word("sk")?,
    })
}

fn memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    Some(Memory {
        rss: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_when_all_are_there() {
        let printed = "Keep these: they are shown once.\nproject   0123\ninstance  45-67\n\
                       domain    thalweg\nuser      admin\npassword  a b\nak        AK\n\
                       sk        SK\nlistening http://127.0.0.1:1\n";
        let found = identity(printed).unwrap();
        assert_eq!(
            (found.instance.as_str(), found.password.as_str()),
            ("45-67", "a b")
        );
        assert_eq!(listening(printed), Some("http://127.0.0.1:1"));
        assert!(!format!("{found:?}").contains("SK"), "secrets stay in");
        assert!(identity(&printed.replace("sk ", "sx ")).is_none());
        assert_eq!(
            listening("listening http://127.0.0.1:1"),
            None,
            "half a line"
        );
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let found = memory("Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t    10 kB\n").unwrap();
        assert_eq!((found.rss, found.peak), (10_240, 20_480));
        assert!(memory("Name:\tx\n").is_none());
    }
}
