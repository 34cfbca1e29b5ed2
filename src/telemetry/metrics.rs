//! Every metric: its name, unit, labels and help, and the one function that records it.
//!
//! Labels come from closed sets. Never a tenant, an account, a phone number or free text.

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::domain::{
    breaker::Level,
    error::Reason,
    event::Transition,
    login::Method,
    material::Format,
    session::{
        AbsentReason, AuthorizedReason, Event, LogOut, LoginEnd, Loss, Pending, Rest, RevokedReason,
        StaleReason, State, StateName,
    },
};

/// How a metric is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric as dashboards know it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn counted(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
}

const fn level(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Unit::Count, labels, help }
}

const fn timed(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Unit::Seconds, labels, help }
}

const TRANSITIONS: &str = "session_state_transitions_total";
const STATES: &str = "session_states_gauge";
const QR_STARTS: &str = "qr_auth_start_total";
const QR_CALLBACKS: &str = "qr_auth_callback_total";
const QR_DURATION: &str = "qr_auth_duration_seconds";
const LOGINS: &str = "login_total";
const MINIAPP: &str = "miniapp_webhook_total";
const DENIED: &str = "rls_denied_total";
const LOCKS: &str = "session_lock_acquired_total";
const LOCK_FAILURES: &str = "session_lock_failed_total";
const LOCKS_HELD: &str = "session_lock_held_gauge";
const CLIENT_LATENCY: &str = "session_get_client_latency_seconds";
const FINGERPRINTS: &str = "fingerprint_computation_duration_seconds";
const FINGERPRINT_MISMATCHES: &str = "fingerprint_mismatch_total";
const CONVERSIONS: &str = "session_conversion_total";
const BACKUPS: &str = "session_backup_total";
const VALIDATIONS: &str = "session_validation_total";
const FLOOD_WAITS: &str = "telegram_flood_wait_seconds";
const BREAKER: &str = "telegram_circuit_breaker_state";
const REQUESTS: &str = "grpc_server_requests_total";
const REQUEST_DURATION: &str = "grpc_server_request_duration_seconds";

/// Every metric of the service.
pub const ALL: &[Metric] = &[
    counted(TRANSITIONS, &["from", "to", "reason"], "Moves of sessions from one state to another"),
    level(STATES, &["state"], "Sessions in each state"),
    counted(QR_STARTS, &[], "QR logins started"),
    counted(QR_CALLBACKS, &["result"], "QR logins ended, by how"),
    timed(QR_DURATION, &[], "Time from the start of a QR login to its success"),
    counted(LOGINS, &["method", "result"], "Logins ended, by method and how"),
    counted(MINIAPP, &["route", "result"], "Calls of the Mini App's routes"),
    counted(DENIED, &[], "Calls for another tenant's object, answered as if there were none"),
    counted(LOCKS, &[], "Leases granted"),
    counted(LOCK_FAILURES, &["reason"], "Leases refused, by reason"),
    level(LOCKS_HELD, &[], "Leases held"),
    timed(CLIENT_LATENCY, &[], "Time to grant a lease and hand out its material"),
    timed(FINGERPRINTS, &[], "Time to compute a fingerprint"),
    counted(FINGERPRINT_MISMATCHES, &[], "Fingerprints that differ from the recorded one"),
    counted(CONVERSIONS, &["from", "to", "result"], "Session material read from or written to a format"),
    counted(BACKUPS, &["operation", "result"], "Backups made, restored and pruned"),
    counted(VALIDATIONS, &["result"], "Looks at sessions, by request and by schedule, and what they found"),
    timed(FLOOD_WAITS, &[], "Pauses that Telegram demanded"),
    level(BREAKER, &[], "Whether calls to Telegram are held back: 0 closed, 1 half open, 2 open"),
    counted(REQUESTS, &["method", "code"], "Calls answered, by method and gRPC code"),
    timed(REQUEST_DURATION, &["method"], "Time from the arrival of a call to the end of its answer"),
];

/// Seconds; from a cached read to a login that somebody takes minutes for.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];

