//! A worker with the real guard: borrow, connect, hold, leave when told, give back; over and over.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use usm_client::{Client, Connections, LeaseGuard, v1};

use crate::{
    chance::Chance,
    world::{Connection, TRAVEL, World},
};

/// What a worker does when its guard tells it to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Closes before the guard's deadline.
    Obedient,
    /// Goes on until its work is done.
    Deaf,
}

/// One process of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) manners: Manners,
    pub(crate) world: World,
    pub(crate) chance: Chance,
    pub(crate) client: Client,
}

impl Worker {
    /// For ever, or until its host dies.
    pub(crate) async fn run(self) {
        loop {
            sleep(self.chance.span(0..2_000)).await;
            let request = self.request();
            if let Ok((guard, _)) = LeaseGuard::acquire(&self.client, request).await {
                self.hold(guard).await;
            }
        }
    }

    fn request(&self) -> v1::AcquireLeaseRequest {
        let waits = self.chance.percent(70);
        let wait = if waits { self.chance.span(1_000..30_000) } else { Duration::ZERO };
        v1::AcquireLeaseRequest {
            holder: self.name.clone(),
            ttl: prost_types::Duration::try_from(self.chance.span(3_000..10_000)).ok(),
            wait: prost_types::Duration::try_from(wait).ok(),
            request_id: format!("{}/{:x}", self.name, self.chance.number()),
            ..Default::default()
        }
    }

    async fn hold(&self, guard: LeaseGuard) {
        // A lease whose answer came too late is no lease.
        if guard.loss().is_some() || guard.remaining().is_zero() {
            return;
        }
        let connection = self.world.connect(format!("{}#{}", self.name, guard.epoch()));
        let work = self.chance.span(500..20_000);
        let asked = timeout(work, guard.lost()).await.is_ok();
        if asked && self.manners == Manners::Deaf {
            sleep(self.chance.span(1_000..20_000)).await;
        }
        self.leave(&guard, connection).await;
        match self.chance.below(10) {
            // It dies without a word, as far as the service knows.
            0 => drop(guard),
            1 => drop(guard.release(Connections::Unknown).await),
            _ => drop(guard.release(Connections::Closed).await),
        }
    }

    /// Closes in its own time, at the latest at the deadline; by then perhaps with calls under way, which it waits
    /// out before it says that all is closed.
    async fn leave(&self, guard: &LeaseGuard, connection: Connection) {
        let wanted = Instant::now() + self.chance.span(0..4_000);
        let deadline = guard.deadline();
        tokio::time::sleep_until(wanted.min(deadline)).await;
        if wanted <= deadline {
            connection.close();
        } else {
            drop(connection);
            sleep(Duration::from_millis(TRAVEL.unsigned_abs())).await;
        }
    }
}
