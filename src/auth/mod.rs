//! Who calls: from the `authorization` header to a credential, and from there to a [`Caller`].
//!
//! Both edges ask here. Knows nothing of methods, routes and the objects that a call may be about.

#[cfg(test)]
mod tests;
mod token;

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub use token::{Order, OrderError, issue};

use crate::domain::{
    caller::{Authority, Caller, Scope},
    error::{Error, Reason},
    id::TenantId,
    secret::Secret,
    time::Timestamp,
};

/// The roles of Supabase's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Anon,
    Authenticated,
    ServiceRole,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Anon, Self::Authenticated, Self::ServiceRole];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Authenticated => "authenticated",
            Self::ServiceRole => "service_role",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What a valid bearer proves.
#[derive(Clone, Debug)]
pub struct Credential {
    /// `user:<sub>`, or the role's name where no person is named.
    pub subject: String,
    pub role: Role,
    /// As the token names it; means nothing for a service.
    pub tenant: Option<TenantId>,
    /// As the token lists them; `None` for the role's default.
    pub scopes: Option<Vec<Scope>>,
    /// When it proves nothing any more; `None` for a configured key.
    pub expires: Option<Timestamp>,
}

impl Credential {
    pub(crate) fn of_role(role: Role) -> Self {
        Self { subject: role.name().to_owned(), role, tenant: None, scopes: None, expires: None }
    }

    /// What it allows.
    pub fn scopes(&self) -> Vec<Scope> {
        match (self.role, &self.scopes) {
            (Role::Anon, _) => Vec::new(),
            (Role::ServiceRole, _) => Scope::ALL.to_vec(),
            (Role::Authenticated, Some(listed)) => listed.clone(),
            (Role::Authenticated, None) => vec![Scope::Read, Scope::Login],
        }
    }

    /// Whoever holds it, calling for something that needs the scope.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` without the scope, or without a tenant where the role needs one.
    pub(crate) fn into_caller(
        self,
        needed: Scope,
        now: Timestamp,
        deadline: Instant,
        trace: String,
    ) -> Result<Caller, Error> {
        let scopes = self.scopes();
        let authority = match (self.role, self.tenant) {
            (Role::Anon, _) => return Err(needed.missing()),
            (Role::ServiceRole, _) => Authority::Service,
            (Role::Authenticated, Some(tenant)) => Authority::Tenant(tenant),
            (Role::Authenticated, None) => {
                return Err(Error::new(
                    Reason::PermissionDenied,
                    "the token names no tenant; put tenant_id into its app_metadata",
                ));
            }
        };
        let caller = Caller { subject: self.subject, authority, scopes, now, deadline, trace };
        caller.require(needed)?;
        Ok(caller)
    }
}

/// Why a bearer proves nothing. Callers learn only what they can mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Missing,
    Malformed,
    Expired,
    NotYet,
    Invalid,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let message = match refused {
            Refused::Missing => "a credential is required; send authorization: Bearer <token>",
            Refused::Malformed => "the authorization header must be one Bearer token",
            Refused::Expired => "the token has expired; get a new one",
            Refused::NotYet => "the token is not valid yet",
            Refused::Invalid => "the token is not valid here; get one for this service",
        };
        Self::new(Reason::Unauthenticated, message)
    }
}

/// Tells who calls.
#[derive(Clone)]
pub struct Authenticator(Arc<Keys>);

struct Keys {
    /// Tried in order; each with its own algorithm. Keys of a JWKS join them here, each under its `kid`.
    verifying: Vec<token::VerifyingKey>,
    /// Hashes of bearers that count as a role as they are: Supabase's newer keys are opaque.
    opaque: Vec<([u8; 32], Role)>,
    /// The program itself, where calls never cross a socket.
    own: Option<String>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator(..)")
    }
}

impl Authenticator {
    /// Accepts tokens signed with the secret, and the two keys as they are.
    pub fn new(jwt_secret: &Secret, anon_key: Option<&Secret>, service_role_key: Option<&Secret>) -> Self {
        let opaque = [(anon_key, Role::Anon), (service_role_key, Role::ServiceRole)]
            .into_iter()
            .filter_map(|(key, role)| Some((hash(key?.expose_secret()), role)))
            .collect();
        Self(Arc::new(Keys { verifying: vec![token::VerifyingKey::hs256(jwt_secret)], opaque, own: None }))
    }

    /// Takes every call for a service's, under this subject. Only for a server that nobody can reach but the
    /// program it runs in; never put a listener in front of it.
    pub fn in_process(subject: String) -> Self {
        Self(Arc::new(Keys { verifying: Vec::new(), opaque: Vec::new(), own: Some(subject) }))
    }

    /// The credential of a call; `None` without one.
    pub(crate) fn authenticate(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Credential>, Refused> {
        if let Some(subject) = &self.0.own {
            return Ok(Some(Credential {
                subject: subject.clone(),
                ..Credential::of_role(Role::ServiceRole)
            }));
        }
        let Some(bearer) = bearer(headers)? else {
            return Ok(None);
        };
        if let Some(role) = self.opaque_role(bearer) {
            return Ok(Some(Credential::of_role(role)));
        }
        let mut refused = Refused::Invalid;
        for key in &self.0.verifying {
            match key.verify(bearer, now) {
                Ok(credential) => return Ok(Some(credential)),
                // A key that signed the token knows better why it is refused than one that did not.
                Err(Refused::Invalid) => {}
                Err(better) => refused = better,
            }
        }
        Err(refused)
    }

    /// Compares hashes, all of them and in constant time: neither length nor content of a key shows.
    fn opaque_role(&self, bearer: &str) -> Option<Role> {
        let given = hash(bearer);
        self.0.opaque.iter().fold(
            None,
            |found, (key, role)| {
                if bool::from(key.ct_eq(&given)) { Some(*role) } else { found }
            },
        )
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The scheme and the rest of the one `authorization` header; `None` without one.
pub(crate) fn authorization(headers: &HeaderMap) -> Result<Option<(&str, &str)>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refused::Malformed);
    }
    let text = value.to_str().map_err(|_| Refused::Malformed)?;
    let (scheme, rest) = text.split_once(' ').ok_or(Refused::Malformed)?;
    Ok(Some((scheme, rest.trim())))
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    match authorization(headers)? {
        None => Ok(None),
        Some((scheme, token)) => {
            let possible = (1..=token::TOKEN_BYTES_MAX).contains(&token.len());
            if possible && scheme.eq_ignore_ascii_case("bearer") {
                Ok(Some(token))
            } else {
                Err(Refused::Malformed)
            }
        }
    }
}