/// Hands out what was counted.
#[derive(Clone, Debug)]
pub struct Exporter(PrometheusHandle);

/// Starts counting in this process; every metric is there at once, at 0. A second call gets the same counts.
///
/// # Errors
/// When something else counts in this process already.
pub fn install() -> Result<Exporter, BuildError> {
    static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // Held so that of two first calls one installs and the other finds it; poisoning means nothing here.
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(handle) = INSTALLED.get() {
        return Ok(Exporter(handle.clone()));
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|error| BuildError::FailedToCreateHTTPListener(error.to_string()))?;
    touch_all();
    Ok(Exporter(INSTALLED.get_or_init(|| handle).clone()))
}

impl Exporter {
    /// The metrics as Prometheus reads them.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples together; call it every few seconds, or histograms grow until somebody reads them.
    pub fn fold(&self) {
        self.0.run_upkeep();
    }
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    Authorized,
    Expired,
    Cancelled,
    Superseded,
    Failed,
}

impl LoginResult {
    pub const ALL: [Self; 5] =
        [Self::Authorized, Self::Expired, Self::Cancelled, Self::Superseded, Self::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }
}

/// Whether something worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Failed,
}

impl Outcome {
    pub const ALL: [Self; 2] = [Self::Ok, Self::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// What is done with a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupOperation {
    Create,
    Restore,
    Prune,
}

impl BackupOperation {
    pub const ALL: [Self; 3] = [Self::Create, Self::Restore, Self::Prune];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Restore => "restore",
            Self::Prune => "prune",
        }
    }
}

/// A route of the Mini App.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MiniAppRoute {
    Start,
    Status,
    Events,
    Password,
    Cancel,
    Callback,
}

impl MiniAppRoute {
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Status, Self::Events, Self::Password, Self::Cancel, Self::Callback];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Status => "status",
            Self::Events => "events",
            Self::Password => "password",
            Self::Cancel => "cancel",
            Self::Callback => "callback",
        }
    }
}

/// What a look at a session found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Its authorization lives.
    Alive,
    /// Telegram refused it, which may be false.
    Doubtful,
    /// It has ended.
    Ended,
    /// It belongs to another account.
    Mismatch,
    /// Telegram asked to wait.
    FloodWait,
    /// Telegram did not answer.
    Unavailable,
    /// Telegram answered something that says nothing about it, or the answer could not be noted.
    Undecided,
    /// The look was broken off, because somebody waits for the session or the service stops.
    BrokenOff,
}

impl Validation {
    pub const ALL: [Self; 8] = [
        Self::Alive,
        Self::Doubtful,
        Self::Ended,
        Self::Mismatch,
        Self::FloodWait,
        Self::Unavailable,
        Self::Undecided,
        Self::BrokenOff,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Doubtful => "doubtful",
            Self::Ended => "ended",
            Self::Mismatch => "account_mismatch",
            Self::FloodWait => "flood_wait",
            Self::Unavailable => "unavailable",
            Self::Undecided => "undecided",
            Self::BrokenOff => "broken_off",
        }
    }
}

/// Reasons for which a lease is refused; others would be a defect and count as `INTERNAL`.
const LOCK_FAILURE_REASONS: &[Reason] = &[
    Reason::CustodyLegacy,
    Reason::DeadlineExceeded,
    Reason::FeatureDisabled,
    Reason::FormatUnsupported,
    Reason::Internal,
    Reason::SessionLeased,
    Reason::SessionNotFound,
    Reason::SessionWrongState,
    Reason::StoreUnavailable,
    Reason::VaultUnavailable,
    Reason::WaitQueueFull,
];

pub fn session_moved(transition: &Transition) {
    transitions(transition.from, transition.to, transition.reason).increment(1);
}

fn transitions(from: StateName, to: StateName, reason: &'static str) -> metrics::Counter {
    counter!(TRANSITIONS, "from" => from.as_str(), "to" => to.as_str(), "reason" => reason)
}

pub fn sessions_in(state: StateName, count: u32) {
    gauge!(STATES, "state" => state.as_str()).set(f64::from(count));
}

