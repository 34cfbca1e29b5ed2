//! One attempt to sign in, by QR code, phone code or bot token, from its first key to an authorization or its end.
//!
//! Knows keys and Telegram, not tickets or stores. The caller asks for the next step again and again; between
//! two calls nothing happens, and dropping the attempt closes its connection.
//!
//! A token that was shown may be accepted until it expires, whatever happened to the attempt meanwhile, and an
//! answer that was lost may have been a yes. So one that is no longer wanted is not dropped but
//! [abandoned](SignIn::abandon).

mod bot;
pub mod checkpoint;
mod line;
mod pace;
mod password;
mod phone;
mod qr;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use grammers_tl_types::{enums, functions};
use zeroize::Zeroizing;

use crate::{
    domain::{
        login::CodeWay,
        material::{DcKey, Device, FutureAuthToken, Material},
        secret::Secret,
        session::Account,
    },
    telegram::{
        ApiKey, Telegram,
        connection::Connection,
        error::Error,
        key_exchange::NewKey,
        probe::{account_of, ended},
        sign_in::{checkpoint::Checkpoint, pace::Pace, phone::Phone},
    },
};

pub use phone::CodeOutcome;

/// How long after its expiry a shown token may still be accepted: clocks and messages on their way.
const ACCEPT_MARGIN: Duration = Duration::from_secs(3);

/// For how long after a resumption a token may be accepted that the attempt showed before, elsewhere: what
/// Telegram's tokens live.
const SHOWN_ELSEWHERE: Duration = Duration::from_secs(30);

/// Data centres that send a login on and on are broken.
const MIGRATIONS_MAX: u32 = 3;

/// How the account is to prove itself.
#[derive(Clone, Debug)]
pub enum Way {
    /// A signed-in phone scans a code.
    Qr,
    /// A code is sent to whoever has the number. Tokens of earlier log-outs of the account make it unnecessary.
    Phone { number: Secret, future_auth_tokens: Vec<FutureAuthToken> },
    /// The bot's token, as its owner got it.
    Bot { token: Secret },
}

/// What happened to an attempt.
#[derive(Debug)]
pub enum Step {
    /// Show this code in place of the one before.
    Token {
        /// `tg://login?token=…`
        url: Secret,
        /// The next one comes a little earlier.
        expires_in: Duration,
    },
    /// The account lives at another data centre, where the attempt goes on. A checkpoint taken now holds that
    /// data centre's key too.
    Migrated { dc: i32 },
    /// A code is on its way to the account's owner; see [`SignIn::code`].
    CodeSent(SentCode),
    /// The account has a password. Told once; see [`SignIn::password`].
    PasswordNeeded { hint: Option<String> },
    /// Done. The connection is closed; asking again repeats this step.
    Authorized(Box<Authorized>),
    /// The time given has passed.
    Nothing,
}

/// How a code travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentCode {
    /// `None` for a way that Telegram added later.
    pub way: Option<CodeWay>,
    /// How the next one would travel; `None` if there is no other way.
    pub next_way: Option<CodeWay>,
    /// How long to wait before asking for the next one.
    pub resend_after: Option<Duration>,
    /// In characters; 0 if not told.
    pub length: u32,
    /// Of the address it went to, as far as Telegram shows it.
    pub hint: Option<String>,
}

/// A fresh authorization.
#[derive(Clone, Debug)]
pub struct Authorized {
    pub material: Material,
    pub account: Account,
    /// Lets the account sign in again without a code.
    pub future_auth_token: Option<FutureAuthToken>,
}

/// What came of a password.
#[derive(Debug)]
pub enum PasswordOutcome {
    Authorized(Box<Authorized>),
    /// The login goes on; another password may be tried.
    Wrong,
    /// The login does not wait for one.
    NotAsked,
}

/// How an attempt ended that was no longer wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// Nobody accepted the last token, and nobody can any more.
    Unused,
    /// Somebody scanned, but their password was never given, so there is no authorization.
    PasswordMissing,
    /// Somebody accepted late; the authorization was ended.
    LoggedOut(Account),
}

/// An attempt under way. Owns its keys and its connection.
pub struct SignIn {
    telegram: Telegram,
    api_key: ApiKey,
    device: Device,
    keys: BTreeMap<i32, NewKey>,
    /// Where it goes on.
    dc: i32,
    /// Where it came from, until the data centre it moved to has accepted it.
    origin: Option<i32>,
    connection: Option<Connection>,
    way: Proof,
    phase: Phase,
    pace: Pace,
    /// An answer that may have authorized the key was lost, or another process may have got it: look before
    /// anything else.
    in_doubt: bool,
    /// A code shown by another process may have been accepted while nobody listened.
    unheard: bool,
    /// Until when a token that was shown may be accepted.
    shown_until: Option<Instant>,
    migrations: u32,
    /// Since when the key in use exists, as far as this process knows.
    began: Instant,
}

