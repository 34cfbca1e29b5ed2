//! Taking in sessions that another system made.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{App, export::may_live, sessions::stale_revision};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::NewEvent,
        fingerprint::Fingerprint,
        id::SessionKey,
        material::{Device, Format, Material},
        page::PageRequest,
        session::{Account, Custody, Event, LogOut, Session, State},
    },
    formats,
    store::{Change, Expected, LeaseRule, SessionFilter},
    telemetry::metrics::{self, Outcome},
};

/// The longest session that is taken in by one call, in bytes.
pub const DATA_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// Whether an import writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    Yes,
    No,
}

/// Whether an import may put its material in the place of other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    Yes,
    No,
}

/// A session to take in.
pub struct Import {
    pub key: SessionKey,
    /// `None` finds out.
    pub format: Option<Format>,
    pub data: Zeroizing<Vec<u8>>,
    pub custody: Custody,
    pub dry_run: DryRun,
    /// Whether other material under the name gives way.
    pub replace: Replace,
    pub api_key_alias: Option<String>,
    pub device: Option<Device>,
    pub labels: BTreeMap<String, String>,
    pub legacy_fingerprint: Option<String>,
    /// Only this account's session is taken in.
    pub expected_user: Option<i64>,
    pub expected_revision: Option<i64>,
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").field("key", &self.key).field("format", &self.format).finish_non_exhaustive()
    }
}

/// What an import did, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    Imported,
    /// The same authorization is there under this name already; nothing changed.
    AlreadyThere,
    /// A dry run found nothing against it.
    WouldImport,
    /// What was there gave way, or would after a dry run.
    Replaced,
}

/// The answer to an import.
#[derive(Debug)]
pub struct Imported {
    pub session: Session,
    pub outcome: ImportOutcome,
    pub format: Format,
    /// What could not be carried over, in words.
    pub warnings: Vec<String>,
}

impl App {
    /// Takes a session in, or tells why not. Repeated, it changes nothing twice.
    ///
    /// # Errors
    /// `MATERIAL_INVALID`, `MATERIAL_TOO_LARGE`, `FORMAT_UNSUPPORTED`, `SESSION_ALREADY_EXISTS` when the name holds
    /// another authorization, `FINGERPRINT_MISMATCH` if its file changed besides, `SESSION_WRONG_STATE` while a login runs, `ACCOUNT_MISMATCH`, `TELEGRAM_UNAVAILABLE` while
    /// the name's former authorization waits to be logged out.
    pub async fn import_session(&self, caller: &Caller, import: Import) -> Result<Imported, Error> {
        if import.data.len() > DATA_LENGTH_MAX {
            return Err(Error::new(Reason::MaterialTooLarge, "the session is longer than 16 MiB"));
        }
        let parsed = formats::parse(&import.data, import.format, self.0.telegram.addresses()).await?;
        metrics::material_read(parsed.format, Outcome::Ok);
        let mut material = parsed.material;
        material.check()?;
        self.adopt_api_key(&mut material, &import)?;
        let warnings = parsed.notes.iter().map(ToString::to_string).collect();
        let mut stored = self.0.store.get(caller, &import.key).await?;
        if import.dry_run == DryRun::No && stored.as_ref().is_some_and(awaits_log_out) {
            // What is overwritten could never be logged out.
            self.log_out_pending(caller, &import.key).await?;
            stored = self.0.store.get(caller, &import.key).await?;
        }
        let fingerprint = self.fingerprint_of(&material);
        if let (Replace::Yes, Some(there)) =
            (import.replace, stored.as_ref().filter(|there| may_live(&there.state)))
        {
            let (session, outcome) = self.replace_material(caller, there.clone(), &import, material).await?;
            return Ok(Imported { session, outcome, format: parsed.format, warnings });
        }
        if let Some(there) = stored.as_ref().filter(|session| session.state.is_usable()) {
            if there.fingerprint == fingerprint {
                let session = there.clone();
                return Ok(Imported {
                    session,
                    outcome: ImportOutcome::AlreadyThere,
                    format: parsed.format,
                    warnings,
                });
            }
            return Err(self.refuse_other(caller, there, import.legacy_fingerprint.as_deref()).await);
        }
        self.refuse_second_name(caller, &import.key, fingerprint).await?;
        let (mut session, expected, event) = self.filled(caller, stored, &import, &material)?;
        if import.dry_run == DryRun::Yes {
            return Ok(Imported {
                session,
                outcome: ImportOutcome::WouldImport,
                format: parsed.format,
                warnings,
            });
        }
        let sealed = self.seal(&mut session, &material)?;
        let change = Change {
            expected,
            material: sealed,
            lease: LeaseRule::NoneLive,
            events: vec![event.detail("format", parsed.format.name())],
            ..Change::of(session)
        };
        let session = self.commit(caller, change).await?;
        Ok(Imported { session, outcome: ImportOutcome::Imported, format: parsed.format, warnings })
    }

