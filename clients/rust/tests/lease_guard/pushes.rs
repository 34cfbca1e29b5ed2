//! What the service says on the stream unasked: that it stops, that it wants the session, that the lease is over.

use tokio::time::{Instant, sleep};
use tonic::Code;
use usm_client::v1::{self, hold_lease_response::Step};
use usm_client::{Connections, Error, Loss};

use crate::fake::{Answer, EPOCH, Fake, LEASE_ID};
use crate::{SECOND, TTL, about, guard, lives_for, lost_after, refused, times};

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_costs_nothing() {
    let fake = Fake::streaming();
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND * 10).await;
    fake.then_open([refused(Code::Unavailable, "SERVICE_DRAINING")]);
    fake.push_draining(v1::LeaseDrainReason::Shutdown.into());
    lives_for(&guard, SECOND * 90).await;
    assert_eq!(fake.calls("left").len(), 1, "the guard left the stream");
    let opened = times(&fake, "hold", start);
    assert!(opened.len() == 3 && opened[1] > 10.4 && opened[2] < 14.0, "{opened:?}");
    assert_eq!(guard.loss(), None);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_amid_a_beat_is_replaced_by_a_call_at_once() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Silence]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND * 32).await;
    fake.push_draining(v1::LeaseDrainReason::Shutdown.into());
    lives_for(&guard, SECOND * 60).await;
    assert!((times(&fake, "renew", start)[0] - 32.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_told_at_once_that_its_session_is_wanted_and_can_release_it() {
    use v1::LeaseDrainReason::{Evicted, Login, Revoked, Unspecified};
    for (sent, reason) in [(1, Evicted), (3, Login), (4, Revoked), (0, Unspecified), (99, Unspecified)] {
        let fake = Fake::streaming();
        let start = Instant::now();
        let guard = guard(&fake).await;
        sleep(SECOND * 10).await;
        let deadline = guard.deadline();
        fake.push_draining(sent);
        assert!(about(lost_after(&guard, start).await, 10.0), "{reason:?}");
        assert_eq!(guard.loss(), Some(Loss::Draining(reason)));
        assert_eq!(guard.deadline(), deadline, "neither extended nor shortened");
        sleep(SECOND * 60).await;
        assert!(fake.calls("beat").is_empty() && fake.calls("renew").is_empty(), "{reason:?}");
        guard.release(Connections::Closed).await.unwrap();
        assert!(fake.calls("release")[0].connections_closed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_beat_does_not_hide_what_the_service_says() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Silence]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND * 31).await;
    fake.push_draining(v1::LeaseDrainReason::Evicted.into());
    assert!(about(lost_after(&guard, start).await, 31.0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_service_calls_lost_is_lost_at_once() {
    use v1::LeaseLossReason::{EpochStale, Evicted, Expired, Released, Revoked, Unspecified};
    for reason in [Released, Expired, EpochStale, Evicted, Revoked, Unspecified] {
        let fake = Fake::streaming();
        let start = Instant::now();
        let guard = guard(&fake).await;
        sleep(SECOND * 10).await;
        fake.push(Step::Lost(v1::Lost { reason: reason.into() }));
        assert!(about(lost_after(&guard, start).await, 10.0), "{reason:?}");
        assert_eq!(guard.loss(), Some(Loss::Ended(reason)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_names_the_end_of_the_lease_ends_it() {
    for reason in ["LEASE_NOT_HELD", "LEASE_EPOCH_STALE", "LEASE_DRAINING"] {
        for at_opening in [true, false] {
            let fake = Fake::streaming();
            let answer = refused(Code::FailedPrecondition, reason);
            if at_opening {
                fake.then_open([answer])
            } else {
                fake.then_hear([answer])
            };
            let start = Instant::now();
            let guard = guard(&fake).await;
            assert!(about(lost_after(&guard, start).await, 0.0), "{reason}");
            let Some(Loss::Refused(refusal)) = guard.loss() else { panic!("{:?}", guard.loss()) };
            assert_eq!(refusal.reason, reason);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_any_other_reason_does_not() {
    for (code, reason) in [
        (Code::Unauthenticated, "UNAUTHENTICATED"),
        (Code::PermissionDenied, "PERMISSION_DENIED"),
        (Code::FailedPrecondition, "FEATURE_DISABLED"),
        (Code::NotFound, "A_REASON_OF_TOMORROW"),
        (Code::Internal, "INTERNAL"),
    ] {
        let fake = Fake::streaming();
        fake.then_open([refused(code, reason)]);
        let guard = guard(&fake).await;
        lives_for(&guard, SECOND * 100).await;
        assert_eq!(fake.calls("hold").len(), 2, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_the_stream_makes_printable_shows_a_secret() {
    let fake = Fake::streaming();
    let guard = guard(&fake).await;
    sleep(SECOND).await;
    fake.push_draining(v1::LeaseDrainReason::Login.into());
    guard.lost().await;
    let error = Error::Lost(guard.loss().unwrap());
    let text = format!("{guard:?} {error:?} {error} {}", guard.loss().unwrap());
    assert!(!text.contains(LEASE_ID), "{text}");
    assert!(text.contains("LOGIN") && guard.epoch() == EPOCH, "{text}");
}
