//! Leases, with their id for the holder and without for everybody else.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use usm_client::v1;
use zeroize::Zeroizing;

use crate::{
    app::leases::{
        Acquire, Acquired,
        report::{Advice, Heard, Reported},
        save::{Parts, Saved},
    },
    domain::{
        caller::Caller,
        error::Error,
        id::{Holder, SessionKey},
        lease::{Ended, Filter, Lease, LeaseView, Phase, Release},
        material::{AuthKey, CHANNELS_MAX, DcKey, Format, UpdateState},
    },
    grpc::{
        authenticated::Authenticated,
        convert::{self, duration, material, timestamp},
    },
};

/// Keys that one save may bring.
const DC_KEYS_MAX: usize = 32;
/// Length of what a holder quotes of Telegram, in characters.
const QUOTE_LENGTH_MAX: usize = 128;

/// A request for a lease, and who makes it.
///
/// # Errors
/// `ARGUMENT_INVALID`, `SESSION_NOT_FOUND`.
pub(crate) fn acquire(
    call: Authenticated,
    request: &v1::AcquireLeaseRequest,
) -> Result<(Caller, Acquire), Error> {
    let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
    let acquire = Acquire {
        key,
        holder: Holder::parse(&request.holder)?,
        ttl: convert::span("ttl", request.ttl)?,
        wait: convert::wait(request.wait)?,
        format: material::format_given(request.format)?.unwrap_or(Format::TelethonString),
        request_id: convert::request_id(&request.request_id)?,
    };
    Ok((caller, acquire))
}

/// Which leases a list shows.
///
/// # Errors
/// `ARGUMENT_INVALID` for a phase that none is in, or a holder that cannot be one.
pub(crate) fn filter(holder: &str, states: &[i32]) -> Result<Filter, Error> {
    let holder = if holder.is_empty() { None } else { Some(Holder::parse(holder)?) };
    let phases = states.iter().map(|state| match v1::LeaseState::try_from(*state) {
        Ok(v1::LeaseState::Held) => Ok(Phase::Held),
        Ok(v1::LeaseState::Draining) => Ok(Phase::Draining),
        Ok(v1::LeaseState::Quarantined) => Ok(Phase::Quarantined),
        Ok(v1::LeaseState::Released | v1::LeaseState::Unspecified) | Err(_) => {
            Err(Error::invalid("states", "must be LEASE_STATE_HELD, _DRAINING or _QUARANTINED"))
        }
    });
    Ok(Filter { holder, phases: phases.collect::<Result<_, _>>()? })
}

/// What a holder writes back.
///
/// # Errors
/// `ARGUMENT_INVALID` if it names both the whole and parts, or neither; `MATERIAL_INVALID` for a key that is none.
pub(crate) fn saved(request: v1::SaveSessionRequest) -> Result<Saved, Error> {
    let data = Zeroizing::new(request.data);
    let parts = request.dc_id != 0 || !request.dc_keys.is_empty() || request.update_state.is_some();
    match (data.is_empty(), parts) {
        (false, false) => {
            let format = material::format_given(request.format)?
                .ok_or_else(|| Error::invalid("format", "must tell what the data is"))?;
            Ok(Saved::Whole { format, data })
        }
        (true, true) => Ok(Saved::Parts(parts_given(request.dc_id, request.dc_keys, request.update_state)?)),
        (true, false) => Err(Error::invalid("data", "or a part must be given")),
        (false, true) => Err(Error::invalid("data", "must stand alone, without single parts")),
    }
}

fn parts_given(dc_id: i32, keys: Vec<v1::DcKey>, updates: Option<v1::UpdateState>) -> Result<Parts, Error> {
    if keys.len() > DC_KEYS_MAX {
        return Err(Error::invalid("dc_keys", "must be 32 or fewer"));
    }
    let home_dc = match dc_id {
        0 => None,
        1..=5 => Some(dc_id),
        _ => return Err(Error::invalid("dc_id", "must be 1-5")),
    };
    let keys = keys.into_iter().map(dc_key).collect::<Result<_, _>>()?;
    let (updates, channels) = updates.map(update_state).transpose()?.unwrap_or_default();
    Ok(Parts { home_dc, keys, updates, channels })
}

fn dc_key(given: v1::DcKey) -> Result<(i32, DcKey), Error> {
    if !matches!(given.dc_id, 1..=5 | 203) {
        return Err(Error::invalid("dc_keys.dc_id", "must be 1-5 or 203"));
    }
    let key = Zeroizing::new(given.auth_key);
    let address = match (given.server_address.as_str(), given.port) {
        ("", 0) => None,
        (host, port) => {
            let host = host.parse::<IpAddr>().ok();
            let port = u16::try_from(port).ok().filter(|port| *port != 0);
            Some(host.zip(port).map(SocketAddr::from).ok_or_else(|| {
                Error::invalid("dc_keys.server_address", "must be an IP address with a port")
            })?)
        }
    };
    Ok((given.dc_id, DcKey { auth_key: AuthKey::from_slice(&key)?, address }))
}

