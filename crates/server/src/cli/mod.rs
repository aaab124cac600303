//! The command line.

mod answer;
pub(crate) mod check;
mod client;
pub(crate) mod quarantine;
pub(crate) mod serve;
pub(crate) mod tables;
pub(crate) mod verify;

use std::path::PathBuf;

use crate::config::Settings;

/// Keeps tables of one database equal to tables of another, by change data capture.
#[derive(Debug, clap::Parser)]
#[command(name = "thalweg", version)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run the server.
    Serve(ServeArgs),
    /// Find everything that stands between two databases and a task; changes nothing.
    Check(check::CheckArgs),
    /// Have a running task compare its tables at both ends, row by row, and repair them if wanted. Exit
    /// code 0: equal, or repaired; 1: rows differ; 2: it could not be found out
    Verify(verify::VerifyArgs),
    /// Rows that the target of a task has refused, and what waits behind them. Exit code 0: done; 1: rows
    /// stay in quarantine that were to leave it; 2: it could not be done
    Quarantine(quarantine::QuarantineArgs),
    /// The tables of a task, one by one, also while it runs: see how each does and why one is paused; pause,
    /// resume, load again, add or remove some while the others go on. Exit code 0: done; 2: it could not be done
    Tables(tables::TablesArgs),
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "THALWEG_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Settings that win over the file.
    #[command(flatten)]
    pub(crate) settings: Settings,
}
