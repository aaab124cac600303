//! Our own operations under `/v1`: options the contract has no place for, what a task says of
//! itself, and what deleted tasks left behind. Errors are `application/problem+json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{
    DataSourceOptions, ExecuteStatus, Execution, Leftover, Live, Node, PlannedColumn, PlannedTable,
    Task, TaskPlan, TaskTable, Verified,
};
use thalweg_core::Side;
use thalweg_core::finding::Finding;
use thalweg_core::mapping::{
    CreateTables, ExistingRows, ForeignKeys, OnBadRow, OnChange, TaskOptions, UnfitValues,
};
use thalweg_core::plan::Verdict;
use thalweg_core::ports::{ClientCertificate, TlsMode};
use thalweg_core::secret::Secret;
use thalweg_engine::status::{ChangedValues, LastError, TablePhase, TableStatus, TaskPhase};

use super::body::Fields;
use super::error::Failure;
use super::route::{Call, Reply};
use super::tables;

const WORKERS: std::ops::RangeInclusive<u64> = 1..=16;
const CHUNK_ROWS: std::ops::RangeInclusive<u64> = 100..=1_000_000_000;
const QUARANTINE_MAX: std::ops::RangeInclusive<u64> = 1..=1_000_000;
const ROW_BYTES: std::ops::RangeInclusive<u64> = 1024..=1 << 30;
/// Of a verification.
pub(super) const ROWS_PER_SECOND: std::ops::RangeInclusive<u64> = 1..=10_000_000;
const ROW_OWNERS_MAX: usize = 2000;
const ROW_OWNER: &str = "Give an object: names of target tables, each with the name of the source \
                         table that decides which of its rows are there; or null.";
const CA_CHARS_MAX: usize = 256 << 10;

