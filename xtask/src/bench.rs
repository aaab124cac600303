//! `cargo x bench`: builds the server and the benchmark as releases, then runs it.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{setup, steps};

/// Runs the benchmark with the rest of the command line.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    let built = steps::release(&["thalweg-server", "thalweg-bench"])?;
    let status = Command::new(built.join("thalweg-bench"))
        .args(std::env::args_os().skip(2))
        .env("THALWEG_BIN", built.join("thalweg"))
        .status()
        .context("cannot start the benchmark")?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}
