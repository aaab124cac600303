//! The process: command line, configuration, connectors, HTTP. Only this crate knows every other.

mod cli;
mod config;
mod connectors;
mod http;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}")),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => cli::serve::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Check(args) => cli::check::run(args).await.map(|good| match good {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }),
            // These wait for answers and nothing else, so they may do that here.
            Command::Verify(args) => Ok(cli::verify::run(args)),
            Command::Quarantine(args) => Ok(cli::quarantine::run(args)),
            Command::Tables(args) => Ok(cli::tables::run(args)),
        }
    });
    // Work that hangs in a driver does not keep the process from ending.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(text) => fail(&text),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("thalweg: {text}");
    ExitCode::FAILURE
}
