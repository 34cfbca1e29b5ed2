//! Which rows a caller's queries may name at all: the filter beside row-level security.

use sea_orm::{ColumnTrait as _, Condition};

use crate::{
    domain::{
        caller::{Authority, Caller},
        id::SessionKey,
    },
    store::entity::{event, material, session},
};

/// The sessions that exist for the caller.
pub(super) fn sessions(caller: &Caller) -> Condition {
    match &caller.authority {
        Authority::Service => Condition::all(),
        Authority::Tenant(own) => Condition::all().add(session::Column::TenantId.eq(own.as_str())),
    }
}

/// One session, if it exists for the caller.
pub(super) fn session(caller: &Caller, key: &SessionKey) -> Condition {
    sessions(caller)
        .add(session::Column::TenantId.eq(key.tenant.as_str()))
        .add(session::Column::AppId.eq(key.app.as_str()))
}

/// One session's material, if it exists for the caller.
pub(super) fn material(caller: &Caller, key: &SessionKey) -> Condition {
    let one = Condition::all()
        .add(material::Column::TenantId.eq(key.tenant.as_str()))
        .add(material::Column::AppId.eq(key.app.as_str()));
    match &caller.authority {
        Authority::Service => one,
        Authority::Tenant(own) => one.add(material::Column::TenantId.eq(own.as_str())),
    }
}

/// The events that exist for the caller.
pub(super) fn events(caller: &Caller) -> Condition {
    match &caller.authority {
        Authority::Service => Condition::all(),
        Authority::Tenant(own) => Condition::all().add(event::Column::TenantId.eq(own.as_str())),
    }
}
