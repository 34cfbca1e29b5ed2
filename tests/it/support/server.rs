//! Support: server.
