//! House rules no compiler checks: which crate may depend on which, file lengths, undeclared test
//! files, open ends without an issue, links in the docs, lints in every manifest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Lines a source file may have: a longer module is a reason to split it.
const FILE_LINES_MAX: usize = 700;

/// Files that were longer when the rule came, with their length then. The list only shrinks.
const GRANDFATHERED: &[(&str, usize)] = &[];

/// What each crate may depend on, of ours. Nothing points back.
const ARROWS: &[(&str, &[&str])] = &[
    ("crates/core", &[]),
    ("crates/engine", &["thalweg-core"]),
    ("crates/control", &["thalweg-core", "thalweg-engine"]),
    ("crates/testkit", &["thalweg-core"]),
    ("connectors/mysql", &["thalweg-core"]),
    ("connectors/postgres", &["thalweg-core"]),
    ("xtask", &[]),
    (
        "xtask/count",
        &[
            "thalweg-core",
            "thalweg-engine",
            "thalweg-mysql",
            "thalweg-postgres",
            "thalweg-testkit",
        ],
    ),
    ("xtask/demo", &["thalweg-testkit"]),
];

/// Checks the tree below `root`; all complaints at once.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    walk(root, &mut files)?;
    let mut complaints = Vec::new();
    for file in &files {
        let name = file
            .strip_prefix(root)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(file)?;
        if name.ends_with(".rs") {
            complaints.extend(lines(&name, &text));
            complaints.extend(open_ends(&name, &text));
            complaints.extend(rooms(&name, &text));
            complaints.extend(undeclared(file, &name));
        } else if name.ends_with("Cargo.toml") {
            complaints.extend(manifest(&name, &text));
        } else {
            complaints.extend(links(file, &name, &text));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!(
        "{} complaints\n  {}",
        complaints.len(),
        complaints.join("\n  ")
    )
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            // The build's folder; a connector's `src/target` is none.
            let built = entry.path().join("CACHEDIR.TAG").exists();
            if !name.starts_with('.') && !built {
                walk(&entry.path(), files)?;
            }
        } else if [".rs", ".md", "Cargo.toml"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(())
}

fn lines(name: &str, text: &str) -> Option<String> {
    let max = GRANDFATHERED
        .iter()
        .find(|(file, _)| *file == name)
        .map_or(FILE_LINES_MAX, |f| f.1);
    let count = text.lines().count();
    (count > max).then(|| format!("{name}: {count} lines, at most {max}: split the module"))
}

/// HTTP only in server, metadata SQL only in the catalogue (ARCHITECTURE.md, invariant 11). The test
/// kit drives the server from outside.
fn rooms(name: &str, text: &str) -> Vec<String> {
    let shipped = name.contains("/src/") && !name.starts_with("xtask");
    let rules = [
        ("axum::", "crates/server/", "HTTP"),
        ("sqlx::query", "crates/control/src/catalog/", "metadata SQL"),
    ];
    rules
        .iter()
        .filter(|(word, home, _)| shipped && text.contains(word) && !name.starts_with(home))
        .map(|(_, home, what)| format!("{name}: {what} belongs into {home}"))
        .collect()
}

/// An open end needs an issue's number behind it: `TODO(#12)`.
fn open_ends(name: &str, text: &str) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let open = |line: &str| {
        words
            .iter()
            .any(|word| line.contains(word) && !line.contains(&format!("{word}(#")))
    };
    let numbered = text.lines().enumerate().filter(|(_, line)| open(line));
    numbered
        .map(|(at, _)| format!("{name}:{}: an open end without an issue", at + 1))
        .collect()
}

/// A file below `tests/it` that nothing declares would never run. `main.rs` declares the files beside
/// it; those of a folder are declared by its `mod.rs`, or by the file of its name beside it.
fn undeclared(file: &Path, name: &str) -> Option<String> {
    let folder = file.parent()?;
    let stem = file.file_stem()?.to_str()?;
    let parents = if folder.ends_with("tests/it") {
        vec![folder.join("main.rs")]
    } else {
        vec![folder.join("mod.rs"), folder.with_extension("rs")]
    };
    let in_tests = folder.ancestors().any(|up| up.ends_with("tests/it"));
    if !in_tests || parents.iter().any(|parent| parent == file) {
        return None;
    }
    let declares = |parent: &PathBuf| {
        fs::read_to_string(parent).is_ok_and(|text| text.contains(&format!("mod {stem};")))
    };
    (!parents.iter().any(declares)).then(|| format!("{name}: no file declares it"))
}

fn manifest(name: &str, text: &str) -> Vec<String> {
    let folder = name.trim_end_matches("Cargo.toml").trim_end_matches('/');
    if folder.is_empty() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    if !text.contains("[lints]\nworkspace = true") {
        complaints.push(format!("{name}: without the workspace's lints"));
    }
    let Some((_, allowed)) = ARROWS
        .iter()
        .find(|(crate_folder, _)| *crate_folder == folder)
    else {
        return complaints;
    };
    // Tests may use testkit; shipped code may not, so only [dependencies] counts.
    let section = text.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    for line in section.lines().filter(|line| line.starts_with("thalweg-")) {
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if !allowed.contains(&dependency) {
            complaints.push(format!("{name}: {dependency} is an arrow that points back"));
        }
    }
    complaints
}

/// Relative links of a page lead to files that exist.
fn links(file: &Path, name: &str, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("{name}: the link to {target} leads nowhere"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_told() {
        assert!(lines("a.rs", &"x\n".repeat(FILE_LINES_MAX)).is_none());
        assert!(lines("a.rs", &"x\n".repeat(FILE_LINES_MAX + 1)).is_some());
    }

    #[test]
    fn http_and_sql_stay_in_their_rooms() {
        let sql = concat!("sqlx", "::query(\"SELECT 1\")");
        assert!(rooms("crates/control/src/catalog/tasks.rs", sql).is_empty());
        assert_eq!(rooms("crates/control/src/app/tasks.rs", sql).len(), 1);
        let http = concat!("use axum", "::Router;");
        assert!(rooms("crates/server/src/http/mod.rs", http).is_empty());
        assert_eq!(rooms("crates/control/src/app/tasks.rs", http).len(), 1);
    }

    #[test]
    fn open_ends_need_an_issue() {
        let word = concat!("TO", "DO");
        assert_eq!(
            open_ends("a.rs", &format!("fine\n// {word} later\n")).len(),
            1
        );
        assert!(open_ends("a.rs", &format!("// {word}(#12) later\n")).is_empty());
    }

    #[test]
    fn arrows_that_point_back_are_told() {
        let text = |dependency| {
            format!(
                "[lints]\nworkspace = true\n\n[dependencies]\n{dependency}.workspace = true\n\n\
                 [dev-dependencies]\nthalweg-testkit.workspace = true\n"
            )
        };
        assert!(manifest("crates/engine/Cargo.toml", &text("thalweg-core")).is_empty());
        assert_eq!(
            manifest("crates/engine/Cargo.toml", &text("thalweg-control")).len(),
            1
        );
        assert_eq!(
            manifest("crates/core/Cargo.toml", "[dependencies]\n").len(),
            1,
            "no lints"
        );
    }

    #[test]
    fn links_must_lead_somewhere() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("page.md");
        assert!(
            links(
                &page,
                "page.md",
                "[a](Cargo.toml) [b](https://example.org) [c](#d)"
            )
            .is_empty()
        );
        assert_eq!(links(&page, "page.md", "[a](missing.md)").len(), 1);
    }

    #[test]
    fn this_tree_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        run(&root).unwrap();
    }
}
