//! What a holder tells the service of the session.

use tokio::time::{Instant, timeout};
use tonic::Code;
use usm_client::{Advice, Loss, v1};

use crate::fake::{Answer, Fake};
use crate::{SECOND, guard, refused};

fn telegram_error(code: i32) -> v1::TelegramError {
    v1::TelegramError { code, message: "FLOOD_WAIT_37".into(), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_report_brings_the_services_advice() {
    let fake = Fake::default();
    let guard = guard(&fake).await;
    let go_on = Advice::Continue { retry_after: None };
    assert_eq!(guard.report_alive(42, "ada").await.unwrap(), go_on);
    let wait = Advice::Continue { retry_after: Some(SECOND * 37) };
    assert_eq!(guard.report_error(telegram_error(420)).await.unwrap(), wait);
    assert_eq!(guard.report_error(telegram_error(406)).await.unwrap(), Advice::Stop);
    assert_eq!(guard.loss(), None);
}

#[tokio::test(start_paused = true)]
async fn a_report_longer_than_the_service_takes_is_cut() {
    let guard = guard(&Fake::default()).await;
    let long =
        v1::TelegramError { message: "ü".repeat(300), method: "m".repeat(300), ..telegram_error(406) };
    assert_eq!(guard.report_error(long).await.unwrap(), Advice::Stop);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_report_is_asked_for_again_and_silence_ends_it() {
    let fake = Fake::default();
    let guard = guard(&fake).await;
    fake.then([refused(Code::Unavailable, "")]);
    guard.report_alive(0, "").await.unwrap();
    let calls = fake.calls("report");
    assert_eq!((calls.len(), &calls[0].request_id), (2, &calls[1].request_id));
    fake.then([Answer::Silence]);
    let start = Instant::now();
    let error = guard.report_alive(0, "").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::DeadlineExceeded);
    assert!(start.elapsed() < SECOND * 6, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_changed_is_saved_under_the_epoch() {
    let fake = Fake::default();
    let guard = guard(&fake).await;
    let change = v1::SaveSessionRequest {
        format: v1::SessionFormat::Raw.into(),
        data: vec![1; 9],
        ..Default::default()
    };
    assert_eq!(guard.save(change).await.unwrap().revision, 9);
    assert!(!fake.calls("save")[0].request_id.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_lease_is_over_ends_it_whatever_was_asked() {
    for reason in ["LEASE_NOT_HELD", "LEASE_EPOCH_STALE"] {
        let fake = Fake::default();
        let guard = guard(&fake).await;
        fake.then([refused(Code::FailedPrecondition, reason)]);
        guard.save(v1::SaveSessionRequest::default()).await.unwrap_err();
        timeout(SECOND, guard.lost()).await.unwrap();
        let Some(Loss::Refused(refusal)) = guard.loss() else { panic!("{:?}", guard.loss()) };
        assert_eq!(refusal.reason, reason);
        tokio::time::sleep(SECOND * 90).await;
        assert!(fake.calls("renew").is_empty(), "a lease that is over is not renewed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_refused_does_not_end_the_lease() {
    let fake = Fake::default();
    let guard = guard(&fake).await;
    fake.then([refused(Code::InvalidArgument, "MATERIAL_INVALID")]);
    guard.save(v1::SaveSessionRequest::default()).await.unwrap_err();
    fake.then([refused(Code::FailedPrecondition, "ACCOUNT_MISMATCH")]);
    guard.report_alive(1, "").await.unwrap_err();
    assert!(timeout(SECOND * 20, guard.lost()).await.is_err());
}
