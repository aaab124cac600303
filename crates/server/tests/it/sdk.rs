//! The official SDK drives the built server through the whole life of composite tasks.
//!
//! `tests/sdk/` holds the programs. They run in a virtual environment that is made once per machine
//! and list of requirements, below cargo's target directory.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};
use thalweg_testkit::thalweg::Thalweg;

const MISSING: &str = "these tests need python3 with its venv module: run `cargo x setup`, or \
                       install the packages python3 and python3-venv";

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// The Python of the virtual environment that has what a list requires; made at the first call on a machine.
pub(crate) fn python(requirements: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    fs::read(requirements).unwrap().hash(&mut hasher);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("venv-{:016x}", hasher.finish());
    let venv = cache.join(&name);
    let (python, done) = (venv.join("bin/python"), venv.join("done"));
    fs::create_dir_all(cache).unwrap();
    // Two tests may run at once: one makes it, the other waits.
    let lock = File::create(cache.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        if venv.exists() {
            fs::remove_dir_all(&venv).unwrap();
        }
        let made = Command::new("python3")
            .arg("-m")
            .arg("venv")
            .arg(&venv)
            .output();
        let made = made.unwrap_or_else(|error| panic!("{MISSING} ({error})"));
        let said = String::from_utf8_lossy(&made.stdout);
        assert!(made.status.success(), "{MISSING} ({said})");
        let installed = Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--no-deps", "--requirement"])
            .arg(requirements)
            .output()
            .unwrap();
        assert!(
            installed.status.success(),
            "could not install {}: {}",
            requirements.display(),
            String::from_utf8_lossy(&installed.stderr)
        );
        File::create(done).unwrap();
    }
    python
}

/// Runs one of the programs with `input`; its output is the message if it fails.
fn run(program: &str, input: &str) -> String {
    let mut child = Command::new(python(&programs().join("requirements.txt")))
        .arg("-B")
        .arg(programs().join(program))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    println!("{out}{err}");
    if output.status.success() {
        return out;
    }
    // The end is what matters; nextest and cargo show all of it above.
    panic!("{program} ended with {}:\n{out}{err}", output.status)
}

#[test]
fn the_sdk_signs_as_the_contract_says() {
    let out = run("vectors.py", "");
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn the_sdk_lives_a_whole_life() {
    let mariadb = MariaDb::start(MariaDbOptions::default()).unwrap();
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    mariadb.sql("CREATE DATABASE shop").unwrap();
    let server = Thalweg::start(Path::new(env!("CARGO_BIN_EXE_thalweg"))).unwrap();
    let id = server.identity();
    let config = json!({
        "endpoint": server.base_url(),
        "project_id": id.project,
        "instance_id": id.instance,
        "ak": id.ak,
        "sk": id.sk,
        "source": {
            "host": mariadb.host(), "port": mariadb.port(), "user": mariadb.user(),
            "password": mariadb.password(), "database": "shop",
        },
        "target": {
            "host": postgres.host(), "port": postgres.port(), "user": postgres.user(),
            "password": postgres.password(), "database": "postgres",
        },
    });
    run("life.py", &config.to_string());
}
