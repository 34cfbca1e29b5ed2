//! The sandbox seen from outside: by grammers, which nobody here wrote, by a key exchange on grammers' primitives, and
//! by plain HTTP.

mod admin;
mod duplicates;
mod exchange;
mod faults;
mod login;
mod persist;
mod support;
mod wire;
