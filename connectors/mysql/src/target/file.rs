//! Rows as a file: `LOAD DATA LOCAL INFILE`, the cheapest way of a MariaDB to insert many rows.
//!
//! It costs the server about half of what a statement of many rows does, because nothing is parsed. There
//! is no file: the server asks for one by name and gets the rows that were written for this very
//! statement; a server that asks at any other time gets nothing.
//!
//! With `LOCAL` the server cannot stop what is being sent, so where it would refuse a row it skips or
//! changes it, and counts a warning. So the way of the literals ([`super::literal`]) stays the only truth:
//! a file is written for tables all of whose values mean the same in both ([`Table::has_fields`]), and
//! if the server has so much as a warning it is taken back to where it began, and the same rows go
//! as statements, which write them or say what is wrong.
//! <https://mariadb.com/kb/en/load-data-infile/>

use bytes::Bytes;
use futures_util::{StreamExt, future, stream};
use mysql_async::Error as My;
use thalweg_core::value::RowRef;
use thalweg_core::{Error, Result};

use super::error::convert_for;
use super::session::Session;
use super::statement::LONG_BYTES;
use super::table::Table;

/// Fewer rows are sent as statements: a file takes more round trips.
const ROWS_MIN: usize = 64;
/// A file has about this size.
const FILE_BYTES: usize = 1 << 20;
/// Sent at once; a packet that is longer than `max_allowed_packet` would be refused.
const PACKET_BYTES: usize = 128 << 10;
/// Rows that are written without a pause.
const PAUSE_ROWS: usize = 64;

/// The server or its configuration takes no files (any more).
const NOT_ALLOWED: [u16; 3] = [1148, 3948, 4166];

/// Whether these rows can go as files.
pub(super) fn takes(session: &Session, table: &Table, rows: &[RowRef<'_>]) -> bool {
    session.facts.files
        && session.facts.packet_max > 2 * PACKET_BYTES
        && rows.len() >= ROWS_MIN
        && table.has_fields()
        && rows.iter().all(|row| row.bytes() < LONG_BYTES)
}

/// Inserts rows; how many. `None`: none of them, because the server has something to say about one.
pub(super) async fn insert(
    session: &mut Session,
    table: &Table,
    rows: &[RowRef<'_>],
) -> Result<Option<u64>> {
    session.run("SAVEPOINT thalweg_file").await?;
    let statement = format!(
        "LOAD DATA LOCAL INFILE 'thalweg' INTO TABLE {} CHARACTER SET utf8mb4 \
         FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' ({})",
        table.name,
        table.list()
    );
    let mut waiting = rows.iter();
    let mut ready = next(table, &mut waiting).await?;
    while let Some((file, count)) = ready {
        let send = send(session, &statement, file);
        let (sent, following) = future::join(send, next(table, &mut waiting)).await;
        match sent {
            Ok(info) if is_clean(&info, count) => {}
            Ok(_) => return back(session).await,
            Err(My::Server(error)) if NOT_ALLOWED.contains(&error.code) => {
                session.facts.files = false;
                return back(session).await;
            }
            Err(error) => {
                let error = convert_for(error, &table.target);
                if error.kind() == thalweg_core::Kind::Data {
                    return back(session).await;
                }
                return Err(error);
            }
        }
        ready = following?;
    }
    session.run("RELEASE SAVEPOINT thalweg_file").await?;
    Ok(Some(rows.len() as u64))
}

async fn back(session: &mut Session) -> Result<Option<u64>> {
    let back = "ROLLBACK TO SAVEPOINT thalweg_file";
    session.run(back).await.map(|()| None)
}

/// Writes rows until a file is full; with their number. `None` when none is left.
async fn next(
    table: &Table,
    rows: &mut std::slice::Iter<'_, RowRef<'_>>,
) -> Result<Option<(Vec<u8>, usize)>> {
    let mut file = Vec::with_capacity(FILE_BYTES + (FILE_BYTES >> 3));
    let mut count = 0;
    for &row in rows {
        table.put_fields(row, &mut file)?;
        count += 1;
        if file.len() >= FILE_BYTES {
            break;
        }
        if count % PAUSE_ROWS == 0 {
            // What is being sent goes on.
            tokio::task::yield_now().await;
        }
    }
    Ok((count > 0).then_some((file, count)))
}

/// Sends a file; what the server says of it.
async fn send(
    session: &mut Session,
    statement: &str,
    file: Vec<u8>,
) -> std::result::Result<String, My> {
    let file = Bytes::from(file);
    session.conn().set_infile_handler(async move {
        let pieces = (0..file.len()).step_by(PACKET_BYTES).map(move |from| {
            let to = file.len().min(from + PACKET_BYTES);
            Ok(file.slice(from..to))
        });
        Ok(stream::iter(pieces).boxed())
    });
    session.tell(statement).await
}

/// Whether all rows went in as they are, by words such as
/// `Records: 2  Deleted: 0  Skipped: 0  Warnings: 0`.
fn is_clean(info: &str, count: usize) -> bool {
    info == format!("Records: {count}  Deleted: 0  Skipped: 0  Warnings: 0")
}

impl Table {
    /// Appends a line with all values of a row.
    fn put_fields(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (index, cell) in row.cells().enumerate() {
            if !cell.is_present() {
                return Err(Error::bug("a row to insert is not whole"));
            }
            if index > 0 {
                out.push(b'\t');
            }
            self.put_field(index, cell, out)?;
        }
        out.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_without_a_doubt_are_clean() {
        assert!(is_clean(
            "Records: 2  Deleted: 0  Skipped: 0  Warnings: 0",
            2
        ));
        for doubt in [
            "Records: 1  Deleted: 0  Skipped: 0  Warnings: 0",
            "Records: 2  Deleted: 0  Skipped: 1  Warnings: 1",
            "Records: 2  Deleted: 0  Skipped: 0  Warnings: 1",
            "Records: 2  Deleted: 1  Skipped: 0  Warnings: 0",
            "",
        ] {
            assert!(!is_clean(doubt, 2), "{doubt}");
        }
    }
}
