//! What both kinds of server share: finding binaries, accounts, directories, ports and the child
//! process itself.
//!
//! Signals are sent by the shell's `kill` (this workspace forbids `unsafe`). All children are
//! started by one thread that lives as long as the process: the kernel's parent-death signal fires
//! when the *thread* that started the child ends, so a server started from a short-lived thread
//! (a blocking pool, a test thread) would otherwise die with that thread.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How long a server may take to answer its first query, or to end when asked.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait between two looks at a condition.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Directories outside `PATH` where distributions keep server binaries.
const BINARY_DIRS: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin"];
/// The range ports are drawn from: below the range Linux hands to outgoing connections, so that
/// nobody takes the port by accident while our server is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Finds the first of `names` in `PATH`, `extra` and the usual directories for servers.
pub(crate) fn find_binary(names: &[&str], extra: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = extra
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(BINARY_DIRS.iter().map(PathBuf::from))
        .collect();
    names
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)))
        .find(|path| path.is_file())
}

/// The account a server runs as when we are root.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The first of `names` that this machine has, or `None` when we are not root and servers
    /// simply run as ourselves.
    ///
    /// # Errors
    /// When we are root and no such account exists.
    pub(super) fn unprivileged(names: &[&str]) -> Result<Option<Self>> {
        if own_uid()? != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
        names.iter().find_map(|name| parse_passwd(&passwd, name)).map(Some).with_context(|| {
            format!("a database server must not run as root, and none of the accounts {names:?} exists")
        })
    }
}

fn parse_passwd(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account {
        name: name.to_owned(),
        uid,
        gid,
    })
}

fn own_uid() -> Result<u32> {
    Ok(fs::metadata("/proc/self")
        .context("could not read /proc/self")?
        .uid())
}

/// A command with a small, fixed environment that runs in `dir` as `account`, and is killed by
/// the kernel when this process dies, where `setpriv` can arrange that.
pub(crate) fn command(
    program: &Path,
    args: &[OsString],
    dir: &Path,
    account: Option<&Account>,
) -> Command {
    let setpriv = setpriv();
    let mut command = match setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]);
            if let Some(account) = account {
                command.arg(format!("--reuid={}", account.uid));
                command.arg(format!("--regid={}", account.gid));
                command.arg("--clear-groups");
            }
            command.arg("--").arg(program);
            command
        }
        None => {
            let mut command = Command::new(program);
            if let Some(account) = account {
                // The standard library clears the supplementary groups when it changes the user.
                command.uid(account.uid).gid(account.gid);
            }
            command
        }
    };
    command.args(args);
    command.current_dir(dir).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("HOME", dir)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC");
    command
}

/// `setpriv`, if this machine's knows `--pdeathsig` (the one of util-linux does).
fn setpriv() -> Option<&'static Path> {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    SETPRIV
        .get_or_init(|| {
            let path = find_binary(&["setpriv"], &[])?;
            let help = Command::new(&path).arg("--help").output().ok()?;
            String::from_utf8_lossy(&help.stdout)
                .contains("--pdeathsig")
                .then_some(path)
        })
        .as_deref()
}

