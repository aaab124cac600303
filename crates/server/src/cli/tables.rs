//! `thalweg tables`: the tables of a task, one by one, also while it runs.
//!
//! It asks a running server. What is decided is stored there at once, and a running task takes it up.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::answer::{array, number, print, text};
use super::client::{Client, ServerArgs, encode};

/// It could not be done.
const FAILED: u8 = 2;
/// Tables of one answer, the most there may be.
const PAGE: u64 = 999;

/// Arguments of `tables`.
#[derive(Debug, clap::Args)]
pub(crate) struct TablesArgs {
    /// What to do with them.
    #[command(subcommand)]
    what: What,
}

/// What to do with the tables of a task. Each works while the task runs, and on a stopped task for its next run.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// A line for each table: its mapping id, source and target table, and its phase, or why it is paused and
    /// what to do about it
    List(ListArgs),
    /// Leave tables out until they are resumed: their changes are not applied, all other tables go on. What is
    /// at the target stays as it is
    Pause(NamedArgs),
    /// Take paused tables back. They are loaded again, because they have missed changes. Do away with the cause
    /// first: what a running task would stop for is refused, and the table stays paused
    Resume(NamedArgs),
    /// Load tables again: the rows at the target are replaced by those of the source, and changes follow
    Reload(NamedArgs),
    /// Add a table, all columns by their names. It is loaded, and changes follow. What a running task would
    /// stop for is refused, and the task goes on without it
    Add(AddArgs),
    /// Take tables out of the task for good. The rows at the target stay as they are
    Remove(NamedArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The task, by its id or its name
    task: String,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct NamedArgs {
    /// The task, by its id or its name
    task: String,
    /// Tables, each by its name at the source or at the target (schema.table, or table alone where no other
    /// has that name), or by its mapping id
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<String>,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// The task, by its id or its name; it has its data sources
    task: String,
    /// The source table: schema.table, or table in the data source's own schema
    source_table: String,
    /// The target table, likewise
    target_table: String,
    /// Which server, and who asks it.
    #[command(flatten)]
    server: ServerArgs,
}

/// Prints what was asked for, or a line for each thing that was done. Exit codes: 0 done; 2 it could not be
/// done, or not for all tables.
pub(crate) fn run(args: TablesArgs) -> ExitCode {
    let done = match args.what {
        What::List(args) => list(args),
        What::Pause(args) => each(args, "pause"),
        What::Resume(args) => each(args, "resume"),
        What::Reload(args) => each(args, "reload"),
        What::Add(args) => add(
            &args.task,
            (&args.source_table, &args.target_table),
            args.server,
        ),
        What::Remove(args) => each(args, "remove"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("thalweg: {text}");
            ExitCode::from(FAILED)
        }
    }
}

/// The tables of a task.
struct Tables {
    client: Client,
    path: String,
}

impl Tables {
    fn of(task: &str, server: ServerArgs) -> Result<Tables, String> {
        let mut client = Client::login(server)?;
        let task = client.task(task)?;
        let path = client.native(&format!("/tasks/{}/tables", encode(&task)));
        Ok(Tables { client, path })
    }

    fn all(&mut self) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        loop {
            let path = format!("{}?limit={PAGE}&offset={}", self.path, all.len());
            let page = self.client.call("GET", &path, None)?;
            let tables = array(&page, "tables");
            all.extend_from_slice(tables);
            if tables.is_empty() || all.len() as u64 >= number(&page, "total") {
                return Ok(all);
            }
        }
    }
}

fn list(args: ListArgs) -> Result<(), String> {
    let mut tables = Tables::of(&args.task, args.server)?;
    let lines: String = tables.all()?.iter().map(line).collect();
    print(&lines)
}

/// Does one thing with each of the tables that are named.
fn each(args: NamedArgs, what: &str) -> Result<(), String> {
    let mut tables = Tables::of(&args.task, args.server)?;
    let known = tables.all()?;
    let found: Result<Vec<&Value>, String> = args
        .tables
        .iter()
        .map(|name| find(&known, name, what == "remove"))
        .collect();
    // One that is not there is told before anything is done.
    for table in found? {
        let one = format!("{}/{}", tables.path, encode(text(table, "mapping_id")));
        let done = match what {
            "remove" => tables.client.call("DELETE", &one, None),
            _ => tables.client.call("POST", &format!("{one}/{what}"), None),
        };
        let now = done.map_err(|error| format!("{}: {error}", names(table)))?;
        match what {
            "remove" => print(&format!("removed  {}\n", names(table)))?,
            _ => print(&line(&now))?,
        }
    }
    Ok(())
}

fn add(task: &str, (source, target): (&str, &str), server: ServerArgs) -> Result<(), String> {
    let mut tables = Tables::of(task, server)?;
    let body = json!({ "source_table": source, "target_table": target });
    let path = tables.path.clone();
    print(&line(&tables.client.call("POST", &path, Some(&body))?))
}

