//! Workspace tasks: `cargo x`.
fn main() {}
