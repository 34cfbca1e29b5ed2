//! Requests that nobody sends on purpose, and what every answer has in common.

use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    page::Page,
    stage::{Stage, WITH_TOKEN},
};
use crate::support::{
    poll::PATIENCE,
    server::{Server, Setup, tenant_token},
    world::{ANN, Plan, Shape, TENANT},
};

const JSON: (&str, &str) = ("content-type", "application/json");

fn back_end(page: &Page) -> Page {
    page.with(format!("Bearer {}", tenant_token(TENANT, &[usm::domain::caller::Scope::Login])))
}

#[tokio::test]
async fn bodies_are_read_strictly_and_told_what_is_wrong_with_them() {
    let server = Server::start(Setup::without_telegram()).await;
    let page = back_end(&Page::at(server.address));
    for path in ["/api/qr/start", "/api/qr/password", "/api/qr/cancel"] {
        for (what, headers, body) in [
            ("no JSON", vec![JSON], "{"),
            ("no object", vec![JSON], "[]"),
            ("nothing", vec![JSON], ""),
            ("no type", vec![], "{}"),
            ("another type", vec![("content-type", "text/plain")], "{}"),
            ("a form", vec![("content-type", "application/x-www-form-urlencoded")], "ticket=x"),
            ("a field that is missing", vec![JSON], "{}"),
            ("a field of another kind", vec![JSON], r#"{"app_id": 7, "ticket": 7, "password": 7}"#),
            ("a field twice", vec![JSON], r#"{"app_id": "a", "app_id": "b"}"#),
        ] {
            let answer = page.post_raw(path, &headers, body.as_bytes().to_vec()).await;
            assert_eq!(answer.refusal(), (400, "ARGUMENT_INVALID".to_owned()), "{path}: {what}: {answer:?}");
        }
        let answer =
            page.post(path, &json!({"app_id": "a", "ticket": "x", "password": "x", "bot<i>": 1})).await;
        assert_eq!(answer.refusal(), (400, "ARGUMENT_INVALID".to_owned()));
        assert!(answer.json()["error"]["field"].is_string(), "{answer:?}");
        let long = format!(r#"{{"app_id": "{}"}}"#, "x".repeat(20_000)).into_bytes();
        assert_eq!(page.post_raw(path, &[JSON], long).await.refusal(), (413, "MESSAGE_TOO_LARGE".to_owned()));
        let answer = page.send(Method::PUT, path, &[JSON], b"{}".to_vec()).await;
        assert_eq!(answer.refusal(), (405, "UNIMPLEMENTED".to_owned()));
    }
    for bad in ["/api/qr/status", "/api/qr/status?ticket=a&ticket=b", "/api/qr/events?ticket=a&more=b"] {
        assert_eq!(page.get(bad).await.refusal(), (400, "ARGUMENT_INVALID".to_owned()), "{bad}");
    }
    let charset = [("content-type", "application/json; charset=utf-8")];
    let answer = page.post_raw("/api/qr/cancel", &charset, br#"{"ticket": "x"}"#.to_vec()).await;
    assert_eq!(answer.refusal(), (404, "TICKET_NOT_FOUND".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn no_answer_is_kept_and_who_calls_is_asked_before_what_for() {
    let server = Server::start(Setup::without_telegram()).await;
    let page = Page::at(server.address);
    for answer in [
        page.post_raw("/api/qr/start", &[], b"{".to_vec()).await,
        page.get("/api/qr/status").await,
        page.get("/api/qr/events").await,
        page.post_raw("/api/qr/password", &[], Vec::new()).await,
        page.post_raw("/api/qr/cancel", &[], Vec::new()).await,
        page.with("Basic dXNlcjpwdw==").get("/api/qr/status").await,
        page.with("tma").get("/api/qr/status").await,
    ] {
        assert_eq!(answer.refusal(), (401, "UNAUTHENTICATED".to_owned()));
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    server.stop().await;
}

#[tokio::test]
async fn calls_are_counted_by_route_and_nothing_else_of_them_is_told() {
    let server = Server::start(Setup::without_telegram()).await;
    let (page, watcher) = (Page::at(server.address), Page::at(server.metrics_address));
    let count = async |metric: &str| {
        let told = watcher.get("/metrics").await;
        let told = String::from_utf8(told.body.to_vec()).expect("text");
        let line =
            told.lines().find(|line| line.starts_with(metric)).unwrap_or_else(|| panic!("{metric}: {told}"));
        line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).expect("a count")
    };
    let refused = "miniapp_webhook_total{route=\"cancel\",result=\"failed\"}";
    let (before, denied) = (count(refused).await, count("rls_denied_total").await);
    for _ in 0..3 {
        assert_eq!(page.post("/api/qr/cancel", &json!({"ticket": "x"})).await.status, 401);
    }
    let elsewhere = json!({"app_id": "news", "tenant_id": "globex"});
    assert_eq!(back_end(&page).post("/api/qr/start", &elsewhere).await.status, 404);
    // Other tests count in the same process.
    assert!(count(refused).await >= before + 3.0);
    assert!(count("rls_denied_total").await >= denied + 1.0);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_named_origins_may_call() {
    let origin = "https://app.example";
    let server = Server::start(Setup { cors_origins: vec![origin], ..Setup::without_telegram() }).await;
    let page = Page::at(server.address);
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        page.send(Method::OPTIONS, "/api/qr/start", &headers, Vec::new()).await
    };
    let allowed = preflight(origin).await;
    assert_eq!(
        (allowed.status, &allowed.headers["access-control-allow-origin"]),
        (200, &origin.parse().unwrap())
    );
    assert!(!preflight("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    server.stop().await;
}

#[tokio::test]
async fn a_replica_without_room_says_when_to_come_back() {
    let room = usm::grpc::Room { requests_max: 256, streams_max: 1 };
    let stage = Stage::set_up(Shape::Embedded, Plan::default(), |setup| setup.room = room).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    let path = format!("/api/qr/events?ticket={}", login.ticket);
    let first = login.page.open(Method::GET, &path, &[], Vec::new()).await;
    assert_eq!(first.status(), 200);
    let second = login.page.get(&path).await;
    assert_eq!(second.refusal(), (503, "OVERLOADED".to_owned()));
    assert_eq!(second.headers["retry-after"], "1");
    drop(first);
    stage.world.stop().await;
}

#[tokio::test]
async fn a_body_on_its_way_keeps_nobody_out() {
    let room = usm::grpc::Room { requests_max: 1, streams_max: 1 };
    let server = Server::start(Setup { room, ..Setup::without_telegram() }).await;
    let mut slow = TcpStream::connect(server.address).await.expect("a connection");
    let head =
        "POST /api/qr/cancel HTTP/1.1\r\nhost: usm\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    slow.write_all(head.as_bytes()).await.expect("a head sent");
    let mut answer = vec![0; 512];
    // Said when the service begins to read.
    let read = timeout(PATIENCE, slow.read(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 100 "), "{:?}", &answer[..read]);
    let page = back_end(&Page::at(server.address));
    let other = page.post("/api/qr/cancel", &json!({"ticket": "x"})).await;
    assert_eq!(other.refusal(), (404, "TICKET_NOT_FOUND".to_owned()));

    slow.write_all(b"{}").await.expect("a body sent");
    let read = timeout(PATIENCE, slow.read(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 401 "), "{:?}", &answer[..read]);
    server.stop().await;
}
