//! Ending in order: signals, grace period, deadline.
