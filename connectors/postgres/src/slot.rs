//! The task's slot and publication at the server.
//!
//! Both have the name `thalweg_<task>`. A publication of this name that the user made is used as it is
//! once it is known to cover the tables; one of ours carries a comment that says so, and in it the
//! tables we put in, so that a table somebody took out is noticed: its changes since are lost. One that
//! joined later is marked there until every transaction is over that may have written to it before: what
//! such a transaction wrote is not published.
//!
//! A slot has one reader. One that is still there from an earlier run of ours (a process that was
//! killed, a connection that broke) is ended; a reader that is not ours is never touched.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use thalweg_core::schema::TableName;
use thalweg_core::{Error, Kind, Result, Side};
use tokio_postgres::Client;

use crate::error::{asking, lost};
use crate::position::Place;
use crate::schema::{WANTED, at, quote, quote_table, wanted};
use crate::wire::replication::Lsn;

/// How long a reader that was told to end may take.
const END_WAIT: Duration = Duration::from_secs(10);
/// Begins the comment on a publication of ours.
const OURS: &str = "made by thalweg for tables ";
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 63;

/// The name of slot and publication for a data source whose sessions are called `application`.
pub(crate) fn name(application: &str) -> String {
    let task = task(application);
    let clean = task.chars().map(|c| match c {
        'a'..='z' | '0'..='9' | '_' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '_',
    });
    let mut name: String = "thalweg_".chars().chain(clean).collect();
    name.truncate(NAME_BYTES_MAX);
    name
}

/// `thalweg/<task>/…` without what is around it.
fn task(application: &str) -> &str {
    let task = application.strip_prefix("thalweg/").unwrap_or(application);
    task.split('/').next().unwrap_or_default()
}

/// What a session of the task is called that does `what`.
pub(crate) fn session_name(application: &str, what: &str) -> String {
    format!("thalweg/{}/{what}", task(application))
}

/// A slot as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    plugin: String,
    database: String,
    confirmed: Option<Lsn>,
    /// Why it is of no more use.
    invalid: Option<String>,
    two_phase: bool,
}

/// The slot of this name, if there is one.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Option<Slot>> {
    let row = client
        .query_opt(
            "SELECT coalesce(s.plugin::text, ''), coalesce(s.database::text, ''), \
             s.confirmed_flush_lsn::text, \
             CASE WHEN j ->> 'wal_status' = 'lost' OR j ->> 'conflicting' = 'true' \
               OR j ->> 'invalidation_reason' IS NOT NULL \
               THEN coalesce(j ->> 'invalidation_reason', 'its log was removed') END, \
             coalesce(j ->> 'two_phase' = 'true', false) \
             FROM pg_replication_slots s, LATERAL (SELECT to_jsonb(s) AS j) x \
             WHERE s.slot_name = $1",
            &[&name],
        )
        .await
        .map_err(asking)?;
    Ok(row.map(|row| Slot {
        plugin: row.get(0),
        database: row.get(1),
        confirmed: row.get::<_, Option<&str>>(2).and_then(Lsn::parse),
        invalid: row.get(3),
        two_phase: row.get(4),
    }))
}

impl Slot {
    /// Whether reading can go on from `place`; each reason why not has a name.
    pub(crate) fn fits(&self, name: &str, database: &str, place: &Place) -> Result<()> {
        if self.plugin != "pgoutput" || self.database != database {
            return Err(Error::new(
                Kind::PositionLost,
                format!(
                    "the replication slot {name} is of plugin {:?} and database {:?}, not of \
                     pgoutput and {database:?}",
                    self.plugin, self.database
                ),
            )
            .with_hint(format!(
                "SELECT pg_drop_replication_slot('{name}'); then reset the task, so that it loads \
                 again"
            ))
            .at(Side::Source));
        }
        if let Some(why) = &self.invalid {
            return Err(lost(format!(
                "the server gave up the replication slot {name} ({why})"
            ))
            .with_hint(
                "raise max_slot_wal_keep_size on the server, then reset the task, so that it loads \
                 again",
            ));
        }
        let Some(confirmed) = self.confirmed else {
            return Err(lost(format!("the replication slot {name} was never ready")));
        };
        if confirmed > place.lsn {
            return Err(lost(format!(
                "the replication slot {name} begins at {confirmed}, after the position {} that \
                 the target has: changes between are gone",
                place.lsn
            )));
        }
        if self.two_phase {
            return Err(Error::config(format!(
                "the replication slot {name} was made with two_phase, so that transactions come \
                 before they are decided"
            ))
            .with_hint(format!(
                "SELECT pg_drop_replication_slot('{name}'); then reset the task, so that it loads \
                 again"
            ))
            .at(Side::Source));
        }
        Ok(())
    }
}

