//! What becomes of each change of a table loaded in chunks, without anything around it: the right
//! judgement leads a strict target from the chunks to the source's end, and each wrong one that
//! comes to mind is caught.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::batch::{RowOp, TableOp};
use thalweg_core::change::{Change, ChangeBatch, ChangeKind};
use thalweg_core::checkpoint::LoadedChunk;
use thalweg_core::mapping::TaskOptions;
use thalweg_core::plan::{Fate, Plan};
use thalweg_core::position::Visibility;
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_engine::ledger::Ledger;

use crate::world::{plan, schemas};

/// Rows by key.
type Rows = BTreeMap<i64, i64>;
/// Key and value, before and after.
type Step = (Option<(i64, i64)>, Option<(i64, i64)>);

const KEYS: i64 = 40;
const CHUNKS: i64 = 4;

/// A source's life: its state after each transaction, and what each did.
struct History {
    states: Vec<Rows>,
    transactions: Vec<Vec<Step>>,
}

fn history(rng: &mut SmallRng) -> History {
    let mut now: Rows = (0..KEYS).step_by(3).map(|key| (key, 0)).collect();
    let mut history = History {
        states: vec![now.clone()],
        transactions: Vec::new(),
    };
    for value in 1..40 {
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let key = rng.random_range(0..KEYS);
            let to = rng.random_range(0..KEYS);
            let old = now.remove(&key).map(|old| (key, old));
            let new = match (old, rng.random_range(0..4)) {
                (None, _) => Some((key, value)),
                (Some(_), 0) => None,
                (Some(_), 1) => Some((key, value)),
                (Some((_, kept)), _) if !now.contains_key(&to) => Some((to, kept)),
                (Some(_), _) => Some((key, value)),
            };
            now.extend(new);
            steps.push((old, new));
        }
        history.transactions.push(steps);
        history.states.push(now.clone());
    }
    history
}

/// The changes of a transaction as the log has them.
fn changes(steps: &[Step]) -> ChangeBatch {
    let mut batch = ChangeBatch::default();
    for (before, after) in steps {
        let mut image = |row: &Option<(i64, i64)>| {
            let (key, value) = (*row)?;
            batch.rows.push(CellRef::I64(key));
            batch.rows.push(CellRef::I64(value));
            Some(batch.rows.end_row())
        };
        let (before, after) = (image(before), image(after));
        batch.changes.push(Change {
            table: 0,
            kind: match (before, after) {
                (Some(_), Some(_)) => ChangeKind::Update,
                (Some(_), None) => ChangeKind::Delete,
                _ => ChangeKind::Insert,
            },
            before,
            after,
            unchecked: false,
        });
    }
    batch
}

/// The chunks, each with the number of the last transaction it has seen.
fn ledger(seen: &[usize]) -> Vec<LoadedChunk> {
    let width = KEYS / CHUNKS;
    let bound = |key: i64| (0 < key && key < KEYS).then(|| Bound::new(CellRef::I64(key)));
    let chunk = |(at, seen): (i64, &usize)| LoadedChunk {
        source: schemas("bank", &["id", "amount"]).remove(0).name,
        range: Some(KeyRange {
            column: 0,
            from: bound(at * width),
            to: bound((at + 1) * width),
        }),
        seen: Visibility::new(seen.to_string()),
        rows: 0,
    };
    (0..CHUNKS).zip(seen).map(chunk).collect()
}

/// Does what an operation says; an error if the rows are not as it expects.
fn apply(rows: &mut Rows, batch: &RowBatch, op: &TableOp) -> Result<(), String> {
    let row = |index: usize| match (batch.row(index).cell(0), batch.row(index).cell(1)) {
        (Some(CellRef::I64(key)), Some(CellRef::I64(value))) => (key, value),
        other => panic!("{other:?}"),
    };
    let mut gone = |key: i64| rows.remove(&key).ok_or(format!("no row {key}"));
    let came = match op.op {
        RowOp::Insert(new) => row(new),
        RowOp::Update { before, after } => {
            gone(row(before).0)?;
            row(after)
        }
        RowOp::Delete(old) => return gone(row(old).0).map(drop),
        RowOp::Truncate => panic!("nobody truncates"),
    };
    match rows.insert(came.0, came.1) {
        None => Ok(()),
        Some(_) => Err(format!("a second row {}", came.0)),
    }
}

/// How changes are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judge {
    Ledger,
    /// Both keys by the chunk of the old one.
    ByOldKey,
    /// Both keys by the chunk of the new one.
    ByNewKey,
    /// All chunks as if they had seen what the one that has seen least has.
    Oldest,
    /// All chunks as if they had seen what the one that has seen most has.
    Newest,
    /// The ledger is dropped when the first visibility is passed.
    DroppedEarly,
}

