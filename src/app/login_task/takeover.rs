//! Going on with a login whose replica died or stopped.
//!
//! The row decides. It names the login and the replica that runs it; once it names this one, the former can write
//! nothing any more, and what it had written before is there to be read.

use std::time::Instant;

use super::{End, Task, WRITE_LIMIT, chain};
use crate::{
    app::{App, as_service, logins::what_to_pause, ownership, running::Seat},
    domain::{
        error::{Error, Reason},
        id::Ticket,
        login::{Failure, Login, State},
        session::{LoginEnd, Session},
    },
    store::{self, Change, TicketRule},
    telegram::sign_in::{SignIn, checkpoint::Checkpoint},
    tickets::Former,
};

/// Attempts at a row that others change at the same time.
const CLAIMS_MAX: u32 = 20;

/// What the row says of a login that was claimed.
enum Row {
    /// It waits for this replica now.
    Mine,
    /// The login had succeeded.
    Succeeded(i64),
    /// Another login, or nobody, is waited for.
    Moved(State),
}

/// Goes on with a login that this replica has claimed among the tickets.
pub(in crate::app) async fn take_over(app: App, ticket: Ticket, former: Former, mut seat: Seat) {
    let (login, checkpoint) = match read(&app, &ticket).await {
        Ok(Some(read)) => read,
        // Its time is over, or the tickets are away: then somebody finds it again.
        Ok(None) => return,
        // Not left to others at once: they would fail as fast. They find it when this tenure is over.
        Err(error) => {
            tracing::warn!(error = %chain(&error), "A login cannot be taken over");
            return;
        }
    };
    tracing::info!(session.id = %login.key, method = login.method.name(), state = login.state.name(), "Took over a login");
    let paused = what_to_pause(&app, &login, checkpoint.as_ref().and_then(Checkpoint::number));
    let bytes = checkpoint.as_ref().and_then(|checkpoint| checkpoint.to_bytes().ok()).unwrap_or_default();
    let mut task = Task::new(app, login, paused, bytes);
    let end = Box::pin(task.resume(checkpoint, former, &mut seat)).await;
    Box::pin(task.leave(end, seat)).await;
}

async fn read(app: &App, ticket: &Ticket) -> Result<Option<(Login, Option<Checkpoint>)>, Error> {
    let Some(login) = app.0.tickets.get(ticket).await? else { return Ok(None) };
    let checkpoint = match app.0.tickets.checkpoint(ticket).await? {
        Some(bytes) => Some(Checkpoint::from_bytes(&bytes)?),
        None => None,
    };
    Ok(Some((login, checkpoint)))
}

impl Task {
    async fn resume(&mut self, checkpoint: Option<Checkpoint>, former: Former, seat: &mut Seat) -> End {
        if self.login.state.is_final() {
            return self.finish_late(checkpoint).await;
        }
        match self.claim_row(checkpoint.as_ref()).await {
            Ok(Row::Mine) => {}
            Ok(Row::Succeeded(telegram_user_id)) => {
                self.succeed(telegram_user_id).await;
                return End::Done;
            }
            Ok(Row::Moved(state)) => {
                self.end(state, LoginEnd::Cancelled).await;
                return self.finish_late(checkpoint).await;
            }
            Err(error) => {
                tracing::warn!(session.id = %self.login.key, error = %chain(&error), "A login waits for the store");
                return End::Left;
            }
        }
        if former == Former::Silent && !self.outwait(Instant::now(), seat).await {
            return End::Left;
        }
        match self.attempt(checkpoint) {
            Ok(sign_in) => self.drive(sign_in, seat).await,
            // A code may be on somebody's screen, so the ticket is kept for a replica that can look.
            Err(error) => {
                self.end(State::Failed(Failure::of(&error)), LoginEnd::Failed).await;
                End::Left
            }
        }
    }

