//! What a login does next: exporting, waiting, moving, importing, and staying connected meanwhile.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use grammers_tl_types::{RemoteCall, enums, functions, types};
use zeroize::Zeroizing;

use crate::{
    domain::secret::Secret,
    telegram::{
        ATTEMPT_MAX,
        connection::{Client, Connection, Heard, Route},
        error::Error,
        key_exchange::make_key,
        qr::{ACCEPT_MARGIN, Authorized, Phase, QrLogin, Step, Told},
    },
};

/// How much earlier than it expires a shown token is replaced, at most.
const REFRESH_EARLY_MAX: Duration = Duration::from_secs(3);
/// Telegram's tokens live for half a minute. A clock gone astray must not make us show one for longer than
/// somebody would look at it.
const TOKEN_LIFE_MIN: Duration = Duration::from_secs(1);
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(300);
/// For how long after a move the new data centre's refusals are taken for its not knowing yet, and how often
/// to ask it.
const SETTLING: Duration = Duration::from_secs(5);
const SETTLING_PAUSE: Duration = Duration::from_millis(400);
/// A connection that held this long was sound; its loss is no reason to slow down.
const SOUND_AFTER: Duration = Duration::from_secs(10);
/// Data centres that send a login on and on are broken.
const MIGRATIONS_MAX: u32 = 3;

