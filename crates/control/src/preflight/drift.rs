//! Source tables that are another than they were at the task's place in the log, and what comes of it.
//!
//! A plan is made from tables as they are now, but the log is read from the task's place on, where rows
//! may have another form. What the tables were there is known from the fingerprints that the target keeps.
//! Columns that came or became wider are followed: the source says how rows of before are to be read and
//! which value they have in a new column ([`thalweg_core::ports::Bridge`]), the target table is altered
//! before any of its rows come, and the fingerprint is stored anew. So a target column comes earlier than
//! the rows around the change, with the value that all rows of before have; rows are applied in order as
//! ever. What cannot be followed exactly has its table loaded again, pauses it or stops the task, as the options
//! say. One that is loaded again is paused until the log is read up to the change: what lies before is of
//! another form.

mod unsaid;

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::checkpoint::{Outline, Outlined};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{OnChange, OnChanges, Operations, TaskOptions};
use thalweg_core::plan::{Pair, Plan, TablePair, Verdict, source_fingerprints};
use thalweg_core::ports::{Alteration, Bridge, Following, Source, Target};
use thalweg_core::position::{Layout, Position};
use thalweg_core::schema::{ColumnSchema, Drift, TableName, TableSchema, drifts};
use thalweg_core::value::RowBatch;
use thalweg_core::{Result, Side};

use self::unsaid::Unsaying;
use crate::catalog::now_ms;
use crate::model::Paused;

/// What it comes to.
#[derive(Default)]
pub(super) struct Drifted {
    following: Following,
    /// Source tables whose rows may have become what the log does not say, and by which layouts it is not
    /// said again. Nothing else is to be done for that, and the plan holds.
    pub(super) noted: Vec<(TableName, Layout)>,
    /// No table can go on, and all of them are to be loaded again.
    pub(super) resets: bool,
    /// Target tables that follow.
    pub(super) followed: Vec<TableName>,
    pub(super) paused: Vec<(String, Paused)>,
    pub(super) doubted: Vec<TableName>,
    /// Source tables of which some bridge leaves it in doubt what rows have become.
    doubtful: BTreeSet<TableName>,
    pub(super) findings: Vec<Finding>,
}

impl Drifted {
    /// Whether anything is to be done at the target.
    pub(super) fn follows(&self) -> bool {
        !self.followed.is_empty() || !self.following.statements.is_empty()
    }

    /// What is to be done at the target, with the fingerprints of the plan that holds then.
    pub(super) fn following(self, plan: &Plan) -> Following {
        let mut following = self.following;
        following.layouts.extend(self.noted);
        for name in self.followed {
            if let Some(target) = plan.target_index(&name) {
                let fingerprint = plan.fingerprint(target);
                following.fingerprints.push((name, fingerprint));
            }
        }
        following
    }
}

/// Why a table does not go on as it is.
struct Halt {
    /// Whether the whole task stops.
    stops: bool,
    /// Whether the table is loaded again by itself.
    returns: bool,
    reason: String,
    fix: String,
}

/// Compares the source tables with what the target's checkpoint says of them. Pairs whose target table
/// follows get that table as it will be; those of paused tables go. `made`: target tables that the task has
/// made and not finished.
pub(super) async fn look(
    (source, target): (&dyn Source, &dyn Target),
    (outline, made): (Option<&Outline>, &[TableSchema]),
    pairs: &mut Vec<TablePair>,
    (operations, options): (Operations, &TaskOptions),
    unsaid: &BTreeSet<TableName>,
) -> Result<Drifted> {
    let writes_all = operations == Operations::ALL;
    let mut out = Drifted::default();
    let mut feeding: BTreeMap<TableName, Vec<usize>> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let feeds = feeding.entry(pair.mapping.target.clone()).or_default();
        feeds.push(index);
    }
    let outlined = outline.iter().flat_map(|outline| &outline.tables);
    let outlined: BTreeMap<_, _> = outlined.map(|table| (&table.target, table)).collect();
    let made = made.iter();
    let made = made.filter(|there| !outlined.contains_key(&there.name));
    remake(target, made, (pairs, &feeding), &mut out);
    let Some(outline) = outline else {
        return Ok(out);
    };
    let followed = outline.layouts.iter().map(|(source, _)| source);
    let followed: BTreeSet<&TableName> = followed.collect();
    let mut halts: Vec<(TableName, Halt)> = Vec::new();
    for index in 0..pairs.len() {
        let Some((known, before)) = known_of((&outlined, &followed), (pairs, &feeding), index)
        else {
            continue;
        };
        let Some(pair) = pairs.get_mut(index) else {
            continue;
        };
        let ask = Ask {
            source,
            target,
            options,
            at: outline.applied.as_ref(),
            layouts: &outline.layouts,
            known,
            writes_all,
        };
        if let Err(halt) = ask.judge(pair, before, &mut out).await? {
            halts.push((pair.mapping.target.clone(), halt));
        }
    }
    let asked = Unsaying {
        outline,
        outlined: &outlined,
        told: unsaid,
        operations,
        other: options.on_changes.other,
    };
    asked.look(source, pairs, &mut halts, &mut out).await?;
    halt(&mut out, pairs, halts, operations.insert);
    Ok(out)
}

