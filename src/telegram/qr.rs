//! One login by QR code, from the first token to an authorization or its end.
//!
//! Knows keys and Telegram, not tickets or stores. The caller asks for the next step again and again; between
//! two calls nothing happens, and dropping the login closes its connection.
//!
//! A token that was shown may be accepted until it expires, whatever happened to the login meanwhile. So a
//! login that is no longer wanted is not dropped but [abandoned](QrLogin::abandon).

pub mod checkpoint;
mod drive;
mod pace;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use grammers_tl_types::{enums, functions};
use zeroize::Zeroizing;

use crate::{
    domain::{
        material::{DcKey, Device, Material},
        secret::Secret,
        session::Account,
    },
    telegram::{
        ApiKey, Telegram,
        connection::Connection,
        error::Error,
        key_exchange::NewKey,
        password::Challenge,
        probe::{account_of, ended},
        qr::{checkpoint::Checkpoint, pace::Pace},
    },
};

/// How long after its expiry a shown token may still be accepted: clocks and messages on their way.
const ACCEPT_MARGIN: Duration = Duration::from_secs(3);

/// For how long after a resumption a token may be accepted that the login showed before, elsewhere: what
/// Telegram's tokens live.
const SHOWN_ELSEWHERE: Duration = Duration::from_secs(30);

/// What happened to a login.
#[derive(Debug)]
pub enum Step {
    /// Show this code in place of the one before.
    Token {
        /// `tg://login?token=…`
        url: Secret,
        /// The next one comes a little earlier.
        expires_in: Duration,
    },
    /// Somebody scanned; their account lives at another data centre, where the login goes on. A checkpoint
    /// taken now holds that data centre's key too.
    Migrated { dc: i32 },
    /// Somebody scanned; their account has a password. Told once; see [`QrLogin::password`].
    PasswordNeeded { hint: Option<String> },
    /// Done. The connection is closed; asking again repeats this step.
    Authorized(Box<Authorized>),
    /// The time given has passed.
    Nothing,
}

/// A fresh authorization.
#[derive(Clone, Debug)]
pub struct Authorized {
    pub material: Material,
    pub account: Account,
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

/// How a login ended that was no longer wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// Nobody accepted the last token, and nobody can any more.
    Unused,
    /// Somebody scanned, but their password was never given, so there is no authorization.
    PasswordMissing,
    /// Somebody accepted late; the authorization was ended.
    LoggedOut(Account),
}

