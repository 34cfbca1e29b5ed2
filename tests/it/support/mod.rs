//! Real servers for tests, started on free ports and stopped with the test.
#![allow(dead_code)]

pub(crate) mod poll;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod scanner;
pub(crate) mod server;
pub(crate) mod telegram;
pub(crate) mod world;
