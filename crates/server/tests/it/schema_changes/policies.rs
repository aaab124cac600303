//! Each kind of change by each policy: a table that follows is as at the source, one whose change is ignored
//! goes on with its other columns, one that is paused is told with what to do and is as at the source after it
//! was resumed; and a table that has nothing to do with it goes on all the while.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use thalweg_testkit::servers::System;

use super::{PATIENCE, equal};
use crate::lab::Lab;

mod follow {
    use super::*;

    pairs!(
        changes_are_followed_if_that_is_exact,
        #[cfg(all())],
        #[ignore = "the other pairs have the same sources and targets: make prove schema_changes"]
    );
}

fn changes_are_followed_if_that_is_exact(from: System, to: System) {
    by_policy(from, to, "follow").unwrap();
}

mod alone {
    use super::*;

    pairs!(
        a_task_of_one_table_begins_anew_to_follow,
        #[cfg(all())],
        #[ignore = "the other pairs have the same sources and targets: make prove schema_changes"]
    );
}

/// The task has nothing else to go on with meanwhile.
fn a_task_of_one_table_begins_anew_to_follow(from: System, to: System) {
    alone(from, to).unwrap();
}

mod ignore {
    use super::*;

    pairs!(
        changes_are_ignored_if_the_target_can_stay,
        #[cfg(all())],
        #[ignore = "the other pairs have the same sources and targets: make prove schema_changes"]
    );
}

fn changes_are_ignored_if_the_target_can_stay(from: System, to: System) {
    by_policy(from, to, "ignore").unwrap();
}

mod pause {
    use super::*;

    pairs!(
        changes_pause_their_tables,
        #[cfg(all())],
        #[ignore = "the other pairs have the same sources and targets: make prove schema_changes"]
    );
}

fn changes_pause_their_tables(from: System, to: System) {
    by_policy(from, to, "pause").unwrap();
}

mod stop {
    use super::*;

    pairs!(
        a_change_that_stops_the_task_is_told,
        #[cfg(all())],
        #[ignore = "the other pairs have the same sources and targets: make prove schema_changes"]
    );
}

fn a_change_that_stops_the_task_is_told(from: System, to: System) {
    stops(from, to).unwrap();
}

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is as at the source, with the same columns.
    Equal,
    /// It goes on with these columns; the others stay as they were.
    Goes(&'static [&'static str]),
    /// It is paused.
    Paused,
}
use Fate::{Equal, Goes, Paused};

/// One kind of change to a table of this name.
struct Case {
    table: &'static str,
    /// How the table is made; `@t` stands for its name here and below.
    made: String,
    change: String,
    /// Rows that come after it.
    after: &'static str,
    /// What becomes of it if changes are followed, are ignored, and pause their table.
    fates: [Fate; 3],
}

const USUAL: &str = "CREATE TABLE @t (id INT PRIMARY KEY, a INT, b VARCHAR(10) NOT NULL); \
                     INSERT INTO @t VALUES (1, 1, 'one'), (2, 2, 'two'), (3, NULL, 'three')";

/// In the words of MariaDB, and of PostgreSQL.
type Words = (&'static str, &'static str);