/// [`Way`], as far as an attempt needs it to the end.
enum Proof {
    Qr,
    Phone(Phone),
    Bot,
}

enum Phase {
    /// A token is to be exported, which also tells whether the last one was accepted.
    Export,
    /// A token is shown, to be replaced at that time.
    Shown {
        refresh: Instant,
    },
    /// A token is to be imported where the account lives.
    Import {
        token: Zeroizing<Vec<u8>>,
        told: Told,
        since: Instant,
    },
    /// A code is to be sent; so many requests for one got no answer.
    SendCode {
        unanswered: u32,
        /// The data centre it moved to, to be told once there is a key for it.
        moved: Option<i32>,
    },
    /// The owner's code is awaited.
    Code {
        hash: Secret,
        sent: Option<SentCode>,
    },
    /// A bot's token is to be given.
    Bot {
        token: Secret,
        /// The data centre it moved to, to be told once there is a key for it.
        moved: Option<i32>,
    },
    /// A bot's token that only the process before knew.
    BotForgotten,
    Password {
        told: Told,
    },
    Done(Box<Authorized>),
}

/// Whether the caller has been given the step that a phase begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Once,
}

impl SignIn {
    pub(super) async fn start(
        telegram: Telegram,
        dc: i32,
        api_key: ApiKey,
        device: Device,
        way: Way,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let (proof, phase) = match way {
            Way::Qr => (Proof::Qr, Phase::Export),
            Way::Phone { number, future_auth_tokens } => (
                Proof::Phone(Phone { number, future_auth_tokens }),
                Phase::SendCode { unanswered: 0, moved: None },
            ),
            Way::Bot { token } => (Proof::Bot, Phase::Bot { token, moved: None }),
        };
        let mut attempt = Self::at(telegram, api_key, device, dc, proof, phase);
        attempt.connect_twice(deadline).await?;
        Ok(attempt)
    }

    /// Takes a checkpoint up. Connects when it is first asked for a step.
    pub(super) fn resume(
        telegram: Telegram,
        api_key: ApiKey,
        device: Device,
        checkpoint: Checkpoint,
    ) -> Result<Self, Error> {
        let Checkpoint { dc, origin, keys, way } = checkpoint;
        let dc = dc.unwrap_or(telegram.endpoint.home_dc);
        telegram.address(dc)?;
        let (proof, phase) = way.taken_up();
        let mut attempt = Self::at(telegram, api_key, device, dc, proof, phase);
        attempt.origin = origin;
        // With a key of nobody's making there is nothing that could have been accepted.
        attempt.in_doubt = keys.contains_key(&dc);
        if attempt.in_doubt && matches!(attempt.way, Proof::Qr) {
            attempt.unheard = true;
            attempt.shown_until = Some(Instant::now() + SHOWN_ELSEWHERE + ACCEPT_MARGIN);
        }
        attempt.keys = keys.into_iter().map(|(dc, auth_key)| (dc, NewKey { auth_key, salt: 0 })).collect();
        Ok(attempt)
    }

    fn at(telegram: Telegram, api_key: ApiKey, device: Device, dc: i32, way: Proof, phase: Phase) -> Self {
        Self {
            telegram,
            api_key,
            device,
            keys: BTreeMap::new(),
            dc,
            origin: None,
            connection: None,
            way,
            phase,
            pace: Pace::default(),
            in_doubt: false,
            unheard: false,
            shown_until: None,
            migrations: 0,
            began: Instant::now(),
        }
    }

    /// Waits for something to happen, at most until `until`. A lost connection is made again, with growing
    /// pauses; meanwhile nothing happens.
    ///
    /// # Errors
    /// After `FloodWait` the login may be continued; it waits the time out by itself. Any other error ends it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call goes on where this one was.
    pub async fn next(&mut self, until: Instant) -> Result<Step, Error> {
        while Instant::now() < until {
            if let Some(step) = self.advance(until).await? {
                return Ok(step);
            }
        }
        Ok(Step::Nothing)
    }

