//! The Unified Session Manager: owns Telegram user sessions and lends each to one worker at a time.
//!
//! Layers point one way; `ARCHITECTURE.md` draws them.

pub mod app;
pub mod auth;
pub mod boot;
pub mod cli;
pub mod config;
pub mod domain;
pub mod formats;
pub mod grpc;
pub mod http;
mod qr;
pub mod shutdown;
pub mod store;
pub mod telegram;
pub mod telemetry;
pub mod tickets;
pub mod vault;