const CREATE_TABLES: &[(&str, CreateTables)] = &[
    ("none", CreateTables::None),
    ("missing", CreateTables::Missing),
];
const EXISTING_ROWS: &[(&str, ExistingRows)] = &[
    ("refuse", ExistingRows::Refuse),
    ("replace", ExistingRows::Replace),
    ("compare", ExistingRows::Compare),
];
const FOREIGN_KEYS: &[(&str, ForeignKeys)] = &[
    ("enforce", ForeignKeys::Enforce),
    ("replica", ForeignKeys::Replica),
];
const ON_BAD_ROW: &[(&str, OnBadRow)] = &[
    ("stop", OnBadRow::Stop),
    ("quarantine", OnBadRow::Quarantine),
];
const ON_CHANGE: &[(&str, OnChange)] = &[
    ("follow", OnChange::Follow),
    ("ignore", OnChange::Ignore),
    ("pause", OnChange::Pause),
    ("stop", OnChange::Stop),
];
const ON_OTHER_CHANGE: &[(&str, OnChange)] = &[
    ("follow", OnChange::Follow),
    ("pause", OnChange::Pause),
    ("stop", OnChange::Stop),
];
const UNFIT_VALUES: &[(&str, UnfitValues)] = &[
    ("stop", UnfitValues::Stop),
    ("null", UnfitValues::Null),
    ("nearest", UnfitValues::Nearest),
];
const TLS: &[(&str, TlsMode)] = &[
    ("off", TlsMode::Off),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

pub(crate) async fn show_task_options(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    Reply::ok(task_options(&call.app.task_options(scope, id).await?))
}

pub(crate) async fn change_task_options(call: Call) -> Result<Reply, Failure> {
    let fields = call.fields()?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let stored = call.app.task_options(scope, id).await?;
    let options = changed_task_options(fields, stored)?;
    Reply::ok(task_options(
        &call.app.task_options_set(scope, id, options).await?,
    ))
}

pub(crate) async fn show_status(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let task = call.app.task_show(scope, id).await?;
    let live = call.app.task_live(scope, id).await?;
    let verified = call.app.task_verified(scope, id).await?;
    let paused = call.app.tables_paused(scope, id).await?;
    Reply::ok(status(&task, live.as_ref(), &verified, &paused))
}

pub(crate) async fn show_plan(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    Reply::ok(plan(&call.app.task_plan(scope, id).await?))
}

pub(crate) async fn show_datasource_options(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    Reply::ok(datasource_options(
        &call.app.datasource_options(scope, id).await?,
    ))
}

pub(crate) async fn change_datasource_options(call: Call) -> Result<Reply, Failure> {
    let fields = call.fields()?;
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    let stored = call.app.datasource_options(scope, id).await?;
    let options = changed_datasource_options(fields, stored)?;
    let stored = call.app.datasource_options_set(scope, id, options).await?;
    Reply::ok(datasource_options(&stored))
}

pub(crate) async fn leftovers(call: Call) -> Result<Reply, Failure> {
    let found = call.app.task_leftovers(call.scope()?).await?;
    let rows: Vec<Value> = found.iter().map(leftover).collect();
    Reply::ok(json!({ "leftovers": rows }))
}

fn changed_task_options(mut fields: Fields, mut options: TaskOptions) -> Result<TaskOptions> {
    choose(
        &mut fields,
        "create_tables",
        CREATE_TABLES,
        &mut options.create_tables,
    )?;
    choose(
        &mut fields,
        "existing_rows",
        EXISTING_ROWS,
        &mut options.existing_rows,
    )?;
    choose(
        &mut fields,
        "foreign_keys",
        FOREIGN_KEYS,
        &mut options.foreign_keys,
    )?;
    choose(
        &mut fields,
        "on_bad_row",
        ON_BAD_ROW,
        &mut options.on_bad_row,
    )?;
    let on = &mut options.on_changes;
    for (name, words, place) in [
        ("on_add_column", ON_CHANGE, &mut on.add_column),
        ("on_drop_column", ON_CHANGE, &mut on.drop_column),
        ("on_retype_column", ON_CHANGE, &mut on.retype_column),
        ("on_other_change", ON_OTHER_CHANGE, &mut on.other),
    ] {
        choose(&mut fields, name, words, place)?;
    }
    choose(
        &mut fields,
        "unfit_values",
        UNFIT_VALUES,
        &mut options.unfit_values,
    )?;
    if let Some(workers) = fields.int("workers", WORKERS)? {
        options.workers = u16::try_from(workers).unwrap_or(options.workers);
    }
    if let Some(rows) = fields.int("chunk_rows", CHUNK_ROWS)? {
        options.chunk_rows = rows;
    }
    if let Some(changes) = fields.int("quarantine_max", QUARANTINE_MAX)? {
        options.quarantine_max = changes;
    }
    if let Some(owners) = fields.take_nullable("row_owner") {
        options.row_owner =
            row_owners(&owners).ok_or_else(|| fields.invalid("row_owner", ROW_OWNER))?;
    }
    if let Some(bytes) = fields.int("row_bytes_max", ROW_BYTES)? {
        options.row_bytes_max = bytes;
    }
    if let Some(rate) = fields.int_or_null("verify_rows_per_second", ROWS_PER_SECOND)? {
        options.verify_rows_per_second = rate;
    }
    fields.finish()?;
    Ok(options)
}

/// Target tables and the source tables that own their rows; null: none.
fn row_owners(value: &Value) -> Option<BTreeMap<String, String>> {
    let owners = match value {
        Value::Null => return Some(BTreeMap::new()),
        Value::Object(owners) if owners.len() <= ROW_OWNERS_MAX => owners,
        _ => return None,
    };
    let fits = |name: &str| (1..=256).contains(&name.chars().count()) && !name.contains('\0');
    let owners = owners.iter().map(|(target, owner)| {
        let owner = owner.as_str().filter(|owner| fits(owner))?;
        fits(target).then(|| (target.clone(), owner.to_owned()))
    });
    owners.collect()
}

fn changed_datasource_options(
    mut fields: Fields,
    mut options: DataSourceOptions,
) -> Result<DataSourceOptions> {
    choose(&mut fields, "tls", TLS, &mut options.tls.mode)?;
    match fields.take_nullable("ca_pem") {
        None => {}
        Some(Value::Null) => options.tls.ca_pem = None,
        Some(Value::String(pem))
            if pem.contains("BEGIN CERTIFICATE") && pem.len() <= CA_CHARS_MAX =>
        {
            options.tls.ca_pem = Some(pem);
        }
        Some(_) => {
            let text = "Give certificates in PEM, or null for the platform's.";
            return Err(fields.invalid("ca_pem", text));
        }
    }
    let certificate = pem(&mut fields, "client_cert_pem", "BEGIN CERTIFICATE")?;
    let key = pem(&mut fields, "client_key_pem", "PRIVATE KEY")?;
    options.tls.client = match (certificate, key) {
        (None, None) => options.tls.client,
        (Some(None), None | Some(None)) => None,
        (Some(Some(cert_pem)), Some(Some(key))) => Some(ClientCertificate {
            cert_pem,
            key_pem: Secret::new(key),
        }),
        (None | Some(None), Some(_)) => return Err(fields.missing("client_cert_pem")),
        (Some(Some(_)), _) => return Err(fields.missing("client_key_pem")),
    };
    if options.tls.mode == TlsMode::VerifyCa && options.tls.ca_pem.is_none() {
        let text =
            "verify-ca needs an authority of your own: any certificate of a public one would do.";
        return Err(fields.invalid("ca_pem", text));
    }
    if let Some(allow) = fields.flag("allow_cleartext_password")? {
        options.allow_cleartext_password = allow;
    }
    fields.finish()?;
    Ok(options)
}

/// A text in PEM that holds what `marker` says; the inner `None`: null was given.
fn pem(fields: &mut Fields, name: &str, marker: &str) -> Result<Option<Option<String>>> {
    match fields.take_nullable(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(pem)) if pem.contains(marker) && pem.len() <= CA_CHARS_MAX => {
            Ok(Some(Some(pem)))
        }
        Some(_) => Err(fields.invalid(name, format!("Give PEM with {marker}, or null for none."))),
    }
}

