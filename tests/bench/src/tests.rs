//! The workers of leases, against the echo.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::{
    echo,
    load::{self, Pace, Plan},
    worker::{Contestant, Workers},
};

const WORKERS: usize = 3;

async fn turns(contestant: Contestant, pace: Pace) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(echo::serve(listener));
    let workers =
        Workers { contestant, server, tokens: vec!["a-token".into()], number: WORKERS, per_connection: 2 };
    let plan = Plan { pace, warm_up: Duration::from_millis(50), measured: Duration::from_millis(500) };
    let (workers, figures) = load::run(workers.connect().await.unwrap(), plan).await.unwrap();
    assert_eq!(workers.len(), WORKERS);
    for worker in workers {
        worker.end().await.unwrap();
    }
    serving.abort();
    figures.to_json()["turns"].as_u64().unwrap()
}

#[tokio::test]
async fn every_worker_of_leases_takes_its_turns() {
    for contestant in [Contestant::Pairs, Contestant::RenewUnary, Contestant::RenewStream] {
        assert!(turns(contestant, Pace::Closed).await > 0, "{contestant:?}");
    }
}

#[tokio::test]
async fn an_open_loop_counts_the_turns_that_were_due() {
    let pace = Pace::Open { interval: Duration::from_millis(10) };
    assert_eq!(turns(Contestant::RenewStream, pace).await, 50);
}
