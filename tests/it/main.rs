//! One binary of integration tests against real servers: a file per behaviour.

mod cli;
mod clients;
mod crash;
mod formats;
mod import;
mod leases;
mod logins;
mod secrets;
mod server;
mod sessions;
mod store;
mod support;
mod telegram;
mod tickets;
mod tidy;
