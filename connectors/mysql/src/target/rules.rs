//! What decides how a table may be written.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_core::Result;
use thalweg_core::plan::TargetTable;
use thalweg_core::schema::TableName;

use super::session::{Session, quote};
use crate::schema::{NAMES, Names};

/// A table with fewer rows (about) is not taken for [`Rules::lone`]: a hundred times as many as are packed
/// into one statement.
const LONE_ROWS_MIN: u64 = 200_000;

/// What only the server knows of a table, and what decides how it may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether its primary key is its only unique key, those over columns that are not mapped
    /// included.
    pub(super) only_primary: bool,
    /// Mapped columns that the server sets by itself whenever a row changes, as indexes.
    pub(super) touched: Vec<usize>,
    /// Whether it has triggers.
    pub(super) triggers: bool,
    /// Whether triggers run when a row is inserted.
    pub(super) insert_triggers: bool,
    /// Whether triggers run when a row is deleted.
    pub(super) delete_triggers: bool,
    /// Whether a foreign key of some table changes that table's rows when a row here goes.
    pub(super) cascades: bool,
    /// Whether foreign keys are enforced in this session.
    pub(super) enforced: bool,
    /// Whether nothing but the key joins its rows with each other and with those of other tables (no other
    /// unique key, no trigger, no foreign key from or to it), and writing a row locks that row only. A table
    /// that is not much larger than a list of keys is read as a whole to find them, and whoever reads waits for
    /// every row that somebody else has changed.
    pub(super) lone: bool,
    /// The columns that can be written, quoted, those that are not mapped included.
    pub(super) columns: Vec<String>,
    /// `Plan::is_echoed`, which the applier knows and the server does not.
    pub(super) echoed: bool,
}

impl Rules {
    /// Asks the server, about tables together.
    pub(super) async fn read(
        session: &mut Session,
        targets: &[&TargetTable],
    ) -> Result<Vec<Rules>> {
        let names: Vec<TableName> = targets.iter().map(|target| target.name.clone()).collect();
        type Texts = BTreeMap<TableName, Vec<(String,)>>;
        let uniques = "SELECT DISTINCT index_name, {names} FROM information_schema.statistics \
                       WHERE {of} AND non_unique = 0";
        let uniques: Texts = session.ask_of(&names, NAMES, uniques).await?;
        let touched = "SELECT column_name, {names} FROM information_schema.columns \
                       WHERE {of} AND extra LIKE '%on update%'";
        let touched: Texts = session.ask_of(&names, NAMES, touched).await?;
        let columns = "SELECT column_name, {names} FROM information_schema.columns WHERE {of} \
                       AND COALESCE(generation_expression, '') = '' ORDER BY ordinal_position";
        let columns: Texts = session.ask_of(&names, NAMES, columns).await?;
        let enforced: Option<u8> = session.first("SELECT @@foreign_key_checks").await?;
        let triggers = "SELECT event_manipulation, {names} FROM information_schema.triggers \
                        WHERE {of}";
        let on: Names = ("event_object_schema", "event_object_table");
        let triggers: Texts = session.ask_of(&names, on, triggers).await?;
        let cascades = cascading(session).await?;
        let joined = joined(session).await?;
        let rows = "SELECT IF(engine = 'InnoDB', table_rows, 0), {names} \
                    FROM information_schema.tables WHERE {of}";
        let rows: BTreeMap<TableName, Vec<(Option<u64>,)>> =
            session.ask_of(&names, NAMES, rows).await?;
        let rules = targets.iter().map(|target| {
            let name = &target.name;
            let of = |found: &Texts| -> Vec<String> {
                let found = found.get(name).into_iter().flatten();
                found.map(|(text,)| text.clone()).collect()
            };
            let (touched, triggers) = (of(&touched), of(&triggers));
            let rows = rows.get(name).and_then(|rows| rows.first()?.0);
            let large = rows.is_some_and(|rows| rows >= LONE_ROWS_MIN);
            let only_primary = target.key_is_primary && of(&uniques) == ["PRIMARY"];
            Rules {
                lone: only_primary && triggers.is_empty() && !joined.contains(name) && large,
                only_primary,
                touched: target
                    .columns
                    .iter()
                    .enumerate()
                    .filter(|(_, column)| touched.contains(&column.name))
                    .map(|(index, _)| index)
                    .collect(),
                triggers: !triggers.is_empty(),
                insert_triggers: triggers.iter().any(|event| event == "INSERT"),
                delete_triggers: triggers.iter().any(|event| event == "DELETE"),
                cascades: cascades.contains(name),
                enforced: enforced != Some(0),
                columns: of(&columns).iter().map(|column| quote(column)).collect(),
                echoed: false,
            }
        });
        Ok(rules.collect())
    }
}

/// The tables that foreign keys lead to which change rows of others. Who asks by the table that is led to
/// has all tables of the server opened, whichever it is.
async fn cascading(session: &mut Session) -> Result<BTreeSet<TableName>> {
    let found: Vec<(String, String)> = session
        .ask(
            "SELECT DISTINCT unique_constraint_schema, referenced_table_name \
             FROM information_schema.referential_constraints \
             WHERE delete_rule NOT IN ('RESTRICT', 'NO ACTION')",
            (),
        )
        .await?;
    let name = |(schema, name): (String, String)| TableName::new(schema, name);
    Ok(found.into_iter().map(name).collect())
}

/// The tables that foreign keys lead from or to.
pub(super) async fn joined(session: &mut Session) -> Result<BTreeSet<TableName>> {
    let keys = children(session).await?.into_iter();
    Ok(keys
        .flat_map(|(child, _, parent)| [child, parent])
        .collect())
}

/// All foreign keys: from which table, their names, to which table. Asked of all, as in [`cascading`].
pub(super) async fn children(
    session: &mut Session,
) -> Result<BTreeSet<(TableName, String, TableName)>> {
    type Key = (String, String, String, String, String);
    let found: Vec<Key> = session
        .ask(
            "SELECT DISTINCT table_schema, table_name, constraint_name, referenced_table_schema, \
             referenced_table_name FROM information_schema.key_column_usage \
             WHERE referenced_table_name IS NOT NULL",
            (),
        )
        .await?;
    let key = |(schema, name, key, parents, parent): Key| {
        let child = TableName::new(schema, name);
        (child, key, TableName::new(parents, parent))
    };
    Ok(found.into_iter().map(key).collect())
}
