//! Random mappings and histories through real databases: what the target holds is what an
//! independent model says, loaded anew as well as followed.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::mapping::Operations;
use thalweg_core::plan::Plan;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_testkit::mappings::{Case, Expected, Setting, model};
use thalweg_testkit::memory::MemoryChange;
use thalweg_testkit::servers::{Place, System};

use crate::pair::Pair;

const PATIENCE: Duration = Duration::from_secs(60);

/// The tables as both databases describe them, and the plan made of that.
async fn plan(case: &Case, pair: &Pair) -> Arc<Plan> {
    let names = |tables: &[TableSchema]| -> Vec<TableName> {
        tables.iter().map(|table| table.name.clone()).collect()
    };
    let sources = pair.source.describe(&names(&case.sources)).await.unwrap();
    let targets = pair.target.describe(&names(&case.targets)).await.unwrap();
    let resolution = case.resolve(&sources, &targets);
    let findings = resolution.findings;
    Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:#?}")))
}

fn held(case: &Case, place: &Place) -> Expected {
    let tables = case.targets.iter();
    tables
        .map(|table| (table.name.clone(), case.rows(place, table).unwrap()))
        .collect()
}

/// One case: followed from its first rows on, and loaded at its end.
async fn play(pair: &mut Pair, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let setting = Setting {
        schemas: [pair.from.schema().to_owned(), pair.to.schema().to_owned()],
        hostile_names: true,
        merges: true,
        truncates: pair.from.system() == System::Postgres,
        partial_images: pair.from.system() == System::Postgres,
    };
    let case = Case::random(&mut rng, &setting);
    let (from, to) = (pair.from.clone(), pair.to.clone());
    let happen = |changes: &[Vec<MemoryChange>]| {
        let sql = case.statements(from.system(), changes);
        from.sql(&sql)
            .unwrap_or_else(|e| panic!("SEED={seed}: {e:#}\n{sql}"));
    };
    let sql = case.create_sources(from.system());
    from.sql(&sql)
        .unwrap_or_else(|e| panic!("SEED={seed}: {e:#}\n{sql}"));
    let create = case.create_targets(to.system());
    to.sql(&create)
        .unwrap_or_else(|e| panic!("SEED={seed}: {e:#}\n{create}"));
    happen(&case.before);
    if !case.operations.insert {
        // The rows that are there come from a task that carried all over.
        let all = Case {
            operations: Operations::ALL,
            ..case.clone()
        };
        pair.spec.plan = plan(&all, pair).await;
        let mut running = pair.run();
        pair.caught_up(&mut running, PATIENCE).await;
        running.stop().await.unwrap();
        pair.release().await;
    }
    pair.spec.plan = plan(&case, pair).await;
    let mut running = pair.run();
    let at_once = case.operations == Operations::ALL && rng.random_bool(0.7);
    if !at_once {
        pair.caught_up(&mut running, PATIENCE).await;
    }
    happen(&case.history);
    pair.caught_up(&mut running, PATIENCE).await;
    running.stop().await.unwrap();
    let expected = model(&case, &case.before, &case.history);
    assert_eq!(
        held(&case, &to),
        expected,
        "SEED={seed} followed: {case:#?}"
    );
    pair.release().await;
    if case.operations.insert {
        let sql = Case::drop(to.system(), &case.targets) + &create;
        to.sql(&sql).unwrap();
        let mut running = pair.run();
        pair.caught_up(&mut running, PATIENCE).await;
        running.stop().await.unwrap();
        let all: Vec<_> = case.before.iter().chain(&case.history).cloned().collect();
        let expected = model(&case, &all, &[]);
        assert_eq!(held(&case, &to), expected, "SEED={seed} loaded: {case:#?}");
        pair.release().await;
    }
    from.sql(&Case::drop(from.system(), &case.sources)).unwrap();
    to.sql(&Case::drop(to.system(), &case.targets)).unwrap();
}

async fn random_mappings(from: System, to: System, gate: u64) {
    let given = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let first: u64 = given.unwrap_or(20_261_125_000);
    let count = match (given, std::env::var_os("THALWEG_PROVE")) {
        (Some(_), _) => 1,
        (None, Some(_)) => 200,
        (None, None) => gate,
    };
    let mut pair = Pair::between(
        from,
        to,
        "CREATE TABLE first (id bigint PRIMARY KEY)",
        &["first"],
    )
    .await;
    for seed in first..first + count {
        play(&mut pair, seed).await;
    }
    println!("proof: {count} random mappings from {from} to {to} from SEED={first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_to_postgres() {
    random_mappings(System::MariaDb, System::Postgres, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_to_postgres() {
    random_mappings(System::Postgres, System::Postgres, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_to_mariadb() {
    random_mappings(System::Postgres, System::MariaDb, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_to_mariadb() {
    random_mappings(System::MariaDb, System::MariaDb, 3).await;
}
