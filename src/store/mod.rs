//! The durable truth: sessions, sealed material, leases and events, in PostgreSQL or SQLite.
