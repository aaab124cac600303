use thalweg_core::Kind;
use thalweg_core::change::ChangeKind;

use super::ward::WAITING_MAX;
use super::*;

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
    let of = |key: u8, moved: Option<u8>| OpKeys {
        key: vec![key],
        moved: moved.map(|key| vec![key]),
    };
    assert!(!keys.has((0, 0), &of(1, None)));
    keys.add((0, 0), &of(1, Some(2)));
    for (place, op, waits) in [
        ((0, 0), of(1, None), true),
        ((0, 0), of(2, None), true),
        ((0, 0), of(7, Some(2)), true),
        ((0, 0), of(7, Some(8)), false),
        ((0, 1), of(1, None), false),
        ((1, 0), of(1, None), false),
    ] {
        assert_eq!(keys.has(place, &op), waits, "{place:?} {op:?}");
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
    assert_eq!(error.kind(), Kind::Data);
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
