//! What running tasks record of themselves.
//!
//! A commit is a sync of the disk, and a hundred tasks that start at once have hundreds of records to
//! write. So they are committed together: a record waits in a list; whoever gets the turn writes all
//! that wait, in the order they came, in one transaction, and tells each how it went. A call returns
//! when its record is durable, as if it had been written alone.
//!
//! A call that is dropped while it writes takes its transaction back. Those that waited for it then find
//! nobody to answer them, and put their record in the list again.

use std::mem;
use std::sync::{Mutex, PoisonError};

use sqlx::{Any, Transaction};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::{Catalog, TURN, stored};
use crate::error::{Error, Result};
use crate::model::Execution;

/// One record of a running task.
#[derive(Clone, Debug)]
enum Record {
    /// The present state of an execution.
    Execution {
        task: String,
        now: Box<Execution>,
        /// The task should no longer run; stored together with it.
        stopped: bool,
    },
    /// The target has a checkpoint of this task.
    Begun { task: String },
}

/// Records that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Records {
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    written: oneshot::Sender<Result<()>>,
}

impl Catalog {
    /// Writes the present state of an execution; with `stopped`, the task should no longer run, together.
    pub(crate) async fn execution_write(
        &self,
        task: &str,
        now: &Execution,
        stopped: bool,
    ) -> Result<()> {
        self.record(Record::Execution {
            task: task.to_owned(),
            now: Box::new(now.clone()),
            stopped,
        })
        .await
    }

    /// The target has a checkpoint of it.
    pub(crate) async fn task_begun(&self, id: &str) -> Result<()> {
        let task = id.to_owned();
        self.record(Record::Begun { task }).await
    }

