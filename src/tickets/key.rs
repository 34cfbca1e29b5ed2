//! The names of keys in Redis. Operators rely on them.

use crate::domain::{
    budget::{Paused, Scope},
    id::{SessionKey, Ticket},
    login::Repeatable,
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

    /// Names the replica that runs a login, for as long as it is sure to.
    pub(super) fn owner(&self, ticket: &Ticket) -> String {
        format!("{}{}", self.owner_prefix(), ticket.expose_secret())
    }

    /// What stands before the ticket in [`Self::owner`].
    pub(super) fn owner_prefix(&self) -> String {
        format!("{}qr_owner:", self.prefix)
    }

    /// Every login that somebody runs, or ran when it died, by the end of its tenure.
    pub(super) fn running(&self) -> String {
        format!("{}qr_running", self.prefix)
    }

    /// Counts logins.
    pub(super) fn budget(&self, scope: &Scope) -> String {
        let whose = match scope {
            Scope::Phone(hash) => hash.clone(),
            Scope::Api(id) => id.to_string(),
            Scope::Tenant(tenant) => tenant.to_string(),
        };
        format!("{}budget:{}:{whose}", self.prefix, scope.name())
    }

    /// There as long as Telegram asked to wait.
    pub(super) fn pause(&self, paused: &Paused) -> String {
        match paused {
            Paused::Phone(hash) => format!("{}budget:pause:phone:{hash}", self.prefix),
            Paused::Api(id, method) => {
                format!("{}budget:pause:api_id:{id}:{}", self.prefix, method.name())
            }
            Paused::Bot(id) => format!("{}budget:pause:bot:{id}", self.prefix),
        }
    }

    /// Points to the newest ticket of a session.
    pub(super) fn active(&self, key: &SessionKey) -> String {
        format!("{}qr_active:{}:{}", self.prefix, key.tenant, key.app)
    }

    /// Points to the ticket that a request got.
    pub(super) fn request(&self, request: &Repeatable) -> String {
        format!("{}replay:{}", self.prefix, request.hash())
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
