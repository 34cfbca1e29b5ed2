//! What callers see of sessions, and the little they may change directly.

use std::collections::BTreeSet;

use tonic::Code;
use usm_client::v1::{self, SessionCustody, SessionState};

use crate::support::{
    server::token_of,
    world::{ANN, Shape, TENANT, World, field, on_both_shapes, reason, refused},
};

on_both_shapes!(
    sessions_are_listed_by_filter_and_page,
    another_tenants_sessions_are_neither_seen_nor_touched,
    labels_are_changed_under_the_revision_that_was_read,
    events_are_listed_in_order_and_by_page,
    malformed_ids_are_refused_by_field,
    methods_of_later_versions_say_so,
);

async fn list(world: &World, request: v1::ListSessionsRequest) -> (Vec<String>, String) {
    let answer = world.sessions.clone().list_sessions(request).await.expect("listed").into_inner();
    let names = answer.sessions.iter().map(|one| format!("{}/{}", one.tenant_id, one.app_id)).collect();
    (names, answer.next_page_token)
}

fn of_tenant() -> v1::ListSessionsRequest {
    v1::ListSessionsRequest { tenant_id: TENANT.to_owned(), ..Default::default() }
}

async fn relabel(
    world: &World,
    app: &str,
    revision: i64,
    labels: &[(&str, &str)],
) -> Result<v1::Session, tonic::Status> {
    let request = v1::UpdateSessionRequest {
        session: Some(v1::Session {
            tenant_id: TENANT.to_owned(),
            app_id: app.to_owned(),
            revision,
            labels: labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] }),
        ..Default::default()
    };
    Ok(world.sessions.clone().update_session(request).await?.into_inner().session.expect("a session"))
}

async fn sessions_are_listed_by_filter_and_page(shape: Shape) {
    let world = World::start(shape).await;
    for app in ["b", "a", "c"] {
        world.lendable(app, ANN).await;
    }
    let login = world.code("d").await;
    world.cancel(&login.ticket).await.expect("cancelled");
    relabel(&world, "b", 0, &[("team", "news"), ("purpose", "ingest")]).await.expect("updated");
    relabel(&world, "c", 0, &[("team", "news")]).await.expect("updated");

    assert_eq!(list(&world, of_tenant()).await.0, ["acme/a", "acme/b", "acme/c", "acme/d"]);
    assert_eq!(list(&world, v1::ListSessionsRequest::default()).await.0.len(), 4, "a service sees all");
    let absent = v1::ListSessionsRequest { states: vec![SessionState::Absent.into()], ..of_tenant() };
    assert_eq!(list(&world, absent).await.0, ["acme/d"]);
    let legacy = v1::ListSessionsRequest { custody: SessionCustody::Legacy.into(), ..of_tenant() };
    assert!(list(&world, legacy).await.0.is_empty());
    let labels = |labels: &[(&str, &str)]| v1::ListSessionsRequest {
        labels: labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        ..of_tenant()
    };
    assert_eq!(list(&world, labels(&[("team", "news")])).await.0, ["acme/b", "acme/c"]);
    assert_eq!(list(&world, labels(&[("team", "news"), ("purpose", "ingest")])).await.0, ["acme/b"]);
    assert!(list(&world, labels(&[("team", "' or 1=1 --")])).await.0.is_empty());

    let mut seen = Vec::new();
    let mut token = String::new();
    for _ in 0..4 {
        let page = v1::ListSessionsRequest { page_size: 1, page_token: token, ..of_tenant() };
        let (names, next) = list(&world, page).await;
        assert_eq!(names.len(), 1);
        seen.extend(names);
        token = next;
    }
    assert_eq!((seen.join(" ").as_str(), token.as_str()), ("acme/a acme/b acme/c acme/d", ""));
    let bad = v1::ListSessionsRequest { page_token: "made up".to_owned(), ..of_tenant() };
    let bad = refused(world.sessions.clone().list_sessions(bad).await);
    assert_eq!(reason(&bad), "PAGE_TOKEN_INVALID");
    let bad = v1::ListSessionsRequest { page_size: -1, ..of_tenant() };
    assert_eq!(reason(&refused(world.sessions.clone().list_sessions(bad).await)), "ARGUMENT_INVALID");
    world.stop().await;
}

