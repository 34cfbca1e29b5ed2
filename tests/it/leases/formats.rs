//! One key in every form.

use usm::domain::material::Format;
use usm_client::v1::{self, SessionFormat};

use crate::support::{
    telegram::soon,
    world::{ANN, Shape, World, fact, lease, on_both_shapes, reason, refused},
};

on_both_shapes!(every_form_carries_the_same_key, a_form_that_is_not_written_leaves_no_lease);

async fn every_form_carries_the_same_key(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let forms = [
        (SessionFormat::Raw, Format::Raw),
        (SessionFormat::TelethonString, Format::TelethonString),
        (SessionFormat::TelethonSqlite, Format::TelethonSqlite),
        (SessionFormat::PyrogramString, Format::PyrogramString),
        (SessionFormat::PyrogramSqlite, Format::PyrogramSqlite),
        (SessionFormat::GramjsString, Format::GramjsString),
        (SessionFormat::MtcuteString, Format::MtcuteString),
        (SessionFormat::Grammers, Format::Grammers),
        (SessionFormat::Tdata, Format::Tdata),
        (SessionFormat::Unspecified, Format::TelethonString),
    ];
    let mut keys = Vec::new();
    for (asked, expected) in forms {
        let request = v1::AcquireLeaseRequest { format: asked.into(), ..lease("bot", "worker-1") };
        let answer = world.acquire(request).await.expect("granted");
        let material = answer.material.expect("material");
        assert_eq!(material.api_id, 1);
        let parsed = world.parsed(&material.data, expected).await;
        assert_eq!(parsed.home_dc, 2);
        keys.push(parsed.keys[&2].auth_key.clone());
        world.sandbox.telegram().probe(&parsed, soon()).await.expect("it works");
        world.release(&answer.lease.expect("a lease"), true).await.expect("released");
    }
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    world.stop().await;
}

async fn a_form_that_is_not_written_leaves_no_lease(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    // Nobody knows the account yet, and Telegram Desktop has to.
    let tdata = v1::AcquireLeaseRequest { format: SessionFormat::Tdata.into(), ..lease("bot", "worker-1") };
    let refusal = refused(world.acquire(tdata).await);
    assert_eq!(
        (reason(&refusal).as_str(), fact(&refusal, "code").as_deref()),
        ("MATERIAL_INVALID", Some("user_id_needed"))
    );
    assert!(world.session("bot").await.lease.is_none());
    let nonsense = v1::AcquireLeaseRequest { format: 99, ..lease("bot", "worker-1") };
    assert_eq!(reason(&refused(world.acquire(nonsense).await)), "ARGUMENT_INVALID");
    world.lend("bot").await;
    world.stop().await;
}
