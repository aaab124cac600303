//! Tools for tests only: throwaway database servers and the memory connector.

pub mod memory;
pub mod servers;
