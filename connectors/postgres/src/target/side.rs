//! The side tables of merged targets: beside the checkpoint, one per merged table of a task.
//!
//! A row of one says which sources have a row of a key (see [`super::merged`]). Its key columns are
//! made after the target's, so that both take the same keys for equal. Its comment says for which
//! mapping and which types of the target's columns it was made. One that is gone or was made for
//! others is made anew and empty, and then the target is to be loaded again: nobody knows any more
//! whose its rows are.

use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::{TableName, fnv1a};
use tokio_postgres::{Client, Transaction};

use super::checkpoint;
use crate::error::convert;
use crate::schema::{quote, quote_table};

/// The side table of a target table, as SQL has it. Short enough whatever the names are.
pub(super) fn name(task: &TaskKey, table: &TableName) -> String {
    let table = fnv1a(&format!("{:?} {:?}", table.schema, table.name));
    format!("thalweg.{}{table}", prefix(task))
}

/// How the names of all side tables of a task begin.
fn prefix(task: &TaskKey) -> String {
    format!("presence_{}_", fnv1a(&task.to_string()))
}

/// Makes the side tables that the plan needs, after its target tables and checkpoint tables.
pub(super) async fn prepare(
    transaction: &Transaction<'_>,
    task: &TaskKey,
    plan: &Plan,
) -> Result<()> {
    let mut made = Vec::new();
    let merged = plan.targets.iter().enumerate().filter(|(_, t)| t.merged());
    for (target, table) in merged {
        let side = name(task, &table.name);
        let fingerprint = plan.fingerprint(target);
        let mapping = fingerprint.rsplit('/').next().unwrap_or_default();
        let made_for = format!("{mapping} {}", types(transaction, table).await?);
        let same = "SELECT obj_description(to_regclass($1::text), 'pg_class') = $2";
        let same = transaction
            .query_one(same, &[&side, &made_for])
            .await
            .map_err(convert)?;
        if same.get::<_, Option<bool>>(0) == Some(true) {
            continue;
        }
        let create = create(&side, &made_for, table);
        transaction.batch_execute(&create).await.map_err(convert)?;
        made.push(table.name.clone());
    }
    match made.is_empty() {
        true => Ok(()),
        false => checkpoint::again(transaction, task, &made).await,
    }
}

/// Empties the side table of a target table that is emptied.
pub(super) async fn empty(client: &Client, task: &TaskKey, table: &TableName) -> Result<()> {
    let rows = format!("DELETE FROM {}", name(task, table));
    client.batch_execute(&rows).await.map_err(convert)
}

/// One word for the types and collations of a target's mapped columns.
async fn types(transaction: &Transaction<'_>, table: &TargetTable) -> Result<String> {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let types = "SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), \
                 (SELECT collname FROM pg_collation c WHERE c.oid = attcollation)), ',' \
                 ORDER BY attnum) FROM pg_attribute WHERE attrelid = to_regclass($1::text) \
                 AND attnum > 0 AND NOT attisdropped AND attname = ANY($2)";
    let types = transaction
        .query_one(types, &[&quote_table(&table.name), &names])
        .await
        .map_err(convert)?;
    let types: Option<String> = types.get(0);
    Ok(fnv1a(&types.unwrap_or_default()))
}

fn create(side: &str, made_for: &str, table: &TargetTable) -> String {
    let column = |index: usize, place: String| {
        let name = table.columns.get(index).map(|c| quote(&c.name));
        format!("{} AS {place}", name.unwrap_or_default())
    };
    let keys = table.key.iter().enumerate();
    let mut fields: Vec<String> = keys
        .map(|(n, index)| column(*index, format!("k{n}")))
        .collect();
    fields.push("0::bigint AS sources".to_owned());
    let owner = table.row_owner;
    let parked = (0..table.feeds.len()).filter(|feed| owner.is_some_and(|owner| owner != *feed));
    let parked = parked.flat_map(|feed| table.owned(feed));
    fields.extend(parked.map(|index| column(index, format!("c{index}"))));
    let key: Vec<_> = (0..table.key.len()).map(|n| format!("k{n}")).collect();
    format!(
        "DROP TABLE IF EXISTS {side}; CREATE TABLE {side} AS SELECT {} FROM {} WITH NO DATA; \
         ALTER TABLE {side} ADD PRIMARY KEY ({}), ALTER COLUMN sources SET NOT NULL; \
         COMMENT ON TABLE {side} IS '{made_for}'",
        fields.join(", "),
        quote_table(&table.name),
        key.join(", ")
    )
}

/// Removes all side tables of a task.
pub(super) async fn release(transaction: &Transaction<'_>, task: &TaskKey) -> Result<()> {
    let tables = transaction
        .query(
            "SELECT 'thalweg.' || quote_ident(relname) FROM pg_class \
             WHERE relnamespace = to_regnamespace('thalweg') AND relkind = 'r' \
             AND starts_with(relname::text, $1)",
            &[&prefix(task)],
        )
        .await
        .map_err(convert)?;
    for table in tables {
        let drop = format!("DROP TABLE {}", table.get::<_, &str>(0));
        transaction.batch_execute(&drop).await.map_err(convert)?;
    }
    Ok(())
}
