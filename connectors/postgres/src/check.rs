//! Preflight: every finding at once, each with the statement that fixes it.

mod provider;
mod table;

use thalweg_core::Result;
use thalweg_core::finding::Finding;
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::TableName;
use tokio_postgres::Client;

use self::provider::Provider;
use crate::error::asking;
use crate::schema::{WANTED, at, quote, quote_table, wanted};
use crate::{slot, source};

/// What all findings need to know of the server.
struct Server<'a> {
    client: &'a Client,
    provider: Provider,
    version: u32,
    /// Of slot and publication.
    name: String,
    /// Quoted, as statements write it.
    user: String,
    database: String,
}

/// Asks the server for all that is needed of it.
pub(crate) async fn check(
    client: &Client,
    config: &DataSourceConfig,
    tables: &[TableName],
) -> Result<Vec<Finding>> {
    let (version, standby) = source::version(client).await?;
    let server = Server {
        client,
        provider: Provider::of(client).await?,
        version,
        name: slot::name(&config.application_name),
        user: quote(&config.user),
        database: quote(&config.database),
    };
    let mut out = Vec::new();
    server.versions(standby, &mut out);
    server.settings(&mut out).await?;
    server.room(&mut out).await?;
    server.rights(&mut out).await?;
    server.prepared(&mut out).await?;
    server.tables(tables, &mut out).await?;
    server.publication(tables, &mut out).await?;
    server.families(tables, &mut out).await?;
    Ok(out)
}

