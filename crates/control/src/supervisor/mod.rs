//! Makes the tasks that run equal to the tasks that should.
//!
//! A reconciler: it reads what should run, compares with what runs, and acts. It takes no argument; a
//! hint and a timer wake it. A start, a restart of the process and a person's "stop" are the same code
//! path, so none of them can be forgotten in another.

mod book;
mod prepare;
mod record;
mod release;
pub(crate) mod run;
#[cfg(test)]
mod simulation;
pub(crate) mod verify;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thalweg_engine::limits::MemoryBudget;
use thalweg_engine::quarantine::Ward;
use thalweg_engine::status::TaskStatus;
use thalweg_engine::verify::{Orders, Request};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::app::Inner;
use crate::catalog::now_ms;
use crate::model::{AskedBy, Live, Verification};

/// How often it looks without a hint.
const TICK: Duration = Duration::from_secs(1);

/// Starts and stops tasks.
pub(crate) struct Supervisor {
    inner: Arc<Inner>,
    hint: Notify,
    running: Mutex<HashMap<String, Handle>>,
    /// Memory for transactions under way, shared by all tasks.
    budget: MemoryBudget,
    /// Verifications under way; joined at shutdown.
    follows: Arc<verify::Follows>,
    /// The process ends: tasks stop and go on at the next start.
    ending: CancellationToken,
    /// The loop below; joined at shutdown.
    own: tokio::sync::Mutex<JoinSet<()>>,
}

/// One running task, seen from outside.
#[derive(Clone)]
struct Handle {
    name: String,
    stop: CancellationToken,
    /// Its tables are others by now: it is to be planned again.
    replan: Arc<Notify>,
    ended: CancellationToken,
    status: watch::Receiver<TaskStatus>,
    /// Per target of the plan: (source table, target table). Empty until there is a plan.
    tables: watch::Receiver<Vec<(String, String)>>,
    /// Where its verifications are asked for.
    orders: Orders,
    /// Where its rows in quarantine are released and discarded.
    quarantine: Ward,
}

/// Removes a task from the running ones when its future ends, however it ends.
struct Running {
    supervisor: Arc<Supervisor>,
    id: String,
    ended: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.supervisor.running().remove(&self.id);
        self.ended.cancel();
        self.supervisor.hint();
    }
}

