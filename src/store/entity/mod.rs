//! Rows as the tables hold them, unqualified: on PostgreSQL the transaction's `search_path` finds the schema.

#![expect(unreachable_pub, reason = "SeaORM's derives want public types; the module itself is private")]

pub(super) mod event;
pub(super) mod log_out;
pub(super) mod material;
pub(super) mod pace;
pub(super) mod session;
pub(super) mod setting;
pub(super) mod tokens;
