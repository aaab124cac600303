//! Verifications: whether the tables of a running task are equal.

use thalweg_engine::verify::{Finding, Report, Request};

/// A verification to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVerification {
    /// Target tables as users write them; empty: all.
    pub tables: Vec<String>,
    /// Whether rows that differ are written as they are at the source.
    pub repair: bool,
    /// Rows read from the source a second, at most; `None`: as many as can be.
    pub rows_per_second: Option<u64>,
}

/// Who asked for a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// A caller.
    User,
    /// The task's option `verify_rows_per_second`.
    Background,
}

impl AskedBy {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            AskedBy::User => "user",
            AskedBy::Background => "background",
        }
    }
}

/// What was found, of a table or of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No row differs.
    Equal,
    /// Rows differed, and were repaired.
    Repaired,
    /// Rows differ.
    Different,
    /// It could not be compared, or repaired.
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 4] = [
        Outcome::Equal,
        Outcome::Repaired,
        Outcome::Different,
        Outcome::Failed,
    ];

    /// What was found of a table; `None`: that is not known yet.
    pub fn of(finding: &Finding) -> Option<Outcome> {
        match finding {
            Finding::Waiting | Finding::Running => None,
            Finding::Equal => Some(Outcome::Equal),
            Finding::Repaired => Some(Outcome::Repaired),
            Finding::Different => Some(Outcome::Different),
            Finding::Failed(_) => Some(Outcome::Failed),
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Equal => "equal",
            Outcome::Repaired => "repaired",
            Outcome::Different => "different",
            Outcome::Failed => "failed",
        }
    }

    /// What a word of the API means.
    pub fn parse(text: &str) -> Option<Outcome> {
        let mut all = Outcome::ALL.into_iter();
        all.find(|outcome| outcome.as_str() == text)
    }
}

/// A verification as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Who asked for it.
    pub asked_by: AskedBy,
    /// Milliseconds since the Unix epoch.
    pub asked_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub ended_ms: Option<i64>,
    /// What was asked for.
    pub request: Request,
    /// What is known. Where it ended before it was done, `waits` says why.
    pub report: Report,
}

impl Verification {
    /// What was found of all its tables, when it has ended: that rows differ is known for certain, so it
    /// stands before what could not be compared.
    pub fn outcome(&self) -> Option<Outcome> {
        self.ended_ms?;
        let tables = self.report.tables.iter();
        let found: Vec<_> = tables.map(|table| Outcome::of(&table.finding)).collect();
        let has = |outcome| found.contains(&Some(outcome));
        Some(if has(Outcome::Different) {
            Outcome::Different
        } else if has(Outcome::Failed) || found.is_empty() || found.contains(&None) {
            Outcome::Failed
        } else if has(Outcome::Repaired) {
            Outcome::Repaired
        } else {
            Outcome::Equal
        })
    }

    /// Whether all tables of the task were found equal, or repaired.
    pub(crate) fn is_whole(&self) -> bool {
        let good = matches!(self.outcome(), Some(Outcome::Equal | Outcome::Repaired));
        good && self.request.tables.is_empty()
    }
}

/// What was found last of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The place in the source's log up to which it holds.
    pub position: Option<String>,
    /// What was found; never that it failed.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use thalweg_engine::verify::TableReport;

    use super::*;

    fn found(findings: &[Finding]) -> Verification {
        let table = |finding: &Finding| TableReport {
            finding: finding.clone(),
            ..TableReport::default()
        };
        Verification {
            id: String::new(),
            asked_by: AskedBy::User,
            asked_ms: 1,
            ended_ms: Some(2),
            request: Request::default(),
            report: Report {
                tables: findings.iter().map(table).collect(),
                ..Report::default()
            },
        }
    }

    #[test]
    fn what_is_worst_of_a_table_is_so_of_all() {
        use Finding::{Different, Equal, Repaired, Running};
        let failed = || Finding::Failed("why".to_owned());
        let check = |findings: &[Finding], expected: Outcome, whole: bool| {
            let found = found(findings);
            assert_eq!(found.outcome(), Some(expected), "{findings:?}");
            assert_eq!(found.is_whole(), whole, "{findings:?}");
        };
        check(&[Equal, Equal], Outcome::Equal, true);
        check(&[Equal, Repaired], Outcome::Repaired, true);
        check(&[Different, Repaired], Outcome::Different, false);
        check(&[failed(), Different], Outcome::Different, false);
        check(&[failed(), Equal], Outcome::Failed, false);
        check(&[Running, Equal], Outcome::Failed, false);
        check(&[], Outcome::Failed, false);
        let mut going = found(&[Equal]);
        going.ended_ms = None;
        assert_eq!(going.outcome(), None);
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
        }
    }
}