fn choose<T: Copy>(
    fields: &mut Fields,
    name: &str,
    words: &[(&'static str, T)],
    place: &mut T,
) -> Result<()> {
    let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    if let Some(chosen) = fields.word(name, &names)? {
        let found = words.iter().find(|(word, _)| *word == chosen);
        *place = found.map_or(*place, |(_, value)| *value);
    }
    Ok(())
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, known)| *known == value);
    found.map_or("", |(word, _)| word)
}

/// The options of a task with their values, the defaults included.
pub(super) fn task_options(options: &TaskOptions) -> Value {
    json!({
        "create_tables": word(CREATE_TABLES, options.create_tables),
        "existing_rows": word(EXISTING_ROWS, options.existing_rows),
        "foreign_keys": word(FOREIGN_KEYS, options.foreign_keys),
        "on_bad_row": word(ON_BAD_ROW, options.on_bad_row),
        "quarantine_max": options.quarantine_max,
        "on_add_column": word(ON_CHANGE, options.on_changes.add_column),
        "on_drop_column": word(ON_CHANGE, options.on_changes.drop_column),
        "on_retype_column": word(ON_CHANGE, options.on_changes.retype_column),
        "on_other_change": word(ON_OTHER_CHANGE, options.on_changes.other),
        "unfit_values": word(UNFIT_VALUES, options.unfit_values),
        "row_owner": options.row_owner,
        "workers": options.workers,
        "chunk_rows": options.chunk_rows,
        "row_bytes_max": options.row_bytes_max,
        "verify_rows_per_second": options.verify_rows_per_second,
    })
}

fn datasource_options(options: &DataSourceOptions) -> Value {
    json!({
        "tls": word(TLS, options.tls.mode),
        "ca_pem": options.tls.ca_pem,
        // Its key is shown to nobody.
        "client_cert_pem": options.tls.client.as_ref().map(|client| client.cert_pem.as_str()),
        "allow_cleartext_password": options.allow_cleartext_password,
    })
}

fn plan(plan: &TaskPlan) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "severity": finding.severity.as_str(),
            "code": finding.code,
            "subject": finding.subject,
            "message": finding.message,
            "fix": finding.fix,
        })
    };
    let column = |column: &PlannedColumn| {
        json!({
            "source": column.source,
            "source_type": column.source_type,
            "target": column.target,
            "target_type": column.target_type,
            "verdict": verdict(column.verdict),
            "note": column.note,
        })
    };
    let table = |table: &PlannedTable| {
        json!({
            "mapping_id": table.mapping,
            "source": table.source,
            "target": table.target,
            "create": table.create,
            "columns": table.columns.iter().map(column).collect::<Vec<Value>>(),
        })
    };
    json!({
        "runnable": !plan.findings.iter().any(Finding::refuses),
        "findings": plan.findings.iter().map(finding).collect::<Vec<Value>>(),
        "tables": plan.tables.iter().map(table).collect::<Vec<Value>>(),
        "statements": plan.statements,
    })
}

/// The word of a verdict.
fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Exact => "exact",
        Verdict::Widening => "widening",
        Verdict::Narrowing => "narrowing",
        Verdict::Lossy => "lossy",
        Verdict::Impossible => "impossible",
    }
}

