//! What is written into the audit log of a session.

use crate::domain::{id::SessionKey, session::StateName, time::Timestamp};

/// One move of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: StateName,
    pub to: StateName,
    pub reason: &'static str,
}

/// What happened, besides moves of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The state moved.
    Transition,
    /// A lease was granted, ended by its holder, or ended by an operator.
    LeaseGranted,
    LeaseReleased,
    LeaseEvicted,
    /// Custody changed hands.
    CustodyTaken,
    CustodyGiven,
    /// Metadata such as labels changed.
    Updated,
    /// New key material took the place of old.
    MaterialReplaced,
    /// A scan came from another account than the pinned one.
    AccountMismatch,
    /// Key material left the service other than by a lease.
    Exported,
    /// A file or an authorization is not the one that was recorded.
    FingerprintMismatch,
    /// The row was removed.
    Deleted,
}

impl Kind {
    pub const ALL: &[Self] = &[
        Self::Transition,
        Self::LeaseGranted,
        Self::LeaseReleased,
        Self::LeaseEvicted,
        Self::CustodyTaken,
        Self::CustodyGiven,
        Self::Updated,
        Self::MaterialReplaced,
        Self::AccountMismatch,
        Self::Exported,
        Self::FingerprintMismatch,
        Self::Deleted,
    ];

    /// The name in the events table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::LeaseGranted => "lease_granted",
            Self::LeaseReleased => "lease_released",
            Self::LeaseEvicted => "lease_evicted",
            Self::CustodyTaken => "custody_taken",
            Self::CustodyGiven => "custody_given",
            Self::Updated => "updated",
            Self::MaterialReplaced => "material_replaced",
            Self::AccountMismatch => "account_mismatch",
            Self::Exported => "exported",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::Deleted => "deleted",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// An entry to be written, in the same transaction as what it tells of.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub kind: Kind,
    pub transition: Option<Transition>,
    /// Who caused it: the caller's subject.
    pub actor: String,
    /// Harmless details, such as an epoch or a holder's name.
    pub details: Vec<(&'static str, String)>,
}

impl NewEvent {
    pub fn transition(transition: Transition, actor: &str) -> Self {
        Self {
            kind: Kind::Transition,
            transition: Some(transition),
            actor: actor.to_owned(),
            details: Vec::new(),
        }
    }

    pub fn of(kind: Kind, actor: &str) -> Self {
        Self { kind, transition: None, actor: actor.to_owned(), details: Vec::new() }
    }

    #[must_use]
    pub fn detail(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.details.push((name, value.to_string()));
        self
    }
}

/// An entry as the log holds it.
#[derive(Clone, Debug)]
pub struct SessionEvent {
    /// Grows with each entry of the whole service; gaps are normal.
    pub sequence: i64,
    pub key: SessionKey,
    pub kind: Kind,
    pub from: Option<StateName>,
    pub to: Option<StateName>,
    pub reason: String,
    pub actor: String,
    pub details: Vec<(String, String)>,
    pub time: Timestamp,
}
