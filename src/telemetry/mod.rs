//! Logs, traces and metrics. A leaf: knows nothing of what it observes but names and numbers.

pub mod layer;
pub mod metrics;
pub mod redact;

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    layer::SubscriberExt as _,
};

use crate::config::{self, LogFormat};

/// How long the last traces may take to leave at shutdown.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How long one export of traces may take.
const EXPORT_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log filter cannot be used")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("the exporter of traces cannot be built")]
    Traces(#[source] opentelemetry_otlp::ExporterBuildError),
    #[error("logs are initialised already")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// What must be closed at the end, so that the last traces arrive.
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Starts logs on standard error, and traces when there is somewhere to send them. Call it inside the runtime.
///
/// # Errors
/// A filter or address that cannot be used, or a second call.
pub fn init(settings: &config::Telemetry) -> Result<Telemetry, Error> {
    let filter = with_quiet_libraries(&settings.log).parse::<EnvFilter>().map_err(Error::Filter)?;
    let traces = match &settings.otlp_endpoint {
        None => None,
        Some(endpoint) => Some(provider(endpoint, &settings.service_name)?),
    };
    let spans = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("usm"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(may_be_told))
    });
    let format = tracing_subscriber::fmt::layer::<Registry>().with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Text => format.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => format.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // Without this hint every trace line of every library is asked about each time it is passed.
    let told =
        filter_fn(may_be_told).with_max_level_hint(filter.max_level_hint().unwrap_or(LevelFilter::TRACE));
    let lines = lines.with_filter(filter.and(told));
    let subscriber = tracing_subscriber::registry().with(lines).with(spans);
    tracing::subscriber::set_global_default(subscriber).map_err(Error::Twice)?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    log_panics();
    Ok(Telemetry { traces })
}

/// Libraries that warn of what is no trouble here, such as a connection that its server closed, and whose errors
/// reach the log with a session's name anyway.
const CHATTY: [&str; 2] = ["grammers_mtsender", "grammers_mtproto"];

/// The filter with those libraries held to their errors, unless it speaks of them itself or asks for less.
fn with_quiet_libraries(filter: &str) -> String {
    let mut whole = filter.to_owned();
    let silent = filter.split(',').any(|part| part.trim().eq_ignore_ascii_case("off"));
    for target in CHATTY.into_iter().filter(|target| !silent && !filter.contains(target)) {
        whole.push_str(&format!(",{target}=error"));
    }
    whole
}

/// What libraries say in detail may hold tokens, parameters and bytes of keys: whatever the filter asks for,
/// their debug and trace lines are never written.
fn may_be_told(metadata: &tracing::Metadata<'_>) -> bool {
    let target = metadata.target();
    let own = target == "usm" || target.starts_with("usm::");
    own || *metadata.level() <= Level::INFO
}

fn provider(endpoint: &str, service: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_MAX)
        .build()
        .map_err(Error::Traces)?;
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name(service.to_owned()).with_attribute(version).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// A panic is one line in the log like everything else, without what may be secret in its message.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic.location = %place, "Panicked: {}", redact::redact(text));
    }));
}

impl Telemetry {
    /// Sends what is left, within two seconds.
    pub async fn close(self) {
        let Some(provider) = self.traces else { return };
        // The exporter blocks, and with its collector away it retries until the limit.
        let closed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_MAX)).await;
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("The last traces were lost: {}", redact::chain(&error)),
            Err(_) => tracing::warn!("The last traces were lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatty_libraries_are_held_to_errors_unless_the_filter_names_them() {
        let quiet = "grammers_mtsender=error,grammers_mtproto=error";
        assert_eq!(with_quiet_libraries("info"), format!("info,{quiet}"));
        assert_eq!(
            with_quiet_libraries("warn,grammers_mtsender=debug"),
            "warn,grammers_mtsender=debug,grammers_mtproto=error"
        );
        assert_eq!(with_quiet_libraries("off"), "off");
        assert!(with_quiet_libraries("usm=debug,info").parse::<EnvFilter>().is_ok());
    }
}
