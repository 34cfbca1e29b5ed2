//! How often each operation goes to PostgreSQL and back, counted on the wire.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use usm::{
    domain::{lease::Release, secret::Secret},
    store::Store,
};

use super::{granted, intake::imported, key, options, request, service};
use crate::support::{
    poll,
    postgres::{Database, PROGRAM},
};

/// Forwards to the server and counts how often the client speaks after the server did.
async fn counting_proxy(server: u16) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let count = Arc::new(AtomicU32::new(0));
    let trips = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(("127.0.0.1", server)).await.expect("the server listens");
            tokio::spawn(forward(client, upstream, Arc::clone(&trips)));
        }
    });
    (port, count)
}

async fn forward(mut client: TcpStream, mut server: TcpStream, trips: Arc<AtomicU32>) {
    let (mut asked, mut answered) = ([0; 16_384], [0; 16_384]);
    let mut server_spoke_last = true;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                if std::mem::take(&mut server_spoke_last) {
                    trips.fetch_add(1, Ordering::SeqCst);
                }
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                server_spoke_last = true;
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What the pool asks after a connection was given back, when nobody waits any more.
const AFTERWARDS: u32 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn operations_take_as_many_round_trips_as_documented() {
    let place = super::Place::postgres().await;
    let super::Raw::Postgres(Database { cluster, name }) = &place.raw else { panic!("on PostgreSQL") };
    let session = place.authorized("acme", "a").await;
    let (port, count) = counting_proxy(cluster.port).await;
    let mut one = options(Secret::new(format!("postgres://{PROGRAM}@127.0.0.1:{port}/{name}")));
    one.max_connections = 1;
    let store = Store::open(one).await.expect("opens");
    // The second round finds every statement prepared.
    for round in 0..2 {
        let mut counted = Vec::new();
        // The pool looks after a connection in the background; its trip belongs to the operation before.
        let settle = || async {
            let (mut last, mut same) = (u32::MAX, 0);
            poll::until("the connection rests", || {
                let now = count.load(Ordering::SeqCst);
                same = if std::mem::replace(&mut last, now) == now { same + 1 } else { 0 };
                let rests = same >= 10;
                async move { rests.then_some(now) }
            })
            .await
        };
        let mut before = settle().await;
        let mut note = |name: &'static str, now: u32| {
            counted.push((name, now - before - AFTERWARDS));
            before = now;
        };
        store.get(&service(), &session.key).await.expect("read");
        note("get", settle().await);
        let request = request(&session.key, round);
        let lease = granted(store.acquire(&service(), &request).await.expect("answer")).lease;
        note("acquire", settle().await);
        store.acquire(&service(), &request).await.expect("answer");
        note("acquire refused", settle().await);
        store.renew(&service(), &lease.lease_id, lease.epoch, None).await.expect("answer");
        note("renew", settle().await);
        store
            .release(&service(), &lease.lease_id, lease.epoch, Release::ConnectionsClosed)
            .await
            .expect("answer");
        note("release", settle().await);
        let key = key("acme", &format!("new-{round}"));
        store.look_up(&service(), &key, None).await.expect("answer");
        note("look up", settle().await);
        store.take_in(&service(), imported("acme", &format!("new-{round}"))).await.expect("kept");
        note("take in", settle().await);
        // All that came while the first was served share the next.
        let names: Vec<_> = (0..64).map(|number| format!("many-{round}-{number}")).collect();
        let caller = service();
        let kept = names.iter().map(|app| store.take_in(&caller, imported("acme", app)));
        for kept in futures::future::join_all(kept).await {
            kept.expect("kept");
        }
        let trips = settle().await - before;
        assert!(trips <= 4 * (6 + AFTERWARDS), "{trips} round trips for 64 imports");
        if round == 1 {
            // A refusal is one message, the pool's look after it, and the five of the careful way.
            assert_eq!(
                counted,
                [
                    ("get", 4),
                    ("acquire", 1),
                    ("acquire refused", 7),
                    ("renew", 1),
                    ("release", 1),
                    ("look up", 5),
                    ("take in", 6)
                ]
            );
        }
    }
    store.close().await;
}
