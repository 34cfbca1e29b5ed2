//! A new authorization of an account, which a legacy session accepts: a migration without copied keys.
//!
//! Our own login token, exported on a fresh connection, is accepted with the legacy key by a short visit; the legacy
//! authorization goes on living. Two connections with one key at the same time end it, so whoever asks must say that
//! the legacy system is not connected meanwhile.
//!
//! Before a token is accepted, the new key is noted as one to be logged out. The commit that keeps the session strikes
//! the note in the same transaction. So whatever dies in between, no authorization stays that nobody knows: it is logged
//! out at once where possible, else by housekeeping.

use std::time::{Duration, Instant};

use super::{DryRun, Filling, Import, ImportOutcome, Imported, Source, Standing, require_account, standing};
use crate::{
    app::{App, as_service, now, validation::CALL_LIMIT},
    domain::{
        budget::{Budget, Paused, Scope},
        caller::Caller,
        error::{Error, Reason},
        fingerprint::Fingerprint,
        id::SessionKey,
        login::Method,
        material::Material,
        secret::Secret,
        session::{Custody, Event, Session},
    },
    store::{Change, LeaseRule, Looked, NewLogOut},
    telegram::{
        self,
        sign_in::{Authorized, PasswordOutcome, SignIn, Step, Way},
    },
    telemetry::metrics::{self, LoginResult},
};

/// How long all conversations with Telegram may take.
const MINT_LIMIT: Duration = Duration::from_secs(25);
/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// When a key is logged out whose import never came back: after [`MINT_LIMIT`] and the write.
const UNHEARD_AFTER: Duration = Duration::from_secs(35);
/// How long one legacy authorization is nobody else's to connect with: longer than the one visit may take.
const VISIT_SPAN: Duration = Duration::from_secs(12);
/// How soon a log-out that Telegram did not hear is repeated.
const LOG_OUT_AGAIN: Duration = Duration::from_secs(5);

/// The detail of an event that names the authorization which accepted the new one.
pub(super) const MINTED_FROM: &str = "minted_from";

/// What is known of the token's acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    No,
    /// The answer was lost.
    Perhaps,
    Yes,
}

/// A new authorization in the making.
struct Mint<'a> {
    app: &'a App,
    key: &'a SessionKey,
    legacy: &'a Material,
    fingerprint: Option<&'a Fingerprint>,
    accepted: Accepted,
    /// Keys that may become authorizations, as they are noted.
    noted: Vec<(uuid::Uuid, Material)>,
    deadline: Instant,
}

impl App {
    pub(super) async fn mint(
        &self,
        caller: &Caller,
        import: Import,
        source: Source,
        password: Option<Secret>,
    ) -> Result<Imported, Error> {
        let fingerprint = self.fingerprint_of(&source.material);
        let looked = self.look_up(caller, &import, fingerprint.clone()).await?;
        let same = self.is_minted_from(caller, &looked, fingerprint.as_ref()).await?;
        let warnings = known_already(caller, &looked, fingerprint.as_ref());
        let (stored, replaced) = match standing(looked.session, &import, same) {
            Standing::There(session) => {
                return Ok(source.into_answer(session, ImportOutcome::AlreadyThere));
            }
            Standing::Differs(session) => {
                let session = self.differing(caller, session, &import).await?;
                return Ok(source.into_answer(session, ImportOutcome::Differs));
            }
            Standing::Occupied(session) => (Some(session), true),
            Standing::Free(session) => (session, false),
        };
        let filling = Filling { event: Event::Minted, replaced, custody: Custody::Service };
        // What would be refused anyway is not worth a login.
        let (session, ..) = self.filled(caller, stored.clone(), &import, &source.material, filling)?;
        if import.dry_run == DryRun::Yes {
            return Ok(Imported { warnings, ..source.into_answer(session, ImportOutcome::Minted) });
        }
        self.0.running.require_room()?;
        let begun = Instant::now();
        let minted = self.log_in_anew(&import, &source.material, fingerprint.as_ref(), password).await;
        let result = if minted.is_ok() { LoginResult::Authorized } else { LoginResult::Failed };
        metrics::login_ended(Method::Qr, result, begun.elapsed());
        let (authorized, noted) = minted?;
        let kept = self
            .keep_minted(caller, &import, stored, filling, (&authorized, &noted), fingerprint.as_ref())
            .await;
        match kept {
            Ok(session) => Ok(Imported { warnings, ..source.into_answer(session, ImportOutcome::Minted) }),
            // Whether it was written decides about the note too: there is no row, or no log-out to come.
            Err(error) if matches!(error.reason, Reason::StoreUnavailable | Reason::DeadlineExceeded) => {
                Err(error)
            }
            Err(error) => {
                self.end_minted(&import.key, noted).await;
                Err(error)
            }
        }
    }

