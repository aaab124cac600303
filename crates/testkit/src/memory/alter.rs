//! Tables of a source in memory that are altered, and how their rows lie in its log.
//!
//! As in MySQL's log, a row has its cells in the order of the table's columns as they were then, and not
//! their names: whoever reads has to know the [`Layout`] of the place, and follows each statement. As in
//! PostgreSQL's catalogue, a column has a number that it keeps under any name and that no other column gets.

use thalweg_core::ports::{Bridge, Rows as Become, Unsaid};
use thalweg_core::position;
use thalweg_core::range::Bound;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableSchema};
use thalweg_core::value::CellRef;
use thalweg_core::{Error, Result};

use super::{NULL, Rows};

/// What a statement does to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alter {
    /// A column comes, behind the others.
    Add {
        /// Its name.
        name: String,
        /// Bits of its integers: 32 or 64.
        bits: u8,
        /// What it is in rows that are there.
        default: Given,
    },
    /// A column goes.
    Drop(String),
    /// A column gets another type. Values that do not fit are cut in silence.
    Retype {
        /// Its name.
        name: String,
        /// Bits of its integers: 32 or 64.
        bits: u8,
        /// Whether the statement computes each value anew, which the log does not tell.
        rewrites: bool,
    },
    /// A column gets another name.
    Rename {
        /// The one it has.
        name: String,
        /// The one it gets.
        to: String,
    },
    /// A column gets another default, which rows that are there do not have.
    Default {
        /// Its name.
        name: String,
        /// Its default.
        default: Given,
    },
    /// Rows whose key is this or a higher number go, and the log does not name them.
    Vanish(i64),
}

/// The default of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// None: NULL.
    Null,
    /// A constant.
    Value(i64),
    /// Computed for each row, which the log does not tell.
    Own,
}

impl Given {
    /// What all rows get; `None`: each its own.
    fn constant(self) -> Option<i64> {
        match self {
            Given::Null => Some(NULL),
            Given::Value(value) => Some(value),
            Given::Own => None,
        }
    }
}

/// What a source says wrongly of its tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    #[default]
    None,
    /// Another value that rows of before have in a new column.
    Fills,
    /// No row is in doubt.
    Doubt,
    /// A narrower type is a wider one.
    Narrower,
    /// Streams pass every statement.
    Passes,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) bits: u8,
    default: Given,
    /// What it became in the rows that were there when it came; `None`: in each something else.
    missing: Option<i64>,
    nullable: bool,
}

/// A table as it is now.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) columns: Vec<Column>,
    key: Vec<u32>,
    /// Another one whenever its rows were computed anew.
    file: u64,
    /// How often rows have gone that the log does not name.
    pub(super) gone: u64,
    next: u32,
}

/// What the log has of a statement.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Add(Column),
    Drop(u32),
    Retype {
        number: u32,
        was: u8,
        is: u8,
    },
    Rename {
        number: u32,
        to: String,
    },
    Default,
    /// Rows have gone so many times.
    Vanish(u64),
}

/// The bits of a column's integers.
pub(super) fn bits(column: &ColumnSchema) -> u8 {
    match column.ty {
        ColumnType::Int { bits, .. } => bits,
        _ => 64,
    }
}

/// What a column of these integers is called.
pub(super) fn native(bits: u8) -> &'static str {
    if bits == 32 { "int" } else { "bigint" }
}

/// Whether a column of these integers takes a value.
pub(super) fn takes(bits: u8, value: i64) -> bool {
    value == NULL || bits != 32 || i32::try_from(value).is_ok()
}

/// A column of these integers.
pub(super) fn column(name: &str, bits: u8, nullable: bool) -> ColumnSchema {
    let ty = ColumnType::Int {
        bits,
        unsigned: false,
    };
    ColumnSchema {
        nullable,
        ..ColumnSchema::new(name, ty, native(bits))
    }
}

impl Definition {
    pub(super) fn of(schema: &TableSchema) -> Self {
        let columns: Vec<_> = schema
            .columns
            .iter()
            .zip(1..)
            .map(|(column, number)| Column {
                number,
                name: column.name.clone(),
                bits: bits(column),
                default: Given::Null,
                missing: Some(NULL),
                nullable: column.nullable,
            })
            .collect();
        let number = |at: &usize| columns.get(*at).map_or(0, |column| column.number);
        Definition {
            key: schema.primary_key.iter().map(number).collect(),
            next: 1 + u32::try_from(columns.len()).expect("a table in memory is narrow"),
            file: 0,
            gone: 0,
            columns,
        }
    }

