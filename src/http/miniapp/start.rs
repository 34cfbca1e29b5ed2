//! `POST /api/qr/start`

use std::collections::BTreeMap;

use axum::{Extension, Json, extract::State};
use http::HeaderMap;
use serde::Deserialize;

use super::{
    Edge,
    answer::Started,
    body::{self, Given},
    door::Call,
    init_data::{self, InitData},
    proof::{self, INIT_DATA_LIFE, Proof},
    refusal::Refusal,
};
use crate::{
    app::{logins::Start, now},
    domain::{
        caller::{Authority, Caller},
        error::{Error, Reason},
        id::{AppId, SessionKey, TenantId},
        login::{self, Login},
    },
    telemetry::metrics,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// A caller with a tenant of its own may leave it out.
    #[serde(default)]
    tenant_id: String,
    app_id: String,
}

pub(super) async fn start(
    State(edge): State<Edge>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Given,
) -> Result<Json<Started>, Refusal> {
    let proof = edge.prove(&headers, &call)?;
    let wanted: Wanted = body::json(&headers, &body::bytes(body)?, &["tenant_id", "app_id"])?;
    let login = match proof {
        Proof::Bearer(caller) => {
            let key = caller.session(&wanted.tenant_id, &wanted.app_id).inspect_err(count_denied)?;
            edge.begin(&caller, key, None).await?
        }
        Proof::User(user) => edge.begin_for(&user, &wanted, &call).await?,
        Proof::Access(..) => {
            let message = "an access token opens the login it was given for, and starts none";
            return Err(Error::new(Reason::PermissionDenied, message).into());
        }
    };
    let access = edge.0.app.grant_access(&login)?;
    Ok(Json(Started::of(&login, &access, now())?))
}

impl Edge {
    /// Starts a login for a Mini App's user, which only this user's account can end.
    async fn begin_for(&self, user: &InitData, wanted: &Wanted, call: &Call) -> Result<Login, Error> {
        let key = self.allowed(user, wanted).inspect_err(count_denied)?;
        let authority = Authority::Tenant(key.tenant.clone());
        let caller = proof::caller(call, proof::subject(user), authority);
        // Before the proof is used up: a refusal that will be the same next time costs nobody a second opening.
        self.0.app.require_account(&caller, &key, user.user).await?;
        if !self.0.app.use_proof(&user.digest, INIT_DATA_LIFE).await? {
            return Err(init_data::Refused::Used.into());
        }
        let begun = self.begin(&caller, key, Some(user.user)).await;
        if begun.is_err() {
            self.0.app.return_proof(&user.digest).await;
        }
        begun
    }

    /// The session that the operator lets this user log in for. What is not allowed answers like what is not there.
    fn allowed(&self, user: &InitData, wanted: &Wanted) -> Result<SessionKey, Error> {
        let tenant = match wanted.tenant_id.as_str() {
            "" => None,
            named => Some(TenantId::parse(named)?),
        };
        let app = AppId::parse(&wanted.app_id)?;
        let bot = self.0.bots.get(&user.bot);
        bot.and_then(|bot| bot.session(user.user, tenant.as_ref(), app)).ok_or_else(Error::session_not_found)
    }

    async fn begin(
        &self,
        caller: &Caller,
        key: SessionKey,
        expected_user: Option<i64>,
    ) -> Result<Login, Error> {
        let request = Start {
            key,
            proof: login::Proof::Qr,
            expected_user,
            api_key_alias: None,
            device: None,
            proxy: None,
            request_id: None,
            labels: BTreeMap::new(),
        };
        self.0.app.start_login(caller, request).await
    }
}

fn count_denied(error: &Error) {
    if error.reason == Reason::SessionNotFound {
        metrics::tenant_denied();
    }
}
