//! Whether the target is what the source is, and was what the source was, all along.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::mapping::OnChange;
use thalweg_testkit::memory::{Committed, Moment, Row};

use super::world::{NAMED, TABLES, World, copy};

/// Columns by table and name.
type Names = BTreeSet<(usize, String)>;

/// What the log does not tell for each moment: columns, and tables from a place on.
type Untold<'a> = (&'a Names, &'a BTreeMap<usize, usize>);

/// From the moment on at which a table is live, it is at each state that the target commits the source table
/// of that state's position: in all columns that both have, but those whose values the log does not tell.
/// So no half transaction is visible, and none is lost or comes twice.
pub(super) fn history(world: &World, untold: Untold<'_>) -> Result<u64, String> {
    let moments = world.source.moments();
    let once = once(&moments);
    let follows = world.options.on_changes.add_column != OnChange::Ignore;
    let states = |states: &[Committed]| compare(states, &moments, (&once, untold), follows);
    world.target.look_back(states)
}

fn compare(
    states: &[Committed],
    moments: &[Vec<Moment>],
    (once, (untold, vanished)): (&Names, Untold<'_>),
    follows: bool,
) -> Result<u64, String> {
    let stay = moments.last().map_or(&[][..], Vec::as_slice);
    let mut compared = 0;
    let mut last: Option<&Committed> = None;
    for state in states {
        let same = |last: &Committed| {
            last.applied() == state.applied()
                && last.tables() == state.tables()
                && (0..TABLES.len()).all(|at| last.is_live(&copy(at)) == state.is_live(&copy(at)))
        };
        if last.is_some_and(same) {
            continue;
        }
        last = Some(state);
        let Some(position) = state.applied() else {
            continue;
        };
        let number: usize = position.as_str().parse().unwrap();
        let told = |at: usize, name: &str| {
            let name = (at, name.to_owned());
            once.contains(&name) && !untold.contains(&name)
        };
        for at in (0..TABLES.len()).filter(|at| state.is_live(&copy(*at))) {
            compared += 1;
            if follows && at != NAMED {
                has_come(state, at, &moments[number][at], stay)
                    .map_err(|why| format!("table {} at {number}: {why}", TABLES[at]))?;
            }
            // They are repaired when it comes to that.
            if vanished.get(&at).is_some_and(|from| number >= *from) {
                continue;
            }
            same_rows(state, at, &moments[number][at], &|name| told(at, name))
                .map_err(|why| format!("table {} at {number}: {why}", TABLES[at]))?;
        }
    }
    Ok(compared)
}

/// No stream passes the statement that brings a column before the target has it, if the column is there in the
/// end.
fn has_come(state: &Committed, at: usize, moment: &Moment, stay: &[Moment]) -> Result<(), String> {
    let columns = state.columns(&copy(at)).unwrap_or_default();
    let stays = |column: &&(String, u32)| stay[at].columns.contains(column);
    let lacks = |column: &&(String, u32)| !columns.contains(&column.0);
    match moment.columns.iter().filter(stays).find(lacks) {
        None => Ok(()),
        Some((name, _)) => Err(format!("column {name} has not come")),
    }
}

/// The names that were never those of two columns.
fn once(moments: &[Vec<Moment>]) -> Names {
    let mut numbers: BTreeMap<(usize, String), BTreeSet<u32>> = BTreeMap::new();
    for tables in moments {
        for (at, table) in tables.iter().enumerate() {
            for (name, number) in &table.columns {
                numbers
                    .entry((at, name.clone()))
                    .or_default()
                    .insert(*number);
            }
        }
    }
    let single = numbers
        .into_iter()
        .filter(|(_, numbers)| numbers.len() == 1);
    single.map(|(name, _)| name).collect()
}

/// Whether a table of the target has the rows of a moment, in the columns that both have and that are `told`.
fn same_rows(
    state: &Committed,
    at: usize,
    moment: &Moment,
    told: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let columns = state.columns(&copy(at)).unwrap_or_default();
    let place = |name: &str| moment.columns.iter().position(|(other, _)| other == name);
    let both = columns.iter().enumerate().filter(|(_, name)| told(name));
    let both: Vec<(usize, usize)> = both
        .filter_map(|(to, name)| Some((to, place(name)?)))
        .collect();
    let cells = |row: &Row, place: &dyn Fn(&(usize, usize)) -> usize| -> Row {
        both.iter().map(|pair| row[place(pair)]).collect()
    };
    let there = &state.tables()[&copy(at)];
    let is: BTreeMap<_, _> = there
        .iter()
        .map(|(k, row)| (k, cells(row, &|p| p.0)))
        .collect();
    let should = moment.rows.iter();
    let should: BTreeMap<_, _> = should.map(|(k, row)| (k, cells(row, &|p| p.1))).collect();
    match is == should {
        true => Ok(()),
        false => Err(format!("{columns:?}: {is:?} is not {should:?}")),
    }
}

/// Whether the target is the source: rows, and columns as the task's options want them.
pub(super) fn equal(world: &World) -> Result<(), String> {
    let moments = world.source.moments();
    let state = world.target.now();
    for (at, moment) in moments.last().unwrap().iter().enumerate() {
        let why = |why: String| format!("table {} in the end: {why}", TABLES[at]);
        same_rows(&state, at, moment, &|_| true).map_err(why)?;
        let names = moment.columns.iter().map(|(name, _)| name.as_str());
        let should: BTreeSet<&str> = match at {
            NAMED => ["id", "amount"].into(),
            _ => names.collect(),
        };
        let is = state.columns(&copy(at)).unwrap_or_default();
        let is: BTreeSet<&str> = is.iter().map(String::as_str).collect();
        let fits = match world.options.on_changes.add_column {
            OnChange::Ignore => is.is_subset(&should),
            _ => is == should,
        };
        if !fits {
            return Err(why(format!("its columns are {is:?} and not {should:?}")));
        }
    }
    Ok(())
}