/// Runs a command to its end; its output is part of the error when it fails.
pub(crate) fn run(mut command: Command, what: &str) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("could not run {what}"))?;
    if !output.status.success() {
        bail!(
            "{what} failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Runs a command-line client, feeds it `sql` and returns what it printed, without the last line
/// end.
pub(super) fn run_sql(mut command: Command, sql: &str, what: &str) -> Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("could not run {what}"))?;
    let mut stdin = child.stdin.take().context("the client has no stdin")?;
    // A client that fails early closes its input, so the error of interest is the client's own.
    // Written from a thread, because a client that prints while it reads would fill both pipes.
    let output = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output();
        drop(writer.join());
        output
    })
    .with_context(|| format!("could not read the answer of {what}"))?;
    if !output.status.success() {
        bail!(
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let mut text = String::from_utf8(output.stdout).context("the answer is not UTF-8")?;
    text.truncate(text.trim_end_matches('\n').len());
    Ok(text)
}

/// A port of 127.0.0.1 on which nobody listens now. It is this process's until it ends: no other test
/// gets it while a server that was killed is down.
///
/// # Errors
/// When a few hundred random ports are all taken.
pub(crate) fn free_port() -> Result<u16> {
    static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let base = base_dir()?;
    for _ in 0..300 {
        let port = PORTS.start
            + u16::try_from(random() % u64::from(PORTS.end - PORTS.start))
                .expect("below the range");
        let Some(lock) = lock_file(&base.join(format!("port-{port}.lock")), false)? else {
            continue;
        };
        if TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok() {
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(lock);
            return Ok(port);
        }
    }
    bail!("no free port found on 127.0.0.1 in {PORTS:?}")
}

/// An unpredictable number: the standard library seeds each of its hashers from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A password for one server.
pub(crate) fn random_password() -> String {
    format!("{:016x}{:016x}", random(), random())
}

/// Takes a lock that other processes of this machine respect, or `None` when someone has it.
fn lock_file(path: &Path, wait: bool) -> Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("could not open {}", path.display()))?;
    if wait {
        file.lock()
            .with_context(|| format!("could not lock {}", path.display()))?;
        return Ok(Some(file));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("could not lock {}", path.display()))
        }
    }
}

/// The directory below which templates and data directories of this user lie.
///
/// # Errors
/// When it cannot be made, or belongs to someone else.
fn base_dir() -> Result<PathBuf> {
    let uid = own_uid()?;
    let base = std::env::temp_dir().join(format!("thalweg-testkit-{uid}"));
    fs::create_dir_all(&base).with_context(|| format!("could not make {}", base.display()))?;
    let found = fs::symlink_metadata(&base)?;
    if !found.is_dir() || found.uid() != uid {
        bail!(
            "{} exists but is not a directory of this user",
            base.display()
        );
    }
    // Others may pass through (the server's account must), but not list or write.
    fs::set_permissions(&base, fs::Permissions::from_mode(0o711))?;
    Ok(base)
}

/// Returns the template directory for `key`, making it with `make` if it is not there yet.
/// `make` is given an empty directory owned by `account`; one process at a time makes a template.
pub(super) fn template(
    key: &str,
    account: Option<&Account>,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let base = base_dir()?;
    let key: String = key
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let done = base.join(format!("template-{key}"));
    let _lock = lock_file(&base.join(format!("template-{key}.lock")), true)?;
    if done.is_dir() {
        return Ok(done);
    }
    let half = base.join(format!("template-{key}.half"));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    make_owned_dir(&half, account)?;
    make(&half)?;
    fs::rename(&half, &done)?;
    Ok(done)
}

