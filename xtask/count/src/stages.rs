//! The stages. What a stage takes is made by those before it, in the product's own code.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use thalweg_core::batch::{FoldedTable, Net, TableOp};
use thalweg_core::change::ChangeBatch;
use thalweg_core::mapping::{Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Fate, Plan, TablePair, resolve};
use thalweg_core::ports::{Connector, DataSourceConfig, StreamLimits, TlsOptions};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::secret::Secret;
use thalweg_core::value::RowBatch;
use thalweg_engine::batch::fold;
use thalweg_mysql::recordings;
use thalweg_mysql::stages as my;
use thalweg_postgres::stages as pg;

use crate::table::{Change, Table, transactions};
use crate::{mariadb, postgres};

const LIMITS: StreamLimits = StreamLimits {
    part_bytes: 8 << 20,
    row_bytes_max: 64 << 20,
};
/// Transactions of ten changes in a round.
const TRANSACTIONS: i64 = 200;
/// Rows of a load in a round.
const ROWS: i64 = 2_000;

/// A round of a stage; gives the changes or rows it had.
pub(crate) type Work = Box<dyn FnMut() -> Result<usize>>;

/// The systems, as sources and targets.
const SYSTEMS: [&str; 2] = ["postgres", "mariadb"];

/// Every stage and case, with what it is.
pub(crate) fn all() -> Vec<(String, &'static str, String)> {
    let mut stages = Vec::new();
    let mut pairs = Vec::new();
    for from in SYSTEMS {
        pairs.extend(SYSTEMS.map(|to| format!("{from}:{to}")));
    }
    let systems = SYSTEMS.map(str::to_owned);
    let mut add = |stage: &str, of: &[String], what: &str| {
        for of in of {
            stages.push((format!("{stage}:{of}"), format!("{what} {of}")));
        }
    };
    add("decode", &systems, "changes: decode");
    add("project", &pairs, "changes: project");
    add("fold", &systems, "changes: fold, from");
    add("encode", &systems, "changes: encode, to");
    let maria = ["mariadb".to_owned()];
    add("events", &maria, "changes: encode as row events, to");
    add("read", &systems, "load: decode");
    add("convert", &pairs, "load: project");
    add("write", &systems, "load: encode, to");
    let same = ["postgres:postgres".to_owned()];
    add("relay", &same, "load: rows handed on as they are,");
    let cases = |(stage, what): (String, String)| {
        ["narrow", "wide"].map(|case| (stage.clone(), case, what.clone()))
    };
    stages.into_iter().flat_map(cases).collect()
}

/// What is done in a round of a stage.
pub(crate) fn work(stage: &str, case: &str) -> Result<Work> {
    let mut words = stage.split(':');
    let (stage, first) = (words.next().unwrap_or_default(), words.next());
    let first = first.context("a stage names a system")?;
    let second = words.next().unwrap_or(first);
    let load = matches!(stage, "read" | "convert" | "write" | "relay");
    let table = match case {
        "narrow" if load => Table::narrow(),
        "narrow" => Table::item(),
        "wide" => Table::wide(),
        _ => bail!("there is no case {case}"),
    };
    match stage {
        "decode" => decode(&table, first),
        "project" => project(&table, first, second),
        "fold" => folding(&table, first),
        "encode" => encode(&table, first, false),
        "events" => encode(&table, first, true),
        "read" => read(&table, first),
        "convert" => convert(&table, first, second),
        "write" => write(&table, first),
        "relay" => relay(&table),
        _ => bail!("there is no stage {stage}"),
    }
}

fn decode(table: &Table, source: &str) -> Result<Work> {
    let changes = transactions(TRANSACTIONS);
    let count: usize = changes.iter().map(Vec::len).sum();
    if source == "mariadb" {
        let (file, schema) = (mariadb::log(table, &changes), table.mariadb());
        return Ok(Box::new(move || {
            let mut decoded = 0;
            let mut each = |part: thalweg_core::change::Transaction| {
                decoded += part.changes.changes.len();
            };
            let tables = std::slice::from_ref(&schema);
            recordings::visit(&file, Some(tables), LIMITS, &mut each).end?;
            ensure!(decoded == count, "{decoded} changes were decoded");
            Ok(decoded)
        }));
    }
    let (schema, types) = table.postgres();
    let mut decoder = pg::Decoder::new(&schema, &types, LIMITS)?;
    decoder.take(&postgres::relation(table))?;
    let messages = postgres::stream(table, &changes);
    Ok(Box::new(move || {
        let mut decoded = 0;
        for message in &messages {
            let done = decoder.take(message)?;
            decoded += done.map_or(0, |transaction| transaction.changes.changes.len());
        }
        ensure!(decoded == count, "{decoded} changes were decoded");
        Ok(decoded)
    }))
}

