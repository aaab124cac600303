//! What foreign keys do by themselves: `ON DELETE` and `ON UPDATE` with `CASCADE`, `SET NULL` or
//! `SET DEFAULT`.
//!
//! A source either logs what its keys do as changes of its own (PostgreSQL) or does not (InnoDB as
//! the engine of the keys: MariaDB, and MySQL unless the server runs them itself). A target either
//! enforces a key of the same actions or does not. So there are three cases worth a [`Cascade`]:
//!
//! | logged at the source | enforced by the target | who changes the children at the target |
//! | --- | --- | --- |
//! | no | no | the applier, from the change of the parent (`derived`) |
//! | no | yes | the target's key (and the applier too while the key is still to be made) |
//! | yes | yes | the logged changes; the target's key may be there first |
//!
//! In all three a change of a parent changes rows of its children at the target, so the order between
//! a parent's and its children's changes matters, which the engine sees to.
//!
//! A derived change is carried over if both the parent's operation and the child's (a delete for
//! `CASCADE` on delete, else an update) are among the task's operations.

use std::collections::BTreeMap;

use super::resolve::{TablePair, mapped_key};
use super::{Plan, TargetTable};
use crate::batch::RowOp;
use crate::finding::Finding;
use crate::mapping::ForeignKeys;
use crate::schema::{ForeignKey, ReferenceAction, TableName, TableSchema};
use crate::value::{RowBatch, decode_raw};
use crate::{Error, Side};

/// What one foreign key does at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cascade {
    /// Index into [`Plan::targets`] of the table that is referenced.
    pub parent: usize,
    /// The referenced columns, as indexes into the parent's mapped columns, in the key's order.
    pub parent_columns: Vec<usize>,
    /// Index into [`Plan::targets`] of the table that references.
    pub child: usize,
    /// The referencing columns, as indexes into the child's mapped columns, in the key's order.
    pub columns: Vec<usize>,
    /// What happens to children when a parent's row goes.
    pub on_delete: ReferenceAction,
    /// What happens to children when a parent's referenced columns change.
    pub on_update: ReferenceAction,
    /// Whether the applier has to do it: the source does not log it and the target has no such
    /// key, or not yet.
    pub derived: bool,
    /// Whether the target has or will have a key that does it.
    pub enforced: bool,
    /// Whether the source logs it as changes of the children, which may then find that the target's
    /// key was there first.
    pub logged: bool,
}

impl Cascade {
    /// Whether an operation on the parent makes it do something: a delete, or an update of referenced
    /// columns.
    ///
    /// # Panics
    /// If the operation names a row that `rows` does not have.
    pub fn fires(&self, rows: &RowBatch, op: &RowOp) -> bool {
        match *op {
            RowOp::Delete(_) => self.on_delete != ReferenceAction::Refuse,
            RowOp::Update { before, after } => {
                let changed = |&column: &usize| {
                    let mut new = rows.row(after).raw_cells();
                    let mut old = rows.row(before).raw_cells();
                    let new = new.nth(column);
                    let sent = new.and_then(decode_raw).is_some_and(|c| c.is_present());
                    sent && old.nth(column) != new
                };
                self.on_update != ReferenceAction::Refuse && self.parent_columns.iter().any(changed)
            }
            RowOp::Insert(_) | RowOp::Truncate => false,
        }
    }
}

impl Plan {
    /// What the foreign keys that reference a target table do.
    pub fn cascades_from(&self, parent: usize) -> impl Iterator<Item = &Cascade> {
        self.cascades
            .iter()
            .filter(move |cascade| cascade.parent == parent)
    }

    /// How many derived cascades lead to a target table one after the other; 0: none. A table that
    /// references itself does not count. They make no circle.
    pub fn cascade_depth(&self, target: usize) -> usize {
        let above = self.cascades.iter().filter(|cascade| {
            cascade.derived && cascade.child == target && cascade.parent != target
        });
        let depth = above.map(|cascade| 1 + self.cascade_depth(cascade.parent));
        depth.max().unwrap_or(0)
    }

