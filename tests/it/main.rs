//! One binary of integration tests against real servers: a file per behaviour.

mod cli;
mod clients;
mod formats;
mod import;
mod leases;
mod logins;
mod server;
mod store;
mod support;
mod telegram;
mod tickets;
mod tidy;
