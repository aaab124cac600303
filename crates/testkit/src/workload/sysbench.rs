//! sysbench's `oltp_read_write`, in slices of a second.
//!
//! A slice ends by itself and tells exactly how many transactions it committed; killing one long
//! run would lose that number.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::SYSBENCH_TABLES;
use crate::servers::process::{self, command, find_binary};
use crate::servers::{Place, System};

const MISSING: &str =
    "sysbench is not found on this machine: run `cargo x setup`, or install the package sysbench";

/// Makes and fills the tables.
pub(super) fn prepare(place: &Place, rows: u32) -> Result<()> {
    let threads = SYSBENCH_TABLES.min(2).to_string();
    run(place, rows, &["--threads", &threads], "prepare").map(drop)
}

/// One second of load; the transactions committed.
pub(super) fn slice(place: &Place, rows: u32, rate: Option<u32>, seed: u64) -> Result<u64> {
    // The seed is a 32-bit number there, and 0 means the time of day.
    let seed = (seed % 0x7fff_fff0 + 1).to_string();
    let rate = rate.unwrap_or(0).to_string();
    let args = [
        "--time=1",
        "--events=0",
        "--threads=2",
        "--rand-seed",
        &seed,
        "--rate",
        &rate,
    ];
    let told = run(place, rows, &args, "run")?;
    transactions(&told).with_context(|| format!("sysbench did not tell its transactions:\n{told}"))
}

fn run(place: &Place, rows: u32, more: &[&str], action: &str) -> Result<String> {
    let program = find_binary(&["sysbench"], &[]).context(MISSING)?;
    let driver = match place.system() {
        System::MariaDb => "mysql",
        System::Postgres => "pgsql",
    };
    let server = &place.server;
    let mut args = vec![
        OsString::from("oltp_read_write"),
        format!("--db-driver={driver}").into(),
        "--db-ps-mode=disable".into(),
        format!("--{driver}-host={}", server.host()).into(),
        format!("--{driver}-port={}", server.port()).into(),
        format!("--{driver}-user={}", server.user()).into(),
        format!("--{driver}-password={}", server.password()).into(),
        format!("--{driver}-db={}", place.database).into(),
        format!("--tables={SYSBENCH_TABLES}").into(),
        format!("--table-size={rows}").into(),
    ];
    // `--name value` is not understood, `--name=value` is.
    let mut rest = more.iter();
    while let Some(arg) = rest.next() {
        if arg.contains('=') {
            args.push(arg.into());
        } else {
            args.push(format!("{arg}={}", rest.next().unwrap_or(&"")).into());
        }
    }
    args.push(action.into());
    output(&program, command(&program, &args, Path::new("/"), None))
}

/// Runs to the end, from the thread that may start children; both outputs together.
fn output(program: &Path, mut command: Command) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child =
        process::spawn(command).with_context(|| PathBuf::from(program).display().to_string())?;
    let output = child.wait_with_output()?;
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        bail!("sysbench ended with {}:\n{told}", output.status);
    }
    Ok(told)
}

fn transactions(told: &str) -> Option<u64> {
    let line = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("transactions:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_of_transactions_is_found() {
        let told =
            "SQL statistics:\n    transactions:                        58     (28.63 per sec.)\n";
        assert_eq!(super::transactions(told), Some(58));
        assert_eq!(super::transactions("nothing"), None);
    }
}
