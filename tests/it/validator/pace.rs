//! Two replicas over one database: one rate, one set of pauses, and nobody looked at twice at once.

use serde_json::{Value, json};
use usm::domain::session::Custody;

use super::{CAT, method};
use crate::{
    support::{
        poll,
        telegram::User,
        world::{ANN, BOB},
    },
    takeover::Replicas,
};

/// The looks so far: when each asked whose the key is, in seconds.
async fn looks(replicas: &Replicas) -> Vec<f64> {
    let calls = replicas.first.sandbox.get("/calls?kind=rpc").await.expect("always there");
    let calls: Vec<Value> = calls.as_array().cloned().expect("a list");
    calls
        .iter()
        .filter(|call| method(call) == "users.getUsers")
        .filter_map(|call| call["t"].as_f64())
        .collect()
}

#[tokio::test]
async fn replicas_share_one_rate() {
    let settings = [("SESSION_VALIDATION_INTERVAL", "1"), ("USM_VALIDATION_RATE", "4")];
    let replicas = Replicas::start(&settings).await;
    for number in 0..8 {
        replicas.first.lendable(&format!("bot-{number}"), ANN).await;
    }
    let looks = poll::until("many looks", || async {
        Some(looks(&replicas).await).filter(|looks| looks.len() >= 24)
    })
    .await;
    // Eight sessions want eight looks a second and get four. A look may be late, and the next one in time.
    let span = looks[23] - looks[0];
    assert!(span > 23.0 / 4.0 - 0.8, "24 looks in {span} s");
    assert!(span < 23.0 / 4.0 * 2.0, "24 looks in {span} s");
    for number in 0..8 {
        replicas.second.seen(&format!("bot-{number}"), 1).await;
    }
    assert_eq!(replicas.first.sandbox.counter("duplicates").await, 0);
    for replica in [&replicas.first, &replicas.second] {
        let printed = String::from_utf8_lossy(&replica.server.installation.printed()).into_owned();
        assert!(printed.contains("Telegram lists the authorization of a session"), "each takes its share");
    }
}

#[tokio::test]
async fn replicas_share_a_pause() {
    let settings = [("SESSION_VALIDATION_INTERVAL", "1"), ("USM_VALIDATION_RATE", "20")];
    let replicas = Replicas::start(&settings).await;
    let (first, second) = (&replicas.first, &replicas.second);
    first.sandbox.add(User { id: CAT, dc: Some(3), ..User::default() }).await;
    let flood = json!({"method": "users.getUsers", "count": 1, "error": "FLOOD_WAIT_60", "user_id": ANN});
    first.sandbox.post("/fault", flood).await.expect("a known fault");
    first.imported("here", ANN, 2, Custody::Service).await;
    poll::until("the flood wait is answered", || async {
        (first.sandbox.counter("faults").await == 1).then_some(())
    })
    .await;
    second.imported("there", CAT, 3, Custody::Service).await;
    second.seen("there", 2).await;
    first.imported("too", BOB, 2, Custody::Service).await;
    second.seen("there", 4).await;
    assert_eq!(first.asked_as(BOB).await, Vec::<String>::new());
    let asked = first.asked_as(ANN).await;
    assert_eq!(asked.iter().filter(|method| *method == "users.getUsers").count(), 1, "{asked:?}");
}
