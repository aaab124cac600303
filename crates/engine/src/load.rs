//! The load, first form: whole tables, each in one snapshot of its own.
//!
//! Why load and stream together lose nothing and double nothing:
//!
//! - The log is secured at P0 and P0 is stored at the target before any table is read, so every
//!   transaction after P0 will be streamed, whatever crashes in between.
//! - A table's snapshot is taken after that, and its rows commit at the target together with what
//!   the snapshot had seen (its *visibility*), or not at all. A crash leaves a table either not
//!   loaded or loaded with a known visibility; there is nothing between.
//! - The stream applies to a loaded table exactly the transactions its visibility does not contain.
//!   Contained ones are in the rows already; the others are not; so each is there once.
//! - When the stream has passed every visibility, no transaction can be contained any more: the
//!   tables are Live, and from then on a transaction that touches several tables arrives whole.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use thalweg_core::checkpoint::{Checkpoint, Epoch, TablePhase};
use thalweg_core::mapping::ExistingRows;
use thalweg_core::ports::Chunk;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result, Side};

use crate::limits::Limits;
use crate::status::{self, Reporter};
use crate::task::TaskSpec;

/// Loads every table that is `Waiting`, several at a time, and gives the phases after it, per
/// target of the plan. Cancel-safe: a table whose load is dropped is not loaded.
pub(crate) async fn load(
    spec: &TaskSpec,
    checkpoint: &Checkpoint,
    limits: &Limits,
    report: &Reporter,
) -> Result<Vec<TablePhase>> {
    let workers = usize::from(spec.plan.options.workers.clamp(1, 16));
    let loads = (0..spec.plan.targets.len())
        .map(|target| load_table(spec, checkpoint, target, limits, report));
    stream::iter(loads).buffered(workers).try_collect().await
}

async fn load_table(
    spec: &TaskSpec,
    checkpoint: &Checkpoint,
    target: usize,
    limits: &Limits,
    report: &Reporter,
) -> Result<TablePhase> {
    let plan = &spec.plan;
    let table = plan
        .targets
        .get(target)
        .ok_or_else(|| Error::bug("no such target"))?;
    let known = checkpoint
        .tables
        .iter()
        .find(|known| known.target == table.name);
    let phase = known.map_or(TablePhase::Waiting, |known| known.phase.clone());
    if phase != TablePhase::Waiting {
        let loaded = known.and_then(|known| known.loaded_rows).unwrap_or(0);
        report.table(target, |status| {
            if status.loaded_rows == 0 {
                status.loaded_earlier = loaded;
            }
            status.loaded_rows = loaded;
            status.phase = match phase {
                TablePhase::Live => status::TablePhase::Live,
                _ => status::TablePhase::CatchingUp,
            };
        });
        return Ok(phase);
    }
    if !plan.operations.insert {
        return Ok(TablePhase::Live);
    }
    // Rows of an earlier load of this task (before a reset) are its own to replace.
    let replace = plan.options.existing_rows == ExistingRows::Replace
        || known.is_some_and(|known| known.loaded_rows.is_some());
    report.table(target, |status| {
        status.phase = status::TablePhase::Copying;
        // What an earlier attempt had loaded was rolled back.
        status.loaded_rows = 0;
        status.loaded_earlier = 0;
    });
    let phase = copy(spec, checkpoint.epoch, target, replace, limits, report).await?;
    report.table(target, |status| {
        status.phase = status::TablePhase::CatchingUp;
    });
    Ok(phase)
}

async fn copy(
    spec: &TaskSpec,
    epoch: Epoch,
    target: usize,
    replace: bool,
    limits: &Limits,
    report: &Reporter,
) -> Result<TablePhase> {
    let plan = &spec.plan;
    let source = plan
        .targets
        .get(target)
        .and_then(|table| table.feeds.first())
        .and_then(|feed| Some((feed.source, plan.sources.get(feed.source)?)));
    let (index, source) = source.ok_or_else(|| Error::bug("a target without a source"))?;
    let chunk = Chunk {
        table: index,
        schema: source.schema.clone(),
        range: None,
    };
    let limits = limits.stream(plan.options.row_bytes_max);
    let mut reader = spec
        .source
        .read(&chunk, limits)
        .await
        .map_err(|e| e.at(Side::Source))?;
    let mut loader = spec
        .target
        .open_loader(&spec.key, epoch, Arc::clone(plan))
        .await?;
    loader.begin(target, replace).await?;
    let (mut rows, mut out) = (RowBatch::new(), RowBatch::new());
    while reader
        .next(&mut rows)
        .await
        .map_err(|e| e.at(Side::Source))?
    {
        out.clear();
        plan.project_rows(target, 0, &rows, &mut out)?;
        loader.load(&out).await?;
        let more = out.len() as u64;
        report.loaded(index, target, more, rows.bytes(), out.bytes());
    }
    let seen = reader.visibility().clone();
    let loaded = loader.commit(&seen, &plan.fingerprint(target, 0)).await?;
    report.table(target, |status| status.loaded_rows = loaded);
    Ok(TablePhase::Loaded(seen))
}