fn make_owned_dir(dir: &Path, account: Option<&Account>) -> Result<()> {
    fs::create_dir(dir).with_context(|| format!("could not make {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    give(dir, account)
}

fn give(path: &Path, account: Option<&Account>) -> Result<()> {
    if let Some(account) = account {
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
            .with_context(|| format!("could not give {} to {}", path.display(), account.name))?;
    }
    Ok(())
}

/// The directory of one server: configuration, log, extra files and `data/`. Removed on drop.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock_path: PathBuf,
    account: Option<Account>,
    /// Held as long as we live: an unlocked directory belongs to nobody and is swept.
    _lock: File,
}

impl RunDir {
    /// Makes a fresh directory with a copy of `template` in `data/`.
    pub(super) fn from_template(template: &Path, account: Option<&Account>) -> Result<Self> {
        let dir = Self::make(account)?;
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"])
            .arg(template)
            .arg(dir.data());
        run(copy, "cp")?;
        Ok(dir)
    }

    fn make(account: Option<&Account>) -> Result<Self> {
        let base = base_dir()?;
        // One sweeps or makes at a time, so that a directory is never swept before it is locked.
        let _guard = lock_file(&base.join("sweep.lock"), true)?;
        sweep(&base);
        let name = format!("run-{:012x}", random() & 0xffff_ffff_ffff);
        let path = base.join(&name);
        let lock_path = base.join(format!("{name}.lock"));
        let lock = lock_file(&lock_path, false)?.context("a fresh lock is taken")?;
        make_owned_dir(&path, account)?;
        Ok(Self {
            path,
            lock_path,
            account: account.cloned(),
            _lock: lock,
        })
    }

    /// Makes a fresh empty directory of our own account.
    pub(crate) fn empty() -> Result<Self> {
        Self::make(None)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a file that the server's account can read and nobody else.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        if path.parent() != Some(&self.path) {
            bail!("{name:?} is not a plain file name");
        }
        fs::write(&path, content).with_context(|| format!("could not write {name}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        give(&path, self.account.as_ref())?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // The lock file goes last: while it is there, a sweep finishes what we could not.
        if fs::remove_dir_all(&self.path).is_ok() {
            drop(fs::remove_file(&self.lock_path));
        }
    }
}

/// Removes directories whose owner died without cleaning up. The caller holds `sweep.lock`.
/// Best effort: what cannot be removed now is tried again at the next start.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let lock_path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".lock")) else {
            continue;
        };
        if !name.starts_with("run-") {
            continue;
        }
        if let Ok(Some(_lock)) = lock_file(&lock_path, false) {
            let dir = base.join(name);
            if !dir.exists() || fs::remove_dir_all(&dir).is_ok() {
                drop(fs::remove_file(&lock_path));
            }
        }
    }
}

type Start = Box<dyn FnOnce() + Send>;

/// Starts `command` from the thread that outlives all others (see the module's text).
pub(crate) fn spawn(mut command: Command) -> Result<Child> {
    static STARTER: OnceLock<SyncSender<Start>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, receiver) = sync_channel::<Start>(8);
        std::thread::spawn(move || receiver.into_iter().for_each(|start| start()));
        sender
    });
    let (answer, started) = sync_channel(1);
    let start: Start = Box::new(move || drop(answer.send(command.spawn())));
    starter
        .send(start)
        .map_err(|_| anyhow!("the starter thread is gone"))?;
    Ok(started.recv().context("the starter thread is gone")??)
}

/// One server process: at most one child at a time, started again with the same command.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    account: Option<Account>,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    pub(super) fn new(
        name: &'static str,
        program: PathBuf,
        args: Vec<OsString>,
        dir: &RunDir,
    ) -> Self {
        let (path, account) = (dir.path.clone(), dir.account.clone());
        Self {
            name,
            program,
            args,
            account,
            dir: path,
            child: Mutex::new(None),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process id while the server runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Where the server's own messages go, those of earlier starts included.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// The last lines of the server's log.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Starts the server and waits until `ready` says that it answers.
    ///
    /// # Errors
    /// When it already runs, ends, or does not answer within [`DEADLINE`]; with the end of its log.
    pub(super) fn start(&self, ready: impl Fn() -> Result<()>) -> Result<()> {
        let mut slot = self.child();
        if slot.is_some() {
            bail!("{} already runs", self.name);
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = command(&self.program, &self.args, &self.dir, self.account.as_ref());
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = spawn(command).with_context(|| format!("could not start {}", self.name))?;
        let until = Instant::now() + DEADLINE;
        let failure = loop {
            if let Some(status) = child.try_wait()? {
                break anyhow!("{} ended at its start ({status})", self.name);
            }
            match ready() {
                Ok(()) => {
                    *slot = Some(child);
                    return Ok(());
                }
                Err(error) if Instant::now() > until => {
                    break error.context(format!("{} is not ready after {DEADLINE:?}", self.name));
                }
                Err(_) => std::thread::sleep(POLL),
            }
        };
        end(&mut child);
        Err(failure.context(format!("the end of its log:\n{}", self.log_tail())))
    }

    /// Asks the server to end by `signal` and waits for it. Nothing happens if it does not run.
    ///
    /// # Errors
    /// When it has not ended within [`DEADLINE`]; it is killed then.
    pub(super) fn stop(&self, signal: &str) -> Result<()> {
        let Some(mut child) = self.child().take() else {
            return Ok(());
        };
        send_signal(signal, child.id())?;
        if wait(&mut child)?.is_none() {
            end(&mut child);
            bail!(
                "{} did not stop within {DEADLINE:?}:\n{}",
                self.name,
                self.log_tail()
            );
        }
        Ok(())
    }

    /// SIGKILL for the server and all its worker processes; returns when they are gone. Nothing
    /// happens if it does not run.
    pub(super) fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            end(&mut child);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal by name (`TERM`, `INT`, `STOP`, …) to one process.
pub fn send_signal(signal: &str, pid: u32) -> Result<()> {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal])
        .arg(pid.to_string());
    run(kill, "kill").map(drop)
}

fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
    Ok(None)
}