    /// Whether a derived cascade leads to a target table.
    pub fn is_derived(&self, target: usize) -> bool {
        let mut cascades = self.cascades.iter();
        cascades.any(|cascade| cascade.derived && cascade.child == target)
    }

    /// Whether a foreign key, the target's own or one whose doings the applier derives, may have done
    /// a logged change of this target table before its turn comes, so that a row that is not there is
    /// no sign of drift: where the log has what the target's key does, and in a table that references
    /// itself, whose parents and children go in one statement.
    pub fn is_echoed(&self, child: usize) -> bool {
        let own = |c: &Cascade| c.parent == c.child && (c.enforced || c.derived);
        let echoes = |c: &Cascade| c.child == child && (c.enforced && c.logged || own(c));
        self.cascades.iter().any(echoes)
    }
}

/// Whether a key changes rows by itself.
fn acts(key: &ForeignKey) -> bool {
    key.on_delete != ReferenceAction::Refuse || key.on_update != ReferenceAction::Refuse
}

/// Whether two keys link the same columns of the same tables, whatever they are called.
fn same_link(a: &ForeignKey, b: &ForeignKey) -> bool {
    let pairs = |key: &ForeignKey| {
        let both = key.columns.iter().cloned();
        let mut both: Vec<_> = both.zip(key.parent_columns.iter().cloned()).collect();
        both.sort();
        both
    };
    a.parent == b.parent && pairs(a) == pairs(b)
}

/// A source's foreign key and what becomes of it.
struct Followed<'a> {
    key: &'a ForeignKey,
    /// The table that declares it.
    child: &'a TableSchema,
    /// In target names, once per target of the parent's source; none if the key cannot be followed.
    mapped: Vec<ForeignKey>,
}

/// The cascades of a plan made of `pairs`, and what is wrong with their foreign keys.
pub(super) fn cascades(pairs: &[TablePair], plan: &Plan) -> (Vec<Cascade>, Vec<Finding>) {
    let mut out = Vec::new();
    let mut findings = Vec::new();
    let enforces = plan.options.foreign_keys == ForeignKeys::Enforce;
    let mut fed: BTreeMap<&TableName, Vec<&TablePair>> = BTreeMap::new();
    for pair in pairs {
        fed.entry(&pair.mapping.target).or_default().push(pair);
    }
    for (index, target) in plan.targets.iter().enumerate() {
        let feeding = || fed.get(&target.name).into_iter().flatten().copied();
        let keys: Vec<Followed<'_>> = feeding()
            .flat_map(|child| followed(child, pairs, plan))
            .collect();
        let there = feeding().find_map(|pair| pair.target.as_ref().filter(|_| !pair.create));
        let enforced: Vec<&ForeignKey> = there
            .filter(|_| enforces)
            .into_iter()
            .flat_map(|table| &table.foreign_keys)
            .filter(|key| plan.target_index(&key.parent).is_some())
            .collect();
        for own in &enforced {
            own_key(own, &keys, index, plan, &mut out, &mut findings);
        }
        for followed in keys.iter().filter(|followed| acts(followed.key)) {
            let same = |own: &&ForeignKey| followed.mapped.iter().any(|m| same_link(own, m));
            if !enforced.iter().any(same) {
                source_key(followed, index, plan, &mut out, &mut findings);
            }
            if !followed.key.logged {
                hidden(followed, pairs, plan, &mut findings);
            }
        }
    }
    circle(&out, plan, &mut findings);
    mixed(&out, plan, &mut findings);
    folding(&out, plan, &mut findings);
    (out, findings)
}

