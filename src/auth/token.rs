//! Tokens: what their claims must say, and how one is issued.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{Credential, Refused, Role};
use crate::domain::{caller::Scope, id::TenantId, secret::Secret, time::Timestamp};

/// Clocks of token issuers may differ from ours by this much.
const LEEWAY_SECONDS: f64 = 10.0;
/// Longer headers are not tokens of ours.
pub(super) const TOKEN_BYTES_MAX: usize = 8192;
/// The longest subject that is kept beside a lease.
const SUBJECT_BYTES_MAX: usize = 255;
/// The audience of tokens for people signed in.
const AUDIENCE: &str = "authenticated";

/// What a token says. Names of a JSON object that appear twice make it unreadable, so nothing here is ambiguous.
#[derive(Deserialize)]
struct Claims {
    role: String,
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
    aud: Option<Audience>,
    tenant_id: Option<String>,
    app_metadata: Option<AppMetadata>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Set by whoever runs the tenant's sign-in; `user_metadata`, which users write themselves, is not looked at.
#[derive(Deserialize)]
struct AppMetadata {
    tenant_id: Option<String>,
    usm_scopes: Option<Scopes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scopes {
    List(Vec<String>),
    Text(String),
}

/// A key and the one algorithm it is good for, whatever a token's header says.
pub(super) struct VerifyingKey {
    key: DecodingKey,
    validation: Validation,
}

impl VerifyingKey {
    pub(super) fn hs256(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times and audience are judged below, by the caller's clock and with our own words.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { key: DecodingKey::from_secret(secret.expose_secret().as_bytes()), validation }
    }

    /// The credential a token proves, at this moment.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<Credential, Refused> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|_| Refused::Invalid)?;
        judge(decoded.claims, now)
    }
}

fn judge(claims: Claims, now: Timestamp) -> Result<Credential, Refused> {
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
    let now = now.as_millis() as f64 / 1000.0;
    if claims.exp + LEEWAY_SECONDS <= now {
        return Err(Refused::Expired);
    }
    if claims.nbf.is_some_and(|from| from - LEEWAY_SECONDS > now) {
        return Err(Refused::NotYet);
    }
    let for_us = match &claims.aud {
        // The legacy anon and service keys of Supabase carry none.
        None => true,
        Some(Audience::One(one)) => one == AUDIENCE,
        Some(Audience::Many(many)) => many.iter().any(|one| one == AUDIENCE),
    };
    let role = Role::parse(&claims.role);
    let (true, Some(role)) = (for_us, role) else {
        return Err(Refused::Invalid);
    };
    let tenant = tenant(&claims)?;
    #[allow(clippy::cast_possible_truncation, reason = "a time beyond any calendar is taken as its end")]
    let expires = Some(Timestamp::from_millis(((claims.exp + LEEWAY_SECONDS) * 1000.0) as i64));
    let scopes = scopes(claims.app_metadata);
    Ok(Credential { subject: subject(claims.sub, role)?, role, tenant, scopes, expires })
}

/// The tenant, wherever it is named; named twice it must be named alike.
fn tenant(claims: &Claims) -> Result<Option<TenantId>, Refused> {
    let inner = claims.app_metadata.as_ref().and_then(|metadata| metadata.tenant_id.as_deref());
    let named = match (claims.tenant_id.as_deref(), inner) {
        (None, None) => return Ok(None),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(one), Some(other)) if one == other => one,
        (Some(_), Some(_)) => return Err(Refused::Invalid),
    };
    TenantId::parse(named).map(Some).map_err(|_| Refused::Invalid)
}

fn subject(sub: Option<String>, role: Role) -> Result<String, Refused> {
    match sub {
        None => Ok(role.name().to_owned()),
        Some(sub) if sub.is_empty() => Ok(role.name().to_owned()),
        Some(sub) if sub.len() > SUBJECT_BYTES_MAX || sub.chars().any(char::is_control) => {
            Err(Refused::Invalid)
        }
        // The prefix keeps a token from calling itself `cli:root` or `system:reaper`.
        Some(sub) => Ok(format!("user:{sub}")),
    }
}

/// The scopes a token lists; `None` when it lists none. Names nobody knows grant nothing.
fn scopes(metadata: Option<AppMetadata>) -> Option<Vec<Scope>> {
    let listed = match metadata?.usm_scopes? {
        Scopes::List(list) => list,
        Scopes::Text(text) => text.split([' ', ',']).map(str::to_owned).collect(),
    };
    let mut scopes: Vec<Scope> = listed.iter().filter_map(|name| Scope::parse(name)).collect();
    scopes.sort_unstable();
    scopes.dedup();
    Some(scopes)
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct Order {
    pub role: Role,
    /// Required for `authenticated`, refused for the others.
    pub tenant: Option<TenantId>,
    /// `None` leaves the role its default.
    pub scopes: Option<Vec<Scope>>,
    /// Who it is for; leases are bound to it.
    pub subject: Option<String>,
    pub ttl: Duration,
}

/// Why a token is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("a token of the role authenticated needs a tenant")]
    TenantMissing,
    #[error("only a token of the role authenticated names a tenant")]
    TenantUnused,
    #[error("only a token of the role authenticated lists scopes")]
    ScopesUnused,
    #[error("the subject must be 255 bytes or shorter, without control characters")]
    Subject,
    #[error("the lifetime must be positive")]
    Lifetime,
    #[error("the token cannot be signed")]
    Signing,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'static str,
    role: &'static str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_metadata: Option<IssuedMetadata<'a>>,
}

#[derive(Serialize)]
struct IssuedMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usm_scopes: Option<Vec<&'static str>>,
}

/// Makes a token that this service accepts as long as it has the same secret.
///
/// # Errors
/// When the order contradicts itself.
pub fn issue(secret: &Secret, order: &Order, now: Timestamp) -> Result<Secret, OrderError> {
    match (order.role, &order.tenant, &order.scopes) {
        (Role::Authenticated, None, _) => return Err(OrderError::TenantMissing),
        (Role::Anon | Role::ServiceRole, Some(_), _) => return Err(OrderError::TenantUnused),
        (Role::Anon | Role::ServiceRole, None, Some(_)) => return Err(OrderError::ScopesUnused),
        (Role::Authenticated, Some(_), _) | (Role::Anon | Role::ServiceRole, None, None) => {}
    }
    let subject = order.subject.as_deref().filter(|subject| !subject.is_empty());
    if subject
        .is_some_and(|subject| subject.len() > SUBJECT_BYTES_MAX || subject.chars().any(char::is_control))
    {
        return Err(OrderError::Subject);
    }
    if order.ttl.is_zero() {
        return Err(OrderError::Lifetime);
    }
    let metadata = IssuedMetadata {
        tenant_id: order.tenant.as_ref().map(TenantId::as_str),
        usm_scopes: order.scopes.as_ref().map(|scopes| scopes.iter().map(|scope| scope.name()).collect()),
    };
    let claims = Issued {
        iss: "usm",
        role: order.role.name(),
        iat: now.as_seconds(),
        exp: (now + order.ttl).as_seconds(),
        aud: match order.role {
            Role::Authenticated => Some(AUDIENCE),
            Role::Anon | Role::ServiceRole => None,
        },
        sub: subject,
        app_metadata: match order.role {
            Role::Authenticated => Some(metadata),
            Role::Anon | Role::ServiceRole => None,
        },
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map(Secret::new)
        .map_err(|_| OrderError::Signing)
}
