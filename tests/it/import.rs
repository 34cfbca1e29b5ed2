//! Taking in sessions that another system made.

mod accepted;
mod bad_input;
mod replacing;
mod second_names;
