//! Random mappings and histories through the connectors in memory: what the target holds is what an
//! independent model says, loaded anew as well as followed.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::Operations;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Target as _;
use thalweg_core::schema::TableName;
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::status::TaskStatus;
use thalweg_engine::task::{self, TaskSpec};
use thalweg_testkit::mappings::{Case, Expected, Setting, model};
use thalweg_testkit::memory::{Faults, MemoryChange, MemorySource, MemoryTarget, Row};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn key() -> TaskKey {
    TaskKey {
        server: "simulation".into(),
        task: "mapped".into(),
    }
}

fn plan(case: &Case) -> Arc<Plan> {
    let resolution = case.resolve(&case.sources, &case.targets);
    let findings = resolution.findings;
    Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:#?}")))
}

fn target(case: &Case) -> MemoryTarget {
    let names: Vec<TableName> = case.targets.iter().map(|t| t.name.clone()).collect();
    MemoryTarget::new(&names, Arc::default())
}

/// Runs a task while `history` is committed; until the target has all of it.
async fn run(
    plan: Arc<Plan>,
    source: &MemorySource,
    target: &MemoryTarget,
    history: &[Vec<MemoryChange>],
    at_once: bool,
) -> thalweg_core::Result<()> {
    let (status, seen) = watch::channel(TaskStatus::default());
    let stop = CancellationToken::new();
    let spec = TaskSpec {
        key: key(),
        plan,
        source: Arc::new(source.clone()),
        target: Arc::new(target.clone()),
        expects_checkpoint: false,
        compares: std::collections::BTreeMap::new(),
        orders: thalweg_engine::verify::Orders::default(),
        quarantine: thalweg_engine::quarantine::Ward::default(),
        elsewhere: std::sync::Arc::default(),
    };
    let (limits, budget) = (Limits::default(), MemoryBudget::default());
    let run = task::run(spec, limits, budget, status, stop.clone());
    let body = async {
        let until = async |done: &dyn Fn() -> bool| {
            for _ in 0..6000 {
                if done() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let status = format!("{:?}", seen.borrow());
            Err(thalweg_core::Error::bug(format!(
                "it does not come: {status}"
            )))
        };
        if !at_once {
            until(&|| target.now().live).await?;
        }
        for transaction in history {
            source.commit_changes(transaction.clone());
            tokio::task::yield_now().await;
        }
        until(&|| {
            let now = target.now();
            let head = source.position();
            now.live && now.applied() == Some(&head)
        })
        .await?;
        stop.cancel();
        Ok(())
    };
    tokio::try_join!(run, body).map(drop)
}

/// What a target holds, as the model says it: the mapped columns.
fn held(case: &Case, plan: &Plan, target: &MemoryTarget) -> Expected {
    let now = target.now();
    let tables = plan.targets.iter().map(|table| {
        let schema = case.targets.iter().find(|t| t.name == table.name).unwrap();
        let mut order: Vec<usize> = (0..table.columns.len()).collect();
        order.sort_by_key(|c| schema.column_index(&table.columns[*c].name));
        let rows = now.tables()[&table.name].values();
        let row = |row: &Row| order.iter().map(|c| row[*c]).collect::<Row>();
        let mut rows: Vec<Row> = rows.map(row).collect();
        rows.sort();
        (table.name.clone(), rows)
    });
    tables.collect()
}

/// What the model says, without the columns nobody maps.
fn said(case: &Case, plan: &Plan, mut expected: Expected) -> Expected {
    for table in &plan.targets {
        let schema = case.targets.iter().find(|t| t.name == table.name).unwrap();
        let rows = expected.get_mut(&table.name).unwrap();
        for row in rows.iter_mut() {
            let cells = row.iter().zip(&schema.columns);
            let mapped = cells.filter(|(_, c)| table.columns.iter().any(|m| m.name == c.name));
            *row = mapped.map(|(cell, _)| *cell).collect();
        }
        rows.sort();
    }
    expected
}

async fn play(seed: u64) -> Case {
    let mut rng = SmallRng::seed_from_u64(seed);
    let case = Case::random(&mut rng, &Setting::default());
    let plan = plan(&case);
    let faults = Arc::new(Faults::default());
    let mut source = MemorySource::new(case.sources.clone(), faults);
    source.part_changes = rng.random_range(1..6);
    for transaction in &case.before {
        source.commit_changes(transaction.clone());
    }
    let followed = target(&case);
    let failed = |error: thalweg_core::Error| panic!("SEED={seed}: {error:?} {case:#?}");
    if !case.operations.insert {
        // The rows that are there come from a task that carried all over.
        let all = Case {
            operations: Operations::ALL,
            ..case.clone()
        };
        run(self::plan(&all), &source, &followed, &[], true)
            .await
            .unwrap_or_else(failed);
        followed.release(&key()).await.unwrap();
    }
    let at_once = case.operations == Operations::ALL && rng.random_bool(0.7);
    run(
        Arc::clone(&plan),
        &source,
        &followed,
        &case.history,
        at_once,
    )
    .await
    .unwrap_or_else(failed);
    let expected = said(&case, &plan, model(&case, &case.before, &case.history));
    assert_eq!(
        held(&case, &plan, &followed),
        expected,
        "SEED={seed} followed: {case:#?}"
    );
    if case.operations.insert {
        let loaded = target(&case);
        run(Arc::clone(&plan), &source, &loaded, &[], true)
            .await
            .unwrap_or_else(failed);
        let all: Vec<_> = case.before.iter().chain(&case.history).cloned().collect();
        let expected = said(&case, &plan, model(&case, &all, &[]));
        assert_eq!(
            held(&case, &plan, &loaded),
            expected,
            "SEED={seed} loaded: {case:#?}"
        );
    }
    case
}

#[tokio::test(start_paused = true)]
async fn random_mappings_hold_what_the_model_says() {
    let given = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let first: u64 = given.unwrap_or(20_261_125_000);
    let count = match (given, std::env::var_os("THALWEG_PROVE")) {
        (Some(_), _) => 1,
        (None, Some(_)) => 10_000,
        (None, None) => 300,
    };
    let (mut merged, mut owned, mut subsets, mut several) = (0, 0, 0, 0);
    for seed in first..first + count {
        let case = play(seed).await;
        let mapped_to = |t: &&thalweg_core::schema::TableSchema| {
            case.mappings.iter().filter(|m| m.target == t.name).count()
        };
        merged += case.targets.iter().filter(|t| mapped_to(t) > 1).count();
        owned += case.options.row_owner.len();
        subsets += usize::from(case.operations != Operations::ALL);
        several += usize::from(case.targets.len() > 1);
    }
    println!(
        "proof: {count} random mappings in memory from SEED={first}: {merged} merged tables, \
         {owned} with an owner, {subsets} with a subset of operations, {several} to several tables"
    );
    assert!(given.is_some() || merged > 50 && owned > 10 && subsets > 50 && several > 100);
}
