//! Preflight: every finding at once, each with the statement that fixes it.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use thalweg_core::Result;
use thalweg_core::finding::Finding;
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::{ReferenceAction, TableName};

use crate::error::from_driver;
use crate::schema;

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
    let maria = conn.server_version() >= (10, 0, 0);
    if !maria {
        out.push(Finding::error(
            "mysql_load",
            "server",
            "loading from MySQL is not built yet (its snapshots do not tell their log coordinate); \
             streaming from it is unproven",
            "use a MariaDB 10.5 or newer source",
        ));
    }
    settings(conn, &mut out).await?;
    server_id(conn, config, &mut out).await?;
    grants(conn, config, tables, maria, &mut out).await?;
    for table in tables {
        one_table(conn, table, &mut out).await?;
    }
    Ok(out)
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
    for (name, want) in [("binlog_format", "ROW"), ("binlog_row_image", "FULL")] {
        let is = variable(conn, name).await?.unwrap_or_default();
        if is != want && !is.is_empty() {
            out.push(Finding::error(
                if name == "binlog_format" {
                    "binlog_format"
                } else {
                    "binlog_row_image"
                },
                name,
                format!("{name} is {is}; sessions that are open keep the old value"),
                format!("SET GLOBAL {name} = '{want}'; and set {name}={want} in the configuration"),
            ));
        }
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

async fn grants(
    conn: &mut Conn,
    config: &DataSourceConfig,
    tables: &[TableName],
    maria: bool,
    out: &mut Vec<Finding>,
) -> Result<()> {
    let rows: Vec<String> = conn.query("SHOW GRANTS").await.map_err(from_driver)?;
    let global: String = rows
        .iter()
        .filter(|g| g.contains(" ON *.* "))
        .map(|g| g.to_ascii_uppercase())
        .collect();
    let has = |names: &[&str]| {
        global.contains("ALL PRIVILEGES") || names.iter().any(|n| global.contains(n))
    };
    let user = config.user.replace('\'', "''");
    if !has(&["REPLICATION SLAVE"]) {
        out.push(Finding::error(
            "grant_replication_slave",
            "REPLICATION SLAVE",
            "the user may not read the binary log",
            format!("GRANT REPLICATION SLAVE ON *.* TO '{user}'@'%';"),
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
            format!("GRANT {right} ON *.* TO '{user}'@'%';"),
        ));
    }
    for table in tables {
        let quoted = format!(
            "`{}`.`{}`",
            table.schema.replace('`', "``"),
            table.name.replace('`', "``")
        );
        let probe = format!("SELECT 1 FROM {quoted} LIMIT 0");
        if let Err(mysql_async::Error::Server(e)) = conn.query_drop(probe).await
            && matches!(e.code, 1044 | 1142 | 1143)
        {
            out.push(Finding::error(
                "grant_select",
                table.to_string(),
                "the user may not read the table",
                format!("GRANT SELECT ON {quoted} TO '{user}'@'%';"),
            ));
        }
    }
    Ok(())
}

async fn one_table(conn: &mut Conn, table: &TableName, out: &mut Vec<Finding>) -> Result<()> {
    let subject = table.to_string();
    let Some(found) = schema::describe(conn, table).await? else {
        out.push(Finding::error(
            "table_missing",
            subject,
            "there is no base table of exactly this name (case counts), or the user cannot see it",
            "correct the name in the mapping, or grant SELECT on it",
        ));
        return Ok(());
    };
    let engine: Option<Option<String>> = conn
        .exec_first(
            "SELECT engine FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
            (table.schema.as_str(), table.name.as_str()),
        )
        .await
        .map_err(from_driver)?;
    let engine = engine.flatten().unwrap_or_default();
    if engine != "InnoDB" {
        out.push(Finding::error(
            "engine",
            subject.clone(),
            format!(
                "its engine is {engine}: it has no consistent snapshot, so a load cannot be exact"
            ),
            format!("ALTER TABLE {subject} ENGINE=InnoDB;"),
        ));
    }
    if found.primary_key.is_empty() && found.unique_keys.is_empty() {
        out.push(Finding::warning(
            "no_key",
            subject.clone(),
            "the table has no primary or unique key",
            format!("ALTER TABLE {subject} ADD PRIMARY KEY (…);"),
        ));
    }
    for key in &found.foreign_keys {
        let cascades = [key.on_delete, key.on_update].iter().any(|a| {
            matches!(
                a,
                ReferenceAction::Cascade | ReferenceAction::SetNull | ReferenceAction::SetDefault
            )
        });
        if cascades {
            out.push(Finding::error(
                "cascading_foreign_key",
                format!("{subject}: {}", key.name),
                format!(
                    "changes that InnoDB cascades from {} are not in the binary log",
                    key.parent
                ),
                format!(
                    "ALTER TABLE {subject} DROP FOREIGN KEY `{}`; and add it again with ON DELETE \
                     RESTRICT ON UPDATE RESTRICT",
                    key.name
                ),
            ));
        }
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
    Ok(())
}
