//! Preflight: every finding at once, each with the statement that fixes it.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use thalweg_core::finding::Finding;
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Result, Side};

use crate::error::from_driver;
use crate::schema::{NAMES, of_tables};
use crate::snapshot::GTID_MODE_ON;
use crate::{schema, server};

async fn variable(conn: &mut Conn, name: &str) -> Result<Option<String>> {
    let row: Option<(String, String)> = conn
        .query_first(format!("SHOW GLOBAL VARIABLES LIKE '{name}'"))
        .await
        .map_err(from_driver)?;
    Ok(row.map(|(_, value)| value))
}

pub(crate) async fn check(
    conn: &mut Conn,
    config: &DataSourceConfig,
    tables: &[TableName],
) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let maria = server::is_mariadb(conn);
    if !maria {
        mysql(conn, &mut out).await?;
    }
    settings(conn, &mut out).await?;
    let image = variable(conn, "binlog_row_image").await?;
    let image = Image::of(&image.unwrap_or_default(), maria, &mut out);
    server_id(conn, config, &mut out).await?;
    grants(conn, tables, maria, &mut out).await?;
    all_tables(conn, tables, image, &mut out).await?;
    Ok(out)
}

/// What a row event has of a row.
#[derive(Clone, Copy, PartialEq)]
enum Image {
    /// All of it.
    Full,
    /// Its key, and what a statement names.
    Minimal,
    /// All but long values that did not change.
    NoBlob,
}

impl Image {
    /// Reads `binlog_row_image` and says what it costs.
    fn of(setting: &str, maria: bool, out: &mut Vec<Finding>) -> Image {
        let image = match setting {
            "MINIMAL" => Image::Minimal,
            "NOBLOB" => Image::NoBlob,
            _ => return Image::Full,
        };
        // Seen on 10.11: the columns a REPLACE leaves out are reset in the table, and not in the log.
        let replace = if maria {
            "; a REPLACE over an existing row does not log which columns it sets back to their \
             defaults, so that replicas and this task keep the old values"
        } else {
            ""
        };
        out.push(Finding::warning(
            "binlog_row_image",
            "binlog_row_image",
            format!(
                "binlog_row_image is {setting}: an update of a row that is missing at the target \
                 cannot be repaired from the log, and tables without a key need FULL{replace}"
            ),
            "SET GLOBAL binlog_row_image = 'FULL'; -- and in the configuration; sessions that are \
             open keep the old value",
        ));
        image
    }
}

/// What is to be said of MySQL only.
async fn mysql(conn: &mut Conn, out: &mut Vec<Finding>) -> Result<()> {
    out.push(Finding::info(
        "mysql_unproven",
        "server",
        "reading from MySQL is built from its documentation and tested with recorded logs of 5.7 \
         to 9.x, but unproven against a live MySQL server",
        "",
    ));
    if variable(conn, "gtid_mode").await?.as_deref() != Some("ON") {
        out.push(Finding::error(
            "gtid_mode",
            "gtid_mode",
            "without GTIDs a MySQL server does not tell what a snapshot has seen, so no table can be \
             loaded exactly without a lock",
            GTID_MODE_ON,
        ));
    }
    // A replica that does not log what it applies executes more than its log has.
    let logs = match variable(conn, "log_replica_updates").await? {
        Some(value) => Some(value),
        None => variable(conn, "log_slave_updates").await?,
    };
    if logs.as_deref() == Some("OFF") {
        out.push(Finding::warning(
            "log_replica_updates",
            "log_replica_updates",
            "what the server applies as a replica is not in its log",
            "log_replica_updates=ON in the configuration; restart",
        ));
    }
    let partial = variable(conn, "binlog_row_value_options").await?;
    let image = variable(conn, "binlog_row_image")
        .await?
        .unwrap_or_default();
    if partial.is_some_and(|p| p.contains("PARTIAL_JSON")) && image != "FULL" {
        out.push(Finding::error(
            "partial_json",
            "binlog_row_value_options",
            format!(
                "with binlog_row_image={image} the log has the changed parts of JSON documents but \
                 not the documents"
            ),
            "SET GLOBAL binlog_row_value_options = ''; -- or binlog_row_image = 'FULL'",
        ));
    }
    if variable(conn, "binlog_transaction_compression")
        .await?
        .as_deref()
        == Some("ON")
    {
        out.push(Finding::warning(
            "binlog_transaction_compression",
            "binlog_transaction_compression",
            "a compressed transaction is held in memory inflated as a whole, beside the task's budget",
            "SET GLOBAL binlog_transaction_compression = 'OFF'; -- if transactions are large",
        ));
    }
    Ok(())
}