    /// Does one thing; returns what the caller must know about it. Returns at `until` at the latest.
    async fn advance(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        if let Phase::Done(authorized) = &self.phase {
            let authorized = authorized.clone();
            self.disconnect().await;
            return Ok(Some(Step::Authorized(authorized)));
        }
        if let Some(held) = self.pace.hold(Instant::now()) {
            self.idle(until.min(held)).await;
            return Ok(None);
        }
        if self.in_doubt {
            return Ok(self.look(until).await?.map(Step::Authorized));
        }
        match &self.phase {
            Phase::Export => self.export(until).await,
            Phase::Shown { refresh } => {
                let refresh = *refresh;
                self.wait_for_scan(refresh, until).await;
                Ok(None)
            }
            Phase::Import { told: Told::NotYet, .. } => self.arrive(until).await,
            Phase::Import { told: Told::Once, token, since } => {
                let (token, since) = (token.clone(), *since);
                self.import(&token, since, until).await
            }
            Phase::SendCode { moved: Some(_), .. } | Phase::Bot { moved: Some(_), .. } => {
                self.arrive_elsewhere(until).await
            }
            Phase::SendCode { unanswered, moved: None } => {
                let unanswered = *unanswered;
                self.send_code(unanswered, until).await
            }
            Phase::Code { sent: Some(_), .. } => Ok(self.tell_code()),
            Phase::Bot { token, moved: None } => {
                let token = token.clone();
                self.import_bot(&token, until).await
            }
            Phase::BotForgotten => {
                Err(Error::Unavailable { doing: "going on with a bot's login", source: None })
            }
            Phase::Password { told: Told::NotYet } => self.tell_password(until).await,
            Phase::Code { sent: None, .. } | Phase::Password { told: Told::Once } => {
                self.idle(until).await;
                Ok(None)
            }
            Phase::Done(_) => Ok(None),
        }
    }

