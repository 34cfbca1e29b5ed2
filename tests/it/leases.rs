//! Lending: to one worker at a time, under an epoch that only grows.

mod fencing;
mod formats;
mod lending;
mod refusals;
mod waiting;
