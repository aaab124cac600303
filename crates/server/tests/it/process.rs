//! The built binary as its starter sees it: what it prints, how it ends, how it refuses to start.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("thalweg-process-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command
        .current_dir(folder)
        .env_clear()
        .arg("serve")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A server that listens, killed with the test.
struct Server {
    child: Child,
    /// Everything on standard output up to the line that says where it listens.
    lines: Vec<String>,
    address: String,
}

impl Server {
    fn start(folder: &Path, args: &[&str]) -> Server {
        let mut child = command(folder, args).spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let address = line.strip_prefix("listening http://").map(str::to_owned);
            lines.push(line);
            if let Some(address) = address {
                return Server {
                    child,
                    lines,
                    address,
                };
            }
        }
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        panic!("no server: {lines:?} {error}");
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn end(mut self, signal: &str) -> ExitStatus {
        let id = self.child.id().to_string();
        let told = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap();
        assert!(told.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a server that has to refuse, and gives what it says.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = command(folder, args).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        output.stdout.is_empty(),
        "nothing to show when there is no server"
    );
    error
}

const FREE: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn credentials_are_shown_at_the_first_start_only() {
    let folder = Folder::new("first");
    let first = Server::start(&folder.0, &FREE);
    assert_eq!(
        first.lines[0],
        "first start: these are shown once, keep them"
    );
    let words: Vec<&str> = first.lines[1..8]
        .iter()
        .map(|line| line[..10].trim_end())
        .collect();
    assert_eq!(
        words,
        [
            "project", "instance", "domain", "user", "password", "ak", "sk"
        ]
    );
    assert!(first.lines[1..8].iter().all(|line| line.len() > 10));
    assert_eq!(first.lines.len(), 9);
    assert!(first.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(first.end("TERM").success());

    let again = Server::start(&folder.0, &FREE);
    assert_eq!(again.lines.len(), 1);
    assert!(again.end("INT").success());
}

#[test]
fn a_start_that_cannot_be_says_how_to_put_it_right() {
    let folder = Folder::new("refused");
    let running = Server::start(&folder.0, &FREE);
    let error = refused(&folder.0, &FREE);
    assert!(error.contains("thalweg-data"), "{error}");
    let taken = ["--listen", &running.address, "--data", "other"];
    let error = refused(&folder.0, &taken);
    assert!(error.contains("--listen"), "{error}");
    assert!(
        !folder.0.join("other").exists(),
        "nothing is made before the address is ours"
    );
    assert!(running.end("TERM").success());

    std::fs::rename(folder.0.join("thalweg-data.key"), folder.0.join("kept")).unwrap();
    let error = refused(&folder.0, &FREE);
    assert!(error.contains("thalweg-data.key"), "{error}");
    let error = refused(&folder.0, &["--config", "none.toml"]);
    assert!(error.contains("none.toml"), "{error}");
    let error = refused(&folder.0, &["--log", "thalweg=loud"]);
    assert!(error.contains("thalweg=loud"), "{error}");
    let error = refused(&folder.0, &["--listen", "nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = Folder::new("config");
    let file = "data = 'from-file'\nlisten = '127.0.0.1:0'\nlog = 'warn'\n";
    std::fs::write(folder.0.join("c.toml"), file).unwrap();
    let server = Server::start(&folder.0, &["--config", "c.toml", "--key-file", "k"]);
    assert!(folder.0.join("from-file").is_dir());
    assert!(folder.0.join("k").is_file());
    assert!(server.end("TERM").success());
    let wrong = "listen_on = '127.0.0.1:0'\n";
    std::fs::write(folder.0.join("c.toml"), wrong).unwrap();
    let error = refused(&folder.0, &["--config", "c.toml"]);
    assert!(error.contains("listen_on"), "{error}");
}
