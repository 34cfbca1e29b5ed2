//! Support: poll.
