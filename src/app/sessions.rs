//! Looking at sessions and changing their metadata.

use std::collections::BTreeMap;

use super::App;
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent, SessionEvent},
        id::SessionKey,
        page::{Page, PageRequest},
        session::Session,
    },
    store::{Change, Expected},
};
// What callers ask by; the edge names no store.
pub use crate::store::{EventFilter, SessionFilter};

/// Metadata to change; what is `None` stays.
#[derive(Debug, Default)]
pub struct Update {
    pub labels: Option<BTreeMap<String, String>>,
    pub api_key_alias: Option<String>,
    /// Whether a copy is kept as a file for the legacy system.
    pub mirrored: Option<bool>,
}

impl App {
    /// # Errors
    /// `SESSION_NOT_FOUND`, also for another tenant's.
    pub async fn get_session(&self, caller: &Caller, key: &SessionKey) -> Result<Session, Error> {
        self.0.store.get(caller, key).await?.ok_or_else(Error::session_not_found)
    }

    /// The session, unless somebody changed it since the caller read it at `revision`.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `REVISION_STALE`.
    pub(super) async fn get_at(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let session = self.get_session(caller, key).await?;
        match revision {
            Some(revision) if revision != session.revision => Err(stale_revision(session.revision)),
            Some(_) | None => Ok(session),
        }
    }

    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn list_sessions(
        &self,
        caller: &Caller,
        filter: SessionFilter,
        page: PageRequest,
    ) -> Result<Page<Session>, Error> {
        Ok(self.0.store.list(caller, &filter, &page).await?)
    }

    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn list_session_events(
        &self,
        caller: &Caller,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<Page<SessionEvent>, Error> {
        Ok(self.0.store.events(caller, &filter, &page).await?)
    }

    /// # Errors
    /// `SESSION_NOT_FOUND`, `FEATURE_DISABLED` for a mirror that is not configured, `ARGUMENT_INVALID` for labels beyond the limits, `API_KEY_UNKNOWN`, `REVISION_STALE` when
    /// somebody else changed the session first.
    pub async fn update_session(
        &self,
        caller: &Caller,
        key: &SessionKey,
        update: Update,
        expected_revision: Option<i64>,
    ) -> Result<Session, Error> {
        let mut session = self.get_at(caller, key, expected_revision).await?;
        let revision = session.revision;
        if let Some(labels) = update.labels {
            session.labels = labels;
        }
        if let Some(alias) = update.api_key_alias {
            self.api_key(Some(&alias))?;
            session.api_key_alias = Some(alias);
        }
        let mut event = NewEvent::of(Kind::Updated, &caller.subject);
        if let Some(mirrored) = update.mirrored {
            if mirrored {
                self.require_mirror()?;
            }
            session.mirrored = mirrored;
            event = event.detail("mirrored", mirrored);
        }
        session.update_time = caller.now;
        let change =
            Change { expected: Expected::Revision(revision), events: vec![event], ..Change::of(session) };
        Ok(self.commit(caller, change).await?)
    }
}

pub(super) fn stale_revision(current: i64) -> Error {
    Error::new(Reason::RevisionStale, "the session was changed meanwhile; read it again and repeat")
        .fact("revision", current)
}
