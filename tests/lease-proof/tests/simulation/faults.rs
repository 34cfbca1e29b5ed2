//! What goes wrong, when, and for how long.

use std::time::Duration;

use turmoil::Sim;
use usm_lease_proof::protocol::Millis;

use crate::{
    chance::Chance,
    network,
    run::{REPLICAS, WORKERS},
    world::World,
};

/// A schedule that is made up as it goes.
#[derive(Debug)]
pub(crate) struct Faults {
    chance: Chance,
    world: World,
    next: Millis,
    /// What ends when.
    ends: Vec<(Millis, End)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Mend(String, String),
    LetGo(String, String),
    Start(String),
    Database,
    Fast,
}

impl Faults {
    pub(crate) fn new(chance: Chance, world: World) -> Self {
        Self { chance, world, next: 1_000, ends: Vec::new() }
    }

    /// Begins and ends what is due.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>) {
        let now = self.world.lock().now;
        let (due, later) = std::mem::take(&mut self.ends).into_iter().partition(|(at, _)| *at <= now);
        self.ends = later;
        for (_, end) in due {
            self.undo(sim, end);
        }
        if now >= self.next {
            self.next = now + self.millis(300..4_000);
            self.begin(sim, now);
        }
    }

    /// Ends everything.
    pub(crate) fn end(&mut self, sim: &mut Sim<'_>) {
        for (_, end) in std::mem::take(&mut self.ends) {
            self.undo(sim, end);
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: Millis) {
        let worker = network::worker(self.chance.below(WORKERS));
        let service = network::service(self.chance.below(REPLICAS));
        let until = now + self.millis(500..15_000);
        match self.chance.below(9) {
            0 => self.cut(sim, &worker, &service, until),
            // From the whole service, as when the worker's own network fails.
            1 | 2 => {
                (0..REPLICAS).for_each(|number| self.cut(sim, &worker, &network::service(number), until))
            }
            3 => {
                sim.hold(worker.as_str(), service.as_str());
                self.began(format!("{worker} and {service} stall"), until, End::LetGo(worker, service));
            }
            4 => self.crash(sim, service, now + self.millis(300..10_000)),
            5 => self.crash(sim, worker, now + self.millis(300..10_000)),
            6 => {
                self.world.note("an operator evicts".into());
                let mut inner = self.world.lock();
                let now = inner.now;
                inner.session.evict(None, now);
            }
            7 => {
                self.world.lock().reachable = false;
                self.began("the database is away".into(), now + self.millis(300..10_000), End::Database);
            }
            _ => {
                let slowest = self.chance.span(200..3_000);
                sim.set_max_message_latency(slowest);
                self.began(format!("messages take up to {slowest:?}"), until, End::Fast);
            }
        }
    }

    /// Messages get lost, in both directions or in one.
    fn cut(&mut self, sim: &mut Sim<'_>, worker: &str, service: &str, until: Millis) {
        let way = match self.chance.below(3) {
            0 => {
                sim.partition_oneway(worker, service);
                "does not reach"
            }
            1 => {
                sim.partition_oneway(service, worker);
                "does not hear"
            }
            _ => {
                sim.partition(worker, service);
                "is cut off from"
            }
        };
        self.began(format!("{worker} {way} {service}"), until, End::Mend(worker.into(), service.into()));
    }

    fn crash(&mut self, sim: &mut Sim<'_>, host: String, until: Millis) {
        if sim.is_host_running(host.as_str()) {
            self.began(format!("{host} vanishes"), until, End::Start(host.clone()));
            // It takes no leave, as when its power fails. A killed process would, in an order that the runtime does
            // not fix, and with it runs of the same seed would differ.
            let others = || {
                let services = (0..REPLICAS).map(network::service);
                services.chain((0..WORKERS).map(network::worker)).filter(|other| *other != host)
            };
            others().for_each(|other| sim.partition(host.as_str(), other));
            sim.crash(host.as_str());
            others().for_each(|other| sim.repair(host.as_str(), other));
        }
    }

    fn began(&mut self, what: String, until: Millis, end: End) {
        self.world.note(what);
        self.ends.push((until, end));
    }

    fn undo(&self, sim: &mut Sim<'_>, end: End) {
        self.world.note(format!("over: {end:?}"));
        match end {
            End::Mend(a, b) => sim.repair(a, b),
            End::LetGo(a, b) => sim.release(a, b),
            End::Start(host) => sim.bounce(host),
            End::Database => self.world.lock().reachable = true,
            End::Fast => sim.set_max_message_latency(Duration::from_millis(100)),
        }
    }

    fn millis(&self, range: std::ops::Range<u64>) -> Millis {
        self.chance.span(range).as_millis() as Millis
    }
}
