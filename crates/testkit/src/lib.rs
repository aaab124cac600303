//! Tools for tests only: throwaway database servers, the memory connector, contract suites.

pub mod servers;
