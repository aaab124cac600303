//! Preflight at the target, and the rights that were missing when something was refused.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Error as My;
use mysql_async::prelude::Queryable;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{ExistingRows, ForeignKeys};
use thalweg_core::plan::{Cell, Plan, TargetTable};
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::{ColumnSchema, ReferenceAction, TableName};
use thalweg_core::{Error, Kind, Result};

use super::ddl::create_sql;
use super::error::convert;
use super::place::{self, Place};
use super::rules::{Rules, children};
use super::session::{Session, quote};
use super::table::{Table, is_empty, quote_table};
use crate::schema::NAMES;

/// Everything there is to say.
pub(super) async fn check(
    session: &mut Session,
    config: &DataSourceConfig,
    task: &TaskKey,
    plan: &Plan,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let user = account(session).await?;
    server(session, &mut findings).await?;
    let place = place(session, config, task, &user, &mut findings).await?;
    temporary(session, plan, place.as_ref(), &user, &mut findings).await?;
    itself(plan, &mut findings);
    let known = place::find(session, task).await?;
    let looked = Looked::at(session, plan, task, known.as_ref()).await?;
    referenced(session, plan, &looked, &mut findings).await?;
    for (table, rules) in plan.targets.iter().zip(&looked.rules) {
        let subject = table.name.to_string();
        if let Err(error) = Table::new(table, session.facts.flavor) {
            findings.push(Finding::error(
                "type_not_written",
                subject.clone(),
                error.message(),
                error.hint().unwrap_or_default(),
            ));
        }
        folding(plan, table, &looked.collations, &mut findings);
        case(looked.lower, table, &mut findings);
        let there = looked.engines.contains_key(&table.name);
        let denied = privileges(session, table, there, &user, &mut findings).await?;
        if table.create || denied {
            continue;
        }
        form(
            table,
            plan,
            (looked.engine(&table.name), rules),
            &mut findings,
        );
        let Stored { ours, live, .. } = looked.stored_of(table);
        // Once Live, every transaction is applied whole and the key is kept as at the source; the
        // task makes such keys itself on tables it has created.
        if !live
            && !table.foreign_keys.is_empty()
            && plan.options.foreign_keys == ForeignKeys::Enforce
        {
            findings.push(Finding::error(
                "foreign_key_during_load",
                subject.clone(),
                "it references another table of the task, and tables are loaded independently",
                "set the task's option foreign_keys to replica, or drop the foreign key until the \
                 task is Live",
            ));
        }
        if !ours
            && plan.operations.insert
            && plan.options.existing_rows == ExistingRows::Refuse
            && !is_empty(session, &table.name).await?
        {
            findings.push(Finding::error(
                "rows_exist",
                subject,
                "it has rows already",
                format!(
                    "TRUNCATE {}, or set the task's option existing_rows to replace (or to compare, if they are \
                     the source's)",
                    quote_table(&table.name)
                ),
            ));
        }
    }
    Ok(findings)
}

/// What the server was asked of all tables together.
struct Looked {
    rules: Vec<Rules>,
    /// Of the tables that are there.
    engines: BTreeMap<TableName, Vec<(Option<String>,)>>,
    /// Column and collation.
    collations: BTreeMap<TableName, Vec<(String, Option<String>)>>,
    /// Of the tables that the task knows.
    stored: BTreeMap<TableName, Stored>,
    /// Whether the server keeps names in lower case.
    lower: bool,
}

impl Looked {
    async fn at(
        session: &mut Session,
        plan: &Plan,
        task: &TaskKey,
        place: Option<&Place>,
    ) -> Result<Looked> {
        let tables: Vec<&TargetTable> = plan.targets.iter().collect();
        let names = names(plan);
        let collations = "SELECT column_name, collation_name, {names} \
                          FROM information_schema.columns WHERE {of}";
        let lower: Option<u8> = session.first("SELECT @@lower_case_table_names").await?;
        Ok(Looked {
            rules: Rules::read(session, &tables).await?,
            engines: engines(session, &names).await?,
            collations: session.ask_of(&names, NAMES, collations).await?,
            stored: match place {
                Some(place) => stored(session, place, task).await?,
                None => BTreeMap::new(),
            },
            lower: lower == Some(1),
        })
    }

