//! The connection of a sign-in: made with the key of the data centre where it stands, kept alive, made again
//! with growing pauses, and asked.

use std::time::{Duration, Instant};

use grammers_tl_types::{RemoteCall, enums, functions};

use crate::telegram::{
    ATTEMPT_MAX,
    connection::{Client, Connection, Heard, Route},
    error::Error,
    key_exchange::make_key,
    sign_in::{Authorized, Phase, SignIn, Step, Told},
};

/// A connection that held this long was sound; its loss is no reason to slow down.
const SOUND_AFTER: Duration = Duration::from_secs(10);

impl SignIn {
    /// After a lost answer: asks whose the key is. `None` leaves the login where it was, or could not tell yet.
    pub(super) async fn look(&mut self, until: Instant) -> Result<Option<Box<Authorized>>, Error> {
        let request = functions::users::GetUsers { id: vec![enums::InputUser::UserSelf] };
        match self.ask(&request, "asking whose key it is", until).await {
            Ok(None) => Ok(None),
            Ok(Some(users)) => {
                self.in_doubt = false;
                let Some(user) = users.into_iter().next() else { return Ok(None) };
                let authorized = self.belongs_to(user, None)?;
                self.disconnect().await;
                Ok(Some(authorized))
            }
            Err(Error::PasswordNeeded) => {
                self.in_doubt = false;
                self.origin = None;
                if !matches!(self.phase, Phase::Password { .. }) {
                    self.phase = Phase::Password { told: Told::NotYet };
                }
                Ok(None)
            }
            Err(Error::Unauthorized) => {
                self.in_doubt = false;
                // Taken up in the middle of a move: where it came from, the token tells where to go again.
                if !matches!(self.phase, Phase::Import { .. })
                    && let Some(origin) = self.origin.take()
                {
                    self.disconnect().await;
                    self.dc = origin;
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Gets a key where the account lives and tells, so that the key is known before it is used.
    pub(super) async fn arrive_elsewhere(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        if self.connected(until).await?.is_none() {
            return Ok(None);
        }
        if let Phase::Bot { moved, .. } | Phase::SendCode { moved, .. } = &mut self.phase {
            *moved = None;
        }
        Ok(Some(Step::Migrated { dc: self.dc }))
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
    pub(super) async fn ask<R: RemoteCall>(
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
    pub(super) async fn connected(&mut self, until: Instant) -> Result<Option<&mut Connection>, Error> {
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
                self.pace.flood(Instant::now() + retry_after);
                Err(Error::FloodWait { retry_after })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn lost(&mut self) {
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
    pub(super) async fn idle(&mut self, until: Instant) {
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
