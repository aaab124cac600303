//! One bad row among a million, and what it costs.

use std::time::Instant;

use thalweg_engine::quarantine::Way;
use thalweg_testkit::servers::{Place, System};

use super::{PATIENCE, ask, held, refusing};
use crate::pair::Pair;

const ROWS: u64 = 1_000_000;
/// Rows of a transaction of the backlog.
const TRANSACTION: u64 = 100;
/// Pairs of runs, of which one has the bad row.
const ROUNDS: usize = 5;
const BAD: u64 = 456_789;

/// Inserts or changes all rows, in small transactions; with `bad` one of them to what the target refuses, and
/// then three times more.
fn backlog(source: &Place, round: u64, bad: bool) {
    let mut sql = String::new();
    for from in (0..ROWS / TRANSACTION).map(|n| n * TRANSACTION) {
        let to = from + TRANSACTION;
        let rows = match source.system() {
            System::MariaDb => format!("(SELECT seq AS n FROM seq_{}_to_{to}) r", from + 1),
            System::Postgres => format!("generate_series({}, {to}) n", from + 1),
        };
        let value = match bad {
            true => format!("CASE WHEN n = {BAD} THEN 5000000 ELSE {round} END"),
            false => round.to_string(),
        };
        sql += &format!(
            "INSERT INTO item SELECT n + {round} * {ROWS}, {value}, 'text of the row' FROM {rows};\n"
        );
        if sql.len() > 1 << 20 {
            source.sql(&sql).unwrap();
            sql.clear();
        }
    }
    let id = BAD + round * ROWS;
    for n in 1..=3 {
        sql += &format!("UPDATE item SET t = 'change {n}' WHERE id = {id};\n");
    }
    source.sql(&sql).unwrap();
}

/// Seconds from the start of the task until all of the backlog is there.
async fn drained(pair: &mut Pair) -> f64 {
    pair.spec.expects_checkpoint = true;
    let begun = Instant::now();
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    let took = begun.elapsed().as_secs_f64();
    running.stop().await.unwrap();
    took
}

/// All rows but the bad one of a run have come; corrected at the source, it is released with its changes in their order.
async fn corrected(pair: &mut Pair, number: u64) {
    let waiting = held(pair).await;
    assert_eq!(waiting.len(), 4, "{waiting:?}");
    let errors = waiting.iter().filter(|held| held.error.is_some());
    assert_eq!(errors.count(), 1);
    let all = (number + 1) * ROWS - 1;
    assert_eq!(
        pair.to.sql("SELECT count(*) FROM item").unwrap(),
        all.to_string()
    );
    let id = BAD + number * ROWS;
    pair.from
        .sql(&format!("UPDATE item SET v = 1 WHERE id = {id}"))
        .unwrap();
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    let settled = ask(pair, Way::Release, None).await;
    assert_eq!(
        (settled.rows, settled.changes, settled.refused.len()),
        (1, 5, 0)
    );
    running.stop().await.unwrap();
}

pub(super) async fn proved(from: System, to: System) {
    let make = |source: &Place, _: &Place| {
        let table = "CREATE TABLE item (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, t VARCHAR(40))";
        source.sql(table).unwrap();
    };
    let mut pair = Pair::made(from, to, make, &["item"]).await;
    refusing(&mut pair).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    running.stop().await.unwrap();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut took = [0.0; 2];
        // Each comes first in turn: the table grows, and the machine is not the same from one run to the next.
        let bad_at = (round as u64 + 1) % 2;
        for at in 0..2 {
            let (number, bad) = (2 * round as u64 + at, at == bad_at);
            backlog(&pair.from, number, bad);
            took[usize::from(bad)] = drained(&mut pair).await;
            if bad {
                corrected(&mut pair, number).await;
            }
        }
        println!("clean {:.2} s, with a bad row {:.2} s", took[0], took[1]);
        ratios.push(took[0] / took[1]);
    }
    pair.judge().all_equal(&["item"]).unwrap();
    ratios.sort_by(f64::total_cmp);
    println!(
        "proof: quarantine {from:?} to {to:?}: 1 bad row among {ROWS}, with 3 changes behind it: the others arrived, \
         released after its correction, equal; rate with it by that without, median of {ROUNDS} interleaved pairs \
         {:.2} ({:.2} to {:.2})",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
    );
}
