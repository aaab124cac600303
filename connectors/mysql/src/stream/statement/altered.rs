//! Definitions of captured tables that change: whether the stream can go on, and how rows lie behind it.

use thalweg_core::change::SchemaChange;
use thalweg_core::position::Position;
use thalweg_core::schema::{ColumnSchema, ColumnType, ForeignKey, ReferenceAction, TableSchema};
use thalweg_core::{Error, Result, Side};

use crate::ddl::alter::{self, Action, Alter};
use crate::ddl::stated::Stated;
use crate::layout::{self, Column, Layout};
use crate::position::Place;
use crate::stream::decode::{Began, Decoder, Open};

impl Decoder {
    /// An `ALTER TABLE` of a captured table, or what is as one; `strict`: the session was.
    pub(super) fn alter(
        &mut self,
        table: usize,
        kind: &str,
        alter: Result<Alter, &'static str>,
        strict: bool,
        at: &str,
    ) -> Result<()> {
        let stop = |decoder: &Decoder, why: &str| decoder.refused(kind, table, at, why);
        let alter = alter.map_err(|why| stop(self, why))?;
        let (Some(schema), Some(before)) = (self.tables.get(table), self.layouts.get(table)) else {
            return Err(Error::bug("a captured table without a schema"));
        };
        let within = |mark: &Place| self.open.as_ref().and_then(|open| within(mark, open));
        let met = Met {
            schema,
            layout: before,
            described: self.end.as_ref().and_then(within) == Some(true),
            strict: strict && !alter.ignore,
            within: &within,
        };
        if let Some(why) = met.touches(&alter) {
            return Err(stop(self, &why));
        }
        if alter.unsaid && !met.rows_may_go() {
            return Err(stop(self, alter::ROWS).of_unsaid());
        }
        let mut after = before.altered(&alter.actions).map_err(|why| {
            let why = format!("what is known of the table does not fit the statement: {why}");
            stop(self, &why)
        })?;
        for action in &alter.actions {
            let Action::Change {
                column: to, stated, ..
            } = action
            else {
                continue;
            };
            // One that is asked for has become what it is asked for as.
            if let (Some(column), Some(at)) = (met.mapped(&to.name), after.at(&to.name))
                && let Some(known) = after.columns.get_mut(at)
            {
                // If its words do not say so, another such statement would say that it has not. Those of labels
                // never do.
                let labels = matches!(column.ty, ColumnType::Enum { .. } | ColumnType::Set { .. });
                known.native = match stated.is_some() || labels {
                    true => layout::short(&column.native),
                    false => String::new(),
                };
            }
        }
        after
            .young
            .retain(|young| !young.came || !met.past(&young.until));
        if after != *before {
            let layout = after.stored();
            self.schema.push(SchemaChange { table, layout });
            if let Some(layout) = self.layouts.get_mut(table) {
                *layout = after;
            }
        }
        // A table that was altered gets a new number, and its old one may be given again.
        self.maps.clear();
        Ok(())
    }

    /// A statement that the task cannot pass; `why` may be empty.
    pub(super) fn refused(&self, kind: &str, table: usize, at: &str, why: &str) -> Error {
        let colon = if why.is_empty() { "" } else { ": " };
        let stopped = Error::schema(format!(
            "{kind} on {} at {at}: the task stopped before it{colon}{why}",
            self.table_name(table)
        ))
        .with_hint("make the same change in the target, then reset the task to load again")
        .at(Side::Source);
        match self.tables.get(table) {
            Some(schema) => stopped.about(&schema.name),
            None => stopped,
        }
    }
}

/// Whether a group lies before the end that the log had; `None`: the two cannot be compared.
fn within(end: &Place, open: &Open) -> Option<bool> {
    match (&end.set, &open.began) {
        (Some(set), Began::MySql(gtid)) => Some(set.contains(gtid)),
        (_, began) => {
            let place = open.start.compare(&end.at).ok();
            // The end may be that of another server's log.
            let named = || match began {
                Began::Maria(domain, _, number) => {
                    Some(*number <= end.gtid.get(domain).map(|(_, last)| *last)?)
                }
                _ => None,
            };
            place.map(std::cmp::Ordering::is_lt).or_else(named)
        }
    }
}

