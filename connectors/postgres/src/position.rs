//! Places in the write-ahead log as text.
//!
//! A position is `v1;<LSN>;<system>;<timeline>;<database>;<slot>`: the system identifier of the
//! cluster, its timeline, and the numbers and names that say which slot was read; all but the LSN
//! are empty in a mark that is only to be compared. A transaction is `v1;<xid>`, its top-level xid.
//!
//! What a snapshot had seen is `v1;<xmin>:<xmax>:<xip>;<LSN>;<timeline>`: the server's own text
//! (`pg_current_snapshot()`, <https://www.postgresql.org/docs/15/functions-info.html>), whose numbers have
//! 64 bits, and a place behind every commit it sees. A commit is in the log before it becomes visible,
//! so the end of the log after the snapshot was taken is such a place. A promoted standby begins another
//! timeline, and gives numbers of transactions that it never got to other ones. The timeline is left out if it
//! is not known (of a standby).

use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::{Error, Result};

use crate::error::lost;
use crate::wire::replication::Lsn;

/// Which log is read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    /// `system_identifier`, made when the cluster was.
    pub(crate) system: String,
    pub(crate) timeline: u32,
    /// The database's oid.
    pub(crate) database: u32,
    pub(crate) slot: String,
}

/// A place to resume from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) lsn: Lsn,
    pub(crate) origin: Option<Origin>,
}

impl Place {
    pub(crate) fn position(&self) -> Position {
        let origin = match &self.origin {
            Some(o) => format!("{};{};{};{}", o.system, o.timeline, o.database, o.slot),
            None => ";;;".to_owned(),
        };
        Position::new(format!("v1;{};{origin}", self.lsn))
    }

    pub(crate) fn of_position(position: &Position) -> Result<Place> {
        let text = position.as_str();
        Place::parse(text)
            .ok_or_else(|| lost(format!("not a position of a PostgreSQL source: {text:?}")))
    }

    fn parse(text: &str) -> Option<Place> {
        let parts: Vec<&str> = text.splitn(6, ';').collect();
        let ["v1", lsn, system, timeline, database, slot] = parts.as_slice() else {
            return None;
        };
        let lsn = Lsn::parse(lsn)?;
        if system.is_empty() {
            return Some(Place { lsn, origin: None });
        }
        Some(Place {
            lsn,
            origin: Some(Origin {
                system: (*system).to_owned(),
                timeline: timeline.parse().ok()?,
                database: database.parse().ok()?,
                slot: (*slot).to_owned(),
            }),
        })
    }
}

/// A top-level transaction; 0: none, a position only.
pub(crate) fn tx(xid: u32) -> TxId {
    TxId::new(format!("v1;{xid}"))
}

fn xid_of(tx: &TxId) -> Result<u32> {
    let number = tx.as_str().strip_prefix("v1;");
    number
        .and_then(|xid| xid.parse().ok())
        .ok_or_else(|| Error::bug("a transaction this source did not make"))
}

/// What a snapshot had seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// All below are visible.
    pub(crate) xmin: u64,
    /// None from here on is.
    pub(crate) xmax: u64,
    /// In progress, between the two; sorted.
    pub(crate) xip: Vec<u64>,
    /// Every visible commit lies before it.
    pub(crate) before: Lsn,
    /// Whose log that is a place of; 0: not known.
    pub(crate) timeline: u32,
}

impl Seen {
    /// Reads the server's text.
    pub(crate) fn parse(snapshot: &str, before: Lsn, timeline: u32) -> Option<Seen> {
        let mut parts = snapshot.splitn(3, ':');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (xmin, xmax) = (number()?, number()?);
        let list = parts.next()?;
        let numbers = list.split(',').filter(|n| !n.is_empty());
        let mut xip = numbers
            .map(|n| n.parse().ok())
            .collect::<Option<Vec<u64>>>()?;
        xip.sort_unstable();
        Some(Seen {
            xmin,
            xmax,
            xip,
            before,
            timeline,
        })
    }

