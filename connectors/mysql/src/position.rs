//! Places in a binlog as text.
//!
//! `v1;<server id>;<file>;<offset>;<gtid state>;<xa groups>;<birth>`. The GTID state is MariaDB's
//! `domain-server-sequence` list; the XA groups are those prepared and not decided before this
//! place, each `xid@file:offset` of its start. The birth is the second in which the file was made (0:
//! not known), because after `RESET MASTER` the same files, offsets and GTIDs come again. A coordinate (`v1;<server id>;<file>;<offset>`)
//! names a transaction by the start of its GTID event, or a snapshot by the end of the log it saw;
//! a snapshot's coordinate always lies between two transactions, so "contains" is `<`.
//!
//! A MySQL server with GTIDs is read by them, and not by file and offset: a transaction is in the log
//! before it is visible and in `gtid_executed` after it is, so only of what is in that set it is sure
//! that every later snapshot sees it. There the GTID state is `g=` and the set of the transactions
//! read, a transaction is named by its GTID (`g1;<gtid>`) and a snapshot by the set it saw
//! (`g1;<set>`). The coordinate of such a position serves to tell how much log is left.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::{Error, Result, Side};

use crate::error::lost;
use crate::gtid::{Gtid, GtidSet};

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
}

/// A transaction, as it can be compared with what a snapshot saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TxName {
    At(Coordinate),
    Gtid(Gtid),
}

impl TxName {
    pub(crate) fn id(&self) -> TxId {
        TxId::new(match self {
            TxName::At(at) => at.text(),
            TxName::Gtid(gtid) => format!("g1;{gtid}"),
        })
    }

    fn parse(id: &TxId) -> Result<TxName> {
        let text = id.as_str();
        match text.strip_prefix("g1;") {
            Some(gtid) => Gtid::parse(gtid).map(TxName::Gtid).ok_or_else(|| bad(text)),
            None => Coordinate::parse(text).map(TxName::At),
        }
    }
}

/// What a snapshot saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The log up to here.
    At(Coordinate),
    /// These transactions.
    Gtids(GtidSet),
}

impl Seen {
    pub(crate) fn visibility(&self) -> Visibility {
        Visibility::new(match self {
            Seen::At(at) => at.text(),
            Seen::Gtids(set) => format!("g1;{set}"),
        })
    }

    pub(crate) fn parse(seen: &Visibility) -> Result<Seen> {
        let text = seen.as_str();
        match text.strip_prefix("g1;") {
            Some(set) => GtidSet::parse(set)
                .map(Seen::Gtids)
                .ok_or_else(|| bad(text)),
            None => Coordinate::parse(text).map(Seen::At),
        }
    }

    /// Whether it saw the transaction.
    pub(crate) fn contains(&self, tx: &TxId) -> Result<bool> {
        match (self, TxName::parse(tx)?) {
            (Seen::At(seen), TxName::At(tx)) => match tx.compare(seen) {
                Ok(order) => Ok(order == Ordering::Less),
                // Found out when the task begins again, which loads the table again.
                Err(why) => Err(Error::transient(
                    "the source went on as another server since a table was read",
                )
                .at(Side::Source)
                .caused_by(why)),
            },
            (Seen::Gtids(seen), TxName::Gtid(tx)) => Ok(seen.contains(&tx)),
            _ => Err(lost(
                "a transaction and a snapshot cannot be compared: gtid_mode was changed since",
            )),
        }
    }
}

/// A place to resume from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) at: Coordinate,
    /// Domain → (server, sequence).
    pub(crate) gtid: BTreeMap<u32, (u32, u64)>,
    /// On a MySQL server with GTIDs: what was read.
    pub(crate) set: Option<GtidSet>,
    /// Prepared and undecided XA groups: xid → start.
    pub(crate) xa: BTreeMap<String, (String, u64)>,
    /// When the file of `at` was made, in Unix seconds; 0: not known.
    pub(crate) born: u32,
}

impl Place {
    /// Whether it is at `mark` or beyond.
    pub(crate) fn reached(&self, mark: &Place) -> Result<bool> {
        match (&self.set, &mark.set) {
            (Some(read), Some(mark)) => Ok(read.contains_all(mark)),
            _ => Ok(self.at.compare(&mark.at)? != Ordering::Less),
        }
    }

    /// Whether every transaction that `seen` saw lies before it. Of a place on a server that this one has
    /// replaced no coordinate can tell, so it does not.
    pub(crate) fn passed(&self, seen: &Seen) -> Result<bool> {
        match (&self.set, seen) {
            (Some(read), Seen::Gtids(seen)) => Ok(read.contains_all(seen)),
            (_, Seen::At(seen)) => Ok(seen
                .compare(&self.at)
                .is_ok_and(|order| order != Ordering::Greater)),
            (None, Seen::Gtids(_)) => Err(lost(
                "a position and a snapshot cannot be compared: gtid_mode was changed since",
            )),
        }
    }

    pub(crate) fn gtid_text(&self) -> String {
        if let Some(set) = &self.set {
            return format!("g={set}");
        }
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
        let (gtid, set) = match gtid.strip_prefix("g=") {
            Some(set) => (
                BTreeMap::new(),
                Some(GtidSet::parse(set).ok_or_else(|| bad(text))?),
            ),
            None => (Place::parse_gtid(gtid)?, None),
        };
        Ok(Place {
            at,
            gtid,
            set,
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

    #[test]
    fn coordinates_of_two_servers_are_not_compared() {
        let other = Coordinate {
            server: 2,
            ..at("binlog.000007", 9)
        };
        let place = |at: Coordinate| Place {
            at,
            ..Place::default()
        };
        let (here, there) = (place(at("binlog.000007", 9)), place(other.clone()));
        let seen = Seen::At(at("binlog.000007", 9));
        assert!(here.passed(&seen).unwrap() && !there.passed(&seen).unwrap());
        let asked = seen.contains(&TxName::At(other).id());
        assert_eq!(asked.unwrap_err().kind(), thalweg_core::Kind::Transient);
    }

    #[test]
    fn a_mysql_position_is_a_set() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let place = |set: &str| Place {
            at: at("binlog.000007", 4),
            set: GtidSet::parse(set),
            ..Place::default()
        };
        for set in ["", &format!("{uuid}:1-5:7"), &format!("{uuid}:tag:1-3")] {
            let place = place(set);
            assert_eq!(Place::of_position(&place.position()).unwrap(), place);
        }
        assert!(Place::of_position(&Position::new("v1;1;a.1;4;g=x;;0")).is_err());
        let (less, more) = (place(&format!("{uuid}:1-5")), place(&format!("{uuid}:1-7")));
        assert!(more.reached(&less).unwrap() && !less.reached(&more).unwrap());
        let seen = Seen::Gtids(GtidSet::parse(&format!("{uuid}:1-6")).unwrap());
        assert_eq!(Seen::parse(&seen.visibility()).unwrap(), seen);
        assert!(more.passed(&seen).unwrap() && !less.passed(&seen).unwrap());
        for (gtid, want) in [("6", true), ("7", false), ("tag:6", false)] {
            let tx = TxName::Gtid(Gtid::parse(&format!("{uuid}:{gtid}")).unwrap());
            assert_eq!(TxName::parse(&tx.id()).unwrap(), tx);
            assert_eq!(seen.contains(&tx.id()).unwrap(), want);
        }
        assert!(seen.contains(&TxName::At(at("b.1", 4)).id()).is_err());
    }
}
