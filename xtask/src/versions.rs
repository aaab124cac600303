//! PostgreSQL servers of other versions than the distribution's, for `cargo x prove versions`.
//!
//! They come as packages of npm, whose versions and hashes stand in `xtask/postgres/`; nothing of them
//! is committed. They are unpacked below `target/` and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Major versions beside the one the distribution has.
pub(crate) const VERSIONS: [u32; 3] = [13, 17, 18];

/// What says which packages, and their hashes.
const LOCK: &str = "xtask/postgres";
/// Where they are unpacked.
const PLACE: &str = "target/postgres";

/// Unpacks all of them; quick when they are there.
pub(crate) fn install() -> Result<()> {
    let (lock, place) = (Path::new(LOCK), Path::new(PLACE));
    fs::create_dir_all(place)?;
    let there = |name: &str| -> Result<bool> {
        Ok(fs::read(lock.join(name))? == fs::read(place.join(name)).unwrap_or_default())
    };
    let unpacked = VERSIONS.iter().all(|version| bin(*version).is_ok());
    if unpacked && there("package.json")? && there("package-lock.json")? {
        return Ok(());
    }
    println!("unpacking PostgreSQL {VERSIONS:?} below {PLACE}");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(lock.join(name), place.join(name))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(npm.current_dir(place)).context("npm is needed for the other versions of PostgreSQL")?;
    for version in VERSIONS {
        // A package cannot hold links, so it brings a script that makes them.
        let mut links = Command::new("node");
        links.arg("scripts/hydrate-symlinks.js");
        run(links.current_dir(place.join(format!("node_modules/postgres-{version}"))))?;
        bin(version)?;
    }
    Ok(())
}

/// The folder with `postgres` and `initdb` of a version.
pub(crate) fn bin(version: u32) -> Result<PathBuf> {
    let path = format!("{PLACE}/node_modules/postgres-{version}/native/bin");
    let path = fs::canonicalize(&path).with_context(|| format!("there is no {path}"))?;
    for name in ["postgres", "initdb"] {
        if !path.join(name).is_file() {
            bail!("{} has no {name}", path.display());
        }
    }
    Ok(path)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
