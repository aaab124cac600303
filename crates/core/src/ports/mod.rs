//! The ports: what a connector implements. Object-safe, and called per batch or chunk, so that
//! dynamic dispatch costs nothing that matters.

mod compare;
mod connector;
mod source;
mod target;

pub use compare::{Compared, Comparer, Difference, Differs};
pub use connector::{
    ClientCertificate, Connector, DataSourceConfig, Inspect, Roles, TlsMode, TlsOptions,
};
pub use source::{
    Bridge, ChangeStream, Chunk, ChunkReader, ChunkSize, Confirm, Gate, Rows, Source, StreamLimits,
    Unsaid, WireForm,
};
pub use target::{
    Alteration, Applied, Applier, Capabilities, Following, Loader, Pending, Sift, Target,
};
