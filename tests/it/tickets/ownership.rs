//! Which replica runs a login: at most one, another one when it is gone, and the same again after Redis forgot.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use usm::{
    domain::{
        budget::{Budget, Limit, Paused, Scope, Spent},
        error::{Error as Refusal, Reason},
        id::TenantId,
        login::{Ask, Login, Method, State},
        secret::Secret,
    },
    tickets::{Answer, CheckpointChange, Created, Error, Former, Restored, Standing, Tickets},
};

use super::{CHECKPOINT, Form, TTL, connect_to, create, login, qr, until, vault};
use crate::support::redis::{Redis, deployment::Cluster};

const TENURE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

async fn replicas(redis: &Redis) -> [Tickets; 2] {
    replicas_at(&redis.url(), "").await
}

async fn replicas_at(url: &str, prefix: &str) -> [Tickets; 2] {
    let vault = vault();
    let one = connect_to(url, prefix, vault.clone()).await.unwrap();
    [one, connect_to(url, prefix, vault).await.unwrap()]
}

/// Two replicas on one node, and two on a Cluster, whose scripts must keep to one slot.
async fn on_one_node_and_on_a_cluster(redis: &Redis) -> [[Tickets; 2]; 2] {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Cluster::start_of(3, None));
    let prefix = format!("{{usm}}:{}:", uuid::Uuid::new_v4());
    [replicas(redis).await, replicas_at(&cluster.url(), &prefix).await]
}

#[tokio::test]
async fn a_login_has_one_owner_until_its_tenure_is_over() {
    let redis = Redis::start();
    for [one, two] in on_one_node_and_on_a_cluster(&redis).await {
        assert_ne!(one.replica(), two.replica());
        let (read, _) = create(&one, &login("app")).await;
        let tickets = [read.ticket.clone()];
        assert_eq!(one.renew(&tickets, TENURE).await.unwrap(), [Standing::Owner]);
        assert_eq!(two.renew(&tickets, TENURE).await.unwrap(), [Standing::Stranger]);
        assert_eq!(two.claim(&read.ticket, TENURE).await.unwrap(), None, "it has an owner");
        assert_eq!(two.orphans(10).await.unwrap(), []);
        let stranger = two.update(&Login { state: qr(), ..read.clone() }, CheckpointChange::Keep).await;
        assert!(matches!(stranger, Err(Error::NotOwner)), "{stranger:?}");

        one.renew(&tickets, SHORT).await.unwrap();
        until("the tenure is over", async || two.orphans(10).await.unwrap() == tickets).await;
        // Who lost it by time alone may have it back, as long as nobody else took it.
        assert_eq!(one.renew(&tickets, SHORT).await.unwrap(), [Standing::Owner]);
        until("the tenure is over", async || two.claim(&read.ticket, TENURE).await.unwrap().is_some()).await;
        assert_eq!(one.renew(&tickets, TENURE).await.unwrap(), [Standing::Stranger]);
        let former = one.update(&Login { state: qr(), ..read.clone() }, CheckpointChange::Keep).await;
        assert!(matches!(former, Err(Error::NotOwner)), "{former:?}");
        assert_eq!(two.checkpoint(&read.ticket).await.unwrap().unwrap().as_slice(), CHECKPOINT);
        two.update(&Login { state: qr(), ..read }, CheckpointChange::Keep).await.unwrap();
    }
}

#[tokio::test]
async fn of_many_replicas_one_claims_an_orphan() {
    let redis = Redis::start();
    for [one, two] in on_one_node_and_on_a_cluster(&redis).await {
        for round in 0..10 {
            let (read, _) = create(&one, &login(&format!("app-{round}"))).await;
            one.let_go(&read.ticket).await.unwrap();
            let claims = futures::future::join_all(
                (0..8).map(|n| if n % 2 == 0 { &one } else { &two }).map(|it| it.claim(&read.ticket, TENURE)),
            )
            .await;
            let won: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
            assert_eq!(won, [Former::LetGo]);
        }
    }
}