    /// One authorization has one name: under two it would be lent twice at once, which ends it. Looks at all tenants,
    /// and tells nothing of the other name. The store refuses the same again when it writes.
    pub(super) async fn refuse_second_name(
        &self,
        caller: &Caller,
        key: &SessionKey,
        fingerprint: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let service = Caller::as_service(&caller.subject, caller.now, caller.deadline);
        let filter = SessionFilter { fingerprint, ..SessionFilter::default() };
        let page = PageRequest { size: 2, after: None };
        let holders = self.0.store.list(&service, &filter, &page).await?;
        if holders.items.iter().all(|holder| holder.key == *key) {
            return Ok(());
        }
        Err(Error::new(
            Reason::SessionAlreadyExists,
            "this authorization is held under another name already; one authorization has one name",
        ))
    }

    /// The session as the import will leave it.
    fn filled(
        &self,
        caller: &Caller,
        stored: Option<Session>,
        import: &Import,
        material: &Material,
    ) -> Result<(Session, Expected, NewEvent), Error> {
        let (mut session, expected) = match stored {
            Some(session) => {
                let revision = session.revision;
                (session, Expected::Revision(revision))
            }
            None => {
                let environment = self.0.settings.environment.clone();
                (Session::new(import.key.clone(), import.custody, environment, caller.now), Expected::New)
            }
        };
        if import.expected_revision.is_some_and(|revision| revision != session.revision) {
            return Err(stale_revision(session.revision));
        }
        let known = session.account.as_ref().map(|account| account.telegram_user_id);
        let pinned = import.expected_user.or(known);
        if let (Some(pinned), Some(imported)) = (pinned, material.telegram_user_id)
            && pinned != imported
        {
            return Err(Error::new(
                Reason::AccountMismatch,
                "the session belongs to another account than this name's",
            ));
        }
        if let State::Revoked { log_out: LogOut::Pending, .. } = session.state {
            return Err(Error::new(
                Reason::SessionWrongState,
                "the former authorization is still to be logged out, which needs its key; try again later",
            )
            .fact("state", session.state.name().as_str())
            .fact("log_out", LogOut::Pending.name()));
        }
        let moved = session.apply(Event::Imported, caller.now)?;
        session.custody = if self.is_enabled() { import.custody } else { Custody::Legacy };
        session.api_key_alias.clone_from(&import.api_key_alias);
        session.legacy_fingerprint.clone_from(&import.legacy_fingerprint);
        session.last_validated_time = None;
        session.forget_login();
        session.labels.extend(import.labels.clone());
        if let Some(telegram_user_id) = material.telegram_user_id {
            let username = session.account.take().and_then(|account| account.username);
            session.account =
                Some(Account { telegram_user_id, username, is_bot: material.is_bot.unwrap_or_default() });
        }
        Ok((session, expected, NewEvent::transition(moved, &caller.subject)))
    }

    fn adopt_api_key(&self, material: &mut Material, import: &Import) -> Result<(), Error> {
        if let Some(alias) = &import.api_key_alias {
            material.api_id = self.api_key(Some(alias))?.1.api_id;
        } else if material.api_id == 0 {
            material.api_id = self.api_key(None)?.1.api_id;
        }
        if let Some(device) = &import.device {
            material.device = device.clone();
        }
        Ok(())
    }
}

/// Revoked while Telegram was away: the material is kept for the log-out that is still to come.
fn awaits_log_out(session: &Session) -> bool {
    matches!(session.state, State::Revoked { log_out: LogOut::Pending, .. })
}
