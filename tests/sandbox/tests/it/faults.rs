//! Failures to order, lasting errors, closed connections, and what they leave in the log.

use std::time::{Duration, Instant};

use grammers_client::tl::{enums, functions as f};
use serde_json::json;

use crate::support::{Rig, error_of, within};

async fn logged_in() -> (Rig, crate::support::Minted) {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await;
    (rig, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_error_hits_as_many_calls_as_ordered() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    rig.post("/fault", json!({"method": "users.getUsers", "count": 2, "error": "FLOOD_WAIT_61"})).await;
    assert!(client.invoke(&f::updates::GetState {}).await.is_ok());
    assert_eq!(error_of(client.me().await), "420 FLOOD_WAIT 61");
    assert_eq!(error_of(client.me().await), "420 FLOOD_WAIT 61");
    assert!(client.me().await.is_ok());
    assert_eq!(rig.get("/state").await["counters"]["faults"], 2);
    let failed = rig.get("/calls?method=users.getUsers&kind=rpc").await;
    let results: Vec<&str> =
        failed.as_array().expect("a list").iter().filter_map(|call| call["result"].as_str()).collect();
    assert_eq!(results, ["ok", "FLOOD_WAIT_61", "FLOOD_WAIT_61", "ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_can_be_bound_to_a_key_or_an_account() {
    let (rig, key) = logged_in().await;
    rig.post("/users", json!({"id": 8})).await;
    let other = rig.mint(2, Some(8)).await;
    let (one, two) = (rig.client_with(2, &key), rig.client_with(2, &other));
    rig.post("/fault", json!({"method": "users.getUsers", "count": 1, "error": "500 X", "user_id": 8})).await;
    rig.post("/fault", json!({"method": "*", "count": 9, "error": "500 Y", "key": "0011223344556677"})).await;
    assert!(one.me().await.is_ok());
    assert_eq!(error_of(two.me().await), "500 X");
    assert!(two.me().await.is_ok());
    assert_eq!(rig.post("/faults_clear", json!({})).await["cleared"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_closes_and_delay_delays() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    rig.post("/fault", json!({"method": "users.getUsers", "count": 1, "drop": true})).await;
    assert_eq!(error_of(client.me().await), "io");
    client.me_again().await;
    rig.post("/fault", json!({"method": "users.getUsers", "count": 1, "delay_ms": 300})).await;
    let started = Instant::now();
    assert!(client.me().await.is_ok());
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_holds_one_call_and_no_other() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    rig.post("/fault", json!({"method": "users.getUsers", "count": 1, "silent": true})).await;
    let id = vec![enums::InputUser::UserSelf];
    let request = f::users::GetUsers { id };
    let held = tokio::time::timeout(Duration::from_millis(300), client.client.invoke(&request)).await;
    assert!(held.is_err());
    assert!(client.me().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_can_be_dropped_or_answered_with_a_transport_error() {
    let (rig, key) = logged_in().await;
    rig.post("/fault", json!({"method": "connect", "count": 1, "drop": true})).await;
    let client = rig.client_with(2, &key);
    assert_eq!(error_of(client.me().await), "io");
    rig.post("/fault", json!({"method": "connect", "count": 1, "error": "-429"})).await;
    let client = rig.client_with(2, &key);
    assert!(error_of(client.me().await).contains("429"));
    assert!(rig.client_with(2, &key).me().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_gets_its_error_until_it_is_mended() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    for mode in ["SESSION_REVOKED", "AUTH_KEY_UNREGISTERED", "SESSION_EXPIRED"] {
        rig.post("/revoke", json!({"key": key.id, "mode": mode})).await;
        for _ in 0..2 {
            assert_eq!(error_of(client.me().await), format!("401 {mode}"));
        }
        rig.post("/revoke", json!({"key": key.id, "mode": null})).await;
        assert!(client.me().await.is_ok());
    }
    rig.post("/revoke", json!({"key": key.id, "mode": "logout"})).await;
    assert_eq!(error_of(client.me().await), "401 AUTH_KEY_UNREGISTERED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_key_ends_its_open_connection_with_404() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    rig.post("/revoke", json!({"key": key.id, "mode": "forget"})).await;
    assert!(error_of(client.me().await).contains("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kicked_clients_come_back_with_the_next_call() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    for reset in [false, true] {
        assert_eq!(rig.post("/kick", json!({"key": key.id, "reset": reset})).await["closed"], 1);
        rig.until("/state", |state| state["open_connections"] == 0).await;
        client.me_again().await;
    }
    let events = rig.get("/events").await;
    let reasons: Vec<&str> =
        events.as_array().expect("a list").iter().filter_map(|event| event["reason"].as_str()).collect();
    assert_eq!(reasons, ["kicked", "kicked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_reach_clients_that_want_updates() {
    let (rig, key) = logged_in().await;
    let mut client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    for (update, wanted) in [("message", 0), ("status", 1), ("login_token", 2)] {
        assert_eq!(rig.post("/push", json!({"user_id": 7, "update": update})).await["sent"], 1);
        client
            .update(|update| match update {
                enums::Updates::UpdateShortMessage(_) => wanted == 0,
                enums::Updates::UpdateShort(short) => match short.update {
                    enums::Update::UserStatus(_) => wanted == 1,
                    enums::Update::LoginToken => wanted == 2,
                    _ => false,
                },
                _ => false,
            })
            .await;
    }
    client.close().await;
    rig.until("/state", |state| state["open_connections"] == 0).await;
    assert_eq!(rig.post("/push", json!({"key": key.id, "update": "status"})).await["sent"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_served_is_refused_by_name() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    let answer = client.invoke(&f::help::GetSupport {}).await;
    assert_eq!(error_of(answer), "400 METHOD_INVALID");
    assert!(rig.calls(&key.id).await.contains(&"help.getSupport".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_carried_to_another_dc_and_dies_with_its_home() {
    let (rig, key) = logged_in().await;
    let there = rig.mint(3, None).await;
    let (home, away) = (rig.client_with(2, &key), rig.client_with(3, &there));
    let exported = home.invoke(&f::auth::ExportAuthorization { dc_id: 3 }).await.expect("an export");
    let enums::auth::ExportedAuthorization::Authorization(exported) = exported;
    let import = f::auth::ImportAuthorization { id: exported.id, bytes: exported.bytes };
    assert!(away.invoke(&import).await.is_ok());
    assert_eq!(error_of(away.invoke(&import).await), "400 AUTH_BYTES_INVALID");
    assert_eq!(away.me().await.expect("logged in").id, 7);
    let listed = home.invoke(&f::account::GetAuthorizations {}).await.expect("a list");
    let enums::account::Authorizations::Authorizations(listed) = listed;
    assert_eq!(listed.authorizations.len(), 1, "a copy is no login of its own");
    assert!(home.invoke(&f::auth::LogOut {}).await.is_ok());
    assert_eq!(error_of(away.me().await), "401 AUTH_KEY_UNREGISTERED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_survives_a_server_clock_ahead_of_its_own() {
    let (rig, key) = logged_in().await;
    rig.post("/config", json!({"skew": 400})).await;
    assert!(rig.client_with(2, &key).me().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn salts_that_run_out_are_replaced_without_a_lost_call() {
    let (rig, key) = logged_in().await;
    rig.post("/config", json!({"salt_ttl": 2})).await;
    let client = rig.client_with(2, &key);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(7) {
        assert!(client.me().await.is_ok());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_in_one_process_know_nothing_of_each_other() {
    let (one, key) = logged_in().await;
    let two = Rig::start().await;
    assert!(one.client_with(2, &key).me().await.is_ok());
    assert_eq!(error_of(two.client_with(2, &key).me().await), "no such key");
    assert_eq!(two.get("/calls?kind=transport&method=error").await[0]["result"], "-404");
    assert_eq!(two.get("/state").await["keys"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_connections_and_frees_the_ports() {
    let (rig, key) = logged_in().await;
    let client = rig.client_with(2, &key);
    assert!(client.me().await.is_ok());
    let address = rig.address(2);
    within(rig.sandbox.stop()).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert!(client.me().await.is_err());
}
