//! Logins by QR code, phone and bot token, from the first code to a session that works, and every other way in which they end.

mod beside;
mod bot;
mod budgets;
mod ending;
mod password;
mod phone;
mod scanning;
mod superseding;
mod tickets;
mod trouble;
mod watching;
