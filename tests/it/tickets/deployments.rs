//! What becomes of tickets when one machine of a deployment is lost.

use std::time::{Duration, Instant};

use usm::{
    domain::{
        error::{Error as Refusal, Reason},
        login::Login,
    },
    tickets::{CheckpointChange, Tickets},
};

use super::{TTL, connect_to, create, follow, login, qr, until, vault};
use crate::support::redis::deployment::{Cluster, Sentinel};

/// A call fails soon, and says that and when to try again.
async fn refused(tickets: &Tickets) {
    let asked = Instant::now();
    let error = tickets.create(&login("app"), None, 1, TTL).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let refusal = Refusal::from(error);
    assert!(refusal.reason == Reason::TicketsUnavailable && refusal.retry_after.is_some(), "{refusal:?}");
    assert!(tickets.ping(Instant::now() + Duration::from_secs(1)).await.is_err());
}

/// New logins begin, and who watches one is woken.
async fn works(tickets: &Tickets, app: &str) {
    let (read, _) = create(tickets, &login(app)).await;
    let mut watch = tickets.watch(&read.ticket).unwrap();
    let shown = Login { state: qr(), ..read.clone() };
    let (_, written) = tokio::join!(
        follow(tickets, &mut watch, &read.ticket, |login| login.state == qr()),
        tickets.update(&shown, CheckpointChange::Keep),
    );
    written.unwrap();
}

#[tokio::test]
async fn a_lost_master_is_replaced_by_its_replica_without_a_restart() {
    let mut deployed = Sentinel::start_of(3, None);
    let tickets = connect_to(&deployed.url(), "", vault()).await.unwrap();
    let (before, _) = create(&tickets, &login("before")).await;
    let replica = || deployed.replica.keys().contains(&"qr_active:tenant:before".to_owned());
    until("the replica has the login", async || replica()).await;

    // The machine with the master and one of the Sentinels.
    deployed.sentinels[0].kill();
    deployed.master.kill();
    refused(&tickets).await;

    until("the replica has taken over", async || tickets.get(&before.ticket).await.is_ok()).await;
    assert!(tickets.get(&before.ticket).await.unwrap().is_some(), "nothing was lost");
    assert!(deployed.replica.command(&["ROLE"]).texts()[0] == "master");
    works(&tickets, "after").await;
}

#[tokio::test]
async fn a_cluster_refuses_while_a_master_is_away_and_works_when_it_is_back() {
    let mut cluster = Cluster::start();
    let owner = cluster.owner("usm");
    let tickets = connect_to(&cluster.url(), "{usm}:", vault()).await.unwrap();

    for lost in [owner, (owner + 1) % cluster.masters.len()] {
        let (read, _) = create(&tickets, &login("app")).await;
        cluster.kill(lost);
        // A master that a call does not need may be missed a moment later.
        until("it is missed", async || tickets.create(&login("app"), None, 1, TTL).await.is_err()).await;
        refused(&tickets).await;
        cluster.masters[lost].restart();
        until("the cluster stands again", async || tickets.get(&read.ticket).await.is_ok()).await;
        let left = tickets.get(&read.ticket).await.unwrap();
        assert_eq!(left.is_none(), lost == owner, "nobody keeps what Redis has lost");
        until("it takes logins", async || tickets.create(&login("app"), None, 1, TTL).await.is_ok()).await;
        works(&tickets, "app").await;
    }
}
