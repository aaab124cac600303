//! Source tables whose rows have come, gone or changed without being in the log, and what comes of each.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::checkpoint::{Outline, Outlined};
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{OnChange, Operations};
use thalweg_core::plan::{TablePair, source_fingerprints};
use thalweg_core::ports::{Rows, Source};
use thalweg_core::position::Layout;
use thalweg_core::schema::TableName;
use thalweg_core::{Result, Side};

use super::{Drifted, Halt, halt_by};

/// What is needed to look for tables whose rows have become what the log does not say.
pub(super) struct Unsaying<'a> {
    pub(super) outline: &'a Outline,
    pub(super) outlined: &'a BTreeMap<&'a TableName, &'a Outlined>,
    /// Source tables at which a stream has ended for it.
    pub(super) told: &'a BTreeSet<TableName>,
    pub(super) operations: Operations,
    pub(super) other: OnChange,
}

impl Unsaying<'_> {
    /// Says what becomes of each.
    pub(super) async fn look(
        &self,
        source: &dyn Source,
        pairs: &[TablePair],
        halts: &mut Vec<(TableName, Halt)>,
        out: &mut Drifted,
    ) -> Result<()> {
        let bridged: BTreeSet<&TableName> =
            out.following.layouts.iter().map(|(name, _)| name).collect();
        let halted: BTreeSet<&TableName> = halts.iter().map(|(name, _)| name).collect();
        let goes_on = |pair: &&TablePair| !halted.contains(&pair.mapping.target);
        let mut feeding: BTreeMap<&TableName, Vec<&TablePair>> = BTreeMap::new();
        for pair in pairs.iter().filter(goes_on) {
            feeding.entry(&pair.mapping.source).or_default().push(pair);
        }
        let layouts = self.outline.layouts.iter();
        let asked: Vec<(&TableName, &Layout, bool)> = layouts
            .filter(|(name, _)| feeding.contains_key(name) && !bridged.contains(name))
            .map(|(name, layout)| (name, layout, self.told.contains(name)))
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let unsaid = source.unsaid(&asked).await;
        let mut stopping = Vec::new();
        for one in unsaid.map_err(|e| e.at(Side::Source))? {
            let Some((name, ..)) = asked.get(one.table) else {
                continue;
            };
            let mut noted = true;
            for pair in feeding.get(name).into_iter().flatten() {
                let target = &pair.mapping.target;
                // What is to be loaded yet is loaded as it is.
                if !self.outlined.contains_key(target) {
                    continue;
                }
                match self.judge(pair, one.rows) {
                    Judged::Repairs => {
                        out.doubted.push(target.clone());
                        let how = format!("{}; its rows are compared and repaired", one.how);
                        let finding = Finding::info("rows_unsaid", name.to_string(), how, "");
                        out.findings.push(finding);
                    }
                    Judged::Passes => {}
                    Judged::Warns => out.findings.push(Finding::warning(
                        "rows_unsaid",
                        name.to_string(),
                        format!("{}; its rows cannot be compared and repaired", one.how),
                        "if rows were changed, reload the table",
                    )),
                    Judged::Halts => {
                        let fix = "resume the table, or reset the task, so that it is loaded as it is now";
                        let how = format!("{name}: {}", one.how);
                        stopping.push((target.clone(), halt_by(self.other, how, fix.to_owned())));
                        // It is to be said again.
                        noted = false;
                    }
                }
            }
            if noted {
                out.noted.push(((*name).clone(), one.layout));
            }
        }
        halts.extend(stopping);
        Ok(())
    }

    /// What becomes of a target table of such a source table.
    fn judge(&self, pair: &TablePair, rows: Rows) -> Judged {
        let carried = match rows {
            Rows::Came => self.operations.insert,
            Rows::Went => self.operations.delete,
            Rows::Perhaps => true,
        };
        let source = pair.source.as_ref();
        let keyed = source.is_some_and(|source| !source.primary_key.is_empty());
        let known = self.outlined.get(&pair.mapping.target);
        let alone = known.is_some_and(|k| source_fingerprints(&k.fingerprint).len() == 1);
        let repairs = keyed && alone && self.operations == Operations::ALL;
        match (carried, rows) {
            (false, _) => Judged::Passes,
            (true, Rows::Came | Rows::Went) if !repairs || self.other == OnChange::Stop => {
                Judged::Halts
            }
            (true, _) if repairs => Judged::Repairs,
            (true, _) => Judged::Warns,
        }
    }
}

/// What becomes of a table whose rows have become what the log does not say.
enum Judged {
    /// It is compared and repaired.
    Repairs,
    /// What became of its rows is not carried over.
    Passes,
    /// Nothing can be done, and perhaps nothing is to be done.
    Warns,
    Halts,
}
