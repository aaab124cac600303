//! The side tables of merged targets: beside the checkpoint, one per merged table of a task.
//!
//! A row of one says which sources have a row of a key (see [`super::merged`]). Its columns have the
//! types and collations of the target's, so that both take the same keys for equal. Its comment says
//! for which mapping and which types it was made. One that is gone or was made for others is made
//! anew and empty, and then the target is to be loaded again: nobody knows any more whose its rows
//! are.

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{ColumnType, TableName, fnv1a};
use thalweg_core::{Error, Kind, Result, Side};

use super::checkpoint::{self, Again, LOCK};
use super::place::Place;
use super::session::{Session, quote, text};

/// The side table of a target table, without its database. Short enough whatever the names are.
fn name(place: &Place, task: &TaskKey, table: &TableName) -> String {
    let table = fnv1a(&format!("{:?} {:?}", table.schema, table.name));
    format!("{}{table}", prefix(place, task))
}

/// How the names of all side tables of a task begin.
fn prefix(place: &Place, task: &TaskKey) -> String {
    format!("{}presence_{}_", place.prefix, fnv1a(&task.to_string()))
}

/// The side table of a target table, as SQL has it.
pub(super) fn quoted(place: &Place, task: &TaskKey, table: &TableName) -> String {
    let name = name(place, task, table);
    format!("{}.{}", quote(&place.database), quote(&name))
}

/// The types of a target's mapped columns as SQL has them, with their collations.
#[derive(Debug)]
pub(super) struct Types(Vec<(String, ColumnType)>);

impl Types {
    /// Asks the server.
    pub(super) async fn read(session: &mut Session, table: &TargetTable) -> Result<Types> {
        type Row = (String, String, Option<String>, Option<String>);
        let rows: Vec<Row> = session
            .ask(
                "SELECT column_name, column_type, character_set_name, collation_name \
                 FROM information_schema.columns WHERE table_schema = ? AND table_name = ?",
                (&table.name.schema, &table.name.name),
            )
            .await?;
        let types = table.columns.iter().map(|column| {
            let found = rows.iter().find(|(name, ..)| *name == column.name);
            let (_, native, set, collation) = found.ok_or_else(|| {
                Error::schema(format!("{} has no column {}", table.name, column.name))
                    .with_hint("make the table as it was, or reset the task")
                    .at(Side::Target)
            })?;
            let of = |labels: &[String]| {
                let labels = labels.iter().map(|label| text(label));
                labels.collect::<Vec<_>>().join(",")
            };
            // The server writes labels with marks that this session does not read as marks.
            let mut sql = match &column.ty {
                ColumnType::Enum { labels } => format!("enum({})", of(labels)),
                ColumnType::Set { labels } => format!("set({})", of(labels)),
                _ => native.clone(),
            };
            if let (Some(set), Some(collation)) = (set, collation) {
                sql.push_str(&format!(" CHARACTER SET {set} COLLATE {collation}"));
            }
            Ok((sql, column.ty.clone()))
        });
        Ok(Types(types.collect::<Result<_>>()?))
    }

    /// The very type of a column.
    pub(super) fn exact(&self, column: usize) -> &str {
        self.0.get(column).map_or("", |(sql, _)| sql.as_str())
    }

    /// A type that holds every value of a column and takes little of the room that a row has:
    /// a table may be at the server's limits, and these columns stand beside its key.
    pub(super) fn roomy(&self, column: usize) -> String {
        let sql = self.exact(column);
        let of = |ty: &str| match sql.find(" CHARACTER SET ") {
            Some(at) => format!("{ty}{}", sql.get(at..).unwrap_or_default()),
            None => ty.to_owned(),
        };
        match self.0.get(column) {
            Some((_, ColumnType::Text { .. })) => of("longtext"),
            Some((_, ColumnType::Bytes { .. })) if !sql.starts_with("binary") => of("longblob"),
            _ => sql.to_owned(),
        }
    }
}

