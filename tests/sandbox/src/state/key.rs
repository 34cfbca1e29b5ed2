//! Authorization keys: who they belong to, and their salts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::session::Session;
use super::user::UserId;
use crate::crypto::auth_key::{AuthKey, KeyId};
use crate::crypto::sha256;
use crate::crypto::srp::Challenge;

/// Sessions remembered per key; the oldest goes first.
const SESSIONS_MAX: usize = 64;
/// Source addresses remembered per key.
const IPS_MAX: usize = 64;
/// Password questions that a key may have open.
const CHALLENGES_MAX: usize = 4;
/// Salts handed out at once by `get_future_salts`, as at Telegram.
pub(crate) const FUTURE_SALTS_MAX: i32 = 64;
/// With fewer salts than this, some clients never send a request.
const FUTURE_SALTS_MIN: i32 = 2;

/// A permanent break of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Broken {
    /// Every call gets this error.
    Error(String),
    /// The server does not know the key any more: -404.
    Forgotten,
}

/// What `initConnection` told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Init {
    pub(crate) api_id: i32,
    pub(crate) device_model: String,
    pub(crate) system_version: String,
    pub(crate) app_version: String,
    pub(crate) system_lang_code: String,
    pub(crate) lang_pack: String,
    pub(crate) lang_code: String,
}

/// A temporary key's own facts.
#[derive(Debug, Clone)]
pub(crate) struct Temporary {
    /// Seconds since the epoch.
    pub(crate) expires: i64,
    pub(crate) bound_to: Option<KeyId>,
}

/// An authorization key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Key {
    #[serde(with = "key_hex")]
    pub(crate) auth: AuthKey,
    pub(crate) dc: i32,
    pub(crate) user: Option<UserId>,
    /// Who still owes the password.
    pub(crate) pending_2fa: Option<UserId>,
    pub(crate) broken: Option<Broken>,
    pub(crate) layer: Option<i32>,
    pub(crate) init: Option<Init>,
    /// The number of the authorization in `account.getAuthorizations`.
    pub(crate) authorization: i64,
    /// The authorization's key at the home DC, when this one was imported at another.
    #[serde(default)]
    pub(crate) root: Option<KeyId>,
    pub(crate) ips: BTreeSet<IpAddr>,
    /// Seconds since the epoch.
    pub(crate) created: f64,
    pub(crate) logged_in: Option<f64>,
    pub(crate) last_active: f64,
    /// The salt that came out of the key exchange.
    first_salt: i64,
    #[serde(skip)]
    pub(crate) temporary: Option<Temporary>,
    #[serde(skip)]
    pub(crate) sessions: BTreeMap<i64, Session>,
    /// Session numbers in the order of their first use.
    #[serde(skip)]
    session_order: Vec<i64>,
    #[serde(skip)]
    pub(crate) challenges: Vec<Challenge>,
}