impl Server<'_> {
    async fn setting(&self, name: &str) -> Result<Option<String>> {
        let row = self
            .client
            .query_one("SELECT current_setting($1, true)", &[&name])
            .await
            .map_err(asking)?;
        Ok(row.get(0))
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        let row = self.client.query_one(sql, &[]).await.map_err(asking)?;
        Ok(row.get(0))
    }

    fn versions(&self, standby: bool, out: &mut Vec<Finding>) {
        if self.version < 110_000 {
            out.push(Finding::error(
                "version",
                "server",
                format!("the server is PostgreSQL {}", self.version / 10_000),
                "upgrade it to PostgreSQL 11 or newer",
            ));
        }
        if standby && self.version < 160_000 {
            out.push(Finding::error(
                "standby",
                "server",
                "the server is a standby: before PostgreSQL 16 only a primary can be read",
                "give the primary's host and port to the data source",
            ));
        } else if standby {
            out.push(Finding::warning(
                "standby",
                "server",
                "the server is a standby: the task can only start when its primary logs a snapshot, \
                 and no publication can be made on it",
                format!(
                    "on the primary: CREATE PUBLICATION {} FOR TABLE …; and while the task starts \
                     SELECT pg_log_standby_snapshot();",
                    self.name
                ),
            ));
        }
    }

    async fn settings(&self, out: &mut Vec<Finding>) -> Result<()> {
        let level = self.setting("wal_level").await?.unwrap_or_default();
        if level != "logical" {
            out.push(Finding::error(
                "wal_level",
                "wal_level",
                format!("wal_level is {level}: the log does not say what changed in which row"),
                self.provider.set("wal_level", "logical"),
            ));
        }
        let keep = self.setting("max_slot_wal_keep_size").await?;
        if let Some(keep) = keep.filter(|keep| keep != "-1") {
            out.push(Finding::warning(
                "max_slot_wal_keep_size",
                "max_slot_wal_keep_size",
                format!(
                    "the server gives up a slot that is more than {keep} behind; a task stopped so \
                     long must load again"
                ),
                "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); -- or watch \
                 the backlog",
            ));
        }
        let idle = self.setting("idle_replication_slot_timeout").await?;
        if let Some(idle) = idle.filter(|idle| !matches!(idle.as_str(), "0" | "0s" | "0min")) {
            out.push(Finding::warning(
                "idle_replication_slot_timeout",
                "idle_replication_slot_timeout",
                format!("the server gives up a slot that nobody reads for {idle}"),
                "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
            ));
        }
        Ok(())
    }

    /// Whether there is a slot and a sender left.
    async fn room(&self, out: &mut Vec<Finding>) -> Result<()> {
        let ours = slot::find(self.client, &self.name).await?.is_some();
        let slots = self
            .number(
                "SELECT current_setting('max_replication_slots')::int8 - count(*) \
                 FROM pg_replication_slots",
            )
            .await?;
        if slots < 1 && !ours {
            out.push(Finding::error(
                "max_replication_slots",
                "max_replication_slots",
                "all replication slots are in use, and the task needs one",
                format!(
                    "SELECT slot_name, active FROM pg_replication_slots; -- drop what nobody needs \
                     with pg_drop_replication_slot(name), or {}",
                    self.provider.set("max_replication_slots", "20")
                ),
            ));
        }
        let senders = self
            .number(
                "SELECT current_setting('max_wal_senders')::int8 - count(*) FROM pg_stat_activity \
                 WHERE backend_type = 'walsender'",
            )
            .await?;
        // Two while the task starts, one later.
        if senders < 2 && !ours {
            out.push(Finding::error(
                "max_wal_senders",
                "max_wal_senders",
                format!(
                    "{} connections for replication are left, and the task needs two to start",
                    senders.max(0)
                ),
                self.provider.set("max_wal_senders", "20"),
            ));
        }
        Ok(())
    }

    async fn rights(&self, out: &mut Vec<Finding>) -> Result<()> {
        let row = self
            .client
            .query_one(
                "SELECT r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_roles m \
                   WHERE m.rolname = 'rds_replication' AND pg_has_role(m.oid, 'MEMBER')) \
                 FROM pg_roles r WHERE r.rolname = current_user",
                &[],
            )
            .await
            .map_err(asking)?;
        if !row.get::<_, bool>(0) {
            out.push(Finding::error(
                "grant_replication",
                "REPLICATION",
                "the user may not read the log",
                self.provider.replication(&self.user),
            ));
        }
        Ok(())
    }

    async fn prepared(&self, out: &mut Vec<Finding>) -> Result<()> {
        let rows = self
            .client
            .query(
                "SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - interval '1 minute' \
                 ORDER BY prepared LIMIT 10",
                &[],
            )
            .await
            .map_err(asking)?;
        if rows.is_empty() {
            return Ok(());
        }
        let gids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        out.push(Finding::warning(
            "prepared_transactions",
            "server",
            format!(
                "transactions are prepared and not decided, and the first start waits for them: {}",
                gids.join("; ")
            ),
            "end each with COMMIT PREPARED '…'; or ROLLBACK PREPARED '…';",
        ));
        Ok(())
    }

    /// Whether the publication can be made, or is good if the user made it.
    async fn publication(&self, tables: &[TableName], out: &mut Vec<Finding>) -> Result<()> {
        let refused = |code: &str| out.iter().any(|f| f.code == code);
        if refused("table_missing") {
            return Ok(());
        }
        let list: Vec<String> = tables.iter().map(quote_table).collect();
        let name = quote(&self.name);
        let create = format!(
            "as the tables' owner: CREATE PUBLICATION {name} FOR TABLE {}{};",
            list.join(", "),
            if self.version >= 130_000 {
                " WITH (publish_via_partition_root = true)"
            } else {
                ""
            }
        );
        match slot::publication(self.client, &self.name).await? {
            Some(slot::Publication { ours: Some(_) }) => return Ok(()),
            Some(slot::Publication { ours: None }) => {
                let missing = slot::uncovered(self.client, &self.name, tables).await?;
                for table in missing {
                    out.push(Finding::error(
                        "publication_table",
                        table.to_string(),
                        format!("the publication {} does not cover the table", self.name),
                        format!(
                            "ALTER PUBLICATION {name} ADD TABLE ONLY {};",
                            quote_table(&table)
                        ),
                    ));
                }
                return self.filtered(out).await;
            }
            None => {}
        }
        let row = self
            .client
            .query_one(
                "SELECT has_database_privilege(current_database(), 'CREATE')",
                &[],
            )
            .await
            .map_err(asking)?;
        if !row.get::<_, bool>(0) {
            out.push(Finding::error(
                "grant_create",
                self.database.clone(),
                "the user may not make the task's publication",
                format!(
                    "GRANT CREATE ON DATABASE {} TO {}; -- or {create}",
                    self.database, self.user
                ),
            ));
        }
        let (schemas, names) = wanted(tables);
        let owners = format!(
            "SELECT w.place, quote_ident(o.rolname) FROM {WANTED} \
             JOIN pg_roles o ON o.oid = c.relowner \
             WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY w.place"
        );
        let owners = self.client.query(&owners, &[&schemas, &names]).await;
        for row in owners.map_err(asking)? {
            let owner: &str = row.get(1);
            out.extend(at(tables, row.get(0)).map(|table| {
                Finding::error(
                    "table_owner",
                    table.to_string(),
                    format!("only its owner {owner} may publish the table"),
                    format!("GRANT {owner} TO {}; -- or {create}", self.user),
                )
            }));
        }
        Ok(())
    }

    /// Parts of tables, or of what happens to them, that a user's publication leaves out.
    async fn filtered(&self, out: &mut Vec<Finding>) -> Result<()> {
        let row = self
            .client
            .query_one(
                "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication \
                 WHERE pubname = $1",
                &[&self.name],
            )
            .await
            .map_err(asking)?;
        let name = quote(&self.name);
        if !row.get::<_, bool>(0) {
            out.push(Finding::warning(
                "publication_operations",
                self.name.clone(),
                "the publication does not have all operations",
                format!(
                    "ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"
                ),
            ));
        }
        if self.version < 150_000 {
            return Ok(());
        }
        let rows = self
            .client
            .query(
                "SELECT r.prrelid::regclass::text, r.prqual IS NOT NULL, r.prattrs IS NOT NULL \
                 FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
                 WHERE p.pubname = $1 AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)",
                &[&self.name],
            )
            .await
            .map_err(asking)?;
        for row in rows {
            let table: String = row.get(0);
            let what = if row.get(1) { "rows" } else { "columns" };
            out.push(Finding::error(
                "publication_filter",
                table.clone(),
                format!(
                    "the publication {} leaves out {what} of the table",
                    self.name
                ),
                format!(
                    "ALTER PUBLICATION {name} DROP TABLE {table}; ALTER PUBLICATION {name} ADD \
                     TABLE {table};"
                ),
            ));
        }
        Ok(())
    }

    /// A partition and its root in one task would come as the root only.
    async fn families(&self, tables: &[TableName], out: &mut Vec<Finding>) -> Result<()> {
        let found = slot::found(self.client, tables).await?.into_iter();
        let known: Vec<(u32, &TableName)> = found
            .zip(tables)
            .filter_map(|(oid, table)| Some((oid?, table)))
            .collect();
        let oids: Vec<u32> = known.iter().map(|(oid, _)| *oid).collect();
        let rows = self
            .client
            .query(
                "WITH RECURSIVE up AS (SELECT o AS leaf, o AS oid FROM unnest($1::oid[]) o \
                   UNION ALL SELECT u.leaf, i.inhparent FROM up u \
                   JOIN pg_inherits i ON i.inhrelid = u.oid \
                   JOIN pg_class c ON c.oid = u.oid AND c.relispartition) \
                 SELECT leaf, oid FROM up WHERE leaf <> oid AND oid = ANY($1)",
                &[&oids],
            )
            .await
            .map_err(asking)?;
        let name = |oid: u32| known.iter().find(|(o, _)| *o == oid).map(|(_, name)| *name);
        for row in rows {
            if let (Some(leaf), Some(root)) = (name(row.get(0)), name(row.get(1))) {
                out.push(Finding::error(
                    "partition_and_root",
                    leaf.to_string(),
                    format!("it is a partition of {root}, which the task has too"),
                    "map either the partitioned table or its partitions",
                ));
            }
        }
        Ok(())
    }
}
