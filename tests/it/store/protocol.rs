//! The store beside the reference protocol: whatever is done to both in whatever order, both say the same.
//!
//! What the model checker explores and the simulation runs is the reference (`usm_lease_proof::protocol`), a value without
//! a database. Here random steps are taken on it and on real rows, on both databases; time passes by moving the rows'
//! times back. A failure tells its seed, which `USM_PROTOCOL_SEED` repeats.

use std::time::{Duration, Instant};

use usm::{
    domain::{
        caller::Caller,
        id::{Holder, LeaseId, RequestId, SessionKey},
        lease::{self, Drain, Phase},
        session::Session,
    },
    store::{Acquire, Place as Standing, Released, Renew},
};
use usm_lease_proof::protocol::{self as reference, Millis, Rules};

use super::{GAP, Place, on_both, service};

on_both!(the_store_does_as_the_reference_says);

const STEPS: u32 = 400;
/// How far the reference's clock may be from the database's: a step whose answer depends on so little is not taken.
const BLUR: Millis = 400;
const TTL: Millis = 10_000;

/// Small, and the same for a seed on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One step on one session.
#[derive(Clone, Debug)]
enum Step {
    Acquire(reference::Ask),
    Renew { lease: u128, epoch: i64, subject: u32 },
    Release { lease: u128, epoch: i64, subject: u32, how: reference::Release },
    Evict(Option<i64>),
    Enter { lease: u128, wait: Millis },
    Leave { lease: u128 },
    Forget,
    Stand(reference::Standing),
    Pass(Millis),
}

/// An answer in words that both can say.
type Said = String;

fn step(chance: &mut Chance, session: &reference::Session) -> Step {
    let who = u128::from(chance.below(3));
    let subject = u32::try_from(chance.below(2)).expect("small");
    // Mostly the lease that is there, by its own; sometimes any other.
    let last = session.last.as_ref();
    let own = last.filter(|_| chance.below(10) < 8);
    let lease = own.map_or(who, |last| last.lease_id.0);
    let subject_of = own.map_or(subject, |last| last.subject.0);
    let epoch = session.epoch - i64::from(chance.below(10) == 0);
    match chance.below(100) {
        0..30 => {
            let purpose = match chance.below(10) {
                0 => reference::Purpose::Inspect,
                1 => reference::Purpose::Probe,
                _ => reference::Purpose::Lend,
            };
            Step::Acquire(reference::Ask {
                lease_id: reference::LeaseId(who),
                holder: reference::Holder(u32::try_from(who).expect("small")),
                subject: reference::Subject(u32::try_from(who % 2).expect("small")),
                request_id: (who > 0).then_some(reference::RequestId(who)),
                ttl: TTL,
                purpose,
                queued: purpose == reference::Purpose::Lend && chance.below(2) == 0,
            })
        }
        30..45 => Step::Renew { lease, epoch, subject: subject_of },
        45..57 => {
            let how =
                if chance.below(3) == 0 { reference::Release::Unknown } else { reference::Release::Closed };
            Step::Release { lease, epoch, subject: subject_of, how }
        }
        57..61 => Step::Evict([None, Some(epoch)][usize::try_from(chance.below(2)).expect("small")]),
        61..71 => Step::Enter {
            lease: who,
            wait: [3_000, 8_000, 60_000][usize::try_from(chance.below(3)).expect("small")],
        },
        71..75 => Step::Leave { lease: who },
        75..77 => Step::Forget,
        77..81 => Step::Stand(match chance.below(4) {
            0 => reference::Standing::Unusable,
            1 => reference::Standing::Foreign,
            _ => reference::Standing::Usable,
        }),
        _ => Step::Pass(
            [1_000, 3_000, 6_000, 11_000, 16_000][usize::try_from(chance.below(5)).expect("small")],
        ),
    }
}