fn leftover(leftover: &Leftover) -> Value {
    json!({
        "task_id": leftover.task_id,
        "task_name": leftover.task_name,
        "place": leftover.place,
        "error": leftover.error,
        "statements": leftover.statements,
        "tried_ms": leftover.tried_ms,
    })
}

/// What a task says of itself; from its last execution if it does not run.
pub(super) fn status(
    task: &Task,
    live: Option<&Live>,
    verified: &BTreeMap<String, Verified>,
    paused: &[TaskTable],
) -> Value {
    let mut value = match live {
        Some(live) => live_status(live, verified),
        None => idle_status(task),
    };
    let paused: Vec<Value> = paused.iter().map(tables::paused).collect();
    if let Value::Object(map) = &mut value {
        map.insert("paused_tables".into(), paused.into());
    }
    value
}

fn live_status(live: &Live, verified: &BTreeMap<String, Verified>) -> Value {
    let status = &live.status;
    let tables = status.tables.iter().zip(&live.tables);
    let table = |(table, names): (&TableStatus, &(String, String))| {
        table_status(table, names, verified.get(&names.1))
    };
    json!({
        "phase": phase(status.phase),
        "since_ms": status.since_ms,
        "position": status.applied.as_ref().map(ToString::to_string),
        "lag_ms": status.lag_ms,
        "backlog_bytes": status.backlog_bytes,
        "transactions": status.transactions,
        "bytes_read": status.bytes_read,
        "bytes_written": status.bytes_written,
        "last_error": status.last_error.as_ref().map(last_error),
        "tables": tables.map(table).collect::<Vec<Value>>(),
    })
}

fn idle_status(task: &Task) -> Value {
    let execution = task.execution.as_ref();
    let phase = match (task.execute_status(), task.running) {
        (ExecuteStatus::Error, false) => TaskPhase::Failed,
        (_, true) => TaskPhase::Preparing,
        (_, false) => TaskPhase::Stopped,
    };
    let since = execution.map(|e| e.ended_ms.unwrap_or(e.started_ms));
    let failed = execution.filter(|e| e.status == ExecuteStatus::Error);
    json!({
        "phase": self::phase(phase),
        "since_ms": since.unwrap_or(task.updated_ms),
        "position": null,
        "lag_ms": null,
        "backlog_bytes": null,
        "transactions": 0,
        "bytes_read": 0,
        "bytes_written": 0,
        "last_error": failed.map(past_error),
        "tables": [],
    })
}

/// The error an execution ended with; its remarks hold the fact and the fix.
fn past_error(execution: &Execution) -> Value {
    let side = match execution.node {
        Node::Adapter => None,
        Node::Reader => Some(side(Side::Source)),
        Node::Writer => Some(side(Side::Target)),
    };
    json!({
        "kind": null,
        "side": side,
        "message": execution.remarks,
        "hint": null,
        "since_ms": execution.ended_ms,
        "attempt": 0,
    })
}

fn last_error(error: &LastError) -> Value {
    json!({
        "kind": error.kind.as_str(),
        "side": error.side.map(side),
        "message": error.message,
        "hint": error.hint,
        "since_ms": error.since_ms,
        "attempt": error.attempt,
    })
}

pub(super) fn table_status(
    table: &TableStatus,
    (source, target): &(String, String),
    verified: Option<&Verified>,
) -> Value {
    json!({
        "source": source,
        "target": target,
        "phase": table_phase(table.phase),
        "loaded_rows": table.loaded_rows,
        "loaded_chunks": table.chunks_loaded,
        "chunks": table.chunks,
        "estimated_rows": table.estimated_rows,
        "inserts": table.written.inserts,
        "updates": table.written.updates,
        "deletes": table.written.deletes,
        "repaired": table.written.repaired,
        "missing": table.written.missing,
        "changed_values": table.changed.iter().map(changed_values).collect::<Vec<Value>>(),
        "quarantined": table.quarantined,
        "refused": table.refused,
        "verified": verified.map(self::verified),
    })
}

/// What the newest verification of a table has found.
fn verified(verified: &Verified) -> Value {
    json!({
        "at_ms": verified.at_ms,
        "position": verified.position,
        "result": verified.outcome.as_str(),
    })
}

fn changed_values(changed: &ChangedValues) -> Value {
    json!({
        "column": changed.column,
        "reason": changed.reason,
        "values": changed.values,
    })
}

