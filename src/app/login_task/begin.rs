//! The first connection of a login, before anybody can have accepted anything.

use std::time::Instant;

use super::{End, Flow, START_LIMIT, Task};
use crate::{
    app::running::{Command, Seat},
    domain::{
        error::{Error, Reason},
        login::{Ask, Method, State},
        session::{LoginEnd, Loss},
    },
    telegram::{
        self,
        sign_in::{SignIn, Way},
    },
};

impl Task {
    /// Connects, unless the login ends before that.
    pub(super) async fn connect(&mut self, way: Way, seat: &mut Seat) -> Result<Box<SignIn>, End> {
        let app = self.app.clone();
        let (alias, device) = (self.login.api_key_alias.clone(), self.login.device.clone());
        let mut connecting = Box::pin(async move {
            let (_, key) = app.api_key(Some(&alias)).map_err(|_| telegram::Error::ApiKeyInvalid)?;
            let deadline = Instant::now() + START_LIMIT;
            app.0.telegram.sign_in(way, key.clone(), device, None, deadline).await
        });
        let stop = self.app.0.stop.clone();
        loop {
            tokio::select! {
                connected = &mut connecting => return match connected {
                    Ok(sign_in) => self.connected(sign_in).await,
                    Err(error) => {
                        self.fail(error).await;
                        Err(End::Done)
                    }
                },
                command = seat.commands.recv() => if let Some(end) = self.on_early_command(command).await {
                    return Err(end);
                },
                _lapse = seat.tenure.lapse() => return Err(End::Left),
                () = stop.cancelled() => {
                    // Whoever takes it up begins anew.
                    if self.app.0.tickets.are_shared() {
                        self.let_go().await;
                        return Err(End::Left);
                    }
                    self.end(State::Cancelled, LoginEnd::Cancelled).await;
                    return Err(End::Done);
                }
            }
        }
    }

    /// What a bot's token or a number brings may be an authorization at once, so the key is kept before; a QR code is
    /// shown first, and its key kept with it.
    async fn connected(&mut self, sign_in: SignIn) -> Result<Box<SignIn>, End> {
        if matches!(self.login.method, Method::Bot | Method::Phone) {
            match self.show(State::Starting, &sign_in).await {
                Flow::GoOn => {}
                Flow::Left => {
                    sign_in.close().await;
                    return Err(End::Left);
                }
                Flow::Watch | Flow::Done => {
                    sign_in.close().await;
                    return Err(End::Done);
                }
            }
        }
        Ok(Box::new(sign_in))
    }

    async fn on_early_command(&mut self, command: Option<Command>) -> Option<End> {
        match command {
            Some(Command::Ask { ask: Ask::Cancel, answer }) => {
                self.end(State::Cancelled, LoginEnd::Cancelled).await;
                let _ = answer.send(Ok(self.login.clone()));
                Some(End::Done)
            }
            Some(Command::Ask { ask: Ask::Password { .. } | Ask::Code(_) | Ask::Resend(_), answer }) => {
                let refusal = Error::new(Reason::LoginWrongState, "the login does not wait for this yet")
                    .fact("state", self.login.state.name());
                let _ = answer.send(Err(refusal));
                None
            }
            Some(Command::Forgotten) => None,
            Some(Command::Supersede) => {
                self.login.state = State::Superseded;
                self.count_end();
                Some(End::Done)
            }
            None => Some(End::Left),
        }
    }
}

/// What Telegram's answer means to whoever signs in.
pub(super) fn refusal(error: telegram::Error) -> Error {
    match error {
        telegram::Error::Lost(Loss::Banned | Loss::Deleted) => {
            Error::new(Reason::AccountBanned, "telegram has banned or deleted the account").caused_by(error)
        }
        error => error.into(),
    }
}
