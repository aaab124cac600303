//! Which mappings are taken and which are refused, and why.

use super::*;
use crate::schema::{ColumnSchema, ColumnType};

/// `*` after a name: part of the primary key; `!`: takes no NULL; `=`: has a default; `~`: folds;
/// `#`: generated; `$`: a text. Others are 64-bit integers.
fn table(name: &str, columns: &[&str]) -> TableSchema {
    let mut schema = TableSchema::new(TableName::new("s", name), Vec::new());
    for (index, text) in columns.iter().enumerate() {
        let name = text.trim_end_matches(['*', '!', '=', '~', '#', '$']);
        let has = |mark: char| text.trim_start_matches(name).contains(mark);
        let ty = match has('$') || has('~') {
            true => ColumnType::Text { max_chars: None },
            false => ColumnType::Int {
                bits: 64,
                unsigned: false,
            },
        };
        if has('*') {
            schema.primary_key.push(index);
        }
        schema.columns.push(ColumnSchema {
            nullable: !has('*') && !has('!'),
            has_default: has('='),
            folds: has('~'),
            generated: has('#'),
            ..ColumnSchema::new(name, ty, if has('$') { "text" } else { "bigint" })
        });
    }
    schema
}

fn unique(mut table: TableSchema, columns: &[usize]) -> TableSchema {
    table.unique_keys.push(UniqueKey {
        name: "u".into(),
        columns: columns.to_vec(),
    });
    table
}

/// `columns` are `source>target`, or a name for both.
fn pair(source: &TableSchema, target: &TableSchema, columns: &[&str]) -> TablePair {
    let one = |text: &&str| {
        let (source, target) = text.split_once('>').unwrap_or((text, text));
        ColumnPair {
            source: source.into(),
            target: target.into(),
        }
    };
    TablePair {
        mapping: Mapping {
            id: source.name.name.clone(),
            source: source.name.clone(),
            target: target.name.clone(),
            columns: columns.iter().map(one).collect(),
        },
        source: Some(source.clone()),
        target: Some(target.clone()),
        create: false,
        rekey: false,
    }
}

/// Operations by their letters.
fn operations(letters: &str) -> Operations {
    Operations {
        insert: letters.contains('i'),
        update: letters.contains('u'),
        delete: letters.contains('d'),
    }
}

fn owner(target: &str, source: &str) -> TaskOptions {
    TaskOptions {
        row_owner: [(target.to_owned(), source.to_owned())].into(),
        ..TaskOptions::default()
    }
}

/// The codes of what refuses, sorted, and then of the warnings.
fn codes(resolution: &Resolution) -> (Vec<&'static str>, Vec<&'static str>) {
    let of = |refuses: bool| {
        let mut codes: Vec<_> = resolution
            .findings
            .iter()
            .filter(|f| f.refuses() == refuses && f.severity != crate::finding::Severity::Info)
            .map(|f| f.code)
            .collect();
        codes.sort_unstable();
        codes
    };
    assert_eq!(resolution.plan.is_some(), of(true).is_empty());
    (of(true), of(false))
}

#[track_caller]
fn refused(pairs: Vec<TablePair>, letters: &str, options: TaskOptions, expected: &[&str]) {
    let resolution = resolve(pairs, operations(letters), options);
    let (errors, _) = codes(&resolution);
    assert_eq!(errors, expected, "{:#?}", resolution.findings);
}

#[track_caller]
fn taken(pairs: Vec<TablePair>, letters: &str, options: TaskOptions) -> Plan {
    let resolution = resolve(pairs, operations(letters), options);
    let (errors, warnings) = codes(&resolution);
    assert!(
        errors.is_empty() && warnings.is_empty(),
        "{:#?}",
        resolution.findings
    );
    resolution.plan.unwrap()
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let source = table("a", &["id*", "v", "w"]);
    let target = table("t", &["k*", "v", "g#", "must!"]);
    let pairs = vec![pair(&source, &target, &["v>v", "w>v", "w>g", "x>v", "v>y"])];
    let expected = [
        "column_generated",
        "column_mapped_twice",
        "key_not_mapped",
        "source_column_missing",
        "target_column_missing",
        "unmapped_not_null",
        "unmapped_not_null",
    ];
    refused(pairs, "iud", TaskOptions::default(), &expected);
}

