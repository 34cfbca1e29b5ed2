//! Sessions themselves: ended, looked at, handed over, described and listed.

mod custody;
mod ending;
mod listing;
mod validation;
