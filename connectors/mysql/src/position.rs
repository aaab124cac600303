//! Places in a binlog as text.
//!
//! `v1;<server id>;<file>;<offset>;<gtid state>;<xa groups>;<birth>`. The GTID state is MariaDB's
//! `domain-server-sequence` list; the XA groups are those prepared and not decided before this
//! place, each `xid@file:offset` of its start. The birth is the second in which the file was made (0:
//! not known), because after `RESET MASTER` the same files, offsets and GTIDs come again. A coordinate (`v1;<server id>;<file>;<offset>`)
//! names a transaction by the start of its GTID event, or a snapshot by the end of the log it saw;
//! a snapshot's coordinate always lies between two transactions, so "contains" is `<`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::{Error, Result};

use crate::error::lost;

/// File and offset on one server.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Coordinate {
    pub(crate) server: u32,
    pub(crate) file: String,
    pub(crate) pos: u64,
}

fn bad(text: &str) -> Error {
    lost(format!("not a position of this source: {text:?}"))
}

impl Coordinate {
    fn split_file(&self) -> Option<(&str, u64)> {
        let (base, number) = self.file.rsplit_once('.')?;
        Some((base, number.parse().ok()?))
    }

    /// Order in one server's log; an error if the two cannot be compared.
    pub(crate) fn compare(&self, other: &Coordinate) -> Result<Ordering> {
        if let (Some(a), Some(b)) = (self.split_file(), other.split_file())
            && self.server == other.server
            && a.0 == b.0
        {
            return Ok(a.1.cmp(&b.1).then(self.pos.cmp(&other.pos)));
        }
        Err(lost(format!(
            "the log coordinates {}:{} of server {} and {}:{} of server {} cannot be compared",
            self.file, self.pos, self.server, other.file, other.pos, other.server
        )))
    }

    pub(crate) fn text(&self) -> String {
        format!("v1;{};{};{}", self.server, self.file, self.pos)
    }

    fn parse(text: &str) -> Result<Coordinate> {
        let mut parts = text.split(';');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("v1"), Some(server), Some(file), Some(pos)) => Ok(Coordinate {
                server: server.parse().map_err(|_| bad(text))?,
                file: file.to_owned(),
                pos: pos.parse().map_err(|_| bad(text))?,
            }),
            _ => Err(bad(text)),
        }
    }

    pub(crate) fn tx(&self) -> TxId {
        TxId::new(self.text())
    }

    pub(crate) fn of_tx(tx: &TxId) -> Result<Coordinate> {
        Coordinate::parse(tx.as_str())
    }

    pub(crate) fn visibility(&self) -> Visibility {
        Visibility::new(self.text())
    }

    pub(crate) fn of_visibility(seen: &Visibility) -> Result<Coordinate> {
        Coordinate::parse(seen.as_str())
    }
}

/// A place to resume from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) at: Coordinate,
    /// Domain → (server, sequence).
    pub(crate) gtid: BTreeMap<u32, (u32, u64)>,
    /// Prepared and undecided XA groups: xid → start.
    pub(crate) xa: BTreeMap<String, (String, u64)>,
    /// When the file of `at` was made, in Unix seconds; 0: not known.
    pub(crate) born: u32,
}

impl Place {
    pub(crate) fn gtid_text(&self) -> String {
        let mut out = String::new();
        for (domain, (server, seq)) in &self.gtid {
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(&format!("{domain}-{server}-{seq}"));
        }
        out
    }

    pub(crate) fn parse_gtid(text: &str) -> Result<BTreeMap<u32, (u32, u64)>> {
        let mut out = BTreeMap::new();
        for one in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            let mut parts = one.split('-');
            let mut number = || parts.next().and_then(|p| p.parse::<u64>().ok());
            let (Some(domain), Some(server), Some(seq)) = (number(), number(), number()) else {
                return Err(bad(text));
            };
            out.insert(
                u32::try_from(domain).map_err(|_| bad(text))?,
                (u32::try_from(server).map_err(|_| bad(text))?, seq),
            );
        }
        Ok(out)
    }

    pub(crate) fn position(&self) -> Position {
        let xa: Vec<String> = self
            .xa
            .iter()
            .map(|(xid, (file, pos))| format!("{xid}@{file}:{pos}"))
            .collect();
        Position::new(format!(
            "{};{};{};{}",
            self.at.text(),
            self.gtid_text(),
            xa.join(","),
            self.born
        ))
    }

    pub(crate) fn of_position(position: &Position) -> Result<Place> {
        let text = position.as_str();
        let at = Coordinate::parse(text)?;
        let mut rest = text.split(';').skip(4);
        let (Some(gtid), Some(xa_text)) = (rest.next(), rest.next()) else {
            return Err(bad(text));
        };
        let mut xa = BTreeMap::new();
        for one in xa_text.split(',').filter(|t| !t.is_empty()) {
            let parsed = one.split_once('@').and_then(|(xid, place)| {
                let (file, pos) = place.rsplit_once(':')?;
                Some((xid.to_owned(), (file.to_owned(), pos.parse().ok()?)))
            });
            let (xid, place) = parsed.ok_or_else(|| bad(text))?;
            xa.insert(xid, place);
        }
        // Positions of the first release end here.
        let born = rest.next().map_or(Ok(0), str::parse);
        Ok(Place {
            at,
            gtid: Place::parse_gtid(gtid)?,
            xa,
            born: born.map_err(|_| bad(text))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, pos: u64) -> Coordinate {
        Coordinate {
            server: 1,
            file: file.into(),
            pos,
        }
    }

    #[test]
    fn files_compare_by_number() {
        let less = at("b.999999", 9).compare(&at("b.1000000", 4)).unwrap();
        assert_eq!(less, Ordering::Less);
        assert_eq!(
            at("b.2", 5).compare(&at("b.2", 5)).unwrap(),
            Ordering::Equal
        );
        assert!(at("b.2", 5).compare(&at("c.2", 5)).is_err());
        let other = Coordinate {
            server: 2,
            ..at("b.2", 5)
        };
        assert!(at("b.2", 5).compare(&other).is_err());
    }

    #[test]
    fn position_round_trip() {
        let mut place = Place {
            at: at("binlog.000007", 5_000_000_000),
            gtid: Place::parse_gtid("0-1-5,3-2-99").unwrap(),
            born: 1_700_000_000,
            ..Place::default()
        };
        place
            .xa
            .insert("1.ab.cd".into(), ("binlog.000003".into(), 77));
        assert_eq!(Place::of_position(&place.position()).unwrap(), place);
        let old = Place::of_position(&Position::new("v1;1;a.1;4;0-1-5;")).unwrap();
        assert_eq!((old.gtid_text().as_str(), old.born), ("0-1-5", 0));
        assert!(Place::of_position(&Position::new("v1;1;a.1;4;0-1-5;;x")).is_err());
        assert!(Place::of_position(&Position::new("v2;1;a;4;;")).is_err());
        assert!(Place::of_position(&Position::new("v1;1;a;4")).is_err());
        assert!(Place::parse_gtid("0-1").is_err());
    }
}
