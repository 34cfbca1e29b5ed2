//! Short tokens that open one login, and proofs that may be exchanged for one once.
//!
//! A token is `usma_<payload>.<tag>`: what it opens, for whom and until when, vouched for by a key of the key ring,
//! so that every replica knows it and none has to remember it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::App;
use crate::domain::{
    caller::Caller,
    error::{Error, Reason},
    id::{SessionKey, TenantId, TicketHash},
    login::Login,
    secret::Secret,
    time::Timestamp,
};

/// What every token begins with; no JWT and no key does.
pub const PREFIX: &str = "usma_";
/// A token outlives its login's time by this, so that its holder can read how it ended.
const GRACE: Duration = Duration::from_secs(60);
/// Longer texts are no tokens of ours.
const LENGTH_MAX: usize = 2048;

/// What a valid token opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub ticket: TicketHash,
    pub tenant: TenantId,
    /// Who started the login.
    pub subject: String,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRefused {
    Invalid,
    Expired,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    ticket: String,
    tenant: String,
    subject: String,
    expire_millis: i64,
}

impl App {
    /// A token that opens this login and nothing else.
    ///
    /// # Errors
    /// `INTERNAL` if it cannot be written.
    pub fn grant_access(&self, login: &Login) -> Result<Secret, Error> {
        let payload = Payload {
            ticket: login.ticket.hash().as_str().to_owned(),
            tenant: login.key.tenant.to_string(),
            subject: login.subject.clone(),
            expire_millis: (login.expire_time + GRACE).as_millis(),
        };
        let payload = serde_json::to_vec(&payload).map_err(|error| {
            Error::new(Reason::Internal, "an access token cannot be written").caused_by(error)
        })?;
        let tag = self.0.vault.sign_access(&payload);
        let (payload, tag) = (URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(tag));
        Ok(Secret::new(format!("{PREFIX}{payload}.{tag}")))
    }

    /// What the token opens at this moment.
    ///
    /// # Errors
    /// [`AccessRefused`], without telling a forger what was wrong.
    pub fn access(&self, token: &str, now: Timestamp) -> Result<Access, AccessRefused> {
        let payload = self.vouched(token).ok_or(AccessRefused::Invalid)?;
        if now.as_millis() >= payload.expire_millis {
            return Err(AccessRefused::Expired);
        }
        let tenant = TenantId::parse(&payload.tenant).map_err(|_| AccessRefused::Invalid)?;
        Ok(Access { ticket: TicketHash::from_stored(payload.ticket), tenant, subject: payload.subject })
    }

    fn vouched(&self, token: &str) -> Option<Payload> {
        if token.len() > LENGTH_MAX {
            return None;
        }
        let (payload, tag) = token.strip_prefix(PREFIX)?.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        // Nothing is read of what we did not write.
        if !self.0.vault.vouches_for_access(&payload, &tag) {
            return None;
        }
        serde_json::from_slice(&payload).ok()
    }

    /// Notes that a proof was used; `false` if it was before. `what` is its hash, in hexadecimal.
    ///
    /// # Errors
    /// `TICKETS_UNAVAILABLE`, `RATE_LIMITED`: then the proof must be refused.
    pub async fn use_proof(&self, what: &str, ttl: Duration) -> Result<bool, Error> {
        Ok(self.0.tickets.use_once(what, ttl).await?)
    }

    /// A proof that was used for nothing may be used again: no login came of it.
    pub async fn return_proof(&self, what: &str) {
        if let Err(error) = self.0.tickets.forget_use(what).await {
            tracing::debug!(error = %error, "A proof that served nobody stays used until it is too old");
        }
    }

    /// # Errors
    /// `ACCOUNT_MISMATCH` if the session is another account's already.
    pub async fn require_account(&self, caller: &Caller, key: &SessionKey, user: i64) -> Result<(), Error> {
        let session = self.0.store.get(caller, key).await?;
        match session.and_then(|session| session.account) {
            Some(account) if account.telegram_user_id != user => {
                Err(Error::new(Reason::AccountMismatch, "the session belongs to another account"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
