//! A Telegram that does not answer, or asks to wait.

use std::time::Instant;

use serde_json::json;
use usm::domain::session::Custody;
use usm_client::v1::SessionState;

use super::{CAT, SECOND, every_second, world};
use crate::support::{
    poll,
    telegram::Fault,
    world::{ANN, BOB, Shape, on_both_shapes},
};

on_both_shapes!(an_outage_makes_nobody_stale, a_flood_wait_is_for_its_data_centre);

async fn an_outage_makes_nobody_stale(shape: Shape) {
    let threshold = 4;
    let world = world(shape, every_second(threshold)).await;
    let apps: Vec<String> = (0..6).map(|number| format!("bot-{number}")).collect();
    for app in &apps {
        world.lendable(app, ANN).await;
    }
    for app in &apps {
        world.seen(app, 1).await;
    }
    let mut before = Vec::new();
    for app in &apps {
        before.push(world.events(app).await.len());
    }
    world.sandbox.fault("connect", 1000, Fault::Drop).await;
    let begun = Instant::now();
    poll::until("silence for longer than the threshold, and looks that fail", || async {
        for app in &apps {
            assert_eq!(world.session(app).await.state(), SessionState::Authorized, "{app}");
        }
        let failed = world.sandbox.counter("faults").await;
        (failed >= 5 && begun.elapsed() > SECOND * 6).then_some(())
    })
    .await;
    // Calls rest: the open breaker lets no look through.
    let tried = world.sandbox.counter("faults").await;
    assert!(tried < 60, "{tried} connections in an outage");
    world.sandbox.clear_faults().await;
    for (app, before) in apps.iter().zip(before) {
        world.seen(app, 1).await;
        let after = world.events(app).await;
        assert_eq!(after.len(), before, "{app}: {after:?}");
    }
    world.stop().await;
}

async fn a_flood_wait_is_for_its_data_centre(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    let flood = json!({"method": "users.getUsers", "count": 1, "error": "FLOOD_WAIT_60", "user_id": ANN});
    world.sandbox.post("/fault", flood).await.expect("a known fault");
    world.imported("here", ANN, 2, Custody::Service).await;
    poll::until("the flood wait is answered", || async {
        (world.sandbox.counter("faults").await == 1).then_some(())
    })
    .await;
    world.imported("too", BOB, 2, Custody::Service).await;
    world.imported("there", CAT, 3, Custody::Service).await;
    world.seen("there", 3).await;
    assert_eq!(world.asked_as(BOB).await, Vec::<String>::new(), "another account of the same data centre");
    assert_eq!(world.session("here").await.state(), SessionState::Authorized);
    world.stop().await;
}