async fn another_tenants_sessions_are_neither_seen_nor_touched(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let before = world.session("bot").await;
    let mut stranger = world.server.sessions(&token_of("stranger", "globex")).await;
    let listed = stranger.list_sessions(v1::ListSessionsRequest::default()).await.expect("its own");
    assert!(listed.into_inner().sessions.is_empty());
    let listed =
        stranger.list_session_events(v1::ListSessionEventsRequest::default()).await.expect("its own");
    assert!(listed.into_inner().events.is_empty());
    let mut seen = BTreeSet::new();
    for app in ["bot", "none"] {
        let (tenant_id, app_id) = (TENANT.to_owned(), app.to_owned());
        let get = v1::GetSessionRequest { tenant_id: tenant_id.clone(), app_id: app_id.clone() };
        let get = refused(stranger.get_session(get).await);
        let revoke = v1::RevokeSessionRequest {
            tenant_id: tenant_id.clone(),
            app_id: app_id.clone(),
            ..Default::default()
        };
        let revoke = refused(stranger.revoke_session(revoke).await);
        let delete = v1::DeleteSessionRequest { tenant_id, app_id, ..Default::default() };
        let delete = refused(stranger.delete_session(delete).await);
        for status in [get, revoke, delete] {
            assert_eq!(reason(&status), "SESSION_NOT_FOUND");
            seen.insert((status.message().to_owned(), status.details().to_vec()));
        }
    }
    assert_eq!(seen.len(), 1, "all alike");
    assert_eq!(world.session("bot").await, before);
    world.stop().await;
}

async fn labels_are_changed_under_the_revision_that_was_read(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let read = world.session("bot").await;
    let first = relabel(&world, "bot", read.revision, &[("consent", "2026-01-01")]).await.expect("updated");
    assert_eq!(first.revision, read.revision + 1);
    assert_eq!(first.labels.get("consent").map(String::as_str), Some("2026-01-01"));
    let stale = refused(relabel(&world, "bot", read.revision, &[("consent", "none")]).await);
    assert_eq!(reason(&stale), "REVISION_STALE");
    assert_eq!(world.session("bot").await.labels, first.labels);

    let (_, _) = world.lend("bot").await;
    let lent = world.session("bot").await;
    assert_eq!(lent.revision, first.revision, "a lease changes no revision");
    let long = "x".repeat(1025);
    for labels in [[("", "x")], [("a\nb", "x")], [("name", long.as_str())]] {
        let bad = refused(relabel(&world, "bot", 0, &labels).await);
        assert_eq!((reason(&bad).as_str(), field(&bad).as_deref()), ("ARGUMENT_INVALID", Some("labels")));
    }
    let nothing = v1::UpdateSessionRequest { session: Some(lent), ..Default::default() };
    let nothing = refused(world.sessions.clone().update_session(nothing).await);
    assert_eq!(field(&nothing).as_deref(), Some("update_mask"));
    assert_eq!(reason(&refused(relabel(&world, "none", 0, &[]).await)), "SESSION_NOT_FOUND");
    world.stop().await;
}

async fn events_are_listed_in_order_and_by_page(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    world.release(&held, true).await.expect("released");
    let ask = |page_token: String| v1::ListSessionEventsRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        page_size: 1,
        page_token,
        ..Default::default()
    };
    let mut events = Vec::new();
    let mut token = String::new();
    loop {
        let page = world.sessions.clone().list_session_events(ask(token)).await.expect("listed").into_inner();
        events.extend(page.events);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert!(events.len() < 50, "the list ends");
    }
    assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let reasons: Vec<_> =
        events.iter().map(|event| event.reason.as_str()).filter(|it| !it.is_empty()).collect();
    let told = reasons.iter().position(|it| *it == "qr_started");
    assert!(told < reasons.iter().position(|it| *it == "authorization_success"), "{reasons:?}");
    assert!(events.iter().all(|event| !event.actor.is_empty() && event.create_time.is_some()));
    assert!(!format!("{events:?}").contains(&held.lease_id));
    world.stop().await;
}

async fn malformed_ids_are_refused_by_field(shape: Shape) {
    let world = World::start(shape).await;
    let long = "a".repeat(129);
    for bad in ["", ".x", "-x", "a b", "a/b", "ä", "a\0", long.as_str()] {
        for (tenant, app, name) in [(bad, "bot", "tenant_id"), (TENANT, bad, "app_id")] {
            let request = v1::GetSessionRequest { tenant_id: tenant.to_owned(), app_id: app.to_owned() };
            let refusal = refused(world.sessions.clone().get_session(request).await);
            assert_eq!(refusal.code(), Code::InvalidArgument);
            assert_eq!(
                (reason(&refusal).as_str(), field(&refusal).as_deref()),
                ("ARGUMENT_INVALID", Some(name))
            );
        }
    }
    world.stop().await;
}

async fn methods_of_later_versions_say_so(shape: Shape) {
    let world = World::start(shape).await;
    let watch = v1::WatchSessionsRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
    let Err(refusal) = world.sessions.clone().watch_sessions(watch).await else {
        panic!("this version follows no sessions");
    };
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    world.stop().await;
}
