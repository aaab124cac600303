//! Verifications: asked of a running task, followed, and stored.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thalweg_core::schema::TableName;
use thalweg_core::secret::Secret;
use thalweg_engine::verify::{Finding, Orders, Progress, Report, Request, TableReport};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::app::Inner;
use crate::catalog::{new_id, now_ms};
use crate::error::{Error, Result};
use crate::model::{AskedBy, Outcome, Verification};
use crate::stored;

/// How often a verification that goes on is written, at most.
const EVERY: Duration = Duration::from_secs(5);
/// How often it is tried to write the end of one.
const END_TRIES: u32 = 10;
/// Between the end of a task's own verification and its next.
const PAUSE: Duration = Duration::from_secs(60);

/// What follows verifications, one for each.
#[derive(Default)]
pub(super) struct Follows(Mutex<JoinSet<()>>);

impl Follows {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets those that have ended.
    pub(super) fn reap(&self) {
        let mut all = self.lock();
        while all.try_join_next().is_some() {}
    }

    /// Waits until all have ended. Each does soon after its task.
    pub(super) async fn join(&self) {
        let mut all = mem::take(&mut *self.lock());
        while all.join_next().await.is_some() {}
    }
}

/// Stores a verification and asks the task for it. `TooMany` if too many wait.
pub(super) async fn ask(
    inner: &Arc<Inner>,
    follows: &Follows,
    orders: &Orders,
    task: &str,
    request: Request,
    asked_by: AskedBy,
) -> Result<(Verification, watch::Receiver<Report>)> {
    let new = Verification {
        id: new_id(),
        asked_by,
        asked_ms: now_ms(),
        ended_ms: None,
        request: request.clone(),
        report: Report::default(),
    };
    // First: nothing is repaired for a caller who was told that it failed.
    inner.catalog.verification_create(task, &new).await?;
    let Some(report) = orders.verify(request) else {
        inner.catalog.verification_remove(&new.id).await?;
        return Err(Error::TooMany(
            "other verifications of the task wait already; wait until one has ended".to_owned(),
        ));
    };
    info!(task = %task, verification = %new.id, by = asked_by.as_str(), "verification asked for");
    let follow = Follow {
        inner: Arc::clone(inner),
        task: task.to_owned(),
        now: new.clone(),
        finished: 0,
    };
    follows.lock().spawn(follow.run(report.clone()));
    Ok((new, report))
}