/// Kills a server and its workers (PostgreSQL has some) and waits until none is left, because a
/// left-over worker still holds shared memory and keeps the next start from succeeding.
fn end(child: &mut Child) {
    let workers = children_of(child.id());
    // Both fail only for a process that is gone already, which is what we want.
    drop(child.kill());
    drop(child.wait());
    for (pid, started) in &workers {
        if stat(*pid).is_some_and(|found| found.started == *started && found.state != 'Z') {
            drop(send_signal("KILL", *pid));
        }
    }
    let until = Instant::now() + DEADLINE;
    let lives = |pid: u32, started: u64| {
        stat(pid).is_some_and(|found| found.started == started && found.state != 'Z')
    };
    while workers.iter().any(|(pid, started)| lives(*pid, *started)) && Instant::now() < until {
        std::thread::sleep(POLL);
    }
}

/// What `/proc/PID/stat` tells; the start time tells two processes of one number apart.
struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The command's name stands in brackets and may hold anything, so count from the last one.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

fn children_of(parent: u32) -> Vec<(u32, u64)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| stat(pid).map(|found| (pid, found)))
        .filter(|(_, found)| found.parent == parent)
        .map(|(pid, found)| (pid, found.started))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines_give_user_and_group() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/:/bin/false\nbad:x:y:z";
        let account = parse_passwd(passwd, "nobody").expect("it is there");
        assert_eq!((account.uid, account.gid), (65534, 65533));
        assert!(parse_passwd(passwd, "bad").is_none());
        assert!(parse_passwd(passwd, "body").is_none());
    }

    #[test]
    fn stat_is_read_behind_a_hostile_name() {
        let mut fields: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        fields[0] = "S".into();
        fields[1] = "77".into();
        fields[19] = "4242".into();
        let found = parse_stat(&format!("12 (a) b (c) {}", fields.join(" "))).expect("parses");
        assert_eq!((found.state, found.parent, found.started), ('S', 77, 4242));
        assert!(parse_stat("12 (cut").is_none());
        assert!(parse_stat("12 (cut) S 1").is_none());
    }

    #[test]
    fn a_directory_whose_owner_is_gone_is_swept() {
        let base = std::env::temp_dir().join(format!("thalweg-sweep-{:x}", random()));
        fs::create_dir_all(base.join("run-dead")).unwrap();
        fs::create_dir_all(base.join("run-held")).unwrap();
        fs::write(base.join("run-dead.lock"), "").unwrap();
        let held = lock_file(&base.join("run-held.lock"), false)
            .unwrap()
            .expect("free");
        sweep(&base);
        assert!(!base.join("run-dead").exists() && !base.join("run-dead.lock").exists());
        assert!(base.join("run-held").exists() && base.join("run-held.lock").exists());
        drop(held);
        sweep(&base);
        assert!(!base.join("run-held").exists());
        fs::remove_dir(&base).unwrap();
    }
}