async fn settings(conn: &mut Conn, out: &mut Vec<Finding>) -> Result<()> {
    if variable(conn, "log_bin").await?.as_deref() != Some("ON") {
        out.push(Finding::error(
            "log_bin",
            "log_bin",
            "the binary log is off",
            "add to the [mariadbd] section: log_bin=binlog, binlog_format=ROW, server_id=1; restart",
        ));
    }
    let format = variable(conn, "binlog_format").await?.unwrap_or_default();
    if format != "ROW" && !format.is_empty() {
        out.push(Finding::error(
            "binlog_format",
            "binlog_format",
            format!("binlog_format is {format}; sessions that are open keep the old value"),
            "SET GLOBAL binlog_format = 'ROW'; -- and binlog_format=ROW in the configuration",
        ));
    }
    let days: f64 = match variable(conn, "binlog_expire_logs_seconds").await? {
        Some(s) => s.parse::<f64>().unwrap_or(0.0) / 86_400.0,
        None => variable(conn, "expire_logs_days")
            .await?
            .and_then(|s| s.parse().ok())
            .unwrap_or(0.0),
    };
    if days > 0.0 && days < 2.0 {
        out.push(Finding::warning(
            "log_retention",
            "binlog_expire_logs_seconds",
            format!("the log is kept for {days:.1} days; a task stopped longer must load again"),
            "SET GLOBAL binlog_expire_logs_seconds = 604800;",
        ));
    }
    Ok(())
}

async fn server_id(
    conn: &mut Conn,
    config: &DataSourceConfig,
    out: &mut Vec<Finding>,
) -> Result<()> {
    let Some(ours) = config.server_id else {
        return Ok(());
    };
    let own = variable(conn, "server_id").await?;
    // Without the right to look, the clash shows when the stream opens.
    let replicas: Vec<Row> = conn.query("SHOW SLAVE HOSTS").await.unwrap_or_default();
    let taken = own.as_deref() == Some(ours.to_string().as_str())
        || replicas.iter().any(|r| {
            // One of our own that the server has not noticed to be gone is replaced when the stream
            // opens.
            let host = r.get::<Option<String>, _>(1).flatten();
            r.get::<u32, _>(0) == Some(ours) && host.as_deref() != Some(&config.application_name)
        });
    if taken {
        out.push(Finding::error(
            "server_id",
            "server_id",
            format!("server_id {ours} is used by the server or by one of its replicas"),
            "choose another server_id for the data source, or leave it out",
        ));
    }
    Ok(())
}

/// The account we are logged in as, as GRANT names it.
async fn account(conn: &mut Conn) -> Result<String> {
    let found: Option<String> = conn
        .query_first("SELECT CURRENT_USER()")
        .await
        .map_err(from_driver)?;
    let found = found.unwrap_or_default();
    let (user, host) = found.rsplit_once('@').unwrap_or((&found, "%"));
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Ok(format!("{}@{}", quote(user), quote(host)))
}

/// The rights `SHOW GRANTS` lists for the whole server.
fn global_rights(grants: &[String]) -> Vec<String> {
    grants
        .iter()
        .filter_map(|grant| {
            let (rights, _) = grant.strip_prefix("GRANT ")?.split_once(" ON *.* ")?;
            Some(rights.split(", ").map(str::to_ascii_uppercase))
        })
        .flatten()
        .collect()
}

async fn grants(
    conn: &mut Conn,
    tables: &[TableName],
    maria: bool,
    out: &mut Vec<Finding>,
) -> Result<()> {
    let rows: Vec<String> = conn.query("SHOW GRANTS").await.map_err(from_driver)?;
    let rights = global_rights(&rows);
    let has = |names: &[&str]| {
        rights
            .iter()
            .any(|r| r == "ALL PRIVILEGES" || names.contains(&r.as_str()))
    };
    let user = account(conn).await?;
    if !has(&["REPLICATION SLAVE"]) {
        out.push(Finding::error(
            "grant_replication_slave",
            "REPLICATION SLAVE",
            "the user may not read the binary log",
            format!("GRANT REPLICATION SLAVE ON *.* TO {user};"),
        ));
    }
    if !has(&["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"]) {
        let right = if maria {
            "BINLOG MONITOR"
        } else {
            "REPLICATION CLIENT"
        };
        out.push(Finding::error(
            "grant_binlog_monitor",
            right,
            "the user may not ask for the log's position",
            format!("GRANT {right} ON *.* TO {user};"),
        ));
    }
    for table in unreadable(conn, tables).await? {
        out.push(Finding::error(
            "grant_select",
            table.to_string(),
            "the user may not read the table",
            format!("GRANT SELECT ON {} TO {user};", quoted_table(table)),
        ));
    }
    Ok(())
}

/// Tables of which is asked at once whether they can be read.
const PROBED: usize = 64;

/// The tables that the user may not read: many are asked for at once, and where the server refuses it,
/// each half by itself, down to single ones.
async fn unreadable<'t>(conn: &mut Conn, tables: &'t [TableName]) -> Result<Vec<&'t TableName>> {
    let mut unreadable = Vec::new();
    let mut left: Vec<&[TableName]> = tables.chunks(PROBED).rev().collect();
    while let Some(part) = left.pop() {
        let probe = |table| format!("(SELECT 1 FROM {} LIMIT 0)", quoted_table(table));
        let probes: Vec<String> = part.iter().map(probe).collect();
        let code = match conn.query_drop(probes.join(" UNION ALL ")).await {
            Ok(()) => continue,
            Err(mysql_async::Error::Server(error)) => error.code,
            Err(error) => return Err(from_driver(error)),
        };
        match part {
            [table] if matches!(code, 1044 | 1142 | 1143) => unreadable.push(table),
            [_] => {}
            _ => {
                let (first, second) = part.split_at(part.len() / 2);
                left.extend([second, first]);
            }
        }
    }
    Ok(unreadable)
}

