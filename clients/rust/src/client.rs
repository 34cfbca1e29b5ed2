//! A connection to the service and its stubs, with limits and deadlines that suit leases.

use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::v1::backup_service_client::BackupServiceClient;
use crate::v1::lease_service_client::LeaseServiceClient;
use crate::v1::login_service_client::LoginServiceClient;
use crate::v1::session_service_client::SessionServiceClient;
use crate::v1::system_service_client::SystemServiceClient;
use crate::{Credentials, Error};

/// Largest message taken or sent: material of 16 MiB and what stands around it.
pub const MESSAGE_SIZE_MAX: usize = 17 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life after this time, also between calls: a holder whose renewals go
/// into the void must learn it early.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel whose calls carry the credentials.
pub type Transport = InterceptedService<Channel, Credentials>;

/// Settings for a connection to `http://host:port` or `https://host:port`, with the system's certificate authorities
/// for the latter. Change what you need, for example `tls_config`, and connect it yourself.
///
/// # Errors
/// [`Error::Address`] if the URL is not of that form.
pub fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| Error::Address)?;
    let endpoint = match endpoint.uri().scheme_str() {
        Some("http") => endpoint,
        Some("https") => {
            endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(Error::Connect)?
        }
        Some(_) | None => return Err(Error::Address),
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Connects to the server at the URL, within 5 s. A connection that breaks later is made anew by the next call.
///
/// # Errors
/// [`Error::Address`], or [`Error::Connect`] if the server does not answer.
pub async fn connect(url: &str) -> Result<Channel, Error> {
    endpoint(url)?.connect().await.map_err(Error::Connect)
}

/// The services of one server, called with one set of credentials. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Connects, as [`connect`].
    ///
    /// # Errors
    /// Those of [`connect`].
    pub async fn connect(url: &str, credentials: Credentials) -> Result<Self, Error> {
        Ok(Self::new(connect(url).await?, credentials))
    }

    /// Calls through a channel that exists already.
    pub fn new(channel: Channel, credentials: Credentials) -> Self {
        Self { transport: InterceptedService::new(channel, credentials) }
    }

    pub fn sessions(&self) -> SessionServiceClient<Transport> {
        SessionServiceClient::new(self.transport.clone())
            .max_decoding_message_size(MESSAGE_SIZE_MAX)
            .max_encoding_message_size(MESSAGE_SIZE_MAX)
    }

    pub fn logins(&self) -> LoginServiceClient<Transport> {
        LoginServiceClient::new(self.transport.clone())
    }

    pub fn leases(&self) -> LeaseServiceClient<Transport> {
        LeaseServiceClient::new(self.transport.clone())
            .max_decoding_message_size(MESSAGE_SIZE_MAX)
            .max_encoding_message_size(MESSAGE_SIZE_MAX)
    }

    pub fn backups(&self) -> BackupServiceClient<Transport> {
        BackupServiceClient::new(self.transport.clone())
    }

    pub fn system(&self) -> SystemServiceClient<Transport> {
        SystemServiceClient::new(self.transport.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_without_http_is_refused_before_anything_is_sent() {
        for url in ["", "127.0.0.1:50051", "ftp://127.0.0.1:1", "http://", "not a url"] {
            assert!(matches!(endpoint(url), Err(Error::Address)), "{url}");
        }
        assert!(endpoint("http://127.0.0.1:50051").is_ok());
        assert!(endpoint("https://usm.example").is_ok());
    }

    #[tokio::test]
    async fn debug_of_a_client_shows_no_token() {
        let channel = endpoint("http://127.0.0.1:1").unwrap().connect_lazy();
        let client = Client::new(channel, Credentials::bearer("open-sesame").unwrap());
        assert!(!format!("{client:?} {:?}", client.leases()).contains("sesame"));
    }
}
