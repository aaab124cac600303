//! The columns of a query that is not run: what the server says of it when it prepares it.
//!
//! <https://www.postgresql.org/docs/15/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>. It tells names and types; what may
//! be NULL and what is a key it does not.

use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_core::{Error, Result};
use tokio_postgres::Client;

use crate::error::convert;
use crate::schema::{FIRST_OWN, name_of, neutral};

/// What a query gives, as a table without a name. A `Schema` error if the server takes it for no query, or
/// takes it not at all.
pub(crate) async fn describe(client: &Client, sql: &str) -> Result<TableSchema> {
    let prepared = client.prepare(sql).await.map_err(|error| {
        let Some(refused) = error.as_db_error() else {
            return convert(error);
        };
        Error::schema(format!(
            "the server refuses the statement ({}): {}",
            refused.code().code(),
            refused.message()
        ))
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
    let columns = told.iter().zip(&names).map(|(column, native)| {
        let native: String = native.get(0);
        let ty = match column.type_().oid() < FIRST_OWN {
            true => neutral(&native),
            false => ColumnType::Other {
                system: "postgres",
                name: native.clone(),
            },
        };
        ColumnSchema::new(column.name(), ty, native)
    });
    Ok(TableSchema::new(TableName::new("", ""), columns.collect()))
}
