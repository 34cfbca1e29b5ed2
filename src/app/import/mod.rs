//! Taking in sessions that another system made: as copies, or by logging in anew with their help.

mod minting;
mod probing;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{App, export::may_live, fingerprints::is_recorded, sessions::stale_revision};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        fingerprint::Fingerprint,
        id::SessionKey,
        material::{Device, Format, Material},
        secret::Secret,
        session::{Account, AuthorizedReason, Custody, Event, LogOut, Session, State},
    },
    formats::{self, Note},
    store::{self, Change, Expected, LeaseRule, Looked, NewLogOut},
    telemetry::metrics::{self, Outcome},
};

/// The longest session that is taken in by one call, in bytes.
pub const DATA_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// How often an import looks again at a name that somebody else took meanwhile.
const LOOKS_MAX: u32 = 3;

/// Whether an import writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    Yes,
    No,
}

/// Whether an import may take the place of another authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    Yes,
    No,
}

/// What is made of the given session.
#[derive(Clone, Debug)]
pub enum Way {
    /// Its key is kept.
    Copy,
    /// The same, after Telegram said that it lives. Nobody else may be connected with it.
    Validated,
    /// A new authorization of the account, which it accepts; it goes on living where it is.
    Minted { password: Option<Secret> },
}

/// A session to take in.
pub struct Import {
    pub key: SessionKey,
    /// `None` finds out.
    pub format: Option<Format>,
    pub data: Zeroizing<Vec<u8>>,
    /// Of a source that is locked, such as tdata.
    pub passcode: Option<Secret>,
    /// Which account of a source that holds several; `None` takes the only or the first one.
    pub account: Option<usize>,
    pub custody: Custody,
    pub way: Way,
    pub replace: Replace,
    pub dry_run: DryRun,
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
    /// Other material gave way, as asked.
    Replaced,
    /// A dry run found another authorization under the name.
    Differs,
    Minted,
}

/// The answer to an import.
#[derive(Debug)]
pub struct Imported {
    /// As it is now, or would be after a dry run.
    pub session: Session,
    pub outcome: ImportOutcome,
    pub format: Format,
    /// What was odd about the source, or is not carried over.
    pub notes: Vec<Note>,
    /// What else is worth knowing, for people.
    pub warnings: Vec<String>,
}

/// What was given, read.
struct Source {
    material: Material,
    format: Format,
    notes: Vec<Note>,
}

impl Source {
    fn into_answer(self, session: Session, outcome: ImportOutcome) -> Imported {
        Imported { session, outcome, format: self.format, notes: self.notes, warnings: Vec::new() }
    }
}

/// What is there under the name.
enum Standing {
    /// What was given, already.
    There(Session),
    /// Another authorization, which stays.
    Differs(Session),
    /// Another authorization, which gives way.
    Occupied(Session),
    /// Nothing that works, or nothing at all.
    Free(Option<Session>),
}

impl App {
    /// Takes a session in, or tells why not. Repeated, it changes nothing twice.
    ///
    /// # Errors
    /// `MATERIAL_INVALID`, `MATERIAL_TOO_LARGE`, `FORMAT_UNSUPPORTED`, `SESSION_ALREADY_EXISTS` when the name holds
    /// another authorization, `SESSION_WRONG_STATE` while a login runs, `ACCOUNT_MISMATCH`, `TELEGRAM_UNAVAILABLE` while
    /// the name's former authorization waits to be logged out; where Telegram is asked, those of a look or a login.
    pub async fn import_session(&self, caller: &Caller, import: Import) -> Result<Imported, Error> {
        if import.data.len() > DATA_LENGTH_MAX {
            return Err(Error::new(Reason::MaterialTooLarge, "the session is longer than 16 MiB"));
        }
        let parsed = self.parse(&import).await?;
        metrics::material_read(parsed.format, Outcome::Ok);
        let mut source = Source { material: parsed.material, format: parsed.format, notes: parsed.notes };
        source.material.check()?;
        self.adopt_api_key(&mut source.material, &import)?;
        match &import.way {
            Way::Copy => self.copy(caller, import, source).await,
            // What must not stop halfway when its caller hangs up: a connection with the key is open meanwhile.
            Way::Validated => {
                let (app, caller) = (self.clone(), caller.clone());
                self.finish(Box::pin(async move { app.copy(&caller, import, source).await })).await
            }
            Way::Minted { password } => {
                let (app, caller, password) = (self.clone(), caller.clone(), password.clone());
                self.finish(Box::pin(async move { app.mint(&caller, import, source, password).await })).await
            }
        }
    }

    async fn parse(&self, import: &Import) -> Result<formats::Parsed, formats::Error> {
        let addresses = self.0.telegram.addresses();
        let mut options = formats::Options { passcode: import.passcode.clone(), account: import.account };
        match formats::parse_with(&import.data, import.format, addresses, &options).await {
            Err(formats::Error::SeveralAccounts(_)) if options.account.is_none() => {
                options.account = Some(0);
                formats::parse_with(&import.data, import.format, addresses, &options).await
            }
            parsed => parsed,
        }
    }

