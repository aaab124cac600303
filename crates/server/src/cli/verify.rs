//! `thalweg verify`: has a running task compare its tables, and tells what differs.
//!
//! It asks a running server, which does the work; ending this command ends nothing there.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{array, number, print, text};
use super::client::{Client, ServerArgs, encode};

/// How often it is asked how far it is.
const POLL: Duration = Duration::from_secs(1);
/// Tables differ, or rows of one.
const DIFFERENT: u8 = 1;
/// It could not be found out.
const UNKNOWN: u8 = 2;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The task, by its id or its name; it has to run
    task: String,
    /// A target table; may be repeated [default: all tables of the task]
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    tables: Vec<String>,
    /// Write rows that differ as they are at the source
    #[arg(long)]
    repair: bool,
    /// Read so many rows a second from the source at most [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rows_per_second: Option<u64>,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

/// Prints a line for each table and what was found of all. Exit codes: 0 all is equal, or was repaired;
/// 1 something differs; 2 that could not be found out.
pub(crate) fn run(args: VerifyArgs) -> ExitCode {
    match verify(args) {
        Ok(code) => ExitCode::from(code),
        Err(text) => {
            eprintln!("thalweg: {text}");
            ExitCode::from(UNKNOWN)
        }
    }
}

fn verify(args: VerifyArgs) -> Result<u8, String> {
    let mut client = Client::login(args.server)?;
    let task = client.task(&args.task)?;
    let path = client.native(&format!("/tasks/{}/verifications", encode(&task)));
    let body = json!({
        "tables": (!args.tables.is_empty()).then_some(&args.tables),
        "repair": args.repair,
        "rows_per_second": args.rows_per_second,
    });
    let mut now = client.call("POST", &path, Some(&body))?;
    let path = format!("{path}/{}", encode(text(&now, "verification_id")));
    let mut told = 0;
    loop {
        let tables = array(&now, "tables");
        // Tables are compared one after the other.
        for table in tables.iter().skip(told).take_while(|table| is_known(table)) {
            print(&line(table))?;
            told += 1;
        }
        if let Some(result) = now.get("result").and_then(Value::as_str) {
            print(&verdict(&now))?;
            return Ok(match result {
                "equal" | "repaired" => 0,
                "different" => DIFFERENT,
                _ => UNKNOWN,
            });
        }
        thread::sleep(POLL);
        now = client.call("GET", &path, None)?;
    }
}

fn is_known(table: &Value) -> bool {
    !matches!(text(table, "result"), "" | "waiting" | "running")
}

/// One table.
fn line(table: &Value) -> String {
    let (result, target) = (text(table, "result"), text(table, "target"));
    if result == "failed" {
        return format!("{result:<10}{target}: {}\n", text(table, "reason"));
    }
    let seconds = number(table, "took_ms").div_ceil(1000);
    let mut line = format!(
        "{result:<10}{target}: {} rows, hash {}, {seconds} s",
        number(table, "rows"),
        text(table, "hash"),
    );
    for count in ["changed", "missing", "extra", "repaired"] {
        match number(table, count) {
            0 => {}
            rows => line.push_str(&format!(", {rows} {count}")),
        }
    }
    line.push('\n');
    line
}

/// What was found of all tables.
fn verdict(all: &Value) -> String {
    let tables = array(all, "tables");
    // They are compared one after the other, and nothing but the stream has changed the first since.
    let last = tables.iter().max_by_key(|table| number(table, "at_ms"));
    let position = last.map_or("", |table| text(table, "position"));
    match text(all, "result") {
        "equal" => format!("equal up to {position}\n"),
        "repaired" => format!("{}repaired, equal up to {position}\n", rows(tables)),
        "different" => format!("{}different\n", rows(tables)),
        _ => match text(all, "reason") {
            "" => "could not be verified\n".to_owned(),
            reason => format!("could not be verified: {reason}\n"),
        },
    }
}

/// The rows that differ, or did.
fn rows(tables: &[Value]) -> String {
    let mut out = String::new();
    for table in tables {
        let (target, rows) = (text(table, "target"), array(table, "differences"));
        for row in rows {
            let key = row.get("key").and_then(Value::as_object);
            let key = key.into_iter().flatten();
            let key =
                key.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
            let key: Vec<String> = key.collect();
            let columns = array(row, "columns").iter().filter_map(Value::as_str);
            let columns: Vec<&str> = columns.collect();
            let differs = text(row, "differs");
            out.push_str(&format!("{differs:<10}{target} {}", key.join(", ")));
            if !columns.is_empty() {
                out.push_str(&format!(": {}", columns.join(", ")));
            }
            out.push('\n');
        }
        let all = number(table, "changed") + number(table, "missing") + number(table, "extra");
        match all.saturating_sub(rows.len() as u64) {
            0 => {}
            more if rows.is_empty() => out.push_str(&format!("          {target}: {more} rows\n")),
            more => out.push_str(&format!("          {target}: {more} more rows\n")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_the_verdict_are_lines() {
        let table = |result: &str, at: u64, position: &str| {
            json!({
                "target": "public.a", "result": result, "rows": 7, "hash": "0f", "took_ms": 1001,
                "at_ms": at, "position": position, "changed": 3, "missing": 0, "extra": 1,
                "repaired": 0, "reason": "no key",
                "differences": [
                    {"key": {"a": "1", "b": "x"}, "differs": "changed", "columns": ["c", "d"]},
                    {"key": {"a": "2", "b": "y"}, "differs": "extra", "columns": []},
                ],
            })
        };
        let different = table("different", 1, "p1");
        let expected = "different public.a: 7 rows, hash 0f, 2 s, 3 changed, 1 extra\n";
        assert_eq!(line(&different), expected);
        let failed = table("failed", 1, "");
        assert_eq!(line(&failed), "failed    public.a: no key\n");
        let of = |result: &str, tables: &[Value]| {
            verdict(&json!({"result": result, "tables": tables, "reason": "stopped"}))
        };
        let expected = "changed   public.a a=1, b=x: c, d\nextra     public.a a=2, b=y\n          \
                        public.a: 2 more rows\ndifferent\n";
        assert_eq!(of("different", &[different]), expected);
        let equal = [table("equal", 2, "p2"), table("equal", 1, "p1")];
        assert_eq!(of("equal", &equal), "equal up to p2\n");
        assert_eq!(of("failed", &[failed]), "could not be verified: stopped\n");
        for (result, known) in [("waiting", false), ("running", false), ("equal", true)] {
            assert_eq!(is_known(&table(result, 1, "")), known);
        }
    }
}
