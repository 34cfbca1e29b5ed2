//! The durable truth: sessions, sealed material, leases and events, in PostgreSQL or SQLite.
//!
//! One [`Store`] over SeaORM serves both. Signatures speak domain types only; rows, SQL and roles stay inside.
//! Every access goes through `Store::begin`, which on PostgreSQL takes a role and the caller's claims for the
//! transaction, so that row-level security decides too; on SQLite, which has none, every query filters by
//! tenant as well. Leases are measured on the database's clock, inside the statement that decides; nothing here
//! reads the clock of the process except to keep the caller's deadline.
//!
//! # Round trips on PostgreSQL
//! Each operation is one transaction: `begin`, one statement that sets role, claims, `search_path` and
//! timeouts, the work, `commit`. Leases go as one message (`leases/express.rs`).
//!
//! | operation | work | in all |
//! | --- | --- | --- |
//! | [`Store::get`] | 1 | 4 |
//! | [`Store::acquire`] granted, [`Store::renew`], [`Store::release`] | one message of prepared statements | 1 |
//! | the same, refused | the message, then 1 or 2 that tell why | 6-7 |
//! | [`Store::commit`] | 1, 1 more for changed material, 1 more for all its events | 4-6 |
//! | [`Store::look_up`], for up to 128 imports | 2 | 5 |
//! | [`Store::take_in`], for up to 128 imports | 3 | 6 |
//!
//! A statement's first use on a connection takes one more, to prepare it; so does a connection that rested for
//! longer than a second, which is tried first. After the answer, in the background, the pool asks once more
//! whether the connection it got back still lives.

mod clock;
mod connect;
mod desk;
mod entity;
pub mod error;
pub mod events;
mod filter;
pub mod intake;
pub mod leases;
pub mod log_outs;
mod material;
pub mod migrate;
pub mod paces;
mod preflight;
mod rows;
mod scope;
pub mod sessions;
pub mod settings;
mod tokens;
mod tx;
pub mod validation;

use std::{sync::Arc, time::Duration};

use sea_orm::DatabaseConnection;

use crate::domain::{secret::Secret, session::Environment};
pub use crate::store::{
    error::Error,
    events::EventFilter,
    filter::{LeaseFilter, MirrorFilter, SessionFilter},
    intake::Looked,
    leases::{Acquire, Grant, Holds, Place, Released, Renew, Standing},
    log_outs::{LogOut, NewLogOut},
    sessions::{Change, Expected, LeaseRule, MaterialChange, TicketRule},
};

/// Where the database is and how it is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// `postgres://…` of the plain login role, or `sqlite://path`.
    pub url: Secret,
    /// Connections kept at most; SQLite takes one for writing and this many for reading.
    pub max_connections: u32,
    /// How long a request waits for a free connection before the database counts as unavailable.
    pub acquire_timeout: Duration,
    /// Which Telegram the sessions belong to; the database remembers the first and refuses any other.
    pub environment: Environment,
    /// How long a session rests after a lease whose end nobody acknowledged.
    pub quiet_gap: Duration,
}

impl Options {
    /// The usual bounds around what has no sensible default.
    pub fn new(url: Secret, environment: Environment) -> Self {
        Self {
            url,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            environment,
            quiet_gap: Duration::from_secs(15),
        }
    }
}

/// Which database serves the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Postgres,
    Sqlite,
}

impl Backend {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// The database. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// The same as `write` on PostgreSQL. On SQLite readers do not wait for the one writer.
    read: DatabaseConnection,
    write: DatabaseConnection,
    environment: Environment,
    quiet_gap: Duration,
    /// Where grants, renewals and releases are served.
    desk: Arc<leases::desk::Desk>,
    /// Where imports are.
    intake: Arc<intake::Intake>,
}

impl Store {
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// How long a session rests after a lease whose end nobody acknowledged.
    pub fn quiet_gap(&self) -> Duration {
        self.quiet_gap
    }
}
