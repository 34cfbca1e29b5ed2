//! Builds the service from its settings and runs it.

pub mod ports;
