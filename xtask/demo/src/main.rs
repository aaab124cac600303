//! The demo: started by `cargo x demo`, which builds everything and gives it a directory.
#![allow(clippy::print_stdout, reason = "a command line talks on its output")]

mod interrupt;
mod screen;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use interrupt::Interrupt;
use thalweg_testkit::servers::System;

/// What the demo was asked for.
struct Options {
    /// The server's binary.
    binary: PathBuf,
    /// Source and target.
    pair: [System; 2],
    /// Rows in each of sysbench's tables.
    rows: u32,
    /// How long to stream under load, before and after the crash together.
    stream: Duration,
    /// What the load is drawn from.
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let binary = args
            .next()
            .context("the first argument is the server's binary")?;
        let mut options = Self {
            binary: binary.into(),
            pair: [System::MariaDb, System::Postgres],
            rows: 50_000,
            stream: Duration::from_secs(40),
            seed: 1,
        };
        while let Some(name) = args.next() {
            let value = args
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            if name == "--pair" {
                let (from, to) = value
                    .split_once(':')
                    .context("a pair is SOURCE:TARGET, such as postgres:mariadb")?;
                options.pair = [from.parse()?, to.parse()?];
                continue;
            }
            let number: u64 = value.parse().with_context(|| format!("{name} {value}"))?;
            match name.as_str() {
                "--rows" => options.rows = u32::try_from(number)?.max(100),
                "--seconds" => options.stream = Duration::from_secs(number),
                "--seed" => options.seed = number,
                _ => bail!("unknown option {name}"),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let interrupt = Interrupt::watch();
    let outcome = Options::parse(std::env::args().skip(1))
        .and_then(|options| story::tell(&options, &interrupt));
    remove_directory();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if interrupt.came() => {
            println!("\ninterrupted; nothing is left running or on disk");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\nthe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The directory `cargo x demo` made for this process alone.
fn remove_directory() {
    let directory = std::env::temp_dir();
    let ours = format!("thalweg-demo-{}", std::process::id());
    if directory.file_name() == Some(ours.as_ref()) {
        // What cannot be removed now is swept by the next demo.
        drop(std::fs::remove_dir_all(Path::new(&directory)));
    }
}
