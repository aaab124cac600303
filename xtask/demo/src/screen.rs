//! What the task does, for people: a table that is drawn again in place on a terminal, and a line
//! now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often a line is printed where nothing can be drawn again.
const LINE_EVERY: Duration = Duration::from_secs(3);
/// How often a terminal is drawn again at most.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// Where progress is shown.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    start: Instant,
    last: Option<Instant>,
    drawn: usize,
}

impl Screen {
    /// The standard output.
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            start: Instant::now(),
            last: None,
            drawn: 0,
        }
    }

    /// A line that stays, with the time since the beginning.
    pub(crate) fn say(&mut self, text: &str) {
        println!("[{:5.1} s] {text}", self.start.elapsed().as_secs_f64());
        // The table is drawn anew below what was said.
        self.drawn = 0;
        self.last = None;
    }

    /// Shows a status, if it is time.
    pub(crate) fn show(&mut self, status: &Value, source_transactions: u64) {
        let every = if self.terminal {
            DRAW_EVERY
        } else {
            LINE_EVERY
        };
        if self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.last = Some(Instant::now());
        let lines = if self.terminal {
            table(status, source_transactions)
        } else {
            vec![summary(status, source_transactions)]
        };
        let mut text = String::new();
        if self.terminal && self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            if self.terminal {
                text.push_str("\x1b[2K");
            }
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        let mut out = std::io::stdout().lock();
        // A closed output is no reason to stop; the exit code still tells.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("?")
}

fn tables(status: &Value) -> impl Iterator<Item = &Value> {
    status
        .get("tables")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn applied(table: &Value) -> u64 {
    ["inserts", "updates", "deletes"]
        .iter()
        .map(|name| number(table, name))
        .sum()
}

/// All changes applied, of all tables.
pub(crate) fn changes(status: &Value) -> u64 {
    tables(status).map(applied).sum()
}

/// All rows copied, of all tables.
pub(crate) fn copied(status: &Value) -> u64 {
    tables(status)
        .map(|table| number(table, "loaded_rows"))
        .sum()
}

/// Whether the table of this name at the target is Live.
pub(crate) fn is_live(status: &Value, target: &str) -> bool {
    tables(status).any(|table| word(table, "target") == target && word(table, "phase") == "Live")
}

/// Whether all of so many tables are Live.
pub(crate) fn all_live(status: &Value, count: usize) -> bool {
    tables(status)
        .filter(|table| word(table, "phase") == "Live")
        .count()
        == count
}

fn lag(status: &Value) -> String {
    let lag = status.get("lag_ms").and_then(Value::as_u64);
    let backlog = status.get("backlog_bytes").and_then(Value::as_u64);
    let lag = lag.map_or("lag unknown".into(), |lag| format!("lag {lag} ms"));
    backlog.map_or(lag.clone(), |bytes| {
        format!("{lag}, {} KiB behind", bytes / 1024)
    })
}

fn summary(status: &Value, source_transactions: u64) -> String {
    let live = tables(status)
        .filter(|table| word(table, "phase") == "Live")
        .count();
    format!(
        "  {}: {live} of {} tables live, {} rows copied, {} changes applied, {}; \
         source: {source_transactions} transactions{}",
        word(status, "phase"),
        tables(status).count(),
        copied(status),
        changes(status),
        lag(status),
        trouble(status),
    )
}

fn trouble(status: &Value) -> String {
    match status.get("last_error") {
        Some(error) if !error.is_null() => {
            format!(
                "; trouble: {}: {}",
                word(error, "kind"),
                word(error, "message")
            )
        }
        _ => String::new(),
    }
}

fn table(status: &Value, source_transactions: u64) -> Vec<String> {
    let mut lines = vec![
        format!(
            "  {}, {}; source: {source_transactions} transactions{}",
            word(status, "phase"),
            lag(status),
            trouble(status)
        ),
        format!(
            "  {:<22}{:<12}{:>12}{:>12}",
            "table", "phase", "copied", "applied"
        ),
    ];
    lines.extend(tables(status).map(|table| {
        format!(
            "  {:<22}{:<12}{:>12}{:>12}",
            word(table, "target"),
            word(table, "phase"),
            number(table, "loaded_rows"),
            applied(table)
        )
    }));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_told_in_a_line_and_in_a_table() {
        let status = json!({"phase": "Streaming", "lag_ms": 12, "backlog_bytes": 4096,
            "last_error": {"kind": "Transient", "message": "gone"}, "tables": [
            {"target": "public.a", "phase": "Live", "loaded_rows": 10, "inserts": 1, "updates": 2,
             "deletes": 3},
            {"target": "public.b", "phase": "Copying", "loaded_rows": 5}]});
        assert_eq!(
            summary(&status, 7),
            "  Streaming: 1 of 2 tables live, 15 rows copied, 6 changes applied, lag 12 ms, 4 KiB \
             behind; source: 7 transactions; trouble: Transient: gone"
        );
        assert_eq!(table(&status, 7).len(), 4);
        assert!(is_live(&status, "public.a") && !is_live(&status, "public.b"));
        assert!(all_live(&status, 1) && !all_live(&status, 2));
        assert_eq!(lag(&json!({})), "lag unknown");
    }
}
