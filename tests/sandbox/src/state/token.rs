//! QR login tokens.

use super::connection::ConnId;
use super::user::UserId;
use crate::crypto::auth_key::KeyId;

/// Tokens kept at a time; the oldest goes first.
pub(crate) const TOKENS_MAX: usize = 10_000;

/// A token that a client shows as a QR.
#[derive(Debug, Clone)]
pub(crate) struct LoginToken {
    pub(crate) token: Vec<u8>,
    /// The key that exported it.
    pub(crate) key: KeyId,
    /// The connection that exported it, and the only one that is told of a scan.
    pub(crate) conn: ConnId,
    pub(crate) session: i64,
    pub(crate) dc: i32,
    /// Seconds since the epoch on the server's clock: valid while the clock shows less.
    pub(crate) expires: i64,
    /// Who scanned it.
    pub(crate) user: Option<UserId>,
    /// Whether a login came of it.
    pub(crate) used: bool,
    /// Accounts that the client holds already.
    pub(crate) except: Vec<UserId>,
    pub(crate) api_id: i32,
}
