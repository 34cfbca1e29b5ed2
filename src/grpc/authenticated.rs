//! An admitted call, before it is known which object it is about.

#[cfg(test)]
mod tests;

use std::time::Instant;

use crate::{
    auth::{Credential, Refused},
    domain::{
        caller::{Authority, Caller},
        error::{Error, Reason},
        id::{LeaseId, SessionKey, TenantId, Ticket},
        time::Timestamp,
    },
    grpc::{
        policy::{Row, Who},
        status,
    },
    telemetry::metrics,
};

/// A call that may go to its handler. The only way from here to a [`Caller`] is through what the request names,
/// so no handler can forget to look at the tenant.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    caller: Option<Caller>,
    now: Timestamp,
    deadline: Instant,
}

/// Whose objects a list is to show.
#[derive(Debug)]
pub(crate) enum Listing {
    /// One tenant's, or everybody's for a service that names none.
    Of(Caller, Option<TenantId>),
    /// Another tenant's: as empty as that of a tenant that does not exist.
    Nothing,
}

impl Authenticated {
    /// Admits a credential to a method.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a credential where one is needed; `PERMISSION_DENIED` without the scope.
    pub(crate) fn admit(
        credential: Option<Credential>,
        row: &Row,
        now: Timestamp,
        deadline: Instant,
        trace: String,
    ) -> Result<Self, Error> {
        let scope = match row.who {
            Who::Open | Who::Anyone => None,
            Who::Scoped(scope) => Some(scope),
        };
        let Some(scope) = scope else {
            return Ok(Self { caller: None, now, deadline });
        };
        let credential = credential.ok_or(Refused::Missing)?;
        let caller = credential.into_caller(scope, now, deadline, trace)?;
        Ok(Self { caller: Some(caller), now, deadline })
    }

    fn into_caller(self) -> Result<Caller, Error> {
        self.caller.ok_or_else(|| status::internal("a handler asks for a caller its method does not require"))
    }

    /// The caller and the session it names; a tenant's caller may leave the tenant out.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID` for malformed ids; `SESSION_NOT_FOUND` for another tenant's session, whether it exists
    /// or not.
    pub(crate) fn for_session(self, tenant: &str, app: &str) -> Result<(Caller, SessionKey), Error> {
        let caller = self.into_caller()?;
        let key = caller.session(tenant, app).inspect_err(|error| {
            if error.reason == Reason::SessionNotFound {
                metrics::tenant_denied();
            }
        })?;
        Ok((caller, key))
    }

    /// The caller and whose objects it may list.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID` for a malformed tenant.
    pub(crate) fn for_list(self, tenant: &str) -> Result<Listing, Error> {
        let caller = self.into_caller()?;
        let named = if tenant.is_empty() { None } else { Some(TenantId::parse(tenant)?) };
        let tenant = match (&caller.authority, named) {
            (Authority::Service, named) => named,
            (Authority::Tenant(own), None) => Some(own.clone()),
            (Authority::Tenant(own), Some(named)) if *own == named => Some(named),
            (Authority::Tenant(_), Some(_)) => {
                metrics::tenant_denied();
                return Ok(Listing::Nothing);
            }
        };
        Ok(Listing::Of(caller, tenant))
    }

    /// The caller and the login it names, whose tenant the use case compares.
    ///
    /// # Errors
    /// `TICKET_NOT_FOUND` for a text that cannot be a ticket.
    pub(crate) fn for_ticket(self, ticket: &str) -> Result<(Caller, Ticket), Error> {
        Ok((self.into_caller()?, Ticket::parse(ticket)?))
    }

    /// The caller and the lease it names, whose subject the use case compares.
    ///
    /// # Errors
    /// `LEASE_NOT_HELD` for a text that cannot be a lease's id.
    pub(crate) fn for_lease(self, lease_id: &str) -> Result<(Caller, LeaseId), Error> {
        Ok((self.into_caller()?, LeaseId::parse(lease_id)?))
    }

    /// The caller of what concerns every tenant; the use case looks at whether they may.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(crate) fn for_everybody(self) -> Result<Caller, Error> {
        self.into_caller()
    }

    /// A caller for questions about the service itself, which are nobody's objects. It has no scope.
    pub(crate) fn for_service_itself(self) -> Caller {
        Caller { scopes: Vec::new(), ..Caller::as_service("health", self.now, self.deadline) }
    }
}
