//! What derived cascades of a transaction have done already in tables that were loaded after it.

use thalweg_core::Result;
use thalweg_core::change::{ChangeBatch, ChangeKind};
use thalweg_core::plan::{Cascade, Plan};
use thalweg_core::position::Visibility;

use crate::load::Phase;

/// The targets whose rows have what derived cascades of a transaction do; `None` if it can have none.
/// A table that lacks what the rows of its parent have is to be loaded `again`.
pub(super) fn kept(
    plan: &Plan,
    changes: &ChangeBatch,
    phases: &mut [Phase],
    contains: &mut dyn FnMut(&Visibility) -> Result<bool>,
    again: &mut Vec<usize>,
) -> Result<Option<Vec<usize>>> {
    let derived = || plan.cascades.iter().filter(|cascade| cascade.derived);
    if derived().next().is_none() {
        return Ok(None);
    }
    // What has rows that go or change their keys, at the source or by what follows from that.
    let mut fires: Vec<usize> = Vec::new();
    for change in changes
        .changes
        .iter()
        .filter(|c| !matches!(c.kind, ChangeKind::Insert))
    {
        let source = plan.sources.get(change.table);
        for route in source.into_iter().flat_map(|source| &source.routes) {
            if !fires.contains(&route.target) {
                fires.push(route.target);
            }
        }
    }
    let mut next = 0;
    while let Some(parent) = fires.get(next).copied() {
        next += 1;
        for cascade in derived().filter(|cascade| cascade.parent == parent) {
            if !fires.contains(&cascade.child) {
                fires.push(cascade.child);
            }
        }
    }
    let acts = |cascade: &&Cascade| fires.contains(&cascade.parent);
    if !derived().any(|cascade| acts(&cascade)) {
        return Ok(None);
    }
    let mut has = |target: usize| match phases.get_mut(target) {
        Some(Phase::Loaded(ledger)) => ledger.contains_any(contains),
        _ => Ok(false),
    };
    let mut kept = Vec::new();
    for cascade in derived().filter(acts) {
        let child = has(cascade.child)?;
        if child && !kept.contains(&cascade.child) {
            kept.push(cascade.child);
        }
        if !child && has(cascade.parent)? && !again.contains(&cascade.child) {
            again.push(cascade.child);
        }
    }
    Ok(Some(kept))
}