/// Makes the side tables that the plan needs, after its target tables and checkpoint tables. Ends
/// a transaction that is open.
pub(super) async fn prepare(session: &mut Session, task: &TaskKey, plan: &Plan) -> Result<()> {
    if !plan.targets.iter().any(TargetTable::merged) {
        return Ok(());
    }
    // No removal drops the database while a table comes into it.
    checkpoint::take_turns(session).await?;
    let made = make(session, task, plan).await;
    let released = session.run(&format!("DO RELEASE_LOCK('{LOCK}')")).await;
    made?;
    released
}

async fn make(session: &mut Session, task: &TaskKey, plan: &Plan) -> Result<()> {
    let place = checkpoint::make(session, task).await?;
    let merged = plan.targets.iter().enumerate().filter(|(_, t)| t.merged());
    for (target, table) in merged {
        let fingerprint = plan.fingerprint(target);
        let mapping = fingerprint.rsplit('/').next().unwrap_or_default();
        let types = Types::read(session, table).await?;
        let made_for = format!("{mapping} {}", fnv1a(&format!("{types:?}")));
        let there: Vec<String> = session
            .ask(
                "SELECT table_comment FROM information_schema.tables \
                 WHERE table_schema = ? AND table_name = ?",
                (&place.database, name(&place, task, &table.name)),
            )
            .await?;
        if there.first() == Some(&made_for) {
            continue;
        }
        // First, so that the table is loaded again whatever happens in between.
        let name = [table.name.clone()];
        checkpoint::wait_for_load(session, &place, task, &name, Again::AsBefore).await?;
        let side = quoted(&place, task, &table.name);
        session.run(&format!("DROP TABLE IF EXISTS {side}")).await?;
        session
            .run(&create(&side, &made_for, table, &types))
            .await?;
    }
    Ok(())
}

fn create(side: &str, made_for: &str, table: &TargetTable, types: &Types) -> String {
    let mut fields = Vec::new();
    for (n, &column) in table.key.iter().enumerate() {
        // Without a default a TIMESTAMP would be set to the present at every change.
        let default = match table.columns.get(column).map(|column| &column.ty) {
            Some(ColumnType::Instant { .. }) => " DEFAULT '0000-00-00 00:00:00'",
            _ => "",
        };
        fields.push(format!("k{n} {} NOT NULL{default}", types.exact(column)));
    }
    fields.push("sources bigint unsigned NOT NULL".to_owned());
    let owner = table.row_owner;
    let parked = (0..table.feeds.len()).filter(|feed| owner.is_some_and(|owner| owner != *feed));
    let parked = parked.flat_map(|feed| table.owned(feed));
    fields.extend(parked.map(|column| format!("c{column} {} NULL", types.roomy(column))));
    let key: Vec<String> = (0..table.key.len()).map(|n| format!("k{n}")).collect();
    format!(
        "CREATE TABLE {side} ({}, PRIMARY KEY ({})) ENGINE=InnoDB ROW_FORMAT=DYNAMIC COMMENT={}",
        fields.join(", "),
        key.join(", "),
        text(made_for)
    )
}

/// Empties the side table of a target table that is emptied.
pub(super) async fn empty(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
) -> Result<()> {
    let rows = format!("DELETE FROM {}", quoted(place, task, table));
    session.run(&rows).await
}

/// Removes all side tables of a task. Who may not drop them leaves them where they are. Ends a
/// transaction that is open.
pub(super) async fn release(session: &mut Session, place: &Place, task: &TaskKey) -> Result<()> {
    let prefix = prefix(place, task);
    let tables: Vec<String> = session
        .ask(
            "SELECT table_name FROM information_schema.tables \
             WHERE table_schema = ? AND LEFT(table_name, CHAR_LENGTH(?)) = ?",
            (&place.database, &prefix, &prefix),
        )
        .await?;
    for table in tables {
        let table = format!("{}.{}", quote(&place.database), quote(&table));
        match session.run(&format!("DROP TABLE IF EXISTS {table}")).await {
            Err(error) if error.kind() == Kind::Config => {}
            dropped => dropped?,
        }
    }
    Ok(())
}
