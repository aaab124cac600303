//! What can happen to the target, its tables and rows.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use thalweg_core::Side::{Source, Target};
use thalweg_testkit::servers::System::Postgres;

use super::site::{Site, pause};
use super::table::{Again, Ends, Fault, MM, MP, PLAIN, PP, Phase};

/// Where a load holds back what somebody does to the table.
const HELD: Option<(Phase, &str)> = Some((
    Phase::Load,
    "the load's transactions hold it back until the table is there",
));
/// Where there are no rows yet.
const ROWS: Option<(Phase, &str)> = Some((
    Phase::Load,
    "rows of a table that is loaded are not there yet",
));

/// Nobody knows any more whose rows there are: the task may replace them.
fn replace(site: &Site) -> Result<()> {
    let options = serde_json::json!({"existing_rows": "replace"});
    site.lab.client.set_options(site.task, &options).map(drop)
}

/// Runs a program of the system to its end.
fn run(program: &str, args: &[&OsStr]) -> Result<()> {
    let status = Command::new(program).args(args).status()?;
    ensure!(status.success(), "{program} ends with {status}");
    Ok(())
}

/// A file system of few megabytes for the target, mounted beside its data. Needs the right to mount.
fn small_disk(site: &Site) -> Result<PathBuf> {
    let data = site.place(Target).server.data_dir();
    let disk = data.with_extension("small");
    std::fs::create_dir_all(&disk)?;
    let mount = ["-t", "tmpfs", "-o", "size=12m", "tmpfs"].map(OsStr::new);
    let args = [&mount[..], &[disk.as_os_str()]].concat();
    run("mount", &args).context("the small file system")?;
    let owner = std::fs::metadata(&data)?;
    let (user, group) = (Some(owner.uid()), Some(owner.gid()));
    std::os::unix::fs::chown(&disk, user, group)?;
    Ok(disk)
}

/// Writes to a file system until nothing more fits.
fn fill(disk: &Path) -> Result<()> {
    let mut filler = File::create(disk.join("filler"))?;
    for bytes in [1 << 16, 1 << 10, 1] {
        while filler.write_all(&vec![0; bytes]).is_ok() {}
    }
    Ok(())
}