    /// Whether the session holds what an earlier mint made of the same legacy authorization.
    async fn is_minted_from(
        &self,
        caller: &Caller,
        looked: &Looked,
        legacy: Option<&Fingerprint>,
    ) -> Result<bool, Error> {
        let (Some(session), Some(legacy)) = (&looked.session, legacy) else { return Ok(false) };
        if !session.state.is_usable() {
            return Ok(false);
        }
        let from = self.0.store.last_detail(caller, &session.key, MINTED_FROM).await?;
        Ok(from.as_deref() == Some(legacy.as_str()))
    }

    async fn keep_minted(
        &self,
        caller: &Caller,
        import: &Import,
        stored: Option<Session>,
        filling: Filling,
        (authorized, noted): (&Authorized, &[(uuid::Uuid, Material)]),
        legacy: Option<&Fingerprint>,
    ) -> Result<Session, Error> {
        let caller = Caller { deadline: Instant::now() + WRITE_LIMIT, ..caller.clone() };
        let old = match &stored {
            Some(stored) if filling.replaced && stored.fingerprint.as_ref() != legacy => {
                self.own_material(&caller, stored).await?
            }
            Some(_) | None => None,
        };
        let (mut session, expected, event) =
            self.filled(&caller, stored, import, &authorized.material, filling)?;
        require_account(&session, import, authorized.account.telegram_user_id)?;
        session.account = Some(authorized.account.clone());
        let future_auth_tokens = self.with_token(&session, authorized.future_auth_token.clone()).await;
        let material = self.seal(&mut session, &authorized.material)?;
        let from = legacy.map(Fingerprint::as_str).unwrap_or_default();
        let change = Change {
            expected,
            material,
            lease: LeaseRule::NoneLive,
            log_out: old.as_ref().map(|(noted, _)| noted.clone()),
            done_log_outs: noted.iter().map(|(id, _)| *id).collect(),
            future_auth_tokens,
            events: vec![event.detail(MINTED_FROM, from)],
            ..Change::of(session)
        };
        let session = self.take_in(&caller, change).await?;
        self.end_former(&session, old).await;
        Ok(session)
    }

    /// Logs in with the legacy session's help, within the budgets of logins.
    async fn log_in_anew(
        &self,
        import: &Import,
        legacy: &Material,
        fingerprint: Option<&Fingerprint>,
        password: Option<Secret>,
    ) -> Result<(Box<Authorized>, Vec<(uuid::Uuid, Material)>), Error> {
        let api_key = self.api_key(import.api_key_alias.as_deref())?.1.clone();
        let limits = &self.0.settings.login_limits;
        let paused = Paused::Api(api_key.api_id, Method::Qr);
        let budgets = [
            Budget { scope: Scope::Tenant(import.key.tenant.clone()), limit: limits.tenant },
            Budget { scope: Scope::Api(api_key.api_id), limit: limits.api_id },
        ];
        self.0.tickets.spend(std::slice::from_ref(&paused), &budgets).await?.require()?;
        let deadline = Instant::now() + MINT_LIMIT;
        let mut mint = Mint {
            app: self,
            key: &import.key,
            legacy,
            fingerprint,
            accepted: Accepted::No,
            noted: Vec::new(),
            deadline,
        };
        let device = import.device.clone().unwrap_or_default();
        let begun = Box::pin(self.0.telegram.sign_in_at(legacy.home_dc, Way::Qr, api_key, device, deadline));
        let done = match begun.await {
            Ok(mut attempt) => {
                let done = Box::pin(mint.run(&mut attempt, password)).await;
                attempt.close().await;
                done
            }
            Err(error) => Err(error.into()),
        };
        if let Err(Error { reason: Reason::TelegramFloodWait, retry_after: Some(span), .. }) = &done {
            metrics::flood_wait(*span);
            if let Err(error) = self.0.tickets.pause(&paused, *span).await {
                tracing::warn!(error = %error, "A pause that Telegram asked for is not noted");
            }
        }
        match done {
            Ok(authorized) => Ok((authorized, mint.noted)),
            Err(error) => {
                mint.give_up().await;
                Err(error)
            }
        }
    }

    /// Ends authorizations that nobody keeps; what Telegram does not hear is repeated by housekeeping.
    async fn end_minted(&self, key: &SessionKey, noted: Vec<(uuid::Uuid, Material)>) {
        for (id, material) in noted {
            match self.0.telegram.log_out(&material, Instant::now() + CALL_LIMIT).await {
                Ok(token) => self.ended(key, id, token).await,
                Err(error) => {
                    tracing::warn!(session.id = %key, error = %error, "An unwanted authorization is logged out later");
                    let caller = as_service("usm:import", WRITE_LIMIT);
                    let put_off = self.0.store.put_off_log_out(&caller, id, 1, now() + LOG_OUT_AGAIN);
                    if let Err(error) = put_off.await {
                        tracing::debug!(session.id = %key, error = %error, "It stays due as it was noted");
                    }
                }
            }
        }
    }
}

