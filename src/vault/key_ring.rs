//! The key ring: one file with the named keys that wrap everything sealed, one of them current.
//!
//! JSON, version 1: `{"version": 1, "root": hex, "current": id, "keys": [{"id", "create_time", "secret": hex}]}`.
//! `root` never changes: fingerprints and lease ids derive from it, so that they survive a rotation. The file is
//! made whole or not at all (written beside, then linked or renamed into place) and read only while nobody but
//! its owner can read it. Without the file everything sealed with it is lost; it belongs into a backup of its own.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use super::key_file::{Draft, Hex32, KeyFile, RingFile, Versioned, folder_of, open_file, sync_folder};
use crate::domain::time::Timestamp;

const VERSION: u32 = 1;
/// No ring is larger: some hundreds of keys.
const FILE_LENGTH_MAX: u64 = 64 * 1024;
/// More rotations than anybody makes; far below what fits into [`FILE_LENGTH_MAX`].
const KEYS_MAX: usize = 256;
const KEY_ID_LENGTH_MAX: usize = 64;

/// Why a key ring file cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "there is no key ring at {path}; bring back the one your data was sealed with, or, for a new database, make one with `usm keys generate`"
    )]
    Missing { path: PathBuf },
    #[error("there already is a key ring at {path}; nothing was changed")]
    Exists { path: PathBuf },
    #[error("the key ring {path} can be read or changed by others; run `chmod 600` on it")]
    Exposed { path: PathBuf },
    #[error("the key ring {path} is not a regular file; name the file itself")]
    NotAFile { path: PathBuf },
    #[error("the key ring {path} is empty; bring back a copy of it")]
    Empty { path: PathBuf },
    #[error("the key ring {path} is damaged: {rule}; bring back a copy of it")]
    Damaged { path: PathBuf, rule: &'static str },
    #[error("the key ring {path} has version {version}, which this program does not know; update it")]
    Newer { path: PathBuf, version: u32 },
    #[error("the key ring {path} is being changed by another process; try again")]
    Busy { path: PathBuf },
    #[error("the key ring {path} already has {KEYS_MAX} keys; rewrap the data and begin a new ring")]
    Full { path: PathBuf },
    #[error("cannot {doing} the key ring {path}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Whether a key seals or only opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Seals from now on.
    Current,
    /// Opens what it once sealed.
    Former,
}

/// A named 256-bit key. `Debug` shows the name only.
pub struct Key {
    id: String,
    create_time: Timestamp,
    standing: Standing,
    secret: Hex32,
}

impl Key {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn create_time(&self) -> Timestamp {
        self.create_time
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// A key for one purpose, from which this one cannot be told.
    pub(super) fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        derive(&self.secret, purpose)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("standing", &self.standing).finish_non_exhaustive()
    }
}