fn cases(system: System) -> Vec<Case> {
    let said = |words: Words| match system {
        System::MariaDb => words.0.to_owned(),
        System::Postgres => words.1.to_owned(),
    };
    let case = |table, change: Words, after, fates| Case {
        table,
        made: USUAL.to_owned(),
        change: said(change),
        after,
        fates,
    };
    let both = |words| (words, words);
    let nine = "INSERT INTO @t (id, a, b) VALUES (9, 9, 'nine')";
    let always = |fate| [fate; 3];
    let abc = Goes(&["id", "a", "b"]);
    let mut all = vec![
        case(
            "added",
            both("ALTER TABLE @t ADD c INT"),
            "INSERT INTO @t (id, b, c) VALUES (9, '9', 9); UPDATE @t SET a = 7, c = 8 WHERE id = 1",
            [Equal, abc, Paused],
        ),
        case(
            "filled",
            both("ALTER TABLE @t ADD c VARCHAR(9) DEFAULT 'x' NOT NULL"),
            "INSERT INTO @t (id, b) VALUES (9, '9'); UPDATE @t SET a = 7 WHERE id = 1",
            [Equal, abc, Paused],
        ),
        case(
            "dropped",
            both("ALTER TABLE @t DROP a"),
            "INSERT INTO @t (id, b) VALUES (9, 'nine')",
            [Equal, Goes(&["id", "b"]), Paused],
        ),
        case(
            "wider",
            (
                "ALTER TABLE @t MODIFY b VARCHAR(30) NOT NULL",
                "ALTER TABLE @t ALTER b TYPE VARCHAR(30)",
            ),
            nine,
            [Equal, abc, Paused],
        ),
        case(
            "narrower",
            (
                "ALTER TABLE @t MODIFY b VARCHAR(5) NOT NULL",
                "ALTER TABLE @t ALTER b TYPE VARCHAR(5)",
            ),
            nine,
            [Equal, Paused, Paused],
        ),
        case(
            "retyped",
            (
                "ALTER TABLE @t MODIFY a VARCHAR(20)",
                "ALTER TABLE @t ALTER a TYPE VARCHAR(20)",
            ),
            nine,
            [Equal, Paused, Paused],
        ),
        case(
            "renamed",
            both("ALTER TABLE @t RENAME COLUMN a TO z"),
            "INSERT INTO @t (id, b, z) VALUES (9, 'nine', 9)",
            [Equal, Goes(&["id", "b"]), Paused],
        ),
        case(
            "rekeyed",
            (
                "ALTER TABLE @t DROP PRIMARY KEY, ADD PRIMARY KEY (id, b)",
                "ALTER TABLE @t DROP CONSTRAINT @t_pkey, ADD PRIMARY KEY (id, b)",
            ),
            "INSERT INTO @t VALUES (1, 1, 'again')",
            [Equal, Paused, Paused],
        ),
        case(
            "moved",
            both("ALTER TABLE @t RENAME TO moved_on"),
            "SELECT 1",
            always(Paused),
        ),
        case("gone", both("DROP TABLE @t"), "SELECT 1", always(Paused)),
        case("emptied", both("TRUNCATE TABLE @t"), nine, always(Equal)),
        case(
            "defaulted",
            both("ALTER TABLE @t ALTER a SET DEFAULT 5"),
            "INSERT INTO @t (id, b) VALUES (9, 'nine')",
            always(Equal),
        ),
        case(
            "loosened",
            (
                "ALTER TABLE @t MODIFY b VARCHAR(10) NULL DEFAULT 'x' COMMENT 'may be missing'",
                "ALTER TABLE @t ALTER b DROP NOT NULL",
            ),
            nine,
            always(Equal),
        ),
        case(
            "tightened",
            (
                "UPDATE @t SET a = 0 WHERE a IS NULL; ALTER TABLE @t CHANGE a a INT NOT NULL",
                "UPDATE @t SET a = 0 WHERE a IS NULL; ALTER TABLE @t ALTER a SET NOT NULL",
            ),
            nine,
            always(Equal),
        ),
        case(
            "indexed",
            both("CREATE INDEX i ON @t (a)"),
            nine,
            always(Equal),
        ),
        // As gh-ost and pt-online-schema-change end.
        case(
            "copied",
            (
                "CREATE TABLE @t_new (id INT PRIMARY KEY, a INT, b VARCHAR(10) NOT NULL, c INT); \
                 INSERT INTO @t_new (id, a, b) SELECT id, a, b FROM @t; \
                 RENAME TABLE @t TO @t_old, @t_new TO @t",
                "BEGIN; CREATE TABLE @t_new (id INT PRIMARY KEY, a INT, b VARCHAR(10) NOT NULL, c INT); \
                 INSERT INTO @t_new (id, a, b) SELECT id, a, b FROM @t; \
                 ALTER TABLE @t RENAME TO @t_old; ALTER TABLE @t_new RENAME TO @t; COMMIT",
            ),
            "INSERT INTO @t (id, b, c) VALUES (9, 'nine', 9)",
            [Equal, Paused, Paused],
        ),
    ];
    let made = said((
        "CREATE TABLE @t (id INT PRIMARY KEY, a INT, b VARCHAR(10)) PARTITION BY RANGE (id) \
         (PARTITION p0 VALUES LESS THAN (100)); INSERT INTO @t VALUES (1, 1, 'one')",
        "CREATE TABLE @t (id INT PRIMARY KEY, a INT, b VARCHAR(10)) PARTITION BY RANGE (id); \
         CREATE TABLE @t_0 PARTITION OF @t FOR VALUES FROM (0) TO (100); \
         INSERT INTO @t VALUES (1, 1, 'one')",
    ));
    let both_full = made.clone();
    all.push(Case {
        made,
        ..case(
            "parted",
            (
                "ALTER TABLE @t ADD PARTITION (PARTITION p1 VALUES LESS THAN (200))",
                "CREATE TABLE @t_1 PARTITION OF @t FOR VALUES FROM (100) TO (200)",
            ),
            "INSERT INTO @t VALUES (150, 1, 'new'), (9, 9, 'nine')",
            always(Equal),
        )
    });
    // Rows that go without being logged.
    let full = said((
        "ALTER TABLE @t ADD PARTITION (PARTITION p1 VALUES LESS THAN (200)); \
         INSERT INTO @t VALUES (150, 1, 'in it')",
        "CREATE TABLE @t_1 PARTITION OF @t FOR VALUES FROM (100) TO (200); \
         INSERT INTO @t VALUES (150, 1, 'in it')",
    ));
    let full = format!("{both_full}; {full}");
    for (table, change) in [
        (
            "unparted",
            ("ALTER TABLE @t DROP PARTITION p1", "DROP TABLE @t_1"),
        ),
        (
            "part_emptied",
            (
                "ALTER TABLE @t TRUNCATE PARTITION p1",
                "TRUNCATE TABLE @t_1",
            ),
        ),
    ] {
        all.push(Case {
            made: full.clone(),
            ..case(table, change, nine, always(Equal))
        });
    }
    all
}