    /// Ends an attempt that is no longer wanted, cancelled, expired or superseded: goes on listening until the
    /// last token shown cannot be accepted any more, and logs out whoever accepted it. `deadline` should leave
    /// room for that: [`Self::acceptable_for`] and a few seconds.
    ///
    /// # Errors
    /// Any: the key may have become, or may yet become, an authorization that nobody ends. Try again from a
    /// checkpoint.
    pub async fn abandon(mut self, deadline: Instant) -> Result<Abandoned, Error> {
        let Some(shown_until) = self.shown_until.or_else(|| self.may_be_in().then(Instant::now)) else {
            self.cancel_code(deadline).await;
            self.disconnect().await;
            return Ok(Abandoned::Unused);
        };
        // No new code from here on; the export at the end is the look whether the last one was accepted.
        if let Phase::Shown { refresh } = &mut self.phase {
            *refresh = shown_until;
        }
        while Instant::now() < deadline {
            if matches!(self.phase, Phase::Password { .. }) && !self.in_doubt {
                self.disconnect().await;
                return Ok(Abandoned::PasswordMissing);
            }
            // The doubt is over, and nobody is in: codes and tokens of this kind cannot be accepted later.
            if !self.may_be_in() && !matches!(self.way, Proof::Qr) {
                self.cancel_code(deadline).await;
                self.disconnect().await;
                return Ok(Abandoned::Unused);
            }
            match self.advance(deadline).await {
                Ok(Some(Step::Token { .. })) if Instant::now() >= shown_until => {
                    self.disconnect().await;
                    return Ok(Abandoned::Unused);
                }
                Ok(Some(Step::Token { .. })) => self.phase = Phase::Shown { refresh: shown_until },
                Ok(Some(Step::Authorized(authorized))) => {
                    self.log_out(deadline).await?;
                    return Ok(Abandoned::LoggedOut(authorized.account));
                }
                Ok(
                    Some(
                        Step::Migrated { .. }
                        | Step::CodeSent(_)
                        | Step::PasswordNeeded { .. }
                        | Step::Nothing,
                    )
                    | None,
                ) => {}
                Err(Error::FloodWait { .. }) => {}
                // A key that Telegram has forgotten, or ended, is nobody's.
                Err(error) if error.is_gone() => {
                    self.disconnect().await;
                    return Ok(Abandoned::Unused);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::TimedOut { doing: "abandoning a login" })
    }

    /// # Errors
    /// `FloodWait` while Telegram has to be left alone; it is not asked then.
    fn require_no_flood(&self) -> Result<(), Error> {
        match self.pace.flooded(Instant::now()) {
            Some(retry_after) => Err(Error::FloodWait { retry_after }),
            None => Ok(()),
        }
    }

    /// Whether the key may be somebody's already.
    fn may_be_in(&self) -> bool {
        self.in_doubt || matches!(self.phase, Phase::Done(_))
    }

    /// How long a token that was shown may still be accepted; zero if none was.
    pub fn acceptable_for(&self) -> Duration {
        self.shown_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Ends the authorization this attempt brought, such as one of the wrong account; without one, makes sure of
    /// that.
    ///
    /// # Errors
    /// As [`Telegram::log_out`], which can be called with the material again.
    pub async fn log_out(mut self, deadline: Instant) -> Result<Option<FutureAuthToken>, Error> {
        if let Phase::Done(authorized) = &self.phase {
            let material = authorized.material.clone();
            self.disconnect().await;
            return self.telegram.log_out(&material, deadline).await;
        }
        let answer = self.insist(&functions::auth::LogOut {}, "logging out", deadline).await;
        self.disconnect().await;
        ended(answer)
    }

    /// The attempt as another process can go on with it. The keys are made before they are used, so one taken
    /// after any step holds all that Telegram could have bound to somebody by then.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            dc: Some(self.dc),
            origin: self.origin,
            keys: self.keys.iter().map(|(dc, key)| (*dc, key.auth_key.clone())).collect(),
            way: checkpoint::Note::of(&self.way, &self.phase),
        }
    }

    /// The key in use as material, though it is nobody's yet: so that what it may become can be ended without the attempt.
    pub fn unproven(&self) -> Option<Material> {
        let key = self.keys.get(&self.dc)?;
        let home = DcKey { auth_key: key.auth_key.clone(), address: None };
        Some(Material {
            home_dc: self.dc,
            keys: [(self.dc, home)].into(),
            telegram_user_id: None,
            is_bot: None,
            api_id: self.api_key.api_id,
            device: self.device.clone(),
            proxy: None,
            updates: None,
            channels: Default::default(),
        })
    }

    /// Closes the connection and keeps the attempt: the next step connects again and looks what was missed.
    pub async fn pause(&mut self) {
        self.disconnect().await;
        self.in_doubt |= !matches!(self.phase, Phase::Done(_)) && self.keys.contains_key(&self.dc);
    }

    /// Closes the connection. A token that was shown can still be accepted: see [`Self::abandon`].
    pub async fn close(mut self) {
        self.disconnect().await;
    }

    /// Remembers whose the key has become.
    fn authorized(&mut self, answer: enums::auth::Authorization) -> Result<Box<Authorized>, Error> {
        match answer {
            enums::auth::Authorization::Authorization(authorization) => {
                let token = authorization.future_auth_token.map(FutureAuthToken::new);
                self.belongs_to(authorization.user, token)
            }
            enums::auth::Authorization::SignUpRequired(_) => Err(Error::SignUpRequired),
        }
    }

    fn belongs_to(
        &mut self,
        user: enums::User,
        future_auth_token: Option<FutureAuthToken>,
    ) -> Result<Box<Authorized>, Error> {
        let account = account_of(user);
        let key = self.keys.get(&self.dc).ok_or(Error::KeyUnknown)?;
        let home = DcKey { auth_key: key.auth_key.clone(), address: Some(self.telegram.address(self.dc)?) };
        let authorized = Box::new(Authorized {
            material: Material {
                home_dc: self.dc,
                keys: [(self.dc, home)].into(),
                telegram_user_id: Some(account.telegram_user_id),
                is_bot: Some(account.is_bot),
                api_id: self.api_key.api_id,
                device: self.device.clone(),
                proxy: None,
                updates: None,
                channels: std::collections::BTreeMap::new(),
            },
            account,
            future_auth_token,
        });
        self.origin = None;
        self.in_doubt = false;
        self.phase = Phase::Done(authorized.clone());
        Ok(authorized)
    }

    /// Goes on at another data centre, where there is no key yet.
    async fn move_to(&mut self, dc: i32) -> Result<(), Error> {
        self.count_migration(dc)?;
        self.disconnect().await;
        self.dc = dc;
        Ok(())
    }

    fn count_migration(&mut self, dc: i32) -> Result<(), Error> {
        self.telegram.address(dc)?;
        self.migrations += 1;
        if self.migrations > MIGRATIONS_MAX {
            return Err(Error::refused("MIGRATED_TOO_OFTEN"));
        }
        Ok(())
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Export => "export",
            Phase::Shown { .. } => "shown",
            Phase::Import { .. } => "import",
            Phase::SendCode { .. } => "send code",
            Phase::Code { .. } => "code",
            Phase::Bot { .. } | Phase::BotForgotten => "bot",
            Phase::Password { .. } => "password",
            Phase::Done(_) => "done",
        };
        f.debug_struct("SignIn").field("dc", &self.dc).field("phase", &phase).finish_non_exhaustive()
    }
}
