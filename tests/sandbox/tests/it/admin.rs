//! The admin interface: what it refuses, and the shape of what it says.

use serde_json::{Value, json};

use crate::support::Rig;

async fn refused(rig: &Rig, path: &str, body: Value) -> u16 {
    let (status, answer) = rig.request("POST", path, &body.to_string()).await;
    assert!(answer["error"].is_string(), "{path} {body}: {answer}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_gets_400_and_changes_nothing() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await.id;
    let before = rig.get("/state").await;
    for (path, body) in [
        ("/users", json!({})),
        ("/users", json!({"id": 0})),
        ("/users", json!({"id": "7"})),
        ("/users", json!({"id": 8, "phone": "12"})),
        ("/users", json!({"id": 8, "dc": 9})),
        ("/users", json!({"id": 8, "colour": "red"})),
        ("/users", json!({"id": 8, "password": ""})),
        ("/users", json!({"id": 8, "first_name": "x".repeat(300)})),
        ("/user_state", json!({"user_id": 99, "state": null})),
        ("/user_state", json!({"user_id": 7, "state": "not a name"})),
        ("/scan", json!({"token": "zz", "user_id": 7})),
        ("/scan", json!({"token": "00".repeat(32), "user_id": 99})),
        ("/mint", json!({"dc": 9})),
        ("/mint", json!({"dc": 2, "user_id": 99})),
        ("/revoke", json!({"key": key})),
        ("/revoke", json!({"key": key, "mode": "nonsense"})),
        ("/revoke", json!({"key": "00", "mode": null})),
        ("/revoke", json!({"key": "0011223344556677", "mode": null})),
        ("/kick", json!({"key": "0011223344556677"})),
        ("/fault", json!({"method": "users.getUsers"})),
        ("/fault", json!({"method": "nonsense", "drop": true})),
        ("/fault", json!({"method": "users.getUsers", "drop": true, "silent": true})),
        ("/fault", json!({"method": "users.getUsers", "error": "bad name"})),
        ("/fault", json!({"method": "users.getUsers", "drop": true, "count": 0})),
        ("/fault", json!({"method": "connect", "error": "FLOOD_WAIT_3"})),
        ("/push", json!({"update": "status"})),
        ("/push", json!({"user_id": 7, "key": key, "update": "status"})),
        ("/push", json!({"user_id": 7, "update": "nonsense"})),
        ("/config", json!({"qr_ttl": 0})),
        ("/config", json!({"colour": "red"})),
        ("/config", json!([])),
    ] {
        assert_eq!(refused(&rig, path, body.clone()).await, 400, "{path} {body}");
    }
    assert_eq!(rig.request("POST", "/users", "{").await.0, 400);
    assert_eq!(rig.request("POST", "/users", &format!("\"{}\"", "x".repeat(300_000))).await.0, 400);
    assert_eq!(rig.request("GET", "/calls?since=x", "").await.0, 400);
    assert_eq!(rig.request("GET", "/calls?kind=x", "").await.0, 400);
    assert_eq!(rig.request("GET", "/nonsense", "").await.0, 404);
    assert_eq!(rig.request("GET", "/mint", "").await.0, 404);
    assert_eq!(rig.get("/state").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clashes_with_the_present_state_gets_409() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7, "phone": "9996600007", "bot_token": null})).await;
    rig.post("/users", json!({"id": 8, "bot_token": "8:x"})).await;
    assert_eq!(refused(&rig, "/users", json!({"id": 9, "phone": "+9996600007"})).await, 409);
    assert_eq!(refused(&rig, "/users", json!({"id": 9, "bot_token": "8:x"})).await, 409);
    assert_eq!(refused(&rig, "/scan", json!({"token": "00".repeat(32), "user_id": 7})).await, 409);
    rig.post("/users", json!({"id": 7, "phone": "9996600007", "first_name": "Again"})).await;
    assert_eq!(rig.get("/users").await.as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_line_state_and_key_agree() {
    let rig = Rig::start().await;
    let (ready, state, key) =
        (rig.sandbox.ready_line(), rig.get("/state").await, rig.get("/public_key").await);
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["dcs"], state["dcs"]);
    assert_eq!(ready["dcs"]["2"], rig.address(2).port());
    assert_eq!(ready["admin"], rig.sandbox.admin().port());
    for said in [&ready["fingerprint"], &state["fingerprint"], &key["fingerprint"]] {
        assert_eq!(said, &json!(rig.sandbox.fingerprint()));
    }
    assert_eq!((&ready["public_key"], &key["e"]), (&key["pem"], &json!("65537")));
    assert!(!ready.to_string().contains('\n'));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_has_the_promised_members() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7, "phone": "9996600007"})).await;
    let key = rig.mint(2, Some(7)).await;
    let client = rig.client_with(2, &key);
    client.me().await.expect("it works");
    let login = rig.client(2).await;
    let sent = login.client.request_login_code("9996600007", crate::support::API_HASH).await;
    sent.expect("a code");
    let export = grammers_client::tl::functions::auth::ExportLoginToken {
        api_id: 4,
        api_hash: String::new(),
        except_ids: Vec::new(),
    };
    login.invoke(&export).await.expect("a token");
    let has = |value: &Value, members: &[&str]| {
        for member in members {
            assert!(value.get(member).is_some(), "{member} of {value}");
        }
    };
    let state = rig.get("/state").await;
    has(&state, &["dcs", "fingerprint", "open_connections", "keys", "users", "counters", "config"]);
    has(
        &state["counters"],
        &["connections", "peak_connections", "handshakes", "rpc_calls", "rpc_errors", "faults", "duplicates"],
    );
    has(
        &rig.get("/keys").await[0],
        &[
            "key",
            "dc",
            "user",
            "pending_2fa",
            "broken",
            "layer",
            "init",
            "sessions",
            "open_connections",
            "ips",
            "created",
            "logged_in",
        ],
    );
    has(
        &rig.get("/calls").await[0],
        &["n", "t", "kind", "method", "result", "dc", "conn", "src", "transport", "key", "session"],
    );
    has(
        &rig.get("/conns").await[0],
        &[
            "conn",
            "dc",
            "src",
            "key",
            "transport",
            "age",
            "packets_in",
            "packets_out",
            "bytes_in",
            "bytes_out",
        ],
    );
    has(&rig.get("/codes").await[0], &["phone", "hash", "code", "until", "tries", "key"]);
    has(&rig.get("/tokens").await[0], &["token", "key", "dc", "user", "expires_in", "used"]);
    has(&rig.get("/users").await[0], &["id", "phone", "first_name", "dc", "is_bot", "state"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_filtered_counted_and_cleared() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    let key = rig.mint(2, Some(7)).await;
    let client = rig.client_with(2, &key);
    for _ in 0..3 {
        client.me().await.expect("it works");
    }
    let of = |answer: Value| answer.as_array().expect("a list").clone();
    let all = of(rig.get("/calls").await);
    assert!(all.windows(2).all(|pair| pair[0]["n"].as_u64() < pair[1]["n"].as_u64()));
    let calls = of(rig.get("/calls?method=users.getUsers").await);
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call["kind"] == "rpc" && call["transport"] == "full"));
    let since = calls[1]["n"].as_u64().expect("a number");
    assert_eq!(of(rig.get(&format!("/calls?method=users.getUsers&since={since}")).await).len(), 1);
    assert_eq!(of(rig.get("/calls?last=2").await), all[all.len() - 2..]);
    let conn = &calls[0]["conn"];
    assert_eq!(of(rig.get(&format!("/calls?conn={conn}")).await).len(), all.len());
    assert!(of(rig.get("/calls?key=0011223344556677").await).is_empty());
    assert!(!of(rig.get("/calls?kind=service").await).is_empty());
    rig.post("/calls_clear", json!({})).await;
    assert!(of(rig.get("/calls").await).is_empty());
    assert_eq!(rig.get("/state").await["counters"]["rpc_calls"], 0);
    client.me().await.expect("it works");
    assert_eq!(of(rig.get("/calls?kind=rpc").await).len(), 1);
}
