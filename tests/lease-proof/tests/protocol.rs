//! What the protocol decides, fact by fact: what has no say in whether two are connected is seen here.

use usm_lease_proof::protocol::{
    Acquire, Ask, Evict, Granted, Holder, LeaseId, Phase, Place, Purpose, Release, Released, Renew,
    RequestId, Rules, Session, Standing, Subject,
};

const TTL: i64 = 90_000;
const GAP: i64 = 15_000;
const RULES: Rules = Rules { quiet_gap: GAP, presence: 5_000, waiters_max: 2 };
const ANNE: Subject = Subject(1);
const BERT: Subject = Subject(2);

fn ask(subject: Subject) -> Ask {
    Ask {
        lease_id: LeaseId(subject.0.into()),
        holder: Holder(subject.0),
        subject,
        request_id: Some(RequestId(subject.0.into())),
        ttl: TTL,
        purpose: Purpose::Lend,
        queued: true,
    }
}

fn granted(subject: Subject, epoch: i64, ttl: i64) -> Acquire {
    Acquire::Granted(Granted { lease_id: LeaseId(subject.0.into()), epoch, ttl })
}

/// Anne's since time 0.
fn lent() -> Session {
    let mut session = Session::default();
    assert_eq!(session.acquire(&ask(ANNE), 0, &RULES), granted(ANNE, 1, TTL));
    session
}

#[test]
fn a_repeated_request_gets_what_remains_and_any_other_waits() {
    let mut session = lent();
    assert_eq!(session.acquire(&ask(ANNE), 1_000, &RULES), granted(ANNE, 1, TTL - 1_000));
    let busy = Acquire::Busy { free_in: TTL + GAP - 1_000 };
    for other in [
        Ask { request_id: None, ..ask(ANNE) },
        Ask { holder: Holder(9), ..ask(ANNE) },
        Ask { subject: BERT, ..ask(ANNE) },
        Ask { lease_id: LeaseId(9), ..ask(ANNE) },
        Ask { purpose: Purpose::Inspect, ..ask(ANNE) },
    ] {
        assert_eq!(session.acquire(&other, 1_000, &RULES), busy, "{other:?}");
    }
    assert_eq!(session.acquire(&ask(ANNE), TTL, &RULES), Acquire::Busy { free_in: GAP }, "it is over");
}

#[test]
fn an_unreleased_lease_rests_for_the_gap_and_the_epoch_rises() {
    let mut session = lent();
    assert_eq!(session.phase(TTL - 1, &RULES), Phase::Held { remaining: 1 });
    assert_eq!(session.phase(TTL, &RULES), Phase::Resting { free_in: GAP });
    assert_eq!(session.acquire(&ask(BERT), TTL + GAP - 1, &RULES), Acquire::Busy { free_in: 1 });
    assert_eq!(session.acquire(&ask(BERT), TTL + GAP, &RULES), granted(BERT, 2, TTL));
}

#[test]
fn a_renewal_extends_the_holders_own_live_lease_alone() {
    let mut session = lent();
    let renewed = Renew::Renewed(Granted { lease_id: LeaseId(1), epoch: 1, ttl: TTL });
    assert_eq!(session.renew(LeaseId(1), 1, ANNE, 30_000), renewed);
    assert_eq!(session.phase(30_000, &RULES), Phase::Held { remaining: TTL });
    assert_eq!(session.renew(LeaseId(1), 0, ANNE, 30_000), Renew::EpochStale { current: 1 });
    assert_eq!(session.renew(LeaseId(1), 1, BERT, 30_000), Renew::NotHeld);
    assert_eq!(session.renew(LeaseId(2), 1, ANNE, 30_000), Renew::NotHeld);
    session.standing = Standing::Unusable;
    assert_eq!(session.renew(LeaseId(1), 1, ANNE, 30_000), Renew::NotLendable);
    assert_eq!(session.renew(LeaseId(1), 1, ANNE, 30_000 + TTL), Renew::NotHeld);
}

#[test]
fn a_release_frees_at_once_only_if_everything_is_closed() {
    let mut session = lent();
    assert_eq!(session.release(LeaseId(1), 1, BERT, Release::Closed), Released::NotHeld);
    assert_eq!(session.release(LeaseId(1), 2, ANNE, Release::Closed), Released::EpochStale { current: 1 });
    assert_eq!(session.release(LeaseId(1), 1, ANNE, Release::Unknown), Released::Done);
    assert_eq!(session.phase(10_000, &RULES), Phase::Resting { free_in: TTL + GAP - 10_000 });
    assert_eq!(session.renew(LeaseId(1), 1, ANNE, 10_000), Renew::NotHeld);
    assert_eq!(session.release(LeaseId(1), 1, ANNE, Release::Closed), Released::Done, "closed later");
    assert_eq!(session.phase(10_000, &RULES), Phase::Free);
    assert_eq!(
        session.release(LeaseId(1), 1, ANNE, Release::Unknown),
        Released::Done,
        "changes nothing more"
    );
    assert_eq!(session.phase(10_000, &RULES), Phase::Free);
}

#[test]
fn an_eviction_ends_renewals_and_repetitions_but_not_the_lease() {
    let mut session = lent();
    assert_eq!(session.evict(Some(2), 0), Evict::NotHeld);
    assert_eq!(session.evict(Some(1), 0), Evict::Draining);
    assert_eq!(session.renew(LeaseId(1), 1, ANNE, 1_000), Renew::Evicted);
    assert_eq!(session.acquire(&ask(ANNE), 0, &RULES), Acquire::Busy { free_in: TTL + GAP });
    assert_eq!(session.phase(0, &RULES), Phase::Held { remaining: TTL });
    assert_eq!(session.evict(None, TTL), Evict::NotHeld);
}

#[test]
fn a_place_outlives_its_presence_and_a_probe_waits_for_everybody() {
    let mut session = Session::default();
    let (bert, probe) = (LeaseId(2), Ask { purpose: Purpose::Probe, queued: false, ..ask(ANNE) });
    assert_eq!(session.queue.enter(bert, 60_000, 0, &RULES), Place::After(0));
    assert_eq!(session.queue.enter(LeaseId(3), 60_000, 0, &RULES), Place::After(1));
    assert_eq!(session.queue.enter(LeaseId(4), 60_000, 0, &RULES), Place::None);
    assert_eq!(session.acquire(&ask(ANNE), 4_999, &RULES), Acquire::Behind { ahead: 2 });
    assert_eq!(session.acquire(&probe, 4_999, &RULES), Acquire::Behind { ahead: 2 });
    assert_eq!(session.queue.ahead_of(LeaseId(3), 5_000, &RULES), 0, "seen too long ago");
    assert_eq!(session.queue.enter(bert, 60_000, 6_000, &RULES), Place::After(0), "still the first");
    assert_eq!(session.acquire(&ask(BERT), 6_000, &RULES), granted(BERT, 1, TTL));
    assert_eq!(session.queue.waiters().len(), 1, "a grant ends the place");
}

#[test]
fn standing_decides_for_whom_a_session_is() {
    for (standing, purpose, may) in [
        (Standing::Unusable, Purpose::Lend, false),
        (Standing::Unusable, Purpose::Inspect, true),
        (Standing::Unusable, Purpose::Probe, true),
        (Standing::Foreign, Purpose::Inspect, false),
    ] {
        let mut session = Session { standing, ..Session::default() };
        let answer = session.acquire(&Ask { purpose, ..ask(ANNE) }, 0, &RULES);
        assert_eq!(answer != Acquire::NotLendable, may, "{standing:?} {purpose:?}");
    }
}
