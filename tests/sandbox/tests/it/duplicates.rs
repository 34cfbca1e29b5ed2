//! `AUTH_KEY_DUPLICATED`.

use grammers_client::tl::functions as f;
use serde_json::json;

use crate::support::{Rig, error_of};

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_in_parallel_end_the_authorization_for_ever() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await;
    let (one, two) = (rig.client_with(2, &key), rig.client_with(2, &key));
    assert!(one.me().await.is_ok());
    assert_eq!(error_of(two.me().await), "406 AUTH_KEY_DUPLICATED");
    assert_eq!(error_of(one.me().await), "406 AUTH_KEY_DUPLICATED");
    one.close().await;
    two.close().await;
    rig.until("/state", |state| state["open_connections"] == 0).await;
    let late = rig.client_with(2, &key);
    assert_eq!(error_of(late.me().await), "406 AUTH_KEY_DUPLICATED");
    assert_eq!(rig.get("/state").await["counters"]["duplicates"], 1);
    let events = rig.get("/events").await;
    let event = events.as_array().expect("a list").iter().find(|event| event["event"] == "duplicate");
    let event = event.expect("it is noted");
    assert_eq!((&event["key"], &event["user"]), (&json!(key.id), &json!(7)));
    assert_eq!(event["conns"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_and_comes_back_is_not_punished() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await;
    for _ in 0..30 {
        let client = rig.client_with(2, &key);
        assert_eq!(client.me().await.expect("it works").id, 7);
        client.close().await;
    }
    assert_eq!(rig.get("/state").await["counters"]["duplicates"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_does_not_count() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await;
    let idle = tokio::net::TcpStream::connect(rig.address(2)).await.expect("it listens");
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorizations_of_one_account_live_side_by_side() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let (a, b) = (rig.mint(2, Some(7)).await, rig.mint(2, Some(7)).await);
    let (one, two) = (rig.client_with(2, &a), rig.client_with(2, &b));
    assert!(one.me().await.is_ok() && two.me().await.is_ok() && one.me().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_logged_in_may_be_used_twice() {
    let rig = Rig::start().await;
    let key = rig.mint(2, None).await;
    let (one, two) = (rig.client_with(2, &key), rig.client_with(2, &key));
    assert!(one.invoke(&f::help::GetNearestDc {}).await.is_ok());
    assert!(two.invoke(&f::help::GetNearestDc {}).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_can_be_turned_off() {
    let rig = Rig::start().await;
    rig.post("/config", json!({"dup_sessions": false})).await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await;
    let (one, two) = (rig.client_with(2, &key), rig.client_with(2, &key));
    assert!(one.me().await.is_ok() && two.me().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_dc_than_the_home_dc_is_exempt() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7, "dc": 3})).await;
    let key = rig.mint(2, Some(7)).await;
    let (one, two) = (rig.client_with(2, &key), rig.client_with(2, &key));
    assert!(one.me().await.is_ok() && two.me().await.is_ok());
}
