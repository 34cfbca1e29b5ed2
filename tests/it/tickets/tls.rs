//! Redis over TLS: whose certificates are accepted, and what is said of those that are not.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rustls::RootCertStore;
use usm::{
    domain::{login::Login, secret::Secret},
    tickets::{CheckpointChange, Error, Redis as RedisTickets, Settings, Tickets},
};
use usm_client::v1;

use super::{TTL, create, follow, login, qr, until, vault};
use crate::support::{
    process::{Installation, Process},
    redis::{
        Redis,
        certificates::Authority,
        deployment::{Cluster, Sentinel},
    },
    world::people,
};

const HOST: &str = "127.0.0.1";

async fn connect(url: &str, ca: Option<RootCertStore>) -> Tickets {
    let settings = Settings { url: Secret::new(url), prefix: "{usm}:".to_owned(), ca };
    Tickets::Redis(RedisTickets::connect(&settings, vault()).await.unwrap())
}

#[tokio::test]
async fn a_certificate_is_refused_by_what_is_wrong_with_it() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let cases = [
        (ours.certify(HOST), Some(&theirs), "USM_REDIS_CA"),
        (ours.certify(HOST), None, "USM_REDIS_CA"),
        (ours.certify("redis.example"), Some(&ours), "not for the name or address"),
        (ours.certify_of_old(HOST), Some(&ours), "has expired"),
        (ours.certify_yet_to_come(HOST), Some(&ours), "not valid yet"),
    ];
    join_all(cases.iter().map(async |(certificate, trusted, reason)| {
        let redis = Redis::start_secured(certificate, &[]);
        let tickets = connect(&redis.url(), trusted.map(Authority::roots)).await;
        let refused = tickets.create(&login("app"), None, 1, TTL).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
        assert!(tickets.ping(Instant::now() + Duration::from_secs(1)).await.is_err());
        let trouble = tickets.trouble().expect("a reason");
        assert!(trouble.contains(reason) && !trouble.contains(HOST), "{trouble}");
    }))
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_put_right_is_accepted_without_a_restart() {
    let ours = Authority::new("ours");
    let mut redis = Redis::start_secured(&ours.certify_of_old(HOST), &[]);
    let tickets = connect(&redis.url(), Some(ours.roots())).await;
    assert!(tickets.create(&login("app"), None, 1, TTL).await.is_err());
    assert!(tickets.trouble().is_some());
    redis.show(&ours.certify(HOST));
    redis.restart();
    until("Redis is trusted", async || tickets.create(&login("app"), None, 1, TTL).await.is_ok()).await;
    assert!(tickets.trouble().is_none());
}

#[tokio::test]
async fn clusters_and_sentinels_are_reached_over_tls_too() {
    let ours = Authority::new("ours");
    let certificate = ours.certify(HOST);
    let cluster = Cluster::start_of(1, Some(&certificate));
    let sentinel = Sentinel::start_of(1, Some(&certificate));
    join_all([cluster.url(), sentinel.url()].map(async |url| {
        let tickets = connect(&url, Some(ours.roots())).await;
        let (read, _) = create(&tickets, &login("app")).await;
        let mut watch = tickets.watch(&read.ticket).unwrap();
        let shown = Login { state: qr(), ..read.clone() };
        tickets.update(&shown, CheckpointChange::Keep).await.unwrap();
        follow(&tickets, &mut watch, &read.ticket, |login| login.state == qr()).await;
        assert!(tickets.trouble().is_none());

        let stranger = connect(&url, Some(Authority::new("theirs").roots())).await;
        assert!(stranger.get(&read.ticket).await.is_err());
        assert!(stranger.trouble().is_some_and(|trouble| trouble.contains("USM_REDIS_CA")), "{url}");
    }))
    .await;
}

#[tokio::test]
async fn the_program_tells_in_log_and_health_whom_it_does_not_trust() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let redis = Redis::start_secured(&ours.certify(HOST), &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let mut installation = Installation::embedded(&people(serde_json::json!({})).await);
    installation.set("REDIS_URL", &redis.url());
    installation.set("USM_REDIS_CA", file.to_str().unwrap());

    std::fs::write(&file, theirs.pem()).unwrap();
    let mut process = installation.start().await;
    let told = health(&process).await;
    assert_eq!(told.state(), v1::HealthState::Down);
    assert!(
        told.message.contains("authority that is not trusted") && !told.message.contains(HOST),
        "{told:?}"
    );
    process.stop().await;
    let log = String::from_utf8(installation.printed()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("USM_REDIS_CA")).collect();
    assert!(lines[0].contains("Refused Redis") && lines[0].contains(HOST), "{log}");

    std::fs::write(&file, ours.pem()).unwrap();
    let process = installation.start().await;
    assert_eq!(health(&process).await.state(), v1::HealthState::Healthy);
}

#[tokio::test]
async fn without_a_file_of_its_own_the_program_trusts_whom_the_system_trusts() {
    let ours = Authority::new("ours");
    let redis = Redis::start_secured(&ours.certify(HOST), &[]);
    let folder = tempfile::tempdir().unwrap();
    let (system, nowhere) = (folder.path().join("system.pem"), folder.path().join("nowhere"));
    std::fs::write(&system, "what no system should have\n").unwrap();
    let mut installation = Installation::embedded(&people(serde_json::json!({})).await);
    installation.set("REDIS_URL", &redis.url());
    installation.set("SSL_CERT_FILE", system.to_str().unwrap());
    installation.set("SSL_CERT_DIR", nowhere.to_str().unwrap());

    let (status, told) = installation.start_in_vain().await;
    assert!(!status.success() && told.contains("name some in USM_REDIS_CA"), "{told}");

    std::fs::write(&system, ours.pem()).unwrap();
    let process = installation.start().await;
    assert_eq!(health(&process).await.state(), v1::HealthState::Healthy);
}

/// What the program says of its tickets.
async fn health(process: &Process) -> v1::DependencyHealth {
    let mut system = v1::system_service_client::SystemServiceClient::new(process.client(None).await);
    let answer = system.get_health(v1::GetHealthRequest {}).await.unwrap().into_inner();
    let dependencies = answer.health.unwrap().dependencies;
    dependencies.into_iter().find(|it| it.name == "tickets").expect("a dependency")
}