    pub(crate) fn visibility(&self) -> Visibility {
        let xip: Vec<String> = self.xip.iter().map(u64::to_string).collect();
        let timeline = match self.timeline {
            0 => String::new(),
            known => format!(";{known}"),
        };
        Visibility::new(format!(
            "v1;{}:{}:{};{}{timeline}",
            self.xmin,
            self.xmax,
            xip.join(","),
            self.before
        ))
    }

    pub(crate) fn of_visibility(seen: &Visibility) -> Result<Seen> {
        let parse = || {
            let mut parts = seen.as_str().strip_prefix("v1;")?.split(';');
            let (snapshot, lsn) = (parts.next()?, parts.next()?);
            let timeline = parts.next().map_or(Some(0), |text| text.parse().ok())?;
            Seen::parse(snapshot, Lsn::parse(lsn)?, timeline)
        };
        parse().ok_or_else(|| Error::bug("a snapshot this source did not take"))
    }

    /// Whether it sees a transaction of this number.
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.xip.binary_search(&xid).is_err())
    }

    /// The log has the low half of a number only. Numbers in use at the same time lie within 2³¹ of
    /// each other, so the nearest to `xmax` is meant.
    pub(crate) fn widen(&self, xid: u32) -> u64 {
        let [.., a, b, c, d] = self.xmax.to_be_bytes();
        let low = u32::from_be_bytes([a, b, c, d]);
        let distance = xid.wrapping_sub(low).cast_signed();
        self.xmax.saturating_add_signed(distance.into())
    }

    /// Whether the rows of `tx` are in what was read.
    pub(crate) fn contains(&self, tx: &TxId) -> Result<bool> {
        match xid_of(tx)? {
            0 => Ok(false),
            xid => Ok(self.sees(self.widen(xid))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_back() {
        let place = Place {
            lsn: Lsn(0x1_0000_00ff),
            origin: Some(Origin {
                system: "7123456789012345678".into(),
                timeline: 3,
                database: 16_384,
                slot: "thalweg_a;b".into(),
            }),
        };
        assert_eq!(Place::of_position(&place.position()).unwrap(), place);
        let mark = Place {
            origin: None,
            ..place
        };
        assert_eq!(Place::of_position(&mark.position()).unwrap(), mark);
        for text in [
            "",
            "v1;1/0",
            "v2;1/0;1;1;1;s",
            "v1;1;1;1;1;s",
            "v1;1/0;1;x;1;s",
        ] {
            assert!(Place::of_position(&Position::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_snapshot_sees_what_was_committed_before_it() {
        for (timeline, written) in [(0, "v1;10:20:12,15;0/7"), (3, "v1;10:20:12,15;0/7;3")] {
            let seen = Seen::parse("10:20:12,15", Lsn(7), timeline).unwrap();
            let text = seen.visibility();
            assert_eq!(text.as_str(), written);
            assert_eq!(Seen::of_visibility(&text).unwrap(), seen);
        }
        let seen = Seen::parse("10:20:12,15", Lsn(7), 1).unwrap();
        for (xid, expected) in [(9, true), (10, true), (12, false), (15, false), (19, true)] {
            assert_eq!(seen.contains(&tx(xid)).unwrap(), expected, "{xid}");
        }
        assert!(!seen.contains(&tx(20)).unwrap());
        assert!(!seen.contains(&tx(0)).unwrap(), "a position only");
        assert!(Seen::parse("10:10:", Lsn(0), 1).unwrap().xip.is_empty());
    }

    #[test]
    fn numbers_wrap_around() {
        let epoch = 3_u64 << 32;
        let at = |xmax: u64| Seen {
            xmin: xmax,
            xmax,
            xip: Vec::new(),
            before: Lsn(0),
            timeline: 1,
        };
        for (xmax, xid, wide) in [
            (epoch + 5, 3, epoch + 3),
            (epoch + 5, 9, epoch + 9),
            (epoch + 5, u32::MAX - 1, epoch - 2),
            (epoch - 5, 3, epoch + 3),
            (epoch - 5, u32::MAX - 1, epoch - 2),
        ] {
            assert_eq!(at(xmax).widen(xid), wide, "{xmax} {xid}");
        }
        assert!(at(epoch + 5).contains(&tx(u32::MAX - 1)).unwrap());
        assert!(!at(epoch - 5).contains(&tx(3)).unwrap());
    }
}
