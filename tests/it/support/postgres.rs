//! Support: postgres.