/// The table of a name. Mappings of one target table are one table, unless `single`: one of them is meant.
fn find<'a>(known: &'a [Value], name: &str, single: bool) -> Result<&'a Value, String> {
    let fields = ["mapping_id", "source_table", "target_table"];
    let whole = |table: &&Value| fields.iter().any(|field| text(table, field) == name);
    let short = |table: &&Value| {
        let of = |field: &&str| text(table, field).split_once('.').map(|(_, name)| name);
        fields.iter().any(|field| of(field) == Some(name))
    };
    let mut found: Vec<&Value> = known.iter().filter(whole).collect();
    if found.is_empty() {
        found = known.iter().filter(short).collect();
    }
    let target = |table: &Value| text(table, "target_table").to_owned();
    match found.as_slice() {
        [] => Err(format!("the task has no table {name}")),
        [one] => Ok(one),
        [first, rest @ ..] if !single && rest.iter().all(|t| target(t) == target(first)) => {
            Ok(first)
        }
        several => {
            let several: Vec<String> = several.iter().map(|table| names(table)).collect();
            Err(format!(
                "the name {name} may mean {}: give a mapping id",
                several.join(" or ")
            ))
        }
    }
}

fn names(table: &Value) -> String {
    format!(
        "{}  {} -> {}",
        text(table, "mapping_id"),
        text(table, "source_table"),
        text(table, "target_table")
    )
}

/// A table of the list.
fn line(table: &Value) -> String {
    let null = Value::Null;
    let paused = table.get("paused").unwrap_or(&null);
    let status = table.get("status").unwrap_or(&null);
    let state = match (paused.is_null(), text(status, "phase")) {
        (false, _) => {
            let (reason, fix) = (text(paused, "reason"), text(paused, "fix"));
            format!("paused: {reason}. Fix: {fix}")
        }
        (true, "") => "not running".to_owned(),
        (true, phase) => phase.to_owned(),
    };
    let again = match table.get("reload").and_then(Value::as_bool) {
        Some(true) => ", to be loaded again",
        _ => "",
    };
    format!("{}  {state}{again}\n", names(table))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn table(id: &str, source: &str, target: &str) -> Value {
        json!({
            "mapping_id": id, "source_table": source, "target_table": target, "paused": null,
            "reload": false, "status": null,
        })
    }

    #[test]
    fn a_table_is_a_line() {
        let mut one = table("7", "shop.a", "public.a");
        assert_eq!(line(&one), "7  shop.a -> public.a  not running\n");
        one["status"] = json!({"phase": "Live"});
        one["reload"] = json!(true);
        let expected = "7  shop.a -> public.a  Live, to be loaded again\n";
        assert_eq!(line(&one), expected);
        one["reload"] = json!(false);
        one["paused"] = json!({"reason": "changed", "fix": "change it back", "since_ms": 1});
        let expected = "7  shop.a -> public.a  paused: changed. Fix: change it back\n";
        assert_eq!(line(&one), expected);
    }

    #[test]
    fn a_table_is_found_by_each_of_its_names() {
        let known = [
            table("1", "shop.a", "public.a"),
            table("2", "shop.b", "public.all"),
            table("3", "old.b", "public.all"),
            table("4", "shop.all", "other.d"),
        ];
        let id = |name: &str, single: bool| {
            find(&known, name, single).map(|table| text(table, "mapping_id").to_owned())
        };
        for (name, expected) in [
            ("1", "1"),
            ("shop.a", "1"),
            ("public.a", "1"),
            ("a", "1"),
            ("public.all", "2"),
            ("b", "2"),
            ("old.b", "3"),
            ("d", "4"),
        ] {
            assert_eq!(id(name, false).unwrap(), expected, "{name}");
        }
        assert!(id("all", false).unwrap_err().contains("may mean"));
        assert!(id("public.all", true).unwrap_err().contains("mapping id"));
        assert!(id("x", false).unwrap_err().contains("no table x"));
    }

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: TablesArgs,
    }

    #[test]
    fn tables_are_named() {
        let server = ["--instance", "i", "--password", "p"];
        let parse = |args: &[&str]| {
            let all = ["thalweg"].iter().chain(args).chain(&server);
            Cli::try_parse_from(all).map(|cli| cli.args.what)
        };
        match parse(&["pause", "t", "a", "b"]).unwrap() {
            What::Pause(args) => assert_eq!(args.tables, ["a", "b"]),
            other => panic!("{other:?}"),
        }
        match parse(&["add", "t", "a", "b"]).unwrap() {
            What::Add(args) => assert_eq!((&*args.source_table, &*args.target_table), ("a", "b")),
            other => panic!("{other:?}"),
        }
        assert!(parse(&["list", "t"]).is_ok());
        for wrong in [
            &["list"][..],
            &["list", "t", "a"],
            &["pause", "t"],
            &["resume", "t"],
            &["reload", "t"],
            &["remove", "t"],
            &["add", "t", "a"],
            &["add", "t", "a", "b", "c"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