/// A table where a statement meets it.
struct Met<'a> {
    /// As it is asked for.
    schema: &'a TableSchema,
    layout: &'a Layout,
    /// Whether it was described behind the statement, for certain.
    described: bool,
    /// Whether no value was changed in silence.
    strict: bool,
    /// Whether the statement lies before an end of the log; `None`: that cannot be told.
    within: &'a dyn Fn(&Place) -> Option<bool>,
}

impl Met<'_> {
    fn mapped(&self, name: &str) -> Option<&ColumnSchema> {
        let mut columns = self.schema.columns.iter();
        columns.find(|column| layout::same(&column.name, name))
    }

    /// Whether rows may go without being logged.
    fn rows_may_go(&self) -> bool {
        let end = self.layout.passes.as_ref();
        let end = end.and_then(|end| Place::of_position(&Position::new(end.clone())).ok());
        end.is_some_and(|end| (self.within)(&end) == Some(true))
    }

    /// Whether the statement lies behind an end of the log, for certain.
    fn past(&self, end: &str) -> bool {
        let end = Place::of_position(&Position::new(end));
        end.is_ok_and(|end| (self.within)(&end) == Some(false))
    }

    /// Why what a task reads of the table is not as before, or not as it is asked for; `None`: it is.
    fn touches(&self, alter: &Alter) -> Option<String> {
        if let Some(why) = alter.actions.iter().find_map(|action| self.touched(action)) {
            return Some(why);
        }
        let schema = self.schema;
        let keyless = schema.primary_key.is_empty();
        // Which key's columns stand in images that are not whole.
        let partial = keyless && schema.old_image.is_some();
        let columns_go = alter.actions.iter().any(|action| action.old().is_some());
        if partial && (alter.unique || !alter.dropped.is_empty() || columns_go) {
            return Some("the columns that tell its rows apart may be others".to_owned());
        }
        alter.dropped.iter().find_map(|name| {
            let mut keys = schema.unique_keys.iter();
            let identifies = keyless && keys.any(|key| layout::same(&key.name, name));
            if identifies || layout::same(name, "PRIMARY") {
                return Some(format!("index {name} tells its rows apart"));
            }
            let mut links = schema.foreign_keys.iter();
            let acts = links.any(|key| acts(key) && layout::same(&key.name, name));
            acts.then(|| format!("foreign key {name} changes rows by itself"))
        })
    }

    fn touched(&self, action: &Action) -> Option<String> {
        if let Action::Add { column, if_new, .. } = action {
            return self.added(&column.name, *if_new);
        }
        let name = action.old()?;
        // Nothing is done (`IF EXISTS`), or the statement does not fit.
        self.layout.at(name)?;
        let called = match action {
            Action::Change { column, .. } => Some(&column.name),
            Action::Rename { to, .. } => Some(to),
            _ => None,
        };
        let Some(column) = self.mapped(name) else {
            // It has values of its own, and is one that is asked for from now on.
            let column = called.and_then(|to| self.mapped(to))?;
            return Some(format!("column {name} is called {} now", column.name));
        };
        let name = &column.name;
        let mut young = self.layout.young.iter();
        let fresh = young.any(|young| {
            young.came && layout::same(&young.column.name, name) && !self.past(&young.until)
        });
        match action {
            Action::Drop { .. } => Some(format!("column {name} goes")),
            Action::Rename { to, .. } => Some(format!("column {name} is called {to} now")),
            Action::Change { .. } | Action::Default { .. } if fresh => Some(format!(
                "column {name} was changed since it came, so that the rows that were there may have another \
                 value"
            )),
            Action::Change {
                column: to,
                stated,
                not_null,
                ..
            } if !self.passes(column, to, stated.as_ref(), *not_null) => {
                Some(format!("column {name} is changed"))
            }
            Action::Change { .. } | Action::Default { .. } | Action::Add { .. } => None,
        }
    }

    fn added(&self, name: &str, if_new: bool) -> Option<String> {
        let there = if_new && self.layout.at(name).is_some();
        let asked = !self.schema.whole || self.mapped(name).is_some();
        // One that the table did not have any more when it was described has gone again.
        let passes = there || asked || self.described;
        (!passes).then(|| format!("column {name} came"))
    }

    /// Whether a column is as it is asked for behind a change, with all values it had: the change is the one
    /// that makes of it what it is asked for as, or states the type that it has anyway.
    fn passes(
        &self,
        column: &ColumnSchema,
        to: &Column,
        stated: Option<&Stated>,
        not_null: bool,
    ) -> bool {
        let at = self.layout.at(&column.name);
        let known = at.and_then(|at| self.layout.columns.get(at));
        let key = self.schema.column_index(&column.name);
        let key = key.is_some_and(|at| self.schema.primary_key.contains(&at));
        let default = self.schema.charset.as_deref();
        let becomes = |known: &Column| match stated {
            Some(stated) => {
                // What the table's character set was by then is known if it was described since.
                let set = self.described || !stated.leaves_set() || !text(column);
                let stays = known.native == layout::short(&column.native) && set;
                stated.is(&column.native, default) && (known.changes_to(column) || stays)
            }
            // On its way there another type may have cut values; but then this is not the last such statement.
            None => known.changes_to(column),
        };
        to.name == column.name
            && known.is_some_and(becomes)
            // What was NULL has become something else.
            && (self.strict || key || !not_null)
    }
}