pub fn qr_login_started() {
    counter!(QR_STARTS).increment(1);
}

/// Counts the end of a login, and for a QR login also how long it took to succeed.
pub fn login_ended(method: Method, result: LoginResult, took: Duration) {
    counter!(LOGINS, "method" => method.name(), "result" => result.name()).increment(1);
    match method {
        Method::Qr => {
            counter!(QR_CALLBACKS, "result" => result.name()).increment(1);
            if result == LoginResult::Authorized {
                histogram!(QR_DURATION).record(took.as_secs_f64());
            }
        }
        Method::Phone | Method::Bot => {}
    }
}

pub fn miniapp_called(route: MiniAppRoute, outcome: Outcome) {
    counter!(MINIAPP, "route" => route.name(), "result" => outcome.name()).increment(1);
}

pub fn tenant_denied() {
    counter!(DENIED).increment(1);
}

/// Counts a grant and how long it took to hand out the material.
pub fn lease_granted(took: Duration) {
    counter!(LOCKS).increment(1);
    histogram!(CLIENT_LATENCY).record(took.as_secs_f64());
}

pub fn lease_refused(reason: Reason) {
    let counted = if LOCK_FAILURE_REASONS.contains(&reason) { reason } else { Reason::Internal };
    counter!(LOCK_FAILURES, "reason" => counted.name()).increment(1);
}

pub fn leases_held(count: u32) {
    gauge!(LOCKS_HELD).set(f64::from(count));
}

pub fn fingerprint_computed(took: Duration) {
    histogram!(FINGERPRINTS).record(took.as_secs_f64());
}

pub fn fingerprint_differed() {
    counter!(FINGERPRINT_MISMATCHES).increment(1);
}

/// Material was read from a format.
pub fn material_read(from: Format, outcome: Outcome) {
    converted(from.name(), MATERIAL, outcome).increment(1);
}

/// Material was written in a format.
pub fn material_written(to: Format, outcome: Outcome) {
    converted(MATERIAL, to.name(), outcome).increment(1);
}

/// The service's own form, between any two formats.
const MATERIAL: &str = "material";

fn converted(from: &'static str, to: &'static str, outcome: Outcome) -> metrics::Counter {
    counter!(CONVERSIONS, "from" => from, "to" => to, "result" => outcome.name())
}

pub fn backup_done(operation: BackupOperation, outcome: Outcome) {
    counter!(BACKUPS, "operation" => operation.name(), "result" => outcome.name()).increment(1);
}

pub fn flood_wait(pause: Duration) {
    histogram!(FLOOD_WAITS).record(pause.as_secs_f64());
}

pub fn validated(found: Validation) {
    counter!(VALIDATIONS, "result" => found.name()).increment(1);
}

/// Whether calls to Telegram are held back: the worst of all data centres.
pub fn breaker(level: Level) {
    gauge!(BREAKER).set(match level {
        Level::Closed => 0.0,
        Level::HalfOpen => 1.0,
        Level::Open => 2.0,
    });
}

/// Counts an answered call. Both labels come from closed tables.
pub fn rpc_answered(method: &'static str, code: &'static str, took: Duration) {
    counter!(REQUESTS, "method" => method, "code" => code).increment(1);
    histogram!(REQUEST_DURATION, "method" => method).record(took.as_secs_f64());
}

/// Makes a method's counts visible before its first call.
pub fn rpc_known(method: &'static str) {
    counter!(REQUESTS, "method" => method, "code" => "OK").increment(0);
    let _registered = histogram!(REQUEST_DURATION, "method" => method);
}