#[tokio::test]
async fn what_was_let_go_is_found_at_once_and_what_was_retired_is_not() {
    let redis = Redis::start();
    for [one, two] in on_one_node_and_on_a_cluster(&redis).await {
        let (left, _) = create(&one, &login("left")).await;
        let (over, _) = create(&one, &login("over")).await;
        let told = two.orphaned();
        one.let_go(&left.ticket).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("others are told");
        assert!(two.orphans(10).await.unwrap() == [left.ticket.clone()]);
        assert_eq!(two.claim(&left.ticket, TENURE).await.unwrap(), Some(Former::LetGo));

        let cancelled = Login { state: State::Cancelled, ..over.clone() };
        one.update(&cancelled, CheckpointChange::Keep).await.unwrap();
        assert_eq!(
            one.renew(std::slice::from_ref(&over.ticket), TENURE).await.unwrap(),
            [Standing::OwnerOfEnded]
        );
        assert!(one.checkpoint(&over.ticket).await.unwrap().is_some(), "kept for whoever looks after it");
        two.retire(&over.ticket).await.unwrap();
        assert!(one.checkpoint(&over.ticket).await.unwrap().is_some(), "a stranger retires nothing");
        one.retire(&over.ticket).await.unwrap();
        assert!(one.checkpoint(&over.ticket).await.unwrap().is_none());
        assert_eq!(one.get(&over.ticket).await.unwrap().unwrap().state, State::Cancelled, "still told");
        assert!(two.orphans(10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_login_that_redis_forgot_is_put_back_unless_a_newer_one_is_there() {
    let mut redis = Redis::start();
    let [one, two] = replicas(&redis).await;
    let (mine, _) = create(&one, &login("mine")).await;
    let (older, _) = create(&one, &login("older")).await;
    let shown = one.update(&Login { state: qr(), ..mine }, CheckpointChange::Keep).await.unwrap();
    redis.restart();
    until("it is forgotten", async || {
        matches!(
            one.renew(std::slice::from_ref(&shown.ticket), TENURE).await.as_deref(),
            Ok([Standing::Gone])
        )
    })
    .await;
    let (newer, _) = create(&two, &login("older")).await;
    assert_eq!(one.restore(&shown, Some(CHECKPOINT), TTL).await.unwrap(), Restored::Restored);
    assert_eq!(one.restore(&shown, Some(CHECKPOINT), TTL).await.unwrap(), Restored::There);
    assert_eq!(one.restore(&older, Some(CHECKPOINT), TTL).await.unwrap(), Restored::Superseded);
    let read = two.get(&shown.ticket).await.unwrap().unwrap();
    assert!(read.state == qr() && read.version == shown.version);
    assert!(two.active(&shown.key).await.unwrap().unwrap().ticket == shown.ticket);
    assert!(two.active(&newer.key).await.unwrap().unwrap().ticket == newer.ticket);
    assert_eq!(one.renew(std::slice::from_ref(&shown.ticket), TENURE).await.unwrap(), [Standing::Owner]);
    for key in redis.keys() {
        assert!(redis.command(&["PTTL", &key]).number() > 0, "{key} has no time to live");
    }
}

#[tokio::test]
async fn a_request_reaches_the_replica_that_listens_and_its_answer_comes_back() {
    const PASSWORD: &str = "a-password-that-no-one-else-has";
    let redis = Redis::start();
    let [one, two] = replicas(&redis).await;
    let (read, _) = create(&one, &login("app")).await;
    let hash = read.ticket.hash();
    let soon = || Instant::now() + Duration::from_secs(10);
    let ask = Ask::Password { password: Secret::new(PASSWORD), request: None };
    let owner = async {
        let asked = one.asked().await;
        assert_eq!(asked.ticket, hash);
        let Some(Ask::Password { password, .. }) = asked.ask else { panic!("another request") };
        assert!(password == Secret::new(PASSWORD));
        one.reply(&asked.id, None).await;
        // Once the asker knows, the password is not handed out again: only its answer is asked for.
        loop {
            let again = one.asked().await;
            assert_eq!(again.id, asked.id);
            if again.ask.is_none() {
                break;
            }
            // What was said before was lost, or the asker did not listen yet.
            one.reply(&asked.id, None).await;
        }
        let wrong =
            Refusal::new(Reason::PasswordInvalid, "wrong").fact("attempts_left", 4).fact("secret", "x");
        one.reply(&asked.id, Some(&Answer::of(&wrong))).await;
    };
    let (answer, ()) = tokio::join!(two.ask(&hash, &ask, soon()), owner);
    let refusal = answer.unwrap().require().unwrap_err();
    assert_eq!(refusal.reason, Reason::PasswordInvalid);
    assert_eq!(refusal.facts, [("attempts_left", "4".to_owned())], "only what callers may know");
    for key in redis.keys() {
        assert!(key.starts_with("qr"), "{key}: requests are stored nowhere");
    }

    let nobody = two.ask(&hash, &Ask::Cancel, Instant::now() + Duration::from_millis(900)).await;
    assert!(matches!(nobody, Err(Error::NobodyListens)), "{nobody:?}");
    // It was repeated meanwhile, under one name.
    let (first, second) = (one.asked().await, one.asked().await);
    assert_eq!(first.id, second.id);
    one.reply(&first.id, Some(&Answer::Done)).await;
}

#[tokio::test]
async fn a_budget_is_spent_wholly_or_not_at_all_and_comes_back_after_its_time() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let tenant = |name: &str| Scope::Tenant(TenantId::parse(name).unwrap());
        let span = Duration::from_millis(600);
        let budget = |scope: Scope, logins: u32| Budget { scope, limit: Limit { logins, span } };
        let both = [budget(tenant("acme"), 3), budget(Scope::Api(7), 2)];
        for _ in 0..2 {
            assert_eq!(tickets.spend(&[], &both).await.unwrap(), Spent::Spent);
        }
        let Spent::Exhausted("api_id", left) = tickets.spend(&[], &both).await.unwrap() else {
            panic!("the smaller one is used up")
        };
        assert!(left <= span && !left.is_zero());
        // The refused one cost the tenant nothing.
        assert_eq!(tickets.spend(&[], &[budget(tenant("acme"), 3)]).await.unwrap(), Spent::Spent);
        assert!(matches!(
            tickets.spend(&[], &[budget(tenant("acme"), 3)]).await.unwrap(),
            Spent::Exhausted("tenant", _)
        ));
        assert_eq!(tickets.spend(&[], &[budget(tenant("other"), 3)]).await.unwrap(), Spent::Spent);
        form.check_all_keys_end();
        until("the budget is there again", async || tickets.spend(&[], &both).await.unwrap() == Spent::Spent)
            .await;

        let (phone, api) = (Paused::Phone("hash".to_owned()), Paused::Api(7, Method::Qr));
        tickets.pause(&phone, Duration::from_secs(60)).await.unwrap();
        tickets.pause(&phone, Duration::from_secs(5)).await.unwrap();
        let Spent::Paused(left) = tickets.spend(&[api.clone(), phone], &[]).await.unwrap() else {
            panic!("Telegram asked to wait")
        };
        assert!(left > Duration::from_secs(50), "the longer one counts: {left:?}");
        assert_eq!(tickets.spend(&[api, Paused::Api(7, Method::Bot)], &[]).await.unwrap(), Spent::Spent);
        form.check_all_keys_end();
    }
}

#[tokio::test]
async fn of_two_logins_of_a_session_the_one_that_wrote_its_row_last_is_the_active_one() {
    for form in Form::all().await {
        let tickets = &form.tickets;
        let (older, newer) = (login("app"), login("app"));
        let created = tickets.create(&newer, None, 8, TTL).await.unwrap();
        assert!(matches!(created, Created::New { superseded: None, .. }));
        assert!(matches!(tickets.create(&older, None, 7, TTL).await.unwrap(), Created::Late));
        assert!(tickets.get(&older.ticket).await.unwrap().is_none(), "nothing of it is there");
        assert!(tickets.active(&newer.key).await.unwrap().unwrap().ticket == newer.ticket);
        let next = tickets.create(&login("app"), None, 9, TTL).await.unwrap();
        let Created::New { superseded: Some(former), .. } = next else { panic!("it takes over") };
        assert!(former == newer.ticket);
    }
}