/// Tables that were `made` for source tables as they were then, and are not loaded yet, are made anew.
fn remake<'a>(
    target: &dyn Target,
    made: impl Iterator<Item = &'a TableSchema>,
    (pairs, feeding): (&[TablePair], &BTreeMap<TableName, Vec<usize>>),
    out: &mut Drifted,
) {
    for there in made {
        let wanted = feeding.get(&there.name).into_iter().flatten();
        let wanted: Vec<&TableSchema> = wanted
            .filter_map(|index| pairs.get(*index))
            .filter_map(|pair| pair.target.as_ref().filter(|_| pair.create))
            .collect();
        if wanted.is_empty() || takes(there, &wanted) {
            continue;
        }
        let remade = target.alter(&there.name, &[Alteration::Remake]);
        out.following.statements.extend(remade.unwrap_or_default());
    }
}

/// Whether a target table takes the rows of tables that would be made as these.
pub(super) fn takes(there: &TableSchema, wanted: &[&TableSchema]) -> bool {
    let takes = |column: &ColumnSchema| {
        let known = there.column(&column.name);
        known.is_some_and(|known| holds(column, known))
    };
    let fills = |column: &ColumnSchema| {
        let mut columns = wanted.iter().filter_map(|table| table.column(&column.name));
        column.nullable || column.has_default || columns.next().is_some()
    };
    wanted.iter().all(|table| table.columns.iter().all(takes)) && there.columns.iter().all(fills)
}

/// What is stored of a pair's target table, and the fingerprint of its source table; `None`: the table is to
/// be loaded anyway, or is mapped in another way than it was.
fn known_of<'a>(
    (outlined, followed): (&BTreeMap<&TableName, &'a Outlined>, &BTreeSet<&TableName>),
    (pairs, feeding): (&[TablePair], &BTreeMap<TableName, Vec<usize>>),
    index: usize,
) -> Option<(&'a Outlined, &'a str)> {
    let mapping = &pairs.get(index)?.mapping;
    let known = outlined.get(&mapping.target)?;
    // Another one may be mapped now.
    if !followed.contains(&mapping.source) {
        return None;
    }
    let feeds = source_fingerprints(&known.fingerprint);
    let now = feeding.get(&mapping.target)?;
    if now.len() != feeds.len() {
        return None;
    }
    let feed = now.iter().position(|at| *at == index)?;
    Some((known, feeds.get(feed)?))
}

/// Takes the tables that halt out of the task, or says why it cannot go on. If none is left and all would
/// return, the task begins anew instead.
/// Without inserts nothing would load a table again that was paused.
fn halt(out: &mut Drifted, pairs: &mut Vec<TablePair>, halts: Vec<(TableName, Halt)>, loads: bool) {
    let halted = |pair: &TablePair| halts.iter().find(|(name, _)| *name == pair.mapping.target);
    let stops = halts.iter().any(|(_, halt)| halt.stops || !loads);
    let none = pairs.iter().all(|p| halted(p).is_some());
    if !stops && none && !halts.is_empty() && halts.iter().all(|(_, halt)| halt.returns) {
        for (name, halt) in &halts {
            out.findings.push(Finding::warning(
                "table_changed",
                name.to_string(),
                format!("{}; it is loaded again", halt.reason),
                "",
            ));
        }
        out.resets = true;
        return;
    }
    if stops || none {
        for (name, halt) in &halts {
            out.findings.push(Finding::error(
                "table_changed",
                name.to_string(),
                halt.reason.clone(),
                halt.fix.clone(),
            ));
        }
        return;
    }
    for pair in pairs.iter() {
        if let Some((_, halt)) = halted(pair) {
            let paused = Paused {
                reason: halt.reason.clone(),
                fix: halt.fix.clone(),
                since_ms: now_ms(),
                returns: halt.returns,
            };
            let what = match halt.returns {
                true => "the table is loaded again as soon as the log is read up to there",
                false => "the table is paused",
            };
            out.findings.push(Finding::warning(
                "table_paused",
                pair.mapping.source.to_string(),
                format!("{}; {what}", halt.reason),
                halt.fix.clone(),
            ));
            out.paused.push((pair.mapping.id.clone(), paused));
        }
    }
    pairs.retain(|pair| halted(pair).is_none());
}

