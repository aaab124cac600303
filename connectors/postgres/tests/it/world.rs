//! A private server, a plan by hand, and rows.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::Result;
use thalweg_core::checkpoint::{Checkpoint, LoadedChunk, TaskKey};
use thalweg_core::mapping::{ExistingRows, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::{Connector, DataSourceConfig, Loader, Target};
use thalweg_core::position::Visibility;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema, UniqueKey};
use thalweg_core::secret::Secret;
use thalweg_core::value::RowBatch;
use thalweg_testkit::servers::{Postgres, PostgresOptions};

pub(crate) struct World {
    pub(crate) server: Postgres,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) key: TaskKey,
}

impl World {
    pub(crate) fn new() -> Self {
        World::with(PostgresOptions::default())
    }

    pub(crate) fn with(options: PostgresOptions) -> Self {
        let server = Postgres::start(options).unwrap();
        let config = config(&server);
        let target = thalweg_postgres::connector().target(&config).unwrap();
        let key = TaskKey {
            server: "s".into(),
            task: "t".into(),
        };
        World {
            server,
            target,
            key,
        }
    }

    /// The same database, as another user.
    pub(crate) fn target_as(&self, user: &str, password: &str) -> Arc<dyn Target> {
        let config = DataSourceConfig {
            user: user.into(),
            password: Secret::new(password),
            ..config(&self.server)
        };
        thalweg_postgres::connector().target(&config).unwrap()
    }

    /// Prepares and claims.
    pub(crate) async fn claim(&self, plan: &Plan) -> Checkpoint {
        self.target.prepare(&self.key, plan).await.unwrap();
        self.target.claim(&self.key).await.unwrap()
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

/// How to reach a server as its superuser.
pub(crate) fn config(server: &Postgres) -> DataSourceConfig {
    DataSourceConfig {
        host: server.host().to_owned(),
        port: server.port(),
        database: "postgres".into(),
        user: server.user().to_owned(),
        password: Secret::new(server.password()),
        tls: Default::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/test".into(),
        networks: std::sync::Arc::default(),
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
        ..TableSchema::new(TableName::new("shop", name), columns)
    }
}

/// A plan that creates a table for each source table, in schema `public`.
pub(crate) fn plan(world: &World, sources: Vec<TableSchema>) -> Arc<Plan> {
    plan_at(world.target.as_ref(), sources)
}

/// The same for any target.
pub(crate) fn plan_at(to: &dyn Target, sources: Vec<TableSchema>) -> Arc<Plan> {
    let pairs = sources.into_iter().map(|source| {
        let mapping = Mapping {
            id: "m".into(),
            source: source.name.clone(),
            target: TableName::new("public", &source.name.name),
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
    let resolution = resolve(pairs.collect(), Operations::ALL, TaskOptions::default());
    Arc::new(
        resolution
            .plan
            .unwrap_or_else(|| panic!("{:?}", resolution.findings)),
    )
}

/// A plan with one table, `t`, of one column.
pub(crate) fn one_table_at(to: &dyn Target) -> Arc<Plan> {
    let int = ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
    plan_at(to, vec![source("t", vec![column("id", int)], &[])])
}
