//! The data plane: runs one task from load to stream to apply. It knows only the ports.
//!
//! Built so far: folding a batch ([`batch`]).

pub mod batch;
