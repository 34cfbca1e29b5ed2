//! Which system may connect with a session's key: this one or the legacy one, never both.

use super::{
    App,
    fingerprints::{Differs, is_recorded},
};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        id::SessionKey,
        session::{Custody, LogOut, Session, State},
    },
    store::{Change, LeaseRule},
};

impl App {
    /// This service owns the session from now on: the legacy system must have stopped using it.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_LEASED`, `REVISION_STALE`, `FEATURE_DISABLED`, `FINGERPRINT_MISMATCH` if the file
    /// is not the recorded one.
    pub async fn take_custody(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
        legacy_fingerprint: Option<&str>,
    ) -> Result<Session, Error> {
        let session = self.get_at(caller, key, revision).await?;
        self.require_feature(caller).await?;
        if session.custody == Custody::Legacy
            && !is_recorded(session.legacy_fingerprint.as_deref(), legacy_fingerprint)
        {
            self.note_mismatch(caller, &session, Differs::File).await;
            return Err(Error::new(
                Reason::FingerprintMismatch,
                "the legacy system used the file since it was recorded; import it again with replace, which takes the change",
            ));
        }
        self.move_custody(caller, session, Custody::Service).await
    }

    /// The legacy system owns the session from now on: this service neither lends nor probes it.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_LEASED` until the last lease and its quiet gap are over, `REVISION_STALE`,
    /// `SESSION_WRONG_STATE` for one that is still to be logged out.
    pub async fn give_custody(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let session = self.get_at(caller, key, revision).await?;
        self.move_custody(caller, session, Custody::Legacy).await
    }

    async fn move_custody(
        &self,
        caller: &Caller,
        mut session: Session,
        custody: Custody,
    ) -> Result<Session, Error> {
        if session.custody == custody {
            return Ok(session);
        }
        if let (Custody::Legacy, State::Revoked { log_out: LogOut::Pending, .. }) = (custody, &session.state)
        {
            // In the legacy system's hands nobody would ever end it.
            return Err(Error::new(
                Reason::SessionWrongState,
                "the session was revoked and is still to be logged out; there is nothing to give",
            )
            .fact("state", session.state.name().as_str())
            .fact("log_out", LogOut::Pending.name()));
        }
        session.custody = custody;
        session.update_time = caller.now;
        let kind = match custody {
            Custody::Service => Kind::CustodyTaken,
            Custody::Legacy => Kind::CustodyGiven,
        };
        let change = Change {
            lease: LeaseRule::NoneLive,
            events: vec![NewEvent::of(kind, &caller.subject)],
            ..Change::of(session)
        };
        Ok(self.commit(caller, change).await?)
    }
}
