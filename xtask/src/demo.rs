//! `cargo x demo`: builds the server and the demo, then becomes the demo.
//!
//! The demo is a package of its own, so that `cargo x check` does not wait for the test kit to be
//! built before it can say that a file is badly formatted. Both are built as releases: the server
//! because that is what is shown, the demo because it compares every row.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{setup, steps};

/// All the demo writes lies in a directory of this name and its process id.
const PREFIX: &str = "thalweg-demo-";

/// Returns only if it fails.
pub(crate) fn run() -> Result<()> {
    println!(
        "This demo
  1. installs what is missing: PostgreSQL, MariaDB, sysbench (cargo x setup),
  2. builds the server as a release,
  3. starts a private source and target (MariaDB and PostgreSQL, or as PAIR says) on free ports of
     127.0.0.1, and the server,
  4. lets a busy shop work in the source while its tables are copied and followed,
  5. kills the server (kill -9) in the middle and starts it again,
  6. compares every row of both databases, and removes all it made.
Nothing of this machine's own databases is touched. Ctrl-C ends it and cleans up.
"
    );
    setup::run()?;
    let built = steps::release(&["thalweg-server", "thalweg-demo"])?;
    let temporary = std::env::temp_dir();
    sweep(&temporary);
    let directory = temporary.join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // The databases' accounts pass through, and nobody else looks in.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
    // Replacing this process leaves one to receive Ctrl-C, and the shell waits for it.
    let error = Command::new(built.join("thalweg-demo"))
        .arg(built.join("thalweg"))
        .args(std::env::args_os().skip(2))
        .env("TMPDIR", &directory)
        .exec();
    fs::remove_dir(&directory)?;
    bail!("cannot start the demo: {error}")
}

/// Removes what demos left that were killed.
fn sweep(temporary: &Path) {
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Best effort: somebody else's directory stays.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