/// All keys of one file. `Debug` shows their names only.
pub struct KeyRing {
    root: Hex32,
    keys: Vec<Key>,
    current: usize,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Makes a ring with one key, readable by its owner only, in a folder made likewise if it is missing.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is one: it is never overwritten. [`Error::Io`].
    pub fn create(path: &Path, now: Timestamp) -> Result<Self, Error> {
        let io = |doing| move |source| Error::Io { path: path.to_owned(), doing, source };
        let folder = folder_of(path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io("make the folder of"))?;
        let key = new_key(now).map_err(io("draw random numbers for"))?;
        let mut root = Hex32::default();
        root.draw().map_err(io("draw random numbers for"))?;
        let ring = Self { root, keys: vec![key], current: 0 };

        let draft = Draft::write(path, &ring.to_file())?;
        match fs::hard_link(&draft.path, path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { path: path.to_owned() });
            }
            Err(error) => return Err(io("make")(error)),
        }
        drop(draft);
        sync_folder(path)?;
        Ok(ring)
    }

    /// Reads a ring.
    ///
    /// # Errors
    /// Every way in which the file is not a ring that only its owner can read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&mut open_file(path)?, path)
    }

    /// Adds a key to the ring at `path` and makes it the current one. Processes that run keep sealing with the
    /// former one until they open the ring again.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::Busy`] while another process does the same, [`Error::Full`], [`Error::Io`].
    pub fn generate(path: &Path, now: Timestamp) -> Result<Self, Error> {
        let io = |doing| move |source| Error::Io { path: path.to_owned(), doing, source };
        // A mounted secret is a link into a folder that is not ours to write.
        if fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_symlink()) {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let mut file = open_file(path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::Busy { path: path.to_owned() },
            fs::TryLockError::Error(source) => io("lock")(source),
        })?;
        // Whoever changed the ring between our opening and our locking put another file in its place.
        let (ours, there) = (file.metadata().map_err(io("read"))?, fs::metadata(path).map_err(io("read"))?);
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(Error::Busy { path: path.to_owned() });
        }

        let mut ring = Self::read(&mut file, path)?;
        if ring.keys.len() >= KEYS_MAX {
            return Err(Error::Full { path: path.to_owned() });
        }
        let key = new_key(now).map_err(io("draw random numbers for"))?;
        ring.keys[ring.current].standing = Standing::Former;
        ring.current = ring.keys.len();
        ring.keys.push(key);
        let draft = Draft::write(path, &ring.to_file())?;
        fs::rename(&draft.path, path).map_err(io("replace"))?;
        sync_folder(path)?;
        Ok(ring)
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key that seals.
    pub fn current(&self) -> &Key {
        &self.keys[self.current]
    }

    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// A key for one purpose that stays the same when keys are added.
    pub(super) fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        derive(&self.root, purpose)
    }

    fn read(file: &mut File, path: &Path) -> Result<Self, Error> {
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LENGTH_MAX as usize + 1));
        file.take(FILE_LENGTH_MAX + 1).read_to_end(&mut text).map_err(|source| Error::Io {
            path: path.to_owned(),
            doing: "read",
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads a ring's text; `path` is for messages.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        let damaged = |rule| Error::Damaged { path: path.to_owned(), rule };
        if text.trim_ascii().is_empty() {
            return Err(Error::Empty { path: path.to_owned() });
        }
        if text.len() as u64 > FILE_LENGTH_MAX {
            return Err(damaged("it is larger than any key ring"));
        }
        // The parser's own message may quote the text, so it goes no further.
        let Versioned { version } =
            serde_json::from_slice(text).map_err(|_| damaged("it is not a key ring's JSON"))?;
        if version > VERSION {
            return Err(Error::Newer { path: path.to_owned(), version });
        }
        let ring: RingFile = serde_json::from_slice(text)
            .map_err(|_| damaged("a field is missing, unknown or not 64 hexadecimal digits"))?;
        let current = ring
            .keys
            .iter()
            .position(|key| key.id == ring.current)
            .ok_or_else(|| damaged("its current key is not among its keys"))?;
        if ring.root.is_zero() || ring.keys.iter().any(|key| key.secret.is_zero()) {
            return Err(damaged("a key is all zero"));
        }
        if ring.keys.len() > KEYS_MAX {
            return Err(damaged("it has too many keys"));
        }
        for (at, key) in ring.keys.iter().enumerate() {
            if !is_key_id(&key.id) {
                return Err(damaged("a key's id is not 1-64 characters of A-Z a-z 0-9 . _ -"));
            }
            if ring.keys[..at].iter().any(|other| other.id == key.id || other.secret == key.secret) {
                return Err(damaged("a key is there twice"));
            }
        }
        let keys = ring.keys.into_iter().enumerate().map(|(at, key)| Key {
            id: key.id,
            create_time: Timestamp::from_millis(key.create_time),
            standing: if at == current { Standing::Current } else { Standing::Former },
            secret: key.secret,
        });
        Ok(Self { root: ring.root, keys: keys.collect(), current })
    }

    fn to_file(&self) -> Zeroizing<Vec<u8>> {
        let keys = self.keys.iter().map(|key| KeyFile {
            id: key.id.clone(),
            create_time: key.create_time.as_millis(),
            secret: key.secret.clone(),
        });
        let file = RingFile {
            version: VERSION,
            root: self.root.clone(),
            current: self.current().id.clone(),
            keys: keys.collect(),
        };
        // Room for all, so that the buffer never moves and leaves a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LENGTH_MAX as usize));
        serde_json::to_writer_pretty(&mut *text, &file).expect("a ring has nothing that JSON lacks");
        text.push(b'\n');
        text
    }
}

fn derive(secret: &Hex32, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.0.as_slice()).expect("HMAC takes keys of any length");
    mac.update(purpose);
    let mut tag: [u8; 32] = mac.finalize().into_bytes().into();
    let derived = Zeroizing::new(tag);
    tag.zeroize();
    derived
}

fn new_key(now: Timestamp) -> io::Result<Key> {
    let mut secret = Hex32::default();
    secret.draw()?;
    let mut name = [0; 6];
    getrandom::fill(&mut name).map_err(io::Error::from)?;
    Ok(Key { id: format!("k-{}", hex::encode(name)), create_time: now, standing: Standing::Current, secret })
}

fn is_key_id(text: &str) -> bool {
    (1..=KEY_ID_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
