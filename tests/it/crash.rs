//! Servers that die at a bad moment, and those they stand on.

mod kills;
mod outages;
mod starts;
