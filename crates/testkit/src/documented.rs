//! What `docs/reference/types.md` lists, for tests that are to leave nothing of it out.

use std::collections::BTreeSet;

/// The types of a source, named as on the page (`PostgreSQL`, `MariaDB`), each as its server writes it.
///
/// # Panics
/// If the page cannot be read, or lists none.
pub fn types(system: &str) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/types.md");
    let page = std::fs::read_to_string(path).expect("the page of types");
    let heading = format!("## From {system}");
    let lines = page.lines().skip_while(|line| *line != heading).skip(1);
    let listed: BTreeSet<String> = lines
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(ty, _)| ty.to_owned())
        .collect();
    assert!(!listed.is_empty(), "the page lists types of {system}");
    listed
}
