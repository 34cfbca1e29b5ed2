//! Taking in sessions that another system made.

mod accepted;
mod bad_input;
mod looks;
mod minting;
mod reconciling;
mod replacing;
mod second_names;
mod together;