fn text(column: &ColumnSchema) -> bool {
    column.native.contains(" character set ")
}

fn acts(key: &ForeignKey) -> bool {
    key.on_delete != ReferenceAction::Refuse || key.on_update != ReferenceAction::Refuse
}

#[cfg(test)]
mod tests {
    use thalweg_core::schema::TableName;

    use super::*;
    use crate::ddl::{Effect, classify};
    use crate::gtid::{Gtid, GtidSet};
    use crate::layout::Young;
    use crate::position::Coordinate;

    fn altering(actions: &str) -> Alter {
        let find = |_: &str, name: &str| (name == "t").then_some(0);
        let sql = format!("ALTER TABLE t {actions}");
        match classify("d", &sql, &find) {
            Effect::Alter(_, _, Ok(alter)) => alter,
            _ => panic!("{sql}"),
        }
    }

    const UNTIL: &str = "v1;1;b.1;100;;;0";

    fn column(name: &str, native: &str) -> ColumnSchema {
        let ty = ColumnType::Int {
            bits: 64,
            unsigned: false,
        };
        ColumnSchema::new(name, ty, native)
    }

    /// What is said to a statement on `t (id INT, a INT, x INT)`, which is asked for as `(id INT, c INT, a
    /// BIGINT)`, with a column c that came before and one of that name that is to come.
    fn said(actions: &str, change: &dyn Fn(&mut TableSchema, &mut Met<'_>)) -> Option<String> {
        let columns = vec![
            column("id", "int"),
            column("c", "int"),
            column("a", "bigint"),
        ];
        let mut schema = TableSchema {
            primary_key: vec![0],
            ..TableSchema::new(TableName::new("d", "t"), columns)
        };
        let native = |name: &str, native: &str| Column {
            name: name.to_owned(),
            native: native.to_owned(),
            ..Column::default()
        };
        let layout = Layout {
            columns: vec![native("id", "int"), native("a", "int"), native("x", "int")],
            young: vec![Young {
                column: native("c", "int"),
                fill: Box::default(),
                until: UNTIL.to_owned(),
                came: false,
            }],
            passes: None,
        };
        let alter = altering(actions);
        let mut met = Met {
            schema: &TableSchema::new(TableName::new("d", "t"), Vec::new()),
            layout: &layout,
            described: false,
            strict: true,
            within: &|_| Some(true),
        };
        change(&mut schema, &mut met);
        Met {
            schema: &schema,
            ..met
        }
        .touches(&alter)
    }

    #[test]
    fn what_leads_to_the_table_as_it_is_asked_for_passes() {
        for (actions, want) in [
            ("ADD c INT", None),
            ("ADD c INT FIRST, MODIFY a BIGINT NOT NULL, DROP x", None),
            ("ADD y INT", None),
            ("DROP IF EXISTS c", None),
            ("CHANGE IF EXISTS c d INT, ALTER x SET DEFAULT 5", None),
            ("CHANGE a a BIGINT", None),
            ("CHANGE a A BIGINT", Some("column a is changed")),
            ("CHANGE a b BIGINT", Some("column a is changed")),
            ("MODIFY id INT", None),
            ("MODIFY id INT NOT NULL COMMENT 'x' AFTER a", None),
            ("MODIFY id BIGINT", Some("column id is changed")),
            ("MODIFY id INT UNSIGNED", Some("column id is changed")),
            ("CHANGE id ID INT", Some("column id is changed")),
            ("DROP a", Some("column a goes")),
            ("RENAME COLUMN a TO b", Some("column a is called b now")),
            ("RENAME COLUMN x TO c", Some("column x is called c now")),
            ("CHANGE x c INT", Some("column x is called c now")),
            ("RENAME COLUMN x TO y", None),
        ] {
            assert_eq!(said(actions, &|_, _| ()).as_deref(), want, "{actions}");
        }
    }

    #[test]
    fn a_column_comes_to_a_table_that_is_asked_for_whole() {
        let check = |actions: &str, described: bool, want: Option<&str>| {
            let found = said(actions, &|schema, met| {
                schema.whole = true;
                met.described = described;
            });
            assert_eq!(found.as_deref(), want, "{actions}");
        };
        for described in [true, false] {
            check("ADD c INT", described, None);
            check("ADD IF NOT EXISTS x INT", described, None);
        }
        check("ADD y INT", true, None);
        check("ADD y INT", false, Some("column y came"));
        check("ADD IF NOT EXISTS y INT", false, Some("column y came"));
    }

    #[test]
    fn null_may_have_become_something_else() {
        let check = |nullable: bool, key: Vec<usize>, strict: bool, passes: bool| {
            let found = said("MODIFY a BIGINT NOT NULL", &|schema, met| {
                schema.columns[2].nullable = nullable;
                schema.primary_key.clone_from(&key);
                met.strict = strict;
            });
            assert_eq!(found.is_none(), passes, "{nullable} {key:?} {strict}");
        };
        check(false, vec![0], true, true);
        check(false, vec![0], false, false);
        check(false, vec![2], false, true);
        check(true, vec![0], false, false);
        for (actions, passes) in [
            ("MODIFY id INT NOT NULL", false),
            ("MODIFY id INT NULL", true),
            ("MODIFY id INT", true),
        ] {
            let found = said(actions, &|schema, met| {
                schema.primary_key = vec![2];
                met.strict = false;
            });
            assert_eq!(found.is_none(), passes, "{actions}");
        }
    }

    #[test]
    fn rows_that_are_not_logged_may_go_up_to_an_end_of_the_log() {
        let table = TableSchema::new(TableName::new("d", "t"), Vec::new());
        for (actions, goes) in [
            ("DROP PARTITION p0, p1", true),
            ("TRUNCATE PARTITION ALL", true),
            ("ADD PARTITION (PARTITION p2 VALUES LESS THAN (9))", false),
            ("DROP INDEX k", false),
        ] {
            assert_eq!(altering(actions).unsaid, goes, "{actions}");
        }
        for (until, within, may) in [
            (None, Some(true), false),
            (Some(UNTIL), Some(true), true),
            (Some(UNTIL), Some(false), false),
            (Some(UNTIL), None, false),
            (Some("?"), Some(true), false),
        ] {
            let layout = Layout {
                passes: until.map(str::to_owned),
                ..Layout::default()
            };
            let met = Met {
                schema: &table,
                layout: &layout,
                described: true,
                strict: true,
                within: &|_| within,
            };
            assert_eq!(met.rows_may_go(), may, "{until:?} {within:?}");
        }
    }

    #[test]
    fn a_text_is_of_the_set_of_its_table_as_it_was_described() {
        for (actions, described, set, passes) in [
            ("MODIFY id VARCHAR(9)", true, "utf8mb4", true),
            ("MODIFY id VARCHAR(9)", false, "utf8mb4", false),
            ("MODIFY id VARCHAR(9)", true, "latin1", false),
            (
                "MODIFY id VARCHAR(9) CHARSET utf8mb4",
                false,
                "latin1",
                true,
            ),
        ] {
            let native = "varchar(9) character set utf8mb4";
            let text = ColumnType::Text { max_chars: Some(9) };
            let layout = Layout {
                columns: vec![Column {
                    name: "id".to_owned(),
                    native: native.to_owned(),
                    ..Column::default()
                }],
                ..Layout::default()
            };
            let columns = vec![ColumnSchema::new("id", text, native)];
            let schema = TableSchema {
                charset: Some(set.to_owned()),
                ..TableSchema::new(TableName::new("d", "t"), columns)
            };
            let met = Met {
                schema: &schema,
                layout: &layout,
                described,
                strict: true,
                within: &|_| Some(true),
            };
            let found = met.touches(&altering(actions));
            assert_eq!(found.is_none(), passes, "{actions} {described} {set}");
        }
    }

    #[test]
    fn a_column_that_came_is_not_changed_until_its_fill_was_found() {
        let mut layout = Layout {
            columns: vec![Column {
                name: "c".to_owned(),
                native: "int".to_owned(),
                ..Column::default()
            }],
            ..Layout::default()
        };
        layout.young.push(Young {
            column: layout.columns[0].clone(),
            fill: Box::default(),
            until: UNTIL.to_owned(),
            came: true,
        });
        let schema = TableSchema::new(TableName::new("d", "t"), vec![column("c", "bigint")]);
        for (place, stops) in [(Some(true), true), (None, true), (Some(false), false)] {
            for actions in [
                "ALTER c SET DEFAULT 5",
                "ALTER c DROP DEFAULT",
                "MODIFY c BIGINT",
            ] {
                let alter = altering(actions);
                let within = |end: &Place| {
                    assert_eq!(end.at.pos, 100);
                    place
                };
                let met = Met {
                    schema: &schema,
                    layout: &layout,
                    described: true,
                    strict: true,
                    within: &within,
                };
                let found = met.touches(&alter);
                let since = found.is_some_and(|why| why.contains("since it came"));
                assert_eq!(since, stops, "{actions} {place:?}");
            }
        }
    }

    #[test]
    fn places_are_compared_as_their_server_names_them() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let at = |server: u32, pos: u64| Coordinate {
            server,
            file: "b.7".to_owned(),
            pos,
        };
        let open = |began: Began, pos: u64| Open {
            start: at(1, pos),
            began,
            single: true,
            undone: false,
            later: false,
            xid: None,
            time_us: 0,
            touched: false,
            parts: false,
        };
        let named = |n: u64| Began::MySql(Gtid::parse(&format!("{uuid}:{n}")).unwrap());
        let end = |server: u32, set: Option<&str>, gtid: &str| Place {
            at: at(server, 100),
            set: set.and_then(GtidSet::parse),
            gtid: Place::parse_gtid(gtid).unwrap(),
            ..Place::default()
        };
        let set = format!("{uuid}:1-5");
        for (end, open, want) in [
            // The set says it, wherever the group lies.
            (end(1, Some(&set), ""), open(named(5), 200), Some(true)),
            (end(1, Some(&set), ""), open(named(6), 50), Some(false)),
            // Without GTIDs the place does; a group that begins at the end lies behind it.
            (end(1, None, ""), open(Began::Nameless, 99), Some(true)),
            (end(1, None, ""), open(Began::Nameless, 100), Some(false)),
            (end(1, None, ""), open(named(5), 99), Some(true)),
            (
                end(1, None, "0-1-5"),
                open(Began::Maria(0, 1, 9), 99),
                Some(true),
            ),
            // Of another server only names are of use.
            (
                end(2, None, "0-1-5"),
                open(Began::Maria(0, 1, 5), 200),
                Some(true),
            ),
            (
                end(2, None, "0-1-5"),
                open(Began::Maria(0, 1, 6), 50),
                Some(false),
            ),
            (end(2, None, "0-1-5"), open(Began::Maria(3, 1, 5), 50), None),
            (end(2, None, ""), open(Began::Nameless, 50), None),
        ] {
            assert_eq!(within(&end, &open), want, "{end:?} {:?}", open.began);
        }
    }
}
