//! Load for benchmarks: a number of workers, each with one call under way, at the service or at what it is compared with.
//!
//! `usm-bench echo` prints an address and serves. `usm-bench load` prints `measuring` and `measured` when the measured
//! time begins and ends, so that whoever runs it can look at the processes then, and a line of JSON with the figures. It
//! fails on the first call that fails: figures of a run with errors mean nothing.

mod echo;
mod etcd;
mod leases;
mod load;
mod rpc;
#[cfg(test)]
mod tests;
mod worker;

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser};
use tokio::net::TcpListener;

use crate::{
    load::{Pace, Plan},
    worker::{Contestant, Workers},
};

#[derive(Debug, Parser)]
#[command(about = "Load for benchmarks of leases")]
enum Command {
    /// Serve `LeaseService` with constant answers on a free port of loopback
    Echo,
    /// Call a server from a number of workers and tell how it went
    Load(Load),
}

#[derive(Debug, Args)]
struct Load {
    /// What each worker does
    #[arg(long, value_enum)]
    contestant: Contestant,
    /// Address of the server
    #[arg(long, value_name = "URL")]
    server: String,
    /// File of bearer tokens, a line each; workers take them in turn
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Workers, each with one call under way
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Workers that share a connection
    #[arg(long, default_value_t = 8)]
    workers_per_connection: usize,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Turns per second of all workers together, at fixed times; without it each worker goes on at once
    #[arg(long)]
    rate: Option<f64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Echo => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            say(&format!("serves http://{}", listener.local_addr()?))?;
            echo::serve(listener).await
        }
        Command::Load(load) => load.run().await,
    }
}

impl Load {
    async fn run(self) -> anyhow::Result<()> {
        let plan = self.plan()?;
        let tokens = match &self.tokens {
            Some(path) => std::fs::read_to_string(path).context("the tokens cannot be read")?,
            None => String::new(),
        };
        let workers = Workers {
            contestant: self.contestant,
            server: self.server,
            tokens: tokens.lines().map(str::to_owned).collect(),
            number: self.workers,
            per_connection: self.workers_per_connection,
        };
        let (workers, figures) = load::run(workers.connect().await?, plan).await?;
        say(&figures.to_json().to_string())?;
        for worker in workers {
            worker.end().await?;
        }
        Ok(())
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        ensure!(self.workers > 0 && self.workers_per_connection > 0, "there must be workers");
        let pace = match self.rate {
            None => Pace::Closed,
            Some(rate) => {
                ensure!(rate > 0.0, "the rate must be positive");
                Pace::Open { interval: Duration::try_from_secs_f64(1.0 / rate)? }
            }
        };
        Ok(Plan {
            pace,
            warm_up: Duration::try_from_secs_f64(self.warm_up)?,
            measured: Duration::try_from_secs_f64(self.seconds)?,
        })
    }
}

/// Prints a line for whoever waits for it.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
