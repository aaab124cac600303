//! MySQL's global transaction identifiers, and sets of them.
//!
//! `server uuid:number`, since 8.3 also `server uuid:tag:number`. A set is written as
//! `uuid:1-5:7,uuid:tag:1-3`; MySQL itself writes all tags of a server behind one another
//! (`uuid:1-5:tag:1-3`), which is read as well.
//! <https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html>.

use std::collections::BTreeMap;
use std::fmt;

/// A server, and a tag of its transactions (empty: none).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    pub(crate) server: [u8; 16],
    pub(crate) tag: String,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gtid {
    pub(crate) origin: Origin,
    pub(crate) number: u64,
}

/// Transactions of any servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GtidSet {
    /// Half-open intervals, apart from each other and in order.
    all: BTreeMap<Origin, Vec<(u64, u64)>>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.server.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        Ok(())
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.number)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, text) in self.by_origin().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(&text)?;
        }
        Ok(())
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let mut out = [0; 16];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}

/// A tag in the form in which MySQL keeps it; `None`: it is none.
fn tag(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let first = text.chars().next()?;
    let fits = |c: char| c.is_ascii_lowercase() || c == '_';
    let all = text.chars().all(|c| fits(c) || c.is_ascii_digit());
    (fits(first) && all && text.len() <= 32).then_some(text)
}

/// The numbers a transaction can have end below this.
const NUMBER_END: u64 = i64::MAX.cast_unsigned();

impl Gtid {
    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Gtid> {
        let (origin, number) = text.rsplit_once(':')?;
        let (server, tag_text) = origin.split_once(':').unwrap_or((origin, ""));
        Some(Gtid {
            origin: Origin {
                server: uuid(server)?,
                tag: if tag_text.is_empty() {
                    String::new()
                } else {
                    tag(tag_text)?
                },
            },
            number: number.parse().ok().filter(|n| *n < NUMBER_END)?,
        })
    }
}

impl GtidSet {
    /// Reads a set as MySQL or we write it; spaces and line breaks do not count.
    pub(crate) fn parse(text: &str) -> Option<GtidSet> {
        let mut out = GtidSet::default();
        for one in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            let mut parts = one.split(':').map(str::trim);
            let mut origin = Origin {
                server: uuid(parts.next()?)?,
                tag: String::new(),
            };
            for part in parts {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
                    (Ok(from), Ok(to)) if from > 0 && to < NUMBER_END => {
                        if from <= to {
                            out.add_range(&origin, from, to + 1);
                        }
                    }
                    (Ok(_), Ok(_)) => return None,
                    _ => origin.tag = tag(part)?,
                }
            }
        }
        Some(out)
    }

    /// Adds one transaction.
    pub(crate) fn add(&mut self, gtid: &Gtid) {
        self.add_range(&gtid.origin, gtid.number, gtid.number.saturating_add(1));
    }

    /// Adds the transactions `from..to` of one origin.
    pub(crate) fn add_range(&mut self, origin: &Origin, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if !self.all.contains_key(origin) {
            self.all.insert(origin.clone(), Vec::new());
        }
        let Some(list) = self.all.get_mut(origin) else {
            return;
        };
        // The intervals that touch the new one become one with it.
        let first = list.partition_point(|(_, end)| *end < from);
        let after = list.partition_point(|(start, _)| *start <= to);
        let (mut start, mut end) = (from, to);
        if let Some(touched) = list.get(first..after) {
            start = touched.first().map_or(start, |t| t.0.min(start));
            end = touched.last().map_or(end, |t| t.1.max(end));
        }
        list.splice(first..after.max(first), [(start, end)]);
    }

    /// Whether the transaction is in it.
    pub(crate) fn contains(&self, gtid: &Gtid) -> bool {
        self.has_range(&gtid.origin, gtid.number, gtid.number.saturating_add(1))
    }

    fn has_range(&self, origin: &Origin, from: u64, to: u64) -> bool {
        let Some(list) = self.all.get(origin) else {
            return false;
        };
        let at = list.partition_point(|(_, end)| *end < to);
        list.get(at).is_some_and(|(start, _)| *start <= from)
    }

    /// Whether all of `other` is in it.
    pub(crate) fn contains_all(&self, other: &GtidSet) -> bool {
        let mut ranges = other
            .all
            .iter()
            .flat_map(|(origin, list)| list.iter().map(move |(from, to)| (origin, *from, *to)));
        ranges.all(|(origin, from, to)| self.has_range(origin, from, to))
    }

    /// The set, one text for each server and tag.
    pub(crate) fn by_origin(&self) -> impl Iterator<Item = String> {
        self.all.iter().map(|(origin, list)| {
            let mut out = origin.to_string();
            for (from, to) in list {
                if from + 1 == *to {
                    out.push_str(&format!(":{from}"));
                } else {
                    out.push_str(&format!(":{from}-{}", to - 1));
                }
            }
            out
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "00000000-0000-0000-0000-000000000001";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(text).unwrap()
    }

    #[test]
    fn sets_are_read_and_written() {
        for (text, want) in [
            ("", String::new()),
            (&format!("{A}:1-5:7"), format!("{A}:1-5:7")),
            (&format!("{A}:7:3-5:1-2:6"), format!("{A}:1-7")),
            (&format!(" {A} : 1 - 3 ,\n{B}:9"), format!("{B}:9,{A}:1-3")),
            (
                &format!("{A}:1-5:tag_1:1-3:5:Zwei:2,{A}:zwei:3"),
                format!("{A}:1-5,{A}:tag_1:1-3:5,{A}:zwei:2-3"),
            ),
            (&format!("{A}:5-3"), String::new()),
        ] {
            assert_eq!(set(text).to_string(), want, "{text}");
            assert_eq!(set(&want), set(text), "{text}");
        }
        for bad in [
            "x:1",
            &format!("{A}:0"),
            &format!("{A}:1-"),
            &format!("{A}:9t:1"),
            &format!("{A}:1-9223372036854775807"),
            &format!("{A}:{}:1", "t".repeat(33)),
        ] {
            assert_eq!(GtidSet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn single_ones_are_read_and_written() {
        for text in [format!("{A}:17"), format!("{A}:tag:17")] {
            assert_eq!(Gtid::parse(&text).unwrap().to_string(), text);
        }
        for bad in [A, "x", &format!("{A}:-1"), &format!("{A}:9:1")] {
            assert_eq!(Gtid::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn a_set_holds_what_was_added(
            ranges in proptest::collection::vec((0_u8..3, 1_u64..40, 1_u64..8), 0..20),
            other in proptest::collection::vec((0_u8..3, 1_u64..40, 1_u64..8), 0..4),
        ) {
            let origin = |i: u8| Origin { server: [i / 2; 16], tag: if i % 2 == 1 { "t".into() } else { String::new() } };
            let build = |list: &[(u8, u64, u64)]| {
                let mut set = GtidSet::default();
                let mut model = std::collections::BTreeSet::new();
                for (i, from, len) in list {
                    set.add_range(&origin(*i), *from, from + len);
                    model.extend((*from..from + len).map(|n| (*i, n)));
                }
                (set, model)
            };
            let (set, model) = build(&ranges);
            for i in 0..3 {
                for number in 0..50 {
                    let gtid = Gtid { origin: origin(i), number };
                    prop_assert_eq!(set.contains(&gtid), model.contains(&(i, number)));
                }
            }
            let (other, other_model) = build(&other);
            prop_assert_eq!(set.contains_all(&other), other_model.is_subset(&model));
            prop_assert_eq!(GtidSet::parse(&set.to_string()), Some(set));
        }
    }
}
