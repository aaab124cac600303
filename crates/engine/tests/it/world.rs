//! What the simulation plays in: a bank whose total never changes, and a way to run the task.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::Source;
use thalweg_core::schema::TableSchema;
use thalweg_engine::limits::{Limits, MemoryBudget};
use thalweg_engine::quarantine::Ward;
use thalweg_engine::status::TaskStatus;
use thalweg_engine::task::{self, TaskSpec};
use thalweg_engine::verify::Orders;
use thalweg_testkit::memory::{Committed, Faults, MemorySource, MemoryTarget, table};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) faults: Arc<Faults>,
    pub(crate) source: MemorySource,
    pub(crate) target: MemoryTarget,
    pub(crate) plan: Arc<Plan>,
    /// What all amounts are together, always.
    total: i64,
    /// Of the runs.
    pub(crate) limits: Limits,
    /// Verifications of the runs.
    pub(crate) orders: Orders,
    /// Where rows in quarantine are released.
    pub(crate) quarantine: Ward,
}

pub(crate) fn schemas(schema: &str, columns: &[&str]) -> Vec<TableSchema> {
    ["savings", "current"]
        .map(|name| table(schema, name, columns))
        .to_vec()
}

pub(crate) fn plan(
    sources: &[TableSchema],
    targets: Vec<TableSchema>,
    options: TaskOptions,
) -> Arc<Plan> {
    let pairs = sources
        .iter()
        .zip(targets)
        .map(|(source, target)| TablePair {
            mapping: Mapping {
                id: source.name.name.clone(),
                source: source.name.clone(),
                target: target.name.clone(),
                columns: Vec::new(),
            },
            source: Some(source.clone()),
            target: Some(target),
            create: false,
            rekey: false,
        });
    let resolution = resolve(pairs.collect(), Operations::ALL, options);
    Arc::new(
        resolution
            .plan
            .unwrap_or_else(|| panic!("{:?}", resolution.findings)),
    )
}

impl World {
    /// A bank of two tables with three accounts of 100 each.
    pub(crate) fn new() -> Self {
        let columns = ["id", "amount"];
        let rows = [1, 2, 3].map(|id| vec![id, 100]);
        World::with(schemas("bank", &columns), &rows, TaskOptions::default())
    }

    /// A bank of these two tables, whose first columns are a number and an amount, with these
    /// rows in each.
    pub(crate) fn with(tables: Vec<TableSchema>, rows: &[Vec<i64>], options: TaskOptions) -> Self {
        let columns: Vec<&str> = tables[0].columns.iter().map(|c| c.name.as_str()).collect();
        let plan = plan(&tables, schemas("copy", &columns), options);
        let faults = Arc::new(Faults::default());
        let mut source = MemorySource::new(tables, Arc::clone(&faults));
        source.part_changes = 3;
        for table in 0..2 {
            let rows: Vec<_> = rows.iter().map(|row| (table, Ok(row.clone()))).collect();
            source.commit(&rows);
        }
        let total = rows.iter().map(|row| 2 * row[1]).sum();
        let names: Vec<_> = plan
            .targets
            .iter()
            .map(|target| target.name.clone())
            .collect();
        let target = MemoryTarget::new(&names, Arc::clone(&faults));
        World {
            faults,
            source,
            target,
            plan,
            total,
            limits: Limits::default(),
            orders: Orders::default(),
            quarantine: Ward::default(),
        }
    }

    /// The `n`th of a series of transactions, all of which keep the total: a transfer between the
    /// tables, accounts that open, close, change their key, or all rows at once.
    pub(crate) fn transact(&self, n: i64) {
        let amount = |table: usize, id: i64| self.source.rows(table)[[id].as_slice()][1];
        let (savings, current) = (amount(0, 1), amount(1, 1));
        let moved = n % 7 + 1;
        match n % 4 {
            0 => self.source.commit(&[
                (0, Ok(vec![1, savings - moved])),
                (1, Ok(vec![1, current + moved])),
            ]),
            1 => self.source.commit(&[
                (0, Ok(vec![100 + n, moved])),
                (1, Ok(vec![1, current - moved])),
                (0, Ok(vec![100 + n, moved])),
            ]),
            2 => {
                let closed = amount(0, 99 + n);
                self.source
                    .commit(&[(0, Err(99 + n)), (1, Ok(vec![1, current + closed]))]);
            }
            _ => {
                let mut all: Vec<_> = Vec::new();
                for table in 0..2 {
                    for row in self.source.rows(table).into_values() {
                        let change = if table == 0 { -1 } else { 1 };
                        all.push((table, Ok(vec![row[0], row[1] + change])));
                    }
                }
                self.source.commit(&all);
            }
        }
    }

    /// Runs the task over `source` until the target has caught up and is Live, or it fails.
    pub(crate) async fn run(&self, source: Arc<dyn Source>) -> Result<()> {
        let (status, _) = watch::channel(TaskStatus::default());
        self.run_while(source, status, self.caught_up()).await
    }

    /// Runs the task over `source` until `body` has ended, or it fails.
    pub(crate) async fn run_while(
        &self,
        source: Arc<dyn Source>,
        status: watch::Sender<TaskStatus>,
        body: impl Future<Output = ()>,
    ) -> Result<()> {
        let spec = TaskSpec {
            key: TaskKey {
                server: "simulation".into(),
                task: "bank".into(),
            },
            plan: Arc::clone(&self.plan),
            source,
            target: Arc::new(self.target.clone()),
            expects_checkpoint: false,
            compares: std::collections::BTreeMap::new(),
            orders: self.orders.clone(),
            quarantine: self.quarantine.clone(),
            elsewhere: Arc::default(),
        };
        let stop = CancellationToken::new();
        let run = task::run(
            spec,
            self.limits,
            MemoryBudget::default(),
            status,
            stop.clone(),
        );
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => return ended,
            () = body => stop.cancel(),
        }
        run.await
    }

    /// Waits until both sides are equal and Live; gives up after a simulated minute.
    pub(crate) async fn caught_up(&self) {
        for _ in 0..600 {
            if self.equal() && self.target.now().live {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The oracle, part one: the target is the source.
    pub(crate) fn equal(&self) -> bool {
        let now = self.target.now();
        self.plan.targets.iter().enumerate().all(|(index, target)| {
            let source = &self.plan.sources[target.feeds[0].source].schema.name;
            let table = ["savings", "current"]
                .iter()
                .position(|name| source.name == *name);
            table.is_some_and(|table| self.source.rows(table) == now.tables()[&target.name])
                && index < self.plan.targets.len()
        })
    }

    /// The oracle, part two: from Live on, no committed state shows half a transaction.
    pub(crate) fn half_transactions(&self) -> usize {
        let half = |state: &&Committed| {
            let rows = state.tables().values().flat_map(|rows| rows.values());
            state.live && rows.map(|row| row[1]).sum::<i64>() != self.total
        };
        self.target.history().iter().filter(half).count()
    }
}