/// The phases of a task.
pub(super) const PHASES: [TaskPhase; 6] = [
    TaskPhase::Preparing,
    TaskPhase::Loading,
    TaskPhase::Streaming,
    TaskPhase::Waiting,
    TaskPhase::Failed,
    TaskPhase::Stopped,
];

/// The word of a phase.
pub(super) fn phase(phase: TaskPhase) -> &'static str {
    match phase {
        TaskPhase::Preparing => "Preparing",
        TaskPhase::Loading => "Loading",
        TaskPhase::Streaming => "Streaming",
        TaskPhase::Waiting => "Waiting",
        TaskPhase::Failed => "Failed",
        TaskPhase::Stopped => "Stopped",
    }
}

fn table_phase(phase: TablePhase) -> &'static str {
    match phase {
        TablePhase::Waiting => "Waiting",
        TablePhase::Copying => "Copying",
        TablePhase::CatchingUp => "CatchingUp",
        TablePhase::Live => "Live",
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Target => "target",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::tests::{field_of, fields};

    #[test]
    fn what_is_not_built_is_refused_when_it_is_chosen() {
        let merge = json!({"existing_rows": "merge"});
        let changed = changed_task_options(fields(merge), TaskOptions::default());
        assert_eq!(field_of(changed), "existing_rows");
        let replace = json!({"existing_rows": "replace"});
        let changed = changed_task_options(fields(replace), TaskOptions::default()).unwrap();
        assert_eq!(changed.existing_rows, ExistingRows::Replace);
    }

    #[test]
    fn bad_rows_stop_a_task_or_go_into_a_quarantine_of_some_size() {
        let change = |value: Value| changed_task_options(fields(value), TaskOptions::default());
        let given = json!({"on_bad_row": "quarantine", "quarantine_max": 1_000_000});
        let changed = change(given).unwrap();
        assert_eq!(changed.on_bad_row, OnBadRow::Quarantine);
        assert_eq!(changed.quarantine_max, 1_000_000);
        let shown = task_options(&changed);
        assert_eq!(shown["on_bad_row"], "quarantine");
        assert_eq!(shown["quarantine_max"], 1_000_000);
        let defaults = task_options(&change(json!({})).unwrap());
        assert_eq!(defaults["on_bad_row"], "stop");
        assert_eq!(defaults["quarantine_max"], 10_000);
        assert_eq!(
            field_of(change(json!({"on_bad_row": "skip"}))),
            "on_bad_row"
        );
        for wrong in [json!(0), json!(1_000_001), json!("9"), json!(1.5)] {
            let wrong = change(json!({ "quarantine_max": wrong }));
            assert_eq!(field_of(wrong), "quarantine_max");
        }
    }

    #[test]
    fn the_rate_of_verification_is_a_number_or_off() {
        let change = |value: Value| {
            let stored = TaskOptions {
                verify_rows_per_second: Some(7),
                ..TaskOptions::default()
            };
            let given = json!({ "verify_rows_per_second": value });
            changed_task_options(fields(given), stored)
        };
        let rate = |value| change(value).unwrap().verify_rows_per_second;
        assert_eq!(rate(json!(10_000_000)), Some(10_000_000));
        assert_eq!(rate(Value::Null), None);
        for wrong in [json!(0), json!(10_000_001), json!("1"), json!(1.5)] {
            assert_eq!(field_of(change(wrong)), "verify_rows_per_second");
        }
    }

    #[test]
    fn row_owners_are_names_of_tables() {
        let change = |value: Value, stored: TaskOptions| {
            changed_task_options(fields(json!({"row_owner": value})), stored)
        };
        let given = json!({"public.orders": "shop.orders", "t": "s"});
        let changed = change(given.clone(), TaskOptions::default()).unwrap();
        assert_eq!(changed.row_owner["public.orders"], "shop.orders");
        assert_eq!(task_options(&changed)["row_owner"], given);
        let workers = json!({"workers": 3});
        let kept = changed_task_options(fields(workers), changed.clone()).unwrap();
        assert_eq!(kept.row_owner, changed.row_owner);
        assert!(change(Value::Null, changed).unwrap().row_owner.is_empty());
        for wrong in [
            json!("shop.orders"),
            json!(["shop.orders"]),
            json!({"t": 1}),
            json!({"t": ""}),
            json!({"": "s"}),
            json!({"t": "s\0"}),
        ] {
            let changed = change(wrong, TaskOptions::default());
            assert_eq!(field_of(changed), "row_owner");
        }
    }
}
