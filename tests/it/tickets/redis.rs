//! What only Redis can do to tickets: be away, hang, be shared, be looked into.

use std::time::{Duration, Instant};

use usm::{
    domain::{
        error::{Error as Refusal, Reason},
        login::{Login, State},
    },
    tickets::{CheckpointChange, Error},
};

use super::{
    CHECKPOINT, HINT, TTL, URL, connect, connect_to, create, follow, login, qr, session, ticket, until,
    vault, with_request,
};
use crate::support::redis::Redis;

#[tokio::test]
async fn redis_holds_nothing_readable_under_the_agreed_names() {
    const ID: &str = "3b0c1d2e-3f40-4152-8364-758697a8b9ca";
    let redis = Redis::start();
    let tickets = connect(&redis, "here:").await;
    let (read, _) = create(&tickets, &with_request("app", "user:one", ID)).await;
    let read = tickets.update(&Login { state: qr(), ..read }, CheckpointChange::Keep).await.unwrap();
    let password = State::WaitingPassword { hint: Some(HINT.to_owned()), attempts_left: 5 };
    create(&tickets, &login("other")).await;
    let mut values = contents(&redis);
    tickets.update(&Login { state: password, ..read.clone() }, CheckpointChange::Keep).await.unwrap();
    values.extend(contents(&redis));

    let keys = redis.keys();
    assert!(keys.contains(&format!("here:qr:{}", read.ticket.expose_secret())));
    assert!(keys.contains(&"here:qr_active:tenant:app".to_owned()));
    assert_eq!(keys.iter().filter(|key| key.starts_with("here:replay:")).count(), 1);
    assert_eq!(keys.iter().filter(|key| key.starts_with("here:qr:")).count(), 2);
    assert!(keys.contains(&format!("here:qr_owner:{}", read.ticket.expose_secret())));
    assert!(keys.contains(&"here:qr_running".to_owned()));
    assert_eq!(keys.len(), 8);
    for secret in
        [URL.as_bytes(), b"c2VjcmV0", HINT.as_bytes(), CHECKPOINT, b"5000000001", b"user:one", ID.as_bytes()]
    {
        assert!(!values.windows(secret.len()).any(|it| it == secret));
    }
}

/// Every value in Redis, one after the other.
fn contents(redis: &Redis) -> Vec<u8> {
    let mut all = Vec::new();
    for key in redis.keys() {
        let kind = redis.command(&["TYPE", &key]).texts().concat();
        let command = match kind.as_str() {
            "hash" => vec!["HGETALL", &key],
            "zset" => vec!["ZRANGE", &key, "0", "-1"],
            _ => vec!["GET", &key],
        };
        all.extend(redis.command(&command).bytes().concat());
    }
    assert!(!all.is_empty());
    all
}

#[tokio::test]
async fn two_prefixes_share_a_redis_without_meeting() {
    let redis = Redis::start();
    let vault = vault();
    let here = connect_to(&redis.url(), "here:", vault.clone()).await.unwrap();
    let there = connect_to(&redis.url(), "{there}:", vault).await.unwrap();
    let (mine, _) = create(&here, &login("app")).await;
    let (_, superseded) = create(&there, &login("app")).await;
    assert!(superseded.is_none());
    assert!(there.get(&mine.ticket).await.unwrap().is_none());
}

#[tokio::test]
async fn replicas_see_each_others_logins_and_changes() {
    let redis = Redis::start();
    let vault = vault();
    let one = connect_to(&redis.url(), "", vault.clone()).await.unwrap();
    let two = connect_to(&redis.url(), "", vault).await.unwrap();
    let (read, _) = create(&one, &login("app")).await;
    let mut watch = two.watch(&read.ticket).unwrap();
    one.update(&Login { state: qr(), ..read.clone() }, CheckpointChange::Keep).await.unwrap();
    follow(&two, &mut watch, &read.ticket, |login| login.state == qr()).await;
    let (_, superseded) = create(&two, &login("app")).await;
    assert!(superseded == Some(read.ticket));
}

#[tokio::test]
async fn contents_that_were_changed_or_moved_in_redis_do_not_open() {
    let redis = Redis::start();
    let tickets = connect(&redis, "").await;
    let (mine, _) = create(&tickets, &login("app")).await;
    let (other, _) = create(&tickets, &login("other")).await;
    let (mine_key, other_key) =
        (format!("qr:{}", mine.ticket.expose_secret()), format!("qr:{}", other.ticket.expose_secret()));
    let unreadable = async |what: &str| {
        let read = tickets.get(&mine.ticket).await;
        assert!(matches!(read, Err(Error::Unreadable { .. })), "{what}: {read:?}");
    };
    redis.command(&["HSET", &mine_key, "s", "authorized"]);
    unreadable("a state that was not written").await;
    redis.command(&["HSET", &mine_key, "s", "starting", "v", "2"]);
    unreadable("another version").await;
    redis.command(&["COPY", &other_key, &mine_key, "REPLACE"]);
    unreadable("another login's contents").await;
    redis.command(&["HSET", &mine_key, "d", "USMV"]);
    unreadable("noise").await;
    redis.command(&["SET", "qr_active:tenant:app", other.ticket.expose_secret()]);
    assert!(matches!(tickets.active(&session("app")).await, Err(Error::Unreadable { .. })));
    // A new login is not kept from starting by what stands there.
    create(&tickets, &login("app")).await;
}