/// Describes every metric and sets each closed set of labels to 0.
fn touch_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
        if metric.labels.is_empty() {
            match metric.kind {
                Kind::Counter => counter!(metric.name).increment(0),
                Kind::Gauge => gauge!(metric.name).set(0.0),
                Kind::Histogram => drop(histogram!(metric.name)),
            }
        }
    }
    for (from, to, reason) in legal_transitions() {
        transitions(from, to, reason).increment(0);
    }
    for state in StateName::ALL {
        gauge!(STATES, "state" => state.as_str()).set(0.0);
    }
    for result in LoginResult::ALL {
        counter!(QR_CALLBACKS, "result" => result.name()).increment(0);
        for method in Method::ALL {
            counter!(LOGINS, "method" => method.name(), "result" => result.name()).increment(0);
        }
    }
    for found in Validation::ALL {
        counter!(VALIDATIONS, "result" => found.name()).increment(0);
    }
    for reason in LOCK_FAILURE_REASONS {
        counter!(LOCK_FAILURES, "reason" => reason.name()).increment(0);
    }
    for outcome in Outcome::ALL {
        for format in Format::ALL {
            converted(format.name(), MATERIAL, outcome).increment(0);
            converted(MATERIAL, format.name(), outcome).increment(0);
        }
        for operation in BackupOperation::ALL {
            counter!(BACKUPS, "operation" => operation.name(), "result" => outcome.name()).increment(0);
        }
        for route in MiniAppRoute::ALL {
            counter!(MINIAPP, "route" => route.name(), "result" => outcome.name()).increment(0);
        }
    }
    rpc_known("unknown");
}

/// Every move the life cycle allows, asked of the life cycle itself.
fn legal_transitions() -> Vec<(StateName, StateName, &'static str)> {
    let mut moves = Vec::new();
    for state in sample_states() {
        for event in events() {
            if let Ok(next) = state.next(event) {
                moves.push((state.name(), next.name(), event.reason()));
            }
        }
    }
    moves.sort_unstable();
    moves.dedup();
    moves
}

fn sample_states() -> Vec<State> {
    let rests = [
        Rest::Absent { reason: Some(AbsentReason::Reset) },
        Rest::Stale { reason: StaleReason::ValidationFailed },
        Rest::Revoked { reason: RevokedReason::Expired, log_out: LogOut::Pending },
    ];
    let mut states: Vec<State> = rests.iter().cloned().map(State::from).collect();
    for before in rests {
        states.push(State::PendingQr(Pending { before: before.clone() }));
        states.push(State::PendingCode(Pending { before: before.clone() }));
        states.push(State::PendingPassword(Pending { before }));
    }
    states.push(State::Authorized { reason: AuthorizedReason::Imported });
    states.push(State::Stale { reason: StaleReason::ValidationOverdue });
    states
}

fn events() -> Vec<Event> {
    let ends = LoginEnd::ALL.iter().copied().map(Event::LoginEnded);
    let losses = [Loss::Banned, Loss::Deleted, Loss::Duplicated, Loss::Expired, Loss::RevokedByUser];
    ends.chain(losses.map(Event::Lost))
        .chain([
            Event::QrStarted,
            Event::CodeStarted,
            Event::PasswordRequired,
            Event::TelegramAuthorized,
            Event::Imported,
            Event::Minted,
            Event::Restored,
            Event::ValidationOverdue,
            Event::ValidationFailed,
            Event::ValidationSucceeded,
            Event::ManuallyRevoked(LogOut::Done),
            Event::LoggedOut,
            Event::Reset,
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_from_the_start() {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
            .expect("buckets")
            .build_recorder();
        metrics::with_local_recorder(&recorder, touch_all);
        let text = recorder.handle().render();
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{} in\n{text}", metric.name);
            assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
        }
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for sample in samples {
            assert!(sample.ends_with(" 0"), "{sample}");
        }
    }

    #[test]
    fn recording_uses_only_declared_names_and_labels() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            touch_all();
            login_ended(Method::Qr, LoginResult::Authorized, Duration::from_secs(3));
            lease_refused(Reason::PasswordInvalid);
            rpc_answered("usm.v1.SessionService/GetSession", "OK", Duration::from_millis(2));
        });
        for line in
            recorder.handle().render().lines().filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let metric = ALL.iter().find(|metric| {
                name == metric.name
                    || name
                        .strip_prefix(metric.name)
                        .is_some_and(|rest| matches!(rest, "_sum" | "_count" | "_bucket"))
            });
            assert!(metric.is_some(), "{name} is not declared");
        }
    }
}
