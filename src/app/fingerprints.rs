//! Recognising what changed behind the service's back: the legacy system's file, or the authorization in it.

use std::time::Instant;

use super::{App, import::DryRun};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        fingerprint::Fingerprint,
        material::Material,
        session::Session,
    },
    formats::LegacyFingerprint,
    store::Change,
    telemetry::metrics,
};

/// What differs from what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Differs {
    /// The file is another one than at import: the legacy system used it.
    File,
    /// The file holds another authorization than the session.
    Authorization,
}

impl Differs {
    const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Authorization => "authorization",
        }
    }
}

/// Whether the file is the recorded one; also if nothing was recorded, or nothing is given to compare.
pub(super) fn is_recorded(recorded: Option<&str>, found: Option<&str>) -> bool {
    match (recorded, found) {
        (Some(recorded), Some(found)) => {
            match (LegacyFingerprint::parse(recorded), LegacyFingerprint::parse(found)) {
                (Some(recorded), Some(found)) => recorded == found,
                _ => recorded == found,
            }
        }
        _ => true,
    }
}

impl App {
    /// The keyed hash of the authorization, and how long it took.
    pub(super) fn fingerprint_of(&self, material: &Material) -> Option<Fingerprint> {
        let begun = Instant::now();
        let fingerprint = self.0.vault.fingerprint(material);
        metrics::fingerprint_computed(begun.elapsed());
        fingerprint
    }

    /// The refusal of material under a name that holds another authorization. Where the file is not the recorded one
    /// either, that is counted and written into the audit log: the legacy system logged in anew.
    pub(super) async fn refuse_other(
        &self,
        caller: &Caller,
        there: &Session,
        found: Option<&str>,
        dry_run: DryRun,
    ) -> Error {
        if is_recorded(there.legacy_fingerprint.as_deref(), found) {
            return Error::new(
                Reason::SessionAlreadyExists,
                "this name holds another authorization; import under another app_id, say replace, or revoke and reset this \
                 one first",
            )
            .fact("conflict", "name");
        }
        if dry_run == DryRun::No {
            self.note_mismatch(caller, there, Differs::Authorization).await;
        }
        Error::new(
            Reason::FingerprintMismatch,
            "the file changed since it was recorded and holds another authorization; look which one is wanted, then repeat \
             with replace",
        )
        .fact("conflict", "name")
    }

    /// Counts a mismatch and writes it into the audit log; the refusal stands whether or not that works.
    pub(super) async fn note_mismatch(&self, caller: &Caller, session: &Session, differs: Differs) {
        metrics::fingerprint_differed();
        tracing::warn!(session.id = %session.key, differs = differs.name(), "A fingerprint is not the recorded one");
        let event =
            NewEvent::of(Kind::FingerprintMismatch, &caller.subject).detail("differs", differs.name());
        let change = Change { events: vec![event], ..Change::of(session.clone()) };
        if let Err(error) = self.commit(caller, change).await {
            tracing::debug!(session.id = %session.key, error = %error, "The mismatch is in the log and the metrics only");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_recorded;

    #[test]
    fn a_file_is_the_recorded_one_whatever_fraction_of_a_second_python_wrote() {
        let digest = "ab".repeat(32);
        let (whole, fraction) = (format!("{digest}:5:1700000000"), format!("{digest}:5:1700000000.25"));
        assert!(is_recorded(Some(&fraction), Some(&whole)));
        assert!(is_recorded(None, Some(&whole)) && is_recorded(Some(&whole), None));
        assert!(!is_recorded(Some(&whole), Some(&format!("{digest}:6:1700000000"))));
        assert!(!is_recorded(Some("ab12"), Some("ab13")));
    }
}
