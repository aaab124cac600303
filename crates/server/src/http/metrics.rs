//! Figures of the tasks that run in this process, in Prometheus' text format.
//!
//! Nothing is counted here: the engine publishes what it did since the start of a run, and a scrape
//! reads it. Counters therefore start again at 0 when a task is started again.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use thalweg_control::model::Live;
use thalweg_engine::status::TableStatus;

use super::native;

/// Content type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const TASK: &str = "task";
const TABLE: &str = "table";
const PHASE: &str = "phase";
const KIND: &str = "kind";

/// Per table: name, help, figure. Counters get their suffix `_total` from the format.
const TABLE_COUNTERS: [(&str, &str, fn(&TableStatus) -> u64); 6] = [
    (
        "thalweg_rows_loaded",
        "Rows copied by the initial load",
        |t| t.loaded_rows,
    ),
    ("thalweg_rows_inserted", "Inserts applied", |t| {
        t.written.inserts
    }),
    ("thalweg_rows_updated", "Updates applied", |t| {
        t.written.updates
    }),
    ("thalweg_rows_deleted", "Deletes applied", |t| {
        t.written.deletes
    }),
    (
        "thalweg_rows_repaired",
        "Rows that were not as the source's log implied, put right",
        |t| t.written.repaired,
    ),
    (
        "thalweg_rows_missing",
        "Rows an update or delete did not find",
        |t| t.written.missing,
    ),
];
const TRANSACTIONS: (&str, &str) = (
    "thalweg_transactions",
    "Source transactions applied at the target",
);
const TASK_PHASE: (&str, &str) = ("thalweg_task_phase", "1 for the phase the task is in");
const LAST_ERROR: (&str, &str) = (
    "thalweg_task_error",
    "1 while the task has trouble that is not over, by its kind",
);
/// Gauges that may be unknown: they are left out then.
const GAUGES: [(&str, &str, fn(&Live) -> Option<f64>); 2] = [
    (
        "thalweg_lag_seconds",
        "Age of what is durable at the target",
        |live| native::lag_ms(live).map(|ms| ms as f64 / 1000.0),
    ),
    (
        "thalweg_backlog_bytes",
        "Bytes of the source's log not yet applied",
        |live| native::backlog_bytes(live).map(|bytes| bytes as f64),
    ),
];

/// The text of a scrape over the tasks given: (task id, name, what it says).
pub(super) fn render(lives: Vec<(String, String, Live)>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Tasks(lives)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Tasks(Vec<(String, String, Live)>);

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        for (name, help, figure) in TABLE_COUNTERS {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            self.tables(metric, figure)?;
        }
        self.tasks(&mut encoder)?;
        self.phases(&mut encoder)?;
        self.errors(&mut encoder)?;
        for (name, help, figure) in GAUGES {
            self.gauge(&mut encoder, name, help, figure)?;
        }
        Ok(())
    }
}

impl Tasks {
    fn tables(&self, mut metric: MetricEncoder, figure: fn(&TableStatus) -> u64) -> fmt::Result {
        for (task, _, live) in &self.0 {
            let names = live.tables.iter();
            for (table, (_, target)) in live.status.tables.iter().zip(names) {
                let labels = [(TASK, task.as_str()), (TABLE, target.as_str())];
                count(&mut metric, &labels, figure(table))?;
            }
        }
        Ok(())
    }

    fn tasks(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = TRANSACTIONS;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (task, _, live) in &self.0 {
            let labels = [(TASK, task.as_str())];
            count(&mut metric, &labels, live.status.transactions)?;
        }
        Ok(())
    }

    fn phases(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = TASK_PHASE;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, _, live) in &self.0 {
            for phase in native::PHASES {
                let labels = [(TASK, task.as_str()), (PHASE, native::phase(phase))];
                let here = u64::from(live.status.phase == phase);
                metric.encode_family(&labels)?.encode_gauge(&here)?;
            }
        }
        Ok(())
    }

    fn errors(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = LAST_ERROR;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, _, live) in &self.0 {
            if let Some(error) = &live.status.last_error {
                let labels = [(TASK, task.as_str()), (KIND, error.kind.as_str())];
                metric.encode_family(&labels)?.encode_gauge(&1_u64)?;
            }
        }
        Ok(())
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        figure: fn(&Live) -> Option<f64>,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, _, live) in &self.0 {
            if let Some(value) = figure(live) {
                let labels = [(TASK, task.as_str())];
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

fn count<const N: usize>(
    metric: &mut MetricEncoder,
    labels: &[(&str, &str); N],
    value: u64,
) -> fmt::Result {
    let mut family = metric.encode_family(labels)?;
    family.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}
