//! `cargo x check` and `cargo x test`: the steps of the gate, timed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{setup, tidy};

/// Runs steps and keeps their times.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("== {name}");
        let start = Instant::now();
        let outcome = body().with_context(|| format!("step {name}"));
        self.0.push((name, start.elapsed()));
        outcome
    }

    fn print(&self) {
        println!("== time of each step");
        for (name, time) in &self.0 {
            println!("{:>7.1} s  {name}", time.as_secs_f64());
        }
    }
}

/// Format, lints and tidy.
pub(crate) fn check() -> Result<()> {
    let mut steps = Steps::default();
    let outcome = check_steps(&mut steps);
    steps.print();
    outcome
}

/// Everything CI runs.
pub(crate) fn test() -> Result<()> {
    let mut steps = Steps::default();
    let outcome = steps
        .step("setup", setup::run)
        .and_then(|()| check_steps(&mut steps))
        .and_then(|()| steps.step("tests", tests));
    steps.print();
    outcome
}

fn check_steps(steps: &mut Steps) -> Result<()> {
    steps.step("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.step("tidy", || tidy::run(Path::new(".")))?;
    steps.step("lints", || {
        cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    })
}

/// Builds packages as releases; where their programs lie.
pub(crate) fn release(packages: &[&str]) -> Result<PathBuf> {
    for package in packages {
        println!("building {package}");
        cargo(&["build", "--release", "--package", package])?;
    }
    // target/debug/xtask: the other profile is next door, wherever the target directory is.
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    Ok(target.context("no target directory")?.join("release"))
}

fn tests() -> Result<()> {
    if cargo(&["nextest", "--version"]).is_ok() {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])?;
    } else {
        println!("cargo-nextest is not installed: cargo test runs instead");
        cargo(&["test", "--workspace", "--lib", "--bins", "--tests"])?;
    }
    cargo(&["test", "--quiet", "--workspace", "--doc"])
}

pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args);
    // `cargo x` describes xtask in these. A build script that watches them (ring's) would run again,
    // and everything above it be built again, whenever `cargo x` and plain `cargo` take turns.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", args.join(" "));
    }
    Ok(())
}
