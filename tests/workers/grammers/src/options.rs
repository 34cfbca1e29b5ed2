//! What the worker is told: by flags, and the token by the environment, where other users cannot read it.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use usm_client::Credentials;

/// Borrows a session again and again, asks Telegram who it is, and gives it back.
///
/// Writes one line of JSON for each thing that happened. SIGTERM and Ctrl-C end it with its connection closed and its
/// lease released.
#[derive(Debug, Parser)]
#[command(after_help = "Example: USM_TOKEN=… usm-grammers-worker --tenant-id acme --app-id news --rounds 3")]
pub(crate) struct Options {
    /// Address of a replica, `http://host:port`. Repeated: the next one is tried when a connection breaks.
    #[arg(long = "server", default_value = "http://127.0.0.1:50051")]
    pub(crate) servers: Vec<String>,
    #[arg(long)]
    pub(crate) tenant_id: String,
    #[arg(long)]
    pub(crate) app_id: String,
    /// Name of this worker; by default one with the id of the process.
    #[arg(long)]
    pub(crate) holder: Option<String>,
    /// How often to borrow the session; 0: until it is stopped.
    #[arg(long, default_value_t = 0)]
    pub(crate) rounds: u64,
    /// Seconds to ask the lease for.
    #[arg(long, value_parser = seconds)]
    pub(crate) ttl: Option<Duration>,
    /// Seconds to queue for the session.
    #[arg(long, value_parser = seconds, default_value = "0")]
    pub(crate) wait: Duration,
    /// Seconds to keep the session in each round.
    #[arg(long, value_parser = seconds, default_value = "5")]
    pub(crate) hold: Duration,
    /// Seconds between two questions to Telegram.
    #[arg(long, value_parser = seconds, default_value = "0.5")]
    pub(crate) ask_every: Duration,
    /// Most seconds to rest after a refusal, whatever the service says.
    #[arg(long, value_parser = seconds, default_value = "1")]
    pub(crate) rest_max: Duration,
    /// Misbehaves, so that a test can show that it notices.
    #[arg(long = "break", value_enum)]
    pub(crate) fault: Option<Fault>,
}

/// What a holder must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Keeps its connection open and goes on asking when the lease is lost.
    IgnoreDeadline,
}

impl Options {
    pub(crate) fn holder(&self) -> String {
        self.holder.clone().unwrap_or_else(|| format!("grammers-{}", std::process::id()))
    }
}

/// # Errors
/// If `USM_TOKEN` is not set or no token.
#[allow(clippy::disallowed_methods, reason = "the one setting that no flag may carry")]
pub(crate) fn credentials() -> anyhow::Result<Credentials> {
    let token = std::env::var("USM_TOKEN").context("set USM_TOKEN to a token with the scope `lease`")?;
    Ok(Credentials::bearer(&token)?)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn spans_are_seconds() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err() && seconds("NaN").is_err());
    }
}
