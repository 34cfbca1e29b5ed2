//! One channel to several replicas: every new connection goes to the next one, and past those that do not answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Channel;

/// Less than the client allows a connection in all, for the replicas after this one.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// # Errors
/// If one of the addresses is not `http://host:port`.
pub(crate) fn channel(servers: &[String]) -> anyhow::Result<Channel> {
    let first = servers.first().context("no server")?;
    let mut targets = Vec::new();
    for server in servers {
        let endpoint = usm_client::endpoint(server)?;
        let uri = endpoint.uri();
        ensure!(uri.scheme_str() == Some("http"), "this worker speaks http only");
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        targets.push(format!("{host}:{port}"));
    }
    let (targets, next) = (Arc::new(targets), Arc::new(AtomicUsize::new(0)));
    let connector = tower::service_fn(move |_| {
        let (targets, next) = (Arc::clone(&targets), Arc::clone(&next));
        async move { connect(&targets, &next).await.map(TokioIo::new) }
    });
    Ok(usm_client::endpoint(first)?.connect_with_connector_lazy(connector))
}

async fn connect(targets: &[String], next: &AtomicUsize) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotConnected);
    for _ in targets {
        let target = &targets[next.fetch_add(1, Ordering::Relaxed) % targets.len()];
        last = match timeout(CONNECT_MAX, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_replica_that_is_away_is_passed_over_and_each_connection_goes_on_to_the_next() {
        let (one, two) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets = [&one, &away, &two].map(|listener| listener.local_addr().unwrap().to_string());
        drop(away);
        let next = AtomicUsize::new(0);
        for expected in [&targets[0], &targets[2], &targets[0]] {
            let stream = connect(&targets, &next).await.unwrap();
            assert_eq!(&stream.peer_addr().unwrap().to_string(), expected);
        }
        drop((one, two));
        assert!(connect(&targets, &next).await.is_err());
    }
}