    async fn copy(&self, caller: &Caller, import: Import, mut source: Source) -> Result<Imported, Error> {
        let fingerprint = self.fingerprint_of(&source.material);
        let mut probed = None;
        let mut looks = 0;
        let mut guess = self.guess(&import);
        loop {
            let looked = match guess.take() {
                Some(guess) => guess,
                None => self.look_up(caller, &import, fingerprint.clone()).await?,
            };
            let same = looked.session.as_ref().is_some_and(|there| there.fingerprint == fingerprint);
            if let (Way::Copy, Replace::Yes, Some(there)) = (&import.way, import.replace, &looked.session)
                && may_live(&there.state)
            {
                if !same {
                    refuse_second_name(caller, &looked)?;
                }
                let replacing =
                    self.replace_material(caller, there.clone(), &import, source.material.clone());
                let (session, outcome) = Box::pin(replacing).await?;
                return Ok(source.into_answer(session, outcome));
            }
            let (stored, outcome) = match standing(looked.session.clone(), &import, same) {
                Standing::There(session) => {
                    return Ok(source.into_answer(session, ImportOutcome::AlreadyThere));
                }
                Standing::Differs(session) => {
                    let session = self.differing(caller, session, &import).await?;
                    return Ok(source.into_answer(session, ImportOutcome::Differs));
                }
                Standing::Occupied(session) => (Some(session), ImportOutcome::Replaced),
                Standing::Free(session) => (session, ImportOutcome::Imported),
            };
            refuse_second_name(caller, &looked)?;
            // What would be refused anyway is not worth a look at Telegram.
            let replaced = outcome == ImportOutcome::Replaced;
            let filling = Filling { event: Event::Imported, replaced, custody: import.custody };
            let (mut session, expected, event) =
                self.filled(caller, stored.clone(), &import, &source.material, filling)?;
            if matches!(import.way, Way::Validated) {
                let proof = match probed.take() {
                    Some(proof) => proof,
                    None => self.probe_first(caller, &import, &source.material, fingerprint.as_ref()).await?,
                };
                require_account(&session, &import, proof.telegram_user_id)?;
                source.material.telegram_user_id = Some(proof.telegram_user_id);
                source.material.is_bot = Some(proof.is_bot);
                session.account = Some(proof.clone());
                session.last_validated_time = Some(caller.now);
                probed = Some(proof);
            }
            if import.dry_run == DryRun::Yes {
                return Ok(source.into_answer(session, outcome));
            }
            // An authorization of our own that nobody holds any more must not live on.
            let old = match &stored {
                Some(stored) if replaced && stored.fingerprint != fingerprint => {
                    self.own_material(caller, stored).await?
                }
                Some(_) | None => None,
            };
            let sealed = self.seal(&mut session, &source.material)?;
            let change = Change {
                expected,
                material: sealed,
                lease: LeaseRule::NoneLive,
                log_out: old.as_ref().map(|(noted, _)| noted.clone()),
                events: vec![event.detail("format", source.format.name())],
                ..Change::of(session)
            };
            match self.take_in(caller, change).await {
                // Somebody was faster: perhaps an earlier attempt of the same caller, whose answer was lost.
                Err(store::Error::AlreadyExists) if looks < LOOKS_MAX => looks += 1,
                Err(error) => return Err(error.into()),
                Ok(session) => {
                    self.end_former(&session, old).await;
                    return Ok(source.into_answer(session, outcome));
                }
            }
        }
    }

    /// Another authorization under the name, which stays: told after a dry run unless the file changed besides, refused
    /// otherwise.
    async fn differing(&self, caller: &Caller, there: Session, import: &Import) -> Result<Session, Error> {
        let found = import.legacy_fingerprint.as_deref();
        if import.dry_run == DryRun::Yes && is_recorded(there.legacy_fingerprint.as_deref(), found) {
            return Ok(there);
        }
        Err(self.refuse_other(caller, &there, found, import.dry_run).await)
    }

    async fn end_former(&self, session: &Session, old: Option<(NewLogOut, Material)>) {
        if let Some((noted, old)) = old {
            self.end_noted(session, noted.id, &old).await;
        }
    }

    /// Of a copy that is probably new nothing needs to be known: what is there already is found out when it is written.
    fn guess(&self, import: &Import) -> Option<Looked> {
        let plain = matches!(import.way, Way::Copy)
            && import.replace == Replace::No
            && import.dry_run == DryRun::No
            && import.expected_revision.is_none();
        (plain && self.0.store.expects_new()).then_some(Looked::NOTHING)
    }