    /// Puts the columns there are, and how they lie, into a schema.
    pub(super) fn describe(&self, schema: &mut TableSchema) {
        let columns = self.columns.iter();
        schema.columns = columns
            .map(|c| column(&c.name, c.bits, c.nullable))
            .collect();
        let place = |number: &u32| self.columns.iter().position(|c| c.number == *number);
        schema.primary_key = self.key.iter().filter_map(place).collect();
        let layout = Layout {
            file: self.file,
            columns: self.columns.iter().map(Lying::of).collect(),
            young: Vec::new(),
            gone: self.gone,
        };
        schema.layout = Some(layout.stored());
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    fn number(&self, number: u32) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }

    /// Does it, to the rows as well; `None`: it cannot be done.
    pub(super) fn alter(&mut self, alter: &Alter, rows: &mut Rows) -> Option<Step> {
        let free = |name: &String| self.place(name).is_none();
        let mutable = |name: &String| {
            let at = self.place(name)?;
            let key = self.columns.get(at).map(|column| column.number)?;
            (!self.key.contains(&key)).then_some(at)
        };
        match alter {
            Alter::Add {
                name,
                bits,
                default,
            } => {
                let new = free(name).then(|| Column {
                    number: self.next,
                    name: name.clone(),
                    bits: *bits,
                    default: *default,
                    missing: default.constant(),
                    nullable: *default == Given::Null,
                })?;
                self.next += 1;
                self.file += u64::from(*default == Given::Own);
                for (row, own) in rows.values_mut().zip(1..) {
                    row.push(new.missing.unwrap_or(1_000 + own));
                }
                self.columns.push(new.clone());
                Some(Step::Add(new))
            }
            Alter::Drop(name) => {
                let at = mutable(name)?;
                rows.values_mut().for_each(|row| {
                    row.remove(at);
                });
                Some(Step::Drop(self.columns.remove(at).number))
            }
            Alter::Retype {
                name,
                bits,
                rewrites,
            } => {
                let at = mutable(name)?;
                let column = self.columns.get_mut(at)?;
                let was = std::mem::replace(&mut column.bits, *bits);
                let step = Step::Retype {
                    number: column.number,
                    was,
                    is: *bits,
                };
                if was == *bits {
                    return None;
                }
                self.file += u64::from(*rewrites);
                for cell in rows.values_mut().filter_map(|row| row.get_mut(at)) {
                    if *rewrites && *cell != NULL {
                        *cell = cell.wrapping_add(1);
                    }
                    if !takes(*bits, *cell) {
                        *cell = i64::from(i32::MAX);
                    }
                }
                Some(step)
            }
            Alter::Rename { name, to } => {
                let at = mutable(name).filter(|_| free(to))?;
                let column = self.columns.get_mut(at)?;
                column.name.clone_from(to);
                Some(Step::Rename {
                    number: column.number,
                    to: to.clone(),
                })
            }
            Alter::Default { name, default } => {
                let at = mutable(name)?;
                self.columns.get_mut(at)?.default = *default;
                Some(Step::Default)
            }
            Alter::Vanish(from) => {
                rows.retain(|key, _| key.first().is_some_and(|key| key < from));
                self.gone += 1;
                Some(Step::Vanish(self.gone))
            }
        }
    }

    /// Whether rows of the table, which was asked about as this one, have gone that the log does not name.
    pub(super) fn unsaid(&self, table: usize, then: &position::Layout) -> Result<Option<Unsaid>> {
        let mut layout = Layout::parse(then)?;
        if layout.gone == self.gone {
            return Ok(None);
        }
        layout.gone = self.gone;
        Ok(Some(Unsaid {
            table,
            layout: layout.stored(),
            rows: Become::Went,
            how: "rows have gone".to_owned(),
        }))
    }

