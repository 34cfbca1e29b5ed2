//! Who calls, and whether that opens what the call is about.

use http::HeaderMap;

use super::{
    Edge,
    door::Call,
    init_data::{self, InitData},
};
use crate::{
    app::access::{Access, AccessRefused, PREFIX},
    auth::{Refused, authorization},
    domain::{
        caller::{Authority, Caller, Scope},
        error::{Error, Reason},
        id::{Ticket, TicketHash},
    },
    telemetry::metrics,
};

/// What a call proved.
#[derive(Debug)]
pub(super) enum Proof {
    /// A token of a tenant or a service, with the scope for logins.
    Bearer(Caller),
    /// An access token: the login it opens, and on whose behalf.
    Access(Caller, TicketHash),
    /// Telegram's word on a user.
    User(InitData),
}

impl Edge {
    /// # Errors
    /// `UNAUTHENTICATED` without a proof that holds, `PERMISSION_DENIED` for one that is not good for logins.
    pub(super) fn prove(&self, headers: &HeaderMap, call: &Call) -> Result<Proof, Error> {
        match authorization(headers)?.ok_or(Refused::Missing)? {
            (scheme, text) if scheme.eq_ignore_ascii_case("tma") => {
                Ok(Proof::User(self.0.judge.judge(text, call.now)?))
            }
            (scheme, token) if scheme.eq_ignore_ascii_case("bearer") && token.starts_with(PREFIX) => {
                let Access { ticket, tenant, subject } =
                    self.0.app.access(token, call.now).map_err(|refused| match refused {
                        AccessRefused::Invalid => Refused::Invalid,
                        AccessRefused::Expired => Refused::Expired,
                    })?;
                Ok(Proof::Access(caller(call, subject, Authority::Tenant(tenant)), ticket))
            }
            (_, _) => {
                let credential = self.0.authenticator.authenticate(headers, call.now)?;
                let credential = credential.ok_or(Refused::Missing)?;
                let trace = call.trace.clone();
                Ok(Proof::Bearer(credential.into_caller(Scope::Login, call.now, call.deadline, trace)?))
            }
        }
    }
}

impl Proof {
    /// The caller and the login it names. Whether the login is the tenant's, the use case compares.
    ///
    /// # Errors
    /// `TICKET_NOT_FOUND` for any ticket but the one that an access token opens, whether it exists or not;
    /// `UNAUTHENTICATED` for initData, which was good for the start.
    pub(super) fn for_ticket(self, ticket: &str) -> Result<(Caller, Ticket), Error> {
        match self {
            Self::Bearer(caller) => Ok((caller, Ticket::parse(ticket)?)),
            Self::Access(caller, opened) => {
                let ticket = Ticket::parse(ticket)?;
                if ticket.hash() == opened {
                    return Ok((caller, ticket));
                }
                metrics::tenant_denied();
                Err(Error::ticket_not_found())
            }
            Self::User(_) => Err(Error::new(
                Reason::Unauthenticated,
                "initData starts a login; go on with the access_token that the start answered",
            )),
        }
    }
}

/// Somebody who may do this one thing: log in.
pub(super) fn caller(call: &Call, subject: String, authority: Authority) -> Caller {
    Caller {
        subject,
        authority,
        scopes: vec![Scope::Login],
        now: call.now,
        deadline: call.deadline,
        trace: call.trace.clone(),
    }
}

/// How a Mini App's user is named where callers are.
pub(super) fn subject(user: &InitData) -> String {
    format!("tma:{}:{}", user.bot, user.user)
}

/// How long what was signed up to now could still be accepted.
pub(super) const INIT_DATA_LIFE: std::time::Duration =
    std::time::Duration::from_secs(init_data::AGE_MAX.as_secs() + 2 * init_data::AHEAD_MAX.as_secs());
