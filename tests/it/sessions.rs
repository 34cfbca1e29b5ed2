//! Sessions themselves: ended, looked at, handed over, described and listed.

mod custody;
mod ending;
mod exporting;
mod listing;
mod mirroring;
mod switching;
mod validation;