mod key_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::crypto::auth_key::AuthKey;

    pub(super) fn serialize<S: Serializer>(key: &AuthKey, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(key.expose()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<AuthKey, D::Error> {
        let mut bytes = [0; 256];
        hex::decode_to_slice(String::deserialize(d)?, &mut bytes)
            .map_err(|_| D::Error::custom("an authorization key is 512 hex digits"))?;
        Ok(AuthKey::new(bytes))
    }
}

impl Key {
    pub(crate) fn new(auth: AuthKey, dc: i32, first_salt: i64, now: f64) -> Self {
        Self {
            auth,
            dc,
            user: None,
            pending_2fa: None,
            broken: None,
            layer: None,
            init: None,
            authorization: 0,
            root: None,
            ips: BTreeSet::new(),
            created: now,
            logged_in: None,
            last_active: now,
            first_salt,
            temporary: None,
            sessions: BTreeMap::new(),
            session_order: Vec::new(),
            challenges: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.auth.id()
    }

    pub(crate) fn forgotten(&self) -> bool {
        self.broken == Some(Broken::Forgotten)
    }

    pub(crate) fn seen_from(&mut self, ip: IpAddr) {
        if self.ips.len() < IPS_MAX {
            self.ips.insert(ip);
        }
    }

    /// Ends the login; the key itself stays usable for another one.
    pub(crate) fn log_out(&mut self) {
        self.user = None;
        self.pending_2fa = None;
        self.logged_in = None;
        self.root = None;
        self.challenges.clear();
    }

    /// The session of that number; true if it is new.
    pub(crate) fn session(&mut self, session: i64) -> (&mut Session, bool) {
        let new = !self.sessions.contains_key(&session);
        if new {
            if self.session_order.len() == SESSIONS_MAX {
                self.sessions.remove(&self.session_order.remove(0));
            }
            self.session_order.push(session);
        }
        (self.sessions.entry(session).or_default(), new)
    }

    pub(crate) fn destroy_session(&mut self, session: i64) -> bool {
        self.session_order.retain(|known| *known != session);
        self.sessions.remove(&session).is_some()
    }

    pub(crate) fn ask(&mut self, challenge: Challenge) {
        if self.challenges.len() == CHALLENGES_MAX {
            self.challenges.remove(0);
        }
        self.challenges.push(challenge);
    }

    /// Salts follow from the key and the time, so that they survive a restart with nothing kept.
    fn salt_at(&self, period: i64) -> i64 {
        let hash = sha256(&[self.auth.expose(), b"salt", &period.to_le_bytes()]);
        let mut salt = [0; 8];
        salt.copy_from_slice(&hash[..8]);
        i64::from_le_bytes(salt)
    }

    pub(crate) fn current_salt(&self, now: i64, salt_ttl: u32) -> i64 {
        self.salt_at(now.div_euclid(i64::from(salt_ttl)))
    }

    /// The present salt, the one before it, and for a while the one of the key exchange.
    pub(crate) fn accepts_salt(&self, salt: i64, now: i64, salt_ttl: u32) -> bool {
        let ttl = i64::from(salt_ttl);
        let period = now.div_euclid(ttl);
        salt == self.salt_at(period)
            || salt == self.salt_at(period - 1)
            || (salt == self.first_salt && (now as f64) < self.created + ttl as f64)
    }

    /// `(valid_since, valid_until, salt)` from the present one on.
    pub(crate) fn future_salts(&self, wanted: i32, now: i64, salt_ttl: u32) -> Vec<(i64, i64, i64)> {
        let ttl = i64::from(salt_ttl);
        let first = now.div_euclid(ttl);
        (0..i64::from(wanted.clamp(FUTURE_SALTS_MIN, FUTURE_SALTS_MAX)))
            .map(|i| ((first + i) * ttl, (first + i + 2) * ttl, self.salt_at(first + i)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_lives_for_two_periods() {
        let key = Key::new(AuthKey::generate(), 2, 77, 1000.0);
        let salt = key.current_salt(1000, 10);
        assert!(key.accepts_salt(salt, 1009, 10));
        assert!(key.accepts_salt(salt, 1019, 10));
        assert!(!key.accepts_salt(salt, 1020, 10));
        assert!(key.accepts_salt(77, 1005, 10));
        assert!(!key.accepts_salt(77, 1011, 10));
        assert!(!key.accepts_salt(0, 1000, 10));
    }

    #[test]
    fn future_salts_are_at_least_two_and_accepted_in_their_time() {
        let key = Key::new(AuthKey::generate(), 2, 77, 1000.0);
        let salts = key.future_salts(1, 1000, 10);
        assert_eq!(salts.len(), 2);
        assert_eq!(key.future_salts(1000, 1000, 10).len(), 64);
        assert!(salts.iter().all(|(since, _, salt)| key.accepts_salt(*salt, *since, 10)));
    }

    #[test]
    fn a_key_survives_its_written_form() {
        let key = Key::new(AuthKey::generate(), 2, 77, 1000.5);
        let text = serde_json::to_string(&key).expect("it writes");
        let back: Key = serde_json::from_str(&text).expect("it reads");
        assert_eq!(back.auth.expose(), key.auth.expose());
        assert_eq!(back.first_salt, 77);
    }

    #[test]
    fn sessions_are_bounded() {
        let mut key = Key::new(AuthKey::generate(), 2, 77, 1000.0);
        for n in 0..SESSIONS_MAX as i64 + 9 {
            assert!(key.session(n).1);
        }
        assert_eq!(key.sessions.len(), SESSIONS_MAX);
        assert!(!key.session(70).1);
    }
}
