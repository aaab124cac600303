//! A private server as a target, a plan by hand, and rows.

use std::sync::Arc;

use thalweg_core::batch::{RowOp, TableOp};
use thalweg_core::checkpoint::{Checkpoint, LoadedChunk, TaskKey};
use thalweg_core::mapping::{ColumnPair, ExistingRows, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::{Applier, Connector, DataSourceConfig, Loader, Target};
use thalweg_core::position::{Position, Visibility};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema, UniqueKey};
use thalweg_core::secret::Secret;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Kind, Result};
use thalweg_testkit::proxy::Proxy;

use crate::world::World;

/// A server with the database `shop`, as a target.
pub(crate) struct Goal {
    pub(crate) world: World,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) key: TaskKey,
}

impl Goal {
    pub(crate) fn new() -> Self {
        Goal::with(&[])
    }

    /// With these lines in the server's configuration.
    pub(crate) fn with(config: &[&str]) -> Self {
        let world = World::new(config);
        let target = thalweg_mysql::connector().target(&world.config()).unwrap();
        Goal {
            world,
            target,
            key: task("t"),
        }
    }

    /// The same database, as another user.
    pub(crate) fn target_as(&self, user: &str, password: &str) -> Arc<dyn Target> {
        let config = DataSourceConfig {
            user: user.into(),
            password: Secret::new(password),
            ..self.world.config()
        };
        thalweg_mysql::connector().target(&config).unwrap()
    }

    /// The same server, with another default database.
    pub(crate) fn target_in(&self, database: &str) -> Arc<dyn Target> {
        let config = DataSourceConfig {
            database: database.into(),
            ..self.world.config()
        };
        thalweg_mysql::connector().target(&config).unwrap()
    }

    /// Runs statements in `shop`.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.world.sql(sql)
    }

    /// Prepares and claims.
    pub(crate) async fn claim(&self, plan: &Plan) -> Checkpoint {
        self.target.prepare(&self.key, plan).await.unwrap();
        self.target.claim(&self.key).await.unwrap()
    }

    /// Prepares, claims, and opens the writer of the stream.
    pub(crate) async fn applier(&self, plan: &Arc<Plan>) -> Box<dyn Applier> {
        let epoch = self.claim(plan).await.epoch;
        let applier = self
            .target
            .open_applier(&self.key, epoch, Arc::clone(plan))
            .await;
        applier.unwrap()
    }

    /// Prepares, claims, and opens a writer of the load.
    pub(crate) async fn loader(&self, plan: &Arc<Plan>) -> Box<dyn Loader> {
        let epoch = self.claim(plan).await.epoch;
        let loader = self
            .target
            .open_loader(&self.key, epoch, Arc::clone(plan))
            .await;
        loader.unwrap()
    }

    /// Loads every table of a plan with nothing, and goes Live.
    pub(crate) async fn go_live(&self, plan: &Arc<Plan>) {
        for target in 0..plan.targets.len() {
            let mut loader = self.loader(plan).await;
            let rows = RowBatch::new();
            let loaded = load_whole(loader.as_mut(), plan, target, &rows, "1").await;
            loaded.unwrap();
        }
        self.applier(plan).await.go_live().await.unwrap();
    }

    /// A plan that creates a table for each source table, in `shop`.
    pub(crate) fn plan(&self, sources: Vec<TableSchema>) -> Arc<Plan> {
        plan_at(self.target.as_ref(), sources)
    }

    /// A plan that writes to tables of `shop` that exist, from source tables of the same shape and
    /// name whose keys they have.
    pub(crate) async fn plan_into(&self, names: &[&str], options: TaskOptions) -> Arc<Plan> {
        let all: Vec<_> = names.iter().map(|&name| (name, &[][..])).collect();
        self.plan_columns(&all, options).await
    }

    /// The same, with these columns only (none: all).
    pub(crate) async fn plan_columns(
        &self,
        tables: &[(&str, &[&str])],
        options: TaskOptions,
    ) -> Arc<Plan> {
        let mut pairs = Vec::new();
        for (name, columns) in tables {
            let same = |column: &&str| ColumnPair {
                source: (*column).to_owned(),
                target: (*column).to_owned(),
            };
            let name = TableName::new("shop", *name);
            let found = self.target.describe(std::slice::from_ref(&name)).await;
            let target = found.unwrap().remove(0);
            let source = TableSchema {
                foreign_keys: Vec::new(),
                ..target.clone()
            };
            pairs.push(TablePair {
                mapping: Mapping {
                    id: "m".into(),
                    source: name.clone(),
                    target: name,
                    columns: columns.iter().map(same).collect(),
                },
                source: Some(source),
                target: Some(target),
                create: false,
                rekey: false,
            });
        }
        planned(pairs, options)
    }
}

/// Loads `rows` as all of a target table, replacing what is there.
pub(crate) async fn load_whole(
    loader: &mut dyn Loader,
    plan: &Plan,
    target: usize,
    rows: &RowBatch,
    seen: &str,
) -> Result<()> {
    loader.begin(target, 0).await?;
    let print = plan.fingerprint(target);
    loader.empty(ExistingRows::Replace, &print).await?;
    loader.load(rows).await?;
    let chunk = whole(plan, target, seen, rows.len());
    loader.commit(Some(&chunk), &[]).await
}

