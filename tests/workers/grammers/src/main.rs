//! A worker as a user of the service writes one, with grammers as its library, for tests that look for two
//! connections at the same time. Knows the service by its public client only.

mod history;
mod limit;
mod material;
mod options;
mod servers;
mod telegram;
mod work;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use usm_client::Client;

use crate::history::History;
use crate::options::{Options, credentials};
use crate::work::Worker;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let holder = options.holder();
    let stop = CancellationToken::new();
    let worker = Worker {
        client: Client::new(servers::channel(&options.servers)?, credentials()?),
        history: History::new(&options.tenant_id, &options.app_id, &holder),
        holder,
        options,
        stop: stop.clone(),
    };
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        stop.cancel();
    });
    worker.run().await
}
