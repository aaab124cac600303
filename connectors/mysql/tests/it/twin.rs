//! The twin test as a whole: every type, every character set and every storage format, with the ends of
//! their ranges; how many cases that are, and that no documented type and no set is left out.

use std::collections::BTreeSet;

use thalweg_testkit::documented;

use super::{charsets, storage, texts, types, world::World};

/// A type without what is in parentheses, and without its character set.
fn plain(native: &str) -> String {
    let native = native.split(" character set ").next().unwrap_or_default();
    let (mut out, mut depth) = (String::new(), 0);
    for c in native.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_the_same_however_it_comes() {
    types::whole_numbers().await;
    types::every_length_of_bits().await;
    types::fractions().await;
    types::dates_and_times().await;
    types::octets_and_labels().await;
    types::uuids_of_every_version_and_variant().await;
    types::computed_hidden_and_checked_columns_are_carried().await;
    storage::times_in_the_format_before_5_6().await;
    storage::moments_in_the_format_before_5_6().await;
    storage::compressed_columns().await;
    storage::geometry().await;
    texts::every_character_set_is_read_exactly().await;
    charsets::every_code_of_every_set_is_read_alike_by_both_paths_and_the_server().await;
    let counted = types::counted();
    let set = |native: &String| {
        native
            .split_once(" character set ")
            .map(|(_, set)| set.to_owned())
    };
    let sets: BTreeSet<String> = counted.types.iter().filter_map(set).collect();
    let plain_types: BTreeSet<String> = counted.types.iter().map(|ty| plain(ty)).collect();
    println!(
        "proof: twin, MariaDB: {} values of {} types ({} with their lengths and sets), {} character sets; \
         {} rows, {} cells compared",
        counted.values,
        plain_types.len(),
        counted.types.len(),
        sets.len(),
        counted.rows,
        counted.cells
    );
    let all =
        World::new(&[]).sql("SELECT character_set_name FROM information_schema.character_sets");
    let lacking: Vec<&str> = all
        .lines()
        .filter(|set| *set != "binary" && !sets.contains(*set))
        .collect();
    assert!(lacking.is_empty(), "no text in {lacking:?}");
    let documented = documented::types("MariaDB");
    let lacking: Vec<&String> = documented
        .iter()
        .filter(|ty| !plain_types.contains(&plain(ty)))
        .collect();
    assert!(lacking.is_empty(), "no value of {lacking:?}");
}
