//! What the stream has to do with tables that are loaded meanwhile ([`crate::beside`]).

use thalweg_core::change::Transaction;
use thalweg_core::checkpoint::Epoch;
use thalweg_core::{Error, Result, Side};
use tokio::task::JoinError;

use super::Streaming;
use crate::beside::Beside;
use crate::quarantine::Quarantine;

impl Streaming<'_> {
    /// Whether a transaction, or the first part of one, can be judged now; if so, the ledgers are those to
    /// judge it by.
    pub(super) fn may_judge(&mut self, transaction: &Transaction) -> Result<bool> {
        let Some(beside) = &self.beside else {
            return Ok(true);
        };
        let (plan, source) = (&self.spec.plan, &self.spec.source);
        let contains = |seen: &_| source.contains(seen, &transaction.id);
        self.waits = !beside.admits(plan, transaction, contains)?;
        // After it was asked: what has come in between contains the transaction.
        self.learn()?;
        Ok(!self.waits)
    }

    /// Learns what has been loaded.
    pub(super) fn learn(&mut self) -> Result<()> {
        let Some(beside) = &self.beside else {
            return Ok(());
        };
        beside.renew(&self.spec.plan, &mut self.phases, &mut self.known)
    }

    /// Whether the load has put rows into quarantine that are not known here.
    pub(super) fn has_held(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.has_held())
    }

    /// Learns of rows that the load has put into quarantine. Nothing is under way.
    pub(super) async fn learn_held(&mut self) -> Result<()> {
        let Some(beside) = self.beside.clone() else {
            return Ok(());
        };
        if !beside.has_held() {
            return Ok(());
        }
        beside.take_held(&self.spec.plan);
        self.quarantine = self.guarded(Quarantine::read(self.spec)).await?;
        self.tell();
        self.waits = false;
        Ok(())
    }

    /// The error of the load, if it has ended with one.
    pub(super) fn load_goes_on(&mut self) -> Result<()> {
        match self.load.try_join_next() {
            Some(ended) => loaded(ended),
            None => Ok(()),
        }
    }

    /// Ends the load before tables are to be loaded again; gives the epoch for that. A chunk whose commit was
    /// on its way comes before it, or not at all.
    pub(super) async fn end_load(&mut self) -> Result<Epoch> {
        if self.beside.is_none() {
            return Ok(self.epoch);
        }
        self.load.shutdown().await;
        let claimed = self.guarded(self.spec.target.claim(&self.spec.key)).await;
        Ok(claimed.map_err(|error| error.at(Side::Target))?.epoch)
    }
}

/// How a load has ended.
pub(super) fn loaded(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.unwrap_or_else(|panic| Err(Error::bug("the load panicked").caused_by(panic)))
}

/// Waits for news of the load; for ever if there is none.
pub(super) async fn news(beside: Option<&Beside>) {
    match beside {
        Some(beside) => beside.news().await,
        None => std::future::pending().await,
    }
}