fn of(table: &str, sql: &str) -> String {
    sql.replace("@t", table)
}

fn lab(from: System, to: System, cases: &[Case]) -> Result<Lab> {
    Lab::between(from, to, |source| {
        source.sql(
            "CREATE TABLE still (id INT PRIMARY KEY, n INT); INSERT INTO still VALUES (1, 0)",
        )?;
        for case in cases {
            source.sql(&of(case.table, &case.made))?;
        }
        Ok(())
    })
}

/// Makes each change, with rows before and after it, in one transaction where the system has that.
fn change(lab: &Lab, case: &Case) -> Result<()> {
    let sql = format!(
        "UPDATE @t SET a = a + 1 WHERE id = 2; INSERT INTO @t (id, a, b) VALUES (5, 5, 'five'); {}; {}",
        case.change, case.after
    );
    let whole = lab.source.system() == System::Postgres && !sql.contains("BEGIN");
    let sql = match whole {
        true => format!("BEGIN; {sql}; COMMIT"),
        false => sql,
    };
    let sql = of(case.table, &sql);
    lab.source.sql(&sql).context(sql)?;
    lab.source.sql("UPDATE still SET n = n + 1")?;
    Ok(())
}

fn by_policy(from: System, to: System, policy: &str) -> Result<()> {
    let cases = cases(from);
    let lab = lab(from, to, &cases)?;
    let tables: Vec<&str> = cases
        .iter()
        .map(|case| case.table)
        .chain(["still"])
        .collect();
    let outcome = with_policy(&lab, &cases, &tables, policy);
    outcome.with_context(|| lab.thalweg.log_tail())
}

