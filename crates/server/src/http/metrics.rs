//! Figures of the tasks that run in this process, in Prometheus' text format.
//!
//! Nothing is counted here: the engine publishes what it did since the start of a run, and a scrape
//! reads it. Counters therefore start again at 0 when a task is started again.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use thalweg_control::model::Live;
use thalweg_engine::status::{TableStatus, TaskStatus};

use super::native;

/// Content type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const TASK: &str = "task";
const TABLE: &str = "table";
const PHASE: &str = "phase";
const KIND: &str = "kind";

/// Name, help, and how to get the figure.
type Metric<F> = (&'static str, &'static str, F);
type Count<S> = fn(&S) -> u64;
type Gauge = fn(&TaskStatus) -> Option<f64>;

/// Per table. Counters get their suffix `_total` from the format.
const TABLE_COUNTERS: [Metric<Count<TableStatus>>; 6] = [
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
/// Per table, too.
const QUARANTINED: Metric<Count<TableStatus>> = (
    "thalweg_quarantined_changes",
    "Changes that lie in quarantine: refused by the target, or waiting behind one that was",
    |t| t.quarantined,
);
/// Per task.
const TASK_COUNTERS: [Metric<Count<TaskStatus>>; 3] = [
    (
        "thalweg_transactions",
        "Source transactions applied at the target",
        |s| s.transactions,
    ),
    (
        "thalweg_read_bytes",
        "Bytes of log and of loaded rows read from the source",
        |s| s.bytes_read,
    ),
    (
        "thalweg_written_bytes",
        "Bytes of rows written to the target",
        |s| s.bytes_written,
    ),
];
const TASK_PHASE: (&str, &str) = ("thalweg_task_phase", "1 for the phase the task is in");
const LAST_ERROR: (&str, &str) = (
    "thalweg_task_error",
    "1 while the task has trouble that is not over, by its kind",
);
const PAUSED: (&str, &str) = (
    "thalweg_paused_tables",
    "Mappings of the task whose tables are paused: they are left out until somebody resumes them",
);
const VERIFIED: (&str, &str) = (
    "thalweg_verified_age_seconds",
    "Since when all tables of the task were last verified to be equal, or repaired",
);
/// Gauges that may be unknown: they are left out then.
const GAUGES: [Metric<Gauge>; 2] = [
    (
        "thalweg_lag_seconds",
        "How far the target is behind the source",
        |s| s.lag_ms.map(|ms| float(ms) / 1000.0),
    ),
    (
        "thalweg_backlog_bytes",
        "Bytes of the source's log not yet applied",
        |s| s.backlog_bytes.map(float),
    ),
];

#[allow(
    clippy::cast_precision_loss,
    reason = "exact up to nine petabytes, and a gauge beyond"
)]
fn float(number: u64) -> f64 {
    number as f64
}

/// The text of a scrape.
pub(super) fn render(tasks: Tasks) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(tasks));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// What a scrape tells of.
#[derive(Debug)]
pub(super) struct Tasks {
    /// Those that run: (task id, name, what it says).
    pub(super) lives: Vec<(String, String, Live)>,
    /// When all tables were last found equal, or repaired, by the task's id.
    pub(super) verified: HashMap<String, i64>,
    /// How many mappings are paused, by the task's id; tasks without may be left out.
    pub(super) paused: HashMap<String, u64>,
    /// Now, in milliseconds since the Unix epoch.
    pub(super) now_ms: i64,
}

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if self.lives.is_empty() {
            return Ok(());
        }
        for (name, help, figure) in TABLE_COUNTERS {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            self.tables(metric, figure)?;
        }
        self.quarantined(&mut encoder)?;
        for (name, help, figure) in TASK_COUNTERS {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            self.tasks(metric, figure)?;
        }
        self.phases(&mut encoder)?;
        self.errors(&mut encoder)?;
        for (name, help, figure) in GAUGES {
            self.gauge(&mut encoder, name, help, figure)?;
        }
        self.paused(&mut encoder)?;
        self.verified(&mut encoder)
    }
}

impl Tasks {
    fn tables(&self, mut metric: MetricEncoder, figure: Count<TableStatus>) -> fmt::Result {
        self.each_table(|labels, table| count(&mut metric, labels, figure(table)))
    }

