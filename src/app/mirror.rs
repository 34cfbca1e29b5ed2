//! Files kept current for the legacy system, so that it can go on at once: those of sessions in its custody, and of those
//! of which a copy was asked for.
//!
//! A mirrored file is a live key. It is written after the audit log says so, never over a file that is not known, and
//! again after a crash: what was done is told by the file and the row, and by nothing else.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{App, as_service, fingerprints::Differs, now};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        id::SessionKey,
        material::Format,
        page::PageRequest,
        session::{Session, StateName},
        time::Timestamp,
    },
    formats::{self, LegacyFingerprint, Modes, Overwrite, Prepared},
    store::{Change, MirrorFilter, SessionFilter},
};

/// Pause between looks for changes.
const ROUND: Duration = Duration::from_secs(1);
/// Changes are looked for from this long before the last look: clocks of replicas differ a little.
const OVERLAP: Duration = Duration::from_secs(60);
/// How soon all is looked at again after something failed.
const RETRY: Duration = Duration::from_secs(15);
/// How long one page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// Rows read at once.
const PAGE: u32 = 100;
/// How often a fingerprint is noted anew because the session changed meanwhile.
const ATTEMPTS_MAX: usize = 3;
/// Who the audit log names.
const ACTOR: &str = "usm:mirror";

/// Where the files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Holds `<tenant>/<app>.session`.
    pub root: PathBuf,
    pub modes: Modes,
}

/// What this process has seen to.
#[derive(Default)]
struct Done {
    /// Rows whose file was compared, as they were then.
    revisions: HashMap<SessionKey, i64>,
    /// Files of another authorization that were told of, and beside which material.
    told: HashMap<SessionKey, i64>,
    /// Where the next look for changes begins; `None` looks at everything.
    since: Option<Timestamp>,
    /// When everything is looked at once more.
    again: Option<Instant>,
}

impl App {
    /// Keeps the files current until the service stops, if it was told to.
    pub fn keep_mirror(&self) {
        let Some(plan) = self.0.settings.mirror.clone() else { return };
        tracing::warn!(
            folder = %plan.root.display(),
            "Session files are kept current for the legacy system: each of them is a live key"
        );
        let app = self.clone();
        self.0.tasks.spawn(async move {
            let mut done = Done::default();
            loop {
                let round = tokio::select! {
                    round = Box::pin(app.mirror_round(&plan, &mut done)) => round,
                    () = app.0.stop.cancelled() => return,
                };
                if let Err(error) = round {
                    tracing::warn!(error.reason = ?error.reason, error = %error, "Session files are brought up to date later");
                    done.again.get_or_insert(Instant::now() + RETRY);
                }
                tokio::select! {
                    () = tokio::time::sleep(ROUND) => {}
                    () = app.0.stop.cancelled() => return,
                }
            }
        });
    }

    /// One look at what changed; the first one, and one after a failure, at everything.
    async fn mirror_round(&self, plan: &Plan, done: &mut Done) -> Result<(), Error> {
        if done.again.is_some_and(|again| again <= Instant::now()) {
            (done.since, done.again) = (None, None);
        }
        let begun = now();
        let filter = SessionFilter {
            states: vec![StateName::Authorized, StateName::Stale],
            mirror: MirrorFilter::Mirrored,
            updated_since: done.since,
            ..SessionFilter::default()
        };
        let mut page = PageRequest { size: PAGE, after: None };
        loop {
            let caller = as_service(ACTOR, PAGE_LIMIT);
            let found = self.0.store.list(&caller, &filter, &page).await?;
            for session in found.items {
                let (key, revision) = (session.key.clone(), session.revision);
                if done.revisions.get(&key) == Some(&revision) {
                    continue;
                }
                match self.mirror(&as_service(ACTOR, PAGE_LIMIT), plan, session, &mut done.told).await {
                    Ok(()) => {
                        done.revisions.insert(key, revision);
                    }
                    Err(error) => {
                        tracing::warn!(session.id = %key, error.reason = ?error.reason, error = %error, "A session file is brought up to date later");
                        done.again.get_or_insert(Instant::now() + RETRY);
                    }
                }
            }
            if found.next_token.is_empty() {
                break;
            }
            page = PageRequest { size: PAGE, ..PageRequest::parse(0, &found.next_token)? };
        }
        done.since = Some(begun - OVERLAP);
        Ok(())
    }

    /// Brings one file up to date. A file that the legacy system logged in anew is told of, and left alone.
    async fn mirror(
        &self,
        caller: &Caller,
        plan: &Plan,
        session: Session,
        told: &mut HashMap<SessionKey, i64>,
    ) -> Result<(), Error> {
        let (material, version) = match self.exportable(caller, &session).await {
            Ok(material) => material,
            // Ended since it was listed.
            Err(error) if error.reason == Reason::SessionWrongState => return Ok(()),
            Err(error) => return Err(error),
        };
        let recorded = session.legacy_fingerprint.as_deref().and_then(LegacyFingerprint::parse);
        let order = formats::Order {
            root: &plan.root,
            key: &session.key,
            material: &material,
            format: Format::TelethonSqlite,
            written: None,
            addresses: self.0.telegram.addresses(),
            modes: plan.modes,
            overwrite: recorded.map_or(Overwrite::Refuse, Overwrite::IfUntouched),
        };
        let ready = match formats::prepare(order).await {
            Ok(Prepared::Unchanged(_)) => return Ok(()),
            Ok(Prepared::Ready(ready)) => ready,
            Err(formats::Error::ExistsOther | formats::Error::ExistsOtherFormat(_)) => {
                if told.insert(session.key.clone(), version) != Some(version) {
                    self.note_mismatch(caller, &session, Differs::Authorization).await;
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // Nothing leaves before the log says so; if the process dies here, the next one says it once more.
        let event = NewEvent::of(Kind::Exported, ACTOR)
            .detail("to", "mirror")
            .detail("format", Format::TelethonSqlite.name())
            .detail("material_version", version);
        let key = session.key.clone();
        self.commit(caller, Change { events: vec![event], ..Change::of(session) }).await?;
        let placed = ready.put().await?;
        tracing::info!(session.id = %key, outcome = ?placed.outcome, "Wrote a session's file for the legacy system");
        self.note_file(caller, &key, &placed.fingerprint).await
    }

    /// Notes which file was written, so that a change of it can be told later.
    async fn note_file(
        &self,
        caller: &Caller,
        key: &SessionKey,
        fingerprint: &LegacyFingerprint,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS_MAX {
            let mut session = self.get_session(caller, key).await?;
            session.legacy_fingerprint = Some(fingerprint.to_string());
            match self.commit(caller, Change::of(session)).await.map_err(Error::from) {
                Err(error) if error.reason == Reason::RevisionStale => {}
                done => return done.map(|_| ()),
            }
        }
        // A file of the same authorization is recognised without it.
        Ok(())
    }

    /// Whether copies can be asked for, session by session.
    ///
    /// # Errors
    /// `FEATURE_DISABLED` where no folder for them is configured.
    pub(super) fn require_mirror(&self) -> Result<(), Error> {
        if self.0.settings.mirror.is_some() {
            return Ok(());
        }
        Err(Error::new(
            Reason::FeatureDisabled,
            "this server keeps no session files; set USM_MIRROR_SESSIONS and SESSIONS_BASE_PATH",
        ))
    }
}
