//! What the workers of each contestant are. Each has one thing of its own: a session, or a key.

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use tonic::transport::Channel;
use usm_client::{Client, Credentials};

use crate::{etcd, leases};

/// What every worker of a run does in each of its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contestant {
    /// `AcquireLease`, then `ReleaseLease` with `connections_closed`
    Pairs,
    /// `RenewLease`
    RenewUnary,
    /// A numbered beat on a stream of `HoldLease`, and its answer
    RenewStream,
    /// etcd: `LeaseGrant`, a transaction that creates a key with that lease, `LeaseRevoke`
    EtcdPairs,
    /// etcd: the transaction, and the key's deletion, under one lease that lasts
    EtcdLocks,
    /// etcd: a message on a stream of `LeaseKeepAlive`, and its answer
    EtcdKeepAlive,
}

/// Workers to be.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) contestant: Contestant,
    pub(crate) server: String,
    pub(crate) tokens: Vec<String>,
    pub(crate) number: usize,
    pub(crate) per_connection: usize,
}

/// A worker that is ready for its first turn.
pub(crate) enum Worker {
    Pairs(leases::Pairs),
    RenewUnary(leases::Unary),
    RenewStream(Box<leases::Stream>),
    EtcdPairs(etcd::Pairs),
    EtcdLocks(etcd::Locks),
    EtcdKeepAlive(etcd::KeepAlive),
}

impl Workers {
    /// Connects them, and gives each what it holds for the whole run.
    pub(crate) async fn connect(&self) -> anyhow::Result<Vec<Worker>> {
        let mut workers = Vec::with_capacity(self.number);
        let connections = self.number.div_ceil(self.per_connection);
        for connection in 0..connections {
            let channel = usm_client::connect(&self.server).await.context("the server does not answer")?;
            let begin = connection * self.per_connection;
            for at in begin..self.number.min(begin + self.per_connection) {
                workers.push(self.worker(at, &channel).await?);
            }
        }
        Ok(workers)
    }

    async fn worker(&self, at: usize, channel: &Channel) -> anyhow::Result<Worker> {
        let leases = || -> anyhow::Result<leases::Stub> {
            ensure!(!self.tokens.is_empty(), "the service asks for tokens");
            let token = &self.tokens[at % self.tokens.len()];
            Ok(Client::new(channel.clone(), Credentials::bearer(token)?).leases())
        };
        let name = format!("worker-{at}");
        Ok(match self.contestant {
            Contestant::Pairs => Worker::Pairs(leases::Pairs::new(leases()?, name)),
            Contestant::RenewUnary => Worker::RenewUnary(leases::Unary::hold(leases()?, name).await?),
            Contestant::RenewStream => {
                Worker::RenewStream(Box::new(leases::Stream::hold(leases()?, name).await?))
            }
            Contestant::EtcdPairs => Worker::EtcdPairs(etcd::Pairs::new(channel.clone(), name)),
            Contestant::EtcdLocks => Worker::EtcdLocks(etcd::Locks::hold(channel.clone(), name).await?),
            Contestant::EtcdKeepAlive => Worker::EtcdKeepAlive(etcd::KeepAlive::hold(channel.clone()).await?),
        })
    }
}

impl Worker {
    /// Does once what it is for.
    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Pairs(worker) => worker.turn().await,
            Self::RenewUnary(worker) => worker.turn().await,
            Self::RenewStream(worker) => worker.turn().await,
            Self::EtcdPairs(worker) => worker.turn().await,
            Self::EtcdLocks(worker) => worker.turn().await,
            Self::EtcdKeepAlive(worker) => worker.turn().await,
        }
    }

    /// Gives back what it held.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Pairs(_) | Self::EtcdPairs(_) => Ok(()),
            Self::RenewUnary(worker) => worker.end().await,
            Self::RenewStream(worker) => worker.end().await,
            Self::EtcdLocks(worker) => worker.end().await,
            Self::EtcdKeepAlive(worker) => worker.end().await,
        }
    }
}