/// A name as statements write it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn quoted_table(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.name))
}

/// What is to be said of each table.
async fn all_tables(
    conn: &mut Conn,
    tables: &[TableName],
    image: Image,
    out: &mut Vec<Finding>,
) -> Result<()> {
    let described = schema::describe(conn, tables).await;
    let described = described.map_err(|error| error.at(Side::Source))?;
    let engines = "SELECT engine, {names} FROM information_schema.tables WHERE {of}";
    let engines = of_tables::<(Option<String>,)>(conn, tables, NAMES, engines).await;
    let engines = engines.map_err(from_driver)?;
    let hashed = "SELECT DISTINCT index_name, {names} FROM information_schema.statistics \
                  WHERE {of} AND index_type = 'HASH' ORDER BY index_name";
    let hashed = of_tables::<(String,)>(conn, tables, NAMES, hashed).await;
    let hashed = hashed.map_err(from_driver)?;
    let computed = "SELECT column_name, {names} FROM information_schema.columns \
                    WHERE {of} AND extra LIKE '%VIRTUAL%' ORDER BY ordinal_position";
    let computed = match image {
        Image::Minimal => of_tables::<(String,)>(conn, tables, NAMES, computed)
            .await
            .map_err(from_driver)?,
        _ => BTreeMap::new(),
    };
    let described: BTreeMap<&TableName, &TableSchema> =
        described.iter().map(|table| (&table.name, table)).collect();
    for table in tables {
        let first = |(engine,): &(Option<String>,)| engine.clone();
        let engine = engines
            .get(table)
            .and_then(|rows| rows.iter().find_map(first));
        let engine = engine.unwrap_or_default();
        let of = |found: &BTreeMap<TableName, Vec<(String,)>>| -> Vec<String> {
            let found = found.get(table).into_iter().flatten();
            found.map(|(name,)| name.clone()).collect()
        };
        let hidden = (of(&hashed), of(&computed));
        one_table(table, described.get(table).copied(), &engine, hidden, out);
    }
    Ok(())
}

/// `keys` are the unique keys over long text, each of which has a hidden column for its hash that is in the
/// log; `computed` the virtual columns, which are not in a minimal image although their values may have
/// changed.
fn one_table(
    table: &TableName,
    found: Option<&TableSchema>,
    engine: &str,
    (keys, computed): (Vec<String>, Vec<String>),
    out: &mut Vec<Finding>,
) {
    let subject = table.to_string();
    let Some(found) = found else {
        let unreadable = |f: &Finding| f.code == "grant_select" && f.subject == subject;
        // Who may not read a table cannot see it either.
        if !out.iter().any(unreadable) {
            out.push(Finding::error(
                "table_missing",
                subject,
                "there is no base table of exactly this name (case counts)",
                "correct the name in the mapping",
            ));
        }
        return;
    };
    let name = quoted_table(table);
    if engine != "InnoDB" {
        out.push(Finding::error(
            "engine",
            subject.clone(),
            format!(
                "its engine is {engine}: it has no consistent snapshot, so a load cannot be exact"
            ),
            format!("ALTER TABLE {name} ENGINE=InnoDB;"),
        ));
    }
    if found.primary_key.is_empty() && found.unique_keys.is_empty() {
        out.push(Finding::warning(
            "no_key",
            subject.clone(),
            "the table has no primary or unique key",
            format!("ALTER TABLE {name} ADD PRIMARY KEY (…);"),
        ));
    }
    for key in keys {
        out.push(Finding::error(
            "hidden_column",
            format!("{table}: {key}"),
            "a unique key over long text or bytes keeps a hidden column, which is not built yet",
            format!("ALTER TABLE {name} DROP INDEX {};", quoted(&key)),
        ));
    }
    for column in computed {
        out.push(Finding::error(
            "virtual_column",
            format!("{table}.{column}"),
            "a virtual column is not in the log while binlog_row_image is MINIMAL",
            "SET GLOBAL binlog_row_image = 'NOBLOB'; -- or FULL, and in the configuration",
        ));
    }
    for column in &found.columns {
        if let Some(why) = schema::unsupported(column) {
            out.push(Finding::error(
                "column_type",
                format!("{subject}.{}", column.name),
                why,
                "leave the table out of the task, or change the column's type",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_right_is_not_found_in_the_name_of_another() {
        let grants = [
            "GRANT REPLICATION SLAVE ADMIN, BINLOG MONITOR ON *.* TO `u`@`%`".to_owned(),
            "GRANT SELECT ON `ALL PRIVILEGES`.* TO `u`@`%`".to_owned(),
        ];
        let rights = super::global_rights(&grants);
        assert_eq!(rights, ["REPLICATION SLAVE ADMIN", "BINLOG MONITOR"]);
    }
}
