//! What a login writes into its session's row on the way. Conditional on the ticket, so that a newer login is never
//! disturbed.

use super::{Task, WRITE_LIMIT, chain};
use crate::{
    app::{App, as_service},
    domain::{
        error::Error,
        event::NewEvent,
        login::Login,
        session::{Event, LoginEnd},
    },
    store::{self, Change, Expected, LeaseRule, MaterialChange, TicketRule},
};

impl App {
    /// Returns the session's row to where it was before the login, unless another login took over.
    pub(in crate::app) async fn return_row(&self, login: &Login, end: LoginEnd) {
        if let Err(error) = self.try_return_row(login, end).await {
            tracing::warn!(session.id = %login.key, error = %chain(&error), "Left a pending row to housekeeping");
        }
    }

    async fn try_return_row(&self, login: &Login, end: LoginEnd) -> Result<(), store::Error> {
        let caller = as_service(&login.subject, WRITE_LIMIT);
        let Some(mut session) = self.0.store.get(&caller, &login.key).await? else { return Ok(()) };
        if session.login_ticket.as_ref() != Some(&login.ticket.hash()) {
            return Ok(());
        }
        let mut events = Vec::new();
        if session.state.pending().is_some()
            && let Ok(moved) = session.apply(Event::LoginEnded(end), caller.now)
        {
            events.push(NewEvent::transition(moved, &login.subject));
        }
        session.login_ticket = None;
        let change = Change {
            expected: Expected::Revision(session.revision),
            session,
            material: MaterialChange::Keep,
            lease: LeaseRule::Ignore,
            login_ticket: TicketRule::MustBe(login.ticket.hash()),
            events,
        };
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
            if session.login_ticket.as_ref() != Some(&self.login.ticket.hash())
                || session.state.pending().is_none()
            {
                return Ok(());
            }
            let moved = session.apply(Event::PasswordRequired, caller.now)?;
            let change = Change {
                expected: Expected::Revision(session.revision),
                session,
                material: MaterialChange::Keep,
                lease: LeaseRule::Ignore,
                login_ticket: TicketRule::MustBe(self.login.ticket.hash()),
                events: vec![NewEvent::transition(moved, &self.login.subject)],
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