/// Ends a reader of the slot that is ours; an error if it is somebody else's.
pub(crate) async fn take_over(client: &Client, name: &str, application: &str) -> Result<()> {
    let since = Instant::now();
    let ours = format!("thalweg/{}/", task(application));
    loop {
        let reader = client
            .query_opt(
                "SELECT s.active_pid, coalesce(a.application_name, ''), \
                 coalesce(a.usename::text, ''), coalesce(a.client_addr::text, 'local') \
                 FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
                 WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL",
                &[&name],
            )
            .await
            .map_err(asking)?;
        let Some(reader) = reader else { return Ok(()) };
        let pid: i32 = reader.get(0);
        let by: &str = reader.get(1);
        // One without a name has just gone: the next look tells.
        if !by.is_empty() && !by.starts_with(&ours) {
            let (user, from): (&str, &str) = (reader.get(2), reader.get(3));
            return Err(Error::config(format!(
                "the replication slot {name} is read by another session: pid {pid}, application \
                 {by:?}, user {user}, from {from}"
            ))
            .with_hint(format!(
                "end it: SELECT pg_terminate_backend({pid}); then run the task again"
            ))
            .at(Side::Source));
        }
        client
            .execute("SELECT pg_terminate_backend($1)", &[&pid])
            .await
            .map_err(asking)?;
        if since.elapsed() > END_WAIT {
            return Err(Error::transient(format!(
                "an earlier reader of the replication slot {name} (pid {pid}) does not end"
            ))
            .with_hint(format!("SELECT pg_terminate_backend({pid});"))
            .at(Side::Source));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Drops the slot if it is there.
pub(crate) async fn remove(client: &Client, name: &str, application: &str) -> Result<()> {
    if find(client, name).await?.is_none() {
        return Ok(());
    }
    take_over(client, name, application).await?;
    client
        .execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE slot_name = $1",
            &[&name],
        )
        .await
        .map_err(asking)?;
    Ok(())
}

/// A publication as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// The tables we put in; `None`: the user made it.
    pub(crate) ours: Option<Vec<Member>>,
}

/// A table we put into a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) oid: u32,
    /// A transaction may run that wrote to it before.
    joining: bool,
}

impl Member {
    /// Reads `16384`, or `16384+` for one that is joining.
    fn parse(text: &str) -> Option<Member> {
        let number = text.strip_suffix('+');
        Some(Member {
            oid: number.unwrap_or(text).parse().ok()?,
            joining: number.is_some(),
        })
    }
}

/// The publication of this name, if there is one.
pub(crate) async fn publication(client: &Client, name: &str) -> Result<Option<Publication>> {
    let row = client
        .query_opt(
            "SELECT coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication \
             WHERE pubname = $1",
            &[&name],
        )
        .await
        .map_err(asking)?;
    Ok(row.map(|row| {
        let comment: &str = row.get(0);
        let ours = comment.strip_prefix(OURS);
        Publication {
            ours: ours.map(|list| list.split(' ').filter_map(Member::parse).collect()),
        }
    }))
}

/// The tables' oids; a `Schema` error if one is gone.
pub(crate) async fn oids(client: &Client, tables: &[TableName]) -> Result<Vec<u32>> {
    let found = found(client, tables).await?;
    let known = tables.iter().zip(found);
    known
        .map(|(table, oid)| oid.ok_or_else(|| gone(table)))
        .collect()
}

