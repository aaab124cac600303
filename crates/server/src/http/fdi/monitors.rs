//! Monitors: tasks with their last execution, executions with their steps (contract §3.5, §4.5).

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{
    DataSourceRef, ExecuteStatus, Execution, Figures, Step, Task, TaskFilter,
};

use thalweg_control::schedule::When;

use super::tasks::{EXECUTE_STATUS, ext_type, task_type};
use crate::http::error::Failure;
use crate::http::query::Query;
use crate::http::route::{Call, Reply};
use crate::http::{page, time};

/// The unit of `data_size`.
const UNIT: &str = "KB";
const UNIT_BYTES: f64 = 1024.0;
/// Milliseconds since 1970 of the contract's windows of time.
const TIME_MAX: i64 = 9_999_999_999_999;

pub(crate) async fn tasks(call: Call) -> Result<Reply, Failure> {
    let filter = filter(&call.query)?;
    let window = page::window_of_monitors(&call.query)?;
    let scope = call.scope()?;
    let found = call.app.task_list(scope, filter, window).await?;
    let row = |task: &Task| task_info(task, scope.instance());
    Reply::ok(page::render(&found, "entities", row))
}

pub(crate) async fn logs(call: Call) -> Result<Reply, Failure> {
    let begin = call.query.int("begin_time", 1, TIME_MAX)?;
    let end = call.query.int("end_time", 1, TIME_MAX)?;
    let window = page::window_of_monitors(&call.query)?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let found = call
        .app
        .execution_list(scope, id, begin, end, window)
        .await?;
    let now_ms = time::now_ms();
    Reply::ok(page::render(&found, "entities", |execution| {
        log(execution, now_ms)
    }))
}

/// ShowMonitorLogDetail: what the list of executions says of one.
pub(crate) async fn log_detail(call: Call) -> Result<Reply, Failure> {
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("tracking_id"));
    let execution = call.app.execution_show(scope, task, id).await?;
    let now_ms = time::now_ms();
    let steps = execution.steps.iter().map(|one| step(one, now_ms));
    Reply::ok(json!({
        "id": execution.id,
        "dirty_data_count": execution.figures.dirty,
        "detail_logs": steps.collect::<Vec<Value>>(),
    }))
}

/// ShowTaskMonitorOverview: one that waits for trouble to pass counts as running.
pub(crate) async fn overview(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let (task, counted) = call.app.executions_counted(scope, id).await?;
    let of = |wanted: &[ExecuteStatus]| {
        let counted = counted.iter().filter(|(status, _)| wanted.contains(status));
        counted.map(|(_, n)| n).sum::<u64>()
    };
    Reply::ok(json!({
        "task_name": task.name,
        "total_num": of(&ExecuteStatus::ALL),
        "error_num": of(&[ExecuteStatus::Error]),
        "success_num": of(&[ExecuteStatus::Success]),
        "running_num": of(&[ExecuteStatus::Running, ExecuteStatus::Waiting]),
        "cancel_num": of(&[ExecuteStatus::Cancelled]),
    }))
}

fn filter(query: &Query) -> Result<TaskFilter> {
    let status = query.word("execute_status", EXECUTE_STATUS)?;
    Ok(TaskFilter {
        name_exact_case: query.text("task_name", 100)?,
        execute_status: status.and_then(ExecuteStatus::parse),
        descending: true,
        ..TaskFilter::default()
    })
}

