//! What a holder may write under its lease, and whether it still may.

use crate::{
    domain::{caller::Caller, id::LeaseId, material::SealedMaterial, session::Session},
    store::{
        Error, Store,
        leases::of_caller,
        material,
        rows::key,
        tx::{Access, commit, within},
    },
};

const LOOKING: &str = "looking at a lease";

/// Whether the caller holds a session under a lease.
#[derive(Debug)]
pub enum Holds {
    Held {
        session: Box<Session>,
        sealed: Option<SealedMaterial>,
    },
    /// Never granted to this caller, over, or released.
    NotHeld,
    /// The lease id is right, the epoch is not.
    EpochStale {
        current: i64,
    },
}

impl Store {
    /// The session that the caller holds under this lease, with its material. What is written afterwards must be
    /// conditional on lease and revision.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn held(&self, caller: &Caller, lease: &LeaseId, epoch: i64) -> Result<Holds, Error> {
        within(caller.deadline, LOOKING, async {
            let tx = self.begin(caller, Access::Read, LOOKING).await?;
            let Some(read) = self.read_where(&tx, of_caller(caller, lease)).await? else {
                commit(tx, LOOKING).await?;
                return Ok(Holds::NotHeld);
            };
            if read.live().is_none() {
                commit(tx, LOOKING).await?;
                return Ok(Holds::NotHeld);
            }
            if read.row.lease_epoch != epoch {
                commit(tx, LOOKING).await?;
                return Ok(Holds::EpochStale { current: read.row.lease_epoch });
            }
            let key = key(&read.row.tenant_id, &read.row.app_id)?;
            let sealed = material::read(&tx, caller, &key).await?;
            commit(tx, LOOKING).await?;
            // Another version than the row's was written in between: the write that follows fails by its revision.
            Ok(Holds::Held { session: Box::new(read.session(self.quiet_gap)?), sealed })
        })
        .await
    }
}
