//! Real servers for tests, started on free ports and stopped with the test.
#![allow(dead_code)]

pub mod poll;
pub mod postgres;
pub mod redis;
pub mod server;
pub mod telegram;
