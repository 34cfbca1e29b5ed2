//! The world: accounts, keys, tokens, connections and the journal, with the operations that touch several of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::code::SentCode;
use super::connection::{ConnId, Connection};
use super::fault::{self, Fault};
use super::journal::{Entry, Journal, Kind};
use super::key::{Broken, Key};
use super::token::LoginToken;
use super::user::{User, UserId};
use crate::crypto::auth_key::KeyId;
use crate::crypto::random_i64;
use crate::settings::Settings;
use crate::transport::Outbound;

/// Open connections at a time, over all DCs.
const CONNECTIONS_MAX: usize = 4096;
/// Packets that may wait for a slow client before its connection is closed.
const OUTBOX_MAX: usize = 1024;
/// Keys kept at a time: a test that makes more has gone astray.
pub(crate) const KEYS_MAX: usize = 100_000;

/// An authorization on its way to another DC.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    pub(crate) user: UserId,
    pub(crate) root: KeyId,
    pub(crate) dc: i32,
    pub(crate) bytes: Vec<u8>,
}

/// All state of one sandbox.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) dcs: BTreeMap<i32, SocketAddr>,
    pub(crate) users: BTreeMap<UserId, User>,
    pub(crate) keys: HashMap<KeyId, Key>,
    pub(crate) conns: BTreeMap<ConnId, Connection>,
    pub(crate) tokens: VecDeque<LoginToken>,
    pub(crate) codes: VecDeque<SentCode>,
    pub(crate) exported: VecDeque<Exported>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) journal: Journal,
    /// Counts changes of what survives a restart.
    pub(crate) revision: u64,
    next_conn: u64,
    last_msg_id: i64,
}

/// What a new connection got.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) id: ConnId,
    pub(crate) outbox: mpsc::Receiver<Outbound>,
    pub(crate) close: CancellationToken,
    pub(crate) fault: Option<Fault>,
}

/// Seconds since the epoch on the machine's clock.
#[allow(clippy::disallowed_methods, reason = "the one place where the clock is read")]
pub(crate) fn machine_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl World {
    pub(crate) fn new(settings: Settings, dcs: BTreeMap<i32, SocketAddr>) -> Self {
        Self {
            settings,
            dcs,
            users: BTreeMap::new(),
            keys: HashMap::new(),
            conns: BTreeMap::new(),
            tokens: VecDeque::new(),
            codes: VecDeque::new(),
            exported: VecDeque::new(),
            faults: Vec::new(),
            journal: Journal::default(),
            revision: 0,
            next_conn: 0,
            last_msg_id: 0,
        }
    }

    /// The server's clock, in seconds.
    pub(crate) fn now_exact(&self) -> f64 {
        machine_now() + f64::from(self.settings.skew)
    }

    /// The server's clock, in whole seconds.
    pub(crate) fn now(&self) -> i64 {
        self.now_exact() as i64
    }

    /// Notes that something changed that must survive a restart.
    pub(crate) fn changed(&mut self) {
        self.revision += 1;
    }

    /// A fresh message number: 1 modulo 4 for answers, 3 for what the server says by itself.
    pub(crate) fn next_msg_id(&mut self, remainder: i64) -> i64 {
        let by_clock = (self.now_exact() * 4_294_967_296.0) as i64 & !3;
        self.last_msg_id = by_clock.max(self.last_msg_id + 4);
        self.last_msg_id | remainder
    }

    /// Lets message numbers start anew after the clock was turned.
    pub(crate) fn clock_turned(&mut self) {
        self.last_msg_id = 0;
    }

    /// Takes a new connection in, unless there are too many.
    pub(crate) fn admit(&mut self, dc: i32, src: SocketAddr, local: SocketAddr) -> Option<Admitted> {
        if self.conns.len() >= CONNECTIONS_MAX {
            return None;
        }
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        let (sender, outbox) = mpsc::channel(OUTBOX_MAX);
        let close = CancellationToken::new();
        let connection = Connection {
            dc,
            src,
            local,
            transport: "",
            opened: Instant::now(),
            key: None,
            wire_key: None,
            session: None,
            requests: 0,
            packets_in: 0,
            packets_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            outbox: sender,
            close: close.clone(),
            closing: None,
            reason: None,
            disconnect_at: None,
        };
        self.conns.insert(id, connection);
        self.journal.counters.connections += 1;
        let open = self.conns.len() as u64;
        let peak = &mut self.journal.counters.peak_connections;
        *peak = open.max(*peak);
        let fault = fault::take(&mut self.faults, fault::CONNECT, None, None);
        if fault.is_some() {
            self.journal.counters.faults += 1;
        }
        let result = if fault.is_some() { "fault" } else { "ok" };
        self.record(id, Kind::Transport, "connect", result);
        Some(Admitted { id, outbox, close, fault })
    }

    /// Forgets a connection that ended.
    pub(crate) fn release(&mut self, id: ConnId, reason: &'static str) {
        let reason = self.conns.get(&id).and_then(|conn| conn.reason).unwrap_or(reason);
        self.record(id, Kind::Transport, "close", reason);
        let Some(conn) = self.conns.remove(&id) else { return };
        self.journal.event(serde_json::json!({
            "t": machine_now(),
            "event": "close",
            "reason": reason,
            "conn": id.0,
            "dc": conn.dc,
            "src": conn.src.to_string(),
            "key": conn.key.map(String::from),
            "user": conn.key.and_then(|key| self.keys.get(&key)).and_then(|key| key.user),
        }));
    }

    /// Writes a line of the log of calls for a connection.
    pub(crate) fn record(&mut self, conn: ConnId, kind: Kind, method: &str, result: &str) {
        let Some(found) = self.conns.get(&conn) else { return };
        let entry = Entry {
            n: 0,
            t: machine_now(),
            kind,
            method: method.to_owned(),
            result: result.to_owned(),
            dc: found.dc,
            conn: conn.0,
            src: found.src.to_string(),
            transport: found.transport,
            key: found.key.map(String::from),
            session: found.session.map(|session| hex::encode(session.to_le_bytes())),
        };
        self.journal.record(entry);
    }

    /// The account that a key belongs to, if it is fully logged in.
    pub(crate) fn user_of(&self, key: KeyId) -> Option<&User> {
        self.users.get(&self.keys.get(&key)?.user?)
    }

    /// Makes a key the login of an account.
    pub(crate) fn log_in(&mut self, key: KeyId, user: UserId, root: Option<KeyId>) {
        if let Some(key) = self.keys.get_mut(&key) {
            key.log_out();
            key.user = Some(user);
            key.root = root;
            key.logged_in = Some(machine_now());
            key.authorization = random_i64() | 1;
        }
        self.changed();
    }

    /// Ends a login with all the copies of it that were imported at other DCs.
    pub(crate) fn log_out(&mut self, root: KeyId) {
        for key in self.keys.values_mut().filter(|key| key.id() == root || key.root == Some(root)) {
            key.log_out();
        }
        self.changed();
    }

    /// Breaks a login with all its copies.
    pub(crate) fn break_login(&mut self, root: KeyId, error: &str) {
        for key in self.keys.values_mut().filter(|key| key.id() == root || key.root == Some(root)) {
            key.broken = Some(Broken::Error(error.to_owned()));
        }
        self.changed();
    }

    /// The home DC of a new account that names none: 2, as at Telegram, or else the first there is.
    pub(crate) fn default_dc(&self) -> i32 {
        if self.dcs.contains_key(&2) { 2 } else { self.dcs.keys().next().copied().unwrap_or(2) }
    }
}
