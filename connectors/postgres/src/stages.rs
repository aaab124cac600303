//! The stages of the hot path that need no server, each by itself: for measurements.
//!
//! What is between them and a socket or a statement (frames, `COPY`, transactions) is not here.

use thalweg_core::Result;
use thalweg_core::batch::FoldedTable;
use thalweg_core::change::Transaction;
use thalweg_core::plan::TargetTable;
use thalweg_core::ports::StreamLimits;
use thalweg_core::schema::{ColumnSchema, TableSchema};
use thalweg_core::value::RowBatch;

use crate::position::Place;
use crate::schema::{self, Attribute};
use crate::snapshot::Rows;
use crate::stream::assembly::Assembly;
use crate::stream::relation::Known;
use crate::target::bulk;
use crate::target::encode::RowEncoder;
use crate::wire::cells::Form;
use crate::wire::replication::{Incoming, Lsn, incoming};

/// What the stream's messages call their one table.
pub const TABLE: u32 = 5;

/// The columns of a table as a catalogue tells them; `types`: the number of each column's type.
fn attributes(table: &TableSchema, types: &[u32]) -> Vec<Attribute> {
    let attribute = |(number, (column, ty)): (i16, (&ColumnSchema, &u32))| Attribute {
        number,
        ty: *ty,
        typmod: -1,
        codec: schema::codec(*ty, &column.ty),
        column: column.clone(),
    };
    let columns = table.columns.iter().zip(types);
    (1..).zip(columns).map(attribute).collect()
}

/// From messages of a replication connection to transactions.
pub struct Decoder(Assembly);

impl Decoder {
    /// Reads changes of one table, which messages call [`TABLE`].
    pub fn new(table: &TableSchema, types: &[u32], limits: StreamLimits) -> Result<Self> {
        let known = Known::new(table, TABLE, &attributes(table, types))?;
        Ok(Decoder(Assembly::new(
            vec![known],
            Lsn::default(),
            Place::default(),
            limits,
        )))
    }

    /// Takes the body of a `CopyData`; gives the transaction that it ends.
    pub fn take(&mut self, body: &[u8]) -> Result<Option<Transaction>> {
        if let Incoming::Data { body, .. } = incoming(body)? {
            self.0.take(body)?;
        }
        Ok(self.0.ready())
    }
}

/// From the messages of a `COPY` to rows.
pub struct Reader(Rows);

impl Reader {
    /// Reads rows of one table in binary form.
    pub fn new(table: &TableSchema, types: &[u32], limits: StreamLimits) -> Self {
        let attributes = attributes(table, types).into_iter();
        let columns = attributes.map(|column| (column.codec, Form::Binary));
        let name = table.name.to_string();
        Reader(Rows::new(columns.collect(), limits.row_bytes_max, name))
    }

    /// From now on rows are handed on as they come.
    pub fn relay(&mut self) {
        self.0.relayed();
    }

    /// Takes the body of a `CopyData`.
    pub fn take(&mut self, body: &[u8], into: &mut RowBatch) -> Result<()> {
        self.0.take(body, into)
    }
}

/// From rows to what a `COPY` sends.
pub struct Encoder {
    key: Vec<usize>,
    encoder: RowEncoder,
}

impl Encoder {
    /// Writes rows of one table.
    pub fn new(table: &TargetTable) -> Self {
        Encoder {
            key: table.key.clone(),
            encoder: RowEncoder::new(table),
        }
    }

    /// Appends what a batch puts into the staging table.
    pub fn apply(&self, rows: &RowBatch, folded: &FoldedTable, out: &mut Vec<u8>) -> Result<()> {
        for op in bulk::ops(rows, folded) {
            bulk::put(&self.encoder, &self.key, rows, op, out)?;
        }
        Ok(())
    }

    /// Appends rows of a load that were handed on as they came.
    pub fn relay(&self, rows: &RowBatch, out: &mut Vec<u8>) -> Result<()> {
        self.encoder.relayed(rows, out)
    }

    /// Appends rows of a load.
    pub fn load(&self, rows: &RowBatch, out: &mut Vec<u8>) -> Result<()> {
        self.encoder.rows(rows, out)
    }
}
