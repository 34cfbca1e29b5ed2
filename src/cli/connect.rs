//! Reaching the service: a server by its address, or the same service in this process.

use std::time::Duration;

use clap::Args;
use tonic::{
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;
use usm_client::v1::{
    lease_service_client::LeaseServiceClient, login_service_client::LoginServiceClient,
    session_service_client::SessionServiceClient, system_service_client::SystemServiceClient,
};

use super::{Failure, output, settings};
use crate::{
    boot::{self, InProcess},
    config::Config,
    domain::secret::Secret,
};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a call may take that does not say otherwise.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The longest answer, such as exported material, in bytes.
const MESSAGE_LENGTH_MAX: usize = 32 * 1024 * 1024;

/// Which service a command speaks to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(super) struct Target {
    /// Address of the service.
    #[arg(long, env = "USM_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,
    /// Access token; `usm token issue` makes one. Better given by USM_TOKEN.
    #[arg(long, env = "USM_TOKEN", hide_env_values = true, value_name = "JWT")]
    token: Option<String>,
    /// Run the service in this process on that database instead.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where that service keeps logins.
    #[arg(long, value_name = "URL", requires = "database_url")]
    redis_url: Option<String>,
}

/// The generated clients over one connection.
pub(super) struct Api {
    channel: InterceptedService<Channel, Bearer>,
    /// Lives as long as the commands that use it.
    local: Option<InProcess>,
}

/// Adds the token to each call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Target {
    /// # Errors
    /// When nobody answers there, with the way out.
    pub(super) async fn connect(self) -> Result<Api, Failure> {
        match &self.database_url {
            None => {
                let token = self.token.or_else(local_token);
                Api::remote(&self.server, token.map(Secret::new)).await
            }
            Some(url) => Api::in_process(url.clone(), self.redis_url.clone()).await,
        }
    }
}

/// On the machine of an embedded server, its owner needs no token: the secret lies in a file only they can read.
fn local_token() -> Option<String> {
    let config = Config::load(&std::collections::BTreeMap::new()).ok()?;
    boot::local_token(&config, &settings::os_user())
}

impl Api {
    pub(super) async fn remote(server: &str, token: Option<Secret>) -> Result<Self, Failure> {
        let mut endpoint = Endpoint::from_shared(server.to_owned())
            .map_err(|_| {
                Failure::Usage(format!("--server must be a URL such as http://127.0.0.1:50051, not {server}"))
            })?
            .connect_timeout(CONNECT_LIMIT)
            .timeout(Duration::from_secs(660));
        if server.starts_with("https://") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots())?;
        }
        let channel = endpoint.connect().await.map_err(|_| {
            Failure::Failed(format!(
                "no service answers at {server}; start one with `usm serve`, or name it with --server"
            ))
        })?;
        Ok(Self { channel: InterceptedService::new(channel, bearer(token.as_ref())?), local: None })
    }

    async fn in_process(database_url: String, redis_url: Option<String>) -> Result<Self, Failure> {
        let mut flags = std::collections::BTreeMap::from([("database-url".to_owned(), database_url)]);
        flags.extend(redis_url.map(|url| ("redis-url".to_owned(), url)));
        let config = Config::load(&flags).map_err(|mistakes| Failure::Usage(mistakes.to_string()))?;
        let local = boot::in_process(config, &settings::os_user()).await?;
        let channel = InterceptedService::new(local.channel(), Bearer(None));
        Ok(Self { channel, local: Some(local) })
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<InterceptedService<Channel, Bearer>> {
        SessionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_LENGTH_MAX)
            .max_encoding_message_size(MESSAGE_LENGTH_MAX)
    }

    pub(super) fn logins(&self) -> LoginServiceClient<InterceptedService<Channel, Bearer>> {
        LoginServiceClient::new(self.channel.clone())
    }

    pub(super) fn leases(&self) -> LeaseServiceClient<InterceptedService<Channel, Bearer>> {
        LeaseServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LENGTH_MAX)
    }

    pub(super) fn system(&self) -> SystemServiceClient<InterceptedService<Channel, Bearer>> {
        SystemServiceClient::new(self.channel.clone())
    }

    /// Ends the service in this process, if there is one.
    pub(super) async fn close(self) {
        if let Some(local) = self.local {
            local.stop().await;
        }
    }
}

fn bearer(token: Option<&Secret>) -> Result<Bearer, Failure> {
    let Some(token) = token else { return Ok(Bearer(None)) };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret())
        .parse()
        .map_err(|_| Failure::Usage("the token holds characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
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
    #[arg(long, value_name = "T")]
    pub(super) tenant_id: String,
    #[arg(long, value_name = "A")]
    pub(super) app_id: String,
}

/// A secret from its flag, with a warning, or asked for at the terminal.
pub(super) fn secret(flag: Option<String>, name: &str) -> Result<Secret, Failure> {
    match flag {
        Some(value) => {
            output::note(format!(
                "warning: --{name} on the command line can be seen by other users of this machine"
            ));
            Ok(Secret::new(value))
        }
        None => Ok(Secret::new(rpassword::prompt_password(format!("{name}: "))?)),
    }
}