    /// See [`thalweg_core::ports::Source::bridge`]. One that `guesses` does not know what rows of before have
    /// got, and takes a column's present default for it; its stream finds out.
    pub(super) fn bridge(
        &self,
        table: &TableSchema,
        then: Option<&position::Layout>,
        added: &[usize],
        retyped: &[(usize, String)],
        (guesses, lie): (bool, Lie),
    ) -> Result<Bridge> {
        let closed = |why: String| Ok(Bridge::Closed(why));
        let (Some(then), Some(now)) = (then, &table.layout) else {
            return closed("how it lay by then is not stored".to_owned());
        };
        let (mut layout, now) = (Layout::parse(then)?, Layout::parse(now)?);
        let strange = || Error::bug("a column that is not there");
        let rewritten = layout.file != self.file;
        for (at, was) in retyped {
            let column = table.columns.get(*at).ok_or_else(strange)?;
            if was == "bigint" && bits(column) == 32 && lie != Lie::Narrower {
                return closed(format!("column {} is narrower than it was", column.name));
            }
        }
        for column in &table.columns {
            let (was, is) = (layout.number(&column.name), now.number(&column.name));
            if was.zip(is).is_some_and(|(was, is)| was != is) {
                return closed(format!("column {} is another one by now", column.name));
            }
        }
        let stays = |young: &Young| now.number(&young.lying.name) == Some(young.lying.number);
        layout.young.retain(stays);
        let mut doubt = rewritten && !retyped.is_empty();
        if !guesses {
            // It sees what has become of its tables, and not only what the log says.
            doubt |= layout.gone != self.gone;
            layout.gone = self.gone;
        }
        let (mut fills, mut begun) = (Vec::new(), Vec::new());
        for at in added {
            let name = &table.columns.get(*at).ok_or_else(strange)?.name;
            let known = now.columns.iter().find(|column| column.name == *name);
            let known = known.ok_or_else(strange)?;
            if let Some(young) = layout.young.iter().find(|y| y.lying.number == known.number) {
                fills.push(raw(young.fill));
                begun.push(true);
                continue;
            }
            begun.push(false);
            match layout.columns.iter().find(|c| c.number == known.number) {
                Some(before) if before.name == *name => return Ok(Bridge::Unread),
                Some(before) => return closed(format!("column {} is called {name}", before.name)),
                None => {}
            }
            let constant = match self.number(known.number) {
                Some(column) if guesses => column.default.constant(),
                Some(column) if !rewritten => column.missing,
                _ => None,
            };
            doubt |= constant.is_none();
            let mut fill = constant.unwrap_or(NULL);
            if lie == Lie::Fills && fill != NULL {
                fill += 1;
            }
            fills.push(raw(fill));
            layout.young.push(Young {
                lying: known.clone(),
                fill,
                guessed: constant.is_some() && lie != Lie::Fills,
            });
        }
        layout.file = self.file;
        Ok(Bridge::Open {
            layout: layout.stored(),
            fills,
            doubt: doubt && lie != Lie::Doubt,
            begun,
        })
    }
}

/// An encoded cell.
fn raw(value: i64) -> Vec<u8> {
    let cell = match value {
        NULL => CellRef::Null,
        value => CellRef::I64(value),
    };
    Bound::new(cell).raw().to_vec()
}

/// A column as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lying {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) bits: u8,
}

impl Lying {
    fn of(column: &Column) -> Self {
        Lying {
            number: column.number,
            name: column.name.clone(),
            bits: column.bits,
        }
    }

    fn parse(fields: &[&str]) -> Option<Self> {
        Some(Lying {
            number: fields.first()?.parse().ok()?,
            name: (*fields.get(1)?).to_owned(),
            bits: fields.get(2)?.parse().ok()?,
        })
    }
}

/// The fields of each item of a list.
fn items(text: &str) -> Vec<Vec<&str>> {
    let items = text.split(',').filter(|item| !item.is_empty());
    items.map(|item| item.split(':').collect()).collect()
}

/// A column that the log does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Young {
    pub(super) lying: Lying,
    /// What it is in all rows until then.
    pub(super) fill: i64,
    /// Whether that is known, or believed.
    guessed: bool,
}

/// How rows lie at a place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    file: u64,
    pub(super) columns: Vec<Lying>,
    pub(super) young: Vec<Young>,
    /// How often rows may have gone that the log does not name.
    pub(super) gone: u64,
}

