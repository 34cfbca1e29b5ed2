//! Handing a session out as a copy: the way back to the system it came from, or on to another one.

use super::{App, leases::Handout, sessions::stale_revision};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        id::{RequestId, SessionKey},
        material::{Format, Material},
        secret::Secret,
        session::{Custody, Session, State},
    },
    formats,
    store::{Change, LeaseRule},
    telemetry::metrics::{self, Outcome},
};

/// How often an export begins anew because the session changed meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// A copy that was asked for.
pub struct Export {
    pub key: SessionKey,
    pub format: Format,
    /// Encrypts formats that know one.
    pub passcode: Option<Secret>,
    /// For the audit log only: a repetition exports again.
    pub request_id: Option<RequestId>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("key", &self.key).field("format", &self.format).finish_non_exhaustive()
    }
}

/// A session and the copy of it.
#[derive(Debug)]
pub struct Exported {
    pub session: Session,
    pub material: Handout,
    /// What the format cannot carry.
    pub notes: Vec<formats::Note>,
    pub warnings: Vec<&'static str>,
}

impl App {
    /// Hands out a copy of a session that nobody holds. Nothing leaves the service before the audit log says so and the
    /// epoch is raised, so that a holder who was forgotten is fenced. Works while the feature is off.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_WRONG_STATE` without material of an authorization that may live, `SESSION_LEASED`,
    /// `FORMAT_UNSUPPORTED`, `ENVIRONMENT_MISMATCH`, `REVISION_STALE` if the session changes all the time.
    pub async fn export_session(&self, caller: &Caller, export: Export) -> Result<Exported, Error> {
        formats::writable(export.format)?;
        check_passcode(&export)?;
        let mut attempt = 1;
        loop {
            match self.try_export(caller, &export).await {
                Err(error) if error.reason == Reason::RevisionStale && attempt < ATTEMPTS_MAX => attempt += 1,
                done => return done,
            }
        }
    }

    async fn try_export(&self, caller: &Caller, export: &Export) -> Result<Exported, Error> {
        let session = self.get_session(caller, &export.key).await?;
        let (material, version) = self.exportable(caller, &session).await?;
        let addresses = self.0.telegram.addresses();
        let passcode = export.passcode.as_ref();
        let written = formats::write_with(&material, export.format, addresses, passcode).await;
        metrics::material_written(export.format, if written.is_ok() { Outcome::Ok } else { Outcome::Failed });
        let written = written?;
        let mut event = NewEvent::of(Kind::Exported, &caller.subject)
            .detail("format", export.format.name())
            .detail("material_version", version)
            .detail("custody", session.custody.name());
        if let Some(id) = &export.request_id {
            event = event.detail("request_id", id.to_text());
        }
        let change = Change { lease: LeaseRule::NoneLive, events: vec![event], ..Change::of(session) };
        let session = self.commit(caller, change).await?;
        let warnings = match session.custody {
            Custody::Service => vec![
                "this service owns the session: nobody may connect with the copy before custody is given to the legacy system",
            ],
            Custody::Legacy => Vec::new(),
        };
        let material = Handout {
            format: export.format,
            data: written.data,
            api_id: material.api_id,
            device: material.device,
            proxy: material.proxy,
            dc_id: material.home_dc,
            version,
            environment: session.environment.clone(),
        };
        Ok(Exported { session, material, notes: written.notes, warnings })
    }

    /// The material of an authorization that may live, addressed as today.
    pub(super) async fn exportable(
        &self,
        caller: &Caller,
        session: &Session,
    ) -> Result<(Material, i64), Error> {
        if session.environment != self.0.settings.environment {
            return Err(Error::new(
                Reason::EnvironmentMismatch,
                "the session belongs to another Telegram environment than this server's",
            ));
        }
        let sealed =
            if may_live(&session.state) { self.0.store.material(caller, &session.key).await? } else { None };
        let Some(sealed) = sealed else {
            return Err(Error::new(
                Reason::SessionWrongState,
                "the session has no material of a living authorization to hand out; log in or import it first",
            )
            .fact("state", session.state.name().as_str())
            .fact("state_reason", session.state.reason()));
        };
        if sealed.version != session.material_version {
            return Err(stale_revision(session.revision));
        }
        let mut material = self.0.vault.unseal(&session.key, &session.environment, &sealed)?;
        self.readdress(&mut material);
        if material.telegram_user_id.is_none() {
            material.telegram_user_id = session.account.as_ref().map(|account| account.telegram_user_id);
        }
        Ok((material, sealed.version))
    }
}

/// Whether the material is of an authorization that Telegram has not ended. What only waits for its log-out must not
/// get about.
pub(super) fn may_live(state: &State) -> bool {
    match state {
        State::Authorized { .. } | State::Stale { .. } => true,
        State::Absent { .. }
        | State::PendingQr(_)
        | State::PendingCode(_)
        | State::PendingPassword(_)
        | State::Revoked { .. } => false,
    }
}

/// Which formats are encrypted.
fn check_passcode(export: &Export) -> Result<(), Error> {
    if export.passcode.is_none() {
        return Ok(());
    }
    match export.format {
        Format::Tdata => Ok(()),
        Format::TelethonString
        | Format::TelethonSqlite
        | Format::PyrogramString
        | Format::PyrogramSqlite
        | Format::GramjsString
        | Format::MtcuteString
        | Format::Grammers
        | Format::Raw => Err(Error::invalid("passcode", "must be left empty: the format knows none")),
    }
}
