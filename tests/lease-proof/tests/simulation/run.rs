//! One run: hosts, a schedule of faults that a seed decides, a calm end, and what the ledger says of it.

use std::time::Duration;

use turmoil::{Builder, Sim, net::TcpListener};
use usm_client::v1::lease_service_server::LeaseServiceServer;
use usm_lease_proof::protocol::Millis;

use crate::{
    chance::Chance,
    faults::Faults,
    network::{self, PORT},
    replica::Replica,
    worker::{Manners, Worker},
    world::{Entry, World},
};

pub(crate) const REPLICAS: usize = 3;
pub(crate) const WORKERS: usize = 3;
const TICK: Duration = Duration::from_millis(50);
/// For how long things go wrong.
const TROUBLED: Millis = 60_000;
/// For how long nothing does: whoever holds the session then works for 20 s, takes 4 s to leave and dies without a
/// word, its lease lasts for 10 s and the session rests for 4 s. After that somebody else has it.
const CALM: Millis = 45_000;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) quiet_gap: Millis,
    pub(crate) manners: Manners,
}

impl Default for Scenario {
    fn default() -> Self {
        Self { quiet_gap: 4_000, manners: Manners::Obedient }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The first time that two were connected at once.
    pub(crate) overlap: Option<String>,
    /// Leases granted while things went wrong, and after.
    pub(crate) grants: (i64, i64),
    pub(crate) ledger: Vec<Entry>,
}

pub(crate) fn run(seed: u64, scenario: Scenario) -> Report {
    let world = World::new(scenario.quiet_gap);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(100))
        .tcp_capacity(4_096)
        .build();
    people(&mut sim, seed, scenario, &world);
    let mut faults = Faults::new(Chance::new(seed, 1), world.clone());
    let steps = |sim: &mut Sim<'_>, until: Millis, faults: Option<&mut Faults>| {
        let mut faults = faults;
        while world.lock().now < until && world.lock().overlap.is_none() {
            if let Some(faults) = faults.as_deref_mut() {
                faults.step(sim);
            }
            sim.step().expect("hosts go on for ever");
            world.lock().now += TICK.as_millis() as Millis;
        }
    };
    steps(&mut sim, TROUBLED, Some(&mut faults));
    let troubled = world.lock().grants();
    faults.end(&mut sim);
    steps(&mut sim, TROUBLED + CALM, None);
    let inner = world.lock();
    Report {
        overlap: inner.overlap.clone(),
        grants: (troubled, inner.grants() - troubled),
        ledger: inner.ledger.clone(),
    }
}

fn people(sim: &mut Sim<'_>, seed: u64, scenario: Scenario, world: &World) {
    // A service of an earlier version has no streams: then single calls renew.
    let streams = seed % 4 != 3;
    for number in 0..REPLICAS {
        // A host that is started again goes on in the stream, so that it does not do the same again.
        let (world, chance) = (world.clone(), Chance::new(seed, 10 + number as u64));
        sim.host(network::service(number), move || {
            let replica = Replica { world: world.clone(), chance: chance.clone(), streams };
            async move {
                let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
                tokio::spawn(replica.clone().probe(network::service(number)));
                let server =
                    tonic::transport::Server::builder().add_service(LeaseServiceServer::new(replica));
                Ok(server.serve_with_incoming(network::incoming(listener)).await?)
            }
        });
    }
    for number in 0..WORKERS {
        let (world, chance) = (world.clone(), Chance::new(seed, 20 + number as u64));
        sim.host(network::worker(number), move || {
            let (world, chance) = (world.clone(), chance.clone());
            async move {
                let name = network::worker(number);
                let client = network::client(&name, REPLICAS, chance.clone())?;
                Worker { name, manners: scenario.manners, world, chance, client }.run().await;
                Ok(())
            }
        });
    }
}
