//! Verifications: whether the tables of a running task are equal.

use std::collections::{BTreeMap, HashMap};

use thalweg_core::schema::TableName;
use thalweg_engine::verify::Request;

use super::App;
use crate::catalog::StoredTask;
use crate::error::{Error, Result};
use crate::model::{NewVerification, Page, Scope, Verification, Verified, Window};
use crate::stored;
use crate::supervisor::verify::owner;

/// Names of tables that an error lists.
const LISTED_MAX: usize = 20;

impl App {
    /// Asks a running task for a verification: it begins when those before it are done. `NotRunning`,
    /// `TooMany`, and `Invalid(tables)` for a name that no target table has.
    pub async fn verification_create(
        &self,
        scope: &Scope,
        task: &str,
        new: NewVerification,
    ) -> Result<Verification> {
        let stored = self.created(scope, task).await?;
        let request = Request {
            tables: self.named(&stored, &new.tables).await?,
            repair: new.repair,
            rows_per_second: new.rows_per_second,
            hurries: false,
        };
        let orders = self.of_running(&stored, |supervisor| supervisor.orders(task));
        let orders = orders.await?;
        self.supervisor.verify(task, &orders, request).await
    }

    /// The target tables that texts name: `schema.table`, or `table` alone where no other has that name.
    async fn named(&self, task: &StoredTask, texts: &[String]) -> Result<Vec<TableName>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let Some(target) = &task.shown.target else {
            return Err(Error::invalid("tables", "the task has no tables yet"));
        };
        let target = self.catalog().datasource_show(&task.instance, &target.id);
        let name = format!("thalweg/{}", task.shown.id);
        let (connector, config) = self.inner.reach(&target.await?, name)?;
        let schema = connector.default_schema(&config);
        let mappings = self.catalog().mapping_list(&task.shown.id).await?;
        let parse = |text: &String| TableName::parse(text, &schema);
        let targets = mappings.iter().map(|mapping| &mapping.target_table);
        find(texts, targets.filter_map(parse).collect())
    }

    /// Verifications of a task, newest first, without the rows that differ.
    pub async fn verification_list(
        &self,
        scope: &Scope,
        task: &str,
        window: Window,
    ) -> Result<Page<Verification>> {
        self.created(scope, task).await?;
        self.catalog().verification_list(task, window).await
    }

    /// One of them, with the rows that differ: their keys are values of the user, which this alone shows.
    pub async fn verification_show(
        &self,
        scope: &Scope,
        task: &str,
        id: &str,
    ) -> Result<Verification> {
        self.created(scope, task).await?;
        let (mut found, rows) = self.catalog().verification_show(task, id).await?;
        if let Some(rows) = rows {
            let rows = self.inner.seal.unseal(&owner(id), &rows)?;
            stored::differences_read(rows.expose(), &mut found.report.tables)?;
        }
        Ok(found)
    }

    /// What was found last of the target tables of a task, by their names.
    pub async fn task_verified(
        &self,
        scope: &Scope,
        task: &str,
    ) -> Result<BTreeMap<String, Verified>> {
        self.task_seen(scope, task).await?;
        self.catalog().verified(task).await
    }

    /// When all tables of a task were last found equal, or repaired: milliseconds since the Unix epoch,
    /// by the task's id.
    pub async fn tasks_verified(&self) -> Result<HashMap<String, i64>> {
        self.catalog().tasks_verified().await
    }
}

/// The tables among `known` that `texts` name, each once.
fn find(texts: &[String], mut known: Vec<TableName>) -> Result<Vec<TableName>> {
    known.sort();
    known.dedup();
    let mut tables = Vec::new();
    for text in texts {
        let named = |table: &&TableName| *text == table.to_string() || *text == table.name;
        // A whole name goes before one without schema that looks like it.
        let exact = known.iter().find(|table| *text == table.to_string());
        let found: Vec<&TableName> = match exact {
            Some(table) => vec![table],
            None => known.iter().filter(named).collect(),
        };
        let table = match found.as_slice() {
            [table] => *table,
            [] => {
                let reason = format!(
                    "the task has no target table {text}; there is {}",
                    listed(&known)
                );
                return Err(Error::invalid("tables", reason));
            }
            several => {
                let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                let reason = format!(
                    "the name {text} may mean {}: give its schema",
                    several.join(" or ")
                );
                return Err(Error::invalid("tables", reason));
            }
        };
        if !tables.contains(table) {
            tables.push(table.clone());
        }
    }
    Ok(tables)
}

fn listed(known: &[TableName]) -> String {
    let mut names: Vec<_> = known
        .iter()
        .take(LISTED_MAX)
        .map(ToString::to_string)
        .collect();
    match known.len().saturating_sub(LISTED_MAX) {
        0 if known.is_empty() => names.push("none".to_owned()),
        0 => {}
        more => names.push(format!("{more} more")),
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_by_what_names_them() {
        let known = ["public.a", "public.b", "other.b", "public.x.y", "x.y"];
        let table = |text: &str| TableName::parse(text, "").unwrap();
        let ask = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            find(&texts, known.map(table).to_vec())
        };
        let check = |texts: &[&str], expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(|text| table(text)).collect();
            assert_eq!(ask(texts).unwrap(), expected, "{texts:?}");
        };
        check(&["a"], &["public.a"]);
        check(&["public.a", "a", "other.b"], &["public.a", "other.b"]);
        check(&["x.y"], &["x.y"]);
        check(&["public.x.y"], &["public.x.y"]);
        let refused = |texts: &[&str]| match ask(texts) {
            Err(Error::Invalid { field, reason }) if field == "tables" => reason,
            other => panic!("{other:?}"),
        };
        let reason = refused(&["a", "public.c"]);
        assert!(reason.contains("no target table public.c;"), "{reason}");
        assert!(reason.contains("other.b, public.a, public.b"), "{reason}");
        let reason = refused(&["b"]);
        assert!(reason.contains("other.b or public.b"), "{reason}");
        assert!(
            refused(&["A"]).contains("no target table A;"),
            "names have a case"
        );
        let many = (0..30).map(|n| TableName::new("s", format!("t{n:02}")));
        let reason = find(&["x".to_owned()], many.collect())
            .unwrap_err()
            .to_string();
        assert!(reason.ends_with("s.t19, 10 more"), "{reason}");
    }
}
