//! How a run makes the plan of its task: what is to be done at the target first, and which tables leave the task
//! or return to it.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use thalweg_core::mapping::Mapping;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Following;
use thalweg_core::schema::TableName;
use thalweg_core::{Error as CoreError, Kind, Side};
use thalweg_engine::limits::Limits;
use thalweg_engine::retry::{Action, action};
use thalweg_engine::status::{LastError, TaskPhase};
use tracing::{info, warn};

use super::book::Book;
use super::record::Failure;
use super::run::{Ends, Left, Run, failure, listed, refused, told};
use crate::catalog::now_ms;
use crate::error::Result;
use crate::model::Paused;
use crate::preflight::{Preflight, preflight_behind, refit};

/// How often a task is planned because what it was planned for has changed by then.
const ROUNDS: usize = 20;

impl Run {
    /// Preflight, tried again as long as a system cannot be asked.
    pub(super) async fn prepare(
        &self,
        book: &mut impl Book,
        left: &mut Left,
    ) -> Result<(Ends, Plan), Failure> {
        let limits = Limits::default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.try_prepare(book, left).await {
                Ok(Some(ready)) => return ready,
                // At most once: it is known no more then.
                Ok(None) => continue,
                Err(error) => error,
            };
            let Action::Retry(wait) = action(error.kind(), attempt, &limits) else {
                return Err(failure(&error, true));
            };
            warn!(task = %self.task.shown.id, attempt, error = %error.chain(), "task waits");
            book.remark(&format!("waiting, try {attempt}: {}", told(&error)))
                .await;
            self.waits(&error, attempt);
            tokio::time::sleep(wait).await;
        }
    }

    fn waits(&self, error: &CoreError, attempt: u32) {
        self.status.send_modify(|status| {
            status.phase = TaskPhase::Waiting;
            let now = u64::try_from(now_ms()).unwrap_or(0);
            status.since_ms = now;
            status.last_error = Some(LastError {
                kind: error.kind(),
                side: error.side(),
                message: error.chain(),
                hint: error.hint().map(str::to_owned),
                since_ms: now,
                attempt,
            });
        });
    }

    /// One try: `Err` if a system could not be asked, `Some(Err)` if the task is refused, `None` if it is to
    /// begin anew.
    async fn try_prepare(
        &self,
        book: &mut impl Book,
        left: &mut Left,
    ) -> thalweg_core::Result<Option<Result<(Ends, Plan), Failure>>> {
        // What was decided until now is stored, and in this plan.
        self.replan.notified().now_or_never();
        let mut ends = match book.ends().await {
            Ok(ends) => ends,
            Err(error) => return Ok(Some(Err(refused(error.to_string())))),
        };
        if !ends.returning.is_empty() && (left.due || left.forgets || ends.mappings.is_empty()) {
            if let Err(error) = self.resume(book, &ends, left).await? {
                return Ok(Some(Err(refused(error.to_string()))));
            }
            ends = match book.ends().await {
                Ok(ends) => ends,
                Err(error) => return Ok(Some(Err(refused(error.to_string())))),
            };
        }
        left.due = false;
        ends.unsaid.clone_from(&left.unsaid);
        if ends.mappings.is_empty() && !ends.returning.is_empty() {
            let busy = "all tables that are left are to be made anew, and are in use at the target";
            return Err(CoreError::transient(busy).at(Side::Target));
        }
        if ends.mappings.is_empty() {
            let none = "all tables of the task are paused. Fix: resume one, and run the task again";
            return Ok(Some(Err(refused(none.to_owned()))));
        }
        let id = &self.task.shown.id;
        if left.resets {
            let following = self.refit(&ends, &ends.mappings).await?;
            info!(task = %id, statements = %following.statements.join("; "), "all tables are loaded again");
            // First: whoever starts before the position is forgotten comes here again, since the tables that are there
            // cannot go on, and those that are not are made.
            self.remake(&ends, following.again, following.statements)
                .await?;
            if let Err(error) = book.forgets().await {
                return Ok(Some(Err(refused(error.to_string()))));
            }
            (left.forgets, left.anew) = (true, true);
        }
        if left.forgets {
            ends.target
                .forget(&ends.key)
                .await
                .map_err(|e| e.at(Side::Target))?;
            // First: a run that ends in between must not note that the target has a checkpoint.
            self.status.send_modify(|status| status.applied = None);
            if let Err(error) = book.forgotten().await {
                return Ok(Some(Err(refused(error.to_string()))));
            }
            (left.forgets, left.resets, left.expects_checkpoint) = (false, false, false);
        }
        if !ends.reload.is_empty() {
            let following = Following {
                again: ends.reload.iter().map(|(_, table)| table.clone()).collect(),
                ..Following::default()
            };
            let outline = ends.target.outline(&ends.key).await;
            // A task that the target does not know loads all there is.
            if outline.map_err(|e| e.at(Side::Target))?.is_some() {
                let followed = ends.target.follow(&ends.key, &following).await;
                followed.map_err(|e| e.at(Side::Target))?;
            }
            let ids: Vec<_> = ends.reload.iter().map(|(id, _)| id.clone()).collect();
            if let Err(error) = book.reloaded(&ids).await {
                return Ok(Some(Err(refused(error.to_string()))));
            }
        }
        let begun = self.task.begun || self.status.borrow().applied.is_some();
        let mut rounds = 0;
        let mut found = loop {
            let mut found = self.preflight(&ends).await?;
            for (id, paused) in &mut found.paused {
                let of_it = |m: &&Mapping| m.id == *id && left.returned.contains(&m.target);
                if ends.mappings.iter().any(|m| of_it(&m)) {
                    // It was loaded again, and changed before it was Live.
                    paused.returns = false;
                }
            }
            rounds += 1;
            if found.resets && !left.anew {
                book.remark(&listed(&found)).await;
                left.resets = true;
                return Ok(None);
            }
            if found.resets {
                let text = format!(
                    "{}\nand it was loaded again for such a change already, and was not Live since. Fix: run the task \
                     when its tables do not change",
                    listed(&found)
                );
                return Ok(Some(Err(refused(text))));
            }
            if rounds > ROUNDS {
                let why = "tables change again and again while the task is planned";
                return Err(CoreError::transient(why));
            }
            if !found.paused.is_empty() {
                book.remark(&listed(&found)).await;
                for (mapping, paused) in &found.paused {
                    warn!(task = %id, %mapping, reason = %paused.reason, "a table is paused");
                }
                if let Err(error) = book.pause(&found.paused).await {
                    return Ok(Some(Err(refused(error.to_string()))));
                }
                ends.leave(&found.paused);
            }
            if let Some(following) = &found.following {
                info!(task = %id, statements = %following.statements.join("; "), "source tables have changed");
                book.remark(&listed(&found)).await;
                let doubted = ends.mappings.iter();
                let doubted = doubted.filter(|mapping| found.doubted.contains(&mapping.target));
                ends.doubt
                    .extend(doubted.map(|m| (m.id.clone(), m.target.clone())));
                let ids: Vec<_> = ends.doubt.iter().map(|(id, _)| id.clone()).collect();
                // First: it must not be forgotten.
                if let Err(error) = book.doubt(&ids, true).await {
                    return Ok(Some(Err(refused(error.to_string()))));
                }
                let followed = ends.target.follow(&ends.key, following).await;
                if let Err(error) = followed {
                    let error = error.at(Side::Target);
                    let refused = !matches!(error.kind(), Kind::Transient | Kind::Fenced);
                    let ours =
                        |m: &&Mapping| following.fingerprints.iter().any(|(t, _)| *t == m.target);
                    let tables: Vec<_> = ends.mappings.iter().filter(ours).cloned().collect();
                    let fix = following.statements.join("; ");
                    let all = (tables.as_slice(), ends.mappings.as_slice());
                    if !refused || !self.pause_all(book, &error, (fix, false), all).await {
                        return Err(error);
                    }
                    let stays = |mapping: &Mapping| tables.iter().all(|m| m.id != mapping.id);
                    ends.mappings.retain(stays);
                }
                ends.unsaid.clear();
                if found.again {
                    continue;
                }
            }
            match &found.plan {
                // A table that goes between two questions is no table that was never there.
                None if begun && rounds == 1 => {}
                // While a task runs, a table that has yet to join it does not stop the others.
                None if self.status.borrow().applied.is_some() => {
                    let hindering = self.hindering(&ends).await?;
                    if hindering.is_empty() {
                        break found;
                    }
                    for (mapping, paused) in &hindering {
                        warn!(task = %id, %mapping, reason = %paused.reason, "a table is paused");
                    }
                    book.remark(&listed(&found)).await;
                    if let Err(error) = book.pause(&hindering).await {
                        return Ok(Some(Err(refused(error.to_string()))));
                    }
                    ends.leave(&hindering);
                }
                Some(plan) if ends.target.set_aside(&ends.key, plan).await? => {}
                _ => break found,
            }
        };
        if begun && left.expects_checkpoint && is_standby(&found) {
            return Err(CoreError::transient(listed(&found)).at(Side::Source));
        }
        let Some(plan) = found.plan.take() else {
            return Ok(Some(Err(Failure {
                kind: Kind::Config,
                side: found.refused_at,
                at_start: true,
                text: listed(&found),
            })));
        };
        if !found.compared.is_empty() {
            // What is in doubt already was compared before this plan, and is no table to be loaded.
            let noted = |table: &TableName| ends.doubt.iter().any(|(_, doubted)| doubted == table);
            let compared = found.compared.iter();
            let compared = compared.map(|table| (table.clone(), found.anew || noted(table)));
            ends.compares = compared.collect();
            let compared = ends.mappings.iter();
            let compared = compared.filter(|mapping| found.compared.contains(&mapping.target));
            let compared: Vec<_> = compared.map(|m| (m.id.clone(), m.target.clone())).collect();
            ends.doubt.extend(compared);
            let ids: Vec<_> = ends.doubt.iter().map(|(id, _)| id.clone()).collect();
            // Before they count as copied.
            if let Err(error) = book.doubt(&ids, true).await {
                return Ok(Some(Err(refused(error.to_string()))));
            }
        }
        book.remark(&listed(&found)).await;
        let name = |table: &thalweg_core::plan::TargetTable| {
            let sources = table
                .feeds
                .iter()
                .filter_map(|feed| plan.sources.get(feed.source));
            let sources: Vec<_> = sources.map(|s| s.schema.name.to_string()).collect();
            (sources.join(", "), table.name.to_string())
        };
        self.tables
            .send_replace(plan.targets.iter().map(name).collect());
        if let Err(error) = book.used().await {
            warn!(task = %id, error = %error, "the catalogue could not be written");
        }
        Ok(Some(Ok((ends, plan))))
    }

    /// Takes tables back that return, made to fit. One that cannot be made to fit stays paused.
    async fn resume(
        &self,
        book: &mut impl Book,
        ends: &Ends,
        left: &mut Left,
    ) -> thalweg_core::Result<Result<()>> {
        let mut following = self.refit(ends, &ends.returning).await?;
        let mut ids: Vec<String> = ends.returning.iter().map(|m| m.id.clone()).collect();
        let statements = std::mem::take(&mut following.statements);
        let mut waits = false;
        // One by one: that one cannot be dropped is no reason for the others.
        for (table, statement) in following.again.iter().zip(statements) {
            // Somebody may have decided otherwise meanwhile.
            let now = match book.ends().await {
                Ok(now) => now,
                Err(error) => return Ok(Err(error)),
            };
            let of_it = |m: &&Mapping| m.target == *table;
            if !now.returning.iter().any(|m| of_it(&m)) {
                continue;
            }
            let remade = self.remake(ends, vec![table.clone()], vec![statement.clone()]);
            let Err(error) = remade.await else {
                continue;
            };
            if error.kind() == Kind::Fenced {
                return Err(error);
            }
            let of_it = ends.returning.iter().filter(of_it);
            let of_it: Vec<String> = of_it.map(|m| m.id.clone()).collect();
            ids.retain(|id| !of_it.contains(id));
            // Somebody reads it: the others do not wait for that.
            if error.kind() == Kind::Transient {
                info!(task = %self.task.shown.id, %table, error = %error.chain(), "a table cannot return yet");
                waits = true;
                continue;
            }
            let paused = Paused {
                reason: error.chain(),
                fix: statement,
                since_ms: now_ms(),
                returns: false,
            };
            let of_it: Vec<_> = of_it.into_iter().map(|id| (id, paused.clone())).collect();
            if let Err(error) = book.pause(&of_it).await {
                return Ok(Err(error));
            }
        }
        left.waits = match waits {
            true => left.waits + 1,
            false => 0,
        };
        let back = ends.returning.iter().filter(|m| ids.contains(&m.id));
        left.returned.extend(back.map(|m| m.target.clone()));
        info!(task = %self.task.shown.id, tables = ids.len(), "paused tables return");
        Ok(book.resume(&ids).await)
    }

    /// Drops tables; before, so that none of them is Live without its rows, they are to be loaded.
    async fn remake(
        &self,
        ends: &Ends,
        again: Vec<TableName>,
        statements: Vec<String>,
    ) -> thalweg_core::Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let wait = Following {
            again,
            ..Following::default()
        };
        let remake = Following {
            statements,
            ..Following::default()
        };
        for following in [wait, remake] {
            let followed = ends.target.follow(&ends.key, &following).await;
            followed.map_err(|error| error.at(Side::Target))?;
        }
        Ok(())
    }

    async fn refit(&self, ends: &Ends, mappings: &[Mapping]) -> thalweg_core::Result<Following> {
        let both = (ends.source.as_ref(), ends.target.as_ref());
        refit(both, mappings, &self.task.shown.options).await
    }

    async fn preflight(&self, ends: &Ends) -> thalweg_core::Result<Preflight> {
        self.preflight_of(ends, &ends.mappings).await
    }

    pub(super) async fn preflight_of(
        &self,
        ends: &Ends,
        mappings: &[Mapping],
    ) -> thalweg_core::Result<Preflight> {
        preflight_behind(
            ends.source.as_ref(),
            ends.target.as_ref(),
            &ends.key,
            mappings,
            (self.task.shown.operations, &self.task.shown.options),
            &ends.unsaid,
        )
        .await
    }

    /// The mappings without which the tables that are there already could go on, each with what stands in its way;
    /// none if these could not either.
    async fn hindering(&self, ends: &Ends) -> thalweg_core::Result<Vec<(String, Paused)>> {
        let outline = ends.target.outline(&ends.key).await;
        let outline = outline.map_err(|error| error.at(Side::Target))?;
        let there = |m: &&Mapping| outline.as_ref().is_some_and(|o| o.has(&m.target));
        let (mut all, joining): (Vec<_>, Vec<_>) =
            ends.mappings.iter().cloned().partition(|m| there(&m));
        if all.is_empty() || self.preflight_of(ends, &all).await?.refused_at.is_some() {
            return Ok(Vec::new());
        }
        let mut hindering = Vec::new();
        let targets: BTreeSet<TableName> = joining.iter().map(|m| m.target.clone()).collect();
        // Halved, so that one of a thousand is found by some twenty looks at both systems.
        let mut parts = vec![Vec::from_iter(targets)];
        while let Some(part) = parts.pop() {
            let some = joining.iter().filter(|m| part.contains(&m.target));
            let before = all.len();
            all.extend(some.clone().cloned());
            let found = self.preflight_of(ends, &all).await?;
            if found.refused_at.is_none() {
                continue;
            }
            all.truncate(before);
            if part.len() > 1 {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([other.to_vec(), one.to_vec()]);
                continue;
            }
            let mut errors = found.findings.iter().filter(|finding| finding.refuses());
            if let Some(finding) = errors.next() {
                let paused = Paused {
                    reason: format!("{}: {}", finding.subject, finding.message),
                    fix: finding.fix.clone(),
                    since_ms: now_ms(),
                    returns: false,
                };
                hindering.extend(some.map(|m| (m.id.clone(), paused.clone())));
            }
        }
        Ok(hindering)
    }
}

/// Whether all that stands in the way is that the source is a standby: it is being promoted, or will be, and where the
/// task ran it goes on.
fn is_standby(found: &Preflight) -> bool {
    let refusing = || found.findings.iter().filter(|finding| finding.refuses());
    found.plan.is_none() && refusing().count() > 0 && refusing().all(|f| f.code == "standby")
}
