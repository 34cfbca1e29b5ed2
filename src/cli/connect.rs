//! Reaching the service: a server by its address, or the same service in this process.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use tonic_types::StatusExt as _;
use usm_client::{
    Client, Credentials, Transport,
    v1::{
        lease_service_client::LeaseServiceClient, login_service_client::LoginServiceClient,
        session_service_client::SessionServiceClient, system_service_client::SystemServiceClient,
    },
};

use super::{Failure, given, output, settings};
use crate::{
    boot::{self, InProcess},
    config::Config,
    domain::secret::Secret,
};

const SERVER_DEFAULT: &str = "http://127.0.0.1:50051";
/// How long a call may take that does not say otherwise.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Which service a command speaks to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(super) struct Target {
    /// Address of the service [env: USM_SERVER] [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL", conflicts_with_all = ["database_url", "redis_url"])]
    server: Option<String>,
    /// Access token, better given by its variable; `usm token issue` makes one [env: USM_TOKEN]
    #[arg(long, value_name = "JWT", value_parser = given::secret, conflicts_with_all = ["database_url", "redis_url"])]
    token: Option<Secret>,
    /// Run the service in this process on that database instead [env: DATABASE_URL]
    #[arg(long, value_name = "URL", value_parser = given::secret)]
    database_url: Option<Secret>,
    /// Where that service keeps logins [env: REDIS_URL]
    #[arg(long, value_name = "URL", value_parser = given::secret)]
    redis_url: Option<Secret>,
}

/// The generated clients over one connection.
pub(super) struct Api {
    client: Client,
    /// Lives as long as the commands that use it.
    local: Option<InProcess>,
}

impl Target {
    /// What was said by a flag counts before what the environment says, and a server before a database: whoever has
    /// a token speaks to a server.
    ///
    /// # Errors
    /// When nobody answers there, with the way out.
    pub(super) async fn connect(self) -> Result<Api, Failure> {
        if self.database_url.is_some() || self.redis_url.is_some() {
            given::warn_of_password("database-url", "DATABASE_URL", self.database_url.as_ref());
            given::warn_of_password("redis-url", "REDIS_URL", self.redis_url.as_ref());
            return Box::pin(Api::in_process(self.database_url, self.redis_url)).await;
        }
        if self.token.is_some() {
            given::warn("token", "USM_TOKEN");
        }
        let server = self.server.or_else(|| given::variable("USM_SERVER"));
        let token = self.token.or_else(|| given::variable("USM_TOKEN").map(Secret::new));
        if server.is_none() && token.is_none() && given::variable("DATABASE_URL").is_some() {
            return Box::pin(Api::in_process(None, None)).await;
        }
        let server = server.unwrap_or_else(|| SERVER_DEFAULT.to_owned());
        let token = token.or_else(|| local_token(&server));
        Api::remote(&server, token).await
    }
}

/// On the machine of an embedded server its owner needs no token: the secret lies in a file only they can read. Such
/// a token opens everything, so it goes to no other machine.
fn local_token(server: &str) -> Option<Secret> {
    if !is_this_machine(server) {
        return None;
    }
    match Config::load(&BTreeMap::new()) {
        Ok(config) => boot::local_token(&config, &settings::os_user()).map(Secret::new),
        Err(mistakes) => {
            output::note(format!(
                "warning: no token could be made for the server on this machine: {mistakes}"
            ));
            None
        }
    }
}

fn is_this_machine(server: &str) -> bool {
    let Ok(address) = server.parse::<http::Uri>() else { return false };
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Api {
    pub(super) async fn remote(server: &str, token: Option<Secret>) -> Result<Self, Failure> {
        let credentials = match token {
            None => Credentials::none(),
            Some(token) => Credentials::bearer(token.expose_secret())
                .map_err(|error| Failure::Usage(format!("the token cannot be used: {error}")))?,
        };
        let client = Client::connect(server, credentials).await.map_err(|error| match error {
            usm_client::Error::Address => {
                Failure::Usage(format!("--server must be a URL such as {SERVER_DEFAULT}, not {server}"))
            }
            error => Failure::Failed(format!(
                "no service answers at {server}; start one with `usm serve`, or name it with --server ({})",
                root_of(&error)
            )),
        })?;
        Ok(Self { client, local: None })
    }

    async fn in_process(database_url: Option<Secret>, redis_url: Option<Secret>) -> Result<Self, Failure> {
        let flags: BTreeMap<String, String> = [("database-url", database_url), ("redis-url", redis_url)]
            .into_iter()
            .filter_map(|(name, url)| Some((name.to_owned(), url?.expose_secret().to_owned())))
            .collect();
        let config = Config::load(&flags).map_err(|mistakes| Failure::Usage(mistakes.to_string()))?;
        let local = Box::pin(boot::in_process(config, &settings::os_user())).await?;
        Ok(Self { client: Client::new(local.channel(), Credentials::none()), local: Some(local) })
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<Transport> {
        self.client.sessions()
    }

    pub(super) fn logins(&self) -> LoginServiceClient<Transport> {
        self.client.logins()
    }

    pub(super) fn leases(&self) -> LeaseServiceClient<Transport> {
        self.client.leases()
    }

    pub(super) fn system(&self) -> SystemServiceClient<Transport> {
        self.client.system()
    }

    /// Ends the service in this process, if there is one.
    pub(super) async fn close(self) {
        // Its end waits for the connection's.
        drop(self.client);
        if let Some(local) = self.local {
            local.stop().await;
        }
    }
}

/// What is at the bottom of a failure, such as «connection refused».
fn root_of(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// A request with the usual deadline.
pub(super) fn ask<T>(message: T) -> tonic::Request<T> {
    ask_within(message, CALL_LIMIT)
}

pub(super) fn ask_within<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

/// What the service refused, with its stable reason and when to try again.
pub(super) fn refused(status: &tonic::Status) -> Failure {
    let details = status.get_error_details();
    let mut text = match details.error_info() {
        Some(info) => format!("{}: {}", info.reason, status.message()),
        None => format!("{:?}: {}", status.code(), status.message()),
    };
    if let Some(bad) = details.bad_request() {
        for violation in &bad.field_violations {
            text.push_str(&format!("\n  {} {}", violation.field, violation.description));
        }
    }
    if let Some(after) = details.retry_info().and_then(|retry| retry.retry_delay) {
        text.push_str(&format!("\n  try again in {} s", after.as_secs().max(1)));
    }
    Failure::Failed(text)
}

/// Which session a command is about.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Session")]
pub(super) struct Key {
    /// Whose session it is.
    #[arg(long, value_name = "T")]
    pub(super) tenant_id: String,
    /// Which of the tenant's sessions.
    #[arg(long, value_name = "A")]
    pub(super) app_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_this_machine_goes_to_no_other() {
        for here in
            ["http://127.0.0.1:50051", "http://localhost:1", "http://[::1]:50051", "https://127.1.2.3"]
        {
            assert!(is_this_machine(here), "{here}");
        }
        for elsewhere in [
            "http://usm.example:50051",
            "http://10.0.0.1:50051",
            "http://127.0.0.1@usm.example:50051",
            "http://127.0.0.1.usm.example",
            "http://localhost.usm.example",
            "",
        ] {
            assert!(!is_this_machine(elsewhere), "{elsewhere}");
        }
    }
}
