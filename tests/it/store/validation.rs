//! Whom the database names for a look, and the pace that replicas share.

use std::time::{Duration, Instant};

use usm::{
    domain::{
        id::SessionKey,
        lease::{Purpose, Release},
        session::{Custody, State},
    },
    store::{paces::Pace, settings, validation::Due},
};

use super::{GAP, Place, granted, key, on_both, request, service};

on_both!(
    the_oldest_proof_of_life_comes_first,
    only_free_sessions_of_ours_are_named,
    doubt_is_looked_at_again_after_its_pause,
    pauses_of_data_centres_and_sessions_are_kept,
    silence_is_told_by_data_centre,
    a_proof_ends_the_lease_and_is_no_change,
    times_are_handed_out_once_and_in_step,
    whoever_waits_is_seen_while_it_lives,
);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DUE: Due = Due { silent_for: Duration::from_secs(300), second_look: MINUTE };

/// The database's clock in raw statements.
async fn now(place: &Place) -> i64 {
    // What a session is stamped with comes from the caller; here only the database's own word counts.
    let told = place
        .ask(match place.store.backend() {
            usm::store::Backend::Postgres => {
                "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint::text"
            }
            usm::store::Backend::Sqlite => "select cast(cast(unixepoch('subsec') * 1000 as integer) as text)",
        })
        .await;
    told.parse().expect("a number")
}

impl Place {
    /// A session whose last proof of life is so old.
    async fn silent(&self, app: &str, span: Duration) -> SessionKey {
        let session = self.authorized("acme", app).await;
        let at = now(self).await - i64::try_from(span.as_millis()).expect("short");
        self.raw(&format!(
            "update telegram_sessions set last_validated_time = {at}, update_time = {at} where app_id = '{app}'"
        ))
        .await;
        session.key
    }

    async fn named(&self, without: &[i32]) -> Vec<String> {
        let list = self.store.candidates(&service(), &DUE, without, 50).await.expect("listed");
        for candidate in &list {
            assert!(self.store.is_due(&service(), &candidate.key, &DUE).await.expect("checked"));
        }
        list.into_iter().map(|candidate| candidate.key.app.to_string()).collect()
    }
}

