//! `AUTH_KEY_DUPLICATED`: one authorization that sends requests in parallel over two home-DC connections.
//!
//! A connection counts from its first API call with the key until its socket is closed. A key exchange, pings and
//! connections to other DCs do not count. A client that closes its socket and comes back is not punished: an older
//! connection has a short grace to be seen as closed.

use super::connection::ConnId;
use super::key::Broken;
use super::world::{World, machine_now};
use crate::crypto::auth_key::KeyId;

/// The error both connections get.
const DUPLICATED: &str = "AUTH_KEY_DUPLICATED";

impl World {
    /// Other open connections on which the authorization of `key` sends requests while `conn` does.
    pub(crate) fn rivals(&self, conn: ConnId, key: KeyId) -> Vec<ConnId> {
        let (Some(found), Some(owner)) = (self.keys.get(&key), self.user_of(key)) else { return Vec::new() };
        let Some(own) = self.conns.get(&conn).filter(|_| found.dc == owner.dc) else { return Vec::new() };
        let by_address = self.settings.dup_ip && !self.settings.dup_sessions;
        if !self.settings.dup_sessions && !by_address {
            return Vec::new();
        }
        self.conns
            .iter()
            .filter(|(id, other)| **id != conn && other.key == Some(key) && other.requests > 0)
            .filter(|(_, other)| !other.close.is_cancelled() && other.dc == own.dc)
            .filter(|(_, other)| !by_address || other.src.ip() != own.src.ip())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Ends the authorization for ever.
    pub(crate) fn kill_duplicated(&mut self, conn: ConnId, rivals: &[ConnId], key: KeyId) {
        if self.keys.get(&key).is_some_and(|key| key.broken == Some(Broken::Error(DUPLICATED.to_owned()))) {
            return;
        }
        self.break_login(key, DUPLICATED);
        self.journal.counters.duplicates += 1;
        let sources: Vec<String> = std::iter::once(&conn)
            .chain(rivals)
            .filter_map(|id| self.conns.get(id))
            .map(|conn| conn.src.to_string())
            .collect();
        let conns: Vec<u64> = std::iter::once(&conn).chain(rivals).map(|id| id.0).collect();
        self.journal.event(serde_json::json!({
            "t": machine_now(),
            "event": "duplicate",
            "key": String::from(key),
            "user": self.keys.get(&key).and_then(|key| key.user),
            "dc": self.keys.get(&key).map(|key| key.dc),
            "conns": conns,
            "sources": sources,
        }));
    }
}