/// A table's oid; a `Schema` error if it is gone.
pub(crate) async fn oid(client: &Client, table: &TableName) -> Result<u32> {
    let found = found(client, std::slice::from_ref(table)).await?;
    let oid = found.into_iter().next().flatten();
    oid.ok_or_else(|| gone(table))
}

fn gone(table: &TableName) -> Error {
    Error::schema(format!("the source table {table} is gone"))
        .with_hint("correct the mapping, or make the table again and reset the task")
        .at(Side::Source)
        .about(table)
}

/// The oids of those of the tables that are there.
pub(crate) async fn found(client: &Client, tables: &[TableName]) -> Result<Vec<Option<u32>>> {
    let (schemas, names) = wanted(tables);
    let found = format!("SELECT w.place, c.oid FROM {WANTED} WHERE c.relkind IN ('r', 'p')");
    let rows = client.query(&found, &[&schemas, &names]).await;
    let mut oids = vec![None; tables.len()];
    for row in rows.map_err(asking)? {
        let place: i64 = row.get(0);
        let slot = usize::try_from(place - 1).ok();
        if let Some(slot) = slot.and_then(|at| oids.get_mut(at)) {
            *slot = Some(row.get(1));
        }
    }
    Ok(oids)
}

/// Of those of the tables that are there, the oid and the names and numbers of the columns.
pub(crate) async fn columns(
    client: &Client,
    tables: &[TableName],
) -> Result<Vec<Option<(u32, Vec<(String, i16)>)>>> {
    let (schemas, names) = wanted(tables);
    let found = format!(
        "SELECT w.place, c.oid, array_agg(a.attname::text), array_agg(a.attnum) FROM {WANTED} \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.relkind IN ('r', 'p') GROUP BY w.place, c.oid"
    );
    let rows = client.query(&found, &[&schemas, &names]).await;
    let mut out = vec![None; tables.len()];
    for row in rows.map_err(asking)? {
        let place: i64 = row.get(0);
        let at = usize::try_from(place - 1).ok();
        let names: Vec<Option<String>> = row.get(2);
        let numbers: Vec<Option<i16>> = row.get(3);
        let columns = names.into_iter().zip(numbers);
        let columns = columns.filter_map(|(name, number)| Some((name?, number?)));
        if let Some(slot) = at.and_then(|at| out.get_mut(at)) {
            *slot = Some((row.get(1), columns.collect()));
        }
    }
    Ok(out)
}

/// Which of the tables the publication does not cover. One that is a member of it and no partition is
/// covered; only where there is another the server is asked to list all that are.
pub(crate) async fn uncovered(
    client: &Client,
    name: &str,
    tables: &[TableName],
) -> Result<Vec<TableName>> {
    let (schemas, names) = wanted(tables);
    let members = format!(
        "SELECT w.place FROM {WANTED} \
         JOIN pg_publication p ON p.pubname = $3 AND NOT p.puballtables \
         JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = p.oid \
         WHERE NOT c.relispartition"
    );
    let members = client.query(&members, &[&schemas, &names, &name]).await;
    let members = members.map_err(asking)?;
    let members: BTreeSet<&TableName> = members
        .iter()
        .filter_map(|row| at(tables, row.get(0)))
        .collect();
    let others: Vec<_> = tables.iter().filter(|t| !members.contains(t)).collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client
        .query(
            "SELECT schemaname::text, tablename::text FROM pg_publication_tables \
             WHERE pubname = $1",
            &[&name],
        )
        .await
        .map_err(asking)?;
    let covered: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let covered = |table: &TableName| covered.contains(&(&*table.schema, &*table.name));
    let others = others.into_iter().filter(|table| !covered(table));
    Ok(others.cloned().collect())
}

