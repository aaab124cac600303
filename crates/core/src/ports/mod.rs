//! The ports: what a connector implements. Object-safe, and called per batch or chunk, so that
//! dynamic dispatch costs nothing that matters.

mod connector;
mod source;
mod target;

pub use connector::{Connector, DataSourceConfig, Inspect, Roles, TlsMode, TlsOptions};
pub use source::{
    ChangeStream, Chunk, ChunkReader, ChunkSize, Confirm, Source, StreamLimits, WireForm,
};
pub use target::{Applied, Applier, Capabilities, Loader, Target};
