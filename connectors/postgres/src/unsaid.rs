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
//! A `TRUNCATE` that is in the log has given those parts their files whose row of `pg_class` it wrote last; so
//! one that was read explains just its own files. One in a subtransaction explains none, and its table is compared.
//!
//! A partition that was made as one came without rows, and whatever came into it is logged. It is known by
//! the transactions that made it and attached it. Where both are one, it may have been filled in between;
//! such rows lie in its first block, because they were the first (not found are those of a subtransaction). One that
//! was attached later came with what is as old as that, if anything.
//!
//! A partition that came and went again between two looks leaves nothing to see but its rows in the log, before which
//! the log describes it. So it is noted with the files at once ([`with_part`]).

use std::collections::BTreeMap;

use thalweg_core::Result;
use thalweg_core::ports::Rows;
use tokio_postgres::Client;

use crate::error::asking;

/// By what rows became what the log does not say.
pub(crate) fn how(rows: Rows) -> &'static str {
    match rows {
        Rows::Went => {
            "a partition was dropped, detached or truncated, which takes rows that the log does not name"
        }
        Rows::Came => "a partition was attached, which brings rows that the log does not name",
        Rows::Perhaps => {
            "it got new files (VACUUM FULL, CLUSTER, an ALTER TABLE that writes its rows anew, a TRUNCATE that \
             was not read as one), and the log does not say whether its rows are the same"
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

/// Whether any part that was there has other files.
pub(crate) fn rewritten(was: &str, now: &str) -> bool {
    let (was, now) = (parts(was), parts(now));
    let mut now = now.iter();
    now.any(|(oid, part)| was.get(oid).is_some_and(|was| was.file != part.file))
}

/// Files of the partitioned table `root` with a part of this number among them, which the log describes as a new one.
pub(crate) fn with_part(files: &str, root: u32, oid: u32) -> Option<String> {
    let known = parts(files);
    let partitioned = known.get(&root).is_some_and(|root| root.file.is_empty());
    // The first file of a table has its number.
    (partitioned && !known.contains_key(&oid)).then(|| format!("{files} {oid}:{oid}"))
}

/// What may have become of the rows of the table `root` since its files were `was`, which are `now`;
/// `truncates`: transactions in which the log had a `TRUNCATE` of it since.
pub(crate) async fn between(
    client: &Client,
    root: u32,
    (was, now): (&str, &str),
    truncates: &[u32],
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
    let first = |oid: &u32| oid.to_string();
    let other = |(oid, part): &(&u32, &Part<'_>)| match was.get(oid) {
        Some(was) => was.file != part.file,
        None => !part.file.is_empty() && part.file != first(oid),
    };
    let others: Vec<u32> = now.iter().filter(other).map(|(oid, _)| *oid).collect();
    let filed = now.values().filter(|part| !part.file.is_empty()).count();
    // A partition that was emptied by itself.
    let some = others.len() < filed;
    emptied_or_rewritten(client, &others, truncates, some).await
}

/// What has become of the rows of parts that have other files, unless `truncates` gave them these. `some`: other parts
/// have the files they had.
async fn emptied_or_rewritten(
    client: &Client,
    parts: &[u32],
    truncates: &[u32],
    some: bool,
) -> Result<Option<Rows>> {
    if parts.is_empty() {
        return Ok(None);
    }
    let said: Vec<String> = truncates.iter().map(u32::to_string).collect();
    let unsaid = client
        .query_one(
            "SELECT count(*) > 0, coalesce(bool_or(pg_relation_size(oid) = 0), false) FROM pg_class \
             WHERE oid = ANY ($1) AND NOT xmin::text = ANY ($2)",
            &[&parts, &said],
        )
        .await
        .map_err(asking)?;
    let (any, empty): (bool, bool) = (unsaid.get(0), unsaid.get(1));
    Ok(any.then_some(match empty && some {
        true => Rows::Went,
        false => Rows::Perhaps,
    }))
}

/// Whether any of these parts of a table may have come with rows.
async fn with_rows(client: &Client, root: u32, came: &[u32]) -> Result<bool> {
    let made = client
        .query(
            "SELECT c.oid, a.xmin = i.xmin, i.xmin::text FROM unnest($1::oid[]) w (oid) \
             JOIN pg_class c ON c.oid = w.oid JOIN pg_inherits i ON i.inhrelid = c.oid \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tableoid'",
            &[&came],
        )
        .await
        .map_err(asking)?;
    let name = client
        .query_one("SELECT $1::oid::regclass::text", &[&root])
        .await;
    let name: String = name.map_err(asking)?.get(0);
    let first = format!(
        "SELECT EXISTS (SELECT FROM {name} r WHERE r.tableoid = $1 AND r.xmin::text = $2 AND \
         r.ctid = ANY (ARRAY(SELECT format('(0,%s)', n)::tid FROM generate_series(1, 300) n)))"
    );
    let older = format!(
        "SELECT EXISTS (SELECT FROM {name} r WHERE r.tableoid = ANY ($1) AND age(r.xmin) >= age($2::text::xid))"
    );
    // Rows are read through the table: whoever may read that need not be allowed to read its parts. Nobody
    // waits for somebody who has locked one.
    let wait = async |wait: &str| {
        let wait = format!("SET lock_timeout = '{wait}'");
        client.batch_execute(&wait).await.map_err(asking)
    };
    wait("1s").await?;
    let mut any = false;
    // What is gone again will be seen as that.
    for part in made {
        let (oid, at_once, xid): (u32, bool, String) = (part.get(0), part.get(1), part.get(2));
        let found = match at_once {
            true => client.query_one(&first, &[&oid, &xid]).await,
            // It may be partitioned itself.
            false => client.query_one(&older, &[&came, &xid]).await,
        };
        any |= found.map_err(asking)?.get::<_, bool>(0);
        if any {
            break;
        }
    }
    wait("0").await?;
    Ok(any)
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
        let found = with_part("1: 2:2@5", 1, 3);
        assert_eq!(found.as_deref(), Some("1: 2:2@5 3:3"));
        assert_eq!(with_part("1: 2:7@5", 1, 2), None);
        assert_eq!(with_part("1:1", 1, 2), None);
        assert!(rewritten("1:1 2:2", "1:1 2:3@5") && !rewritten("1:1 2:2", "1:1 2:2@5 3:3"));
    }
}
