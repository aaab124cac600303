//! What a run reads of its task, and what it writes down.

use std::sync::Arc;

use rand::Rng as _;
use thalweg_core::schema::TableName;
use thalweg_engine::status::TaskStatus;
use thalweg_engine::verify::Orders;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::record::Record;
use super::run::{Ends, ends};
use super::verify::{self, Follows};
use crate::app::Inner;
use crate::catalog::StoredTask;
use crate::error::Result;
use crate::model::Paused;

/// A task as its run sees it. What is written holds whatever happens to the process then.
pub(super) trait Book: Send {
    /// Both ends, and the tables as they are decided by now.
    fn ends(&mut self) -> impl Future<Output = Result<Ends>> + Send;
    /// The target is to forget the task, also if the server ends before it has.
    fn forgets(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// The target has forgotten the task.
    fn forgotten(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// The target knows of the tables of these mappings that they are to be loaded again.
    fn reloaded(&mut self, ids: &[String]) -> impl Future<Output = Result<()>> + Send;
    /// Pauses tables, each by its mapping.
    fn pause(&mut self, paused: &[(String, Paused)]) -> impl Future<Output = Result<()>> + Send;
    /// The paused tables of these mappings return, to be loaded again.
    fn resume(&mut self, ids: &[String]) -> impl Future<Output = Result<()>> + Send;
    /// Whether the tables of these mappings are to be compared and repaired.
    fn doubt(&mut self, ids: &[String], doubt: bool) -> impl Future<Output = Result<()>> + Send;
    /// A run uses the mappings.
    fn used(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// What there is to say of the present step.
    fn remark(&mut self, text: &str) -> impl Future<Output = ()> + Send;
    /// Keeps what `last` says of its tables, because their figures begin anew.
    fn carry(&mut self, last: &TaskStatus);
    /// What is done while the engine runs, until dropped: tables in `doubt` are repaired, and `settled` is
    /// cancelled when that was done, or tried.
    fn meanwhile(
        &mut self,
        status: watch::Receiver<TaskStatus>,
        orders: &Orders,
        doubt: &[(String, TableName)],
        settled: &CancellationToken,
    ) -> impl Future<Output = ()> + Send;
}

/// A task in the catalogue.
pub(super) struct Catalogued {
    pub(super) inner: Arc<Inner>,
    pub(super) follows: Arc<Follows>,
    pub(super) task: StoredTask,
    pub(super) record: Record,
}

impl Catalogued {
    /// The replica id: as given, or drawn once and kept.
    async fn server_id(&self) -> Result<u32> {
        let shown = &self.task.shown;
        if let Some(id) = shown.server_id {
            return Ok(id);
        }
        let drawn = rand::rng().random_range(1 << 30..=u32::MAX);
        let catalog = &self.inner.catalog;
        catalog.task_server_id_set(&shown.id, drawn).await?;
        Ok(drawn)
    }
}

impl Book for Catalogued {
    async fn ends(&mut self) -> Result<Ends> {
        let server_id = self.server_id().await?;
        ends(&self.inner, &self.task, Some(server_id)).await
    }

    async fn forgets(&mut self) -> Result<()> {
        self.inner.catalog.task_forgets(&self.task.shown.id).await
    }

    async fn forgotten(&mut self) -> Result<()> {
        self.inner
            .catalog
            .task_forgotten(&self.task.shown.id)
            .await?;
        self.record.forgotten();
        Ok(())
    }

    async fn reloaded(&mut self, ids: &[String]) -> Result<()> {
        let catalog = &self.inner.catalog;
        catalog.mappings_reloaded(&self.task.shown.id, ids).await
    }

    async fn pause(&mut self, paused: &[(String, Paused)]) -> Result<()> {
        let catalog = &self.inner.catalog;
        catalog.mappings_pause(&self.task.shown.id, paused).await
    }

    async fn resume(&mut self, ids: &[String]) -> Result<()> {
        let catalog = &self.inner.catalog;
        catalog.mappings_resume(&self.task.shown.id, ids).await
    }

    async fn doubt(&mut self, ids: &[String], doubt: bool) -> Result<()> {
        let catalog = &self.inner.catalog;
        catalog
            .mappings_doubt(&self.task.shown.id, ids, doubt)
            .await
    }

    async fn used(&mut self) -> Result<()> {
        self.inner.catalog.mappings_used(&self.task.shown.id).await
    }

    async fn remark(&mut self, text: &str) {
        self.record.remark(text).await;
    }

    fn carry(&mut self, last: &TaskStatus) {
        self.record.carry(last);
    }

    /// Writes figures; repairs tables in doubt, then verifies in the background, if the task's options say
    /// so.
    async fn meanwhile(
        &mut self,
        status: watch::Receiver<TaskStatus>,
        orders: &Orders,
        doubt: &[(String, TableName)],
        settled: &CancellationToken,
    ) {
        let (inner, follows, shown) = (&self.inner, &self.follows, &self.task.shown);
        let verify = async {
            if !doubt.is_empty() {
                let tables = doubt.iter().map(|(_, table)| table.clone()).collect();
                verify::repair(inner, follows, orders, &shown.id, tables, settled).await;
                let ids: Vec<_> = doubt.iter().map(|(id, _)| id.clone()).collect();
                let noted = inner.catalog.mappings_doubt(&shown.id, &ids, false).await;
                if let Err(error) = noted {
                    warn!(task = %shown.id, error = %error, "the catalogue could not be written");
                }
            }
            settled.cancel();
            match shown.options.verify_rows_per_second {
                Some(rate) => verify::background(inner, follows, orders, &shown.id, rate).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.record.follow(status) => {}
            () = verify => {}
        }
    }
}
