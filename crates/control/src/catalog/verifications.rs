//! Verifications of tasks, and what was found last of each table.

use std::collections::{BTreeMap, HashMap};

use sqlx::any::AnyRow;
use thalweg_core::position::Position;
use thalweg_engine::verify::{Finding, Progress, Report, TableReport};

use super::{Catalog, count, number, number_or_none, stored as stored_count, text, text_or_none};
use crate::error::{Error, Result, Subject};
use crate::model::{AskedBy, Outcome, Page, Verification, Verified, Window};
use crate::stored;

/// Verifications kept of one task; the oldest go first.
const KEPT: i64 = 100;
/// Of those, how many the task asked for by itself.
const KEPT_BACKGROUND: i64 = 10;
/// Why a verification ended before it was done.
const ENDED: &str = "the task stopped, or was interrupted, before this was done; ask again";

const COLUMNS: &str = "id, asked_by, asked_ms, ended_ms, progress, waits, request, tables";

fn progress_word(progress: Progress) -> &'static str {
    match progress {
        Progress::Waiting => "waiting",
        Progress::Running => "running",
        Progress::Done => "done",
        Progress::Ended => "ended",
    }
}

/// All but the rows that differ.
fn verification(row: &AnyRow) -> Result<Verification> {
    let mut report = Report {
        progress: match text(row, "progress")?.as_str() {
            "running" => Progress::Running,
            "done" => Progress::Done,
            "ended" => Progress::Ended,
            _ => Progress::Waiting,
        },
        waits: text_or_none(row, "waits")?,
        tables: stored::tables_read(&text(row, "tables")?)?,
    };
    // Said here and not where it is stored: a process that was killed could not store it.
    if report.progress == Progress::Ended {
        report.waits = Some(ENDED.to_owned());
        for table in &mut report.tables {
            if Outcome::of(&table.finding).is_none() {
                table.finding = Finding::Failed(ENDED.to_owned());
            }
        }
    }
    Ok(Verification {
        id: text(row, "id")?,
        asked_by: match text(row, "asked_by")?.as_str() {
            "background" => AskedBy::Background,
            _ => AskedBy::User,
        },
        asked_ms: number(row, "asked_ms")?,
        ended_ms: number_or_none(row, "ended_ms")?,
        request: stored::request_read(&text(row, "request")?)?,
        report,
    })
}

