use thalweg_core::Kind;
use thalweg_core::change::ChangeKind;
use thalweg_core::plan::Cascade;
use thalweg_core::schema::ReferenceAction;

use super::ward::WAITING_MAX;
use super::*;
use crate::batch::tests::plan;

fn held(number: i64, table: &str, key: u8, moved: Option<u8>) -> Held {
    Held {
        number,
        target: TableName::new("t", table),
        source: TableName::new("s", table),
        key: vec![key],
        moved: moved.map(|key| vec![key]),
        shown: String::new(),
        kind: ChangeKind::Update,
        error: None,
        place: String::new(),
        at_ms: 0,
        change: Vec::new(),
    }
}

#[test]
fn changes_that_share_a_key_are_a_group_whatever_joins_them() {
    let held = [
        held(1, "a", 1, None),
        held(2, "b", 1, None),
        held(3, "a", 2, Some(3)),
        held(4, "a", 4, None),
        held(5, "a", 3, Some(1)),
        held(6, "b", 1, Some(9)),
        held(7, "a", 1, None),
    ];
    // 5 joins what 1 and 3 began.
    let expected = [vec![0, 2, 4, 6], vec![1, 5], vec![3]];
    assert_eq!(groups(&held), expected);
    assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
}

#[test]
fn a_change_waits_if_either_of_its_keys_does() {
    let mut keys = Keys::default();
    const BYTES: &[[u8; 1]] = &[[0], [1], [2], [3], [4], [5], [6], [7], [8]];
    let of = |key: usize, moved: Option<usize>| OpKeys {
        key: &BYTES[key],
        moved: moved.map(|key| &BYTES[key][..]),
    };
    assert!(!keys.has((0, 0), of(1, None)));
    keys.add((0, 0), of(1, Some(2)));
    for (place, op, waits) in [
        ((0, 0), of(1, None), true),
        ((0, 0), of(2, None), true),
        ((0, 0), of(7, Some(2)), true),
        ((0, 0), of(7, Some(8)), false),
        ((0, 1), of(1, None), false),
        ((1, 0), of(1, None), false),
    ] {
        assert_eq!(keys.has(place, op), waits, "{place:?} {op:?}");
    }
}

#[test]
fn a_quarantine_that_is_full_says_so() {
    let quarantine = Quarantine {
        counts: [((0, 0), 2), ((1, 0), 1)].into_iter().collect(),
        max: 4,
        ..Quarantine::default()
    };
    quarantine.room(0).unwrap();
    let error = quarantine.room(1).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("4 changes"), "{error}");
    assert!(error.hint().unwrap().contains("quarantine_max"));
}

#[tokio::test]
async fn requests_are_taken_in_turn_and_those_nobody_waits_for_are_not() {
    let ward = Ward::default();
    assert!(!ward.waits());
    let first = ward.ask(Way::Release, None).unwrap();
    let second = ward.ask(Way::Discard, Some(vec![7])).unwrap();
    drop(first);
    assert!(ward.waits());
    let taken = ward.take().unwrap();
    assert_eq!((taken.way, taken.rows), (Way::Discard, Some(vec![7])));
    taken.answer.send(Settled::default()).unwrap();
    assert_eq!(second.await.unwrap(), Settled::default());
    assert!(!ward.waits());
    let many: Vec<_> = (0..WAITING_MAX)
        .map(|_| ward.ask(Way::Release, None).unwrap())
        .collect();
    assert!(ward.ask(Way::Release, None).is_none());
    // Whoever has gone leaves room, and is not served.
    drop(many);
    let last = ward.ask(Way::Discard, None).unwrap();
    assert_eq!(ward.take().unwrap().way, Way::Discard);
    drop(last);
    assert!(!ward.waits());
}

#[test]
fn rows_wait_only_where_what_comes_after_them_can_be_told() {
    let check = |change: &dyn Fn(&mut Plan), exact: bool, says: Option<&str>| {
        let mut plan = plan(vec![0]);
        change(&mut plan);
        let why = cannot_wait(&plan, 0, exact);
        match says {
            None => assert_eq!(why, None),
            Some(says) => assert!(why.unwrap().contains(says), "{why:?}"),
        }
    };
    let text = |plan: &mut Plan| {
        let column = &mut plan.targets[0].columns[0];
        column.ty = ColumnType::Text { max_chars: None };
        column.folds = true;
    };
    let acts = |plan: &mut Plan| {
        plan.cascades.push(Cascade {
            parent: 0,
            parent_columns: vec![0],
            child: 0,
            columns: vec![1],
            on_delete: ReferenceAction::Cascade,
            on_update: ReferenceAction::Refuse,
            derived: false,
            enforced: true,
            logged: true,
        });
    };
    check(&|_| {}, false, None);
    check(&|plan| plan.targets[0].key.clear(), true, Some("no key"));
    check(&acts, true, Some("foreign keys that act"));
    check(&text, false, Some("different ways"));
    // A target that refuses such a row makes it wait for itself.
    check(&text, true, None);
}

#[test]
fn keys_are_those_of_one_key() {
    let of = |change: &dyn Fn(&mut ColumnSchema)| {
        let mut plan = plan(vec![0]);
        change(&mut plan.targets[0].columns[0]);
        print_of(&plan.targets[0])
    };
    let as_it_is = of(&|_| {});
    assert_eq!(as_it_is, of(&|column| column.nullable = true));
    assert_ne!(as_it_is, of(&|column| column.ty = ColumnType::Uuid));
    assert_ne!(as_it_is, of(&|column| column.name = "other".into()));
}
