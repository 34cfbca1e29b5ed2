//! Leases: granted, extended and ended, each by one statement on the row that holds state, custody and lease.
//!
//! The row's lock makes the statement the only judge; the database's clock, read inside it, the only time. What is
//! refused is followed by a read that tells why. A lease id is stored as its hash: a copy of the database lends nobody
//! a session. `desk` does together what is asked for at the same time.

pub(in crate::store) mod desk;
mod evict;
pub(in crate::store) mod express;
mod grant;
mod holds;
pub mod queue;
mod release;
mod renewal;
pub(in crate::store) mod sql;
mod standing;

use sea_orm::{ColumnTrait as _, Condition};
use sha2::{Digest as _, Sha256};

pub use self::{
    grant::{Acquire, Grant},
    holds::Holds,
    queue::Place,
    release::Released,
    renewal::Renew,
    standing::Standing,
};
use crate::{
    domain::{
        caller::{Authority, Caller},
        id::LeaseId,
    },
    store::{entity::session::Column, scope},
};

/// The caller's own lease of this id.
fn of_caller(caller: &Caller, lease: &LeaseId) -> Condition {
    scope::sessions(caller)
        .add(Column::LeaseIdHash.eq(hash(lease)))
        .add(Column::LeaseSubject.eq(caller.subject.as_str()))
}

/// That lease of the caller's own, and no later one.
pub(super) fn held(caller: &Caller, lease: &LeaseId, epoch: i64) -> Condition {
    of_caller(caller, lease).add(Column::LeaseEpoch.eq(epoch))
}

/// The tenant whose rows alone exist for the caller; empty for all.
pub(super) fn tenant_of(authority: &Authority) -> &str {
    match authority {
        Authority::Service => "",
        Authority::Tenant(own) => own.as_str(),
    }
}

/// Lease ids are random, so a plain hash of one cannot be guessed back.
fn hash(lease: &LeaseId) -> String {
    hex::encode(Sha256::digest(lease.expose_secret().as_bytes()))
}
