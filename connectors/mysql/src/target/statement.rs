//! A statement in the making, and the values that are too long to stand in it.
//!
//! As a literal a value is copied into the statement, and its quotes are doubled; the driver copies the
//! statement into a packet and the packet into what it sends. So a long value goes before the statement,
//! by itself: into a variable of the session, as the parameter of a prepared statement, which the
//! driver sends in packets of 16 MiB (`COM_STMT_SEND_LONG_DATA`). The statement names the variable.
//! That costs a round trip and is for what is stored only: compared with a column, a variable would
//! have to have its collation.

/// A value of so many bytes is long.
pub(super) const LONG_BYTES: usize = 1 << 20;

/// A long value of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Long<'a> {
    /// Of its variable.
    number: usize,
    pub(super) bytes: &'a [u8],
    /// Octets; otherwise text.
    pub(super) octets: bool,
}

impl Long<'_> {
    /// Its variable.
    pub(super) fn variable(&self) -> String {
        format!("@thalweg_{}", self.number)
    }
}

/// A statement, or several.
#[derive(Debug, Default)]
pub(super) struct Statement<'a> {
    pub(super) text: Vec<u8>,
    long: Vec<Long<'a>>,
}

impl From<String> for Statement<'_> {
    fn from(text: String) -> Self {
        Statement {
            text: text.into_bytes(),
            long: Vec::new(),
        }
    }
}

impl<'a> Statement<'a> {
    /// Bytes of it with its long values.
    pub(super) fn bytes(&self) -> usize {
        let long = self.long.iter().map(|long| long.bytes.len());
        self.text.len() + long.sum::<usize>()
    }

    /// The long values.
    pub(super) fn long(&self) -> &[Long<'a>] {
        &self.long
    }

    /// Appends a long value.
    pub(super) fn put_long(&mut self, bytes: &'a [u8], octets: bool) {
        let number = self.long.last().map_or(0, |last| last.number + 1);
        let long = Long {
            number,
            bytes,
            octets,
        };
        self.text.extend_from_slice(long.variable().as_bytes());
        self.long.push(long);
    }

    /// Where it ends now.
    pub(super) fn end(&self) -> (usize, usize) {
        (self.text.len(), self.long.len())
    }

    /// Appends what `other` has from a place on; that keeps its text.
    pub(super) fn take_from(&mut self, other: &mut Self, (text, long): (usize, usize)) {
        let text = other.text.get(text..).unwrap_or_default();
        self.text.extend_from_slice(text);
        self.long.extend(other.long.drain(long..));
    }

    /// Empties it, keeping the memory for reuse.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.long.clear();
    }
}
