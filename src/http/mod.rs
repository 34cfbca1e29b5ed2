//! The HTTP edge: health and readiness.