/// Has a running task verified again and again, until dropped.
pub(super) async fn background(
    inner: &Arc<Inner>,
    follows: &Follows,
    orders: &Orders,
    task: &str,
    rows_per_second: u64,
) {
    loop {
        let request = Request {
            tables: Vec::new(),
            repair: false,
            rows_per_second: Some(rows_per_second),
            hurries: true,
        };
        match ask(inner, follows, orders, task, request, AskedBy::Background).await {
            Ok((_, mut report)) => {
                is_done(&mut report).await;
            }
            Err(error) => warn!(task = %task, error = %error, "the task is not verified this time"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has tables of a running task compared and repaired, again and again until they are equal, or dropped. `once` is
/// cancelled when all that can be done for them was done once.
pub(super) async fn repair(
    inner: &Arc<Inner>,
    follows: &Follows,
    orders: &Orders,
    task: &str,
    tables: Vec<TableName>,
    once: &CancellationToken,
) {
    loop {
        let request = Request {
            tables: tables.clone(),
            repair: true,
            ..Request::default()
        };
        match ask(inner, follows, orders, task, request, AskedBy::Background).await {
            Ok((_, mut report)) => {
                let done = is_done(&mut report).await;
                let equal = |table: &TableReport| {
                    matches!(table.finding, Finding::Equal | Finding::Repaired)
                };
                if done && report.borrow().tables.iter().all(equal) {
                    return;
                }
                if done {
                    once.cancel();
                }
                warn!(%task, "a table that has changed is not equal yet: it is compared again");
            }
            Err(error) => warn!(task = %task, error = %error, "the task is not verified this time"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the end: whether it is that all tables were compared.
async fn is_done(report: &mut watch::Receiver<Report>) -> bool {
    let done = report.wait_for(|report| report.progress == Progress::Done);
    done.await.is_ok()
}

/// What follows one verification.
struct Follow {
    inner: Arc<Inner>,
    task: String,
    /// As the catalogue has it.
    now: Verification,
    /// How many of the tables are stored as finished.
    finished: usize,
}

impl Follow {
    /// Stores what a verification says of itself, until its end.
    async fn run(mut self, mut report: watch::Receiver<Report>) {
        let done = loop {
            match tokio::time::timeout(EVERY, is_done(&mut report)).await {
                Ok(done) => break done,
                Err(_) => {
                    let said = report.borrow().clone();
                    if said != self.now.report {
                        self.write(said).await;
                    }
                }
            }
        };
        let mut said = report.borrow().clone();
        if !done {
            said.progress = Progress::Ended;
        }
        self.now.ended_ms = Some(now_ms());
        for _ in 0..END_TRIES {
            if self.write(said.clone()).await {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Whether it could be written.
    async fn write(&mut self, said: Report) -> bool {
        let open = |table: &TableReport| Outcome::of(&table.finding).is_none();
        let open = said.tables.iter().skip(self.finished).position(open);
        let finished = open.map_or(said.tables.len(), |open| self.finished + open);
        let mut now = self.now.clone();
        now.report = said;
        let written = async {
            let rows = stored::differences_write(&now.report.tables);
            let owner = owner(&now.id);
            let seal = |rows| self.inner.seal.seal(&owner, &Secret::new(rows));
            let rows = rows.map(seal).transpose()?;
            let new = now.report.tables.get(self.finished..finished);
            let catalog = &self.inner.catalog;
            catalog
                .verification_write(&self.task, &now, rows, new.unwrap_or_default())
                .await
        };
        if let Err(error) = written.await {
            error!(task = %self.task, error = %error, "the catalogue could not be written");
            return false;
        }
        self.now = now;
        self.finished = finished;
        true
    }
}

/// Whose the sealed rows of a verification are.
pub(crate) fn owner(id: &str) -> String {
    format!("verification/{id}/differences")
}

#[cfg(test)]
mod tests {
    use thalweg_engine::verify::RowReport;

    use super::*;
    use crate::App;
    use crate::model::Window;
    use crate::supervisor::tests::with_a_task;

    fn found(target: &str, finding: Finding) -> TableReport {
        TableReport {
            target: target.to_owned(),
            finding,
            differences: vec![RowReport {
                key: vec![("id".to_owned(), "geheim".to_owned())],
                differs: thalweg_core::ports::Differs::Extra,
                columns: Vec::new(),
            }],
            ..TableReport::default()
        }
    }

    async fn end(folder: std::path::PathBuf, app: App) {
        app.shutdown(Duration::from_secs(5)).await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// What a verification says is stored while it goes on, and so is its end; the rows that differ lie
    /// sealed.
    #[tokio::test]
    async fn what_a_verification_says_is_stored() {
        let (folder, app, task) = with_a_task().await;
        let (catalog, id) = (&app.inner.catalog, task.shown.id.as_str());
        let now = Verification {
            id: new_id(),
            asked_by: AskedBy::User,
            asked_ms: 1,
            ended_ms: None,
            request: Request::default(),
            report: Report::default(),
        };
        catalog.verification_create(id, &now).await.unwrap();
        let (say, report) = watch::channel(Report::default());
        let follow = Follow {
            inner: Arc::clone(&app.inner),
            task: id.to_owned(),
            now: now.clone(),
            finished: 0,
        };
        let mut follow = Box::pin(follow.run(report));
        say.send_modify(|report| {
            report.progress = Progress::Running;
            report.tables = vec![found("a", Finding::Different), found("b", Finding::Running)];
        });
        let looked = tokio::time::timeout(EVERY * 3 / 2, &mut follow).await;
        looked.unwrap_err();
        let (going, sealed) = catalog.verification_show(id, &now.id).await.unwrap();
        assert_eq!(
            (going.report.progress, going.ended_ms),
            (Progress::Running, None)
        );
        assert!(!sealed.unwrap().contains("geheim"));
        let verified = catalog.verified(id).await.unwrap();
        assert_eq!(verified["a"].outcome, Outcome::Different);
        assert!(!verified.contains_key("b"));
        say.send_modify(|report| {
            report.progress = Progress::Done;
            report.tables[1].finding = Finding::Repaired;
        });
        follow.await;
        let (_, sealed) = catalog.verification_show(id, &now.id).await.unwrap();
        let sealed = sealed.unwrap();
        let rows = app.inner.seal.unseal(&owner(&now.id), &sealed).unwrap();
        assert!(rows.expose().contains("geheim"));
        let verified = catalog.verified(id).await.unwrap();
        assert_eq!(verified["b"].outcome, Outcome::Repaired);
        end(folder, app).await;
    }

    /// Whoever asks while the task ends learns that it has.
    #[tokio::test]
    async fn a_task_that_ends_ends_its_verifications() {
        let (folder, app, task) = with_a_task().await;
        let (inner, id) = (&app.inner, task.shown.id.as_str());
        let (follows, orders) = (Follows::default(), Orders::default());
        let mut asked = Vec::new();
        let error = loop {
            let request = Request::default();
            match ask(inner, &follows, &orders, id, request, AskedBy::User).await {
                Ok((one, _)) => asked.push(one.id),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::TooMany(_)), "{error}");
        let all = Window {
            offset: 0,
            limit: 100,
        };
        let page = inner.catalog.verification_list(id, all).await.unwrap();
        assert_eq!(page.entities.len(), asked.len(), "the refused one is gone");
        assert!(page.entities.iter().all(|one| one.ended_ms.is_none()));
        drop(orders);
        follows.join().await;
        let page = inner.catalog.verification_list(id, all).await.unwrap();
        for one in page.entities {
            assert_eq!(one.report.progress, Progress::Ended);
            assert_eq!(one.outcome(), Some(Outcome::Failed));
            assert!(one.report.waits.unwrap().contains("stopped"));
        }
        end(folder, app).await;
    }
}