impl Supervisor {
    /// Starts it, and with it every task that should run.
    pub(crate) fn start(inner: Arc<Inner>) -> Arc<Self> {
        let supervisor = Arc::new(Supervisor {
            inner,
            hint: Notify::new(),
            running: Mutex::default(),
            budget: MemoryBudget::default(),
            follows: Arc::default(),
            ending: CancellationToken::new(),
            own: tokio::sync::Mutex::new(JoinSet::new()),
        });
        if let Ok(mut own) = supervisor.own.try_lock() {
            own.spawn(Arc::clone(&supervisor).reconcile_forever());
        }
        supervisor
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Look now.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Whether a task runs, or is being stopped.
    pub(crate) fn runs(&self, id: &str) -> bool {
        self.running().contains_key(id)
    }

    /// Stops a task and waits for its end. The catalogue has to say already that it should not run.
    pub(crate) async fn stop(&self, id: &str) {
        let handle = self.running().get(id).cloned();
        if let Some(handle) = handle {
            handle.stop.cancel();
            handle.ended.cancelled().await;
        }
    }

    /// Has a running task planned again, because its tables are others by now.
    pub(crate) fn replan(&self, id: &str) {
        if let Some(handle) = self.running().get(id) {
            handle.replan.notify_one();
        }
    }

    /// What a running task says of itself.
    pub(crate) fn live(&self, id: &str) -> Option<Live> {
        self.running().get(id).map(live)
    }

    /// All of them: id, name, what it says of itself.
    pub(crate) fn lives(&self) -> Vec<(String, String, Live)> {
        let running = self.running();
        let mut all: Vec<_> = running
            .iter()
            .map(|(id, handle)| (id.clone(), handle.name.clone(), live(handle)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Where verifications of a running task are asked for.
    pub(crate) fn orders(&self, id: &str) -> Option<Orders> {
        self.running().get(id).map(|handle| handle.orders.clone())
    }

    /// Where rows in quarantine of a running task are released and discarded. Whoever waits there must
    /// not keep it: it ends with the task.
    pub(crate) fn quarantine(&self, id: &str) -> Option<Ward> {
        self.running()
            .get(id)
            .map(|handle| handle.quarantine.clone())
    }

    /// Asks a running task for a verification. `TooMany` if too many wait.
    pub(crate) async fn verify(
        &self,
        id: &str,
        orders: &Orders,
        request: Request,
    ) -> crate::Result<Verification> {
        let (inner, by) = (&self.inner, AskedBy::User);
        let asked = verify::ask(inner, &self.follows, orders, id, request, by).await?;
        Ok(asked.0)
    }

    /// Stops everything within `limit`; what does not stop in time is dropped as a crash would,
    /// which loses nothing.
    pub(crate) async fn shutdown(&self, limit: Duration) {
        self.ending.cancel();
        let mut own = self.own.lock().await;
        let all = async {
            while own.join_next().await.is_some() {}
            self.follows.join().await;
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            own.shutdown().await;
        }
    }

    async fn reconcile_forever(self: Arc<Self>) {
        let mut runs = JoinSet::new();
        let mut release = release::Release::default();
        while !self.ending.is_cancelled() {
            if let Err(error) = Arc::clone(&self).reconcile(&mut runs, &mut release).await {
                error!(error = %error, "cannot read the catalogue");
            }
            while runs.try_join_next().is_some() {}
            self.follows.reap();
            tokio::select! {
                () = self.hint.notified() => {}
                () = tokio::time::sleep(TICK) => {}
                () = self.ending.cancelled() => {}
            }
        }
        for handle in self.running().values() {
            handle.stop.cancel();
        }
        while runs.join_next().await.is_some() {}
    }

    async fn reconcile(
        self: Arc<Self>,
        runs: &mut JoinSet<()>,
        release: &mut release::Release,
    ) -> crate::Result<()> {
        crate::app::dispatch_due(&self.inner, now_ms()).await?;
        let desired = self.inner.catalog.tasks_desired().await?;
        for (id, handle) in self.running().iter() {
            if !desired.contains_key(id) {
                handle.stop.cancel();
            }
        }
        for (id, name) in desired {
            if !self.runs(&id) {
                Arc::clone(&self).spawn(id, name, runs);
            }
        }
        release.look(&self, runs).await
    }

    /// Starts a task that the catalogue wanted a moment ago. Between that and now its run may have
    /// ended by itself, or a person may have stopped it: so it is read again once the run can be
    /// seen, and whoever says after that that it should not run finds the run and stops it.
    fn spawn(self: Arc<Self>, id: String, name: String, runs: &mut JoinSet<()>) {
        let (status_in, status) = watch::channel(TaskStatus::default());
        let (tables_in, tables) = watch::channel(Vec::new());
        let handle = Handle {
            name,
            stop: CancellationToken::new(),
            replan: Arc::default(),
            ended: CancellationToken::new(),
            status,
            tables,
            orders: Orders::default(),
            quarantine: Ward::default(),
        };
        let guard = Running {
            supervisor: Arc::clone(&self),
            id: id.clone(),
            ended: handle.ended.clone(),
        };
        let (stop, orders) = (handle.stop.clone(), handle.orders.clone());
        let (quarantine, replan) = (handle.quarantine.clone(), Arc::clone(&handle.replan));
        self.running().insert(id.clone(), handle);
        runs.spawn(async move {
            let _guard = guard;
            let task = match self.inner.catalog.task_desired(&id).await {
                Ok(Some(task)) => task,
                Ok(None) => return,
                Err(error) => {
                    error!(task = %id, error = %error, "cannot read the catalogue");
                    // Its end has the reconciler look again at once.
                    tokio::time::sleep(TICK).await;
                    return;
                }
            };
            let run = run::Run {
                budget: self.budget.clone(),
                ending: self.ending.clone(),
                task,
                stop,
                replan,
                status: status_in,
                tables: tables_in,
                orders,
                quarantine,
            };
            let (inner, follows) = (Arc::clone(&self.inner), Arc::clone(&self.follows));
            Box::pin(run.drive(inner, follows)).await;
        });
    }
}

fn live(handle: &Handle) -> Live {
    Live {
        status: handle.status.borrow().clone(),
        tables: handle.tables.borrow().clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use thalweg_core::mapping::{Operations, TaskOptions};
    use thalweg_core::networks::Networks;
    use thalweg_core::{Kind, Side};
    use thalweg_engine::status::TableStatus;

    use crate::catalog::{StoredTask, new_id};
    use crate::model::TaskKind;
    use crate::model::{ExecuteStatus, Execution, Node, NodeStatus, Paused, Task};
    use crate::{App, OpenOptions, Quotas};

    /// A server without connectors, and a task in its catalogue. Nothing runs by itself.
    pub(crate) async fn with_a_task() -> (std::path::PathBuf, App, StoredTask) {
        let folder = std::env::temp_dir().join(format!("thalweg-supervisor-{}", new_id()));
        std::fs::create_dir(&folder).unwrap();
        let options = OpenOptions {
            data: folder.join("data"),
            key_file: folder.join("key"),
            connectors: Arc::from(Vec::new()),
            networks: Networks::default(),
            quotas: Quotas::default(),
            token_life: crate::TOKEN_LIFE,
            zone: chrono_tz::UTC,
            announce: |_| Ok(()),
        };
        let (app, first) = App::open(options).await.unwrap();
        app.supervisor.shutdown(Duration::from_secs(1)).await;
        let task = StoredTask {
            instance: first.unwrap().instance,
            created: true,
            source_app: None,
            target_app: None,
            begun: true,
            forget: false,
            shown: Task {
                id: new_id(),
                name: "t".to_owned(),
                description: None,
                tag: None,
                operations: Operations::ALL,
                source: None,
                target: None,
                server_id: None,
                options: TaskOptions::default(),
                kind: TaskKind::Composite,
                detail: None,
                running: false,
                scheduled: false,
                dispatch: None,
                execution: None,
                created_ms: 1,
                updated_ms: 1,
            },
        };
        app.inner.catalog.task_put(&task).await.unwrap();
        (folder, app, task)
    }

    fn execution(status: ExecuteStatus, remarks: &str) -> Execution {
        Execution {
            id: new_id(),
            dispatched_ms: 1,
            started_ms: 1,
            ended_ms: None,
            status,
            node: Node::Writer,
            node_status: NodeStatus::Normal,
            code: 502,
            remarks: remarks.to_owned(),
            figures: Default::default(),
            steps: Vec::new(),
        }
    }

    /// What somebody else wrote meanwhile shows whether a record was written again.
    #[tokio::test]
    async fn only_what_is_new_is_written() {
        let (folder, app, task) = with_a_task().await;
        let (catalog, id) = (&app.inner.catalog, &task.shown.id);
        let run = execution(ExecuteStatus::Running, "");
        assert!(catalog.execution_start(id, &run, false).await.unwrap());
        let mut record = record::Record::open(Arc::clone(&app.inner), &task, run.clone());
        let (status_in, status) = watch::channel(TaskStatus::default());
        let mut followed = Box::pin(record.follow(status));
        let mut look = async |change: &dyn Fn(&mut TaskStatus)| {
            let marked = Execution {
                remarks: "seen".to_owned(),
                ..run.clone()
            };
            catalog.execution_write(id, &marked, false).await.unwrap();
            status_in.send_modify(change);
            let looked = tokio::time::timeout(Duration::from_millis(1_500), &mut followed);
            looked.await.unwrap_err();
            catalog.execution_last(id).await.unwrap().unwrap()
        };
        let first = look(&|status| status.bytes_written = 1).await;
        assert_eq!((first.figures.bytes, first.remarks.as_str()), (1, ""));
        let idle = look(&|status| status.lag_ms = Some(7)).await;
        assert_eq!(idle.remarks, "seen", "nothing new");
        let moved = look(&|status| status.bytes_written = 2).await;
        assert_eq!((moved.figures.bytes, moved.remarks.as_str()), (2, ""));
        drop(followed);
        app.shutdown(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A task that plans again counts the rows of its tables anew, and its bytes on.
    #[tokio::test]
    async fn figures_go_on_when_a_task_plans_again() {
        let (folder, app, task) = with_a_task().await;
        let (catalog, id) = (&app.inner.catalog, &task.shown.id);
        let run = execution(ExecuteStatus::Running, "");
        assert!(catalog.execution_start(id, &run, false).await.unwrap());
        let says = |rows, refused, bytes| TaskStatus {
            tables: vec![TableStatus {
                loaded_rows: rows,
                refused,
                ..TableStatus::default()
            }],
            bytes_written: bytes,
            ..TaskStatus::default()
        };
        let mut record = record::Record::open(Arc::clone(&app.inner), &task, run);
        record.begin().await;
        record.carry(&says(5, 1, 50));
        record.carry(&says(3, 0, 70));
        record.end(record::End::Paused, &says(2, 4, 90)).await;
        let figures = catalog.execution_last(id).await.unwrap().unwrap().figures;
        assert_eq!((figures.rows, figures.dirty, figures.bytes), (10, 5, 90));
        app.shutdown(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A run pauses a table while a user removes it: that is no reason to stop.
    #[tokio::test]
    async fn a_table_that_is_gone_meanwhile_is_not_paused() {
        let (folder, app, task) = with_a_task().await;
        let why = Paused {
            reason: "changed".to_owned(),
            fix: "change it back".to_owned(),
            since_ms: 1,
            returns: true,
        };
        let catalog = &app.inner.catalog;
        let gone = [(new_id(), why)];
        catalog.mappings_pause(&task.shown.id, &gone).await.unwrap();
        assert_eq!(catalog.mappings_paused().await.unwrap(), HashMap::new());
        app.shutdown(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Rows that were refused count over restarts of the process, and so does the one that ends the task.
    #[tokio::test]
    async fn refused_rows_are_counted_over_restarts() {
        let (folder, app, task) = with_a_task().await;
        let (catalog, id) = (&app.inner.catalog, &task.shown.id);
        let run = execution(ExecuteStatus::Running, "");
        assert!(catalog.execution_start(id, &run, false).await.unwrap());
        let life = async |refused: [u64; 2], end: record::End| {
            let table = |refused| TableStatus {
                refused,
                ..TableStatus::default()
            };
            let last = TaskStatus {
                tables: refused.map(table).into(),
                ..TaskStatus::default()
            };
            let before = catalog.execution_last(id).await.unwrap().unwrap();
            let mut record = record::Record::open(Arc::clone(&app.inner), &task, before);
            record.begin().await;
            record.end(end, &last).await;
            let now = catalog.execution_last(id).await.unwrap().unwrap();
            let steps = now.steps.iter().map(|step| step.figures.dirty);
            (now.figures.dirty, steps.sum::<u64>())
        };
        assert_eq!(life([2, 1], record::End::Paused).await, (3, 3));
        assert_eq!(life([0, 0], record::End::Paused).await, (3, 3));
        let failure = record::Failure {
            kind: Kind::Data,
            side: Some(Side::Target),
            at_start: false,
            text: "full".to_owned(),
        };
        assert_eq!(life([0, 2], record::End::Failed(failure)).await, (6, 6));
        app.shutdown(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// The reconciler reads that a task should run; before it acts, the run that there was fails.
    /// The task must not be started again, for that would hide why it failed.
    #[tokio::test]
    async fn a_task_that_has_just_failed_is_not_started_again() {
        let (folder, app, task) = with_a_task().await;
        let (catalog, id) = (&app.inner.catalog, task.shown.id.clone());
        let failed = Execution {
            ended_ms: Some(2),
            node_status: NodeStatus::RuntimeErr,
            code: 503,
            ..execution(ExecuteStatus::Error, "why")
        };
        assert!(catalog.execution_start(&id, &failed, false).await.unwrap());
        assert!(
            !catalog.execution_start(&id, &failed, false).await.unwrap(),
            "twice"
        );
        catalog.execution_write(&id, &failed, true).await.unwrap();

        let supervisor = Supervisor::start(Arc::clone(&app.inner));
        let mut runs = JoinSet::new();
        Arc::clone(&supervisor).spawn(id.clone(), "t".to_owned(), &mut runs);
        while runs.join_next().await.is_some() {}

        let last = catalog.execution_last(&id).await.unwrap().unwrap();
        assert_eq!(last.status, ExecuteStatus::Error);
        assert_eq!(last.remarks, "why");
        assert!(!supervisor.runs(&id));
        supervisor.shutdown(Duration::from_secs(1)).await;
        app.shutdown(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
