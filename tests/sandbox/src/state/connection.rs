//! Open connections, as the world sees them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::crypto::auth_key::KeyId;
use crate::transport::Outbound;

/// The number of a connection, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a connection is to be closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// What is queued is still sent.
    Orderly,
    /// At once, with a TCP reset.
    Reset,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) dc: i32,
    pub(crate) src: SocketAddr,
    /// The address under which the client reached the server, told to it for all DCs.
    pub(crate) local: SocketAddr,
    pub(crate) transport: &'static str,
    pub(crate) opened: Instant,
    /// The permanent key that is used on it.
    pub(crate) key: Option<KeyId>,
    /// The key that encrypts its packets: a temporary one, or the same.
    pub(crate) wire_key: Option<KeyId>,
    pub(crate) session: Option<i64>,
    /// API calls that came on it with its present key.
    pub(crate) requests: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) outbox: mpsc::Sender<Outbound>,
    pub(crate) close: CancellationToken,
    pub(crate) closing: Option<Closing>,
    /// Why the server closes it.
    pub(crate) reason: Option<&'static str>,
    /// `ping_delay_disconnect`: when to close unless another ping comes.
    pub(crate) disconnect_at: Option<Instant>,
}

impl Connection {
    /// Asks the connection's task to end. The first reason stays.
    pub(crate) fn shut(&mut self, closing: Closing, reason: &'static str) {
        self.closing.get_or_insert(closing);
        self.reason.get_or_insert(reason);
        self.close.cancel();
    }
}