/// Whoever derives what a key does starts from the change of its parent's rows. If the target's own key
/// makes that change, nobody sees it.
fn mixed(cascades: &[Cascade], plan: &Plan, findings: &mut Vec<Finding>) {
    let unseen = |above: &Cascade, below: &Cascade| {
        let goes = above.on_delete == ReferenceAction::Cascade;
        let sets = |column: &usize| above.columns.contains(column);
        let changes = below.parent_columns.iter().any(sets);
        above.child == below.parent
            && (goes && below.on_delete != ReferenceAction::Refuse
                || changes && below.on_update != ReferenceAction::Refuse)
    };
    let unenforced = cascades.iter().filter(|c| c.derived && !c.enforced);
    for below in unenforced {
        let mut own = cascades.iter().filter(|c| c.enforced && !c.logged);
        let names = (
            plan.targets.get(below.parent),
            plan.targets.get(below.child),
        );
        if let (Some(above), (Some(parent), Some(child))) =
            (own.find(|above| unseen(above, below)), names)
        {
            let top = plan.targets.get(above.parent).map(|t| t.name.to_string());
            let (parent, child) = (&parent.name, &child.name);
            findings.push(Finding::error(
                "foreign_key_missing",
                child.to_string(),
                format!(
                    "the target's own foreign key changes rows of {parent} when rows of {} go or \
                     change, and {child} does not have the source's key to {parent} that would carry \
                     that on",
                    top.unwrap_or_default()
                ),
                format!(
                    "give {child} the source's foreign key, drop that of {parent}, or set the task's \
                     option foreign_keys to replica"
                ),
            ));
        }
    }
}

/// Children are found by their values, so the target must not take different ones for equal.
fn folding(cascades: &[Cascade], plan: &Plan, findings: &mut Vec<Finding>) {
    for cascade in cascades.iter().filter(|cascade| cascade.derived) {
        let parents = cascade.parent_columns.iter().map(|c| (cascade.parent, *c));
        let children = cascade.columns.iter().map(|c| (cascade.child, *c));
        let folds = parents.chain(children).find_map(|(target, column)| {
            let table = plan.targets.get(target)?;
            let column = table.columns.get(column).filter(|column| column.folds)?;
            Some(format!("{}: {}", table.name, column.name))
        });
        if let Some(subject) = folds {
            findings.push(Finding::error(
                "cascade_text_key",
                subject,
                "the source does not log what its foreign keys change, and the target takes different \
                 texts of the column for equal (case, accents or trailing spaces), so the rows cannot \
                 be told apart",
                "make the target column a binary type or give it an exact collation",
            ));
        }
    }
}

/// The error of a change of a parent's row whose log lacks the value by which its children, at a target
/// that derives what becomes of them, are found.
pub fn no_old_value(table: &TargetTable, column: usize) -> Error {
    let column = table.columns.get(column).map_or("?", |c| c.name.as_str());
    Error::data(format!(
        "the log does not have the old value of column {column} of {}, which foreign keys reference",
        table.name
    ))
    .with_hint("SET GLOBAL binlog_row_image = 'FULL' at the source, and reset the task")
    .at(Side::Source)
}

/// A table is loaded after those that its derived cascades come from, so they must not make a circle.
fn circle(cascades: &[Cascade], plan: &Plan, findings: &mut Vec<Finding>) {
    let derived = |c: &&Cascade| c.derived && c.parent != c.child;
    let mut left: Vec<&Cascade> = cascades.iter().filter(derived).collect();
    loop {
        let parents: Vec<usize> = left.iter().map(|c| c.parent).collect();
        let children: Vec<usize> = left.iter().map(|c| c.child).collect();
        let count = left.len();
        left.retain(|c| children.contains(&c.parent) && parents.contains(&c.child));
        if left.len() == count {
            break;
        }
    }
    if let Some(table) = left.first().and_then(|c| plan.targets.get(c.child)) {
        findings.push(Finding::error(
            "cascade_circle",
            table.name.to_string(),
            "foreign keys lead from it back to it, and the source does not log what they change",
            "make one of the keys of the circle ON DELETE RESTRICT ON UPDATE RESTRICT",
        ));
    }
}

/// The foreign keys of a child's source table.
fn followed<'a>(child: &'a TablePair, pairs: &[TablePair], plan: &Plan) -> Vec<Followed<'a>> {
    let Some(source) = &child.source else {
        return Vec::new();
    };
    let mapped = |key: &ForeignKey| {
        pairs
            .iter()
            .filter(|parent| parent.mapping.source == key.parent)
            .filter_map(|parent| mapped_key(key, child, source, parent, &plan.options))
            .collect()
    };
    let keys = source.foreign_keys.iter();
    keys.map(|key| Followed {
        key,
        child: source,
        mapped: mapped(key),
    })
    .collect()
}

