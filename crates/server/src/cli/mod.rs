//! The command line.

pub(crate) mod serve;

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