/// Makes the publication for exactly these tables, or makes sure that the user's covers them.
pub(crate) async fn publish(
    client: &Client,
    name: &str,
    version: u32,
    tables: &[TableName],
) -> Result<()> {
    let wanted = oids(client, tables).await?;
    match publication(client, name).await? {
        Some(Publication { ours: None }) => {
            let missing = uncovered(client, name, tables).await?;
            if missing.is_empty() {
                return Ok(());
            }
            return Err(not_covered(name, &missing));
        }
        // What an earlier start left; the slot is made anew, so it may be too.
        Some(Publication { ours: Some(_) }) => {
            let sql = format!("DROP PUBLICATION {}", quote(name));
            client.batch_execute(&sql).await.map_err(asking)?;
        }
        None => {}
    }
    let list: Vec<String> = tables.iter().map(published).collect();
    let mut options = vec![publish_option(client, &wanted).await?];
    if version >= 130_000 {
        options.push("publish_via_partition_root = true".to_owned());
    }
    if version >= 180_000 {
        options.push("publish_generated_columns = stored".to_owned());
    }
    let sql = format!(
        "BEGIN; CREATE PUBLICATION {name} FOR TABLE {} WITH ({}); \
         COMMENT ON PUBLICATION {name} IS '{}'; COMMIT",
        list.join(", "),
        options.join(", "),
        // Whoever runs now is over when the slot is ready.
        comment(wanted.iter().map(|oid| Member {
            oid: *oid,
            joining: false,
        })),
        name = quote(name),
    );
    run(client, &sql).await
}

/// Runs statements that begin a transaction and commit it.
async fn run(client: &Client, sql: &str) -> Result<()> {
    let done = client.batch_execute(sql).await;
    if done.is_err() {
        // The error stands; a transaction that is not open is no error of its own.
        drop(client.batch_execute("ROLLBACK").await);
    }
    done.map_err(asking)
}

fn comment(members: impl IntoIterator<Item = Member>) -> String {
    let list: Vec<String> = members
        .into_iter()
        .map(|m| format!("{}{}", m.oid, if m.joining { "+" } else { "" }))
        .collect();
    format!("{OURS}{}", list.join(" "))
}

/// Children in an inheritance tree are tables of their own; a partitioned table is one with all of
/// its partitions either way.
fn published(table: &TableName) -> String {
    format!("ONLY {}", quote_table(table))
}

/// A table whose rows the log cannot name must not be published with updates and deletes: the server
/// would refuse them to everyone. A plan with such a table has inserts only.
async fn publish_option(client: &Client, tables: &[u32]) -> Result<String> {
    let nameless = client
        .query_opt(
            "SELECT 1 FROM pg_class c WHERE c.oid = ANY($1) AND NOT CASE c.relreplident \
             WHEN 'f' THEN true WHEN 'n' THEN false \
             WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid \
               AND i.indisprimary AND i.indisvalid AND i.indimmediate) \
             ELSE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident) END \
             LIMIT 1",
            &[&tables],
        )
        .await
        .map_err(asking)?;
    let operations = match nameless {
        Some(_) => "insert",
        None => "insert, update, delete, truncate",
    };
    Ok(format!("publish = '{operations}'"))
}

/// Adds a table to our publication; whether transactions have to be waited for that may have written
/// to it before, until [`joined`] is told. One call at a time for each publication.
pub(crate) async fn extend(client: &Client, name: &str, table: &TableName) -> Result<bool> {
    let tables = std::slice::from_ref(table);
    let covered = uncovered(client, name, tables).await?.is_empty();
    let oid = oid(client, table).await?;
    let publication = publication(client, name).await?;
    let mut all = publication.and_then(|p| p.ours).unwrap_or_default();
    let member = all.iter().find(|member| member.oid == oid);
    match (covered, member) {
        (true, member) => return Ok(member.is_some_and(|member| member.joining)),
        // Somebody took it out, or has the publication.
        (false, Some(_)) => return Err(not_covered(name, tables)),
        (false, None) if all.is_empty() => return Err(not_covered(name, tables)),
        (false, None) => all.push(Member { oid, joining: true }),
    }
    let oids: Vec<u32> = all.iter().map(|member| member.oid).collect();
    let sql = format!(
        "BEGIN; ALTER PUBLICATION {name} SET ({}); ALTER PUBLICATION {name} ADD TABLE {}; \
         COMMENT ON PUBLICATION {name} IS '{}'; COMMIT",
        publish_option(client, &oids).await?,
        published(table),
        comment(all),
        name = quote(name),
    );
    run(client, &sql).await?;
    Ok(true)
}

