//! The guard over the stream: what it says and when, and that no trouble with the stream ends a lease.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use usm_client::{Connections, Loss, v1};

use crate::fake::{Answer, EPOCH, Fake, lease};
use crate::hold::renewed;
use crate::{SECOND, TTL, about, guard, lives_for, lost_after, refused, times};

#[tokio::test(start_paused = true)]
async fn beats_on_one_stream_keep_a_lease_without_any_other_call() {
    let fake = Fake::streaming();
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 605).await;
    assert_eq!((fake.calls("hold").len(), fake.calls("attach").len()), (1, 1));
    assert_eq!(fake.calls("hold")[0].authorization, "Bearer open-sesame");
    let beats = fake.calls("beat");
    assert_eq!(beats.iter().map(|call| call.beat).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    for (n, at) in times(&fake, "beat", start).into_iter().enumerate() {
        assert!((at - 30.0 * (n as f64 + 1.0)).abs() < 0.1, "{n}: {at}");
    }
    assert!(fake.calls("renew").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_to_attach_counts_from_before_it_was_sent() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Late(SECOND * 4, TTL * 2)]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 5).await;
    assert!(about(guard.deadline() - start, 179.0), "{:?}", guard.deadline() - start);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_beat_counts_from_before_it_was_sent() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Late(SECOND * 4, TTL)]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 33).await;
    assert!(about(guard.deadline() - start, 89.0), "not answered yet");
    lives_for(&guard, SECOND * 2).await;
    assert!(about(guard.deadline() - start, 30.0 + 89.0), "{:?}", guard.deadline() - start);
}

#[tokio::test(start_paused = true)]
async fn beats_that_nobody_answers_extend_nothing() {
    let fake = Fake::streaming();
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND).await;
    fake.then_hear(vec![Answer::Silence; 100]);
    fake.then(vec![Answer::Silence; 100]);
    assert!(about(lost_after(&guard, start).await, 84.0));
    assert_eq!(guard.loss(), Some(Loss::Expired));
    assert!(about(guard.remaining(), 5.0), "time to close the connections");
    assert!(fake.calls("beat").len() + fake.calls("attach").len() > 2 && fake.calls("renew").len() > 2);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_another_beat_extends_nothing() {
    let fake = Fake::streaming();
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND * 10).await;
    for beat in [-1, 0, 1, 7] {
        fake.push(renewed(beat, TTL * 4).step.unwrap());
    }
    lives_for(&guard, SECOND * 10).await;
    assert!(about(guard.deadline() - start, 89.0), "{:?}", guard.deadline() - start);
}

