//! On whose behalf something is done.

use std::time::Instant;

use crate::domain::{
    error::{Error, Reason},
    id::{AppId, SessionKey, TenantId},
    time::Timestamp,
};

/// What a credential allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Read,
    Login,
    Lease,
    Admin,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::Login, Self::Lease, Self::Admin];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Login => "login",
            Self::Lease => "lease",
            Self::Admin => "admin",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// The refusal of a credential without it.
    pub fn missing(self) -> Error {
        Error::new(Reason::PermissionDenied, "the credential lacks the scope this method needs")
            .fact("scope", self.name())
    }
}

/// Whose objects a caller can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Every tenant's (`service_role`).
    Service,
    /// One tenant's.
    Tenant(TenantId),
}

/// Who asks, with what rights, when, and until when an answer helps.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The credential's subject, such as `user:…`, `service_role` or `cli:<os user>`. Leases are bound to it.
    pub subject: String,
    pub authority: Authority,
    pub scopes: Vec<Scope>,
    /// Wall clock at the edge.
    pub now: Timestamp,
    /// Work that is not done by then is given up.
    pub deadline: Instant,
    /// Names the call in logs.
    pub trace: String,
}

impl Caller {
    /// Whether objects of `tenant` exist for this caller.
    pub fn sees(&self, tenant: &TenantId) -> bool {
        match &self.authority {
            Authority::Service => true,
            Authority::Tenant(own) => own == tenant,
        }
    }

    /// The session that a request names; a tenant's caller may leave the tenant out.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID` for malformed ids; `SESSION_NOT_FOUND` for another tenant's session, whether it exists
    /// or not.
    pub fn session(&self, tenant: &str, app: &str) -> Result<SessionKey, Error> {
        let tenant = match (tenant, &self.authority) {
            ("", Authority::Tenant(own)) => own.clone(),
            (named, Authority::Tenant(_) | Authority::Service) => TenantId::parse(named)?,
        };
        let key = SessionKey { tenant, app: AppId::parse(app)? };
        if self.sees(&key.tenant) { Ok(key) } else { Err(Error::session_not_found()) }
    }

    /// # Errors
    /// `PERMISSION_DENIED` without the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.contains(&scope) { Ok(()) } else { Err(scope.missing()) }
    }

    /// The service itself acting on what this caller asked for, such as a login's task that outlives the call.
    #[must_use]
    pub fn as_service(subject: &str, now: Timestamp, deadline: Instant) -> Self {
        Self {
            subject: subject.to_owned(),
            authority: Authority::Service,
            scopes: Scope::ALL.to_vec(),
            now,
            deadline,
            trace: String::new(),
        }
    }
}