/// All of the source table behind a target as a chunk.
pub(crate) fn whole(plan: &Plan, target: usize, seen: &str, rows: usize) -> LoadedChunk {
    LoadedChunk {
        source: plan.source_of(target, 0).unwrap().schema.name.clone(),
        range: None,
        seen: Visibility::new(seen),
        rows: rows as u64,
    }
}

pub(crate) fn planned(pairs: Vec<TablePair>, options: TaskOptions) -> Arc<Plan> {
    let resolution = resolve(pairs, Operations::ALL, options);
    Arc::new(
        resolution
            .plan
            .unwrap_or_else(|| panic!("{:?}", resolution.findings)),
    )
}

pub(crate) fn plan_at(to: &dyn Target, sources: Vec<TableSchema>) -> Arc<Plan> {
    let pairs = sources.into_iter().map(|source| {
        let mapping = Mapping {
            id: "m".into(),
            source: source.name.clone(),
            target: TableName::new("shop", &source.name.name),
            columns: Vec::new(),
        };
        let pairs = mapping.pairs(&source);
        let target = to.propose(&source, &mapping.target, &pairs).unwrap();
        TablePair {
            mapping,
            source: Some(source),
            target: Some(target),
            create: true,
            rekey: false,
        }
    });
    planned(pairs.collect(), TaskOptions::default())
}

pub(crate) fn task(name: &str) -> TaskKey {
    TaskKey {
        server: "s".into(),
        task: name.into(),
    }
}

pub(crate) fn int() -> ColumnType {
    ColumnType::Int {
        bits: 64,
        unsigned: false,
    }
}

pub(crate) fn column(name: &str, ty: ColumnType) -> ColumnSchema {
    ColumnSchema {
        nullable: name != "id",
        ..ColumnSchema::new(name, ty, "of the source")
    }
}

/// A source table whose first column is its key; `unique` are further unique columns.
pub(crate) fn source(name: &str, columns: Vec<ColumnSchema>, unique: &[usize]) -> TableSchema {
    let unique_key = |c: &usize| UniqueKey {
        name: format!("u{c}"),
        columns: vec![*c],
    };
    TableSchema {
        primary_key: vec![0],
        unique_keys: unique.iter().map(unique_key).collect(),
        ..TableSchema::new(TableName::new("there", name), columns)
    }
}

/// A source table `t` of two integers, `id` and `v`.
pub(crate) fn two_columns(unique: &[usize]) -> TableSchema {
    let columns = vec![column("id", int()), column("v", int())];
    source("t", columns, unique)
}

/// Appends a row of two integers.
pub(crate) fn pair(rows: &mut RowBatch, id: i64, value: i64) -> usize {
    row(rows, &[CellRef::I64(id), CellRef::I64(value)])
}

/// Appends a row.
pub(crate) fn row(rows: &mut RowBatch, cells: &[CellRef<'_>]) -> usize {
    for cell in cells {
        rows.push(*cell);
    }
    rows.end_row()
}

pub(crate) fn ordered(ops: &[RowOp]) -> Vec<TableOp> {
    let of_first = |&op: &RowOp| TableOp {
        target: 0,
        feed: 0,
        op,
        unchecked: false,
        origin: 0,
    };
    ops.iter().map(of_first).collect()
}

pub(crate) fn at(number: u32) -> Option<Position> {
    Some(Position::new(number.to_string()))
}

/// Kind, words of the message, words of the hint.
pub(crate) fn says(error: &Error, kind: Kind, message: &str, hint: &str) {
    assert_eq!(error.kind(), kind, "{}", error.chain());
    assert_eq!(error.side(), Some(thalweg_core::Side::Target));
    assert!(error.chain().contains(message), "{}", error.chain());
    let given = error.hint().unwrap_or_default();
    assert!(given.contains(hint), "{given:?} of {}", error.chain());
}

/// Many tables take longer than one question may, here by a slow network; each of them has its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tables_are_asked_about_as_long_as_that_takes() {
    let goal = Goal::new();
    let make = "DELIMITER //\n\
                CREATE PROCEDURE many() BEGIN DECLARE n INT DEFAULT 0; WHILE n < 500 DO \
                EXECUTE IMMEDIATE CONCAT('CREATE TABLE m', n, ' (id INT PRIMARY KEY, v VARCHAR(9))'); \
                SET n = n + 1; END WHILE; END //\nDELIMITER ;\nCALL many();";
    goal.sql(make);
    let config = goal.world.config();
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], config.port));
    let proxy = Proxy::start(server).unwrap();
    proxy.slow(200_000);
    let config = DataSourceConfig {
        port: proxy.port(),
        timeout: std::time::Duration::from_secs(1),
        ..config
    };
    let target = thalweg_mysql::connector().target(&config).unwrap();
    let names: Vec<TableName> = (0..500)
        .map(|n| TableName::new(&config.database, format!("m{n}")))
        .collect();
    let begun = std::time::Instant::now();
    assert_eq!(target.describe(&names).await.unwrap().len(), 500);
    assert!(begun.elapsed() > config.timeout, "it shows nothing");
}
