//! MariaDB as a target (and MySQL, unproven).

mod altering;
mod applier;
mod bulk;
mod check;
mod checkpoint;
mod compare;
mod ddl;
mod error;
mod event;
mod file;
mod follow;
mod keys;
mod layouts;
mod ledger;
mod literal;
mod loader;
mod merged;
mod native;
mod park;
mod pending;
mod place;
mod quarantine;
mod release;
mod rows;
mod rules;
mod session;
mod side;
pub(crate) mod stages;
mod statement;
mod table;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use thalweg_core::checkpoint::{Checkpoint, Epoch, Outline, TaskKey};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::ColumnPair;
use thalweg_core::plan::Plan;
use thalweg_core::ports::{
    Alteration, Applier, Capabilities, Comparer, DataSourceConfig, Following, Inspect, Loader,
    Pending, Target,
};
use thalweg_core::quarantine::Held;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Result, Side};

use self::place::Place;
use self::session::{Flavor, Session};
use crate::schema;

/// A MariaDB or MySQL database as a target. It connects anew for every call.
#[derive(Debug)]
pub(crate) struct MySqlTarget {
    config: DataSourceConfig,
    /// Which server it is, as soon as one call has asked it.
    flavor: OnceLock<Flavor>,
}

impl MySqlTarget {
    pub(crate) fn new(config: &DataSourceConfig) -> Self {
        MySqlTarget {
            config: config.clone(),
            flavor: OnceLock::new(),
        }
    }

    async fn open(&self) -> Result<Session> {
        let session = Session::open(&self.config).await?;
        self.flavor.get_or_init(|| session.facts.flavor);
        Ok(session)
    }

    /// A connection of a task's owner, so that it can be recognised at the server.
    async fn open_owner(&self, task: &TaskKey, epoch: Epoch, plan: &Plan) -> Result<Session> {
        let config = DataSourceConfig {
            application_name: format!("thalweg/{}/{epoch}", task.task),
            ..self.config.clone()
        };
        let mut session = Session::open(&config).await?;
        session.enforce(plan.options.foreign_keys).await?;
        Ok(session)
    }

    /// Does something on a connection of its own.
    async fn with<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.open().await?;
        let done = work(&mut session).await;
        session.close().await;
        done
    }

    /// Puts a question that ends within the configuration's timeout.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.ask_about(0, question).await
    }

    /// The same, about so many tables.
    async fn ask_about<T>(
        &self,
        tables: usize,
        question: impl AsyncFnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let time = self.config.time_for(tables);
        tokio::time::timeout(time, Box::pin(self.with(question)))
            .await
            .unwrap_or_else(|_| {
                Err(Error::transient("the target did not answer in time").at(Side::Target))
            })
    }
}

#[async_trait]
impl Inspect for MySqlTarget {
    async fn probe(&self) -> Result<()> {
        self.ask(async |session| session.run("SELECT 1").await)
            .await
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        self.ask(async |session| schema::tables(session.conn()).await)
            .await
            .map_err(|error| error.at(Side::Target))
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        self.ask_about(tables.len(), async |session| {
            schema::describe(session.conn(), tables).await
        })
        .await
        .map_err(|error| error.at(Side::Target))
    }
}

