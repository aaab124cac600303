//! Tools for tests only: throwaway database servers, certificates for them, the memory connector,
//! the server under test with a client of its API, a workload, and the comparison of both ends.

pub mod binlog;
pub mod certificates;
pub mod client;
pub mod compare;
pub mod contract;
pub mod documented;
pub mod mappings;
pub mod memory;
pub mod proxy;
pub mod servers;
pub mod thalweg;
pub mod workload;
