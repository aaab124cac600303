//! Tools for tests only: throwaway database servers, certificates for them, and the memory
//! connector.

pub mod certificates;
pub mod memory;
pub mod servers;
