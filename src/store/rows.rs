//! Rows and domain values, both ways. A row that this program cannot have written is an error, never a guess.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{
    FromQueryResult as _, Iterable as _, QueryResult,
    sea_query::{Expr, Query, ReturningClause},
};
use serde_json::{Map, Value};

use crate::{
    domain::{
        fingerprint::Fingerprint,
        id::{ReplicaId, SessionKey, TicketHash},
        lease::{Drain, LeaseView, Purpose},
        session::{
            AbsentReason, Account, AuthorizedReason, Custody, Environment, LogOut, Pending, Rest,
            RevokedReason, Session, StaleReason, State, StateName,
        },
        time::{Timestamp, millis},
    },
    store::{
        Backend, Error,
        clock::{NOW, now_column},
        entity::session::{Column, Model},
        error::{classify, remaining},
    },
};

/// A row and the database's clock at the moment it was read.
pub(super) struct Read {
    pub row: Model,
    pub now: i64,
}

/// Every column and the clock, for `select`.
pub(super) fn columns(backend: Backend) -> Vec<Expr> {
    Column::iter().map(Expr::col).chain([now_column(backend)]).collect()
}

/// The same for `returning`: what was written is read back by the statement that wrote it.
pub(super) fn returning(backend: Backend) -> ReturningClause {
    Query::returning().exprs(columns(backend))
}

impl Read {
    pub(super) fn from_result(result: &QueryResult) -> Result<Self, Error> {
        const DOING: &str = "reading a session";
        Ok(Self {
            row: Model::from_query_result(result, "").map_err(classify(DOING))?,
            now: result.try_get("", NOW).map_err(classify(DOING))?,
        })
    }

    /// Whether the last lease still keeps others away, and for how long.
    pub(super) fn rest(&self, quiet_gap: Duration) -> Option<Duration> {
        self.lease().rest(quiet_gap)
    }

    /// What remains of the holder's own time; `None` once it released or its time is over.
    pub(super) fn live(&self) -> Option<Duration> {
        self.lease().live()
    }

    /// What the last lease is, or was, for.
    pub(super) fn purpose(&self) -> Purpose {
        self.lease().purpose()
    }

    /// The last lease.
    pub(super) fn lease(&self) -> LeaseColumns<'_> {
        let row = &self.row;
        LeaseColumns {
            holder: row.lease_holder.as_deref(),
            purpose: row.lease_purpose.as_deref(),
            drain_reason: row.lease_drain_reason.as_deref(),
            epoch: row.lease_epoch,
            acquire_time: row.lease_acquire_time,
            expire_time: row.lease_expire_time,
            evicted: row.lease_evicted,
            released: row.lease_released,
            now: self.now,
        }
    }

    pub(super) fn session(self, quiet_gap: Duration) -> Result<Session, Error> {
        let lease = self.lease().view(quiet_gap)?;
        let state = state(&self.row)?;
        let row = self.row;
        Ok(Session {
            key: key(&row.tenant_id, &row.app_id)?,
            state,
            custody: Custody::parse(&row.custody).ok_or(Error::Corrupt { what: "custody" })?,
            environment: Environment::new(row.environment),
            account: match (row.telegram_user_id, row.is_bot) {
                (None, _) => None,
                (Some(telegram_user_id), is_bot) => Some(Account {
                    telegram_user_id,
                    username: row.username,
                    is_bot: is_bot.ok_or(Error::Corrupt { what: "is_bot" })?,
                }),
            },
            dc_id: row.dc_id,
            api_key_alias: row.api_key_alias,
            fingerprint: row.fingerprint.map(Fingerprint::from_stored),
            legacy_fingerprint: row.legacy_fingerprint,
            mirrored: row.mirrored,
            revision: row.revision,
            material_version: row.material_version,
            login_ticket: row.login_ticket.map(TicketHash::from_stored),
            login_owner: row.login_owner.map(ReplicaId::from_stored),
            lease,
            lease_epoch: row.lease_epoch,
            labels: text_map(row.labels, "labels")?,
            create_time: Timestamp::from_millis(row.create_time),
            update_time: Timestamp::from_millis(row.update_time),
            last_validated_time: row.last_validated_time.map(Timestamp::from_millis),
            last_activity_time: row.last_activity_time.map(Timestamp::from_millis),
        })
    }
}

/// The columns of a lease, and the database's clock at the moment they were read.
pub(super) struct LeaseColumns<'a> {
    pub holder: Option<&'a str>,
    pub purpose: Option<&'a str>,
    pub drain_reason: Option<&'a str>,
    pub epoch: i64,
    pub acquire_time: Option<i64>,
    pub expire_time: Option<i64>,
    pub evicted: bool,
    pub released: bool,
    pub now: i64,
}