/// What is needed to judge a table.
struct Ask<'a> {
    source: &'a dyn Source,
    target: &'a dyn Target,
    options: &'a TaskOptions,
    at: Option<&'a Position>,
    layouts: &'a [(TableName, Layout)],
    known: &'a Outlined,
    /// All operations are carried over, so that a table can be verified.
    writes_all: bool,
}

/// How columns of a source table differ, by name; those that came are of a table mapped without naming columns.
#[derive(Default)]
struct Columns {
    added: Vec<String>,
    dropped: Vec<String>,
    /// Name and old type.
    retyped: Vec<(String, String)>,
}

impl Ask<'_> {
    /// Judges one table: `Err`, it does not go on as it is.
    async fn judge(
        &self,
        pair: &mut TablePair,
        before: &str,
        out: &mut Drifted,
    ) -> Result<std::result::Result<(), Halt>> {
        let on = self.options.on_changes;
        let Some(now) = pair.source.clone() else {
            let reason = self.reason(&pair.mapping.source, "it is gone");
            let fix = "delete its mapping, or make the table again".to_owned();
            return Ok(Err(halt_by(on.other.halting(), reason, fix)));
        };
        let by_name = pair.mapping.columns.is_empty();
        let wanted = pair.mapping.pairs(&now);
        let read = now
            .clone()
            .with_columns(|name| wanted.iter().any(|pair| pair.source == name));
        let mut columns = Columns::default();
        for drift in drifts(before, &read.fingerprint()) {
            let policy = match &drift {
                Drift::Added(name) if by_name => {
                    columns.added.push(name.clone());
                    on.add_column
                }
                // It is mapped now, or not any more: the table is loaded again for that.
                Drift::Added(_) => continue,
                Drift::Dropped(name) if now.column(name).is_some() => continue,
                Drift::Dropped(name) => {
                    columns.dropped.push(name.clone());
                    // A mapping that names the column has to be corrected.
                    if by_name {
                        on.drop_column
                    } else {
                        on.drop_column.halting()
                    }
                }
                Drift::Retyped { column, was, .. } => {
                    columns.retyped.push((column.clone(), was.clone()));
                    on.retype_column
                }
                Drift::Reordered | Drift::Key => on.other,
            };
            let other = matches!(drift, Drift::Reordered | Drift::Key);
            if other || matches!(policy, OnChange::Pause | OnChange::Stop) {
                let reason = self.reason(&now.name, &drift.to_string());
                return Ok(Err(halt_by(policy, reason, self.fix(pair, &now, &drift))));
            }
        }
        if on.add_column == OnChange::Ignore && !columns.added.is_empty() {
            pair.mapping.columns = wanted;
            let ignored = std::mem::take(&mut columns.added);
            pair.mapping
                .columns
                .retain(|pair| !ignored.contains(&pair.source));
        }
        if columns.added.is_empty() && columns.dropped.is_empty() && columns.retyped.is_empty() {
            return Ok(Ok(()));
        }
        let followed = self.follow(pair, &now, &columns, on, out).await?;
        Ok(followed.map_err(|why| {
            let how = self.reason(&now.name, &why);
            let fix =
                "make the target table fit; then resume the table, or reset the task, so that it \
                       is loaded as it is now"
                    .to_owned();
            let policy = match on.other {
                OnChange::Follow => OnChange::Follow,
                _ => OnChange::Pause,
            };
            halt_by(policy, how, fix)
        }))
    }

    /// Makes the steps by which the target table follows; `Err`: why it cannot.
    async fn follow(
        &self,
        pair: &mut TablePair,
        now: &TableSchema,
        columns: &Columns,
        on: OnChanges,
        out: &mut Drifted,
    ) -> Result<std::result::Result<(), String>> {
        if source_fingerprints(&self.known.fingerprint).len() > 1 {
            return Ok(Err("a table of several sources is not followed".to_owned()));
        }
        let Some(mut table) = pair.target.clone() else {
            return Ok(Ok(()));
        };
        let place = |name: &String| now.column_index(name);
        let added: Vec<usize> = columns.added.iter().filter_map(place).collect();
        let retyped = columns.retyped.iter();
        let retyped: Vec<(usize, String)> = retyped
            .filter_map(|(name, was)| Some((place(name)?, was.clone())))
            .collect();
        // Another target of the table may have been bridged to already.
        let mut bridged = out.following.layouts.iter().chain(self.layouts);
        let then = bridged.find(|(name, _)| *name == now.name);
        let then = then.map(|(_, layout)| layout);
        let bridge = self.source.bridge(now, then, &added, &retyped).await;
        let (layout, fills, doubt, begun) = match bridge.map_err(|e| e.at(Side::Source))? {
            Bridge::Closed(why) => return Ok(Err(why)),
            // The table is loaded again.
            Bridge::Unread => return Ok(Ok(())),
            Bridge::Open {
                layout,
                fills,
                doubt,
                begun,
            } => (layout, fills, doubt, begun),
        };
        // Of another target of the table it may have been said already.
        let doubt = doubt || out.doubtful.contains(&now.name);
        if doubt {
            out.doubtful.insert(now.name.clone());
        }
        let layouts = &mut out.following.layouts;
        layouts.retain(|(name, _)| *name != now.name);
        layouts.push((now.name.clone(), layout));
        if pair.create {
            // Made by the task, and still being loaded: it is made anew.
            let remade = self.target.alter(&table.name, &[Alteration::Remake]);
            out.following.statements.extend(remade.unwrap_or_default());
            out.following.again.push(table.name.clone());
            out.followed.push(table.name);
            return Ok(Ok(()));
        }
        // What a verification repairs.
        let repairable = !now.primary_key.is_empty() && self.writes_all;
        if doubt && !repairable {
            let why = "rows that were there may have got values of their own, and they cannot be \
                       compared and repaired";
            return Ok(Err(why.to_owned()));
        }
        if doubt {
            out.doubted.push(table.name.clone());
        }
        let wanted = pair.mapping.pairs(now);
        let proposed = match self.target.propose(now, &table.name, &wanted) {
            Ok(proposed) => self.target.settle(vec![proposed]).await,
            Err(findings) => return Ok(Err(said(&findings))),
        };
        let settled = proposed.map_err(|e| e.at(Side::Target))?;
        let proposed = settled.into_iter().next().map(|(proposed, _)| proposed);
        let proposed = proposed.unwrap_or_else(|| TableSchema::new(table.name.clone(), Vec::new()));
        let mut steps = Vec::new();
        for ((index, fill), begun) in added.iter().zip(&fills).zip(begun) {
            let Some(from) = now.columns.get(*index) else {
                continue;
            };
            match add(&mut table, from, &proposed, (fill, begun), &mut steps) {
                Ok(false) => {}
                Ok(true) if repairable => out.doubted.push(table.name.clone()),
                Ok(true) => {
                    return Ok(Err(format!(
                        "column {} came, and the target has one of that name already, whose values \
                         cannot be compared and repaired",
                        from.name
                    )));
                }
                Err(why) => return Ok(Err(why)),
            }
        }
        for (index, _) in &retyped {
            let Some(from) = now.columns.get(*index) else {
                continue;
            };
            let name = wanted.iter().find(|pair| pair.source == from.name);
            let name = name.map_or(from.name.as_str(), |pair| pair.target.as_str());
            let follows = on.retype_column == OnChange::Follow;
            if let Err(why) = retype(&mut table, name, from, &proposed, follows, &mut steps) {
                return Ok(Err(why));
            }
        }
        for name in columns
            .dropped
            .iter()
            .filter(|_| on.drop_column == OnChange::Follow)
        {
            if table.column(name).is_some() {
                steps.push(Alteration::Drop(name.clone()));
                table = table.with_columns(|other| other != name);
            }
        }
        let stays = |name: &&String| {
            let column = table.column(name);
            column.is_some_and(|column| !column.nullable && !column.has_default)
        };
        if let Some(name) = columns.dropped.iter().find(stays) {
            return Ok(Err(format!(
                "column {name} is gone, and the target takes no row without a value in it"
            )));
        }
        let statements = match self.target.alter(&table.name, &steps) {
            Ok(statements) => statements,
            Err(why) => return Ok(Err(why)),
        };
        if !statements.is_empty() {
            out.findings.push(Finding::info(
                "table_followed",
                now.name.to_string(),
                format!(
                    "it has changed, and the target follows: {}",
                    statements.join("; ")
                ),
                "",
            ));
        }
        out.following.statements.extend(statements);
        if !self.known.live {
            out.following.again.push(table.name.clone());
        }
        out.followed.push(table.name.clone());
        pair.target = Some(table);
        Ok(Ok(()))
    }

    fn reason(&self, table: &TableName, how: &str) -> String {
        let at = self.at.map_or_else(String::new, |at| format!(" ({at})"));
        format!("table {table} has changed since the task's place in the log{at}: {how}")
    }

    /// What makes the target table fit, as exactly as it can be told.
    fn fix(&self, pair: &TablePair, now: &TableSchema, drift: &Drift) -> String {
        let target = &pair.mapping.target;
        let proposed = || {
            let proposed = self.target.propose(now, target, &pair.mapping.pairs(now));
            proposed.unwrap_or_else(|_| TableSchema::new(target.clone(), Vec::new()))
        };
        let step = match drift {
            Drift::Added(name) => proposed().column(name).map(|column| Alteration::Add {
                column: column.clone(),
                fill: Vec::new(),
            }),
            Drift::Dropped(name) => Some(Alteration::Drop(name.clone())),
            Drift::Retyped { column, .. } => {
                proposed().column(column).cloned().map(Alteration::Retype)
            }
            Drift::Reordered | Drift::Key => None,
        };
        let statement = step.and_then(|step| self.target.alter(target, &[step]).ok());
        match statement.and_then(|statements| statements.into_iter().next()) {
            Some(statement) => format!(
                "make the same change in the target ({statement}), or take it back; then resume the \
                 table, or reset the task, so that it is loaded as it is now"
            ),
            None => {
                "make the same change in the target (or take it back); then resume the table, or \
                     reset the task, so that it is loaded as it is now"
                    .to_owned()
            }
        }
    }
}

