//! Settings from flags, environment and file, checked all at once.
