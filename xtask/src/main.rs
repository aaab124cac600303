//! Workspace tasks, run as `cargo x COMMAND`. One module per command.
#![allow(clippy::print_stdout, reason = "a command line talks on its output")]

mod bench;
mod count;
mod demo;
mod prove;
mod setup;
mod steps;
mod tidy;
mod versions;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo x COMMAND

  setup   say what is missing on this machine, then install it; safe to repeat
  check   format, lints and tidy
  test    setup, check and every test at its gate size, with the time of each step
  demo    a busy database copied into another and followed through a crash, then every row compared;
          takes --pair SOURCE:TARGET (each mariadb or postgres), --rows N (in each of sysbench's tables),
          --seconds N (of streaming), --seed N
  bench   whole runs beside the databases' own replication, written to docs/reference/performance.md;
          takes workloads, --pair SOURCE:TARGET, --quick and more; bench --help
  count   instructions a change takes in each stage of the hot path, under callgrind: the same on a busy
          machine; takes words of stages, --write (into docs/internals/performance.md)
  prove   every proof at full size, or those named, of every pair or of --pair SOURCE:TARGET; results go
          to docs/internals/proofs.md";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "setup" => setup::run(),
        "check" => steps::check(),
        "test" => steps::test(),
        "demo" => demo::run(),
        "bench" => bench::run(),
        "count" => count::run(),
        "prove" => prove::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo x {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
