//! Logins by QR code, from the first code to a session that works, and every other way in which they end.

mod beside;
mod ending;
mod password;
mod scanning;
mod superseding;
mod tickets;
mod trouble;
mod watching;
