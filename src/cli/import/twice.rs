//! Sources of one run that contradict each other, found in their order, so that a dry run tells the same as the run.

use std::collections::HashMap;

use super::{Failure, line::Line};
use crate::domain::{fingerprint::Fingerprint, id::SessionKey, material::Material};

/// What was seen so far, by hashes: a hundred thousand files take some ten megabytes.
pub(super) struct Seen {
    /// Of this run alone, so that what is kept tells nobody anything.
    salt: [u8; 32],
    names: HashMap<Box<str>, Box<str>>,
    authorizations: HashMap<[u8; 16], Box<str>>,
}

impl Seen {
    /// # Errors
    /// When the operating system has no randomness.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { salt, names: HashMap::new(), authorizations: HashMap::new() })
    }

    /// The mark of a source's authorization.
    pub(super) fn mark(salt: &[u8; 32], material: &Material) -> Option<[u8; 16]> {
        let print = Fingerprint::of(material, salt)?;
        let mut mark = [0; 16];
        hex::decode_to_slice(print.as_str().get(..32)?, &mut mark).ok()?;
        Some(mark)
    }

    pub(super) const fn salt(&self) -> [u8; 32] {
        self.salt
    }

    /// Why a source is refused that comes after another one of the same name or the same authorization.
    pub(super) fn refusal(&mut self, file: &str, key: &SessionKey, mark: Option<[u8; 16]>) -> Option<Line> {
        let name = key.to_string().into_boxed_str();
        if let Some(first) = self.names.get(&name) {
            let message =
                format!("another file of this run is for the same session: {first}; remove one of them");
            return Some(Line::refused(file.to_owned(), Some(key), "two_files", &message));
        }
        if let Some(first) = mark.and_then(|mark| self.authorizations.get(&mark)) {
            let message = format!(
                "another file of this run holds the same authorization: {first}; one authorization has one name, so \
                 remove one of them"
            );
            return Some(Line::refused(file.to_owned(), Some(key), "same_authorization", &message));
        }
        self.names.insert(name, file.into());
        if let Some(mark) = mark {
            self.authorizations.insert(mark, file.into());
        }
        None
    }
}
