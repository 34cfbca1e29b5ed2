//! Everything the server knows, behind one lock.
//!
//! One `std` mutex guards the whole world: a login touches accounts, keys, tokens, connections and the log at once,
//! each step takes microseconds, and what is slow (RSA, Diffie-Hellman, passwords, waiting) happens outside.

pub(crate) mod code;
pub(crate) mod connection;
pub(crate) mod fault;
pub(crate) mod journal;
pub(crate) mod key;
pub(crate) mod rivals;
pub(crate) mod session;
pub(crate) mod token;
pub(crate) mod transmit;
pub(crate) mod user;
pub(crate) mod world;

pub(crate) use world::World;
