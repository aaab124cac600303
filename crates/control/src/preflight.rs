//! Before a task runs: everything there is to say about it, all at once.

mod drift;
mod refit;

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{
    CreateTables, ExistingRows, ForeignKeys, Mapping, Operations, TaskOptions,
};
use thalweg_core::plan::{Pair, Plan, TablePair, TargetTable, join_proposals, resolve};
use thalweg_core::ports::{Following, Source, Target};
use thalweg_core::schema::{TableName, TableSchema, UniqueKey};
use thalweg_core::{Result, Side};

pub(crate) use self::refit::refit;
use crate::model::{Paused, PlannedColumn, PlannedTable};

/// What came of it.
#[derive(Debug, Default)]
pub struct Preflight {
    /// Set exactly if no finding refuses and `resets` is not set.
    pub plan: Option<Plan>,
    /// The plan as far as the tables go, also where the systems themselves refuse.
    pub planned: Option<Plan>,
    /// What is mapped to what, as far as the tables are known.
    pub tables: Vec<PlannedTable>,
    /// Everything found, errors and warnings.
    pub findings: Vec<Finding>,
    /// The end at which the first refusing finding arose.
    pub refused_at: Option<Side>,
    /// What is to be done at the target before the plan holds.
    pub following: Option<Following>,
    /// The plan is to be made anew when that is done.
    pub again: bool,
    /// No table can go on, and all of them follow by being loaded again: the task begins anew.
    pub resets: bool,
    /// Tables that leave the task, by their mappings, and why.
    pub paused: Vec<(String, Paused)>,
    /// Target tables whose rows are not copied, but compared and repaired, unless the task has loaded them before and
    /// is not to begin anew.
    pub compared: Vec<TableName>,
    /// The target has no position of the task: it begins, or begins anew.
    pub anew: bool,
    /// Target tables of which it is to be verified whether they still are as their source tables.
    pub doubted: Vec<TableName>,
}

