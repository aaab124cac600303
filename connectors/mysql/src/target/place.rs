//! Where the checkpoint tables lie, and what they look like.
//!
//! They lie in a database of their own, `thalweg`, or, where the user may not create it, in the target
//! database under names that begin with `_thalweg_`. A task whose rows are in one of the two stays
//! there, whatever it is granted later.

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::{Kind, Result};

use super::session::{Session, quote};

/// The database of the checkpoint.
pub(super) const DATABASE: &str = "thalweg";
/// What the tables' names begin with in a database that is not ours.
const PREFIX: &str = "_thalweg_";

/// Where the checkpoint tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) database: String,
    pub(super) prefix: &'static str,
}

impl Place {
    pub(super) fn own() -> Place {
        Place {
            database: DATABASE.to_owned(),
            prefix: "",
        }
    }

    pub(super) fn in_database(database: String) -> Place {
        Place {
            database,
            prefix: PREFIX,
        }
    }

    pub(super) fn quoted(&self, table: &str) -> String {
        format!(
            "{}.{}",
            quote(&self.database),
            quote(&format!("{}{table}", self.prefix))
        )
    }

    /// One row per task.
    pub(super) fn checkpoint(&self) -> String {
        self.quoted("checkpoint")
    }

    /// One row per table of a task.
    pub(super) fn tables(&self) -> String {
        self.quoted("checkpoint_table")
    }

    /// One row per chunk of a table that is being loaded.
    pub(super) fn chunks(&self) -> String {
        self.quoted("checkpoint_chunk")
    }

    /// One row per source table that has a layout.
    pub(super) fn layouts(&self) -> String {
        self.quoted("checkpoint_layout")
    }

    /// One row per change of a task that is in quarantine.
    pub(super) fn quarantine(&self) -> String {
        self.quoted("quarantine")
    }

    /// The statements that make the tables, in the order of their names here.
    pub(super) fn statements(&self) -> [(String, String); 5] {
        let key = "server varchar(64) NOT NULL, task varchar(64) NOT NULL";
        let target = "target_schema varchar(64) NOT NULL, target_table varchar(64) NOT NULL";
        let source = "source_schema varchar(64) NOT NULL, source_table varchar(64) NOT NULL";
        let form = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        let create = |table: String, columns: &str| {
            let create = format!("CREATE TABLE IF NOT EXISTS {table} ({columns}) {form}");
            (table, create)
        };
        [
            create(
                self.checkpoint(),
                &format!(
                    "{key}, epoch bigint NOT NULL, applied longtext, PRIMARY KEY (server, task)"
                ),
            ),
            create(
                self.tables(),
                &format!(
                    "{key}, {target}, phase varchar(16) NOT NULL, fingerprint longtext NOT NULL, \
                     loaded_rows bigint, whole boolean NOT NULL DEFAULT 0, \
                     keys_pending boolean NOT NULL DEFAULT 0, foreign_keys longtext NOT NULL, \
                     relation varchar(64), \
                     PRIMARY KEY (server, task, target_schema, target_table)"
                ),
            ),
            // Some servers take no table without a primary key; this one has nothing to be its.
            create(
                self.chunks(),
                &format!(
                    "id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, {key}, {target}, \
                     {source}, range_column bigint unsigned, range_from longblob, range_to longblob, \
                     visibility longtext NOT NULL, loaded_rows bigint unsigned NOT NULL, \
                     KEY (server, task, target_schema, target_table)"
                ),
            ),
            create(
                self.layouts(),
                &format!(
                    "{key}, {source}, layout longtext NOT NULL, \
                     PRIMARY KEY (server, task, source_schema, source_table)"
                ),
            ),
            create(
                self.quarantine(),
                &format!(
                    "{key}, number bigint NOT NULL, {target}, {source}, row_key longblob NOT NULL, \
                     moved_key longblob, shown longtext NOT NULL, operation varchar(16) NOT NULL, \
                     error longtext, place longtext NOT NULL, at_ms bigint unsigned NOT NULL, \
                     row_change longblob NOT NULL, PRIMARY KEY (server, task, number)"
                ),
            ),
        ]
    }
}

/// Where the task's rows are, or else where they would be; `None`: there are no checkpoint tables.
pub(super) async fn find(session: &mut Session, task: &TaskKey) -> Result<Option<Place>> {
    let mut places = present(session).await?;
    if let [first, second] = places.as_slice() {
        for place in [first, second] {
            let any = format!(
                "SELECT 1 FROM {} WHERE server = ? AND task = ? UNION ALL \
                 SELECT 1 FROM {} WHERE server = ? AND task = ? LIMIT 1",
                place.checkpoint(),
                place.tables()
            );
            let key = (&task.server, &task.task, &task.server, &task.task);
            match session.ask::<u8>(&any, key).await {
                Ok(found) if found.is_empty() => {}
                Ok(_) => return Ok(Some(place.clone())),
                // A place that is not ours to read, or half made, is not where our rows are.
                Err(error)
                    if matches!(
                        error.kind(),
                        Kind::Config | Kind::Schema | Kind::PositionLost
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(if places.is_empty() {
        None
    } else {
        Some(places.remove(0))
    })
}

/// The places that have checkpoint tables, the database of its own first.
pub(super) async fn present(session: &mut Session) -> Result<Vec<Place>> {
    let database = default_database(session).await?;
    let found: Vec<(String, String)> = session
        .ask(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE (table_schema = ? AND table_name IN \
               ('checkpoint', 'checkpoint_table', 'checkpoint_chunk', 'checkpoint_layout', \
               'quarantine')) \
             OR (table_schema = ? AND table_name IN ('_thalweg_checkpoint', \
               '_thalweg_checkpoint_table', '_thalweg_checkpoint_chunk', \
               '_thalweg_checkpoint_layout', '_thalweg_quarantine'))",
            (DATABASE, database.as_deref().unwrap_or_default()),
        )
        .await?;
    let places = std::iter::once(Place::own()).chain(database.map(Place::in_database));
    let there = |place: &Place| {
        found.iter().any(|(schema, name)| {
            *schema == place.database && name.starts_with(PREFIX) != place.prefix.is_empty()
        })
    };
    Ok(places.filter(there).collect())
}

/// The database that the session is in.
pub(super) async fn default_database(session: &mut Session) -> Result<Option<String>> {
    let found: Option<Option<String>> = session.first("SELECT DATABASE()").await?;
    Ok(found.flatten())
}