    fn stored_of(&self, table: &TargetTable) -> Stored {
        self.stored.get(&table.name).copied().unwrap_or(UNKNOWN)
    }

    fn engine(&self, table: &TableName) -> &str {
        let rows = self.engines.get(table).into_iter().flatten();
        let mut engines = rows.filter_map(|(engine,)| engine.as_deref());
        engines.next().unwrap_or_default()
    }
}

fn names(plan: &Plan) -> Vec<TableName> {
    plan.targets.iter().map(|t| t.name.clone()).collect()
}

/// The engines of those of the tables that are there; a view has none.
async fn engines(
    session: &mut Session,
    names: &[TableName],
) -> Result<BTreeMap<TableName, Vec<(Option<String>,)>>> {
    let engines = "SELECT engine, {names} FROM information_schema.tables WHERE {of}";
    session.ask_of(names, NAMES, engines).await
}

/// The account we are logged in as, as GRANT names it.
async fn account(session: &mut Session) -> Result<String> {
    let found: Option<String> = session.first("SELECT CURRENT_USER()").await?;
    let found = found.unwrap_or_default();
    let (user, host) = found.rsplit_once('@').unwrap_or((&found, "%"));
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Ok(format!("{}@{}", quote(user), quote(host)))
}

async fn server(session: &mut Session, findings: &mut Vec<Finding>) -> Result<()> {
    let flavor = session.facts.flavor;
    let oldest = if flavor.maria { (10, 3, 0) } else { (5, 7, 0) };
    if flavor.version < oldest {
        findings.push(Finding::error(
            "version",
            "server",
            "it is older than MariaDB 10.3 or MySQL 5.7",
            "upgrade the server",
        ));
    }
    if !flavor.maria {
        findings.push(Finding::warning(
            "mysql_target",
            "server",
            "writing to MySQL is built by its manual and has not been run against a server",
            "try the task on a copy first",
        ));
    }
    let read_only: Option<(u8, u8)> = session
        .first("SELECT @@global.read_only, @@global.innodb_read_only")
        .await?;
    let grants: Vec<String> = session.ask("SHOW GRANTS", ()).await?;
    // Who has one of these writes all the same.
    let above = grants.iter().any(|grant| {
        let global = grant
            .split_once(" ON *.* ")
            .map_or("", |(rights, _)| rights);
        let mut rights = global.trim_start_matches("GRANT ").split(", ");
        rights.any(|r| {
            matches!(
                r,
                "ALL PRIVILEGES"
                    | "READ_ONLY ADMIN"
                    | "READ ONLY ADMIN"
                    | "SUPER"
                    | "CONNECTION_ADMIN"
            )
        })
    });
    if let Some((read_only, frozen)) = read_only
        && (frozen != 0 || read_only != 0 && !above)
    {
        findings.push(Finding::error(
            "read_only",
            "server",
            "it takes no writes: it is a replica, or read_only is on",
            "connect to the primary, or SET GLOBAL read_only = OFF",
        ));
    }
    Ok(())
}

