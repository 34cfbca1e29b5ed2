//! Sessions looked after by schedule: who is asked about, who never is, and what follows.

mod doubts;
mod outages;
mod pace;
mod waiting;

use std::time::Duration;

use serde_json::{Value, json};
use usm::{
    app::validator::Schedule,
    domain::{material::Format, session::Custody},
};
use usm_client::v1::{self, SessionState};

use crate::support::{
    poll,
    telegram::User,
    world::{ANN, BOB, Plan, Shape, TENANT, World, import, on_both_shapes},
};

on_both_shapes!(
    a_session_is_looked_at_again_and_again,
    nobody_is_disturbed_who_holds_a_session,
    what_the_legacy_system_owns_is_never_touched,
    a_session_silent_for_too_long_is_stale_until_it_is_seen,
    a_holder_that_tells_of_telegram_is_proof_enough,
    nothing_is_looked_at_while_the_feature_is_off,
);

const SECOND: Duration = Duration::from_secs(1);
/// Somebody at another data centre.
pub(crate) const CAT: i64 = 1003;

/// Looks once a second, and a world that is stale after so many seconds.
pub(crate) fn every_second(stale_after: u64) -> Schedule {
    Schedule {
        second_look: Duration::from_millis(500),
        ..Schedule::new(Some(SECOND), SECOND * u32::try_from(stale_after).expect("few"), 20.0)
    }
}

pub(crate) async fn world(shape: Shape, schedule: Schedule) -> World {
    let world = World::set_up(shape, Plan::default(), |setup| setup.validation = schedule).await;
    world.sandbox.add(User { id: CAT, dc: Some(3), ..User::default() }).await;
    world
}

impl<S> World<S> {
    /// An authorization of the account at that data centre, imported.
    pub(crate) async fn imported(&self, app: &str, user: i64, dc: i32, custody: Custody) {
        let material = self.sandbox.mint(dc, user).await;
        let data = self.written(&material, Format::TelethonString).await;
        let legacy_stopped = custody == Custody::Service;
        self.import(v1::ImportSessionRequest { legacy_stopped, ..import(app, data) })
            .await
            .expect("imported");
    }

    /// Waits until the session was seen alive so many more times.
    pub(crate) async fn seen(&self, app: &str, times: usize) -> v1::Session {
        let mut session = self.session(app).await;
        for _ in 0..times {
            let before = session.last_validated_time;
            session = poll::until("the session is seen alive", || async {
                Some(self.session(app).await).filter(|session| {
                    session.last_validated_time.is_some() && session.last_validated_time != before
                })
            })
            .await;
        }
        session
    }

    /// The session once it is in this state for this reason.
    pub(crate) async fn becomes(&self, app: &str, state: SessionState, reason: &str) -> v1::Session {
        poll::until(reason, || async {
            Some(self.session(app).await)
                .filter(|session| session.state() == state && session.state_reason == reason)
        })
        .await
    }

    /// What was asked with the keys of this account: the methods' names, in order.
    pub(crate) async fn asked_as(&self, user: i64) -> Vec<String> {
        let mut asked = Vec::new();
        for key in self.sandbox.authorizations().await.iter().filter(|key| key.user == Some(user)) {
            let name = key.name.as_str().expect("a name");
            let calls = self.sandbox.get(&format!("/calls?kind=rpc&key={name}")).await.expect("always there");
            asked.extend(calls.as_array().expect("a list").iter().map(method));
        }
        asked
    }
}

pub(crate) fn method(call: &Value) -> String {
    call["method"].as_str().expect("a method").to_owned()
}

async fn a_session_is_looked_at_again_and_again(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    world.lendable("bot", ANN).await;
    let before = world.session("bot").await;
    let after = world.seen("bot", 3).await;
    // The first look learns the account's name, which is news; the others are none.
    assert_eq!((after.state(), after.username.as_str()), (SessionState::Authorized, "ann"));
    assert!(after.revision <= before.revision + 1, "looks are no changes");
    assert_eq!(world.events("bot").await.len(), 1, "nor events");
    let asked = world.asked_as(ANN).await;
    assert!(
        asked.contains(&"users.getUsers".to_owned())
            && asked.contains(&"account.getAuthorizations".to_owned())
    );
    poll::until("the lease is given back", || async {
        world.session("bot").await.lease.is_none().then_some(())
    })
    .await;
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    world.stop().await;
}