#[test]
fn a_key_has_to_be_unique_at_the_source() {
    let options = TaskOptions::default;
    let target = table("t", &["k*", "v"]);
    let source = table("a", &["id*", "other!", "v"]);
    let remapped = |source: &TableSchema| vec![pair(source, &target, &["other>k", "v"])];
    refused(remapped(&source), "iud", options(), &["key_not_unique"]);
    let plan = taken(remapped(&unique(source, &[1])), "iud", options());
    assert_eq!(plan.targets[0].key, [0]);
    // NULL is unique as often as it likes.
    let nullable = unique(table("a", &["id*", "other", "v"]), &[1]);
    refused(remapped(&nullable), "iud", options(), &["key_not_unique"]);
    // A key with more than the source's key identifies as well.
    let wide = table("t", &["k*", "v*"]);
    let source = table("a", &["id*", "v!"]);
    let plan = taken(vec![pair(&source, &wide, &["v", "id>k"])], "iud", options());
    assert_eq!(plan.targets[0].key, [1, 0]);
    let half = table("a", &["id*", "part*", "v"]);
    refused(
        vec![pair(&half, &target, &["id>k", "v"])],
        "iud",
        options(),
        &["key_not_unique"],
    );
}

#[test]
fn keys_that_fold_need_a_source_that_folds_as_well() {
    let target = table("t", &["k*~", "v"]);
    let plain = table("a", &["k*$", "v"]);
    let folding = table("a", &["k*~", "v"]);
    let pairs = |source: &TableSchema| vec![pair(source, &target, &[])];
    refused(pairs(&plain), "iud", TaskOptions::default(), &["key_folds"]);
    taken(pairs(&folding), "iud", TaskOptions::default());
}

#[test]
fn the_log_has_to_find_rows_that_change_or_go() {
    let options = TaskOptions::default;
    let target = table("t", &["k*", "v"]);
    let keyless = table("n", &["k", "v"]);
    let mut source = unique(table("a", &["id*", "k!", "v"]), &[1]);
    for (logged, to_key, to_keyless) in [
        (None, true, true),
        (Some(vec![0]), false, false),
        (Some(vec![1]), true, false),
        (Some(vec![1, 2]), true, true),
        (Some(vec![]), false, false),
    ] {
        source.old_image = logged;
        for letters in ["i", "u", "d", "iu", "id", "ud", "iud"] {
            for (target, found) in [(&target, to_key), (&keyless, to_keyless)] {
                let pairs = vec![pair(&source, target, &["k", "v"])];
                let found = found || letters == "i";
                let resolution = resolve(pairs, operations(letters), options());
                let expected: &[&str] = if found { &[] } else { &["old_image_lacks_key"] };
                assert_eq!(codes(&resolution).0, expected, "{letters} {source:?}");
            }
        }
    }
}

