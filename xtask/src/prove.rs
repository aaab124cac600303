//! `cargo x prove [NAME …] [--pair SOURCE:TARGET]`: the tests at their full size, one after the other.
//! Each result becomes a line of `docs/internals/proofs.md`. Resumable: a proof that held at this commit
//! is not run again unless it is named.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{setup, versions};

/// What a proof runs at full size.
enum Run {
    /// The server's tests in the module of the proof's name.
    Server,
    /// The server's test of each pair in the module of the proof's name.
    Pairs,
    /// A cargo command.
    Cargo(&'static [&'static str]),
    /// The demo of each pair.
    Demos,
    /// The tests of PostgreSQL against its other versions.
    Versions,
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
            "-p",
            "thalweg-control",
            "--",
            "--nocapture",
        ]),
    ),
    (
        "pgoutput",
        Run::Cargo(&[
            "test",
            "--release",
            "-p",
            "thalweg-postgres",
            "--lib",
            "strange",
            "--",
            "--nocapture",
        ]),
    ),
    (
        "folding",
        Run::Cargo(&[
            "test",
            "--release",
            "-p",
            "thalweg-engine",
            "--",
            "batch",
            "mappings",
            "--nocapture",
        ]),
    ),
    (
        "binlogs",
        Run::Cargo(&[
            "test",
            "--release",
            "-p",
            "thalweg-mysql",
            "--test",
            "fuzz",
            "--",
            "--nocapture",
        ]),
    ),
    ("recordings", Run::Server),
    ("sdk", Run::Server),
    ("http", Run::Server),
    ("schemathesis", Run::Server),
    ("life", Run::Server),
    ("replicates", Run::Pairs),
    ("mappings", Run::Pairs),
    ("matrix", Run::Pairs),
    ("cascades", Run::Server),
    ("unfit", Run::Pairs),
    ("compared", Run::Pairs),
    ("scheduled", Run::Pairs),
    ("idle", Run::Server),
    ("versions", Run::Versions),
    ("huge", Run::Pairs),
    ("resume", Run::Pairs),
    ("crash", Run::Pairs),
    ("verify", Run::Pairs),
    ("quarantine", Run::Pairs),
    ("tables", Run::Server),
    ("schema_changes", Run::Pairs),
    ("faults", Run::Pairs),
    ("soak", Run::Server),
    ("demo", Run::Demos),
    ("bench", Run::Cargo(&["x", "bench", "--dry", "uniform"])),
];

/// Source and target of every pair that is proved live.
const PAIRS: [[&str; 2]; 4] = [
    ["mariadb", "postgres"],
    ["postgres", "postgres"],
    ["postgres", "mariadb"],
    ["mariadb", "mariadb"],
];

/// Before and after the filter of the server's tests.
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
    &["--nocapture", "--include-ignored"],
);

/// What runs against each version of PostgreSQL: both ports of its connector, and a path end to end.
const VERSION: [&[&str]; 2] = [
    &["test", "--release", "-p", "thalweg-postgres"],
    &[
        "test",
        "--release",
        "-p",
        "thalweg-server",
        "--test",
        "it",
        "--",
        "replicates::postgres_to_postgres",
        "matrix::postgres_to_postgres",
    ],
];

/// One proof, as it is run and written down.
struct Proof {
    name: String,
    /// Cargo's arguments, and for which version of PostgreSQL if not the distribution's.
    steps: Vec<(Vec<String>, Option<u32>)>,
}

impl Proof {
    fn new(name: String, args: &[&str]) -> Self {
        let steps = vec![(owned(args), None)];
        Proof { name, steps }
    }

