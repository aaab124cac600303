//! What a call of the control plane can answer besides success.
//!
//! A variant says what the caller did; which HTTP status and which code that is stands in one file of
//! the server. Texts are for people: what is wrong, and how to put it right.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a path named that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The instance.
    Instance,
    /// An integration application.
    Application,
    /// A data source.
    DataSource,
    /// A composite task.
    Task,
    /// A mapping of a task.
    Mapping,
    /// A verification of a task.
    Verification,
    /// A row in quarantine.
    QuarantinedRow,
    /// An execution of a task.
    Execution,
    /// The schedule of a task.
    Dispatch,
    /// A user.
    User,
    /// An access key of a user.
    Key,
    /// A policy.
    Policy,
    /// A policy granted to a user.
    Grant,
    /// A project.
    Project,
    /// A token.
    Token,
}

/// Why a call was not done.
#[derive(Clone, Debug)]
pub enum Error {
    /// One parameter is wrong, conflicts, or names something that does not exist.
    Invalid {
        /// Its name in the API.
        field: String,
        /// What is wrong and how to fix it.
        reason: String,
    },
    /// The request as a whole cannot be understood.
    Parameters(String),
    /// A mapping is wrong or belongs to another task.
    Mapping(String),
    /// A data source may not have this address.
    Address(String),
    /// An SQL text that a system does not take, or that is no query.
    Sql(String),
    /// The task is running and the call needs it stopped.
    Running(String),
    /// The task is not running and the call needs it to be.
    NotRunning(String),
    /// More of this waits already than may; later it will do.
    TooMany(String),
    /// The running task has not done it so far; later it will do.
    NotYet(String),
    /// The task's tables, as they are now, do not allow it.
    Conflict(String),
    /// The task could not be started.
    Start(String),
    /// A scheduled task, of this name, that has no schedule.
    NoSchedule(String),
    /// The task could not be stopped.
    Stop(String),
    /// A system could not be reached or used.
    Unreachable {
        /// What happened, in short.
        reason: String,
        /// What to do, or everything that was found.
        detail: Option<String>,
    },
    /// A path names something that does not exist.
    NotFound(Subject),
    /// The project of the path is not the caller's.
    OtherProject,
    /// The caller's policies do not allow this.
    Denied(String),
    /// Credentials are missing or wrong.
    Unauthenticated(String),
    /// The store is busy with other calls; this one did nothing and can be sent again.
    Busy,
    /// A fault of ours: the store failed, or an invariant is broken.
    Internal(String),
}

impl Error {
    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Shorthand for [`Error::Internal`] with the whole chain of causes.
    pub fn internal(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Error::Internal(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid { field, reason } => write!(f, "{field}: {reason}"),
            Error::Parameters(text)
            | Error::Mapping(text)
            | Error::Address(text)
            | Error::Sql(text)
            | Error::Running(text)
            | Error::NotRunning(text)
            | Error::TooMany(text)
            | Error::NotYet(text)
            | Error::Conflict(text)
            | Error::Start(text)
            | Error::Stop(text)
            | Error::Unauthenticated(text)
            | Error::Denied(text)
            | Error::Internal(text) => f.write_str(text),
            Error::NoSchedule(task) => write!(
                f,
                "task {task} has no schedule: make one (POST /tasks/{{task_id}}/dispatches) first"
            ),
            Error::Unreachable { reason, .. } => f.write_str(reason),
            Error::NotFound(subject) => write!(f, "{subject:?} does not exist"),
            Error::Busy => f.write_str("the catalogue is busy with other calls"),
            Error::OtherProject => f.write_str("the project is not the caller's"),
        }
    }
}

impl std::error::Error for Error {}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Error::Busy,
            other => Error::internal(other),
        }
    }
}