fn update_state(given: v1::UpdateState) -> Result<(Option<UpdateState>, BTreeMap<i64, i32>), Error> {
    if given.channels.len() > CHANNELS_MAX {
        return Err(Error::invalid("update_state.channels", "must be 10,000 or fewer"));
    }
    let mut channels = BTreeMap::new();
    for state in given.channels {
        if state.channel_id <= 0 || channels.insert(state.channel_id, state.pts).is_some() {
            return Err(Error::invalid(
                "update_state.channels.channel_id",
                "must be the bare id of a channel, above 0, each once",
            ));
        }
    }
    let is_account_told = (given.pts, given.qts, given.seq) != (0, 0, 0) || given.date.is_some();
    if !is_account_told && !channels.is_empty() {
        return Ok((None, channels));
    }
    let seconds = given.date.map_or(0, |date| date.seconds);
    let date = i32::try_from(seconds)
        .map_err(|_| Error::invalid("update_state.date", "must be a time that Telegram can tell"))?;
    Ok((Some(UpdateState { pts: given.pts, qts: given.qts, date, seq: given.seq }), channels))
}

/// What Telegram answered a holder.
///
/// # Errors
/// `ARGUMENT_INVALID`.
pub(crate) fn heard(answer: Option<v1::report_session_request::Answer>) -> Result<Heard, Error> {
    use v1::report_session_request::Answer;
    match answer {
        Some(Answer::ProofOfLife(proof)) => Ok(Heard::Alive {
            activity: proof.activity_time.map(convert::time_given),
            telegram_user_id: convert::account("telegram_user_id", proof.telegram_user_id)?.unwrap_or(0),
            username: quoted("username", proof.username)?,
        }),
        Some(Answer::Error(error)) => {
            quoted("method", error.method)?;
            if error.message.is_empty() {
                return Err(Error::invalid("error.message", "must be the text as Telegram sent it"));
            }
            Ok(Heard::Refused {
                code: error.code,
                message: quoted("error.message", error.message)?,
                dc_id: error.dc_id,
            })
        }
        None => Err(Error::invalid("answer", "must be proof_of_life or error")),
    }
}

fn quoted(field: &'static str, text: String) -> Result<String, Error> {
    if text.chars().count() <= QUOTE_LENGTH_MAX && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(Error::invalid(field, "must be 128 characters or fewer, without control characters"))
    }
}

pub(crate) fn reported(reported: &Reported) -> v1::ReportSessionResponse {
    let advice = match reported.advice {
        Advice::Continue => v1::HolderAdvice::Continue,
        Advice::Stop => v1::HolderAdvice::Stop,
    };
    v1::ReportSessionResponse {
        session: Some(convert::session::session(&reported.session)),
        advice: advice.into(),
        retry_after: reported.retry_after.map(duration),
    }
}

/// As its holder sees it.
pub(crate) fn held(lease: &Lease) -> v1::Lease {
    v1::Lease {
        lease_id: lease.lease_id.expose_secret().to_owned(),
        tenant_id: lease.key.tenant.to_string(),
        app_id: lease.key.app.to_string(),
        holder: lease.holder.as_str().to_owned(),
        epoch: lease.epoch,
        ttl: Some(duration(lease.ttl)),
        renew_after: Some(duration(lease.renew_after)),
        acquire_time: Some(timestamp(lease.acquire_time)),
        state: v1::LeaseState::Held.into(),
        free_after: None,
    }
}

/// As everybody else sees it.
pub(crate) fn view(key: &SessionKey, lease: &LeaseView) -> v1::Lease {
    let (state, free_after) = match lease.phase() {
        Phase::Held => (v1::LeaseState::Held, None),
        Phase::Draining => (v1::LeaseState::Draining, None),
        Phase::Quarantined => (v1::LeaseState::Quarantined, Some(duration(lease.free_in))),
    };
    v1::Lease {
        lease_id: String::new(),
        tenant_id: key.tenant.to_string(),
        app_id: key.app.to_string(),
        holder: lease.holder.clone(),
        epoch: lease.epoch,
        ttl: Some(duration(lease.remaining)),
        renew_after: None,
        acquire_time: Some(timestamp(lease.acquire_time)),
        state: state.into(),
        free_after,
    }
}

/// What is left of a lease that its holder gave back.
pub(crate) fn released(ended: &Ended) -> v1::Lease {
    match &ended.rest {
        Some(lease) => view(&ended.key, lease),
        None => v1::Lease {
            tenant_id: ended.key.tenant.to_string(),
            app_id: ended.key.app.to_string(),
            epoch: ended.epoch,
            state: v1::LeaseState::Released.into(),
            ..v1::Lease::default()
        },
    }
}

pub(crate) fn acquired(acquired: Acquired) -> v1::AcquireLeaseResponse {
    v1::AcquireLeaseResponse {
        lease: Some(held(&acquired.lease)),
        material: Some(material::handout(acquired.material)),
    }
}

pub(crate) const fn release(connections_closed: bool) -> Release {
    if connections_closed { Release::ConnectionsClosed } else { Release::ConnectionsUnknown }
}
