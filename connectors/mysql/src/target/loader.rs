//! Loading: one table in one transaction, by statements of many rows straight into it.
//!
//! Not by `LOAD DATA LOCAL`: it is no faster than such statements, has its own rules for values, and
//! the server would ask us for a file.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Loader;
use thalweg_core::position::Visibility;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result, Side};

use super::check::explain;
use super::session::Session;
use super::table::{Table, is_empty};
use super::{Owner, bulk, checkpoint};

pub(super) struct MySqlLoader {
    session: Session,
    owner: Owner,
    plan: Arc<Plan>,
    open: Option<Open>,
}

/// The table being loaded.
struct Open {
    table: Table,
    rows: u64,
}

impl MySqlLoader {
    pub(super) fn new(session: Session, owner: Owner, plan: Arc<Plan>) -> Self {
        MySqlLoader {
            session,
            owner,
            plan,
            open: None,
        }
    }

    async fn open(&mut self, target: usize, replace: bool) -> Result<Open> {
        let target = self
            .plan
            .targets
            .get(target)
            .ok_or_else(|| Error::bug("no such target"))?;
        let session = &mut self.session;
        let table = Table::new(target, session.facts.flavor)?;
        session.run("START TRANSACTION").await?;
        if replace {
            // TRUNCATE would commit.
            session.run(&format!("DELETE FROM {}", table.name)).await?;
        } else if !is_empty(session, &target.name).await? {
            return Err(Error::config(format!("{} has rows already", target.name))
                .with_hint(format!(
                    "TRUNCATE {}, or set existing_rows to replace",
                    table.name
                ))
                .at(Side::Target));
        }
        Ok(Open { table, rows: 0 })
    }
}

#[async_trait]
impl Loader for MySqlLoader {
    async fn begin(&mut self, target: usize, replace: bool) -> Result<()> {
        match self.open(target, replace).await {
            Ok(open) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => Err(explain(&mut self.session, &self.plan, error).await),
        }
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| Error::bug("load before begin"))?;
        match bulk::insert(&mut self.session, &open.table, rows.iter()).await {
            Ok(inserted) if inserted == rows.len() as u64 => {
                open.rows += inserted;
                Ok(())
            }
            Ok(_) => {
                Err(Error::bug("the target counted other rows than were sent").at(Side::Target))
            }
            Err(error) => Err(explain(&mut self.session, &self.plan, error).await),
        }
    }

    async fn commit(&mut self, seen: &Visibility, fingerprint: &str) -> Result<u64> {
        let open = self
            .open
            .take()
            .ok_or_else(|| Error::bug("commit before begin"))?;
        let session = &mut self.session;
        let place = self.owner.place(session).await?;
        // Shared: other loaders may commit beside us, a new owner has to wait.
        self.owner
            .lock(session, &place, "LOCK IN SHARE MODE")
            .await?;
        let name = &open.table.target.name;
        let relation = checkpoint::relation(session, name).await?;
        let count = i64::try_from(open.rows).unwrap_or(i64::MAX);
        let loaded = format!(
            "INSERT INTO {} (server, task, target_schema, target_table, phase, visibility, \
             fingerprint, loaded_rows, foreign_keys, relation) \
             VALUES (?, ?, ?, ?, 'loaded', ?, ?, ?, '', ?) ON DUPLICATE KEY UPDATE \
             phase = 'loaded', visibility = ?, fingerprint = ?, loaded_rows = ?, relation = ?",
            place.tables()
        );
        let task = &self.owner.task;
        let params: Vec<mysql_async::Value> = vec![
            (&task.server).into(),
            (&task.task).into(),
            (&name.schema).into(),
            (&name.name).into(),
            seen.as_str().into(),
            fingerprint.into(),
            count.into(),
            relation.clone().into(),
            seen.as_str().into(),
            fingerprint.into(),
            count.into(),
            relation.into(),
        ];
        session.exec(&loaded, params).await?;
        session.run("COMMIT").await?;
        Ok(open.rows)
    }
}
