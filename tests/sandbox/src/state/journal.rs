//! What happened: calls, events and counters, for those who test against the sandbox.

use std::collections::VecDeque;

use serde::Serialize;

/// Entries kept of each kind; older ones go first.
const ENTRIES_MAX: usize = 50_000;

/// What sort of thing a call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// An API call.
    Rpc,
    /// A message of the session layer from a client.
    Service,
    /// A plain message of a key exchange.
    Handshake,
    /// Something the server sent by itself.
    Server,
    /// Connects, closes and transport errors.
    Transport,
}

/// One line of `GET /calls`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    pub(crate) n: u64,
    /// Seconds since the epoch on the machine's clock.
    pub(crate) t: f64,
    pub(crate) kind: Kind,
    pub(crate) method: String,
    pub(crate) result: String,
    pub(crate) dc: i32,
    pub(crate) conn: u64,
    pub(crate) src: String,
    pub(crate) transport: &'static str,
    pub(crate) key: Option<String>,
    pub(crate) session: Option<String>,
}

/// Totals since the start or the last `POST /calls_clear`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Counters {
    pub(crate) connections: u64,
    pub(crate) peak_connections: u64,
    pub(crate) handshakes: u64,
    pub(crate) rpc_calls: u64,
    pub(crate) rpc_errors: u64,
    pub(crate) faults: u64,
    pub(crate) duplicates: u64,
}

/// The record of a sandbox.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) counters: Counters,
    calls: VecDeque<Entry>,
    events: VecDeque<serde_json::Value>,
    n: u64,
}

impl Journal {
    pub(crate) fn record(&mut self, mut entry: Entry) {
        self.n += 1;
        entry.n = self.n;
        if self.calls.len() == ENTRIES_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(entry);
    }

    pub(crate) fn event(&mut self, mut event: serde_json::Value) {
        self.n += 1;
        event["n"] = self.n.into();
        if self.events.len() == ENTRIES_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(crate) fn calls(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.calls.iter()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &serde_json::Value> {
        self.events.iter()
    }

    /// Forgets all entries and sets the counters to zero; numbering goes on, so `since` stays valid.
    pub(crate) fn clear(&mut self, open_connections: u64) {
        self.calls.clear();
        self.events.clear();
        self.counters = Counters { peak_connections: open_connections, ..Counters::default() };
    }
}
