//! The gRPC edge.

pub mod auth;
mod deadline;
mod gate;
pub mod policy;
pub mod status;

pub use gate::Room;
