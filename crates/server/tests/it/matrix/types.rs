//! Every type of the source: rows with values of all kinds, and each column changed alone.

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use thalweg_testkit::servers::System;
use thalweg_testkit::workload;

use super::cases::Case;

/// Rows at the start, and how often each column is changed alone.
fn size() -> (u32, u32) {
    match std::env::var_os("THALWEG_PROVE") {
        Some(_) => (2_000, 40),
        None => (100, 3),
    }
}

pub(super) fn case(from: System) -> Case {
    let (rows, times) = size();
    let mut random = SmallRng::seed_from_u64(3);
    let mut changes = ["", "", ""].map(str::to_owned);
    for _ in 0..times {
        for changes in &mut changes {
            for (id, (name, value)) in (1..).zip(workload::every_type_literals(from, &mut random)) {
                let one = format!("UPDATE every_type SET {name} = {value} WHERE id = {id};\n");
                changes.push_str(&one);
            }
            changes.push_str(&workload::every_type_change(from, &mut random));
            changes.push('\n');
        }
    }
    let [first, second, third] = &mut changes;
    // A row of NULLs gets values, a row of values NULLs, and keys move.
    let literals = workload::every_type_literals(from, &mut random);
    let set: Vec<String> = literals
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let nulls: Vec<String> = literals
        .iter()
        .map(|(name, _)| format!("{name} = NULL"))
        .collect();
    first.push_str(&format!(
        "UPDATE every_type SET {} WHERE id = -1;\n",
        set.join(", ")
    ));
    second.push_str(&format!(
        "UPDATE every_type SET {} WHERE id = 7;\n",
        nulls.join(", ")
    ));
    third.push_str("UPDATE every_type SET id = -id WHERE id > 90 AND id < 95;\n");
    Case::new(
        "types",
        &["every_type"],
        &workload::every_type_create(from, rows * 20),
        first,
    )
    .then(second, third)
}

/// Values that only the system itself has, between two servers of it.
pub(super) fn own(system: System) -> Case {
    let (create, changes) = workload::own_types(system);
    Case::new("own_types", &["own_types"], &create, &changes).then("", &changes)
}
