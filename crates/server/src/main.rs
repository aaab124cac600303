//! Assembles the process.
fn main() {}
