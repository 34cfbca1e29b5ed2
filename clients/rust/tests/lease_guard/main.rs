//! The guard's timing and what it does when the service answers late, wrongly or not at all. Time is paused: it
//! passes when nothing else can happen.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod fake;
mod hold;
mod pushes;
mod report;
mod stream;

use std::time::Duration;

use fake::{Answer, EPOCH, Fake, LEASE_ID, MATERIAL};
use tokio::time::{Instant, timeout};
use tonic::Code;
use usm_client::{Connections, Error, LeaseGuard, Loss, v1};

const TTL: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);

fn request() -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        tenant_id: "acme".into(),
        app_id: "news".into(),
        holder: "worker-7".into(),
        ..Default::default()
    }
}

fn refused(code: Code, reason: &'static str) -> Answer {
    Answer::Refuse(code, reason, None)
}

/// Waits for the signal, and tells how long it took from `since`. No test waits for ever.
async fn lost_after(guard: &LeaseGuard, since: Instant) -> Duration {
    timeout(Duration::from_secs(3600), guard.lost()).await.expect("the guard tells");
    since.elapsed()
}

async fn guard(fake: &Fake) -> LeaseGuard {
    LeaseGuard::acquire(&fake.serve(), request()).await.unwrap().0
}

async fn lives_for(guard: &LeaseGuard, span: Duration) {
    assert!(timeout(span, guard.lost()).await.is_err(), "the lease lives: {:?}", guard.loss());
}

/// How many seconds after `start` the fake heard each of these.
fn times(fake: &Fake, method: &str, start: Instant) -> Vec<f64> {
    fake.calls(method).iter().map(|call| (call.at - start).as_secs_f64()).collect()
}

