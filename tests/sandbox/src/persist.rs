//! The file that carries a sandbox over a restart: its RSA key, accounts and authorization keys.
//!
//! Written whole, to a new file that replaces the old one, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::shared::Shared;
use crate::state::World;
use crate::state::key::Key;
use crate::state::user::User;

/// The form of the file.
const VERSION: u32 = 1;
/// Changes that come within this time are written together.
const GATHER: Duration = Duration::from_millis(20);
/// How long an admin call waits for its change to reach the disk.
const SAVED_WAIT: Duration = Duration::from_secs(5);
/// Larger files are not read.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// It cannot be read or written.
    #[error("cannot access the persist file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not a file of this program, or of another version of it.
    #[error("the persist file {path} is not a sandbox file of version 1")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Option<serde_json::Error>,
    },
}

/// What is read back at a start.
#[derive(Debug, Deserialize)]
pub(crate) struct Restored {
    version: u32,
    pub(crate) rsa_pem: String,
    pub(crate) users: Vec<User>,
    pub(crate) keys: Vec<Key>,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    version: u32,
    rsa_pem: &'a str,
    users: Vec<&'a User>,
    keys: Vec<&'a Key>,
}

/// Writes the file after each change.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    changed: Notify,
    saved: watch::Sender<u64>,
}

impl Keeper {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, changed: Notify::new(), saved: watch::Sender::new(0) }
    }

    /// What the file holds; `None` if there is none yet.
    pub(crate) fn read(&self) -> Result<Option<Restored>, PersistError> {
        let io = |source| PersistError::Io { path: self.path.clone(), source };
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(PersistError::Content { path: self.path.clone(), source: None });
            }
            Ok(_) => {}
        }
        let text = fs::read(&self.path).map_err(io)?;
        let content = |source| PersistError::Content { path: self.path.clone(), source };
        let restored: Restored = serde_json::from_slice(&text).map_err(|e| content(Some(e)))?;
        if restored.version == VERSION { Ok(Some(restored)) } else { Err(content(None)) }
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits until a revision is on the disk, for a bounded time.
    pub(crate) async fn saved(&self, revision: u64) -> bool {
        self.wake();
        let mut saved = self.saved.subscribe();
        let reached = saved.wait_for(|done| *done >= revision);
        matches!(tokio::time::timeout(SAVED_WAIT, reached).await, Ok(Ok(_)))
    }

    /// Writes now if something changed.
    pub(crate) async fn save(&self, shared: &Shared) -> Result<(), PersistError> {
        let (text, revision) = {
            let world = shared.world();
            if world.revision == *self.saved.borrow() {
                return Ok(());
            }
            (snapshot(&world, shared.rsa.private_pem()), world.revision)
        };
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            replace(&path, &text).map_err(|source| PersistError::Io { path, source })
        })
        .await
        .unwrap_or_else(|_| {
            Err(PersistError::Io { path: self.path.clone(), source: io::Error::other("the writer panicked") })
        })?;
        self.saved.send_replace(revision);
        Ok(())
    }

    /// Saves whenever something changed, until the sandbox stops.
    pub(crate) async fn run(&self, shared: &Shared) {
        loop {
            tokio::select! {
                () = self.changed.notified() => tokio::time::sleep(GATHER).await,
                () = shared.stopping.cancelled() => return,
            }
            if let Err(error) = self.save(shared).await {
                tracing::error!(error = &error as &dyn std::error::Error, "sandbox state is not saved");
            }
        }
    }
}

fn snapshot(world: &World, rsa_pem: &str) -> Vec<u8> {
    let keys = world.keys.values().filter(|key| key.temporary.is_none()).collect();
    let snapshot = Snapshot { version: VERSION, rsa_pem, users: world.users.values().collect(), keys };
    serde_json::to_vec(&snapshot).expect("all of it has a JSON form")
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // A left-over of a killed process may have other rights.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_private(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
