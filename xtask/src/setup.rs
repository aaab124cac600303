//! `cargo x setup`: what the tests need beyond a Rust toolchain, from the distribution's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A program the tests start, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("postgres", "postgresql"),
    ("initdb", "postgresql"),
    ("psql", "postgresql-client"),
    ("mariadbd", "mariadb-server"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadb", "mariadb-client"),
    ("sysbench", "sysbench"),
    ("valgrind", "valgrind"),
    ("setpriv", "util-linux"),
    ("curl", "curl"),
    ("jq", "jq"),
];

/// What the tests with the official SDK need. A Python from elsewhere does as well: what counts is
/// that the one found can make virtual environments.
const PYTHON: &[&str] = &["python3", "python3-venv"];

/// Debian asks this file before it starts a service it has just installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Says what is missing, then installs it. Quick when nothing is.
pub(crate) fn run() -> Result<()> {
    let mut packages: Vec<&str> = Vec::new();
    for (program, package) in NEEDED {
        if find(program).is_none() && !packages.contains(package) {
            println!("missing: {program} (package {package})");
            packages.push(package);
        }
    }
    if !python_makes_environments() {
        let list = PYTHON.join(", ");
        println!("missing: a python3 that makes virtual environments (packages {list})");
        packages.extend(PYTHON);
    }
    if packages.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    let list = packages.join(" ");
    println!("will run: apt-get update; apt-get install {list}");
    if find("apt-get").is_none() {
        bail!("this machine has no apt-get: install {list} with its own package manager");
    }
    install(&packages)?;
    for (program, package) in NEEDED {
        find(program)
            .with_context(|| format!("{package} is installed but {program} is not found"))?;
    }
    if !python_makes_environments() {
        bail!(
            "python3-venv is installed, but the python3 found first in PATH is another one and \
             cannot make virtual environments: add ensurepip to it, or take it out of PATH"
        );
    }
    Ok(())
}

/// Whether `python3 -m venv` would work: Debian keeps the parts it needs (`ensurepip` and the
/// packages bundled with it) in a package of their own.
fn python_makes_environments() -> bool {
    let output = Command::new("python3")
        .args(["-c", "import ensurepip, venv; ensurepip.version()"])
        .output();
    output.is_ok_and(|output| output.status.success())
}

fn install(packages: &[&str]) -> Result<()> {
    // Only private servers are wanted: keep the packages from starting their own, unless this
    // machine has a policy already.
    let policy = Path::new(POLICY);
    let ours = is_root() && !policy.exists();
    if ours {
        fs::write(policy, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
    }
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend(packages);
    let outcome = apt(&["update"]).and_then(|()| apt(&args));
    if ours {
        fs::remove_file(policy).context("cannot remove policy-rc.d")?;
    }
    outcome
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    let status = command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get (or sudo)")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", args.join(" "));
    }
    Ok(())
}

fn is_root() -> bool {
    let uid = Command::new("id").arg("-u").output();
    uid.is_ok_and(|output| output.stdout.starts_with(b"0"))
}

/// Where a program lies: in PATH, in the system's administration folder, or where Debian keeps
/// PostgreSQL's servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
