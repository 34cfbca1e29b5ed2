//! The program itself, run as people and scripts run it: its words, its exit codes, and what it leaves behind.

mod convert;
mod help;
mod import;
mod in_process;
mod lending;
mod login;
mod migrate;
mod program;
mod quickstart;
mod sandbox;
mod sessions;
mod settings;