/// What a target's tables are dropped with to be made anew.
fn may_drop(lab: &Lab) -> Result<()> {
    if lab.target.system() == System::MariaDb {
        let [_, writer] = &lab.accounts;
        let user = &writer.user;
        lab.target
            .sql(&format!("GRANT DROP ON *.* TO {user}@'%'"))?;
    }
    Ok(())
}

fn with_policy(lab: &Lab, cases: &[Case], tables: &[&str], policy: &str) -> Result<()> {
    let options = json!({
        "on_add_column": policy, "on_drop_column": policy, "on_retype_column": policy,
        "on_other_change": if policy == "follow" { policy } else { "pause" },
    });
    may_drop(lab)?;
    let task = super::task(lab, "changes", tables, &options)?;
    lab.client.run_task(&task)?;
    lab.wait(&task, "all are live", |status| status.live(tables.len()))?;
    // While it is down, so that all changes are met at once; one by one while it runs in the proof.
    let runs = std::env::var_os("THALWEG_PROVE").is_some();
    if !runs {
        lab.client.stop_task(&task)?;
    }
    for case in cases {
        change(lab, case)?;
    }
    if runs {
        equal(lab, &task, &["still"])?;
        // Not all changes are in the log.
        lab.client.stop_task(&task)?;
    }
    lab.client.run_task(&task)?;
    lab.source.sql("UPDATE still SET n = n + 1")?;
    let place = ["follow", "ignore", "pause"]
        .iter()
        .position(|p| *p == policy);
    let place = place.context("a policy")?;
    for case in cases {
        let context = || format!("table {}", case.table);
        match case.fates[place] {
            Equal => equal(lab, &task, &[case.table]).with_context(context)?,
            Goes(columns) => goes(lab, &task, case.table, columns).with_context(context)?,
            Paused => {}
        }
    }
    equal(lab, &task, &["still"])?;
    let wanted = cases.iter().filter(|case| case.fates[place] == Paused);
    let wanted: Vec<&str> = wanted.map(|case| case.table).collect();
    let status = lab.status(&task)?;
    let paused = status.0["paused_tables"].as_array().context("no list")?;
    for one in paused {
        for word in ["reason", "fix"] {
            ensure!(
                one[word].as_str().is_some_and(|text| text.len() > 9),
                "{word}: {one}"
            );
        }
    }
    let mut names: Vec<&str> = paused
        .iter()
        .filter_map(|one| one["source_table"].as_str())
        .collect();
    names
        .iter_mut()
        .for_each(|name| *name = name.rsplit('.').next().unwrap_or(name));
    names.sort_unstable();
    let mut sorted = wanted.clone();
    sorted.sort_unstable();
    ensure!(
        names == sorted,
        "paused: {names:?}, not {sorted:?}: {}",
        status.0
    );
    resumed(lab, &task, paused, &wanted)
}

