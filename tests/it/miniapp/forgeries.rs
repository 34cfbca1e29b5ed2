//! initData that proves nothing, or nothing any more.

use serde_json::json;

use super::stage::{STRANGER, Stage, WITH_TOKEN, WITHOUT_TOKEN, now};
use crate::support::world::{ANN, Shape, on_both_shapes, reason, refused};

on_both_shapes!(forged_and_untimely_init_data_starts_nothing, init_data_serves_once);

async fn forged_and_untimely_init_data_starts_nothing(shape: Shape) {
    let stage = Stage::start(shape).await;
    let mut bad: Vec<(String, String, &str)> = Vec::new();
    for bot in [WITH_TOKEN, WITHOUT_TOKEN] {
        let good = stage.telegram.init_data(bot, ANN, now());
        let pairs: Vec<&str> = good.split('&').collect();
        for (at, pair) in pairs.iter().enumerate() {
            let name = pair.split('=').next().expect("a name");
            if bot == WITHOUT_TOKEN && name == "hash" {
                continue;
            }
            let mut with = |what: &str, new: Vec<String>, why| {
                let mut all: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
                all.splice(at..=at, new);
                bad.push((format!("{bot}: {name} {what}"), all.join("&"), why));
            };
            with("changed", vec![format!("{pair}0")], "forged");
            with("cut", vec![pair[..pair.len() - 4].to_owned()], "");
            with("dropped", vec![], "forged");
            with("twice", vec![(*pair).to_owned(), (*pair).to_owned()], "malformed");
        }
        bad.push((format!("{bot} stale"), stage.telegram.init_data(bot, ANN, now() - 302), "stale"));
        bad.push((format!("{bot} early"), stage.telegram.init_data(bot, ANN, now() + 120), "early"));
    }
    bad.push(("a stranger's".to_owned(), stage.telegram.init_data(STRANGER, ANN, now()), "forged"));
    bad.push(("nonsense".to_owned(), "nonsense".to_owned(), "malformed"));
    bad.push(("too long".to_owned(), format!("a={}", "x".repeat(9000)), "malformed"));
    for (what, init_data, why) in &bad {
        let page = stage.page.with(format!("tma {init_data}"));
        let answer = page.post("/api/qr/start", &json!({"app_id": "news"})).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHENTICATED".to_owned()), "{what}: {answer:?}");
        let told = answer.json()["error"]["why"].clone();
        assert!(why.is_empty() || told == *why, "{what}: {told}");
    }
    assert_eq!(reason(&refused(stage.world.find("news").await)), "SESSION_NOT_FOUND");
    assert_eq!(stage.world.sandbox.counter("connections").await, 0, "Telegram heard nothing of it");
    stage.world.stop().await;
}

async fn init_data_serves_once(shape: Shape) {
    let stage = Stage::start(shape).await;
    for bot in [WITH_TOKEN, WITHOUT_TOKEN] {
        let init_data = stage.telegram.init_data(bot, ANN, now());
        let page = stage.page.with(format!("tma {init_data}"));
        let body = json!({"app_id": format!("user-{ANN}")});
        let answers = futures::future::join_all((0..8).map(|_| page.post("/api/qr/start", &body))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
        // Spelled otherwise it is the same one.
        let mut pairs: Vec<&str> = init_data.split('&').collect();
        pairs.reverse();
        let turned = stage.page.with(format!("tma {}", pairs.join("&")));
        let turned = turned.post("/api/qr/start", &json!({"app_id": format!("user-{ANN}")})).await;
        for answer in answers.iter().filter(|answer| answer.status != 200).chain([&turned]) {
            assert_eq!(answer.refusal(), (401, "UNAUTHENTICATED".to_owned()));
            assert_eq!(answer.json()["error"]["why"], "used");
        }
    }
    stage.world.stop().await;
}