/// The changes of a round as a source's decoder gives them, one batch for each transaction.
fn decoded(table: &Table, source: &str, changes: &[Vec<Change>]) -> Result<Vec<ChangeBatch>> {
    let mut out = Vec::new();
    if source == "mariadb" {
        let tables = [table.mariadb()];
        let file = mariadb::log(table, changes);
        recordings::visit(&file, Some(&tables), LIMITS, &mut |part| {
            out.push(part.changes);
        })
        .end?;
        return Ok(out);
    }
    let (schema, types) = table.postgres();
    let mut decoder = pg::Decoder::new(&schema, &types, LIMITS)?;
    decoder.take(&postgres::relation(table))?;
    for message in postgres::stream(table, changes) {
        out.extend(
            decoder
                .take(&message)?
                .map(|transaction| transaction.changes),
        );
    }
    Ok(out)
}

/// The plan of a task that makes its target table.
fn plan(table: &Table, source: &str, target: &str) -> Result<Plan> {
    let from = match source {
        "mariadb" => table.mariadb(),
        _ => table.postgres().0,
    };
    let mapping = Mapping {
        id: String::new(),
        source: from.name.clone(),
        target: TableName::new("copy", table.name),
        columns: Vec::new(),
    };
    let to = match target {
        "mariadb" => proposal(&thalweg_mysql::connector(), &from, &mapping),
        _ => proposal(&thalweg_postgres::connector(), &from, &mapping),
    }?;
    let pair = TablePair {
        mapping,
        source: Some(from),
        target: Some(to),
        create: true,
        rekey: false,
    };
    let resolution = resolve(vec![pair], Operations::ALL, TaskOptions::default());
    let findings = resolution.findings;
    resolution
        .plan
        .with_context(|| format!("no plan: {findings:?}"))
}

fn proposal(
    connector: &impl Connector,
    from: &TableSchema,
    mapping: &Mapping,
) -> Result<TableSchema> {
    // No connection is made to it.
    let target = connector.target(&DataSourceConfig {
        host: "127.0.0.1".to_owned(),
        port: 1,
        database: "copy".to_owned(),
        user: "nobody".to_owned(),
        password: Secret::new(String::new()),
        tls: TlsOptions::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(1),
        server_id: None,
        application_name: String::new(),
        networks: std::sync::Arc::default(),
    })?;
    let proposed = target.propose(from, &mapping.target, &mapping.pairs(from));
    proposed.map_err(|findings| anyhow::anyhow!("no proposal: {findings:?}"))
}

/// Appends what changes make at the target.
fn projected(
    plan: &Plan,
    changes: &[ChangeBatch],
    rows: &mut RowBatch,
    ops: &mut Vec<TableOp>,
) -> Result<()> {
    for batch in changes {
        plan.project(
            &batch.changes,
            &batch.rows,
            &mut |_, _| Ok(Fate::Apply),
            rows,
            ops,
        )?;
    }
    Ok(())
}

fn project(table: &Table, source: &str, target: &str) -> Result<Work> {
    let changes = decoded(table, source, &transactions(TRANSACTIONS))?;
    let plan = plan(table, source, target)?;
    let (mut rows, mut ops) = (RowBatch::new(), Vec::new());
    Ok(Box::new(move || {
        rows.clear();
        ops.clear();
        projected(&plan, &changes, &mut rows, &mut ops)?;
        Ok(ops.len())
    }))
}

/// A batch before it is folded; the target is of the source's kind.
fn batch(table: &Table, source: &str, target: &str) -> Result<(Plan, RowBatch, Vec<TableOp>)> {
    let changes = decoded(table, source, &transactions(TRANSACTIONS))?;
    let plan = plan(table, source, target)?;
    let (mut rows, mut ops) = (RowBatch::new(), Vec::new());
    projected(&plan, &changes, &mut rows, &mut ops)?;
    Ok((plan, rows, ops))
}

/// The one table of a folded batch.
fn folded(plan: &Plan, rows: &mut RowBatch, ops: &[TableOp]) -> Result<FoldedTable> {
    let nets = fold(plan, rows, ops, None).nets;
    let nets = nets.context("a batch that is not folded")?;
    match nets.into_iter().next() {
        Some(Net::Folded(table)) => Ok(table),
        _ => bail!("a table that is not folded"),
    }
}

