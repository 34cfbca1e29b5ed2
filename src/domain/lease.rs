//! Lending a session to one worker at a time.
//!
//! The service counts a lease from its commit on the database's clock; the holder counts from before it asked,
//! on its own monotonic clock, and so always stops first. After a lease that nobody released, the session rests
//! for a quiet gap, because a connection that nobody closed is enough for Telegram to end the authorization.

use std::time::Duration;

use crate::domain::{
    error::Error,
    id::{Holder, LeaseId, RequestId, SessionKey},
    time::Timestamp,
};

/// The shortest and longest span a lease is granted for; a request outside is clamped.
pub const TTL_MIN: Duration = Duration::from_secs(10);
pub const TTL_MAX: Duration = Duration::from_secs(600);

/// A lease that was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub key: SessionKey,
    pub holder: Holder,
    pub ttl: Duration,
    pub request_id: Option<RequestId>,
    /// The id the lease gets if it is granted.
    pub lease_id: LeaseId,
    pub purpose: Purpose,
    /// It may have a place in the session's queue, which a grant ends.
    pub queued: bool,
}

/// What a session is borrowed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A worker connects: the material must be usable.
    Lend,
    /// The service itself asks or ends the authorization: any material will do, in whatever state.
    Inspect,
    /// The same, but nobody asked for it: it yields to whoever waits for the session.
    Probe,
}

/// A lease as its holder knows it.
#[derive(Clone, Debug)]
pub struct Lease {
    pub lease_id: LeaseId,
    pub key: SessionKey,
    pub holder: Holder,
    /// Larger than any earlier lease of the session; older ones are refused.
    pub epoch: i64,
    /// What remains of it at the moment of the answer.
    pub ttl: Duration,
    pub acquire_time: Timestamp,
    /// When the holder should ask for more, counted like the rest.
    pub renew_after: Duration,
}

impl Lease {
    /// A third of the way, so that two more attempts find room.
    pub fn renewed_after(ttl: Duration) -> Duration {
        ttl / 3
    }

    /// Asked for more often than by itself, if `heartbeat` is shorter.
    #[must_use]
    pub fn beating(self, heartbeat: Duration) -> Self {
        Self { renew_after: self.renew_after.min(heartbeat), ..self }
    }
}

/// A lease as everybody else sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub holder: String,
    pub epoch: i64,
    pub acquire_time: Timestamp,
    pub expire_time: Timestamp,
    /// What remains on the database's clock; zero in the quiet gap after an unacknowledged end.
    pub remaining: Duration,
    /// How long until somebody else may get the session, unless the lease is renewed.
    pub free_in: Duration,
    pub purpose: Purpose,
    /// No more renewals: the holder was asked to stop.
    pub drain: Option<Drain>,
}

/// Which leases are asked for; nothing set means all that are held or rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub holder: Option<Holder>,
    /// Any of these; empty means every phase.
    pub phases: Vec<Phase>,
}

impl LeaseView {
    pub fn phase(&self) -> Phase {
        match (self.remaining.is_zero(), self.drain) {
            (true, _) => Phase::Quarantined,
            (false, Some(_)) => Phase::Draining,
            (false, None) => Phase::Held,
        }
    }
}

/// What a lease is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Held,
    /// Held, but not renewed any more.
    Draining,
    /// Ended without its holder's word that the connections are closed; the quiet gap runs.
    Quarantined,
}

/// Why a lease is not renewed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drain {
    /// An operator wants the session back, or something that needs it to itself.
    Evicted,
    /// A new login of the session waits to take its place.
    Login,
    /// The authorization has ended, or its end is being looked into.
    Revoked,
}

impl Drain {
    pub const ALL: &[Self] = &[Self::Evicted, Self::Login, Self::Revoked];

    /// The name in columns and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Login => "login",
            Self::Revoked => "revoked",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|drain| drain.name() == name)
    }
}

impl Purpose {
    pub const ALL: &[Self] = &[Self::Lend, Self::Inspect, Self::Probe];

    /// The name in columns.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lend => "lend",
            Self::Inspect => "inspect",
            Self::Probe => "probe",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|purpose| purpose.name() == name)
    }
}

/// The span granted for a requested one; `None` asks for the default.
///
/// # Errors
/// `ARGUMENT_INVALID` for zero.
pub fn clamp_ttl(requested: Option<Duration>, default: Duration) -> Result<Duration, Error> {
    match requested {
        None => Ok(default.clamp(TTL_MIN, TTL_MAX)),
        Some(Duration::ZERO) => Err(Error::invalid("ttl", "must be positive, or left out for the default")),
        Some(ttl) => Ok(ttl.clamp(TTL_MIN, TTL_MAX)),
    }
}

/// How the holder ended its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Every connection is closed: the session is free at once.
    ConnectionsClosed,
    /// Connections may still be open: the session rests for the quiet gap.
    ConnectionsUnknown,
}

/// What is left of a lease that its holder gave back.
#[derive(Debug)]
pub struct Ended {
    pub key: SessionKey,
    pub epoch: i64,
    /// Nothing once the session is free for others.
    pub rest: Option<LeaseView>,
}