/// The reference's answer, and what becomes of it.
fn refer(session: &mut reference::Session, step: &Step, now: Millis, rules: &Rules) -> Said {
    match step {
        Step::Acquire(ask) => match session.acquire(ask, now, rules) {
            reference::Acquire::Granted(granted) => format!("granted {}", granted.epoch),
            reference::Acquire::Busy { .. } => "busy".to_owned(),
            reference::Acquire::Behind { .. } => "behind".to_owned(),
            reference::Acquire::NotLendable => "not lendable".to_owned(),
        },
        Step::Renew { lease, epoch, subject } => {
            match session.renew(reference::LeaseId(*lease), *epoch, reference::Subject(*subject), now) {
                reference::Renew::Renewed(granted) => format!("renewed {}", granted.epoch),
                reference::Renew::NotHeld => "not held".to_owned(),
                reference::Renew::EpochStale { current } => format!("stale {current}"),
                reference::Renew::Evicted => "evicted".to_owned(),
                reference::Renew::NotLendable => "not lendable".to_owned(),
            }
        }
        Step::Release { lease, epoch, subject, how } => {
            match session.release(reference::LeaseId(*lease), *epoch, reference::Subject(*subject), *how) {
                reference::Released::Done => "done".to_owned(),
                reference::Released::NotHeld => "not held".to_owned(),
                reference::Released::EpochStale { current } => format!("stale {current}"),
            }
        }
        Step::Evict(epoch) => {
            session.evict(*epoch, now);
            String::new()
        }
        Step::Enter { lease, wait } => {
            match session.queue.enter(reference::LeaseId(*lease), *wait, now, rules) {
                reference::Place::After(ahead) => format!("after {ahead}"),
                reference::Place::None => "no place".to_owned(),
            }
        }
        Step::Leave { lease } => {
            session.queue.leave(reference::LeaseId(*lease));
            String::new()
        }
        Step::Forget => {
            session.queue.forget(now);
            String::new()
        }
        Step::Stand(standing) => {
            session.standing = *standing;
            String::new()
        }
        Step::Pass(_) => String::new(),
    }
}

fn lease_id(number: u128) -> LeaseId {
    LeaseId::from_random((number + 1).to_be_bytes())
}

fn caller(subject: u32) -> Caller {
    Caller { subject: format!("user:{subject}"), ..service() }
}

fn request(key: &SessionKey, ask: &reference::Ask) -> lease::Request {
    lease::Request {
        key: key.clone(),
        holder: Holder::parse(&format!("worker-{}", ask.holder.0)).expect("a holder"),
        ttl: Duration::from_millis(u64::try_from(ask.ttl).expect("positive")),
        request_id: ask.request_id.map(|id| {
            let text = uuid::Uuid::from_u128(id.0).to_string();
            RequestId::parse_optional(&text).expect("a UUID").expect("given")
        }),
        lease_id: lease_id(ask.lease_id.0),
        purpose: match ask.purpose {
            reference::Purpose::Lend => lease::Purpose::Lend,
            reference::Purpose::Inspect => lease::Purpose::Inspect,
            reference::Purpose::Probe => lease::Purpose::Probe,
        },
        queued: ask.queued,
    }
}

/// The store's answer.
async fn really(place: &Place, key: &SessionKey, step: &Step) -> Said {
    let store = &place.store;
    match step {
        Step::Acquire(ask) => {
            match store.acquire(&caller(ask.subject.0), &request(key, ask)).await.expect("an answer") {
                Acquire::Granted(grant) => format!("granted {}", grant.lease.epoch),
                Acquire::Busy { free_in: Duration::ZERO, .. } => "behind".to_owned(),
                Acquire::Busy { .. } => "busy".to_owned(),
                Acquire::NotLendable(_) => "not lendable".to_owned(),
                other @ (Acquire::NotFound | Acquire::Disabled) => panic!("{other:?}"),
            }
        }
        Step::Renew { lease, epoch, subject } => {
            match store.renew(&caller(*subject), &lease_id(*lease), *epoch, None).await.expect("an answer") {
                Renew::Renewed { lease, .. } => format!("renewed {}", lease.epoch),
                Renew::NotHeld => "not held".to_owned(),
                Renew::EpochStale { current } => format!("stale {current}"),
                Renew::Evicted => "evicted".to_owned(),
                Renew::NotLendable(_) => "not lendable".to_owned(),
            }
        }
        Step::Release { lease, epoch, subject, how } => {
            let how = match how {
                reference::Release::Closed => lease::Release::ConnectionsClosed,
                reference::Release::Unknown => lease::Release::ConnectionsUnknown,
            };
            match store.release(&caller(*subject), &lease_id(*lease), *epoch, how).await.expect("an answer") {
                Released::Done(_) => "done".to_owned(),
                Released::NotHeld => "not held".to_owned(),
                Released::EpochStale { current } => format!("stale {current}"),
            }
        }
        Step::Evict(epoch) => {
            store.evict(&service(), key, *epoch, Drain::Evicted).await.expect("an answer");
            String::new()
        }
        Step::Enter { lease, wait } => {
            let wait = Duration::from_millis(u64::try_from(*wait).expect("positive"));
            match store.queue(&service(), key, &lease_id(*lease), wait).await.expect("an answer") {
                Standing::After(ahead) => format!("after {ahead}"),
                Standing::None => "no place".to_owned(),
            }
        }
        Step::Leave { lease } => {
            store.leave_queue(&service(), &lease_id(*lease)).await.expect("left");
            String::new()
        }
        Step::Forget => {
            store.forget_places(&service()).await.expect("forgotten");
            String::new()
        }
        Step::Stand(standing) => {
            let (custody, state, reason) = match standing {
                reference::Standing::Usable => ("SERVICE", "AUTHORIZED", "imported"),
                reference::Standing::Unusable => ("SERVICE", "STALE", "validation_failed"),
                reference::Standing::Foreign => ("LEGACY", "AUTHORIZED", "imported"),
            };
            place
                .raw(&format!(
                    "update telegram_sessions set custody = '{custody}', state = '{state}', state_reason = '{reason}'"
                ))
                .await;
            String::new()
        }
        Step::Pass(span) => {
            place.pass(Duration::from_millis(u64::try_from(*span).expect("positive"))).await;
            String::new()
        }
    }
}

