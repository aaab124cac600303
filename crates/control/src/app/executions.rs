//! What became of the runs of a task.

use super::App;
use crate::error::Result;
use crate::model::{Execution, Page, Scope, Window};

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
        self.catalog().task_show(&scope.instance, task).await?;
        let (begin, end) = (begin_ms.unwrap_or(0), end_ms.unwrap_or(i64::MAX));
        self.catalog()
            .execution_list(task, begin, end, window)
            .await
    }
}