async fn the_oldest_proof_of_life_comes_first(place: Place) {
    place.silent("b", MINUTE * 10).await;
    place.silent("a", MINUTE * 20).await;
    place.silent("d", MINUTE * 6).await;
    place.silent("fresh", MINUTE * 4).await;
    // What a holder told of Telegram counts as well as a look.
    place.silent("c", HOUR).await;
    let told = now(&place).await - 480_000;
    place.raw(&format!("update telegram_sessions set last_activity_time = {told} where app_id = 'c'")).await;
    // Nobody looked at this one since its material came.
    place.silent("e", MINUTE * 5 + MINUTE / 2).await;
    place.raw("update telegram_sessions set last_validated_time = null where app_id = 'e'").await;
    assert_eq!(place.named(&[]).await, ["a", "b", "c", "d", "e"]);
    let two = place.store.candidates(&service(), &DUE, &[], 2).await.expect("listed");
    assert_eq!(two.iter().map(|one| one.key.app.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(!place.store.is_due(&service(), &key("acme", "fresh"), &DUE).await.expect("checked"));
}

async fn only_free_sessions_of_ours_are_named(place: Place) {
    for app in ["free", "held", "legacy", "elsewhere", "revoked", "homeless"] {
        place.silent(app, HOUR).await;
    }
    let mut wanted = request(&key("acme", "held"), 1);
    wanted.purpose = Purpose::Probe;
    let lease = granted(place.store.acquire(&service(), &wanted).await.expect("answer")).lease;
    let legacy = Custody::Legacy.name();
    for (app, change) in [
        ("legacy", format!("custody = '{legacy}'")),
        ("elsewhere", "environment = 'production'".to_owned()),
        ("revoked", "state = 'REVOKED', state_reason = 'expired', log_out = 'done'".to_owned()),
        ("homeless", "dc_id = null".to_owned()),
        // What grants do to it is another matter.
        ("held", "last_activity_time = null".to_owned()),
    ] {
        place.raw(&format!("update telegram_sessions set {change} where app_id = '{app}'")).await;
    }
    assert_eq!(place.named(&[]).await, ["free"]);
    assert_eq!(place.named(&[2]).await, Vec::<String>::new());
    assert_eq!(place.named(&[1, 3]).await, ["free"]);
    place.pass(wanted.ttl).await;
    assert_eq!(place.named(&[]).await, ["free"], "it rests");
    place.pass(GAP).await;
    assert_eq!(place.named(&[]).await.len(), 2);
    drop(lease);
    place.store.set_setting(&service(), settings::FEATURE, settings::FEATURE_OFF).await.expect("off");
    assert_eq!(place.named(&[]).await, Vec::<String>::new());
}

async fn doubt_is_looked_at_again_after_its_pause(place: Place) {
    for (app, reason, span) in [
        ("a", "validation_overdue", HOUR),
        ("b", "validation_failed", MINUTE * 2),
        ("c", "validation_failed", MINUTE / 2),
        ("d", "restored", HOUR),
    ] {
        place.silent(app, span).await;
        place
            .raw(&format!(
                "update telegram_sessions set state = 'STALE', state_reason = '{reason}' where app_id = '{app}'"
            ))
            .await;
    }
    assert_eq!(place.named(&[]).await, ["a", "b"]);
}

async fn pauses_of_data_centres_and_sessions_are_kept(place: Place) {
    for app in ["a", "b", "c"] {
        place.silent(app, HOUR).await;
    }
    place.raw("update telegram_sessions set dc_id = 4 where app_id = 'c'").await;
    let store = &place.store;
    store.pause(&service(), Pace::Session(&key("acme", "a")), MINUTE).await.expect("noted");
    assert_eq!(place.named(&[]).await.len(), 2);
    store.pause(&service(), Pace::Dc(2), MINUTE).await.expect("noted");
    // A shorter pause does not end a longer one.
    store.pause(&service(), Pace::Dc(2), Duration::ZERO).await.expect("noted");
    assert_eq!(place.named(&[]).await, ["c"]);
    store.forget_pauses(&service()).await.expect("nothing to forget");
    assert_eq!(place.named(&[]).await, ["c"]);
    place.raw(&format!("update {} set next_time = 0", paces(&place))).await;
    assert_eq!(place.named(&[]).await.len(), 3);
    store.forget_pauses(&service()).await.expect("forgotten");
    let left = place.ask("select cast(count(*) as text) from paces where name like 'probe:session:%'").await;
    assert_eq!(left, "0");
}

fn paces(place: &Place) -> &'static str {
    match place.store.backend() {
        usm::store::Backend::Postgres => "usm.paces",
        usm::store::Backend::Sqlite => "paces",
    }
}

async fn silence_is_told_by_data_centre(place: Place) {
    for app in ["a", "b", "lent", "legacy", "fresh"] {
        place.silent(app, HOUR * 2).await;
    }
    place.raw("update telegram_sessions set dc_id = 4 where app_id = 'b'").await;
    place.raw("update telegram_sessions set custody = 'LEGACY', dc_id = 5 where app_id = 'legacy'").await;
    let recently = now(&place).await;
    place
        .raw(&format!(
            "update telegram_sessions set last_activity_time = {recently}, dc_id = 3 where app_id = 'fresh'"
        ))
        .await;
    granted(place.store.acquire(&service(), &request(&key("acme", "lent"), 1)).await.expect("answer"));
    place.raw("update telegram_sessions set last_activity_time = null where app_id = 'lent'").await;
    let mut dcs = place.store.silent_dcs(&service(), HOUR).await.expect("listed");
    dcs.sort_unstable();
    assert_eq!(dcs, [2, 4]);
    let apps = async |dcs: &[i32]| -> Vec<String> {
        let overdue = place.store.overdue(&service(), HOUR, dcs, 10).await.expect("listed");
        let mut apps: Vec<String> = overdue.into_iter().map(|session| session.key.app.to_string()).collect();
        apps.sort_unstable();
        apps
    };
    assert_eq!(apps(&[2]).await, ["a", "lent"], "lent or not");
    assert_eq!(apps(&[2, 4]).await, ["a", "b", "lent"]);
    place.store.pause(&service(), Pace::Dc(2), MINUTE).await.expect("noted");
    assert_eq!(apps(&[2, 4]).await, ["b"], "asked to be quiet, it could not be heard");
    assert!(place.store.silent_dcs(&service(), HOUR * 3).await.expect("listed").is_empty());
}

async fn a_proof_ends_the_lease_and_is_no_change(place: Place) {
    place.silent("a", HOUR).await;
    let before = place.store.get(&service(), &key("acme", "a")).await.expect("read").expect("there");
    let mut wanted = request(&before.key, 1);
    wanted.purpose = Purpose::Probe;
    let lease = granted(place.store.acquire(&service(), &wanted).await.expect("answer")).lease;
    let wrong = place.store.prove(&service(), &lease.lease_id, lease.epoch + 1).await.expect("answer");
    assert!(wrong.is_none());
    let proven =
        place.store.prove(&service(), &lease.lease_id, lease.epoch).await.expect("answer").expect("held");
    assert!(proven.lease.is_none() && matches!(proven.state, State::Authorized { .. }));
    assert_eq!((proven.revision, proven.update_time), (before.revision, before.update_time));
    assert!(proven.last_validated_time > before.last_validated_time);
    assert!(place.store.prove(&service(), &lease.lease_id, lease.epoch).await.expect("answer").is_none());
    // Giving back what is over changes nothing.
    let _ = place.store.release(&service(), &lease.lease_id, lease.epoch, Release::ConnectionsClosed).await;
    let after = place.store.get(&service(), &before.key).await.expect("read").expect("there");
    assert!(after.lease.is_none());
    assert_eq!(place.named(&[]).await, Vec::<String>::new());
}

async fn times_are_handed_out_once_and_in_step(place: Place) {
    let step = Duration::from_millis(100);
    let takers = (0..20).map(|_| {
        let store = place.store.clone();
        tokio::spawn(async move {
            let until = store.reserve(&service(), Pace::Probes, step, MINUTE).await.expect("answer");
            Instant::now() + until.expect("within a minute")
        })
    });
    let mut times = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        times.push(taker.await.expect("no panic"));
    }
    times.sort_unstable();
    // Each answer takes a while on its way, so the moments are known a little late.
    let span = times[19] - times[0];
    assert!(span > step * 19 - Duration::from_millis(900), "{span:?}");
    let late = place.store.reserve(&service(), Pace::Probes, step, Duration::ZERO).await.expect("answer");
    assert!(late.is_none() || span < step * 19, "the next two seconds are taken: {late:?}");
}

async fn whoever_waits_is_seen_while_it_lives(place: Place) {
    place.silent("a", HOUR).await;
    let key = key("acme", "a");
    assert!(!place.store.is_wanted(&service(), &key).await.expect("answer"));
    let seen = now(&place).await;
    let waits = match place.store.backend() {
        usm::store::Backend::Postgres => "usm.lease_waits",
        usm::store::Backend::Sqlite => "lease_waits",
    };
    place
        .raw(&format!(
            "insert into {waits} (tenant_id, app_id, waiter, seen_time, deadline) \
             values ('acme', 'a', 'w', {seen}, {seen} + 60000)"
        ))
        .await;
    assert!(place.store.is_wanted(&service(), &key).await.expect("answer"));
    assert!(!place.store.is_due(&service(), &key, &DUE).await.expect("checked"), "a look would be refused");
    place.raw(&format!("update {waits} set seen_time = seen_time - 6000")).await;
    assert!(!place.store.is_wanted(&service(), &key).await.expect("answer"), "it hung up");
    assert!(place.store.is_due(&service(), &key, &DUE).await.expect("checked"));
}
