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

/// One proof: a cargo command at full size.
struct Proof {
    name: &'static str,
    args: &'static [&'static str],
}

/// In the order they are run: the quick ones first.
const PROOFS: &[Proof] = &[
    Proof {
        name: "simulation",
        args: &[
            "test",
            "--release",
            "-p",
            "thalweg-engine",
            "--",
            "--nocapture",
        ],
    },
    Proof {
        name: "sdk",
        args: &[
            "test",
            "--release",
            "-p",
            "thalweg-server",
            "--test",
            "it",
            "--",
            "sdk",
            "--nocapture",
        ],
    },
    Proof {
        name: "http",
        args: &[
            "test",
            "--release",
            "-p",
            "thalweg-server",
            "--test",
            "it",
            "--",
            "http",
            "--nocapture",
        ],
    },
    Proof {
        name: "life",
        args: &[
            "test",
            "--release",
            "-p",
            "thalweg-server",
            "--test",
            "it",
            "--",
            "life",
            "--nocapture",
        ],
    },
    Proof {
        name: "huge",
        args: &[
            "test",
            "--release",
            "-p",
            "thalweg-server",
            "--test",
            "it",
            "--",
            "huge",
            "--nocapture",
        ],
    },
    Proof {
        name: "crash",
        args: &[
            "test",
            "--release",
            "-p",
            "thalweg-server",
            "--test",
            "it",
            "--",
            "crash",
            "--nocapture",
        ],
    },
    Proof {
        name: "demo",
        args: &["x", "demo"],
    },
    Proof {
        name: "bench",
        args: &["x", "bench", "backlog"],
    },
];

/// How the demo's last line begins when it went well.
const DEMO_VERDICT: &str = "every table is equal";

const PAGE: &str = "docs/internals/proofs.md";

const HEAD: &str = "# Proofs\n\nWhat `make prove` ran at full size, newest last. A line says what the proof itself printed;\n\
    seeds are among it.\n\n| date | commit | proof | seconds | result |\n| --- | --- | --- | --- | --- |\n";

/// Runs all proofs, or the one named on the command line.
pub(crate) fn run() -> Result<()> {
    let name = std::env::args().nth(2).filter(|name| !name.is_empty());
    let chosen: Vec<&Proof> = PROOFS
        .iter()
        .filter(|proof| name.as_ref().is_none_or(|name| name == proof.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = PROOFS.iter().map(|proof| proof.name).collect();
        bail!("there is no such proof; there are {}", names.join(", "));
    }
    setup::run()?;
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let mut failed = Vec::new();
    for proof in chosen {
        let done = Path::new("target/proofs").join(format!("{}-{commit}", proof.name));
        if name.is_none() && done.exists() {
            println!("== {}: held at {commit} already", proof.name);
            continue;
        }
        println!("== {}", proof.name);
        let start = Instant::now();
        let (held, said) = prove(proof)?;
        write(proof.name, &commit, start.elapsed().as_secs(), held, &said)?;
        if held {
            fs::create_dir_all("target/proofs")?;
            fs::write(done, "")?;
        } else {
            failed.push(proof.name);
        }
    }
    if !failed.is_empty() {
        bail!("did not hold: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs it, showing what it prints; whether it held, and the lines that begin with `proof: `.
fn prove(proof: &Proof) -> Result<(bool, Vec<String>)> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(program)
        .args(proof.args)
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
