//! Where values are changed, where they never are, and what is told.

use super::*;
use crate::change::{Change, ChangeBatch, ChangeKind};
use crate::mapping::{Mapping, Operations, TaskOptions};
use crate::plan::{Fate, TablePair, resolve};
use crate::schema::{
    ColumnSchema, ColumnType, ForeignKey, ReferenceAction, TableName, TableSchema,
};

fn int(bits: u8) -> ColumnType {
    ColumnType::Int {
        bits,
        unsigned: false,
    }
}

/// Columns of 16 bits at the target, of 64 at the source: `id` (the key, if there is one), `parent`
/// (which refers to `id`), `n` and `must` (which takes no NULL).
fn plan(policy: UnfitValues, keyed: bool) -> Plan {
    let table = |bits| {
        let column = |name: &str| ColumnSchema {
            nullable: name != "id" && name != "must",
            ..ColumnSchema::new(name, int(bits), "number")
        };
        let columns = ["id", "parent", "n", "must"]
            .iter()
            .map(|name| column(name));
        let mut table = TableSchema::new(TableName::new("s", "t"), columns.collect());
        if keyed {
            table.primary_key = vec![0];
            table.foreign_keys.push(ForeignKey {
                name: "f".into(),
                columns: vec!["parent".into()],
                parent: table.name.clone(),
                parent_columns: vec!["id".into()],
                on_delete: ReferenceAction::Refuse,
                on_update: ReferenceAction::Refuse,
                logged: false,
            });
        }
        table
    };
    let pair = TablePair {
        mapping: Mapping {
            id: "m".into(),
            source: TableName::new("s", "t"),
            target: TableName::new("s", "t"),
            columns: Vec::new(),
        },
        source: Some(table(64)),
        target: Some(table(16)),
        create: false,
        rekey: false,
    };
    let options = TaskOptions {
        unfit_values: policy,
        ..TaskOptions::default()
    };
    resolve(vec![pair], Operations::ALL, options).plan.unwrap()
}

/// An update of one row; gives both images as they are written.
fn update(plan: &Plan, before: [i64; 4], after: [i64; 4]) -> Result<(Vec<String>, u64)> {
    let mut changes = ChangeBatch::default();
    for image in [before, after] {
        for value in image {
            changes.rows.push(CellRef::I64(value));
        }
        changes.rows.end_row();
    }
    changes.changes.push(Change {
        table: 0,
        kind: ChangeKind::Update,
        before: Some(0),
        after: Some(1),
        unchecked: false,
    });
    let (mut rows, mut ops) = (RowBatch::new(), Vec::new());
    let projected = plan.project(
        &changes.changes,
        &changes.rows,
        &mut |_, _| Ok(Fate::Apply),
        &mut rows,
        &mut ops,
    )?;
    let shown = |row| {
        let cells = rows.row(row).cells().map(|cell| match cell {
            CellRef::I64(v) => v.to_string(),
            other => other.kind_name().to_owned(),
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    let cells = projected.changed.iter().map(|cells| cells.cells).sum();
    Ok(((0..rows.len()).map(shown).collect(), cells))
}

/// Loads one row.
fn load(plan: &Plan, row: [i64; 4]) -> Result<String> {
    let (mut rows, mut out) = (RowBatch::new(), RowBatch::new());
    for value in row {
        rows.push(CellRef::I64(value));
    }
    rows.end_row();
    plan.project_rows(0, 0, &rows, &mut out)?;
    let cells = out.row(0).cells().map(|cell| match cell {
        CellRef::I64(v) => v.to_string(),
        other => other.kind_name().to_owned(),
    });
    Ok(cells.collect::<Vec<_>>().join(" "))
}

const FITS: [i64; 4] = [1, 2, 3, 4];
const UNFIT: i64 = 70_001;

#[test]
fn a_policy_says_what_takes_the_place_of_a_value() {
    use UnfitValues::{Nearest, Null, Stop};
    let unfit = [1, 2, UNFIT, 4];
    for (policy, expected) in [(Null, "1 2 null 4"), (Nearest, "1 2 32767 4")] {
        let plan = plan(policy, true);
        assert_eq!(load(&plan, unfit).unwrap(), expected);
        let (images, changed) = update(&plan, FITS, unfit).unwrap();
        assert_eq!((images[1].as_str(), changed), (expected, 1));
    }
    assert!(load(&plan(Stop, true), unfit).is_err());
    // A column that takes no NULL.
    let must = [1, 2, 3, UNFIT];
    assert!(load(&plan(Null, true), must).is_err());
    assert_eq!(load(&plan(Nearest, true), must).unwrap(), "1 2 3 32767");
}

#[test]
fn columns_that_identify_or_refer_are_never_changed() {
    for policy in [UnfitValues::Null, UnfitValues::Nearest] {
        let plan = plan(policy, true);
        for unfit in [[UNFIT, 2, 3, 4], [1, UNFIT, 3, 4]] {
            for outcome in [
                load(&plan, unfit).map(drop),
                update(&plan, FITS, unfit).map(drop),
                update(&plan, unfit, FITS).map(drop),
            ] {
                let hint = outcome.unwrap_err().hint().unwrap().to_owned();
                assert!(hint.contains("foreign keys are never changed"), "{hint}");
            }
        }
    }
}

#[test]
fn a_value_that_is_gone_need_not_fit_where_a_key_tells_the_row() {
    let unfit = [1, 2, UNFIT, UNFIT];
    for policy in [UnfitValues::Stop, UnfitValues::Null, UnfitValues::Nearest] {
        let (images, changed) = update(&plan(policy, true), unfit, FITS).unwrap();
        assert_eq!((images[0].as_str(), changed), ("1 2 absent absent", 0));
    }
}

#[test]
fn without_a_key_the_row_before_is_changed_as_it_was_when_it_came() {
    let unfit = [1, 2, UNFIT, 4];
    for policy in [UnfitValues::Null, UnfitValues::Nearest] {
        let plan = plan(policy, false);
        let came = load(&plan, unfit).unwrap();
        let (images, changed) = update(&plan, unfit, unfit).unwrap();
        assert_eq!((&images[0], &images[1], changed), (&came, &came, 1));
    }
    assert!(update(&plan(UnfitValues::Stop, false), unfit, FITS).is_err());
    // What lies there was written by another policy, and would not be found.
    let print = |policy, keyed| plan(policy, keyed).fingerprint(0);
    assert_ne!(
        print(UnfitValues::Null, false),
        print(UnfitValues::Nearest, false)
    );
    assert_eq!(
        print(UnfitValues::Null, true),
        print(UnfitValues::Nearest, true)
    );
}

#[test]
fn the_error_names_table_column_key_reason_and_ways_on_but_no_value() {
    let error = load(&plan(UnfitValues::Stop, true), [1, 2, UNFIT, 4]).unwrap_err();
    let text = format!("{}; {}", error.message(), error.hint().unwrap());
    for part in [
        "column n of s.t",
        "key id",
        "does not fit",
        "unfit_values to null or nearest",
        "reset",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("70001"), "{text}");
    let keyless = load(&plan(UnfitValues::Stop, false), [1, 2, UNFIT, 4]).unwrap_err();
    assert!(keyless.message().contains("no key"), "{keyless}");
}
