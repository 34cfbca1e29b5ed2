//! Names of things. Each is its own type, valid by construction.

use std::fmt;

use crate::domain::{error::Error, secret::Secret};

/// The longest tenant or application id, in characters.
pub const ID_LENGTH_MAX: usize = 128;
/// The longest name a holder of a lease may give itself, in characters.
pub const HOLDER_LENGTH_MAX: usize = 128;

macro_rules! checked_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// `ARGUMENT_INVALID` naming the field, unless 1-128 characters of `[A-Za-z0-9._-]` that do
            /// not start with a dot or a dash.
            pub fn parse(text: &str) -> Result<Self, Error> {
                if is_id(text) { Ok(Self(text.to_owned())) } else { Err(Error::invalid($field, ID_RULE)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

const ID_RULE: &str = "must be 1-128 characters of A-Z a-z 0-9 . _ - and not start with a dot or a dash";

fn is_id(text: &str) -> bool {
    (1..=ID_LENGTH_MAX).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

checked_id!(
    /// Who owns a session.
    TenantId,
    "tenant_id"
);
checked_id!(
    /// Which session of the tenant.
    AppId,
    "app_id"
);

/// What identifies a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub tenant: TenantId,
    pub app: AppId,
}

impl SessionKey {
    /// # Errors
    /// `ARGUMENT_INVALID` for either id.
    pub fn parse(tenant: &str, app: &str) -> Result<Self, Error> {
        Ok(Self { tenant: TenantId::parse(tenant)?, app: AppId::parse(app)? })
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.app)
    }
}

/// Names a login. Whoever knows it (and may act for its tenant) can follow and cancel the login, so it is
/// kept out of logs; rows of the database hold only its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(Secret);

impl Ticket {
    /// 256 random bits in hexadecimal.
    pub const LENGTH: usize = 64;

    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(Secret::new(hex::encode(bytes)))
    }

    /// # Errors
    /// `TICKET_NOT_FOUND`: a text that no ticket can have answers like a ticket that nobody has.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let well_formed = text.len() == Self::LENGTH
            && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        if well_formed { Ok(Self(Secret::new(text))) } else { Err(Error::ticket_not_found()) }
    }

    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }

    /// What rows and logs may hold in place of the ticket.
    pub fn hash(&self) -> TicketHash {
        use sha2::{Digest as _, Sha256};
        TicketHash(hex::encode(Sha256::digest(self.expose_secret().as_bytes())))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// SHA-256 of a ticket, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TicketHash(String);

impl TicketHash {
    /// From a row that this program wrote.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One running process of the service. Names nothing outside it, and is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaId(String);

impl ReplicaId {
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }

    /// From a row that this program wrote.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Proves that a caller is the one a lease was granted to. Shown once, to its acquirer.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseId(Secret);

impl LeaseId {
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(Secret::new(hex::encode(bytes)))
    }

    /// # Errors
    /// `LEASE_NOT_HELD`: a text that no lease id can have answers like one that nobody holds.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if well_formed { Ok(Self(Secret::new(text))) } else { Err(Error::lease_not_held()) }
    }

    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseId(..)")
    }
}

/// The name a worker gives itself when it takes a lease; shown to whoever may read the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl Holder {
    /// # Errors
    /// `ARGUMENT_INVALID` unless 1-128 printable ASCII characters.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if (1..=HOLDER_LENGTH_MAX).contains(&text.len()) && text.bytes().all(printable) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("holder", "must be 1-128 printable ASCII characters"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A caller's own name for one mutation, so that a repeated request is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// An empty text is none.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID` unless a UUID.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        match uuid::Uuid::try_parse(text) {
            Ok(id) => Ok(Some(Self(id))),
            Err(_) => Err(Error::invalid("request_id", "must be a UUID")),
        }
    }

    pub fn to_text(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::error::Reason;

    #[test]
    fn ids_are_refused_by_field_and_rule() {
        let long = "a".repeat(ID_LENGTH_MAX + 1);
        for bad in ["", ".hidden", "-dash", "a b", "a/b", "..", "é", "a\n", long.as_str()] {
            let refused = SessionKey::parse("acme", bad).expect_err(bad);
            assert_eq!(
                (refused.reason, refused.field.map(|(field, _)| field)),
                (Reason::ArgumentInvalid, Some("app_id"))
            );
        }
        for good in ["a", "A.b_c-9", &"a".repeat(ID_LENGTH_MAX)] {
            assert!(SessionKey::parse(good, good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_malformed_ticket_answers_like_an_unknown_one() {
        for text in ["", "x", &"g".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
            assert_eq!(Ticket::parse(text).expect_err(text).reason, Reason::TicketNotFound);
        }
    }

    #[test]
    fn what_grants_something_is_never_printed() {
        let ticket = Ticket::from_random([7; 32]);
        let lease = LeaseId::from_random([7; 16]);
        let printed = format!("{ticket:?} {lease:?} {:?}", Secret::new("hush"));
        assert_eq!(printed, "Ticket(..) LeaseId(..) Secret(..)");
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in ".*") {
            let _ = (SessionKey::parse(&text, &text), Ticket::parse(&text), LeaseId::parse(&text));
            let _ = (Holder::parse(&text), RequestId::parse_optional(&text));
        }
    }
}
