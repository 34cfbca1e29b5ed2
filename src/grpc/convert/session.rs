//! Sessions and their history.

use usm_client::v1;

use crate::{
    app::{
        export::Exported,
        import::{ImportOutcome, Imported},
        validation::Validated,
    },
    domain::{
        error::Error,
        event::{Kind, SessionEvent},
        session::{Custody, LogOut, Session, State, StateName},
        validation::Authorization,
    },
    grpc::convert::{
        lease,
        loss::{self, losses},
        material, timestamp,
    },
};

pub(crate) fn session(session: &Session) -> v1::Session {
    let account = session.account.as_ref();
    v1::Session {
        tenant_id: session.key.tenant.to_string(),
        app_id: session.key.app.to_string(),
        state: state(session.state.name()).into(),
        custody: custody(session.custody).into(),
        environment: session.environment.as_str().to_owned(),
        telegram_user_id: account.map_or(0, |account| account.telegram_user_id),
        username: account.and_then(|account| account.username.clone()).unwrap_or_default(),
        is_bot: account.is_some_and(|account| account.is_bot),
        dc_id: session.dc_id.unwrap_or(0),
        api_key_alias: session.api_key_alias.clone().unwrap_or_default(),
        fingerprint: session.fingerprint.as_ref().map(|print| print.as_str().to_owned()).unwrap_or_default(),
        revision: session.revision,
        lease: session.lease.as_ref().map(|view| lease::view(&session.key, view)),
        state_reason: session.state.reason().to_owned(),
        create_time: Some(timestamp(session.create_time)),
        update_time: Some(timestamp(session.update_time)),
        last_validated_time: session.last_validated_time.map(timestamp),
        last_activity_time: session.last_activity_time.map(timestamp),
        labels: session.labels.clone().into_iter().collect(),
        device: None,
        legacy_fingerprint: session.legacy_fingerprint.clone().unwrap_or_default(),
        material_version: session.material_version,
        account_frozen: false,
        log_out_pending: match &session.state {
            State::Revoked { log_out: LogOut::Pending, .. } => true,
            State::Revoked { log_out: LogOut::Done, .. }
            | State::Absent { .. }
            | State::PendingQr(_)
            | State::PendingCode(_)
            | State::PendingPassword(_)
            | State::Authorized { .. }
            | State::Stale { .. } => false,
        },
        mirrored: session.mirrored,
    }
}

pub(crate) const fn state(name: StateName) -> v1::SessionState {
    match name {
        StateName::Absent => v1::SessionState::Absent,
        StateName::PendingQr => v1::SessionState::PendingQr,
        StateName::PendingCode => v1::SessionState::PendingCode,
        StateName::PendingPassword => v1::SessionState::PendingPassword,
        StateName::Authorized => v1::SessionState::Authorized,
        StateName::Stale => v1::SessionState::Stale,
        StateName::Revoked => v1::SessionState::Revoked,
    }
}

/// The states of a filter.
///
/// # Errors
/// `ARGUMENT_INVALID` for a number that names none.
pub(crate) fn states(given: &[i32]) -> Result<Vec<StateName>, Error> {
    let one = |number: &i32| match v1::SessionState::try_from(*number) {
        Ok(v1::SessionState::Absent) => Ok(StateName::Absent),
        Ok(v1::SessionState::PendingQr) => Ok(StateName::PendingQr),
        Ok(v1::SessionState::PendingCode) => Ok(StateName::PendingCode),
        Ok(v1::SessionState::PendingPassword) => Ok(StateName::PendingPassword),
        Ok(v1::SessionState::Authorized) => Ok(StateName::Authorized),
        Ok(v1::SessionState::Stale) => Ok(StateName::Stale),
        Ok(v1::SessionState::Revoked) => Ok(StateName::Revoked),
        Ok(v1::SessionState::Unspecified) | Err(_) => {
            Err(Error::invalid("states", "must name states of the contract"))
        }
    };
    given.iter().map(one).collect()
}

pub(crate) const fn custody(custody: Custody) -> v1::SessionCustody {
    match custody {
        Custody::Service => v1::SessionCustody::Service,
        Custody::Legacy => v1::SessionCustody::Legacy,
    }
}

/// The custody of a filter; unspecified is any.
///
/// # Errors
/// `ARGUMENT_INVALID` for a number that names none.
pub(crate) fn custody_filter(given: i32) -> Result<Option<Custody>, Error> {
    match v1::SessionCustody::try_from(given) {
        Ok(v1::SessionCustody::Unspecified) => Ok(None),
        Ok(v1::SessionCustody::Service) => Ok(Some(Custody::Service)),
        Ok(v1::SessionCustody::Legacy) => Ok(Some(Custody::Legacy)),
        Err(_) => Err(Error::invalid("custody", "must be a custody of the contract")),
    }
}