#[tokio::test(start_paused = true)]
async fn only_its_own_answer_extends_the_lease_while_a_beat_is_unanswered() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Silence]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND * 31).await;
    for beat in [-1, 0, 2, 7] {
        fake.push(renewed(beat, TTL).step.unwrap());
    }
    lives_for(&guard, SECOND).await;
    assert!(about(guard.deadline() - start, 89.0), "{:?}", guard.deadline() - start);
    fake.push(renewed(1, TTL).step.unwrap());
    lives_for(&guard, SECOND).await;
    assert!(guard.deadline() - start > SECOND * 100, "{:?}", guard.deadline() - start);
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_another_epoch_extends_nothing() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Silence]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    sleep(SECOND * 31).await;
    let lease = v1::Lease { epoch: EPOCH + 1, ..lease(SECOND * 600) };
    fake.push_about(lease, renewed(1, TTL).step.unwrap());
    lives_for(&guard, SECOND).await;
    assert!(guard.deadline() - start < SECOND * 130, "{:?}", guard.deadline() - start);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_grants_no_time_sends_the_guard_to_single_calls() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Grant(Duration::ZERO)]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 100).await;
    assert!((times(&fake, "renew", start)[0] - 30.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_replaced_by_a_call_at_once_and_by_a_stream_later() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Silence]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 60).await;
    let renewals = times(&fake, "renew", start);
    assert!(renewals.len() == 1 && (renewals[0] - 35.0).abs() < 0.1, "{renewals:?}");
    let attached = times(&fake, "attach", start);
    assert!(attached.len() == 2 && attached[1] < 37.0, "{attached:?}");
    assert_eq!(fake.calls("left").len(), 1, "the silent stream was closed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_opened_again_and_costs_nothing() {
    for end in [
        None,
        Some(Status::unavailable("the connection broke")),
        Some(Status::deadline_exceeded("the stream's time is over")),
        Some(Status::failed_precondition("something in between refuses")),
        Some(Status::not_found("something in between does not know it")),
    ] {
        let fake = Fake::streaming();
        let start = Instant::now();
        let guard = guard(&fake).await;
        // After a beat: the stream's renewals are renewals for what follows it, too.
        sleep(SECOND * 50).await;
        fake.end_streams(end.clone());
        lives_for(&guard, SECOND * 90).await;
        let attached = times(&fake, "attach", start);
        assert!(attached.len() == 2 && attached[1] > 50.4 && attached[1] < 51.1, "{end:?} {attached:?}");
        assert!(fake.calls("renew").is_empty(), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_break_at_once_are_opened_less_and_less_often() {
    let fake = Fake::streaming();
    fake.then_hear(vec![refused(Code::Unavailable, "OVERLOADED"); 1000]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 605).await;
    let opened = fake.calls("hold").len();
    assert!((10..=30).contains(&opened), "{opened}");
    assert_eq!(times(&fake, "renew", start).len(), 20, "single calls keep the lease on time");
}

#[tokio::test(start_paused = true)]
async fn streams_that_break_after_they_were_opened_are_opened_less_and_less_often_too() {
    let fake = Fake::streaming();
    let guard = guard(&fake).await;
    for _ in 0..3000 {
        fake.end_streams(Some(Status::unavailable("something in between bears no streams")));
        lives_for(&guard, SECOND / 10).await;
    }
    assert!(fake.calls("attach").len() < 20, "{}", fake.calls("attach").len());
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_opened_before_the_service_wants_it() {
    let fake = Fake::streaming();
    fake.then_open([Answer::Refuse(Code::ResourceExhausted, "RATE_LIMITED", Some(SECOND * 50))]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 80).await;
    let opened = times(&fake, "hold", start);
    assert!(opened.len() == 2 && opened[1] >= 50.0, "{opened:?}");
    assert_eq!(fake.calls("renew").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_opens_does_not_keep_the_renewals_waiting() {
    let fake = Fake::streaming();
    fake.then_open(vec![Answer::Silence; 1000]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 600).await;
    let mut last = 0.0;
    let renewals = times(&fake, "renew", start);
    assert!(renewals.len() >= 17, "{renewals:?}");
    for at in renewals {
        assert!(at - last < 35.1, "{last} {at}");
        last = at;
    }
}

#[tokio::test(start_paused = true)]
async fn short_leases_survive_streams_that_swallow_everything() {
    let fake = Fake::streaming();
    let ttl = SECOND * 10;
    fake.then(vec![Answer::Grant(ttl); 1000]);
    fake.then_hear(vec![Answer::Silence; 1000]);
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 600).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_streams_is_not_asked_for_one_again() {
    let fake = Fake::default();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 600).await;
    assert_eq!(fake.calls("hold").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_grants_less_shortens_the_deadline() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Grant(SECOND * 20)]);
    let start = Instant::now();
    let guard = guard(&fake).await;
    lives_for(&guard, SECOND * 31).await;
    assert!(about(guard.deadline() - start, 30.0 + 19.0));
    fake.then_hear(vec![Answer::Silence; 100]);
    fake.then(vec![Answer::Silence; 100]);
    assert!(about(lost_after(&guard, start).await, 30.0 + 20.0 - 1.0 - 5.0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_closes_its_stream_and_says_nothing() {
    let fake = Fake::streaming();
    let guard = guard(&fake).await;
    sleep(SECOND).await;
    drop(guard);
    sleep(TTL).await;
    assert_eq!(fake.calls("left").len(), 1);
    for method in ["beat", "other", "renew", "release"] {
        assert!(fake.calls(method).is_empty(), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_not_called_lost() {
    let fake = Fake::streaming();
    let guard = guard(&fake).await;
    sleep(SECOND).await;
    let lost = guard.lost();
    guard.release(Connections::Closed).await.unwrap();
    lost.await;
    assert_eq!((fake.calls("release").len(), fake.calls("left").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn proof_of_life_travels_once_with_the_next_beat() {
    let fake = Fake::streaming();
    let guard = guard(&fake).await;
    guard.note_activity();
    lives_for(&guard, SECOND * 100).await;
    let told: Vec<_> = fake.calls("beat").iter().map(|call| call.activity.is_some()).collect();
    assert_eq!(told, [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn proof_of_life_that_nobody_heard_travels_again_with_the_call_that_follows() {
    let fake = Fake::streaming();
    fake.then_hear([Answer::Grant(TTL), Answer::Silence]);
    fake.then([Answer::Grant(TTL), refused(Code::Unavailable, "")]);
    let guard = guard(&fake).await;
    guard.note_activity();
    lives_for(&guard, SECOND * 90).await;
    let told = |method| fake.calls(method).iter().map(|call| call.activity).collect::<Vec<_>>();
    let (beats, calls) = (told("beat"), told("renew"));
    assert!(beats[0].is_some() && calls[0] == beats[0], "{beats:?} {calls:?}");
    let later = calls[1..].iter().chain(&beats[1..]).filter(|activity| activity.is_some()).count();
    assert_eq!(later, 1, "until somebody has heard it: {beats:?} {calls:?}");
}