#[async_trait]
impl Target for MySqlTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic: true,
            apart: true,
            refuses_equal_keys: true,
        }
    }

    fn propose(
        &self,
        source: &TableSchema,
        name: &TableName,
        columns: &[ColumnPair],
    ) -> std::result::Result<TableSchema, Vec<Finding>> {
        let flavor = self.flavor.get().copied().unwrap_or(Flavor::DEFAULT);
        native::propose(source, name, columns, flavor)
    }

    async fn ddl(&self, plan: &Plan) -> Result<Vec<String>> {
        self.ask(async |session| Ok(ddl::statements(plan, session.facts.flavor)))
            .await
    }

    async fn check(&self, task: &TaskKey, plan: &Plan) -> Result<Vec<Finding>> {
        let tables = plan.targets.len();
        self.ask_about(tables, async |session| {
            check::check(session, &self.config, task, plan).await
        })
        .await
    }

    async fn prepare(&self, task: &TaskKey, plan: &Plan) -> Result<()> {
        self.with(async |session| ddl::prepare(session, task, plan).await)
            .await
    }

    async fn pending(&self, task: &TaskKey) -> Result<Vec<Pending>> {
        self.with(async |session| pending::read(session, task).await)
            .await
    }

    async fn claim(&self, task: &TaskKey) -> Result<Checkpoint> {
        self.with(async |session| checkpoint::claim(session, task).await)
            .await
    }

    async fn loose(&self, plan: &Plan) -> Result<Vec<bool>> {
        self.with(async |session| ddl::loose(session, plan).await)
            .await
    }

    async fn open_applier(
        &self,
        task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Applier>> {
        let session = self.open_owner(task, epoch, &plan).await?;
        let owner = Owner {
            task: task.clone(),
            epoch,
        };
        Ok(Box::new(
            applier::MySqlApplier::new(session, owner, plan).await?,
        ))
    }

    async fn open_loader(
        &self,
        task: &TaskKey,
        epoch: Epoch,
        plan: Arc<Plan>,
    ) -> Result<Box<dyn Loader>> {
        let session = self.open_owner(task, epoch, &plan).await?;
        let owner = Owner {
            task: task.clone(),
            epoch,
        };
        Ok(Box::new(
            loader::MySqlLoader::new(session, owner, plan).await?,
        ))
    }

    async fn open_comparer(&self, plan: Arc<Plan>) -> Result<Box<dyn Comparer>> {
        let config = DataSourceConfig {
            application_name: format!("{}/verify", self.config.application_name),
            ..self.config.clone()
        };
        let session = Session::open(&config).await?;
        Ok(Box::new(compare::MySqlComparer::new(session, plan).await?))
    }

    async fn forget(&self, task: &TaskKey) -> Result<()> {
        self.with(async |session| checkpoint::forget(session, task).await)
            .await
    }

    async fn set_aside(&self, task: &TaskKey, plan: &Plan) -> Result<bool> {
        self.with(async |session| checkpoint::set_aside(session, task, plan).await)
            .await
    }

    async fn outline(&self, task: &TaskKey) -> Result<Option<Outline>> {
        self.with(async |session| checkpoint::outline(session, task).await)
            .await
    }

    fn alter(
        &self,
        table: &TableName,
        steps: &[Alteration],
    ) -> std::result::Result<Vec<String>, String> {
        let flavor = self.flavor.get().copied().unwrap_or(Flavor::DEFAULT);
        altering::statements(table, steps, flavor)
    }

    async fn follow(&self, task: &TaskKey, following: &Following) -> Result<()> {
        self.with(async |session| altering::follow(session, task, following).await)
            .await
    }

    async fn held(&self, task: &TaskKey, changes: bool) -> Result<Vec<Held>> {
        self.with(async |session| match place::find(session, task).await? {
            Some(place) => quarantine::read(session, &place, task, changes).await,
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn release(&self, task: &TaskKey) -> Result<()> {
        self.with(async |session| release::release(session, task).await)
            .await
    }
}

/// Who writes: compared with the checkpoint in every transaction.
#[derive(Clone, Debug)]
struct Owner {
    task: TaskKey,
    epoch: Epoch,
}

impl Owner {
    /// Where the checkpoint is. The owner has claimed, so it is somewhere.
    async fn place(&self, session: &mut Session) -> Result<Place> {
        place::find(session, &self.task)
            .await?
            .ok_or_else(|| self.fenced())
    }

    /// Locks the owner's checkpoint row, in the way the clause says; `Fenced` if it is not his.
    async fn lock(&self, session: &mut Session, place: &Place, clause: &str) -> Result<()> {
        let lock = format!(
            "SELECT 1 FROM {} WHERE server = ? AND task = ? AND epoch = ? {clause}",
            place.checkpoint()
        );
        let key = (&self.task.server, &self.task.task, self.epoch.0);
        let owned: Vec<u8> = session.ask(&lock, key).await?;
        self.expect_one(owned.len() as u64)
    }

    /// `Fenced` unless exactly the one checkpoint row of this owner was touched.
    fn expect_one(&self, rows: u64) -> Result<()> {
        if rows == 1 {
            Ok(())
        } else {
            Err(self.fenced())
        }
    }

    fn fenced(&self) -> Error {
        thalweg_core::checkpoint::fenced(&self.task)
    }
}