/// The place that the checkpoint has, or would be given.
async fn place(
    session: &mut Session,
    config: &DataSourceConfig,
    task: &TaskKey,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<Option<Place>> {
    let found = place::find(session, task).await?;
    if found.is_some() {
        return Ok(found);
    }
    // Who may create a table in a database may create the database.
    for place in [Place::own(), Place::in_database(config.database.clone())] {
        let create = format!("CREATE TABLE {} (a int)", place.checkpoint());
        if !denied(session, &create).await? {
            return Ok(Some(place));
        }
    }
    findings.push(Finding::error(
        "create_database",
        "thalweg",
        "the user may create neither the database thalweg, where the checkpoint lies, nor tables \
         in the data source's own",
        format!("GRANT ALL ON thalweg.* TO {user}"),
    ));
    Ok(None)
}

/// Whether the server would refuse a statement for want of a right. It is prepared only, and never
/// run.
async fn denied(session: &mut Session, sql: &str) -> Result<bool> {
    match session.conn().prep(sql).await {
        Ok(statement) => {
            session.conn().close(statement).await.map_err(convert)?;
            Ok(false)
        }
        Err(My::Server(error)) if matches!(error.code, 1044 | 1142 | 1143 | 1227) => Ok(true),
        // Whatever else is wrong with it: the right was there.
        Err(My::Server(_)) => Ok(false),
        Err(error) => Err(convert(error)),
    }
}

/// A key by which an update of a table's row would have to change others of the same table: InnoDB
/// refuses the update (<https://mariadb.com/kb/en/foreign-keys/>).
fn itself(plan: &Plan, findings: &mut Vec<Finding>) {
    let own = plan.cascades.iter().filter(|c| c.enforced && c.logged);
    let own = own.filter(|c| c.parent == c.child && c.on_update != ReferenceAction::Refuse);
    for table in own.filter_map(|cascade| plan.targets.get(cascade.parent)) {
        findings.push(Finding::warning(
            "foreign_key_itself",
            table.name.to_string(),
            "it references itself with ON UPDATE CASCADE or SET NULL, which InnoDB does not do: a \
             change of a referenced value stops the task",
            "set the task's option foreign_keys to replica",
        ));
    }
}

/// What foreign keys of the source change, and rows of several sources, are worked out in temporary
/// tables.
async fn temporary(
    session: &mut Session,
    plan: &Plan,
    place: Option<&Place>,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let derived = plan.cascades.iter().filter(|cascade| cascade.derived);
    let parents = derived.filter_map(|cascade| plan.targets.get(cascade.parent));
    let parents = parents.map(|table| table.name.schema.as_str());
    let merged = plan.targets.iter().any(TargetTable::merged);
    let beside = place
        .filter(|_| merged)
        .map(|place| place.database.as_str());
    let schemas: BTreeSet<&str> = parents.chain(beside).collect();
    for schema in schemas.into_iter().map(quote) {
        let probe = format!("CREATE TEMPORARY TABLE {schema}.`_thalweg_moved` (a int)");
        if denied(session, &probe).await? {
            findings.push(Finding::error(
                "create_temporary_tables",
                schema.clone(),
                "the user may not create temporary tables, in which rows of several sources meet and \
                 it is worked out what the source's foreign keys change below its log",
                format!("GRANT CREATE TEMPORARY TABLES ON {schema}.* TO {user}"),
            ));
        }
    }
    Ok(())
}

/// What keeps the user from writing a table, and the statement that gives the right; whether there
/// is anything.
async fn privileges(
    session: &mut Session,
    table: &TargetTable,
    there: bool,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<bool> {
    let name = quote_table(&table.name);
    let mut probes = Vec::new();
    // One that the task created is there.
    let create = table.create && !there;
    if create {
        probes.push(("CREATE", create_sql(table, session.facts.flavor)));
    } else if let Some(column) = table.columns.first() {
        let column = quote(&column.name);
        probes.push(("SELECT", format!("SELECT 1 FROM {name} LIMIT 0")));
        probes.push((
            "INSERT",
            format!("INSERT INTO {name} ({column}) VALUES (NULL)"),
        ));
        probes.push((
            "UPDATE",
            format!("UPDATE {name} SET {column} = NULL WHERE FALSE"),
        ));
        probes.push(("DELETE", format!("DELETE FROM {name} WHERE FALSE")));
    }
    for (_, probe) in &probes {
        if !denied(session, probe).await? {
            continue;
        }
        let (rights, subject) = if create {
            (
                "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES, CREATE TEMPORARY \
                 TABLES",
                format!("{}.*", quote(&table.name.schema)),
            )
        } else {
            ("SELECT, INSERT, UPDATE, DELETE", name.clone())
        };
        let message = if create {
            "the user may not create it"
        } else {
            "the user may not read and write it"
        };
        findings.push(Finding::error(
            "privileges",
            table.name.to_string(),
            message,
            format!("GRANT {rights} ON {subject} TO {user}"),
        ));
        return Ok(true);
    }
    Ok(false)
}

/// Keys of which the target takes two for equal that the source does not.
fn folding(
    plan: &Plan,
    table: &TargetTable,
    collations: &BTreeMap<TableName, Vec<(String, Option<String>)>>,
    findings: &mut Vec<Finding>,
) {
    let collations = collations.get(&table.name).map_or(&[][..], Vec::as_slice);
    for &index in &table.key {
        let Some(column) = table.columns.get(index).filter(|column| column.folds) else {
            continue;
        };
        let all_fold = sources_fold(plan, table, index);
        let subject = format!("{}.{}", table.name, column.name);
        let fix = format!(
            "ALTER TABLE {} MODIFY {} … CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin (MySQL 8: \
             utf8mb4_0900_bin)",
            quote_table(&table.name),
            quote(&column.name)
        );
        if all_fold || folds_spaces_only(collations, column) {
            findings.push(Finding::warning(
                "key_folds",
                subject,
                "its collation takes different texts for equal; two rows whose keys it cannot tell \
                 apart stop the task",
                fix,
            ));
        } else {
            findings.push(Finding::error(
                "key_folds",
                subject,
                "its collation takes texts for equal that differ in case or accents, which the \
                 source does not, so two source rows could meet in one target row",
                fix,
            ));
        }
    }
}

/// Whether all source columns behind a target column fold.
fn sources_fold(plan: &Plan, table: &TargetTable, index: usize) -> bool {
    let is_it = |target: usize| {
        let target = plan.targets.get(target);
        target.is_some_and(|target| target.name == table.name)
    };
    plan.sources.iter().all(|source| {
        let mut routes = source.routes.iter().filter(|route| is_it(route.target));
        routes.all(|route| match route.cells.get(index) {
            Some(Cell::Column(from, _)) => {
                source.schema.columns.get(*from).is_some_and(|c| c.folds)
            }
            _ => true,
        })
    })
}

/// Whether a column that folds does so for trailing spaces only: a binary collation that pads.
fn folds_spaces_only(collations: &[(String, Option<String>)], column: &ColumnSchema) -> bool {
    let mut its = collations.iter().filter(|(name, _)| *name == column.name);
    let pads = |collation: &String| collation.ends_with("_bin");
    its.any(|(_, collation)| collation.as_ref().is_some_and(pads))
}

/// A name the server would keep in another case.
fn case(folds: bool, table: &TargetTable, findings: &mut Vec<Finding>) {
    let lower = |name: &str| name.to_lowercase() == *name;
    if folds && !(lower(&table.name.name) && lower(&table.name.schema)) {
        findings.push(Finding::error(
            "name_case",
            table.name.to_string(),
            "the server keeps names in lower case (lower_case_table_names = 1)",
            "map to a table whose name is in lower case",
        ));
    }
}

/// Engine, triggers, and foreign keys of others.
fn form(
    table: &TargetTable,
    plan: &Plan,
    (engine, rules): (&str, &Rules),
    findings: &mut Vec<Finding>,
) {
    let subject = table.name.to_string();
    let name = quote_table(&table.name);
    if !engine.eq_ignore_ascii_case("InnoDB") {
        findings.push(Finding::error(
            "engine",
            subject.clone(),
            format!("its engine is {engine}: what is written to it cannot be taken back, so a transaction cannot arrive whole"),
            format!("ALTER TABLE {name} ENGINE = InnoDB"),
        ));
    }
    if rules.triggers {
        findings.push(Finding::warning(
            "triggers",
            subject.clone(),
            "its triggers run for what the task writes as well, for which they may have run at the \
             source already",
            "drop the triggers while the task writes",
        ));
    }
    if rules.cascades && plan.options.foreign_keys == ForeignKeys::Enforce {
        findings.push(Finding::warning(
            "cascades",
            subject,
            "a foreign key with ON DELETE CASCADE or SET NULL references it, so the target changes \
             rows of other tables by itself",
            "make the foreign key RESTRICT, or set the task's option foreign_keys to replica",
        ));
    }
}

/// What the checkpoint says of a table.
#[derive(Clone, Copy)]
struct Stored {
    /// The task has loaded it before.
    ours: bool,
    live: bool,
    /// Nothing of it is there yet, or it is to be loaded again.
    waits: bool,
}

/// Of a table that the checkpoint does not know.
const UNKNOWN: Stored = Stored {
    ours: false,
    live: false,
    waits: true,
};

async fn stored(
    session: &mut Session,
    place: &Place,
    task: &TaskKey,
) -> Result<BTreeMap<TableName, Stored>> {
    let read = format!(
        "SELECT target_schema, target_table, loaded_rows IS NOT NULL, phase FROM {} \
         WHERE server = ? AND task = ?",
        place.tables()
    );
    type Row = (String, String, bool, String);
    let found: Vec<Row> = session.ask(&read, (&task.server, &task.task)).await?;
    let stored = |(schema, name, ours, phase): Row| {
        let stored = Stored {
            ours,
            live: phase == "live",
            waits: phase == "waiting",
        };
        (TableName::new(schema, name), stored)
    };
    Ok(found.into_iter().map(stored).collect())
}

/// Tables whose rows are about to be deleted, and whose children would refuse it or go with them.
async fn referenced(
    session: &mut Session,
    plan: &Plan,
    looked: &Looked,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let replaces = plan.options.existing_rows == ExistingRows::Replace;
    let emptied = plan.targets.iter().filter(|table| {
        let stored = looked.stored_of(table);
        stored.waits && (stored.ours || replaces) && looked.engines.contains_key(&table.name)
    });
    let emptied: BTreeSet<&TableName> = emptied.map(|table| &table.name).collect();
    if emptied.is_empty()
        || !plan.operations.insert
        || plan.options.foreign_keys != ForeignKeys::Enforce
    {
        return Ok(());
    }
    for (child, key, parent) in children(session).await? {
        if child == parent || !emptied.contains(&parent) {
            continue;
        }
        // One that cannot be looked at may have rows.
        let ours = plan.targets.iter().any(|table| table.name == child);
        if ours || !is_empty(session, &child).await.unwrap_or(false) {
            let (of, key) = (quote_table(&child), quote(&key));
            findings.push(Finding::error(
                "foreign_key_during_load",
                parent.to_string(),
                format!("{child} references it by the foreign key {key}, and its rows are deleted before it is loaded"),
                format!(
                    "ALTER TABLE {of} DROP FOREIGN KEY {key}, and make it again when the task is \
                     Live; or set the task's option foreign_keys to replica"
                ),
            ));
        }
    }
    Ok(())
}

/// An error that stops the task, with the exact statements in its hint if rights are missing. An
/// open transaction is given up.
pub(super) async fn explain(session: &mut Session, plan: &Plan, error: Error) -> Error {
    if error.kind() != Kind::Config {
        return error;
    }
    let mut findings = Vec::new();
    let ask = async {
        session.run("ROLLBACK").await?;
        let user = account(session).await?;
        let there = engines(session, &names(plan)).await?;
        for table in &plan.targets {
            let there = there.contains_key(&table.name);
            privileges(session, table, there, &user, &mut findings).await?;
        }
        Ok::<(), Error>(())
    };
    // Who cannot be asked leaves the error as it was.
    if ask.await.is_err() || findings.is_empty() {
        return error;
    }
    let mut fixes: Vec<String> = findings.into_iter().map(|finding| finding.fix).collect();
    fixes.dedup();
    error.with_hint(fixes.join("; "))
}