    /// Waits until a former owner that could reach the store alone has surely learned that it is none any more.
    async fn outwait(&self, named: Instant, seat: &mut Seat) -> bool {
        let stop = self.app.0.stop.clone();
        tokio::select! {
            () = tokio::time::sleep_until((named + ownership::NOTICE).into()) => true,
            _lapse = seat.tenure.lapse() => false,
            () = stop.cancelled() => {
                self.let_go().await;
                false
            }
        }
    }

    fn attempt(&self, checkpoint: Option<Checkpoint>) -> Result<SignIn, Error> {
        let (_, key) = self.app.api_key(Some(&self.login.api_key_alias))?;
        // Every ticket is made with a checkpoint, which only a login that is over loses.
        let checkpoint = checkpoint.ok_or_else(|| {
            Error::new(Reason::Internal, "the login left nothing to go on with; start a new one")
        })?;
        self.app.0.telegram.resume(checkpoint, key.clone(), self.login.device.clone()).map_err(Error::from)
    }

    /// Makes the row name this replica, unless it does not wait for the login any more.
    async fn claim_row(&self, checkpoint: Option<&Checkpoint>) -> Result<Row, Error> {
        let me = self.app.0.tickets.replica();
        for _ in 0..CLAIMS_MAX {
            let caller = as_service(&self.login.subject, WRITE_LIMIT);
            let Some(mut session) = self.app.0.store.get(&caller, &self.login.key).await? else {
                return Ok(Row::Moved(State::Cancelled));
            };
            if session.login_ticket.as_ref() != Some(&self.login.ticket.hash()) {
                return Ok(self.moved(&session, checkpoint));
            }
            let Some(former) = session.login_owner.clone() else { return Ok(Row::Moved(State::Cancelled)) };
            if former == *me {
                return Ok(Row::Mine);
            }
            session.login_owner = Some(me.clone());
            let rule = TicketRule::MustBe { ticket: self.login.ticket.hash(), owner: former };
            let change = Change { login_ticket: rule, ..Change::of(session) };
            match self.app.commit(&caller, change).await {
                Ok(_) => return Ok(Row::Mine),
                Err(store::Error::RevisionStale { .. } | store::Error::TicketMoved) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(Reason::StoreConflict, "the session changes too often to be taken over"))
    }

    fn moved(&self, session: &Session, checkpoint: Option<&Checkpoint>) -> Row {
        let user = session.account.as_ref().map(|account| account.telegram_user_id);
        match user {
            Some(user) if self.is_kept(session, checkpoint) => Row::Succeeded(user),
            _ if session.login_ticket.is_some() => Row::Moved(State::Superseded),
            _ => Row::Moved(State::Cancelled),
        }
    }

    /// Whether one of the attempt's keys is what the session holds: then it is no more to be touched.
    fn is_kept(&self, session: &Session, checkpoint: Option<&Checkpoint>) -> bool {
        let vault = &self.app.0.vault;
        let held = session.fingerprint.as_ref();
        held.is_some()
            && checkpoint.is_some_and(|checkpoint| {
                checkpoint.keys().iter().any(|(dc, key)| vault.fingerprint_of(*dc, key).as_ref() == held)
            })
    }

    /// An ended login whose watch was cut short: an authorization that came late is logged out, unless it is the one
    /// that the session holds.
    async fn finish_late(&self, checkpoint: Option<Checkpoint>) -> End {
        let Some(checkpoint) = checkpoint else { return End::Done };
        if matches!(self.login.state, State::Authorized { .. }) || checkpoint.keys().is_empty() {
            return End::Done;
        }
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        match self.app.0.store.get(&caller, &self.login.key).await {
            Ok(Some(session)) if self.is_kept(&session, Some(&checkpoint)) => End::Done,
            Ok(_) => match self.attempt(Some(checkpoint)) {
                Ok(sign_in) => End::Watch(Box::new(sign_in)),
                Err(error) => {
                    tracing::warn!(session.id = %self.login.key, error = %chain(&error), "An ended login cannot be looked after here");
                    End::Left
                }
            },
            Err(error) => {
                tracing::warn!(session.id = %self.login.key, error = %chain(&error), "An ended login waits for the store");
                End::Left
            }
        }
    }
}
