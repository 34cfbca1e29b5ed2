//! `usm.v1.SystemService`

use tonic::{Request, async_trait};
use usm_client::v1::{self, system_service_server::SystemService};

use crate::{
    app::{App, feature::Feature},
    grpc::{
        call::{Answer, admitted, answer},
        convert,
        server::Facts,
    },
};

pub(crate) struct System {
    pub(crate) app: App,
    pub(crate) facts: Facts,
}

#[async_trait]
impl SystemService for System {
    async fn get_health(&self, request: Request<v1::GetHealthRequest>) -> Answer<v1::GetHealthResponse> {
        let (call, _) = admitted(request)?;
        let caller = call.for_service_itself();
        let health = self.app.health(&caller).await;
        answer(v1::GetHealthResponse { health: Some(convert::system::health(&health, caller.now)) })
    }

    async fn set_grants(&self, request: Request<v1::SetGrantsRequest>) -> Answer<v1::SetGrantsResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let feature = if request.enabled { Feature::Enabled } else { Feature::Disabled };
        self.app.switch_feature(&call.for_everybody()?, feature).await?;
        answer(v1::SetGrantsResponse { info: Some(convert::system::info(self.app.info(), &self.facts)) })
    }

    async fn get_info(&self, request: Request<v1::GetInfoRequest>) -> Answer<v1::GetInfoResponse> {
        let (_call, _) = admitted(request)?;
        answer(v1::GetInfoResponse { info: Some(convert::system::info(self.app.info(), &self.facts)) })
    }
}