/// What everybody sees of the session, in words that both can say.
fn seen(session: &Session) -> Said {
    let phase = session.lease.as_ref().map(|lease| match lease.phase() {
        Phase::Held => "held",
        Phase::Draining => "draining",
        Phase::Quarantined => "resting",
    });
    format!("{} epoch {}", phase.unwrap_or("free"), session.lease_epoch)
}

fn expected(session: &reference::Session, now: Millis, rules: &Rules) -> Said {
    let phase = match session.phase(now, rules) {
        reference::Phase::Free => "free",
        reference::Phase::Held { .. } if session.last.as_ref().is_some_and(|last| last.evicted) => "draining",
        reference::Phase::Held { .. } => "held",
        reference::Phase::Resting { .. } => "resting",
    };
    format!("{phase} epoch {}", session.epoch)
}

/// Whether neither the answer nor what follows depends on a blink of time.
fn is_clear(session: &reference::Session, step: &Step, now: Millis, rules: &Rules) -> bool {
    let at = |now| {
        let mut session = session.clone();
        let said = refer(&mut session, step, now, rules);
        (said, session.epoch, expected(&session, now, rules))
    };
    at(now - BLUR) == at(now + BLUR)
}

async fn the_store_does_as_the_reference_says(place: Place) {
    let seed = std::env::var("USM_PROTOCOL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 | 1);
    let rules = Rules { quiet_gap: Millis::try_from(GAP.as_millis()).expect("small"), ..Rules::default() };
    let mut chance = Chance(seed);
    let key = place.authorized("acme", "a").await.key;
    let mut session = reference::Session::default();
    let (begun, mut passed) = (Instant::now(), 0);
    let mut history: Vec<(Step, Said)> = Vec::new();
    let (mut taken, mut granted) = (0, 0);
    while taken < STEPS {
        let step = step(&mut chance, &session);
        let now = passed + Millis::try_from(begun.elapsed().as_millis()).expect("small");
        let step = if is_clear(&session, &step, now, &rules) { step } else { Step::Pass(1_000) };
        let said = really(&place, &key, &step).await;
        let wanted = refer(&mut session, &step, now, &rules);
        history.push((step.clone(), said.clone()));
        let tail = &history[history.len().saturating_sub(12)..];
        assert_eq!(said, wanted, "seed {seed}, step {taken}: {tail:#?}");
        if let Step::Pass(span) = step {
            passed += span;
        }
        let now = passed + Millis::try_from(begun.elapsed().as_millis()).expect("small");
        if expected(&session, now - BLUR, &rules) == expected(&session, now + BLUR, &rules) {
            let stored = place.store.get(&service(), &key).await.expect("read").expect("there");
            assert_eq!(
                seen(&stored),
                expected(&session, now, &rules),
                "seed {seed}, step {taken}: {tail:#?}"
            );
        }
        taken += 1;
        granted += u32::from(said.starts_with("granted"));
    }
    assert!(granted >= 3, "seed {seed}: the steps lead nowhere: {granted} grants");
}
