//! Lending: to one worker at a time, under an epoch that only grows.

mod fencing;
mod formats;
mod holding;
mod lending;
mod refusals;
mod replicas;
mod reporting;
mod saving;
mod waiting;
