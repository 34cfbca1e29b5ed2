//! The names of keys in Redis. Operators rely on them.

use sha2::{Digest as _, Sha256};

use crate::domain::{
    id::{SessionKey, Ticket},
    login::Login,
};

/// Builds every name with the configured prefix before it.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Holds one login.
    pub(super) fn ticket(&self, ticket: &Ticket) -> String {
        format!("{}{}", self.ticket_prefix(), ticket.expose_secret())
    }

    /// What stands before the ticket in [`Self::ticket`], for scripts that learn the ticket in Redis.
    pub(super) fn ticket_prefix(&self) -> String {
        format!("{}qr:", self.prefix)
    }

    /// Points to the newest ticket of a session.
    pub(super) fn active(&self, key: &SessionKey) -> String {
        format!("{}qr_active:{}:{}", self.prefix, key.tenant, key.app)
    }

    /// Points to the ticket that a request got; `None` for a request without id.
    pub(super) fn request(&self, login: &Login) -> Option<String> {
        let request_id = login.request_id.as_ref()?.to_text();
        let mut hash = Sha256::new();
        hash.update(b"usm login request");
        for part in [
            login.subject.as_str(),
            login.key.tenant.as_str(),
            login.key.app.as_str(),
            login.method.name(),
            &request_id,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Some(format!("{}replay:{}", self.prefix, hex::encode(hash.finalize())))
    }

    /// Remembers by its hash what serves once.
    pub(super) fn used(&self, what: &str) -> String {
        format!("{}replay:{what}", self.prefix)
    }

    /// The channel on which hashes of changed tickets are published.
    pub(super) fn channel(&self) -> String {
        format!("{}login_events", self.prefix)
    }
}

/// Whether all names with this prefix fall into one slot of a cluster: a `{tag}` that is not empty.
pub(super) fn has_hash_tag(prefix: &str) -> bool {
    prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty())
}