/// A login under way. Owns its keys and its connection.
pub struct QrLogin {
    telegram: Telegram,
    api_key: ApiKey,
    device: Device,
    keys: BTreeMap<i32, NewKey>,
    /// Where the login goes on.
    dc: i32,
    /// Where it came from, until the data centre it moved to has accepted it.
    origin: Option<i32>,
    connection: Option<Connection>,
    phase: Phase,
    pace: Pace,
    /// An answer that may have authorized the key was lost: look before anything else.
    in_doubt: bool,
    /// Until when a token that was shown may be accepted.
    shown_until: Option<Instant>,
    migrations: u32,
    /// Since when the key in use exists, as far as this process knows.
    began: Instant,
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

impl QrLogin {
    pub(super) async fn start(
        telegram: Telegram,
        api_key: ApiKey,
        device: Device,
        checkpoint: Option<Checkpoint>,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let (dc, keys, shown_until) = match checkpoint {
            Some(Checkpoint { dc, keys }) => {
                (dc, keys, Some(Instant::now() + SHOWN_ELSEWHERE + ACCEPT_MARGIN))
            }
            None => (telegram.endpoint.home_dc, BTreeMap::new(), None),
        };
        let keys = keys.into_iter().map(|(dc, auth_key)| (dc, NewKey { auth_key, salt: 0 })).collect();
        let mut login = Self {
            telegram,
            api_key,
            device,
            keys,
            dc,
            origin: None,
            connection: None,
            phase: Phase::Export,
            pace: Pace::default(),
            in_doubt: false,
            shown_until,
            migrations: 0,
            began: Instant::now(),
        };
        login.connect_twice(deadline).await?;
        Ok(login)
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

    /// Tries the account's password.
    ///
    /// # Errors
    /// `FloodWait`, `TimedOut` and `Unavailable`: the password was not judged, the login still waits for it.
    /// Other errors end the login.
    ///
    /// # Cancel safety
    /// If Telegram accepted the password while the future was dropped, the next call of any kind finds out.
    pub async fn password(&mut self, password: &Secret, deadline: Instant) -> Result<PasswordOutcome, Error> {
        const DOING: &str = "checking a password";
        if self.in_doubt {
            self.look(deadline).await?;
            if self.in_doubt {
                return Err(Error::Unavailable { doing: DOING, source: None });
            }
        }
        match &self.phase {
            Phase::Done(authorized) => return Ok(PasswordOutcome::Authorized(authorized.clone())),
            Phase::Password { .. } => {}
            Phase::Export | Phase::Shown { .. } | Phase::Import { .. } => {
                return Ok(PasswordOutcome::NotAsked);
            }
        }
        match self.try_password(password, deadline).await {
            // The parameters went stale between fetching and use.
            Err(Error::PasswordStale) => self.try_password(password, deadline).await,
            outcome => outcome,
        }
    }

    async fn try_password(&mut self, password: &Secret, deadline: Instant) -> Result<PasswordOutcome, Error> {
        const DOING: &str = "checking a password";
        let request = functions::account::GetPassword {};
        let challenge = Challenge::new(self.insist(&request, DOING, deadline).await?)?;
        let answer = challenge.answer(password.clone()).await?;
        let request = functions::auth::CheckPassword { password: enums::InputCheckPasswordSrp::Srp(answer) };
        match self.ask_fateful(&request, DOING, deadline).await {
            Ok(Some(authorization)) => {
                let authorized = self.authorized(authorization)?;
                self.disconnect().await;
                Ok(PasswordOutcome::Authorized(authorized))
            }
            // The answer is lost. A password is not sent again on a guess: see what became of it.
            Ok(None) => match self.look(deadline).await? {
                Some(authorized) => Ok(PasswordOutcome::Authorized(authorized)),
                None => Err(Error::Unavailable { doing: DOING, source: None }),
            },
            Err(Error::PasswordInvalid) => Ok(PasswordOutcome::Wrong),
            Err(error) => Err(error),
        }
    }

    /// Ends a login that is no longer wanted, cancelled, expired or superseded: goes on listening until the
    /// last token shown cannot be accepted any more, and logs out whoever accepted it. `deadline` should leave
    /// room for that: [`Self::acceptable_for`] and a few seconds.
    ///
    /// # Errors
    /// Any: the key may have become, or may yet become, an authorization that nobody ends. Try again from a
    /// checkpoint.
    pub async fn abandon(mut self, deadline: Instant) -> Result<Abandoned, Error> {
        let Some(shown_until) = self.shown_until else {
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
                Ok(Some(Step::Migrated { .. } | Step::PasswordNeeded { .. } | Step::Nothing) | None) => {}
                Err(Error::FloodWait { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::TimedOut { doing: "abandoning a login" })
    }

    /// How long a token that was shown may still be accepted; zero if none was.
    pub fn acceptable_for(&self) -> Duration {
        self.shown_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Ends the authorization this login brought, such as one of the wrong account; without one, makes sure of
    /// that.
    ///
    /// # Errors
    /// As [`Telegram::log_out`], which can be called with the material again.
    pub async fn log_out(mut self, deadline: Instant) -> Result<(), Error> {
        if let Phase::Done(authorized) = &self.phase {
            let material = authorized.material.clone();
            self.disconnect().await;
            return self.telegram.log_out(&material, deadline).await;
        }
        let answer = self.insist(&functions::auth::LogOut {}, "logging out", deadline).await;
        self.disconnect().await;
        ended(answer)
    }

    /// The login as another process can go on with it. The keys are made before they are used, so one taken
    /// after any step holds all that Telegram could have bound to somebody by then.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            dc: self.origin.unwrap_or(self.dc),
            keys: self.keys.iter().map(|(dc, key)| (*dc, key.auth_key.clone())).collect(),
        }
    }

    /// Closes the connection. A token that was shown can still be accepted: see [`Self::abandon`].
    pub async fn close(mut self) {
        self.disconnect().await;
    }

    /// Remembers whose the key has become.
    fn authorized(&mut self, answer: enums::auth::Authorization) -> Result<Box<Authorized>, Error> {
        match answer {
            enums::auth::Authorization::Authorization(authorization) => self.belongs_to(authorization.user),
            enums::auth::Authorization::SignUpRequired(_) => Err(Error::refused("SIGN_UP_REQUIRED")),
        }
    }

    fn belongs_to(&mut self, user: enums::User) -> Result<Box<Authorized>, Error> {
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
            },
            account,
        });
        self.origin = None;
        self.in_doubt = false;
        self.phase = Phase::Done(authorized.clone());
        Ok(authorized)
    }
}

impl fmt::Debug for QrLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Export => "export",
            Phase::Shown { .. } => "shown",
            Phase::Import { .. } => "import",
            Phase::Password { .. } => "password",
            Phase::Done(_) => "done",
        };
        f.debug_struct("QrLogin").field("dc", &self.dc).field("phase", &phase).finish_non_exhaustive()
    }
}