    /// What is known of the name and the authorization. A name whose former authorization could not be logged out yet
    /// is asked to be rid of it first: what is overwritten could never be logged out.
    async fn look_up(
        &self,
        caller: &Caller,
        import: &Import,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Looked, Error> {
        let looked = self.0.store.look_up(caller, &import.key, fingerprint.clone()).await?;
        if import.dry_run == DryRun::Yes || !looked.session.as_ref().is_some_and(awaits_log_out) {
            return Ok(looked);
        }
        Box::pin(self.log_out_pending(caller, &import.key)).await?;
        Ok(self.0.store.look_up(caller, &import.key, fingerprint).await?)
    }

    /// Writes what is new together with others, and counts the moves it makes.
    async fn take_in(&self, caller: &Caller, change: Change) -> Result<Session, store::Error> {
        let moves: Vec<_> = change.events.iter().filter_map(|event| event.transition).collect();
        let session = self.0.store.take_in(caller, change).await?;
        moves.iter().for_each(metrics::session_moved);
        if session.lease.is_none() {
            self.0.wakes.freed(&session.key);
        }
        Ok(session)
    }

    /// The session as the import will leave it.
    fn filled(
        &self,
        caller: &Caller,
        stored: Option<Session>,
        import: &Import,
        material: &Material,
        filling: Filling,
    ) -> Result<(Session, Expected, NewEvent), Error> {
        let Filling { event, replaced, custody } = filling;
        let (mut session, expected) = match stored {
            Some(session) => {
                let revision = session.revision;
                (session, Expected::Revision(revision))
            }
            None => {
                let environment = self.0.settings.environment.clone();
                (Session::new(import.key.clone(), custody, environment, caller.now), Expected::New)
            }
        };
        if import.expected_revision.is_some_and(|revision| revision != session.revision) {
            return Err(stale_revision(session.revision));
        }
        if let Some(imported) = material.telegram_user_id {
            require_account(&session, import, imported)?;
        }
        if let State::Revoked { log_out: LogOut::Pending, .. } = session.state {
            return Err(Error::new(
                Reason::SessionWrongState,
                "the former authorization is still to be logged out, which needs its key; try again later",
            )
            .fact("state", session.state.name().as_str())
            .fact("log_out", LogOut::Pending.name()));
        }
        let told = if replaced {
            let reason = match event {
                Event::Minted => AuthorizedReason::Minted,
                _ => AuthorizedReason::Imported,
            };
            session.state = State::Authorized { reason };
            session.update_time = caller.now;
            NewEvent::of(Kind::MaterialReplaced, &caller.subject).detail("reason", reason.name())
        } else {
            NewEvent::transition(session.apply(event, caller.now)?, &caller.subject)
        };
        session.custody = if self.is_enabled() { custody } else { Custody::Legacy };
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
        Ok((session, expected, told))
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

/// How a session gets its material.
#[derive(Clone, Copy)]
struct Filling {
    event: Event,
    /// Beside the life cycle, because other material gives way.
    replaced: bool,
    custody: Custody,
}

/// What the name means for the import; `same`: it holds what was given.
fn standing(stored: Option<Session>, import: &Import, same: bool) -> Standing {
    let Some(there) = stored else { return Standing::Free(None) };
    let usable = there.state.is_usable();
    if usable && same {
        return Standing::There(there);
    }
    let gives_way = usable || matches!(there.state, State::Stale { .. });
    match import.replace {
        Replace::Yes if gives_way => Standing::Occupied(there),
        Replace::No if usable => Standing::Differs(there),
        Replace::Yes | Replace::No => Standing::Free(Some(there)),
    }
}

/// One authorization has one name: under two it would be lent twice at once, which ends it. The other name is told to
/// those who may know it. The store refuses the same again when it writes.
fn refuse_second_name(caller: &Caller, looked: &Looked) -> Result<(), Error> {
    let Some(holder) = &looked.elsewhere else { return Ok(()) };
    let refusal = Error::new(
        Reason::SessionAlreadyExists,
        "this authorization is held under another name already; one authorization has one name",
    )
    .fact("conflict", "authorization");
    Err(if caller.sees(&holder.tenant) { refusal.fact("session", holder) } else { refusal })
}

/// # Errors
/// `ACCOUNT_MISMATCH` unless the account is the one that was asked for, or the one known.
fn require_account(session: &Session, import: &Import, found: i64) -> Result<(), Error> {
    let known = session.account.as_ref().map(|account| account.telegram_user_id);
    match import.expected_user.or(known) {
        Some(pinned) if pinned != found => Err(Error::new(
            Reason::AccountMismatch,
            "the session belongs to another account than this name's",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Revoked while Telegram was away: the material is kept for the log-out that is still to come.
fn awaits_log_out(session: &Session) -> bool {
    matches!(session.state, State::Revoked { log_out: LogOut::Pending, .. })
}
