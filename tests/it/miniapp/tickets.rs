//! A ticket alone proves nothing, and another's is one that does not exist.

use std::time::Duration;

use serde_json::json;

use super::{
    page::{Answer, Page},
    stage::{Followed, Stage, WITH_TOKEN},
};
use crate::support::{
    server::{ANON_KEY, tenant_token},
    world::{ANN, BOB, Shape, TENANT, on_both_shapes},
};

on_both_shapes!(anothers_ticket_answers_like_one_that_never_was, only_its_own_token_opens_a_login);

/// What each route says to the ticket.
async fn ask(page: &Page, ticket: &str) -> Vec<Answer> {
    vec![
        page.get(&format!("/api/qr/status?ticket={ticket}")).await,
        page.get(&format!("/api/qr/events?ticket={ticket}")).await,
        page.post("/api/qr/password", &json!({"ticket": ticket, "password": "horse"})).await,
        page.post("/api/qr/cancel", &json!({"ticket": ticket})).await,
    ]
}

async fn refused_everywhere(page: &Page, ticket: &str, expected: (u16, &str), what: &str) {
    for answer in ask(page, ticket).await {
        let (status, reason) = answer.refusal();
        assert_eq!((status, reason.as_str()), expected, "{what}: {answer:?}");
    }
}

async fn anothers_ticket_answers_like_one_that_never_was(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    let other = stage.started(WITH_TOKEN, BOB, &format!("user-{BOB}")).await;
    let never: String = login.ticket.chars().rev().collect();
    // Another tenant's back end, and a user of the same bot with a token of another login.
    for stranger in [stage.back_end("globex"), other.page.clone()] {
        let foreign = ask(&stranger, &login.ticket).await;
        let unknown = ask(&stranger, &never).await;
        for (foreign, unknown) in foreign.iter().zip(&unknown) {
            assert_eq!((foreign.status, &foreign.body), (unknown.status, &unknown.body));
            assert_eq!(foreign.refusal(), (404, "TICKET_NOT_FOUND".to_owned()));
            let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(names(foreign), names(unknown));
        }
        for malformed in ["x", "..%2F..%2Fetc", &"A".repeat(2048)] {
            refused_everywhere(&stranger, malformed, (404, "TICKET_NOT_FOUND"), malformed).await;
        }
    }
    assert_eq!(login.status().await["state"], "WAITING_QR_SCAN", "unharmed");

    // Nor can anybody start what is not theirs; it looks like what is not there.
    let start = async |page: Page, body| page.post("/api/qr/start", &body).await;
    let mine = || stage.opened(WITH_TOKEN, ANN);
    let answers = [
        start(mine(), json!({"app_id": "another"})).await,
        start(mine(), json!({"app_id": format!("user-{BOB}")})).await,
        start(mine(), json!({"app_id": "news", "tenant_id": "globex"})).await,
        start(mine(), json!({"app_id": "news", "tenant_id": "nobody"})).await,
        start(stage.back_end("globex"), json!({"app_id": "news", "tenant_id": TENANT})).await,
    ];
    for answer in &answers {
        assert_eq!(answer.refusal(), (404, "SESSION_NOT_FOUND".to_owned()));
        assert_eq!(answer.body, answers[0].body);
    }
    stage.world.stop().await;
}

async fn only_its_own_token_opens_a_login(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    let bearer = |token: &str| stage.page.with(format!("Bearer {token}"));
    let unauthenticated = (401, "UNAUTHENTICATED");
    refused_everywhere(&stage.page, &login.ticket, unauthenticated, "no credential").await;
    refused_everywhere(&stage.opened(WITH_TOKEN, ANN), &login.ticket, unauthenticated, "initData").await;
    refused_everywhere(&bearer(&login.ticket), &login.ticket, unauthenticated, "the ticket itself").await;
    let denied = (403, "PERMISSION_DENIED");
    refused_everywhere(&bearer(ANON_KEY), &login.ticket, denied, "anon").await;
    let reader = tenant_token(TENANT, &[usm::domain::caller::Scope::Read]);
    refused_everywhere(&bearer(&reader), &login.ticket, denied, "a reader").await;

    let token = login.access_token.as_str();
    let (payload, tag) = token.split_once('.').expect("two parts");
    let other = stage.started(WITH_TOKEN, BOB, &format!("user-{BOB}")).await;
    let (other_payload, other_tag) = other.access_token.split_once('.').expect("two parts");
    let mut forged = vec![
        format!("{payload}.{other_tag}"),
        format!("{other_payload}.{tag}"),
        payload.to_owned(),
        format!("{payload}."),
        format!("{payload}.{}", "A".repeat(43)),
        format!("{token}A"),
        token.replace("usma_", "usma_A"),
        "usma_.".to_owned(),
        format!("usma_{}", "A".repeat(5000)),
    ];
    forged.extend((1..8).map(|part| token[..token.len() * part / 8].to_owned()));
    for forged in &forged {
        assert_eq!(bearer(forged).get(&format!("/api/qr/status?ticket={}", login.ticket)).await.status, 401);
    }

    let app = &stage.world.server.app;
    let now = usm::app::now();
    assert!(app.access(token, now + Duration::from_secs(175)).is_ok(), "a minute longer than the login");
    let expired = app.access(token, now + Duration::from_secs(181));
    assert_eq!(expired, Err(usm::app::access::AccessRefused::Expired));
    let starts = login.page.post("/api/qr/start", &json!({"app_id": "news"})).await;
    assert_eq!(starts.refusal(), (403, "PERMISSION_DENIED".to_owned()), "it starts nothing");
    assert_eq!(Followed { ..login }.status().await["state"], "WAITING_QR_SCAN", "unharmed");
    stage.world.stop().await;
}
