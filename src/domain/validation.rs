//! What follows for a session from what Telegram says about its authorization.

use std::time::Duration;

use crate::domain::{
    session::{Event, Loss, Session, StaleReason, State},
    time::Timestamp,
};

/// Between a refusal and the look that believes it. False refusals came to many sessions at once and were over soon;
/// a key younger than a minute is refused at times before every server knows it.
pub const SECOND_LOOK: Duration = Duration::from_secs(60);

/// What Telegram said when it was asked about an authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It lives.
    Alive,
    /// A refusal that was known to be wrong at times.
    Refused,
    /// It has ended beyond doubt.
    Lost(Loss),
    /// Nothing that says anything about it.
    Silence,
}

/// What Telegram tells about one authorization of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Where it was last used from, and the country of that address in words.
    pub ip: String,
    pub country: String,
    pub create_time: Timestamp,
    pub active_time: Timestamp,
    /// Its owner has not said yet that the login was theirs.
    pub unconfirmed: bool,
    /// How long Telegram keeps one that is not used.
    pub ttl_days: i32,
}

/// What happens to the session, if anything.
///
/// A refusal is believed when it comes again at least `second_look` after the first. The session then counts as
/// revoked by its user: of the contract's reasons this one says what is most likely, since Telegram itself names
/// expiry, bans and duplicates, while a device ended from the list of devices may answer as a key that is not known.
pub fn event(session: &Session, word: Word, second_look: Duration, now: Timestamp) -> Option<Event> {
    match (word, &session.state) {
        (Word::Alive, State::Stale { .. }) => Some(Event::ValidationSucceeded),
        (
            Word::Refused,
            State::Authorized { .. } | State::Stale { reason: StaleReason::ValidationOverdue },
        ) => Some(Event::ValidationFailed),
        (Word::Refused, State::Stale { reason: StaleReason::ValidationFailed }) => {
            (now.since(session.update_time) >= second_look).then_some(Event::Lost(Loss::RevokedByUser))
        }
        (Word::Lost(loss), State::Authorized { .. } | State::Stale { .. }) => Some(Event::Lost(loss)),
        (
            Word::Alive | Word::Refused | Word::Lost(_),
            State::Absent { .. }
            | State::PendingQr(_)
            | State::PendingCode(_)
            | State::PendingPassword(_)
            | State::Revoked { .. },
        )
        | (Word::Alive, State::Authorized { .. })
        // Nobody has seen restored material work yet, so its refusal is no news; an operator decides.
        | (Word::Refused, State::Stale { reason: StaleReason::Restored })
        | (Word::Silence, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        id::SessionKey,
        session::{AuthorizedReason, Custody, Environment, LogOut, RevokedReason},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn session(state: State) -> Session {
        let key = SessionKey::parse("acme", "bot").expect("a key");
        let mut session = Session::new(key, Custody::Service, Environment::new("sandbox"), at(1000));
        session.state = state;
        session
    }

    fn stale(reason: StaleReason) -> Session {
        session(State::Stale { reason })
    }

    fn follows(session: &Session, word: Word, after: i64) -> Option<Event> {
        event(session, word, SECOND_LOOK, at(1000 + after))
    }

    #[test]
    fn a_refusal_is_believed_when_it_comes_again_later() {
        let authorized = session(State::Authorized { reason: AuthorizedReason::Imported });
        for first in [authorized, stale(StaleReason::ValidationOverdue)] {
            assert_eq!(follows(&first, Word::Refused, 3600), Some(Event::ValidationFailed));
        }
        let doubtful = stale(StaleReason::ValidationFailed);
        assert_eq!(follows(&doubtful, Word::Refused, 59), None);
        assert_eq!(follows(&doubtful, Word::Refused, 60), Some(Event::Lost(Loss::RevokedByUser)));
        assert_eq!(follows(&doubtful, Word::Alive, 1), Some(Event::ValidationSucceeded));
        assert_eq!(follows(&stale(StaleReason::Restored), Word::Refused, 3600), None);
    }

    #[test]
    fn what_is_certain_is_believed_at_once_and_silence_never() {
        let authorized = session(State::Authorized { reason: AuthorizedReason::Imported });
        for asked in [authorized, stale(StaleReason::ValidationFailed), stale(StaleReason::Restored)] {
            let lost = Event::Lost(Loss::Duplicated);
            assert_eq!(follows(&asked, Word::Lost(Loss::Duplicated), 0), Some(lost));
            assert_eq!(follows(&asked, Word::Silence, 100_000), None);
        }
    }

    #[test]
    fn every_event_that_follows_is_allowed() {
        let states = [
            State::Absent { reason: None },
            State::Authorized { reason: AuthorizedReason::Minted },
            State::Stale { reason: StaleReason::Restored },
            State::Stale { reason: StaleReason::ValidationFailed },
            State::Stale { reason: StaleReason::ValidationOverdue },
            State::Revoked { reason: RevokedReason::ManualRevoke, log_out: LogOut::Pending },
        ];
        for state in states {
            let session = session(state);
            for word in [Word::Alive, Word::Refused, Word::Lost(Loss::Banned), Word::Silence] {
                if let Some(event) = follows(&session, word, 100_000) {
                    session.state.next(event).expect("allowed");
                }
            }
        }
    }
}
