//! A login that a page started on one replica, followed and ended on another.

use serde_json::json;

use super::page::Page;
use crate::{
    support::{server::service_token, world::TENANT},
    takeover::Replicas,
};

#[tokio::test]
async fn an_access_token_opens_its_login_on_every_replica() {
    let mut replicas = Replicas::start(&[]).await;
    let [first, second] = [&replicas.first, &replicas.second].map(|it| Page::at(it.server.process.address()));
    let start = json!({"tenant_id": TENANT, "app_id": "bot"});
    let back_end = first.with(format!("Bearer {}", service_token()));
    let started = back_end.post("/api/qr/start", &start).await.good();
    let text = |name: &str| started[name].as_str().expect("a text").to_owned();
    let page = second.with(format!("Bearer {}", text("access_token")));
    let status = format!("/api/qr/status?ticket={}", text("ticket"));
    let shown = page.get(&status).await.good();
    assert_eq!((&shown["state"], &shown["qr_url"]), (&json!("WAITING_QR_SCAN"), &started["qr_url"]));

    // Also once the replica that gave it, and ran the login, is gone.
    replicas.kill_first();
    let cancelled = page.post("/api/qr/cancel", &json!({"ticket": text("ticket")})).await.good();
    assert_eq!(cancelled["state"], "CANCELLED");
}
