//! Support: telegram.
