//! Many imports at once, good and bad among each other.

use futures::future::join_all;
use usm::domain::material::{AuthKey, DcKey, Device, Format, Material};
use usm_client::v1::{self, ImportOutcome};

use crate::support::world::{ANN, Shape, TENANT, World, import, on_both_shapes, reason};

on_both_shapes!(many_at_once_are_each_answered_for_themselves);

/// An authorization that Telegram need not know: nobody connects.
fn any(number: u16) -> Material {
    let mut key = [3; 256];
    key[..2].copy_from_slice(&number.to_be_bytes());
    let key = DcKey { auth_key: AuthKey::from_slice(&key).expect("256 bytes"), address: None };
    Material {
        home_dc: 2,
        keys: [(2, key)].into(),
        telegram_user_id: Some(ANN),
        is_bot: Some(false),
        api_id: 1,
        device: Device::default(),
        proxy: None,
        updates: None,
        channels: std::collections::BTreeMap::new(),
    }
}

async fn many_at_once_are_each_answered_for_themselves(shape: Shape) {
    let world = World::start(shape).await;
    let mut requests = Vec::new();
    for number in 0..150 {
        let data = world.written(&any(number), Format::TelethonString).await;
        let data = if number % 10 == 9 { data[..40].to_vec() } else { data };
        requests.push(import(&format!("bot-{number}"), data));
    }
    for round in 0..2 {
        let answers = join_all(requests.iter().map(|request| world.import(request.clone()))).await;
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => {
                    let wanted =
                        if round == 0 { ImportOutcome::Imported } else { ImportOutcome::AlreadyThere };
                    assert_eq!(answer.outcome(), wanted);
                    assert_eq!(answer.session.expect("a session").app_id, format!("bot-{number}"));
                }
                Err(refusal) => {
                    assert_eq!((number % 10, reason(&refusal).as_str()), (9, "MATERIAL_INVALID"));
                }
            }
        }
    }
    let request =
        v1::ListSessionsRequest { tenant_id: TENANT.to_owned(), page_size: 500, ..Default::default() };
    let listed = world.sessions.clone().list_sessions(request).await.expect("listed").into_inner();
    assert_eq!(listed.sessions.len(), 135);
    let events = world.events("bot-0").await;
    assert_eq!(events.len(), 1, "{events:?}");
    world.stop().await;
}