fn folding(table: &Table, source: &str) -> Result<Work> {
    let (plan, mut rows, ops) = batch(table, source, source)?;
    Ok(Box::new(move || {
        folded(&plan, &mut rows, &ops)?;
        Ok(ops.len())
    }))
}

fn encode(table: &Table, target: &str, events: bool) -> Result<Work> {
    let (plan, mut rows, ops) = batch(table, target, target)?;
    let folded = folded(&plan, &mut rows, &ops)?;
    let target_table = plan.targets.first().context("a plan with a target")?;
    if target == "mariadb" {
        let encoder = my::Encoder::new(target_table)?;
        return Ok(Box::new(move || {
            if events {
                encoder.events(&rows, &folded)?;
            } else {
                encoder.apply(&rows, &folded)?;
            }
            Ok(ops.len())
        }));
    }
    let encoder = pg::Encoder::new(target_table);
    let mut out = Vec::new();
    Ok(Box::new(move || {
        out.clear();
        encoder.apply(&rows, &folded, &mut out)?;
        Ok(ops.len())
    }))
}

/// Rows of a load as a source's reader gives them.
fn loaded(table: &Table, source: &str) -> Result<RowBatch> {
    let mut out = RowBatch::new();
    if source == "mariadb" {
        let insert = |n| vec![Change::Insert(n)];
        let inserts: Vec<_> = (1..=ROWS).map(insert).collect();
        for batch in decoded(table, source, &inserts)? {
            for row in batch.rows.iter() {
                out.append(row);
            }
        }
        return Ok(out);
    }
    let (schema, types) = table.postgres();
    let mut reader = pg::Reader::new(&schema, &types, LIMITS);
    let (header, rows) = postgres::copy(table, ROWS);
    reader.take(&header, &mut out)?;
    for row in rows {
        reader.take(&row, &mut out)?;
    }
    Ok(out)
}

fn read(table: &Table, source: &str) -> Result<Work> {
    let mut out = RowBatch::new();
    if source == "mariadb" {
        let reader = my::Reader::new(&table.mariadb(), &loaded(table, source)?)?;
        return Ok(Box::new(move || {
            out.clear();
            reader.read(&mut out)?;
            Ok(out.len())
        }));
    }
    let (schema, types) = table.postgres();
    let mut reader = pg::Reader::new(&schema, &types, LIMITS);
    let (header, rows) = postgres::copy(table, ROWS);
    reader.take(&header, &mut out)?;
    Ok(Box::new(move || {
        out.clear();
        for row in &rows {
            reader.take(row, &mut out)?;
        }
        Ok(out.len())
    }))
}

/// A load between two PostgreSQL whose columns are the same: all of our own work on it.
fn relay(table: &Table) -> Result<Work> {
    let (schema, types) = table.postgres();
    let mut reader = pg::Reader::new(&schema, &types, LIMITS);
    reader.relay();
    let (header, rows) = postgres::copy(table, ROWS);
    let (mut read, mut out) = (RowBatch::new(), Vec::new());
    reader.take(&header, &mut read)?;
    let plan = plan(table, "postgres", "postgres")?;
    ensure!(plan.is_plain(0, 0), "rows that are converted");
    let encoder = pg::Encoder::new(plan.targets.first().context("a plan with a target")?);
    Ok(Box::new(move || {
        read.clear();
        out.clear();
        for row in &rows {
            reader.take(row, &mut read)?;
        }
        encoder.relay(&read, &mut out)?;
        Ok(read.len())
    }))
}

fn convert(table: &Table, source: &str, target: &str) -> Result<Work> {
    let rows = loaded(table, source)?;
    let plan = plan(table, source, target)?;
    let mut out = RowBatch::new();
    Ok(Box::new(move || {
        out.clear();
        plan.project_rows(0, 0, &rows, &mut out)?;
        Ok(out.len())
    }))
}

fn write(table: &Table, target: &str) -> Result<Work> {
    let rows = loaded(table, target)?;
    let plan = plan(table, target, target)?;
    let target_table = plan.targets.first().context("a plan with a target")?;
    let mut converted = RowBatch::new();
    plan.project_rows(0, 0, &rows, &mut converted)?;
    if target == "mariadb" {
        let encoder = my::Encoder::new(target_table)?;
        return Ok(Box::new(move || {
            encoder.load(&converted)?;
            Ok(converted.len())
        }));
    }
    let encoder = pg::Encoder::new(target_table);
    let mut out = Vec::new();
    Ok(Box::new(move || {
        out.clear();
        encoder.load(&converted, &mut out)?;
        Ok(converted.len())
    }))
}
