//! Taking what the legacy system did to a session meanwhile: its file is imported over what is there, because somebody
//! said so.

use super::{
    App,
    fingerprints::is_recorded,
    import::{DryRun, Import, ImportOutcome},
};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        material::Material,
        session::{Account, AuthorizedReason, Custody, Session, State},
    },
    store::{Change, LeaseRule, MaterialChange, NewLogOut},
    telemetry::metrics,
};

impl App {
    /// Puts the material in the place of what the session holds. The same authorization keeps what the service knows of
    /// it, and takes the file's fingerprint and its position in the stream of updates. Another one must be of the same
    /// account; the former is logged out if it was this service's.
    ///
    /// # Errors
    /// `ACCOUNT_MISMATCH`, `SESSION_LEASED`,
    /// `FEATURE_DISABLED` when custody is to be taken while the feature is off, `REVISION_STALE`.
    pub(super) async fn replace_material(
        &self,
        caller: &Caller,
        there: Session,
        import: &Import,
        material: Material,
    ) -> Result<(Session, ImportOutcome), Error> {
        if import.expected_revision.is_some_and(|revision| revision != there.revision) {
            return Err(super::sessions::stale_revision(there.revision));
        }
        check_account(&there, import, &material)?;
        let fingerprint = self.fingerprint_of(&material);
        let same = there.fingerprint == fingerprint;
        let mut session = there.clone();
        let mut events = Vec::new();
        if import.custody == Custody::Service && there.custody == Custody::Legacy {
            self.require_feature(caller).await?;
            session.custody = Custody::Service;
            events.push(NewEvent::of(Kind::CustodyTaken, &caller.subject));
        }
        let known = is_recorded(there.legacy_fingerprint.as_deref(), import.legacy_fingerprint.as_deref());
        if import.legacy_fingerprint.is_some() {
            session.legacy_fingerprint.clone_from(&import.legacy_fingerprint);
        }
        let stored = self.stored_material(caller, &there).await?;
        let newer = material.updates.is_some()
            && stored.as_ref().is_none_or(|(_, stored)| stored.updates != material.updates);
        if same && known && !newer && events.is_empty() {
            return Ok((there, ImportOutcome::AlreadyThere));
        }
        if import.dry_run == DryRun::Yes {
            session.fingerprint = fingerprint;
            return Ok((session, ImportOutcome::Replaced));
        }
        let mut log_out = None;
        let merged = match stored {
            Some((_, mut stored)) if same => {
                stored.updates = material.updates;
                stored
            }
            Some((noted, former)) => {
                // What the legacy system owned is the legacy system's to end.
                log_out = (there.custody == Custody::Service).then_some((noted, former));
                material
            }
            None => material,
        };
        if !same {
            session.state = State::Authorized { reason: AuthorizedReason::Imported };
            session.last_validated_time = None;
            if !known {
                metrics::fingerprint_differed();
                events.push(
                    NewEvent::of(Kind::FingerprintMismatch, &caller.subject)
                        .detail("differs", "authorization"),
                );
            }
        }
        if let Some(telegram_user_id) = merged.telegram_user_id {
            let former = session.account.take();
            let is_bot = merged.is_bot.or(former.as_ref().map(|account| account.is_bot)).unwrap_or_default();
            let username = former.and_then(|account| account.username);
            session.account = Some(Account { telegram_user_id, username, is_bot });
        }
        let replaced = if same && !newer { MaterialChange::Keep } else { self.seal(&mut session, &merged)? };
        let which = if same { "same" } else { "other" };
        events.insert(
            0,
            NewEvent::of(Kind::MaterialReplaced, &caller.subject)
                .detail("authorization", which)
                .detail("reason", "imported"),
        );
        session.update_time = caller.now;
        let change = Change {
            material: replaced,
            lease: LeaseRule::NoneLive,
            log_out: log_out.as_ref().map(|(noted, _)| noted.clone()),
            events,
            ..Change::of(session)
        };
        let session = self.commit(caller, change).await?;
        if let Some((noted, former)) = log_out {
            // Nobody waits for it, and what fails is noted.
            let (app, session) = (self.clone(), session.clone());
            self.0.tasks.spawn(async move { app.end_noted(&session, noted.id, &former).await });
        }
        Ok((session, ImportOutcome::Replaced))
    }

    /// What the session holds, sealed for a log-out to come, and open. `None` if it cannot be opened any more: then it
    /// cannot be ended either.
    async fn stored_material(
        &self,
        caller: &Caller,
        session: &Session,
    ) -> Result<Option<(NewLogOut, Material)>, Error> {
        let Some(sealed) = self.0.store.material(caller, &session.key).await? else { return Ok(None) };
        if sealed.version != session.material_version {
            return Err(super::sessions::stale_revision(session.revision));
        }
        match self.0.vault.unseal(&session.key, &session.environment, &sealed) {
            Ok(material) => Ok(Some((NewLogOut { id: uuid::Uuid::new_v4(), sealed }, material))),
            Err(error) => {
                tracing::warn!(session.id = %session.key, error = %error, "The former authorization is left to its owner");
                Ok(None)
            }
        }
    }
}

fn check_account(there: &Session, import: &Import, material: &Material) -> Result<(), Error> {
    let known = there.account.as_ref().map(|account| account.telegram_user_id);
    match (import.expected_user.or(known), material.telegram_user_id) {
        (Some(pinned), Some(imported)) if pinned != imported => Err(Error::new(
            Reason::AccountMismatch,
            "the session belongs to another account than this name's",
        )),
        _ => Ok(()),
    }
}
