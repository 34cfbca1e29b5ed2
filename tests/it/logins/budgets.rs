//! Too many logins are refused before Telegram refuses them.

use std::time::Duration;

use tonic::Code;
use usm::domain::secret::Secret;
use usm_client::v1::{self, LoginState};

use crate::support::{
    redis::Redis,
    server::{Server, Setup, limit, service_token},
    world::{ANN, BOB, Shape, World, fact, on_both_shapes, pause, people, phone, qr, reason, refused},
};

on_both_shapes!(a_phone_gets_so_many_codes_a_day_and_others_theirs);

async fn a_phone_gets_so_many_codes_a_day_and_others_theirs(shape: Shape) {
    let world = World::start(shape).await;
    for name in 0..5 {
        world.phoned(&format!("ann-{name}"), ANN).await;
    }
    let asked = world.sandbox.calls("auth.sendCode").await;
    let spent = refused(world.begin_phone(phone("ann-6", ANN)).await);
    assert_eq!((spent.code(), reason(&spent).as_str()), (Code::ResourceExhausted, "LOGIN_BUDGET_EXHAUSTED"));
    assert_eq!(fact(&spent, "budget").as_deref(), Some("phone"));
    assert!(pause(&spent).expect("when") > Duration::from_secs(3000), "{spent:?}");
    assert_eq!(world.sandbox.calls("auth.sendCode").await, asked, "Telegram is not asked");
    assert_eq!(reason(&refused(world.find("ann-6").await)), "SESSION_NOT_FOUND", "nothing is left behind");
    world.phoned("bob", BOB).await;
    world.code("by-qr").await;
    world.stop().await;
}

#[tokio::test]
async fn ten_thousand_starts_of_one_tenant_leave_as_many_logins_as_it_may_have() {
    let sandbox = people(serde_json::json!({})).await;
    let redis = Redis::start();
    let mut setup = Setup::with(sandbox.endpoint());
    setup.redis = Some(Secret::new(redis.url()));
    setup.login_limits.tenant = limit(3);
    let server = Server::start(setup).await;
    let logins = server.logins(&service_token()).await;
    let starts = (0..10_000).map(|number| {
        let mut logins = logins.clone();
        async move { logins.start_qr_login(qr(&format!("bot-{number}"))).await }
    });
    use futures::StreamExt as _;
    let answers: Vec<_> = futures::stream::iter(starts).buffer_unordered(32).collect().await;
    let (started, refusals): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(started.len(), 3);
    for refusal in refusals {
        let refusal = refused(refusal);
        assert_eq!(reason(&refusal), "LOGIN_BUDGET_EXHAUSTED");
        assert_eq!(fact(&refusal, "budget").as_deref(), Some("tenant"));
    }
    assert_eq!(sandbox.open_connections().await, 3, "nothing else runs");
    let other = v1::StartQrLoginRequest { tenant_id: "other".to_owned(), ..qr("bot") };
    let other = server.logins(&service_token()).await.start_qr_login(other).await.expect("another tenant's");
    assert_eq!(other.into_inner().login.expect("a login").state(), LoginState::WaitingQrScan);
    server.stop().await;
}

#[tokio::test]
async fn replicas_share_their_budgets() {
    let sandbox = people(serde_json::json!({})).await;
    let redis = Redis::start();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let mut setup = Setup::with(sandbox.endpoint());
        setup.redis = Some(Secret::new(redis.url()));
        setup.login_limits.api_id = limit(3);
        replicas.push(Server::start(setup).await);
    }
    let mut answers = Vec::new();
    for number in 0..4 {
        let mut logins = replicas[number % 2].logins(&service_token()).await;
        answers.push(logins.start_qr_login(qr(&format!("bot-{number}"))).await);
    }
    let last = refused(answers.pop().expect("four"));
    assert_eq!(fact(&last, "budget").as_deref(), Some("api_id"));
    assert!(answers.iter().all(Result::is_ok));
    for replica in replicas {
        replica.stop().await;
    }
}
