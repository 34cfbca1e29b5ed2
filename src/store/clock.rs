//! The database's clock, as an expression inside the statement that needs it.
//!
//! Replicas' clocks differ and jump; who may hold a lease is decided by one clock alone, in the statement that
//! takes the row's lock. It is read when the row is at hand, not when the statement arrived, so that a grant
//! that waited for another one's lock sees the time after it.

use sea_orm::sea_query::Expr;

use crate::store::Backend;

/// Milliseconds since the epoch.
pub(super) fn now(backend: Backend) -> Expr {
    Expr::cust(text(backend))
}

/// The same, read once for the whole statement: for lists, where no row's lock is waited for.
pub(super) fn now_once(backend: Backend) -> Expr {
    Expr::cust(format!("(select {})", text(backend)))
}

/// The same as an output column named [`NOW`].
pub(super) fn now_column(backend: Backend) -> Expr {
    Expr::cust(format!("{} as {NOW}", text(backend)))
}

pub(super) const NOW: &str = "db_now";

/// The clock as text, for statements that are written by hand.
pub(super) fn text(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => "floor(extract(epoch from clock_timestamp()) * 1000)::bigint",
        Backend::Sqlite => "cast(round(unixepoch('subsec') * 1000) as integer)",
    }
}
