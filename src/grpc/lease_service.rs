//! `usm.v1.LeaseService`

use futures::stream::BoxStream;
use tonic::{Request, Status, Streaming, async_trait};
use usm_client::v1::{self, lease_service_server::LeaseService};

use crate::{
    app::{App, leases::Acquire},
    domain::{error::Error, id::Holder, material::Format, session::Session},
    grpc::{
        authenticated::Listing,
        call::{Answer, admitted, answer, later, leave_empty},
        convert,
    },
};

pub(crate) struct Leases {
    pub(crate) app: App,
}

#[async_trait]
impl LeaseService for Leases {
    async fn acquire_lease(
        &self,
        request: Request<v1::AcquireLeaseRequest>,
    ) -> Answer<v1::AcquireLeaseResponse> {
        let (call, request) = admitted(request)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let acquire = Acquire {
            key,
            holder: Holder::parse(&request.holder)?,
            ttl: convert::span("ttl", request.ttl)?,
            wait: convert::wait(request.wait)?,
            format: convert::material::format_given(request.format)?.unwrap_or(Format::TelethonString),
            request_id: convert::request_id(&request.request_id)?,
        };
        let acquired = self.app.acquire_lease(&caller, acquire).await?;
        answer(convert::lease::acquired(acquired))
    }

    async fn renew_lease(&self, request: Request<v1::RenewLeaseRequest>) -> Answer<v1::RenewLeaseResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, id) = call.for_lease(&request.lease_id)?;
        // A holder's sign of life only spares a probe; without probes it has nothing to spare.
        let renewed = self.app.renew_lease(&caller, &id, request.epoch).await?;
        answer(v1::RenewLeaseResponse { lease: Some(convert::lease::held(&renewed)) })
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Answer<v1::ReleaseLeaseResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, id) = call.for_lease(&request.lease_id)?;
        let release = convert::lease::release(request.connections_closed);
        let session = self.app.release_lease(&caller, &id, request.epoch, release).await?;
        answer(v1::ReleaseLeaseResponse { lease: Some(convert::lease::released(&session)) })
    }

    type HoldLeaseStream = BoxStream<'static, Result<v1::HoldLeaseResponse, Status>>;

    async fn hold_lease(
        &self,
        _request: Request<Streaming<v1::HoldLeaseRequest>>,
    ) -> Answer<Self::HoldLeaseStream> {
        later()
    }

    async fn save_session(
        &self,
        _request: Request<v1::SaveSessionRequest>,
    ) -> Answer<v1::SaveSessionResponse> {
        later()
    }

    async fn report_session(
        &self,
        _request: Request<v1::ReportSessionRequest>,
    ) -> Answer<v1::ReportSessionResponse> {
        later()
    }

    async fn get_lease(&self, request: Request<v1::GetLeaseRequest>) -> Answer<v1::GetLeaseResponse> {
        let (call, request) = admitted(request)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let session = self.app.get_lease(&caller, &key).await?;
        answer(v1::GetLeaseResponse { lease: Some(held_by_somebody(&session)?) })
    }

    async fn list_leases(&self, request: Request<v1::ListLeasesRequest>) -> Answer<v1::ListLeasesResponse> {
        let (call, request) = admitted(request)?;
        leave_empty(&[("holder", request.holder.is_empty()), ("states", request.states.is_empty())])?;
        let page = convert::page(request.page_size, &request.page_token)?;
        let Listing::Of(caller, tenant) = call.for_list(&request.tenant_id)? else {
            return answer(v1::ListLeasesResponse::default());
        };
        let page = self.app.list_leases(&caller, tenant, page).await?;
        let leases = page.items.iter().filter_map(|session| held_by_somebody(session).ok()).collect();
        answer(v1::ListLeasesResponse { leases, next_page_token: page.next_token })
    }

    async fn evict_lease(&self, request: Request<v1::EvictLeaseRequest>) -> Answer<v1::EvictLeaseResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        leave_empty(&[("epoch", request.epoch == 0)])?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let session = self.app.evict_lease(&caller, &key).await?;
        answer(v1::EvictLeaseResponse { lease: Some(held_by_somebody(&session)?) })
    }
}

/// # Errors
/// `LEASE_NOT_HELD` when nobody holds it and no quiet gap runs.
fn held_by_somebody(session: &Session) -> Result<v1::Lease, Error> {
    session
        .lease
        .as_ref()
        .map(|lease| convert::lease::view(&session.key, lease))
        .ok_or_else(|| Error { message: "nobody holds the session", ..Error::lease_not_held() })
}