/// All of it.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "the target becomes read-only",
        gate: &[(PP, Phase::Stream)],
        ends: Ends::Stops("read", Again::Run),
        strike: |site| {
            site.sql(
                Target,
                "SET GLOBAL read_only = ON",
                "ALTER SYSTEM SET default_transaction_read_only = on; ",
            )?;
            site.sql(Target, "SELECT 1", "SELECT pg_reload_conf()")?;
            site.end_sessions(Target)
        },
        mend: |site| {
            let postgres = "SET default_transaction_read_only = off; \
                            ALTER SYSTEM RESET default_transaction_read_only";
            site.sql(Target, "SET GLOBAL read_only = OFF", postgres)?;
            site.sql(Target, "SELECT 1", "SELECT pg_reload_conf()")?;
            pause(300);
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "another session locks a table of the target for 3 s",
        strike: |site| {
            let mariadb = "LOCK TABLES item WRITE; SELECT SLEEP(3); UNLOCK TABLES";
            let postgres = "BEGIN; LOCK TABLE item; SELECT pg_sleep(3); COMMIT";
            site.sql(Target, mariadb, postgres).map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "statements at the target have one millisecond",
        // At a MariaDB it is a setting for everybody, who resets it as well.
        target: Some(Postgres),
        strike: |site| {
            let set = "ALTER USER {user} SET statement_timeout = '1ms'";
            site.sql(Target, "", set)?;
            site.end_sessions(Target)?;
            pause(1_000);
            let reset = "ALTER USER {user} RESET statement_timeout";
            site.sql(Target, "", reset).map(drop)
        },
        ..PLAIN
    },
    Fault {
        name: "a column is added to a table of the target",
        strike: |site| {
            let add = "ALTER TABLE item ADD COLUMN extra INT";
            site.insist(|| site.sql(Target, add, add).map(drop))?;
            pause(500);
            let drop_it = "ALTER TABLE item DROP COLUMN extra";
            site.insist(|| site.sql(Target, drop_it, drop_it).map(drop))
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "a column is added to a table of the target that wants a value",
        bad_rows: true,
        ends: Ends::Stops("extra", Again::Run),
        target: Some(Postgres),
        strike: |site| {
            let add = "ALTER TABLE item ADD COLUMN extra INT NOT NULL DEFAULT 0; \
                       ALTER TABLE item ALTER COLUMN extra DROP DEFAULT";
            site.sql(Target, add, add).map(drop)
        },
        mend: |site| {
            let drop_it = "ALTER TABLE item DROP COLUMN extra";
            site.sql(Target, drop_it, drop_it).map(drop)
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "a column of a table of the target is dropped",
        gate: &[(MM, Phase::Stream)],
        ends: Ends::Stops("item", Again::Reset),
        strike: |site| {
            let drop_it = "ALTER TABLE item DROP COLUMN n";
            site.sql(Target, drop_it, drop_it).map(drop)
        },
        mend: |site| {
            let add = "ALTER TABLE item ADD COLUMN n INT";
            site.sql(Target, add, add).map(drop)
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "a table of the target is dropped",
        gate: &[(MP, Phase::Stream)],
        ends: Ends::Stops("item", Again::Run),
        strike: |site| {
            let drop_it = "DROP TABLE item";
            site.sql(Target, drop_it, drop_it).map(drop)
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "somebody deletes a row of the target that the source changes afterwards",
        strike: |site| {
            let delete = "DELETE FROM item WHERE id = 3";
            site.sql(Target, delete, delete)?;
            let change = "UPDATE item SET n = n - 1 WHERE id = 3";
            site.sql(Source, change, change).map(drop)
        },
        not: ROWS,
        ..PLAIN
    },
    Fault {
        name: "somebody inserts a row into the target that comes from the source afterwards",
        strike: |site| {
            // It may strike more than once.
            static NUMBER: AtomicU64 = AtomicU64::new(777_000_000);
            let id = NUMBER.fetch_add(1, Ordering::Relaxed);
            let insert = |what: &str, n: u8| {
                format!(
                    "INSERT INTO item (id, code, body, n) VALUES ({id}, '{what} {id}', '{what}', {n})"
                )
            };
            let (other, own) = (insert("other", 0), insert("own", 1));
            site.sql(Target, &other, &other)?;
            site.sql(Source, &own, &own)?;
            // A row that comes and goes in one batch never comes; that of somebody else would stay.
            let came = format!("SELECT count(*) FROM item WHERE id = {id} AND n = 1");
            let arrives = || {
                let count = site.sql(Target, &came, &came)?;
                ensure!(count.trim() == "1", "it has not come");
                Ok(())
            };
            if site.insist(arrives).is_err() {
                return Ok(());
            }
            let gone = format!("DELETE FROM item WHERE id = {id}");
            site.sql(Source, &gone, &gone).map(drop)
        },
        not: ROWS,
        ..PLAIN
    },
    Fault {
        name: "a row of somebody else has the unique value of a row that comes",
        bad_rows: true,
        ends: Ends::Stops("unique", Again::Run),
        strike: |site| {
            let other = "CREATE UNIQUE INDEX theirs ON item (code); \
                         INSERT INTO item (id, code, body, n) VALUES (888888888, 'taken', 'other', 0)";
            site.sql(Target, other, other)?;
            let own = "INSERT INTO item (id, code, body, n) VALUES (777777778, 'taken', 'own', 1)";
            site.sql(Source, own, own).map(drop)
        },
        mend: |site| {
            let delete = "DELETE FROM item WHERE id = 888888888";
            site.sql(Target, delete, delete)?;
            site.sql(Target, "DROP INDEX theirs ON item", "DROP INDEX theirs")?;
            gone(site, 777_777_778)
        },
        not: ROWS,
        ..PLAIN
    },
    Fault {
        name: "the checkpoint at the target is dropped",
        ends: Ends::Stops("checkpoint", Again::Reset),
        strike: |site| {
            site.sql(
                Target,
                "DROP DATABASE thalweg",
                "DROP SCHEMA thalweg CASCADE",
            )
            .map(drop)
        },
        mend: |site| {
            // The right to a database goes with it.
            site.sql(Target, "GRANT ALL ON thalweg.* TO {user}", "SELECT 1")?;
            replace(site)
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "the row of the checkpoint is deleted",
        ends: Ends::Stops("", Again::Reset),
        strike: |site| {
            let delete = "DELETE FROM thalweg.checkpoint_table; DELETE FROM thalweg.checkpoint";
            site.sql(Target, delete, delete).map(drop)
        },
        mend: replace,
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "a rule of the target refuses a row",
        bad_rows: true,
        ends: Ends::Stops("theirs", Again::Run),
        strike: |site| {
            let rule = "ALTER TABLE item ADD CONSTRAINT theirs CHECK (n < 1000000000)";
            site.insist(|| site.sql(Target, rule, rule).map(drop))?;
            let row = "INSERT INTO item (id, code, body, n) VALUES (777777779, 'refused', 'refused', 2000000000)";
            site.sql(Source, row, row).map(drop)
        },
        mend: |site| {
            let rule = "ALTER TABLE item DROP CONSTRAINT theirs";
            site.sql(Target, rule, rule)?;
            gone(site, 777_777_779)
        },
        not: ROWS,
        ..PLAIN
    },
    Fault {
        name: "a column of the target is made too narrow",
        bad_rows: true,
        gate: &[(MP, Phase::Stream)],
        ends: Ends::Stops("item", Again::Run),
        strike: |site| {
            let mariadb = "ALTER TABLE item MODIFY code VARCHAR(12) NOT NULL";
            let postgres = "ALTER TABLE item ALTER COLUMN code TYPE varchar(12)";
            site.insist(|| site.sql(Target, mariadb, postgres).map(drop))?;
            let row = "INSERT INTO item (id, code, body, n) VALUES (777777780, 'longer than twelve', 'long', 0)";
            site.sql(Source, row, row).map(drop)
        },
        mend: |site| {
            let mariadb = "ALTER TABLE item MODIFY code VARCHAR(40) NOT NULL";
            let postgres = "ALTER TABLE item ALTER COLUMN code TYPE varchar(40)";
            site.sql(Target, mariadb, postgres)?;
            gone(site, 777_777_780)
        },
        not: ROWS,
        ..PLAIN
    },
    Fault {
        name: "a trigger of the target refuses rows",
        bad_rows: true,
        ends: Ends::Stops("item", Again::Run),
        strike: |site| {
            let mariadb = "CREATE TRIGGER theirs BEFORE INSERT ON item FOR EACH ROW \
                           SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'";
            let postgres = "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS \
                            $$ BEGIN RAISE EXCEPTION 'not here'; END $$; \
                            CREATE TRIGGER theirs BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION theirs()";
            site.insist(|| site.sql(Target, mariadb, postgres).map(drop))
        },
        mend: |site| {
            let postgres = "DROP FUNCTION theirs CASCADE";
            site.insist(|| site.sql(Target, "DROP TRIGGER theirs", postgres).map(drop))
        },
        not: ROWS,
        ..PLAIN
    },
    Fault {
        name: "the file system of a table of the target is full",
        ends: Ends::Waits("No space left"),
        target: Some(Postgres),
        strike: |site| {
            let disk = small_disk(site)?;
            let move_it = format!(
                "CREATE TABLESPACE small LOCATION '{}'; ALTER TABLE item SET TABLESPACE small",
                disk.display()
            );
            site.sql(Target, "", &move_it)?;
            fill(&disk)?;
            let rows = "UPDATE item SET body = concat('much longer ', body)";
            site.sql(Source, rows, rows).map(drop)
        },
        mend: |site| {
            let disk = site.place(Target).server.data_dir().with_extension("small");
            std::fs::remove_file(disk.join("filler"))?;
            let back = "ALTER TABLE item SET TABLESPACE pg_default";
            site.insist(|| site.sql(Target, "", back).map(drop))?;
            site.insist(|| site.sql(Target, "", "DROP TABLESPACE small").map(drop))?;
            run("umount", &[disk.as_os_str()])
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "the disk of the target is full for a while",
        ends: Ends::Waits("could not extend file"),
        target: Some(Postgres),
        strike: |site| {
            let postgres = "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS \
                            $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
                            CREATE TRIGGER theirs BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION theirs()";
            site.insist(|| site.sql(Target, "", postgres).map(drop))
        },
        mend: |site| {
            let postgres = "DROP FUNCTION theirs CASCADE";
            site.insist(|| site.sql(Target, "", postgres).map(drop))
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "a table of the target is rebuilt",
        strike: |site| {
            let (mariadb, postgres) = ("ALTER TABLE item FORCE", "VACUUM FULL item");
            site.insist(|| site.sql(Target, mariadb, postgres).map(drop))
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "an index of the target is made and dropped",
        strike: |site| {
            let make = "CREATE INDEX theirs ON item (n)";
            site.insist(|| site.sql(Target, make, make).map(drop))?;
            pause(300);
            let (mariadb, postgres) = ("DROP INDEX theirs ON item", "DROP INDEX theirs");
            site.insist(|| site.sql(Target, mariadb, postgres).map(drop))
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "a table of the target is renamed",
        ends: Ends::Stops("item", Again::Run),
        strike: |site| {
            let rename = "ALTER TABLE item RENAME TO theirs";
            site.insist(|| site.sql(Target, rename, rename).map(drop))
        },
        mend: |site| {
            let rename = "ALTER TABLE theirs RENAME TO item";
            site.sql(Target, rename, rename).map(drop)
        },
        not: HELD,
        ..PLAIN
    },
    Fault {
        name: "sessions at the target begin with strange settings",
        strike: |site| {
            let mariadb = "SET GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'; \
                           SET GLOBAL time_zone = '+05:45'; SET GLOBAL autocommit = 0";
            let postgres = "ALTER USER {user} SET search_path = nowhere; \
                            ALTER USER {user} SET datestyle = 'SQL, DMY'; \
                            ALTER USER {user} SET timezone = 'Asia/Kathmandu'; \
                            ALTER USER {user} SET extra_float_digits = -10; \
                            ALTER USER {user} SET standard_conforming_strings = off";
            site.sql(Target, mariadb, postgres)?;
            site.end_sessions(Target)?;
            pause(1_500);
            let mariadb = "SET GLOBAL sql_mode = DEFAULT; SET GLOBAL time_zone = 'SYSTEM'; \
                           SET GLOBAL autocommit = 1";
            site.sql(Target, mariadb, "ALTER USER {user} RESET ALL")?;
            site.end_sessions(Target)
        },
        ..PLAIN
    },
];

/// The row that the target refused goes behind itself, so that the next strike does not meet it.
fn gone(site: &Site, id: u64) -> Result<()> {
    let gone = format!("DELETE FROM item WHERE id = {id}");
    site.sql(Source, &gone, &gone).map(drop)
}