impl QrLogin {
    /// Does one thing; returns what the caller must know about it. Returns at `until` at the latest.
    pub(super) async fn advance(&mut self, until: Instant) -> Result<Option<Step>, Error> {
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
            Phase::Password { told: Told::NotYet } => self.tell_password(until).await,
            Phase::Password { told: Told::Once } => {
                self.idle(until).await;
                Ok(None)
            }
            Phase::Done(_) => Ok(None),
        }
    }

    async fn export(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        let request = functions::auth::ExportLoginToken {
            api_id: self.api_key.api_id,
            api_hash: self.api_key.api_hash.expose_secret().to_owned(),
            except_ids: Vec::new(),
        };
        match self.ask_fateful(&request, "exporting a login token", until).await {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => self.take(answer).await,
            Err(Error::PasswordNeeded) => {
                self.phase = Phase::Password { told: Told::NotYet };
                Ok(None)
            }
            Err(Error::MigrateTo { dc }) => {
                self.count_migration(dc)?;
                self.disconnect().await;
                self.dc = dc;
                Ok(None)
            }
            Err(Error::Unauthorized) if self.began.elapsed() < SETTLING => {
                self.pace.wait(Instant::now() + SETTLING_PAUSE);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn take(&mut self, answer: enums::auth::LoginToken) -> Result<Option<Step>, Error> {
        match answer {
            enums::auth::LoginToken::Token(token) => Ok(Some(self.show(token))),
            enums::auth::LoginToken::MigrateTo(to) => {
                self.count_migration(to.dc_id)?;
                self.phase = Phase::Import {
                    token: Zeroizing::new(to.token),
                    told: Told::NotYet,
                    since: Instant::now(),
                };
                self.origin.get_or_insert(self.dc);
                self.dc = to.dc_id;
                self.disconnect().await;
                Ok(None)
            }
            enums::auth::LoginToken::Success(success) => {
                // Remembered before the wait, so that the step is repeated if this is dropped meanwhile.
                let authorized = self.authorized(success.authorization)?;
                self.disconnect().await;
                Ok(Some(Step::Authorized(authorized)))
            }
        }
    }

    fn show(&mut self, token: types::auth::LoginToken) -> Step {
        let bytes = Zeroizing::new(token.token);
        let now = Instant::now();
        let expires_in = self
            .connection
            .as_ref()
            .map_or(TOKEN_LIFE_MIN, |connection| connection.until_server_date(token.expires))
            .clamp(TOKEN_LIFE_MIN, TOKEN_LIFE_MAX);
        let refresh = now + expires_in - REFRESH_EARLY_MAX.min(expires_in / 5);
        self.phase = Phase::Shown { refresh };
        let acceptable_until = now + expires_in + ACCEPT_MARGIN;
        self.shown_until = Some(self.shown_until.map_or(acceptable_until, |t| t.max(acceptable_until)));
        let mut url = Zeroizing::new(String::from("tg://login?token="));
        BASE64_URL_SAFE_NO_PAD.encode_string(&*bytes, &mut url);
        Step::Token { url: Secret::new(url.as_str()), expires_in }
    }

    async fn wait_for_scan(&mut self, refresh: Instant, until: Instant) {
        if refresh <= Instant::now() {
            self.phase = Phase::Export;
            return;
        }
        let heard = match &mut self.connection {
            Some(connection) => connection.listen(until.min(refresh)).await,
            // Lost while somebody else was asked something; the export finds what was missed.
            None => Ok(Heard::LoginToken),
        };
        match heard {
            Ok(Heard::LoginToken) => self.phase = Phase::Export,
            Ok(Heard::Nothing) => {}
            Err(_) => {
                self.lost();
                self.phase = Phase::Export;
            }
        }
    }

    /// Gets a key and a connection where the account lives, and tells.
    async fn arrive(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        match self.connected(until).await? {
            None => Ok(None),
            Some(_) => {
                if let Phase::Import { told, .. } = &mut self.phase {
                    *told = Told::Once;
                }
                Ok(Some(Step::Migrated { dc: self.dc }))
            }
        }
    }

    async fn import(&mut self, token: &[u8], since: Instant, until: Instant) -> Result<Option<Step>, Error> {
        let request = functions::auth::ImportLoginToken { token: token.to_vec() };
        match self.ask_fateful(&request, "importing a login token", until).await {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => self.take(answer).await,
            Err(Error::PasswordNeeded) => {
                self.origin = None;
                self.phase = Phase::Password { told: Told::NotYet };
                Ok(None)
            }
            Err(Error::Unauthorized) if since.elapsed() < SETTLING => {
                self.pace.wait(Instant::now() + SETTLING_PAUSE);
                Ok(None)
            }
            // Too late here; where the login came from there is another token, or another way.
            Err(Error::TokenUnusable) => {
                self.disconnect().await;
                self.dc = self.origin.take().unwrap_or(self.dc);
                self.phase = Phase::Export;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn tell_password(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        let request = functions::account::GetPassword {};
        let Some(answer) = self.ask(&request, "reading the password hint", until).await? else {
            return Ok(None);
        };
        let enums::account::Password::Password(password) = answer;
        self.phase = Phase::Password { told: Told::Once };
        Ok(Some(Step::PasswordNeeded { hint: password.hint.filter(|hint| !hint.is_empty()) }))
    }

    fn count_migration(&mut self, dc: i32) -> Result<(), Error> {
        self.telegram.address(dc)?;
        self.migrations += 1;
        if self.migrations > MIGRATIONS_MAX {
            return Err(Error::refused("MIGRATED_TOO_OFTEN"));
        }
        Ok(())
    }

    /// After a lost answer: asks whose the key is. `None` leaves the login where it was, or could not tell yet.
    pub(super) async fn look(&mut self, until: Instant) -> Result<Option<Box<Authorized>>, Error> {
        let request = functions::users::GetUsers { id: vec![enums::InputUser::UserSelf] };
        match self.ask(&request, "asking whose key it is", until).await {
            Ok(None) => Ok(None),
            Ok(Some(users)) => {
                self.in_doubt = false;
                let Some(user) = users.into_iter().next() else { return Ok(None) };
                let authorized = self.belongs_to(user)?;
                self.disconnect().await;
                Ok(Some(authorized))
            }
            Err(Error::PasswordNeeded) => {
                self.in_doubt = false;
                if !matches!(self.phase, Phase::Password { .. }) {
                    self.phase = Phase::Password { told: Told::NotYet };
                }
                Ok(None)
            }
            Err(Error::Unauthorized) => {
                self.in_doubt = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// [`Self::ask`] for a call whose answer may be that the key is authorized now.
    pub(super) async fn ask_fateful<R: RemoteCall>(
        &mut self,
        request: &R,
        doing: &'static str,
        until: Instant,
    ) -> Result<Option<R::Return>, Error> {
        if self.connected(until).await?.is_none() {
            return Ok(None);
        }
        self.in_doubt = true;
        let answer = self.ask(request, doing, until).await;
        if !matches!(answer, Ok(None)) {
            self.in_doubt = false;
        }
        answer
    }

    /// Asks once. `None`: `until` came first, or the connection failed and the pace tells when to go on.
    async fn ask<R: RemoteCall>(
        &mut self,
        request: &R,
        doing: &'static str,
        until: Instant,
    ) -> Result<Option<R::Return>, Error> {
        let limit = Instant::now() + ATTEMPT_MAX;
        let Some(connection) = self.connected(until).await? else { return Ok(None) };
        let answer = connection.call(request, doing, until.min(limit)).await;
        self.unless_passing(answer, limit)
    }

    /// [`Self::ask`] until there is an answer, as far as two attempts and `deadline` allow.
    pub(super) async fn insist<R: RemoteCall>(
        &mut self,
        request: &R,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<R::Return, Error> {
        for _ in 0..2 {
            if let Some(held) = self.pace.hold(Instant::now()) {
                self.idle(deadline.min(held)).await;
            }
            if let Some(answer) = self.ask(request, doing, deadline).await? {
                return Ok(answer);
            }
        }
        Err(Error::Unavailable { doing, source: None })
    }

    /// The connection, made if there is none; `None` as [`Self::ask`].
    async fn connected(&mut self, until: Instant) -> Result<Option<&mut Connection>, Error> {
        if self.connection.is_none() {
            let limit = Instant::now() + ATTEMPT_MAX;
            let opened = self.connect(until.min(limit)).await;
            self.unless_passing(opened, limit)?;
        }
        Ok(self.connection.as_mut())
    }

    /// Connects with the key of the current data centre, which is made first if there is none.
    async fn connect(&mut self, deadline: Instant) -> Result<(), Error> {
        let address = self.telegram.address(self.dc)?;
        let key = match self.keys.get(&self.dc) {
            Some(key) => key.clone(),
            None => {
                let key = make_key(address, &self.telegram.endpoint.keys, deadline).await?;
                self.keys.insert(self.dc, key.clone());
                self.began = Instant::now();
                key
            }
        };
        let route = Route { address, auth_key: &key.auth_key, salt: key.salt };
        let client = Client { api_id: self.api_key.api_id, device: &self.device };
        self.connection = Some(Connection::open(&route, &client, deadline).await?);
        Ok(())
    }

    /// For the start, where the caller waits: a second attempt at once, then the truth.
    pub(super) async fn connect_twice(&mut self, deadline: Instant) -> Result<(), Error> {
        let attempt = |now: Instant| deadline.min(now + ATTEMPT_MAX);
        match self.connect(attempt(Instant::now())).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                self.connect(attempt(Instant::now())).await
            }
            result => result,
        }
    }

    /// Turns a passing failure into `None` and slows down; an answer cut off by the caller's own time is no
    /// failure of the connection.
    fn unless_passing<T>(&mut self, answer: Result<T, Error>, limit: Instant) -> Result<Option<T>, Error> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::TimedOut { .. }) if Instant::now() < limit => Ok(None),
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, dc = self.dc, "a login's connection failed and is made again");
                self.lost();
                Ok(None)
            }
            Err(Error::FloodWait { retry_after }) => {
                self.pace.wait(Instant::now() + retry_after);
                Err(Error::FloodWait { retry_after })
            }
            Err(error) => Err(error),
        }
    }

    fn lost(&mut self) {
        let sound = self.connection.take().is_some_and(|connection| connection.age() >= SOUND_AFTER);
        if sound {
            self.pace.recovered();
        } else {
            self.pace.failed(Instant::now());
        }
    }

    pub(super) async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Lets time pass while the connection, if there is one, is kept alive.
    async fn idle(&mut self, until: Instant) {
        if let Some(connection) = &mut self.connection {
            match connection.listen(until).await {
                Ok(Heard::Nothing) => return,
                // Acceptance is found by the export that follows anyway.
                Ok(Heard::LoginToken) => {}
                Err(_) => self.connection = None,
            }
        }
        tokio::time::sleep_until(until.into()).await;
    }
}
