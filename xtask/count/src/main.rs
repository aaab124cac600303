//! One stage of the hot path over rows in memory, so many times: what `cargo x count` counts the
//! instructions of.
//!
//! `STAGE CASE ROUNDS` says on its output how many changes or rows a round has; `list` says which stages
//! and cases there are.
#![allow(clippy::print_stdout, reason = "a command line talks on its output")]

mod mariadb;
mod postgres;
mod stages;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["list"] => {
            for (stage, case, what) in stages::all() {
                println!("{stage}\t{case}\t{what}");
            }
            Ok(())
        }
        [stage, case, rounds] => {
            let mut work = stages::work(stage, case)?;
            let mut items = 0;
            for _ in 0..rounds.parse::<u32>().context("ROUNDS is a number")? {
                items = work()?;
            }
            println!("{items}");
            Ok(())
        }
        _ => anyhow::bail!("usage: STAGE CASE ROUNDS, or list"),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("count: {error:#}");
            ExitCode::FAILURE
        }
    }
}
