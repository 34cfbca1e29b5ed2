//! The contract of leases, served with constant answers: no token is looked at, nothing is stored. What is left is the
//! price of gRPC itself, for the same messages and the same client.

use futures::{StreamExt as _, stream::BoxStream};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use usm_client::v1::{
    self, hold_lease_request, hold_lease_response,
    lease_service_server::{LeaseService, LeaseServiceServer},
};

type Answer<T> = Result<Response<T>, Status>;

/// As long as a Telethon string.
const MATERIAL_LENGTH: usize = 353;

pub(crate) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    Server::builder()
        .add_service(LeaseServiceServer::new(Echo))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

struct Echo;

/// As the service fills it.
fn lease() -> Option<v1::Lease> {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    Some(v1::Lease {
        lease_id: "a".repeat(43),
        tenant_id: "bench-0".into(),
        app_id: "worker-0".into(),
        holder: "worker-0".into(),
        epoch: 1,
        ttl: seconds(90),
        renew_after: seconds(30),
        state: v1::LeaseState::Held.into(),
        ..Default::default()
    })
}

#[tonic::async_trait]
impl LeaseService for Echo {
    async fn acquire_lease(&self, _: Request<v1::AcquireLeaseRequest>) -> Answer<v1::AcquireLeaseResponse> {
        let material = v1::SessionMaterial { data: vec![b'a'; MATERIAL_LENGTH], ..Default::default() };
        Ok(Response::new(v1::AcquireLeaseResponse { lease: lease(), material: Some(material) }))
    }

    async fn renew_lease(&self, _: Request<v1::RenewLeaseRequest>) -> Answer<v1::RenewLeaseResponse> {
        Ok(Response::new(v1::RenewLeaseResponse { lease: lease() }))
    }

    async fn release_lease(&self, _: Request<v1::ReleaseLeaseRequest>) -> Answer<v1::ReleaseLeaseResponse> {
        Ok(Response::new(v1::ReleaseLeaseResponse { lease: lease() }))
    }

    type HoldLeaseStream = BoxStream<'static, Result<v1::HoldLeaseResponse, Status>>;

    async fn hold_lease(
        &self,
        request: Request<Streaming<v1::HoldLeaseRequest>>,
    ) -> Answer<Self::HoldLeaseStream> {
        let answers = request.into_inner().map(|request| {
            let beat = match request?.step {
                Some(hold_lease_request::Step::Beat(beat)) => beat.beat,
                _ => 0,
            };
            let step = hold_lease_response::Step::Renewed(v1::Renewed { beat });
            Ok(v1::HoldLeaseResponse { lease: lease(), step: Some(step) })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn save_session(&self, _: Request<v1::SaveSessionRequest>) -> Answer<v1::SaveSessionResponse> {
        not_echoed()
    }

    async fn report_session(
        &self,
        _: Request<v1::ReportSessionRequest>,
    ) -> Answer<v1::ReportSessionResponse> {
        not_echoed()
    }

    async fn get_lease(&self, _: Request<v1::GetLeaseRequest>) -> Answer<v1::GetLeaseResponse> {
        not_echoed()
    }

    async fn list_leases(&self, _: Request<v1::ListLeasesRequest>) -> Answer<v1::ListLeasesResponse> {
        not_echoed()
    }

    async fn evict_lease(&self, _: Request<v1::EvictLeaseRequest>) -> Answer<v1::EvictLeaseResponse> {
        not_echoed()
    }
}

fn not_echoed<T>() -> Answer<T> {
    Err(Status::unimplemented("only what is measured is echoed"))
}
