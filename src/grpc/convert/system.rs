//! The service itself.

use usm_client::v1;

use crate::{
    app::health::{Condition, Health, Info},
    domain::{
        lease::{TTL_MAX, TTL_MIN},
        material::Format,
        time::Timestamp,
    },
    grpc::{
        convert::{duration, material, timestamp},
        server::Facts,
    },
};

/// Formats a session can be leased in.
pub(crate) const FORMATS: &[Format] = &[
    Format::TelethonString,
    Format::TelethonSqlite,
    Format::PyrogramString,
    Format::PyrogramSqlite,
    Format::GramjsString,
    Format::MtcuteString,
    Format::Grammers,
    Format::Tdata,
    Format::Raw,
];

/// The store is required; without one of the others the service works in part.
pub(crate) fn health(health: &Health, now: Timestamp) -> v1::Health {
    let mut dependencies: Vec<_> = health
        .dependencies
        .iter()
        .map(|dependency| v1::DependencyHealth {
            name: dependency.name.to_owned(),
            state: condition(dependency.state).into(),
            latency: dependency.latency.map(duration),
            message: dependency.detail.to_owned(),
        })
        .collect();
    dependencies.sort_by(|one, other| one.name.cmp(&other.name));
    let all_up = health.dependencies.iter().all(|dependency| dependency.state != Condition::Down);
    let state = match (health.ready, health.enabled, all_up) {
        (false, ..) => v1::HealthState::Down,
        (true, false, _) => v1::HealthState::Disabled,
        (true, true, false) => v1::HealthState::Degraded,
        (true, true, true) => v1::HealthState::Healthy,
    };
    v1::Health { state: state.into(), dependencies, measure_time: Some(timestamp(now)) }
}

const fn condition(condition: Condition) -> v1::HealthState {
    match condition {
        Condition::Up => v1::HealthState::Healthy,
        Condition::Down => v1::HealthState::Down,
        Condition::Off => v1::HealthState::Disabled,
    }
}

pub(crate) fn info(info: Info, facts: &Facts) -> v1::ServiceInfo {
    v1::ServiceInfo {
        version: info.version.to_owned(),
        build: Some(v1::BuildInfo {
            commit: option_env!("USM_BUILD_COMMIT").unwrap_or_default().to_owned(),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            compiler: String::new(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }),
        environment: info.environment,
        features: [("sandbox", cfg!(feature = "sandbox")), ("validator", info.validates)]
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name.to_owned())
            .collect(),
        store: info.database.to_owned(),
        tickets: info.tickets.to_owned(),
        grants_enabled: info.enabled,
        start_time: Some(timestamp(info.start_time)),
        lease_quiet_gap: Some(duration(facts.quiet_gap)),
        lease_ttl_min: Some(duration(TTL_MIN)),
        lease_ttl_max: Some(duration(TTL_MAX)),
        ticket_ttl: Some(duration(facts.ticket_ttl)),
        material_size_max_bytes: facts.material_size_max,
        formats: FORMATS.iter().map(|format| material::format(*format).into()).collect(),
    }
}
