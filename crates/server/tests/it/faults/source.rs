//! What can happen to the source, its log and its tables.

use anyhow::Result;
use thalweg_core::Side::Source;
use thalweg_testkit::servers::System::{MariaDb, Postgres};

use super::site::{Site, pause};
use super::table::{Again, Ends, Fault, MM, MP, PLAIN, PM, Phase};

/// All of it.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "the slot is dropped",
        gate: &[(PM, Phase::Stream)],
        source: Some(Postgres),
        ends: Ends::Stops("slot", Again::Reset),
        strike: |site| site.insist(|| drop_slot(site)),
        ..PLAIN
    },
    Fault {
        name: "the slot is dropped and another of its name is made",
        source: Some(Postgres),
        ends: Ends::Stops("slot", Again::Reset),
        strike: |site| {
            let name = site.sql(
                Source,
                "",
                "SELECT slot_name FROM pg_replication_slots WHERE NOT temporary LIMIT 1",
            )?;
            site.lab.thalweg.kill();
            site.insist(|| drop_slot(site))?;
            let rows = "INSERT INTO item (id, code, body, n) VALUES (999999999, 'gap', 'gap', 0)";
            site.sql(Source, rows, rows)?;
            let make = format!(
                "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
                name.trim()
            );
            site.sql(Source, "", &make)?;
            site.lab.thalweg.restart()
        },
        mend: |site| {
            let rows = "DELETE FROM item WHERE id = 999999999";
            site.sql(Source, rows, rows).map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "the publication is dropped",
        source: Some(Postgres),
        ends: Ends::Stops("publication", Again::Reset),
        strike: |site| {
            let which = "SELECT string_agg(format('DROP PUBLICATION %I', pubname), ';') \
                         FROM pg_publication";
            let drop_them = site.sql(Source, "", which)?;
            site.sql(Source, "", &drop_them)?;
            site.end_sessions(Source)
        },
        not: Some((
            Phase::Load,
            "a load does not use it; the stream after it meets it",
        )),
        ..PLAIN
    },
    Fault {
        name: "the log is purged while the task is stopped",
        gate: &[(MP, Phase::Stream)],
        source: Some(MariaDb),
        ends: Ends::Stops("log", Again::Reset),
        strike: |site| {
            site.lab.client.stop_task(site.task)?;
            site.end_sessions(Source)?;
            let first = |text: String| text.split_whitespace().next().map(str::to_owned);
            let last = first(site.sql(Source, "SHOW MASTER STATUS", "")?);
            site.insist(|| {
                // The server keeps files for a while that somebody read or that are not on disk.
                let purge = "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE now() + INTERVAL 1 DAY; \
                             SHOW BINARY LOGS";
                let left = site.sql(Source, purge, "")?;
                anyhow::ensure!(first(left.clone()) > last, "it is kept: {left}");
                Ok(())
            })?;
            site.lab.client.run_task(site.task)
        },
        ..PLAIN
    },
    Fault {
        name: "the log is deleted and begins anew (RESET MASTER)",
        source: Some(MariaDb),
        ends: Ends::Stops("log", Again::Reset),
        strike: |site| {
            site.lab.client.stop_task(site.task)?;
            site.end_sessions(Source)?;
            site.insist(|| site.sql(Source, "RESET MASTER", "").map(drop))?;
            site.lab.client.run_task(site.task)
        },
        ..PLAIN
    },
    Fault {
        name: "the source goes on as its promoted replica does: on a new timeline",
        source: Some(Postgres),
        strike: |site| {
            let server = &site.place(Source).server;
            server.stop()?;
            std::fs::write(server.data_dir().join("standby.signal"), "")?;
            server.restart()?;
            // So that it is met as a standby, which cannot be read.
            pause(2_000);
            site.sql(Source, "", "SELECT pg_promote()").map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "the source goes on as its promoted replica does: under another server's id",
        gate: &[(MP, Phase::Stream)],
        source: Some(MariaDb),
        strike: |site| {
            let other = "SET GLOBAL server_id = 4242; FLUSH BINARY LOGS";
            site.sql(Source, other, "")?;
            site.end_sessions(Source)?;
            pause(500);
            // It comes back as the first one.
            site.place(Source).server.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "the log goes on in another file",
        strike: |site| {
            for _ in 0..5 {
                site.sql(Source, "FLUSH BINARY LOGS", "SELECT pg_switch_wal()")?;
                pause(100);
            }
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "a transaction stays open for 3 s",
        strike: |site| {
            let (row, wait) = (
                "INSERT INTO item (id, code, body, n) VALUES (666666666, 'long', 'long', 0)",
                3,
            );
            let mariadb = format!("BEGIN; {row}; SELECT SLEEP({wait}); COMMIT");
            let postgres = format!("BEGIN; {row}; SELECT pg_sleep({wait}); COMMIT");
            site.sql(Source, &mariadb, &postgres)?;
            let gone = "DELETE FROM item WHERE id = 666666666";
            site.sql(Source, gone, gone).map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "a table of the source is truncated",
        strike: |site| {
            let sql = "CREATE TABLE kept AS SELECT * FROM item; TRUNCATE TABLE item; \
                       INSERT INTO item (id, code, body, n) SELECT id, code, body, n FROM kept; \
                       DROP TABLE kept";
            site.insist(|| {
                let clean = "DROP TABLE IF EXISTS kept";
                site.sql(Source, clean, clean)?;
                site.sql(Source, sql, sql).map(drop)
            })
        },
        ..PLAIN
    },
    Fault {
        name: "a column is added to a table of the source and dropped again",
        strike: |site| {
            let add = "ALTER TABLE item ADD COLUMN extra INT";
            let fill = "UPDATE item SET extra = n WHERE id < 50";
            let drop_it = "ALTER TABLE item DROP COLUMN extra";
            for sql in [add, fill, drop_it] {
                site.insist(|| site.sql(Source, sql, sql).map(drop))?;
                pause(200);
            }
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "a mapped column of the source is renamed",
        ends: Ends::Pauses("item"),
        strike: |site| {
            let rename = "ALTER TABLE item RENAME COLUMN n TO m";
            site.insist(|| site.sql(Source, rename, rename).map(drop))?;
            let row =
                "INSERT INTO item (id, code, body, m) VALUES (555555555, 'renamed', 'renamed', 0)";
            site.sql(Source, row, row).map(drop)
        },
        mend: |site| {
            let rename = "ALTER TABLE item RENAME COLUMN m TO n; \
                          DELETE FROM item WHERE id = 555555555";
            site.sql(Source, rename, rename).map(drop)
        },
        not: Some((
            Phase::Load,
            "rows that were read in one form are taken; the stream after it meets it",
        )),
        ..PLAIN
    },
    Fault {
        name: "a statement is logged and not its rows",
        source: Some(MariaDb),
        ends: Ends::Stops("binlog_format", Again::Reset),
        strike: |site| {
            let sql =
                "SET SESSION binlog_format = 'STATEMENT'; UPDATE item SET n = n + 1 WHERE id = 9";
            site.sql(Source, sql, "").map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "changes are logged with changed columns only",
        source: Some(MariaDb),
        strike: |site| {
            let sql = "SET SESSION binlog_row_image = 'MINIMAL'; \
                       UPDATE item SET n = n + 1 WHERE id BETWEEN 100 AND 200; \
                       DELETE FROM item WHERE id = 99";
            site.sql(Source, sql, "").map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "sessions at the source begin with strange settings",
        strike: |site| {
            let mariadb = "SET GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'; \
                           SET GLOBAL time_zone = '+05:45'; SET GLOBAL autocommit = 0";
            let postgres = "ALTER USER {user} SET search_path = nowhere; \
                            ALTER USER {user} SET datestyle = 'SQL, DMY'; \
                            ALTER USER {user} SET timezone = 'Asia/Kathmandu'; \
                            ALTER USER {user} SET extra_float_digits = -10; \
                            ALTER USER {user} SET default_transaction_read_only = on; \
                            ALTER USER {user} SET standard_conforming_strings = off";
            site.sql(Source, mariadb, postgres)?;
            site.end_sessions(Source)?;
            pause(1_500);
            let mariadb = "SET GLOBAL sql_mode = DEFAULT; SET GLOBAL time_zone = 'SYSTEM'; \
                           SET GLOBAL autocommit = 1";
            site.sql(Source, mariadb, "ALTER USER {user} RESET ALL")?;
            site.end_sessions(Source)
        },
        // What PostgreSQL lets no user set for itself there.
        ..PLAIN
    },
    Fault {
        name: "a table of the source is rebuilt",
        strike: |site| {
            let (mariadb, postgres) = ("ALTER TABLE item FORCE", "VACUUM FULL item");
            site.insist(|| site.sql(Source, mariadb, postgres).map(drop))
        },
        ..PLAIN
    },
    Fault {
        name: "an index of the source is made and dropped",
        strike: |site| {
            let make = "CREATE INDEX theirs ON item (n)";
            site.insist(|| site.sql(Source, make, make).map(drop))?;
            let (mariadb, postgres) = ("DROP INDEX theirs ON item", "DROP INDEX theirs");
            site.insist(|| site.sql(Source, mariadb, postgres).map(drop))
        },
        ..PLAIN
    },
    Fault {
        name: "a default of the source is changed",
        strike: |site| {
            let change = "ALTER TABLE item ALTER COLUMN n SET DEFAULT 7";
            site.insist(|| site.sql(Source, change, change).map(drop))?;
            let row = "INSERT INTO item (id, code) VALUES (444444444, 'default'); \
                       DELETE FROM item WHERE id = 444444443";
            site.sql(Source, row, row)?;
            let back = "ALTER TABLE item ALTER COLUMN n DROP DEFAULT; \
                        DELETE FROM item WHERE id = 444444444";
            site.insist(|| site.sql(Source, back, back).map(drop))
        },
        ..PLAIN
    },
    Fault {
        name: "other tables of the source are made, filled and dropped",
        strike: |site| {
            let sql = "CREATE TABLE other (id INT PRIMARY KEY, v VARCHAR(100)); \
                       INSERT INTO other SELECT id, code FROM item WHERE id < 3000; \
                       DELETE FROM other; DROP TABLE other";
            site.sql(Source, sql, sql).map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "every row is changed in one transaction",
        gate: &[(PM, Phase::Load), (MM, Phase::Load)],
        strike: |site| {
            // Where it meets the others in a deadlock it is tried again.
            for sql in [
                "UPDATE item SET n = n + 1, code = concat(code, '+')",
                "UPDATE item SET code = replace(code, '+', '')",
            ] {
                site.insist(|| site.sql(Source, sql, sql).map(drop))?;
            }
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "keys are moved and moved back",
        strike: |site| {
            for by in ["+ 100000", "- 100000"] {
                let sql = format!(
                    "UPDATE item SET id = id {by} WHERE id % 100000 BETWEEN 1000 AND 1999 AND id < 300000"
                );
                site.insist(|| site.sql(Source, &sql, &sql).map(drop))?;
            }
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "a prepared transaction waits while thalweg is killed",
        source: Some(MariaDb),
        strike: |site| {
            let sql = "XA START 'theirs'; INSERT INTO item (id, code, body, n) VALUES (333333333, 'xa', 'xa', 0); \
                       XA END 'theirs'; XA PREPARE 'theirs'";
            site.sql(Source, sql, "")?;
            site.lab.thalweg.kill();
            site.lab.thalweg.restart()?;
            pause(300);
            let sql = "XA COMMIT 'theirs'; DELETE FROM item WHERE id = 333333333";
            site.sql(Source, sql, "").map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "all columns of old rows are logged (REPLICA IDENTITY FULL)",
        source: Some(Postgres),
        strike: |site| {
            let full = "ALTER TABLE item REPLICA IDENTITY FULL; \
                        UPDATE item SET n = n + 1 WHERE id BETWEEN 100 AND 200; \
                        ALTER TABLE item REPLICA IDENTITY DEFAULT";
            site.insist(|| site.sql(Source, "", full).map(drop))
        },
        ..PLAIN
    },
    Fault {
        name: "a table of the source is dropped",
        ends: Ends::Pauses("item"),
        strike: |site| {
            let away = "CREATE TABLE kept AS SELECT * FROM item; DROP TABLE item";
            site.insist(|| {
                let clean = "DROP TABLE IF EXISTS kept";
                site.sql(Source, clean, clean)?;
                site.sql(Source, away, away).map(drop)
            })?;
            site.end_sessions(Source)
        },
        mend: |site| {
            let back = "CREATE TABLE item (id BIGINT PRIMARY KEY, code VARCHAR(40) NOT NULL, \
                        body VARCHAR(400), n INT); \
                        INSERT INTO item (id, code, body, n) SELECT id, code, body, n FROM kept; \
                        DROP TABLE kept";
            site.sql(Source, back, back)?;
            let grant = "GRANT SELECT ON item TO {user}";
            site.sql(Source, "SELECT 1", grant).map(drop)
        },
        not: Some((
            Phase::Load,
            "the load holds it back, or reads it to its end",
        )),
        ..PLAIN
    },
];

/// Ends who reads the slot, and drops it.
fn drop_slot(site: &Site) -> Result<()> {
    let end = "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots \
               WHERE active_pid IS NOT NULL";
    site.sql(Source, "", end)?;
    let drop_it = "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots \
                   WHERE NOT temporary";
    site.sql(Source, "", drop_it).map(drop)
}
