//! `usm.v1.LeaseService`

use tonic::{Request, Streaming, async_trait};
use usm_client::v1::{self, lease_service_server::LeaseService};

use crate::{
    app::App,
    domain::{error::Error, session::Session},
    grpc::{
        authenticated::Listing,
        call::{Answer, admitted, answer},
        convert, hold,
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
        let (caller, acquire) = convert::lease::acquire(call, &request)?;
        let acquired = self.app.acquire_lease(&caller, acquire).await?;
        answer(convert::lease::acquired(acquired))
    }

    async fn renew_lease(&self, request: Request<v1::RenewLeaseRequest>) -> Answer<v1::RenewLeaseResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, id) = call.for_lease(&request.lease_id)?;
        let activity = request.last_activity_time.map(convert::time_given);
        let renewed = self.app.renew_lease(&caller, &id, request.epoch, activity).await?;
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
        let ended = self.app.release_lease(&caller, &id, request.epoch, release).await?;
        answer(v1::ReleaseLeaseResponse { lease: Some(convert::lease::released(&ended)) })
    }

    type HoldLeaseStream = hold::Responses;

    async fn hold_lease(
        &self,
        request: Request<Streaming<v1::HoldLeaseRequest>>,
    ) -> Answer<Self::HoldLeaseStream> {
        let (call, inbound) = admitted(request)?;
        answer(hold::responses(self.app.clone(), call, inbound))
    }

    async fn save_session(
        &self,
        request: Request<v1::SaveSessionRequest>,
    ) -> Answer<v1::SaveSessionResponse> {
        let (call, mut request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, id) = call.for_lease(&std::mem::take(&mut request.lease_id))?;
        let epoch = request.epoch;
        let session = self.app.save_session(&caller, &id, epoch, convert::lease::saved(request)?).await?;
        answer(v1::SaveSessionResponse { session: Some(convert::session::session(&session)) })
    }

    async fn report_session(
        &self,
        request: Request<v1::ReportSessionRequest>,
    ) -> Answer<v1::ReportSessionResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, id) = call.for_lease(&request.lease_id)?;
        let heard = convert::lease::heard(request.answer)?;
        let reported = self.app.report_session(&caller, &id, request.epoch, &heard).await?;
        answer(convert::lease::reported(&reported))
    }

    async fn get_lease(&self, request: Request<v1::GetLeaseRequest>) -> Answer<v1::GetLeaseResponse> {
        let (call, request) = admitted(request)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let session = self.app.get_lease(&caller, &key).await?;
        answer(v1::GetLeaseResponse { lease: Some(held_by_somebody(&session)?) })
    }

    async fn list_leases(&self, request: Request<v1::ListLeasesRequest>) -> Answer<v1::ListLeasesResponse> {
        let (call, request) = admitted(request)?;
        let filter = convert::lease::filter(&request.holder, &request.states)?;
        let page = convert::page(request.page_size, &request.page_token)?;
        let Listing::Of(caller, tenant) = call.for_list(&request.tenant_id)? else {
            return answer(v1::ListLeasesResponse::default());
        };
        let page = self.app.list_leases(&caller, tenant, filter, page).await?;
        let leases = page.items.iter().filter_map(|session| held_by_somebody(session).ok()).collect();
        answer(v1::ListLeasesResponse { leases, next_page_token: page.next_token })
    }

    async fn evict_lease(&self, request: Request<v1::EvictLeaseRequest>) -> Answer<v1::EvictLeaseResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let epoch = convert::revision("epoch", request.epoch)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let session = self.app.evict_lease(&caller, &key, epoch).await?;
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