    /// Makes a record durable. Those of one task come one after the other: each waits for its call.
    async fn record(&self, record: Record) -> Result<()> {
        loop {
            let (written, mut answer) = oneshot::channel();
            let record = record.clone();
            self.records.lock().push(Waiting { record, written });
            let turn = tokio::time::timeout(TURN, self.records.turn.lock()).await;
            let _turn = turn.map_err(|_| Error::Busy)?;
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Closed) => {}
                Err(TryRecvError::Empty) => self.write_waiting().await,
            }
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
        }
    }

    /// Writes all that wait. One that cannot be written, such as the step of an execution that is gone,
    /// does not keep the others from being so: they are then written one by one.
    async fn write_waiting(&self) {
        let all = mem::take(&mut *self.records.lock());
        let together = self.write(&all).await;
        for waiting in all {
            let done = match &together {
                Err(_) => self.write(std::slice::from_ref(&waiting)).await,
                Ok(()) => Ok(()),
            };
            // Nobody waits for a record whose call was dropped.
            waiting.written.send(done).ok();
        }
    }

    async fn write(&self, all: &[Waiting]) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for waiting in all {
            match &waiting.record {
                Record::Execution { task, now, stopped } => {
                    write_execution(&mut tx, task, now, *stopped).await?;
                }
                Record::Begun { task } => {
                    sqlx::query("UPDATE task SET begun = 1 WHERE id = $1")
                        .bind(task.clone())
                        .execute(&mut *tx)
                        .await?;
                }
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn write_execution(
    tx: &mut Transaction<'_, Any>,
    task: &str,
    now: &Execution,
    stopped: bool,
) -> Result<()> {
    if stopped {
        sqlx::query("UPDATE task SET desired = 0 WHERE id = $1")
            .bind(task.to_owned())
            .execute(&mut **tx)
            .await?;
    }
    sqlx::query(
        "UPDATE execution SET started_ms = $2, ended_ms = $3, status = $4, node = $5, \
         node_status = $6, code = $7, remarks = $8, row_count = $9, byte_count = $10, \
         dirty_count = $11 WHERE id = $1",
    )
    .bind(now.id.clone())
    .bind(now.started_ms)
    .bind(now.ended_ms)
    .bind(now.status.as_str().to_owned())
    .bind(now.node.as_str().to_owned())
    .bind(now.node_status.as_str().to_owned())
    .bind(i64::from(now.code))
    .bind(now.remarks.clone())
    .bind(stored(now.figures.rows))
    .bind(stored(now.figures.bytes))
    .bind(stored(now.figures.dirty))
    .execute(&mut **tx)
    .await?;
    for step in &now.steps {
        sqlx::query(
            "INSERT INTO step (id, execution, node, node_status, code, stage, remarks, \
             row_count, byte_count, dirty_count, begin_ms, end_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (id) DO UPDATE SET node_status = $4, code = $5, remarks = $7, \
             row_count = $8, byte_count = $9, dirty_count = $10, end_ms = $12",
        )
        .bind(step.id.clone())
        .bind(now.id.clone())
        .bind(step.node.as_str().to_owned())
        .bind(step.node_status.as_str().to_owned())
        .bind(i64::from(step.code))
        .bind(step.stage.clone())
        .bind(step.remarks.clone())
        .bind(stored(step.figures.rows))
        .bind(stored(step.figures.bytes))
        .bind(stored(step.figures.dirty))
        .bind(step.begin_ms)
        .bind(step.end_ms)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

impl Records {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::fresh;
    use crate::model::{ExecuteStatus, Figures, Node, NodeStatus, Step};

    const TASKS: usize = 64;

    fn name(n: usize) -> String {
        format!("task-{n}")
    }

    /// The state of a task's execution, `n` of it.
    fn state(n: usize) -> Execution {
        Execution {
            id: format!("execution-{n}"),
            dispatched_ms: 1,
            started_ms: 1,
            ended_ms: None,
            status: ExecuteStatus::Running,
            node: Node::Writer,
            node_status: NodeStatus::Normal,
            code: 502,
            remarks: String::new(),
            figures: Figures::default(),
            steps: Vec::new(),
        }
    }

    async fn with_tasks() -> (std::path::PathBuf, Catalog) {
        let (folder, catalog) = fresh().await;
        sqlx::query("PRAGMA foreign_keys = OFF")
            .execute(&catalog.writer)
            .await
            .unwrap();
        for n in 0..TASKS {
            sqlx::query(
                "INSERT INTO task (id, instance, name, insert_rows, update_rows, delete_rows, \
                 options, desired, begun, forget, deleted, created_ms, updated_ms) \
                 VALUES ($1, 'i', $1, 1, 1, 1, '{}', 0, 0, 0, 0, 1, 1)",
            )
            .bind(name(n))
            .execute(&catalog.writer)
            .await
            .unwrap();
        }
        sqlx::query("PRAGMA foreign_keys = ON")
            .execute(&catalog.writer)
            .await
            .unwrap();
        for n in 0..TASKS {
            assert!(
                catalog
                    .execution_start(&name(n), &state(n), false)
                    .await
                    .unwrap()
            );
        }
        (folder, catalog)
    }

    /// Calls that come together and calls that are dropped at any moment: whoever was told that the
    /// record is written finds it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_said_to_be_written_is() {
        let (folder, catalog) = with_tasks().await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..TASKS {
            let catalog = catalog.clone();
            calls.spawn(async move {
                let mut told = 0;
                for rows in 1..=20 {
                    let (name, mut now) = (name(n), state(n));
                    now.figures.rows = rows;
                    let write = catalog.execution_write(&name, &now, false);
                    // A third of the calls have no more time than this.
                    let limit = match n % 3 {
                        0 => std::time::Duration::from_micros(100 * rows),
                        _ => std::time::Duration::from_secs(60),
                    };
                    match tokio::time::timeout(limit, write).await {
                        Ok(written) => {
                            written.unwrap();
                            told = rows;
                        }
                        Err(_) if n % 3 == 0 => {}
                        Err(_) => panic!("a call that nobody dropped was not answered"),
                    }
                }
                (n, told)
            });
        }
        for (n, told) in calls.join_all().await {
            let found = catalog.execution_last(&name(n)).await.unwrap().unwrap();
            assert!(found.figures.rows >= told, "{n}: {found:?}, told {told}");
            assert!(n % 3 == 0 || told == 20);
        }
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A record that cannot be written: a step of an execution that is gone.
    #[tokio::test]
    async fn one_that_cannot_be_written_keeps_none_back() {
        let (folder, catalog) = with_tasks().await;
        let mut gone = state(TASKS);
        gone.steps.push(Step {
            id: "step".to_owned(),
            node: Node::Writer,
            node_status: NodeStatus::Normal,
            code: 502,
            stage: "stream".to_owned(),
            remarks: String::new(),
            figures: Figures::default(),
            begin_ms: 1,
            end_ms: None,
        });
        let mut good = state(0);
        good.figures.rows = 7;
        // Both are in the list before either has the turn.
        let turn = catalog.records.turn.lock().await;
        let (first, second) = (name(0), name(1));
        let both = async {
            tokio::join!(
                catalog.execution_write(&second, &gone, false),
                catalog.execution_write(&first, &good, true),
            )
        };
        let release = async {
            tokio::task::yield_now().await;
            drop(turn);
        };
        let ((bad, fine), ()) = tokio::join!(both, release);
        bad.unwrap_err();
        fine.unwrap();
        let found = catalog.execution_last(&first).await.unwrap().unwrap();
        assert_eq!(found.figures.rows, 7);
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// While somebody writes: reads go on, and a write that gets no turn says so.
    #[tokio::test]
    async fn a_busy_catalogue_is_read_and_says_that_it_is_busy() {
        let (folder, catalog) = with_tasks().await;
        let mut held = catalog.writer.begin().await.unwrap();
        sqlx::query("UPDATE task SET desired = 0")
            .execute(&mut *held)
            .await
            .unwrap();
        assert_eq!(catalog.tasks_desired().await.unwrap().len(), TASKS);
        tokio::time::pause();
        let busy = catalog.execution_write(&name(0), &state(0), false).await;
        assert!(matches!(busy, Err(Error::Busy)), "{busy:?}");
        let busy = catalog.task_desire(&name(0), true).await;
        assert!(matches!(busy, Err(Error::Busy)), "{busy:?}");
        tokio::time::resume();
        held.rollback().await.unwrap();
        let (first, now) = (name(0), state(0));
        catalog.execution_write(&first, &now, false).await.unwrap();
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