#[tokio::test]
async fn without_redis_calls_fail_soon_and_work_again_when_it_is_back() {
    let mut redis = Redis::start();
    let tickets = connect(&redis, "").await;
    let (read, _) = create(&tickets, &login("app")).await;
    let mut watch = tickets.watch(&read.ticket).unwrap();
    follow(&tickets, &mut watch, &read.ticket, |_| true).await;
    redis.kill();

    for _ in 0..3 {
        let started = Instant::now();
        let refused = tickets.create(&login("app"), None, 1, TTL).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
        assert!(tickets.get(&read.ticket).await.is_err());
        assert!(tickets.update(&read, CheckpointChange::Keep).await.is_err());
        assert!(tickets.ping(Instant::now() + Duration::from_secs(1)).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let refusal = Refusal::from(refused);
        assert!(refusal.reason == Reason::TicketsUnavailable && refusal.retry_after.is_some());
    }

    redis.restart();
    until("Redis answers again", async || {
        tickets.ping(Instant::now() + Duration::from_secs(1)).await.is_ok()
    })
    .await;
    assert!(tickets.get(&read.ticket).await.unwrap().is_none(), "Redis lost everything");
    let (fresh, _) = create(&tickets, &login("app")).await;
    let mut watch = tickets.watch(&fresh.ticket).unwrap();
    let shown = Login { state: qr(), ..fresh.clone() };
    let writing = tickets.update(&shown, CheckpointChange::Keep);
    let (_, written) =
        tokio::join!(follow(&tickets, &mut watch, &fresh.ticket, |login| login.state == qr()), writing);
    written.unwrap();
}

#[tokio::test]
async fn a_redis_that_hangs_is_given_up_on() {
    let redis = Redis::start();
    let tickets = connect(&redis, "").await;
    create(&tickets, &login("app")).await;
    // It takes commands and answers none of them, for far longer than a call may take.
    redis.command(&["CLIENT", "PAUSE", "4000", "ALL"]);
    let started = Instant::now();
    assert!(tickets.create(&login("app"), None, 1, TTL).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    until("Redis answers again", async || tickets.create(&login("app"), None, 1, TTL).await.is_ok()).await;
}

#[tokio::test]
async fn a_watch_notices_what_happened_while_its_connection_was_down() {
    let redis = Redis::start();
    let tickets = connect(&redis, "").await;
    let (read, _) = create(&tickets, &login("app")).await;
    let mut watch = tickets.watch(&read.ticket).unwrap();
    until("the subscription stands", async || {
        redis.command(&["PUBSUB", "NUMSUB", "login_events"]).texts()[1] == "1"
    })
    .await;
    // What happened so far is known.
    while tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {}

    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    tickets.update(&Login { state: qr(), ..read.clone() }, CheckpointChange::Keep).await.unwrap();
    follow(&tickets, &mut watch, &read.ticket, |login| login.state == qr()).await;
    tokio::time::timeout(Duration::from_secs(3), watch.changed()).await.expect("the reconnection wakes");
}

#[tokio::test]
async fn the_start_does_not_need_redis_but_uses_it_once_it_is_there() {
    let mut redis = Redis::start();
    redis.kill();
    let started = Instant::now();
    let tickets = connect(&redis, "").await;
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(matches!(tickets.create(&login("app"), None, 1, TTL).await, Err(Error::Unavailable { .. })));
    redis.restart();
    until("Redis is there", async || tickets.create(&login("app"), None, 1, TTL).await.is_ok()).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_until_it_is_put_right() {
    let redis = Redis::start_with(&["--requirepass", "right-word"]);
    let url = format!("redis://:wrong-word@127.0.0.1:{}/0", redis.port());
    let tickets = connect_to(&url, "", vault()).await.unwrap();
    let refused = tickets.create(&login("app"), None, 1, TTL).await.unwrap_err();
    assert!(!format!("{refused:?} {tickets:?}").contains("wrong-word"));
    assert!(matches!(refused, Error::Unavailable { .. }));
    tickets.close().await;

    let url = format!("redis://:right-word@127.0.0.1:{}/0", redis.port());
    let tickets = connect_to(&url, "", vault()).await.unwrap();
    create(&tickets, &login("app")).await;
}

#[tokio::test]
async fn after_closing_no_connection_is_left() {
    let redis = Redis::start();
    let clients = || redis.command(&["CLIENT", "LIST"]).texts()[0].lines().count();
    let tickets = connect(&redis, "").await;
    create(&tickets, &login("app")).await;
    until("both connections stand", async || clients() == 3).await;
    tickets.close().await;
    assert!(tickets.get(&ticket()).await.is_err());
    until("only this test's connection is left", async || clients() == 1).await;

    let tickets = connect(&redis, "").await;
    until("both connections stand", async || clients() == 3).await;
    drop(tickets);
    until("a dropped one is gone as well", async || clients() == 1).await;
}

#[tokio::test]
async fn settings_that_cannot_work_stop_the_start() {
    for (url, prefix, expected) in [
        ("http://hush@host", "", "REDIS_URL"),
        ("no url with hush", "", "REDIS_URL"),
        ("redis-cluster://:hush@127.0.0.1:7000", "usm:", "hash tag"),
        ("rediss-cluster://:hush@127.0.0.1:7000", "{}:", "hash tag"),
        ("redis://:hush@127.0.0.1", "with space", "USM_REDIS_PREFIX"),
    ] {
        let error = connect_to(url, prefix, vault()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("hush"));
    }
    for url in ["redis-cluster://127.0.0.1:1", "rediss://127.0.0.1:1", "valkey://127.0.0.1:1"] {
        assert!(connect_to(url, "{usm}:", vault()).await.is_ok(), "{url}");
    }
}
