//! Builds the service from its settings and runs it.