impl Layout {
    pub(super) fn stored(&self) -> position::Layout {
        let line = |lying: &Lying| format!("{}:{}:{}", lying.number, lying.name, lying.bits);
        let columns: Vec<String> = self.columns.iter().map(line).collect();
        let young = self.young.iter();
        let young = young.map(|y| format!("{}:{}:{}", line(&y.lying), y.fill, y.guessed));
        let young: Vec<String> = young.collect();
        position::Layout::new(format!(
            "{}|{}|{}|{}",
            self.file,
            columns.join(","),
            young.join(","),
            self.gone
        ))
    }

    pub(super) fn parse(stored: &position::Layout) -> Result<Self> {
        let read = || {
            let mut parts = stored.as_str().split('|');
            let file = parts.next()?.parse().ok()?;
            let (columns, young) = (items(parts.next()?), items(parts.next()?));
            let young = young.iter().map(|item| {
                Some(Young {
                    lying: Lying::parse(item)?,
                    fill: item.get(3)?.parse().ok()?,
                    guessed: *item.get(4)? == "true",
                })
            });
            Some(Layout {
                file,
                columns: columns
                    .iter()
                    .map(|item| Lying::parse(item))
                    .collect::<Option<_>>()?,
                young: young.collect::<Option<_>>()?,
                gone: parts.next()?.parse().ok()?,
            })
        };
        read().ok_or_else(|| Error::bug("a layout this source did not make"))
    }

    /// The number of the column of a name.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let young = self.young.iter().map(|young| &young.lying);
        let mut all = self.columns.iter().chain(young);
        all.find(|column| column.name == name).map(|c| c.number)
    }

    /// Whether rows of these integers can lie so.
    pub(super) fn is_shaped(&self, shape: &[u8]) -> bool {
        self.columns.iter().map(|c| &c.bits).eq(shape)
    }

    fn mut_of(&mut self, number: u32) -> Option<&mut Lying> {
        self.columns.iter_mut().find(|c| c.number == number)
    }

    /// What a statement makes of it. `asked`: the column of a number as it is asked for, by its bits;
    /// `ends`: a column that comes and is not asked for ends the stream. `Err`: why it ends before the
    /// statement.
    pub(super) fn pass(
        &mut self,
        step: &Step,
        asked: impl Fn(u32) -> Option<u8>,
        ends: impl Fn(u32) -> bool,
        lie: Lie,
    ) -> std::result::Result<(), String> {
        let unfit = "what is known of it does not fit the statement";
        match step {
            Step::Add(column) => {
                if self.mut_of(column.number).is_some() {
                    return Err(unfit.to_owned());
                }
                if asked(column.number).is_some_and(|asked| asked < column.bits) {
                    // It was made narrower since; its values in the log may not fit.
                    return Err(format!("column {} came with another type", column.name));
                }
                let mut known = self.young.iter();
                let known = known.position(|y| y.lying.number == column.number);
                match known.map(|at| self.young.remove(at)) {
                    Some(young) if young.guessed && column.missing != Some(young.fill) => {
                        return Err(format!("column {} came with another value", column.name));
                    }
                    Some(_) => {}
                    None if asked(column.number).is_none() && ends(column.number) => {
                        return Err(format!("column {} came", column.name));
                    }
                    None => {}
                }
                self.columns.push(Lying::of(column));
            }
            Step::Drop(number) => {
                let at = self.columns.iter().position(|c| c.number == *number);
                let at = at.ok_or_else(|| unfit.to_owned())?;
                if asked(*number).is_some() {
                    return Err("a column goes that is read".to_owned());
                }
                self.columns.remove(at);
            }
            Step::Retype { number, was, is } => {
                let column = self.mut_of(*number).filter(|column| column.bits == *was);
                let column = column.ok_or_else(|| unfit.to_owned())?;
                if asked(*number)
                    .is_some_and(|asked| asked < *is || was > is && lie != Lie::Narrower)
                {
                    return Err(format!("column {} gets another type", column.name));
                }
                column.bits = *is;
            }
            Step::Rename { number, to } => {
                let column = self.mut_of(*number).ok_or_else(|| unfit.to_owned())?;
                if asked(*number).is_some() {
                    return Err(format!("column {} gets another name", column.name));
                }
                column.name.clone_from(to);
            }
            Step::Default | Step::Vanish(_) => {}
        }
        Ok(())
    }
}
