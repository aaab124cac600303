//! Rows that come, go or change without the log saying so.
//!
//! The log has the rows that statements write, and `TRUNCATE` of a table. It has nothing of a partition that
//! is dropped, detached or emptied by itself (`publish_via_partition_root`,
//! <https://www.postgresql.org/docs/17/sql-createpublication.html>), nothing of one that is attached with
//! rows in it, and nothing of the rows that `ALTER … TYPE … USING` writes anew. All of these give the table
//! other files, so the files are kept with the position ([`crate::layout`]) and compared. What does not
//! change a row but gives new files as well (`VACUUM FULL`, `CLUSTER`) cannot be told apart from what
//! does: the rows are compared then, which is all that anyone can do.
//!
//! A partition that was made as one came without rows, and whatever came into it is logged. It is known by
//! the transactions that made it and attached it. Where both are one, it may have been filled in between;
//! such rows lie in its first block, because they were the first.

use std::collections::BTreeMap;

use thalweg_core::Result;
use thalweg_core::ports::Rows;
use tokio_postgres::Client;

use crate::error::asking;

/// By what rows became what the log does not say.
pub(crate) fn how(rows: Rows) -> &'static str {
    match rows {
        Rows::Went => {
            "a partition was dropped or detached, which takes rows that the log does not name"
        }
        Rows::Came => "a partition was attached, which brings rows that the log does not name",
        Rows::Perhaps => {
            "it got new files (VACUUM FULL, CLUSTER, an ALTER TABLE that writes its rows anew, or a TRUNCATE of a \
             partition), and the log does not say whether its rows are the same"
        }
    }
}

/// A part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part<'a> {
    /// What is partitioned itself has none.
    file: &'a str,
    /// The transaction that made it a part; `None`: it is the table itself, or an earlier version did not ask.
    since: Option<&'a str>,
}

/// The parts of a table, as [`crate::source::files`] writes them.
fn parts(files: &str) -> BTreeMap<u32, Part<'_>> {
    let parts = files.split(' ').filter_map(|part| part.split_once(':'));
    let parts = parts.filter_map(|(oid, rest)| {
        let (file, since) = match rest.split_once('@') {
            Some((file, since)) => (file, Some(since)),
            None => (rest, None),
        };
        Some((oid.parse().ok()?, Part { file, since }))
    });
    parts.collect()
}

/// What may have become of the rows of the table `root` since its files were `was`, which are `now`;
/// `truncated`: the log had a `TRUNCATE` of it since, which gives new files to all there is.
pub(crate) async fn between(
    client: &Client,
    root: u32,
    (was, now): (&str, &str),
    truncated: bool,
) -> Result<Option<Rows>> {
    if was == now {
        return Ok(None);
    }
    let (was, now) = (parts(was), parts(now));
    let went = |(oid, part): (&u32, &Part<'_>)| !part.file.is_empty() && !now.contains_key(oid);
    if was.iter().any(went) {
        return Ok(Some(Rows::Went));
    }
    // One that left and came back may have been written to meanwhile.
    let back = |(oid, part): (&u32, &Part<'_>)| {
        let before = was.get(oid).and_then(|was| was.since);
        before.is_some() && before != part.since
    };
    if now.iter().any(back) {
        return Ok(Some(Rows::Came));
    }
    let came = now.keys().filter(|oid| !was.contains_key(oid));
    let came: Vec<u32> = came.copied().collect();
    if !came.is_empty() && with_rows(client, root, &came).await? {
        return Ok(Some(Rows::Came));
    }
    let other =
        |(oid, part): (&u32, &Part<'_>)| was.get(oid).is_some_and(|was| was.file != part.file);
    let rewritten = !truncated && now.iter().any(other);
    Ok(rewritten.then_some(Rows::Perhaps))
}

/// Whether any of these parts of a table may have come with rows.
async fn with_rows(client: &Client, root: u32, came: &[u32]) -> Result<bool> {
    let made = client
        .query(
            "SELECT c.oid, c.relkind = 'r', a.xmin = i.xmin, i.xmin::text FROM unnest($1::oid[]) w (oid) \
             JOIN pg_class c ON c.oid = w.oid JOIN pg_inherits i ON i.inhrelid = c.oid \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tableoid'",
            &[&came],
        )
        .await
        .map_err(asking)?;
    // What is gone again will be seen as that.
    for part in made {
        let (oid, has_rows, at_once): (u32, bool, bool) = (part.get(0), part.get(1), part.get(2));
        if !at_once {
            return Ok(true);
        }
        if !has_rows {
            continue;
        }
        let xid: String = part.get(3);
        let name = client
            .query_one("SELECT $1::oid::regclass::text", &[&root])
            .await;
        let name: String = name.map_err(asking)?.get(0);
        // Through the table: whoever may read that need not be allowed to read its parts.
        let first = format!(
            "SELECT EXISTS (SELECT FROM {name} r WHERE r.tableoid = $1 AND r.xmin::text = $2 AND \
             r.ctid = ANY (ARRAY(SELECT format('(0,%s)', n)::tid FROM generate_series(1, 300) n)))"
        );
        let found = client.query_one(&first, &[&oid, &xid]).await;
        if found.map_err(asking)?.get(0) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let part = |file, since| Part { file, since };
        let want = [
            (12, part("", None)),
            (34, part("56", Some("7"))),
            (7, part("", Some("8"))),
        ];
        assert_eq!(parts("12: 34:56@7 7:@8"), BTreeMap::from(want));
        assert!(parts("").is_empty());
    }
}