fn about(span: Duration, seconds: f64) -> bool {
    (span.as_secs_f64() - seconds).abs() < 0.1
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_every_third_of_its_time_as_long_as_its_guard_lives() {
    let fake = Fake::default();
    let start = Instant::now();
    let (guard, material) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    assert_eq!((guard.epoch(), material.data.as_slice()), (EPOCH, MATERIAL));
    assert!(timeout(Duration::from_secs(605), guard.lost()).await.is_err(), "the lease lives");
    let renewals = fake.calls("renew");
    assert_eq!(renewals.len(), 20);
    for (n, call) in renewals.iter().enumerate() {
        assert!(about(call.at - start, 30.0 * (n as f64 + 1.0)), "{n}");
        assert_eq!(call.authorization, "Bearer open-sesame");
    }
    assert_eq!(guard.loss(), None);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_before_the_call_was_sent() {
    let fake = Fake::answering([Answer::Late(Duration::from_secs(8), TTL)]);
    let sent = Instant::now();
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    assert!(about(sent.elapsed(), 8.0));
    assert!(about(guard.deadline() - sent, 89.0), "{:?}", guard.deadline() - sent);
    assert!(about(guard.remaining(), 81.0));
}

#[tokio::test(start_paused = true)]
async fn a_late_renewal_counts_from_before_it_was_sent_too() {
    let fake =
        Fake::answering([Answer::Grant(TTL), Answer::Late(Duration::from_secs(4), TTL), Answer::Silence]);
    let start = Instant::now();
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    fake.then(vec![Answer::Silence; 50]);
    assert!(about(lost_after(&guard, start).await, 30.0 + 84.0));
    assert!(about(guard.remaining(), 5.0));
}

#[tokio::test(start_paused = true)]
async fn silence_of_the_service_ends_the_lease_before_its_time() {
    let fake = Fake::answering([Answer::Grant(TTL)]);
    let start = Instant::now();
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    fake.then(vec![Answer::Silence; 50]);
    assert!(about(lost_after(&guard, start).await, 84.0));
    assert!(about(guard.remaining(), 5.0), "time to close the connections");
    assert_eq!(guard.loss(), Some(Loss::Expired));
    assert!(fake.calls("renew").len() >= 5, "it kept trying");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_back_in_time_costs_nothing() {
    let fake = Fake::answering([Answer::Grant(TTL)]);
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    fake.then([
        refused(Code::Unavailable, "STORE_UNAVAILABLE"),
        refused(Code::Unauthenticated, "UNAUTHENTICATED"),
        refused(Code::Aborted, "STORE_CONFLICT"),
        Answer::Refuse(Code::ResourceExhausted, "RATE_LIMITED", Some(Duration::from_secs(20))),
    ]);
    assert!(timeout(Duration::from_secs(120), guard.lost()).await.is_err(), "the lease lives");
    let renewals = fake.calls("renew");
    assert!(renewals[4].at - renewals[3].at >= Duration::from_secs(20), "it waits as told");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_lease_at_once() {
    for (code, reason) in [
        (Code::Aborted, "LEASE_EPOCH_STALE"),
        (Code::FailedPrecondition, "LEASE_NOT_HELD"),
        (Code::FailedPrecondition, "LEASE_DRAINING"),
        (Code::NotFound, "SESSION_NOT_FOUND"),
        (Code::FailedPrecondition, "A_REASON_OF_TOMORROW"),
    ] {
        let fake = Fake::answering([Answer::Grant(TTL), refused(code, reason)]);
        let start = Instant::now();
        let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
        assert!(about(lost_after(&guard, start).await, 30.0), "{reason}");
        let Some(Loss::Refused(refusal)) = guard.loss() else { panic!("{reason}: {:?}", guard.loss()) };
        assert_eq!(refusal.reason, reason);
        assert_eq!(fake.calls("renew").len(), 1, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_grants_less_shortens_the_deadline() {
    let fake = Fake::answering([Answer::Grant(TTL), Answer::Grant(Duration::from_secs(20))]);
    let start = Instant::now();
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    fake.then(vec![Answer::Silence; 50]);
    assert!(about(lost_after(&guard, start).await, 30.0 + 20.0 - 1.0 - 5.0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_under_the_same_request_id() {
    let fake = Fake::answering([refused(Code::Unavailable, ""), Answer::Grant(Duration::from_secs(60))]);
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    let calls = fake.calls("acquire");
    assert_eq!(calls.len(), 2);
    assert!(!calls[0].request_id.is_empty() && calls[0].request_id == calls[1].request_id);
    assert!(about(guard.deadline() - calls[1].at, 59.0), "counted from the second call");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_answers_ends_the_acquire() {
    let fake = Fake::answering(vec![Answer::Silence; 50]);
    let start = Instant::now();
    let error = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::DeadlineExceeded);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

/// A request that waits in the queue for longer than what is granted lasts.
fn patient() -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest { wait: (TTL * 2).try_into().ok(), ..request() }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_waited_for_has_its_whole_time() {
    let fake = Fake::answering([Answer::Late(TTL + SECOND * 20, TTL), refused(Code::Unavailable, "")]);
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), patient()).await.unwrap();
    assert_eq!(fake.calls("renew").len(), 2);
    assert!(guard.remaining() > SECOND * 88, "{:?}", guard.remaining());
    lives_for(&guard, SECOND * 300).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_waited_for_and_lost_meanwhile_is_not_handed_out() {
    let late = Answer::Late(TTL + SECOND * 20, TTL);
    let fake = Fake::answering([late, refused(Code::FailedPrecondition, "LEASE_NOT_HELD")]);
    let error = LeaseGuard::acquire(&fake.serve(), patient()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, "LEASE_NOT_HELD");
}

#[tokio::test(start_paused = true)]
async fn a_leased_session_is_refused_with_its_reason_and_the_wait() {
    let wait = Some(Duration::from_secs(42));
    let fake = Fake::answering([Answer::Refuse(Code::Aborted, "SESSION_LEASED", wait)]);
    let error = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.reason.as_str(), refusal.retry_after), ("SESSION_LEASED", wait));
    assert_eq!(fake.calls("acquire").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_time_is_no_lease() {
    let fake = Fake::answering([Answer::Grant(Duration::ZERO)]);
    let error = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::Internal);
}

#[tokio::test(start_paused = true)]
async fn a_release_tells_what_the_holder_knows_and_ends_the_renewals() {
    for (connections, closed) in [(Connections::Closed, true), (Connections::Unknown, false)] {
        let fake = Fake::default();
        let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
        let lost = guard.lost();
        guard.release(connections).await.unwrap();
        lost.await;
        tokio::time::sleep(TTL).await;
        assert_eq!(fake.calls("release").len(), 1);
        assert_eq!(fake.calls("release")[0].connections_closed, closed);
        assert!(fake.calls("renew").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_release_is_asked_for_again() {
    let fake = Fake::answering([Answer::Grant(TTL), refused(Code::Unavailable, "")]);
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    guard.release(Connections::Closed).await.unwrap();
    let calls = fake.calls("release");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].request_id, calls[1].request_id);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_tells_its_worker_and_sends_nothing() {
    let fake = Fake::default();
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    let (lost, token) = (guard.lost(), guard.lost_token());
    drop(guard);
    timeout(Duration::from_secs(1), lost).await.unwrap();
    assert!(token.is_cancelled());
    tokio::time::sleep(TTL).await;
    assert!(fake.calls("renew").is_empty() && fake.calls("release").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_workers_token_does_not_touch_the_lease() {
    let fake = Fake::default();
    let (guard, _) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    guard.lost_token().cancel();
    assert!(timeout(Duration::from_secs(100), guard.lost()).await.is_err());
    assert_eq!(fake.calls("renew").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_printed_shows_a_secret() {
    let fake = Fake::answering([Answer::Grant(TTL), refused(Code::Aborted, "LEASE_EPOCH_STALE")]);
    let (guard, material) = LeaseGuard::acquire(&fake.serve(), request()).await.unwrap();
    guard.lost().await;
    let error = Error::Lost(guard.loss().unwrap());
    let text = format!("{guard:?} {:?} {material:?} {error:?} {error}", guard.lease());
    assert!(
        !text.contains(LEASE_ID) && !text.contains("nobody-may-see") && !text.contains("sesame"),
        "{text}"
    );
    let bytes = format!("{MATERIAL:?}");
    assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text}");
}
