//! How a lease ends for its holder, and the one place that tells so.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{Refusal, v1};

/// Why a lease is over. In every case: close the connections now, at the latest at the deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal came through in time.
    #[error("no renewal came through in time")]
    Expired,
    /// The service refused a call of the holder, for example with `LEASE_NOT_HELD`, `LEASE_EPOCH_STALE` or
    /// `LEASE_DRAINING`.
    #[error("the service ended it")]
    Refused(#[source] Box<Refusal>),
    /// The service wants the session back. The lease lasts until its deadline, but is not renewed any more: close,
    /// save and release. `Unspecified` stands for a reason that this version does not know.
    #[error("the service wants the session back: {}", short(.0.as_str_name(), "LEASE_DRAIN_REASON_"))]
    Draining(v1::LeaseDrainReason),
    /// The service says that the lease is over already. `Unspecified` stands for a reason that this version does not
    /// know.
    #[error("the service says it is over: {}", short(.0.as_str_name(), "LEASE_LOSS_REASON_"))]
    Ended(v1::LeaseLossReason),
    /// The guard was dropped or released.
    #[error("its guard is gone")]
    Dropped,
}

fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The end of one lease: comes once, and stays.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) lost: CancellationToken,
    // A section of one assignment, never held across an await.
    loss: Mutex<Option<Loss>>,
}

impl End {
    /// Tells the worker. The first reason stays.
    pub(super) fn come(&self, loss: Loss, epoch: i64) {
        let mut known = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            if loss != Loss::Dropped {
                warn!(error.reason = %loss, lease.epoch = epoch, "The lease is lost");
            }
            *known = Some(loss);
        }
        drop(known);
        self.lost.cancel();
    }

    pub(super) fn loss(&self) -> Option<Loss> {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
