//! What the service decides about a lease, as a value that anything can be compared with.
//!
//! [`protocol`] restates the decisions of the store without database, clock or I/O. The tests of this crate explore
//! it exhaustively with a model checker (`tests/model`) and run the real guard of the Rust client against it in a
//! simulated network (`tests/simulation`). The README tells what that proves and what it does not.

pub mod protocol;
