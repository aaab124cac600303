//! Errors are named after what someone should do about them, not after where they arose.
//!
//! Every connector maps its own errors (SQLSTATE, errno, I/O) to a [`Kind`] in one table, and one
//! function in the engine maps a [`Kind`] to a reaction.

use std::fmt;

use crate::schema::TableName;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Network, timeout, deadlock, failover: back off, reopen, resume from the checkpoint.
    Transient,
    /// Password, grant, missing key, wrong log setting: stop; a person must act.
    Config,
    /// The log before the needed position is gone: stop; a reload is needed.
    PositionLost,
    /// An incompatible change of a table: stop the task.
    Schema,
    /// A value or row that does not fit or that the target refuses: stop.
    Data,
    /// A newer owner of the task exists: stop quietly.
    Fenced,
    /// An invariant of ours is broken: stop and report.
    Bug,
}

impl Kind {
    /// The word used in the API, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Transient => "transient",
            Kind::Config => "config",
            Kind::PositionLost => "position_lost",
            Kind::Schema => "schema",
            Kind::Data => "data",
            Kind::Fenced => "fenced",
            Kind::Bug => "bug",
        }
    }
}

/// The end of a task at which an error arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Reading from the source.
    Source,
    /// Writing to the target.
    Target,
}

/// An error with what to do about it.
///
/// `Display` prints the message only; whoever reports it prints the chain with [`Error::chain`].
/// Neither message nor hint ever contains a secret or the value of a row.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    side: Option<Side>,
    table: Option<Box<TableName>>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    of_row: bool,
    joining: Option<Box<TableName>>,
    unsaid: bool,
}

impl Error {
    /// A new error. `message` is a short fact in lower case without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            side: None,
            table: None,
            message: message.into(),
            hint: None,
            source: None,
            of_row: false,
            joining: None,
            unsaid: false,
        }
    }

    /// Shorthand for [`Kind::Transient`].
    pub fn transient(message: impl Into<String>) -> Self {
        Error::new(Kind::Transient, message)
    }

    /// Shorthand for [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Error::new(Kind::Config, message)
    }

    /// Shorthand for [`Kind::Schema`].
    pub fn schema(message: impl Into<String>) -> Self {
        Error::new(Kind::Schema, message)
    }

    /// Shorthand for [`Kind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Error::new(Kind::Data, message)
    }

    /// Shorthand for [`Kind::Bug`].
    pub fn bug(message: impl Into<String>) -> Self {
        Error::new(Kind::Bug, message)
    }

    /// Adds what the user should do: a statement to run or a setting to change.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the side at which it arose, unless one is known already.
    #[must_use]
    pub fn at(mut self, side: Side) -> Self {
        self.side.get_or_insert(side);
        self
    }

    /// Adds the table it is about, unless one is known already.
    #[must_use]
    pub fn about(mut self, table: &TableName) -> Self {
        self.table.get_or_insert_with(|| Box::new(table.clone()));
        self
    }

    /// The table it is about, where one alone is.
    pub fn table(&self) -> Option<&TableName> {
        self.table.as_deref()
    }

    /// Says that a row was refused for its own values, whatever other rows there are and in whatever order they
    /// are written.
    #[must_use]
    pub fn of_row(mut self) -> Self {
        self.of_row = true;
        self
    }

    /// Whether [`Error::of_row`] was said of it.
    pub fn is_of_row(&self) -> bool {
        self.of_row
    }

    /// Says that it was met when this target table was loaded beside others that are Live, which can go on
    /// without it.
    #[must_use]
    pub fn of_joining(mut self, target: &TableName) -> Self {
        self.joining = Some(Box::new(target.clone()));
        self
    }

    /// The table of [`Error::of_joining`], if that was said of it and it is one of that table's rows or form.
    /// Others, such as a password that is not right any more, are everybody's.
    pub fn joining(&self) -> Option<&TableName> {
        let own = matches!(self.kind, Kind::Data | Kind::Schema);
        self.joining.as_deref().filter(|_| own)
    }

    /// Says that a stream ends at rows of its table that come or go without being in the log, and can go on
    /// behind that ([`crate::ports::Source::unsaid`]).
    #[must_use]
    pub fn of_unsaid(mut self) -> Self {
        self.unsaid = true;
        self
    }

    /// Whether [`Error::of_unsaid`] was said of it.
    pub fn is_unsaid(&self) -> bool {
        self.unsaid
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts context in front of the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What it asks for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The side at which it arose, where known.
    pub fn side(&self) -> Option<Side> {
        self.side
    }

    /// The short fact.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do, where known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message followed by those of all causes, joined with `: `.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            if !text.ends_with(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|e| e as &(dyn std::error::Error + 'static))
    }
}
