//! Tables that were read at a server that another one has replaced since.
//!
//! The stream finds its place in the log of a promoted replica, and checks that all it has read is there
//! ([`thalweg_core::ports::Source::stream`]). A chunk has seen more than the stream has read, and the replica may
//! never have got that; and what the replica calls a transaction may be the name that the old server gave to
//! another one. So nothing in the ledger says what of the new log is in such a chunk. Its table is loaded again.
//!
//! Asked three times. When a run begins, of what earlier runs have loaded: the target is told that these tables wait for
//! their load, before anything else is done. (Not only this run: the next may find the old server back, or the new one
//! come on; and meanwhile a stream beside the load has passed over changes that the load was to bring.) And of all that is
//! loaded, once the stream is open and once more before the tables go Live: a load can
//! read its next chunk at the new server without noticing. The stream of a run is read at one server, which at
//! these moments is the new one, or the old one still and is then the one that the chunks are of.
//! What was applied by a wrong ledger until then is in tables that are not Live, and goes with their rows.

use std::sync::Arc;

use thalweg_core::checkpoint::{Checkpoint, TableCheckpoint, TablePhase};
use thalweg_core::ports::Source;
use thalweg_core::position::Visibility;
use thalweg_core::{Error, Kind, Result, Side};
use tracing::warn;

use crate::ledger::Ledger;
use crate::load::Phase;
use crate::task::TaskSpec;

/// Forgets, at the target too, what was loaded from a server that is no longer the source; whether there was any. The
/// run is to begin anew then.
pub(crate) async fn forget(spec: &TaskSpec, checkpoint: &Checkpoint) -> Result<bool> {
    let loaded = |phase: &TablePhase| match phase {
        TablePhase::Loading(chunks) => chunks.iter().map(|chunk| chunk.seen.clone()).collect(),
        TablePhase::Waiting | TablePhase::Live => Vec::new(),
    };
    let target = |known: &TableCheckpoint| {
        let mut targets = spec.plan.targets.iter();
        targets.position(|target| target.name == known.target)
    };
    // Others wait for what becomes of them.
    let tables = || {
        checkpoint
            .tables
            .iter()
            .filter_map(|known| Some((target(known)?, known)))
    };
    let mut seen: Vec<_> = tables()
        .flat_map(|(_, known)| loaded(&known.phase))
        .collect();
    seen.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    seen.dedup();
    let others = of_other_log(&*spec.source, &seen.iter().collect::<Vec<_>>()).await?;
    if others.is_empty() {
        return Ok(false);
    }
    let mut again = Vec::new();
    for (target, table) in tables() {
        let seen: Vec<Visibility> = loaded(&table.phase);
        if !seen.iter().any(|seen| others.contains(&seen)) {
            continue;
        }
        if !spec.plan.operations.insert {
            return Err(Error::new(
                Kind::PositionLost,
                format!(
                    "table {} was read at a server that is no longer the source, and the task has no INSERT \
                     to load it again",
                    table.target
                ),
            )
            .with_hint("reset the task, with INSERT among its operations")
            .at(Side::Source));
        }
        warn!(
            task = %spec.key, table = %table.target,
            "it was read at a server that is no longer the source: it is loaded again"
        );
        again.push(target);
    }
    let plan = Arc::clone(&spec.plan);
    let applier = spec.target.open_applier(&spec.key, checkpoint.epoch, plan);
    let forgotten = async { applier.await?.load_again(&again, false).await };
    forgotten.await.map_err(|error| error.at(Side::Target))?;
    Ok(true)
}

/// Whether all that is loaded was read in the log that the source has now; `Transient` if not: the next run
/// [`forget`]s it.
pub(crate) async fn check(source: &dyn Source, phases: &[Phase]) -> Result<()> {
    let ledgers = phases.iter().filter_map(|phase| match phase {
        Phase::Loaded(ledger) => Some(ledger),
        Phase::Live => None,
    });
    let seen: Vec<_> = ledgers.flat_map(Ledger::visibilities).collect();
    match of_other_log(source, &seen).await?.is_empty() {
        true => Ok(()),
        false => Err(Error::transient(
            "the source went on as another server while tables were loaded: they are loaded again",
        )
        .at(Side::Source)),
    }
}

async fn of_other_log<'a>(
    source: &dyn Source,
    seen: &[&'a Visibility],
) -> Result<Vec<&'a Visibility>> {
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let others = source.of_other_log(seen).await;
    let others = others.map_err(|error| error.at(Side::Source))?;
    let others = seen.iter().zip(others).filter(|(_, other)| *other);
    Ok(others.map(|(seen, _)| *seen).collect())
}
