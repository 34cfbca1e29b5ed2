//! The life cycle, pair by pair and over random lives.

use proptest::prelude::*;

use super::*;

const LOSSES: [Loss; 5] = [Loss::Banned, Loss::Deleted, Loss::Duplicated, Loss::Expired, Loss::RevokedByUser];
const ENDS: [LoginEnd; 3] = [LoginEnd::Expired, LoginEnd::Cancelled, LoginEnd::Failed];

fn events() -> Vec<Event> {
    let mut all = vec![
        Event::QrStarted,
        Event::CodeStarted,
        Event::PasswordRequired,
        Event::TelegramAuthorized,
        Event::Imported,
        Event::Minted,
        Event::Restored,
        Event::ValidationOverdue,
        Event::ValidationFailed,
        Event::ValidationSucceeded,
        Event::ManuallyRevoked(LogOut::Done),
        Event::ManuallyRevoked(LogOut::Pending),
        Event::LoggedOut,
        Event::Reset,
    ];
    all.extend(LOSSES.map(Event::Lost));
    all.extend(ENDS.map(Event::LoginEnded));
    all
}

fn states() -> Vec<State> {
    let overdue = State::Stale { reason: StaleReason::ValidationOverdue };
    let failed = State::Stale { reason: StaleReason::ValidationFailed };
    let revoked = State::Revoked { reason: RevokedReason::Expired, log_out: LogOut::Done };
    let before = || Pending { before: Rest::Stale { reason: StaleReason::Restored } };
    vec![
        State::Absent { reason: None },
        State::PendingQr(before()),
        State::PendingCode(before()),
        State::PendingPassword(before()),
        State::Authorized { reason: AuthorizedReason::Imported },
        overdue,
        failed,
        revoked,
        State::Revoked { reason: RevokedReason::ManualRevoke, log_out: LogOut::Pending },
    ]
}

/// Where an event leads, by the table of the life cycle: the name of the state, or nothing for a refusal. Written
/// apart from the function it judges, in the shape in which people read the table.
fn table(state: &State, event: Event) -> Option<StateName> {
    use StateName as N;
    let from = state.name();
    let pending = matches!(from, N::PendingQr | N::PendingCode | N::PendingPassword);
    let unusable = matches!(from, N::Absent | N::Stale | N::Revoked) && !state.is_usable();
    let to = match event {
        Event::QrStarted if unusable => N::PendingQr,
        Event::CodeStarted if unusable => N::PendingCode,
        Event::PasswordRequired if matches!(from, N::PendingQr | N::PendingCode) => N::PendingPassword,
        Event::TelegramAuthorized if pending => N::Authorized,
        // The states of the list above all return there.
        Event::LoginEnded(_) if pending => N::Stale,
        Event::Imported | Event::Minted if matches!(from, N::Absent | N::Revoked) => N::Authorized,
        Event::Restored => N::Stale,
        Event::ValidationOverdue if from == N::Authorized => N::Stale,
        // What counted as usable is not lent any more once it was refused.
        Event::ValidationFailed if state.is_usable() => N::Stale,
        Event::ValidationSucceeded if from == N::Stale => N::Authorized,
        Event::Lost(_) if matches!(from, N::Authorized | N::Stale) => N::Revoked,
        Event::ManuallyRevoked(_) if pending || matches!(from, N::Authorized | N::Stale) => N::Revoked,
        Event::LoggedOut if matches!(state, State::Revoked { log_out: LogOut::Pending, .. }) => N::Revoked,
        Event::Reset if matches!(from, N::Revoked | N::Stale) => N::Absent,
        _ => return None,
    };
    Some(to)
}

#[test]
fn every_pair_of_state_and_event_goes_where_the_table_says() {
    for state in states() {
        for event in events() {
            let next = state.next(event);
            match table(&state, event) {
                Some(to) => assert_eq!(next.expect("allowed").name(), to, "{state:?} {event:?}"),
                None => {
                    let refused = next.expect_err("refused");
                    assert_eq!(refused.reason, Reason::SessionWrongState, "{state:?} {event:?}");
                }
            }
        }
    }
}