impl Mint<'_> {
    async fn run(
        &mut self,
        attempt: &mut SignIn,
        password: Option<Secret>,
    ) -> Result<Box<Authorized>, Error> {
        loop {
            match attempt.next(self.deadline).await? {
                Step::Token { url, .. } if self.accepted == Accepted::No => {
                    self.note(attempt).await?;
                    self.accept(&url).await?;
                }
                // Drawn anew although it was accepted, or may have been: it was not after all.
                Step::Token { .. } => return Err(unheard()),
                // The key of that data centre is new, and used next.
                Step::Migrated { .. } => self.note(attempt).await?,
                Step::PasswordNeeded { .. } => {
                    let Some(password) = &password else {
                        return Err(Error::new(
                            Reason::PasswordRequired,
                            "the account has a two-step password; give it with the request",
                        ));
                    };
                    match attempt.password(password, self.deadline).await? {
                        PasswordOutcome::Authorized(authorized) => return Ok(authorized),
                        PasswordOutcome::Wrong => {
                            return Err(Error::new(
                                Reason::PasswordInvalid,
                                "the two-step password is wrong; nothing was kept",
                            ));
                        }
                        PasswordOutcome::NotAsked => {}
                    }
                }
                Step::Authorized(authorized) => return Ok(authorized),
                Step::CodeSent(_) | Step::Nothing => return Err(unheard()),
            }
        }
    }

    /// Notes the attempt's key before anybody can accept it.
    async fn note(&mut self, attempt: &SignIn) -> Result<(), Error> {
        let Some(material) = attempt.unproven() else { return Err(unheard()) };
        let environment = &self.app.0.settings.environment;
        // Version 0 is no session's: what is sealed so opens as nobody's material.
        let sealed = self.app.0.vault.seal(self.key, environment, 0, &material)?;
        let id = uuid::Uuid::new_v4();
        let caller = as_service("usm:import", WRITE_LIMIT);
        let noted = [NewLogOut { id, sealed }];
        self.app
            .0
            .store
            .expect_log_outs(&caller, self.key, environment, &noted, now() + UNHEARD_AFTER)
            .await?;
        self.noted.push((id, material));
        Ok(())
    }

    /// Accepts the token as the legacy session, by a connection that is closed again when this returns.
    async fn accept(&mut self, url: &Secret) -> Result<(), Error> {
        self.app.connect_alone(self.fingerprint, VISIT_SPAN).await?;
        let telegram = &self.app.0.telegram;
        match Box::pin(telegram.accept_login_token(self.legacy, url, self.deadline)).await {
            Ok(()) => self.accepted = Accepted::Yes,
            // The login itself tells.
            Err(error) if error.is_transient() => self.accepted = Accepted::Perhaps,
            Err(telegram::Error::Lost(loss)) => {
                tracing::error!(session.id = %self.key, ?loss, "A legacy session ended when it was to accept a login");
                return Err(telegram::Error::Lost(loss).into());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn give_up(self) {
        match self.accepted {
            // The token went nowhere else, so nobody can accept it any more.
            Accepted::No => {
                let caller = as_service("usm:import", WRITE_LIMIT);
                for (id, _) in self.noted {
                    if let Err(error) = self.app.0.store.forget_log_out(&caller, id).await {
                        tracing::debug!(session.id = %self.key, error = %error, "A key of nobody's is logged out in vain");
                    }
                }
            }
            // It may be accepted still; what is noted is due once that cannot be.
            Accepted::Perhaps => {}
            Accepted::Yes => self.app.end_minted(self.key, self.noted).await,
        }
    }
}

fn unheard() -> Error {
    Error::new(
        Reason::TelegramUnavailable,
        "Telegram did not finish the new login in time; nothing is left of it, try again",
    )
}

/// What else holds the legacy authorization, as far as the caller may know.
fn known_already(caller: &Caller, looked: &Looked, legacy: Option<&Fingerprint>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(holder) = looked.elsewhere.as_ref().filter(|holder| caller.sees(&holder.tenant)) {
        warnings.push(format!("the same authorization is known under another name: {holder}"));
    }
    if let Some(session) = &looked.session
        && session.fingerprint.as_ref() == legacy
    {
        warnings.push("this name holds a copy of the legacy authorization itself".to_owned());
    }
    warnings
}
