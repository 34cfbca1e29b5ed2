//! What all tasks of one sandbox share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::crypto::rsa_key::RsaKey;
use crate::persist::Keeper;
use crate::state::World;

/// Key exchanges and password checks worked on at a time.
const CPU_JOBS_MAX: usize = 4;

/// The one object behind all connections and the admin interface of a sandbox.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    pub(crate) rsa: RsaKey,
    /// Cancelled when the sandbox stops.
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) cpu: Semaphore,
    /// Rung each time a connection has ended.
    pub(crate) ended: Notify,
    pub(crate) keeper: Option<Keeper>,
}

impl Shared {
    pub(crate) fn new(world: World, rsa: RsaKey, keeper: Option<Keeper>) -> Self {
        Self {
            world: Mutex::new(world),
            rsa,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            cpu: Semaphore::new(CPU_JOBS_MAX),
            ended: Notify::new(),
            keeper,
        }
    }

    /// Never held across an await. A panic of another holder does not make the world unusable.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs CPU work on a blocking thread, a few jobs at a time. `None` if the work panicked.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _permit = self.cpu.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Wakes the keeper of the file if something changed since `revision`.
    pub(crate) fn note_changes(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.wake();
        }
    }
}
