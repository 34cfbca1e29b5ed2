//! What a session, a login and a lease are, and what may happen to them.
//!
//! Pure: no `async`, no I/O, no clock, no framework. Functions take `now` and return decisions.

pub mod breaker;
pub mod budget;
pub mod caller;
pub mod error;
pub mod event;
pub mod fingerprint;
pub mod id;
pub mod lease;
pub mod login;
pub mod material;
pub mod miniapp;
pub mod page;
pub mod secret;
pub mod session;
pub mod time;
pub mod validation;
