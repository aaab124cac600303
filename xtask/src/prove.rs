//! `cargo x prove [NAME]`: the tests at their full size, one after the other. Each result becomes a line
//! of `docs/internals/proofs.md`. Resumable: a proof that held at this commit is not run again.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::setup;

/// What a proof runs at full size.
enum Run {
    /// The server's tests in the module of the proof's name.
    Server,
    /// A cargo command.
    Cargo(&'static [&'static str]),
}

/// In the order they are run: the quick ones first.
const PROOFS: &[(&str, Run)] = &[
    (
        "simulation",
        Run::Cargo(&[
            "test",
            "--release",
            "-p",
            "thalweg-engine",
            "--",
            "--nocapture",
        ]),
    ),
    ("sdk", Run::Server),
    ("http", Run::Server),
    ("life", Run::Server),
    ("huge", Run::Server),
    ("crash", Run::Server),
    ("demo", Run::Cargo(&["x", "demo"])),
    ("bench", Run::Cargo(&["x", "bench", "backlog"])),
];

/// Before and after the name of a module of the server's tests.
const SERVER: (&[&str], &[&str]) = (
    &[
        "test",
        "--release",
        "-p",
        "thalweg-server",
        "--test",
        "it",
        "--",
    ],
    &["--nocapture"],
);

/// How the demo's last line begins when it went well.
const DEMO_VERDICT: &str = "every table is equal";

const PAGE: &str = "docs/internals/proofs.md";

const HEAD: &str = "# Proofs\n\nWhat `make prove` ran at full size, newest last. A line says what the proof itself printed;\n\
    seeds are among it.\n\n| date | commit | proof | seconds | result |\n| --- | --- | --- | --- | --- |\n";

/// Runs all proofs, or the one named on the command line.
pub(crate) fn run() -> Result<()> {
    let name = std::env::args().nth(2).filter(|name| !name.is_empty());
    let chosen: Vec<_> = PROOFS
        .iter()
        .filter(|(proof, _)| name.as_ref().is_none_or(|name| name == proof))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = PROOFS.iter().map(|(proof, _)| *proof).collect();
        bail!("there is no such proof; there are {}", names.join(", "));
    }
    setup::run()?;
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let mut failed = Vec::new();
    for (proof, run) in chosen {
        let done = Path::new("target/proofs").join(format!("{proof}-{commit}"));
        if name.is_none() && done.exists() {
            println!("== {proof}: held at {commit} already");
            continue;
        }
        println!("== {proof}");
        let start = Instant::now();
        let (held, said) = prove(proof, run)?;
        write(proof, &commit, start.elapsed().as_secs(), held, &said)?;
        if held {
            fs::create_dir_all("target/proofs")?;
            fs::write(done, "")?;
        } else {
            failed.push(*proof);
        }
    }
    if !failed.is_empty() {
        bail!("did not hold: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs it, showing what it prints; whether it held, and the lines that begin with `proof: `.
fn prove(proof: &str, run: &Run) -> Result<(bool, Vec<String>)> {
    let args = match run {
        Run::Server => [SERVER.0, &[proof], SERVER.1].concat(),
        Run::Cargo(args) => args.to_vec(),
    };
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(program)
        .args(args)
        .env("THALWEG_PROVE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut said = Vec::new();
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some((_, fact)) = line.split_once("proof: ") {
            said.push(fact.trim().to_owned());
        } else if line.starts_with(DEMO_VERDICT) {
            // The demo speaks to a new user, who need not know of this page.
            said.push(line);
        } else if let Some(passed) = passed(&line) {
            said.push(passed);
        }
    }
    Ok((child.wait()?.success(), said))
}

/// `12 passed` of the line that ends a test binary's output, unless it ran none.
fn passed(line: &str) -> Option<String> {
    let rest = line.strip_prefix("test result: ok. ")?;
    let passed = rest.split(';').next()?;
    (!passed.starts_with("0 ")).then(|| passed.to_owned())
}

fn write(name: &str, commit: &str, seconds: u64, held: bool, said: &[String]) -> Result<()> {
    let page = Path::new(PAGE);
    if !page.exists() {
        fs::create_dir_all("docs/internals")?;
        fs::write(page, HEAD)?;
    }
    let mut line = String::new();
    let date = output("date", &["-u", "+%Y-%m-%d"])?;
    let word = if held { "holds" } else { "DOES NOT HOLD" };
    let said = said.join("; ").replace('|', "/");
    writeln!(
        line,
        "| {date} | {commit} | {name} | {seconds} | {word}. {said} |"
    )?;
    fs::OpenOptions::new()
        .append(true)
        .open(page)?
        .write_all(line.as_bytes())?;
    Ok(())
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