async fn nobody_is_disturbed_who_holds_a_session(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    world.lendable("held", ANN).await;
    let (held, _) = world.lend("held").await;
    world.sandbox.post("/calls_clear", json!({})).await.expect("forgotten");
    world.lendable("free", BOB).await;
    world.seen("free", 3).await;
    assert_eq!(world.asked_as(ANN).await, Vec::<String>::new());
    world.renew(&held).await.expect("still held");
    world.release(&held, true).await.expect("released");
    world.seen("held", 1).await;
    world.stop().await;
}

async fn what_the_legacy_system_owns_is_never_touched(shape: Shape) {
    let world = world(shape, every_second(2)).await;
    world.imported("theirs", BOB, 2, Custody::Legacy).await;
    world.lendable("ours", ANN).await;
    world.seen("ours", 4).await;
    let theirs = world.session("theirs").await;
    assert_eq!((theirs.state(), theirs.revision), (SessionState::Authorized, 1), "not even found silent");
    assert_eq!(world.asked_as(BOB).await, Vec::<String>::new());
    world.stop().await;
}

async fn a_session_silent_for_too_long_is_stale_until_it_is_seen(shape: Shape) {
    let world = world(shape, every_second(2)).await;
    world.lendable("bot", ANN).await;
    // Its holder renews and says nothing of Telegram.
    let (mut held, _) = world.lend("bot").await;
    world.becomes("bot", SessionState::Stale, "validation_overdue").await;
    held = world.renew(&held).await.expect("it stays lent");
    world.release(&held, true).await.expect("released");
    world.becomes("bot", SessionState::Authorized, "validation_success").await;
    let reasons: Vec<String> = world.events("bot").await.into_iter().map(|(_, reason)| reason).collect();
    let moves: Vec<&str> =
        reasons.iter().map(String::as_str).filter(|reason| reason.starts_with("valid")).collect();
    assert_eq!(moves, ["validation_overdue", "validation_success"]);
    world.stop().await;
}

async fn a_holder_that_tells_of_telegram_is_proof_enough(shape: Shape) {
    let world = world(shape, every_second(2)).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let begun = std::time::Instant::now();
    poll::until("twice the threshold passes", || async {
        let request = v1::RenewLeaseRequest {
            lease_id: held.lease_id.clone(),
            epoch: held.epoch,
            last_activity_time: Some(std::time::SystemTime::now().into()),
            ..Default::default()
        };
        world.leases.clone().renew_lease(request).await.expect("held");
        let session = world.session("bot").await;
        assert_eq!(session.state(), SessionState::Authorized);
        (begun.elapsed() > SECOND * 4).then_some(())
    })
    .await;
    assert_eq!(world.events("bot").await.len(), 2, "imported and lent");
    assert_eq!(world.asked_as(ANN).await, Vec::<String>::new(), "nobody had to look");
    world.stop().await;
}

async fn nothing_is_looked_at_while_the_feature_is_off(shape: Shape) {
    let world = world(shape, every_second(2)).await;
    world.lendable("bot", ANN).await;
    world.server.app.set_feature(Some(usm::config::Feature::Disabled)).await.expect("switched off");
    world.sandbox.post("/calls_clear", json!({})).await.expect("forgotten");
    let begun = std::time::Instant::now();
    poll::until("three intervals pass", || async { (begun.elapsed() > SECOND * 3).then_some(()) }).await;
    assert_eq!(world.asked_as(ANN).await, Vec::<String>::new());
    assert!(world.session("bot").await.last_validated_time.is_none());
    world.server.app.set_feature(Some(usm::config::Feature::Enabled)).await.expect("switched on");
    // The legacy system got it meanwhile.
    let (tenant_id, app_id) = (TENANT.to_owned(), "bot".to_owned());
    let take = v1::TakeCustodyRequest { tenant_id, app_id, ..Default::default() };
    world.sessions.clone().take_custody(take).await.expect("taken back");
    world.seen("bot", 1).await;
    world.stop().await;
}