/// A key that the target has already.
fn own_key(
    own: &ForeignKey,
    keys: &[Followed<'_>],
    child: usize,
    plan: &Plan,
    out: &mut Vec<Cascade>,
    findings: &mut Vec<Finding>,
) {
    let subject = || {
        let table = plan.targets.get(child).map(|table| table.name.to_string());
        format!("{}: {}", table.unwrap_or_default(), own.name)
    };
    let fix = format!(
        "give {} the actions of the source's key, drop it, or set the task's option foreign_keys \
         to replica",
        own.name
    );
    let at_source = keys
        .iter()
        .find(|followed| followed.mapped.iter().any(|mapped| same_link(own, mapped)));
    let Some(at_source) = at_source else {
        if acts(own) {
            findings.push(Finding::error(
                "foreign_key_acts",
                subject(),
                format!(
                    "it changes rows by itself when rows of {} go or change, and the source has no \
                     such key",
                    own.parent
                ),
                fix,
            ));
        }
        return;
    };
    // Where the source refuses, there are no children left by the time the target's key acts.
    let fits = |source, target| source == target || source == ReferenceAction::Refuse;
    let key = at_source.key;
    if !fits(key.on_delete, own.on_delete) || !fits(key.on_update, own.on_update) {
        findings.push(Finding::error(
            "foreign_key_differs",
            subject(),
            format!(
                "it does something else than the source's key {} when rows of {} go or change",
                key.name, own.parent
            ),
            fix,
        ));
        return;
    }
    if acts(own) {
        let logged = key.logged && acts(key);
        out.extend(link(own, child, plan).map(|cascade| Cascade {
            enforced: true,
            logged,
            ..cascade
        }));
    }
}

/// An acting key of the source that the target does not have yet, or never.
fn source_key(
    followed: &Followed<'_>,
    child: usize,
    plan: &Plan,
    out: &mut Vec<Cascade>,
    findings: &mut Vec<Finding>,
) {
    let key = followed.key;
    // One change of the parent reaches each of its targets; it is followed from one of them.
    let Some(cascade) = followed
        .mapped
        .first()
        .and_then(|mapped| link(mapped, child, plan))
    else {
        return;
    };
    let child_table = plan.targets.get(child);
    let created = child_table.is_some_and(|table| table.create || table.rekey);
    let enforces = plan.options.foreign_keys == ForeignKeys::Enforce;
    let enforced = enforces && created && can_be_made(key);
    let mut cascade = Cascade {
        derived: !key.logged,
        enforced,
        logged: key.logged,
        ..cascade
    };
    if !key.logged
        && !plan.operations.delete
        && plan.operations.update
        && key.on_delete == ReferenceAction::SetNull
    {
        findings.push(Finding::warning(
            "cascade_left_out",
            format!("{}: {}", followed.child.name, key.name),
            format!(
                "the task leaves deletes out, so what ON DELETE SET NULL changes when rows of {} \
                 go is left out too",
                key.parent
            ),
            "select DELETE as well",
        ));
    }
    if cascade.derived && !plan.operations.update {
        // What it changes are updates of the child.
        cascade.on_update = ReferenceAction::Refuse;
        if cascade.on_delete != ReferenceAction::Cascade {
            cascade.on_delete = ReferenceAction::Refuse;
        }
    }
    if cascade.derived || cascade.enforced {
        out.push(cascade);
    }
}

/// Whether a created table gets such a key: it has no defaults that `SET DEFAULT` could set.
pub(super) fn can_be_made(key: &ForeignKey) -> bool {
    key.on_delete != ReferenceAction::SetDefault && key.on_update != ReferenceAction::SetDefault
}

/// What keeps a key from being followed whose doings are not in the source's log.
fn hidden(followed: &Followed<'_>, pairs: &[TablePair], plan: &Plan, findings: &mut Vec<Finding>) {
    let (key, source) = (followed.key, followed.child);
    let subject = format!("{}: {}", source.name, key.name);
    let parents = || pairs.iter().filter(|p| p.mapping.source == key.parent);
    if parents().next().is_none() {
        findings.push(Finding::error(
            "cascade_parent_not_mapped",
            subject,
            format!(
                "it changes rows when rows of {} go or change, which the source does not log, and \
                 that table is not part of the task",
                key.parent
            ),
            format!(
                "map {} as well, or make the key ON DELETE RESTRICT ON UPDATE RESTRICT",
                key.parent
            ),
        ));
        return;
    }
    if followed.mapped.is_empty() {
        findings.push(Finding::error(
            "cascade_columns_not_mapped",
            subject,
            format!(
                "it changes rows when rows of {} go or change, which the source does not log, and \
                 not all its columns are mapped",
                key.parent
            ),
            format!(
                "map {} of {} and {} of {}",
                key.columns.join(", "),
                source.name,
                key.parent_columns.join(", "),
                key.parent
            ),
        ));
        return;
    }
    let parent = parents().find_map(|pair| pair.source.as_ref());
    let columns = |table: &TableSchema, names: &[String]| -> Vec<usize> {
        names.iter().filter_map(|n| table.column_index(n)).collect()
    };
    let folds = |table: &TableSchema, names: &[String]| {
        let mut found = names.iter().filter_map(|name| table.column(name));
        found.any(|column| column.folds)
    };
    if folds(source, &key.columns) || parent.is_some_and(|p| folds(p, &key.parent_columns)) {
        findings.push(Finding::error(
            "cascade_text_key",
            subject,
            "the source does not log what it changes, and takes different texts of its columns for \
             equal (case, accents or trailing spaces), so the rows it changes cannot be told",
            "make the columns a binary type or an exact collation, or the key ON DELETE RESTRICT \
             ON UPDATE RESTRICT",
        ));
        return;
    }
    let logged = parent.is_none_or(|parent| {
        let old = parent.old_image.as_ref();
        let needed = columns(parent, &key.parent_columns);
        old.is_none_or(|old| needed.iter().all(|column| old.contains(column)))
    });
    if !logged {
        findings.push(Finding::error(
            "cascade_old_values",
            subject.clone(),
            format!(
                "the source's log lacks the old values of {} of {}, by which it changes rows",
                key.parent_columns.join(", "),
                key.parent
            ),
            "SET GLOBAL binlog_row_image = 'FULL'; and let all sessions connect anew",
        ));
    }
    let of_key = |feed: &super::Feed| {
        let table = plan.sources.get(feed.source);
        table.is_some_and(|table| [&source.name, &key.parent].contains(&&table.schema.name))
    };
    let mut targets = plan.targets.iter();
    let merged = targets.find(|table| table.merged() && table.feeds.iter().any(of_key));
    if let Some(table) = merged {
        let table = &table.name;
        findings.push(Finding::error(
            "cascade_merged",
            subject,
            format!(
                "the source does not log what it changes, and {table} is fed by several source \
                 tables, so its rows cannot be told apart by this key"
            ),
            "give each source table a target of its own, or make the key ON DELETE RESTRICT ON \
             UPDATE RESTRICT",
        ));
    }
}

/// A key in target names as a cascade with nothing set.
fn link(key: &ForeignKey, child: usize, plan: &Plan) -> Option<Cascade> {
    let parent = plan.target_index(&key.parent)?;
    let places = |target: usize, names: &[String]| -> Option<Vec<usize>> {
        let columns = &plan.targets.get(target)?.columns;
        let place = |name: &String| columns.iter().position(|c| c.name == *name);
        names.iter().map(place).collect()
    };
    Some(Cascade {
        parent,
        parent_columns: places(parent, &key.parent_columns)?,
        child,
        columns: places(child, &key.columns)?,
        on_delete: key.on_delete,
        on_update: key.on_update,
        derived: false,
        enforced: false,
        logged: false,
    })
}
