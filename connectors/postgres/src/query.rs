//! The columns of a query that is not run: what the server says of it when it prepares it.
//!
//! <https://www.postgresql.org/docs/15/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>. It tells names and types; what may
//! be NULL and what is a key it does not.

use std::time::Duration;

use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_core::{Error, Result};
use tokio_postgres::{Client, Column, Row};

use crate::error::convert;
use crate::schema::{FIRST_OWN, name_of, neutral};

/// What a query gives, as a table without a name. A `Schema` error if the server takes it for no query, or
/// takes it not at all.
pub(crate) async fn describe(client: &Client, sql: &str, limit: Duration) -> Result<TableSchema> {
    // It takes locks, and waits for those of others: at the server too no longer than anybody waits here.
    let limit = limit.as_millis();
    let begin =
        format!("BEGIN; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}");
    client.batch_execute(&begin).await.map_err(convert)?;
    let described = prepare(client, sql).await;
    client.batch_execute("ROLLBACK").await.map_err(convert)?;
    described
}

/// Errors that a statement has nothing to do with, by how they begin: connections, conflicts, resources, a lock that is not
/// to be had, operators and the system itself.
const OF_THE_SERVER: [&str; 7] = ["08", "40", "53", "55P03", "57", "58", "XX"];

async fn prepare(client: &Client, sql: &str) -> Result<TableSchema> {
    let prepared = client.prepare(sql).await.map_err(|error| {
        let of_sql = |code: &str| !OF_THE_SERVER.iter().any(|class| code.starts_with(class));
        match error.as_db_error() {
            Some(refused) if of_sql(refused.code().code()) => Error::schema(format!(
                "the server refuses the statement ({}): {}",
                refused.code().code(),
                refused.message()
            )),
            _ => convert(error),
        }
    })?;
    if !prepared.params().is_empty() {
        return Err(Error::schema("the statement has parameters ($1)"));
    }
    let told = prepared.columns();
    if told.is_empty() {
        return Err(Error::schema(
            "the statement gives no columns: it is no query",
        ));
    }
    let oids: Vec<u32> = told.iter().map(|column| column.type_().oid()).collect();
    let modifiers: Vec<i32> = told.iter().map(|column| column.type_modifier()).collect();
    let names = client
        .query(
            &format!(
                "SELECT {} FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY u (oid, typmod, n) ORDER BY n",
                name_of("u.oid", "u.typmod")
            ),
            &[&oids, &modifiers],
        )
        .await
        .map_err(convert)?;
    let column = |(column, native): (&Column, &Row)| {
        let native: String = native.try_get(0).map_err(convert)?;
        let ty = match column.type_().oid() < FIRST_OWN {
            true => neutral(&native),
            false => ColumnType::Other {
                system: "postgres",
                name: native.clone(),
            },
        };
        Ok(ColumnSchema::new(column.name(), ty, native))
    };
    let columns = told.iter().zip(&names).map(column);
    let columns = columns.collect::<Result<_>>()?;
    Ok(TableSchema::new(TableName::new("", ""), columns))
}