impl Catalog {
    /// Stores a new verification; the oldest go.
    pub(crate) async fn verification_create(&self, task: &str, new: &Verification) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO verification (id, task, asked_by, asked_ms, progress, request, tables) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id.clone())
        .bind(task.to_owned())
        .bind(new.asked_by.as_str().to_owned())
        .bind(new.asked_ms)
        .bind(progress_word(new.report.progress).to_owned())
        .bind(stored::request_write(&new.request))
        .bind(stored::tables_write(&new.report.tables))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM verification WHERE task = $1 AND asked_by = 'background' AND id NOT IN \
             (SELECT id FROM verification WHERE task = $1 AND asked_by = 'background' \
             ORDER BY asked_ms DESC, id LIMIT $2)",
        )
        .bind(task.to_owned())
        .bind(KEPT_BACKGROUND)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM verification WHERE task = $1 AND id NOT IN (SELECT id FROM verification \
             WHERE task = $1 ORDER BY asked_ms DESC, id LIMIT $2)",
        )
        .bind(task.to_owned())
        .bind(KEPT)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// One that is not made after all.
    pub(crate) async fn verification_remove(&self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM verification WHERE id = $1")
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Writes how a verification stands, with the rows that differ (sealed); of `finished` tables, what was
    /// found last. Nothing, if it is gone meanwhile.
    pub(crate) async fn verification_write(
        &self,
        task: &str,
        now: &Verification,
        differences: Option<String>,
        finished: &[TableReport],
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let written = sqlx::query(
            "UPDATE verification SET ended_ms = $2, progress = $3, waits = $4, tables = $5, \
             differences = $6 WHERE id = $1",
        )
        .bind(now.id.clone())
        .bind(now.ended_ms)
        .bind(progress_word(now.report.progress).to_owned())
        .bind(now.report.waits.clone())
        .bind(stored::tables_write(&now.report.tables))
        .bind(differences)
        .execute(&mut *tx)
        .await?;
        if written.rows_affected() == 0 {
            return Ok(());
        }
        for table in finished {
            // What could not be compared says nothing of the table.
            let found = Outcome::of(&table.finding).filter(|found| *found != Outcome::Failed);
            let Some(found) = found else { continue };
            sqlx::query(
                "INSERT INTO verified (task, target_table, at_ms, position, result) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (task, target_table) \
                 DO UPDATE SET at_ms = $3, position = $4, result = $5",
            )
            .bind(task.to_owned())
            .bind(table.target.clone())
            .bind(stored_count(table.at_ms))
            .bind(table.position.as_ref().map(Position::to_string))
            .bind(found.as_str().to_owned())
            .execute(&mut *tx)
            .await?;
        }
        if now.is_whole() {
            sqlx::query("UPDATE task SET verified_ms = $2 WHERE id = $1")
                .bind(task.to_owned())
                .bind(now.ended_ms)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Ends those that nobody ended: the process was killed.
    pub(crate) async fn verifications_orphaned(&self) -> Result<()> {
        sqlx::query(
            "UPDATE verification SET ended_ms = $1, progress = 'ended' WHERE ended_ms IS NULL",
        )
        .bind(super::now_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Those of a task, newest first, without the rows that differ.
    pub(crate) async fn verification_list(
        &self,
        task: &str,
        window: Window,
    ) -> Result<Page<Verification>> {
        let total = sqlx::query("SELECT COUNT(*) AS n FROM verification WHERE task = $1")
            .bind(task.to_owned())
            .fetch_one(&self.reader)
            .await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM verification WHERE task = $1 \
             ORDER BY asked_ms DESC, id LIMIT $2 OFFSET $3"
        )))
        .bind(task.to_owned())
        .bind(i64::from(window.limit))
        .bind(i64::from(window.offset))
        .fetch_all(&self.reader)
        .await?;
        Ok(Page {
            total: count(&total, "n")?,
            entities: rows.iter().map(verification).collect::<Result<_>>()?,
        })
    }

    /// One of a task, and the rows that differ, sealed.
    pub(crate) async fn verification_show(
        &self,
        task: &str,
        id: &str,
    ) -> Result<(Verification, Option<String>)> {
        let row = sqlx::query("SELECT * FROM verification WHERE task = $1 AND id = $2")
            .bind(task.to_owned())
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        let row = row.ok_or(Error::NotFound(Subject::Verification))?;
        Ok((verification(&row)?, text_or_none(&row, "differences")?))
    }

    /// What was found last of the target tables of a task.
    pub(crate) async fn verified(&self, task: &str) -> Result<BTreeMap<String, Verified>> {
        let rows = sqlx::query("SELECT * FROM verified WHERE task = $1")
            .bind(task.to_owned())
            .fetch_all(&self.reader)
            .await?;
        let mut all = BTreeMap::new();
        for row in &rows {
            let Some(outcome) = Outcome::parse(&text(row, "result")?) else {
                continue;
            };
            let verified = Verified {
                at_ms: number(row, "at_ms")?,
                position: text_or_none(row, "position")?,
                outcome,
            };
            all.insert(text(row, "target_table")?, verified);
        }
        Ok(all)
    }

    /// When all tables of a task were last found equal, or repaired, by the task's id.
    pub(crate) async fn tasks_verified(&self) -> Result<HashMap<String, i64>> {
        let rows = sqlx::query(
            "SELECT id, verified_ms FROM task WHERE verified_ms IS NOT NULL AND deleted = 0",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| Ok((text(row, "id")?, number(row, "verified_ms")?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::schema::TableName;
    use thalweg_engine::verify::Request;

    use super::*;
    use crate::catalog::tests::fresh;

    const ALL: Window = Window {
        offset: 0,
        limit: 1000,
    };

    async fn with_a_task() -> (std::path::PathBuf, Catalog) {
        let (folder, catalog) = fresh().await;
        for sql in [
            "INSERT INTO project (id, name) VALUES ('p', 'p')",
            "INSERT INTO instance (id, project) VALUES ('i', 'p')",
            "INSERT INTO task (id, instance, name, insert_rows, update_rows, delete_rows, options, \
             desired, begun, forget, deleted, created_ms, updated_ms) \
             VALUES ('t', 'i', 't', 1, 1, 1, '{}', 1, 0, 0, 0, 1, 1)",
        ] {
            sqlx::query(sql).execute(&catalog.writer).await.unwrap();
        }
        (folder, catalog)
    }

    fn asked(n: i64, asked_by: AskedBy) -> Verification {
        Verification {
            id: format!("v{n:04}"),
            asked_by,
            asked_ms: n,
            ended_ms: None,
            request: Request::default(),
            report: Report::default(),
        }
    }

    fn table(target: &str, finding: Finding) -> TableReport {
        TableReport {
            source: "shop.a".into(),
            target: target.into(),
            finding,
            position: Some(Position::new("0-1-2")),
            at_ms: 7,
            hash: 1 << 100,
            ..TableReport::default()
        }
    }

    #[tokio::test]
    async fn the_oldest_go_and_all_go_with_their_task() {
        let (folder, catalog) = with_a_task().await;
        for n in 0..120 {
            let by = match n % 2 {
                0 => AskedBy::User,
                _ => AskedBy::Background,
            };
            catalog
                .verification_create("t", &asked(n, by))
                .await
                .unwrap();
        }
        let page = catalog.verification_list("t", ALL).await.unwrap();
        let of = |by| {
            page.entities
                .iter()
                .filter(|one| one.asked_by == by)
                .count()
        };
        assert_eq!((of(AskedBy::User), of(AskedBy::Background)), (60, 10));
        assert_eq!((page.total, page.entities[0].id.as_str()), (70, "v0119"));
        for n in 120..200 {
            let new = asked(n, AskedBy::User);
            catalog.verification_create("t", &new).await.unwrap();
        }
        let window = Window {
            offset: 99,
            limit: 10,
        };
        let page = catalog.verification_list("t", window).await.unwrap();
        assert_eq!((page.total, page.entities.len()), (100, 1));
        let shown = catalog.verification_show("t", "v0000").await;
        assert!(matches!(shown, Err(Error::NotFound(Subject::Verification))));
        let last = asked(199, AskedBy::User);
        let finished = [table("public.a", Finding::Equal)];
        let written = catalog.verification_write("t", &last, None, &finished);
        written.await.unwrap();
        assert_eq!(catalog.verified("t").await.unwrap().len(), 1);
        catalog.task_remove("t").await.unwrap();
        assert_eq!(catalog.verification_list("t", ALL).await.unwrap().total, 0);
        assert!(catalog.verified("t").await.unwrap().is_empty());
        // What still goes on for it is nobody's any more.
        let written = catalog.verification_write("t", &last, None, &finished);
        written.await.unwrap();
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn what_was_found_last_stays_until_something_else_is() {
        let (folder, catalog) = with_a_task().await;
        let mut one = asked(1, AskedBy::User);
        one.request.tables = vec![TableName::new("public", "a")];
        let write = async |one: &mut Verification, found: Vec<TableReport>| {
            catalog.verification_create("t", one).await.unwrap();
            one.ended_ms = Some(one.asked_ms + 1);
            one.report.progress = Progress::Done;
            one.report.tables = found.clone();
            let sealed = Some("sealed".to_owned());
            let written = catalog.verification_write("t", one, sealed, &found);
            written.await.unwrap();
            let shown = catalog.verification_show("t", &one.id).await.unwrap();
            assert_eq!(shown, (one.clone(), Some("sealed".to_owned())));
            let verified = catalog.verified("t").await.unwrap();
            let verified = verified.into_iter();
            let outcomes: Vec<_> = verified.map(|(name, v)| (name, v.outcome)).collect();
            let whole = catalog.tasks_verified().await.unwrap();
            (outcomes, whole.get("t").copied())
        };
        let (a, b) = ("public.a".to_owned(), "public.b".to_owned());
        let found = write(&mut one, vec![table(&a, Finding::Equal)]).await;
        assert_eq!(found, (vec![(a.clone(), Outcome::Equal)], None), "not all");
        let equal = vec![table(&a, Finding::Equal), table(&b, Finding::Repaired)];
        let found = write(&mut asked(2, AskedBy::Background), equal).await;
        let both = vec![(a.clone(), Outcome::Equal), (b.clone(), Outcome::Repaired)];
        assert_eq!(found, (both, Some(3)));
        let failed = Finding::Failed("why".into());
        let worse = vec![table(&a, Finding::Different), table(&b, failed)];
        let found = write(&mut asked(4, AskedBy::User), worse).await;
        let last = vec![(a, Outcome::Different), (b, Outcome::Repaired)];
        assert_eq!(found, (last, Some(3)));
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn one_that_nobody_ended_is_shown_as_ended() {
        let (folder, catalog) = with_a_task().await;
        let mut one = asked(1, AskedBy::User);
        catalog.verification_create("t", &one).await.unwrap();
        one.report.progress = Progress::Running;
        one.report.waits = Some("for something".into());
        one.report.tables = vec![
            table("public.a", Finding::Equal),
            table("public.b", Finding::Running),
            table("public.c", Finding::Waiting),
        ];
        let written = catalog.verification_write("t", &one, None, &[]);
        written.await.unwrap();
        let (shown, _) = catalog.verification_show("t", &one.id).await.unwrap();
        assert_eq!(shown, one);
        assert_eq!(shown.outcome(), None);
        catalog.verifications_orphaned().await.unwrap();
        let (shown, _) = catalog.verification_show("t", &one.id).await.unwrap();
        assert!(shown.ended_ms.is_some());
        assert_eq!(shown.outcome(), Some(Outcome::Failed));
        assert_eq!(shown.report.waits.as_deref(), Some(ENDED));
        let findings = shown.report.tables.into_iter().map(|table| table.finding);
        let failed = || Finding::Failed(ENDED.to_owned());
        let expected = [Finding::Equal, failed(), failed()];
        assert!(findings.eq(expected));
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
