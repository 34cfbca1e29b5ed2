//! Sources of one run that contradict each other, found in their order, so that a dry run tells the same as the run.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::{Failure, line::Line};
use crate::domain::{fingerprint::Fingerprint, id::SessionKey, material::Material};

/// Tells names and authorizations apart; too long to meet by chance.
pub(super) type Mark = [u8; 16];

/// What was seen so far, by marks: a hundred thousand files take some ten megabytes.
pub(super) struct Seen {
    /// Of this run alone, so that what is kept tells nobody anything.
    salt: [u8; 32],
    files: Files,
    names: HashMap<Mark, u32>,
    authorizations: HashMap<Mark, u32>,
}

impl Seen {
    /// # Errors
    /// When the operating system has no randomness.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { salt, files: Files::default(), names: HashMap::new(), authorizations: HashMap::new() })
    }

    /// The mark of a source's authorization.
    pub(super) fn mark(salt: &[u8; 32], material: &Material) -> Option<Mark> {
        let print = Fingerprint::of(material, salt)?;
        let mut mark = [0; 16];
        hex::decode_to_slice(print.as_str().get(..32)?, &mut mark).ok()?;
        Some(mark)
    }

    fn mark_of_name(&self, key: &SessionKey) -> Mark {
        let hash = Sha256::new().chain_update(self.salt).chain_update(key.to_string()).finalize();
        let mut mark = [0; 16];
        mark.copy_from_slice(&hash[..16]);
        mark
    }

    pub(super) const fn salt(&self) -> [u8; 32] {
        self.salt
    }

    /// Why a source is refused that comes after another one of the same name or the same authorization.
    pub(super) fn refusal(&mut self, file: &str, key: &SessionKey, mark: Option<Mark>) -> Option<Line> {
        let name = self.mark_of_name(key);
        if let Some(first) = self.names.get(&name) {
            let first = self.files.get(*first);
            let message =
                format!("another file of this run is for the same session: {first}; remove one of them");
            return Some(Line::refused(file.to_owned(), Some(key), "two_files", &message));
        }
        if let Some(first) = mark.and_then(|mark| self.authorizations.get(&mark)) {
            let first = self.files.get(*first);
            let message = format!(
                "another file of this run holds the same authorization: {first}; one authorization has one name, so \
                 remove one of them"
            );
            return Some(Line::refused(file.to_owned(), Some(key), "same_authorization", &message));
        }
        let number = self.files.push(file);
        self.names.insert(name, number);
        if let Some(mark) = mark {
            self.authorizations.insert(mark, number);
        }
        None
    }
}

/// Names of files, one behind the other.
#[derive(Default)]
struct Files {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Files {
    /// Their number is bounded by the walk's: far below the type's.
    fn push(&mut self, name: &str) -> u32 {
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.text.push_str(name);
        self.ends.push(self.text.len());
        number
    }

    fn get(&self, number: u32) -> &str {
        let number = number as usize;
        let begin = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(number).copied().unwrap_or(begin);
        self.text.get(begin..end).unwrap_or_default()
    }
}
