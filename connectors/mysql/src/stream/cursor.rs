//! Where in the log the reader stands.

use std::sync::Arc;

use thalweg_core::Result;

use crate::position::Coordinate;
use crate::wire::event::{self, Header, ty};

/// The place behind the last event.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    /// `@@server_id`.
    pub(crate) server: u32,
    pub(crate) file: Arc<str>,
    pub(crate) pos: u64,
    /// When the file was made, in Unix seconds; 0 until the file's first event has come.
    pub(crate) born: u32,
}

impl Cursor {
    /// At the beginning of a dump, whose first event names its file.
    pub(crate) fn new(server: u32) -> Cursor {
        Cursor {
            server,
            file: Arc::from(""),
            pos: 4,
            born: 0,
        }
    }

    pub(crate) fn coordinate(&self) -> Coordinate {
        Coordinate {
            server: self.server,
            file: self.file.as_ref().to_owned(),
            pos: self.pos,
        }
    }

    /// Takes an event's place.
    pub(crate) fn advance(&mut self, header: &Header, body: &[u8]) -> Result<()> {
        match header.ty {
            ty::ROTATE => {
                let (pos, file) = event::rotate(header, body)?;
                self.enter(file);
                self.pos = pos;
            }
            ty::HEARTBEAT => {
                self.enter(event::file_name(header, body, body));
                self.widen(header.log_pos);
            }
            ty::HEARTBEAT_V2 => {
                let (file, pos) = event::heartbeat_v2(body)?;
                self.enter(file);
                self.pos = pos;
            }
            ty::FORMAT_DESCRIPTION => {
                self.born = header.timestamp;
                if header.log_pos != 0 {
                    self.widen(header.log_pos);
                }
            }
            _ if header.artificial() || header.log_pos == 0 => {}
            _ => self.widen(header.log_pos),
        }
        Ok(())
    }

    /// Whether both stand at the same place of the same log. Never, as long as it is not known when the
    /// file was made.
    pub(super) fn meets(&self, other: &Cursor) -> bool {
        self.same_file(other) && self.pos == other.pos
    }

    /// Whether both stand in the same file.
    pub(super) fn same_file(&self, other: &Cursor) -> bool {
        let known = self.born != 0 && self.born == other.born;
        known && self.server == other.server && self.file == other.file
    }

    fn enter(&mut self, file: String) {
        if *self.file != *file {
            self.file = file.into();
            self.born = 0;
        }
    }

    /// Offsets in headers have 32 bits, files may be larger.
    fn widen(&mut self, low: u32) {
        let mut pos = (self.pos & !0xFFFF_FFFF) | u64::from(low);
        if pos + (1 << 31) < self.pos {
            pos += 1 << 32;
        }
        self.pos = pos;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_beyond_32_bits_are_followed() {
        let mut cursor = Cursor::new(1);
        let header = |ty, log_pos| Header {
            timestamp: 7,
            ty,
            server_id: 1,
            size: 19,
            log_pos,
            flags: 0,
        };
        for (ty, log_pos, want) in [
            (ty::XID, 0xFFFF_FFF0, 0xFFFF_FFF0),
            (ty::XID, 0x10, 0x1_0000_0010),
            (ty::XID, 0xFFFF_FFFF, 0x1_FFFF_FFFF),
            (ty::XID, 0x5, 0x2_0000_0005),
            (ty::XID, 0, 0x2_0000_0005),
        ] {
            cursor.advance(&header(ty, log_pos), &[]).unwrap();
            assert_eq!(cursor.pos, want);
        }
        let beat = [&[1, 3][..], b"b.2", &[2, 1, 44, 0]].concat();
        cursor.advance(&header(ty::HEARTBEAT_V2, 0), &beat).unwrap();
        assert_eq!((&*cursor.file, cursor.pos), ("b.2", 44));
    }
}