#[test]
fn several_sources_share_the_key_and_own_the_rest() {
    let (a, b) = (table("a", &["id*", "x"]), table("b", &["id*", "y"]));
    let target = table("t", &["id*", "x", "y", "z"]);
    let pairs = vec![
        pair(&b, &target, &["y", "id"]),
        pair(&a, &target, &["id", "x"]),
    ];
    let plan = taken(pairs, "iud", TaskOptions::default());
    let table = &plan.targets[0];
    let names: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, &table.key), (vec!["y", "id", "x"], &vec![1]));
    assert!(table.merged() && table.has_unmapped && table.row_owner.is_none());
    let feeds: Vec<_> = table
        .feeds
        .iter()
        .map(|f| (f.source, f.columns.clone()))
        .collect();
    assert_eq!(feeds, [(0, vec![0, 1]), (1, vec![1, 2])]);
    assert_eq!(table.owned(1).collect::<Vec<_>>(), [2]);
    assert_eq!(plan.sources[1].schema.name.name, "a");
    let cells = &plan.sources[1].routes[0].cells;
    assert!(matches!(
        cells[..],
        [Cell::Absent, Cell::Column(0, _), Cell::Column(1, _)]
    ));
    assert_eq!(plan.feeds().collect::<Vec<_>>(), [(0, 0), (0, 1)]);
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let options = TaskOptions::default;
    let (a, b) = (table("a", &["id*", "x"]), table("b", &["id*", "y"]));
    let target = table("t", &["id*", "x", "y"]);
    let merged = |target: &TableSchema, x: &[&str], y: &[&str]| {
        vec![pair(&a, target, x), pair(&b, target, y)]
    };
    let good = merged(&target, &["id", "x"], &["id", "y"]);
    for letters in ["u", "d", "ud"] {
        refused(good.clone(), letters, options(), &["merge_without_insert"]);
    }
    for letters in ["i", "iu", "id", "iud"] {
        taken(good.clone(), letters, options());
    }
    let both = merged(&target, &["id", "x"], &["id", "y>x"]);
    refused(both, "iud", options(), &["column_of_two_sources"]);
    let no_key = merged(&target, &["id", "x"], &["y"]);
    let expected = ["key_not_mapped", "merge_without_key"];
    refused(no_key, "iud", options(), &expected);
    // Each source fills a key, but not the same one.
    let two_keys = unique(table("t", &["k*=", "id!=", "x", "y"]), &[1]);
    let apart = merged(&two_keys, &["id>k", "x"], &["id", "y"]);
    refused(apart, "iud", options(), &["merge_without_key"]);
    let keyless = table("t", &["id", "x", "y"]);
    let keyless = merged(&keyless, &["id", "x"], &["id", "y"]);
    refused(keyless, "iud", options(), &["merge_without_key"]);
    let twice = vec![
        pair(&a, &target, &["id", "x"]),
        pair(&a, &target, &["id", "x>y"]),
    ];
    refused(twice, "iud", options(), &["source_mapped_twice"]);
    // A column that one source does not fill.
    for (columns, owner_of_x, owner_of_y) in [
        (["id*", "x!", "y"], true, false),
        (["id*", "x", "y!"], false, true),
        (["id*", "x!=", "y!="], true, true),
        (["id*", "x!", "y!"], false, false),
    ] {
        let target = table("t", &columns);
        let pairs = merged(&target, &["id", "x"], &["id", "y"]);
        for (owner, fine) in [
            (owner("s.t", "s.a"), owner_of_x),
            (owner("t", "b"), owner_of_y),
        ] {
            let (errors, _) = codes(&resolve(pairs.clone(), operations("iud"), owner));
            let expected: &[&str] = if fine { &[] } else { &["not_null_not_filled"] };
            assert_eq!(errors, expected, "{columns:?}");
        }
    }
    let unknown = owner("s.t", "s.c");
    refused(good, "iud", unknown, &["row_owner_unknown"]);
}

#[test]
fn one_source_may_fill_several_tables() {
    let source = table("a", &["id*", "x", "y"]);
    let (t, u) = (table("t", &["id*", "x"]), table("u", &["k*", "y", "z"]));
    let pairs = vec![
        pair(&source, &t, &["id", "x"]),
        pair(&source, &u, &["id>k", "y", "x>z"]),
    ];
    let plan = taken(pairs, "iud", TaskOptions::default());
    assert_eq!((plan.sources.len(), plan.targets.len()), (1, 2));
    assert_eq!(plan.sources[0].routes.len(), 2);
}

#[test]
fn a_table_whose_mapped_columns_are_all_key_is_taken() {
    let source = table("a", &["id*", "x"]);
    let target = table("t", &["id*", "z"]);
    let plan = taken(
        vec![pair(&source, &target, &["id"])],
        "iud",
        TaskOptions::default(),
    );
    assert_eq!(
        (plan.targets[0].columns.len(), &plan.targets[0].key),
        (1, &vec![0])
    );
}

#[test]
fn the_fingerprint_covers_every_source_of_a_table() {
    let (a, b) = (table("a", &["id*", "x"]), table("b", &["id*", "y"]));
    let target = table("t", &["id*", "x", "y"]);
    let first = pair(&a, &target, &["id", "x"]);
    let print =
        |pairs: Vec<TablePair>, options: TaskOptions| taken(pairs, "iud", options).fingerprint(0);
    let alone = print(vec![first.clone()], TaskOptions::default());
    let both = vec![first.clone(), pair(&b, &target, &["id", "y"])];
    let merged = print(both.clone(), TaskOptions::default());
    let owned = print(both.clone(), owner("t", "a"));
    let other = print(
        vec![first, pair(&b, &target, &["id"])],
        TaskOptions::default(),
    );
    let prints = [alone, merged, owned, other];
    for (n, print) in prints.iter().enumerate() {
        assert!(crate::plan::source_difference(print, &prints[0]).is_none());
        assert!(prints[n + 1..].iter().all(|other| other != print), "{n}");
    }
}
