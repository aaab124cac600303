//! The clock stands still: each test says what time it is.

use super::*;
use crate::model::Window;
use crate::schedule::Unit;
use crate::supervisor::tests::with_a_task;

const MINUTE: i64 = 60_000;
/// 2026-11-01T00:00:00Z.
const BEGIN: i64 = 1_793_491_200_000;

/// A task whose schedule is on, its first time one minute after [`BEGIN`].
async fn scheduled(incremental: bool) -> (std::path::PathBuf, App, String) {
    let (folder, app, mut task) = with_a_task().await;
    let id = task.shown.id.clone();
    let catalog = &app.inner.catalog;
    task.shown.kind = TaskKind::Timing { incremental };
    catalog.task_put(&task).await.unwrap();
    catalog.task_desire(&id, false).await.unwrap();
    let dispatch = Dispatch {
        id: "dispatch".into(),
        task_id: id.clone(),
        start_ms: Some(BEGIN + MINUTE),
        when: When::Every(1, Unit::Minute),
        remark: None,
        created_ms: BEGIN,
        updated_ms: BEGIN,
    };
    let due = dispatch.next_after(app.inner.zone, BEGIN).unwrap();
    catalog.dispatch_put(&dispatch, due).await.unwrap();
    catalog.task_schedule(&id, true, due).await.unwrap();
    (folder, app, id)
}

/// What has become of the task: number, code and remarks of each execution, the newest first.
async fn executions(app: &App, id: &str) -> Vec<(u16, String)> {
    let all = Window {
        offset: 0,
        limit: 100,
    };
    let listed = app.inner.catalog.execution_list(id, 0, i64::MAX, all);
    let of_schedule =
        |one: &Execution| one.dispatched_ms >= BEGIN && one.dispatched_ms < BEGIN + 10_000 * MINUTE;
    let found = listed.await.unwrap().entities;
    found
        .into_iter()
        .filter(of_schedule)
        .map(|one| (one.code, one.remarks))
        .collect()
}

/// The run goes to its end.
async fn ends(app: &App, id: &str) {
    let catalog = &app.inner.catalog;
    catalog.task_desire(id, false).await.unwrap();
    catalog.executions_orphaned_of(id).await.unwrap();
}

async fn close(folder: std::path::PathBuf, app: App) {
    app.inner.catalog.close().await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_task_runs_at_its_times_and_not_before() {
    let (folder, app, id) = scheduled(true).await;
    for (at, runs) in [
        (0, 0),
        (59_999, 0),
        (60_000, 1),
        (60_001, 1),
        (119_999, 1),
        (120_000, 2),
    ] {
        dispatch_due(&app.inner, BEGIN + at).await.unwrap();
        assert_eq!(executions(&app, &id).await.len(), runs, "{at}");
        ends(&app, &id).await;
    }
    close(folder, app).await;
}

#[tokio::test]
async fn times_that_were_missed_are_one_run() {
    let (folder, app, id) = scheduled(true).await;
    dispatch_due(&app.inner, BEGIN + 5 * MINUTE + 10)
        .await
        .unwrap();
    let found = executions(&app, &id).await;
    assert_eq!(found.len(), 1);
    assert!(
        found[0].1.starts_with("4 times before were missed"),
        "{found:?}"
    );
    ends(&app, &id).await;
    // The next is the next of the schedule.
    dispatch_due(&app.inner, BEGIN + 6 * MINUTE - 1)
        .await
        .unwrap();
    assert_eq!(executions(&app, &id).await.len(), 1);
    dispatch_due(&app.inner, BEGIN + 6 * MINUTE).await.unwrap();
    assert_eq!(executions(&app, &id).await.len(), 2);
    close(folder, app).await;
}

#[tokio::test]
async fn a_time_at_which_the_run_before_goes_on_is_rejected() {
    let (folder, app, id) = scheduled(true).await;
    dispatch_due(&app.inner, BEGIN + MINUTE).await.unwrap();
    let running = app
        .inner
        .catalog
        .execution_last(&id)
        .await
        .unwrap()
        .unwrap();
    dispatch_due(&app.inner, BEGIN + 2 * MINUTE).await.unwrap();
    let found = executions(&app, &id).await;
    let codes: Vec<u16> = found.iter().map(|one| one.0).collect();
    assert_eq!(codes, [907, 900]);
    // What the task says of itself is the run that goes on.
    let last = app
        .inner
        .catalog
        .execution_last(&id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.id, running.id);
    ends(&app, &id).await;
    dispatch_due(&app.inner, BEGIN + 3 * MINUTE).await.unwrap();
    assert_eq!(executions(&app, &id).await[0].0, 900);
    close(folder, app).await;
}

#[tokio::test]
async fn a_full_run_begins_anew_and_an_incremental_one_goes_on() {
    for incremental in [false, true] {
        let (folder, app, id) = scheduled(incremental).await;
        dispatch_due(&app.inner, BEGIN + MINUTE).await.unwrap();
        let task = app.inner.catalog.task_desired(&id).await.unwrap().unwrap();
        assert_eq!(task.forget, !incremental);
        close(folder, app).await;
    }
}

#[tokio::test]
async fn a_schedule_that_is_off_or_over_runs_nothing() {
    let (folder, app, id) = scheduled(true).await;
    let catalog = &app.inner.catalog;
    catalog.task_schedule(&id, false, None).await.unwrap();
    dispatch_due(&app.inner, BEGIN + 5 * MINUTE).await.unwrap();
    assert_eq!(executions(&app, &id).await.len(), 0);
    // One with a single time that is left.
    let once = Dispatch {
        when: When::Cron("0 5 0 1 11 ? 2026".into()),
        ..catalog.dispatch_show(&id).await.unwrap().unwrap()
    };
    let due = once.next_after(app.inner.zone, BEGIN).unwrap();
    assert_eq!(due, Some(BEGIN + 5 * MINUTE));
    catalog.dispatch_put(&once, due).await.unwrap();
    catalog.task_schedule(&id, true, due).await.unwrap();
    dispatch_due(&app.inner, BEGIN + 5 * MINUTE).await.unwrap();
    assert_eq!(executions(&app, &id).await.len(), 1);
    assert!(
        catalog.task_scheduled(&id).await.unwrap().is_none(),
        "it is off"
    );
    close(folder, app).await;
}
