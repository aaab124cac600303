//! What is to be said of one table.

use thalweg_core::Result;
use thalweg_core::finding::Finding;
use thalweg_core::schema::{TableName, TableSchema};

use super::Server;
use crate::error::asking;
use crate::schema::{self, Keys, quote, quote_table};

impl Server<'_> {
    pub(super) async fn table(&self, table: &TableName, out: &mut Vec<Finding>) -> Result<()> {
        let found = self
            .client
            .query_opt(
                "SELECT c.oid, c.relkind::text, c.relpersistence::text, \
                 has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), \
                 row_security_active(c.oid), c.relispartition \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1::text AND c.relname = $2::text \
                 AND c.relkind IN ('r', 'p', 'f', 'v', 'm')",
                &[&table.schema, &table.name],
            )
            .await
            .map_err(asking)?;
        let (subject, name) = (table.to_string(), quote_table(table));
        let Some(found) = found else {
            out.push(Finding::error(
                "table_missing",
                subject,
                "there is no table of exactly this name (case counts)",
                "correct the name in the mapping",
            ));
            return Ok(());
        };
        let (oid, kind): (u32, &str) = (found.get(0), found.get(1));
        let what = match kind {
            "f" => Some("a foreign table, whose changes are in another server's log"),
            "v" => Some("a view, which has no rows of its own in the log"),
            "m" => Some("a materialized view, which is not in the log"),
            _ => None,
        };
        if let Some(what) = what {
            out.push(Finding::error(
                "table_kind",
                subject,
                format!("it is {what}"),
                "map the table behind it",
            ));
            return Ok(());
        }
        if kind == "p" && self.version < 130_000 {
            out.push(Finding::error(
                "partitioned",
                subject.clone(),
                "before PostgreSQL 13 a partitioned table cannot be published",
                "map each of its partitions",
            ));
        } else if kind == "p" {
            out.push(Finding::warning(
                "partitions",
                subject.clone(),
                "rows that come or go with a partition (ATTACH, DETACH, DROP, TRUNCATE of one) are not \
                 in the log, so the target is not told",
                "write them as rows: INSERT after ATTACH of an empty partition, DELETE before DETACH or \
                 DROP; or reset the task afterwards",
            ));
        }
        match found.get(2) {
            "u" => out.push(Finding::error(
                "unlogged",
                subject.clone(),
                "the table is unlogged: its changes are not in the log",
                format!("ALTER TABLE {name} SET LOGGED;"),
            )),
            "t" => out.push(Finding::error(
                "temporary",
                subject.clone(),
                "the table is temporary",
                "map a permanent table",
            )),
            _ => {}
        }
        if !found.get::<_, bool>(3) {
            out.push(Finding::error(
                "grant_select",
                subject.clone(),
                "the user may not read the table",
                format!(
                    "GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT ON {name} TO {user};",
                    quote(&table.schema),
                    user = self.user
                ),
            ));
        }
        if found.get(4) {
            out.push(Finding::error(
                "row_security",
                subject.clone(),
                "row security hides rows of the table from the user",
                format!(
                    "ALTER ROLE {} BYPASSRLS; -- or ALTER TABLE {name} DISABLE ROW LEVEL SECURITY;",
                    self.user
                ),
            ));
        }
        let Some(schema) = schema::describe(self.client, table, Keys::All).await? else {
            return Ok(());
        };
        self.identity(oid, &schema, out).await?;
        if self.version < 180_000 {
            for column in schema.columns.iter().filter(|c| c.generated) {
                out.push(Finding::info(
                    "generated_column",
                    format!("{subject}.{}", column.name),
                    "the server computes the column and does not log it, so it is left out",
                    "let the target compute it too, or leave it out",
                ));
            }
        }
        Ok(())
    }

    /// What the log can say of old rows.
    async fn identity(&self, oid: u32, schema: &TableSchema, out: &mut Vec<Finding>) -> Result<()> {
        let (subject, name) = (schema.name.to_string(), quote_table(&schema.name));
        match &schema.old_image {
            Some(image) if image.is_empty() => out.push(Finding::warning(
                "replica_identity",
                subject.clone(),
                "the log cannot say which row an update or delete is of: only inserts can be \
                 followed",
                format!(
                    "ALTER TABLE {name} ADD PRIMARY KEY (…); -- or, logging whole rows: ALTER TABLE \
                     {name} REPLICA IDENTITY FULL;"
                ),
            )),
            None if schema.primary_key.is_empty() => out.push(Finding::warning(
                "no_key",
                subject.clone(),
                "the table has no primary key: rows are found by all of their values",
                format!("ALTER TABLE {name} ADD PRIMARY KEY (…);"),
            )),
            _ => {}
        }
        // What is logged is decided by the partition a row lies in.
        let others = self
            .client
            .query(
                "WITH RECURSIVE tree AS (SELECT $1::oid AS oid UNION ALL \
                   SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid \
                   JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition) \
                 SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
                 FROM tree t JOIN pg_class c ON c.oid = t.oid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace, pg_class r \
                 WHERE r.oid = $1 AND c.relreplident <> r.relreplident ORDER BY 1 LIMIT 10",
                &[&oid],
            )
            .await
            .map_err(asking)?;
        for row in others {
            let partition: &str = row.get(0);
            out.push(Finding::error(
                "replica_identity_of_partition",
                subject.clone(),
                format!("its partition {partition} has another replica identity"),
                format!(
                    "ALTER TABLE {partition} REPLICA IDENTITY FULL; ALTER TABLE {name} REPLICA \
                     IDENTITY FULL; -- or DEFAULT for both"
                ),
            ));
        }
        Ok(())
    }
}
