//! What became of the runs of a task.

use super::App;
use crate::error::Result;
use crate::model::{ExecuteStatus, Execution, Page, Scope, Task, Window};

impl App {
    /// Executions of a task whose `run` was called in the window of time, newest first.
    pub async fn execution_list(
        &self,
        scope: &Scope,
        task: &str,
        begin_ms: Option<i64>,
        end_ms: Option<i64>,
        window: Window,
    ) -> Result<Page<Execution>> {
        self.task_seen(scope, task).await?;
        let (begin, end) = (begin_ms.unwrap_or(0), end_ms.unwrap_or(i64::MAX));
        self.catalog()
            .execution_list(task, begin, end, window)
            .await
    }

    /// One execution of a task, with its steps. `NotFound(Task)`, `NotFound(Execution)`.
    pub async fn execution_show(&self, scope: &Scope, task: &str, id: &str) -> Result<Execution> {
        self.task_seen(scope, task).await?;
        self.catalog().execution_show(task, id).await
    }

    /// A task, and how many of its executions came to what; those that did not occur are not listed. `NotFound(Task)`.
    pub async fn executions_counted(
        &self,
        scope: &Scope,
        task: &str,
    ) -> Result<(Task, Vec<(ExecuteStatus, u64)>)> {
        let stored = self.task_seen(scope, task).await?;
        let counted = self.catalog().executions_counted(task).await?;
        Ok((stored.shown, counted))
    }
}
