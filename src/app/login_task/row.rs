//! What a login writes into its session's row on the way. Conditional on the ticket and the replica, so that neither a
//! newer login nor another replica that took over is ever disturbed.

use super::{Task, WRITE_LIMIT, chain};
use crate::{
    app::{App, as_service},
    domain::{
        error::Error,
        event::NewEvent,
        login::Login,
        session::{Event, LoginEnd, Session},
    },
    store::{self, Change, TicketRule},
};

impl App {
    /// Only while the row names this login, run here.
    pub(in crate::app) fn mine(&self, login: &Login) -> TicketRule {
        TicketRule::MustBe { ticket: login.ticket.hash(), owner: self.0.tickets.replica().clone() }
    }

    /// Whether the row names this login, run here.
    pub(in crate::app) fn is_mine(&self, session: &Session, login: &Login) -> bool {
        session.login_ticket.as_ref() == Some(&login.ticket.hash())
            && session.login_owner.as_ref() == Some(self.0.tickets.replica())
    }

    /// Returns the session's row to where it was before the login, unless another login took over.
    pub(in crate::app) async fn return_row(&self, login: &Login, end: LoginEnd) {
        if let Err(error) = self.try_return_row(login, end).await {
            tracing::warn!(session.id = %login.key, error = %chain(&error), "Left a pending row to housekeeping");
        }
    }

    async fn try_return_row(&self, login: &Login, end: LoginEnd) -> Result<(), store::Error> {
        let caller = as_service(&login.subject, WRITE_LIMIT);
        let Some(mut session) = self.0.store.get(&caller, &login.key).await? else { return Ok(()) };
        if !self.is_mine(&session, login) {
            return Ok(());
        }
        let mut events = Vec::new();
        if session.state.pending().is_some()
            && let Ok(moved) = session.apply(Event::LoginEnded(end), caller.now)
        {
            events.push(NewEvent::transition(moved, &login.subject));
        }
        session.forget_login();
        let change = Change { login_ticket: self.mine(login), events, ..Change::of(session) };
        match self.commit(&caller, change).await {
            Ok(_) | Err(store::Error::TicketMoved) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Task {
    pub(super) async fn note_password_step(&self) {
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        let noted: Result<(), Error> = async {
            let Some(mut session) = self.app.0.store.get(&caller, &self.login.key).await? else {
                return Ok(());
            };
            // Beside usable material the row's state is not the login's; told twice, it is there already.
            let Ok(moved) = session.apply(Event::PasswordRequired, caller.now) else { return Ok(()) };
            if !self.app.is_mine(&session, &self.login) {
                return Ok(());
            }
            let change = Change {
                login_ticket: self.app.mine(&self.login),
                events: vec![NewEvent::transition(moved, &self.login.subject)],
                ..Change::of(session)
            };
            self.app.commit(&caller, change).await?;
            Ok(())
        }
        .await;
        if let Err(error) = noted {
            // The login goes on: the row catches up at its end.
            tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Row does not show the password step");
        }
    }
}
