//! TCP: listeners, and one task per connection that moves bytes between the socket and the layers above.

mod connection;
mod plain;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::shared::Shared;

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes connections for one DC until the sandbox stops.
pub(crate) async fn listen(shared: Arc<Shared>, dc: i32, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                shared.tasks.spawn(connection::serve(shared.clone(), dc, stream));
            }
            Err(error) => {
                tracing::warn!(dc, error = &error as &dyn std::error::Error, "Cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
