//! Sealing of key material and tickets.
