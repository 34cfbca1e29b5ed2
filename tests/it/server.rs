//! The ports as clients meet them: who may call what, how calls end, and what else answers there.

use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Status, client::Grpc};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;
use usm::{
    auth::Role,
    domain::caller::Scope,
    grpc::{
        Reflection, Room,
        policy::{self, Serving, Who},
    },
};
use usm_client::v1;

use crate::support::server::{
    ANON_KEY, Client, SERVICE_ROLE_KEY, Server, Setup, service_token, tenant_token, token,
};

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Calls any method with an empty message and tells how it was refused, if it was.
async fn call(client: &Client, path: &'static str) -> Result<(), Status> {
    let mut grpc = Grpc::new(client.clone());
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let codec = ProstCodec::<(), ()>::default();
    let mut stream =
        grpc.server_streaming(Request::new(()), PathAndQuery::from_static(path), codec).await?.into_inner();
    stream.message().await.map(|_| ())
}

#[tokio::test]
async fn every_method_refuses_every_caller_it_must_and_admits_the_others() {
    let server = Server::start(Setup::without_telegram()).await;
    let scoped = |scope| tenant_token("acme", &[scope]);
    let callers: Vec<(&str, Option<String>, Vec<Scope>)> = vec![
        ("nobody", None, vec![]),
        ("anon", Some(token(Role::Anon, None, None)), vec![]),
        ("the anon key", Some(ANON_KEY.to_owned()), vec![]),
        ("a tenant's reader", Some(scoped(Scope::Read)), vec![Scope::Read]),
        ("a tenant's login page", Some(scoped(Scope::Login)), vec![Scope::Login]),
        ("a tenant's worker", Some(scoped(Scope::Lease)), vec![Scope::Lease]),
        ("a tenant's admin", Some(scoped(Scope::Admin)), vec![Scope::Admin]),
        (
            "a tenant by default",
            Some(token(Role::Authenticated, Some("acme"), None)),
            vec![Scope::Read, Scope::Login],
        ),
        ("a service", Some(service_token()), Scope::ALL.to_vec()),
        ("the service key", Some(SERVICE_ROLE_KEY.to_owned()), Scope::ALL.to_vec()),
    ];
    for (who, token, scopes) in &callers {
        let client = server.client(token.as_deref()).await;
        for row in policy::TABLE.iter().filter(|row| row.path.starts_with("/usm.")) {
            let refused = call(&client, row.path).await.map_err(|status| reason(&status));
            let allowed = match row.who {
                Who::Open | Who::Anyone => true,
                Who::Scoped(scope) => scopes.contains(&scope),
            };
            let what = format!("{who} calls {}: {refused:?}", row.path);
            match (allowed, token, row.serving) {
                (false, None, _) => assert_eq!(refused, Err("UNAUTHENTICATED".to_owned()), "{what}"),
                (false, Some(_), _) => assert_eq!(refused, Err("PERMISSION_DENIED".to_owned()), "{what}"),
                // What concerns every tenant is no tenant's to change, whatever its scopes.
                (true, _, _) if row.path.ends_with("/SetGrants") && *who == "a tenant's admin" => {
                    assert_eq!(refused, Err("PERMISSION_DENIED".to_owned()), "{what}");
                }
                (true, _, Serving::Later) => assert_eq!(refused, Err("UNIMPLEMENTED".to_owned()), "{what}"),
                (true, _, Serving::Served) => {
                    let refusals = ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "INTERNAL", ""];
                    assert!(!refused.is_err_and(|reason| refusals.contains(&reason.as_str())), "{what}");
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn another_tenants_objects_answer_as_ones_that_do_not_exist() {
    let server = Server::start(Setup::without_telegram()).await;
    let own = server.client(Some(&tenant_token("acme", &Scope::ALL))).await;
    let mut sessions = v1::session_service_client::SessionServiceClient::new(own);
    let mut ask = async |tenant: &str| {
        let request = v1::GetSessionRequest { tenant_id: tenant.to_owned(), app_id: "bot".to_owned() };
        sessions.get_session(request).await.expect_err("no such session")
    };
    let (missing, foreign) = (ask("acme").await, ask("other").await);
    assert_eq!(reason(&missing), "SESSION_NOT_FOUND");
    assert_eq!((missing.code(), missing.message()), (foreign.code(), foreign.message()));
    assert_eq!(missing.details(), foreign.details());

    let request = v1::ListSessionsRequest { tenant_id: "other".to_owned(), ..Default::default() };
    let listed = sessions.list_sessions(request).await.expect("an empty list").into_inner();
    assert_eq!(listed, v1::ListSessionsResponse::default());
    server.stop().await;
}

#[tokio::test]
async fn tokens_that_prove_nothing_are_refused_without_a_hint() {
    let server = Server::start(Setup::without_telegram()).await;
    for bad in ["", "abc", "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIiwiZXhwIjo5OTk5OTk5OTk5fQ."] {
        let client = server.client(Some(bad)).await;
        for path in ["/usm.v1.SessionService/GetSession", "/usm.v1.SystemService/GetHealth"] {
            let status = call(&client, path).await.expect_err("refused");
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::Unauthenticated, "UNAUTHENTICATED"),
                "{bad}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn unlisted_methods_and_services_are_unimplemented_for_everybody() {
    let server = Server::start(Setup::without_telegram()).await;
    for token in [None, Some(service_token())] {
        let client = server.client(token.as_deref()).await;
        for path in ["/usm.v1.SessionService/StealSession", "/usm.v2.SessionService/GetSession", "/x.Y/Z"] {
            let status = call(&client, path).await.expect_err("refused");
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::Unimplemented, "UNIMPLEMENTED"),
                "{path}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn health_needs_no_credential_and_tells_each_dependency() {
    let server = Server::start(Setup::without_telegram()).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "usm.v1.LeaseService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.expect("known").into_inner();
        assert_eq!(answer.status, 1, "{service} serves");
    }
    let mut system = v1::system_service_client::SystemServiceClient::new(server.client(None).await);
    let told =
        system.get_health(v1::GetHealthRequest {}).await.expect("told").into_inner().health.expect("health");
    let states: Vec<_> =
        told.dependencies.iter().map(|dependency| (dependency.name.as_str(), dependency.state())).collect();
    use v1::HealthState::{Down, Healthy};
    assert_eq!(states, [("grants", Healthy), ("store", Healthy), ("telegram", Down), ("tickets", Healthy)]);
    assert_eq!(told.state(), v1::HealthState::Degraded);
    server.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions_and_can_be_hidden() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = Server::start(Setup::without_telegram()).await;
    let channel = server.channel().await;

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.expect("served").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one").message_response.expect("filled");
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("a list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["usm.v1.SessionService", "usm.v1.LeaseService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "usm.v1.Session".to_owned(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.expect("served").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one").message_response.expect("filled");
    use v1alpha::server_reflection_response::MessageResponse;
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)));
    server.stop().await;

    let hidden = Setup { reflection: Reflection::Hidden, ..Setup::without_telegram() };
    let server = Server::start(hidden).await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let status = call(&server.client(None).await, path).await.expect_err("hidden");
    assert_eq!(status.code(), Code::Unimplemented);
    server.stop().await;
}

/// One HTTP/1.1 exchange by hand: status line, headers and body as they came.
async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn both_ports_answer_probes_and_only_one_answers_metrics() {
    let server = Server::start(Setup::without_telegram()).await;
    for address in [server.address, server.metrics_address] {
        crate::support::poll::until("the server is ready", || async {
            get(address, "/readyz").await.starts_with("HTTP/1.1 200").then_some(())
        })
        .await;
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/nowhere").await.starts_with("HTTP/1.1 404"));
    }
    assert!(get(server.address, "/metrics").await.starts_with("HTTP/1.1 404"));
    let metrics = get(server.metrics_address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"));
    for metric in usm::telemetry::metrics::ALL {
        assert!(metrics.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
    }
    server.stop().await;
}

#[tokio::test]
async fn calls_are_counted_under_their_methods_name_and_strangers_under_one() {
    let server = Server::start(Setup::without_telegram()).await;
    let client = server.client(Some(&service_token())).await;
    let _ = call(&client, "/usm.v1.SessionService/GetSession").await;
    let _ = call(&client, "/usm.v1.SessionService/MadeUpByATest").await;
    let counted = |text: &str, start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .is_some_and(|count| count >= 1.0)
    };
    crate::support::poll::until("both calls are counted", || async {
        let text = get(server.metrics_address, "/metrics").await;
        assert!(!text.contains("MadeUpByATest"));
        let known = "grpc_server_requests_total{method=\"usm.v1.SessionService/GetSession\",code=\"INVALID_ARGUMENT\"}";
        let unknown = "grpc_server_requests_total{method=\"unknown\",code=\"UNIMPLEMENTED\"}";
        (counted(&text, known) && counted(&text, unknown)).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn grpc_web_works_over_http_1_and_pages_of_named_origins_may_call() {
    let origin = "https://app.example";
    let server = Server::start(Setup { cors_origins: vec![origin], ..Setup::without_telegram() }).await;
    let path = "/usm.v1.SystemService/GetHealth";
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\nx-grpc-web: 1\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(&[0, 0, 0, 0, 0]);
    let answer = exchange(server.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example"), "{answer}");
    assert!(answer.contains("grpc-status:0"), "{answer}");

    let preflight = |origin: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n\r\n"
        )
    };
    let answer = exchange(server.address, preflight(origin).as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("access-control-allow-headers"),
        "{answer}"
    );
    let answer = exchange(server.address, preflight("https://evil.example").as_bytes()).await;
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_streams_with_its_own_code() {
    let server = Server::start(Setup::without_telegram()).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(300));
    let start = Instant::now();
    let mut stream = health.watch(request).await.expect("watched").into_inner();
    stream.message().await.expect("the first state").expect("one");
    let status = stream.message().await.expect_err("the end");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(start.elapsed() < Duration::from_secs(3));

    server.stop().await;
}

#[tokio::test]
async fn no_room_is_said_at_once_and_with_a_pause() {
    let room = Room { requests_max: 16, streams_max: 1 };
    let server = Server::start(Setup { room, ..Setup::without_telegram() }).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut first = health.watch(HealthCheckRequest::default()).await.expect("room for one").into_inner();
    first.message().await.expect("a state");
    let status = health.watch(HealthCheckRequest::default()).await.expect_err("no room for two");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "OVERLOADED"));
    assert!(status.get_error_details().retry_info().is_some());
    drop(first);
    crate::support::poll::until("the room is free again", || async {
        health.clone().watch(HealthCheckRequest::default()).await.ok()
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn closing_tells_watchers_and_does_not_wait_for_them() {
    let server = Server::start(Setup::without_telegram()).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut stream = health.watch(HealthCheckRequest::default()).await.expect("watched").into_inner();
    assert_eq!(stream.message().await.expect("a state").expect("one").status, 1);
    let start = Instant::now();
    server.ask_to_stop();
    let mut last = None;
    let end = loop {
        match stream.message().await {
            Ok(Some(state)) => last = Some(state.status),
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(last.is_none_or(|status| status == 2), "not serving");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "SERVICE_DRAINING"));
    drop(health);
    server.stop().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused() {
    let server = Server::start(Setup::without_telegram()).await;
    let client = server.client(Some(&service_token())).await;
    let mut sessions = v1::session_service_client::SessionServiceClient::new(client);
    let request = v1::ImportSessionRequest {
        tenant_id: "acme".to_owned(),
        app_id: "bot".to_owned(),
        data: vec![7; 18 * 1024 * 1024],
        ..Default::default()
    };
    let status = sessions.import_session(request).await.expect_err("too large");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_the_callers_mistake() {
    let server = Server::start(Setup::without_telegram()).await;
    let mut raw = tonic::client::Grpc::new(server.client(Some(&service_token())).await);
    for path in ["/usm.v1.LoginService/GetLogin", "/usm.v1.LoginService/WatchLogin"] {
        raw.ready().await.expect("a connection");
        // Bytes where a text should be, which is what some bytes are no longer.
        let request = tonic::Request::new(b"\xff\xfe".to_vec());
        let codec = tonic_prost::ProstCodec::<Vec<u8>, v1::GetLoginResponse>::default();
        let status = raw.unary(request, path.parse().expect("a path"), codec).await.expect_err("no text");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "ARGUMENT_INVALID"),
            "{path}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn fields_this_version_would_have_to_ignore_are_refused_by_name() {
    let server = Server::start(Setup::without_telegram()).await;
    let mut sessions = server.sessions(&service_token()).await;
    let request = v1::ImportSessionRequest {
        tenant_id: "acme".to_owned(),
        app_id: "bot".to_owned(),
        data: b"anything".to_vec(),
        proxy: Some(v1::Proxy::default()),
        ..Default::default()
    };
    let status = sessions.import_session(request).await.expect_err("not served");
    let details = status.get_error_details();
    let field = details.bad_request().and_then(|bad| Some(bad.field_violations.first()?.field.clone()));
    assert_eq!(field.as_deref(), Some("proxy"));
    server.stop().await;
}
