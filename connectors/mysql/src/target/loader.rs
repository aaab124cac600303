//! Loading: one chunk in one transaction, by statements of many rows straight into the table.
//!
//! Not by `LOAD DATA LOCAL`: it is no faster than such statements, has its own rules for values, and
//! the server would ask us for a file.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::checkpoint::LoadedChunk;
use thalweg_core::mapping::ExistingRows;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Loader;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result, Side};

use super::check::explain;
use super::checkpoint::Place;
use super::session::Session;
use super::table::{Table, is_empty};
use super::{Owner, bulk, ledger};

pub(super) struct MySqlLoader {
    session: Session,
    owner: Owner,
    plan: Arc<Plan>,
    place: Place,
    open: Option<Open>,
}

/// The open transaction.
struct Open {
    table: Table,
    rows: u64,
}

impl MySqlLoader {
    pub(super) async fn new(mut session: Session, owner: Owner, plan: Arc<Plan>) -> Result<Self> {
        let place = owner.place(&mut session).await?;
        session.run("ROLLBACK").await?;
        Ok(MySqlLoader {
            session,
            owner,
            plan,
            place,
            open: None,
        })
    }

    async fn empty_table(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        let open = self.open.as_ref().ok_or_else(unopened)?;
        let session = &mut self.session;
        let (name, table) = (&open.table.target.name, &open.table.name);
        if existing == ExistingRows::Replace {
            // TRUNCATE would commit.
            session.run(&format!("DELETE FROM {table}")).await?;
        } else if !is_empty(session, name).await? {
            return Err(Error::config(format!("{name} has rows already"))
                .with_hint(format!("TRUNCATE {table}, or set existing_rows to replace"))
                .at(Side::Target));
        }
        ledger::begin(session, &self.place, &self.owner.task, name, fingerprint).await
    }
}

fn unopened() -> Error {
    Error::bug("no transaction was begun")
}

#[async_trait]
impl Loader for MySqlLoader {
    async fn begin(&mut self, target: usize, _feed: usize) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::bug("a transaction is open"));
        }
        let target = self.plan.targets.get(target);
        let target = target.ok_or_else(|| Error::bug("no such target"))?;
        let table = Table::new(target, self.session.facts.flavor)?;
        self.session.run("START TRANSACTION").await?;
        self.open = Some(Open { table, rows: 0 });
        Ok(())
    }

    async fn empty(&mut self, existing: ExistingRows, fingerprint: &str) -> Result<()> {
        match self.empty_table(existing, fingerprint).await {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&mut self.session, &self.plan, error).await),
        }
    }

    async fn load(&mut self, rows: &RowBatch) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(unopened)?;
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

    async fn commit(&mut self, chunk: Option<&LoadedChunk>) -> Result<()> {
        let open = self.open.take().ok_or_else(unopened)?;
        if open.rows != chunk.map_or(0, |chunk| chunk.rows) {
            return Err(Error::bug("a chunk says other rows than were loaded").at(Side::Target));
        }
        let session = &mut self.session;
        // Shared: other loaders may commit beside us, a new owner has to wait.
        let shared = "LOCK IN SHARE MODE";
        self.owner.lock(session, &self.place, shared).await?;
        if let Some(chunk) = chunk {
            let name = &open.table.target.name;
            ledger::add(session, &self.place, &self.owner.task, name, chunk).await?;
        }
        session.run("COMMIT").await
    }
}
