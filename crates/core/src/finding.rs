//! What preflight checks and planning have to say.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Works, but costs or risks something.
    Warning,
    /// The task is refused until it is fixed.
    Error,
}

impl Severity {
    /// The word used in the API and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing found by a check, with the statement or setting that fixes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable identifier, `snake_case`, such as `binlog_format`.
    pub code: &'static str,
    /// What it is about: a table, a column, a setting.
    pub subject: String,
    /// The fact.
    pub message: String,
    /// The exact fix; empty only if there is nothing to do.
    pub fix: String,
}

impl Finding {
    /// A finding that refuses the task.
    pub fn error(
        code: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding {
            severity: Severity::Error,
            code,
            subject: subject.into(),
            message: message.into(),
            fix: fix.into(),
        }
    }

    /// A finding that warns.
    pub fn warning(
        code: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding {
            severity: Severity::Warning,
            ..Finding::error(code, subject, message, fix)
        }
    }

    /// A finding that informs.
    pub fn info(
        code: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding {
            severity: Severity::Info,
            ..Finding::error(code, subject, message, fix)
        }
    }

    /// Whether the task must not start.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Error
    }
}
