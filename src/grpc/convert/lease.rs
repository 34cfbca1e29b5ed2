//! Leases, with their id for the holder and without for everybody else.

use usm_client::v1;

use crate::{
    app::leases::Acquired,
    domain::{
        id::SessionKey,
        lease::{Lease, LeaseView, Release},
        session::Session,
    },
    grpc::convert::{duration, material, timestamp},
};

/// As its holder sees it.
pub(crate) fn held(lease: &Lease) -> v1::Lease {
    v1::Lease {
        lease_id: lease.lease_id.expose_secret().to_owned(),
        tenant_id: lease.key.tenant.to_string(),
        app_id: lease.key.app.to_string(),
        holder: lease.holder.as_str().to_owned(),
        epoch: lease.epoch,
        ttl: Some(duration(lease.ttl)),
        renew_after: Some(duration(lease.renew_after())),
        acquire_time: Some(timestamp(lease.acquire_time)),
        state: v1::LeaseState::Held.into(),
        free_after: None,
    }
}

/// As everybody else sees it.
pub(crate) fn view(key: &SessionKey, lease: &LeaseView) -> v1::Lease {
    let state = match (lease.remaining.is_zero(), lease.evicted) {
        (true, _) => v1::LeaseState::Quarantined,
        (false, true) => v1::LeaseState::Draining,
        (false, false) => v1::LeaseState::Held,
    };
    v1::Lease {
        lease_id: String::new(),
        tenant_id: key.tenant.to_string(),
        app_id: key.app.to_string(),
        holder: lease.holder.clone(),
        epoch: lease.epoch,
        ttl: Some(duration(lease.remaining)),
        renew_after: None,
        acquire_time: Some(timestamp(lease.acquire_time)),
        state: state.into(),
        free_after: None,
    }
}

/// What is left of a lease that its holder gave back.
pub(crate) fn released(session: &Session) -> v1::Lease {
    match &session.lease {
        Some(lease) => view(&session.key, lease),
        None => v1::Lease {
            tenant_id: session.key.tenant.to_string(),
            app_id: session.key.app.to_string(),
            epoch: session.lease_epoch,
            state: v1::LeaseState::Released.into(),
            ..v1::Lease::default()
        },
    }
}

pub(crate) fn acquired(acquired: Acquired) -> v1::AcquireLeaseResponse {
    v1::AcquireLeaseResponse {
        lease: Some(held(&acquired.lease)),
        material: Some(material::handout(acquired.material)),
    }
}

pub(crate) const fn release(connections_closed: bool) -> Release {
    if connections_closed { Release::ConnectionsClosed } else { Release::ConnectionsUnknown }
}
