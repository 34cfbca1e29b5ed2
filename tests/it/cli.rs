//! The program itself, run as people and scripts run it: its words, its exit codes, and what it leaves behind.

mod convert;
mod export;
mod help;
mod import;
mod import_sources;
mod in_process;
mod lending;
mod login;
mod migrate;
mod migration;
mod program;
mod quickstart;
mod sandbox;
mod sessions;
mod settings;