#[test]
fn reasons_are_those_of_the_event() {
    let ready = State::Authorized { reason: AuthorizedReason::Imported };
    for loss in LOSSES {
        let lost = ready.next(Event::Lost(loss)).expect("allowed");
        assert_eq!(lost.reason(), Event::Lost(loss).reason());
    }
    for event in [Event::ValidationOverdue, Event::ValidationFailed, Event::Restored] {
        assert_eq!(ready.next(event).expect("allowed").reason(), event.reason());
    }
    let absent = State::Absent { reason: None };
    for event in [Event::Imported, Event::Minted, Event::QrStarted, Event::CodeStarted] {
        assert_eq!(absent.next(event).expect("allowed").reason(), event.reason());
    }
}

#[test]
fn only_authorized_and_overdue_sessions_are_lent() {
    for state in states() {
        let lent = state.name() == StateName::Authorized || state.reason() == "validation_overdue";
        assert_eq!(state.is_usable(), lent, "{state:?}");
    }
}

#[test]
fn names_read_back() {
    for state in StateName::ALL {
        assert_eq!(StateName::parse(state.as_str()), Some(*state));
    }
    for reason in RevokedReason::ALL {
        assert_eq!(RevokedReason::parse(reason.name()), Some(*reason));
    }
    for custody in Custody::ALL {
        assert_eq!(Custody::parse(custody.name()), Some(*custody));
    }
    assert_eq!(StateName::parse("authorized"), None);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop::sample::select(events())
}

proptest! {
    /// Whatever happens in whatever order, these hold after each step.
    #[test]
    fn random_lives_keep_the_rules(life in prop::collection::vec(any_event(), 0..200)) {
        let mut state = State::Absent { reason: None };
        // What a login that fails must return to.
        let mut rest = None;
        for event in life {
            let Ok(next) = state.next(event) else { continue };
            if state.pending().is_none() && next.pending().is_some() {
                prop_assert!(!state.is_usable(), "a login took usable material away");
                rest = Some(state.clone());
            }
            if matches!(event, Event::LoginEnded(_)) {
                prop_assert_eq!(Some(&next), rest.as_ref(), "a failed login left a trace");
            }
            if next.is_usable() && !state.is_usable() {
                let brought = matches!(
                    event,
                    Event::TelegramAuthorized | Event::Imported | Event::Minted | Event::ValidationSucceeded
                );
                prop_assert!(brought, "{:?} made material usable", event);
            }
            if let State::Revoked { log_out: LogOut::Pending, .. } = &next {
                let told = matches!(event, Event::ManuallyRevoked(LogOut::Pending) | Event::LoginEnded(_));
                prop_assert!(told, "a log-out became pending by {:?}", event);
            }
            state = next;
        }
    }

    /// A refusal changes nothing and says where the session stands.
    #[test]
    fn refusals_change_nothing(life in prop::collection::vec(any_event(), 0..50), last in any_event()) {
        let key = SessionKey::parse("acme", "news").unwrap();
        let environment = Environment::new("sandbox");
        let mut session = Session::new(key, Custody::Service, environment, Timestamp::EPOCH);
        for event in life {
            let _ = session.apply(event, Timestamp::EPOCH);
        }
        let before = session.state.clone();
        match session.apply(last, Timestamp::from_millis(7)) {
            Ok(moved) => {
                prop_assert_eq!(moved.from, before.name());
                prop_assert_eq!(moved.to, session.state.name());
                prop_assert_eq!(session.update_time, Timestamp::from_millis(7));
            }
            Err(refused) => {
                prop_assert_eq!(&session.state, &before);
                prop_assert_eq!(session.update_time, Timestamp::EPOCH);
                prop_assert!(refused.facts.contains(&("state", before.name().as_str().to_owned())));
            }
        }
    }
}