    fn quarantined(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help, figure) = QUARANTINED;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        self.each_table(|labels, table| {
            let mut family = metric.encode_family(labels)?;
            family.encode_gauge(&figure(table))
        })
    }

    fn each_table(
        &self,
        mut tell: impl FnMut(&[(&str, &str); 2], &TableStatus) -> fmt::Result,
    ) -> fmt::Result {
        for (task, _, live) in &self.lives {
            let names = live.tables.iter();
            for (table, (_, target)) in live.status.tables.iter().zip(names) {
                tell(&[(TASK, task.as_str()), (TABLE, target.as_str())], table)?;
            }
        }
        Ok(())
    }

    fn tasks(&self, mut metric: MetricEncoder, figure: Count<TaskStatus>) -> fmt::Result {
        for (task, _, live) in &self.lives {
            count(&mut metric, &[(TASK, task.as_str())], figure(&live.status))?;
        }
        Ok(())
    }

    fn phases(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = TASK_PHASE;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, _, live) in &self.lives {
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
        for (task, _, live) in &self.lives {
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
        figure: Gauge,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, _, live) in &self.lives {
            if let Some(value) = figure(&live.status) {
                let labels = [(TASK, task.as_str())];
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn paused(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = PAUSED;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, ..) in &self.lives {
            let paused = self.paused.get(task).copied().unwrap_or(0);
            let labels = [(TASK, task.as_str())];
            metric.encode_family(&labels)?.encode_gauge(&paused)?;
        }
        Ok(())
    }

    fn verified(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = VERIFIED;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (task, ..) in &self.lives {
            if let Some(at_ms) = self.verified.get(task) {
                let age_ms = u64::try_from(self.now_ms - at_ms).unwrap_or(0);
                let labels = [(TASK, task.as_str())];
                let age = float(age_ms) / 1000.0;
                metric.encode_family(&labels)?.encode_gauge(&age)?;
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

#[cfg(test)]
mod tests {
    use thalweg_core::{Kind, Side};
    use thalweg_engine::status::{LastError, TaskPhase};

    use super::*;

    #[test]
    fn a_scrape_tells_what_a_task_says() {
        let mut table = TableStatus {
            loaded_rows: 7,
            quarantined: 2,
            ..TableStatus::default()
        };
        table.written.inserts = 3;
        let status = TaskStatus {
            phase: TaskPhase::Waiting,
            tables: vec![table],
            lag_ms: Some(1500),
            last_error: Some(LastError {
                kind: Kind::Transient,
                side: Some(Side::Source),
                message: "gone".into(),
                hint: None,
                since_ms: 0,
                attempt: 1,
            }),
            ..TaskStatus::default()
        };
        let tables = vec![("shop.a".into(), "public.\"a\"".into())];
        let live = Live { status, tables };
        let task = |id: &str| (id.to_owned(), "name".to_owned(), live.clone());
        let tasks = Tasks {
            lives: vec![task("t1"), task("t2")],
            verified: [("t1".to_owned(), 1_000), ("t3".to_owned(), 1_000)].into(),
            paused: [("t2".to_owned(), 3)].into(),
            now_ms: 3_500,
        };
        let text = render(tasks).unwrap();
        for line in [
            r#"thalweg_rows_loaded_total{task="t1",table="public.\"a\""} 7"#,
            r#"thalweg_rows_inserted_total{task="t1",table="public.\"a\""} 3"#,
            r#"thalweg_quarantined_changes{task="t2",table="public.\"a\""} 2"#,
            r#"thalweg_transactions_total{task="t1"} 0"#,
            r#"thalweg_task_phase{task="t1",phase="Waiting"} 1"#,
            r#"thalweg_task_phase{task="t1",phase="Streaming"} 0"#,
            r#"thalweg_task_error{task="t1",kind="transient"} 1"#,
            r#"thalweg_lag_seconds{task="t1"} 1.5"#,
            r#"thalweg_paused_tables{task="t1"} 0"#,
            r#"thalweg_paused_tables{task="t2"} 3"#,
            r#"thalweg_verified_age_seconds{task="t1"} 2.5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        for unknown in [
            "thalweg_backlog_bytes{",
            r#"thalweg_verified_age_seconds{task="t2"}"#,
            r#"task="t3""#,
        ] {
            assert!(!text.contains(unknown), "what is unknown is left out");
        }
    }
}
