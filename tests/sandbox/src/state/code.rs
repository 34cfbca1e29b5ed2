//! Login codes on their way to a phone.

use crate::crypto::auth_key::KeyId;

/// Codes kept at a time; the oldest goes first.
pub(crate) const CODES_MAX: usize = 10_000;

/// A code that was sent and not yet used.
#[derive(Debug, Clone)]
pub(crate) struct SentCode {
    pub(crate) phone: String,
    pub(crate) hash: String,
    pub(crate) code: String,
    /// Seconds since the epoch on the server's clock.
    pub(crate) until: i64,
    pub(crate) tries: u32,
    /// The key that asked for it; no other may use it.
    pub(crate) key: KeyId,
    pub(crate) resends: u32,
}
