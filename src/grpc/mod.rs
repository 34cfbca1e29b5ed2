//! The gRPC edge: admits calls, turns messages into the domain's types and back, and nothing else.
//!
//! Decides nothing about sessions; knows no database, no ticket store and no Telegram.

mod authenticated;
mod backup_service;
mod call;
mod convert;
mod deadline;
mod gate;
mod hold;
mod lease_service;
mod login_service;
pub mod policy;
pub mod server;
mod session_service;
pub mod status;
mod system_service;

pub use gate::Room;
pub use server::{Edge, Facts, Health, Reflection, Serving};
