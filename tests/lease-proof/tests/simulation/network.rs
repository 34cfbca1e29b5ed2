//! The simulated network under a real gRPC channel and a real gRPC server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};
use usm_client::{Client, Credentials, endpoint};

use crate::chance::Chance;

pub(crate) const PORT: u16 = 50_051;

pub(crate) fn service(number: usize) -> String {
    format!("service-{number}")
}

pub(crate) fn worker(number: usize) -> String {
    format!("worker-{number}")
}

/// A client of the service, as behind a load balancer: each connection goes to any of its replicas.
pub(crate) fn client(
    holder: &str,
    replicas: usize,
    chance: Chance,
) -> Result<Client, Box<dyn std::error::Error>> {
    let connector = tower::service_fn(move |_| {
        let replica = service(chance.below(replicas));
        async move { Ok::<_, io::Error>(TokioIo::new(TcpStream::connect((replica, PORT)).await?)) }
    });
    let channel = endpoint("http://service")?.connect_with_connector_lazy(connector);
    Ok(Client::new(channel, Credentials::bearer(holder)?))
}

/// Accepts for ever.
pub(crate) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Accepted>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
            if sender.send(accepted).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// A stream that tells tonic nothing of its peer.
#[derive(Debug)]
pub(crate) struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
