//! The contract over raw HTTP: every rule of every operation, by tables of right and wrong values.
//!
//! Written from the contract alone. Each file starts one server and holds it to the rules of one
//! kind of operation; everything that is wrong is told at once.

mod api;
mod apps;
mod databases;
mod datasources;
mod gateway;
mod mappings;
mod multi_tasks;
mod quarantine;
mod raw;
mod refused;
mod running;
mod signatures;
mod tables;
mod tasks;
mod verifications;