impl Preflight {
    fn add(&mut self, side: Side, findings: Vec<Finding>) {
        if self.refused_at.is_none() && findings.iter().any(Finding::refuses) {
            self.refused_at = Some(side);
        }
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

/// Asks both systems and makes the plan. `Err` only if a system could not be asked.
pub async fn preflight(
    source: &dyn Source,
    target: &dyn Target,
    key: &TaskKey,
    mappings: &[Mapping],
    operations: Operations,
    options: &TaskOptions,
) -> Result<Preflight> {
    let none = BTreeSet::new();
    preflight_behind(source, target, key, mappings, (operations, options), &none).await
}

/// The same after a stream has ended at the source tables `unsaid` for rows that are not in the log.
pub(crate) async fn preflight_behind(
    source: &dyn Source,
    target: &dyn Target,
    key: &TaskKey,
    mappings: &[Mapping],
    (operations, options): (Operations, &TaskOptions),
    unsaid: &BTreeSet<TableName>,
) -> Result<Preflight> {
    let mut out = Preflight::default();
    let sources = distinct(mappings.iter().map(|m| &m.source));
    let targets = distinct(mappings.iter().map(|m| &m.target));
    let at_source = |e: thalweg_core::Error| e.at(Side::Source);
    let at_target = |e: thalweg_core::Error| e.at(Side::Target);
    let there = source.describe(&sources).await.map_err(at_source)?;
    let outline = target.outline(key).await.map_err(at_target)?;
    // One that was loaded and is gone may pause.
    let tables = || outline.iter().flat_map(|outline| &outline.tables);
    let outlined: BTreeSet<&TableName> = tables().map(|table| &table.target).collect();
    let loaded = mappings.iter().filter(|m| outlined.contains(&m.target));
    let loaded: BTreeSet<&TableName> = loaded.map(|m| &m.source).collect();
    let there = by_name(&there);
    let gone = |name: &&TableName| loaded.contains(name) && !there.contains_key(name);
    let asked: Vec<TableName> = sources.iter().filter(|s| !gone(s)).cloned().collect();
    out.add(Side::Source, source.check(&asked).await.map_err(at_source)?);
    let known = target.describe(&targets).await.map_err(at_target)?;
    let pending = target.pending(key).await.map_err(at_target)?;
    out.anew = outline
        .as_ref()
        .is_none_or(|outline| outline.applied.is_none());
    let (anew, replica) = (out.anew, options.foreign_keys == ForeignKeys::Replica);
    let compares = options.existing_rows == ExistingRows::Compare && operations.insert;
    let pending: BTreeMap<TableName, bool> = pending
        .into_iter()
        .map(|one| (one.table, one.loaded))
        .collect();
    let live: BTreeSet<&TableName> = tables().filter(|t| t.live).map(|t| &t.target).collect();
    // One that was loaded before the task began anew has its rows, and only its foreign keys are away. Where these are
    // enforced it is copied.
    let taken = |name: &TableName| compares && anew && replica && pending.get(name) == Some(&true);
    let rekeyed =
        |name: &TableName| pending.contains_key(name) && (live.contains(name) || taken(name));
    // A table that this task made and has not finished (its keys are still to come) is planned
    // as one to be made, so that nothing is left out after a crash.
    let unfinished =
        |name: &TableName| pending.contains_key(name) && !live.contains(name) && !taken(name);
    let known_by = by_name(&known);
    let found = |name: &TableName| named(&known_by, name).filter(|t| !unfinished(&t.name));
    let creates = options.create_tables == CreateTables::Missing;
    let propose = |mapping: &Mapping| {
        let from = named(&there, &mapping.source);
        let from = from.filter(|_| creates && found(&mapping.target).is_none())?;
        Some(target.propose(&from, &mapping.target, &mapping.pairs(&from)))
    };
    let proposals: Vec<_> = mappings.iter().map(propose).collect();
    let good = proposals.iter().flatten().flatten().cloned().collect();
    let settled = target.settle(good).await.map_err(at_target)?;
    let mut settled = settled.into_iter();
    let mut pairs = Vec::with_capacity(mappings.len());
    for (mapping, proposal) in mappings.iter().zip(proposals) {
        let from = named(&there, &mapping.source);
        let found = found(&mapping.target);
        let create = found.is_none() && creates;
        let to = match proposal {
            Some(Ok(_)) => settled.next().map(|(proposal, findings)| {
                out.add(Side::Target, findings);
                proposal
            }),
            Some(Err(findings)) => {
                out.add(Side::Target, findings);
                continue;
            }
            None => found,
        };
        pairs.push(TablePair {
            mapping: mapping.clone(),
            source: from,
            create: create && to.is_some(),
            rekey: rekeyed(&mapping.target),
            target: to,
        });
    }
    if out.refused_at.is_some() && pairs.len() < mappings.len() {
        // The plan would complain of tables it was not shown.
        return Ok(out);
    }
    let ends = (source, target);
    let made = known.iter().filter(|table| unfinished(&table.name));
    let made: Vec<TableSchema> = made.cloned().collect();
    let before = (outline.as_ref(), made.as_slice());
    let mut drifted = drift::look(ends, before, &mut pairs, (operations, options), unsaid).await?;
    out.add(Side::Source, std::mem::take(&mut drifted.findings));
    out.paused = std::mem::take(&mut drifted.paused);
    out.doubted = std::mem::take(&mut drifted.doubted);
    if drifted.resets {
        out.resets = out.refused_at.is_none();
        return Ok(out);
    }
    join_proposals(&mut pairs, options);
    out.tables = pairs.iter().map(planned).collect();
    let resolution = resolve(pairs, operations, options.clone());
    out.add(Side::Target, resolution.findings);
    let Some(plan) = resolution.plan else {
        return Ok(out);
    };
    if compares {
        let unloaded = |table: &&TargetTable| !table.create && !outlined.contains(&table.name);
        for table in plan.targets.iter().filter(unloaded) {
            match why_not_compared(&plan, table) {
                None => out.compared.push(table.name.clone()),
                Some(why) => {
                    let what = format!(
                        "its rows cannot be compared and repaired, because {why}: they are replaced if the task has \
                         loaded them before, and refused otherwise"
                    );
                    let fix = "if rows of somebody else are to go, set the task's option existing_rows to replace";
                    let finding =
                        Finding::warning("compare_impossible", table.name.to_string(), what, fix);
                    out.add(Side::Target, vec![finding]);
                }
            }
        }
    }
    match drifted.follows() {
        // What it would find is another thing once the target has followed.
        true => {
            out.following = Some(drifted.following(&plan));
            out.again = true;
        }
        false => {
            out.add(
                Side::Target,
                target.check(key, &plan).await.map_err(at_target)?,
            );
            if !drifted.noted.is_empty() {
                out.following = Some(drifted.following(&plan));
            }
        }
    }
    if out.refused_at.is_none() {
        out.plan = Some(plan.clone());
    }
    out.planned = Some(plan);
    Ok(out)
}

/// Why the rows of a target table cannot be compared and repaired while changes come.
fn why_not_compared(plan: &Plan, table: &TargetTable) -> Option<&'static str> {
    let mut sources = table
        .feeds
        .iter()
        .filter_map(|feed| plan.sources.get(feed.source));
    let keyless = sources.any(|source| source.schema.primary_key.is_empty());
    if table.merged() {
        return Some("it has several sources");
    }
    if keyless || table.key.is_empty() {
        return Some("it has no primary key");
    }
    if plan.operations != Operations::ALL {
        return Some("the task does not carry all operations");
    }
    let joins = |child: &TargetTable| {
        let parents = child.foreign_keys.iter().map(|key| &key.parent);
        parents.clone().count() > 0 && child.name == table.name
            || parents.clone().any(|parent| *parent == table.name)
    };
    if plan.options.foreign_keys == ForeignKeys::Enforce && plan.targets.iter().any(joins) {
        return Some(
            "foreign keys join it to other tables, and its rows would be repaired in no order",
        );
    }
    // A row that is gone at the source may have a value that another one has by now, and would refuse that for ever.
    let others = |key: &UniqueKey| key.columns != table.key;
    table
        .unique_keys
        .iter()
        .any(others)
        .then_some("it has a unique key besides the primary key")
}

/// What a mapping comes to; a column that does not exist is a finding and left out here.
fn planned(pair: &TablePair) -> PlannedTable {
    let mut columns = Vec::new();
    if let (Some(source), Some(target)) = (&pair.source, &pair.target) {
        for names in pair.mapping.pairs(source) {
            let found = source
                .column(&names.source)
                .zip(target.column(&names.target));
            columns.extend(found.map(|(from, to)| {
                let kind = Pair::of(&from.ty, &to.ty);
                PlannedColumn {
                    source: from.name.clone(),
                    source_type: from.native.clone(),
                    target: to.name.clone(),
                    target_type: to.native.clone(),
                    verdict: kind.verdict,
                    note: kind.note,
                }
            }));
        }
    }
    PlannedTable {
        mapping: pair.mapping.id.clone(),
        source: pair.mapping.source.to_string(),
        target: pair.mapping.target.to_string(),
        create: pair.create,
        columns,
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a TableName>) -> Vec<TableName> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).cloned().collect()
}

/// Of a thousand tables each is asked for several times.
fn by_name(tables: &[TableSchema]) -> BTreeMap<&TableName, &TableSchema> {
    tables.iter().map(|table| (&table.name, table)).collect()
}

fn named(tables: &BTreeMap<&TableName, &TableSchema>, name: &TableName) -> Option<TableSchema> {
    tables.get(name).map(|table| (*table).clone())
}