pub(crate) fn event(event: &SessionEvent) -> v1::SessionEvent {
    let detail = |name: &str| {
        let found = event.details.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    v1::SessionEvent {
        sequence: event.sequence,
        tenant_id: event.key.tenant.to_string(),
        app_id: event.key.app.to_string(),
        kind: kind(event.kind).into(),
        from_state: event.from.map_or(0, |name| state(name).into()),
        to_state: event.to.map_or(0, |name| state(name).into()),
        // An event that is no transition, such as a deletion, keeps its reason among its details.
        reason: if event.reason.is_empty() { detail("reason").to_owned() } else { event.reason.clone() },
        create_time: Some(timestamp(event.time)),
        actor: event.actor.clone(),
        revision: detail("revision").parse().unwrap_or(0),
        epoch: detail("epoch").parse().unwrap_or(0),
        request_id: detail("request_id").to_owned(),
        details: event.details.iter().cloned().collect(),
    }
}

pub(crate) const fn kind(kind: Kind) -> v1::SessionEventKind {
    match kind {
        Kind::Transition => v1::SessionEventKind::StateChanged,
        Kind::LeaseGranted => v1::SessionEventKind::LeaseGranted,
        Kind::LeaseReleased => v1::SessionEventKind::LeaseReleased,
        Kind::LeaseEvicted => v1::SessionEventKind::LeaseEvicted,
        Kind::CustodyTaken | Kind::CustodyGiven => v1::SessionEventKind::CustodyChanged,
        Kind::Updated => v1::SessionEventKind::Updated,
        Kind::MaterialReplaced => v1::SessionEventKind::MaterialChanged,
        Kind::AccountMismatch => v1::SessionEventKind::AccountMismatch,
        Kind::Exported => v1::SessionEventKind::Exported,
        Kind::FingerprintMismatch => v1::SessionEventKind::FingerprintMismatch,
        Kind::Deleted => v1::SessionEventKind::Deleted,
    }
}

pub(crate) fn imported(imported: &Imported) -> v1::ImportSessionResponse {
    let outcome = match imported.outcome {
        ImportOutcome::Imported => v1::ImportOutcome::Imported,
        ImportOutcome::AlreadyThere => v1::ImportOutcome::AlreadyThere,
        ImportOutcome::Replaced => v1::ImportOutcome::Replaced,
        ImportOutcome::Differs => v1::ImportOutcome::Differs,
        ImportOutcome::Minted => v1::ImportOutcome::Minted,
    };
    let remarks = imported.notes.iter().filter(|note| loss::loss(note).is_none());
    v1::ImportSessionResponse {
        session: Some(session(&imported.session)),
        outcome: outcome.into(),
        format: material::format(imported.format).into(),
        losses: losses(&imported.notes),
        warnings: remarks.map(ToString::to_string).chain(imported.warnings.iter().cloned()).collect(),
    }
}

pub(crate) fn exported(exported: Exported) -> v1::ExportSessionResponse {
    v1::ExportSessionResponse {
        session: Some(session(&exported.session)),
        losses: losses(&exported.notes),
        warnings: exported.warnings.iter().map(|warning| (*warning).to_owned()).collect(),
        material: Some(material::handout(exported.material)),
    }
}

/// What a probe found, as the session shows it afterwards.
pub(crate) fn validated(validated: &Validated) -> v1::ValidateSessionResponse {
    let session = &validated.session;
    let outcome = match &session.state {
        State::Authorized { .. } => v1::ValidationOutcome::Alive,
        State::Revoked { .. } => v1::ValidationOutcome::Ended,
        State::Stale { .. }
        | State::Absent { .. }
        | State::PendingQr(_)
        | State::PendingCode(_)
        | State::PendingPassword(_) => v1::ValidationOutcome::Doubtful,
    };
    v1::ValidateSessionResponse {
        session: Some(self::session(session)),
        outcome: outcome.into(),
        authorization: validated.authorization.as_ref().map(authorization),
        telegram_error: String::new(),
    }
}

fn authorization(told: &Authorization) -> v1::TelegramAuthorization {
    v1::TelegramAuthorization {
        ip: told.ip.clone(),
        country: told.country.clone(),
        create_time: Some(timestamp(told.create_time)),
        active_time: Some(timestamp(told.active_time)),
        unconfirmed: told.unconfirmed,
        authorization_ttl_days: told.ttl_days,
    }
}
