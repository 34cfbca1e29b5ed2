//! One binary of integration tests against real servers: a file per behaviour.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read their own environment and clock, and poll with pauses"
)]

mod cli;
mod clients;
mod crash;
mod formats;
mod import;
mod leases;
mod logins;
mod miniapp;
mod secrets;
mod server;
mod sessions;
mod store;
mod support;
mod takeover;
mod telegram;
mod tickets;
mod tidy;
mod validator;