/// Whether some columns of a table become equal.
fn goes(lab: &Lab, task: &str, table: &str, columns: &[&str]) -> Result<()> {
    // What is not there is written in different words.
    let written = |column: &&str| match *column {
        "a" => "coalesce(a, -1)".to_owned(),
        column => column.to_owned(),
    };
    let list: Vec<String> = columns.iter().map(written).collect();
    let list = list.join(", ");
    let sql = format!("SELECT {list} FROM {table} ORDER BY id");
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let (from, to) = (lab.source.sql(&sql)?, lab.target.sql(&sql)?);
        if from == to {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < until, "{from}\nis not\n{to}");
        lab.status(task)?;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// What is paused is as at the source after the target was made to fit and the table was resumed.
fn resumed(lab: &Lab, task: &str, paused: &[Value], wanted: &[&str]) -> Result<()> {
    for table in wanted
        .iter()
        .filter(|table| !["moved", "gone"].contains(table))
    {
        let of_it = |one: &&Value| {
            one["source_table"]
                .as_str()
                .is_some_and(|name| name.ends_with(&format!(".{table}")))
        };
        let one = paused.iter().find(of_it).context("it is paused")?;
        // It is made anew, by the task.
        lab.target.sql(&format!("DROP TABLE {table}"))?;
        let id = one["mapping_id"].as_str().context("no id")?;
        let path = lab
            .client
            .native(&format!("/tasks/{task}/tables/{id}/resume"));
        lab.client.post(&path, &[], Some(&json!({})))?.ok()?;
    }
    for table in wanted
        .iter()
        .filter(|table| !["moved", "gone"].contains(table))
    {
        equal(lab, task, &[table]).with_context(|| format!("table {table}, resumed"))?;
    }
    Ok(())
}

/// A task for each change, which follows it by beginning anew.
fn alone(from: System, to: System) -> Result<()> {
    let mut cases = cases(from);
    // Each server has places for so many.
    cases.retain(|case| ["narrower", "renamed", "rekeyed", "copied"].contains(&case.table));
    let paired = cases.iter().find(|case| case.table == "rekeyed");
    let paired = paired.context("a case")?;
    cases.push(Case {
        table: "paired",
        made: paired.made.clone(),
        change: paired.change.clone(),
        ..*paired
    });
    let lab = lab(from, to, &cases)?;
    may_drop(&lab)?;
    let options = json!({ "on_other_change": "follow", "on_drop_column": "follow" });
    let mut tasks = Vec::new();
    for case in cases.iter().filter(|case| case.table != "paired") {
        let task = super::task(&lab, case.table, &[case.table], &options)?;
        lab.client.run_task(&task)?;
        tasks.push(task);
    }
    for task in &tasks {
        lab.wait(task, "it is live", |status| status.live(1))?;
    }
    // One that has another table to go on with, and nothing else that changes.
    let paired = super::task(&lab, "paired", &["paired", "still"], &options)?;
    lab.client.run_task(&paired)?;
    lab.wait(&paired, "both are live", |status| status.live(2))?;
    for case in &cases {
        change(&lab, case)?;
    }
    tasks.push(paired);
    for (case, task) in cases.iter().zip(&tasks) {
        let context = || format!("table {}: {}", case.table, lab.thalweg.log_tail());
        equal(&lab, task, &[case.table]).with_context(context)?;
        lab.source
            .sql(&of(case.table, "DELETE FROM @t WHERE id = 1"))?;
        equal(&lab, task, &[case.table]).with_context(context)?;
    }
    Ok(())
}

/// A task for each change, which stops at it and says what it is.
fn stops(from: System, to: System) -> Result<()> {
    let mut cases = cases(from);
    // Each server has places for so many.
    cases.retain(|case| ["added", "dropped", "wider", "rekeyed", "copied"].contains(&case.table));
    let lab = lab(from, to, &cases)?;
    let options = json!({
        "on_add_column": "stop", "on_drop_column": "stop", "on_retype_column": "stop",
        "on_other_change": "stop",
    });
    let mut tasks = Vec::new();
    for case in &cases {
        let task = super::task(&lab, case.table, &[case.table], &options)?;
        lab.client.run_task(&task)?;
        tasks.push(task);
    }
    for task in &tasks {
        lab.wait(task, "it is live", |status| status.live(1))?;
    }
    for case in &cases {
        change(&lab, case)?;
    }
    for (case, task) in cases.iter().zip(&tasks) {
        let until = std::time::Instant::now() + PATIENCE;
        let shown = loop {
            let shown = lab.client.monitor_logs(task)?;
            let shown = shown["entities"][0].clone();
            if shown["execute_status"] == "ERROR" {
                break shown;
            }
            ensure!(
                std::time::Instant::now() < until,
                "{} goes on: {shown}",
                case.table
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        };
        let said = shown.to_string();
        ensure!(said.contains(case.table), "{}: {said}", case.table);
        ensure!(said.contains("Fix: "), "{}: {said}", case.table);
    }
    Ok(())
}
