//! Places in a source's log and what is needed to read it there, opaque to everyone but the source that
//! made them.
//!
//! None of these types is ordered on purpose: GTID sets are only partly ordered, so an `Ord` here
//! would be a lie. The source answers questions of order ([`crate::ports::Source::reached`],
//! [`crate::ports::Source::contains`]).

use std::fmt;

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// Wraps the connector's own text.
            pub fn new(text: impl Into<String>) -> Self {
                $name(text.into())
            }

            /// The connector's own text; stored as it is, parsed only by its maker.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque! {
    /// A place between two transactions of a source's log from which reading can resume.
    Position
}
opaque! {
    /// Identifies one transaction of a source, known from its first part on.
    TxId
}
opaque! {
    /// What a snapshot had seen: enough to say of any transaction whether its rows are in it.
    Visibility
}
opaque! {
    /// What a source has to remember of a table to read its log from a position on, as far as the log
    /// does not say it itself.
    Layout
}