    /// All there are of a line of [`PROOFS`].
    fn all(name: &str, run: &Run) -> Vec<Proof> {
        let pairs = |args: &dyn Fn(&str, &str) -> Vec<String>| {
            let one = |[from, to]: &[&str; 2]| Proof {
                name: format!("{name}-{from}-{to}"),
                steps: vec![(args(from, to), None)],
            };
            PAIRS.iter().map(one).collect()
        };
        match run {
            Run::Cargo(args) => vec![Proof::new(name.to_owned(), args)],
            Run::Server => {
                let filter = format!("{name}::");
                let args = [SERVER.0, &[&filter], SERVER.1].concat();
                vec![Proof::new(name.to_owned(), &args)]
            }
            Run::Pairs => pairs(&|from, to| {
                let filter = format!("{name}::{from}_to_{to}");
                owned(&[SERVER.0, &[&filter], SERVER.1].concat())
            }),
            Run::Demos => {
                pairs(&|from, to| owned(&["x", "demo", "--pair", &format!("{from}:{to}")]))
            }
            Run::Versions => vec![Proof {
                name: name.to_owned(),
                steps: versions::VERSIONS
                    .iter()
                    .flat_map(|version| VERSION.map(|args| (owned(args), Some(*version))))
                    .collect(),
            }],
        }
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// The proofs that these words name: all without any; `crash` for every pair, `crash-postgres-mariadb`
/// or `crash --pair postgres:mariadb` for one.
fn chosen(words: &[String]) -> Result<Vec<Proof>> {
    let all: Vec<(&str, Proof)> = PROOFS
        .iter()
        .flat_map(|(name, run)| {
            Proof::all(name, run)
                .into_iter()
                .map(move |one| (*name, one))
        })
        .collect();
    let mut names = Vec::new();
    let mut pair = String::new();
    let mut words = words.iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if word == "--pair" {
            let told = words.next().context("--pair needs SOURCE:TARGET")?;
            pair = format!("-{}", told.replace(':', "-"));
        } else {
            names.push(word.as_str());
        }
    }
    let known = |name: &&str| {
        all.iter()
            .any(|(of, proof)| name == of || **name == proof.name)
    };
    if let Some(strange) = names.iter().find(|name| !known(name)) {
        let names: Vec<_> = PROOFS.iter().map(|(name, _)| *name).collect();
        bail!(
            "there is no proof {strange}; there are {}",
            names.join(", ")
        );
    }
    let wanted = |(of, proof): &(&str, Proof)| {
        (names.is_empty() || names.iter().any(|name| name == of || *name == proof.name))
            && proof.name.ends_with(&pair)
    };
    let chosen: Vec<Proof> = all
        .into_iter()
        .filter(wanted)
        .map(|(_, proof)| proof)
        .collect();
    if chosen.is_empty() {
        bail!("no proof is of this pair; the pairs are {PAIRS:?}");
    }
    Ok(chosen)
}

/// How the demo's last line begins when it went well.
const DEMO_VERDICT: &str = "every table is equal";

const PAGE: &str = "docs/internals/proofs.md";

const HEAD: &str = "# Proofs\n\nWhat `make prove` ran at full size, newest last. A line says what the proof itself printed;\n\
    seeds are among it.\n\n| date | commit | proof | seconds | result |\n| --- | --- | --- | --- | --- |\n";

/// Runs all proofs, or those named on the command line.
pub(crate) fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let named = words.iter().any(|word| !word.is_empty());
    let chosen = chosen(&words)?;
    setup::run()?;
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let mut failed = Vec::new();
    for proof in chosen {
        let done = Path::new("target/proofs").join(format!("{}-{commit}", proof.name));
        if !named && done.exists() {
            println!("== {}: held at {commit} already", proof.name);
            continue;
        }
        println!("== {}", proof.name);
        let start = Instant::now();
        let (held, said) = prove(&proof)?;
        write(&proof.name, &commit, start.elapsed().as_secs(), held, &said)?;
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
    let (mut held, mut said) = (true, Vec::new());
    for (args, version) in &proof.steps {
        let (good, mut lines) = step(args, *version)?;
        // A filter that finds no test proves nothing.
        held &= good && !lines.is_empty();
        if let Some(version) = version {
            lines = vec![format!("PostgreSQL {version}: {}", lines.join(", "))];
        }
        said.append(&mut lines);
    }
    Ok((held, said))
}

fn step(args: &[String], version: Option<u32>) -> Result<(bool, Vec<String>)> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(args)
        .env("THALWEG_PROVE", "1")
        .stdout(Stdio::piped());
    if let Some(version) = version {
        versions::install()?;
        command.env("THALWEG_POSTGRES_BIN", versions::bin(version)?);
    }
    let mut child = command.spawn().context("cannot start cargo")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        let chosen = chosen(&owned(words)).unwrap();
        chosen.into_iter().map(|proof| proof.name).collect()
    }

    #[test]
    fn a_proof_is_named_whole_or_by_pair() {
        assert_eq!(names(&["life"]), ["life"]);
        assert_eq!(names(&["crash"]).len(), PAIRS.len());
        let one = ["crash-postgres-mariadb"];
        assert_eq!(names(&["crash", "--pair", "postgres:mariadb"]), one);
        assert_eq!(names(&one), one);
        assert!(names(&[]).len() > PROOFS.len());
        assert!(chosen(&owned(&["crush"])).is_err());
        assert!(chosen(&owned(&["life", "--pair", "postgres:mariadb"])).is_err());
    }
}
