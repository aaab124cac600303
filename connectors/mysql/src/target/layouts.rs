//! How rows of source tables lie in the log at the stored position, for sources that have to remember
//! it. Written in the transaction that moves the position.

use mysql_async::prelude::Queryable;
use mysql_async::{Error as My, Value};
use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::position::Layout;
use thalweg_core::schema::TableName;

use super::place::Place;
use super::session::Session;

/// Stores layouts in the open transaction, those of other tables staying as they are.
pub(super) async fn put(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
    layouts: &[(TableName, Layout)],
) -> Result<()> {
    let put = format!(
        "INSERT INTO {} (server, task, source_schema, source_table, layout) \
         VALUES {{rows}} ON DUPLICATE KEY UPDATE layout = VALUES(layout)",
        place.layouts()
    );
    let row = |(table, layout): &(TableName, Layout)| {
        let names = [&task.server, &task.task, &table.schema, &table.name];
        let names = names.into_iter().map(Value::from);
        names.chain([Value::from(layout.as_str())]).collect()
    };
    let rows: Vec<Vec<Value>> = layouts.iter().map(row).collect();
    session
        .exec_rows(&put, &[], ("(?, ?, ?, ?, ?)", &rows))
        .await
}

/// Forgets the layouts of a task in the open transaction.
pub(super) async fn clear(session: &mut Session, place: &Place, task: &TaskKey) -> Result<()> {
    let clear = format!(
        "DELETE FROM {} WHERE server = ? AND task = ?",
        place.layouts()
    );
    session.exec(&clear, (&task.server, &task.task)).await?;
    Ok(())
}

/// Those of a task.
pub(super) async fn read(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> std::result::Result<Vec<(TableName, Layout)>, My> {
    let read = format!(
        "SELECT source_schema, source_table, layout FROM {} WHERE server = ? AND task = ?",
        place.layouts()
    );
    let key = (&task.server, &task.task);
    let rows: Vec<(String, String, String)> = session.conn().exec(read, key).await?;
    let stored = |(schema, name, layout): (String, String, String)| {
        (TableName::new(schema, name), Layout::new(layout))
    };
    Ok(rows.into_iter().map(stored).collect())
}
