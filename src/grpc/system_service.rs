//! `usm.v1.SystemService`

use tonic::{Request, async_trait};
use usm_client::v1::{self, system_service_server::SystemService};

use crate::{
    app::App,
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

    async fn get_info(&self, request: Request<v1::GetInfoRequest>) -> Answer<v1::GetInfoResponse> {
        let (_call, _) = admitted(request)?;
        answer(v1::GetInfoResponse { info: Some(convert::system::info(self.app.info(), &self.facts)) })
    }
}