/// A column that came comes to the target table, too. Whether its values are in doubt, because a column of
/// that name was there already.
fn add(
    table: &mut TableSchema,
    from: &ColumnSchema,
    proposed: &TableSchema,
    (fill, begun): (&[u8], bool),
    steps: &mut Vec<Alteration>,
) -> std::result::Result<bool, String> {
    let name = &from.name;
    if table.column(name).is_some() {
        return Ok(!begun);
    }
    let column = proposed.column(name);
    let column = column.ok_or_else(|| format!("column {name} has no counterpart"))?;
    let pair = Pair::of(&from.ty, &column.ty);
    let mut cells = RowBatch::new();
    let converted = pair
        .converter
        .between(from, column)
        .convert(fill, &mut cells);
    converted.map_err(|_| format!("the value of column {name} in rows of before does not fit"))?;
    let row = cells.end_row();
    let fill = cells
        .row(row)
        .raw_cells()
        .next()
        .unwrap_or_default()
        .to_vec();
    let mut column = column.clone();
    column.has_default = true;
    table.columns.push(column.clone());
    steps.push(Alteration::Add { column, fill });
    Ok(false)
}

/// A column that got a wider type gets one in the target table, too, unless that holds all values already.
fn retype(
    table: &mut TableSchema,
    name: &str,
    from: &ColumnSchema,
    proposed: &TableSchema,
    follows: bool,
    steps: &mut Vec<Alteration>,
) -> std::result::Result<(), String> {
    let there = table.columns.iter_mut().find(|column| column.name == name);
    let there = there.ok_or_else(|| format!("the target has no column {name}"))?;
    if !follows || holds(from, there) {
        return Ok(());
    }
    let wide = proposed.column(name);
    let wide = wide.ok_or_else(|| format!("column {name} has no counterpart"))?;
    if !holds(there, wide) {
        return Err(format!(
            "column {name} is {} at the target, which {} does not hold",
            there.native, wide.native
        ));
    }
    let wide = ColumnSchema {
        nullable: there.nullable,
        has_default: there.has_default,
        comment: there.comment.clone(),
        ..wide.clone()
    };
    *there = wide.clone();
    steps.push(Alteration::Retype(wide));
    Ok(())
}

/// Whether a column holds every value of another one.
fn holds(from: &ColumnSchema, to: &ColumnSchema) -> bool {
    let verdict = Pair::of(&from.ty, &to.ty).verdict;
    matches!(verdict, Verdict::Exact | Verdict::Widening)
}

fn halt_by(policy: OnChange, reason: String, fix: String) -> Halt {
    Halt {
        stops: policy == OnChange::Stop,
        returns: policy == OnChange::Follow,
        reason,
        fix,
    }
}

fn said(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}", finding.subject, finding.message))
        .collect();
    texts.join("; ")
}
