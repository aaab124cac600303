//! Whether chunks of a table may be read at several moments.

use thalweg_core::plan::{Cell, Plan};

use super::feeds;

/// Whether the rows of a target can be of several moments as far as the plan can tell: rows of
/// different chunks never have one target key, and each change tells which chunk its row is in.
pub(super) fn takes_moments(plan: &Plan, target: usize) -> bool {
    if plan.is_derived(target) {
        return false;
    }
    let follows = plan.operations.update || plan.operations.delete;
    let takes = |feed| {
        let table = plan.targets.get(target)?;
        let source = plan.source_of(target, feed)?;
        let mut routes = source.routes.iter();
        let route = routes.find(|route| route.target == target && route.feed == feed)?;
        let key = &source.schema.primary_key;
        let behind = table.key.iter().filter_map(|place| route.cells.get(*place));
        let held = key.iter().all(|column| {
            behind
                .clone()
                .any(|cell| matches!(cell, Cell::Column(from, _) if from == column))
        });
        let first = key.first()?;
        let old = source.schema.old_image.as_ref();
        Some(held && (!follows || old.is_none_or(|old| old.contains(first))))
    };
    feeds(plan, target).all(|(feed, _)| takes(feed).unwrap_or(false))
}
