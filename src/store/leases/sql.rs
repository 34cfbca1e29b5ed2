//! The statements that decide over leases, as text. Each takes a list of asks as one JSON parameter, so that its text,
//! and with it the prepared statement, is the same for one ask and for many. Names of what is asked begin with `ask_`;
//! all others are columns of the session.

use sea_orm::Iterable as _;

use crate::{
    domain::session::{Custody, StaleReason, StateName},
    store::{
        Backend,
        clock::{NOW, text as clock},
        entity::session::Column,
        leases::queue::PRESENCE,
        settings,
    },
};

/// What a grant answers: the rest is what was asked for. Each column costs both ends more than the row's update.
const GRANTED: &str = "tenant_id, app_id, lease_epoch, lease_acquire_time, material_version";
/// What a release answers.
const ENDED: &str = "tenant_id, app_id, lease_id_hash, lease_holder, lease_purpose, lease_drain_reason, lease_epoch, \
                     lease_acquire_time, lease_expire_time, lease_evicted, lease_released";

/// Written once, when the database is opened.
#[derive(Debug)]
pub(in crate::store) struct Texts {
    /// asks, environment, the caller's tenant or nothing, the quiet gap in milliseconds
    pub(super) grant: String,
    /// The same, with the entries of the log and the material. PostgreSQL only.
    pub(super) grant_told: String,
    /// asks
    pub(super) material: String,
    /// asks, environment, the caller's tenant or nothing
    pub(super) renew: String,
    /// asks, the caller's tenant or nothing
    pub(super) release: String,
    /// The same, and the entries of the log with it. PostgreSQL only.
    pub(super) release_told: String,
    /// asks, environment
    pub(super) standing: String,
    /// asks
    pub(super) leave: String,
    /// asks
    pub(in crate::store) tell: String,
}

impl Texts {
    pub(in crate::store) fn new(backend: Backend) -> Self {
        Self {
            grant: grant(backend),
            grant_told: told(
                &format!(
                    "{}, lease_holder, lease_subject, lease_purpose, {} as {NOW}",
                    grant(backend),
                    clock(backend)
                ),
                &format!("{GRANTED}, version, key_id, sealed"),
                "lease_granted",
                "jsonb_build_object('holder', lease_holder, 'epoch', lease_epoch::text)",
                // As of the statement's beginning: older than the row, if that was waited for.
                "done left join session_material using (tenant_id, app_id)",
            ),
            material: material(backend),
            renew: renew(backend),
            release: release(backend),
            release_told: told(
                &format!("{}, lease_subject, ask_closed", release(backend)),
                ENDED,
                "lease_released",
                "jsonb_build_object('epoch', lease_epoch::text, 'connections', \
                 case when ask_closed then 'closed' else 'unknown' end)",
                "done",
            ),
            standing: standing(backend),
            leave: format!(
                "delete from lease_waits where waiter in (select ask_hash from {})",
                asks(backend, &[("ask_hash", "text")])
            ),
            tell: tell(backend),
        }
    }
}

/// A change of leases that tells the log of those that were lent to workers: the service's own looks would drown that.
fn told(change: &str, answer: &str, kind: &str, details: &str, from: &str) -> String {
    format!(
        "with done as ({change}), told as (insert into session_events \
         (tenant_id, app_id, kind, reason, actor, details, time) \
         select tenant_id, app_id, '{kind}', '', lease_subject, {details}, {NOW} from done \
         where lease_purpose = 'lend') \
         select {answer}, {NOW} from {from}"
    )
}

/// Parameter `number` in the database's spelling.
fn at(backend: Backend, number: u8) -> String {
    match backend {
        Backend::Postgres => format!("${number}"),
        Backend::Sqlite => format!("?{number}"),
    }
}

/// The list of asks as rows.
pub(in crate::store) fn asks(backend: Backend, fields: &[(&str, &str)]) -> String {
    match backend {
        Backend::Postgres => {
            let fields: Vec<_> = fields.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            format!("jsonb_to_recordset($1::text::jsonb) as asks({})", fields.join(", "))
        }
        Backend::Sqlite => {
            let fields: Vec<_> =
                fields.iter().map(|(name, _)| format!("json_extract(value, '$.{name}') as {name}")).collect();
            format!("(select {} from json_each(?1)) as asks", fields.join(", "))
        }
    }
}

/// Every column and the clock.
pub(in crate::store) fn row(backend: Backend) -> String {
    let columns: Vec<_> =
        Column::iter().map(|column| sea_orm::IdenStatic::as_str(&column).to_owned()).collect();
    format!("{}, {} as {NOW}", columns.join(", "), clock(backend))
}

/// Material that works as far as is known.
fn usable() -> String {
    let (authorized, stale) = (StateName::Authorized.as_str(), StateName::Stale.as_str());
    let overdue = StaleReason::ValidationOverdue.name();
    format!("(state = '{authorized}' or (state = '{stale}' and state_reason = '{overdue}'))")
}

/// In our hands and of our Telegram.
fn ours(backend: Backend) -> String {
    format!("custody = '{}' and environment = {}", Custody::Service.name(), at(backend, 2))
}

/// What exists for the caller: the filter beside row-level security.
pub(in crate::store) fn visible(backend: Backend, number: u8) -> String {
    let tenant = at(backend, number);
    format!("({tenant} = '' or tenant_id = {tenant})")
}

