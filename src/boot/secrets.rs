//! Files that the embedded service makes for itself: the key ring and the secret of its tokens. Mode 0600, in a
//! folder of mode 0700, never half there.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::Error;
use crate::{
    app::now,
    config::{self, Config, JwtSecret, Keys, Provision},
    domain::secret::Secret,
    vault::{KeyRing, Vault},
};

/// Length of a token secret that is made here, in bytes before hexadecimal.
const SECRET_LENGTH: usize = 32;

/// The vault over the configured key ring, which is made if the service provides for itself.
///
/// # Errors
/// [`Error::Keys`].
pub(super) fn vault(keys: &Keys) -> Result<Vault, Error> {
    let ring = match &keys.ring {
        Provision::Given(path) => KeyRing::open(path)?,
        Provision::Made(path) => {
            private_folder(path)?;
            match KeyRing::create(path, now()) {
                Ok(ring) => ring,
                Err(crate::vault::KeyRingError::Exists { .. }) => KeyRing::open(path)?,
                Err(error) => return Err(error.into()),
            }
        }
    };
    Ok(Vault::new(ring))
}

/// The secret that signs tokens; made at the first start of an embedded service.
///
/// # Errors
/// [`Error::Secret`] when the file cannot be read or made, or others can read it.
pub fn jwt_secret(config: &Config) -> Result<Secret, Error> {
    match &config.credentials.jwt_secret {
        JwtSecret::Given(secret) => Ok(secret.clone()),
        JwtSecret::Made(path) => {
            private_folder(path)?;
            match read_private(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(path),
                read => read,
            }
            .map_err(|source| Error::Secret { path: path.clone(), source })
        }
    }
}

/// The secret that a server on this machine made, if this user may read it. Makes nothing.
pub(super) fn existing_jwt_secret(config: &Config) -> Option<Secret> {
    match &config.credentials.jwt_secret {
        JwtSecret::Given(secret) => Some(secret.clone()),
        JwtSecret::Made(path) => read_private(path).ok(),
    }
}

/// The folder of a file that is about to be made, readable by its owner alone.
pub(super) fn private_folder(file: &Path) -> Result<(), Error> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| Error::Folder { path: folder.to_owned(), source })
}

fn read_private(path: &Path) -> io::Result<Secret> {
    let text = zeroize::Zeroizing::new(config::read_private(path)?);
    let text = text.trim();
    if text.len() < SECRET_LENGTH {
        return Err(io::Error::other("it is too short for a secret; remove it to have a new one made"));
    }
    Ok(Secret::new(text))
}

/// Two first starts at once end with one secret: whoever links its draft first wins, the other reads.
fn make_secret(path: &Path) -> io::Result<Secret> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; SECRET_LENGTH]);
    getrandom::fill(bytes.as_mut()).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("draft-{}", uuid::Uuid::new_v4()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(hex::encode(bytes.as_ref()).as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => read_private(path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_made_secret_stays_the_same_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt-secret");
        let made = make_secret(&path).unwrap();
        assert_eq!(read_private(&path).unwrap(), made);
        assert_eq!(make_secret(&path).unwrap(), made, "a second maker takes the first one's");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt-secret");
        make_secret(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
