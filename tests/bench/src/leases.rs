//! Workers that borrow sessions, by the stubs that the Rust client has.

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use usm_client::{
    Transport,
    v1::{self, lease_service_client::LeaseServiceClient},
};

use crate::rpc::within_deadline;

pub(crate) type Stub = LeaseServiceClient<Transport>;

/// Borrows its session and gives it back.
pub(crate) struct Pairs {
    stub: Stub,
    name: String,
}

/// Renews its lease by calls.
pub(crate) struct Unary {
    stub: Stub,
    lease: v1::Lease,
}

/// Renews its lease by beats on a stream.
pub(crate) struct Stream {
    stub: Stub,
    lease: v1::Lease,
    steps: mpsc::Sender<v1::HoldLeaseRequest>,
    answers: Streaming<v1::HoldLeaseResponse>,
    beat: i64,
}

impl Pairs {
    pub(crate) fn new(stub: Stub, name: String) -> Self {
        Self { stub, name }
    }

    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        let lease = acquire(&mut self.stub, &self.name).await?;
        release(&mut self.stub, lease).await
    }
}

impl Unary {
    pub(crate) async fn hold(mut stub: Stub, name: String) -> anyhow::Result<Self> {
        let lease = acquire(&mut stub, &name).await?;
        Ok(Self { stub, lease })
    }

    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        let request = v1::RenewLeaseRequest {
            lease_id: self.lease.lease_id.clone(),
            epoch: self.lease.epoch,
            ..Default::default()
        };
        let answer = self.stub.renew_lease(within_deadline(request)).await.context("renew")?.into_inner();
        ensure!(answer.lease.is_some_and(|lease| lease.epoch == self.lease.epoch), "not that lease");
        Ok(())
    }

    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        release(&mut self.stub, self.lease).await
    }
}

impl Stream {
    pub(crate) async fn hold(mut stub: Stub, name: String) -> anyhow::Result<Self> {
        let lease = acquire(&mut stub, &name).await?;
        let (steps, received) = mpsc::channel(1);
        let attach = v1::HoldLeaseAttach { lease_id: lease.lease_id.clone(), epoch: lease.epoch };
        steps.send(step(v1::hold_lease_request::Step::Attach(attach))).await?;
        let answers = stub.hold_lease(ReceiverStream::new(received)).await.context("hold")?.into_inner();
        let mut worker = Self { stub, lease, steps, answers, beat: 0 };
        worker.renewed().await?;
        Ok(worker)
    }

    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        self.beat += 1;
        let beat = v1::HoldLeaseBeat { beat: self.beat, ..Default::default() };
        self.steps.send(step(v1::hold_lease_request::Step::Beat(beat))).await.context("the stream broke")?;
        self.renewed().await
    }

    /// Waits for the answer to the last beat.
    async fn renewed(&mut self) -> anyhow::Result<()> {
        let answer = self.answers.message().await.context("hold")?.context("the stream ended")?;
        match answer.step {
            Some(v1::hold_lease_response::Step::Renewed(renewed)) if renewed.beat == self.beat => Ok(()),
            other => anyhow::bail!("beat {} was answered by {other:?}", self.beat),
        }
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Self { mut stub, lease, .. } = self;
        release(&mut stub, lease).await
    }
}

fn step(step: v1::hold_lease_request::Step) -> v1::HoldLeaseRequest {
    v1::HoldLeaseRequest { step: Some(step) }
}

async fn acquire(stub: &mut Stub, name: &str) -> anyhow::Result<v1::Lease> {
    let request = v1::AcquireLeaseRequest {
        app_id: name.to_owned(),
        holder: name.to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let answer = stub.acquire_lease(within_deadline(request)).await.context("acquire")?.into_inner();
    ensure!(answer.material.is_some_and(|material| !material.data.is_empty()), "no material");
    answer.lease.context("no lease")
}

async fn release(stub: &mut Stub, lease: v1::Lease) -> anyhow::Result<()> {
    let request = v1::ReleaseLeaseRequest {
        lease_id: lease.lease_id,
        epoch: lease.epoch,
        connections_closed: true,
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    stub.release_lease(within_deadline(request)).await.context("release")?;
    Ok(())
}