/// Loads and follows one random life; an error if it goes wrong.
fn live(plan: &Plan, judge: Judge, seed: u64) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let history = history(&mut rng);
    let begin = rng.random_range(0..10);
    let seen: Vec<usize> = (0..CHUNKS).map(|_| rng.random_range(begin..30)).collect();
    let mut target = Rows::new();
    for (at, seen) in (0..CHUNKS).zip(&seen) {
        let width = KEYS / CHUNKS;
        let rows = history.states[*seen].range(at * width..(at + 1) * width);
        target.extend(rows.map(|(key, value)| (*key, *value)));
    }
    let (oldest, newest) = (*seen.iter().min().unwrap(), *seen.iter().max().unwrap());
    let told = match judge {
        Judge::Oldest => vec![oldest; seen.len()],
        Judge::Newest => vec![newest; seen.len()],
        _ => seen,
    };
    let mut ledger = Ledger::new(plan, &ledger(&told)).unwrap();
    for (index, steps) in history.transactions.iter().enumerate().skip(begin) {
        let number = index + 1;
        let changes = changes(steps);
        ledger.next_transaction();
        let mut contains = |seen: &Visibility| Ok(number <= seen.as_str().parse().unwrap());
        let mut fate = |_: usize, change: &Change| {
            let one_key = |row| Change {
                kind: ChangeKind::Insert,
                before: None,
                after: row,
                ..*change
            };
            match judge {
                Judge::DroppedEarly if number > oldest => Ok(Fate::Apply),
                Judge::ByOldKey if change.kind == ChangeKind::Update => {
                    ledger.fate(&one_key(change.before), &changes.rows, &mut contains)
                }
                Judge::ByNewKey if change.kind == ChangeKind::Update => {
                    ledger.fate(&one_key(change.after), &changes.rows, &mut contains)
                }
                _ => ledger.fate(change, &changes.rows, &mut contains),
            }
        };
        let (mut rows, mut ops) = (RowBatch::new(), Vec::new());
        let projected = plan.project(
            &changes.changes,
            &changes.rows,
            &mut fate,
            &mut rows,
            &mut ops,
        );
        assert!(projected.unwrap().again.is_empty());
        for op in &ops {
            apply(&mut target, &rows, op)?;
        }
    }
    match history.states.last() == Some(&target) {
        true => Ok(()),
        false => Err("not equal".into()),
    }
}

fn bank() -> Arc<Plan> {
    let columns = ["id", "amount"];
    let tables = schemas("bank", &columns);
    let mut plan = plan(&tables, schemas("copy", &columns), TaskOptions::default());
    // The strict target compares whole old rows.
    let routes = Arc::make_mut(&mut plan).sources.iter_mut();
    for route in routes.flat_map(|source| &mut source.routes) {
        route.brief = false;
    }
    plan
}

#[test]
fn a_strict_target_comes_from_the_chunks_to_the_end_of_the_source() {
    let plan = bank();
    let lives = match std::env::var_os("THALWEG_PROVE") {
        Some(_) => 100_000,
        None => 2_000,
    };
    for seed in 0..lives {
        let end = live(&plan, Judge::Ledger, seed);
        assert_eq!(end, Ok(()), "seed {seed}");
    }
    println!("proof: {lives} random lives of a table in chunks are judged rightly");
}

#[test]
fn every_wrong_judgement_is_caught() {
    let plan = bank();
    for judge in [
        Judge::ByOldKey,
        Judge::ByNewKey,
        Judge::Oldest,
        Judge::Newest,
        Judge::DroppedEarly,
    ] {
        let lives: u64 = 500;
        let wrong = (0..lives).filter(|seed| live(&plan, judge, *seed).is_err());
        let wrong = wrong.count();
        println!("proof: {judge:?} is caught in {wrong} of {lives} lives");
        assert!(wrong > 250, "{judge:?}: {wrong}");
    }
}

/// What is missing between chunks is found, whatever their order.
#[test]
fn gaps_are_what_no_chunk_has() {
    let plan = bank();
    let chunks = ledger(&[1, 2, 3, 4]);
    let key = |n: i64| Some(Bound::new(CellRef::I64(n)));
    let gap = |from: Option<Bound>, to: Option<Bound>| {
        Some(KeyRange {
            column: 0,
            from,
            to,
        })
    };
    let check = |there: &[usize], expected: &[Option<KeyRange>]| {
        let chunks: Vec<_> = there.iter().map(|at| chunks[*at].clone()).collect();
        let ledger = Ledger::new(&plan, &chunks).unwrap();
        assert_eq!(ledger.gaps(0), expected, "{there:?}");
        assert_eq!(ledger.gaps(1), [None], "another table has none");
    };
    check(&[], &[None]);
    check(&[3, 0, 2, 1], &[]);
    check(&[0], &[gap(key(10), None)]);
    check(&[3], &[gap(None, key(30))]);
    check(&[2, 1], &[gap(None, key(10)), gap(key(30), None)]);
    check(&[3, 0], &[gap(key(10), key(30))]);
    let whole = LoadedChunk {
        range: None,
        ..chunks[0].clone()
    };
    assert_eq!(
        Ledger::new(&plan, std::slice::from_ref(&whole))
            .unwrap()
            .gaps(0),
        []
    );
    // A key in no chunk was never loaded, so nothing of it is.
    let mut part = Ledger::new(&plan, &chunks[..1]).unwrap();
    let changes = changes(&[(None, Some((35, 1)))]);
    let fate = part.fate(&changes.changes[0], &changes.rows, &mut |_| Ok(true));
    assert_eq!(fate.unwrap(), Fate::Apply);
    // The same part twice, or a part of what is there as a whole.
    let twice = [chunks[1].clone(), chunks[1].clone()];
    assert!(Ledger::new(&plan, &twice).is_err());
    assert!(Ledger::new(&plan, &[whole, chunks[1].clone()]).is_err());
}