/// A `TaskMonitorInfo`.
fn task_info(task: &Task, instance: &str) -> Value {
    let (source, target) = (task.source.as_ref(), task.target.as_ref());
    let field = |end: Option<&DataSourceRef>, get: fn(&DataSourceRef) -> &String| {
        end.map_or(Value::Null, |end| get(end).as_str().into())
    };
    let execution = task.execution.as_ref();
    let (cron, period) = match task.dispatch.as_ref().map(|dispatch| &dispatch.when) {
        None => (None, None),
        Some(When::Cron(cron)) => (Some(Some(cron.as_str())), None),
        Some(When::Every(every, unit)) => (Some(None), Some((*every, *unit))),
    };
    json!({
        "task_id": task.id,
        "task_name": task.name,
        "task_type": task_type(task).to_ascii_uppercase(),
        "status": i32::from(task.is_on()),
        "last_execute_time": execution.map(|e| e.started_ms),
        "use_quartz_cron": cron.map(|cron| cron.is_some()),
        "cron": cron.flatten(),
        "period": period.map(|(_, unit)| unit.as_str()),
        "dispatch_interval": period.map(|(every, _)| every),
        "position": execution.map(|e| e.node.as_str()),
        "execute_status": task.execute_status().as_str(),
        "source_app_id": field(source, |s| &s.app_id),
        "source_app_name": field(source, |s| &s.app_name),
        "source_instance_id": instance,
        "target_app_id": field(target, |s| &s.app_id),
        "target_app_name": field(target, |s| &s.app_name),
        "target_instance_id": instance,
        "ext_type": ext_type(task),
        "enterprise_project_id": "0",
        "task_tag": task.tag,
    })
}

/// A `TaskMonitorLog`.
fn log(execution: &Execution, now_ms: i64) -> Value {
    let end = execution.ended_ms.unwrap_or(now_ms);
    let steps = execution.steps.iter();
    json!({
        "id": execution.id,
        "start_time": execution.started_ms,
        "dispatch_time": execution.dispatched_ms,
        "end_time": execution.ended_ms,
        "execute_status": execution.status.as_str(),
        "position": execution.node.as_str(),
        "position_status": execution.node_status.as_str(),
        "status": execution.code,
        "dirty_data_count": execution.figures.dirty,
        "data_count": execution.figures.rows,
        "data_size": size(&execution.figures),
        "data_size_unit": UNIT,
        "spend_time": (end - execution.started_ms).max(0),
        // Reading and writing go on at the same time; only scheduled tasks tell them apart.
        "read_spend_time": null,
        "write_spend_time": null,
        "remarks": execution.remarks,
        "detail_logs": steps.map(|s| step(s, now_ms)).collect::<Vec<Value>>(),
    })
}

/// A `TaskMonitorDetailLog`.
fn step(step: &Step, now_ms: i64) -> Value {
    let end = step.end_ms.unwrap_or(now_ms);
    json!({
        "id": step.id,
        "status": step.code,
        "position": step.node.as_str(),
        "position_status": step.node_status.as_str(),
        "stage": step.stage,
        "dirty_data_count": step.figures.dirty,
        "data_count": step.figures.rows,
        "data_size": size(&step.figures),
        "data_size_unit": UNIT,
        "spend_time": (end - step.begin_ms).max(0),
        "remarks": step.remarks,
        "step_begin_time": step.begin_ms,
        "step_end_time": step.end_ms,
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a figure to look at, with a unit of its own"
)]
fn size(figures: &Figures) -> f64 {
    (figures.bytes as f64 / UNIT_BYTES * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use thalweg_control::model::{Node, NodeStatus};

    use super::*;

    #[test]
    fn an_execution_that_runs_has_no_end_and_grows() {
        let execution = Execution {
            id: "e".into(),
            dispatched_ms: 900,
            started_ms: 1000,
            ended_ms: None,
            status: ExecuteStatus::Running,
            node: Node::Writer,
            node_status: NodeStatus::Normal,
            code: 502,
            remarks: String::new(),
            figures: Figures {
                rows: 3,
                bytes: 1536,
                dirty: 0,
            },
            steps: Vec::new(),
        };
        let value = log(&execution, 4000);
        assert_eq!(value["end_time"], Value::Null);
        assert_eq!(value["spend_time"], 3000);
        assert_eq!(value["data_size"], 1.5);
        assert_eq!(value["data_size_unit"], "KB");
        assert_eq!(value["position"], "WRITER");
    }
}
