//! Tests of telegram.
