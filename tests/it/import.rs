//! Taking in sessions that another system made.

mod accepted;
mod bad_input;
mod second_names;
