//! Many imports at once, good and bad among each other.

use futures::future::join_all;
use prost::Message as _;
use tonic::{Code, Status};
use usm::{
    auth::Role,
    domain::{
        caller::Scope,
        material::{AuthKey, DcKey, Device, Format, Material},
    },
};
use usm_client::v1::{self, ImportOutcome, session_service_client::SessionServiceClient};

use crate::support::{
    server::{Client, token, token_of},
    world::{ANN, Shape, TENANT, World, import, on_both_shapes, reason, refused},
};

on_both_shapes!(
    many_at_once_are_each_answered_for_themselves,
    a_batch_is_answered_one_by_one,
    a_batch_that_is_none_is_refused_whole,
);

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

/// The answers of a batch, refusals as a single call would have ended.
async fn batch(
    mut sessions: SessionServiceClient<Client>,
    requests: Vec<v1::ImportSessionRequest>,
) -> Result<Vec<Result<v1::ImportSessionResponse, Status>>, Status> {
    use v1::batch_import_result::Result as Of;
    let request = v1::BatchImportSessionsRequest { requests, ..Default::default() };
    let results = sessions.batch_import_sessions(request).await?.into_inner().results;
    let results = results.into_iter().map(|result| match result.result.expect("one of both") {
        Of::Imported(answer) => Ok(answer),
        Of::Status(bytes) => {
            let status = tonic_types::pb::Status::decode(bytes.as_slice()).expect("a status");
            Err(Status::with_details(Code::from_i32(status.code), status.message, bytes.into()))
        }
    });
    Ok(results.collect())
}

async fn a_batch_is_answered_one_by_one(shape: Shape) {
    let world = World::start(shape).await;
    let data = [world.written(&any(1), Format::Raw).await, world.written(&any(2), Format::Raw).await];
    let foreign = v1::ImportSessionRequest { tenant_id: "globex".to_owned(), ..import("a", data[0].clone()) };
    let requests = vec![
        import("one", data[0].clone()),
        import("damaged", data[0][..90].to_vec()),
        import("bad name", data[1].clone()),
        foreign,
        import("copy", data[0].clone()),
        import("two", data[1].clone()),
    ];
    let tenant = world.server.sessions(&token_of("importer", TENANT)).await;
    let reasons = |answers: &[Result<v1::ImportSessionResponse, Status>]| -> Vec<String> {
        let told = answers.iter().map(|answer| match answer {
            Ok(answer) => answer.outcome().as_str_name().trim_start_matches("IMPORT_OUTCOME_").to_owned(),
            Err(status) => reason(status),
        });
        told.collect()
    };
    // A dry run changes nothing; of two sources with one authorization the service knows neither then.
    let trial = requests.iter().map(|request| v1::ImportSessionRequest { dry_run: true, ..request.clone() });
    let answers = batch(tenant.clone(), trial.collect()).await.expect("answers");
    let told =
        ["IMPORTED", "MATERIAL_INVALID", "ARGUMENT_INVALID", "SESSION_NOT_FOUND", "IMPORTED", "IMPORTED"];
    assert_eq!(reasons(&answers), told);
    assert_eq!(reason(&refused(world.find("one").await)), "SESSION_NOT_FOUND");

    let answers = batch(tenant.clone(), requests.clone()).await.expect("answers");
    let mut told = reasons(&answers);
    // Of two names for one authorization either may be first, and one is.
    let pair = [told[0].clone(), told[4].clone()];
    assert!(
        pair.contains(&"IMPORTED".to_owned()) && pair.contains(&"SESSION_ALREADY_EXISTS".to_owned()),
        "{pair:?}"
    );
    told.remove(4);
    assert_eq!(told[1..], ["MATERIAL_INVALID", "ARGUMENT_INVALID", "SESSION_NOT_FOUND", "IMPORTED"]);

    // As after an answer that was lost.
    let again = reasons(&batch(tenant, requests).await.expect("answers"));
    assert!([&again[0], &again[4]].map(String::as_str).contains(&"ALREADY_THERE"), "{again:?}");
    assert_eq!(again[5], "ALREADY_THERE");
    assert_eq!(world.events("two").await.len(), 1);
    world.stop().await;
}

async fn a_batch_that_is_none_is_refused_whole(shape: Shape) {
    let world = World::start(shape).await;
    let data = world.written(&any(1), Format::Raw).await;
    let one = v1::ImportSessionRequest { legacy_stopped: true, ..import("one", data) };
    let validated = v1::ImportSessionRequest { validate: true, ..one.clone() };
    let minted = v1::ImportSessionRequest { mint: true, ..one.clone() };
    for requests in [vec![], vec![one.clone(); 101], vec![one.clone(), validated], vec![one.clone(), minted]]
    {
        let refusal = refused(batch(world.sessions.clone(), requests).await);
        assert_eq!(reason(&refusal), "ARGUMENT_INVALID");
    }
    let may_not = token(Role::Authenticated, Some(TENANT), Some(vec![Scope::Read, Scope::Lease]));
    let refusal = refused(batch(world.server.sessions(&may_not).await, vec![one]).await);
    assert_eq!(reason(&refusal), "PERMISSION_DENIED");
    assert_eq!(reason(&refused(world.find("one").await)), "SESSION_NOT_FOUND");
    world.stop().await;
}