impl LeaseColumns<'_> {
    fn rest(&self, quiet_gap: Duration) -> Option<Duration> {
        let free_at = self.expire_time?.saturating_add(millis(quiet_gap));
        (free_at > self.now).then(|| remaining(free_at, self.now))
    }

    fn live(&self) -> Option<Duration> {
        let expire_at = self.expire_time?;
        (!self.released && expire_at > self.now).then(|| remaining(expire_at, self.now))
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose.and_then(Purpose::parse).unwrap_or(Purpose::Lend)
    }

    fn drain(&self) -> Drain {
        self.drain_reason.and_then(Drain::parse).unwrap_or(Drain::Evicted)
    }

    /// As everybody sees it; `None` once it keeps nobody away.
    pub(super) fn view(&self, quiet_gap: Duration) -> Result<Option<LeaseView>, Error> {
        let Some(free_in) = self.rest(quiet_gap) else { return Ok(None) };
        let (Some(holder), Some(acquired), Some(expires)) =
            (self.holder, self.acquire_time, self.expire_time)
        else {
            return Err(Error::Corrupt { what: "lease" });
        };
        Ok(Some(LeaseView {
            holder: holder.to_owned(),
            epoch: self.epoch,
            acquire_time: Timestamp::from_millis(acquired),
            expire_time: Timestamp::from_millis(expires),
            remaining: self.live().unwrap_or_default(),
            free_in,
            purpose: self.purpose(),
            drain: self.evicted.then(|| self.drain()),
        }))
    }
}

/// The columns that hold a state.
pub(super) struct StateColumns {
    pub state: &'static str,
    pub reason: &'static str,
    pub log_out: Option<&'static str>,
    pub prior_state: Option<&'static str>,
    pub prior_reason: Option<&'static str>,
    pub prior_log_out: Option<&'static str>,
}

impl StateColumns {
    pub(super) fn of(state: &State) -> Self {
        let before = state.pending().map(|pending| State::from(pending.before.clone()));
        Self {
            state: state.name().as_str(),
            reason: state.reason(),
            log_out: log_out(state),
            prior_state: before.as_ref().map(|before| before.name().as_str()),
            prior_reason: before.as_ref().map(State::reason),
            prior_log_out: before.as_ref().and_then(log_out),
        }
    }
}

fn log_out(state: &State) -> Option<&'static str> {
    match state {
        State::Revoked { log_out, .. } => Some(log_out.name()),
        State::Absent { .. }
        | State::PendingQr(_)
        | State::PendingCode(_)
        | State::PendingPassword(_)
        | State::Authorized { .. }
        | State::Stale { .. } => None,
    }
}

fn state(row: &Model) -> Result<State, Error> {
    let name = StateName::parse(&row.state).ok_or(Error::Corrupt { what: "state" })?;
    let pending = || -> Result<Pending, Error> {
        let prior = row.prior_state.as_deref().and_then(StateName::parse);
        let reason = row.prior_reason.as_deref().unwrap_or_default();
        let before = match prior {
            Some(StateName::Absent) => Rest::Absent { reason: absent(reason)? },
            Some(StateName::Stale) => Rest::Stale { reason: stale(reason)? },
            Some(StateName::Revoked) => {
                let (reason, log_out) = revoked(reason, row.prior_log_out.as_deref())?;
                Rest::Revoked { reason, log_out }
            }
            Some(
                StateName::PendingQr
                | StateName::PendingCode
                | StateName::PendingPassword
                | StateName::Authorized,
            )
            | None => return Err(Error::Corrupt { what: "prior_state" }),
        };
        Ok(Pending { before })
    };
    Ok(match name {
        StateName::Absent => State::Absent { reason: absent(&row.state_reason)? },
        StateName::PendingQr => State::PendingQr(pending()?),
        StateName::PendingCode => State::PendingCode(pending()?),
        StateName::PendingPassword => State::PendingPassword(pending()?),
        StateName::Authorized => {
            State::Authorized { reason: AuthorizedReason::parse(&row.state_reason).ok_or(REASON)? }
        }
        StateName::Stale => State::Stale { reason: stale(&row.state_reason)? },
        StateName::Revoked => {
            let (reason, log_out) = revoked(&row.state_reason, row.log_out.as_deref())?;
            State::Revoked { reason, log_out }
        }
    })
}

const REASON: Error = Error::Corrupt { what: "state_reason" };

fn absent(reason: &str) -> Result<Option<AbsentReason>, Error> {
    if reason.is_empty() {
        return Ok(None);
    }
    AbsentReason::parse(reason).map(Some).ok_or(REASON)
}

fn stale(reason: &str) -> Result<StaleReason, Error> {
    StaleReason::parse(reason).ok_or(REASON)
}

fn revoked(reason: &str, log_out: Option<&str>) -> Result<(RevokedReason, LogOut), Error> {
    let reason = RevokedReason::parse(reason).ok_or(REASON)?;
    let log_out = log_out.and_then(LogOut::parse).ok_or(Error::Corrupt { what: "log_out" })?;
    Ok((reason, log_out))
}

pub(super) fn key(tenant: &str, app: &str) -> Result<SessionKey, Error> {
    SessionKey::parse(tenant, app).map_err(|_| Error::Corrupt { what: "tenant_id or app_id" })
}

/// An object of texts, as labels and details are stored.
pub(super) fn text_map(json: Value, what: &'static str) -> Result<BTreeMap<String, String>, Error> {
    let Value::Object(entries) = json else {
        return Err(Error::Corrupt { what });
    };
    entries
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(Error::Corrupt { what })
            }
        })
        .collect()
}

pub(super) fn json_map<N: Into<String>>(entries: impl IntoIterator<Item = (N, String)>) -> Value {
    Value::Object(
        entries.into_iter().map(|(name, text)| (name.into(), Value::String(text))).collect::<Map<_, _>>(),
    )
}
