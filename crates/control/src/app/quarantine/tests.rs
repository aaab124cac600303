use thalweg_core::change::ChangeKind;
use thalweg_core::schema::TableName;
use thalweg_engine::status::TableStatus;

use super::*;
use crate::supervisor::tests::with_a_task;

fn held(number: i64, table: &str, key: u8, moved: Option<u8>) -> Held {
    Held {
        number,
        target: TableName::new("public", table),
        source: TableName::new("shop", table),
        key: vec![key],
        moved: moved.map(|key| vec![key]),
        shown: format!("id={key}"),
        kind: ChangeKind::Update,
        error: (number % 2 == 1).then(|| "too long".to_owned()),
        place: "0-1-2".to_owned(),
        at_ms: 1,
        change: Vec::new(),
    }
}

#[test]
fn changes_of_one_row_are_together_whatever_lies_between() {
    let rows = grouped(vec![
        held(3, "a", 1, None),
        held(5, "b", 1, None),
        held(6, "a", 1, Some(2)),
        held(7, "a", 9, None),
        held(8, "a", 2, None),
    ]);
    let numbers = rows.iter().map(|row| {
        let later: Vec<i64> = row.later.iter().map(|held| held.number).collect();
        (row.first.number, later)
    });
    let numbers: Vec<_> = numbers.collect();
    assert_eq!(numbers, [(3, vec![6, 8]), (5, vec![]), (7, vec![])]);
    assert_eq!(rows[0].changes(), 3);
    assert_eq!(grouped(Vec::new()), []);
}

#[test]
fn whoever_waited_in_vain_learns_why() {
    let status = |phase: TaskPhase, tables: &[TablePhase]| TaskStatus {
        phase,
        tables: tables
            .iter()
            .map(|phase| TableStatus {
                phase: *phase,
                ..TableStatus::default()
            })
            .collect(),
        ..TaskStatus::default()
    };
    let live = [TablePhase::Live, TablePhase::Live];
    let says = |status: Option<&TaskStatus>, text: &str| {
        let error = late("t", status);
        assert!(matches!(error, Error::NotYet(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    };
    says(
        Some(&status(TaskPhase::Streaming, &live)),
        "within 60 seconds",
    );
    let loads = status(TaskPhase::Loading, &[TablePhase::Live, TablePhase::Copying]);
    says(Some(&loads), "are not yet");
    says(Some(&status(TaskPhase::Waiting, &live)), "are not yet");
    says(None, "are not yet");
}

/// A task without an execution is asked for nothing; one that does not run does nothing.
#[tokio::test]
async fn a_task_that_never_ran_has_none_and_one_that_stands_settles_none() {
    let (folder, app, task) = with_a_task().await;
    let id = &task.shown.id;
    assert_eq!(app.quarantined(&task).await.unwrap(), []);
    let user = crate::model::User {
        id: String::new(),
        name: String::new(),
    };
    let scope = Scope {
        project: String::new(),
        instance: task.instance.clone(),
        user,
        owner: true,
    };
    let missing = app.quarantine_show(&scope, id, 1).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound(Subject::QuarantinedRow)));
    let all = Window {
        offset: 0,
        limit: 10,
    };
    let page = app.quarantine_list(&scope, id, None, all).await.unwrap();
    assert_eq!((page.changes, page.rows.total), (0, 0));
    let error = app.quarantine_settle(&scope, id, Way::Release, None).await;
    assert!(matches!(error, Err(Error::NotRunning(_))), "{error:?}");
    app.shutdown(Duration::from_secs(1)).await;
    std::fs::remove_dir_all(folder).unwrap();
}

/// Nobody waits for a task that has ended, nor behind too many others.
#[tokio::test]
async fn the_end_of_a_task_ends_the_waiting() {
    let (folder, app, task) = with_a_task().await;
    let ward = Ward::default();
    let settled = app.settle(&task, ward.clone(), Way::Discard, Some(vec![1]));
    let (settled, ()) = tokio::join!(settled, async { drop(ward) });
    let error = settled.unwrap_err();
    assert!(matches!(error, Error::NotRunning(_)), "{error:?}");
    assert!(error.to_string().contains("stopped before"), "{error}");

    let ward = Ward::default();
    let mut waiting = Vec::new();
    while let Some(answer) = ward.ask(Way::Release, None) {
        waiting.push(answer);
    }
    let error = app.settle(&task, ward, Way::Release, None).await;
    assert!(matches!(error, Err(Error::TooMany(_))), "{error:?}");
    app.shutdown(Duration::from_secs(1)).await;
    std::fs::remove_dir_all(folder).unwrap();
}
