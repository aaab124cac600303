//! What is to be said of each table.

use std::collections::BTreeMap;

use thalweg_core::Result;
use thalweg_core::finding::Finding;
use thalweg_core::schema::{TableName, TableSchema};

use super::Server;
use crate::error::asking;
use crate::schema::{self, Keys, WANTED, at, quote, quote_table, wanted};

/// What the server was asked of a table, beside its description.
struct Found {
    oid: u32,
    kind: String,
    persistence: String,
    readable: bool,
    secured: bool,
}

impl Server<'_> {
    pub(super) async fn tables(&self, tables: &[TableName], out: &mut Vec<Finding>) -> Result<()> {
        let found = self.found(tables).await?;
        let described = schema::describe(self.client, tables, Keys::All).await?;
        let described: BTreeMap<&TableName, &TableSchema> =
            described.iter().map(|table| (&table.name, table)).collect();
        let partitioned = found.values().filter(|found| found.kind == "p");
        let partitioned: Vec<u32> = partitioned.map(|found| found.oid).collect();
        let partitions = self.partitions(&partitioned).await?;
        for table in tables {
            let Some(found) = found.get(table) else {
                out.push(Finding::error(
                    "table_missing",
                    table.to_string(),
                    "there is no table of exactly this name (case counts)",
                    "correct the name in the mapping",
                ));
                continue;
            };
            let others = partitions.get(&found.oid).map_or(&[][..], Vec::as_slice);
            self.table(table, found, described.get(table).copied(), others, out);
        }
        Ok(())
    }

    async fn found<'t>(&self, tables: &'t [TableName]) -> Result<BTreeMap<&'t TableName, Found>> {
        let (schemas, names) = wanted(tables);
        let found = format!(
            "SELECT w.place, c.oid, c.relkind::text, c.relpersistence::text, \
             has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), \
             row_security_active(c.oid) FROM {WANTED} \
             WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')"
        );
        let rows = self.client.query(&found, &[&schemas, &names]).await;
        let rows = rows.map_err(asking)?;
        let found = rows.iter().filter_map(|row| {
            let found = Found {
                oid: row.get(1),
                kind: row.get(2),
                persistence: row.get(3),
                readable: row.get(4),
                secured: row.get(5),
            };
            Some((at(tables, row.get(0))?, found))
        });
        Ok(found.collect())
    }

    /// Partitions that have another replica identity than the table they are of: what is logged is
    /// decided by the partition a row lies in. At most ten of each table.
    async fn partitions(&self, tables: &[u32]) -> Result<BTreeMap<u32, Vec<String>>> {
        let rows = self
            .client
            .query(
                "SELECT r.oid, p.name FROM pg_class r, LATERAL (\
                   WITH RECURSIVE tree AS (SELECT r.oid UNION ALL \
                     SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid \
                     JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition) \
                   SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name \
                   FROM tree t JOIN pg_class c ON c.oid = t.oid \
                   JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.relreplident <> r.relreplident ORDER BY 1 LIMIT 10) p \
                 WHERE r.oid = ANY($1) ORDER BY p.name",
                &[&tables],
            )
            .await
            .map_err(asking)?;
        let mut partitions: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for row in rows {
            partitions.entry(row.get(0)).or_default().push(row.get(1));
        }
        Ok(partitions)
    }

    /// `schema` is `None` where the table is of another kind or has just gone; `others` are the
    /// [`Self::partitions`].
    fn table(
        &self,
        table: &TableName,
        found: &Found,
        schema: Option<&TableSchema>,
        others: &[String],
        out: &mut Vec<Finding>,
    ) {
        let (subject, name) = (table.to_string(), quote_table(table));
        let kind = found.kind.as_str();
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
            return;
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
                 in the log: the table is compared and repaired after it, or paused, if it has no primary key or \
                 not all operations are carried over",
                "if it is paused then, resume it, which loads it again",
            ));
        }
        match found.persistence.as_str() {
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
        if !found.readable {
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
        if found.secured {
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
        let Some(schema) = schema else {
            return;
        };
        identity(schema, others, out);
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
    }
}

/// What the log can say of old rows.
fn identity(schema: &TableSchema, others: &[String], out: &mut Vec<Finding>) {
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
    for partition in others {
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
}
