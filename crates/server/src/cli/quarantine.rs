//! `thalweg quarantine`: rows that the target of a task has refused, seen, released and discarded.
//!
//! It asks a running server. To release and to discard the task itself has to run, which does the work.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{array, number, print, text};
use super::client::{Client, ServerArgs, encode};

/// Rows stay in quarantine that were to leave it.
const REFUSED: u8 = 1;
/// It could not be done.
const FAILED: u8 = 2;
/// Rows of one answer, the most there may be.
const PAGE: u64 = 999;
/// Rows that one request may name.
const ROWS_MAX: usize = 10_000;

/// Arguments of `quarantine`.
#[derive(Debug, clap::Args)]
pub(crate) struct QuarantineArgs {
    /// What to do with them.
    #[command(subcommand)]
    what: What,
}

/// What to do with rows in quarantine.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// A line for each row: its id, table and key, what the source did, how many changes wait behind it,
    /// and why the target has refused it
    List(ListArgs),
    /// All changes of rows, in their order
    Show(ShowArgs),
    /// Have a running task write rows with all their changes, as the source sent them. Exit code 0: all
    /// are written; 1: some were refused again and stay; 2: it could not be done
    Release(SettleArgs),
    /// Have a running task forget rows with all their changes: at the target they stay as they are. Exit
    /// code 0: all are forgotten; 1: some stay; 2: it could not be done
    Discard(SettleArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The task, by its id or its name
    task: String,
    /// Rows of this target table only
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Option<String>,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The task, by its id or its name
    task: String,
    /// Ids of rows, as the list has them
    #[arg(value_name = "ROW_ID", required = true)]
    rows: Vec<u64>,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct SettleArgs {
    /// The task, by its id or its name; it has to run
    task: String,
    /// Which rows.
    #[command(flatten)]
    chosen: Chosen,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

/// Which rows.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// Ids of rows, as the list has them
    #[arg(value_name = "ROW_ID")]
    rows: Vec<u64>,
    /// All rows
    #[arg(long)]
    all: bool,
    /// All rows of this target table
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Option<String>,
}

/// Prints what was asked for, or what was done. Exit codes: 0 done; 1 rows stay that were to leave; 2 it
/// could not be done.
pub(crate) fn run(args: QuarantineArgs) -> ExitCode {
    let done = match args.what {
        What::List(args) => list(args),
        What::Show(args) => show(args),
        What::Release(args) => settle(args, "release", "released"),
        What::Discard(args) => settle(args, "discard", "discarded"),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(text) => {
            eprintln!("thalweg: {text}");
            ExitCode::from(FAILED)
        }
    }
}

/// The quarantine of a task.
struct Quarantine {
    client: Client,
    path: String,
}

impl Quarantine {
    fn of(task: &str, server: ServerArgs) -> Result<Quarantine, String> {
        let mut client = Client::login(server)?;
        let task = client.task(task)?;
        let path = client.native(&format!("/tasks/{}/quarantine", encode(&task)));
        Ok(Quarantine { client, path })
    }

    /// Gives its rows, of one table or of all, a page at a time.
    fn each_page(
        &mut self,
        table: Option<&str>,
        mut with: impl FnMut(&[Value]) -> Result<(), String>,
    ) -> Result<(), String> {
        let table = table.map_or(String::new(), |name| format!("&table={}", encode(name)));
        let mut offset = 0;
        loop {
            let path = format!("{}?limit={PAGE}&offset={offset}{table}", self.path);
            let page = self.client.call("GET", &path, None)?;
            with(array(&page, "rows"))?;
            offset += PAGE;
            if offset >= number(&page, "total") {
                return Ok(());
            }
        }
    }

    /// Bodies of the requests for the rows that are meant.
    fn bodies(&mut self, chosen: Chosen) -> Result<Vec<Value>, String> {
        if chosen.all {
            return Ok(vec![json!({ "all": true })]);
        }
        let mut ids = chosen.rows;
        if let Some(table) = &chosen.table {
            self.each_page(Some(table), |rows| {
                ids.extend(rows.iter().map(|row| number(row, "row_id")));
                Ok(())
            })?;
        }
        let bodies = ids.chunks(ROWS_MAX).map(|ids| json!({ "rows": ids }));
        Ok(bodies.collect())
    }
}

fn list(args: ListArgs) -> Result<u8, String> {
    let mut quarantine = Quarantine::of(&args.task, args.server)?;
    quarantine.each_page(args.table.as_deref(), |rows| {
        print(&rows.iter().map(line).collect::<String>())
    })?;
    Ok(0)
}

fn show(args: ShowArgs) -> Result<u8, String> {
    let mut quarantine = Quarantine::of(&args.task, args.server)?;
    for row in args.rows {
        let path = format!("{}/{row}", quarantine.path);
        let found = quarantine.client.call("GET", &path, None)?;
        print(&whole(&found))?;
    }
    Ok(0)
}

fn settle(args: SettleArgs, way: &str, done: &str) -> Result<u8, String> {
    let mut quarantine = Quarantine::of(&args.task, args.server)?;
    let path = format!("{}/{way}", quarantine.path);
    let (mut rows, mut changes, mut code) = (0, 0, 0);
    for body in quarantine.bodies(args.chosen)? {
        let settled = quarantine.client.call("POST", &path, Some(&body))?;
        for row in array(&settled, "refused") {
            print(&refused(row))?;
            code = REFUSED;
        }
        rows += number(&settled, "rows");
        changes += number(&settled, "changes");
    }
    print(&format!("{done} {rows} rows with {changes} changes\n"))?;
    Ok(code)
}

/// A row of the list.
fn line(row: &Value) -> String {
    let mut parts = vec![
        number(row, "row_id").to_string(),
        text(row, "target").to_owned(),
        text(row, "key").to_owned(),
        text(row, "operation").to_owned(),
    ];
    match number(row, "changes").saturating_sub(1) {
        0 => {}
        later => parts.push(format!("(+{later} waiting)")),
    }
    parts.push(text(row, "error").to_owned());
    joined(&parts)
}

/// A row with a line for each of its changes.
fn whole(row: &Value) -> String {
    let mut out = joined(&[
        number(row, "row_id").to_string(),
        format!("{} -> {}", text(row, "source"), text(row, "target")),
        text(row, "key").to_owned(),
    ]);
    for change in array(row, "waiting") {
        let since = change.get("since_ms").and_then(Value::as_i64);
        let since = since.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let why = match text(change, "error") {
            "" => "waits",
            error => error,
        };
        out.push_str("  ");
        out.push_str(&joined(&[
            number(change, "number").to_string(),
            text(change, "operation").to_owned(),
            text(change, "position").to_owned(),
            since.map_or(String::new(), |since| since.to_string()),
            why.to_owned(),
        ]));
    }
    out
}

/// A row that stays.
fn refused(row: &Value) -> String {
    let id = number(row, "row_id").to_string();
    joined(&["stays".to_owned(), id, text(row, "reason").to_owned()])
}

/// One line, whatever stands in the parts: keys are values of rows.
fn joined(parts: &[String]) -> String {
    let mut out = String::new();
    for char in parts.join("  ").chars() {
        match char.is_control() {
            true => out.extend(char.escape_default()),
            false => out.push(char),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_row_is_one_line_and_each_of_its_changes() {
        let row = json!({
            "row_id": 7, "source": "shop.a", "target": "public.a", "key": "id=1, name=x\n\u{1b}[2J",
            "operation": "update", "error": "too long", "position": "0-1-2", "since_ms": 0,
            "changes": 3,
            "waiting": [
                {"number": 7, "operation": "update", "error": "too long", "position": "0-1-2",
                 "since_ms": 0},
                {"number": 9, "operation": "delete", "error": null, "position": "0-1-3",
                 "since_ms": 1500},
            ],
        });
        let key = r"id=1, name=x\n\u{1b}[2J";
        let expected = format!("7  public.a  {key}  update  (+2 waiting)  too long\n");
        assert_eq!(line(&row), expected);
        let expected = format!(
            "7  shop.a -> public.a  {key}\n  \
             7  update  0-1-2  1970-01-01T00:00:00Z  too long\n  \
             9  delete  0-1-3  1970-01-01T00:00:01.5Z  waits\n"
        );
        assert_eq!(whole(&row), expected);
        let alone = json!({
            "row_id": 8, "target": "a.b", "key": "id=2", "operation": "insert", "error": "e",
            "changes": 1,
        });
        assert_eq!(line(&alone), "8  a.b  id=2  insert  e\n");
        let stays = refused(&json!({"row_id": 8, "reason": "too long"}));
        assert_eq!(stays, "stays  8  too long\n");
    }

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: QuarantineArgs,
    }

    #[test]
    fn rows_are_named_or_all_are_meant_or_those_of_a_table() {
        let server = ["--instance", "i", "--password", "p"];
        let parse = |args: &[&str]| {
            let all = ["thalweg"].iter().chain(args).chain(&server);
            Cli::try_parse_from(all).map(|cli| cli.args.what)
        };
        let chosen = |args: &[&str]| match parse(args).unwrap() {
            What::Release(args) | What::Discard(args) => args.chosen,
            other => panic!("{other:?}"),
        };
        assert_eq!(chosen(&["release", "t", "1", "2"]).rows, [1, 2]);
        assert!(chosen(&["discard", "t", "--all"]).all);
        let table = chosen(&["release", "t", "--table", "a.b"]).table;
        assert_eq!(table.unwrap(), "a.b");
        for wrong in [
            &["release", "t"][..],
            &["release", "t", "1", "--all"],
            &["discard", "t", "--all", "--table", "a"],
            &["discard", "t", "1", "--table", "a"],
            &["release", "t", "x"],
            &["show", "t"],
            &["list"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