fn grant(backend: Backend) -> String {
    let fields = [
        ("ask_tenant", "text"),
        ("ask_app", "text"),
        ("ask_hash", "text"),
        ("ask_holder", "text"),
        ("ask_subject", "text"),
        ("ask_request_id", "text"),
        ("ask_purpose", "text"),
        ("ask_ttl", "bigint"),
    ];
    format!(
        "update telegram_sessions set lease_id_hash = ask_hash, lease_holder = ask_holder, \
         lease_subject = ask_subject, lease_request_id = ask_request_id, lease_purpose = ask_purpose, \
         lease_epoch = lease_epoch + 1, lease_acquire_time = {now}, lease_expire_time = {now} + ask_ttl, \
         lease_ttl = ask_ttl, lease_evicted = false, lease_released = false, lease_drain_reason = null \
         from {asks} \
         where tenant_id = ask_tenant and app_id = ask_app and {ours} and {visible} \
         and (lease_expire_time is null or lease_expire_time + {gap} <= {now}) \
         and case when ask_purpose = 'lend' then {usable} and not {off} else {filled} end \
         and (ask_purpose = 'inspect' or not {kept_back}) \
         returning {GRANTED}",
        now = clock(backend),
        asks = asks(backend, &fields),
        ours = ours(backend),
        visible = visible(backend, 3),
        gap = at(backend, 4),
        usable = usable(),
        off = switched_off(),
        filled = filled("ask_tenant", "ask_app"),
        kept_back = kept_back(backend),
    )
}

/// The feature is off, as the database knows it: no replica can miss it.
pub(in crate::store) fn switched_off() -> String {
    let (name, off) = (settings::FEATURE, settings::FEATURE_OFF);
    format!(
        "exists (select 1 from settings as switch where switch.name = '{name}' and switch.value = '{off}')"
    )
}

/// There is material, whatever its worth.
pub(super) fn filled(tenant: &str, app: &str) -> String {
    format!(
        "exists (select 1 from session_material as kept where kept.tenant_id = {tenant} and kept.app_id = {app})"
    )
}

/// Somebody came first and was seen lately. Whoever has no place comes after all who have one.
fn kept_back(backend: Backend) -> String {
    let now = clock(backend);
    format!(
        "exists (select 1 from lease_waits as others where others.tenant_id = ask_tenant \
         and others.app_id = ask_app and others.waiter <> ask_hash and others.deadline > {now} \
         and others.seen_time > {now} - {presence} and others.place < coalesce( \
         (select own.place from lease_waits as own where own.waiter = ask_hash), {last}))",
        presence = PRESENCE.as_millis(),
        last = i64::MAX,
    )
}

fn material(backend: Backend) -> String {
    format!(
        "select tenant_id, app_id, version, key_id, sealed from session_material \
         join {} on tenant_id = ask_tenant and app_id = ask_app",
        asks(backend, &[("ask_tenant", "text"), ("ask_app", "text")])
    )
}

/// Fit for what its lease is for, and not asked to stop.
fn renewable(backend: Backend) -> String {
    format!("{} and not lease_evicted and ({} or lease_purpose <> 'lend')", ours(backend), usable())
}

fn renew(backend: Backend) -> String {
    let fields =
        [("ask_hash", "text"), ("ask_epoch", "bigint"), ("ask_subject", "text"), ("ask_activity", "bigint")];
    let (greatest, least) = match backend {
        Backend::Postgres => ("greatest", "least"),
        Backend::Sqlite => ("max", "min"),
    };
    format!(
        "update telegram_sessions set lease_expire_time = {now} + lease_ttl, \
         last_activity_time = case when ask_activity is null then last_activity_time \
         else {greatest}(coalesce(last_activity_time, 0), {least}(ask_activity, {now})) end \
         from {asks} \
         where lease_id_hash = ask_hash and lease_epoch = ask_epoch and lease_subject = ask_subject \
         and {visible} and not lease_released and lease_expire_time > {now} and {renewable} \
         returning tenant_id, app_id, state, lease_id_hash, lease_holder, lease_epoch, lease_ttl, \
         lease_acquire_time",
        now = clock(backend),
        asks = asks(backend, &fields),
        visible = visible(backend, 3),
        renewable = renewable(backend),
    )
}

fn release(backend: Backend) -> String {
    let fields =
        [("ask_hash", "text"), ("ask_epoch", "bigint"), ("ask_subject", "text"), ("ask_closed", "boolean")];
    format!(
        "update telegram_sessions set lease_released = true, \
         lease_expire_time = case when ask_closed then null else lease_expire_time end \
         from {asks} \
         where lease_id_hash = ask_hash and lease_epoch = ask_epoch and lease_subject = ask_subject \
         and {visible} \
         and case when ask_closed then lease_expire_time is not null else not lease_released end \
         returning {ENDED}, {now} as {NOW}",
        asks = asks(backend, &fields),
        visible = visible(backend, 2),
        now = clock(backend),
    )
}

/// Leases that are not simply held any more, or are another's by now.
fn standing(backend: Backend) -> String {
    format!(
        "select ask_hash, tenant_id, state, lease_evicted, lease_drain_reason, lease_released, lease_expire_time, \
         {now} as {NOW} from {asks} left join telegram_sessions on lease_id_hash = ask_hash \
         where tenant_id is null or lease_released or lease_expire_time is null or lease_expire_time <= {now} \
         or lease_drain_reason is not null or not ({renewable})",
        now = clock(backend),
        asks = asks(backend, &[("ask_hash", "text")]),
        renewable = renewable(backend),
    )
}

fn tell(backend: Backend) -> String {
    let fields = [
        ("ask_tenant", "text"),
        ("ask_app", "text"),
        ("ask_kind", "text"),
        ("ask_actor", "text"),
        ("ask_details", "jsonb"),
        ("ask_time", "bigint"),
    ];
    format!(
        "insert into session_events (tenant_id, app_id, kind, reason, actor, details, time) \
         select ask_tenant, ask_app, ask_kind, '', ask_actor, ask_details, ask_time from {}",
        asks(backend, &fields)
    )
}