/// Whoever may have written to a table before it was published is over.
pub(crate) async fn joined(client: &Client, name: &str, table: &TableName) -> Result<()> {
    let oid = oid(client, table).await?;
    let Some(Publication { ours: Some(all) }) = publication(client, name).await? else {
        return Ok(());
    };
    let all = all.into_iter().map(|member| Member {
        joining: member.joining && member.oid != oid,
        ..member
    });
    let sql = format!(
        "COMMENT ON PUBLICATION {} IS '{}'",
        quote(name),
        comment(all)
    );
    client.batch_execute(&sql).await.map_err(asking)
}

/// Takes out of our publication what we put in and is not one of `tables`.
pub(crate) async fn retain(client: &Client, name: &str, tables: &[u32]) -> Result<()> {
    let Some(Publication { ours: Some(all) }) = publication(client, name).await? else {
        return Ok(());
    };
    let gone: Vec<u32> = all.iter().map(|member| member.oid).collect();
    let gone: Vec<u32> = gone
        .into_iter()
        .filter(|oid| !tables.contains(oid))
        .collect();
    // Those that are there and in it.
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text FROM pg_publication_rel r \
             JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE p.pubname = $1 AND r.prrelid = ANY($2)",
            &[&name, &gone],
        )
        .await
        .map_err(asking)?;
    let table = |row: &tokio_postgres::Row| {
        published(&TableName::new(
            row.get::<_, &str>(0),
            row.get::<_, &str>(1),
        ))
    };
    let dropped: Vec<String> = rows.iter().map(table).collect();
    let drop = match dropped.is_empty() {
        true => String::new(),
        false => format!(
            "ALTER PUBLICATION {} DROP TABLE {}; ",
            quote(name),
            dropped.join(", ")
        ),
    };
    let left = all
        .into_iter()
        .filter(|member| tables.contains(&member.oid));
    let sql = format!(
        "BEGIN; {drop}COMMENT ON PUBLICATION {} IS '{}'; COMMIT",
        quote(name),
        comment(left)
    );
    run(client, &sql).await
}

/// The tables' changes since the last look are not known, or will not come.
pub(crate) fn not_covered(name: &str, missing: &[TableName]) -> Error {
    let list: Vec<String> = missing.iter().map(TableName::to_string).collect();
    let add: Vec<String> = missing.iter().map(published).collect();
    Error::new(
        Kind::PositionLost,
        format!("publication {name} does not cover {}", list.join(", ")),
    )
    .with_hint(format!(
        "ALTER PUBLICATION {} ADD TABLE {}; then reset the task, so that it loads again",
        quote(name),
        add.join(", ")
    ))
    .at(Side::Source)
}

/// Drops the publication if it is ours.
pub(crate) async fn unpublish(client: &Client, name: &str) -> Result<()> {
    if let Some(Publication { ours: Some(_) }) = publication(client, name).await? {
        let sql = format!("DROP PUBLICATION IF EXISTS {}", quote(name));
        client.batch_execute(&sql).await.map_err(asking)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_the_task() {
        for (application, expected) in [
            ("thalweg/0123abc", "thalweg_0123abc"),
            ("thalweg/0123abc/7", "thalweg_0123abc"),
            ("thalweg/A-b c", "thalweg_a_b_c"),
            ("other", "thalweg_other"),
        ] {
            assert_eq!(name(application), expected);
        }
        assert_eq!(name(&"x".repeat(80)).len(), NAME_BYTES_MAX);
        assert_eq!(session_name("thalweg/t/3", "load"), "thalweg/t/load");
    }

    #[test]
    fn a_comment_is_read_back() {
        let members = [(1, false), (16_384, true)].map(|(oid, joining)| Member { oid, joining });
        let text = comment(members);
        let list = text.strip_prefix(OURS).unwrap().split(' ');
        let read: Vec<_> = list.filter_map(Member::parse).collect();
        assert_eq!(read, members);
        assert_eq!(Member::parse(""), None);
    }
}
