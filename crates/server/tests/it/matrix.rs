//! The matrix: every kind of change between every two systems that can be had live, through the built
//! server and its API, judged by a reader that knows nothing of our decoders.
//!
//! A case is tables, a state before the task starts, and changes while it runs. Each case has a task
//! of its own, and all tasks of a pair run at once; the server is killed in the middle of the changes.
//! What a case leaves in the source must be in the target, row by row. Each case says at its end that
//! it is done by a row of a table of its own, so nobody waits for a time.

mod cases;
mod results;
mod types;

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use thalweg_testkit::compare::Report;
use thalweg_testkit::servers::System;
use thalweg_testkit::workload;

use crate::lab::{Lab, PATIENCE, Status};
use cases::Case;

/// How often a case is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

pairs!(
    every_case_arrives,
    #[cfg(all())],
    #[ignore = "each half is half of another pair, which the gate has: make prove matrix"]
);

fn every_case_arrives(from: System, to: System) {
    let begin = Instant::now();
    let mut matrix = Matrix::start(from, to).unwrap();
    let outcome = matrix.run();
    let logs = matrix.lab.logs();
    match outcome {
        Ok(told) => println!(
            "proof: matrix {from} to {to}: {told}; {:.0} s",
            begin.elapsed().as_secs_f64()
        ),
        Err(error) => panic!("matrix {from} to {to}: {error:#}\n{logs}"),
    }
}

/// A pair with all its cases; dropped from top to bottom.
struct Matrix {
    lab: Lab,
    cases: Vec<Case>,
    /// The task of each case.
    tasks: Vec<String>,
}

impl Matrix {
    fn start(from: System, to: System) -> Result<Self> {
        let mut cases = cases::all(from, to);
        cases.push(types::case(from));
        if from == to {
            cases.push(types::own(from));
        }
        let only = std::env::var("CASE").ok();
        cases.retain(|case| only.as_ref().is_none_or(|only| only == case.name));
        let lab = Lab::between(from, to, |source| {
            for case in &cases {
                let done = format!(
                    "CREATE TABLE done_{0} (id INT PRIMARY KEY, n INT NOT NULL); \
                     INSERT INTO done_{0} VALUES (1, 0);",
                    case.name
                );
                source
                    .sql(&(done + &case.before))
                    .with_context(|| format!("{}: before", case.name))?;
            }
            Ok(())
        })?;
        if from == to {
            lab.target.sql(workload::user_types(to))?;
        }
        let tasks = Vec::new();
        Ok(Self { lab, cases, tasks })
    }

    /// Runs everything; what was compared.
    fn run(&mut self) -> Result<String> {
        for case in &self.cases {
            let mut tables = case.tables.clone();
            tables.push(format!("done_{}", case.name));
            let task = self.lab.task(case.name, &tables);
            self.tasks.push(task.with_context(|| case.name)?);
        }
        // A load may have to wait for what another case has open, so those come last.
        for (case, task) in self.cases.iter().zip(&self.tasks) {
            if case.opening.is_empty() {
                self.lab.client.run_task(task)?;
            }
        }
        self.each("Live", |lab, case, task| {
            Ok(!case.opening.is_empty() || lab.status(task)?.live(case.tables.len() + 1))
        })?;
        for (case, task) in self.cases.iter().zip(&self.tasks) {
            if !case.opening.is_empty() {
                let opened = self.lab.source.sql(&case.opening);
                opened.with_context(|| case.name)?;
                self.lab.client.run_task(task)?;
            }
        }
        for case in &self.cases {
            self.change(case, &case.changes)?;
        }
        self.each("the changes", |lab, case, task| {
            if !case.opening.is_empty() {
                return Ok(true);
            }
            lab.status(task)?;
            Ok(done(lab, case)? == "1")
        })?;
        self.lab.thalweg.kill();
        for case in &self.cases {
            self.change(case, &case.while_down)?;
        }
        self.lab.thalweg.restart()?;
        for case in &self.cases {
            self.change(case, &case.after)?;
        }
        // A load that has waited too long for what was open has been refused; now nothing is open.
        for (case, task) in self.cases.iter().zip(&self.tasks) {
            let status = self.lab.client.status(task)?;
            if !case.opening.is_empty() && Status(status).phase() == "Failed" {
                self.lab.client.run_task(task)?;
            }
        }
        self.each("everything", |lab, case, task| {
            lab.status(task)?;
            Ok(done(lab, case)? == "3")
        })?;
        self.judge()
    }

    /// Changes of a case, and a row that tells that they are over.
    fn change(&self, case: &Case, sql: &str) -> Result<()> {
        let done = format!("{sql}\nUPDATE done_{} SET n = n + 1;", case.name);
        let changed = self.lab.source.sql(&done);
        changed.map(drop).with_context(|| case.name)
    }

    /// Waits until `reached` holds of every case; an error names all cases of which it does not.
    fn each(&self, what: &str, reached: impl Fn(&Lab, &Case, &str) -> Result<bool>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut waiting: Vec<_> = self.cases.iter().zip(&self.tasks).collect();
        let mut failed = String::new();
        while !waiting.is_empty() {
            let mut still = Vec::new();
            for (case, task) in waiting {
                match reached(&self.lab, case, task) {
                    Ok(true) => {}
                    Ok(false) => still.push((case, task)),
                    Err(error) => write!(failed, "\n{}: {error:#}", case.name)?,
                }
            }
            waiting = still;
            if Instant::now() > until {
                let names: Vec<_> = waiting.iter().map(|(case, _)| case.name).collect();
                bail!("not {what} after {PATIENCE:?}: {names:?}{failed}");
            }
            std::thread::sleep(LOOK);
        }
        ensure!(failed.is_empty(), "before {what}:{failed}");
        Ok(())
    }

    fn judge(&self) -> Result<String> {
        let (mut rows, mut tables, mut wrong) = (0, 0, String::new());
        for case in &self.cases {
            let mut good = true;
            for table in &case.tables {
                match self.compare(table) {
                    Ok(report) if report.equal() => {
                        println!("{:<12} {report}", case.name);
                        rows += report.source_rows;
                        tables += 1;
                    }
                    Ok(report) => {
                        good = false;
                        write!(wrong, "\n{}: {report}", case.name)?;
                    }
                    Err(error) => {
                        good = false;
                        write!(wrong, "\n{}: {error:#}", case.name)?;
                    }
                }
            }
            if good {
                println!("matrix: {} equal", case.name);
            }
        }
        ensure!(wrong.is_empty(), "not equal:{wrong}");
        let cases: Vec<_> = self.cases.iter().map(|case| case.name).collect();
        results::record(&self.lab, &cases)?;
        Ok(format!(
            "{} cases ({}), {tables} tables, {rows} rows compared, all equal",
            cases.len(),
            cases.join(", ")
        ))
    }

    fn compare(&self, table: &str) -> Result<Report> {
        let names = (self.lab.source.table(table), self.lab.target.table(table));
        self.lab.judge().compare(&names.0, &names.1)
    }
}

/// How many groups of a case's changes the target has; nothing before its table is there.
fn done(lab: &Lab, case: &Case) -> Result<String> {
    let there = format!(
        "SELECT count(*) FROM information_schema.tables WHERE table_name = 'done_{}'",
        case.name
    );
    if lab.target.sql(&there)?.trim() == "0" {
        return Ok(String::new());
    }
    let told = lab
        .target
        .sql(&format!("SELECT n FROM done_{}", case.name))?;
    Ok(told.trim().to_owned())
}
