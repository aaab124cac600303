//! Which decisions are taken, and which are refused.

use super::*;
use crate::model::MappingStatus;

/// Mappings as `id source target`, a paused one with a `!` behind it.
fn tables(texts: &[&str]) -> Tables {
    let mapping = |text: &&str| {
        let mut words = text.split_whitespace().map(str::to_owned);
        let mut next = || words.next().unwrap();
        TableMapping {
            id: next(),
            source_table: next(),
            target_table: next(),
            source_columns: Vec::new(),
            target_columns: Vec::new(),
            columns: Vec::new(),
            status: MappingStatus::Manual,
            percent: 100,
            updated_ms: 1,
            paused: text.ends_with('!').then(|| why("before")),
            reload: false,
            doubt: false,
        }
    };
    let schemas = ("shop".to_owned(), "public".to_owned());
    Tables::of(texts.iter().map(mapping).collect(), &schemas).unwrap()
}

fn why(reason: &str) -> Paused {
    Paused {
        reason: reason.to_owned(),
        fix: "resume it".to_owned(),
        since_ms: 7,
        returns: false,
    }
}

/// What is decided, a word for each change.
fn told(changes: Result<Vec<MappingChange>>) -> Vec<String> {
    let word = |change: MappingChange| match change {
        MappingChange::Add(new) if new.reload => format!("add and load {}", new.id),
        MappingChange::Add(new) => format!("add {}", new.id),
        MappingChange::Pause(id, why) => format!("pause {id} {}", why.reason),
        MappingChange::Resume(id) => format!("resume {id}"),
        MappingChange::Reload(id) => format!("reload {id}"),
        MappingChange::Remove(id) => format!("remove {id}"),
    };
    match changes {
        Ok(changes) => changes.into_iter().map(word).collect(),
        Err(Error::Conflict(_)) => vec!["conflict".to_owned()],
        Err(Error::Mapping(_)) => vec!["mapping".to_owned()],
        Err(Error::NotFound(Subject::Mapping)) => vec!["unknown".to_owned()],
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_last_table_of_a_running_task_stays() {
    let two = tables(&["1 a a", "2 b b"]);
    let by = why("user");
    assert_eq!(told(two.pause(true, "1", &by)), ["pause 1 user"]);
    assert_eq!(told(two.remove(true, "1")), ["remove 1"]);
    let one = tables(&["1 a a !", "2 b b"]);
    assert_eq!(told(one.pause(true, "2", &by)), ["conflict"]);
    assert_eq!(told(one.remove(true, "2")), ["conflict"]);
    assert_eq!(told(one.remove(true, "1")), ["remove 1"]);
    assert_eq!(told(one.pause(false, "2", &by)), ["pause 2 user"]);
    assert_eq!(told(one.remove(false, "2")), ["remove 2"]);
    let none = tables(&["1 a a !", "2 b b !"]);
    assert_eq!(told(none.remove(true, "2")), ["remove 2"]);
}

#[test]
fn mappings_of_one_target_table_go_together() {
    let merged = tables(&["1 a all", "2 b public.all", "3 c c"]);
    let by = why("user");
    for id in ["1", "2"] {
        let paused = told(merged.pause(true, id, &by));
        assert_eq!(paused, ["pause 1 user", "pause 2 user"]);
        let again = told(merged.load_again(id));
        assert_eq!(again, ["reload 1", "reload 2"]);
    }
    assert_eq!(told(merged.resume("1")), [""; 0], "it is not paused");
    // One that came later is left out, too, and resumed with the others.
    let half = tables(&["1 a all !", "2 b public.all", "3 c c"]);
    let active: Vec<_> = half.active().map(|one| one.mapping.id.as_str()).collect();
    assert_eq!(active, ["3"]);
    assert_eq!(told(half.pause(true, "2", &by)), [""; 0], "it is paused");
    assert_eq!(told(half.load_again("2")), ["conflict"]);
    assert_eq!(told(half.resume("2")), ["resume 1", "resume 2"]);
    assert_eq!(told(half.remove(true, "3")), ["conflict"]);
    let alone = tables(&["1 a all", "2 b all"]);
    assert_eq!(told(alone.pause(true, "1", &by)), ["conflict"]);
    assert_eq!(told(alone.remove(true, "1")), ["remove 1"]);
}

#[test]
fn a_pair_of_tables_is_added_once_and_not_beside_a_pause() {
    let known = tables(&["1 a a", "2 b all !"]);
    let add = |text: &str| told(known.add(&tables(&[text]).all[0]));
    assert_eq!(add("9 c c"), ["add and load 9"]);
    assert_eq!(add("9 shop.a public.a"), ["mapping"]);
    assert_eq!(add("9 other.a a"), ["add and load 9"]);
    assert_eq!(add("9 c all"), ["conflict"]);
}

#[test]
fn unknown_mappings_are_told() {
    let known = tables(&["1 a a"]);
    let by = why("user");
    for changes in [
        known.pause(false, "x", &by),
        known.resume("x"),
        known.load_again("x"),
        known.remove(false, "x"),
    ] {
        assert_eq!(told(changes), ["unknown"]);
    }
}
