//! Many starts from one caller, and a replay store that is away.

use futures::{StreamExt as _, stream};
use serde_json::json;
use usm_client::v1::SessionState;

use super::{
    page::Answer,
    stage::{Followed, Stage, WITHOUT_TOKEN},
};
use crate::support::{
    poll,
    world::{ANN, Plan, Shape, TENANT, reason, refused},
};

/// Logins that a test server runs at once.
const RUNNING_MAX: usize = 64;
const STARTS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_starts_is_refused_by_name_and_leaves_nothing_running() {
    // A cancelled login listens for late scans until its last code is dead: here not for long.
    let plan = Plan { telegram: json!({"qr_ttl": 2}), ..Plan::default() };
    let stage = Stage::set_up(Shape::Embedded, plan, |_| {}).await;
    let back_end = stage.back_end(TENANT);
    let starts = (0..STARTS).map(|at| {
        let (back_end, app) = (back_end.clone(), format!("app-{at}"));
        async move { (back_end.post("/api/qr/start", &json!({"app_id": app})).await, app) }
    });
    let answers: Vec<(Answer, String)> = stream::iter(starts).buffer_unordered(16).collect().await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|(answer, _)| answer.status == 200);
    assert!(!good.is_empty() && bad.len() >= STARTS - RUNNING_MAX, "{} and {}", good.len(), bad.len());
    for (answer, app) in bad {
        assert_eq!(answer.refusal(), (429, "RATE_LIMITED".to_owned()), "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(reason(&refused(stage.world.find(app).await)), "SESSION_NOT_FOUND", "not even a row");
    }
    for (answer, app) in good {
        let login = Followed::of(&stage.page, answer);
        assert_eq!(login.cancel().await.good()["state"], "CANCELLED");
        assert_eq!(stage.world.session(app).await.state(), SessionState::Absent);
    }
    poll::until("no connection is left", || async {
        (stage.world.sandbox.open_connections().await == 0).then_some(())
    })
    .await;
    stage.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_replay_store_is_away_nothing_that_serves_once_is_accepted() {
    let mut stage = Stage::start(Shape::OnServers).await;
    let page = stage.opened(WITHOUT_TOKEN, ANN);
    stage.world.redis.as_mut().expect("a Redis").kill();
    let start = async |page: &super::page::Page| page.post("/api/qr/start", &json!({"app_id": "news"})).await;
    let away = start(&page).await;
    assert_eq!(away.refusal(), (503, "TICKETS_UNAVAILABLE".to_owned()));
    assert!(away.headers.contains_key("retry-after"));
    let callback = super::callbacks::call(&stage, &json!({"ticket": "x"})).await;
    assert_eq!(callback.refusal(), (503, "TICKETS_UNAVAILABLE".to_owned()));

    stage.world.redis.as_mut().expect("a Redis").restart();
    let again = poll::until("the store is back", || async {
        // A proof of its own each time: one that was sent into the dark may have been noted.
        let answer = start(&stage.opened(WITHOUT_TOKEN, ANN)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    Followed::of(&stage.page, &again).cancel().await.good();
    stage.world.stop().await;
}
