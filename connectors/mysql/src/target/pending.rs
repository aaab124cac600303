//! Tables that the task creates, from the moment they are noted until they have their keys.

use mysql_async::prelude::Queryable;
use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::ports::Pending;
use thalweg_core::schema::TableName;

use super::place::{Place, find};
use super::session::Session;
use super::table::gone_is_none;

/// Takes back a note of a table that could not be created.
pub(super) async fn take_back(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    table: &TableName,
) -> Result<()> {
    let drop = format!(
        "DELETE FROM {} WHERE server = ? AND task = ? AND target_schema = ? AND target_table = ? \
         AND phase = 'waiting' AND fingerprint = ''",
        place.tables()
    );
    let key = (&task.server, &task.task, &table.schema, &table.name);
    session.exec(&drop, key).await?;
    session.run("COMMIT").await
}

/// Tables created by the task that wait for their keys; none if there are no checkpoint tables.
pub(super) async fn read(session: &mut Session, task: &TaskKey) -> Result<Vec<Pending>> {
    let Some(place) = find(session, task).await? else {
        return Ok(Vec::new());
    };
    let read = format!(
        "SELECT target_schema, target_table, loaded_rows IS NOT NULL FROM {} \
         WHERE server = ? AND task = ? AND keys_pending",
        place.tables()
    );
    let key = (&task.server, &task.task);
    let rows: Option<Vec<(String, String, bool)>> =
        gone_is_none(session.conn().exec(read, key).await)?;
    let pending = |(schema, table, loaded): (String, String, bool)| Pending {
        table: TableName::new(schema, table),
        loaded,
    };
    let rows = rows.unwrap_or_default().into_iter();
    Ok(rows.map(pending).collect())
}
